//! The queue of objects to pull: by priority, and within a priority the envelopes take turns.
//!
//! The turn is that of the envelope that was given the fewest bytes, so a letter does not wait behind an archive of the
//! same priority. Objects of one envelope keep their order.
//!
//! **Invariant:** no envelope waits for more than one object of each other envelope of its priority.

use std::collections::VecDeque;

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::envelope::Priority;

use super::pull::Pull;

/// What is to be pulled.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    by_priority: [Turns; 3],
}

/// The envelopes of one priority that have objects to pull.
#[derive(Debug, Default)]
struct Turns {
    envelopes: Vec<Waiting>,
    /// Bytes that the envelope whose turn was last had been given before: where newcomers start.
    start: u64,
}

#[derive(Debug)]
struct Waiting {
    envelope: EnvelopeId,
    given: u64,
    pulls: VecDeque<Pull>,
}

impl Turns {
    fn of(&mut self, envelope: EnvelopeId) -> &mut Waiting {
        let at = self.envelopes.iter().position(|waiting| waiting.envelope == envelope);
        let at = at.unwrap_or_else(|| {
            self.envelopes.push(Waiting { envelope, given: self.start, pulls: VecDeque::new() });
            self.envelopes.len() - 1
        });
        &mut self.envelopes[at]
    }

    fn pop(&mut self) -> Option<Pull> {
        let least = self.envelopes.iter_mut().enumerate().min_by_key(|(_, waiting)| waiting.given);
        let (at, waiting) = least?;
        let pull = waiting.pulls.pop_front();
        self.start = waiting.given;
        waiting.given += pull.map_or(0, |pull| u64::from(pull.entry.bytes));
        if waiting.pulls.is_empty() {
            self.envelopes.swap_remove(at);
        }
        pull
    }
}

impl FairQueue {
    /// Adds an object behind those of its envelope.
    pub(super) fn push(&mut self, pull: Pull) {
        self.by_priority[pull.priority as usize].of(pull.envelope).pulls.push_back(pull);
    }

    /// Puts an object back before those of its envelope.
    pub(super) fn give_back(&mut self, pull: Pull) {
        self.by_priority[pull.priority as usize].of(pull.envelope).pulls.push_front(pull);
    }

    /// Forgets what was to be pulled for an envelope.
    pub(super) fn forget(&mut self, envelope: &EnvelopeId) {
        for turns in &mut self.by_priority {
            turns.envelopes.retain(|waiting| waiting.envelope != *envelope);
        }
    }

    /// Whether there is anything of this priority.
    pub(super) fn has(&self, priority: Priority) -> bool {
        !self.by_priority[priority as usize].envelopes.is_empty()
    }

    /// The next object of this priority.
    pub(super) fn pop(&mut self, priority: Priority) -> Option<Pull> {
        self.by_priority[priority as usize].pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pakt_protocol::ids::ObjectId;
    use pakt_protocol::message::offer::ObjectEntry;

    fn pull(envelope: u8, index: u64, bytes: u32) -> Pull {
        let entry = ObjectEntry { id: ObjectId([0; 32]), bytes };
        Pull { envelope: EnvelopeId([envelope; 16]), index, entry, priority: Priority::Normal }
    }

    fn order(queue: &mut FairQueue, count: usize) -> Vec<(u8, u64)> {
        (0..count).filter_map(|_| queue.pop(Priority::Normal)).map(|pull| (pull.envelope.0[0], pull.index)).collect()
    }

    #[test]
    fn a_letter_does_not_wait_behind_an_archive() {
        let mut queue = FairQueue::default();
        (0..1_000).for_each(|index| queue.push(pull(1, index, 1 << 20)));
        assert_eq!(order(&mut queue, 3), [(1, 0), (1, 1), (1, 2)]);
        (0..3).for_each(|index| queue.push(pull(2, index, 100_000)));
        let next = order(&mut queue, 5);
        assert!(next[..4].iter().filter(|(envelope, _)| *envelope == 2).count() == 3, "{next:?}");
        assert_eq!(order(&mut queue, 2), [(1, next.last().unwrap().1 + 1), (1, next.last().unwrap().1 + 2)]);
    }

    #[test]
    fn equal_envelopes_take_turns_and_what_comes_back_goes_first() {
        let mut queue = FairQueue::default();
        (0..10).for_each(|index| queue.push(pull(1, index, 1_000)));
        (0..10).for_each(|index| queue.push(pull(2, index, 1_000)));
        let first = order(&mut queue, 10);
        assert_eq!(first.iter().filter(|(envelope, _)| *envelope == 1).count(), 5, "{first:?}");
        queue.give_back(pull(1, 3, 1_000));
        assert!(order(&mut queue, 2).contains(&(1, 3)));
        queue.forget(&EnvelopeId([1; 16]));
        assert!(order(&mut queue, 20).iter().all(|(envelope, _)| *envelope == 2));
        assert!(!queue.has(Priority::Normal));
    }
}
