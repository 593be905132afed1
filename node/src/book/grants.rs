//! Door grants after the first one: when a counterpart gets a new secret for this node's door, and which of those held is
//! dialled with.
//!
//! ```text
//! due --made durable, valid beside the one before--> unconfirmed --the holder has it durably--> confirmed
//! ```
//! One is due when the newest is 90 days old, or was made under keys of either side that have been replaced since.
//!
//! **Invariant:** a holder that has confirmed a grant always holds one of the two that are valid: a newer one takes the
//! place of one that was never confirmed.
//! **Invariant:** a grant is dialled with only after it is durable, and its number only grows.

use std::sync::PoisonError;
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::audit::AgreementStep;
use pakt_protocol::door::{DoorSecret, SECRETS_MAX, next_counter};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::agreement::{AgreementFile, Side};
use pakt_protocol::record::card::SignedCard;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode};
use pakt_protocol::record::grant::DoorGrant;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::peer::check_chain;
use super::rows::{AgreementRow, SecretRow};
use super::sign::note;
use super::{Agreement, Book, BookError, HelloProblem, Outcome, Standing};
use crate::ambient;
use crate::store::tables::{AGREEMENTS, GRANTS};

/// A grant is replaced when it is this old.
const GRANT_AGE_MAX: Duration = Duration::from_secs(90 * 86_400);
/// Dials with one secret that end at the door before the other secret is tried.
const TRIES_WITH_ONE: u32 = 2;
/// Dials that follow each other more closely than this are one try.
const TRY_APART: Duration = Duration::from_millis(300);

/// Root generation and serial of a certificate.
type CertificateNumber = (u32, u64);

fn number_of(node: &CertifiedNode) -> CertificateNumber {
    (node.root_generation, node.serial)
}

/// What is known about the newest grant to a counterpart; none while it is the one of the agreement's file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GrantRow {
    /// On the service clock.
    made_at: Time,
    /// The certificates under which it was made, this side's and the counterpart's.
    own: CertificateNumber,
    peer: CertificateNumber,
    confirmed: bool,
    /// Once it is confirmed the one before is worth nothing: whoever had the keys before may know it.
    alone: bool,
}

/// What is known about the first grants, which lie in the agreement's file.
fn first_grant(agreement: &Agreement) -> Result<GrantRow, BookError> {
    let number = |card: &SignedCard| -> Result<CertificateNumber, BookError> {
        let certificate = card.peek()?.chain.certificate.peek()?;
        Ok((certificate.root_generation, certificate.serial))
    };
    let (proposer, acceptor) = (number(&agreement.proposer_card)?, number(&agreement.acceptor_card)?);
    let (own, peer) = match agreement.side {
        Side::Proposer => (proposer, acceptor),
        Side::Acceptor => (acceptor, proposer),
    };
    Ok(GrantRow { made_at: agreement.made_at, own, peer, confirmed: true, alone: false })
}

/// Which of the secrets held is dialled with.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tries {
    older: bool,
    count: u32,
    last: Time,
}

