//! The rows of the book as they lie in the store.
//!
//! **Invariant:** door secrets appear in rows only, sealed by the store; private epoch keys not even there.

use pakt_keys::EpochPublic;
use pakt_keys::object::SealBase;
use pakt_protocol::door::DoorSecret;
use pakt_protocol::record::Signed;
use pakt_protocol::record::address_update::AddressUpdate;
use pakt_protocol::record::agreement::{AgreementFile, Side};
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::statement::StatementChain;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::agreement::Standing;
pub(crate) use super::frozen::ChainRow;
pub(crate) use super::grants::GrantRow;
use super::groups::Shown;
use crate::slots::SlotId;

/// One agreement.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AgreementRow {
    /// The newest terms that both have signed, or the proposal: terms, signatures, cards and first grants, as mailed.
    pub(super) file: AgreementFile,
    pub(super) side: Side,
    pub(super) standing: Standing,
    /// Whether the operator has compared the counterpart's fingerprint.
    pub(super) verified: bool,
    /// Whether the proposer has not confirmed the countersigned file yet.
    pub(super) contact_pending: bool,
    /// Whether it came out of a backup and the operator has not confirmed it.
    pub(super) unconfirmed: bool,
    /// This party's statements.
    pub(super) own: StatementChain,
    /// How many of them the counterpart has confirmed.
    pub(super) own_known: u64,
    /// The counterpart's statements.
    pub(super) peer: StatementChain,
    pub(super) end_confirmed: bool,
    pub(super) ended_at: Option<Time>,
    /// The highest version that this entity's root has signed, and the hash of that text: no other text is signed under
    /// it or a lower one.
    pub(super) signed: (u32, [u8; 32]),
    /// When the terms in `file` began to count here.
    pub(super) version_at: Time,
    /// Whether the counterpart has confirmed that these terms count.
    pub(super) version_known: bool,
    /// Whether both roots have signed two texts where one was allowed.
    pub(super) forked: bool,
    /// An amendment that this side offers, and whether the counterpart holds the offer.
    pub(super) offered: Option<AgreementFile>,
    pub(super) offer_known: bool,
    /// An amendment that the counterpart offers.
    pub(super) received: Option<AgreementFile>,
    /// The newest certificate chain of the counterpart.
    pub(super) chain: CertificateChain,
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
