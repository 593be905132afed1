//! How many bulk lanes a line deserves: tried out, and kept where it pays. No I/O, no clock.
//!
//! ```text
//! Watch --enough measured--> Try more --gain--> Watch (with more)
//!   ^                           |no gain
//!   |                        Try fewer --gain--> Watch (with fewer)
//!   +--------rest <-------------+no gain
//! ```
//! A line that throttles or loses per connection gains with every lane and ends at the most; a line that one connection
//! fills gains nothing, is left with what it had, and is asked again ever more rarely.
//!
//! **Invariants:** between one and the most that are allowed; a number is kept only if it carried a tenth more than the
//! one before it; time without backlog is not measured.

use std::time::{Duration, Instant};

/// Lanes before anything is known: measured best on two cores, and enough for a line that throttles mildly.
const LANES_FIRST: u8 = 4;
/// A number is judged by so much time, or so many round trips.
const MEASURE: Duration = Duration::from_millis(1_500);
const MEASURE_ROUND_TRIPS: u32 = 20;
/// Before that, new lanes get so much time to open and to find their rate, or so many round trips.
const SETTLE: Duration = Duration::from_millis(750);
const SETTLE_ROUND_TRIPS: u32 = 12;
/// What a change must bring.
const GAIN_MIN: f64 = 1.10;
/// After a trial in vain the next one waits so long, then twice as long each time.
const REST_FIRST: Duration = Duration::from_secs(30);
const REST_MAX: Duration = Duration::from_secs(600);

/// The number of bulk lanes of one counterpart; remembered while the node runs.
#[derive(Debug)]
pub(super) struct LaneCount {
    lanes: u8,
    most: u8,
    phase: Phase,
    window: Option<Window>,
    rests: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// The present number is measured.
    Watch,
    /// Another number is measured, against the rate of the one before.
    Try { before: u8, rate: f64 },
    /// Nothing is tried before then.
    Rest { until: Instant },
}

/// A measurement: bytes from its beginning on.
#[derive(Debug, Clone, Copy)]
struct Window {
    opened: Instant,
    counted: Option<(Instant, u64)>,
}

impl LaneCount {
    /// Adapts between one and `most`; `fixed` sets the number.
    pub(super) fn new(fixed: Option<u8>, most: u8) -> LaneCount {
        let most = fixed.unwrap_or(most).max(1);
        let lanes = fixed.unwrap_or(LANES_FIRST).clamp(1, most);
        let phase = Phase::Watch;
        LaneCount { lanes, most: if fixed.is_some() { lanes } else { most }, phase, window: None, rests: 0 }
    }

    /// How many there should be.
    pub(super) fn lanes(&self) -> u8 {
        self.lanes
    }

    /// Tells what came so far; `up` lanes are there. Gives the new number when it changes.
    pub(super) fn observe(&mut self, now: Instant, bytes: u64, up: usize, delay: Duration) -> Option<u8> {
        if self.most == 1 {
            return None;
        }
        if let Phase::Rest { until } = self.phase {
            if now < until {
                return None;
            }
            (self.phase, self.window) = (Phase::Watch, None);
        }
        let window = self.window.get_or_insert(Window { opened: now, counted: None });
        let Some((since, from)) = window.counted else {
            // Lanes that cannot be opened, or are not closed for the other side's sake, are judged as they are.
            let settled = SETTLE.max(delay * SETTLE_ROUND_TRIPS);
            let patience = if up == usize::from(self.lanes) { settled } else { settled * 4 };
            if now.duration_since(window.opened) >= patience {
                window.counted = Some((now, bytes));
            }
            return None;
        };
        let lasted = now.duration_since(since);
        if lasted < MEASURE.max(delay * MEASURE_ROUND_TRIPS) {
            return None;
        }
        let rate = bytes.saturating_sub(from) as f64 / lasted.as_secs_f64();
        self.window = None;
        self.judge(rate, now)
    }

    /// Nothing waits any more: what was being measured says nothing.
    pub(super) fn paused(&mut self) {
        self.window = None;
        if let Phase::Try { before, .. } = self.phase {
            self.lanes = before;
            self.phase = Phase::Watch;
        }
    }

