//! How agreements are made: propose, accept, import, export. What becomes of them is in `amend` and `life`.
//!
//! **Invariant:** a file leaves this module only after the row that it belongs to is durable.
//! **Invariant:** this node signs only under its own current name, number and certificates.

use std::sync::Arc;

use pakt_keys::signing::RootKey;
use pakt_protocol::agreement::{Change, Life, Note};
use pakt_protocol::armour::{self, Label};
use pakt_protocol::audit::{AgreementStep, Event};
use pakt_protocol::codec;
use pakt_protocol::door::DoorSecret;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::contact::CONTACT_BYTES_MAX;
use pakt_protocol::record::agreement::{
    AGREEMENT_FILE_BYTES_MAX, AgreementFile, AgreementRecord, AgreementTerms, Side, VerifiedFile,
};
use pakt_protocol::record::card::{Card, CardBody, SignedCard};
use pakt_protocol::record::grant::DoorGrant;
use pakt_protocol::record::{Record as _, Signed};
use pakt_protocol::time::Time;

use super::amend::Came;
use super::draft::TermsDraft;
use super::peer::check_chain;
use super::rows::{AgreementRow, SecretRow};
use super::{Agreement, AmendmentAnswer, Book, BookError, Inner, Outcome, ROWS_MAX, Standing};
use crate::ambient;
use crate::audit;
use crate::entity::Entity;
use crate::store::WriteTx;
use crate::store::tables::AGREEMENTS;

/// Reads an armoured card, unverified.
///
/// # Errors
/// [`BookError::Armour`] or [`BookError::Record`].
pub fn read_card(armoured: &[u8]) -> Result<SignedCard, BookError> {
    let bytes = armour::decode(Label::Card, armoured)?;
    Ok(codec::decode(1, &bytes, CardBody::BYTES_MAX)?)
}

impl Book {
    /// Proposes an agreement to the entity of `card` and answers the armoured proposal.
    ///
    /// `fingerprint_ok` says that the operator has compared the card's fingerprint.
    ///
    /// # Errors
    /// [`BookError::OwnCard`], [`BookError::SecondAgreement`], what is wrong with the card or the
    /// terms, or when the store fails.
    pub async fn propose(
        &self,
        card: &SignedCard,
        draft: TermsDraft,
        fingerprint_ok: bool,
        root: &RootKey,
    ) -> Result<(Arc<Agreement>, String), BookError> {
        let now = ambient::now();
        let entity = &self.inner.entity;
        let other = Card::verify(card)?;
        if other.node.entity == entity.id() {
            return Err(BookError::OwnCard);
        }
        self.state().check_root(&other.body.chain)?;
        let terms = draft.between(entity, &other);
        let record = AgreementRecord::propose(&terms, root)?;
        let (grant, secret) = self.grant(record.id, &other);
        let file = AgreementFile { record, proposer: self.own_card()?, acceptor: card.clone(), grants: vec![grant] };
        AgreementFile::verify(&file.to_bytes())?;
        let life = Life::new(file, Side::Proposer, Standing::Proposed, other.body.chain, now);
        let life = Life { verified: fingerprint_ok, ..life };
        let row = AgreementRow { life, granted: vec![secret], held: vec![], made_at: now };
        self.keep(row, AgreementStep::Proposed, now).await
    }

