//! Receipts that the sender has not confirmed, and late receipts about what this side has sent.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use pakt_protocol::delivery::{Delivery, Input as DeliveryInput};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::machine::Output;
use pakt_protocol::message::{ReceiptHeld, ReceiptMessage};
use pakt_protocol::record::receipt::{Receipt, Verdict};

use super::sending::told_of;
use super::{Actor, FIRST, LAST, Timer};
use crate::mesh::disk::{Change, Key, Value};

/// Receipts that are told and not confirmed, at most, before the next are.
const TOLD_MAX: usize = 64;
/// Confirmations are written together.
const HELD_WAIT: Duration = Duration::from_millis(500);
const HELD_MAX: usize = 64;
/// Receipts that left with their transfers and are remembered as told, at most.
const NOTED_MAX: usize = 4096;

type Place = (EnvelopeId, u8);

/// What was told in this session, and what was confirmed but not written yet.
#[derive(Default)]
pub(crate) struct Owed {
    told: BTreeSet<Place>,
    confirmed: BTreeSet<Place>,
    held: Vec<(EnvelopeId, Verdict)>,
    more: bool,
}

impl Owed {
    /// The session is over: the next one tells everything again.
    pub(super) fn forget_told(&mut self) {
        self.told.clear();
    }
}

impl Actor<'_> {
    /// Tells what is owed, a few at a time: the next once those are confirmed.
    pub(super) fn tell_owed(&mut self) {
        if self.peer.live.is_none() {
            return;
        }
        let room = TOLD_MAX.saturating_sub(self.peer.owed.told.len());
        self.peer.owed.more = true;
        if room == 0 {
            return;
        }
        let told = &self.peer.owed;
        let is_new = |place: &Place| !told.told.contains(place) && !told.confirmed.contains(place);
        let slot = self.peer.slot;
        let rows = self.home.disk.range(Key::Owed(slot, FIRST, 0), Key::Owed(slot, LAST, u8::MAX));
        let owed: Vec<(Place, Rc<[u8]>)> = rows
            .filter_map(|(key, value)| match (key, value) {
                (Key::Owed(_, envelope, place), Value::Owed(bytes)) => Some(((*envelope, *place), bytes.clone())),
                _ => None,
            })
            .filter(|(place, _)| is_new(place))
            .take(room)
            .collect();
        self.peer.owed.more = owed.len() == room;
        for (place, receipt) in owed {
            self.peer.owed.told.insert(place);
            self.transmit(ReceiptMessage { envelope: place.0, receipt: receipt.to_vec() });
        }
    }

    /// Receipts were signed here. After an end the counterpart is dialled for them.
    pub(crate) fn handle_owed(&mut self, durable_at: u64) {
        self.peer.barrier = self.peer.barrier.max(durable_at);
        let now = self.now();
        if self.peer.live.is_none() && self.peer.agreement.may_settle(now) {
            self.peer.timers.set(Timer::Dial, now);
        }
        self.tell_owed();
    }

    /// A duplicate of an envelope was offered: its sender may lack what was stated later, too.
    pub(super) fn owe_again(&mut self, envelope: EnvelopeId) {
        let slot = self.peer.slot;
        let Some(Value::Settled(row)) = self.row(&Key::Settled(slot, envelope)) else { return };
        let row = row.clone();
        let is_told = |verdict: Verdict| self.peer.owed.told.contains(&(envelope, verdict.place()));
        if row.later.iter().all(|(verdict, _)| is_told(*verdict)) {
            return;
        }
        let owed = |(verdict, bytes): &(Verdict, Rc<[u8]>)| -> Change {
            (Key::Owed(slot, envelope, verdict.place()), Some(Value::Owed(bytes.clone())))
        };
        if self.commit("owed", row.later.iter().map(owed).collect()).is_ok() {
            self.tell_owed();
        }
    }

    /// What is owed about an envelope is told again, although it was told in this session.
    pub(super) fn owe_anew(&mut self, envelope: &EnvelopeId) {
        self.peer.owed.told.retain(|(told, _)| told != envelope);
        self.peer.owed.confirmed.retain(|(confirmed, _)| confirmed != envelope);
    }

    /// The first receipt of an envelope left with its transfer.
    pub(super) fn note_told(&mut self, envelope: EnvelopeId, verdict: Verdict) {
        if self.peer.owed.told.len() < NOTED_MAX {
            self.peer.owed.told.insert((envelope, verdict.place()));
        }
    }

    /// The sender holds a receipt.
    pub(super) fn take_receipt_held(&mut self, held: ReceiptHeld) {
        let ReceiptHeld { envelope, verdict } = held;
        let lowest = if verdict.tier().is_some() { 1 } else { verdict.place() };
        let places = (lowest..=verdict.place()).map(|place| (envelope, place));
        let confirmed: Vec<Place> = places.filter(|place| self.peer.owed.told.remove(place)).collect();
        if confirmed.is_empty() {
            return;
        }
        self.peer.owed.confirmed.extend(confirmed);
        self.peer.owed.held.push((envelope, verdict));
        if self.peer.owed.held.len() >= HELD_MAX {
            self.write_held();
        } else if !self.peer.timers.is_set(Timer::Held) {
            let at = self.now() + HELD_WAIT;
            self.peer.timers.set(Timer::Held, at);
        }
        if self.peer.owed.more {
            self.tell_owed();
        }
        self.end_if_settled();
    }

    /// Forgets what was confirmed.
    pub(super) fn write_held(&mut self) {
        self.peer.timers.clear(Timer::Held);
        self.peer.owed.confirmed.clear();
        let held = std::mem::take(&mut self.peer.owed.held);
        if held.is_empty() {
            return;
        }
        let slot = self.peer.slot;
        let places = held.into_iter().flat_map(|(envelope, verdict)| {
            let lowest = if verdict.tier().is_some() { 1 } else { verdict.place() };
            (lowest..=verdict.place()).map(move |place| (Key::Owed(slot, envelope, place), None))
        });
        let changes: Vec<Change> = places.filter(|(key, _)| self.row(key).is_some()).collect();
        // What cannot be forgotten is told again in the next session.
        let _ = self.commit("held", changes);
    }

    /// The door is closed: nobody can be told any more.
    pub(super) fn forget_owed(&mut self) {
        let slot = self.peer.slot;
        let rows = self.home.disk.range(Key::Owed(slot, FIRST, 0), Key::Owed(slot, LAST, u8::MAX));
        let changes: Vec<Change> = rows.map(|(key, _)| (*key, None)).collect();
        if !changes.is_empty() {
            let _ = self.commit("forget owed", changes);
        }
    }

    /// A receipt as the counterpart sent it, or none if it does not verify.
    pub(super) fn verified(&self, bytes: &[u8]) -> Option<Receipt> {
        self.shared.suite.verify_receipt(bytes, &self.peer.certified, &self.home.identity.entity)
    }

    /// A receipt about an envelope that is not under way: it has left the queue, or waits in it.
    pub(super) fn take_later_receipt(&mut self, message: ReceiptMessage) {
        let ReceiptMessage { envelope, receipt: bytes } = message;
        let Some(receipt) = self.verified(&bytes).filter(|receipt| receipt.envelope == envelope) else {
            return self.close_session("a receipt that does not verify");
        };
        let verdict = receipt.verdict;
        let is_held = if self.peer.deliveries.contains_key(&envelope) {
            self.settle_waiting(envelope, bytes, receipt)
        } else {
            match self.settle_later(envelope, bytes, receipt) {
                Some(is_held) => is_held,
                None => return self.close_session("a receipt for what this node did not send"),
            }
        };
        if is_held {
            self.transmit(ReceiptHeld { envelope, verdict });
        }
        self.end_if_settled();
    }

    /// Keeps a receipt about something that is not under way; none if it is about something else.
    fn settle_later(&mut self, envelope: EnvelopeId, bytes: Vec<u8>, receipt: Receipt) -> Option<bool> {
        // A message that this node does not know any more.
        let Some(row) = self.out(&envelope) else { return Some(true) };
        if row.slot != self.peer.slot || receipt.core != row.hash {
            return None;
        }
        let place = receipt.verdict.place();
        if row.receipts.iter().any(|(held, at, _)| (*held, *at) == (place, receipt.at)) {
            return Some(true);
        }
        let now = self.now();
        let mut machine = Delivery::new(row.delivery.clone(), now);
        machine.handle_input(DeliveryInput::Receipt(receipt.verdict), now);
        let outputs = std::iter::from_fn(|| machine.poll_output());
        let told: Vec<_> = outputs
            .filter_map(|output| match output {
                Output::Event(event) => told_of(event),
                _ => None,
            })
            .collect();
        let kept = Some((bytes.into(), Box::new(receipt)));
        let changes = self.kept_in(envelope, &row, machine.record().clone(), kept, &told);
        Some(self.commit("receipt", changes).is_ok())
    }
}
