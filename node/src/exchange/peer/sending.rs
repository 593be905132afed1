//! Deliveries and outgoing transfers: what waits, what is under way, how it ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pakt_protocol::delivery::{Delivery, Event as DeliveryEvent, Input as DeliveryInput, Reason, Record};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::machine::Output;
use pakt_protocol::message::offer::{ANNOUNCE_ENTRIES_MAX, ObjectEntry};
use pakt_protocol::message::{Message, Offer};
use pakt_protocol::record::envelope::{EnvelopeCore, Priority, SealedEnvelope};
use pakt_protocol::record::receipt::{self, Receipt, Verdict};
use pakt_protocol::transfer::outgoing::{Event, Input, Outcome, Outgoing, Persist};

use super::{PeerActor, Timer, lock, now};
use crate::ambient;
use crate::exchange::Progress;
use crate::mailroom::MailError;
use crate::mailroom::rows::OutEnvelope;
use crate::net::LaneKind;

/// Envelopes of one counterpart that are offered at once; the rest waits here, most urgent first.
const SENDING_MAX: usize = 16;

/// An outgoing transfer.
pub(super) struct Sending {
    machine: Outgoing,
    row: OutEnvelope,
    core: EnvelopeCore,
    objects: Arc<Vec<ObjectEntry>>,
    /// The machine has asked for objects from here, but the lane had no room.
    unnamed_from: Option<u64>,
    progress: Progress,
    wire_seen: u64,
}

/// What a delivery wants kept, beside its record.
#[derive(Default)]
struct Kept {
    receipt: Option<(Vec<u8>, Receipt)>,
    report: Option<Reason>,
}

impl PeerActor {
    /// Takes up what the mailroom still has to deliver.
    pub(super) async fn load_deliveries(&mut self) {
        match self.context.mailroom.open_envelopes(&self.id) {
            Ok(rows) => {
                for row in rows {
                    self.add_delivery(row).await;
                }
            }
            Err(error) => tracing::error!(agreement = %self.id, %error, "the queue could not be read"),
        }
    }

    pub(super) async fn handle_submitted(&mut self, envelope: EnvelopeId) {
        match self.context.mailroom.envelope(&envelope) {
            Ok(row) => self.add_delivery(row).await,
            Err(error) => tracing::error!(%envelope, %error, "a submitted envelope could not be read"),
        }
        self.fill_places().await;
    }

    async fn add_delivery(&mut self, row: OutEnvelope) {
        if self.deliveries.contains_key(&row.id) || row.delivery.state.is_final() {
            return;
        }
        let priority = priority_of(&row);
        let delivery = Delivery::new(row.delivery.clone(), now());
        self.deliveries.insert(row.id, delivery);
        self.waiting.insert((priority, row.sequence), row.id);
        self.tell_delivery(row.id, DeliveryInput::Tick, Kept::default()).await;
    }

    /// The session is live: everything that waits may go, a few at a time.
    pub(super) async fn resume_sending(&mut self) {
        self.fill_places().await;
    }

    async fn fill_places(&mut self) {
        while self.live.as_ref().is_some_and(|live| live.machine.is_live()) && self.sending.len() < SENDING_MAX {
            let Some((_, envelope)) = self.waiting.pop_first() else { return };
            self.tried.insert(envelope);
            self.tell_delivery(envelope, DeliveryInput::PeerUp, Kept::default()).await;
        }
    }

    /// The control lane is gone: whatever was under way waits again.
    pub(super) async fn suspend_sending(&mut self) {
        let under_way: Vec<EnvelopeId> = self.sending.keys().copied().collect();
        for envelope in under_way {
            self.sample_wire();
            self.tried.remove(&envelope);
            if let Some(sending) = self.sending.remove(&envelope) {
                self.waiting.insert((priority_of(&sending.row), sending.row.sequence), envelope);
                self.tell_delivery_of(sending, DeliveryInput::PeerDown).await;
            }
        }
        // Those that were tried and turned away for now wait in line again.
        for envelope in std::mem::take(&mut self.tried) {
            if self.deliveries.contains_key(&envelope) {
                self.requeue(envelope).await;
            }
        }
    }

    async fn requeue(&mut self, envelope: EnvelopeId) {
        if let Ok(row) = self.context.mailroom.envelope(&envelope) {
            self.waiting.insert((priority_of(&row), row.sequence), envelope);
            self.tell_delivery(envelope, DeliveryInput::PeerDown, Kept::default()).await;
        }
    }

