//! What lies under the door: any transport of byte streams, TCP in nodes, memory in meshes of one process.
//!
//! **Invariant:** nothing above this file knows which of them it is.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite};
use libp2p::Multiaddr;
use libp2p::core::Transport;
use libp2p::core::transport::memory::{Channel, MemoryTransportError};
use libp2p::core::transport::{DialOpts, ListenerId, MemoryTransport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

use super::error::DialError;
use super::lane::LaneBytes;
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

/// A base whose dialled addresses end in a ticket; it notes in the ticket's record why a dial failed.
pub(super) struct Ticketed<T> {
    pub(super) base: T,
    pub(super) registry: Arc<Registry>,
}

impl<T: Base> Transport for Ticketed<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

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
        let dial = self.base.dial(bare, opts).inspect_err(|error| {
            record.finish(Err(match error {
                TransportError::Other(error) => T::failure(error),
                TransportError::MultiaddrNotSupported(_) => DialError::BadAddress,
            }));
        })?;
        Ok(Box::pin(async move { dial.await.inspect_err(|error| record.finish(Err(T::failure(error)))) }))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.get_mut().base).poll(cx)
    }
}

/// A raw stream that counts what passes, below the door.
pub(super) struct Wire<C> {
    io: C,
    pub(super) remote: SocketAddr,
    pub(super) bytes: Arc<LaneBytes>,
}

impl<C> Wire<C> {
    pub(super) fn new(io: C, remote: SocketAddr) -> Wire<C> {
        Wire { io, remote, bytes: Arc::default() }
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
