//! How many connections one counterpart may hold open at this node.
//!
//! **Invariant:** a counterpart that dials without end costs memory for a fixed number of connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pakt_keys::entity::EntityId;

use super::registry::lock;

/// The taken seats of every counterpart.
pub(super) struct Seats {
    taken: Mutex<HashMap<EntityId, usize>>,
    per_peer_max: usize,
}

impl Seats {
    pub(super) fn new(per_peer_max: usize) -> Arc<Seats> {
        Arc::new(Seats { taken: Mutex::default(), per_peer_max })
    }

    /// A seat for one more connection, or none when the counterpart has all of its own already.
    pub(super) fn take(self: &Arc<Self>, entity: EntityId) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(entity).or_default();
        (*count < self.per_peer_max).then(|| {
            *count += 1;
            Seat { seats: self.clone(), entity }
        })
    }
}

/// One taken seat; its drop frees it.
pub(super) struct Seat {
    seats: Arc<Seats>,
    entity: EntityId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.seats.taken);
        if let Some(count) = taken.get_mut(&self.entity) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.entity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counterpart_has_its_own_seats_and_gets_them_back() {
        let seats = Seats::new(2);
        let (a, b) = (EntityId([1; 32]), EntityId([2; 32]));
        let held = (seats.take(a), seats.take(a));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(seats.take(a).is_none());
        assert!(seats.take(b).is_some());
        drop(held);
        assert!(seats.take(a).is_some());
        assert!(lock(&seats.taken).is_empty());
    }
}
