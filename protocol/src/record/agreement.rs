//! The agreement: terms signed by the roots of both entities. The only door into a node.
//!
//! ```text
//! terms --proposer's root--> proposal file --acceptor's root--> agreement record (both signatures)
//! ```
//! A proposal and a complete agreement travel as the same [`AgreementFile`]: the terms, one or two signature lists,
//! the sender's card and the sender's door grant for the counterpart.
//!
//! An amendment is a further version of the terms. Either party signs it first, and it names the hash of the terms that
//! it replaces; it counts once both have signed ([`succession`]).
//!
//! **Invariants:** name and number of both parties are those of the terms, whatever a later card says; versions never go
//! back.

use std::cmp::Ordering;

use pakt_keys::EntityId;
use pakt_keys::codec;
use pakt_keys::signing::{Domain, RootKey, Signature};
use serde::{Deserialize, Serialize};

use super::card::{Card, CardBody, SignedCard, check_entity_name, check_number};
use super::chain::CertifiedNode;
use super::grant::DoorGrant;
use super::{Record, RecordError, Signed, check_text};
use crate::controls::Control;
use crate::ids::AgreementId;
use crate::time::Time;

/// Hold times may not be longer than this: a sender must learn of a failure within two days.
pub const HOLD_SECONDS_MAX: u32 = 48 * 3600;
/// Hold times may not be shorter than this.
pub const HOLD_SECONDS_MIN: u32 = 60;
/// Purposes, and receiver controls, that one agreement may name.
pub const LIST_ENTRIES_MAX: usize = 32;
/// Bytes of a purpose, control, legal basis or urgent contact.
pub const CLAUSE_BYTES_MAX: usize = 500;

/// One of the two entities, as the agreement knows it for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its inception root's id.
    pub entity: EntityId,
    /// Its name.
    pub name: String,
    /// Its registered number.
    pub number: String,
}

/// What both entities sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementTerms {
    /// Who proposed version 1.
    pub proposer: Party,
    /// Who was asked.
    pub acceptor: Party,
    /// 1 for the first terms, higher for each amendment. A number is signed for one text only, so that numbers are left
    /// out where an offer was not accepted.
    pub version: u32,
    /// Hash of the terms that these replace; none in version 1.
    pub previous: Option<[u8; 32]>,
    /// In version 1 random, so that the agreement's id is unique; in every later version that id.
    pub nonce: [u8; 32],
    /// The proposal is void afterwards.
    pub accept_by: Time,
    /// What messages may be for; empty for any purpose.
    pub purposes: Vec<String>,
    /// The law or contract that the exchange rests on.
    pub legal_basis: String,
    /// No traffic before.
    pub valid_from: Time,
    /// No traffic afterwards.
    pub valid_until: Time,
    /// Plain bytes of one message, at most.
    pub message_bytes_max: u64,
    /// Seconds that a sender tries before it reports non-delivery.
    pub hold_seconds: u32,
    /// Seconds that the receiver keeps a message at least; none if not agreed.
    pub retention_seconds: Option<u64>,
    /// Messages per hour in each direction, at most; none for no limit.
    pub messages_per_hour: Option<u32>,
    /// Controls that the receiver must attest, by name.
    pub controls: Vec<String>,
    /// Whom to call when something is urgent.
    pub urgent_contact: String,
    /// Whether each node forwards connections for the other.
    pub relay: bool,
}

impl Record for AgreementTerms {
    const DOMAIN: Domain = Domain::AgreementTerms;
    const BYTES_MAX: usize = 64 << 10;
}

