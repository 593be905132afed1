//! Holding content to the rates that the operator set.
//!
//! A bucket is the moment at which the line is free again: what is taken moves it on by the time that it needs, and
//! whoever comes before it waits for it. That is all that `governor` would do here, without a second clock. What is
//! urgent moves it on as well, but does not wait.
//!
//! **Invariant:** bulk never gets more than its rate and [`BURST`] over any stretch of time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock;
use crate::line::{Limits, LineConfig};

/// Unused time that may be made up for: the pauses between two wake-ups of a busy process.
const BURST: Duration = Duration::from_millis(50);
/// What is urgent runs up no more than this: bulk slows down for it, but does not stop for minutes.
const DEBT_MAX: Duration = Duration::from_secs(5);
/// The schedule is looked up this often.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);

/// One direction of a line.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    free_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// Takes `bytes`; gives how long to wait before they may go. What is urgent does not wait, so that its debt is bounded.
    pub(super) fn take(&self, bytes: usize, is_urgent: bool, rate: Option<u64>, now: Instant) -> Duration {
        let mut free_at = lock(&self.free_at);
        let Some(rate) = rate else {
            *free_at = None;
            return Duration::ZERO;
        };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = free_at.map_or(earliest, |at| at.max(earliest));
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *free_at = Some(if is_urgent { end.min(begin.max(now + DEBT_MAX)) } else { end });
        begin.saturating_duration_since(now)
    }
}

/// The limits of the node and what was taken of those in total.
pub(super) struct NodeLimits {
    config: LineConfig,
    send: Bucket,
    receive: Bucket,
    in_force: Mutex<Option<(Instant, Limits)>>,
}

/// Those of one counterpart; outlive sessions.
pub(super) struct PeerLimits {
    node: Arc<NodeLimits>,
    send: Bucket,
    receive: Bucket,
}

impl NodeLimits {
    /// What the operator set.
    pub(super) fn new(config: LineConfig) -> NodeLimits {
        NodeLimits { config, send: Bucket::default(), receive: Bucket::default(), in_force: Mutex::default() }
    }

    /// The limits that hold now.
    pub(super) fn in_force(&self) -> Limits {
        if self.config == LineConfig::default() {
            return Limits::default();
        }
        let now = Instant::now();
        let mut in_force = lock(&self.in_force);
        match *in_force {
            Some((at, limits)) if now.duration_since(at) < LOOK_UP_EVERY => limits,
            _ => {
                let limits = self.config.at(jiff::Zoned::now().datetime());
                *in_force = Some((now, limits));
                limits
            }
        }
    }
}

impl PeerLimits {
    /// Nothing taken yet.
    pub(super) fn new(node: Arc<NodeLimits>) -> Arc<PeerLimits> {
        Arc::new(PeerLimits { node, send: Bucket::default(), receive: Bucket::default() })
    }

    /// Whether sending may have to wait at all.
    pub(super) fn hold_back(&self) -> bool {
        let limits = self.node.in_force();
        limits.send.is_some() || limits.send_per_peer.is_some()
    }

    /// Waits until so many bytes may be sent; what is urgent only counts.
    pub(super) async fn send(&self, bytes: usize, is_urgent: bool) {
        let (limits, now) = (self.node.in_force(), Instant::now());
        let all = self.node.send.take(bytes, is_urgent, limits.send, now);
        let own = self.send.take(bytes, is_urgent, limits.send_per_peer, now);
        wait(all.max(own), is_urgent).await;
    }

    /// Waits until so many bytes may have been received; gives how long that took.
    pub(super) async fn receive(&self, bytes: usize, is_urgent: bool) -> Duration {
        let (limits, now) = (self.node.in_force(), Instant::now());
        let all = self.node.receive.take(bytes, is_urgent, limits.receive, now);
        let own = self.receive.take(bytes, is_urgent, limits.receive_per_peer, now);
        wait(all.max(own), is_urgent).await;
        now.elapsed()
    }
}

async fn wait(time: Duration, is_urgent: bool) {
    if !is_urgent && !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_rate_and_makes_up_for_little() {
        let bucket = Bucket::default();
        let start = Instant::now() + Duration::from_secs(60);
        let mut now = start;
        for _ in 0..100 {
            now += bucket.take(64_000, false, Some(1_000_000), now);
        }
        let took = now.duration_since(start).as_secs_f64();
        assert!((6.2..6.4).contains(&took), "{took}");
        // An hour of silence is not saved up.
        now += Duration::from_secs(3_600);
        let waits: Vec<_> = (0..3).map(|_| bucket.take(64_000, false, Some(1_000_000), now)).collect();
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[2] > Duration::from_millis(70), "{waits:?}");
        assert_eq!(bucket.take(1 << 30, false, None, now), Duration::ZERO);
        assert_eq!(
            bucket.take(1, false, Some(1_000_000), now),
            Duration::ZERO,
            "a limit that was lifted leaves no debt"
        );
        // A gigabyte of what is urgent does not stop the rest for a quarter of an hour.
        assert_eq!(bucket.take(1 << 30, true, Some(1_000_000), now), Duration::ZERO);
        assert!(bucket.take(1, false, Some(1_000_000), now) <= DEBT_MAX);
    }

    #[tokio::test]
    async fn what_is_urgent_counts_but_does_not_wait() {
        let config = toml::from_str("send_per_peer = \"1MB/s\"").unwrap();
        let peer = PeerLimits::new(Arc::new(NodeLimits::new(config)));
        let start = Instant::now();
        peer.send(400_000, true).await;
        assert!(start.elapsed() < Duration::from_millis(200));
        peer.send(1, false).await;
        assert!(start.elapsed() > Duration::from_millis(300), "{:?}", start.elapsed());
    }
}
