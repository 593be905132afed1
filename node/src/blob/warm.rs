//! Objects that were written a moment ago and will be asked for at once: content that leaves while more of it is read.
//!
//! **Invariant:** holds at most [`BYTES_MAX`] bytes; what is in here was durable when it came in.

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
        while inner.bytes > BYTES_MAX {
            let Some(oldest) = inner.order.pop_front() else { return };
            inner.bytes -= inner.objects.remove(&oldest).map_or(0, |bytes| bytes.len());
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
}
