//! Whether what arrives is taken: the evidence for the receiver control `journal`.
//!
//! ```text
//! released --> open, by the time of its release --> taken: counted on its day, in time or late
//!                                               \-> gone (returned, deleted): counted nowhere
//! ```
//! The control is on while every message that was released in the last 30 days was taken within 72 hours, at least one was,
//! and none waits longer than that. All times are those of the service clock.
//!
//! **Invariant:** a step of a message and its row here are one commit.
//! **Invariant:** default deny: without a message that was taken in time there is no evidence, and a jump of the clock can
//! take evidence away, not make it.

use std::time::Duration;

use pakt_protocol::controls::Evidence;
use pakt_protocol::record::receipt::{Tier, Verdict};
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::receipts::Arrived;
use crate::ambient;
use crate::controls::Source;
use crate::store::tables::{JOURNAL_AT, JOURNAL_DAYS, JOURNAL_OPEN};
use crate::store::{Rows, Store, StoreError, WriteTx};

/// Within this time somebody takes what was released: a weekend and a day.
const TAKEN_WITHIN: Duration = Duration::from_secs(72 * 3_600);
/// For so many days the routine must have worked.
const DAYS: u32 = 30;
const DAY_SECONDS: u64 = 86_400;

/// What was taken on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalDay {
    in_time: u64,
    late: u64,
}

/// Something was stated about a message that arrived, in the commit of the statement.
///
/// # Errors
/// When the store fails.
pub(crate) fn stated(tx: &mut WriteTx, arrived: Arrived, verdict: Verdict) -> Result<(), StoreError> {
    stated_at(tx, arrived, verdict, ambient::service_now())
}

fn stated_at(tx: &mut WriteTx, arrived: Arrived, verdict: Verdict, now: Time) -> Result<(), StoreError> {
    match verdict {
        Verdict::Held(Tier::Delivered) => Ok(()),
        Verdict::Held(Tier::Released) => released(tx, arrived, now),
        Verdict::Held(Tier::Taken) => taken(tx, arrived, now),
        Verdict::Unopenable | Verdict::Conflict | Verdict::PurposeNotAgreed => gone(tx, arrived),
        Verdict::Quarantined | Verdict::Recalled | Verdict::Returned | Verdict::NotHeld => gone(tx, arrived),
    }
}

/// A message became visible in its group's mailbox.
fn released(tx: &mut WriteTx, arrived: Arrived, now: Time) -> Result<(), StoreError> {
    if tx.contains(&JOURNAL_AT, &arrived)? {
        return Ok(());
    }
    tx.put(&JOURNAL_AT, &arrived, &now)?;
    tx.put(&JOURNAL_OPEN, &(now, arrived.0, arrived.1), &())
}

/// Somebody took a message.
fn taken(tx: &mut WriteTx, arrived: Arrived, now: Time) -> Result<(), StoreError> {
    let Some(released_at) = tx.get(&JOURNAL_AT, &arrived)? else { return Ok(()) };
    gone(tx, arrived)?;
    let today = day_of(now);
    let mut day = tx.get(&JOURNAL_DAYS, &today)?.unwrap_or_default();
    if now.since(released_at) <= TAKEN_WITHIN {
        day.in_time += 1
    } else {
        day.late += 1
    }
    for old in tx.prefix_keys(&JOURNAL_DAYS, &(), usize::MAX)?.into_iter().filter(|old| today.abs_diff(*old) > DAYS) {
        tx.remove(&JOURNAL_DAYS, &old)?;
    }
    tx.put(&JOURNAL_DAYS, &today, &day)
}

/// A message will not be taken: it was returned, recalled or deleted.
///
/// # Errors
/// When the store fails.
pub(crate) fn gone(tx: &mut WriteTx, arrived: Arrived) -> Result<(), StoreError> {
    if let Some(released_at) = tx.get(&JOURNAL_AT, &arrived)? {
        tx.remove(&JOURNAL_AT, &arrived)?;
        tx.remove(&JOURNAL_OPEN, &(released_at, arrived.0, arrived.1))?;
    }
    Ok(())
}

/// The source of the control `journal`.
pub(crate) struct Journal {
    store: Store,
}

impl Journal {
    /// What this store says about taken messages.
    pub(crate) fn new(store: Store) -> Journal {
        Journal { store }
    }
}

