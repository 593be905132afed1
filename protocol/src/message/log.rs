//! Heads of audit logs: each side gives the other one a day to keep.

use serde::{Deserialize, Serialize};

use crate::audit::LogHead;
use crate::record::Signed;

/// A head of the sender's log, with what proves that it continues an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogHeadUpdate {
    /// The head.
    pub head: Signed<LogHead>,
    /// The size of the earlier head; 0 if there is none.
    pub since: u64,
    /// The proof of consistency, at most [`crate::audit::tree::PROOF_HASHES_MAX`] hashes.
    pub proof: Vec<[u8; 32]>,
}

/// Asks for the head that was given last, with a proof that it continues the one of this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantLogHead {
    /// The size of the head that is held.
    pub since: u64,
}
