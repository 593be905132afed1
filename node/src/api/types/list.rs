//! Which part of a list is asked for.

use serde::Deserialize;
use utoipa::IntoParams;

/// Which part of the inbox or outbox is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
pub struct ListQuery {
    /// Only what was received by, or sent from, this group.
    pub group: Option<String>,
    /// How many at most; 1000 without it, and never more.
    pub limit: Option<usize>,
    /// Only what is older than the item with this id, as the last one of an earlier part.
    pub before: Option<String>,
}
