//! The gate before bulk content: closed while something urgent is on its way to the same counterpart.
//!
//! Bulk lanes pass it before every slice that they write, so an object under way stops in its middle. The gate opens
//! for a while when the urgent transfer makes no progress, and lets a slice through now and then in any case, so that no
//! lane looks dead to its reader.
//!
//! **Invariant:** whatever the urgent transfer does, a bulk writer waits at most [`TRICKLE_AFTER`] for one slice.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pakt_protocol::ids::EnvelopeId;
use tokio::sync::Notify;

use super::lock;

/// An urgent transfer that has not moved for so long no longer holds bulk back.
pub(super) const STALL_MAX: Duration = Duration::from_secs(2);
/// A bulk lane in the middle of an object says something at least this often; its reader gives up after 45 s.
const TRICKLE_AFTER: Duration = Duration::from_secs(10);

/// What is urgent and under way, and when it moved last.
#[derive(Debug, Default)]
pub(super) struct UrgentGate {
    state: Mutex<State>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    under_way: HashSet<EnvelopeId>,
    moved_at: Option<Instant>,
}

impl State {
    /// Until when the gate is closed, if nothing else happens.
    fn closed_until(&self, now: Instant) -> Option<Instant> {
        let until = self.moved_at.filter(|_| !self.under_way.is_empty())? + STALL_MAX;
        (now < until).then_some(until)
    }
}

impl UrgentGate {
    /// An urgent envelope is about to be offered.
    pub(super) fn begin(&self, envelope: EnvelopeId) {
        let mut state = lock(&self.state);
        state.under_way.insert(envelope);
        state.moved_at = Some(Instant::now());
    }

    /// Something urgent moved: a message about it, or a part of its content.
    pub(super) fn moved(&self) {
        lock(&self.state).moved_at = Some(Instant::now());
    }

    /// The envelope, urgent or not, is no longer under way.
    pub(super) fn end(&self, envelope: &EnvelopeId) {
        let mut state = lock(&self.state);
        if state.under_way.remove(envelope) && state.under_way.is_empty() {
            self.opened.notify_waiters();
        }
    }

    /// Whether bulk has to wait now.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed_until(Instant::now()).is_some()
    }

    /// Waits until bulk may go on. Cancel safe.
    pub(super) async fn pass(&self) {
        let trickle = Instant::now() + TRICKLE_AFTER;
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            let now = Instant::now();
            let Some(until) = lock(&self.state).closed_until(now).filter(|_| now < trickle) else { return };
            let _ = tokio::time::timeout_at(until.min(trickle).into(), opened).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_while_urgent_moves_open_once_it_stalls() {
        let gate = UrgentGate::default();
        assert!(!gate.is_closed());
        gate.begin(EnvelopeId([1; 16]));
        gate.begin(EnvelopeId([2; 16]));
        let now = Instant::now();
        let check = |later: Duration, closed: bool| {
            assert_eq!(lock(&gate.state).closed_until(now + later).is_some(), closed, "{later:?}");
        };
        check(Duration::from_millis(1_900), true);
        check(Duration::from_millis(2_001), false);
        gate.end(&EnvelopeId([1; 16]));
        assert!(gate.is_closed());
        gate.end(&EnvelopeId([2; 16]));
        gate.moved();
        assert!(!gate.is_closed());
    }

    #[tokio::test]
    async fn the_end_of_what_is_urgent_lets_writers_go_at_once() {
        let gate = std::sync::Arc::new(UrgentGate::default());
        gate.begin(EnvelopeId([1; 16]));
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!waiting.is_finished());
        gate.end(&EnvelopeId([1; 16]));
        let passed = tokio::time::timeout(Duration::from_millis(500), waiting).await;
        assert!(passed.is_ok(), "long before the transfer would count as stalled");
    }
}
