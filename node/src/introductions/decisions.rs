//! What the operator does: asks for cards, sends proposals through an introducer, decides about what came through one.
//!
//! **Invariant:** a decision and the message that tells it are one commit.

use std::sync::Arc;

use pakt_keys::EntityId;
use pakt_keys::sealing::ContactPublic;
use pakt_protocol::armour;
use pakt_protocol::audit::IntroductionStep;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::introduction::{Letter, LetterError};
use pakt_protocol::message::introduction::{Introduction, IntroductionBody};
use pakt_protocol::record::agreement::AgreementFile;
use pakt_protocol::record::card::SignedCard;
use pakt_protocol::record::decline::Decline;
use pakt_protocol::record::{RecordError, Signed};
use pakt_protocol::time::Time;

use super::rows::{AskedRow, CardRequestRow, Decision, OfferedRow, OutRow, ReceivedRow};
use super::{Introductions, ROWS_MAX, step};
use crate::ambient;
use crate::audit;
use crate::book::{Agreement, BookError};
use crate::store::StoreError;
use crate::store::tables::{CARD_REQUESTS, CARDS_ASKED, OFFERED, RECEIVED};

/// Cards that this entity may be waiting for.
const ASKED_MAX: usize = 1_024;

/// Why the operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum IntroductionError {
    /// There is no such proposal or request.
    #[error("there is no such introduction: 'pakt introduce list' shows those that came")]
    Unknown,
    /// It was decided before.
    #[error("this was decided before: 'pakt introduce list' shows how")]
    Decided,
    /// Too many cards are waited for.
    #[error("more than a thousand cards are waited for already: wait until some have come")]
    TooMany,
    /// The proposal does not fit a letter.
    #[error("the proposal is too long to be passed on: mail its file instead")]
    TooLong,
    /// The agreement with the introducer is not in force any more.
    #[error("the introducer's agreement is not in force any more: mail the file instead")]
    NoIntroducer,
    /// A record is not valid.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The book refuses.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LetterError> for IntroductionError {
    fn from(_: LetterError) -> IntroductionError {
        IntroductionError::TooLong
    }
}

impl Introductions {
    /// Asks an entity for its card through an introducer; asking again while it is waited for sends nothing new.
    ///
    /// # Errors
    /// [`IntroductionError::TooMany`], or when the card cannot be made or the store fails.
    pub async fn ask_card(&self, via: &Agreement, to: EntityId, now: Time) -> Result<(), IntroductionError> {
        let card = self.inner.book.own_card()?;
        let (this, via, own) = (self.clone(), via.id, self.inner.entity.id());
        let write = self.inner.store.write(move |tx| {
            let rows = tx.range(&CARDS_ASKED, .., ROWS_MAX)?;
            let asked = rows.iter().find(|(entity, _)| *entity == to);
            if asked.is_some_and(|(_, row)| row.via == via && !row.not_passed_on) {
                return Ok(());
            }
            if rows.len() >= ASKED_MAX {
                return Err(IntroductionError::TooMany);
            }
            let id = ambient::random();
            let row = AskedRow { via, id, asked_at: now, card: None, not_passed_on: false };
            tx.put(&CARDS_ASKED, &to, &row)?;
            audit::append(tx, step(via, to, IntroductionStep::CardAsked))?;
            let message = Introduction { id, from: own, to, body: IntroductionBody::CardRequest(card) };
            Ok(this.put(tx, via, OutRow { message, origin: None, queued_at: now })?)
        });
        write.await
    }

