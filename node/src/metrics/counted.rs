//! Counts of what happened since the process began.

use std::sync::LazyLock;

use pakt_protocol::delivery::{Reason, Record, State};
use pakt_protocol::message::offer::Refusal;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::store::WriteTx;

/// Labels whose values are words of this program.
pub type Labels = Vec<(&'static str, &'static str)>;
/// A counter for each of a few words.
pub type Counters = Family<Labels, Counter>;

/// All counters. A process runs one node, so there is one of these.
#[derive(Debug, Default)]
pub struct Counted {
    /// Messages submitted here.
    pub submitted: Counter,
    /// States that envelopes of this node reached.
    pub reached: Counters,
    /// Envelopes of this node that went back to wait, by reason.
    pub retries: Counters,
    /// Envelopes that counterparts refused, for good or for now, by reason.
    pub refused_there: Counters,
    /// Envelopes that this node refused, by reason.
    pub refused_here: Counters,
    /// Messages that arrived whole.
    pub received: Counter,
    /// Warnings and reports to sending groups.
    pub reports: Counter,
}

static COUNTED: LazyLock<Counted> = LazyLock::new(Counted::default);

/// The counters of this process.
pub fn counted() -> &'static Counted {
    &COUNTED
}

impl Counted {
    /// Counts, once `tx` is durable, what a step of a delivery was; `before` is the state that it came from.
    pub(crate) fn stepped(tx: &mut WriteTx, before: State, now: &Record) {
        let (state, reason) = (now.state, now.reason);
        if before != state {
            tx.on_commit(move || counted().step(state, reason));
        }
    }

    fn step(&self, state: State, reason: Option<Reason>) {
        self.reached.get_or_create(&vec![("state", state.as_str())]).inc();
        let why = reason.map_or("none", Reason::as_str);
        if state == State::Queued {
            self.retries.get_or_create(&vec![("reason", why)]).inc();
        }
        if state == State::Refused || matches!(reason, Some(Reason::Refused(_))) {
            self.refused_there.get_or_create(&vec![("reason", why)]).inc();
        }
    }

    /// Counts that this node refused an offer or an envelope.
    pub(crate) fn refused(&self, reason: Refusal) {
        self.refused_here.get_or_create(&vec![("reason", Reason::Refused(reason).as_str())]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_where_it_belongs() {
        let counted = Counted::default();
        counted.step(State::Offered, None);
        counted.step(State::Queued, Some(Reason::ConnectionLost));
        counted.step(State::Queued, Some(Reason::Refused(Refusal::Busy)));
        counted.step(State::Refused, Some(Reason::Unopenable));
        counted.step(State::Delivered, None);
        let of = |family: &Counters, label, word| family.get_or_create(&vec![(label, word)]).get();
        for (state, count) in [("offered", 1), ("queued", 2), ("refused", 1), ("delivered", 1), ("taken", 0)] {
            assert_eq!(of(&counted.reached, "state", state), count, "{state}");
        }
        for (reason, retries, refused) in [("connection_lost", 1, 0), ("busy", 1, 1), ("unopenable", 0, 1)] {
            assert_eq!(of(&counted.retries, "reason", reason), retries, "{reason}");
            assert_eq!(of(&counted.refused_there, "reason", reason), refused, "{reason}");
        }
    }
}
