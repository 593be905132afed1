//! Heads: those of this node that were signed and given away, and those of counterparts that are kept for them.
//!
//! A counterpart gets one head a day. It checks that each continues the one before; what does not is an alarm, and the
//! head that shows it is kept.
//!
//! **Invariant:** a head that leaves is durable here first; a counterpart is never given two heads in one day.

use std::sync::Arc;
use std::time::Duration;

use pakt_protocol::audit::LogHead;
use pakt_protocol::audit::head;
use pakt_protocol::audit::tree::{self, Hash, PROOF_HASHES_MAX};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::chain::CertifiedNode;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::keep::LastLook;
use super::{root, size, subtree};
use crate::ambient;
use crate::backup::rows::GapRow;
use crate::entity::Entity;
use crate::store::tables::{GAPS, HEAD_ALARMS, HEADS_GIVEN, HEADS_UNPROVEN, OWN_HEADS, PEER_HEADS};
use crate::store::{Store, StoreError, WriteTx};

/// A counterpart gets a head this often.
pub const HEAD_EVERY: Duration = Duration::from_secs(86_400);
/// Own heads that are kept.
const OWN_HEADS_MAX: usize = 64;
/// Heads of one counterpart that are kept: the newest, and some before.
const PEER_HEADS_MAX: usize = 8;
/// Heads in a row that nothing proves, before that is an alarm.
const UNPROVEN_MAX: u32 = 3;

/// What a counterpart was given last.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct GivenRow {
    size: u64,
    /// By the service clock.
    at: Time,
}

/// A head with what proves that it continues an earlier one.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The head.
    pub head: Signed<LogHead>,
    /// The size of the earlier one; 0 if there is none.
    pub since: u64,
    /// The proof.
    pub proof: Vec<Hash>,
}

/// What is wrong with a counterpart's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmKind {
    /// It is shorter than a head that is held says.
    Shorter,
    /// It does not continue the head that is held.
    Rewritten,
    /// It is longer, but time and again nothing proves that it continues the head that is held.
    Unproven,
}

/// A counterpart's log that contradicts itself, and the head that shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadAlarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// When it was found.
    pub at: Time,
    /// The head that contradicts those that are held.
    pub head: Signed<LogHead>,
    /// The counterpart was restored from a backup since, which may explain it.
    pub restored: bool,
}

/// What became of a counterpart's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It continues what is held, and is held now.
    Held,
    /// The proof begins elsewhere: one from this size on is needed.
    NeedsProof(u64),
    /// The same, and it was asked for in vain too often.
    Unproven(u64),
    /// It contradicts what is held; whether a restore of the counterpart may explain that.
    Alarm(AlarmKind, bool),
    /// It contradicts what is held since the counterpart was restored, which somebody here has dealt with: held from now on.
    BegunAnew,
}

/// The log of one node; clones share it.
#[derive(Clone)]
pub struct Log {
    store: Store,
    entity: Entity,
    pub(super) last_look: Arc<LastLook>,
}

impl Log {
    /// The log in this store.
    pub fn new(store: Store, entity: Entity) -> Log {
        Log { store, entity, last_look: Arc::default() }
    }

