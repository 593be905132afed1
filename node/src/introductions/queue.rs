//! What leaves: introduction messages by agreement, this entity's own and those that are passed on.
//!
//! **Invariant:** a message is durable here before the one that it came from is told that it was taken, and stays until
//! the next one has taken it or its time is over.
//! **Invariant:** what is held for one counterpart, and what one counterpart has waiting, is bounded.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::audit::IntroductionStep;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::introduction::{
    HELD_FOR, WAITING_BETWEEN_MAX, WAITING_BYTES_MAX, WAITING_FOR_MAX, WAITING_MAX, bytes,
};
use pakt_protocol::message::introduction::{Introduction, IntroductionFate, IntroductionId};
use pakt_protocol::time::Time;

use super::rows::OutRow;
use super::{Introductions, step};
use crate::audit;
use crate::store::tables::{CARDS_ASKED, INTRODUCTIONS_OUT, OFFERED};
use crate::store::{Store, StoreError, WriteTx};

/// Rows that are read at once; the queue of one counterpart is shorter.
const ROWS_MAX: usize = 1_000_000;
/// How long this entity's own messages are tried.
const OWN_HELD_FOR: Duration = Duration::from_secs(30 * 86_400);

/// What waits, by the agreement it leaves under and by the one it came under.
#[derive(Default)]
pub(super) struct Waiting {
    leaving: HashMap<AgreementId, BTreeSet<u64>>,
    /// How many came under the second and leave under the first.
    between: HashMap<(AgreementId, AgreementId), usize>,
    from: HashMap<AgreementId, (usize, usize)>,
    ids: HashSet<(EntityId, IntroductionId)>,
}

impl Waiting {
    pub(super) fn load(store: &Store) -> Result<Waiting, StoreError> {
        let mut waiting = Waiting::default();
        for ((lane, number), row) in store.read(|tx| tx.range(&INTRODUCTIONS_OUT, .., ROWS_MAX))? {
            waiting.add(lane, number, &row);
        }
        Ok(waiting)
    }

    fn add(&mut self, lane: AgreementId, number: u64, row: &OutRow) {
        self.leaving.entry(lane).or_default().insert(number);
        self.ids.insert((row.message.from, row.message.id));
        if let Some(origin) = row.origin {
            *self.between.entry((lane, origin)).or_default() += 1;
            let (count, size) = self.from.entry(origin).or_default();
            *count += 1;
            *size += bytes(&row.message);
        }
    }

    fn remove(&mut self, lane: AgreementId, number: u64, row: &OutRow) {
        if let Some(numbers) = self.leaving.get_mut(&lane) {
            numbers.remove(&number);
        }
        self.leaving.retain(|_, numbers| !numbers.is_empty());
        self.ids.remove(&(row.message.from, row.message.id));
        let Some(origin) = row.origin else { return };
        if let Some(count) = self.between.get_mut(&(lane, origin)) {
            *count = count.saturating_sub(1);
        }
        self.between.retain(|_, count| *count > 0);
        if let Some((count, size)) = self.from.get_mut(&origin) {
            *count = count.saturating_sub(1);
            *size = size.saturating_sub(bytes(&row.message));
        }
    }

    /// Whether an answer may be added that nobody here has decided about.
    pub(super) fn may_answer(&self, lane: &AgreementId) -> bool {
        self.leaving.get(lane).is_none_or(|numbers| numbers.len() < WAITING_FOR_MAX)
    }

    /// The first messages that leave under an agreement, but for those that `skip` names.
    fn first(&self, lane: &AgreementId, limit: usize, skip: impl Fn(u64) -> bool) -> Vec<u64> {
        let numbers = self.leaving.get(lane).into_iter().flatten().copied();
        numbers.filter(|number| !skip(*number)).take(limit).collect()
    }

    fn has_room(&self, lane: &AgreementId, origin: &AgreementId, message: &Introduction) -> bool {
        let (count, size) = self.from.get(origin).copied().unwrap_or_default();
        let between = self.between.get(&(*lane, *origin)).copied().unwrap_or_default();
        let of_this_one = count < WAITING_MAX && size + bytes(message) <= WAITING_BYTES_MAX;
        of_this_one && between < WAITING_BETWEEN_MAX && self.may_answer(lane)
    }
}