impl AgreementTerms {
    /// Checks every clause by itself and the parties against each other.
    ///
    /// # Errors
    /// [`RecordError::Field`] or [`RecordError::Parties`].
    pub fn check(&self) -> Result<(), RecordError> {
        for party in [&self.proposer, &self.acceptor] {
            check_entity_name(&party.name)?;
            check_number(&party.number)?;
        }
        if self.proposer.entity == self.acceptor.entity || self.proposer.number == self.acceptor.number {
            return Err(RecordError::Parties("an agreement is between two different entities"));
        }
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return Err(RecordError::Field("version 1 has no previous terms, every later version names them"));
        }
        if self.valid_from >= self.valid_until {
            return Err(RecordError::Field("valid_until must be later than valid_from"));
        }
        if !(HOLD_SECONDS_MIN..=HOLD_SECONDS_MAX).contains(&self.hold_seconds) {
            return Err(RecordError::Field("hold must be between 1 minute and 48 hours"));
        }
        if self.message_bytes_max == 0 {
            return Err(RecordError::Field("max_message must not be 0"));
        }
        if self.messages_per_hour == Some(0) || self.retention_seconds == Some(0) {
            return Err(RecordError::Field("rate and retention must not be 0"));
        }
        self.check_texts()
    }

    fn check_texts(&self) -> Result<(), RecordError> {
        for list in [&self.purposes, &self.controls] {
            let sorted = list.windows(2).all(|pair| pair[0] < pair[1]);
            if list.len() > LIST_ENTRIES_MAX
                || !sorted
                || list.iter().any(|text| text.trim() != text || text.is_empty())
            {
                return Err(RecordError::Field(
                    "purposes and controls are at most 32 words each, in order, none twice",
                ));
            }
        }
        if self.controls.iter().any(|word| Control::named(word).is_none()) {
            return Err(RecordError::Field(
                "controls are malware-scan, journal or retention: no other can be attested",
            ));
        }
        let all = self.purposes.iter().chain(&self.controls).chain([&self.legal_basis, &self.urgent_contact]);
        for text in all {
            check_text(text, CLAUSE_BYTES_MAX, "a clause has at most 500 bytes and no control characters")?;
        }
        Ok(())
    }

    /// The agreement's name, from its version 1 terms.
    pub fn id_of_first(body: &[u8]) -> AgreementId {
        AgreementId(blake3::derive_key("pakt agreement v1", body))
    }

    /// The name of the agreement that these terms, encoded as `body`, belong to.
    fn id(&self, body: &[u8]) -> AgreementId {
        if self.version == 1 { AgreementTerms::id_of_first(body) } else { AgreementId(self.nonce) }
    }
}

/// The hash of a terms body: what later versions, receipts and fingerprints speak of.
pub fn terms_hash(body: &[u8]) -> [u8; 32] {
    blake3::derive_key("pakt agreement terms v1", body)
}

/// Terms with the signatures of one or both roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementRecord {
    /// The agreement's name; equals [`AgreementTerms::id_of_first`] of version 1.
    pub id: AgreementId,
    terms: Vec<u8>,
    proposer: Option<Vec<Signature>>,
    acceptor: Option<Vec<Signature>>,
}

/// Which of the two parties an entity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Proposed version 1.
    Proposer,
    /// Was asked.
    Acceptor,
}

impl AgreementRecord {
    /// Version 1 terms, signed by the proposer's root.
    ///
    /// # Errors
    /// Those of [`AgreementTerms::check`].
    pub fn propose(terms: &AgreementTerms, root: &RootKey) -> Result<AgreementRecord, RecordError> {
        AgreementRecord::offer(terms, Side::Proposer, root)
    }

    /// Terms of any version, signed by the root of one side.
    ///
    /// # Errors
    /// Those of [`AgreementTerms::check`].
    pub fn offer(terms: &AgreementTerms, side: Side, root: &RootKey) -> Result<AgreementRecord, RecordError> {
        terms.check()?;
        let body = codec::encode(AgreementTerms::VERSION, terms);
        let id = terms.id(&body);
        let record = AgreementRecord { id, terms: body, proposer: None, acceptor: None };
        Ok(record.signed_as(side, root))
    }

    /// Adds the signature of the side that has not signed.
    pub fn countersign(&self, root: &RootKey) -> AgreementRecord {
        let side = if self.proposer.is_none() { Side::Proposer } else { Side::Acceptor };
        self.clone().signed_as(side, root)
    }

