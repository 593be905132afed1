//! Pages of a steward's directory: the answer to one question of one asker.

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::listing::{LISTING_BYTES_MAX, Listing};
use super::{Record, Signed};
use crate::time::Time;

/// Listings on one page, so that the largest page fits a control frame and a usual one delays nothing.
pub const PAGE_LISTINGS_MAX: usize = 24;

/// Part of a directory in the order of entity ids; signed by the steward's statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Whose directory it is.
    pub steward: EntityId,
    /// For whom it was made.
    pub asker: EntityId,
    /// The number that the asker drew for this question.
    pub nonce: [u8; 32],
    /// The page begins behind this entity; none for the first page.
    pub after: Option<EntityId>,
    /// When it was made.
    pub at: Time,
    /// The listings, each signed by the entity that it is about.
    pub listings: Vec<Signed<Listing>>,
    /// Whether there are further pages.
    pub more: bool,
}

impl Record for Page {
    const DOMAIN: Domain = Domain::DirectoryPage;
    const BYTES_MAX: usize = PAGE_LISTINGS_MAX * (LISTING_BYTES_MAX + 1024) + 1024;
}
