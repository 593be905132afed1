//! What can go wrong with the book, each with what to do about it.
//!
//! **Invariant:** no message holds a name, a number or a text that the caller did not type.

use pakt_protocol::agreement::LifeError;
use pakt_protocol::armour::ArmourError;
use pakt_protocol::codec::CodecError;
use pakt_protocol::door::FlightError;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::RecordError;
use pakt_protocol::record::chain::ChainError;

use crate::slots::SlotsError;
use crate::store::StoreError;

/// Why the book did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// There is no such agreement.
    #[error("there is no such agreement: 'pakt agreement list' shows those that exist")]
    Unknown,
    /// The file is no armoured record of the kind that is needed.
    #[error(transparent)]
    Armour(#[from] ArmourError),
    /// A record is not valid.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The card is this entity's own.
    #[error("this is this entity's own card: an agreement needs the counterpart's")]
    OwnCard,
    /// The proposal is this entity's own.
    #[error("this entity made the proposal itself: send it to the counterpart, who accepts it")]
    OwnProposal,
    /// The record names other parties.
    #[error("the agreement is between other entities: nothing to sign here")]
    NotForUs,
    /// The record names this entity otherwise than it names itself, or with keys that were replaced.
    #[error(
        "it was made from an outdated card of this entity: send the current one ('pakt card') and ask for a new one"
    )]
    OutdatedCard,
    /// Both have signed already.
    #[error("the agreement is signed by both already: use 'pakt agreement import'")]
    AlreadySigned,
    /// Only one has signed.
    #[error("the counterpart has not signed it: only a countersigned agreement can be imported")]
    NotCountersigned,
    /// The time for accepting is over.
    #[error("the time for accepting this proposal is over: ask for a new proposal")]
    AcceptByPassed,
    /// One side has ended it.
    #[error("this agreement has ended: propose a new one")]
    Ended,
    /// A newer version counts.
    #[error("a newer version of this agreement counts here: 'pakt agreement export' gives its file")]
    Older,
    /// The statement cannot be made now.
    #[error("the agreement is suspended by this side already: 'pakt agreement resume' takes that back")]
    AlreadySuspended,
    /// There is nothing to resume.
    #[error("this side has not suspended the agreement: only the side that did resumes it")]
    NotSuspended,
    /// The agreement is not one that both have signed and neither has ended.
    #[error("the agreement is only proposed: withdraw the proposal and make another one")]
    NotActive,
    /// The operator must confirm it first.
    #[error("the agreement came out of a backup: look at it, then 'pakt agreement confirm'")]
    Unconfirmed,
    /// There is nothing to confirm.
    #[error("there is nothing to confirm: the agreement did not come out of a backup")]
    NothingToConfirm,
    /// There is no own proposal or offer.
    #[error("there is nothing to withdraw: this side has neither proposed nor offered anything that is open")]
    NothingToWithdraw,
    /// The counterpart offers nothing.
    #[error("the counterpart offers no amendment of this agreement: 'pakt agreement list' shows what is offered")]
    NothingOffered,
    /// The offer was taken back.
    #[error("the counterpart has withdrawn this offer: ask for a new one")]
    Withdrawn,
    /// The amendment follows other terms than those that count.
    #[error("the amendment follows other terms than those that count here: ask for one that follows these")]
    OtherBase,
    /// The root has signed another text under this number.
    #[error("this entity has signed another text as version {0}: offer an amendment yourself, it gets the next number")]
    SignedOther(u32),
    /// The amendment says what is agreed already.
    #[error("this is what is agreed already: change something in the terms")]
    NothingChanged,
    /// Something else changed the agreement meanwhile.
    #[error("the agreement was changed meanwhile: look at it and try again")]
    ChangedMeanwhile,
    /// An active agreement with the same entity or number exists.
    #[error("there is an active agreement with this entity or registered number already ({0}): end it first")]
    SecondAgreement(AgreementId),
    /// The file has no door grant for this node, or one that its contact key does not open.
    #[error("the file holds no door grant that this node can open: ask for a new proposal made from the current card")]
    NoGrant,
    /// The counterpart's certificates do not continue those that are known.
    #[error(transparent)]
    Hello(#[from] HelloProblem),
    /// There is no such group.
    #[error("there is no such group: 'pakt group list' shows those that exist")]
    NoSuchGroup,
    /// A group of this name exists.
    #[error("a group of this name exists already")]
    GroupExists,
    /// No further group fits a roster.
    #[error("there are 1,000 groups already, no roster holds more")]
    TooManyGroups,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key slots failed.
    #[error(transparent)]
    Slots(#[from] SlotsError),
}

impl From<CodecError> for BookError {
    fn from(error: CodecError) -> BookError {
        BookError::Record(error.into())
    }
}

impl From<LifeError> for BookError {
    fn from(error: LifeError) -> BookError {
        match error {
            LifeError::Record(error) => BookError::Record(error),
            LifeError::ChangedMeanwhile => BookError::ChangedMeanwhile,
            LifeError::Ended => BookError::Ended,
            LifeError::NotCountersigned => BookError::NotCountersigned,
            LifeError::NotForUs => BookError::NotForUs,
            LifeError::NothingOffered => BookError::NothingOffered,
            LifeError::OtherBase => BookError::OtherBase,
            LifeError::AcceptByPassed => BookError::AcceptByPassed,
            LifeError::SignedOther(version) => BookError::SignedOther(version),
        }
    }
}

impl BookError {
    /// What the counterpart may learn.
    pub fn for_peer(&self) -> &'static str {
        match self {
            BookError::AcceptByPassed => "the time for accepting this proposal is over",
            BookError::Ended => "the agreement has ended",
            BookError::Store(_) | BookError::Slots(_) => "the agreement could not be stored",
            _ => "this is not the agreement that was proposed",
        }
    }
}

