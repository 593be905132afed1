//! What lies under the door: any transport of byte streams, TCP in nodes, memory in meshes of one process.
//!
//! **Invariant:** nothing above this file knows which of them it is.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::{self, BoxFuture, Either, MapOk};
use futures::{AsyncRead, AsyncWrite, TryFutureExt as _};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::memory::{Channel, MemoryTransportError};
use libp2p::core::transport::{DialOpts, ListenerId, MemoryTransport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use pakt_protocol::ids::AgreementId;
use tokio::sync::mpsc;

use super::error::DialError;
use super::lane::{LaneBytes, LaneStream};
use super::registry::{Registry, split_ticket};

/// A transport that the chain can stand on.
pub(super) trait Base:
    Transport<
        Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        Error: Send + Sync + 'static,
        Dial: Send + 'static,
        ListenerUpgrade: Send + 'static,
    > + Send
    + Unpin
    + 'static
{
    /// The address that a text names.
    fn parse(text: &str) -> Option<Multiaddr>;
    /// Where the other end of a stream is.
    fn remote(output: &Self::Output) -> SocketAddr;
    /// What a caller learns about a failed dial.
    fn failure(error: &Self::Error) -> DialError;
}

impl Base for MemoryTransport {
    fn parse(text: &str) -> Option<Multiaddr> {
        let port = text.strip_prefix("memory:")?.parse().ok()?;
        Some(Protocol::Memory(port).into())
    }

    fn remote(_: &Channel<Vec<u8>>) -> SocketAddr {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    }

    fn failure(_: &MemoryTransportError) -> DialError {
        DialError::Unreachable(io::ErrorKind::ConnectionRefused)
    }
}

/// A stream that a partner forwards, before it has become a connection.
pub(super) struct Relayed {
    pub(super) stream: LaneStream,
    /// The agreement with that partner.
    pub(super) via: AgreementId,
}

/// A stream of the base, or one that a partner forwards.
pub(super) enum Carried<C> {
    /// From the base.
    Direct(C),
    /// Through a partner.
    Relayed(Relayed),
}

impl<C> Carried<C> {
    /// The partner that forwards it, if one does.
    pub(super) fn via(&self) -> Option<AgreementId> {
        match self {
            Carried::Direct(_) => None,
            Carried::Relayed(relayed) => Some(relayed.via),
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Carried<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Carried::Direct(io) => Pin::new(io).poll_read(cx, buf),
            Carried::Relayed(relayed) => Pin::new(&mut relayed.stream.0).poll_read(cx, buf),
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Carried<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Carried::Direct(io) => Pin::new(io).poll_write(cx, buf),
            Carried::Relayed(relayed) => Pin::new(&mut relayed.stream.0).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Carried::Direct(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Carried::Relayed(relayed) => Pin::new(&mut relayed.stream.0).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carried::Direct(io) => Pin::new(io).poll_flush(cx),
            Carried::Relayed(relayed) => Pin::new(&mut relayed.stream.0).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carried::Direct(io) => Pin::new(io).poll_close(cx),
            Carried::Relayed(relayed) => Pin::new(&mut relayed.stream.0).poll_close(cx),
        }
    }
}

/// A base whose dialled addresses end in a ticket; it notes in the ticket's record why a dial failed.
pub(super) struct Ticketed<T> {
    pub(super) base: T,
    pub(super) registry: Arc<Registry>,
    /// Forwarded streams on which this node is the listener.
    pub(super) relayed: mpsc::Receiver<Relayed>,
    /// Tells them from each other, as they have no addresses.
    pub(super) accepted: u64,
}

impl<T: Base> Ticketed<T> {
    /// The next forwarded stream, as if it came from a listener.
    fn poll_relayed(&mut self, cx: &mut Context<'_>) -> Poll<TransportEvent<Upgrade<T>, T::Error>> {
        let Some(relayed) = ready!(self.relayed.poll_recv(cx)) else { return Poll::Pending };
        self.accepted += 1;
        let address: Multiaddr = Protocol::Memory(self.accepted).into();
        Poll::Ready(TransportEvent::Incoming {
            listener_id: ListenerId::next(),
            upgrade: Either::Right(future::ready(Ok(Carried::Relayed(relayed)))),
            local_addr: Multiaddr::from(Protocol::Unix("relayed".into())).with(Protocol::Memory(self.accepted)),
            send_back_addr: address,
        })
    }
}

/// An accepted stream of the base, or a forwarded one.
type Upgrade<T> = Either<
    MapOk<<T as Transport>::ListenerUpgrade, fn(<T as Transport>::Output) -> Carried<<T as Transport>::Output>>,
    future::Ready<Result<Carried<<T as Transport>::Output>, <T as Transport>::Error>>,
>;

impl<T: Base> Transport for Ticketed<T> {
    type Output = Carried<T::Output>;
    type Error = T::Error;
    type ListenerUpgrade = Upgrade<T>;
    type Dial = BoxFuture<'static, Result<Self::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.base.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.base.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<T::Error>> {
        let record = self.registry.dial_of(&address);
        let (Some(record), Some((bare, _))) = (record, split_ticket(&address)) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        if let Some(relayed) = record.take_carrier() {
            return Ok(Box::pin(future::ready(Ok(Carried::Relayed(relayed)))));
        }
        let dial = self.base.dial(bare, opts).inspect_err(|error| {
            record.finish(Err(match error {
                TransportError::Other(error) => T::failure(error),
                TransportError::MultiaddrNotSupported(_) => DialError::BadAddress,
            }));
        })?;
        Ok(Box::pin(async move {
            let dialled = dial.await.inspect_err(|error| record.finish(Err(T::failure(error))));
            dialled.map(Carried::Direct)
        }))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Upgrade<T>, T::Error>> {
        let this = self.get_mut();
        if let Poll::Ready(event) = Pin::new(&mut this.base).poll(cx) {
            let direct: fn(T::Output) -> Carried<T::Output> = Carried::Direct;
            return Poll::Ready(event.map_upgrade(|upgrade| Either::Left(upgrade.map_ok(direct))));
        }
        this.poll_relayed(cx)
    }
}

/// A raw stream that counts what passes, below the door.
pub(super) struct Wire<C> {
    io: C,
    pub(super) remote: SocketAddr,
    pub(super) via: Option<AgreementId>,
    pub(super) bytes: Arc<LaneBytes>,
}

impl<C> Wire<C> {
    pub(super) fn new(io: C, remote: SocketAddr, via: Option<AgreementId>) -> Wire<C> {
        Wire { io, remote, via, bytes: Arc::default() }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Wire<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        read.map_ok(|bytes| {
            this.bytes.add_received(bytes);
            bytes
        })
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Wire<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        written.map_ok(|bytes| {
            this.bytes.add_sent(bytes);
            bytes
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        written.map_ok(|bytes| {
            this.bytes.add_sent(bytes);
            bytes
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_close(cx)
    }
}
