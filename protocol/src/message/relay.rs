//! How a partner is asked to forward a connection between two counterparts that cannot dial each other.
//!
//! ```text
//! A --relay lane, To(B's transport key)--> R --RelayCall(token), control lane--> B
//! A                                        R <--relay lane, Join(token)--------- B
//! A <------------- RelayAnswer(up) ------- R -------- RelayAnswer(up) ---------> B
//! A <====== bytes of a connection of their own: door, TLS, lane ===============> B
//! ```
//! **Invariant:** an unknown, an offline and a foreign key get one answer after one time.

use serde::{Deserialize, Serialize};

/// The dialer's frame on a relay lane that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RelayAsk {
    /// Forward to the node that has this transport key, or had it before it replaced its keys.
    To([u8; 32]),
    /// This is the other end that was called for.
    Join([u8; 16]),
}

/// The listener's answer: forwarded bytes follow, or the lane ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayAnswer {
    /// Whether the other end is there.
    pub up: bool,
}

/// Over control: a counterpart of the relay wants to reach this node, which joins by a relay lane of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayCall {
    /// Names the waiting end, once.
    pub token: [u8; 16],
}
