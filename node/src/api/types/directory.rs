//! Directories as the local API shows and fills them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Have this entity listed at a steward, or no longer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PublishRequest {
    /// The steward: id, number or name of a counterpart.
    pub with: String,
    /// Where this entity is; may be empty.
    #[serde(default)]
    pub town: String,
    /// What it offers.
    #[serde(default)]
    pub offers: Vec<String>,
    /// Take the listing back instead.
    #[serde(default)]
    pub withdraw: bool,
}

/// This entity's listing at a steward.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OwnListing {
    /// The steward's entity id.
    pub steward: String,
    /// The steward's name.
    pub steward_name: String,
    /// Whether this entity wants to be listed.
    pub listed: bool,
    /// Where this entity is, as listed.
    pub town: String,
    /// What it offers, as listed.
    pub offers: Vec<String>,
    /// `waiting` until the steward has answered, then `taken` or `refused`.
    pub state: ListingState,
    /// What that means, for people.
    pub note: String,
}

/// What a steward has said about a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListingState {
    /// It has not answered yet.
    Waiting,
    /// It holds it.
    Taken,
    /// It keeps no directory, or does not take this listing.
    Refused,
}

/// What the stewards that were asked have answered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DirectoryAnswer {
    /// Who is listed, by name.
    pub listed: Vec<ListedEntity>,
    /// Directories that could not be read, or not as a whole.
    pub unread: Vec<UnreadDirectory>,
}

/// A directory that could not be read, or not as a whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UnreadDirectory {
    /// The steward's entity id.
    pub steward: String,
    /// The steward's name.
    pub steward_name: String,
    /// Why.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// An entity in a steward's directory, as it has signed it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedEntity {
    /// The steward whose directory it is.
    pub steward: String,
    /// Entity id.
    pub entity: String,
    /// Name.
    pub name: String,
    /// Registered number.
    pub number: String,
    /// Where it is; may be empty.
    pub town: String,
    /// What it offers.
    pub offers: Vec<String>,
    /// Its fingerprint in words; not compared yet.
    pub fingerprint: String,
    /// The listing ends by itself then.
    pub valid_until: String,
    /// Where the agreement with it is in its life, if there is one.
    pub agreement: Option<super::AgreementState>,
    /// Whether this is this entity itself.
    pub own: bool,
    /// Its card, armoured.
    pub card: String,
}
