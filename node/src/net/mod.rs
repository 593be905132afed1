//! Lanes between nodes: the only module that names libp2p and rustls.
//!
//! ```text
//! base (tcp or memory) -> door -> tls -> first frames -> one stream -> swarm -> Lane
//! ```
//!
//! What passes is decided by a [`Doorkeeper`]; this module moves bytes and keeps time. Start reading at [`Net`], then
//! `chain` for what a connection goes through and `door` for what a stranger gets, which is nothing.
//!
//! **Invariant:** not one byte is written to whoever has not opened the door.
//! **Invariant:** nothing here knows what an agreement, a certificate or a message is.

mod actor;
mod address;
mod base;
mod chain;
mod config;
mod door;
mod error;
mod hello;
mod lane;
mod mux;
mod proxy;
mod registry;
mod seats;
mod swarm;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod waiting;

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use libp2p::core::Transport as _;
use libp2p::core::transport::{ListenerId, MemoryTransport};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{self as libp2p_swarm, SwarmEvent};
use libp2p::{Multiaddr, Swarm, TransportError};
use pakt_keys::entity::EntityId;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::limits::FLIGHT_BYTES;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use address::{AddressRange, DialRules, RangeError, Reach, SharedRules, is_address};
pub use config::{Deadlines, NetConfig, NetLimits};
pub use error::{DialError, HelloRefusal, NetError};
pub use hello::HELLO_FRAME_BYTES_MAX;
pub use lane::{Lane, LaneBytes, LaneStream, PeerNode};
pub use pakt_protocol::message::lane::LaneKind;
pub use proxy::{Proxy, ProxyError, ProxyTextError};

use actor::{Command, NetActor};
use base::{Base, Carried, Relayed, Ticketed, Wire};
use chain::Chain;
use door::Door;
use registry::{Registry, Ticket, lock};
use seats::Seats;
use swarm::{Lanes, Wanted};
use tcp::TcpTransport;
use tls::TlsIdentity;
use waiting::WaitingRoom;

/// What a flight that opened the door said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The agreement whose door it is.
    pub agreement: AgreementId,
    /// The counterpart that the door was granted to.
    pub entity: EntityId,
    /// The TLS ClientHello; empty where this node dialled.
    pub hello: Vec<u8>,
}

impl Admission {
    fn of(target: &DialTarget) -> Admission {
        Admission { agreement: target.agreement, entity: target.entity, hello: Vec::new() }
    }
}

/// Whom to dial, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTarget {
    /// The agreement whose door to use.
    pub agreement: AgreementId,
    /// The entity that has to answer.
    pub entity: EntityId,
    /// `host:port`, an IPv6 host in brackets.
    pub addr: String,
}

/// Decides who comes in and who is believed; implemented over the agreements of the node.
pub trait Doorkeeper: Send + Sync + 'static {
    /// Opens a flight, checks its counter and makes it durable; only then answers with whom it admits.
    ///
    /// The future may be dropped at any point; a counter that is taken without an answer costs the dialer one attempt.
    fn admit(&self, flight: Box<[u8; FLIGHT_BYTES]>) -> BoxFuture<'_, Option<Admission>>;

    /// Makes the next counter durable and seals a ClientHello into a flight for the target's door.
    ///
    /// # Errors
    /// [`DialError::NoGrant`] or [`DialError::Storage`].
    fn flight<'a>(
        &'a self,
        target: &'a DialTarget,
        client_hello: Vec<u8>,
    ) -> BoxFuture<'a, Result<Box<[u8; FLIGHT_BYTES]>, DialError>>;

    /// This node's first frame, at most [`HELLO_FRAME_BYTES_MAX`] bytes.
    fn own_hello(&self, agreement: &AgreementId) -> Vec<u8>;

    /// Checks a peer's first frame against the agreement of the door and the Ed25519 transport key proven in TLS.
    ///
    /// # Errors
    /// A [`HelloRefusal`]; the connection then ends, and a dialer has received nothing but the TLS handshake.
    fn check_hello(
        &self,
        agreement: &AgreementId,
        entity: &EntityId,
        tls_key: [u8; 32],
        hello: &[u8],
    ) -> Result<PeerNode, HelloRefusal>;
}

/// The handle of a running network; clones share it, and the drop of the last one stops it.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

