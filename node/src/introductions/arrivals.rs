//! What arrives for this entity through an introducer, judged and made durable.
//!
//! **Invariant:** whatever is not as it must be is dropped without a word: the introducer learns nothing from it.

use pakt_keys::EntityId;
use pakt_keys::sealing::Wrapped;
use pakt_protocol::audit::IntroductionStep;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::introduction::{Letter, UNDECIDED_MAX, UNDECIDED_OF_ONE_MAX};
use pakt_protocol::message::introduction::{Introduction, IntroductionBody, IntroductionId};
use pakt_protocol::record::agreement::{AgreementFile, Side};
use pakt_protocol::record::card::{Card, SignedCard};
use pakt_protocol::record::decline::{self, Decline};
use pakt_protocol::record::{RecordError, Signed};
use pakt_protocol::time::Time;

use super::config::{GiveCard, Receive};
use super::rows::{CardRequestRow, Decision, OfferedRow, OutRow, ReceivedRow};
use super::{Introductions, ROWS_MAX, step};
use crate::ambient;
use crate::audit;
use crate::book::{Agreement, Standing};
use crate::directory::ListingState;
use crate::store::StoreError;
use crate::store::tables::{CARD_REQUESTS, CARDS_ASKED, OFFERED, RECEIVED};

/// What an arrival has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing: it was not as it must be, not wanted, or known already.
    Dropped,
    /// Too much waits for the operator's decision: it may come again.
    Later,
    /// The operator sees it.
    Kept,
    /// An answer leaves.
    Answered,
    /// It completed this agreement.
    Completed(AgreementId),
}