    /// Signs the head as it is now; one of this size that was signed before is given again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn head(&self) -> Result<Signed<LogHead>, StoreError> {
        let entity = self.entity.clone();
        self.store.write(move |tx| current(tx, &entity)).await
    }

    /// The head that the counterpart of an agreement is to get `now`, if a day has passed since the last one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn give(&self, to: AgreementId, now: Time) -> Result<Option<Given>, StoreError> {
        let entity = self.entity.clone();
        let write = self.store.write(move |tx| {
            let last = tx.get(&HEADS_GIVEN, &to)?;
            if last.as_ref().is_some_and(|last| now.distance(last.at) < HEAD_EVERY) {
                return Ok(None);
            }
            let head = current(tx, &entity)?;
            let size = peek(&head)?.size;
            tx.put(&HEADS_GIVEN, &to, &GivenRow { size, at: now })?;
            let since = last.map_or(0, |last| last.size).min(size);
            let proof = tree::consistency_proof(since, size, |end, level| subtree(tx, end, level))?;
            Ok(Some(Given { head, since, proof }))
        });
        write.await
    }

    /// The head that was given last, with a proof from the size that the counterpart holds.
    ///
    /// # Errors
    /// When the store fails.
    pub fn give_again(&self, to: AgreementId, since: u64) -> Result<Option<Given>, StoreError> {
        self.store.read(|tx| {
            let Some(last) = tx.get(&HEADS_GIVEN, &to)? else { return Ok(None) };
            let Some(head) = tx.get(&OWN_HEADS, &last.size)? else { return Ok(None) };
            let since = since.min(last.size);
            let proof = tree::consistency_proof(since, last.size, |end, level| subtree(tx, end, level))?;
            Ok(Some(Given { head, since, proof }))
        })
    }

    /// Takes a head of the counterpart of an agreement; its signature and signer are checked here.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take(&self, from: AgreementId, signer: &CertifiedNode, given: Given) -> Result<Taken, &'static str> {
        let (new, by) = head::verify(&given.head).map_err(|_| "this is no valid head of a log")?;
        if by.entity != signer.entity || given.proof.len() > PROOF_HASHES_MAX {
            return Err("this is no valid head of this entity's log");
        }
        let write = self.store.write(move |tx| {
            let held = tx.prefix_backwards(&PEER_HEADS, &from, PEER_HEADS_MAX)?;
            let Some(((_, _), newest)) = held.first() else {
                return keep(tx, from, new.size, &given.head).map(|()| Taken::Held);
            };
            let newest = peek(newest)?;
            let (old, later) = ((newest.size, &newest.root), (new.size, &new.root));
            let wrong = if new.size < newest.size {
                Some(AlarmKind::Shorter)
            } else if new.size == newest.size {
                (new.root != newest.root).then_some(AlarmKind::Rewritten)
            } else if given.since != newest.size {
                return unproven(tx, from, newest.size, &given.head);
            } else {
                (!tree::verify_consistency(old, later, &given.proof)).then_some(AlarmKind::Rewritten)
            };
            match wrong {
                Some(kind) => contradiction(tx, from, kind, given.head),
                None => {
                    proven(tx, from)?;
                    keep(tx, from, new.size, &given.head).map(|()| Taken::Held)
                }
            }
        });
        write.await.map_err(|error: StoreError| {
            tracing::error!(agreement = %from, %error, "a head could not be stored");
            "it could not be stored"
        })
    }

    /// The newest head that is held of a counterpart.
    ///
    /// # Errors
    /// When the store fails.
    pub fn held(&self, of: &AgreementId) -> Result<Option<Signed<LogHead>>, StoreError> {
        let rows = self.store.read(|tx| tx.prefix_backwards(&PEER_HEADS, of, 1))?;
        Ok(rows.into_iter().next().map(|((_, _), head)| head))
    }

    /// What is wrong with a counterpart's log, if something is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn alarm(&self, of: &AgreementId) -> Result<Option<HeadAlarm>, StoreError> {
        self.store.read(|tx| tx.get(&HEAD_ALARMS, of))
    }

    /// Whose log it is.
    pub(super) fn entity(&self) -> &Entity {
        &self.entity
    }

    /// The store that the log lies in.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

fn peek(signed: &Signed<LogHead>) -> Result<LogHead, StoreError> {
    signed.peek().map_err(|_| StoreError::Damaged(OWN_HEADS.name()))
}

/// The head as it is now, signed and kept.
fn current(tx: &mut WriteTx, entity: &Entity) -> Result<Signed<LogHead>, StoreError> {
    let (size, identity) = (size(tx)?, entity.current());
    let root = root(tx, size)?;
    if let Some(known) = tx.get(&OWN_HEADS, &size)?
        && peek(&known)?.root == root
        && identity.node().open_statement(&known).is_ok()
    {
        return Ok(known);
    }
    let head = LogHead { entity: entity.id(), size, root, at: ambient::now(), chain: identity.chain().clone() };
    let signed = head.sign(identity.statement());
    tx.put(&OWN_HEADS, &size, &signed)?;
    let sizes: Vec<u64> = tx.prefix_keys(&OWN_HEADS, &(), usize::MAX)?;
    for old in sizes.iter().rev().skip(OWN_HEADS_MAX) {
        tx.remove(&OWN_HEADS, old)?;
    }
    Ok(signed)
}

