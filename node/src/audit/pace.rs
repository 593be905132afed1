//! Steps that a counterpart causes as often as it likes: so many a day are entries, the others are counted.
//!
//! ```text
//! a step --> fewer than 64 of its sort today: an entry
//!        --> else: the count of the day --> one entry with the count, once the day is over
//! ```
//! Keys that a counterpart replaces are a sort of their own: nothing else that it does keeps them out of the log.
//! What a counterpart can do only so often anyway (sign statements, send within its rate) is not counted here.
//!
//! **Invariant:** a step that is no entry is in a count that will be one, in the commit of the step.
//! **Invariant:** one counterpart adds at most [`STEPS_A_DAY_MAX`] + [`KEYS_A_DAY_MAX`] + 1 such entries a day.

use pakt_keys::EntityId;
use pakt_protocol::audit::{AgreementStep, Event};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::append;
use crate::ambient;
use crate::store::tables::AUDIT_PACES;
use crate::store::{Rows, StoreError, WriteTx};

/// Steps of one counterpart that are entries on one day (UTC), but for its keys.
pub(crate) const STEPS_A_DAY_MAX: u32 = 64;
/// Replacements of its keys by one counterpart that are entries on one day (UTC): far more than an honest one makes.
pub(crate) const KEYS_A_DAY_MAX: u32 = 64;
/// Counterparts whose counts are written at once; far above what one node has.
const ROWS_MAX: usize = 100_000;
const DAY_SECONDS: u64 = 86_400;

/// What a counterpart has added today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PaceRow {
    entity: EntityId,
    day: u32,
    written: u32,
    keys_written: u32,
    left_out: u64,
}

/// Adds an entry that a counterpart caused under an agreement, unless it has caused too many today: then it is counted.
///
/// # Errors
/// When the store fails.
pub(crate) fn append_paced(
    tx: &mut WriteTx,
    (agreement, entity): (AgreementId, EntityId),
    event: Event,
) -> Result<(), StoreError> {
    append_paced_on(tx, day_of(ambient::now()), (agreement, entity), event)
}

fn append_paced_on(
    tx: &mut WriteTx,
    day: u32,
    (agreement, entity): (AgreementId, EntityId),
    event: Event,
) -> Result<(), StoreError> {
    let mut row = match tx.get(&AUDIT_PACES, &agreement)? {
        Some(row) if row.day == day => row,
        before => {
            if let Some(before) = before {
                write_count(tx, agreement, &before)?;
            }
            PaceRow { entity, day, written: 0, keys_written: 0, left_out: 0 }
        }
    };
    let (written, max) = match event {
        Event::Agreement { step: AgreementStep::KeysReplacedByPeer, .. } => (&mut row.keys_written, KEYS_A_DAY_MAX),
        _ => (&mut row.written, STEPS_A_DAY_MAX),
    };
    if *written < max {
        *written += 1;
        append(tx, event)?;
    } else {
        if row.left_out == 0 {
            tracing::warn!(%agreement, "the counterpart causes more steps than a day's log takes; they are counted");
        }
        row.left_out += 1;
    }
    tx.put(&AUDIT_PACES, &agreement, &row)
}

/// Writes the counts of days that are over.
///
/// # Errors
/// When the store fails.
pub(super) fn settle(tx: &mut WriteTx, now: Time) -> Result<(), StoreError> {
    let today = day_of(now);
    for (agreement, row) in tx.range(&AUDIT_PACES, .., ROWS_MAX)? {
        if row.day != today {
            write_count(tx, agreement, &row)?;
            tx.remove(&AUDIT_PACES, &agreement)?;
        }
    }
    Ok(())
}

/// Whether there is a count of a day that is over.
///
/// # Errors
/// When the store fails.
pub(super) fn is_due(tx: &impl Rows, now: Time) -> Result<bool, StoreError> {
    let today = day_of(now);
    Ok(tx.range(&AUDIT_PACES, .., ROWS_MAX)?.iter().any(|(_, row)| row.day != today))
}