    async fn tell_delivery_of(&mut self, sending: Sending, input: DeliveryInput) {
        let (wire, durable) = (sending.progress.wire_bytes, sending.progress.durable_bytes);
        lock(&self.context.progress).remove(&sending.row.id);
        self.tell_delivery_with(sending.row.id, input, Kept::default(), (wire, durable)).await;
    }

    pub(super) async fn tick_delivery(&mut self, envelope: EnvelopeId) {
        self.tell_delivery(envelope, DeliveryInput::Tick, Kept::default()).await;
    }

    async fn tell_delivery(&mut self, envelope: EnvelopeId, input: DeliveryInput, kept: Kept) {
        let progress = self.sending.get(&envelope).map(|sending| sending.progress).unwrap_or_default();
        self.tell_delivery_with(envelope, input, kept, (progress.wire_bytes, progress.durable_bytes)).await;
    }

    async fn tell_delivery_with(
        &mut self,
        envelope: EnvelopeId,
        input: DeliveryInput,
        mut kept: Kept,
        bytes: (u64, u64),
    ) {
        let Some(delivery) = self.deliveries.get_mut(&envelope) else { return };
        delivery.handle_input(input, now());
        let (mut attempt, mut withdraw, mut record) = (false, false, None);
        while let Some(output) = delivery.poll_output() {
            match output {
                Output::Transmit(_) => {}
                // The last one says it all.
                Output::Persist(newest) => record = Some(newest),
                Output::Deadline(at) => self.timers.set(Timer::Delivery(envelope), at),
                Output::Event(DeliveryEvent::Attempt) => attempt = true,
                Output::Event(DeliveryEvent::Withdraw) => withdraw = true,
                Output::Event(DeliveryEvent::Warn(reason) | DeliveryEvent::Report(reason)) => {
                    kept.report = Some(reason)
                }
            }
        }
        let is_final = delivery.record().state.is_final();
        if let Some(record) = record {
            self.keep(envelope, record, kept, bytes).await;
        }
        if is_final {
            self.end_delivery(envelope).await;
        } else if attempt {
            Box::pin(self.start_sending(envelope)).await;
        }
        if withdraw && let Some(sending) = self.sending.get_mut(&envelope) {
            sending.machine.handle_input(Input::Withdraw);
            Box::pin(self.pump_sending(envelope)).await;
        }
    }

    async fn keep(&mut self, envelope: EnvelopeId, record: Record, kept: Kept, bytes: (u64, u64)) {
        tracing::info!(%envelope, state = record.state.as_str(), reason = record.reason.map(Reason::as_str), "delivery");
        let result = self.context.mailroom.keep(envelope, record, kept.receipt, kept.report, bytes).await;
        if let Err(error) = result {
            tracing::error!(%envelope, %error, "the state of a delivery could not be kept");
        }
    }

    async fn end_delivery(&mut self, envelope: EnvelopeId) {
        self.deliveries.remove(&envelope);
        self.sending.remove(&envelope);
        if !self.tried.remove(&envelope) {
            self.waiting.retain(|_, waiting| *waiting != envelope);
        }
        self.timers.clear(Timer::Delivery(envelope));
        self.shared.stop_serving(&envelope);
        lock(&self.context.progress).remove(&envelope);
        Box::pin(self.fill_places()).await;
    }

    async fn start_sending(&mut self, envelope: EnvelopeId) {
        let started = self.prepare(envelope);
        match started {
            Ok(sending) => {
                let kind = sending.lane_kind();
                if kind == LaneKind::Urgent {
                    self.shared.gate.begin(envelope);
                }
                self.sending.insert(envelope, sending);
                // Dialled while the offer is on its way, so that the first object need not wait for it.
                self.want_lanes(kind);
                self.pump_sending(envelope).await;
            }
            Err(error) => tracing::error!(%envelope, %error, "an envelope could not be offered"),
        }
    }

    fn prepare(&mut self, envelope: EnvelopeId) -> Result<Sending, MailError> {
        let row = self.context.mailroom.envelope(&envelope)?;
        let core: EnvelopeCore =
            pakt_protocol::codec::decode(1, &row.core, pakt_protocol::record::envelope::CORE_BYTES_MAX)
                .map_err(|_| MailError::Missing)?;
        let objects = self.context.mailroom.objects(&row.message)?;
        let expires = row.delivery.expires_at;
        let offer = Offer {
            envelope,
            group: row.group,
            priority: core.priority,
            agreement_version: core.agreement_version,
            files: core.counts.files,
            plain_bytes: core.counts.plain_bytes,
            objects: objects.len() as u64,
            sealed_bytes: core.counts.sealed_bytes,
            seconds_left: u32::try_from(expires.since(now()).as_secs()).unwrap_or(u32::MAX),
        };
        let progress = Progress { wire_bytes: row.wire_bytes, durable_bytes: row.durable_bytes };
        let wire_seen = self.wire_total();
        Ok(Sending { machine: Outgoing::new(offer), row, core, objects, unnamed_from: None, progress, wire_seen })
    }

