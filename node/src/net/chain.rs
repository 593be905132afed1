//! What every connection goes through: door, TLS, first frames, one stream.
//!
//! ```text
//! dialer                                          listener
//!   ClientHello, sealed in one flight  ------->     door: opens, or stays silent
//!                                      <-------     ServerHello .. Finished
//!   certificate .. Finished            ------->     TLS up: a transport key is proven
//!   first frame                        ------->     checked against this door's agreement, or closed
//!   checked                            <-------     first frame
//!   lane kind                          ------->     lane up
//! ```
//!
//! **Invariant:** each step has its own deadline and nothing of the next is read or written before the last is checked.
//! **Invariant:** a panic in here ends one connection.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _, FutureExt as _};
use futures_rustls::TlsStream;
use libp2p::PeerId;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::{ConnectedPoint, Endpoint};
use tokio::time::timeout;

use super::base::Wire;
use super::config::{Deadlines, NetLimits};
use super::door::Door;
use super::error::{DialError, HelloRefusal};
use super::hello::{read_hello, write_hello};
use super::mux::OneStream;
use super::registry::{AddressPair, DialRecord, Pass, Registry, lock};
use super::seats::Seat;
use super::tls::{TlsIdentity, peer_id_of, transport_key};
use super::{Admission, Doorkeeper, PeerNode};

/// Why a connection did not become a lane.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChainError {
    #[error("the door stayed shut")]
    Shut,
    #[error("no TLS: {0}")]
    Tls(io::Error),
    #[error("no first frame: {0}")]
    Frame(io::Error),
    #[error("first frame refused: {0}")]
    Refused(HelloRefusal),
    #[error("dial failed: {0}")]
    Dial(DialError),
    #[error("the caller gave the dial up")]
    GivenUp,
    #[error("a panic ended the connection")]
    Panicked,
}

/// The stages and what they share.
pub(super) struct Chain {
    pub(super) keeper: Arc<dyn Doorkeeper>,
    pub(super) door: Door,
    pub(super) identity: Mutex<Arc<TlsIdentity>>,
    pub(super) registry: Arc<Registry>,
    pub(super) deadlines: Deadlines,
    pub(super) limits: NetLimits,
}

type Secured<C> = TlsStream<BufReader<Wire<C>>>;

