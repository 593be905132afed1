//! Envelopes of one counterpart that wait for a place, in the order in which they go.
//!
//! However many wait, taking one out costs a look-up, and those that joined since all were told why they wait are known.
//!
//! **Invariant:** the most urgent goes first, and of these the one that was submitted first; whoever may not go lets the
//! next one pass.

use std::collections::{BTreeMap, HashMap};

use crate::delivery::Reason;
use crate::ids::EnvelopeId;
use crate::record::envelope::Priority;

/// Envelopes of one counterpart that are offered at once; the rest waits, most urgent first.
pub const UNDER_WAY_MAX: usize = 16;
/// Of these, those whose content is still being read: what is complete finds places beside them.
pub const EARLY_MAX: usize = 8;
/// Those wait behind what is complete and equally urgent.
const EARLY_FIRST: u64 = 1 << 63;

/// The most urgent first, and of these the oldest.
pub type Place = (Priority, u64);

/// Where the `count`th envelope waits whose content is still being read.
pub fn early_place(priority: Priority, count: u64) -> Place {
    (priority, EARLY_FIRST + count)
}

/// Who goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The envelope at this place.
    Next(Place),
    /// Nobody: as many are under way as may be.
    Full,
    /// Nobody: none waits that may go.
    Held,
}

/// The line.
#[derive(Debug, Default)]
pub struct Line {
    order: BTreeMap<Place, EnvelopeId>,
    places: HashMap<EnvelopeId, Place>,
    /// Why all waited when they were told last.
    told: Option<Reason>,
    /// Those that joined since.
    fresh: Vec<EnvelopeId>,
}

impl Line {
    /// Lines an envelope up.
    pub fn insert(&mut self, place: Place, envelope: EnvelopeId) {
        if let Some(earlier) = self.places.insert(envelope, place) {
            self.order.remove(&earlier);
        }
        self.order.insert(place, envelope);
        if self.told.is_some() {
            self.fresh.push(envelope);
        }
    }

    /// Takes out whatever has this place.
    pub fn remove(&mut self, place: &Place) -> Option<EnvelopeId> {
        let envelope = self.order.remove(place)?;
        self.places.remove(&envelope);
        Some(envelope)
    }

    /// Takes an envelope out, wherever it stands.
    pub fn forget(&mut self, envelope: &EnvelopeId) {
        if let Some(place) = self.places.remove(envelope) {
            self.order.remove(&place);
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Who goes next while so many are `under_way`.
    pub fn turn(&self, under_way: usize, may_go: impl Fn(&EnvelopeId) -> bool) -> Turn {
        if under_way >= UNDER_WAY_MAX {
            return Turn::Full;
        }
        let next = self.order.iter().find(|(_, envelope)| may_go(envelope));
        next.map_or(Turn::Held, |(place, _)| Turn::Next(*place))
    }

    /// All who wait, in order.
    pub fn values(&self) -> impl Iterator<Item = &EnvelopeId> {
        self.order.values()
    }

    /// Those that do not know yet that they wait for `reason`: all at first, later those that joined since.
    pub fn untold(&mut self, reason: Reason) -> Vec<EnvelopeId> {
        let fresh = std::mem::take(&mut self.fresh);
        if self.told.replace(reason) == Some(reason) {
            return fresh.into_iter().filter(|envelope| self.places.contains_key(envelope)).collect();
        }
        self.order.values().copied().collect()
    }

    /// What they waited for is over.
    pub fn let_go(&mut self) {
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
    fn whoever_may_not_go_lets_the_next_one_pass() {
        let mut line = Line::default();
        assert_eq!(line.turn(0, |_| true), Turn::Held);
        let (early, late) = (early_place(Priority::Normal, 0), (Priority::Normal, u64::MAX >> 1));
        for (n, place) in [(1, early), (2, late), (3, (Priority::Bulk, 1)), (4, (Priority::Urgent, 5))] {
            line.insert(place, envelope(n));
        }
        assert_eq!(order(&line), [4, 2, 1, 3], "what is complete goes before what is being read");
        assert_eq!(line.turn(UNDER_WAY_MAX - 1, |_| true), Turn::Next((Priority::Urgent, 5)));
        assert_eq!(line.turn(UNDER_WAY_MAX, |_| true), Turn::Full);
        assert_eq!(line.turn(0, |waits| waits.0[0] < 3), Turn::Next(late));
        assert_eq!(line.turn(0, |_| false), Turn::Held);
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
