//! The rows of introductions as they lie in the store.

use pakt_keys::EntityId;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::introduction::{Introduction, IntroductionId};
use pakt_protocol::record::card::SignedCard;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

/// A message that leaves under an agreement until the counterpart has taken it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OutRow {
    pub(crate) message: Introduction,
    /// The agreement that it came under; none if it is this entity's own.
    pub(crate) origin: Option<AgreementId>,
    pub(crate) queued_at: Time,
}

/// A card that was asked for; the entity asked is the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AskedRow {
    /// The agreement with the introducer.
    pub(crate) via: AgreementId,
    pub(crate) id: IntroductionId,
    pub(crate) asked_at: Time,
    /// The card, once it has come.
    pub(crate) card: Option<SignedCard>,
    /// Whether the introducer passes nothing on.
    pub(crate) not_passed_on: bool,
}

/// An entity that asks for the card; it is the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CardRequestRow {
    pub(crate) via: AgreementId,
    pub(crate) id: IntroductionId,
    pub(crate) card: SignedCard,
    pub(crate) at: Time,
    pub(crate) decision: Decision,
}

/// A proposal that came through an introducer; the agreement is the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ReceivedRow {
    pub(crate) via: AgreementId,
    pub(crate) id: IntroductionId,
    /// The proposer.
    pub(crate) from: EntityId,
    /// Codec bytes of the agreement file.
    pub(crate) file: Vec<u8>,
    pub(crate) at: Time,
    pub(crate) accept_by: Time,
    pub(crate) decision: Decision,
}

/// What the operator has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Nothing yet.
    Waiting,
    /// Accepted, or the card was given.
    Accepted,
    /// Declined.
    Declined,
}

/// What is known about an own proposal beside the agreement; the agreement is the key.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct OfferedRow {
    /// The bundle that it belongs to.
    pub(crate) bundle: Option<String>,
    /// The agreement with the introducer that it went through.
    pub(crate) via: Option<AgreementId>,
    /// The message that it went in.
    pub(crate) letter: Option<IntroductionId>,
    /// When the other side declined it.
    pub(crate) declined_at: Option<Time>,
    /// Whether the introducer passes nothing on.
    pub(crate) not_passed_on: bool,
}
