//! What the malware check holds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Sender;

/// Why a message is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineState {
    /// Something was found in it, and its sender was told.
    Found,
    /// It could not be checked, and is tried again.
    Held,
}

/// A message that nobody may open; no subject and no content.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct QuarantineItem {
    /// Id for `quarantine release` and `quarantine delete`: the envelope's.
    pub id: String,
    /// Who sent it.
    pub from: Sender,
    /// The group it was addressed to.
    pub group: String,
    /// When it was complete and durable here.
    pub received_at: String,
    /// Found or held.
    pub state: QuarantineState,
    /// The signature's name, or why it cannot be checked.
    pub what: String,
}

/// The malware scanner of a node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScannerStatus {
    /// Where it listens.
    pub at: String,
    /// Whether it passes its test now.
    pub fit: bool,
    /// What it shows, or why it does not.
    pub says: String,
}
