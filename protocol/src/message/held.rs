//! Settling what the sender knows: it confirms receipts, so that the receiver need not tell them again, and asks for those
//! that it lacks.

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

/// The sender's time for an envelope is over, but its signed envelope had left: how did it end? Answered with what was
/// stated about it; if nothing was, the receiver signs that it does not hold it and never will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskEnded {
    /// Codec bytes of the envelope's core.
    pub core: Vec<u8>,
}
