//! The signed envelope and what settles it.

use serde::{Deserialize, Serialize};

use crate::ids::EnvelopeId;
use crate::record::Signed;
use crate::record::envelope::SealedEnvelope;
use crate::record::roster::Roster;

/// The signed envelope: after this the sender can only ask, no longer take back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The envelope's id.
    pub envelope: EnvelopeId,
    /// The envelope.
    pub sealed: SealedEnvelope,
}

/// The epoch that the envelope was sealed to is gone: seal it to this one. No content moves again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochGone {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// The current roster.
    pub roster: Signed<Roster>,
}

/// A signed receipt; the same bytes whenever it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptMessage {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Codec bytes of the signed receipt.
    pub receipt: Vec<u8>,
}

/// The sender gives up. If the receiver has already committed, it answers with the receipt instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdraw {
    /// The envelope.
    pub envelope: EnvelopeId,
}

/// The receiver has dropped the envelope and will never commit it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// The envelope.
    pub envelope: EnvelopeId,
}
