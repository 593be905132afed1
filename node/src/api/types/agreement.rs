//! Agreements as the local API shows and makes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Signing;

/// Where an agreement is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgreementState {
    /// Signed by one side.
    Proposed,
    /// Signed by both and within its dates.
    Active,
    /// Held by one side.
    Suspended,
    /// Ended by one side.
    Ended,
    /// Past its end, or not accepted in time.
    Expired,
    /// Restored from a backup and not yet confirmed by the operator.
    Unconfirmed,
    /// Proposed by the other side through an introducer, and not decided here.
    Received,
    /// Proposed by this side through an introducer, and declined by the other.
    Declined,
}

impl AgreementState {
    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
            Self::Received => "received",
            Self::Declined => "declined",
        }
    }
}

/// Who has suspended an agreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuspendedBy {
    /// This side.
    Us,
    /// The counterpart.
    Them,
    /// Both sides; each must resume it.
    Both,
}

/// An agreement in short; entity, name, number and fingerprint are the counterpart's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgreementSummary {
    /// Agreement id.
    pub id: String,
    /// Version of the terms.
    pub version: u32,
    /// Where it is in its life.
    pub state: AgreementState,
    /// The counterpart's entity id.
    pub entity: String,
    /// The counterpart's name.
    pub name: String,
    /// The counterpart's registered number.
    pub number: String,
    /// What may be exchanged; empty means nothing.
    pub purposes: Vec<String>,
    /// Start of the terms.
    pub valid_from: String,
    /// End of the terms.
    pub valid_until: String,
    /// The counterpart's fingerprint in words.
    pub fingerprint: String,
    /// Whether a typed fingerprint matched.
    pub verified: bool,
    /// The bundle that it was proposed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Why nothing may be exchanged now; none while it is in force.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who has suspended it, while it is suspended.
    #[serde(default)]
    pub suspended_by: Option<SuspendedBy>,
    /// Days until the terms end, rounded down; none for proposals and what has ended.
    #[serde(default)]
    pub ends_in_days: Option<i64>,
    /// Whether the counterpart has confirmed that these terms count.
    #[serde(default)]
    pub known: bool,
    /// Two different things were signed where one was allowed: the operators must talk.
    #[serde(default)]
    pub forked: bool,
    /// Later versions that one side has signed.
    #[serde(default)]
    pub amendments: Vec<OfferedAmendment>,
}

/// A later version of the terms that one side offers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OfferedAmendment {
    /// Version of the terms.
    pub version: u32,
    /// Hash of the terms, in hexadecimal.
    pub hash: String,
    /// Whether this side offers it; else the counterpart does, and this side may accept it.
    pub ours: bool,
    /// After this it can no longer be accepted.
    pub accept_by: String,
    /// Whether the counterpart's node holds the offer.
    pub known: bool,
    /// What would change, in plain words.
    pub changes: Vec<String>,
    /// All its terms.
    pub terms: Terms,
}

/// An agreement with both parties and all its terms.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgreementDetail {
    /// The agreement in short.
    #[serde(flatten)]
    pub summary: AgreementSummary,
    /// Who proposed it.
    pub proposer: Party,
    /// To whom it was proposed.
    #[serde(rename = "acceptor")]
    pub accepter: Party,
    /// The terms.
    pub terms: Terms,
    /// What each clause makes this node do, in plain words.
    #[serde(default)]
    pub review: Vec<String>,
}

/// One of the two entities of an agreement.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Party {
    /// Entity id.
    pub entity: String,
    /// Name.
    pub name: String,
    /// Registered number.
    pub number: String,
    /// Fingerprint in words.
    pub fingerprint: String,
    /// Whether its root has signed.
    pub signed: bool,
}

/// The terms of an agreement, for reading.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Terms {
    /// What may be exchanged.
    pub purposes: Vec<String>,
    /// The legal basis, as the parties wrote it.
    pub legal_basis: String,
    /// Start.
    pub valid_from: String,
    /// End.
    pub valid_until: String,
    /// After this the proposal can no longer be accepted.
    pub accept_by: String,
    /// The largest message, in bytes.
    pub max_message_bytes: u64,
    /// How long an undelivered message is held, in seconds.
    pub hold_s: u64,
    /// How long a received message may be kept, in words; empty if the terms say nothing.
    pub retention: String,
    /// The agreed rate, in words; empty if the terms say nothing.
    pub rate: String,
    /// Controls that the receiver must have.
    pub controls: Vec<String>,
    /// Whom to call when it is urgent.
    pub urgent_contact: String,
    /// Whether each node forwards connections for the other.
    #[serde(default)]
    pub relay: bool,
}

/// Propose an agreement to each of the entities whose cards are given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProposeRequest {
    /// Armoured cards.
    pub cards: Vec<String>,
    /// Terms as TOML; the defaults without it.
    pub terms_toml: Option<String>,
    /// The fingerprint that the operator was told; only with one card.
    pub fingerprint: Option<String>,
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
    /// The bundle that these proposals belong to.
    #[serde(default)]
    pub bundle: Option<String>,
}

/// A proposal that was signed and is durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// The agreement in short.
    #[serde(flatten)]
    pub summary: AgreementSummary,
    /// The armoured proposal.
    pub file: String,
}

/// Countersign a proposal.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AcceptRequest {
    /// The armoured proposal.
    pub file: String,
    /// The fingerprint that the operator was told.
    pub fingerprint: Option<String>,
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
}

/// A proposal that was countersigned and is durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The agreement in short.
    #[serde(flatten)]
    pub summary: AgreementSummary,
    /// The armoured agreement.
    pub file: String,
    /// Whether the proposer's node has it.
    pub delivered: bool,
    /// What happened, for people: delivered, or why the file must be mailed.
    pub note: String,
}

/// Take in an agreement that both have signed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportRequest {
    /// The armoured agreement.
    pub file: String,
    /// The fingerprint that the operator was told.
    pub fingerprint: Option<String>,
}

/// An armoured record as the answer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ArmouredFile {
    /// The armoured text.
    pub file: String,
}

/// Offer another version of the terms.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AmendRequest {
    /// Terms as TOML; what is left out stays as it is.
    pub terms_toml: String,
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
}

/// Offer the same terms for longer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RenewRequest {
    /// Until when: a date, a time, or a time span from now; without it as much longer as the terms have run or will run,
    /// at most a year.
    pub until: Option<String>,
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
}

/// Countersign the amendment that the counterpart offers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AcceptAmendmentRequest {
    /// Hash of the terms that were looked at, in hexadecimal; another offer that came meanwhile is not signed.
    pub hash: String,
    /// The counterpart's fingerprint as the operator was told it.
    pub fingerprint: Option<String>,
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
}

/// Compare a fingerprint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VerifyRequest {
    /// The counterpart's fingerprint as the operator was told it.
    pub fingerprint: String,
}
