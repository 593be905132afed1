//! What the counterpart says over a lane, checked and made durable: its countersignature, its roster, its newest
//! certificates.
//!
//! **Invariant:** an older certificate, roster or statement than the one stored is refused, whatever signs it.

use pakt_protocol::audit::AgreementStep;
use pakt_protocol::hello::{Hello, VersionRange};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode};
use pakt_protocol::record::roster::Roster;
use pakt_protocol::time::Time;

use super::frozen::is_late;
use super::rows::ContactRow;
use super::sign::{note, read_file};
use super::{Agreement, Book, BookError, HelloProblem, Outcome, Standing, State};
use crate::ambient;
use crate::store::StoreError;
use crate::store::tables::{AGREEMENTS, CONTACTS, PEER_ROSTERS};
use pakt_keys::EntityId;

const NOT_STORED: &str = "it could not be stored";

pub(super) enum Refusal {
    Rule(&'static str),
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        Refusal::Store(error)
    }
}

impl Refusal {
    pub(super) fn for_peer(self, agreement: &AgreementId) -> &'static str {
        match self {
            Refusal::Rule(rule) => rule,
            Refusal::Store(error) => {
                tracing::error!(%agreement, %error, "what the counterpart stated could not be stored");
                NOT_STORED
            }
        }
    }
}

impl Book {
    /// Takes the countersigned file (codec bytes) of an own proposal; taking it again changes nothing.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_contact(&self, id: &AgreementId, file: &[u8]) -> Result<(), &'static str> {
        self.take_contact_at(id, file, ambient::now()).await
    }

    pub(super) async fn take_contact_at(&self, id: &AgreementId, file: &[u8], now: Time) -> Result<(), &'static str> {
        let (file, checked) = read_file(file).map_err(|error| error.for_peer())?;
        if file.record.id != *id || !file.record.is_complete() {
            return Err(BookError::NotCountersigned.for_peer());
        }
        self.complete(file, checked, AgreementStep::Completed, now).await.map_err(|error| {
            tracing::info!(agreement = %id, %error, "a countersigned agreement was refused");
            error.for_peer()
        })
    }

    /// The proposer holds the countersigned agreement.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn contact_confirmed(&self, id: &AgreementId) -> Result<(), BookError> {
        self.change(*id, |_, row| {
            let outcome = if row.life.contact_pending { Outcome::Changed(()) } else { Outcome::Same(()) };
            row.life.contact_pending = false;
            Ok(outcome)
        })
        .await
    }

    /// Takes the counterpart's roster; the one that is stored may come again.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_roster(&self, id: &AgreementId, signed: &Signed<Roster>) -> Result<(), &'static str> {
        let agreement = self.get(id).ok_or("there is no such agreement")?;
        let roster = check_roster(&agreement, &self.inner.entity.id(), signed)?;
        let (inner, id, signed) = (self.inner.clone(), *id, signed.clone());
        let write = self.inner.store.write(move |tx| {
            if let Some(known) = tx.get(&PEER_ROSTERS, &id)? {
                let counter = known.peek().map_err(|_| StoreError::Damaged(PEER_ROSTERS.name()))?.counter;
                if known.body() == signed.body() {
                    return Ok(());
                }
                if roster.counter < counter {
                    return Err(Refusal::Rule("the roster is older than one that is known"));
                }
                if roster.counter == counter {
                    return Err(Refusal::Rule("there are two different rosters with one number"));
                }
            }
            tx.put(&PEER_ROSTERS, &id, &signed)?;
            inner.on_commit(tx, move |state| state.amend(&id, |agreement| agreement.roster = Some(roster)));
            Ok(())
        });
        write.await.map_err(|refusal: Refusal| refusal.for_peer(&id))
    }

    /// Notes that a lane came up, with the chain shown there and the counterpart's clock minus this one's in seconds.
    ///
    /// The newest chain is kept.
    ///
    /// # Errors
    /// When the store fails, or the chain contradicts the one that is known.
    pub async fn note_contact(
        &self,
        id: &AgreementId,
        chain: &CertificateChain,
        clock_difference_s: i64,
    ) -> Result<(), BookError> {
        let (inner, id, chain, at) = (self.inner.clone(), *id, chain.clone(), ambient::now());
        let write = self.inner.store.write(move |tx| {
            let mut row = tx.get(&AGREEMENTS, &id)?.ok_or(BookError::Unknown)?;
            if row.life.chain != chain {
                let known = row.life.chain.verify().map_err(HelloProblem::from)?;
                let node = check_chain(&row.life.chain, &known, &chain)?;
                if node.is_newer_than(&known) {
                    row.life.chain = chain;
                    note(tx, &row, AgreementStep::KeysReplacedByPeer)?;
                    inner.put(tx, row)?;
                    inner.note_replaced(tx, id, &known, &node)?;
                }
            }
            tx.put(&CONTACTS, &id, &ContactRow { at, clock_difference_s })?;
            inner.turned_away().remove(&id);
            inner.on_commit(tx, move |state| {
                state.amend(&id, |agreement| {
                    agreement.last_contact = Some(at);
                    agreement.clock_difference_s = Some(clock_difference_s);
                });
            });
            Ok(())
        });
        write.await
    }

    /// A node that came through this agreement's door, or answered behind the counterpart's, was not believed.
    pub fn note_turned_away(&self, id: AgreementId, problem: HelloProblem) {
        self.inner.turned_away().insert(id, problem);
        self.inner.changes.send_modify(|number| *number += 1);
    }

    /// Why the last node that came as this counterpart was not believed, unless one was since.
    pub fn turned_away(&self, id: &AgreementId) -> Option<HelloProblem> {
        self.inner.turned_away().get(id).cloned()
    }

    /// Checks a counterpart's first frame against the agreement of the door and the transport key proven in TLS.
    ///
    /// # Errors
    /// A [`HelloProblem`].
    pub fn check_hello(
        &self,
        id: &AgreementId,
        entity: &EntityId,
        tls_key: [u8; 32],
        hello: &Hello,
    ) -> Result<CertifiedNode, HelloProblem> {
        let agreement = self.get(id).ok_or(HelloProblem::NoAgreement)?;
        let now = ambient::now();
        if agreement.counterpart().entity != *entity || !(agreement.door_open(now) || agreement.should_dial(now)) {
            return Err(HelloProblem::NoAgreement);
        }
        let node = check_chain(&agreement.chain, &agreement.node, &hello.chain).map_err(|problem| {
            let shown = hello.chain.verify().ok().filter(|shown| shown.transport.0 == tls_key);
            let late =
                problem == HelloProblem::Superseded && shown.is_some_and(|node| is_late(agreement.outrun, &node));
            if late { HelloProblem::Forked } else { problem }
        })?;
        if node.transport.0 != tls_key {
            return Err(HelloProblem::OtherKey);
        }
        self.dialled_well(id);
        match VersionRange::OURS.common(hello.versions) {
            Some(_) => Ok(node),
            None if hello.versions.oldest > VersionRange::OURS.newest => Err(HelloProblem::PeerNewer),
            None => Err(HelloProblem::PeerOlder),
        }
    }
}

