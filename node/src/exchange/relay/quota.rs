//! How much each counterpart may have forwarded: connections at once, bytes in an hour, bytes in a second.
//!
//! **Invariant:** no counterpart can use up the places of another: of the places that one has, half are for the same other.
//! **Invariant:** both ends pay: what is forwarded between two counterparts counts for each of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pakt_protocol::ids::AgreementId;

use crate::exchange::limit::Bucket;
use crate::exchange::lock;
use crate::relay::RelayConfig;

const HOUR: Duration = Duration::from_secs(3_600);

/// What one counterpart has used.
#[derive(Default)]
struct Used {
    circuits: u16,
    /// When the hour began, and the bytes since.
    hour: Option<(Instant, u64)>,
    bucket: Arc<Bucket>,
    /// Connections with each other counterpart.
    with: HashMap<AgreementId, u16>,
}

/// All counterparts; there are no more rows than agreements.
pub(super) struct Quotas {
    config: RelayConfig,
    used: Mutex<HashMap<AgreementId, Used>>,
    bytes: AtomicU64,
}

impl Quotas {
    pub(super) fn new(config: RelayConfig) -> Quotas {
        Quotas { config, used: Mutex::default(), bytes: AtomicU64::new(0) }
    }

    /// A place for one more connection of each of two, if both have one left and bytes for it.
    pub(super) fn take_both(self: &Arc<Quotas>, one: AgreementId, other: AgreementId) -> Option<(Seat, Seat)> {
        Some((self.take(one, other)?, self.take(other, one)?))
    }

    /// A place for one more connection of a counterpart with another.
    fn take(self: &Arc<Quotas>, agreement: AgreementId, with: AgreementId) -> Option<Seat> {
        let mut all = lock(&self.used);
        let used = all.entry(agreement).or_default();
        let exhausted =
            used.hour.is_some_and(|(since, bytes)| since.elapsed() < HOUR && bytes >= self.config.bytes_per_hour);
        let most = self.config.circuits_per_peer;
        let same = used.with.get(&with).copied().unwrap_or(0);
        if !self.config.enabled || exhausted || used.circuits >= most || same >= most.div_ceil(2) {
            return None;
        }
        used.circuits += 1;
        used.with.insert(with, same + 1);
        Some(Seat { quotas: self.clone(), agreement, with, bucket: used.bucket.clone() })
    }

    /// Connections that are forwarded now, and bytes since the start; each is counted at both ends.
    pub(super) fn totals(&self) -> (u64, u64) {
        let circuits: u64 = lock(&self.used).values().map(|used| u64::from(used.circuits)).sum();
        (circuits / 2, self.bytes.load(Ordering::Relaxed) / 2)
    }
}

/// One forwarded connection of one counterpart; its drop frees the place.
pub(super) struct Seat {
    quotas: Arc<Quotas>,
    agreement: AgreementId,
    with: AgreementId,
    bucket: Arc<Bucket>,
}

impl Seat {
    /// Counts bytes that are about to be forwarded; gives how long they have to wait, or none when the hour's are used up.
    pub(super) fn count(&self, bytes: usize) -> Option<Duration> {
        let now = Instant::now();
        let mut all = lock(&self.quotas.used);
        let used = all.entry(self.agreement).or_default();
        let (since, before) = used.hour.filter(|(since, _)| now.duration_since(*since) < HOUR).unwrap_or((now, 0));
        let after = before + bytes as u64;
        used.hour = Some((since, after));
        self.quotas.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let within = after <= self.quotas.config.bytes_per_hour;
        within.then(|| self.bucket.take(bytes, false, self.quotas.config.rate.0, now))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(used) = lock(&self.quotas.used).get_mut(&self.agreement) {
            used.circuits -= 1;
            let left = used.with.remove(&self.with).unwrap_or(1) - 1;
            if left > 0 {
                used.with.insert(self.with, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Limit;

    const A: AgreementId = AgreementId([1; 32]);
    const B: AgreementId = AgreementId([2; 32]);
    const C: AgreementId = AgreementId([3; 32]);
    const D: AgreementId = AgreementId([4; 32]);

    fn quotas(circuits_per_peer: u16, bytes_per_hour: u64) -> Arc<Quotas> {
        let rate = Limit(Some(1_000_000));
        Arc::new(Quotas::new(RelayConfig { enabled: true, circuits_per_peer, bytes_per_hour, rate }))
    }

    #[test]
    fn each_counterpart_has_its_own_places_and_gets_them_back() {
        let quotas = quotas(2, 1_000);
        let held = (quotas.take_both(A, B).unwrap(), quotas.take_both(A, C).unwrap());
        assert!(quotas.take_both(A, D).is_none() && quotas.take_both(B, C).is_some());
        assert_eq!(quotas.totals().0, 2);
        drop(held);
        let one = quotas.take_both(A, B).unwrap();
        assert!(quotas.take_both(A, B).is_none() && quotas.take_both(B, A).is_none(), "half are for the same other");
        drop(one);
        assert!(quotas.take_both(A, B).is_some());
        assert_eq!(quotas.totals().0, 0);
        assert!(lock(&quotas.used).values().all(|used| used.with.is_empty()));
        let off = Arc::new(Quotas::new(RelayConfig { enabled: false, ..RelayConfig::default() }));
        assert!(off.take_both(A, B).is_none());
    }

    #[test]
    fn bytes_end_a_connection_and_keep_the_next_one_out() {
        let quotas = quotas(9, 1_000_000);
        let (seat, _other) = quotas.take_both(A, B).unwrap();
        assert!(seat.count(400_000).is_some());
        assert!(seat.count(400_000).is_some_and(|wait| wait > Duration::from_millis(300)), "the rate holds it back");
        assert_eq!(seat.count(400_000), None);
        assert!(quotas.take_both(A, C).is_none(), "nothing more in this hour");
        assert!(quotas.take_both(B, C).is_some(), "for others there is");
    }
}
