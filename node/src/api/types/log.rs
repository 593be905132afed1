//! The audit log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Verify the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct LogVerifyRequest {
    /// Armoured heads that counterparts hold of this log, and receipts that this node gave.
    #[serde(default)]
    pub held: Vec<String>,
}

/// A log that is what it was.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogVerified {
    /// Entries.
    pub entries: u64,
    /// The root over them, hex.
    pub root: String,
    /// Heads and receipts that it was compared with, own ones included.
    pub compared: u64,
}
