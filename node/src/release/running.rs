//! The checks under way, and which message may join them.
//!
//! **Invariant:** what a scanner must pass never takes all places, and what one counterpart sent never all of those: neither
//! a scanner that hangs nor content that takes it long stops the mail of others.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Release, Told};
use crate::mailroom::release::{Place, ToRelease};

/// Messages that are checked at once: enough that their commits fall together.
const AT_ONCE_MAX: usize = 8;
/// Those among them that a scanner must pass: the others wait for no scanner.
const SCANNED_AT_ONCE_MAX: usize = AT_ONCE_MAX - 2;
/// Those among these from one counterpart.
const SCANNED_OF_ONE_MAX: usize = SCANNED_AT_ONCE_MAX / 2;
/// Large ones at once: their manifests lie in memory.
const LARGE_AT_ONCE_MAX: usize = 3;
/// Large ones that a scanner must pass, from different counterparts.
const LARGE_SCANNED_AT_ONCE_MAX: usize = LARGE_AT_ONCE_MAX - 1;
/// Bytes from which a message is a large one.
const LARGE_BYTES: u64 = 16 << 20;

/// A check under way.
pub(super) struct Check {
    pub(super) place: Place,
    pub(super) row: ToRelease,
    /// Whether the scanner is asked.
    pub(super) scan: bool,
    stop: CancellationToken,
}

impl Check {
    fn is_large(&self) -> bool {
        is_large(&self.row)
    }
}

fn is_large(row: &ToRelease) -> bool {
    row.bytes >= LARGE_BYTES
}

/// Checks under way, at most [`AT_ONCE_MAX`].
#[derive(Default)]
pub(super) struct Running {
    tasks: JoinSet<Told>,
    checks: HashMap<Id, Check>,
}

impl Running {
    pub(super) fn begin(&mut self, release: Release, place: Place, row: ToRelease, scan: bool) {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = self.tasks.spawn(async move { release.check(place, row, scan, &stopped).await });
        self.checks.insert(task.id(), Check { place, row, scan, stop });
    }

    /// Waits for the end of a check, for ever if there is none; nothing is lost if this is dropped.
    pub(super) async fn ended(&mut self) -> (Place, ToRelease, Told) {
        loop {
            let (id, told) = match self.tasks.join_next_with_id().await {
                Some(Ok(ended)) => ended,
                Some(Err(broken)) => (broken.id(), Err("the check was broken off; see the node's log".into())),
                None => std::future::pending().await,
            };
            if let Some(Check { place, row, .. }) = self.checks.remove(&id) {
                return (place, row, told);
            }
        }
    }

    /// Has the checks come to their end now that are not wanted any more.
    pub(super) fn break_off(&self, is_unwanted: impl Fn(&Check) -> bool) {
        self.checks.values().filter(|check| is_unwanted(check)).for_each(|check| check.stop.cancel());
    }

    /// Ends all checks and waits for that.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    pub(super) fn is_full(&self) -> bool {
        self.checks.len() >= AT_ONCE_MAX
    }

    /// Whether the scanner may be asked about one more.
    pub(super) fn has_room_to_scan(&self) -> bool {
        self.count(|check| check.scan) < SCANNED_AT_ONCE_MAX
    }

    pub(super) fn has_room_for(&self, place: &Place, row: &ToRelease, scan: bool) -> bool {
        let is_its_own = |check: &Check| check.scan && check.row.from == row.from;
        let large = || {
            self.count(Check::is_large) < LARGE_AT_ONCE_MAX
                && (!scan
                    || self.count(|check| check.scan && check.is_large()) < LARGE_SCANNED_AT_ONCE_MAX
                        && self.count(|check| is_its_own(check) && check.is_large()) == 0)
        };
        let scanned = || self.has_room_to_scan() && self.count(is_its_own) < SCANNED_OF_ONE_MAX;
        let runs = self.checks.values().any(|check| check.place == *place);
        !self.is_full() && !runs && (!scan || scanned()) && (!is_large(row) || large())
    }

    /// Where those stand that are checked, in order.
    #[cfg(test)]
    pub(super) fn places(&self) -> Vec<u64> {
        let mut places: Vec<u64> = self.checks.values().map(|check| check.place.1).collect();
        places.sort_unstable();
        places
    }

    fn count(&self, is_one: impl Fn(&Check) -> bool) -> usize {
        self.checks.values().filter(|check| is_one(check)).count()
    }
}

#[cfg(test)]
mod tests {
    use pakt_keys::EntityId;
    use pakt_protocol::ids::EnvelopeId;

    use super::*;

    /// Begins as many of these as may, by sender, bytes and whether they are scanned; gives which.
    fn begun(rows: &[(u8, u64, bool)]) -> Vec<usize> {
        let mut running = Running::default();
        let mut begun = Vec::new();
        for (at, &(from, bytes, scan)) in rows.iter().enumerate() {
            let (place, envelope) = ((1, at as u64), EnvelopeId([at as u8; 16]));
            let row = ToRelease { from: EntityId([from; 32]), envelope, scan, by_hand: false, bytes };
            if running.has_room_for(&place, &row, scan) {
                let task = running.tasks.spawn(std::future::pending());
                running.checks.insert(task.id(), Check { place, row, scan, stop: CancellationToken::new() });
                assert!(!running.has_room_for(&place, &row, scan), "it runs already");
                begun.push(at);
            }
        }
        begun
    }

    #[tokio::test]
    async fn what_is_scanned_never_takes_all_places_nor_one_sender_all_of_those() {
        const SMALL: u64 = 100;
        let check = |rows: &[(u8, u64, bool)], expected: &[usize]| assert_eq!(begun(rows), expected, "{rows:?}");
        check(&[(1, SMALL, true); 8], &[0, 1, 2]);
        check(&[[(1, SMALL, true); 4], [(2, SMALL, true); 4]].concat(), &[0, 1, 2, 4, 5, 6]);
        check(&(0..8).map(|from| (from, SMALL, true)).collect::<Vec<_>>(), &[0, 1, 2, 3, 4, 5]);
        check(&[(1, SMALL, false); 9], &[0, 1, 2, 3, 4, 5, 6, 7]);
        let scanned = (0..8).map(|from| (from, SMALL, true)).chain([(0, SMALL, false); 3]);
        check(&scanned.collect::<Vec<_>>(), &[0, 1, 2, 3, 4, 5, 8, 9]);
        // Large ones: one of each sender's, and one place for what no scanner must pass.
        check(&[(1, LARGE_BYTES, true), (1, LARGE_BYTES, true), (1, SMALL, true)], &[0, 2]);
        let large = (0..3).map(|from| (from, LARGE_BYTES, true)).chain([(0, LARGE_BYTES, false); 2]);
        check(&large.collect::<Vec<_>>(), &[0, 1, 3]);
        check(&[(1, LARGE_BYTES, false); 4], &[0, 1, 2]);
    }
}
