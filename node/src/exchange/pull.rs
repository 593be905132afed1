//! What one counterpart's lanes share: the queue of objects to pull, the credit, and what may be served.
//!
//! **Invariants:** bytes that were asked for and are not yet durable never exceed the credit; an object is served only
//! for an envelope that is being offered to this counterpart.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::message::lane::LaneKind;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::envelope::Priority;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Sealed bytes per counterpart that were asked for and are not yet durable: what a crash costs at most.
pub(super) const PEER_CREDIT_BYTES: usize = 6 << 20;

/// One object to pull.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull {
    pub(super) envelope: EnvelopeId,
    pub(super) index: u64,
    pub(super) entry: ObjectEntry,
    pub(super) priority: Priority,
}

/// A pull with its share of the credit.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) pull: Pull,
    pub(super) credit: Credit,
}

/// Bytes taken from the counterpart's and from the node's budget; given back on drop.
#[derive(Debug)]
pub(super) struct Credit {
    _peer: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

/// Shared by the lanes of one counterpart and its actor.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Notify,
    credit: Arc<Semaphore>,
    budget: Arc<Semaphore>,
    serving: Mutex<HashMap<EnvelopeId, Served>>,
}

#[derive(Default)]
struct Served {
    objects: Vec<ObjectEntry>,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Queue {
    by_priority: [VecDeque<Pull>; 3],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Nothing to pull, nothing to serve; `budget` is the node's.
    pub(super) fn new(budget: Arc<Semaphore>) -> Shared {
        Shared {
            queue: Mutex::default(),
            wake: Notify::new(),
            credit: Arc::new(Semaphore::new(PEER_CREDIT_BYTES)),
            budget,
            serving: Mutex::default(),
        }
    }

    /// Adds objects to pull.
    pub(super) fn push(&self, pulls: impl IntoIterator<Item = Pull>) {
        let mut queue = lock(&self.queue);
        for pull in pulls {
            queue.by_priority[pull.priority as usize].push_back(pull);
        }
        drop(queue);
        self.wake.notify_waiters();
    }

    /// Gives back pulls of a lane that ended; they come first again.
    pub(super) fn give_back(&self, pulls: impl IntoIterator<Item = Pull>) {
        let mut queue = lock(&self.queue);
        for pull in pulls {
            queue.by_priority[pull.priority as usize].push_front(pull);
        }
        drop(queue);
        self.wake.notify_waiters();
    }

    /// Forgets what was to be pulled for an envelope.
    pub(super) fn forget(&self, envelope: &EnvelopeId) {
        for queue in &mut lock(&self.queue).by_priority {
            queue.retain(|pull| pull.envelope != *envelope);
        }
    }

    /// Whether a lane of this kind would find something to pull.
    pub(super) fn wants(&self, kind: LaneKind) -> bool {
        let queue = lock(&self.queue);
        eligible(kind).iter().any(|priority| !queue.by_priority[*priority as usize].is_empty())
    }

    /// The next object for a lane of this kind, once credit for it is free. Cancel safe.
    pub(super) async fn claim(&self, kind: LaneKind) -> Claimed {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let Some(pull) = self.take(kind) else {
                woken.await;
                continue;
            };
            // Credit is waited for with the pull in hand, so it is put back if the lane ends meanwhile.
            let mut held = Held { shared: self, pull: Some(pull) };
            let bytes = pull.entry.bytes;
            let peer = self.credit.clone().acquire_many_owned(bytes).await;
            let node = self.budget.clone().acquire_many_owned(bytes).await;
            if let (Ok(_peer), Ok(_node)) = (peer, node) {
                held.pull = None;
                return Claimed { pull, credit: Credit { _peer, _node } };
            }
        }
    }

    fn take(&self, kind: LaneKind) -> Option<Pull> {
        let mut queue = lock(&self.queue);
        eligible(kind).iter().find_map(|priority| queue.by_priority[*priority as usize].pop_front())
    }

