//! Amendments: further versions of the terms, offered or complete.

use serde::{Deserialize, Serialize};

use crate::record::agreement::AGREEMENT_FILE_BYTES_MAX;

/// Bytes of the file within an [`Amend`], at most.
pub const AMEND_BYTES_MAX: usize = AGREEMENT_FILE_BYTES_MAX;

/// A later version of the agreement: signed by its sender alone, it is an offer; signed by both, it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amend {
    /// Codec bytes of an `AgreementFile`, as it would be mailed.
    pub file: Vec<u8>,
}

/// What was shown in an [`Amend`] is durable, or was known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// The hash of the terms.
    pub terms: [u8; 32],
}
