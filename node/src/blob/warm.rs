//! Objects that were written a moment ago and will be asked for at once: content that leaves while more of it is read.
//!
//! **Invariant:** holds at most [`BYTES_MAX`] bytes; what is in here was durable when it came in.
//! **Invariant:** nothing stays longer than from one [`Warm::cool`] to the next but one: a node that has sent its last message
//! for today does not hold it in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;

/// A few batches: a line as fast as the sealing is not further behind than that, and a slower one does not mind the disk.
const BYTES_MAX: usize = 16 << 20;

/// The last objects, oldest first.
#[derive(Default)]
pub(super) struct Warm {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: HashMap<(EntityId, ObjectId), Bytes>,
    order: VecDeque<(EntityId, ObjectId)>,
    bytes: usize,
    /// So many of the oldest were here already when it was cooled last.
    cooling: usize,
}

impl Inner {
    /// The oldest goes; false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.order.pop_front() else { return false };
        self.bytes -= self.objects.remove(&oldest).map_or(0, |bytes| bytes.len());
        self.cooling = self.cooling.saturating_sub(1);
        true
    }
}

impl Warm {
    /// Takes objects in; the oldest go.
    pub(super) fn put(&self, origin: EntityId, objects: &[(ObjectId, Bytes)]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, bytes) in objects {
            let key = (origin, *id);
            if inner.objects.insert(key, bytes.clone()).is_none() {
                inner.order.push_back(key);
                inner.bytes += bytes.len();
            }
        }
        while inner.bytes > BYTES_MAX && inner.drop_oldest() {}
    }

    /// What came in before this was called last goes.
    pub(super) fn cool(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while inner.cooling > 0 && inner.drop_oldest() {}
        inner.cooling = inner.order.len();
        if inner.order.is_empty() {
            *inner = Inner::default();
        }
    }

    /// The object, if it is still here. It stays: a second recipient may ask for it in a moment.
    pub(super) fn get(&self, origin: EntityId, id: ObjectId) -> Option<Bytes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).objects.get(&(origin, id)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_memory_is_bounded() {
        let warm = Warm::default();
        let origin = EntityId([1; 32]);
        let object = |seed: u8| (ObjectId([seed; 32]), Bytes::from(vec![seed; 1 << 20]));
        for seed in 0..40 {
            warm.put(origin, &[object(seed), object(seed)]);
        }
        assert_eq!(warm.get(origin, ObjectId([23; 32])), None);
        for seed in 24..40 {
            assert_eq!(warm.get(origin, ObjectId([seed; 32])), Some(object(seed).1));
        }
        assert_eq!(warm.get(EntityId([2; 32]), ObjectId([39; 32])), None, "another entity's");
        assert_eq!(warm.inner.lock().unwrap().bytes, BYTES_MAX);
    }
    #[test]
    fn what_nobody_asks_for_any_more_goes() {
        let warm = Warm::default();
        let origin = EntityId([1; 32]);
        let object = |seed: u8| (ObjectId([seed; 32]), Bytes::from(vec![seed; 1 << 20]));
        let held = |seed| warm.get(origin, ObjectId([seed; 32])).is_some();
        warm.put(origin, &[object(1), object(2)]);
        warm.cool();
        warm.put(origin, &[object(3)]);
        assert!(held(1) && held(2) && held(3));
        warm.cool();
        assert!(!held(1) && !held(2) && held(3));
        let many: Vec<_> = (4..40).map(object).collect();
        warm.put(origin, &many);
        warm.cool();
        assert!(!held(3) && held(39), "those that went for want of room are not counted twice");
        warm.cool();
        assert!(!held(39));
        assert_eq!(warm.inner.lock().unwrap().bytes, 0);
    }
}