    /// Allows the counterpart to pull these objects as well; they follow those of earlier calls in the envelope's order.
    pub(super) fn serve(&self, envelope: EnvelopeId, _priority: Priority, entries: &[ObjectEntry]) {
        lock(&self.serving).entry(envelope).or_default().objects.extend_from_slice(entries);
    }

    /// Ends that.
    pub(super) fn stop_serving(&self, envelope: &EnvelopeId) {
        lock(&self.serving).remove(envelope);
    }

    /// The object that a request names, if the counterpart may have it.
    pub(super) fn served(&self, envelope: &EnvelopeId, index: u64) -> Option<ObjectId> {
        let serving = lock(&self.serving);
        let served = serving.get(envelope)?;
        let entry = served.objects.get(usize::try_from(index).ok()?)?;
        served.bytes.fetch_add(u64::from(entry.bytes), Ordering::Relaxed);
        Some(entry.id)
    }

    /// Sealed bytes served for an envelope since it was last asked.
    pub(super) fn take_served_bytes(&self, envelope: &EnvelopeId) -> u64 {
        lock(&self.serving).get(envelope).map_or(0, |served| served.bytes.swap(0, Ordering::Relaxed))
    }
}

/// The urgent lane takes only what is urgent; bulk lanes take whatever comes first.
fn eligible(kind: LaneKind) -> &'static [Priority] {
    match kind {
        LaneKind::Urgent => &[Priority::Urgent],
        LaneKind::Bulk => &[Priority::Urgent, Priority::Normal, Priority::Bulk],
        LaneKind::Control => &[],
    }
}

struct Held<'a> {
    shared: &'a Shared,
    pull: Option<Pull>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.give_back(self.pull.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pull(index: u64, bytes: u32, priority: Priority) -> Pull {
        let entry = ObjectEntry { id: ObjectId([0; 32]), bytes };
        Pull { envelope: EnvelopeId([1; 16]), index, entry, priority }
    }

    fn shared() -> Shared {
        Shared::new(Arc::new(Semaphore::new(64 << 20)))
    }

    #[tokio::test]
    async fn urgent_comes_first_and_credit_bounds_what_is_under_way() {
        let shared = shared();
        let half = (PEER_CREDIT_BYTES / 2) as u32;
        shared.push([pull(0, half, Priority::Bulk), pull(1, half, Priority::Urgent), pull(2, half, Priority::Normal)]);
        let first = shared.claim(LaneKind::Bulk).await;
        assert_eq!(first.pull.index, 1);
        let second = shared.claim(LaneKind::Bulk).await;
        assert_eq!(second.pull.index, 2);
        let third = tokio::time::timeout(Duration::from_millis(50), shared.claim(LaneKind::Bulk)).await;
        assert!(third.is_err(), "no credit is left");
        assert!(shared.wants(LaneKind::Bulk), "the pull that waited is back in the queue");
        drop(first);
        assert_eq!(shared.claim(LaneKind::Bulk).await.pull.index, 0);
    }

    #[test]
    fn p13_only_offered_envelopes_are_served() {
        let shared = shared();
        let entry = ObjectEntry { id: ObjectId([7; 32]), bytes: 1 };
        let later = ObjectEntry { id: ObjectId([8; 32]), bytes: 1 };
        shared.serve(EnvelopeId([1; 16]), Priority::Normal, &[entry]);
        assert_eq!(shared.served(&EnvelopeId([1; 16]), 0), Some(entry.id));
        assert_eq!(shared.served(&EnvelopeId([1; 16]), 1), None, "not named yet");
        shared.serve(EnvelopeId([1; 16]), Priority::Normal, &[later]);
        assert_eq!(shared.served(&EnvelopeId([1; 16]), 1), Some(later.id));
        for (envelope, index) in [(1, 2), (1, u64::MAX), (2, 0)] {
            assert_eq!(shared.served(&EnvelopeId([envelope; 16]), index), None);
        }
        shared.stop_serving(&EnvelopeId([1; 16]));
        assert_eq!(shared.served(&EnvelopeId([1; 16]), 0), None);
    }
}