    /// What is known about a card that was asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn asked(&self, to: &EntityId) -> Result<Option<AskedRow>, StoreError> {
        self.inner.store.read(|tx| tx.get(&CARDS_ASKED, to))
    }

    /// All cards that were asked for.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn all_asked(&self) -> Result<Vec<(EntityId, AskedRow)>, StoreError> {
        self.inner.store.read(|tx| tx.range(&CARDS_ASKED, .., ROWS_MAX))
    }

    /// Sends an own proposal, sealed, through an introducer.
    ///
    /// # Errors
    /// [`IntroductionError::TooLong`], or when the book or the store fails.
    pub async fn send_proposal(&self, via: &Agreement, proposal: &Agreement) -> Result<(), IntroductionError> {
        let (id, now) = (proposal.id, ambient::now());
        let file = armour::decode_any(self.inner.book.export(&id)?.as_bytes()).map_err(BookError::from)?.1;
        let to = (proposal.counterpart().entity, &proposal.node.contact);
        let message = self.letter(&Letter::Proposal(file), to)?;
        let (this, via) = (self.clone(), via.id);
        let write = self.inner.store.write(move |tx| {
            let row = tx.get(&OFFERED, &id)?.unwrap_or_default();
            let letter = Some(message.id);
            audit::append(tx, step(via, message.to, IntroductionStep::ProposalSent))?;
            tx.put(&OFFERED, &id, &OfferedRow { via: Some(via), letter, not_passed_on: false, ..row })?;
            this.put(tx, via, OutRow { message, origin: None, queued_at: now })
        });
        Ok(write.await?)
    }

    /// Notes which bundle own proposals belong to.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bundle(&self, ids: Vec<AgreementId>, name: String) -> Result<(), StoreError> {
        let write = self.inner.store.write(move |tx| {
            for id in &ids {
                let row = tx.get(&OFFERED, id)?.unwrap_or_default();
                tx.put(&OFFERED, id, &OfferedRow { bundle: Some(name.clone()), ..row })?;
            }
            Ok(())
        });
        write.await
    }

    /// What is known about own proposals beside the agreements themselves.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn offered(&self) -> Result<Vec<(AgreementId, OfferedRow)>, StoreError> {
        self.inner.store.read(|tx| tx.range(&OFFERED, .., ROWS_MAX))
    }

    /// All proposals that came through an introducer.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn all_received(&self) -> Result<Vec<(AgreementId, ReceivedRow)>, StoreError> {
        self.inner.store.read(|tx| tx.range(&RECEIVED, .., ROWS_MAX))
    }

    /// All entities that asked for the card.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn all_requests(&self) -> Result<Vec<(EntityId, CardRequestRow)>, StoreError> {
        self.inner.store.read(|tx| tx.range(&CARD_REQUESTS, .., ROWS_MAX))
    }

    /// The operator has accepted a received proposal: it is an agreement of the book now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn accepted(&self, id: AgreementId) -> Result<(), StoreError> {
        let write = self.inner.store.write(move |tx| {
            let known = tx.get(&RECEIVED, &id)?.filter(|row| row.decision != Decision::Accepted);
            let Some(row) = known else { return Ok(()) };
            audit::append(tx, step(row.via, row.from, IntroductionStep::Accepted))?;
            tx.put(&RECEIVED, &id, &ReceivedRow { decision: Decision::Accepted, ..row })
        });
        write.await
    }

    /// Sends the countersigned file of a received proposal back through its introducer, which is told.
    ///
    /// # Errors
    /// [`IntroductionError::Unknown`], [`IntroductionError::NoIntroducer`], or when the book or the store fails.
    pub async fn send_agreement(&self, agreement: &Agreement) -> Result<AgreementId, IntroductionError> {
        let (id, now) = (agreement.id, ambient::now());
        let row = self.inner.store.read(|tx| tx.get(&RECEIVED, &id))?.ok_or(IntroductionError::Unknown)?;
        self.introducer(&row.via, now)?;
        let file = armour::decode_any(self.inner.book.export(&id)?.as_bytes()).map_err(BookError::from)?.1;
        let to = (agreement.counterpart().entity, &agreement.node.contact);
        let message = self.letter(&Letter::Agreement(file), to)?;
        let (this, via) = (self.clone(), row.via);
        let write =
            self.inner.store.write(move |tx| this.put(tx, via, OutRow { message, origin: None, queued_at: now }));
        write.await?;
        Ok(via)
    }

    /// Declines a received proposal, and tells its proposer through the introducer, which is told.
    ///
    /// # Errors
    /// [`IntroductionError::Unknown`], [`IntroductionError::Decided`], or when the store fails.
    pub async fn decline(&self, id: AgreementId) -> Result<AgreementId, IntroductionError> {
        let now = ambient::now();
        let row = self.inner.store.read(|tx| tx.get(&RECEIVED, &id))?.ok_or(IntroductionError::Unknown)?;
        let proposer = AgreementFile::verify(&row.file)?.proposer.node;
        let own = self.inner.entity.id();
        let decline = Decline { agreement: id, proposer: proposer.entity, decliner: own, at: now };
        let signed =
            Signed::create(&decline, |domain, bytes| self.inner.entity.current().statement().sign(domain, bytes));
        let message = self.letter(&Letter::Declined(signed), (proposer.entity, &proposer.contact))?;
        let (this, via) = (self.clone(), row.via);
        let write = self.inner.store.write(move |tx| {
            let row = tx.get(&RECEIVED, &id)?.ok_or(IntroductionError::Unknown)?;
            if row.decision != Decision::Waiting {
                return Err(IntroductionError::Decided);
            }
            audit::append(tx, step(via, row.from, IntroductionStep::Declined))?;
            tx.put(&RECEIVED, &id, &ReceivedRow { decision: Decision::Declined, ..row })?;
            Ok(this.put(tx, via, OutRow { message, origin: None, queued_at: now })?)
        });
        write.await?;
        Ok(via)
    }

    /// Gives the card to an entity that asked for it, or not; the introducer's agreement is told.
    ///
    /// # Errors
    /// [`IntroductionError::Unknown`], [`IntroductionError::Decided`], or when the store fails.
    pub async fn answer_request(&self, from: EntityId, give: bool) -> Result<AgreementId, IntroductionError> {
        let now = ambient::now();
        let card: Option<SignedCard> = give.then(|| self.inner.book.own_card()).transpose()?;
        let (this, own) = (self.clone(), self.inner.entity.id());
        let write = self.inner.store.write(move |tx| {
            let row = tx.get(&CARD_REQUESTS, &from)?.ok_or(IntroductionError::Unknown)?;
            if row.decision != Decision::Waiting {
                return Err(IntroductionError::Decided);
            }
            let via = row.via;
            let decision = if give { Decision::Accepted } else { Decision::Declined };
            let decided = if give { IntroductionStep::CardGiven } else { IntroductionStep::CardDenied };
            audit::append(tx, step(via, from, decided))?;
            tx.put(&CARD_REQUESTS, &from, &CardRequestRow { decision, ..row })?;
            if let Some(card) = card {
                let body = IntroductionBody::Card(card);
                let message = Introduction { id: ambient::random(), from: own, to: from, body };
                this.put(tx, via, OutRow { message, origin: None, queued_at: now })?;
            }
            Ok(via)
        });
        write.await
    }

    /// A letter of this entity, sealed.
    fn letter(&self, letter: &Letter, to: (EntityId, &ContactPublic)) -> Result<Introduction, LetterError> {
        let (id, from) = (ambient::random(), self.inner.entity.id());
        let wrapped = letter.seal(&id, &from, (&to.0, to.1), &mut ambient::rng())?;
        Ok(Introduction { id, from, to: to.0, body: IntroductionBody::Letter(wrapped) })
    }

    /// The agreement with an introducer, which must be in force.
    fn introducer(&self, via: &AgreementId, now: Time) -> Result<Arc<Agreement>, IntroductionError> {
        let known = self.inner.book.get(via).filter(|agreement| agreement.in_force(now));
        known.ok_or(IntroductionError::NoIntroducer)
    }
}
