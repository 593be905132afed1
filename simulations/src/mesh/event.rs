//! What can be due in a simulated mesh.

use pakt_protocol::ids::EnvelopeId;

use super::clock::{Micros, Queue};
use super::disk::Slot;
use super::network::{Flight, Side};

/// Everything that is planned.
pub(crate) type Plans = Queue<Due>;

/// What happens when its time has come.
#[derive(Debug)]
pub(crate) enum Due {
    /// A timer of a node for one counterpart.
    Wake { node: usize, slot: Slot, at: Micros },
    /// A frame comes to the end of its lane.
    Arrive(Box<Flight>),
    /// Somebody dials.
    Knock { link: u32, from: Side, incarnation: u32 },
    /// A dial came to nothing.
    DialFailed { link: u32, from: Side, incarnation: u32 },
    /// A lane is up at this end.
    LaneUp { link: u32, lane: u32, side: Side, dialer: Side },
    /// The other end of a lane has closed it.
    LaneGone { link: u32, lane: u32, side: Side },
    /// Content has come.
    Batch { flow: u64 },
    /// People hand in their next message.
    Submit,
    /// Somebody, or the check, does something at a node.
    Deed { node: usize, incarnation: u32, deed: Deed },
    /// A fault begins.
    FaultBegins(usize),
    /// And is over.
    FaultEnds(usize),
    /// A part of a fault that goes link by link.
    Clog { link: u32, stops: bool },
    /// A node starts.
    Start { node: usize, fault: usize },
    /// The operator confirms what came out of a backup.
    Confirm { node: usize, incarnation: u32 },
    /// The operator looks whether what is suspended here is meant to be.
    LookAtSuspensions { node: usize },
    /// A node's daily work: a new epoch, and its clock noted.
    Daily { node: usize, incarnation: u32 },
    /// A backup is made that a later fault will restore.
    Backup { node: usize, fault: usize },
    /// What there is to measure is measured.
    Sample,
}

/// What is done at a node from outside the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    /// The check is over: a message becomes visible.
    Release(Slot, EnvelopeId),
    /// Somebody takes responsibility.
    Take(Slot, EnvelopeId),
    /// Somebody wants a message back.
    Recall(EnvelopeId),
}
