//! The judge: knows what people submitted and what each agreement allows, watches disks and lines, and says which rule was
//! broken.
//!
//! | rule | what it says |
//! |---|---|
//! | `lost` | what a node told its people it holds is there, and what a sender holds a receipt for is at its recipient |
//! | `twice` | a message arrives once |
//! | `stranger` | nothing goes to anybody but its recipient |
//! | `early` | a receipt, an acceptance, a confirmation or the sealed envelope leaves after what it speaks of is durable |
//! | `no-agreement` | nothing is offered, accepted or committed by a node that knows that the agreement is not in force |
//! | `two-ends` | an envelope has one final state, and both sides' are the same |
//! | `no-report` | who is not told by the state itself is told by a report |
//! | `incomplete` | a message is committed with all its content |
//! | `ahead` | a sender's state says no more than its recipient has stated |
//! | `swapped` | a receipt goes out under the envelope that it is about |
//! | `gave-up` | a refusal for now ends nothing |
//! | `two-reports` | people are told the same once |
//! | `too-late` | nothing is offered after the hold time |
//! | `false-alarm` | reconciliation finds nothing as long as nobody was restored |
//! | `two-receipts` | a receipt has the same bytes whenever it is told |
//! | `too-soon` | the hold time is not cut short |
//! | `unsettled`, `untold`, `offline` | after the faults have stopped, everything comes to its end in time |
//!
//! **Invariant:** it looks at rows that are written and frames that leave, never at what a node has in memory.

mod end;
mod rules;
mod watch;

pub(crate) use watch::Seen;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pakt_protocol::delivery::{Reason, State};
use pakt_protocol::ids::EnvelopeId;

use super::clock::{Micros, micros};
use super::disk::rows::Stage;
use crate::outcome::{Counts, Finding};
use crate::scenario::Submission;

/// What a node knows of one agreement.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    suspended_here: bool,
    suspended_there: bool,
    ended: bool,
    /// The newest statement of the counterpart that was heard.
    number: u64,
    /// The node's own newest statement.
    own_number: u64,
    /// When its time is over.
    until: Option<Micros>,
    /// Out of a backup, and nobody has confirmed it.
    unconfirmed: bool,
}

impl Known {
    fn in_force(&self, now: Micros) -> bool {
        let stopped = self.suspended_here || self.suspended_there || self.ended || self.unconfirmed;
        !stopped && self.until.is_none_or(|until| now < until)
    }
}

/// One envelope.
#[derive(Debug)]
struct Letter {
    from: u32,
    to: u32,
    submitted_at: Micros,
    state: State,
    stage: Option<Stage>,
    stage_at: Micros,
    /// It is there, or was, and why it is not any more.
    arrived: bool,
    is_purged: bool,
    is_wanted_back: bool,
    is_reported: bool,
    /// How people were told last that it ended.
    told: Option<Reason>,
    /// How much time its sender's clock has missed.
    clock_off: Micros,
    is_unconfirmed: bool,
    /// The sender was restored to before it, or the recipient.
    is_forgotten: bool,
    is_excused: bool,
    has_left: bool,
    /// The first bytes of the hash of each receipt that was told, by its place, and when it left first.
    receipts: Vec<(u8, u32, Micros)>,
}

/// The judge of one run.
pub(crate) struct Judge {
    /// The counterparts of each node, by their places.
    peers: Vec<Vec<usize>>,
    hold: Duration,
    letters: BTreeMap<EnvelopeId, Letter>,
    open: BTreeSet<(Micros, EnvelopeId)>,
    known: BTreeMap<(usize, usize), Known>,
    restored: BTreeSet<usize>,
    /// Nodes whose clocks people or faults have moved, and nodes that misbehave.
    odd_clocks: BTreeSet<usize>,
    hostile: BTreeSet<usize>,
    pub(crate) counts: Counts,
    /// From submission to delivery, in milliseconds, by priority.
    pub(crate) latency: [Vec<u32>; 3],
    pub(crate) finding: Option<Finding>,
    pub(crate) records: Vec<(Micros, usize, EnvelopeId, crate::outcome::Record)>,
}

impl Judge {
    pub(crate) fn new(nodes: usize, hold: Duration) -> Judge {
        Judge {
            peers: vec![Vec::new(); nodes],
            hold,
            letters: BTreeMap::new(),
            open: BTreeSet::new(),
            known: BTreeMap::new(),
            restored: BTreeSet::new(),
            odd_clocks: BTreeSet::new(),
            hostile: BTreeSet::new(),
            counts: Counts::default(),
            latency: [Vec::new(), Vec::new(), Vec::new()],
            finding: None,
            records: Vec::new(),
        }
    }