fn write_count(tx: &mut WriteTx, agreement: AgreementId, row: &PaceRow) -> Result<(), StoreError> {
    let &PaceRow { entity, day, left_out: count, .. } = row;
    if count == 0 {
        return Ok(());
    }
    append(tx, Event::LeftOut { agreement, entity, day, count })
}

fn day_of(at: Time) -> u32 {
    u32::try_from(at.0 / 1_000_000 / DAY_SECONDS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pakt_keys::store_seal::StoreKey;

    use super::super::{page, size};
    use super::*;
    use crate::disk::FaultDisk;
    use crate::store::Store;

    #[test]
    fn p25_a_counterpart_cannot_fill_the_log_and_nothing_goes_uncounted() {
        let store = Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let (noisy, quiet) = (AgreementId([1; 32]), AgreementId([2; 32]));
        let step = |agreement, counter| Event::PeerAttested { agreement, counter };
        let write = |day: u32, agreement: AgreementId, counter: u64| {
            let entity = EntityId(agreement.0);
            let event = step(agreement, counter);
            store.write_blocking(move |tx| append_paced_on(tx, day, (agreement, entity), event)).unwrap();
        };
        for counter in 0..1_000 {
            write(100, noisy, counter);
        }
        write(100, quiet, 1);
        let max = u64::from(STEPS_A_DAY_MAX);
        assert_eq!(store.read(size).unwrap(), max + 1, "the quiet one has its own count");
        // The next day its count is written before anything else of it.
        write(101, noisy, 1_000);
        let entries = store.read(|tx| page(tx, max + 1, 10)).unwrap();
        let events: Vec<Event> = entries.into_iter().map(|(_, entry)| entry.event).collect();
        let left_out = Event::LeftOut { agreement: noisy, entity: EntityId(noisy.0), day: 100, count: 1_000 - max };
        assert_eq!(events, [left_out, step(noisy, 1_000)]);
        // A day that is over is settled also where nothing more comes; where nothing was left out, without an entry.
        let later = Time::from_seconds(102 * DAY_SECONDS);
        assert!(store.read(|tx| is_due(tx, later)).unwrap());
        let before = store.read(size).unwrap();
        store.write_blocking(move |tx| settle(tx, later)).unwrap();
        assert_eq!(store.read(size).unwrap(), before);
        assert!(!store.read(|tx| is_due(tx, later)).unwrap());
    }

    #[test]
    fn a_counterpart_cannot_keep_the_replacement_of_its_keys_out_of_the_log() {
        let store = Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let (agreement, entity) = (AgreementId([1; 32]), EntityId([1; 32]));
        let step = AgreementStep::KeysReplacedByPeer;
        let replaced = Event::Agreement { agreement, entity, version: 1, step };
        let write =
            |event| store.write_blocking(move |tx| append_paced_on(tx, 100, (agreement, entity), event)).unwrap();
        for counter in 0..1_000 {
            write(Event::PeerAttested { agreement, counter });
        }
        write(replaced.clone());
        let last = store.read(|tx| page(tx, size(tx)? - 1, 1)).unwrap().remove(0).1.event;
        assert_eq!(last, replaced);
        // Of these too there is an end.
        for _ in 0..1_000 {
            write(replaced.clone());
        }
        assert_eq!(store.read(size).unwrap(), u64::from(STEPS_A_DAY_MAX + KEYS_A_DAY_MAX));
        store.write_blocking(|tx| settle(tx, Time::from_seconds(101 * DAY_SECONDS))).unwrap();
        let last = store.read(|tx| page(tx, size(tx)? - 1, 1)).unwrap().remove(0).1.event;
        let count = 2_001 - u64::from(STEPS_A_DAY_MAX + KEYS_A_DAY_MAX);
        assert_eq!(last, Event::LeftOut { agreement, entity, day: 100, count });
    }
}
