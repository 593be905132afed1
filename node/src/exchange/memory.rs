//! Memory for content that arrives, and as much for content that leaves: taken when a payload is about to be read, from
//! the line or from the disk, given back once it is durable or written.
//!
//! What was only asked for holds nothing, so a counterpart that stalls costs no more than the objects it has begun. Each
//! counterpart may always hold one object per kind of lane; beyond that it holds at most a quarter of what is free. So
//! whoever holds much leaves room for the others.
//!
//! **Invariants:** a counterpart never holds more than [`PEER_BYTES_MAX`] and one urgent object, which is also what a
//! crash costs at most; the node never more than [`NODE_BYTES_MAX`] and two objects per counterpart.

use std::sync::{Arc, Mutex};

use pakt_protocol::message::lane::LaneKind;
use tokio::sync::Notify;

use super::lock;

/// Sealed bytes of one counterpart that are being read, and are not durable or written yet.
pub(super) const PEER_BYTES_MAX: u64 = 6 << 20;
/// The same of all counterparts together.
pub(super) const NODE_BYTES_MAX: u64 = 64 << 20;

/// The node's budget.
#[derive(Default)]
pub(super) struct NodeMemory {
    used: Mutex<u64>,
    freed: Notify,
}

/// One counterpart's part of it; outlives sessions, so that connecting anew gains nothing.
pub(super) struct PeerMemory {
    node: Arc<NodeMemory>,
    held: Mutex<Held>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    urgent: u64,
    bulk: u64,
}

impl Held {
    fn of(&mut self, kind: LaneKind) -> &mut u64 {
        if kind == LaneKind::Urgent { &mut self.urgent } else { &mut self.bulk }
    }

    /// Whether `bytes` more may be held while `used` bytes of the node are in use.
    fn admits(mut self, kind: LaneKind, bytes: u64, used: u64) -> bool {
        let wanted = self.urgent + self.bulk + bytes;
        let free = NODE_BYTES_MAX.saturating_sub(used);
        *self.of(kind) == 0 || wanted <= PEER_BYTES_MAX.min(free / 4)
    }
}

/// Memory of one object; given back on drop.
pub(super) struct InHand {
    peer: Arc<PeerMemory>,
    kind: LaneKind,
    bytes: u64,
}

#[cfg(test)]
impl NodeMemory {
    /// Bytes in use.
    pub(super) fn used(&self) -> u64 {
        *lock(&self.used)
    }
}

impl PeerMemory {
    /// Nothing held yet.
    pub(super) fn new(node: Arc<NodeMemory>) -> Arc<PeerMemory> {
        Arc::new(PeerMemory { node, held: Mutex::default() })
    }

    /// Bytes held now.
    pub(super) fn held(&self) -> u64 {
        let held = lock(&self.held);
        held.urgent + held.bulk
    }

    /// Takes memory if it may be had now.
    pub(super) fn try_take(self: &Arc<PeerMemory>, kind: LaneKind, bytes: usize) -> Option<InHand> {
        let bytes = bytes as u64;
        let mut held = lock(&self.held);
        let mut used = lock(&self.node.used);
        if !held.admits(kind, bytes, *used) {
            return None;
        }
        *held.of(kind) += bytes;
        *used += bytes;
        Some(InHand { peer: self.clone(), kind, bytes })
    }

    /// Takes memory once it may be had. Cancel safe.
    pub(super) async fn take(self: &Arc<PeerMemory>, kind: LaneKind, bytes: usize) -> InHand {
        loop {
            let freed = self.node.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(taken) = self.try_take(kind, bytes) {
                return taken;
            }
            freed.await;
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        *lock(&self.peer.held).of(self.kind) -= self.bytes;
        *lock(&self.peer.node.used) -= self.bytes;
        self.peer.node.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const OBJECT: usize = 1 << 20;

    /// Takes as much as may be had.
    fn fill(peer: &Arc<PeerMemory>) -> Vec<InHand> {
        std::iter::from_fn(|| peer.try_take(LaneKind::Bulk, OBJECT)).collect()
    }

    #[test]
    fn p20_peers_that_hold_all_they_can_leave_a_share_to_the_others() {
        for (hogs, left_for_honest) in [(1, 6), (5, 6), (10, 2), (50, 1)] {
            let node = Arc::<NodeMemory>::default();
            let peers: Vec<_> = (0..hogs).map(|_| PeerMemory::new(node.clone())).collect();
            let mut held: Vec<_> = peers.iter().map(fill).collect();
            held.extend(peers.iter().map(fill));
            let honest = fill(&PeerMemory::new(node.clone()));
            assert!(honest.len() >= left_for_honest, "{hogs}: {}", honest.len());
            let used = node.used();
            assert!(used <= NODE_BYTES_MAX + (hogs + 1) * OBJECT as u64, "{hogs}: {used}");
            drop((held, honest));
            assert_eq!(node.used(), 0);
        }
    }

    #[tokio::test]
    async fn what_is_urgent_does_not_wait_for_bulk_and_memory_comes_back() {
        let peer = PeerMemory::new(Arc::default());
        let mut bulk = fill(&peer);
        assert_eq!(bulk.len() as u64 * OBJECT as u64, PEER_BYTES_MAX);
        assert!(peer.try_take(LaneKind::Urgent, OBJECT).is_some());
        let waits = tokio::time::timeout(Duration::from_millis(20), peer.take(LaneKind::Bulk, OBJECT));
        assert!(waits.await.is_err());
        bulk.pop();
        assert!(tokio::time::timeout(Duration::from_secs(5), peer.take(LaneKind::Bulk, OBJECT)).await.is_ok());
    }
}
