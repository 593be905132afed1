//! Simulated time: what is to happen when, and chance that comes from the seed.
//!
//! **Invariant:** what is due at the same moment happens in the order in which it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use pakt_protocol::time::Time;

/// Microseconds since the start of the run.
pub(crate) type Micros = u64;

/// One second.
pub(crate) const SECOND: Micros = 1_000_000;

/// When every run begins, on the wall: Monday, 5 January 2026, 00:00 UTC.
pub(crate) const EPOCH: Time = Time(1_767_571_200 * 1_000_000);

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Chance for one purpose: the same again from the same seed, whatever else draws.
pub(crate) fn chance(seed: u64, purpose: &str) -> fastrand::Rng {
    let mut hasher = blake3::Hasher::new_derive_key("pakt simulated chance v1");
    hasher.update(&seed.to_be_bytes()).update(purpose.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    fastrand::Rng::with_seed(u64::from_be_bytes(first))
}

/// What is planned, and what time it is.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    now: Micros,
    planned: u64,
}

struct Entry<E> {
    at: Micros,
    number: u64,
    what: E,
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), now: 0, planned: 0 }
    }
}

impl<E> Queue<E> {
    /// What time it is.
    pub(crate) fn now(&self) -> Micros {
        self.now
    }

    /// Plans something; what would lie in the past happens now.
    pub(crate) fn plan(&mut self, at: Micros, what: E) {
        let at = at.max(self.now);
        self.planned += 1;
        self.heap.push(Entry { at, number: self.planned, what });
    }

    /// When the next thing is due.
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Lets time pass to the next thing that is due.
    pub(crate) fn pop(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The clocks of one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeClock {
    /// The simulated moment from which on it runs as it does now, what the service clock showed then, and how fast it is.
    since: Micros,
    service: Time,
    ppm: i64,
    /// How far the wall clock is ahead of the service clock.
    pub(crate) wall_ahead: i64,
}

impl NodeClock {
    /// A clock that is right.
    pub(crate) fn right() -> NodeClock {
        NodeClock { since: 0, service: EPOCH, ppm: 0, wall_ahead: 0 }
    }

    /// The service clock: the wall clock at the start of the process and the time since then.
    pub(crate) fn service(&self, now: Micros) -> Time {
        let passed = i128::from(now.saturating_sub(self.since)) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        self.service + Duration::from_micros(u64::try_from(passed).unwrap_or(0))
    }

    /// The wall clock.
    pub(crate) fn wall(&self, now: Micros) -> Time {
        self.service(now).shifted(self.wall_ahead)
    }

    /// The simulated moment at which the service clock shows `at`, rounded up.
    pub(crate) fn when(&self, at: Time) -> Micros {
        let ahead = i128::from(at.since(self.service).as_micros() as u64);
        let rate = i128::from(1_000_000 + self.ppm);
        let wait = (ahead * 1_000_000 + rate - 1) / rate;
        self.since.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// From now on the clock runs so much too fast, or too slow.
    pub(crate) fn skew(&mut self, now: Micros, ppm: i64) {
        (self.service, self.since, self.ppm) = (self.service(now), now, ppm.clamp(-900_000, 900_000));
    }

    /// The process starts: its service clock begins at what the wall shows.
    pub(crate) fn restart(&mut self, now: Micros) {
        (self.service, self.since, self.wall_ahead) = (self.wall(now), now, 0);
    }

    /// How far the service clock is off the simulated time.
    pub(crate) fn off(&self, now: Micros) -> Duration {
        self.service(now).distance(EPOCH + Duration::from_micros(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_order() {
        let mut queue = Queue::default();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            queue.plan(at, what);
        }
        let order: Vec<(Micros, char)> = std::iter::from_fn(|| queue.pop().map(|what| (queue.now(), what))).collect();
        assert_eq!(order, [(1, 'a'), (3, 'b'), (5, 'c'), (5, 'd')]);
    }

    #[test]
    fn a_clock_that_runs_fast_is_read_both_ways() {
        let mut clock = NodeClock::right();
        clock.skew(1_000, 50_000);
        for at in [EPOCH + Duration::from_secs(10), EPOCH + Duration::from_micros(1_001)] {
            let when = clock.when(at);
            assert!(clock.service(when) >= at && clock.service(when - 1) < at, "{at:?}");
        }
        clock.wall_ahead = 7;
        assert_eq!(clock.wall(5_000).0, clock.service(5_000).0 + 7);
        let wall = clock.wall(9_000);
        clock.restart(9_000);
        assert_eq!(clock.service(9_000), wall);
    }

    #[test]
    fn chance_is_the_same_again_and_differs_by_purpose() {
        let draw = |seed, purpose| chance(seed, purpose).u64(..);
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }
}
