//! Objects whose file is being written or removed right now: one at a time for each, so that a file is never removed
//! from under an index entry that a later write has just made.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;
use tokio::sync::Notify;

#[derive(Default)]
pub(super) struct Busy {
    objects: Mutex<HashSet<(EntityId, ObjectId)>>,
    freed: Notify,
}

/// Frees its objects on drop.
pub(super) struct Claim {
    busy: Arc<Busy>,
    objects: Vec<(EntityId, ObjectId)>,
}

impl Busy {
    fn objects(&self) -> MutexGuard<'_, HashSet<(EntityId, ObjectId)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_claim(&self, objects: &[(EntityId, ObjectId)]) -> bool {
        let mut held = self.objects();
        let free = objects.iter().all(|object| !held.contains(object));
        if free {
            held.extend(objects);
        }
        free
    }

    /// Waits until none of `objects` is claimed by somebody else, then claims all at once.
    pub(super) async fn claim(self: &Arc<Busy>, objects: Vec<(EntityId, ObjectId)>) -> Claim {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Registered before the check, so that nothing freed in between is missed.
            freed.as_mut().enable();
            if self.try_claim(&objects) {
                return Claim { busy: self.clone(), objects };
            }
            freed.await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.busy.objects();
        for object in &self.objects {
            held.remove(object);
        }
        drop(held);
        self.busy.freed.notify_waiters();
    }
}