impl State {
    /// Checks a certificate chain in a file against every agreement with that entity, also those that have ended: the roots
    /// are pinned, and one that was replaced signs nothing any more. Which certificate of a root it shows is no matter.
    pub(super) fn check_root(&self, shown: &CertificateChain) -> Result<(), HelloProblem> {
        let entity = shown.verify()?.entity;
        let known = self.agreements.values().filter(|agreement| agreement.counterpart().entity == entity);
        for agreement in known {
            not_replaced(&agreement.chain, &agreement.node, shown)?;
        }
        Ok(())
    }
}

/// Checks that the root of `shown` has not been replaced, as far as is known of the same entity.
pub(super) fn not_replaced(
    known: &CertificateChain,
    known_node: &CertifiedNode,
    shown: &CertificateChain,
) -> Result<(), HelloProblem> {
    match check_chain(known, known_node, shown) {
        Ok(_) => Ok(()),
        Err(HelloProblem::Superseded) if shown.verify()?.root_generation >= known_node.root_generation => Ok(()),
        Err(HelloProblem::Superseded) => Err(HelloProblem::ReplacedRoot),
        Err(problem) => Err(problem),
    }
}

fn check_roster(agreement: &Agreement, own: &EntityId, signed: &Signed<Roster>) -> Result<Roster, &'static str> {
    if agreement.standing != Standing::Active {
        return Err("the agreement is not active");
    }
    let roster = agreement.node.open_statement(signed).map_err(|_| "the roster is not signed by this node")?;
    let parties = roster.issuer == agreement.counterpart().entity && roster.reader == *own;
    if !parties || roster.agreement != agreement.id {
        return Err("the roster is for other parties");
    }
    roster.check().map_err(|_| "the roster is not valid")?;
    Ok(roster)
}

/// Checks that `shown` continues the chain that is known of the same entity: the roots are pinned, nothing goes back.
pub(super) fn check_chain(
    known: &CertificateChain,
    known_node: &CertifiedNode,
    shown: &CertificateChain,
) -> Result<CertifiedNode, HelloProblem> {
    let node = shown.verify()?;
    if node.entity != known_node.entity {
        return Err(HelloProblem::OtherEntity);
    }
    let same_links = known.links.iter().zip(&shown.links).all(|(known, shown)| known.body() == shown.body());
    if !same_links {
        return Err(HelloProblem::Forked);
    }
    if known_node.is_newer_than(&node) {
        return Err(HelloProblem::Superseded);
    }
    if !node.is_newer_than(known_node) && shown.certificate.body() != known.certificate.body() {
        return Err(HelloProblem::Forked);
    }
    Ok(node)
}
