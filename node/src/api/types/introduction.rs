//! Introductions and bundles as the local API shows and makes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AgreementState, AgreementSummary, Signing};

/// Get the card of an entity through a steward or a common partner.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CardRequest {
    /// Whose card: an entity id; where the introducer is a steward also a number or name in its directory.
    pub to: String,
    /// The introducer: id, number or name of a counterpart.
    pub via: String,
    /// Seconds to wait for the answer, at most 300.
    #[serde(default)]
    pub wait_s: u64,
}

/// A card that came through an introducer. Its fingerprint was not compared.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CardAnswer {
    /// Entity id.
    pub entity: String,
    /// Name.
    pub name: String,
    /// Registered number.
    pub number: String,
    /// Fingerprint in words.
    pub fingerprint: String,
    /// The card, armoured.
    pub card: String,
}

/// Propose an agreement to the entity of each card, through an introducer who cannot read it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IntroduceRequest {
    /// The introducer: id, number or name of a counterpart.
    pub via: String,
    /// Armoured cards.
    pub cards: Vec<String>,
    /// Terms as TOML; the defaults without it.
    #[serde(default)]
    pub terms_toml: Option<String>,
    /// The fingerprint that the operator was told; only with one card.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The bundle that these proposals belong to.
    #[serde(default)]
    pub bundle: Option<String>,
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
}

/// What was done about one card.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IntroducedProposal {
    /// Entity id.
    pub entity: String,
    /// Name in the card.
    pub name: String,
    /// Registered number in the card.
    pub number: String,
    /// What was done.
    pub outcome: IntroducedOutcome,
    /// The proposal or agreement, if there is one.
    pub agreement: Option<String>,
    /// Why it was not proposed, for people; else empty.
    pub note: String,
}

/// What was done about one card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntroducedOutcome {
    /// A proposal was signed and leaves through the introducer.
    Proposed,
    /// One that was open already leaves once more.
    SentAgain,
    /// There is an agreement already.
    AgreedAlready,
    /// It could not be proposed.
    Failed,
}

/// Something that came through an introducer, or that this entity asked for through one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Introduction {
    /// What `pakt introduce answer` and `decline` take: an entity id for a card, an agreement id for a proposal.
    pub id: String,
    /// Which way it went.
    pub direction: IntroductionDirection,
    /// What it is.
    pub kind: IntroductionKind,
    /// The other entity's id.
    pub entity: String,
    /// Its name, where its card is known.
    pub name: Option<String>,
    /// Its registered number, where its card is known.
    pub number: Option<String>,
    /// Its fingerprint in words; not compared.
    pub fingerprint: String,
    /// The introducer's name.
    pub via: String,
    /// When it was asked, sent or came.
    pub at: String,
    /// How far it is: `waiting`, `given`, `arrived`, `accepted`, `declined`, `not_passed_on`.
    pub state: String,
}

/// Which way an introduction went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntroductionDirection {
    /// It came.
    In,
    /// This entity began it.
    Out,
}

/// What an introduction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntroductionKind {
    /// A card is wanted.
    Card,
    /// An agreement is proposed.
    Proposal,
}

/// Countersign a proposal that came through an introducer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct AcceptReceived {
    /// The fingerprint that the operator was told.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// How the root is opened.
    #[serde(default)]
    pub signing: Signing,
}

/// How far the proposals of one bundle are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Bundle {
    /// Its name.
    pub name: String,
    /// All of them.
    pub total: usize,
    /// Those that wait for the other side.
    pub proposed: usize,
    /// Those in force.
    pub active: usize,
    /// Those that the other side declined.
    pub declined: usize,
    /// Those that were not accepted in time, or whose time is over.
    pub expired: usize,
    /// Those that are ended, suspended or anything else.
    pub other: usize,
    /// Those whose counterpart is online.
    pub online: usize,
    /// Those whose fingerprint was compared.
    pub verified: usize,
    /// Each of them.
    pub agreements: Vec<BundleMember>,
}

/// One proposal or agreement of a bundle.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BundleMember {
    /// The agreement in short.
    #[serde(flatten)]
    pub summary: AgreementSummary,
    /// Whether its counterpart is online.
    pub online: bool,
    /// What stands in the way, for people; else empty.
    pub note: String,
}

impl Bundle {
    /// Counts one more.
    pub fn add(&mut self, member: BundleMember) {
        self.total += 1;
        match member.summary.state {
            AgreementState::Proposed => self.proposed += 1,
            AgreementState::Active => self.active += 1,
            AgreementState::Declined => self.declined += 1,
            AgreementState::Expired => self.expired += 1,
            _ => self.other += 1,
        }
        self.online += usize::from(member.online);
        self.verified += usize::from(member.summary.verified);
        self.agreements.push(member);
    }
}
