//! The sender confirms receipts, so that the receiver need not tell them again.

use serde::{Deserialize, Serialize};

use crate::ids::EnvelopeId;
use crate::record::receipt::Verdict;

/// This receipt is durable at the sender; one of a tier confirms those of lower tiers as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptHeld {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// What the receipt states.
    pub verdict: Verdict,
}
