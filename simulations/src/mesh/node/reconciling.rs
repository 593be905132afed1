//! Reconciliation with the counterpart: does what its machine wants, and keeps what it shows.

use std::rc::Rc;

use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::machine::Output;
use pakt_protocol::message::{Reconcile, ReconcileGap, Reconciled};
use pakt_protocol::reconcile::ranges::Ranges;
use pakt_protocol::reconcile::{Event, Input, Known, Reconciler, Restores, compare};
use pakt_protocol::record::Signed;
use pakt_protocol::record::reconciliation::{HeldStatement, NAMED_MAX, SentStatement, hash_of};

use super::{Actor, Timer};
use crate::mesh::disk::rows::{RoundRow, Standing};
use crate::mesh::disk::{Key, Value};

/// The machine, and the page that waits for its answer.
pub(crate) struct Reconciling {
    machine: Reconciler,
    stated: Option<(Signed<SentStatement>, SentStatement)>,
    /// The highest number that was held here when the counterpart's statement arrived.
    highest: u64,
}

impl Reconciling {
    pub(super) fn new(known: Known, now: pakt_protocol::time::Time) -> Reconciling {
        Reconciling { machine: Reconciler::new(known, now), stated: None, highest: 0 }
    }
}

/// Why a page came to nothing.
enum Trouble {
    Misbehaved(&'static str),
    Fault,
}

impl Actor<'_> {
    fn round(&self) -> Rc<RoundRow> {
        match self.row(&Key::Round(self.peer.slot)) {
            Some(Value::Round(row)) => row.clone(),
            _ => Rc::default(),
        }
    }

    /// Takes up where the last run ended.
    pub(super) fn load_reconciliation(&mut self) {
        let row = self.round();
        let known = Known { sent: row.sent, next: row.next, received: row.received };
        self.peer.reconciling = Reconciling::new(known, self.now());
    }

    pub(super) fn begin_reconciling(&mut self) {
        if self.shared.terms.reconcile {
            self.tell_reconciler(Input::Live);
        }
    }

    pub(super) fn end_reconciling(&mut self) {
        self.peer.reconciling.stated = None;
        self.peer.timers.clear(Timer::Reconcile);
        if self.shared.terms.reconcile {
            self.tell_reconciler(Input::Lost);
        }
    }

    pub(super) fn reconcile_now(&mut self) {
        if self.is_live() {
            self.tell_reconciler(Input::Asked);
        }
    }

    pub(super) fn tick_reconciling(&mut self) {
        if self.is_live() {
            self.tell_reconciler(Input::Tick);
        }
    }

    /// The counterpart says what it has sent.
    pub(super) fn take_sent_statement(&mut self, message: Reconcile) {
        let slot = self.peer.slot;
        let newest = self.home.disk.range(Key::Held(slot, 0), Key::Held(slot, u64::MAX)).next_back();
        self.peer.reconciling.highest = match newest {
            Some((Key::Held(_, number), _)) => *number,
            _ => 0,
        };
        self.tell_reconciler(Input::Statement(message.statement));
    }

    /// The counterpart says what it holds.
    pub(super) fn take_held_statement(&mut self, message: Reconciled) {
        self.tell_reconciler(Input::Answer(message.statement));
    }

    /// The counterpart names what is not held here.
    pub(super) fn take_reconcile_gap(&mut self, message: &ReconcileGap) {
        if message.named.len() > NAMED_MAX {
            self.close_session("more names than a reconciliation has");
        }
    }

