//! How much is asked for ahead: twice what the line holds, by what is measured. No I/O, no clock.
//!
//! The rate is the best of the last windows, so that a pause of the sender does not close the credit; the delay is that
//! of requests that met an empty lane, as any other would measure the credit itself. Asking for twice the product
//! doubles the credit from round to round while the line takes it, and stops at two round trips' worth.
//!
//! **Invariant:** the credit stays between [`CREDIT_BYTES_MIN`] and [`CREDIT_BYTES_MAX`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes asked for before anything was measured: a line of 100 Mbit/s and 160 ms is filled at once.
const CREDIT_BYTES_FIRST: u64 = 4 << 20;
/// Below that requests are small change; what a lane must have asked for at least is counted in objects, not here.
const CREDIT_BYTES_MIN: u64 = 256 << 10;
/// A line of 10 Gbit/s and 50 ms, twice.
const CREDIT_BYTES_MAX: u64 = 128 << 20;
/// A rate is measured over at least so long, and over one delay.
const WINDOW_MIN: Duration = Duration::from_millis(100);
/// So many windows are remembered: the rate is the best of them.
const WINDOWS_MAX: usize = 16;
/// So many delays are remembered: the delay is the least of them.
const DELAYS_MAX: usize = 16;

/// The measurements of one counterpart's line.
#[derive(Debug, Default)]
pub(super) struct Credit {
    delays: VecDeque<Duration>,
    rates: VecDeque<u64>,
    window: Option<(Instant, u64)>,
}

impl Credit {
    /// A request that met an empty lane was answered after `delay`: its first byte came.
    pub(super) fn answered(&mut self, delay: Duration) {
        if self.delays.len() == DELAYS_MAX {
            self.delays.pop_front();
        }
        self.delays.push_back(delay);
    }

    /// Bytes came.
    pub(super) fn arrived(&mut self, bytes: u64, now: Instant) {
        let long_enough = WINDOW_MIN.max(self.delay().unwrap_or_default());
        // What opens a window arrived in the time before it.
        let Some((since, sum)) = &mut self.window else {
            self.window = Some((now, 0));
            return;
        };
        *sum += bytes;
        let lasted = now.duration_since(*since);
        if lasted < long_enough {
            return;
        }
        let rate = (*sum as f64 / lasted.as_secs_f64()) as u64;
        self.window = Some((now, 0));
        if self.rates.len() == WINDOWS_MAX {
            self.rates.pop_front();
        }
        self.rates.push_back(rate);
    }

    /// Nothing is asked for any more: the time until something is does not count.
    pub(super) fn paused(&mut self) {
        self.window = None;
    }

    /// The round trip of a request on an empty lane, if one was measured.
    pub(super) fn delay(&self) -> Option<Duration> {
        self.delays.iter().min().copied()
    }

    /// Bytes that may be asked for ahead.
    pub(super) fn bytes(&self) -> u64 {
        let (Some(rate), Some(delay)) = (self.rates.iter().max(), self.delay()) else { return CREDIT_BYTES_FIRST };
        let product = (*rate as f64 * delay.as_secs_f64()) as u64;
        (2 * product).clamp(CREDIT_BYTES_MIN, CREDIT_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of `rate` bytes/s that answers after `delay`, and a requester that keeps its credit asked for.
    fn settle(rate: u64, delay: Duration, rounds: usize) -> u64 {
        let mut credit = Credit::default();
        credit.answered(delay);
        let mut now = Instant::now();
        for _ in 0..rounds {
            // One credit's worth arrives per round trip, or per the time that the line needs for it.
            let bytes = credit.bytes();
            let takes = delay.max(Duration::from_secs_f64(bytes as f64 / rate as f64));
            for _ in 0..8 {
                now += takes / 8;
                credit.arrived(bytes / 8, now);
            }
        }
        credit.bytes()
    }

    #[test]
    fn the_credit_settles_at_two_round_trips_of_the_line() {
        let check = |megabits: u64, ms: u64, expected: std::ops::Range<u64>| {
            let bytes = settle(megabits * 125_000, Duration::from_millis(ms), 64);
            assert!(expected.contains(&bytes), "{megabits} Mbit/s, {ms} ms: {bytes}");
        };
        check(100, 20, 480_000..560_000);
        check(20, 100, 480_000..560_000);
        check(1_000, 100, 24_000_000..27_000_000);
        check(10_000, 200, CREDIT_BYTES_MAX..CREDIT_BYTES_MAX + 1);
        check(1, 5, CREDIT_BYTES_MIN..CREDIT_BYTES_MIN + 1);
    }

    #[test]
    fn a_pause_is_no_slow_line_and_nothing_is_known_at_first() {
        let mut credit = Credit::default();
        assert_eq!(credit.bytes(), CREDIT_BYTES_FIRST);
        let start = Instant::now();
        credit.answered(Duration::from_millis(50));
        credit.arrived(0, start);
        credit.arrived(10_000_000, start + Duration::from_secs(1));
        let before = credit.bytes();
        credit.paused();
        credit.arrived(1_000, start + Duration::from_secs(100));
        credit.arrived(1_000_000, start + Duration::from_millis(100_100));
        assert!(credit.bytes() >= before);
    }
}
