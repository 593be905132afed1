//! Reconciliation: the sender of envelopes says what it has sent, the receiver what it holds.

use serde::{Deserialize, Serialize};

use crate::ids::EnvelopeId;
use crate::record::Signed;
use crate::record::reconciliation::{HeldStatement, SentStatement};

/// "I have sent you these"; answered by [`Reconciled`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconcile {
    /// The signed statement.
    pub statement: Signed<SentStatement>,
}

/// "I hold these of them."
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reconciled {
    /// The signed answer.
    pub statement: Signed<HeldStatement>,
}

/// Names the envelopes that the receiver does not hold although it has given receipts, as far as they were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileGap {
    /// The round.
    pub round: u64,
    /// Number and id of each, at most [`crate::record::reconciliation::NAMED_MAX`].
    pub named: Vec<(u64, EnvelopeId)>,
}

/// Asks the counterpart to say what it has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantReconcile;