    fn tell_reconciler(&mut self, input: Input) {
        let now = self.now();
        self.peer.reconciling.machine.handle_input(input, now);
        while let Some(output) = self.peer.reconciling.machine.poll_output() {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Persist(never) => match never {},
                Output::Deadline(at) => self.peer.timers.set(Timer::Reconcile, at),
                Output::Event(event) => self.do_for_reconciler(event),
            }
        }
    }

    fn do_for_reconciler(&mut self, event: Event) {
        let done = match event {
            Event::State { round, first } => Ok(self.state_sent(round, first)),
            Event::Keep(_, answer) => self.keep_answer(&answer),
            Event::Answer(statement) => self.answer_statement(&statement),
            Event::Done | Event::Unanswered => return,
            Event::Misbehaved(why) => return self.close_session(why),
        };
        let now = self.now();
        match done {
            Ok(input) => self.peer.reconciling.machine.handle_input(input, now),
            Err(Trouble::Misbehaved(why)) => self.close_session(why),
            Err(Trouble::Fault) => self.peer.reconciling.machine.handle_input(Input::Failed, now),
        }
    }

    fn state_sent(&mut self, round: u64, first: u64) -> Input {
        let row = &self.peer.agreement.row;
        let slot = self.peer.slot;
        let mut body = SentStatement {
            entity: self.home.identity.entity,
            reader: self.peer.entity,
            agreement: self.peer.id,
            round,
            at: self.wall(),
            given: row.last_number,
            first,
            last: u64::MAX,
            delivered: Ranges::default(),
            open: Ranges::default(),
            excused: Ranges::default(),
            forgotten: Ranges::default(),
        };
        for (key, value) in self.home.disk.range(Key::Sent(slot, first), Key::Sent(slot, u64::MAX)) {
            let (Key::Sent(_, number), Value::Sent(_, standing)) = (key, value) else { continue };
            let restores = &row.peer_restores;
            let set = match standing {
                Standing::Ended => continue,
                Standing::Open | Standing::Answered => &mut body.open,
                Standing::Delivered(at) if restores.iter().any(|(from, to)| (*from..=*to).contains(at)) => {
                    &mut body.excused
                }
                Standing::Delivered(_) => &mut body.delivered,
            };
            if !set.has_room(*number) {
                body.last = number - 1;
                break;
            }
            set.push(*number, *number);
        }
        body.forgotten = row.forgotten.within(first, body.last);
        let signed = self.shared.suite.sign(&body, &self.home.identity);
        self.peer.reconciling.stated = Some((signed.clone(), body.clone()));
        Input::Stated(signed, Box::new(body))
    }

    fn keep_answer(&mut self, signed: &Signed<HeldStatement>) -> Result<Input, Trouble> {
        let Some((asked, sent)) = self.peer.reconciling.stated.take() else { return Ok(Input::Failed) };
        let answer = self.shared.suite.open(signed, &self.peer.certified);
        let fits = |answer: &HeldStatement| answer.statement == hash_of(&asked) && answer.first == sent.first;
        let Some(answer) = answer.filter(fits) else {
            return Err(Trouble::Misbehaved("this is no valid answer to a reconciliation"));
        };
        let row = &self.peer.agreement.row;
        let restores = Restores { sender: self.home.own().restored.is_some(), receiver: !row.peer_restores.is_empty() };
        let findings = compare(&sent, (answer.last, &answer.held), restores);
        let mut kept = RoundRow::clone(&self.round());
        if answer.last == u64::MAX {
            kept.sent = Some((sent.round, self.now()));
        }
        kept.next = answer.last.checked_add(1);
        kept.lost = kept.lost.minus(&Ranges::of(answer.first, answer.last)).or(&findings.lost);
        let named = self.named(&findings.lost);
        self.keep_round(kept).map(|()| Input::Kept(named))
    }

    fn named(&self, lost: &Ranges) -> Vec<(u64, EnvelopeId)> {
        let name = |number: u64| match self.row(&Key::Sent(self.peer.slot, number)) {
            Some(Value::Sent(envelope, _)) => Some((number, *envelope)),
            _ => None,
        };
        lost.numbers().filter_map(name).take(NAMED_MAX).collect()
    }

    fn answer_statement(&mut self, signed: &Signed<SentStatement>) -> Result<Input, Trouble> {
        let sent = self.shared.suite.open(signed, &self.peer.certified);
        let ours = |sent: &SentStatement| sent.agreement == self.peer.id && sent.round > 0;
        let Some(sent) = sent.filter(ours) else {
            return Err(Trouble::Misbehaved("this is no valid statement of what was sent"));
        };
        let slot = self.peer.slot;
        let (mut held, mut last) = (Ranges::default(), sent.last);
        for (key, _) in self.home.disk.range(Key::Held(slot, sent.first), Key::Held(slot, sent.last)) {
            let Key::Held(_, number) = key else { continue };
            if !held.has_room(*number) {
                last = number - 1;
                break;
            }
            held.push(*number, *number);
        }
        let held = held.within(sent.first, self.peer.reconciling.highest);
        let row = &self.peer.agreement.row;
        let restores = Restores { sender: !row.peer_restores.is_empty(), receiver: self.home.own().restored.is_some() };
        let findings = compare(&sent, (last, &held), restores);
        let body = HeldStatement {
            entity: self.home.identity.entity,
            reader: self.peer.entity,
            agreement: self.peer.id,
            statement: hash_of(signed),
            at: self.wall(),
            first: sent.first,
            last,
            held,
            named: Vec::new(),
        };
        let answer = self.shared.suite.sign(&body, &self.home.identity);
        let mut kept = RoundRow::clone(&self.round());
        kept.received = Some(self.now());
        kept.unknown = kept.unknown.minus(&Ranges::of(sent.first, last)).or(&findings.unknown);
        self.keep_round(kept).map(|()| Input::Answered(answer, last == u64::MAX))
    }

    fn keep_round(&mut self, row: RoundRow) -> Result<(), Trouble> {
        let change = (Key::Round(self.peer.slot), Some(Value::Round(Rc::new(row))));
        self.commit("round", vec![change]).map_err(|_| Trouble::Fault)
    }
}