impl Introductions {
    /// Holds a counterpart's message for its recipient; a duplicate of one that waits is held once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pass_on(
        &self,
        lane: AgreementId,
        origin: AgreementId,
        message: Introduction,
        now: Time,
    ) -> Result<IntroductionFate, StoreError> {
        {
            let waiting = self.waiting();
            if waiting.ids.contains(&(message.from, message.id)) {
                return Ok(IntroductionFate::Taken);
            }
            if !waiting.has_room(&lane, &origin, &message) {
                return Ok(IntroductionFate::Later);
            }
        }
        let event = step(origin, message.to, IntroductionStep::PassedOn);
        let from = message.from;
        let row = OutRow { message, origin: Some(origin), queued_at: now };
        let this = self.clone();
        let write = self.inner.store.write(move |tx| {
            audit::append_paced(tx, (origin, from), event)?;
            this.put(tx, lane, row)
        });
        write.await?;
        Ok(IntroductionFate::Taken)
    }

    /// Adds a message within a change of the store.
    pub(super) fn put(&self, tx: &mut WriteTx, lane: AgreementId, row: OutRow) -> Result<(), StoreError> {
        let number = tx.next_sequence("introductions")?;
        tx.put(&INTRODUCTIONS_OUT, &(lane, number), &row)?;
        let this = self.clone();
        tx.on_commit(move || this.waiting().add(lane, number, &row));
        Ok(())
    }

    /// The oldest messages that leave under an agreement, but for those that `skip` names.
    ///
    /// # Errors
    /// When the store fails.
    pub fn leaving(
        &self,
        lane: &AgreementId,
        limit: usize,
        skip: impl Fn(u64) -> bool,
    ) -> Result<Vec<(u64, Introduction)>, StoreError> {
        let numbers = self.waiting().first(lane, limit, skip);
        self.inner.store.read(|tx| {
            let mut found = Vec::with_capacity(numbers.len());
            for number in numbers {
                if let Some(row) = tx.get(&INTRODUCTIONS_OUT, &(*lane, number))? {
                    found.push((number, row.message));
                }
            }
            Ok(found)
        })
    }

    /// The counterpart has taken a message, or passes none on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn left(&self, lane: AgreementId, number: u64, fate: IntroductionFate) -> Result<(), StoreError> {
        let this = self.clone();
        let write = self.inner.store.write(move |tx| {
            let Some(row) = tx.get(&INTRODUCTIONS_OUT, &(lane, number))? else { return Ok(()) };
            this.remove(tx, lane, number)?;
            if fate == IntroductionFate::NotPassedOn && row.origin.is_none() {
                not_passed_on(tx, lane, &row.message)?;
            }
            Ok(())
        });
        write.await
    }

    fn remove(&self, tx: &mut WriteTx, lane: AgreementId, number: u64) -> Result<(), StoreError> {
        let Some(row) = tx.get(&INTRODUCTIONS_OUT, &(lane, number))? else { return Ok(()) };
        tx.remove(&INTRODUCTIONS_OUT, &(lane, number))?;
        let this = self.clone();
        tx.on_commit(move || this.waiting().remove(lane, number, &row));
        Ok(())
    }

    /// Drops what has waited too long, or what `is_over` says of the agreements that it leaves or came under.
    pub(super) async fn drop_out(
        &self,
        now: Time,
        is_over: impl Fn(&AgreementId) -> bool + Send + 'static,
    ) -> Result<usize, StoreError> {
        let this = self.clone();
        let write = self.inner.store.write(move |tx| {
            let mut dropped = 0;
            for ((lane, number), row) in tx.range(&INTRODUCTIONS_OUT, .., ROWS_MAX)? {
                let held_for = if row.origin.is_some() { HELD_FOR } else { OWN_HELD_FOR };
                if now.since(row.queued_at) >= held_for || is_over(&lane) || row.origin.as_ref().is_some_and(&is_over) {
                    this.remove(tx, lane, number)?;
                    dropped += 1;
                }
            }
            Ok::<_, StoreError>(dropped)
        });
        write.await
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes at what an own message was about that the introducer passes nothing on.
fn not_passed_on(tx: &mut WriteTx, lane: AgreementId, message: &Introduction) -> Result<(), StoreError> {
    if let Some(row) = tx.get(&CARDS_ASKED, &message.to)?
        && row.id == message.id
    {
        tx.put(&CARDS_ASKED, &message.to, &super::rows::AskedRow { not_passed_on: true, ..row })?;
    }
    for (id, row) in tx.range(&OFFERED, .., ROWS_MAX)? {
        if row.via == Some(lane) && row.letter == Some(message.id) {
            tx.put(&OFFERED, &id, &super::rows::OfferedRow { not_passed_on: true, ..row })?;
        }
    }
    Ok(())
}
