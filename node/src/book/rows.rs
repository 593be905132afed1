//! The rows of the book as they lie in the store.
//!
//! **Invariant:** door secrets appear in rows only, sealed by the store; private epoch keys not even there.

use pakt_keys::EpochPublic;
use pakt_keys::object::SealBase;
use pakt_protocol::agreement::Life;
use pakt_protocol::door::DoorSecret;
use pakt_protocol::record::Signed;
use pakt_protocol::record::address_update::AddressUpdate;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

pub(crate) use super::frozen::ChainRow;
pub(crate) use super::grants::GrantRow;
use super::groups::Shown;
use crate::slots::SlotId;

/// One agreement.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AgreementRow {
    /// How far it is, the terms that count, what both have stated and offered.
    pub(super) life: Life,
    /// Secrets that open our door, newest first.
    pub(super) granted: Vec<SecretRow>,
    /// Secrets that open the counterpart's door, newest first.
    pub(super) held: Vec<SecretRow>,
    /// When this row was made.
    pub(super) made_at: Time,
}

/// A door secret with the number of its grant.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SecretRow {
    pub(super) counter: u64,
    #[serde(with = "door_secret")]
    pub(super) secret: DoorSecret,
}

mod door_secret {
    use super::DoorSecret;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &DoorSecret, serializer: S) -> Result<S::Ok, S::Error> {
        secret.as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DoorSecret, D::Error> {
        Ok(DoorSecret::from_bytes(<[u8; 32]>::deserialize(deserializer)?))
    }
}

/// When a lane to the counterpart last came up, and what its clock showed.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ContactRow {
    pub(super) at: Time,
    pub(super) clock_difference_s: i64,
}

/// Addresses that a counterpart told.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AddressRow {
    pub(super) update: Signed<AddressUpdate>,
    pub(super) at: Time,
}

/// A group; its id is the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredGroup {
    pub(super) name: String,
    pub(super) shown: Shown,
}

/// An epoch; its number is the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct EpochRow {
    /// Where the private half lies.
    pub(super) slot: SlotId,
    pub(super) public: EpochPublic,
    pub(super) made_at: Time,
    /// When its successor was published.
    pub(super) replaced_at: Option<Time>,
}

/// A group's dedup secret; the group's id is the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DedupRow {
    pub(super) secret: SealBase,
    pub(super) made_at: Time,
}
