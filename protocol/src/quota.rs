//! How often a counterpart may do something: an allowance that fills up again evenly.

use std::time::Duration;

use crate::time::Time;

/// So many per span; after a pause all of them at once.
#[derive(Debug, Clone)]
pub struct Quota {
    count: u32,
    per: Duration,
    /// Microseconds of the span that are unused.
    left: u64,
    seen: Option<Time>,
}

impl Quota {
    /// An unused allowance of `count` per `per`.
    pub fn new(count: u32, per: Duration) -> Quota {
        Quota { count, per, left: micros(per), seen: None }
    }

    /// Takes one, if there is one at `now`.
    pub fn take(&mut self, now: Time) -> bool {
        let passed = self.seen.map_or(Duration::ZERO, |seen| now.since(seen));
        self.seen = Some(now);
        self.left = self.left.saturating_add(micros(passed)).min(micros(self.per));
        let enough = self.left >= self.price();
        if enough {
            self.left -= self.price();
        }
        enough
    }

    /// One that was taken was not used.
    pub fn give_back(&mut self) {
        self.left = self.left.saturating_add(self.price()).min(micros(self.per));
    }

    /// Whether nothing is missing at `now`, as if none was ever taken.
    pub fn is_whole(&self, now: Time) -> bool {
        let passed = self.seen.map_or(Duration::ZERO, |seen| now.since(seen));
        self.left.saturating_add(micros(passed)) >= micros(self.per)
    }

    fn price(&self) -> u64 {
        micros(self.per) / u64::from(self.count.max(1))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_no_more_than_it_has_and_fills_up_again() {
        let minute = Duration::from_secs(60);
        let mut quota = Quota::new(3, minute);
        let mut at = |seconds: u64| quota.take(Time::from_seconds(seconds));
        assert_eq!([at(100), at(100), at(100), at(100)], [true, true, true, false]);
        assert_eq!([at(119), at(120), at(120)], [false, true, false], "one more after a third of the span");
        assert_eq!([at(9_000), at(9_000), at(9_000), at(9_000)], [true, true, true, false], "never more than all");
        assert!(!at(10), "a clock that goes back gives nothing");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut quota = Quota::new(1, Duration::from_secs(60));
        let now = Time::from_seconds(100);
        assert!(quota.is_whole(now) && quota.take(now) && !quota.take(now) && !quota.is_whole(now));
        quota.give_back();
        quota.give_back();
        assert!(quota.take(now) && !quota.take(now), "never more than all");
        assert!(quota.is_whole(Time::from_seconds(160)));
    }
}
