//! One agreement as this node sees it: read from its row, with what is known about the counterpart. What it allows,
//! [`pakt_protocol::agreement`] decides.

use super::rows::AgreementRow;
use pakt_keys::EntityId;
use pakt_protocol::agreement::{AgreementView, Standing};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::policy::Footing;
use pakt_protocol::record::RecordError;
use pakt_protocol::record::address::Address;
use pakt_protocol::record::agreement::{AgreementFile, AgreementRecord, AgreementTerms, Party, Side};
use pakt_protocol::record::card::SignedCard;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode};
use pakt_protocol::record::roster::Roster;
use pakt_protocol::record::statement::{Stated, StatementChain};
use pakt_protocol::time::Time;

/// How far an agreement is, in the words that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgreementState {
    /// The countersignature is awaited.
    Proposed,
    /// Signed by both; perhaps its time has not begun.
    Active,
    /// Suspended by one side or both.
    Suspended,
    /// Ended by one side.
    Ended,
    /// Its time is over, or that of the proposal.
    Expired,
    /// Restored from a backup and not confirmed by the operator.
    Unconfirmed,
}

impl AgreementState {
    /// The word in JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            AgreementState::Proposed => "proposed",
            AgreementState::Active => "active",
            AgreementState::Suspended => "suspended",
            AgreementState::Ended => "ended",
            AgreementState::Expired => "expired",
            AgreementState::Unconfirmed => "unconfirmed",
        }
    }
}

/// A later version that one side has signed.
#[derive(Debug, Clone)]
pub struct Amendment {
    /// The file, as it is mailed and shown.
    pub file: AgreementFile,
    /// What is offered.
    pub terms: AgreementTerms,
}

impl Amendment {
    fn of(file: &AgreementFile) -> Result<Amendment, RecordError> {
        Ok(Amendment { terms: file.record.peek()?, file: file.clone() })
    }

    /// The hash of the offered terms.
    pub fn hash(&self) -> [u8; 32] {
        self.file.record.hash()
    }
}

/// One agreement and what is known about its counterpart.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Its name.
    pub id: AgreementId,
    /// The signed record.
    pub record: AgreementRecord,
    /// What was agreed.
    pub terms: AgreementTerms,
    /// Which side this node is.
    pub side: Side,
    /// How far it is.
    pub standing: Standing,
    /// Whether the operator has compared the counterpart's fingerprint.
    pub verified: bool,
    /// The countersigned file (codec bytes) until the proposer has confirmed it.
    pub contact: Option<Vec<u8>>,
    /// Whether it came out of a backup and the operator has not confirmed it.
    pub unconfirmed: bool,
    /// This side's statements.
    pub own: StatementChain,
    /// How many of them the counterpart has confirmed.
    pub own_known: u64,
    /// The counterpart's statements.
    pub peer: StatementChain,
    /// When the terms began to count here.
    pub version_at: Time,
    /// Whether the counterpart has confirmed that they count.
    pub version_known: bool,
    /// Whether two different texts or statements were signed where one was allowed.
    pub forked: bool,
    /// The amendment that this side offers.
    pub offered: Option<Amendment>,
    /// Whether the counterpart holds that offer.
    pub offer_known: bool,
    /// The amendment that the counterpart offers.
    pub received: Option<Amendment>,
    /// Whether nothing more has to be said about the end.
    pub end_confirmed: bool,
    /// When the end was stated or learned.
    pub ended_at: Option<Time>,
    /// The newest certificate chain seen of the counterpart.
    pub chain: CertificateChain,
    /// What that chain certifies.
    pub node: CertifiedNode,
    /// Where the counterpart can be dialled.
    pub addresses: Vec<Address>,
    /// When it told these addresses; none while they are those of its card.
    pub addresses_told_at: Option<Time>,
    /// The newest roster of the counterpart.
    pub roster: Option<Roster>,
    /// When a lane to the counterpart last came up.
    pub last_contact: Option<Time>,
    /// The counterpart's clock minus this one's at that time, in seconds.
    pub clock_difference_s: Option<i64>,
    /// The proposer's card as in the agreement file.
    pub proposer_card: SignedCard,
    /// The acceptor's card as in the agreement file.
    pub acceptor_card: SignedCard,
    /// When this node made or took up the agreement.
    pub made_at: Time,
    /// When the counterpart's certificates were found to contradict each other; nothing is exchanged since.
    pub frozen_at: Option<Time>,
    /// Generation and highest serial known of the counterpart's root before the current one.
    pub(super) outrun: Option<(u32, u64)>,
    /// Its transport keys before the current one.
    pub(super) former: Vec<[u8; 32]>,
    holds_grant: bool,
}

impl Agreement {
    /// The other party, as the agreement names it.
    pub fn counterpart(&self) -> &Party {
        self.terms.party(self.side.other())
    }

    /// This party, as the agreement names it.
    pub fn own_party(&self) -> &Party {
        self.terms.party(self.side)
    }

    /// The counterpart's card as in the agreement file.
    pub fn counterpart_card(&self) -> &SignedCard {
        match self.side {
            Side::Proposer => &self.acceptor_card,
            Side::Acceptor => &self.proposer_card,
        }
    }

    /// Whether messages may go either way at `now`.
    pub fn in_force(&self, now: Time) -> bool {
        self.footing(now) == Footing::InForce
    }

    /// Whether anything may be exchanged at `now`, and if not, why.
    pub fn footing(&self, now: Time) -> Footing {
        self.view().footing(now)
    }

