//! How many messages went in one direction within the last hour, and whether another may.
//!
//! Both sides count: the receiver what it accepted, the sender what it offered, with a margin, so that a sender that
//! keeps within the terms by its own count is never refused.
//!
//! **Invariant:** at most as many entries as the limit allows within one span, however often one envelope comes again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::ids::EnvelopeId;
use crate::time::Time;

/// The span in which a receiver counts.
pub const RATE_SPAN: Duration = Duration::from_secs(3600);
/// The span in which a sender counts: its envelope may be accepted somewhat later than it was offered.
pub const RATE_SPAN_SENDER: Duration = Duration::from_secs(3600 + 120);

/// The envelopes of the last hour in one direction.
#[derive(Debug)]
pub struct RateWindow {
    span: Duration,
    at: HashMap<EnvelopeId, Time>,
    order: BTreeSet<(Time, EnvelopeId)>,
    forgotten: Vec<EnvelopeId>,
}

impl RateWindow {
    /// An empty window of this span.
    pub fn new(span: Duration) -> RateWindow {
        RateWindow { span, at: HashMap::new(), order: BTreeSet::new(), forgotten: Vec::new() }
    }

    /// Counts an envelope at `at`; one that was counted before is counted once, at the later time.
    pub fn count(&mut self, envelope: EnvelopeId, at: Time) {
        let at = match self.at.get(&envelope) {
            Some(earlier) => at.max(*earlier),
            None => at,
        };
        if let Some(earlier) = self.at.insert(envelope, at) {
            self.order.remove(&(earlier, envelope));
        }
        self.order.insert((at, envelope));
    }

    /// Whether `envelope` may go or come where `limit` per hour are agreed: it is counted already, or there is room. What
    /// lies too far back is to be forgotten first.
    pub fn admits(&self, envelope: &EnvelopeId, limit: Option<u32>) -> bool {
        limit.is_none_or(|limit| self.at.contains_key(envelope) || self.at.len() < limit as usize)
    }

    /// When the next new envelope has room, if `limit` per hour are used up.
    pub fn room_at(&self, limit: Option<u32>) -> Option<Time> {
        let limit = limit? as usize;
        let surplus = self.at.len().checked_sub(limit)?;
        self.order.iter().nth(surplus).map(|(at, _)| *at + self.span + Duration::from_micros(1))
    }

    /// Forgets what lies further back than the span.
    pub fn forget(&mut self, now: Time) {
        while let Some((at, envelope)) = self.order.first().copied() {
            if now.since(at) <= self.span {
                return;
            }
            self.order.remove(&(at, envelope));
            self.at.remove(&envelope);
            self.forgotten.push(envelope);
        }
    }

    /// What was forgotten since the last call, so that its owner can forget it too.
    pub fn take_forgotten(&mut self) -> Vec<EnvelopeId> {
        std::mem::take(&mut self.forgotten)
    }

    /// Envelopes that are counted.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether none is counted.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(window: &mut RateWindow, n: u8, limit: Option<u32>, now: Time) -> bool {
        window.forget(now);
        window.admits(&id(n), limit)
    }

    fn id(n: u8) -> EnvelopeId {
        EnvelopeId([n; 16])
    }

    fn at(seconds: u64) -> Time {
        Time::from_seconds(10_000 + seconds)
    }

    #[test]
    fn so_many_within_any_hour_and_no_more() {
        let mut window = RateWindow::new(RATE_SPAN);
        for (n, seconds) in [(1, 0), (2, 1800), (3, 3500)] {
            assert!(admits(&mut window, n, Some(3), at(seconds)));
            window.count(id(n), at(seconds));
        }
        assert!(!admits(&mut window, 4, Some(3), at(3600)));
        assert_eq!(window.room_at(Some(3)), Some(at(3600) + Duration::from_micros(1)));
        assert!(admits(&mut window, 2, Some(3), at(3600)), "what was counted may come again");
        assert!(admits(&mut window, 4, None, at(3600)), "no limit is agreed");
        assert!(admits(&mut window, 4, Some(3), at(3601)));
        window.count(id(4), at(3601));
        assert!(!admits(&mut window, 5, Some(3), at(3602)));
        assert_eq!(window.len(), 3);
        // A lower limit after an amendment: room once enough has gone.
        assert_eq!(window.room_at(Some(1)), Some(at(3601 + 3600) + Duration::from_micros(1)));
    }

    #[test]
    fn an_envelope_counts_once_at_its_last_attempt() {
        let mut window = RateWindow::new(RATE_SPAN);
        window.count(id(1), at(0));
        window.count(id(1), at(600));
        window.count(id(1), at(300));
        assert_eq!(window.len(), 1);
        assert!(!admits(&mut window, 2, Some(1), at(4200)));
        assert!(admits(&mut window, 2, Some(1), at(4201)));
        assert!(window.is_empty());
    }

    #[test]
    fn a_sender_within_its_own_count_is_never_refused() {
        let (mut sender, mut receiver) = (RateWindow::new(RATE_SPAN_SENDER), RateWindow::new(RATE_SPAN));
        let mut now = at(0);
        for n in 0..200u8 {
            let envelope = id(n);
            while !admits(&mut sender, n, Some(5), now) {
                now = sender.room_at(Some(5)).expect("the limit is used up");
            }
            sender.count(envelope, now);
            // Accepted up to a minute later.
            let accepted = now + Duration::from_secs(u64::from(n) * 7 % 60);
            assert!(admits(&mut receiver, n, Some(5), accepted), "{n}");
            receiver.count(envelope, accepted);
            now = now + Duration::from_secs(u64::from(n) % 11);
        }
    }
}
