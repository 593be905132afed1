//! What the receiver tells while it pulls.

use serde::{Deserialize, Serialize};

use crate::ids::EnvelopeId;

/// Sealed bytes that are durable at the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Objects held.
    pub objects: u64,
    /// Their sealed bytes.
    pub bytes: u64,
}

/// Every announced object is durable: the signed envelope may come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The envelope.
    pub envelope: EnvelopeId,
}
