//! What was handed to the mesh, and what the senders' nodes say became of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use pakt_node::api::types::{EnvelopeState, OutboxEnvelope};

use super::content::Content;
use crate::outcome::{Counts, Percentiles, Record};
use crate::scenario::Priority;

/// One message that a node took.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) from: usize,
    pub(super) priority: Priority,
    pub(super) content: Content,
}

/// One envelope of it.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) message: Message,
    pub(super) to: usize,
    pub(super) state: EnvelopeState,
    submitted: Timestamp,
    delivered: Option<Timestamp>,
    /// TCP payload, as the sender's node counts it.
    pub(super) wire_bytes: u64,
    /// Entries of its history that were told.
    told: usize,
    reason: Option<String>,
}

impl Tracked {
    /// Whether a receipt is held.
    pub(super) fn is_delivered(&self) -> bool {
        self.state.tier() > 0
    }

    /// Whether nothing more is waited for: nobody takes messages here, so `released` is the end.
    fn is_settled(&self) -> bool {
        !matches!(
            self.state,
            EnvelopeState::Queued | EnvelopeState::Offered | EnvelopeState::Transferring | EnvelopeState::Delivered
        )
    }

    /// Takes over what the sender's node says, and gives what is new.
    fn update(&mut self, shown: &OutboxEnvelope) -> Vec<(Timestamp, Record)> {
        self.wire_bytes = shown.bytes_on_wire;
        self.state = shown.state;
        self.reason.clone_from(&shown.reason);
        let new = shown.history.get(self.told..).unwrap_or_default();
        let mut records = Vec::with_capacity(new.len());
        for entry in new {
            let Ok(at) = entry.at.parse::<Timestamp>() else { continue };
            if entry.state.tier() > 0 {
                self.delivered.get_or_insert(at);
            }
            if entry.state == EnvelopeState::Queued && self.told == 0 && records.is_empty() {
                self.submitted = at;
            }
            records.extend(record_of(entry.state, shown.reason.as_deref()).map(|record| (at, record)));
        }
        self.told = shown.history.len();
        records
    }
}

/// What a state in a history says; nothing where it only says that it waits again.
fn record_of(state: EnvelopeState, reason: Option<&str>) -> Option<Record> {
    Some(match state {
        EnvelopeState::Queued => Record::Submitted,
        EnvelopeState::Offered => Record::Offered,
        EnvelopeState::Transferring => Record::Accepted,
        EnvelopeState::Delivered => Record::Delivered,
        EnvelopeState::Released => Record::Released,
        EnvelopeState::Taken => Record::Taken,
        EnvelopeState::Refused => Record::Refused(reason.unwrap_or_default().to_owned()),
        EnvelopeState::Expired => Record::Expired,
        EnvelopeState::Recalled => Record::Recalled,
        EnvelopeState::Unconfirmed | EnvelopeState::Checking | EnvelopeState::Quarantined => return None,
    })
}

/// All envelopes by their ids.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) envelopes: HashMap<String, Tracked>,
    /// Those that are followed, the one that was looked at longest ago first.
    open: VecDeque<String>,
    /// Messages that no node took, and why.
    pub(super) not_taken: BTreeMap<String, u64>,
    /// Bytes that the scenario asked for, and that were sent.
    pub(super) bytes: (u64, u64),
}

impl Ledger {
    /// Notes an envelope that a node took, and gives its records so far.
    pub(super) fn add(&mut self, message: &Message, to: usize, shown: &OutboxEnvelope) -> Vec<(Timestamp, Record)> {
        let now = Timestamp::now();
        let mut tracked = Tracked {
            message: message.clone(),
            to,
            state: shown.state,
            submitted: now,
            delivered: None,
            wire_bytes: 0,
            told: 0,
            reason: None,
        };
        let records = tracked.update(shown);
        self.open.push_back(shown.id.clone());
        self.envelopes.insert(shown.id.clone(), tracked);
        records
    }

    /// Up to `count` envelopes to be looked at, with their senders.
    pub(super) fn to_look_at(&mut self, count: usize) -> Vec<(String, usize)> {
        let count = count.min(self.open.len());
        let ids: Vec<String> = self.open.drain(..count).collect();
        ids.into_iter()
            .filter_map(|id| self.envelopes.get(&id).map(|one| one.message.from).map(|from| (id, from)))
            .collect()
    }

    /// Takes over what was seen of an envelope that was to be looked at; without an answer it is looked at again.
    pub(super) fn looked_at(&mut self, id: String, shown: Option<&OutboxEnvelope>) -> Vec<(Timestamp, Record)> {
        let Some(tracked) = self.envelopes.get_mut(&id) else { return Vec::new() };
        let records = shown.map(|shown| tracked.update(shown)).unwrap_or_default();
        if !tracked.is_settled() {
            self.open.push_back(id);
        }
        records
    }

    /// Envelopes that are followed still.
    pub(super) fn open(&self) -> impl Iterator<Item = &Tracked> {
        self.open.iter().filter_map(|id| self.envelopes.get(id))
    }

    /// For how long the oldest of them has waited.
    pub(super) fn age_max(&self) -> Duration {
        let now = Timestamp::now();
        let age = |one: &Tracked| Duration::try_from(now.duration_since(one.submitted)).unwrap_or_default();
        self.open().map(age).max().unwrap_or_default()
    }

    /// What became of everything.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for one in self.envelopes.values() {
            counts.submitted += 1;
            counts.delivered += u64::from(one.state.tier() >= 1);
            counts.released += u64::from(one.state.tier() >= 2);
            counts.taken += u64::from(one.state.tier() >= 3);
            counts.refused += u64::from(one.state == EnvelopeState::Refused);
            counts.expired += u64::from(one.state == EnvelopeState::Expired);
            counts.recalled += u64::from(one.state == EnvelopeState::Recalled);
            counts.unconfirmed += u64::from(one.state == EnvelopeState::Unconfirmed);
        }
        counts
    }

    /// From submission to `delivered` per priority, in real time.
    pub(super) fn latency(&self) -> Vec<(Priority, Percentiles)> {
        let of = |priority| {
            let all = self.envelopes.values().filter(move |one| one.message.priority == priority);
            let took = all.filter_map(|one| Duration::try_from(one.delivered?.duration_since(one.submitted)).ok());
            let mut took: Vec<Duration> = took.collect();
            took.sort_unstable();
            (!took.is_empty()).then(|| (priority, percentiles(&took)))
        };
        [Priority::Urgent, Priority::Normal, Priority::Bulk].into_iter().filter_map(of).collect()
    }
}

/// Of a sorted list that is not empty.
fn percentiles(sorted: &[Duration]) -> Percentiles {
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    };
    Percentiles { count: sorted.len() as u64, p50: at(50), p90: at(90), p99: at(99), max: at(100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let ms = |values: &[u64]| values.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        let check = |values: &[u64], expected: [u64; 4]| {
            let found = percentiles(&ms(values));
            assert_eq!(vec![found.p50, found.p90, found.p99, found.max], ms(&expected), "{values:?}");
        };
        check(&[7], [7, 7, 7, 7]);
        check(&[1, 2], [1, 2, 2, 2]);
        check(&(1..=200).collect::<Vec<_>>(), [100, 180, 198, 200]);
    }
}