    /// Countersigns an armoured proposal and answers the armoured agreement; the same proposal gives the same file again.
    ///
    /// # Errors
    /// A [`BookError`] that says why it cannot be accepted.
    pub async fn accept(
        &self,
        proposal: &[u8],
        verified: bool,
        root: &RootKey,
    ) -> Result<(Arc<Agreement>, String), BookError> {
        let now = ambient::now();
        let entity = &self.inner.entity;
        let (label, bytes) = armour::decode_any(proposal)?;
        if label != Label::Proposal {
            armour::decode(Label::Agreement, proposal)?;
            return Err(BookError::AlreadySigned);
        }
        let (file, checked) = read_file(&bytes)?;
        match checked.terms.side_of(&entity.id()) {
            None => return Err(BookError::NotForUs),
            Some(Side::Proposer) => return Err(BookError::OwnProposal),
            Some(Side::Acceptor) => {}
        }
        if file.record.is_complete() {
            return Err(BookError::AlreadySigned);
        }
        if checked.terms.version > 1 {
            return Err(BookError::OtherBase);
        }
        if let Some(known) = self.get(&file.record.id) {
            return self.accept_again(&known, verified).await;
        }
        self.state().check_root(&checked.proposer.body.chain)?;
        let is_current = checked.terms.acceptor == *entity.party() && checked.acceptor.body.chain == entity.chain();
        if !is_current {
            return Err(BookError::OutdatedCard);
        }
        if now > checked.terms.accept_by {
            return Err(BookError::AcceptByPassed);
        }
        let mut row = self.countersigned(file, checked, root, now)?;
        row.life.verified = verified;
        self.keep(row, AgreementStep::Accepted, now).await
    }

    async fn accept_again(&self, known: &Agreement, verified: bool) -> Result<(Arc<Agreement>, String), BookError> {
        if known.standing == Standing::Ended {
            return Err(BookError::Ended);
        }
        self.note_verified(known.id, verified).await?;
        self.with_file(&known.id)
    }

    fn countersigned(
        &self,
        file: AgreementFile,
        checked: VerifiedFile,
        root: &RootKey,
        now: Time,
    ) -> Result<AgreementRow, BookError> {
        let held = open_grant(&checked, &checked.proposer, &self.inner.entity)?;
        let (grant, secret) = self.grant(file.record.id, &checked.proposer);
        let file = AgreementFile {
            record: file.record.countersign(root),
            acceptor: self.own_card()?,
            grants: file.grants.into_iter().chain([grant]).collect(),
            ..file
        };
        let bytes = file.to_bytes();
        AgreementFile::verify(&bytes)?;
        let life = Life::new(file, Side::Acceptor, Standing::Active, checked.proposer.body.chain, now);
        // One that no lane carries has to be mailed.
        let life = Life { contact_pending: bytes.len() <= CONTACT_BYTES_MAX, ..life };
        Ok(AgreementRow { life, granted: vec![secret], held: vec![held], made_at: now })
    }

    /// Takes up an armoured agreement that both have signed: the answer to an own proposal, or an own agreement that
    /// this store does not know.
    ///
    /// # Errors
    /// A [`BookError`] that says why it cannot be imported.
    pub async fn import(&self, agreement: &[u8], verified: bool) -> Result<Arc<Agreement>, BookError> {
        let now = ambient::now();
        let (label, bytes) = armour::decode_any(agreement)?;
        if label == Label::Proposal {
            return Err(BookError::NotCountersigned);
        }
        let bytes = if label == Label::Agreement { bytes } else { armour::decode(Label::Agreement, agreement)? };
        let (file, checked) = read_file(&bytes)?;
        if !file.record.is_complete() {
            return Err(BookError::NotCountersigned);
        }
        let id = file.record.id;
        let Some(side) = checked.terms.side_of(&self.inner.entity.id()) else {
            return Err(BookError::NotForUs);
        };
        if let Some(known) = self.get(&id) {
            match known.standing {
                // One that was withdrawn or ended stays so, and says that rather than anything else.
                Standing::Proposed | Standing::Ended => {
                    self.complete(file, checked, AgreementStep::Imported, now).await?
                }
                Standing::Active => {
                    let chain = checked.card_of(side.other()).body.chain.clone();
                    self.import_later(file.clone(), checked).await?;
                    self.take_contact_of(&file, chain).await?;
                }
            }
            self.note_verified(id, verified).await?;
        } else {
            let mut row = self.regained(file, checked, side, now)?;
            row.life.verified = verified;
            self.keep(row, AgreementStep::Imported, now).await?;
        }
        self.get(&id).ok_or(BookError::Unknown)
    }

    async fn import_later(&self, file: AgreementFile, checked: VerifiedFile) -> Result<(), BookError> {
        match self.take_later(file, checked, Came::ByFile).await? {
            AmendmentAnswer::ShowNewer => Err(BookError::Older),
            AmendmentAnswer::Known(_) | AmendmentAnswer::Nothing => Ok(()),
        }
    }

