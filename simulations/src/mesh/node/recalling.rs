//! Recalls: asking for what has left, answering what is asked for, and showing a restored counterpart what it had purged.

use std::rc::Rc;

use pakt_protocol::delivery::{Delivery, Input as DeliveryInput};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::machine::Output;
use pakt_protocol::message::{PurgedBefore, Recall};
use pakt_protocol::recalls::{self, Repeated, Request, repeated};
use pakt_protocol::record::envelope::Counts;
use pakt_protocol::record::recall::RecallRequest;
use pakt_protocol::record::receipt::{Receipt, Verdict};

use super::sending::told_of;
use super::{Actor, FIRST, LAST, Timer};
use crate::mesh::disk::rows::{OutRow, SettledRow, Stage};
use crate::mesh::disk::{Change, Full, Key, Value};

impl Actor<'_> {
    /// Somebody here wants an envelope back.
    pub(crate) fn handle_recall(&mut self, envelope: EnvelopeId) {
        if self.peer.deliveries.contains_key(&envelope) {
            self.tell_delivery(envelope, DeliveryInput::Recall, None);
            let is_kept =
                self.out(&envelope).is_some_and(|row| row.delivery.recalling || !row.delivery.state.is_open());
            if let Some(delivery) = self.peer.deliveries.get_mut(&envelope).filter(|_| !is_kept) {
                delivery.forget_recall();
            }
        } else if let Some(row) = self.out(&envelope) {
            self.want_back(envelope, &row);
        }
        self.peer.recalls.wanted(&envelope);
        self.send_recalls();
    }

    fn want_back(&mut self, envelope: EnvelopeId, row: &OutRow) {
        let now = self.now();
        let mut machine = Delivery::new(row.delivery.clone(), now);
        machine.handle_input(DeliveryInput::Recall, now);
        let outputs = std::iter::from_fn(|| machine.poll_output());
        let told: Vec<_> = outputs
            .filter_map(|output| match output {
                Output::Event(event) => told_of(event),
                _ => None,
            })
            .collect();
        let changes = self.kept_in(envelope, row, machine.record().clone(), None, &told);
        let _ = self.commit("recall", changes);
    }

    /// Envelopes whose receiver has not answered a recall; forgets those that were answered.
    fn open_recalls(&mut self) -> Vec<(EnvelopeId, Rc<OutRow>)> {
        let slot = self.peer.slot;
        let rows = self.home.disk.range(Key::Recall(slot, FIRST), Key::Recall(slot, LAST));
        let wanted: Vec<EnvelopeId> = rows
            .filter_map(|(key, _)| match key {
                Key::Recall(_, envelope) => Some(*envelope),
                _ => None,
            })
            .collect();
        let (mut open, mut answered): (_, Vec<Change>) = (Vec::new(), Vec::new());
        for envelope in wanted {
            match self.out(&envelope).filter(|row| row.delivery.recalling) {
                Some(row) if row.delivery.left || !row.delivery.state.is_open() => open.push((envelope, row)),
                Some(_) => {}
                None => answered.push((Key::Recall(slot, envelope), None)),
            }
        }
        if !answered.is_empty() {
            let _ = self.commit("recalls answered", answered);
        }
        open
    }

    /// Asks for what is wanted back and was not asked for lately in this session, a few at a time.
    pub(super) fn send_recalls(&mut self) {
        if !self.is_live() {
            return;
        }
        let now = self.now();
        if let Err(next) = self.peer.recalls.may_ask(now) {
            return self.peer.timers.set(Timer::Recalls, next);
        }
        let open = self.open_recalls();
        let ids: Vec<EnvelopeId> = open.iter().map(|(envelope, _)| *envelope).collect();
        let (due, next) = self.peer.recalls.ask(&ids, now);
        if let Some(next) = next {
            self.peer.timers.set(Timer::Recalls, next);
        }
        for (envelope, row) in open.into_iter().filter(|(envelope, _)| due.contains(envelope)) {
            let request = RecallRequest {
                sender: self.home.identity.entity,
                recipient: self.peer.entity,
                agreement: self.peer.id,
                message: row.message,
                envelope,
                core: row.hash,
                at: self.wall(),
            };
            let request = self.shared.suite.sign(&request, &self.home.identity);
            self.transmit(Recall { request });
        }
    }

    /// The session is over: the next one asks again.
    pub(super) fn forget_recalls(&mut self) {
        self.peer.recalls.lost();
        self.peer.timers.clear(Timer::Recalls);
    }

    /// The counterpart wants back what it has sent.
    pub(super) fn take_recall(&mut self, message: &Recall) {
        if !self.peer.agreement.in_force(self.now()) {
            return;
        }
        let request = self.shared.suite.open(&message.request, &self.peer.certified);
        let ours = |request: &RecallRequest| {
            request.sender == self.peer.entity
                && request.recipient == self.home.identity.entity
                && request.agreement == self.peer.id
        };
        let Some(request) = request.filter(ours) else {
            return self.close_session("a recall that does not verify");
        };
        self.write_held();
        let (slot, envelope) = (self.peer.slot, request.envelope);
        let settled = match self.row(&Key::Settled(slot, envelope)) {
            Some(Value::Settled(row)) => Some(row.clone()),
            _ => None,
        };
        let now = self.now();
        if !Request::may_follow(settled.is_some(), &mut self.peer.pace, now) {
            return;
        }
        let answered = match (Request::judge(request.core, settled.as_ref().map(|row| row.core)), settled) {
            (Request::OtherCore, _) => return self.close_session("a recall of what it did not send"),
            (Request::Came, Some(row)) => self.recall_settled(envelope, &row),
            (Request::Came | Request::NeverCame, _) => self.never_held(&request),
        };
        if answered.is_ok() {
            self.owe_anew(envelope);
        }
    }

    /// Settles for good an envelope that never came.
    fn never_held(&mut self, request: &RecallRequest) -> Result<(), Full> {
        let (slot, envelope, at) = (self.peer.slot, request.envelope, self.wall());
        let receipt = Receipt {
            verdict: Verdict::NotHeld,
            core: request.core,
            message: request.message,
            envelope,
            sender: request.sender,
            recipient: request.recipient,
            agreement: request.agreement,
            agreement_hash: self.peer.id.0,
            counts: Counts::default(),
            offered_at: at,
            at,
            log_head: None,
            chain: self.shared.suite.chain_of(&self.home.identity),
        };
        let bytes: Rc<[u8]> = self.shared.suite.receipt(&receipt, &self.home.identity).into();
        let settled = SettledRow {
            core: request.core,
            message: request.message,
            offered_at: at,
            first: (Verdict::NotHeld, bytes.clone()),
            later: Vec::new(),
            purged: false,
        };
        self.commit(
            "never held",
            vec![
                (Key::Incoming(slot, envelope), None),
                (Key::Objects(slot, envelope), None),
                (Key::Owed(slot, envelope, Verdict::NotHeld.place()), Some(Value::Owed(bytes))),
                (Key::Settled(slot, envelope), Some(Value::Settled(Rc::new(settled)))),
            ],
        )
    }

    /// Purges what nobody has taken, and owes the answer either way.
    fn recall_settled(&mut self, envelope: EnvelopeId, row: &SettledRow) -> Result<(), Full> {
        let slot = self.peer.slot;
        let is_taken = match self.row(&Key::Inbox(slot, envelope)) {
            Some(Value::Inbox(message)) => message.stage == Stage::Taken,
            _ => false,
        };
        let has_it = self.row(&Key::Inbox(slot, envelope)).is_some();
        if has_it && !is_taken {
            let mut changes = vec![(Key::Inbox(slot, envelope), None)];
            changes.extend(self.later_receipt(envelope, row, Verdict::Recalled, true));
            return self.commit("purged", changes);
        }
        let stated: Vec<Verdict> = row.later.iter().map(|(verdict, _)| *verdict).collect();
        let (verdict, bytes) = match repeated(&stated, row.purged) {
            Repeated::Later(place) => &row.later[place],
            Repeated::State(verdict) => {
                let changes = self.later_receipt(envelope, row, verdict, true);
                return self.commit("answered", changes);
            }
            Repeated::First => &row.first,
        };
        self.commit("answered", vec![(Key::Owed(slot, envelope, verdict.place()), Some(Value::Owed(bytes.clone())))])
    }

    /// The changes by which a further statement about an envelope is signed and owed; none if it was stated before.
    pub(super) fn later_receipt(
        &self,
        envelope: EnvelopeId,
        row: &SettledRow,
        verdict: Verdict,
        purged: bool,
    ) -> Vec<Change> {
        if row.later.iter().any(|(stated, _)| *stated == verdict) {
            return Vec::new();
        }
        let slot = self.peer.slot;
        let receipt = Receipt {
            verdict,
            core: row.core,
            message: row.message,
            envelope,
            sender: self.peer.entity,
            recipient: self.home.identity.entity,
            agreement: self.peer.id,
            agreement_hash: self.peer.id.0,
            counts: Counts::default(),
            offered_at: row.offered_at,
            at: self.wall(),
            log_head: None,
            chain: self.shared.suite.chain_of(&self.home.identity),
        };
        let bytes: Rc<[u8]> = self.shared.suite.receipt(&receipt, &self.home.identity).into();
        let mut row = row.clone();
        row.later.push((verdict, bytes.clone()));
        row.purged |= purged;
        vec![
            (Key::Settled(slot, envelope), Some(Value::Settled(Rc::new(row)))),
            (Key::Owed(slot, envelope, verdict.place()), Some(Value::Owed(bytes))),
        ]
    }

    /// A counterpart that was restored is shown what it had purged, by its own receipts, once in a session.
    pub(super) fn show_purges(&mut self, generation: u64) {
        if !self.peer.recalls.shows(generation) {
            return;
        }
        let places = [Verdict::Recalled.place(), Verdict::Returned.place()];
        let slot = self.peer.slot;
        let rows = self.home.disk.range(Key::Out(FIRST), Key::Out(LAST));
        let receipts: Vec<Vec<u8>> = rows
            .filter_map(|(_, value)| match value {
                Value::Out(row) if row.slot == slot => Some(row.receipts.clone()),
                _ => None,
            })
            .flatten()
            .filter(|(place, ..)| places.contains(place))
            .map(|(_, _, bytes)| bytes.to_vec())
            .collect();
        let (notices, _) = recalls::notices(&receipts);
        notices.into_iter().for_each(|notice| self.transmit(notice));
    }

    /// What this side had purged before it was restored goes again.
    pub(super) fn take_purged_before(&mut self, message: PurgedBefore) {
        let receipts = match recalls::noticed(message) {
            Ok(receipts) => receipts,
            Err(why) => return self.close_session(why),
        };
        let identity = &self.home.identity;
        let (node, sender) = (identity.certified.clone(), self.peer.entity);
        for bytes in receipts {
            let receipt = self.shared.suite.verify_receipt(&bytes, &node, &sender);
            let is_purge = |receipt: &Receipt| matches!(receipt.verdict, Verdict::Recalled | Verdict::Returned);
            let Some(receipt) = receipt.filter(is_purge) else {
                return self.close_session("a purge that this entity did not state");
            };
            if self.purge_again(bytes.into(), &receipt).is_err() {
                return;
            }
        }
    }

    fn purge_again(&mut self, bytes: Rc<[u8]>, receipt: &Receipt) -> Result<(), Full> {
        let (slot, envelope) = (self.peer.slot, receipt.envelope);
        let mut changes: Vec<Change> = Vec::new();
        let settled = match self.row(&Key::Settled(slot, envelope)) {
            Some(Value::Settled(row)) if row.core != receipt.core => return Ok(()),
            Some(Value::Settled(row)) => {
                let mut row = SettledRow::clone(row);
                if row.later.iter().all(|(verdict, _)| *verdict != receipt.verdict) {
                    row.later.push((receipt.verdict, bytes));
                }
                SettledRow { purged: true, ..row }
            }
            _ => {
                changes.push((Key::Incoming(slot, envelope), None));
                changes.push((Key::Objects(slot, envelope), None));
                SettledRow {
                    core: receipt.core,
                    message: receipt.message,
                    offered_at: receipt.offered_at,
                    first: (receipt.verdict, bytes),
                    later: Vec::new(),
                    purged: true,
                }
            }
        };
        changes.push((Key::Settled(slot, envelope), Some(Value::Settled(Rc::new(settled)))));
        changes.push((Key::Inbox(slot, envelope), None));
        self.commit("purged again", changes)
    }
}
