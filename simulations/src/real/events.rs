//! What is told while the mesh runs, and what remains of it.

use std::time::Duration;

use blake3::Hasher;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::outcome::{Event, Record, Watch, What};

/// Simulated time over real time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    begun: (Instant, Timestamp),
    /// Simulated seconds in a real one.
    pub(super) speed: f64,
}

impl Pace {
    /// Simulated time begins now.
    pub(super) fn begin(speed: f64) -> Pace {
        Pace { begun: (Instant::now(), Timestamp::now()), speed }
    }

    /// Simulated time now.
    pub(super) fn now(&self) -> Duration {
        self.begun.0.elapsed().mul_f64(self.speed)
    }

    /// When, in real time, a moment of simulated time comes.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.begun.0 + at.div_f64(self.speed)
    }

    /// Simulated time at a moment that a node has noted.
    fn of(&self, noted: Timestamp) -> Duration {
        Duration::try_from(noted.duration_since(self.begun.1)).unwrap_or_default().mul_f64(self.speed)
    }
}

/// Tells a watch what happens, and hashes it.
pub(super) struct Events<'a> {
    watch: &'a mut dyn Watch,
    hasher: Hasher,
    pub(super) count: u64,
    pub(super) pace: Pace,
}

impl<'a> Events<'a> {
    pub(super) fn new(watch: &'a mut dyn Watch, pace: Pace) -> Events<'a> {
        Events { watch, hasher: Hasher::new(), count: 0, pace }
    }

    /// Something happened at a node just now.
    pub(super) fn now(&mut self, node: usize, what: What) {
        self.tell(&Event { at: self.pace.now(), node, what });
    }

    /// A record of an envelope, as a node has noted it.
    pub(super) fn record(&mut self, node: usize, key: (u64, usize, usize), (noted, record): (Timestamp, Record)) {
        let (submission, from, to) = key;
        let at = self.pace.of(noted);
        self.tell(&Event { at, node, what: What::Record { submission, from, to, record } });
    }

    fn tell(&mut self, event: &Event) {
        self.count += 1;
        // Numbers and names only, which JSON always takes.
        if let Ok(bytes) = serde_json::to_vec(event) {
            self.hasher.update(&bytes).update(b"\n");
        }
        self.watch.event(event);
    }

    pub(super) fn progress(&mut self) {
        let now = self.pace.now();
        self.watch.progress(now);
    }

    pub(super) fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}