impl Book {
    /// Makes a new grant for each counterpart whose newest is outdated at `now` (service time), and answers which; each is
    /// to be told [`Book::unconfirmed_grant`] then.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew_grants_if_due(&self, now: Time) -> Result<Vec<AgreementId>, BookError> {
        let mut renewed = Vec::new();
        for agreement in self.all() {
            if self.renew_grant_if_due(&agreement.id, now).await? {
                renewed.push(agreement.id);
            }
        }
        Ok(renewed)
    }

    /// Makes a new grant for every counterpart, whatever the age of the newest: after a restore.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew_grants(&self) -> Result<Vec<AgreementId>, BookError> {
        let mut renewed = Vec::new();
        for agreement in self.all().into_iter().filter(|agreement| agreement.standing == Standing::Active) {
            self.renew_grant(&agreement, ambient::service_now()).await?;
            renewed.push(agreement.id);
        }
        Ok(renewed)
    }

    /// Makes a new grant for one counterpart if its newest is outdated; answers whether it was.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew_grant_if_due(&self, id: &AgreementId, now: Time) -> Result<bool, BookError> {
        let Some(agreement) = self.get(id).filter(|agreement| agreement.standing == Standing::Active) else {
            return Ok(false);
        };
        let known = self.newest_grant(&agreement)?;
        let own = number_of(&self.inner.entity.node());
        let is_due = known.own != own
            || known.peer != number_of(&agreement.node)
            || now.distance(known.made_at) >= GRANT_AGE_MAX;
        if is_due {
            self.renew_grant(&agreement, now).await?;
        }
        Ok(is_due)
    }

    fn newest_grant(&self, agreement: &Agreement) -> Result<GrantRow, BookError> {
        match self.inner.store.read(|tx| tx.get(&GRANTS, &agreement.id))? {
            Some(row) => Ok(row),
            None => first_grant(agreement),
        }
    }

    async fn renew_grant(&self, agreement: &Agreement, now: Time) -> Result<(), BookError> {
        let before = self.newest_grant(agreement)?;
        let peer = number_of(&agreement.node);
        let grant = GrantRow {
            made_at: now,
            own: number_of(&self.inner.entity.node()),
            peer,
            confirmed: false,
            alone: before.peer != peer || (before.alone && !before.confirmed),
        };
        let secret = DoorSecret::generate(&mut ambient::rng());
        let id = agreement.id;
        self.change(id, move |tx, row| {
            let known = tx.get(&GRANTS, &id)?;
            // The holder has the one that it confirmed last, and may have the newest.
            let keep = if known.is_none_or(|known| known.confirmed) { 0 } else { 1 };
            let kept = row.granted.get(keep).or(row.granted.first()).cloned();
            let last = row.granted.iter().map(|secret| secret.counter).max().unwrap_or(0);
            let counter = next_counter(last, ambient::now());
            row.granted = [SecretRow { counter, secret }].into_iter().chain(kept).collect();
            tx.put(&GRANTS, &id, &grant)?;
            note(tx, row, AgreementStep::GrantIssued)?;
            Ok(Outcome::Changed(()))
        })
        .await
    }

    /// The newest grant, sealed to the counterpart's present contact key, until the counterpart has confirmed it.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub fn unconfirmed_grant(&self, id: &AgreementId) -> Result<Option<Signed<DoorGrant>>, BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        if agreement.standing != Standing::Active || self.newest_grant(&agreement)?.confirmed {
            return Ok(None);
        }
        let row = self.inner.store.read(|tx| tx.get(&AGREEMENTS, id))?.ok_or(BookError::Unknown)?;
        Ok(self.sealed_again(&agreement, &row))
    }

    /// The newest grant, sealed once more to the counterpart's present contact key; the same secret under the same number.
    fn sealed_again(&self, agreement: &Agreement, row: &AgreementRow) -> Option<Signed<DoorGrant>> {
        let newest = row.granted.first()?;
        let own = self.inner.entity.current();
        let to = (agreement.node.entity, &agreement.node.contact);
        let secret = newest.secret.as_bytes();
        let grant = DoorGrant::seal((agreement.id, newest.counter), own.node().entity, to, secret, &mut ambient::rng());
        Some(Signed::create(&grant, |domain, bytes| own.statement().sign(domain, bytes)))
    }

    /// The armoured agreement for a counterpart that lost contact: with this side's present card, and the door grant that
    /// counts now where another one has replaced that of the file.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub fn export_for_contact(&self, id: &AgreementId) -> Result<String, BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        let (row, granted) = self.inner.store.read(|tx| Ok((tx.get(&AGREEMENTS, id)?, tx.get(&GRANTS, id)?)))?;
        let row = row.ok_or(BookError::Unknown)?;
        let own_in_file = row.life.file.card_of(agreement.side).peek()?.chain;
        let is_outdated = granted.is_some() || own_in_file != self.inner.entity.chain();
        if agreement.standing == Standing::Active && !agreement.unconfirmed && is_outdated {
            let file = self.file_of(row.life.file.record.clone(), &row)?;
            let own = self.inner.entity.id();
            let theirs =
                row.life.file.grants.iter().filter(|grant| grant.peek().is_ok_and(|grant| grant.issuer != own));
            let grants: Vec<_> = self.sealed_again(&agreement, &row).into_iter().chain(theirs.cloned()).collect();
            let alone = grants.first().cloned().into_iter().collect();
            // A grant of the counterpart from before it replaced its keys stays behind: the file would not hold with it.
            for grants in [grants, alone] {
                let bytes = AgreementFile { grants, ..file.clone() }.to_bytes();
                if AgreementFile::verify(&bytes).is_ok() {
                    return Ok(armour::encode(Label::Agreement, &bytes));
                }
            }
        }
        // Also where this entity has replaced the root that signed: its card no longer fits the signature.
        self.export(id)
    }

    /// Takes what a file of an agreement that is known says besides: the counterpart's newer certificates, and a door grant
    /// that is news. One that is older, or not for this node, is no error: every file has one.
    ///
    /// # Errors
    /// When the certificates contradict those known, or the store fails.
    pub(super) async fn take_contact_of(&self, file: &AgreementFile, chain: CertificateChain) -> Result<(), BookError> {
        let (id, inner) = (file.record.id, self.inner.clone());
        self.change(id, move |tx, row| {
            let known = row.life.chain.verify().map_err(HelloProblem::from)?;
            let node = match check_chain(&row.life.chain, &known, &chain) {
                Err(HelloProblem::Superseded) => return Ok(Outcome::Same(())),
                checked => checked?,
            };
            if !node.is_newer_than(&known) {
                return Ok(Outcome::Same(()));
            }
            row.life.chain = chain;
            inner.note_replaced(tx, id, &known, &node)?;
            Ok(Outcome::Changed(()))
        })
        .await?;
        for grant in &file.grants {
            if let Err(why) = self.take_grant(&id, grant).await {
                tracing::debug!(agreement = %id, why, "a door grant of a file is not taken");
            }
        }
        Ok(())
    }

    /// The counterpart holds the grant with this number.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn grant_confirmed(&self, id: &AgreementId, counter: u64) -> Result<(), BookError> {
        let id = *id;
        self.change(id, move |tx, row| {
            let known = tx.get(&GRANTS, &id)?.filter(|known: &GrantRow| !known.confirmed);
            let newest = row.granted.first().is_some_and(|newest| newest.counter == counter);
            let Some(known) = known.filter(|_| newest) else { return Ok(Outcome::Same(())) };
            if known.alone {
                row.granted.truncate(1);
            }
            tx.put(&GRANTS, &id, &GrantRow { confirmed: true, ..known })?;
            Ok(Outcome::Changed(()))
        })
        .await
    }

    /// Takes a grant for the counterpart's door, and answers its number once it is durable; the newest may come again.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_grant(&self, id: &AgreementId, signed: &Signed<DoorGrant>) -> Result<u64, &'static str> {
        let agreement = self.get(id).ok_or("there is no such agreement")?;
        let (counter, secret) = self.open_grant(&agreement, signed)?;
        let change = self.change(*id, move |_, row| Ok(hold(row, SecretRow { counter, secret })));
        match change.await {
            Ok(Ok(())) => Ok(counter),
            Ok(Err(why)) => Err(why),
            Err(error) => {
                tracing::error!(agreement = %id, %error, "a door grant could not be stored");
                Err("the door grant could not be stored")
            }
        }
    }

    fn open_grant(&self, agreement: &Agreement, signed: &Signed<DoorGrant>) -> Result<(u64, DoorSecret), &'static str> {
        if agreement.standing != Standing::Active {
            return Err("the agreement is not active");
        }
        let own: EntityId = self.inner.entity.id();
        let grant = agreement.node.open_statement(signed).map_err(|_| "the door grant is not signed by this node")?;
        let parties = grant.issuer == agreement.counterpart().entity && grant.holder == own;
        if !parties || grant.agreement != agreement.id {
            return Err("the door grant is for other parties");
        }
        let secret = grant.open(self.inner.entity.current().contact());
        let secret = secret.map_err(|_| "the door grant is not sealed to this node")?;
        Ok((grant.counter, DoorSecret::from_bytes(*secret)))
    }

    /// The secret to dial with now: the newest, or the one before while nobody answers to the newest.
    pub(super) fn secret_to_dial_with(&self, id: &AgreementId, now: Time) -> Option<DoorSecret> {
        let held = self.state().held.get(id).cloned()?;
        let mut tries = self.inner.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries.entry(*id).or_default();
        if now.distance(tries.last) >= TRY_APART {
            tries.last = now;
            tries.count += 1;
            if tries.count > TRIES_WITH_ONE {
                tries.older = !tries.older;
                tries.count = 1;
            }
        }
        let place = if tries.older { 1 } else { 0 };
        held.get(place).or(held.first()).cloned()
    }

    /// A counterpart was believed on a lane: what was dialled with last is right.
    pub(super) fn dialled_well(&self, id: &AgreementId) {
        let mut tries = self.inner.tries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tries) = tries.get_mut(id) {
            tries.count = 0;
        }
    }
}

/// Puts a secret before those that are held, if it is newer.
fn hold(row: &mut AgreementRow, new: SecretRow) -> Outcome<Result<(), &'static str>> {
    match row.held.first() {
        Some(newest) if newest.counter == new.counter && newest.secret.as_bytes() == new.secret.as_bytes() => {
            return Outcome::Same(Ok(()));
        }
        Some(newest) if newest.counter == new.counter => {
            return Outcome::Same(Err("there are two different door grants with one number"));
        }
        Some(newest) if newest.counter > new.counter => {
            return Outcome::Same(Err("the door grant is older than one that is known"));
        }
        _ => {}
    }
    row.held.insert(0, new);
    row.held.truncate(SECRETS_MAX);
    Outcome::Changed(Ok(()))
}
