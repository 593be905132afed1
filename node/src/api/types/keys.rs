//! Keys that were replaced, and who approves what the root signs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where this entity's root is and what opens it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RootPlace {
    /// In the keystore, opened with it.
    #[default]
    Here,
    /// In the keystore, opened by two approvers.
    Approved,
    /// In a file that is not in the data directory.
    Elsewhere,
}

/// The node's keys after they were replaced.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rotated {
    /// This entity's id, which stays.
    pub entity: String,
    /// The peer id of the new transport key.
    pub peer_id: String,
    /// Generation of the root that certifies the keys.
    pub root_generation: u32,
    /// Number of the certificate.
    pub serial: u64,
    /// When the certificate was made.
    pub issued_at: String,
    /// Active agreements whose counterparts learn of it when they are next in contact.
    pub counterparts: u64,
}

/// An approver, as `pakt approver list` shows them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ApproverRow {
    /// The approver's name.
    pub name: String,
}
