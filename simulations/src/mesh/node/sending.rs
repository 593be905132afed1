//! Deliveries and outgoing transfers: what waits, what is under way, how it ended.

use std::rc::Rc;
use std::time::Duration;

use pakt_protocol::delivery::{Delivery, Event as DeliveryEvent, Input as DeliveryInput, Reason, Record};
use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::limits::{CHUNK_BYTES_MAX, SEGMENT_ENTRIES_MAX};
use pakt_protocol::machine::Output;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{Message, Offer, ReceiptHeld};
use pakt_protocol::record::envelope::Counts;
use pakt_protocol::record::receipt::{Receipt, Verdict};
use pakt_protocol::settling::{Late, stated_about};
use pakt_protocol::transfer::outgoing::{Event, Input, Outcome, Outgoing, Persist};

use super::{Actor, Timer};
use crate::mesh::Defect;
use crate::mesh::disk::rows::{OutRow, Standing, Told};
use crate::mesh::disk::{Change, Full, Key, Value};

/// Envelopes of one counterpart that are offered at once.
const SENDING_MAX: usize = 16;
/// What could not be kept is tried again after so long.
const BEGIN_AGAIN: Duration = Duration::from_secs(30);
/// What sealing adds to an object.
const SEALED_MORE: u64 = 48;
/// A sealed segment of a manifest, at most.
const SEGMENT_BYTES: u64 = 16 << 10;

/// An outgoing transfer.
pub(crate) struct Sending {
    machine: Outgoing,
    row: Rc<OutRow>,
    /// Times that it was sealed.
    sealed: u64,
}

/// What came of making a record durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Kept,
    Overtaken,
    Failed,
}

/// A receipt that is kept with what follows from it.
pub(super) type Kept = Option<(Rc<[u8]>, Box<Receipt>)>;

/// The sizes of a message of so many bytes and files.
pub(crate) fn counts(bytes: u64, files: u32) -> Counts {
    let chunk = CHUNK_BYTES_MAX as u64;
    let chunks = bytes.div_ceil(chunk).max(1);
    let segments = (chunks + u64::from(files)).div_ceil(SEGMENT_ENTRIES_MAX as u64);
    let sealed_bytes = bytes.max(1) + chunks * SEALED_MORE + segments * SEGMENT_BYTES;
    Counts { files: files.into(), plain_bytes: bytes.max(1), chunks, segments, sealed_bytes }
}

