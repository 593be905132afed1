//! What the network part of a node can be told, with the reason for each default.

use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::address::SharedRules;
use super::proxy::Proxy;

/// Everything that [`Net::start`](super::Net::start) needs to know.
pub struct NetConfig {
    /// Seed of the Ed25519 transport key.
    pub transport_seed: Zeroizing<[u8; 32]>,
    /// Where to listen; `None` for a node that only dials. Port 0 lets the system choose.
    pub listen: Option<SocketAddr>,
    /// Through which proxy every dial goes; directly without one.
    pub proxy: Option<Proxy>,
    /// Which addresses may be dialled.
    pub dial_rules: SharedRules,
    /// How long each step may take.
    pub deadlines: Deadlines,
    /// How much of everything there may be.
    pub limits: NetLimits,
}

impl NetConfig {
    /// The defaults, for a node with this transport key.
    pub fn new(transport_seed: [u8; 32]) -> NetConfig {
        NetConfig {
            transport_seed: Zeroizing::new(transport_seed),
            listen: None,
            proxy: None,
            dial_rules: SharedRules::default(),
            deadlines: Deadlines::default(),
            limits: NetLimits::default(),
        }
    }
}

/// How long each step of a connection may take before it is given up.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// A TCP connection to one address.
    pub connect: Duration,
    /// From accepting a connection to closing it, unless its flight opens the door.
    pub door: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// Each first frame.
    pub hello: Duration,
    /// From the first frames to the agreed lane kind.
    pub lane: Duration,
}

impl Default for Deadlines {
    /// Ten seconds each: five round trips of a bad satellite line with one lost packet.
    fn default() -> Deadlines {
        let each = Duration::from_secs(10);
        Deadlines { connect: each, door: each, tls: each, hello: each, lane: each }
    }
}

/// How much memory and how many connections others can make this node spend.
#[derive(Debug, Clone, Copy)]
pub struct NetLimits {
    /// Accepted connections that have not passed the door; each costs a file descriptor and 6 KiB.
    pub waiting_max: usize,
    /// Of these, connections from one address that are let be when the room is full.
    pub waiting_per_address_max: usize,
    /// Connections that one counterpart may hold open: ten lanes, and as many dying ones after a line has dropped.
    pub lanes_per_peer_max: usize,
    /// Accepted lanes that nobody has taken yet.
    pub inbound_queue_max: usize,
    /// Dials that the network task has not begun yet; more make their callers wait.
    pub dial_queue_max: usize,
    /// Bytes read ahead under TLS per lane: fewer system calls; 4 KiB do in meshes of one process.
    pub read_buffer_bytes: usize,
    /// Bytes that TLS takes before it makes the writer wait; more would stand before what is urgent.
    pub tls_buffer_bytes: usize,
}

impl Default for NetLimits {
    fn default() -> NetLimits {
        NetLimits {
            waiting_max: 512,
            waiting_per_address_max: 16,
            lanes_per_peer_max: 32,
            inbound_queue_max: 16,
            dial_queue_max: 64,
            read_buffer_bytes: 64 << 10,
            tls_buffer_bytes: 64 << 10,
        }
    }
}