    fn signed_as(mut self, side: Side, root: &RootKey) -> AgreementRecord {
        let signatures = Some(root.sign(Domain::AgreementTerms, &self.terms));
        match side {
            Side::Proposer => self.proposer = signatures,
            Side::Acceptor => self.acceptor = signatures,
        }
        self
    }

    /// Whether both signatures are there.
    pub fn is_complete(&self) -> bool {
        self.has_signed(Side::Proposer) && self.has_signed(Side::Acceptor)
    }

    /// Whether the signature of one side is there.
    pub fn has_signed(&self, side: Side) -> bool {
        self.signatures(side).is_some()
    }

    fn signatures(&self, side: Side) -> Option<&Vec<Signature>> {
        match side {
            Side::Proposer => self.proposer.as_ref(),
            Side::Acceptor => self.acceptor.as_ref(),
        }
    }

    /// The hash that receipts and later versions name.
    pub fn hash(&self) -> [u8; 32] {
        terms_hash(&self.terms)
    }

    /// The terms, unverified: only to find out whose roots must have signed.
    ///
    /// # Errors
    /// [`RecordError::Codec`].
    pub fn peek(&self) -> Result<AgreementTerms, RecordError> {
        Ok(codec::decode(AgreementTerms::VERSION, &self.terms, AgreementTerms::BYTES_MAX)?)
    }

    /// Checks the signature of one side.
    ///
    /// # Errors
    /// Any [`RecordError`].
    pub fn verify_side(&self, side: Side, node: &CertifiedNode) -> Result<AgreementTerms, RecordError> {
        let terms = self.peek()?;
        terms.check()?;
        if terms.id(&self.terms) != self.id {
            return Err(RecordError::Field("the agreement's id is not that of its terms"));
        }
        let signatures = self.signatures(side).ok_or(RecordError::Field("the agreement is not countersigned"))?;
        if terms.party(side).entity != node.entity {
            return Err(RecordError::Parties("the signing root is not that of the named party"));
        }
        node.root.verify(Domain::AgreementTerms, &self.terms, signatures)?;
        Ok(terms)
    }

    /// Checks every signature that is there; version 1 is always signed by its proposer.
    fn verify_signed(&self, proposer: &CertifiedNode, acceptor: &CertifiedNode) -> Result<AgreementTerms, RecordError> {
        let terms = self.peek()?;
        let by_acceptor_alone =
            terms.version > 1 && !self.has_signed(Side::Proposer) && self.has_signed(Side::Acceptor);
        if by_acceptor_alone && terms.proposer.entity != proposer.entity {
            return Err(RecordError::Parties("the proposer's card is another entity's"));
        } else if !by_acceptor_alone {
            self.verify_side(Side::Proposer, proposer)?;
        }
        if terms.acceptor.entity != acceptor.entity {
            return Err(RecordError::Parties("the acceptor's card is another entity's"));
        }
        if self.has_signed(Side::Acceptor) {
            self.verify_side(Side::Acceptor, acceptor)?;
        }
        Ok(terms)
    }
}

/// How a complete record stands to the complete one that is known of the same agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// A lower version: it no longer counts.
    Older,
    /// The same terms.
    Same,
    /// It replaces the known one. `forked` says that it follows other terms than those: both roots have signed two
    /// successors of one version, or two texts under one number.
    Newer {
        /// Whether people must be alarmed.
        forked: bool,
    },
    /// Another text under the number that is known, and of the two the known one counts: people must be alarmed.
    Loses,
}