/// The objects of a message, in order, from `first` on: content, then segments.
fn objects(row: &OutRow, first: u64, max: usize) -> (Vec<ObjectEntry>, bool) {
    let counts = &row.counts;
    let all = counts.chunks + counts.segments;
    let end = all.min(first + max as u64);
    let chunk = CHUNK_BYTES_MAX as u64;
    let entry = |index: u64| {
        let plain = if index + 1 < counts.chunks { chunk } else { counts.plain_bytes - (counts.chunks - 1) * chunk };
        let bytes = if index < counts.chunks { plain + SEALED_MORE } else { SEGMENT_BYTES };
        let mut id = [0; 32];
        id[..16].copy_from_slice(&row.message.0);
        id[16..24].copy_from_slice(&index.to_be_bytes());
        ObjectEntry { id: ObjectId(id), bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    };
    ((first..end).map(entry).collect(), end == all)
}

impl Actor<'_> {
    pub(super) fn out(&self, envelope: &EnvelopeId) -> Option<Rc<OutRow>> {
        match self.row(&Key::Out(*envelope)) {
            Some(Value::Out(row)) => Some(row.clone()),
            _ => None,
        }
    }

    /// A message for the counterpart is durable.
    pub(crate) fn handle_submitted(&mut self, envelope: EnvelopeId, durable_at: u64) {
        self.peer.barrier = self.peer.barrier.max(durable_at);
        self.add_delivery(envelope);
        self.fill_places();
    }

    pub(super) fn add_delivery(&mut self, envelope: EnvelopeId) {
        let Some(row) = self.out(&envelope) else { return };
        if self.peer.deliveries.contains_key(&envelope) || !row.delivery.state.is_open() {
            return;
        }
        let delivery = Delivery::new(row.delivery.clone(), self.now());
        self.peer.deliveries.insert(envelope, delivery);
        self.peer.waiting.insert((row.priority, row.sequence), envelope);
        self.tell_delivery(envelope, DeliveryInput::Tick, None);
    }

    pub(super) fn fill_places(&mut self) {
        let now = self.now();
        let allowed = self.peer.agreement.in_force(now) || self.shared.is_broken(Defect::IgnoreEnd);
        if !self.is_live() || !allowed {
            return;
        }
        while self.is_live() && self.peer.sending.len() < SENDING_MAX {
            let next = self.peer.waiting.iter().find(|(_, envelope)| self.may_ask(envelope)).map(|(place, _)| *place);
            let Some(envelope) = next.and_then(|place| self.peer.waiting.remove(&place)) else { return };
            self.peer.tried.insert(envelope);
            self.tell_delivery(envelope, DeliveryInput::PeerUp, None);
        }
    }

    /// The control lane is gone, or nothing may go: whatever was under way waits again.
    pub(super) fn suspend_sending(&mut self) {
        if self.shared.is_broken(Defect::ForgetRetry) {
            return self.peer.sending.clear();
        }
        let under_way: Vec<EnvelopeId> = self.peer.sending.keys().copied().collect();
        for envelope in under_way {
            if let Some(sending) = self.peer.sending.remove(&envelope) {
                self.peer.tried.remove(&envelope);
                self.peer.waiting.insert((sending.row.priority, sending.row.sequence), envelope);
                self.tell_delivery(envelope, DeliveryInput::PeerDown, None);
            }
        }
        for envelope in std::mem::take(&mut self.peer.tried) {
            if self.peer.deliveries.contains_key(&envelope) {
                self.requeue(envelope);
            }
        }
    }

    fn requeue(&mut self, envelope: EnvelopeId) {
        if let Some(row) = self.out(&envelope) {
            self.peer.waiting.insert((row.priority, row.sequence), envelope);
            self.tell_delivery(envelope, DeliveryInput::PeerDown, None);
        }
    }

    pub(super) fn tick_delivery(&mut self, envelope: EnvelopeId) {
        if self.peer.deliveries.contains_key(&envelope) {
            return self.tell_delivery(envelope, DeliveryInput::Tick, None);
        }
        // How it ended could not be written: it begins anew from what was.
        self.add_delivery(envelope);
        self.fill_places();
    }

    pub(super) fn tell_delivery(&mut self, envelope: EnvelopeId, input: DeliveryInput, kept: Kept) {
        let now = self.now();
        let Some(delivery) = self.peer.deliveries.get_mut(&envelope) else { return };
        delivery.handle_input(input, now);
        let (mut attempt, mut withdraw, mut ask, mut record) = (false, false, false, None);
        let mut told = Vec::new();
        while let Some(output) = delivery.poll_output() {
            match output {
                Output::Transmit(_) => {}
                Output::Persist(newest) => record = Some(newest),
                Output::Deadline(at) => self.peer.timers.set(Timer::Delivery(envelope), at),
                Output::Event(DeliveryEvent::Attempt) => attempt = true,
                Output::Event(DeliveryEvent::Withdraw) => withdraw = true,
                Output::Event(DeliveryEvent::Ask) => ask = true,
                Output::Event(event) => told.extend(told_of(event)),
            }
        }
        let is_open = delivery.record().state.is_open();
        let written = match record {
            Some(record) => self.keep(envelope, record, kept, &told),
            None => Written::Kept,
        };
        if !is_open || written == Written::Overtaken {
            self.end_delivery(envelope);
            if written == Written::Failed {
                self.peer.timers.set(Timer::Delivery(envelope), now + BEGIN_AGAIN);
            }
        } else if attempt {
            self.start_sending(envelope);
        } else if ask {
            self.ask_how_it_ended(envelope);
        }
        if withdraw && written != Written::Failed {
            self.input_sending(envelope, Input::Withdraw);
        }
    }

    /// Makes a record durable, with the receipt that says so and what the sending group is told.
    fn keep(&mut self, envelope: EnvelopeId, record: Record, kept: Kept, told: &[Told]) -> Written {
        let Some(row) = self.out(&envelope) else { return Written::Overtaken };
        if !row.delivery.state.is_open() {
            return Written::Overtaken;
        }
        let changes = self.kept_in(envelope, &row, record, kept, told);
        match self.commit("delivery", changes) {
            Ok(()) => Written::Kept,
            Err(_) => Written::Failed,
        }
    }

    /// The changes of one step of an envelope that was sent.
    pub(super) fn kept_in(
        &self,
        envelope: EnvelopeId,
        row: &OutRow,
        record: Record,
        kept: Kept,
        told: &[Told],
    ) -> Vec<Change> {
        let mut row = row.clone();
        let mut changes = Vec::new();
        if record.recalling && !row.delivery.recalling {
            changes.push((Key::Recall(row.slot, envelope), Some(Value::Recall)));
        }
        row.delivery = record;
        if let Some((bytes, receipt)) = kept {
            let place = receipt.verdict.place();
            if row.receipts.iter().all(|(held, ..)| *held != place) {
                row.receipts.push((place, receipt.at, bytes));
            }
        }
        let first = self.reports(envelope);
        for (number, told) in (first..).zip(told) {
            changes.push((Key::Report(envelope, number), Some(Value::Report(*told))));
        }
        let standing = standing_of(&row);
        if standing != Standing::Open {
            changes.push((Key::Sent(row.slot, row.number), Some(Value::Sent(envelope, standing))));
        }
        if row.delivery.state.is_final() {
            shrink(&mut row);
        }
        changes.push((Key::Out(envelope), Some(Value::Out(Rc::new(row)))));
        changes
    }

    fn reports(&self, envelope: EnvelopeId) -> u32 {
        let told = self.home.disk.range(Key::Report(envelope, 0), Key::Report(envelope, u32::MAX));
        u32::try_from(told.count()).unwrap_or(u32::MAX)
    }

    fn end_delivery(&mut self, envelope: EnvelopeId) {
        self.peer.deliveries.remove(&envelope);
        self.peer.sending.remove(&envelope);
        if !self.peer.tried.remove(&envelope) {
            self.peer.waiting.forget(&envelope);
        }
        self.peer.timers.clear(Timer::Delivery(envelope));
        self.peer.questions.ended(&envelope);
        if !self.peer.waiting.is_empty() {
            let now = self.now();
            self.peer.timers.set(Timer::Gate, now);
        }
    }

    fn start_sending(&mut self, envelope: EnvelopeId) {
        if self.peer.sending.contains_key(&envelope) {
            return;
        }
        let Some(row) = self.out(&envelope) else {
            return self.tell_delivery(envelope, DeliveryInput::Failed, None);
        };
        let left = row.delivery.expires_at.since(self.now()).as_secs();
        let offer = Offer {
            envelope,
            group: self.shared.group_of(self.peer.other),
            priority: row.priority,
            agreement_version: 1,
            files: row.counts.files,
            plain_bytes: row.counts.plain_bytes,
            objects: row.counts.chunks + row.counts.segments,
            sealed_bytes: row.counts.sealed_bytes,
            seconds_left: u32::try_from(left).unwrap_or(u32::MAX).min(self.shared.hold_seconds()),
        };
        self.peer.sending.insert(envelope, Sending { machine: Outgoing::new(offer), row, sealed: 0 });
        self.pump_sending(envelope);
    }

    /// A message of the receiver about an outgoing envelope.
    pub(super) fn tell_sending(&mut self, envelope: EnvelopeId, message: Message) {
        if !self.peer.sending.contains_key(&envelope) {
            return match message {
                Message::Receipt(message) => self.take_later_receipt(message),
                _ => {}
            };
        }
        let input = match message {
            Message::Receipt(message) => match self.verified(&message.receipt) {
                Some(receipt) => Input::Receipt(message.receipt, Box::new(receipt)),
                None => return self.close_session("a receipt that does not verify"),
            },
            message => Input::Message(message),
        };
        self.input_sending(envelope, input);
    }

    fn input_sending(&mut self, envelope: EnvelopeId, input: Input) {
        if let Some(sending) = self.peer.sending.get_mut(&envelope) {
            sending.machine.handle_input(input);
            self.pump_sending(envelope);
        }
    }

    fn pump_sending(&mut self, envelope: EnvelopeId) {
        while let Some(output) = self.peer.sending.get_mut(&envelope).and_then(|one| one.machine.poll_output()) {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Deadline(_) => {}
                Output::Persist(change) => self.persist_sending(envelope, change),
                Output::Event(event) => self.do_for_sending(envelope, event),
            }
        }
    }

    fn persist_sending(&mut self, envelope: EnvelopeId, change: Persist) {
        match change {
            Persist::Leaving(_) => {
                if !self.shared.is_broken(Defect::SkipLeft) {
                    self.tell_delivery(envelope, DeliveryInput::Left, None);
                    if !self.out(&envelope).is_some_and(|row| row.delivery.left) {
                        return self.close_session("a fault of this node");
                    }
                }
                if let Some(sending) = self.peer.sending.get_mut(&envelope) {
                    sending.machine.handle_input(Input::Persisted);
                }
            }
            Persist::Receipt(_, bytes, receipt) => {
                let Some(sending) = self.peer.sending.get(&envelope) else { return };
                let stated = receipt.verdict;
                let verdict = stated_about(sending.row.hash, &receipt);
                self.tell_delivery(envelope, DeliveryInput::Receipt(verdict), Some((bytes.into(), receipt)));
                if self.is_settled(&envelope) {
                    self.transmit(ReceiptHeld { envelope, verdict: stated });
                }
            }
        }
    }

    /// Whether what a receipt has brought about is durable.
    pub(super) fn is_settled(&self, envelope: &EnvelopeId) -> bool {
        self.out(envelope).is_some_and(|row| !row.delivery.state.is_open())
    }

    /// Takes a receipt about an envelope that waits for its next attempt.
    pub(super) fn settle_waiting(
        &mut self,
        envelope: EnvelopeId,
        bytes: Vec<u8>,
        receipt: Receipt,
    ) -> Result<Late, Full> {
        let Some(row) = self.out(&envelope) else { return Err(Full) };
        let verdict = stated_about(row.hash, &receipt);
        self.tell_delivery(envelope, DeliveryInput::Receipt(verdict), Some((bytes.into(), Box::new(receipt))));
        // What could not be kept is told again.
        if self.is_settled(&envelope) { Ok(Late::Held) } else { Err(Full) }
    }

    fn do_for_sending(&mut self, envelope: EnvelopeId, event: Event) {
        match event {
            Event::Accepted => self.tell_delivery(envelope, DeliveryInput::Accepted, None),
            Event::NameObjects { first, max } => {
                if let Some(sending) = self.peer.sending.get_mut(&envelope) {
                    let (entries, last) = objects(&sending.row, first, max);
                    sending.machine.handle_input(Input::Objects { first, entries, last });
                }
            }
            Event::Seal => self.seal(envelope),
            Event::SealAgain(roster) => match self.take_roster(&roster) {
                Ok(()) => self.seal(envelope),
                Err(why) => self.close_session(why),
            },
            Event::Progress(_) | Event::Finished(Outcome::Settled(_)) => {}
            Event::Finished(Outcome::Refused(refusal)) => self.end_transfer(envelope, DeliveryInput::Refused(refusal)),
            Event::Finished(Outcome::Withdrawn) => self.end_transfer(envelope, DeliveryInput::Withdrawn),
            Event::Misbehaved(why) => self.close_session(why),
        }
    }

    /// The transfer is over without a receipt; the delivery decides whether it is tried again.
    fn end_transfer(&mut self, envelope: EnvelopeId, input: DeliveryInput) {
        self.peer.sending.remove(&envelope);
        self.tell_delivery(envelope, input, None);
    }

    fn seal(&mut self, envelope: EnvelopeId) {
        let Some(roster) = self.peer_roster() else { return };
        let Some(sending) = self.peer.sending.get_mut(&envelope) else { return };
        sending.sealed += 1;
        let number = sending.row.number << 16 | sending.sealed;
        let core = sending.row.core.clone();
        let epoch = (roster.epoch, &roster.epoch_key);
        let sealed = self.shared.suite.seal(&core, epoch, &self.home.identity, number);
        sending.machine.handle_input(Input::Sealed(Box::new(sealed)));
    }

    /// The agreement allows nothing for now.
    pub(super) fn hold_delivery(&mut self, envelope: EnvelopeId, reason: Reason) {
        self.tell_delivery(envelope, DeliveryInput::Held(reason), None);
    }

    /// The agreement allows nothing any more.
    pub(super) fn stop_delivery(&mut self, envelope: EnvelopeId, reason: Reason) {
        self.peer.sending.remove(&envelope);
        self.tell_delivery(envelope, DeliveryInput::Stopped(reason), None);
    }
}

