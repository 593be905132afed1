//! Deliveries and outgoing transfers: what waits, what is under way, how it ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use std::time::Duration;

use pakt_protocol::delivery::{Delivery, Event as DeliveryEvent, Input as DeliveryInput, Reason, Record};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::line::Turn;
use pakt_protocol::machine::Output;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{Message, Offer, ReceiptHeld};
use pakt_protocol::record::envelope::{EnvelopeCore, Priority, SealedEnvelope};
use pakt_protocol::record::receipt::{Receipt, Verdict};
use pakt_protocol::settling::{Late, stated_about};
use pakt_protocol::time::Time;
use pakt_protocol::transfer::outgoing::{Event, Input, Outcome, Outgoing, Persist};

use super::{PeerActor, Timer, lock, now};
use crate::ambient;
use crate::content::Follower;
use crate::exchange::Progress;
use crate::mailroom::MailError;
use crate::mailroom::outbox::Step;
use crate::mailroom::rows::OutEnvelope;
use crate::net::LaneKind;

/// Envelopes that are read at once when the queue is taken up.
const LOAD_PAGE: usize = 256;
/// What could not begin for a fault of this node is tried again after so long.
const BEGIN_AGAIN: Duration = Duration::from_secs(30);

/// An outgoing transfer.
pub(super) struct Sending {
    pub(super) machine: Outgoing,
    priority: Priority,
    content: Content,
    /// The machine has asked for so many objects from here, but there are none yet, or the lane had no room.
    unnamed: Option<(u64, usize)>,
    progress: Progress,
    wire_seen: u64,
    /// The offer gave upper bounds.
    offered_early: bool,
}

/// What a transfer carries.
pub(super) enum Content {
    /// Objects of a message that is not submitted yet, as they become durable.
    Early(Follower),
    /// A submitted message.
    Whole(Box<Whole>),
}

/// A submitted envelope and all its objects.
pub(super) struct Whole {
    row: OutEnvelope,
    core: EnvelopeCore,
    objects: Arc<Vec<ObjectEntry>>,
}

/// What came of making a record durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// It is.
    Kept,
    /// The envelope had left the queue by a receipt that came another way.
    Overtaken,
    /// It is not.
    Failed,
}

/// What a delivery wants kept, beside its record.
#[derive(Default)]
pub(super) struct Kept {
    receipt: Option<(Vec<u8>, Receipt)>,
    steps: Vec<Step>,
}

impl PeerActor {
    /// Takes up what the mailroom still has to deliver.
    pub(super) async fn load_deliveries(&mut self) {
        let mut from = 0;
        loop {
            let page = match self.context.mailroom.open_page(&self.id, from, LOAD_PAGE) {
                Ok(page) => page,
                Err(error) => return tracing::error!(agreement = %self.id, %error, "the queue could not be read"),
            };
            let Some(last) = page.last() else { return };
            from = last.sequence + 1;
            for row in page {
                self.add_delivery(row).await;
            }
        }
    }

    pub(super) async fn handle_submitted(&mut self, envelope: EnvelopeId) {
        // An early transfer that is under way goes on as a delivery; one that waits or was refused begins as one.
        let was_early = self.end_early(&envelope).is_some();
        match self.context.mailroom.envelope(&envelope) {
            Ok(row) if was_early && self.sending.contains_key(&envelope) => self.join(row).await,
            Ok(row) => self.add_delivery(row).await,
            Err(error) => tracing::error!(%envelope, %error, "a submitted envelope could not be read"),
        }
        self.fill_places().await;
    }

    /// The delivery of an envelope whose early transfer is under way: it goes on from where that is.
    async fn join(&mut self, row: OutEnvelope) {
        let envelope = row.id;
        let whole = match self.whole(row) {
            Ok(whole) => whole,
            Err(error) => {
                self.sending.remove(&envelope);
                self.shared.stop_serving(&envelope);
                return tracing::error!(%envelope, %error, "a submitted envelope could not be read");
            }
        };
        let Some(sending) = self.sending.get_mut(&envelope) else { return };
        let mut delivery = Delivery::new(whole.row.delivery.clone(), now());
        delivery.handle_input(DeliveryInput::PeerUp, now());
        if sending.machine.is_accepted() {
            delivery.handle_input(DeliveryInput::Accepted, now());
        }
        sending.content = Content::Whole(Box::new(whole));
        self.tried.insert(envelope);
        self.deliveries.insert(envelope, delivery);
        self.tell_delivery(envelope, DeliveryInput::Tick, Kept::default()).await;
        self.pump_sending(envelope).await;
    }

