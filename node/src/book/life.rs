//! One-sided statements: suspend, resume, withdraw, end; what the counterpart states; and agreements out of a backup.
//!
//! What statements make of an agreement, [`pakt_protocol::agreement`] decides.
//!
//! **Invariant:** a statement leaves this module only after it is durable.

use pakt_keys::EntityId;
use pakt_keys::signing::{Domain, RootKey, Signature};
use pakt_protocol::agreement::{Own, StatementAnswer};
use pakt_protocol::audit::{AgreementStep, Event};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::statement::{Action, AgreementStatement, verify};

use super::sign::{keep_change, note};
use super::{Agreement, Book, BookError, HelloProblem, Outcome, Standing};
use crate::ambient;
use crate::audit;
use crate::entity::Entity;
use crate::store::tables::AGREEMENTS;
use crate::store::tables::RESTORED;

const NOT_VALID: &str = "this is not a valid statement about this agreement";
const NOT_STORED: &str = "it could not be stored";

impl Book {
    /// Suspends an agreement: no traffic until this side resumes.
    ///
    /// # Errors
    /// [`BookError::AlreadySuspended`], [`BookError::NotActive`], [`BookError::Ended`], or when the store fails.
    pub async fn suspend(&self, id: &AgreementId) -> Result<(), BookError> {
        let agreement = self.active(id)?;
        if agreement.suspended_here().is_some() {
            return Err(BookError::AlreadySuspended);
        }
        self.make_by_node(&agreement, Action::Suspend).await
    }

    /// Takes back this side's suspension.
    ///
    /// # Errors
    /// [`BookError::NotSuspended`], [`BookError::NotActive`], [`BookError::Ended`], or when the store fails.
    pub async fn resume(&self, id: &AgreementId, root: &RootKey) -> Result<(), BookError> {
        let agreement = self.active(id)?;
        if agreement.suspended_here().is_none() {
            return Err(BookError::NotSuspended);
        }
        self.make(&agreement, Action::Resume, |domain, bytes| root.sign(domain, bytes)).await
    }

