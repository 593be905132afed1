//! The objects of a message that are durable while the rest of its content is still being read.
//!
//! The sealing side holds [`DurableSoFar`] and adds to it; whoever offers the message meanwhile holds a [`Follower`].
//! There is no queue between them, only the list that the message needs in the end anyway, so that neither ever waits
//! for the other.
//!
//! The way back tells how much has arrived, so that encoding knows whether the line waits for it.
//!
//! **Invariant:** objects come in the order of the chunk table, and each only once it is durable.
//! **Invariant:** objects of a message that is broken off stay readable until the last follower has let go, or has had
//! [`LET_GO_MAX`] for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pakt_protocol::message::offer::ObjectEntry;
use tokio::sync::watch;
use tokio::time::timeout;

/// A counterpart that was offered what is broken off is given this time to let go of it.
const LET_GO_MAX: Duration = Duration::from_secs(60);

/// The line is known to be open once so much has arrived.
const ARRIVED_MIN: u64 = 1 << 20;
/// A line that is no further behind than this takes all that it is given: a few batches are always under way.
const BEHIND_MAX: u64 = 12 << 20;

#[derive(Default)]
struct State {
    objects: Vec<ObjectEntry>,
    bytes: u64,
    broken_off: bool,
}

/// The list, for the side that adds to it; clones share it. Followers see the end once the last one is dropped.
#[derive(Clone, Default)]
pub struct DurableSoFar {
    state: Arc<watch::Sender<State>>,
    /// Sealed bytes that have arrived at each follower's counterpart.
    arrived: Arc<Mutex<Vec<Arc<AtomicU64>>>>,
}

impl DurableSoFar {
    /// Follows from the first object on.
    pub fn follow(&self) -> Follower {
        let arrived = Arc::<AtomicU64>::default();
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).push(arrived.clone());
        Follower { state: self.state.subscribe(), arrived }
    }

    /// Whether every line takes objects as fast as they come, so that it is the sealing that all wait for.
    pub(super) fn is_awaited(&self) -> bool {
        let bytes = self.state.borrow().bytes;
        let all = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arrived = all.iter().map(|arrived| arrived.load(Ordering::Relaxed));
        !all.is_empty() && arrived.all(|arrived| arrived >= ARRIVED_MIN && bytes.saturating_sub(arrived) <= BEHIND_MAX)
    }

    /// Adds the objects that became durable.
    pub(super) fn add(&self, entries: &[ObjectEntry]) {
        if !entries.is_empty() {
            self.state.send_modify(|state| {
                state.bytes += entries.iter().map(|entry| u64::from(entry.bytes)).sum::<u64>();
                state.objects.extend_from_slice(entries);
            });
        }
    }

    /// There will be no such message: followers are to let go.
    pub fn break_off(&self) {
        self.state.send_modify(|state| state.broken_off = true);
    }

    /// Whether somebody follows.
    pub(super) fn is_followed(&self) -> bool {
        self.state.receiver_count() > 0
    }

    /// Breaks off and waits until nobody needs the objects any more.
    pub async fn let_go(&self) {
        self.break_off();
        // A counterpart that does not answer must not keep the disk full.
        let _ = timeout(LET_GO_MAX, self.state.closed()).await;
    }
}

/// The list, for those who read it as it grows.
#[derive(Clone)]
pub struct Follower {
    state: watch::Receiver<State>,
    arrived: Arc<AtomicU64>,
}

impl Follower {
    /// Tells that so many sealed bytes have arrived.
    pub fn arrived(&self, bytes: u64) {
        self.arrived.store(bytes, Ordering::Relaxed);
    }

    /// At most `max` entries from `first` on.
    pub fn entries(&self, first: u64, max: usize) -> Vec<ObjectEntry> {
        let state = self.state.borrow();
        let first = usize::try_from(first).unwrap_or(usize::MAX).min(state.objects.len());
        let end = state.objects.len().min(first.saturating_add(max));
        state.objects[first..end].to_vec()
    }

    /// Waits for more than this has seen; false once there will not be more. Cancel safe.
    pub async fn more(&mut self) -> bool {
        self.state.changed().await.is_ok() && !self.state.borrow().broken_off
    }
}

#[cfg(test)]
mod tests {
    use pakt_protocol::ids::ObjectId;

    use super::*;

    fn entry(byte: u8) -> ObjectEntry {
        ObjectEntry { id: ObjectId([byte; 32]), bytes: 1 }
    }

    #[tokio::test]
    async fn a_follower_sees_what_was_added_before_and_after_and_the_end() {
        let durable = DurableSoFar::default();
        durable.add(&[entry(1)]);
        let mut follower = durable.follow();
        assert_eq!(follower.entries(0, 10), [entry(1)]);
        durable.add(&[entry(2), entry(3)]);
        assert!(follower.more().await);
        assert_eq!(follower.entries(1, 1), [entry(2)]);
        assert_eq!(follower.entries(2, 10), [entry(3)]);
        assert_eq!(follower.entries(u64::MAX, 10), []);
        drop(durable);
        assert!(!follower.more().await);
    }

    #[test]
    fn sealing_is_awaited_while_every_line_keeps_up() {
        let durable = DurableSoFar::default();
        assert!(!durable.is_awaited(), "nobody follows");
        let (fast, slow) = (durable.follow(), durable.follow());
        durable.add(&vec![ObjectEntry { id: ObjectId([1; 32]), bytes: 1 << 20 }; 10]);
        fast.arrived(9 << 20);
        assert!(!durable.is_awaited(), "one line may not be open yet");
        slow.arrived(ARRIVED_MIN);
        assert!(durable.is_awaited());
        durable.add(&vec![ObjectEntry { id: ObjectId([2; 32]), bytes: 1 << 20 }; 10]);
        fast.arrived(20 << 20);
        assert!(!durable.is_awaited(), "one line is behind");
        slow.arrived(8 << 20);
        assert!(durable.is_awaited());
    }

    #[tokio::test]
    async fn what_is_broken_off_stays_until_the_last_follower_lets_go() {
        let durable = DurableSoFar::default();
        let mut follower = durable.follow();
        let ending = tokio::spawn({
            let durable = durable.clone();
            async move { durable.let_go().await }
        });
        assert!(!follower.more().await);
        assert!(!ending.is_finished());
        drop(follower);
        ending.await.unwrap();
    }
}