    /// A message of the receiver about an outgoing envelope.
    pub(super) async fn tell_sending(&mut self, envelope: EnvelopeId, message: Message) {
        let Some(sending) = self.sending.get_mut(&envelope) else { return };
        let input = match message {
            Message::Receipt(message) => {
                let own = self.context.entity.id();
                let node = self.context.book.get(&self.id).map(|agreement| agreement.node.clone());
                let verified = node.map(|node| receipt::verify_from(&message.receipt, &node, &own));
                match verified {
                    Some(Ok(receipt)) => Input::Receipt(message.receipt, Box::new(receipt)),
                    _ => return self.close_session("a receipt that does not verify").await,
                }
            }
            message => Input::Message(message),
        };
        if sending.lane_kind() == LaneKind::Urgent {
            self.shared.gate.moved();
        }
        sending.machine.handle_input(input);
        Box::pin(self.pump_sending(envelope)).await;
    }

    /// Names more objects where the lane had no room before.
    pub(super) async fn name_more_objects(&mut self) {
        let waiting = self.sending.iter().find(|(_, sending)| sending.unnamed_from.is_some());
        if let Some(envelope) = waiting.map(|(envelope, _)| *envelope) {
            self.pump_sending(envelope).await;
        }
    }

    async fn pump_sending(&mut self, envelope: EnvelopeId) {
        loop {
            let room = self.live.as_ref().is_some_and(|live| live.lane.has_room());
            let Some(sending) = self.sending.get_mut(&envelope) else { return };
            if let (true, Some(first)) = (room, sending.unnamed_from.take()) {
                sending.name_objects(first);
            }
            let Some(output) = sending.machine.poll_output() else { return };
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Deadline(_) => {}
                Output::Persist(change) => self.persist_sending(envelope, change).await,
                Output::Event(event) => self.do_for_sending(envelope, event).await,
            }
        }
    }

    async fn persist_sending(&mut self, envelope: EnvelopeId, change: Persist) {
        match change {
            Persist::Leaving(_) => {
                self.tell_delivery(envelope, DeliveryInput::Left, Kept::default()).await;
                if let Some(sending) = self.sending.get_mut(&envelope) {
                    sending.machine.handle_input(Input::Persisted);
                }
            }
            Persist::Receipt(_, bytes, receipt) => {
                self.sample_wire();
                let Some(sending) = self.sending.get_mut(&envelope) else { return };
                let ours = receipt.core == EnvelopeCore::hash_of(&sending.row.core);
                let verdict = if ours { receipt.verdict } else { Verdict::Conflict };
                if matches!(verdict, Verdict::Held(_)) {
                    sending.progress.durable_bytes = sending.core.counts.sealed_bytes;
                }
                let kept = Kept { receipt: Some((bytes, *receipt)), report: None };
                self.tell_delivery(envelope, DeliveryInput::Receipt(verdict), kept).await;
            }
        }
    }

    async fn do_for_sending(&mut self, envelope: EnvelopeId, event: Event) {
        match event {
            Event::Accepted => {
                if let Some(sending) = self.sending.get(&envelope) {
                    self.shared.serve(envelope, sending.core.priority, &sending.objects);
                }
                self.tell_delivery(envelope, DeliveryInput::Accepted, Kept::default()).await;
            }
            Event::NameObjects(first) => {
                if let Some(sending) = self.sending.get_mut(&envelope) {
                    sending.unnamed_from = Some(first);
                }
            }
            Event::Seal => self.seal(envelope).await,
            Event::SealAgain(roster) => match self.context.book.take_roster(&self.id, &roster).await {
                Ok(()) => self.seal(envelope).await,
                Err(why) => self.close_session(why).await,
            },
            Event::Progress(bytes) => {
                self.sample_wire();
                if let Some(sending) = self.sending.get_mut(&envelope) {
                    sending.progress.durable_bytes = bytes;
                    lock(&self.context.progress).insert(envelope, sending.progress);
                    self.context.mailroom.changed();
                }
            }
            Event::Finished(Outcome::Refused(refusal)) => {
                self.end_transfer(envelope, DeliveryInput::Refused(refusal)).await
            }
            Event::Finished(Outcome::Withdrawn) => self.end_transfer(envelope, DeliveryInput::Withdrawn).await,
            // The receipt was kept, and with it the delivery's end.
            Event::Finished(Outcome::Settled(_)) => {}
            Event::Misbehaved(why) => self.close_session(why).await,
        }
    }

    /// The transfer is over without a receipt; the delivery decides whether it is tried again.
    async fn end_transfer(&mut self, envelope: EnvelopeId, input: DeliveryInput) {
        self.sample_wire();
        self.shared.stop_serving(&envelope);
        let Some(sending) = self.sending.remove(&envelope) else { return };
        self.tell_delivery_of(sending, input).await;
    }

    async fn seal(&mut self, envelope: EnvelopeId) {
        let Some(sending) = self.sending.get(&envelope) else { return };
        let Some(agreement) = self.agreement() else { return };
        let Some(roster) = &agreement.roster else { return };
        if roster.groups.iter().all(|group| group.id != sending.row.group) {
            return self.end_transfer(envelope, DeliveryInput::Stopped(Reason::GroupGone)).await;
        }
        let key = match self.context.mailroom.manifest_key(&sending.row.message) {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(%envelope, %error, "the key of a message is gone");
                return self.close_session("a fault of this node").await;
            }
        };
        let statement = self.context.entity.statement();
        let epoch = (roster.epoch, &roster.epoch_key);
        let sealed = SealedEnvelope::seal(&sending.row.core, &key, epoch, statement, &mut ambient::rng());
        if let Some(sending) = self.sending.get_mut(&envelope) {
            sending.machine.handle_input(Input::Sealed(Box::new(sealed)));
        }
    }

    fn wire_total(&self) -> u64 {
        let control = self.live.as_ref().map_or(0, |live| live.bytes.sent() + live.bytes.received());
        control + self.content_lanes.wire_bytes()
    }

    /// Adds what the lanes have carried since the last look to the envelopes under way, by what each was served.
    pub(super) fn sample_wire(&mut self) {
        let total = self.wire_total();
        let served: Vec<(EnvelopeId, u64)> =
            self.sending.keys().map(|envelope| (*envelope, self.shared.take_served_bytes(envelope))).collect();
        let all: u64 = served.iter().map(|(_, bytes)| bytes).sum();
        let count = served.len().max(1) as u64;
        for (envelope, bytes) in served {
            let Some(sending) = self.sending.get_mut(&envelope) else { continue };
            let carried = total.saturating_sub(sending.wire_seen);
            let share = match all {
                0 => carried / count,
                _ => (u128::from(carried) * u128::from(bytes) / u128::from(all)) as u64,
            };
            sending.progress.wire_bytes += share;
            sending.wire_seen = total;
        }
    }

    /// Stops everything that the agreement no longer allows, at once.
    pub(super) async fn enforce_terms(&mut self) {
        let in_force = self.agreement().is_some_and(|agreement| {
            agreement.in_force(now())
                || (agreement.standing == crate::book::Standing::Active && now() < agreement.terms.valid_from)
        });
        if in_force || (self.deliveries.is_empty() && self.receiving.is_empty() && self.content_lanes.is_empty()) {
            return;
        }
        self.end_content();
        let queued: Vec<EnvelopeId> = self.deliveries.keys().copied().collect();
        for envelope in queued {
            self.sending.remove(&envelope);
            self.tell_delivery(envelope, DeliveryInput::Stopped(Reason::AgreementEnded), Kept::default()).await;
        }
    }

    /// Space that accepted offers still need.
    pub(super) fn release_promise(&self, bytes: u64) {
        let _ = self
            .context
            .promised
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |promised| Some(promised.saturating_sub(bytes)));
    }
}

impl Sending {
    /// The kind of lane that its content is meant for.
    pub(super) fn lane_kind(&self) -> LaneKind {
        if self.core.priority == Priority::Urgent { LaneKind::Urgent } else { LaneKind::Bulk }
    }

    fn name_objects(&mut self, first: u64) {
        let first = usize::try_from(first).unwrap_or(usize::MAX).min(self.objects.len());
        let end = self.objects.len().min(first + ANNOUNCE_ENTRIES_MAX);
        let entries = self.objects[first..end].to_vec();
        self.machine.handle_input(Input::Objects(entries, end == self.objects.len()));
    }
}

fn priority_of(row: &OutEnvelope) -> Priority {
    pakt_protocol::codec::decode::<EnvelopeCore>(1, &row.core, pakt_protocol::record::envelope::CORE_BYTES_MAX)
        .map_or(Priority::Normal, |core| core.priority)
}
