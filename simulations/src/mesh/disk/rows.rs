//! What a simulated node keeps: the rows of its store that decide anything.

use std::rc::Rc;

use pakt_keys::EntityId;
use pakt_protocol::agreement::Statements;
use pakt_protocol::delivery;
use pakt_protocol::ids::{CoreHash, EnvelopeId, MessageId};
use pakt_protocol::message::Offer;
use pakt_protocol::reconcile::ranges::Ranges;
use pakt_protocol::record::envelope::{Counts, Priority};
use pakt_protocol::record::receipt::Verdict;
use pakt_protocol::record::roster::Roster;
use pakt_protocol::time::Time;
/// The place of a counterpart among those of a node.
pub(crate) type Slot = u32;

/// The name of a row. Those of one counterpart lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The node itself.
    Own,
    /// What this node has submitted.
    Out(EnvelopeId),
    /// What the sending group was told about an envelope, in that order.
    Report(EnvelopeId, u32),
    /// An agreement.
    Agreement(Slot),
    /// The newest roster of a counterpart.
    Roster(Slot),
    /// The number of an envelope that went to a counterpart.
    Sent(Slot, u64),
    /// The number of an envelope that came from a counterpart.
    Held(Slot, u64),
    /// What was reconciled.
    Round(Slot),
    /// An accepted offer.
    Incoming(Slot, EnvelopeId),
    /// Objects of an accepted offer that are here.
    Objects(Slot, EnvelopeId),
    /// What was answered to an envelope for good.
    Settled(Slot, EnvelopeId),
    /// A message that people can see, or will.
    Inbox(Slot, EnvelopeId),
    /// A receipt that the sender has not confirmed, by its place.
    Owed(Slot, EnvelopeId, u8),
    /// An envelope that is wanted back.
    Recall(Slot, EnvelopeId),
}

/// A row.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Own(Rc<OwnRow>),
    Out(Rc<OutRow>),
    Report(Told),
    Agreement(Rc<AgreementRow>),
    Roster(Rc<Roster>),
    Sent(EnvelopeId, Standing),
    Held,
    Round(Rc<RoundRow>),
    Incoming(Rc<IncomingRow>),
    Objects(u64),
    Settled(Rc<SettledRow>),
    Inbox(Rc<InboxRow>),
    Owed(Rc<[u8]>),
    Recall,
}

/// The node itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnRow {
    /// The newest epoch, and the oldest whose private half is kept.
    pub(crate) epoch: u64,
    pub(crate) epoch_oldest: u64,
    /// Counter of the rosters.
    pub(crate) roster: u64,
    /// The place of the next envelope in its queue.
    pub(crate) sequence: u64,
    /// The clock when it was noted last, and the simulated machine's own then.
    pub(crate) noted: (Time, u64),
    /// The last restore from a backup: its generation, when the backup was made, when it was restored.
    pub(crate) restored: Option<(u64, Time, Time)>,
}

/// What the sending group was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// That it is late.
    Warned,
    /// How it ended, or that this is not known.
    Reported(delivery::Reason),
    /// That what was reported has turned out well.
    Resolved,
}

/// An envelope that was submitted here.
#[derive(Debug, Clone)]
pub(crate) struct OutRow {
    pub(crate) slot: Slot,
    pub(crate) sequence: u64,
    pub(crate) number: u64,
    pub(crate) message: MessageId,
    pub(crate) priority: Priority,
    pub(crate) counts: Counts,
    /// Bytes of the core; none once it is final.
    pub(crate) core: Rc<[u8]>,
    pub(crate) hash: CoreHash,
    pub(crate) delivery: delivery::Record,
    pub(crate) receipts: Vec<(u8, Time, Rc<[u8]>)>,
}

/// Where an envelope stands by its receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Open,
    Delivered(Time),
    Answered,
    Ended,
}

/// How far an agreement is.
#[derive(Debug, Clone)]
pub(crate) struct AgreementRow {
    pub(crate) ended: bool,
    pub(crate) unconfirmed: bool,
    pub(crate) statements: Statements,
    pub(crate) valid_until: Time,
    /// The last number that was given, those that may have been given and were forgotten in restores.
    pub(crate) last_number: u64,
    pub(crate) forgotten: Ranges,
    /// Restores of the counterpart: from when to when what it received may be lost.
    pub(crate) peer_restores: Vec<(Time, Time)>,
    /// Generations: the newest of the counterpart that is known here, the newest of this node that it knows.
    pub(crate) peer_generation: u64,
    pub(crate) told_generation: u64,
}

/// Rounds of reconciliation: about what was sent, and about what was received.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RoundRow {
    pub(crate) sent: Option<(u64, Time)>,
    pub(crate) next: Option<u64>,
    pub(crate) received: Option<Time>,
    /// Numbers with which something is wrong, as this side has sent and received them.
    pub(crate) lost: Ranges,
    pub(crate) unknown: Ranges,
}

/// An offer that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IncomingRow {
    pub(crate) offer: Offer,
    pub(crate) offered_at: Time,
}

/// What was answered for good.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SettledRow {
    pub(crate) core: CoreHash,
    pub(crate) message: MessageId,
    pub(crate) offered_at: Time,
    pub(crate) first: (Verdict, Rc<[u8]>),
    pub(crate) later: Vec<(Verdict, Rc<[u8]>)>,
    /// Its content was purged.
    pub(crate) purged: bool,
}

/// How far a message is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Checking,
    Released,
    Taken,
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InboxRow {
    pub(crate) from: EntityId,
    pub(crate) stage: Stage,
}