/// What the group is told of an event of the machine, if anything.
pub(super) fn told_of(event: DeliveryEvent) -> Option<Told> {
    match event {
        DeliveryEvent::Warn(_) => Some(Told::Warned),
        DeliveryEvent::Report(reason) => Some(Told::Reported(reason)),
        DeliveryEvent::Resolved => Some(Told::Resolved),
        DeliveryEvent::Attempt | DeliveryEvent::Withdraw | DeliveryEvent::Ask | DeliveryEvent::AskRecall => None,
    }
}

/// Where an envelope stands by its receipts, whatever its sender was told in between.
fn standing_of(row: &OutRow) -> Standing {
    let receipt = |places: std::ops::RangeInclusive<u8>| row.receipts.iter().find(|(place, ..)| places.contains(place));
    match receipt(1..=3) {
        Some((_, at, _)) => Standing::Delivered(*at),
        None if receipt(4..=u8::MAX).is_some() => Standing::Answered,
        None if row.delivery.state.is_open() => Standing::Open,
        None => Standing::Ended,
    }
}

/// What nobody asks for any more of an envelope that is final.
fn shrink(row: &mut OutRow) {
    row.core = Rc::from([]);
    row.delivery.history = Vec::new();
    let places = [Verdict::Recalled.place(), Verdict::Returned.place()];
    for (_, _, bytes) in row.receipts.iter_mut().filter(|(place, ..)| !places.contains(place)) {
        *bytes = Rc::from([]);
    }
    row.receipts.shrink_to_fit();
}