    /// Takes back the amendment that this side offers. A counterpart that has countersigned it before it learns of this
    /// keeps its agreement.
    ///
    /// # Errors
    /// [`BookError::NothingToWithdraw`], or when the store fails.
    pub async fn withdraw_offer(&self, id: &AgreementId) -> Result<(), BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        let offered = agreement.offered.as_ref().ok_or(BookError::NothingToWithdraw)?;
        let terms = offered.hash();
        self.make_by_node(&agreement, Action::Withdraw { terms }).await
    }

    /// Ends an agreement, or withdraws an own proposal; ending it again changes nothing.
    ///
    /// # Errors
    /// [`BookError::Unknown`], [`BookError::Ended`] if the counterpart has ended it, or when the store fails.
    pub async fn end(&self, id: &AgreementId, root: &RootKey) -> Result<(), BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        if agreement.ended_here() {
            return Ok(());
        }
        if agreement.standing == Standing::Ended {
            return Err(BookError::Ended);
        }
        self.make(&agreement, Action::End, |domain, bytes| root.sign(domain, bytes)).await
    }

    /// An agreement that both have signed, that nobody has ended, and that needs no confirmation.
    pub(super) fn active(&self, id: &AgreementId) -> Result<std::sync::Arc<Agreement>, BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        match agreement.standing {
            Standing::Proposed => Err(BookError::NotActive),
            Standing::Ended => Err(BookError::Ended),
            Standing::Active if agreement.unconfirmed => Err(BookError::Unconfirmed),
            Standing::Active => Ok(agreement),
        }
    }

    async fn make_by_node(&self, agreement: &Agreement, action: Action) -> Result<(), BookError> {
        let entity = self.inner.entity.clone();
        self.make(agreement, action, move |domain, bytes| entity.current().statement().sign(domain, bytes)).await
    }

    async fn make(
        &self,
        agreement: &Agreement,
        action: Action,
        sign: impl FnOnce(Domain, &[u8]) -> Vec<Signature>,
    ) -> Result<(), BookError> {
        let (id, now, entity) = (agreement.id, ambient::now(), self.inner.entity.clone());
        let statement = agreement.own.next(id, entity.id(), action, now)?;
        let signed = Signed::create(&statement, sign);
        self.change(id, move |tx, row| {
            let change = row.life.state(&signed, &entity.node(), now)?;
            keep_change(tx, row, change)
        })
        .await
    }

    /// Takes a statement that the counterpart shows: one of its own, or one of this side's. `known` says that it only
    /// shows what it holds.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_statement(
        &self,
        id: &AgreementId,
        signed: Signed<AgreementStatement>,
        known: bool,
    ) -> Result<StatementAnswer, &'static str> {
        let party = signed.peek().map_err(|_| NOT_VALID)?.party;
        let (id, entity, now) = (*id, self.inner.entity.clone(), ambient::now());
        let change = self.change(id, move |tx, row| {
            let change = if party == entity.id() {
                let sign = |domain: Domain, bytes: &[u8]| entity.current().statement().sign(domain, bytes);
                let restored = tx.get(&RESTORED, &())?.is_some_and(|restored| row.made_at <= restored.restored_at);
                row.life.take_own(&signed, &Own { node: &entity.node(), sign: &sign, restored }, now)?
            } else {
                let peer = row.life.chain.verify().map_err(HelloProblem::from)?;
                row.life.take_peer(&signed, &peer, known, now)?
            };
            keep_change(tx, row, change)
        });
        change.await.map_err(|error| match error {
            BookError::Record(error) => {
                tracing::warn!(agreement = %id, %error, "a statement of the counterpart was refused");
                NOT_VALID
            }
            error => {
                tracing::error!(agreement = %id, %error, "a statement could not be stored");
                NOT_STORED
            }
        })
    }

    /// The statements of one party with a higher number than `after`, in order, as they are shown.
    pub fn statements_after(&self, id: &AgreementId, party: &EntityId, after: u64) -> Vec<Signed<AgreementStatement>> {
        let Some(agreement) = self.get(id) else { return Vec::new() };
        let entity = &self.inner.entity;
        if *party == entity.id() {
            agreement.own.after(after).iter().map(|signed| signed_today(signed, id, entity)).collect()
        } else if *party == agreement.counterpart().entity {
            agreement.peer.after(after).to_vec()
        } else {
            Vec::new()
        }
    }

    /// Nothing more has to be said about the end: the counterpart confirmed it, or has surely got this side's
    /// confirmation. Closes the door.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn end_confirmed(&self, id: &AgreementId) -> Result<(), BookError> {
        self.change(*id, |_, row| Ok(if row.life.confirm_end() { Outcome::Changed(()) } else { Outcome::Same(()) }))
            .await
    }

    /// Notes that the operator has compared the counterpart's fingerprint.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn verified(&self, id: &AgreementId) -> Result<(), BookError> {
        self.note_verified(*id, true).await
    }

    /// Holds every agreement back until its operator confirms it: what a restored backup knows may be out of date. No
    /// doors, no dialling, no traffic. Gives how many.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unconfirm_all(&self) -> Result<usize, BookError> {
        let inner = self.inner.clone();
        let write = self.inner.store.write(move |tx| {
            let mut count = 0;
            audit::append(tx, Event::Restored)?;
            for (_, mut row) in tx.range(&AGREEMENTS, .., super::ROWS_MAX)? {
                if row.life.standing != Standing::Ended && !row.life.unconfirmed {
                    row.life.unconfirmed = true;
                    inner.put(tx, row)?;
                    count += 1;
                }
            }
            Ok::<_, BookError>(count)
        });
        write.await
    }

    /// Lets an agreement that came out of a backup count again. What the backup missed, later versions and statements,
    /// its counterpart shows when they meet.
    ///
    /// # Errors
    /// [`BookError::NothingToConfirm`], [`BookError::Unknown`], or when the store fails.
    pub async fn confirm(&self, id: &AgreementId) -> Result<(), BookError> {
        self.change(*id, |tx, row| {
            if !row.life.unconfirmed {
                return Err(BookError::NothingToConfirm);
            }
            row.life.unconfirmed = false;
            note(tx, row, AgreementStep::Confirmed)?;
            Ok(Outcome::Changed(()))
        })
        .await
    }
}

/// The same statement, signed by the current statement key if the one that signed it was replaced since.
fn signed_today(signed: &Signed<AgreementStatement>, id: &AgreementId, entity: &Entity) -> Signed<AgreementStatement> {
    let by_node = signed.peek().is_ok_and(|statement| !statement.action.needs_root());
    if !by_node || verify(signed, id, &entity.node()).is_ok() {
        return signed.clone();
    }
    let signatures = entity.current().statement().sign(Domain::AgreementStatement, signed.body());
    Signed::from_parts(signed.body().to_vec(), signatures)
}
