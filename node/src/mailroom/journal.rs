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

use pakt_keys::EntityId;
use pakt_protocol::controls::Evidence;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use crate::ambient;
use crate::controls::Source;
use crate::store::tables::{JOURNAL_DAYS, JOURNAL_OPEN};
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

/// A message became visible in its group's mailbox.
///
/// # Errors
/// When the store fails.
pub(crate) fn released(tx: &mut WriteTx, from: EntityId, envelope: EnvelopeId, now: Time) -> Result<(), StoreError> {
    tx.put(&JOURNAL_OPEN, &(now, from, envelope), &())
}

/// Somebody took a message that was released at this time.
///
/// # Errors
/// When the store fails.
pub(crate) fn taken(
    tx: &mut WriteTx,
    (from, envelope, released_at): (EntityId, EnvelopeId, Time),
    now: Time,
) -> Result<(), StoreError> {
    if !tx.contains(&JOURNAL_OPEN, &(released_at, from, envelope))? {
        return Ok(());
    }
    gone(tx, from, envelope, released_at)?;
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

/// A message that was released at this time will not be taken: it was returned or deleted.
///
/// # Errors
/// When the store fails.
pub(crate) fn gone(
    tx: &mut WriteTx,
    from: EntityId,
    envelope: EnvelopeId,
    released_at: Time,
) -> Result<(), StoreError> {
    tx.remove(&JOURNAL_OPEN, &(released_at, from, envelope)).map(drop)
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

    use pakt_keys::store_seal::StoreKey;

    use super::*;
    use crate::disk::FaultDisk;

    const HOUR: Duration = Duration::from_secs(3_600);
    const FROM: EntityId = EntityId([1; 32]);

    /// A message (number, hours until it was released), and when it was taken or went.
    enum Step {
        Released(u8, u32),
        Taken(u8, u32, u32),
        Gone(u8, u32),
    }

    fn is_on(steps: &[Step], at_hours: u32) -> bool {
        let store = Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let begin = Time::from_seconds(1_000 * DAY_SECONDS);
        let at = move |hours: u32| begin + HOUR * hours;
        for step in steps {
            let envelope = |number: u8| EnvelopeId([number; 16]);
            let write = match *step {
                Step::Released(number, when) => {
                    store.write_blocking(move |tx| released(tx, FROM, envelope(number), at(when)))
                }
                Step::Taken(number, since, when) => {
                    store.write_blocking(move |tx| taken(tx, (FROM, envelope(number), at(since)), at(when)))
                }
                Step::Gone(number, since) => {
                    store.write_blocking(move |tx| gone(tx, FROM, envelope(number), at(since)))
                }
            };
            write.unwrap();
        }
        let found = store.read(|tx| evidence(tx, at(at_hours))).unwrap();
        matches!(found, Evidence::On(_))
    }

    #[test]
    fn the_journal_control_is_on_only_while_everything_is_taken_in_time() {
        use Step::{Gone, Released, Taken};
        let month = 31 * 24;
        let rows: Vec<(&str, Vec<Step>, u32, bool)> = vec![
            ("nothing was ever received", vec![], 0, false),
            ("one waits, none was taken", vec![Released(1, 0)], 1, false),
            ("one was taken", vec![Released(1, 0), Taken(1, 0, 1)], 2, true),
            ("another waits for a while", vec![Released(1, 0), Taken(1, 0, 1), Released(2, 1)], 72, true),
            ("another waits too long", vec![Released(1, 0), Taken(1, 0, 1), Released(2, 1)], 74, false),
            ("it was returned", vec![Released(1, 0), Taken(1, 0, 1), Released(2, 1), Gone(2, 1)], 74, true),
            ("one was taken late", vec![Released(1, 0), Taken(1, 0, 1), Released(2, 1), Taken(2, 1, 74)], 75, false),
            (
                "that was a month ago",
                vec![Released(1, 0), Taken(1, 0, 80), Released(2, month), Taken(2, month, month)],
                80 + month,
                true,
            ),
            ("nothing for a month", vec![Released(1, 0), Taken(1, 0, 1)], 25 + month, false),
            ("one that is not open was taken", vec![Taken(1, 0, 1)], 2, false),
            ("taken twice", vec![Released(1, 0), Taken(1, 0, 1), Taken(1, 0, 100)], 101, true),
        ];
        for (what, steps, at, expected) in rows {
            assert_eq!(is_on(&steps, at), expected, "{what}");
        }
    }

    #[test]
    fn p27_a_clock_that_went_back_makes_no_evidence() {
        let back = [Step::Released(1, 200), Step::Released(2, 200), Step::Taken(2, 200, 201)];
        assert!(!is_on(&back, 100), "it was taken in the future, and the other waits from there");
    }
}