    async fn add_delivery(&mut self, row: OutEnvelope) {
        if self.deliveries.contains_key(&row.id) || !row.delivery.state.is_open() {
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
        self.withdraw_given_up();
        self.fill_places().await;
    }

    pub(super) async fn fill_places(&mut self) {
        if !self.is_live() || !self.lets_go().await {
            return;
        }
        while self.is_live() {
            let may_go = |envelope: &EnvelopeId| self.may_go(envelope) && self.may_ask(envelope);
            let place = match self.waiting.turn(self.sending.len(), may_go) {
                Turn::Next(place) => place,
                Turn::Full => return,
                Turn::Held => return self.hold_for_rate().await,
            };
            let Some(envelope) = self.waiting.remove(&place) else { return };
            if self.early.contains(&envelope) {
                Box::pin(self.start_early(envelope)).await;
            } else {
                self.tried.insert(envelope);
                self.tell_delivery(envelope, DeliveryInput::PeerUp, Kept::default()).await;
            }
        }
    }

    /// Puts back in line what had a place.
    async fn wait_again(&mut self, envelope: EnvelopeId, sending: Sending) {
        self.tried.remove(&envelope);
        match &sending.content {
            Content::Early(_) => self.wait_early(envelope),
            Content::Whole(whole) => {
                self.waiting.insert((sending.priority, whole.row.sequence), envelope);
                Box::pin(self.tell_delivery_of(envelope, sending.progress, DeliveryInput::PeerDown)).await;
            }
        }
    }

    /// The control lane is gone: whatever was under way waits again.
    pub(super) async fn suspend_sending(&mut self) {
        let under_way: Vec<EnvelopeId> = self.sending.keys().copied().collect();
        for envelope in under_way {
            self.sample_wire();
            if let Some(sending) = self.sending.remove(&envelope) {
                self.wait_again(envelope, sending).await;
            }
        }
        // Those that were tried and turned away for now wait in line again.
        for envelope in std::mem::take(&mut self.tried) {
            if self.deliveries.contains_key(&envelope) {
                self.requeue(envelope).await;
            }
        }
    }

    pub(super) async fn requeue(&mut self, envelope: EnvelopeId) {
        if let Ok(row) = self.context.mailroom.envelope(&envelope) {
            self.waiting.insert((priority_of(&row), row.sequence), envelope);
            self.tell_delivery(envelope, DeliveryInput::PeerDown, Kept::default()).await;
        }
    }

    async fn tell_delivery_of(&mut self, envelope: EnvelopeId, progress: Progress, input: DeliveryInput) {
        lock(&self.context.progress).remove(&envelope);
        let bytes = (progress.wire_bytes, progress.durable_bytes);
        self.tell_delivery_with(envelope, input, Kept::default(), bytes).await;
    }

    pub(super) async fn tick_delivery(&mut self, envelope: EnvelopeId) {
        if !self.deliveries.contains_key(&envelope) {
            // How it ended could not be written: it begins anew from what was.
            if let Ok(row) = self.context.mailroom.envelope(&envelope) {
                self.add_delivery(row).await;
                self.fill_places().await;
            }
            return;
        }
        self.tell_delivery(envelope, DeliveryInput::Tick, Kept::default()).await;
    }

    pub(super) async fn tell_delivery(&mut self, envelope: EnvelopeId, input: DeliveryInput, kept: Kept) {
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
        let (mut attempt, mut withdraw, mut ask, mut record) = (false, false, false, None);
        while let Some(output) = delivery.poll_output() {
            match output {
                Output::Transmit(_) => {}
                // The last one says it all.
                Output::Persist(newest) => record = Some(newest),
                Output::Deadline(at) => self.timers.set(Timer::Delivery(envelope), at),
                Output::Event(DeliveryEvent::Attempt) => attempt = true,
                Output::Event(DeliveryEvent::Withdraw) => withdraw = true,
                Output::Event(DeliveryEvent::Ask) => ask = true,
                Output::Event(event) => kept.steps.extend(Step::of(event)),
            }
        }
        let is_open = delivery.record().state.is_open();
        let written = match record {
            Some(record) => self.keep(envelope, record, kept, bytes).await,
            None => Written::Kept,
        };
        if !is_open || written == Written::Overtaken {
            self.end_delivery(envelope).await;
            if written == Written::Failed {
                self.timers.set(Timer::Delivery(envelope), now() + BEGIN_AGAIN);
            }
        } else if attempt {
            Box::pin(self.start_sending(envelope)).await;
        } else if ask {
            self.ask_how_it_ended(envelope);
        }
        // What could not be kept must not show: a recall that nobody remembers takes nothing back.
        if withdraw
            && written != Written::Failed
            && let Some(sending) = self.sending.get_mut(&envelope)
        {
            sending.machine.handle_input(Input::Withdraw);
            Box::pin(self.pump_sending(envelope)).await;
        }
    }

    /// Makes a record durable.
    async fn keep(&mut self, envelope: EnvelopeId, record: Record, kept: Kept, bytes: (u64, u64)) -> Written {
        tracing::info!(%envelope, state = record.state.as_str(), reason = record.reason.map(Reason::as_str), "delivery");
        match self.context.mailroom.keep(envelope, record, kept.receipt, kept.steps, bytes).await {
            Ok(true) => Written::Kept,
            Ok(false) => Written::Overtaken,
            Err(error) => {
                tracing::error!(%envelope, %error, "the state of a delivery could not be kept");
                self.unkept = Some(error);
                Written::Failed
            }
        }
    }

    async fn end_delivery(&mut self, envelope: EnvelopeId) {
        self.deliveries.remove(&envelope);
        self.sending.remove(&envelope);
        if !self.tried.remove(&envelope) {
            self.waiting.forget(&envelope);
        }
        self.timers.clear(Timer::Delivery(envelope));
        self.questions.ended(&envelope);
        self.shared.stop_serving(&envelope);
        lock(&self.context.progress).remove(&envelope);
        // Not here: what waits may end as well, and would call this again from within.
        self.timers.set(Timer::Gate, now());
    }

    async fn start_sending(&mut self, envelope: EnvelopeId) {
        if self.sending.contains_key(&envelope) {
            // Its early transfer is under way.
            return;
        }
        if !self.may_be_offered(&envelope).await {
            return;
        }
        let started = self.prepare(envelope);
        match started {
            Ok(sending) => self.take_up(envelope, sending).await,
            Err(error) => {
                tracing::error!(%envelope, %error, "an envelope could not be offered");
                Box::pin(self.tell_delivery(envelope, DeliveryInput::Failed, Kept::default())).await;
            }
        }
    }

    /// Lets a transfer begin. Its lanes are dialled while the offer is on its way, so that the first object need not wait
    /// for them.
    pub(super) async fn take_up(&mut self, envelope: EnvelopeId, sending: Sending) {
        if !self.count_sent(envelope).await {
            self.wait_again(envelope, sending).await;
            return self.timers.set(Timer::Gate, now() + BEGIN_AGAIN);
        }
        let kind = sending.lane_kind();
        if kind == LaneKind::Urgent {
            self.shared.gate.begin(envelope);
        }
        self.sending.insert(envelope, sending);
        self.want_lanes(kind);
        self.pump_sending(envelope).await;
    }

    fn prepare(&mut self, envelope: EnvelopeId) -> Result<Sending, MailError> {
        let whole = self.whole(self.context.mailroom.envelope(&envelope)?)?;
        let Whole { row, core, objects } = &whole;
        let offer = Offer {
            envelope,
            group: row.group,
            priority: core.priority,
            // The content was sealed under this version or an earlier one; it is offered under the one that counts now.
            agreement_version: self.agreement().map_or(core.agreement_version, |agreement| agreement.terms.version),
            files: core.counts.files,
            plain_bytes: core.counts.plain_bytes,
            objects: objects.len() as u64,
            sealed_bytes: core.counts.sealed_bytes,
            seconds_left: seconds_until(row.delivery.expires_at).min(self.hold_seconds()),
        };
        let progress = Progress { wire_bytes: row.wire_bytes, durable_bytes: row.durable_bytes };
        let (machine, priority) = (Outgoing::new(offer), core.priority);
        Ok(Sending::new(machine, priority, Content::Whole(Box::new(whole)), progress, self.wire_total()))
    }

    /// A submitted envelope with all that its transfer needs.
    fn whole(&self, row: OutEnvelope) -> Result<Whole, MailError> {
        let core: EnvelopeCore =
            pakt_protocol::codec::decode(1, &row.core, pakt_protocol::record::envelope::CORE_BYTES_MAX)
                .map_err(|_| MailError::Missing)?;
        let objects = self.context.mailroom.objects(&row.message)?;
        Ok(Whole { row, core, objects })
    }

    /// A message of the receiver about an outgoing envelope.
    pub(super) async fn tell_sending(&mut self, envelope: EnvelopeId, message: Message) {
        let Some(sending) = self.sending.get(&envelope) else {
            return match message {
                Message::Withdrawn(_) => self.forget_given_up(envelope).await,
                Message::Receipt(message) => self.take_later_receipt(message).await,
                _ => {}
            };
        };
        let input = match message {
            Message::Receipt(_) if sending.is_early() => {
                return self.close_session("a receipt for what was never sealed").await;
            }
            Message::Receipt(message) => match self.verified(&message.receipt) {
                Some(receipt) => Input::Receipt(message.receipt, Box::new(receipt)),
                None => return self.close_session("a receipt that does not verify").await,
            },
            message => Input::Message(message),
        };
        let Some(sending) = self.sending.get_mut(&envelope) else { return };
        if sending.lane_kind() == LaneKind::Urgent {
            self.shared.gate.moved();
        }
        sending.machine.handle_input(input);
        Box::pin(self.pump_sending(envelope)).await;
    }

    /// Names more objects where the lane had no room before.
    pub(super) async fn name_more_objects(&mut self) {
        let waiting = self.sending.iter().filter(|(_, sending)| sending.next_objects().is_some());
        let waiting: Vec<EnvelopeId> = waiting.map(|(envelope, _)| *envelope).collect();
        for envelope in waiting {
            // Once the backlog is gone nobody asks again: whoever waits is served now, or while there is one.
            if !self.live.as_ref().is_some_and(|live| live.lane.has_room()) {
                return;
            }
            self.pump_sending(envelope).await;
        }
    }

    pub(super) async fn pump_sending(&mut self, envelope: EnvelopeId) {
        loop {
            let room = self.live.as_ref().is_some_and(|live| live.lane.has_room());
            let Some(sending) = self.sending.get_mut(&envelope) else { return };
            if room && let Some((first, entries, last)) = sending.next_objects() {
                self.shared.serve(envelope, sending.priority, &entries);
                sending.unnamed = None;
                sending.machine.handle_input(Input::Objects { first, entries, last });
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
                if !self.may_leave(&envelope).await {
                    return;
                }
                self.tell_delivery(envelope, DeliveryInput::Left, Kept::default()).await;
                let is_kept = self.context.mailroom.envelope(&envelope).is_ok_and(|row| row.delivery.left);
                if !is_kept {
                    return Box::pin(self.close_session("a fault of this node")).await;
                }
                if let Some(sending) = self.sending.get_mut(&envelope) {
                    sending.machine.handle_input(Input::Persisted);
                }
            }
            Persist::Receipt(_, bytes, receipt) => {
                self.sample_wire();
                let Some(sending) = self.sending.get_mut(&envelope) else { return };
                let Content::Whole(whole) = &sending.content else { return };
                let stated = receipt.verdict;
                let verdict = stated_about(EnvelopeCore::hash_of(&whole.row.core), &receipt);
                if matches!(verdict, Verdict::Held(_)) {
                    sending.progress.durable_bytes = whole.core.counts.sealed_bytes;
                }
                let kept = Kept { receipt: Some((bytes, *receipt)), steps: Vec::new() };
                self.tell_delivery(envelope, DeliveryInput::Receipt(verdict), kept).await;
                if self.is_settled(&envelope) {
                    self.transmit(ReceiptHeld { envelope, verdict: stated }.into());
                }
            }
        }
    }

    /// Whether what a receipt has brought about is durable.
    fn is_settled(&self, envelope: &EnvelopeId) -> bool {
        self.context.mailroom.envelope(envelope).is_ok_and(|row| !row.delivery.state.is_open())
    }

    /// Takes a receipt about an envelope that waits for its next attempt.
    pub(super) async fn settle_waiting(
        &mut self,
        envelope: EnvelopeId,
        bytes: Vec<u8>,
        receipt: Receipt,
    ) -> Result<Late, MailError> {
        let row = self.context.mailroom.envelope(&envelope)?;
        let verdict = stated_about(EnvelopeCore::hash_of(&row.core), &receipt);
        let kept = Kept { receipt: Some((bytes, receipt)), steps: Vec::new() };
        self.tell_delivery(envelope, DeliveryInput::Receipt(verdict), kept).await;
        // What could not be kept is told again.
        if self.is_settled(&envelope) { Ok(Late::Held) } else { Err(MailError::Missing) }
    }

    async fn do_for_sending(&mut self, envelope: EnvelopeId, event: Event) {
        match event {
            Event::Accepted => self.tell_delivery(envelope, DeliveryInput::Accepted, Kept::default()).await,
            Event::NameObjects { first, max } => {
                if let Some(sending) = self.sending.get_mut(&envelope) {
                    sending.unnamed = Some((first, max));
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
                    if let Content::Early(objects) = &sending.content {
                        objects.arrived(bytes);
                    }
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
        if sending.is_early() {
            // Withdrawn because it was broken off, or refused: then it is tried again once it is submitted.
            self.forget_given_up(envelope).await;
            return Box::pin(self.fill_places()).await;
        }
        let input = match input {
            DeliveryInput::Refused(refusal) => {
                if refusal.is_of_other_version() {
                    self.show_current();
                }
                DeliveryInput::Refused(refusal.of_bounds(sending.offered_early))
            }
            input => input,
        };
        self.tell_delivery_of(envelope, sending.progress, input).await;
    }

    async fn seal(&mut self, envelope: EnvelopeId) {
        let Some(Content::Whole(whole)) = self.sending.get(&envelope).map(|sending| &sending.content) else { return };
        let Some(agreement) = self.agreement() else { return };
        let Some(roster) = &agreement.roster else { return };
        if roster.groups.iter().all(|group| group.id != whole.row.group) {
            return self.end_transfer(envelope, DeliveryInput::Stopped(Reason::GroupGone)).await;
        }
        let message = whole.row.message;
        if !self.may_leave(&envelope).await {
            return;
        }
        let key = match self.context.mailroom.manifest_key(&message) {
            Ok(key) => key,
            Err(error) => {
                tracing::error!(%envelope, %error, "the key of a message is gone");
                return self.close_session("a fault of this node").await;
            }
        };
        let Some(Content::Whole(whole)) = self.sending.get(&envelope).map(|sending| &sending.content) else { return };
        let own = self.context.entity.current();
        let epoch = (roster.epoch, &roster.epoch_key);
        let sealed = SealedEnvelope::seal(&whole.row.core, &key, epoch, own.statement(), &mut ambient::rng());
        if let Some(sending) = self.sending.get_mut(&envelope) {
            sending.machine.handle_input(Input::Sealed(Box::new(sealed)));
        }
    }

    pub(super) fn wire_total(&self) -> u64 {
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

    /// The agreement allows nothing for now.
    pub(super) async fn hold_delivery(&mut self, envelope: EnvelopeId, reason: Reason) {
        self.tell_delivery(envelope, DeliveryInput::Held(reason), Kept::default()).await;
    }

    /// The agreement allows nothing any more.
    pub(super) async fn stop_delivery(&mut self, envelope: EnvelopeId, input: DeliveryInput) {
        self.sending.remove(&envelope);
        self.tell_delivery(envelope, input, Kept::default()).await;
    }

    /// Gives back space that was promised to an accepted offer.
    pub(super) fn release_promise(&self, bytes: u64) {
        let _ = self
            .context
            .promised
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |promised| Some(promised.saturating_sub(bytes)));
    }
}

impl Sending {
    pub(super) fn new(
        machine: Outgoing,
        priority: Priority,
        content: Content,
        progress: Progress,
        wire_seen: u64,
    ) -> Sending {
        let offered_early = matches!(content, Content::Early(_));
        Sending { machine, priority, content, unnamed: None, progress, wire_seen, offered_early }
    }

    /// Whether its message is not submitted yet.
    pub(super) fn is_early(&self) -> bool {
        matches!(self.content, Content::Early(_))
    }

    /// The kind of lane that its content is meant for.
    pub(super) fn lane_kind(&self) -> LaneKind {
        lane_kind_of(self.priority)
    }

    /// What is to be named next, from which index on, if there is something, and whether that is all.
    fn next_objects(&self) -> Option<(u64, Vec<ObjectEntry>, bool)> {
        let (first, max) = self.unnamed?;
        match &self.content {
            Content::Early(objects) => {
                let entries = objects.entries(first, max);
                (!entries.is_empty()).then_some((first, entries, false))
            }
            Content::Whole(whole) => {
                let objects = &whole.objects;
                let start = usize::try_from(first).unwrap_or(usize::MAX).min(objects.len());
                let end = objects.len().min(start + max);
                Some((first, objects[start..end].to_vec(), end == objects.len()))
            }
        }
    }
}

/// The kind of lane that content of this priority is meant for.
pub(in crate::exchange) fn lane_kind_of(priority: Priority) -> LaneKind {
    if priority == Priority::Urgent { LaneKind::Urgent } else { LaneKind::Bulk }
}

fn priority_of(row: &OutEnvelope) -> Priority {
    pakt_protocol::codec::decode::<EnvelopeCore>(1, &row.core, pakt_protocol::record::envelope::CORE_BYTES_MAX)
        .map_or(Priority::Normal, |core| core.priority)
}

/// The time that is left until then, as an offer says it.
pub(super) fn seconds_until(at: Time) -> u32 {
    u32::try_from(at.since(now()).as_secs()).unwrap_or(u32::MAX)
}
