//! Envelopes of one counterpart that wait for a place, in the order in which they go.
//!
//! However many wait, taking one out costs a look-up, and those that joined since all were told why they wait are known.

use std::collections::{BTreeMap, HashMap};

use pakt_protocol::delivery::Reason;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::envelope::Priority;

/// The most urgent first, and of these the oldest.
type Place = (Priority, u64);

/// The line.
#[derive(Default)]
pub(super) struct Line {
    order: BTreeMap<Place, EnvelopeId>,
    places: HashMap<EnvelopeId, Place>,
    /// Why all waited when they were told last.
    told: Option<Reason>,
    /// Those that joined since.
    fresh: Vec<EnvelopeId>,
}

impl Line {
    /// Lines an envelope up.
    pub(super) fn insert(&mut self, place: Place, envelope: EnvelopeId) {
        if let Some(earlier) = self.places.insert(envelope, place) {
            self.order.remove(&earlier);
        }
        self.order.insert(place, envelope);
        if self.told.is_some() {
            self.fresh.push(envelope);
        }
    }

    /// Takes out whatever has this place.
    pub(super) fn remove(&mut self, place: &Place) -> Option<EnvelopeId> {
        let envelope = self.order.remove(place)?;
        self.places.remove(&envelope);
        Some(envelope)
    }

    /// Takes an envelope out, wherever it stands.
    pub(super) fn forget(&mut self, envelope: &EnvelopeId) {
        if let Some(place) = self.places.remove(envelope) {
            self.order.remove(&place);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Place, &EnvelopeId)> {
        self.order.iter()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &EnvelopeId> {
        self.order.values()
    }

    /// Those that do not know yet that they wait for `reason`: all at first, later those that joined since.
    pub(super) fn untold(&mut self, reason: Reason) -> Vec<EnvelopeId> {
        let fresh = std::mem::take(&mut self.fresh);
        if self.told.replace(reason) == Some(reason) {
            return fresh.into_iter().filter(|envelope| self.places.contains_key(envelope)).collect();
        }
        self.order.values().copied().collect()
    }

    /// What they waited for is over.
    pub(super) fn let_go(&mut self) {
        self.told = None;
        self.fresh = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(n: u8) -> EnvelopeId {
        EnvelopeId([n; 16])
    }

    fn order(line: &Line) -> Vec<u8> {
        line.values().map(|envelope| envelope.0[0]).collect()
    }

    #[test]
    fn the_line_keeps_its_order_whoever_leaves() {
        let mut line = Line::default();
        for (n, place) in [(1, (Priority::Normal, 7)), (2, (Priority::Urgent, 9)), (3, (Priority::Normal, 3))] {
            line.insert(place, envelope(n));
        }
        assert_eq!(order(&line), [2, 3, 1]);
        line.insert((Priority::Normal, 1), envelope(1));
        assert_eq!(order(&line), [2, 1, 3], "an envelope stands in it once");
        line.forget(&envelope(2));
        line.forget(&envelope(2));
        assert_eq!(line.remove(&(Priority::Normal, 3)), Some(envelope(3)));
        assert_eq!(line.remove(&(Priority::Normal, 3)), None);
        assert_eq!(order(&line), [1]);
    }

    #[test]
    fn each_is_told_once_why_it_waits() {
        let mut line = Line::default();
        line.insert((Priority::Normal, 1), envelope(1));
        line.insert((Priority::Normal, 2), envelope(2));
        assert_eq!(line.untold(Reason::ControlMissing).len(), 2);
        assert_eq!(line.untold(Reason::ControlMissing), []);
        line.insert((Priority::Normal, 3), envelope(3));
        line.insert((Priority::Normal, 4), envelope(4));
        line.forget(&envelope(4));
        assert_eq!(line.untold(Reason::ControlMissing), [envelope(3)]);
        assert_eq!(line.untold(Reason::RateReached).len(), 3, "another reason is told to all");
        line.let_go();
        assert_eq!(line.untold(Reason::RateReached).len(), 3, "and so is the same one when it comes back");
    }
}