impl Source for Journal {
    fn evidence(&self) -> Evidence {
        let found = self.store.read(|tx| evidence(tx, ambient::service_now()));
        found.unwrap_or_else(|error: StoreError| {
            tracing::error!(%error, "what was taken cannot be read; the control is not attested");
            Evidence::None
        })
    }
}

fn evidence(tx: &impl Rows, now: Time) -> Result<Evidence, StoreError> {
    let oldest = tx.range(&JOURNAL_OPEN, .., 1)?.into_iter().next();
    if oldest.is_some_and(|((released_at, _, _), ())| now.distance(released_at) > TAKEN_WITHIN) {
        return Ok(Evidence::None);
    }
    let today = day_of(now);
    let days = tx.range(&JOURNAL_DAYS, today.saturating_sub(DAYS)..=today, usize::MAX)?;
    let (in_time, late) = days.iter().fold((0, 0), |sum, (_, day)| (sum.0 + day.in_time, sum.1 + day.late));
    if in_time == 0 || late > 0 {
        return Ok(Evidence::None);
    }
    // Without counts: what is said to counterparts is the same as long as it is true.
    let hours = TAKEN_WITHIN.as_secs() / 3_600;
    Ok(Evidence::On(format!("every message of the last {DAYS} days was taken within {hours} hours")))
}

fn day_of(at: Time) -> u32 {
    u32::try_from(at.0 / 1_000_000 / DAY_SECONDS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pakt_keys::EntityId;
    use pakt_keys::store_seal::StoreKey;
    use pakt_protocol::ids::EnvelopeId;

    use super::*;
    use crate::disk::FaultDisk;

    const HOUR: Duration = Duration::from_secs(3_600);
    /// What was stated about a message, and the hour of it.
    type Step = (u8, Verdict, u32);

    const RELEASED: Verdict = Verdict::Held(Tier::Released);
    const TAKEN: Verdict = Verdict::Held(Tier::Taken);

    fn is_on(steps: &[Step], at_hours: u32) -> bool {
        let store = Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let begin = Time::from_seconds(1_000 * DAY_SECONDS);
        let at = move |hours: u32| begin + HOUR * hours;
        for &(number, verdict, hour) in steps {
            let arrived = (EntityId([1; 32]), EnvelopeId([number; 16]));
            store.write_blocking(move |tx| stated_at(tx, arrived, verdict, at(hour))).unwrap();
        }
        let found = store.read(|tx| evidence(tx, at(at_hours))).unwrap();
        matches!(found, Evidence::On(_))
    }

    #[test]
    fn the_journal_control_is_on_only_while_everything_is_taken_in_time() {
        let month = 31 * 24;
        let first = [(1, RELEASED, 0), (1, TAKEN, 1)];
        let then = |more: &[Step]| [&first, more].concat();
        let rows: Vec<(&str, Vec<Step>, u32, bool)> = vec![
            ("nothing was ever received", vec![], 0, false),
            ("one waits, none was taken", vec![(1, RELEASED, 0)], 1, false),
            ("one was taken", then(&[]), 2, true),
            ("another waits for a while", then(&[(2, RELEASED, 1)]), 72, true),
            ("another waits too long", then(&[(2, RELEASED, 1)]), 74, false),
            ("it was returned", then(&[(2, RELEASED, 1), (2, Verdict::Returned, 2)]), 74, true),
            ("one was taken late", then(&[(2, RELEASED, 1), (2, TAKEN, 74)]), 75, false),
            (
                "that was a month ago",
                then(&[(2, RELEASED, 1), (2, TAKEN, 74), (3, RELEASED, 80 + month), (3, TAKEN, 81 + month)]),
                82 + month,
                true,
            ),
            ("nothing for a month", then(&[]), 25 + month, false),
            ("one that is not open was taken", vec![(1, TAKEN, 1)], 2, false),
            ("taken twice", then(&[(1, TAKEN, 100)]), 101, true),
            ("released twice", then(&[(2, RELEASED, 1), (2, RELEASED, 70), (2, TAKEN, 80)]), 81, false),
        ];
        for (what, steps, at, expected) in rows {
            assert_eq!(is_on(&steps, at), expected, "{what}");
        }
    }

    #[test]
    fn p27_a_clock_that_went_back_makes_no_evidence() {
        let back = [(1, RELEASED, 200), (2, RELEASED, 200), (2, TAKEN, 201)];
        assert!(!is_on(&back, 100), "it was taken in the future, and the other waits from there");
    }
}