    /// The row of an agreement that this entity has signed, but that this store has lost or never had.
    fn regained(
        &self,
        file: AgreementFile,
        checked: VerifiedFile,
        side: Side,
        now: Time,
    ) -> Result<AgreementRow, BookError> {
        let entity = &self.inner.entity;
        let (own, other) = match side {
            Side::Proposer => (&checked.proposer, &checked.acceptor),
            Side::Acceptor => (&checked.acceptor, &checked.proposer),
        };
        check_chain(&own.body.chain, &own.node, &entity.chain()).map_err(|_| BookError::OutdatedCard)?;
        self.state().check_root(&other.body.chain)?;
        let held = vec![open_grant(&checked, other, entity)?];
        let chain = other.body.chain.clone();
        let life = Life::new(file, side, Standing::Active, chain, now);
        Ok(AgreementRow { life, granted: vec![], held, made_at: now })
    }

    /// The armoured agreement or proposal, as it was made or received.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub fn export(&self, id: &AgreementId) -> Result<String, BookError> {
        let row = self.inner.store.read(|tx| tx.get(&AGREEMENTS, id))?.ok_or(BookError::Unknown)?;
        let label = if row.life.file.record.is_complete() { Label::Agreement } else { Label::Proposal };
        Ok(armour::encode(label, &row.life.file.to_bytes()))
    }

    /// Completes an own proposal with the countersigned file; doing it again changes nothing.
    pub(super) async fn complete(
        &self,
        file: AgreementFile,
        checked: VerifiedFile,
        step: AgreementStep,
        now: Time,
    ) -> Result<(), BookError> {
        let entity = self.inner.entity.clone();
        let id = file.record.id;
        self.state().check_root(&checked.acceptor.body.chain)?;
        self.change(id, move |tx, row| {
            match row.life.standing {
                Standing::Ended => return Err(BookError::Ended),
                // The id binds the terms, and both signatures of this file are checked.
                Standing::Active => return Ok(Outcome::Same(())),
                Standing::Proposed => {}
            }
            if !file.record.is_complete() {
                return Err(BookError::NotCountersigned);
            }
            if now > checked.terms.accept_by {
                return Err(BookError::AcceptByPassed);
            }
            check_only_one(tx, &checked.terms, &entity, now)?;
            row.held = match open_grant(&checked, &checked.acceptor, &entity) {
                Ok(held) => vec![held],
                // Made for keys that were replaced since: a grant for the new ones comes once the acceptor is here.
                Err(_) if checked.proposer.node != entity.node() => vec![],
                Err(error) => return Err(error),
            };
            let known = row.life.chain.verify().map_err(super::HelloProblem::from)?;
            let chain = checked.acceptor.body.chain;
            if check_chain(&row.life.chain, &known, &chain)?.is_newer_than(&known) {
                row.life.chain = chain;
            }
            row.life.file = file;
            row.life.standing = Standing::Active;
            note(tx, row, step)?;
            Ok(Outcome::Changed(()))
        })
        .await
    }

    pub(super) async fn note_verified(&self, id: AgreementId, verified: bool) -> Result<(), BookError> {
        self.change(id, move |tx, row| {
            if !verified || row.life.verified {
                return Ok(Outcome::Same(()));
            }
            row.life.verified = true;
            note(tx, row, AgreementStep::Verified)?;
            Ok(Outcome::Changed(()))
        })
        .await
    }

    /// Stores a row whose agreement is new here; if another call was faster, that one's row stays.
    async fn keep(
        &self,
        row: AgreementRow,
        step: AgreementStep,
        now: Time,
    ) -> Result<(Arc<Agreement>, String), BookError> {
        let inner: Arc<Inner> = self.inner.clone();
        let id = row.life.id();
        let write = self.inner.store.write(move |tx| {
            if tx.contains(&AGREEMENTS, &id)? {
                return Ok(());
            }
            check_only_one(tx, &row.life.file.record.peek()?, &inner.entity, now)?;
            note(tx, &row, step)?;
            if row.life.verified {
                note(tx, &row, AgreementStep::Verified)?;
            }
            inner.put(tx, row)
        });
        write.await?;
        self.with_file(&id)
    }

    fn with_file(&self, id: &AgreementId) -> Result<(Arc<Agreement>, String), BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        Ok((agreement, self.export(id)?))
    }

    /// A first door grant for the entity of `holder`.
    fn grant(&self, id: AgreementId, holder: &Card) -> (Signed<DoorGrant>, SecretRow) {
        let entity = &self.inner.entity;
        let secret = DoorSecret::generate(&mut ambient::rng());
        let to = (holder.node.entity, &holder.node.contact);
        let grant = DoorGrant::seal((id, 1), entity.id(), to, secret.as_bytes(), &mut ambient::rng());
        let signed = Signed::create(&grant, |domain, bytes| entity.current().statement().sign(domain, bytes));
        (signed, SecretRow { counter: 1, secret })
    }
}