/// Compares a complete record with the complete one that is known: the higher version counts; of two texts with one
/// number the one with the lower hash.
///
/// # Errors
/// [`RecordError::Parties`] when it is not the same agreement between the same parties.
pub fn succession(known: &AgreementRecord, shown: &AgreementRecord) -> Result<Succession, RecordError> {
    let (before, terms) = (known.peek()?, shown.peek()?);
    let same_parties = before.proposer == terms.proposer && before.acceptor == terms.acceptor;
    if known.id != shown.id || !same_parties {
        return Err(RecordError::Parties("an amendment is of the same agreement between the same parties"));
    }
    let (old, new) = (known.hash(), shown.hash());
    Ok(match terms.version.cmp(&before.version) {
        Ordering::Less => Succession::Older,
        Ordering::Equal if old == new => Succession::Same,
        Ordering::Equal if new < old => Succession::Newer { forked: true },
        Ordering::Equal => Succession::Loses,
        // Versions in between may have been missed; the next number must follow the known terms.
        Ordering::Greater => {
            Succession::Newer { forked: terms.version == before.version + 1 && terms.previous != Some(old) }
        }
    })
}

impl AgreementTerms {
    /// Which side `entity` is.
    pub fn side_of(&self, entity: &EntityId) -> Option<Side> {
        if self.proposer.entity == *entity {
            Some(Side::Proposer)
        } else if self.acceptor.entity == *entity {
            Some(Side::Acceptor)
        } else {
            None
        }
    }

    /// The party on `side`.
    pub fn party(&self, side: Side) -> &Party {
        match side {
            Side::Proposer => &self.proposer,
            Side::Acceptor => &self.acceptor,
        }
    }
}

impl Side {
    /// The counterpart's side.
    pub fn other(self) -> Side {
        match self {
            Side::Proposer => Side::Acceptor,
            Side::Acceptor => Side::Proposer,
        }
    }
}

/// What a proposal file, an accepted file and an exported file hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementFile {
    /// The terms with one or two signatures.
    pub record: AgreementRecord,
    /// The proposer's card.
    pub proposer: SignedCard,
    /// The acceptor's card; it was known to the proposer.
    pub acceptor: SignedCard,
    /// Door grants, each sealed to the counterpart of its issuer.
    pub grants: Vec<Signed<DoorGrant>>,
}

/// Bytes of an agreement file, at most: the terms, two cards, two grants.
pub const AGREEMENT_FILE_BYTES_MAX: usize = 320 << 10;

/// An agreement file whose every part was checked.
#[derive(Debug, Clone)]
pub struct VerifiedFile {
    /// The record.
    pub record: AgreementRecord,
    /// Its terms.
    pub terms: AgreementTerms,
    /// The proposer's card.
    pub proposer: Card,
    /// The acceptor's card.
    pub acceptor: Card,
    /// The grants with their issuer's statement.
    pub grants: Vec<DoorGrant>,
}

impl VerifiedFile {
    /// The card of one side.
    pub fn card_of(&self, side: Side) -> &Card {
        match side {
            Side::Proposer => &self.proposer,
            Side::Acceptor => &self.acceptor,
        }
    }
}

impl AgreementFile {
    /// The card of one side.
    pub fn card_of(&self, side: Side) -> &SignedCard {
        match side {
            Side::Proposer => &self.proposer,
            Side::Acceptor => &self.acceptor,
        }
    }

    /// The bytes that go into armour.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(1, self)
    }

    /// Reads and checks a file: both cards, every signature that is there, parties, grants.
    ///
    /// # Errors
    /// Any [`RecordError`].
    pub fn verify(bytes: &[u8]) -> Result<VerifiedFile, RecordError> {
        let file: AgreementFile = codec::decode(1, bytes, AGREEMENT_FILE_BYTES_MAX)?;
        let proposer = Card::verify(&file.proposer)?;
        let acceptor = Card::verify(&file.acceptor)?;
        let terms = file.record.verify_signed(&proposer.node, &acceptor.node)?;
        check_party(&terms.proposer, &proposer.body)?;
        check_party(&terms.acceptor, &acceptor.body)?;
        let grants = verify_grants(&file, &proposer.node, &acceptor.node)?;
        Ok(VerifiedFile { record: file.record, terms, proposer, acceptor, grants })
    }
}

