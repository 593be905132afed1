//! What is kept about numbers of envelopes and about the rounds that compared them.

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::comparison::Comparison;
use pakt_protocol::record::reconciliation::{HeldStatement, SentStatement};
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

/// Which way the envelopes of a round go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// This node has sent them.
    Sent,
    /// This node has received them.
    Received,
}

impl Side {
    /// As the key of a row.
    pub(crate) fn key(self) -> bool {
        self == Side::Sent
    }

    /// The word in JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Sent => "sent",
            Side::Received => "received",
        }
    }
}

/// Where the envelope of a number stands, as its sender knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Under way.
    Open,
    /// A receipt is held, signed then by the receiver's clock.
    Delivered(Time),
    /// It ended without being delivered.
    Ended,
    /// The receiver has signed what became of it later, without a tier: it may have held it.
    Answered,
}

/// A number that was given to an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SentNumber {
    pub(crate) envelope: EnvelopeId,
    pub(crate) standing: Standing,
}

/// What is wrong with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapKind {
    /// The sender has a receipt, the receiver does not hold it.
    Lost,
    /// The receiver holds it, and the sender has not sent it, or says that it was not delivered.
    Unknown,
    /// Two envelopes have this number: the sender went back in time.
    Twice,
    /// The sender gave the number and has no record of the envelope, or has let it fall out of the queue.
    Unaccounted,
}

impl GapKind {
    /// The word in JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            GapKind::Lost => "lost",
            GapKind::Unknown => "unknown",
            GapKind::Twice => "twice",
            GapKind::Unaccounted => "unaccounted",
        }
    }
}

/// A number with which something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberGap {
    /// What.
    pub kind: GapKind,
    /// The envelope, where it is known.
    pub envelope: Option<EnvelopeId>,
    /// Since when, by the wall clock.
    pub found_at: Time,
    /// Whether somebody has dealt with it.
    pub seen: bool,
}

/// What a round has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The highest number given.
    pub given: u64,
    /// Receipts that the sender holds.
    pub delivered: u64,
    /// Under way at the sender.
    pub open: u64,
    /// Held by the receiver.
    pub held: u64,
    /// Missing or unknown, and explained by a restore.
    pub explained: u64,
    /// Numbers with which something is wrong.
    pub gaps: u64,
}

/// A round that reached the last number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complete {
    /// By the service clock.
    pub at: Time,
    /// By the wall clock.
    pub wall: Time,
    /// What it counted.
    pub tally: Tally,
}

/// The two statements that show a gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What the sender has signed.
    pub sent: Signed<SentStatement>,
    /// What the receiver has signed.
    pub held: Signed<HeldStatement>,
}

/// What can be handed to others about one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedRow {
    /// The last two statements.
    pub last: Comparison,
    /// The last two that show a gap, while there is one.
    pub gap: Option<Comparison>,
}

/// The rounds of one direction.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoundRow {
    /// The last round that was begun.
    pub round: u64,
    /// Where it goes on, if it has not reached the last number.
    pub next: Option<u64>,
    /// What it has counted so far.
    pub tally: Tally,
    /// The last one that reached the end.
    pub complete: Option<Complete>,
    /// Gaps that nobody has dealt with.
    pub unseen: u64,
    /// When the audit log was last told, and whether of a gap.
    pub noted: Option<(Time, bool)>,
    /// What shows the last gap.
    pub evidence: Option<Evidence>,
}