/// Why something is dropped: only for the log, and only its kind.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Letter(#[from] pakt_protocol::introduction::LetterError),
    #[error("{0}")]
    Rule(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Introductions {
    /// Takes a message for this entity that came under an agreement with an introducer.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take(&self, via: &Agreement, message: Introduction, now: Time) -> Result<Arrival, StoreError> {
        let Introduction { id, from, body, .. } = message;
        let taken = match body {
            IntroductionBody::CardRequest(card) => self.take_request(via, (id, from), card, now).await,
            IntroductionBody::Card(card) => self.take_card(via, from, card).await,
            IntroductionBody::Letter(wrapped) => self.take_letter(via, (id, from), &wrapped, now).await,
        };
        match taken {
            Ok(arrival) => Ok(arrival),
            Err(Unfit::Store(error)) => Err(error),
            Err(unfit) => {
                tracing::debug!(agreement = %via.id, %unfit, "an introduction message was dropped");
                Ok(Arrival::Dropped)
            }
        }
    }

    async fn take_request(
        &self,
        via: &Agreement,
        (id, from): (IntroductionId, EntityId),
        card: SignedCard,
        now: Time,
    ) -> Result<Arrival, Unfit> {
        if self.inner.config.receive == Receive::Never {
            return Ok(Arrival::Dropped);
        }
        if Card::verify(&card)?.node.entity != from {
            return Err(Unfit::Rule("the card is another entity's"));
        }
        let gives = self.gives_card(via)?;
        let own_card = if gives { self.inner.book.own_card().ok() } else { None };
        let introducer = via.counterpart().entity;
        let (this, via, own) = (self.clone(), via.id, self.inner.entity.id());
        let write = self.inner.store.write(move |tx| {
            if let Some(card) = own_card {
                if !this.waiting().may_answer(&via) {
                    return Ok(Arrival::Later);
                }
                let body = IntroductionBody::Card(card);
                let message = Introduction { id: ambient::random(), from: own, to: from, body };
                audit::append_paced(tx, (via, introducer), step(via, from, IntroductionStep::CardGiven))?;
                this.put(tx, via, OutRow { message, origin: None, queued_at: now })?;
                return Ok(Arrival::Answered);
            }
            let rows = tx.range(&CARD_REQUESTS, .., ROWS_MAX)?;
            if rows.iter().any(|(entity, known)| *entity == from && known.decision != Decision::Accepted) {
                return Ok(Arrival::Dropped);
            }
            let undecided = |row: &CardRequestRow| row.via == via && row.decision == Decision::Waiting;
            if rows.iter().filter(|(_, row)| undecided(row)).count() >= UNDECIDED_MAX {
                return Ok(Arrival::Later);
            }
            let decision = Decision::Waiting;
            audit::append_paced(tx, (via, introducer), step(via, from, IntroductionStep::RequestCame))?;
            tx.put(&CARD_REQUESTS, &from, &CardRequestRow { via, id, card, at: now, decision })?;
            Ok(Arrival::Kept)
        });
        write.await
    }

    /// Whether whoever asks through this introducer gets the card at once.
    fn gives_card(&self, via: &Agreement) -> Result<bool, StoreError> {
        match self.inner.config.card {
            GiveCard::Always => Ok(true),
            GiveCard::Ask => Ok(false),
            GiveCard::Listed => {
                let own = self.inner.directory.own(&via.id)?;
                Ok(own.is_some_and(|own| own.wanted.is_some() && own.state == ListingState::Taken))
            }
        }
    }

    async fn take_card(&self, via: &Agreement, from: EntityId, card: SignedCard) -> Result<Arrival, Unfit> {
        if Card::verify(&card)?.node.entity != from {
            return Err(Unfit::Rule("the card is another entity's"));
        }
        let via = via.id;
        let write = self.inner.store.write(move |tx| match tx.get(&CARDS_ASKED, &from)? {
            Some(mut row) if row.via == via && row.card.is_none() => {
                row.card = Some(card);
                audit::append(tx, step(via, from, IntroductionStep::CardCame))?;
                tx.put(&CARDS_ASKED, &from, &row)?;
                Ok(Arrival::Kept)
            }
            _ => Err(Unfit::Rule("nobody has asked for this card")),
        });
        write.await
    }

    async fn take_letter(
        &self,
        via: &Agreement,
        (id, from): (IntroductionId, EntityId),
        wrapped: &Wrapped,
        now: Time,
    ) -> Result<Arrival, Unfit> {
        let entity = &self.inner.entity;
        match Letter::open(wrapped, &id, &from, (&entity.id(), entity.current().contact()))? {
            Letter::Proposal(_) if self.inner.config.receive == Receive::Never => Ok(Arrival::Dropped),
            Letter::Proposal(file) => self.take_proposal(via, (id, from), file, now).await,
            Letter::Agreement(file) => self.take_agreement(from, &file).await,
            Letter::Declined(signed) => self.take_decline(from, &signed, now).await,
        }
    }

    async fn take_proposal(
        &self,
        via: &Agreement,
        (id, from): (IntroductionId, EntityId),
        file: Vec<u8>,
        now: Time,
    ) -> Result<Arrival, Unfit> {
        let checked = AgreementFile::verify(&file)?;
        let (agreement, accept_by) = (checked.record.id, checked.terms.accept_by);
        let ours = checked.terms.acceptor.entity == self.inner.entity.id() && checked.terms.proposer.entity == from;
        if !ours || checked.terms.version != 1 || checked.record.is_complete() {
            return Err(Unfit::Rule("the letter holds no proposal of its sender to this entity"));
        }
        if accept_by < now || self.inner.book.get(&agreement).is_some() {
            return Err(Unfit::Rule("the proposal is over or known"));
        }
        let (via, introducer) = (via.id, via.counterpart().entity);
        let write = self.inner.store.write(move |tx| {
            if tx.contains(&RECEIVED, &agreement)? {
                return Ok(Arrival::Dropped);
            }
            let rows = tx.range(&RECEIVED, .., ROWS_MAX)?;
            let undecided = |row: &ReceivedRow| row.via == via && row.decision == Decision::Waiting;
            let of_this_one = |row: &ReceivedRow| undecided(row) && row.from == from;
            if rows.iter().filter(|(_, row)| undecided(row)).count() >= UNDECIDED_MAX
                || rows.iter().filter(|(_, row)| of_this_one(row)).count() >= UNDECIDED_OF_ONE_MAX
            {
                return Ok(Arrival::Later);
            }
            audit::append_paced(tx, (via, introducer), step(via, from, IntroductionStep::ProposalCame))?;
            let row = ReceivedRow { via, id, from, file, at: now, accept_by, decision: Decision::Waiting };
            tx.put(&RECEIVED, &agreement, &row)?;
            Ok(Arrival::Kept)
        });
        write.await
    }

    /// The countersigned file of an own proposal, brought by the introducer because nobody could dial.
    async fn take_agreement(&self, from: EntityId, file: &[u8]) -> Result<Arrival, Unfit> {
        let id = AgreementFile::verify(file)?.record.id;
        self.own_proposal(&id, &from)?;
        self.inner.book.take_contact(&id, file).await.map_err(Unfit::Rule)?;
        Ok(Arrival::Completed(id))
    }

    async fn take_decline(&self, from: EntityId, signed: &Signed<Decline>, now: Time) -> Result<Arrival, Unfit> {
        let id = signed.peek()?.agreement;
        let proposal = self.own_proposal(&id, &from)?;
        decline::verify(signed, &id, &self.inner.entity.id(), &proposal.node)?;
        let write = self.inner.store.write(move |tx| {
            let row = tx.get(&OFFERED, &id)?.unwrap_or_default();
            if let (Some(via), None) = (row.via, row.declined_at) {
                audit::append(tx, step(via, from, IntroductionStep::DeclinedByPeer))?;
            }
            tx.put(&OFFERED, &id, &OfferedRow { declined_at: row.declined_at.or(Some(now)), ..row })?;
            Ok::<_, StoreError>(Arrival::Kept)
        });
        Ok(write.await?)
    }

    fn own_proposal(&self, id: &AgreementId, to: &EntityId) -> Result<std::sync::Arc<Agreement>, Unfit> {
        let known = self.inner.book.get(id).filter(|known| {
            known.counterpart().entity == *to && known.side == Side::Proposer && known.standing == Standing::Proposed
        });
        known.ok_or(Unfit::Rule("the letter answers no proposal"))
    }
}
