//! Which envelope pulls an object that several envelopes of one counterpart need: one message to two groups, or the same
//! study twice at the same time.
//!
//! **Invariant:** an object is pulled by the first envelope that needs it; whoever is no more urgent waits, and looks again
//! once it is durable or the puller has gone.

use std::collections::HashMap;

use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::envelope::Priority;

/// Objects by their index within an envelope.
pub(super) type Wanted = Vec<(u64, ObjectEntry)>;

/// What is being pulled from one counterpart.
#[derive(Default)]
pub(super) struct Pulling {
    by_object: HashMap<ObjectId, Puller>,
}

struct Puller {
    envelope: EnvelopeId,
    priority: Priority,
    waiting: Vec<(EnvelopeId, u64, ObjectEntry)>,
}

impl Pulling {
    /// Gives what `envelope` has to pull itself of `wanted`; for the rest it waits.
    pub(super) fn enter(&mut self, envelope: EnvelopeId, priority: Priority, mut wanted: Wanted) -> Wanted {
        wanted.retain(|(index, entry)| {
            let puller = self.by_object.entry(entry.id).or_insert(Puller { envelope, priority, waiting: Vec::new() });
            if puller.envelope == envelope {
                return true;
            }
            if priority < puller.priority {
                // Nobody who is urgent waits for bulk; who waited already waits for the faster one from now on.
                (puller.envelope, puller.priority) = (envelope, priority);
                return true;
            }
            puller.waiting.push((envelope, *index, *entry));
            false
        });
        wanted
    }

    /// These objects are durable: who waited for them.
    pub(super) fn take_held(&mut self, ids: &[ObjectId]) -> HashMap<EnvelopeId, Wanted> {
        by_envelope(ids.iter().filter_map(|id| self.by_object.remove(id)))
    }

    /// `envelope` pulls nothing any more: who waited for it.
    pub(super) fn take_left(&mut self, envelope: &EnvelopeId) -> HashMap<EnvelopeId, Wanted> {
        let left = self.by_object.extract_if(|_, puller| puller.envelope == *envelope);
        let mut waiting = by_envelope(left.map(|(_, puller)| puller));
        waiting.remove(envelope);
        for puller in self.by_object.values_mut() {
            puller.waiting.retain(|(waiting, ..)| waiting != envelope);
        }
        waiting
    }
}

fn by_envelope(pullers: impl Iterator<Item = Puller>) -> HashMap<EnvelopeId, Wanted> {
    let mut waiting: HashMap<EnvelopeId, Wanted> = HashMap::new();
    for (envelope, index, entry) in pullers.flat_map(|puller| puller.waiting) {
        waiting.entry(envelope).or_default().push((index, entry));
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: EnvelopeId = EnvelopeId([1; 16]);
    const TWO: EnvelopeId = EnvelopeId([2; 16]);
    const THREE: EnvelopeId = EnvelopeId([3; 16]);

    fn object(seed: u8) -> (u64, ObjectEntry) {
        (seed.into(), ObjectEntry { id: ObjectId([seed; 32]), bytes: 1 })
    }

    fn ids(objects: &[(u64, ObjectEntry)]) -> Vec<ObjectId> {
        objects.iter().map(|(_, entry)| entry.id).collect()
    }

    #[test]
    fn an_object_is_pulled_once_and_the_others_are_told() {
        let mut pulling = Pulling::default();
        let (first, second) = (vec![object(1), object(2)], vec![object(2), object(3)]);
        assert_eq!(pulling.enter(ONE, Priority::Normal, first.clone()), first);
        assert_eq!(pulling.enter(TWO, Priority::Normal, second), [object(3)]);
        assert_eq!(pulling.enter(ONE, Priority::Normal, vec![object(1)]), [object(1)], "asked again after a fault");
        assert!(pulling.take_held(&ids(&[object(1)])).is_empty());
        assert_eq!(pulling.take_held(&ids(&[object(2)])), HashMap::from([(TWO, vec![object(2)])]));
        assert_eq!(pulling.enter(THREE, Priority::Normal, vec![object(2)]), [object(2)], "nobody pulls it any more");
    }

    #[test]
    fn who_waited_for_an_envelope_that_ended_looks_again() {
        let mut pulling = Pulling::default();
        pulling.enter(ONE, Priority::Normal, vec![object(1), object(2)]);
        pulling.enter(TWO, Priority::Normal, vec![object(1)]);
        pulling.enter(THREE, Priority::Bulk, vec![object(1), object(2)]);
        assert!(pulling.take_left(&THREE).is_empty(), "it pulled nothing, and waits no more");
        assert_eq!(pulling.take_left(&ONE), HashMap::from([(TWO, vec![object(1)])]));
        assert!(pulling.take_left(&ONE).is_empty());
    }

    #[test]
    fn nobody_waits_for_somebody_less_urgent() {
        let mut pulling = Pulling::default();
        pulling.enter(ONE, Priority::Bulk, vec![object(1)]);
        assert!(pulling.enter(TWO, Priority::Bulk, vec![object(1)]).is_empty());
        assert_eq!(pulling.enter(THREE, Priority::Urgent, vec![object(1)]), [object(1)]);
        assert!(pulling.take_left(&ONE).is_empty(), "two waits for three now");
        assert_eq!(pulling.take_left(&THREE), HashMap::from([(TWO, vec![object(1)])]));
    }
}