    /// Two nodes have signed an agreement, which lasts until then.
    pub(crate) fn agreed(&mut self, a: usize, b: usize, until: Option<Micros>) {
        for (node, other) in [(a, b), (b, a)] {
            self.peers[node].push(other);
            self.known.insert((node, other), Known { until, ..Known::default() });
        }
    }

    /// Somebody has handed in a message; it is his node's from `durable_at` on.
    pub(crate) fn submitted(
        &mut self,
        envelope: EnvelopeId,
        submission: &Submission,
        (from, to): (usize, usize),
        durable_at: Micros,
    ) {
        let submitted_at = micros(submission.at);
        let letter = Letter {
            from: u32::try_from(from).unwrap_or(u32::MAX),
            to: u32::try_from(to).unwrap_or(u32::MAX),
            submitted_at,
            state: State::Queued,
            stage: None,
            stage_at: 0,
            arrived: false,
            is_purged: false,
            is_wanted_back: false,
            is_reported: false,
            told: None,
            clock_off: 0,
            is_unconfirmed: false,
            is_forgotten: false,
            is_excused: false,
            has_left: false,
            receipts: Vec::new(),
        };
        self.counts.submitted += 1;
        self.open.insert((submitted_at, envelope));
        self.letters.insert(envelope, letter);
        self.records.push((durable_at, from, envelope, crate::outcome::Record::Submitted));
    }

    /// Somebody wants his message back.
    pub(crate) fn recalled(&mut self, envelope: EnvelopeId) {
        if let Some(letter) = self.letters.get_mut(&envelope) {
            letter.is_wanted_back = true;
        }
    }

    /// Somebody has suspended, resumed or ended an agreement at a node.
    pub(crate) fn stated(&mut self, node: usize, other: usize, (suspended, ended): (Option<bool>, bool), number: u64) {
        if let Some(known) = self.known.get_mut(&(node, other)) {
            known.suspended_here = suspended.unwrap_or(known.suspended_here);
            known.ended |= ended;
            known.own_number = number;
        }
    }

    /// The operator has confirmed what came out of a backup.
    pub(crate) fn confirmed(&mut self, node: usize) {
        for (_, known) in self.known.range_mut((node, 0)..=(node, usize::MAX)) {
            known.unconfirmed = false;
        }
    }

    /// A clock of this node was moved, or runs at another speed.
    pub(crate) fn clock_moved(&mut self, node: usize) {
        self.odd_clocks.insert(node);
    }

    /// This node does what it must not; what it says of itself proves nothing.
    pub(crate) fn turned_hostile(&mut self, node: usize) {
        self.hostile.insert(node);
    }

    /// Envelopes without a final state, and when the oldest of them was submitted.
    pub(crate) fn in_flight(&self) -> (u64, Option<Micros>) {
        (self.open.len() as u64, self.open.first().map(|(at, _)| *at))
    }

    /// Who has submitted an envelope.
    pub(crate) fn sender_of(&self, envelope: &EnvelopeId) -> Option<usize> {
        self.letters.get(envelope).map(|letter| letter.from as usize)
    }

    fn find(&mut self, rule: &str, at: Micros, what: String, nodes: &[usize]) {
        if nodes.iter().any(|node| self.hostile.contains(node)) {
            return;
        }
        let at = Duration::from_micros(at);
        self.finding.get_or_insert_with(|| Finding { rule: rule.to_owned(), at, what, nodes: nodes.to_vec() });
    }

    /// Follows where an envelope stands at its sender.
    fn set_state(&mut self, envelope: &EnvelopeId, state: State) {
        let Some(letter) = self.letters.get_mut(envelope) else { return };
        let before = std::mem::replace(&mut letter.state, state);
        let place = (letter.submitted_at, *envelope);
        let was_open = !before.is_final() && before.tier().is_none();
        let is_open = !state.is_final() && state.tier().is_none();
        match (was_open, is_open) {
            (true, false) => drop(self.open.remove(&place)),
            (false, true) => drop(self.open.insert(place)),
            _ => {}
        }
        for (state, sign) in [(before, -1), (state, 1)] {
            let add = |count: &mut u64| *count = count.saturating_add_signed(sign);
            let counts = &mut self.counts;
            match state {
                State::Queued | State::Offered | State::Transferring => {}
                State::Delivered => add(&mut counts.delivered),
                State::Released => [&mut counts.delivered, &mut counts.released].into_iter().for_each(add),
                State::Taken => {
                    [&mut counts.delivered, &mut counts.released, &mut counts.taken].into_iter().for_each(add);
                }
                State::Refused => add(&mut counts.refused),
                State::Expired => add(&mut counts.expired),
                State::Recalled => add(&mut counts.recalled),
            }
        }
    }
}
