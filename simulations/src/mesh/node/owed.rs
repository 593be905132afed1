//! Does what the machine of owed receipts wants; and keeps late receipts about what this side has sent.

use std::collections::HashSet;

use pakt_protocol::delivery::{Delivery, Input as DeliveryInput};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::machine::Output;
use pakt_protocol::message::{ReceiptHeld, ReceiptMessage};
use pakt_protocol::owed::{Event, Input, Persist, Place, covered};
use pakt_protocol::record::receipt::{Receipt, Verdict};
use pakt_protocol::settling::{Late, Sent};

use super::sending::told_of;
use super::{Actor, FIRST, LAST, Timer};
use crate::mesh::disk::{Change, Full, Key, Value};

impl Actor<'_> {
    /// Tells what is owed, if there is a session.
    pub(super) fn tell_owed(&mut self) {
        if self.peer.live.is_some() {
            self.input_owed(Input::Tell);
        }
    }

    fn input_owed(&mut self, input: Input) {
        let now = self.now();
        self.peer.owed.handle_input(input, now);
        while let Some(output) = self.peer.owed.poll_output() {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Deadline(at) => self.peer.timers.set(Timer::Held, at),
                Output::Persist(change) => self.persist_owed(change),
                Output::Event(Event::Look { but, max }) => {
                    let found = self.owed(&but, max);
                    self.peer.owed.handle_input(Input::Found(found), now);
                }
            }
        }
    }

    /// Receipts that the counterpart has not confirmed, but for these.
    fn owed(&self, but: &HashSet<Place>, max: usize) -> Vec<(Place, Vec<u8>)> {
        let slot = self.peer.slot;
        let rows = self.home.disk.range(Key::Owed(slot, FIRST, 0), Key::Owed(slot, LAST, u8::MAX));
        let owed = rows.filter_map(|(key, value)| match (key, value) {
            (Key::Owed(_, envelope, place), Value::Owed(bytes)) => Some(((*envelope, *place), bytes)),
            _ => None,
        });
        owed.filter(|(place, _)| !but.contains(place)).take(max).map(|(place, bytes)| (place, bytes.to_vec())).collect()
    }

    fn persist_owed(&mut self, change: Persist) {
        let slot = self.peer.slot;
        match change {
            Persist::Held(held) => {
                let places = held.into_iter().flat_map(|(envelope, verdict)| {
                    covered(verdict).map(move |place| (Key::Owed(slot, envelope, place), None))
                });
                let changes: Vec<Change> = places.filter(|(key, _)| self.row(key).is_some()).collect();
                // What cannot be forgotten is told again.
                let _ = self.commit("held", changes);
            }
            Persist::Again(envelope) => {
                let Some(Value::Settled(row)) = self.row(&Key::Settled(slot, envelope)) else { return };
                let owed = row.clone();
                let owed = owed.later.iter().map(|(verdict, bytes)| {
                    (Key::Owed(slot, envelope, verdict.place()), Some(Value::Owed(bytes.clone())))
                });
                if self.commit("owed", owed.collect()).is_ok() {
                    let now = self.now();
                    self.peer.owed.handle_input(Input::Tell, now);
                }
            }
        }
    }

    /// Receipts were signed here. After an end the counterpart is dialled for them.
    pub(crate) fn handle_owed(&mut self, durable_at: u64) {
        self.peer.barrier = self.peer.barrier.max(durable_at);
        let now = self.now();
        if self.peer.live.is_none() && self.peer.agreement.view().may_settle(now) {
            self.peer.timers.set(Timer::Dial, now);
        }
        self.tell_owed();
    }

    /// A duplicate of an envelope was offered: its sender may lack what was stated later, too.
    pub(super) fn owe_again(&mut self, envelope: EnvelopeId) {
        if let Some(Value::Settled(row)) = self.row(&Key::Settled(self.peer.slot, envelope)) {
            let stated = row.later.iter().map(|(verdict, _)| *verdict).collect();
            self.input_owed(Input::Duplicate(envelope, stated));
        }
    }

    /// What is owed about an envelope is told again, although it was told in this session.
    pub(super) fn owe_anew(&mut self, envelope: EnvelopeId) {
        self.input_owed(Input::Anew(envelope));
    }

    /// The first receipt of an envelope left with its transfer.
    pub(super) fn note_told(&mut self, envelope: EnvelopeId, verdict: Verdict) {
        let now = self.now();
        self.peer.owed.handle_input(Input::Told(envelope, verdict), now);
    }

    /// The sender holds a receipt.
    pub(super) fn take_receipt_held(&mut self, held: ReceiptHeld) {
        self.input_owed(Input::Held(held));
        self.end_if_settled();
    }

    /// Forgets what was confirmed.
    pub(super) fn write_held(&mut self) {
        self.input_owed(Input::Write);
    }

    pub(super) fn tick_owed(&mut self) {
        self.input_owed(Input::Tick);
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
        let settled = if self.peer.deliveries.contains_key(&envelope) {
            self.settle_waiting(envelope, bytes, receipt)
        } else {
            self.settle_later(envelope, bytes, receipt)
        };
        match settled.map(|late| late.reply(envelope, verdict)) {
            Ok(Ok(held)) => self.transmit(held),
            Ok(Err(why)) => return self.close_session(why),
            Err(Full) => {}
        }
        self.end_if_settled();
    }

    /// Keeps a receipt about something that is not under way.
    fn settle_later(&mut self, envelope: EnvelopeId, bytes: Vec<u8>, receipt: Receipt) -> Result<Late, Full> {
        let row = self.out(&envelope);
        let place = (receipt.verdict.place(), receipt.at);
        let sent = row.as_ref().map(|row| Sent {
            // An envelope for another counterpart is this one's own business as little.
            recipient: if row.slot == self.peer.slot { self.peer.entity } else { self.home.identity.entity },
            core: row.hash,
            is_held: row.receipts.iter().any(|(held, at, _)| (*held, *at) == place),
        });
        let late = Late::judge(&receipt, self.peer.entity, sent);
        let (Late::Keep, Some(row)) = (late, row) else { return Ok(late) };
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
        self.commit("receipt", changes)?;
        Ok(late)
    }
}