/// Why a counterpart or a group was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No agreement, id, number or name fits.
    #[error("there is no agreement with this counterpart: 'pakt agreement list' and 'pakt peers' show those known")]
    Unknown,
    /// More than one fits.
    #[error("this fits more than one counterpart or agreement: use the entity id or the registered number")]
    Ambiguous,
    /// The recipient has no slash.
    #[error("a recipient is written ENTITY/GROUP")]
    NoGroup,
    /// The group is hidden, or does not exist.
    #[error("the counterpart shows no such group: 'pakt peers' lists its groups")]
    UnknownGroup,
    /// The counterpart was never online.
    #[error("the groups of this counterpart are not known yet: it has never been online since the agreement was made")]
    NoRoster,
}

/// Why no flight can be sent.
#[derive(Debug, thiserror::Error)]
pub enum FlightProblem {
    /// This node holds no grant for the counterpart's door.
    #[error("the counterpart has granted no way through its door yet")]
    NoGrant,
    /// The counter could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ClientHello does not fit.
    #[error(transparent)]
    Flight(#[from] FlightError),
}

/// Why a counterpart's first frame is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloProblem {
    /// There is no agreement whose door is open.
    #[error("there is no agreement with this counterpart, or it no longer allows a connection")]
    NoAgreement,
    /// The chain does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The chain is another entity's.
    #[error("the node belongs to another entity than the one of this agreement")]
    OtherEntity,
    /// The chain contradicts the one that is known.
    #[error("the counterpart's certificates contradict those known: call the counterpart before anything else is sent")]
    Forked,
    /// A newer certificate is known.
    #[error("the counterpart shows a certificate that it has replaced since")]
    Superseded,
    /// The counterpart's root that signed was replaced by its successor since.
    #[error("the counterpart has replaced the root that signed this: ask for one that its present root has signed")]
    ReplacedRoot,
    /// The certificate is for another key than the one proven in TLS.
    #[error("the counterpart's certificate is for another key than the one it holds")]
    OtherKey,
    /// The counterpart speaks newer protocol versions only.
    #[error("the counterpart speaks only newer protocol versions: upgrade this node")]
    PeerNewer,
    /// The counterpart speaks older protocol versions only.
    #[error("the counterpart speaks only older protocol versions: it must upgrade")]
    PeerOlder,
}
