//! An envelope is asked back after it has left. The answer is a receipt: purged, never held, or taken before.

use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::recall::RecallRequest;

/// Receipts in one [`PurgedBefore`], at most.
pub const PURGED_BEFORE_MAX: usize = 64;

/// "Purge this, if nobody has taken it"; said in every session until a receipt settles it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// The signed request.
    pub request: Signed<RecallRequest>,
}

/// To a receiver that was restored from a backup: what it had itself stated about envelopes that it had purged since. It
/// purges them again, and takes them in no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgedBefore {
    /// Codec bytes of the reader's own signed receipts, at most [`PURGED_BEFORE_MAX`].
    pub receipts: Vec<Vec<u8>>,
}