    fn judge(&mut self, rate: f64, now: Instant) -> Option<u8> {
        let old = self.lanes;
        match self.phase {
            Phase::Watch if self.lanes < self.most => self.attempt(self.more(), rate),
            Phase::Watch => self.rest(now),
            Phase::Try { rate: before_rate, .. } if rate >= before_rate * GAIN_MIN => {
                self.rests = 0;
                self.phase = Phase::Watch;
                // What was just measured is the measure of the next trial.
                if self.lanes < self.most {
                    self.attempt(self.more(), rate);
                } else {
                    self.rest(now);
                }
            }
            Phase::Try { before, rate: before_rate } => {
                let went_up = self.lanes > before;
                self.lanes = before;
                // Fewer are tried once, and only in long transfers: where they are too few the trial costs time.
                if went_up && before > 1 && self.rests == 1 {
                    self.attempt(before / 2, before_rate);
                } else {
                    self.rest(now);
                }
            }
            Phase::Rest { .. } => {}
        }
        (self.lanes != old).then_some(self.lanes)
    }

    fn more(&self) -> u8 {
        (self.lanes * 2).min(self.most)
    }

    fn attempt(&mut self, lanes: u8, rate: f64) {
        self.phase = Phase::Try { before: self.lanes, rate };
        self.lanes = lanes;
    }

    fn rest(&mut self, now: Instant) {
        let rest = (REST_FIRST * 2u32.pow(self.rests.min(8))).min(REST_MAX);
        self.rests += 1;
        self.phase = Phase::Rest { until: now + rest };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a line that carries `carries(lanes)` bytes/s; gives the number after each second.
    fn run(count: &mut LaneCount, delay: Duration, seconds: u64, carries: impl Fn(u8, u64) -> f64) -> Vec<u8> {
        let (mut now, mut bytes) = (Instant::now(), 0.0);
        let mut seen = Vec::new();
        for tick in 0..seconds * 4 {
            now += Duration::from_millis(250);
            bytes += carries(count.lanes(), tick) / 4.0;
            count.observe(now, bytes as u64, count.lanes().into(), delay);
            if tick % 4 == 3 {
                seen.push(count.lanes());
            }
        }
        seen
    }

    fn changes(seen: &[u8]) -> usize {
        seen.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// Between 0.96 and 1.04, the same each run.
    fn noise(tick: u64) -> f64 {
        0.96 + 0.08 * ((tick.wrapping_mul(2_654_435_761) >> 7) % 101) as f64 / 100.0
    }

    #[test]
    fn a_line_that_throttles_each_connection_ends_at_the_most() {
        let mut count = LaneCount::new(None, 8);
        let seen =
            run(&mut count, Duration::from_millis(100), 60, |lanes, tick| 178_000.0 * f64::from(lanes) * noise(tick));
        assert!(seen[15..].iter().all(|lanes| *lanes == 8), "{seen:?}");
    }

    #[test]
    fn a_clean_line_is_left_alone() {
        let mut count = LaneCount::new(None, 8);
        let seen = run(&mut count, Duration::from_millis(20), 600, |_, tick| 12_000_000.0 * noise(tick));
        assert!(seen[10..30].iter().all(|lanes| *lanes == 4), "{seen:?}");
        assert!(changes(&seen) <= 12, "{seen:?}");
        let away = seen.iter().filter(|lanes| **lanes != 4).count();
        assert!(away * 20 <= seen.len(), "at most one second in twenty is a trial: {away}");
    }

    #[test]
    fn where_lanes_cost_fewer_are_kept() {
        let mut count = LaneCount::new(None, 8);
        let seen = run(&mut count, Duration::from_millis(1), 90, |lanes, _| 1_000_000_000.0 / f64::from(lanes));
        assert_eq!(seen.last(), Some(&1), "{seen:?}");
    }

    #[test]
    fn a_line_that_changes_is_noticed() {
        let mut count = LaneCount::new(None, 8);
        run(&mut count, Duration::from_millis(20), 30, |_, _| 12_000_000.0);
        assert_eq!(count.lanes(), 4);
        let seen = run(&mut count, Duration::from_millis(20), 120, |lanes, _| 500_000.0 * f64::from(lanes));
        assert_eq!(seen.last(), Some(&8), "{seen:?}");
    }

    #[test]
    fn a_fixed_number_stays_and_a_trial_ends_with_its_backlog() {
        let mut count = LaneCount::new(Some(3), 8);
        let seen = run(&mut count, Duration::from_millis(20), 60, |lanes, _| f64::from(lanes) * 1e6);
        assert!(seen.iter().all(|lanes| *lanes == 3), "{seen:?}");
        let mut count = LaneCount::new(None, 8);
        run(&mut count, Duration::from_millis(20), 4, |_, _| 1e6);
        assert_eq!(count.lanes(), 8, "being tried");
        count.paused();
        assert_eq!(count.lanes(), 4);
    }
}