impl Chain {
    /// Takes a raw connection to a muxer whose peer is checked.
    pub(super) async fn pass<C>(
        self: Arc<Self>,
        io: Wire<C>,
        point: ConnectedPoint,
    ) -> Result<(PeerId, StreamMuxerBox), ChainError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let outcome = match point {
            ConnectedPoint::Dialer { address, .. } => {
                let record = self.registry.dial_of(&address);
                let record = record.ok_or(ChainError::GivenUp)?;
                let dialled = AssertUnwindSafe(Box::pin(self.dial(io, &record))).catch_unwind().await;
                let dialled = dialled.unwrap_or(Err(DialError::Internal));
                dialled.map_err(|error| {
                    record.finish(Err(error));
                    ChainError::Dial(error)
                })
            }
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                let accepted = self.accept(io, (local_addr, send_back_addr));
                let accepted = AssertUnwindSafe(accepted).catch_unwind().await;
                accepted.unwrap_or(Err(ChainError::Panicked))
            }
        };
        outcome.inspect_err(|error| tracing::debug!(%error, "no lane"))
    }

    async fn dial<C>(&self, io: Wire<C>, record: &DialRecord) -> Result<(PeerId, StreamMuxerBox), DialError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let target = &record.target;
        let (remote, via, bytes) = (io.remote, io.via, io.bytes.clone());
        let mut tls = match self.knock(io, record).await {
            Err(DialError::Broken | DialError::TimedOut) if bytes.received() == 0 => {
                return Err(DialError::NoAnswer);
            }
            answered => answered?,
        };
        let own = self.keeper.own_hello(&target.agreement);
        let exchange = async {
            write_hello(&mut tls, &own).await?;
            read_hello(&mut tls).await
        };
        let hello = match within(self.deadlines.hello, exchange).await {
            Ok(hello) => hello,
            Err(error) => return Err(dial_error(&error, DialError::Refused)),
        };
        let peer = self.check(&tls, &Admission::of(target), &hello).map_err(DialError::Foreign)?;
        let pass = Arc::new(Pass { peer, remote, bytes, via, _seat: None });
        record.finish(Ok(pass.clone()));
        self.finish(tls, Endpoint::Dialer, pass).ok_or(DialError::Broken)
    }

    /// The dialer's way through the door and TLS.
    async fn knock<C>(&self, io: Wire<C>, record: &DialRecord) -> Result<Secured<C>, DialError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let identity = lock(&self.identity).clone();
        let (session, client_hello) = identity.begin().map_err(|_| DialError::Internal)?;
        let flight = self.keeper.flight(&record.target, client_hello).await?;
        let mut io = BufReader::with_capacity(self.limits.read_buffer_bytes, io);
        let shake = async {
            io.write_all(&*flight).await?;
            io.flush().await?;
            identity.connect(session, io).await
        };
        let tls = within(self.deadlines.tls, shake).await;
        tls.map_err(|error| dial_error(&error, DialError::Broken))
    }

    async fn accept<C>(&self, mut io: Wire<C>, pair: AddressPair) -> Result<(PeerId, StreamMuxerBox), ChainError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let admitted = self.door.admit(&mut io).await;
        let (admission, seat) = admitted.ok_or(ChainError::Shut)?;
        // On the heap, so that whoever is still before the door costs no memory for what lies behind it.
        Box::pin(self.welcome(io, pair, admission, seat)).await
    }

    async fn welcome<C>(
        &self,
        io: Wire<C>,
        pair: AddressPair,
        admission: Admission,
        seat: Seat,
    ) -> Result<(PeerId, StreamMuxerBox), ChainError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (remote, via, bytes) = (io.remote, io.via, io.bytes.clone());
        let identity = lock(&self.identity).clone();
        let io = BufReader::with_capacity(self.limits.read_buffer_bytes, io);
        let shake = identity.accept(&admission.hello, io);
        let mut tls = within(self.deadlines.tls, shake).await.map_err(ChainError::Tls)?;

        let peer = self.greet(&mut tls, &admission).await?;
        let pass = Arc::new(Pass { peer, remote, bytes, via, _seat: Some(seat) });
        self.registry.put_accepted(pair, &pass);
        self.finish(tls, Endpoint::Listener, pass).ok_or(ChainError::Refused(HelloRefusal::ForeignKey))
    }

    /// Reads and checks the dialer's first frame, and only then answers with this node's.
    async fn greet<C>(&self, tls: &mut Secured<C>, admission: &Admission) -> Result<PeerNode, ChainError>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let hello = within(self.deadlines.hello, read_hello(tls)).await.map_err(ChainError::Frame)?;
        let checked = self.check(tls, admission, &hello);
        if let Some(refusal) = checked.as_ref().err().filter(|refusal| !refusal.is_of_version()) {
            return Err(ChainError::Refused(*refusal));
        }
        // Also where only the versions do not meet: the dialer's operator shall read who must upgrade.
        let own = self.keeper.own_hello(&admission.agreement);
        within(self.deadlines.hello, write_hello(tls, &own)).await.map_err(ChainError::Frame)?;
        checked.map_err(ChainError::Refused)
    }

    fn check<C>(&self, tls: &Secured<C>, admission: &Admission, hello: &[u8]) -> Result<PeerNode, HelloRefusal> {
        let key = transport_key(tls.get_ref().1).ok_or(HelloRefusal::ForeignKey)?;
        let (agreement, entity) = (&admission.agreement, &admission.entity);
        let peer = self.keeper.check_hello(agreement, entity, key, hello)?;
        match peer.transport == key && peer.entity == *entity {
            true => Ok(peer),
            false => Err(HelloRefusal::ForeignKey),
        }
    }

    fn finish<C>(&self, mut tls: Secured<C>, role: Endpoint, pass: Arc<Pass>) -> Option<(PeerId, StreamMuxerBox)>
    where
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = peer_id_of(&pass.peer.transport)?;
        let limit = Some(self.limits.tls_buffer_bytes);
        match &mut tls {
            TlsStream::Client(tls) => tls.get_mut().1.set_buffer_limit(limit),
            TlsStream::Server(tls) => tls.get_mut().1.set_buffer_limit(limit),
        }
        Some((peer, StreamMuxerBox::new(OneStream::new(tls, role, pass))))
    }
}

async fn within<T>(deadline: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(deadline, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn dial_error(error: &io::Error, otherwise: DialError) -> DialError {
    match error.kind() {
        io::ErrorKind::TimedOut => DialError::TimedOut,
        // Only this node's own first frame can be invalid before it is written.
        io::ErrorKind::InvalidInput => DialError::Internal,
        _ => otherwise,
    }
}
