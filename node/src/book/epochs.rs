//! Epochs: one key pair a day that envelopes are sealed to, so that what was recorded does not open later.
//!
//! ```text
//! current --a day--> replaced --72 h--> erased: first the slot, then the row
//! ```
//!
//! **Invariant:** an epoch is in a roster only after its private half is durable in its slot.
//! **Invariant:** a number is never used for a second key, also not after a restored backup.

use std::sync::Arc;
use std::time::Duration;

use pakt_keys::EpochKey;
use pakt_protocol::door::next_counter;
use pakt_protocol::time::Time;

use super::rows::EpochRow;
use super::{Book, BookError, Epoch};
use crate::ambient;
use crate::slots::{SlotId, Slots, SlotsError};
use crate::store::tables::EPOCHS;
use crate::store::{Store, StoreError, WriteTx};

/// A new epoch begins this long after the one before.
const EPOCH_EVERY: Duration = Duration::from_secs(86_400);
/// A private half is erased this long after its successor was published.
const ERASED_AFTER: Duration = Duration::from_secs(72 * 3_600);

/// Makes the first epoch of a fresh store, and the next one where the current one's private half is gone: a backup
/// holds none, and nobody may be asked to seal to a key that no longer exists.
pub(super) fn make_first(store: &Store, slots: &Slots, now: Time) -> Result<(), BookError> {
    if let Some((_, row)) = store.read(current)?
        && read_key(slots, &row)?.is_some()
    {
        return Ok(());
    }
    let (_, row) = make(slots, now)?;
    store.write_blocking(move |tx| add(tx, &row).map(drop))?;
    Ok(())
}

/// The current epoch: the one with the highest number.
pub(super) fn current(tx: &impl crate::store::Rows) -> Result<Option<(u64, EpochRow)>, StoreError> {
    Ok(tx.range_backwards(&EPOCHS, .., 1)?.pop())
}

/// The private half of an epoch; `None` once it is erased.
pub(super) fn read_key(slots: &Slots, row: &EpochRow) -> Result<Option<EpochKey>, SlotsError> {
    let Some(secret) = slots.get(row.slot)? else {
        return Ok(None);
    };
    Ok(secret.as_slice().try_into().ok().map(EpochKey::from_bytes))
}

fn make(slots: &Slots, now: Time) -> Result<(EpochKey, EpochRow), SlotsError> {
    let key = EpochKey::generate(&mut ambient::rng());
    let slot = slots.put(key.to_bytes().as_slice())?;
    let row = EpochRow { slot, public: key.public(), made_at: now, replaced_at: None };
    Ok((key, row))
}

/// Adds a row as the current epoch; its number grows with the clock, so that a restored store repeats none.
fn add(tx: &mut WriteTx, row: &EpochRow) -> Result<(u64, Option<(u64, EpochRow)>), StoreError> {
    let before = current(tx)?;
    let last = before.as_ref().map_or(0, |(number, _)| *number);
    let number = next_counter(last, Time(row.made_at.seconds()));
    let before = before.map(|(number, old)| (number, EpochRow { replaced_at: Some(row.made_at), ..old }));
    if let Some((number, old)) = &before {
        tx.put(&EPOCHS, number, old)?;
    }
    tx.put(&EPOCHS, &number, row)?;
    Ok((number, before))
}

/// Moves the ages of all epochs by a jump of the clock, in microseconds.
pub(crate) fn shift(tx: &mut WriteTx, jump: i64) -> Result<(), StoreError> {
    for (number, row) in tx.range(&EPOCHS, .., usize::MAX)? {
        let shifted = EpochRow {
            made_at: row.made_at.shifted(jump),
            replaced_at: row.replaced_at.map(|at| at.shifted(jump)),
            ..row
        };
        tx.put(&EPOCHS, &number, &shifted)?;
    }
    Ok(())
}

impl Book {
    /// The private key of an epoch, while it exists.
    pub fn epoch_key(&self, epoch: u64) -> Option<Arc<EpochKey>> {
        self.state().epochs.get(&epoch).map(|epoch| epoch.key.clone())
    }

    /// The number of the current epoch.
    pub fn current_epoch(&self) -> u64 {
        self.state().epochs.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Begins a new epoch if the current one is a day old, and erases those whose time is over; answers whether a new
    /// one began.
    ///
    /// # Errors
    /// When the slots or the store fail; call it again then.
    pub async fn roll_epoch_if_due(&self, now: Time) -> Result<bool, BookError> {
        self.erase_old_epochs(now).await?;
        // A clock that was set back must not keep one epoch for ever.
        let is_due = {
            let state = self.state();
            let newest = state.epochs.last_key_value();
            newest.is_none_or(|(_, epoch)| now.distance(epoch.row.made_at) >= EPOCH_EVERY)
        };
        if is_due {
            self.begin_epoch(now).await?;
        }
        Ok(is_due)
    }

    async fn begin_epoch(&self, now: Time) -> Result<(), BookError> {
        let slots = self.inner.slots.clone();
        let (key, row) = blocking(move || make(&slots, now)).await?;
        let (inner, slot) = (self.inner.clone(), row.slot);
        let write = self.inner.store.write(move |tx| {
            let (number, before) = add(tx, &row)?;
            let key = Arc::new(key);
            inner.on_commit(tx, move |state| {
                if let Some((number, row)) = before
                    && let Some(epoch) = state.epochs.get_mut(&number)
                {
                    epoch.row = row;
                }
                state.epochs.insert(number, Epoch { row, key });
            });
            Ok(())
        });
        let written: Result<(), StoreError> = write.await;
        if let Err(error) = written {
            // No row refers to the slot, so nothing but space is lost if this fails as well.
            let _ = self.erase(vec![slot]).await;
            return Err(error.into());
        }
        Ok(())
    }

    async fn erase_old_epochs(&self, now: Time) -> Result<(), BookError> {
        let is_over = |epoch: &Epoch| epoch.row.replaced_at.is_some_and(|at| now.since(at) >= ERASED_AFTER);
        let old: Vec<(u64, SlotId)> = {
            let state = self.state();
            let over = state.epochs.iter().filter(|(_, epoch)| is_over(epoch));
            over.map(|(number, epoch)| (*number, epoch.row.slot)).collect()
        };
        if old.is_empty() {
            return Ok(());
        }
        self.erase(old.iter().map(|(_, slot)| *slot).collect()).await?;
        let inner = self.inner.clone();
        let write = self.inner.store.write(move |tx| {
            for (number, _) in &old {
                tx.remove(&EPOCHS, number)?;
            }
            inner.on_commit(tx, move |state| state.epochs.retain(|number, _| old.iter().all(|(old, _)| old != number)));
            Ok(())
        });
        let written: Result<(), StoreError> = write.await;
        Ok(written?)
    }

    async fn erase(&self, slots: Vec<SlotId>) -> Result<(), BookError> {
        let file = self.inner.slots.clone();
        blocking(move || file.erase(&slots)).await
    }
}

/// Slots block on the disk, so they get a thread of their own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SlotsError> + Send + 'static,
) -> Result<T, BookError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| StoreError::Panicked)??)
}
