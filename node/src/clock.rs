//! The service clock across restarts: what the wall clock did while the node was down.
//!
//! ```text
//! every ten minutes: (service time, boot, machine time) --> one row
//! at the next start: wall clock now - service time then - machine time in between = the jump
//! ```
//! While a node runs its service time follows the machine's monotonic clock ([`ambient::service_now`]); at a start it
//! begins at the wall clock. Deadlines that were set before move by the jump between, so that a wrong clock neither
//! expires what waits nor erases a key too early or too late. After a restart of the machine nobody knows how long it
//! was off; a gap of more than an hour counts as a jump then.
//!
//! **Invariant:** a jump is worked off once: moving the deadlines and noting the new clock is one commit.

use std::time::Duration;

use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use crate::ambient::{self, Machine};
use crate::book::shift_epochs;
use crate::mailroom::outbox::shift_deliveries;
use crate::mailroom::rate::shift_rates;
use crate::mailroom::retention::shift_retention;
use crate::store::tables::CLOCK;
use crate::store::{Store, StoreError};

/// How often the clock is noted: what a restart of the machine may cost in certainty.
pub const NOTE_EVERY: Duration = Duration::from_secs(600);
/// A smaller difference is a clock that was set right, or one that drifts.
const JUMP_MIN: Duration = Duration::from_secs(3_600);

/// The service time at a moment of the machine's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockRow {
    service: Time,
    machine: Option<Machine>,
}

impl ClockRow {
    fn now() -> ClockRow {
        ClockRow { service: ambient::service_now(), machine: ambient::machine() }
    }

    /// Microseconds by which the wall clock went ahead (or back) of the time that passed since `earlier`; 0 if hardly.
    fn jump_since(&self, earlier: &ClockRow) -> i64 {
        let apart = i128::from(self.service.0) - i128::from(earlier.service.0);
        let passed = match (self.machine, earlier.machine) {
            (Some(now), Some(then)) if now.boot == then.boot => now.since_boot.saturating_sub(then.since_boot),
            _ => Duration::ZERO,
        };
        let jump = i64::try_from(apart - passed.as_micros() as i128).unwrap_or(0);
        if Duration::from_micros(jump.unsigned_abs()) > JUMP_MIN { jump } else { 0 }
    }
}

/// Works off what the wall clock did since the last run, before anything looks at a deadline; gives the jump in seconds.
/// Blocks on the disk.
///
/// # Errors
/// When the store fails.
pub fn settle(store: &Store) -> Result<Option<i64>, StoreError> {
    settle_at(store, ClockRow::now())
}

fn settle_at(store: &Store, now: ClockRow) -> Result<Option<i64>, StoreError> {
    store.write_blocking(move |tx| {
        let jump = tx.get(&CLOCK, &())?.map_or(0, |earlier| now.jump_since(&earlier));
        if jump != 0 {
            shift_deliveries(tx, jump)?;
            shift_epochs(tx, jump)?;
            shift_rates(tx, jump)?;
            shift_retention(tx, jump)?;
        }
        tx.put(&CLOCK, &(), &now)?;
        Ok((jump != 0).then_some(jump / 1_000_000))
    })
}

/// Notes the clock as it is now.
///
/// # Errors
/// When the store fails.
pub async fn note(store: &Store) -> Result<(), StoreError> {
    store.write(|tx| tx.put(&CLOCK, &(), &ClockRow::now())).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pakt_keys::store_seal::StoreKey;

    use super::*;
    use crate::disk::FaultDisk;

    const HOUR: u64 = 3_600;

    fn row(service_s: u64, boot: u8, since_boot_s: u64) -> ClockRow {
        let machine = Machine { boot: [boot; 16], since_boot: Duration::from_secs(since_boot_s) };
        ClockRow { service: Time::from_seconds(service_s), machine: Some(machine) }
    }

    #[test]
    fn only_what_did_not_pass_is_a_jump() {
        let check = |then: ClockRow, now: ClockRow, hours: i64| {
            assert_eq!(now.jump_since(&then), hours * 3_600_000_000, "{then:?} {now:?}");
        };
        let day = 24 * HOUR;
        check(row(day, 1, 100), row(day + 60, 1, 160), 0);
        // A day in which the machine ran and the node did not.
        check(row(day, 1, 100), row(2 * day, 1, 100 + day), 0);
        check(row(day, 1, 100), row(31 * day, 1, 100), 720);
        check(row(31 * day, 1, 100), row(day, 1, 100), -720);
        check(row(day, 1, 100), row(day + HOUR, 1, 100), 0);
        // Another boot: an hour is believed, more is not.
        check(row(day, 1, 100), row(day + HOUR, 2, 5), 0);
        check(row(day, 1, 100), row(day + 2 * HOUR, 2, 5), 2);
        check(ClockRow { machine: None, ..row(day, 1, 1) }, row(day + 2 * HOUR, 1, 1), 2);
    }

    #[test]
    fn a_jump_is_worked_off_once() {
        let key = StoreKey::from_bytes([7; 32]);
        let store = Store::open(FaultDisk::new(), Path::new("/data/pakt.redb"), key).unwrap();
        assert_eq!(settle_at(&store, row(1_000, 1, 10)).unwrap(), None);
        let later = row(1_000 + 30 * 24 * HOUR, 1, 20);
        assert_eq!(settle_at(&store, later).unwrap(), Some(30 * 24 * HOUR as i64 - 10));
        assert_eq!(settle_at(&store, later).unwrap(), None);
    }
}