fn check_party(party: &Party, card: &CardBody) -> Result<(), RecordError> {
    if party.name != card.name || party.number != card.number {
        return Err(RecordError::Parties("the terms name a party otherwise than its card"));
    }
    Ok(())
}

fn verify_grants(
    file: &AgreementFile,
    proposer: &CertifiedNode,
    acceptor: &CertifiedNode,
) -> Result<Vec<DoorGrant>, RecordError> {
    if file.grants.len() > 2 {
        return Err(RecordError::Field("an agreement file holds at most one door grant of each side"));
    }
    let mut grants: Vec<DoorGrant> = Vec::with_capacity(2);
    for signed in &file.grants {
        let issuer = signed.peek()?.issuer;
        let (node, other) = if issuer == proposer.entity { (proposer, acceptor) } else { (acceptor, proposer) };
        let grant = node.open_statement(signed)?;
        if grant.issuer != node.entity || grant.holder != other.entity || grant.agreement != file.record.id {
            return Err(RecordError::Parties("a door grant is not of this agreement"));
        }
        if grants.iter().any(|known| known.issuer == grant.issuer) {
            return Err(RecordError::Field("two door grants of one side"));
        }
        grants.push(grant);
    }
    Ok(grants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{Party as TestParty, agree};

    #[test]
    fn p4_both_roots_and_their_entities_are_bound() {
        let (a, b, c) = (TestParty::new(1), TestParty::new(2), TestParty::new(3));
        let file = agree(&a, &b);
        assert!(AgreementFile::verify(&file.to_bytes()).is_ok());

        let mut one_signature = file.clone();
        one_signature.record.acceptor = None;
        assert!(!AgreementFile::verify(&one_signature.to_bytes()).expect("a proposal").record.is_complete());

        let mut swapped = file.clone();
        std::mem::swap(&mut swapped.proposer, &mut swapped.acceptor);
        assert!(matches!(AgreementFile::verify(&swapped.to_bytes()), Err(RecordError::Parties(_))));

        let mut foreign_card = file.clone();
        foreign_card.acceptor = c.card_body().sign(&c.statement).expect("valid");
        assert!(matches!(AgreementFile::verify(&foreign_card.to_bytes()), Err(RecordError::Parties(_))));

        let mut foreign_signature = file.clone();
        foreign_signature.record = file.record.countersign(&c.root);
        assert!(matches!(AgreementFile::verify(&foreign_signature.to_bytes()), Err(RecordError::Signature(_))));

        let mut own_signature_twice = file.clone();
        own_signature_twice.record = file.record.countersign(&a.root);
        assert!(matches!(AgreementFile::verify(&own_signature_twice.to_bytes()), Err(RecordError::Signature(_))));

        let mut other_domain = file.clone();
        other_domain.record.proposer = Some(a.root.sign(Domain::Card, &file.record.terms));
        assert!(matches!(AgreementFile::verify(&other_domain.to_bytes()), Err(RecordError::Signature(_))));

        let mut other_id = file.clone();
        other_id.record.id = AgreementId([9; 32]);
        assert!(matches!(AgreementFile::verify(&other_id.to_bytes()), Err(RecordError::Field(_))));
    }

    /// The next version after `known`, changed by `change`, signed by both.
    fn amended(
        known: &AgreementRecord,
        by: (&TestParty, &TestParty),
        change: fn(&mut AgreementTerms),
    ) -> AgreementRecord {
        let before = known.peek().expect("valid");
        let (version, previous) = (before.version + 1, Some(known.hash()));
        let mut terms = AgreementTerms { version, previous, nonce: known.id.0, ..before };
        change(&mut terms);
        AgreementRecord::offer(&terms, Side::Acceptor, &by.1.root).expect("valid").countersign(&by.0.root)
    }

    #[test]
    fn either_side_offers_an_amendment() {
        let (a, b) = (TestParty::new(1), TestParty::new(2));
        let file = agree(&a, &b);
        let record = amended(&file.record, (&a, &b), |terms| terms.hold_seconds = 60);
        let both = AgreementFile { record: record.clone(), ..file.clone() };
        let verified = AgreementFile::verify(&both.to_bytes()).expect("signed by both");
        assert_eq!((verified.terms.version, verified.record.is_complete()), (2, true));
        for side in [Side::Proposer, Side::Acceptor] {
            let mut half = record.clone();
            match side {
                Side::Proposer => half.proposer = None,
                Side::Acceptor => half.acceptor = None,
            }
            let half = AgreementFile { record: half, ..file.clone() };
            let verified = AgreementFile::verify(&half.to_bytes()).expect("an offer");
            assert!(verified.record.has_signed(side.other()) && !verified.record.has_signed(side));
        }
        let mut unsigned = record.clone();
        (unsigned.proposer, unsigned.acceptor) = (None, None);
        assert!(AgreementFile::verify(&AgreementFile { record: unsigned, ..file.clone() }.to_bytes()).is_err());
        let mut moved = record;
        moved.id = AgreementId([9; 32]);
        assert!(AgreementFile::verify(&AgreementFile { record: moved, ..file }.to_bytes()).is_err());
    }

    #[test]
    fn p5_versions_never_go_back_and_of_two_the_lower_hash_counts() {
        let (a, b) = (TestParty::new(1), TestParty::new(2));
        let first = agree(&a, &b).record;
        let second = amended(&first, (&a, &b), |terms| terms.hold_seconds = 60);
        let other = amended(&first, (&a, &b), |terms| terms.hold_seconds = 120);
        let third = amended(&second, (&a, &b), |_| {});
        let (low, high) = if second.hash() < other.hash() { (&second, &other) } else { (&other, &second) };
        let check = |known: &AgreementRecord, shown: &AgreementRecord, is: Succession| {
            assert_eq!(succession(known, shown), Ok(is));
        };
        check(&first, &first, Succession::Same);
        check(&first, &second, Succession::Newer { forked: false });
        check(&second, &first, Succession::Older);
        check(&first, &third, Succession::Newer { forked: false });
        check(&third, &first, Succession::Older);
        check(high, low, Succession::Newer { forked: true });
        check(low, high, Succession::Loses);
        check(&other, &third, Succession::Newer { forked: true });
        let foreign = agree(&TestParty::new(1), &TestParty::new(3)).record;
        assert!(matches!(succession(&first, &foreign), Err(RecordError::Parties(_))));
        let renamed = amended(&first, (&a, &b), |terms| terms.acceptor.name = "Another".into());
        assert!(matches!(succession(&first, &renamed), Err(RecordError::Parties(_))));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = agree(&TestParty::new(1), &TestParty::new(2)).to_bytes();
        for at in (0..bytes.len()).step_by(17) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(AgreementFile::verify(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn clauses_have_limits() {
        let good = crate::record::tests::terms(&TestParty::new(1), &TestParty::new(2));
        assert_eq!(good.check(), Ok(()));
        type Change = fn(&mut AgreementTerms);
        let rows: [(&str, Change); 10] = [
            ("same party", |t| t.acceptor = t.proposer.clone()),
            ("same number", |t| t.acceptor.number = t.proposer.number.clone()),
            ("version 0", |t| t.version = 0),
            ("version 2 without previous", |t| t.version = 2),
            ("ends before it starts", |t| t.valid_until = t.valid_from),
            ("hold too long", |t| t.hold_seconds = HOLD_SECONDS_MAX + 1),
            ("hold too short", |t| t.hold_seconds = HOLD_SECONDS_MIN - 1),
            ("nothing may be sent", |t| t.message_bytes_max = 0),
            ("purposes out of order", |t| t.purposes = vec!["b".into(), "a".into()]),
            ("control character", |t| t.legal_basis = "a\nb".into()),
        ];
        for (what, change) in rows {
            let mut terms = good.clone();
            change(&mut terms);
            assert!(terms.check().is_err(), "{what}");
        }
    }
}
