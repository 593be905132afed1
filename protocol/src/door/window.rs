//! Which counters of one dialer were accepted already, in constant memory and without a clock.
//!
//! ```text
//! accepted so far, the 64 highest:   [ 40  41  43 .. 118 ]
//!   39, 12   below the lowest of a full set: refused        41  seen: refused
//!   42       unseen, above the lowest: taken, 40 leaves     500 unseen: taken, 40 leaves
//! ```
//!
//! **Invariant:** a counter is accepted at most once, also when flights overtake each other.

use serde::{Deserialize, Serialize};

use crate::limits::DOOR_COUNTERS_MAX;
use crate::time::Time;

/// The highest accepted counters of one direction, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
pub struct CounterWindow {
    accepted: Vec<u64>,
}

impl CounterWindow {
    /// A window that has accepted nothing yet.
    pub fn new() -> CounterWindow {
        CounterWindow::default()
    }

    /// Whether a flight with this counter would be accepted.
    pub fn check(&self, counter: u64) -> bool {
        self.place_of(counter).is_some()
    }

    /// Accepts a counter, or answers `false` and changes nothing; must be durable before the dialer gets an answer.
    #[must_use]
    pub fn insert(&mut self, counter: u64) -> bool {
        let Some(place) = self.place_of(counter) else {
            return false;
        };
        self.accepted.insert(place, counter);
        if self.accepted.len() > DOOR_COUNTERS_MAX {
            self.accepted.remove(0);
        }
        true
    }

    /// The highest counter accepted so far.
    pub fn highest(&self) -> Option<u64> {
        self.accepted.last().copied()
    }

    fn place_of(&self, counter: u64) -> Option<usize> {
        let place = self.accepted.binary_search(&counter).err()?;
        let is_full = self.accepted.len() >= DOOR_COUNTERS_MAX;
        (place > 0 || !is_full).then_some(place)
    }
}

impl From<CounterWindow> for Vec<u64> {
    fn from(window: CounterWindow) -> Vec<u64> {
        window.accepted
    }
}

/// A stored window that this code cannot have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("door counters are not at most {DOOR_COUNTERS_MAX} ascending numbers")]
pub struct WindowError;

impl TryFrom<Vec<u64>> for CounterWindow {
    type Error = WindowError;

    fn try_from(accepted: Vec<u64>) -> Result<CounterWindow, WindowError> {
        let ascending = accepted.is_sorted_by(|a, b| a < b);
        match ascending && accepted.len() <= DOOR_COUNTERS_MAX {
            true => Ok(CounterWindow { accepted }),
            false => Err(WindowError),
        }
    }
}

/// The counter of a dialer's next flight: above the last one, and above those of a restored older copy of itself.
///
/// It must be durable before the flight leaves. `now` in microseconds only lifts it: a wrong clock costs nothing.
pub fn next_counter(last: u64, now: Time) -> u64 {
    last.saturating_add(1).max(now.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_only_the_unseen_above_the_lowest_of_a_full_set() {
        let mut window = CounterWindow::new();
        assert!((0..DOOR_COUNTERS_MAX as u64).all(|n| window.insert(10 + 2 * n)));
        let rows =
            [(10, false), (9, false), (0, false), (11, true), (11, false), (12, false), (13, true), (u64::MAX, true)];
        for (counter, taken) in rows {
            assert_eq!(window.check(counter), taken, "check {counter}");
            assert_eq!(window.insert(counter), taken, "insert {counter}");
        }
        assert_eq!(window.highest(), Some(u64::MAX));
        assert_eq!(Vec::from(window).len(), DOOR_COUNTERS_MAX);
    }

    #[test]
    fn a_window_that_is_not_full_takes_the_late_one() {
        let mut window = CounterWindow::new();
        for (counter, taken) in [(100, true), (5, true), (5, false), (0, true), (100, false)] {
            assert_eq!(window.insert(counter), taken, "{counter}");
        }
    }

    #[test]
    fn a_stored_window_is_checked() {
        for (stored, good) in
            [(vec![], true), (vec![1, 2], true), (vec![2, 1], false), (vec![1, 1], false), (vec![0; 65], false)]
        {
            assert_eq!(CounterWindow::try_from(stored.clone()).is_ok(), good, "{stored:?}");
        }
        let many: Vec<u64> = (0..65).collect();
        assert_eq!(CounterWindow::try_from(many), Err(WindowError));
    }

    #[test]
    fn counters_only_grow() {
        for (last, now, next) in [(0, 50, 50), (50, 50, 51), (90, 50, 91), (u64::MAX, 50, u64::MAX)] {
            assert_eq!(next_counter(last, Time(now)), next);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_accepted_twice(counters in proptest::collection::vec(0u64..300, 0..600)) {
            let mut window = CounterWindow::new();
            let mut seen = BTreeSet::new();
            for counter in counters {
                let lowest = seen.iter().rev().nth(DOOR_COUNTERS_MAX - 1).copied();
                let expected = !seen.contains(&counter) && lowest.is_none_or(|low| counter > low);
                prop_assert_eq!(window.insert(counter), expected);
                if expected {
                    seen.insert(counter);
                }
            }
        }
    }
}
