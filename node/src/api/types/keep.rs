//! How long what was received is kept, and what takes it away earlier.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A received message that is gone for good.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PurgedItem {
    /// The id that it had in the inbox.
    pub id: String,
    /// `deleted`, `retention_over`, `recalled`, `not_for_us` or `purged_again`.
    pub cause: String,
    /// When its key was erased.
    pub purged_at: String,
    /// The purge proof as armoured text, where the sender was told: a receipt that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
}

/// Whether a received message is on hold.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HeldItem {
    /// Its id in the inbox.
    pub id: String,
    /// Whether nothing deletes it, whatever the agreement says.
    pub on_hold: bool,
    /// Since when.
    #[serde(default)]
    pub since: Option<String>,
    /// It is gone: while it was on hold its sender had asked for it back, before anybody had taken it.
    #[serde(default)]
    pub recalled: bool,
}
