//! Reconciliation: what was sent compared with what is held.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which pairs are to be compared now.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReconcileRequest {
    /// Id, number or name of one counterpart; all that are online without it.
    pub with: Option<String>,
    /// Seconds to wait for the answers, 30 without it, 600 at most.
    pub timeout_s: Option<u64>,
}

/// One direction of a pair, and how its last comparison came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reconciliation {
    /// The counterpart.
    pub entity: String,
    /// Its name.
    pub name: String,
    /// The agreement.
    pub agreement: String,
    /// `sent`: what this node sends; `received`: what it receives.
    pub direction: String,
    /// When all numbers were last compared.
    pub at: Option<String>,
    /// The highest number that an envelope had then.
    pub given: u64,
    /// Receipts that the sender held.
    pub delivered: u64,
    /// Envelopes under way.
    pub open: u64,
    /// Envelopes that the receiver held.
    pub held: u64,
    /// What did not match and is explained by a restore from a backup.
    pub explained: u64,
    /// Numbers that something is wrong with.
    pub gap_count: u64,
    /// Those that nobody has dealt with: an alarm.
    pub unseen: u64,
    /// The numbers, at most 1,000.
    pub gaps: Vec<ReconciliationGap>,
    /// The last comparison is more than two days old.
    pub overdue: bool,
    /// It was asked for and has not come to its end yet.
    pub pending: bool,
    /// What shows the last gap.
    pub evidence: Option<ReconciliationEvidence>,
}

/// A number that something is wrong with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconciliationGap {
    /// The number.
    pub number: u64,
    /// `lost`: the sender has a receipt, the receiver does not hold it. `unknown`: held, and not sent as far as the sender knows.
    /// `twice`: two envelopes have the number. `unaccounted`: the sender itself has lost track of it.
    pub kind: String,
    /// The envelope, where it is known.
    pub envelope: Option<String>,
    /// Since when.
    pub found_at: String,
    /// Whether somebody has dealt with it.
    pub seen: bool,
}

/// The two signed statements, in hexadecimal, as the specification has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconciliationEvidence {
    /// Signed by the sender.
    pub sent: String,
    /// Signed by the receiver.
    pub held: String,
}
