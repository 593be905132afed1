//! Sets of sequence numbers as ranges.
//!
//! **Invariant:** ranges ascend and neither overlap nor touch, so that one set has one encoding.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Ranges in one statement, at most: what is more broken up is told in several.
pub const RANGES_MAX: usize = 1_024;

/// Ranges that are out of order, overlap, touch or are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are no ascending ranges with gaps between them")]
pub struct RangesError;

/// A set of numbers: first and last of each range, both included.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// One range, both ends included; nothing if the first is above the last.
    pub fn of(first: u64, last: u64) -> Ranges {
        Ranges(if first <= last { vec![(first, last)] } else { Vec::new() })
    }

    /// Adds a range that begins above every number of the set.
    pub fn push(&mut self, first: u64, last: u64) {
        debug_assert!(first <= last && self.highest().is_none_or(|highest| highest < first));
        match self.0.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.0.push((first, last)),
        }
    }

    /// Whether one more number above all others fits into a statement.
    pub fn has_room(&self, number: u64) -> bool {
        self.0.len() < RANGES_MAX || self.highest().and_then(|highest| highest.checked_add(1)) == Some(number)
    }

    /// Whether there is no number in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// The highest number.
    pub fn highest(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// Whether the number is in it.
    pub fn contains(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// The numbers in order.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// What lies between two numbers, both included.
    pub fn within(&self, first: u64, last: u64) -> Ranges {
        let cut = self.0.iter().map(|(a, b)| ((*a).max(first), (*b).min(last)));
        Ranges(cut.filter(|(a, b)| a <= b).collect())
    }

    /// The numbers that are in either.
    pub fn or(&self, other: &Ranges) -> Ranges {
        let mut all: Vec<(u64, u64)> = self.iter().chain(other.iter()).collect();
        all.sort_unstable();
        let mut sum: Vec<(u64, u64)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match sum.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => sum.push((first, last)),
            }
        }
        Ranges(sum)
    }

    /// The numbers of this set that are not in the other.
    pub fn minus(&self, other: &Ranges) -> Ranges {
        let (mut left, mut at) = (Vec::new(), 0);
        for (mut first, last) in self.iter() {
            while at < other.0.len() && other.0[at].1 < first {
                at += 1;
            }
            let mut next = at;
            let mut done = false;
            while let Some((from, to)) = other.0.get(next).copied().filter(|(from, _)| *from <= last) {
                if from > first {
                    left.push((first, from - 1));
                }
                done = to >= last;
                if done {
                    break;
                }
                first = to + 1;
                next += 1;
            }
            if !done {
                left.push((first, last));
            }
        }
        Ranges(left)
    }

    /// The numbers that are in both.
    pub fn and(&self, other: &Ranges) -> Ranges {
        self.minus(&self.minus(other))
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Vec<(u64, u64)> {
        ranges.0
    }
}

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = RangesError;

    fn try_from(ranges: Vec<(u64, u64)>) -> Result<Ranges, RangesError> {
        let each = ranges.iter().all(|(first, last)| first <= last);
        let apart = ranges.is_sorted_by(|a, b| a.1.checked_add(1).is_some_and(|next| next < b.0));
        if each && apart && ranges.len() <= RANGES_MAX { Ok(Ranges(ranges)) } else { Err(RangesError) }
    }
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(first, last)| first..=last)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(numbers: &BTreeSet<u64>) -> Ranges {
        let mut ranges = Ranges::default();
        numbers.iter().for_each(|number| ranges.push(*number, *number));
        ranges
    }

    fn set(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.numbers().collect()
    }

    #[test]
    fn one_set_has_one_encoding() {
        let check = |ranges: &[(u64, u64)], good: bool| {
            assert_eq!(Ranges::try_from(ranges.to_vec()).is_ok(), good, "{ranges:?}");
        };
        check(&[], true);
        check(&[(1, 1), (3, 5), (7, u64::MAX)], true);
        check(&[(2, 1)], false);
        check(&[(1, 2), (3, 4)], false);
        check(&[(1, 3), (3, 4)], false);
        check(&[(5, 6), (1, 2)], false);
        check(&[(1, u64::MAX), (u64::MAX, u64::MAX)], false);
        let many = |count: u64| (0..count).map(|at| (at * 2, at * 2)).collect::<Vec<_>>();
        check(&many(RANGES_MAX as u64), true);
        check(&many(RANGES_MAX as u64 + 1), false);
    }

    #[test]
    fn the_ends_of_all_numbers_are_no_special_case() {
        let all = Ranges::of(0, u64::MAX);
        assert_eq!(all.count(), u64::MAX, "as many as can be said");
        assert!(all.minus(&all).is_empty());
        assert_eq!(all.minus(&Ranges::of(5, 5)).iter().collect::<Vec<_>>(), [(0, 4), (6, u64::MAX)]);
        assert_eq!(all.minus(&Ranges::of(5, u64::MAX)), Ranges::of(0, 4));
        assert_eq!(Ranges::of(0, 4).or(&Ranges::of(5, u64::MAX)), all);
        assert!(!Ranges::of(3, u64::MAX).has_room(0) || RANGES_MAX > 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn ranges_are_sets(a in proptest::collection::btree_set(0u64..60, 0..40), b in proptest::collection::btree_set(0u64..60, 0..40)) {
            let (x, y) = (of(&a), of(&b));
            prop_assert_eq!(set(&x), a.clone());
            prop_assert_eq!(x.count(), a.len() as u64);
            prop_assert_eq!(set(&x.or(&y)), &a | &b);
            prop_assert_eq!(set(&x.minus(&y)), &a - &b);
            prop_assert_eq!(set(&x.and(&y)), &a & &b);
            prop_assert_eq!(set(&x.within(10, 20)), a.iter().copied().filter(|n| (10..=20).contains(n)).collect::<BTreeSet<_>>());
            prop_assert!((0..60).all(|n| x.contains(n) == a.contains(&n)));
            for ranges in [x.or(&y), x.minus(&y), x.and(&y)] {
                prop_assert!(Ranges::try_from(Vec::from(ranges)).is_ok(), "canonical");
            }
        }
    }
}
