//! What can go wrong between two nodes, grouped by who has to act.

use std::io;
use std::net::SocketAddr;

use super::proxy::ProxyError;

/// Why the network part of a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; is another program using the port?")]
    Listen {
        /// The address of the configuration.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The in-memory port is taken.
    #[error("memory port {0} is taken")]
    MemoryPort(u64),
    /// The transport key cannot be used.
    #[error("the transport key is damaged")]
    Key,
}

/// Why a lane could not be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The address is not `host:port`.
    #[error("this is not an address of the form host:port")]
    BadAddress,
    /// The address lies in a loopback, link-local or private range that this node does not dial.
    #[error("the address lies in a range that this node does not dial; --allow-range adds a range")]
    RangeNotAllowed,
    /// This node holds no grant for the peer's door.
    #[error("the peer has granted no way through its door yet")]
    NoGrant,
    /// This node could not persist the next door counter.
    #[error("the door counter could not be stored")]
    Storage,
    /// Something in this node broke; the log of this node says more.
    #[error("an internal error ended the attempt")]
    Internal,
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Stopped,
    /// The host name has no address.
    #[error("the host name cannot be resolved")]
    Unresolved,
    /// No TCP connection came about.
    #[error("cannot connect: {0}")]
    Unreachable(io::ErrorKind),
    /// The proxy made no connection.
    #[error(transparent)]
    Proxy(ProxyError),
    /// No partner connected the two.
    #[error(
        "no partner that may forward connects to it: it is not online there, or that partner does not forward for it"
    )]
    NotForwarded,
    /// A TCP connection came about, but nothing answered behind it.
    #[error("something accepts the connection but does not answer: not a Pakt node, or it does not know this one")]
    NoAnswer,
    /// The connection broke, or the peer broke the rules, before the lane was up.
    #[error("the connection broke before the lane was up")]
    Broken,
    /// The peer proved a key and then closed instead of answering.
    #[error("the peer closed the connection instead of answering: it does not accept this node")]
    Refused,
    /// The peer did not do its next step in time.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The peer answered, but as somebody or something that this node cannot talk to.
    #[error(transparent)]
    Foreign(HelloRefusal),
}

impl DialError {
    /// Whether trying again later can help without anybody changing anything.
    pub fn is_transient(self) -> bool {
        match self {
            DialError::BadAddress | DialError::RangeNotAllowed | DialError::NoGrant => false,
            DialError::Foreign(refusal) => refusal.is_transient(),
            _ => true,
        }
    }
}

/// Why a peer's first frame is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    /// The frame cannot be read.
    #[error("the peer's first frame cannot be read")]
    Malformed,
    /// The certificate chain does not verify.
    #[error("the peer's certificate chain is not valid")]
    BadChain,
    /// The chain belongs to another entity than the one of this agreement.
    #[error("the node at this address belongs to another entity")]
    ForeignEntity,
    /// The chain certifies another transport key than the one proven in TLS.
    #[error("the peer's certificate is for another key than the one it holds")]
    ForeignKey,
    /// A newer certificate of the peer is known.
    #[error("the peer shows a certificate that it has replaced since")]
    Superseded,
    /// The agreement no longer allows a connection.
    #[error("there is no agreement in force with this peer")]
    NoAgreement,
    /// The peer speaks only newer protocol versions: this node must be upgraded.
    #[error("the peer speaks only newer protocol versions: upgrade this node")]
    PeerNewer,
    /// The peer speaks only older protocol versions: the peer must be upgraded.
    #[error("the peer speaks only older protocol versions: the peer must upgrade")]
    PeerOlder,
    /// This node could not look up what it needs to decide.
    #[error("the peer could not be checked")]
    Storage,
}

impl HelloRefusal {
    /// Whether the peer is who it should be and only speaks other versions.
    pub fn is_of_version(self) -> bool {
        matches!(self, HelloRefusal::PeerNewer | HelloRefusal::PeerOlder)
    }

    /// Whether trying again later can help without anybody changing anything.
    pub fn is_transient(self) -> bool {
        self == HelloRefusal::Storage
    }
}
