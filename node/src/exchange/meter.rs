//! What the bulk lanes to one counterpart carry while they have something to carry.
//!
//! **Invariant:** time in which no lane was writing does not count, so a slow disk or a patient receiver is not taken for
//! a thin line.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock;

/// A rate is believed after so much busy time and so many bytes: what the kernel takes at once says nothing.
const BUSY_MIN: Duration = Duration::from_millis(500);
const BYTES_MIN: u64 = 1 << 20;
/// After so much busy time any number of bytes is a rate.
const BUSY_ENOUGH: Duration = Duration::from_secs(3);

/// The sending direction of a counterpart's bulk lanes; outlives sessions.
#[derive(Debug, Default)]
pub(super) struct SendMeter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writing: u32,
    since: Option<Instant>,
    busy: Duration,
    bytes: u64,
    rate: Option<u64>,
}

/// One lane that writes now.
pub(super) struct Writing {
    meter: Arc<SendMeter>,
    bytes: u64,
}

impl State {
    fn begin(&mut self, now: Instant) {
        self.settle(now);
        self.writing += 1;
        self.since = Some(now);
    }

    fn end(&mut self, bytes: u64, now: Instant) {
        self.settle(now);
        self.bytes += bytes;
        self.writing = self.writing.saturating_sub(1);
        self.since = (self.writing > 0).then_some(now);
        if self.busy < BUSY_MIN || (self.bytes < BYTES_MIN && self.busy < BUSY_ENOUGH) {
            return;
        }
        let newest = self.bytes as f64 / self.busy.as_secs_f64();
        let rate = self.rate.map_or(newest, |rate| rate as f64 * 0.5 + newest * 0.5);
        (self.rate, self.busy, self.bytes) = (Some(rate as u64), Duration::ZERO, 0);
    }

    fn settle(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.busy += now.duration_since(since);
        }
    }
}

impl SendMeter {
    /// A lane begins to write; it ends when the result is dropped.
    pub(super) fn writing(self: &Arc<SendMeter>) -> Writing {
        lock(&self.state).begin(Instant::now());
        Writing { meter: self.clone(), bytes: 0 }
    }

    /// Bytes per second, if enough was written lately to tell.
    pub(super) fn rate(&self) -> Option<u64> {
        lock(&self.state).rate
    }
}

impl Writing {
    /// The lane took these bytes.
    pub(super) fn wrote(mut self, bytes: usize) {
        self.bytes = bytes as u64;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        lock(&self.meter.state).end(self.bytes, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_busy_time_counts_and_it_counts_once_for_all_lanes() {
        let mut state = State::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        // Two lanes write side by side, 1 MB each in half a second: 4 MB/s.
        state.begin(at(0));
        state.begin(at(0));
        state.end(1_000_000, at(250));
        assert_eq!(state.rate, None);
        state.end(1_000_000, at(500));
        assert_eq!(state.rate, Some(4_000_000));
        // A minute later, as fast: the minute is no time.
        state.begin(at(60_000));
        state.end(2_000_000, at(60_500));
        assert_eq!(state.rate, Some(4_000_000));
        // What the kernel swallows at once is no rate.
        state.begin(at(70_000));
        state.end(200_000, at(70_001));
        assert_eq!(state.rate, Some(4_000_000));
    }
}