/// Adds a step of an agreement to the audit log.
pub(super) fn note(tx: &mut WriteTx, row: &AgreementRow, step: AgreementStep) -> Result<(), BookError> {
    let version = row.life.file.record.peek()?.version;
    note_all(tx, row, &[Note { version, step }])
}

/// Adds what the log notes of a change. Steps that the counterpart causes as often as it likes: so many a day, the others
/// are counted.
pub(super) fn note_all(tx: &mut WriteTx, row: &AgreementRow, notes: &[Note]) -> Result<(), BookError> {
    let agreement = row.life.id();
    let entity = row.life.file.record.peek()?.party(row.life.side.other()).entity;
    for Note { version, step } in notes.iter().copied() {
        let event = Event::Agreement { agreement, entity, version, step };
        match step {
            AgreementStep::OfferedByPeer | AgreementStep::KeysReplacedByPeer => {
                audit::append_paced(tx, (agreement, entity), event)?;
            }
            _ => audit::append(tx, event)?,
        }
    }
    Ok(())
}

/// Keeps what a change notes, says aloud what people must know, and gives the answer.
pub(super) fn keep_change<T>(tx: &mut WriteTx, row: &AgreementRow, change: Change<T>) -> Result<Outcome<T>, BookError> {
    if let Some(alarm) = change.alarm {
        tracing::warn!(agreement = %row.life.id(), "{alarm}");
    }
    note_all(tx, row, &change.notes)?;
    Ok(if change.is_changed { Outcome::Changed(change.answer) } else { Outcome::Same(change.answer) })
}

/// Reads and checks an agreement file.
pub(super) fn read_file(bytes: &[u8]) -> Result<(AgreementFile, VerifiedFile), BookError> {
    let checked = AgreementFile::verify(bytes)?;
    Ok((codec::decode(1, bytes, AGREEMENT_FILE_BYTES_MAX)?, checked))
}

/// The secret that `issuer` granted to this node.
fn open_grant(checked: &VerifiedFile, issuer: &Card, entity: &Entity) -> Result<SecretRow, BookError> {
    let grant = checked.grants.iter().find(|grant| grant.issuer == issuer.node.entity).ok_or(BookError::NoGrant)?;
    let secret = grant.open(entity.current().contact()).map_err(|_| BookError::NoGrant)?;
    Ok(SecretRow { counter: grant.counter, secret: DoorSecret::from_bytes(*secret) })
}

/// Refuses a second active agreement with the same entity or registered number.
fn check_only_one(tx: &WriteTx, terms: &AgreementTerms, own: &Entity, now: Time) -> Result<(), BookError> {
    let side = terms.side_of(&own.id()).ok_or(BookError::NotForUs)?;
    let other = terms.party(side.other());
    for (id, row) in tx.range(&AGREEMENTS, .., ROWS_MAX)? {
        if row.life.standing == Standing::Active && Agreement::of_row(&row)?.occupies(&other.entity, &other.number, now)
        {
            return Err(BookError::SecondAgreement(id));
        }
    }
    Ok(())
}