struct Inner {
    chain: Arc<Chain>,
    commands: mpsc::Sender<Command>,
    relayed: mpsc::Sender<Relayed>,
    parse: fn(&str) -> Option<Multiaddr>,
    listening: Option<SocketAddr>,
    actor: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Net {
    /// Starts listening, where the configuration says so, and dialling over TCP; needs a tokio runtime.
    ///
    /// The receiver yields the lanes that others dialled. A lane that is not taken makes its dialer wait.
    ///
    /// # Errors
    /// [`NetError::Listen`] when the address cannot be listened on, [`NetError::Key`] for an unusable key.
    pub async fn start(
        config: NetConfig,
        keeper: Arc<dyn Doorkeeper>,
    ) -> Result<(Net, mpsc::Receiver<Lane>), NetError> {
        let base = TcpTransport::new(config.dial_rules.clone(), config.proxy.clone(), config.deadlines.connect);
        let listen = config.listen;
        let address = listen.map(|addr| Multiaddr::from(addr.ip()).with(Protocol::Tcp(addr.port())));
        Net::start_on(base, address, config, keeper).await.map_err(|failure| match (failure, listen) {
            (StartError::Listen(source), Some(addr)) => NetError::Listen { addr, source },
            _ => NetError::Key,
        })
    }

    /// The same over memory, for many nodes in one process; addresses are `memory:PORT`.
    ///
    /// # Errors
    /// [`NetError::MemoryPort`] when the port is taken, [`NetError::Key`] for an unusable key.
    pub async fn start_in_memory(
        config: NetConfig,
        port: u64,
        keeper: Arc<dyn Doorkeeper>,
    ) -> Result<(Net, mpsc::Receiver<Lane>), NetError> {
        let address = Protocol::Memory(port).into();
        Net::start_on(MemoryTransport::new(), Some(address), config, keeper).await.map_err(|failure| match failure {
            StartError::Listen(_) => NetError::MemoryPort(port),
            StartError::Key => NetError::Key,
        })
    }

    async fn start_on<T: Base>(
        base: T,
        listen: Option<Multiaddr>,
        config: NetConfig,
        keeper: Arc<dyn Doorkeeper>,
    ) -> Result<(Net, mpsc::Receiver<Lane>), StartError> {
        let identity = TlsIdentity::new(&config.transport_seed).map_err(|_| StartError::Key)?;
        let peer_id = identity.peer_id;
        let chain = Arc::new(new_chain(&config, identity, keeper));
        let (inbound, lanes) = mpsc::channel(config.limits.inbound_queue_max);
        let (commands, inbox) = mpsc::channel(config.limits.dial_queue_max);
        let tasks = TaskTracker::new();

        let behaviour = Lanes::new(chain.registry.clone(), inbound, config.deadlines.lane);
        let spawner = tasks.clone();
        let swarm_config = libp2p_swarm::Config::with_executor(move |task| {
            // The tracker owns the task; the actor waits for it when it stops.
            drop(spawner.spawn(task));
        })
        .with_idle_connection_timeout(config.deadlines.lane);
        let (relayed, accepted) = mpsc::channel(config.limits.inbound_queue_max);
        let transport = transport_of(base, accepted, chain.clone());
        let mut swarm = Swarm::new(transport, behaviour, peer_id, swarm_config);
        let listener = listen.map(|address| swarm.listen_on(address)).transpose();
        let listener = listener.map_err(StartError::from_transport)?;
        let listening = match listener {
            Some(listener) => listening_on(&mut swarm, listener).await?,
            None => None,
        };

        let cancelled = CancellationToken::new();
        let actor = NetActor { swarm, listener, commands: inbox, cancelled: cancelled.clone(), tasks };
        let inner = Inner {
            chain,
            commands,
            relayed,
            parse: T::parse,
            listening,
            actor: Mutex::new(Some(tokio::spawn(actor.run()))),
            stop: cancelled.clone(),
            _stop_on_drop: cancelled.drop_guard(),
        };
        let inner = Arc::new(inner);
        Ok((Net { inner }, lanes))
    }

    /// Where this node listens, with the port that the system chose; `None` when it only dials, or over memory.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.inner.listening
    }

    /// Dials one lane; a lane that is returned was accepted by the other side.
    ///
    /// Every step has its deadline, so that the whole ends by itself. Cancel safe: dropping the future gives the dial up.
    ///
    /// # Errors
    /// A [`DialError`] that says who has to act.
    pub async fn dial(&self, target: DialTarget, kind: LaneKind) -> Result<Lane, DialError> {
        let address = (self.inner.parse)(&target.addr).ok_or(DialError::BadAddress)?;
        let ticket = self.inner.chain.registry.open_dial(target, None);
        self.finish_dial(ticket, address, kind).await
    }