    /// What decides what it allows.
    pub fn view(&self) -> AgreementView {
        AgreementView {
            standing: self.standing,
            is_complete: self.record.is_complete(),
            own: self.own.stated(),
            peer: self.peer.stated(),
            held_back: self.unconfirmed || self.frozen_at.is_some(),
            accept_by: self.terms.accept_by,
            valid_from: self.terms.valid_from,
            valid_until: self.terms.valid_until,
            offered_until: self.offered.as_ref().map(|offered| offered.terms.valid_until),
            ended_at: self.ended_at,
            end_confirmed: self.end_confirmed,
            holds_grant: self.holds_grant,
        }
    }

    /// How far it is at `now`, for people.
    pub fn state_for_people(&self, now: Time) -> AgreementState {
        match (self.standing, self.footing(now)) {
            (Standing::Ended, _) => AgreementState::Ended,
            (Standing::Proposed, _) if now > self.terms.accept_by => AgreementState::Expired,
            (Standing::Proposed, _) => AgreementState::Proposed,
            (_, Footing::Unconfirmed) => AgreementState::Unconfirmed,
            (_, Footing::Expired) => AgreementState::Expired,
            (_, Footing::Suspended) => AgreementState::Suspended,
            (_, Footing::None) => AgreementState::Ended,
            (_, Footing::InForce | Footing::NotBegun) => AgreementState::Active,
        }
    }

    /// Since when this side has suspended it.
    pub fn suspended_here(&self) -> Option<Time> {
        suspended(&self.own)
    }

    /// Since when the counterpart has suspended it.
    pub fn suspended_there(&self) -> Option<Time> {
        suspended(&self.peer)
    }

    /// Whether this side has ended it.
    pub fn ended_here(&self) -> bool {
        matches!(self.own.stated(), Stated::Ended(_))
    }

    /// Whether the counterpart's node has this transport key, or had it before it was replaced.
    pub fn had_transport(&self, key: &[u8; 32]) -> bool {
        self.node.transport.0 == *key || self.former.contains(key)
    }

    /// Whether the counterpart may come in at `now`, if only to bring its signature or to hear of the end.
    pub fn door_open(&self, now: Time) -> bool {
        self.view().door_open(now)
    }

    /// Whether this node has a reason and a secret to dial the counterpart at `now`.
    pub fn should_dial(&self, now: Time) -> bool {
        self.view().should_dial(now)
    }

    /// Whether the door table needs a row, whatever the clock shows.
    pub(super) fn has_door(&self) -> bool {
        !self.unconfirmed
    }

    /// Sorts the agreements with one entity by which of them counts.
    pub(super) fn rank(&self) -> (bool, Time) {
        (self.standing == Standing::Active, self.made_at)
    }

    /// Whether it is signed by both, not ended, and its time is not over at `now`.
    pub(super) fn occupies(&self, entity: &EntityId, number: &str, now: Time) -> bool {
        let other = self.counterpart();
        let same = other.entity == *entity || other.number == number;
        same && self.standing == Standing::Active && now < self.terms.valid_until
    }

    pub(super) fn of_row(row: &AgreementRow) -> Result<Agreement, RecordError> {
        let AgreementFile { record, proposer, acceptor, .. } = &row.life.file;
        let life = &row.life;
        let terms = record.peek()?;
        let card = match life.side {
            Side::Proposer => acceptor,
            Side::Acceptor => proposer,
        };
        Ok(Agreement {
            id: record.id,
            record: record.clone(),
            terms,
            side: life.side,
            standing: life.standing,
            verified: life.verified,
            contact: life.contact_pending.then(|| life.file.to_bytes()),
            unconfirmed: life.unconfirmed,
            own: life.statements.own.clone(),
            own_known: life.statements.own_known,
            peer: life.statements.peer.clone(),
            version_at: life.version_at,
            version_known: life.version_known,
            forked: life.forked || life.statements.forked,
            offered: life.offered.as_ref().map(Amendment::of).transpose()?,
            offer_known: life.offer_known,
            received: life.received.as_ref().map(Amendment::of).transpose()?,
            end_confirmed: life.statements.end_confirmed,
            ended_at: life.statements.ended_at,
            chain: life.chain.clone(),
            node: life.chain.verify()?,
            addresses: card.peek()?.addresses,
            addresses_told_at: None,
            roster: None,
            last_contact: None,
            clock_difference_s: None,
            proposer_card: proposer.clone(),
            acceptor_card: acceptor.clone(),
            made_at: row.made_at,
            frozen_at: None,
            outrun: None,
            former: vec![],
            holds_grant: !row.held.is_empty(),
        })
    }

    /// What is stored beside the row stays as it is.
    pub(super) fn with_what_the_row_lacks(self, before: &Agreement) -> Agreement {
        let told = before.addresses_told_at.is_some();
        Agreement {
            addresses: if told { before.addresses.clone() } else { self.addresses },
            addresses_told_at: before.addresses_told_at,
            roster: before.roster.clone(),
            last_contact: before.last_contact,
            clock_difference_s: before.clock_difference_s,
            frozen_at: before.frozen_at,
            outrun: before.outrun,
            former: before.former.clone(),
            ..self
        }
    }
}

fn suspended(party: &StatementChain) -> Option<Time> {
    match party.stated() {
        Stated::Suspended(at) => Some(at),
        Stated::Open | Stated::Ended(_) => None,
    }
}
