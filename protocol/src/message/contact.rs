//! First contact: the acceptor brings the countersigned agreement through the proposer's own door.

use serde::{Deserialize, Serialize};

use crate::ids::AgreementId;

/// Bytes of the file within a [`Contact`], at most.
pub const CONTACT_BYTES_MAX: usize = 64 << 10;

/// A complete agreement file, as it would be mailed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Codec bytes of an `AgreementFile`.
    pub file: Vec<u8>,
}

/// The agreement is durable at the proposer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacted {
    /// The agreement.
    pub agreement: AgreementId,
}