/// Counts a head that nothing proves; time and again is an alarm.
fn unproven(tx: &mut WriteTx, from: AgreementId, held: u64, head: &Signed<LogHead>) -> Result<Taken, StoreError> {
    let asked = tx.get(&HEADS_UNPROVEN, &from)?.unwrap_or(0).saturating_add(1);
    tx.put(&HEADS_UNPROVEN, &from, &asked)?;
    if asked <= UNPROVEN_MAX {
        return Ok(Taken::NeedsProof(held));
    }
    // What contradicts is worse than what is not proven.
    if tx.get(&HEAD_ALARMS, &from)?.is_none_or(|alarm| alarm.kind == AlarmKind::Unproven) {
        let (kind, at) = (AlarmKind::Unproven, ambient::now());
        tx.put(&HEAD_ALARMS, &from, &HeadAlarm { kind, at, head: head.clone(), restored: false })?;
    }
    Ok(Taken::Unproven(held))
}

/// A head was proven: what was missing before does not matter any more, and neither does a restore.
fn proven(tx: &mut WriteTx, from: AgreementId) -> Result<(), StoreError> {
    tx.remove(&HEADS_UNPROVEN, &from)?;
    if tx.get(&HEAD_ALARMS, &from)?.is_some_and(|alarm| alarm.kind == AlarmKind::Unproven) {
        tx.remove(&HEAD_ALARMS, &from)?;
    }
    settle(tx, from)
}

/// A head contradicts those that are held: an alarm, unless the counterpart's log began anew with its restore and somebody
/// has dealt with that.
fn contradiction(
    tx: &mut WriteTx,
    from: AgreementId,
    kind: AlarmKind,
    head: Signed<LogHead>,
) -> Result<Taken, StoreError> {
    let gap = tx.get(&GAPS, &from)?.filter(|gap| !gap.log_settled);
    if gap.as_ref().is_some_and(|gap| gap.seen) {
        replace(tx, from, &head)?;
        settle(tx, from)?;
        return Ok(Taken::BegunAnew);
    }
    let restored = gap.is_some();
    tx.put(&HEAD_ALARMS, &from, &HeadAlarm { kind, at: ambient::now(), head, restored })?;
    Ok(Taken::Alarm(kind, restored))
}

/// Somebody has dealt with the counterpart's restore: if its log contradicts what it was before, it begins anew with the head
/// that shows it. Says whether it did.
pub(crate) fn begin_anew(tx: &mut WriteTx, of: AgreementId) -> Result<bool, StoreError> {
    let Some(alarm) = tx.get(&HEAD_ALARMS, &of)?.filter(|alarm| alarm.restored) else { return Ok(false) };
    replace(tx, of, &alarm.head)?;
    Ok(true)
}

/// Holds this head instead of all others.
fn replace(tx: &mut WriteTx, from: AgreementId, head: &Signed<LogHead>) -> Result<(), StoreError> {
    for old in tx.prefix_keys::<_, (AgreementId, u64), _>(&PEER_HEADS, &from, usize::MAX)? {
        tx.remove(&PEER_HEADS, &old)?;
    }
    tx.remove(&HEAD_ALARMS, &from)?;
    tx.remove(&HEADS_UNPROVEN, &from)?;
    keep(tx, from, peek(head)?.size, head)
}

/// Whatever comes later is not explained by the counterpart's last restore.
fn settle(tx: &mut WriteTx, from: AgreementId) -> Result<(), StoreError> {
    match tx.get(&GAPS, &from)?.filter(|gap| !gap.log_settled) {
        Some(gap) => tx.put(&GAPS, &from, &GapRow { log_settled: true, ..gap }),
        None => Ok(()),
    }
}

fn keep(tx: &mut WriteTx, from: AgreementId, size: u64, head: &Signed<LogHead>) -> Result<(), StoreError> {
    tx.put(&PEER_HEADS, &(from, size), head)?;
    let sizes: Vec<(AgreementId, u64)> = tx.prefix_keys(&PEER_HEADS, &from, usize::MAX)?;
    for old in sizes.iter().rev().skip(PEER_HEADS_MAX) {
        tx.remove(&PEER_HEADS, old)?;
    }
    Ok(())
}