    /// Dials one lane over the stream of a relay lane, to whoever is at its other end; the door of `target` has to open.
    ///
    /// Cancel safe, as [`Net::dial`].
    ///
    /// # Errors
    /// A [`DialError`] that says who has to act.
    pub async fn dial_over(&self, relay: Lane, target: DialTarget, kind: LaneKind) -> Result<Lane, DialError> {
        let carrier = Relayed { via: relay.peer.agreement, stream: relay.io };
        let ticket = self.inner.chain.registry.open_dial(target, Some(carrier));
        self.finish_dial(ticket, Multiaddr::empty(), kind).await
    }

    /// Listens on the stream of a relay lane: its other end meets the door, and comes in as a lane like any other.
    pub async fn accept_over(&self, relay: Lane) {
        let relayed = Relayed { via: relay.peer.agreement, stream: relay.io };
        // Fails only when the network stops.
        let _ = self.inner.relayed.send(relayed).await;
    }

    async fn finish_dial(&self, ticket: Ticket, address: Multiaddr, kind: LaneKind) -> Result<Lane, DialError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Dial { address: ticket.append_to(address), wanted: Wanted { kind, reply } };
        let sent = self.inner.commands.send(command).await;
        sent.map_err(|_| DialError::Stopped)?;
        let answered = answer.await;
        match (answered, ticket.record.outcome()) {
            (Ok(Ok(stream)), Some(Ok(pass))) => Ok(Lane::new(kind, true, &pass, stream)),
            (Ok(Err(error)), _) | (_, Some(Err(error))) => Err(error),
            _ if self.inner.commands.is_closed() => Err(DialError::Stopped),
            _ => Err(DialError::Broken),
        }
    }

    /// Uses another transport key from the next connection on; lanes that are up keep the one they were opened with.
    ///
    /// # Errors
    /// [`NetError::Key`] for an unusable key.
    pub fn set_identity(&self, transport_seed: &[u8; 32]) -> Result<(), NetError> {
        let identity = TlsIdentity::new(transport_seed)?;
        *lock(&self.inner.chain.identity) = Arc::new(identity);
        Ok(())
    }

    /// Resolves when the network has stopped, by [`Net::shutdown`] or because its task failed. Cancel safe.
    pub async fn stopped(&self) {
        self.inner.commands.closed().await;
    }

    /// Stops accepting, ends every lane and waits until the tasks of all connections have ended, at most seconds.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let actor = lock(&self.inner.actor).take();
        if let Some(actor) = actor
            && let Err(error) = actor.await
        {
            tracing::error!(%error, "the network task had failed");
        }
    }
}

enum StartError {
    Listen(std::io::Error),
    Key,
}

impl StartError {
    fn from_transport(error: TransportError<std::io::Error>) -> StartError {
        StartError::Listen(match error {
            TransportError::Other(error) => error,
            TransportError::MultiaddrNotSupported(_) => std::io::ErrorKind::InvalidInput.into(),
        })
    }
}

fn new_chain(config: &NetConfig, identity: TlsIdentity, keeper: Arc<dyn Doorkeeper>) -> Chain {
    let limits = config.limits;
    let door = Door {
        keeper: keeper.clone(),
        room: WaitingRoom::new(limits.waiting_max, limits.waiting_per_address_max),
        seats: Seats::new(limits.lanes_per_peer_max),
        deadline: config.deadlines.door,
    };
    Chain {
        keeper,
        door,
        identity: Mutex::new(Arc::new(identity)),
        registry: Arc::new(Registry::default()),
        deadlines: config.deadlines,
        limits,
    }
}

type Boxed = libp2p::core::transport::Boxed<(libp2p::PeerId, libp2p::core::muxing::StreamMuxerBox)>;

fn transport_of<T: Base>(base: T, relayed: mpsc::Receiver<Relayed>, chain: Arc<Chain>) -> Boxed {
    let registry = chain.registry.clone();
    Ticketed { base, registry, relayed, accepted: 0 }
        .and_then(move |output, point| {
            let remote = match &output {
                Carried::Direct(io) => T::remote(io),
                // Where it comes from only the partner knows that forwards it.
                Carried::Relayed(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let via = output.via();
            chain.pass(Wire::new(output, remote, via), point)
        })
        .boxed()
}

/// Polls the swarm until the listener knows its address, so that port 0 has become a number.
async fn listening_on(swarm: &mut Swarm<Lanes>, listener: ListenerId) -> Result<Option<SocketAddr>, StartError> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => {
                return Ok(tcp::socket_addr_of(&address));
            }
            SwarmEvent::ListenerClosed { .. } => {
                return Err(StartError::Listen(std::io::ErrorKind::NotConnected.into()));
            }
            _ => {}
        }
    }
}
