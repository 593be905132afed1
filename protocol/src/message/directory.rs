//! The directory: an entity tells a steward whether to list it, and asks who is listed.

use pakt_keys::EntityId;
use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::listing::Listing;
use crate::record::page::Page;

/// The sender's newest listing for the receiver; repeated at every session until it was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// The listing.
    pub listing: Signed<Listing>,
}

/// What became of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The number of the listing.
    pub counter: u64,
    /// Whether it is durable; if not, the receiver keeps no directory or does not take this listing.
    pub taken: bool,
}

/// Who is listed?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Random, so that an older answer does not answer this question.
    pub nonce: [u8; 32],
    /// The page is to begin behind this entity; none for the first page.
    pub after: Option<EntityId>,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum QueryAnswer {
    /// A page.
    Page(Box<Signed<Page>>),
    /// There is no directory for the asker here.
    Closed {
        /// The question.
        nonce: [u8; 32],
    },
    /// The asker has asked too often; it may try again in a minute.
    Later {
        /// The question.
        nonce: [u8; 32],
    },
}
