//! Incoming transfers: pulling, opening, committing, answering.

use pakt_protocol::audit::BlindedHead;
use pakt_protocol::content::manifest::{Bounds, ManifestHead, ManifestKey};
use pakt_protocol::controls::Control;
use pakt_protocol::ids::{EnvelopeId, ObjectId};
use pakt_protocol::machine::Output;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::message::{Message, Offer};
use pakt_protocol::policy::Footing;
use pakt_protocol::record::envelope::{OpenEnvelope, Priority, SealedEnvelope};
use pakt_protocol::record::receipt::{Receipt, Verdict, receipt_bytes};
use pakt_protocol::time::Time;
use pakt_protocol::transfer::incoming::{
    Event, Fault, Incoming, Input, OpenRefusal, Persist, check_agreement, is_for_agreed_purpose,
};
use pakt_protocol::transfer::standstill::LOOK_EVERY;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;
use zeroize::Zeroizing;

use super::pulling::{Pulling, Wanted};
use super::{Command, PeerActor, Timer, now};
use crate::ambient;
use crate::blob::Blobs;
use crate::book::{Agreement, Standing};
use crate::content::{ReadManifestError, check_table, read_manifest};
use crate::exchange::pull::Pull;
use crate::mailroom::inbox::{Answer, Arrival, ArrivalNote};
use crate::mailroom::rows::{InMessage, Stage};
use crate::mailroom::{MailError, incoming_owner};
use crate::net::LaneKind;
use crate::store::StoreError;

/// After a start stale offers are looked for once those that are still wanted may have come again.
pub(super) const STALE_FIRST: Duration = Duration::from_secs(600);
/// And then this often.
const STALE_EVERY: Duration = Duration::from_secs(3_600);
/// Only the sender expires; its clock may be wrong, and it may ask for a while how an envelope ended.
const STALE_AFTER_HOLD: Duration = Duration::from_secs(86_400);

/// An incoming transfer.
pub(super) struct Receiving {
    machine: Incoming,
    offered_at: Time,
    promised: u64,
    content: Option<Readable>,
}

/// What was read out of the manifest.
pub(in crate::exchange) struct Readable {
    head: ManifestHead,
    key: Zeroizing<[u8; 32]>,
}

/// How the opening of an envelope ended.
pub(in crate::exchange) enum OpenedContent {
    /// Signature, key and manifest are as they should be.
    Readable(Box<OpenEnvelope>, Box<Readable>),
    /// Not opened, for a reason that the machine answers.
    Refused(OpenRefusal),
    /// This node could not read its own disk.
    Fault,
}

/// Objects that were here when they were wanted, and of which their envelopes are not told yet.
#[derive(Default)]
pub(super) struct Known {
    waiting: VecDeque<(EnvelopeId, Vec<ObjectId>)>,
    /// Somebody further up tells them.
    is_told: bool,
}

impl PeerActor {
    /// Starts receiving what the session machine accepted.
    pub(super) async fn receive(&mut self, offer: Offer) {
        let envelope = offer.envelope;
        if self.receiving.contains_key(&envelope) {
            // Offered anew while it is under way: nothing is queued twice.
            self.forget_pulls(envelope).await;
        }
        let promised = offer.sealed_bytes;
        self.context.promised.fetch_add(promised, Ordering::Relaxed);
        let machine = Incoming::new(offer, ambient::now());
        let receiving = Receiving { machine, offered_at: ambient::now(), promised, content: None };
        if let Some(earlier) = self.receiving.insert(envelope, receiving) {
            self.release_promise(earlier.promised);
        }
        self.pump_receiving(envelope).await;
    }

    /// A message of the sender about an incoming envelope.
    pub(super) async fn tell_receiving(&mut self, envelope: EnvelopeId, message: Message) {
        if self.receiving.contains_key(&envelope) {
            self.input_receiving(envelope, Input::Message(message)).await;
        } else if matches!(message, Message::Withdraw(_)) {
            self.look_up_withdrawn(envelope).await;
        }
    }

    async fn input_receiving(&mut self, envelope: EnvelopeId, input: Input) {
        if let Some(receiving) = self.receiving.get_mut(&envelope) {
            receiving.machine.handle_input(input);
            self.pump_receiving(envelope).await;
            self.settle_promise(envelope);
        }
    }

    /// An offer gives upper bounds; what is durable, or not needed after all, is free for others again.
    fn settle_promise(&mut self, envelope: EnvelopeId) {
        let Some(receiving) = self.receiving.get_mut(&envelope) else { return };
        let spare = receiving.promised.saturating_sub(receiving.machine.bytes_to_come());
        receiving.promised -= spare;
        self.release_promise(spare);
    }

    async fn pump_receiving(&mut self, envelope: EnvelopeId) {
        while let Some(output) = self.receiving.get_mut(&envelope).and_then(|receiving| receiving.machine.poll_output())
        {
            match output {
                Output::Transmit(message) => self.transmit(message),
                Output::Deadline(_) => {}
                Output::Persist(change) => self.persist_receiving(envelope, change).await,
                Output::Event(event) => self.do_for_receiving(envelope, event).await,
            }
        }
    }

    async fn persist_receiving(&mut self, envelope: EnvelopeId, change: Persist) {
        let stated = match &change {
            Persist::Commit(_, verdict) => Some(*verdict),
            _ => None,
        };
        let done = match change {
            Persist::Begin(offer, now) => self.begin(envelope, offer, now).await.map(|()| None),
            Persist::Commit(open, verdict) => self.commit(envelope, &open, verdict).await.map(Some),
            Persist::Drop(_) => {
                self.forget_pulls(envelope).await;
                self.context.mailroom.drop_incoming(self.entity, envelope).await.map(|()| None)
            }
        };
        match done {
            Ok(receipt) => {
                if let Some(verdict) = stated {
                    self.note_told(envelope, verdict);
                }
                if let Some(receiving) = self.receiving.get_mut(&envelope) {
                    receiving.machine.handle_input(Input::Persisted(receipt));
                }
            }
            Err(error) => {
                tracing::error!(%envelope, %error, "an incoming envelope could not be kept");
                let fault = match error {
                    MailError::IdTaken => Fault::IdTaken,
                    _ if is_full(&error) => Fault::Full,
                    _ => Fault::Other,
                };
                if let Some(receiving) = self.receiving.get_mut(&envelope) {
                    receiving.machine.handle_input(Input::Failed(fault));
                }
            }
        }
    }

    async fn begin(&mut self, envelope: EnvelopeId, offer: Offer, now: Time) -> Result<(), MailError> {
        let counted = self.count_received(envelope);
        let row = self.context.mailroom.begin_incoming(self.entity, offer, now, counted).await?;
        if let Some(receiving) = self.receiving.get_mut(&envelope) {
            receiving.offered_at = row.offered_at;
        }
        Ok(())
    }

    async fn do_for_receiving(&mut self, envelope: EnvelopeId, event: Event) {
        match event {
            Event::Pull(wanted) => self.pull(envelope, wanted).await,
            Event::Open(sealed) => self.open(envelope, *sealed),
            Event::Finished(committed) => {
                if let Some(receiving) = self.receiving.remove(&envelope) {
                    self.release_promise(receiving.promised);
                }
                self.shared.forget(&envelope);
                if committed {
                    tracing::info!(%envelope, peer = %self.entity, "received");
                }
            }
            Event::Misbehaved(why) => Box::pin(self.close_session(why)).await,
        }
    }

    /// Pins what is here already from this counterpart, and queues the rest for the lanes, but for what another envelope
    /// pulls already.
    async fn pull(&mut self, envelope: EnvelopeId, wanted: Wanted) {
        let Some(receiving) = self.receiving.get(&envelope) else { return };
        let priority = receiving.machine.offer().priority;
        let held = match self.pin_known(envelope, &wanted).await {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(%envelope, %error, "known objects could not be looked up");
                return Box::pin(self.close_session("a fault of this node")).await;
            }
        };
        let missing = wanted.into_iter().filter(|(_, entry)| !held.contains(&entry.id)).collect();
        let missing = self.pulling.enter(envelope, priority, missing).into_iter();
        self.shared.push(missing.map(|(index, entry)| Pull { envelope, index, entry, priority }));
        self.want_lanes(if priority == Priority::Urgent { LaneKind::Urgent } else { LaneKind::Bulk });
        self.watch_lanes();
        if !self.timers.is_set(Timer::Standstill) {
            self.timers.set(Timer::Standstill, now() + LOOK_EVERY);
        }
        if !held.is_empty() {
            self.known.waiting.push_back((envelope, held));
            self.tell_known().await;
        }
    }

    /// A session over which nothing comes of what is awaited is given up; the next one asks for it anew.
    pub(super) async fn look_for_standstill(&mut self) {
        if !self.receiving.values().any(|receiving| receiving.machine.awaits_content()) {
            return self.standstill.rest();
        }
        self.timers.set(Timer::Standstill, now() + LOOK_EVERY);
        if self.standstill.observe(self.shared.received_bytes(), now()) {
            self.standstill.rest();
            let (peer, lanes) = (self.entity, self.content_lanes.len());
            let (waits, held) = (self.shared.explain(), self.shared.memory.held());
            tracing::warn!(%peer, lanes, waits, held, "content stands still");
            self.close_session("content stands still").await;
        }
    }

    /// Tells the machines what was here already. They ask for more then, of which much may be here too: it comes back to this
    /// loop, so that nothing grows with the size of a message.
    async fn tell_known(&mut self) {
        if std::mem::replace(&mut self.known.is_told, true) {
            return;
        }
        while let Some((envelope, held)) = self.known.waiting.pop_front() {
            Box::pin(self.handle_held(envelope, held)).await;
        }
        self.known.is_told = false;
    }

    /// Objects of all incoming envelopes but this one, as they were offered.
    pub(super) fn incoming_objects(&self, but: &EnvelopeId) -> u64 {
        let others = self.receiving.iter().filter(|(envelope, _)| *envelope != but);
        others.map(|(_, receiving)| receiving.machine.offer().objects).sum()
    }

    pub(super) fn is_receiving_urgent(&self) -> bool {
        self.receiving.values().any(|receiving| receiving.machine.offer().priority == Priority::Urgent)
    }

    async fn pin_known(&self, envelope: EnvelopeId, wanted: &[(u64, ObjectEntry)]) -> Result<Vec<ObjectId>, MailError> {
        let ids: Vec<ObjectId> = wanted.iter().map(|(_, entry)| entry.id).collect();
        let origin = self.entity;
        let known = self.context.mailroom.blobs.known(origin, &ids)?;
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let owner = incoming_owner(&origin, &envelope);
        let pinned = self.context.mailroom.store.write(move |tx| {
            let mut pinned = Vec::with_capacity(known.len());
            for id in known {
                if Blobs::pin(tx, origin, id, owner)? {
                    pinned.push(id);
                }
            }
            Ok::<_, StoreError>(pinned)
        });
        Ok(pinned.await?)
    }

    pub(super) async fn handle_held(&mut self, envelope: EnvelopeId, ids: Vec<ObjectId>) {
        let waiting = self.pulling.take_held(&ids);
        if !self.receiving.contains_key(&envelope)
            && let Err(error) = self.context.mailroom.drop_late(self.entity, envelope).await
        {
            tracing::error!(%envelope, %error, "what came too late could not be let go");
        }
        self.input_receiving(envelope, Input::Held(ids)).await;
        self.pull_again(waiting).await;
    }

    /// An envelope pulls nothing any more; others that waited for it do so themselves.
    async fn forget_pulls(&mut self, envelope: EnvelopeId) {
        self.shared.forget(&envelope);
        let waiting = self.pulling.take_left(&envelope);
        self.pull_again(waiting).await;
    }

    async fn pull_again(&mut self, waiting: HashMap<EnvelopeId, Wanted>) {
        for (envelope, wanted) in waiting {
            Box::pin(self.pull(envelope, wanted)).await;
        }
    }

    /// Objects cannot be had: the session starts anew. They cannot be stored: the envelope is refused.
    pub(super) async fn handle_pull_failed(&mut self, envelope: EnvelopeId, full: bool) {
        if full {
            self.input_receiving(envelope, Input::Failed(Fault::Full)).await;
        } else if self.receiving.contains_key(&envelope) {
            self.close_session("an object could not be had").await;
        }
    }

    pub(super) async fn drop_incoming(&mut self, envelope: EnvelopeId) {
        if let Err(error) = self.context.mailroom.drop_incoming(self.entity, envelope).await {
            tracing::error!(%envelope, %error, "a dropped envelope could not be forgotten");
        }
    }

    /// Opens an envelope beside the actor: reading a manifest takes time.
    fn open(&mut self, envelope: EnvelopeId, sealed: SealedEnvelope) {
        let Some(receiving) = self.receiving.get(&envelope) else { return };
        let objects = receiving.machine.objects().to_vec();
        let offer = receiving.machine.offer().clone();
        let (context, id, actor) = (self.context.clone(), self.id, self.own_inbox.clone());
        self.tasks.spawn(async move {
            let roster = context.book.own_roster(&id).await.ok();
            let opened = tokio::task::spawn_blocking(move || {
                let Some(agreement) = context.book.get(&id) else { return OpenedContent::Fault };
                let verified = sealed.verify(&agreement.node, &context.entity.id());
                let Ok(open) = verified else { return OpenedContent::Refused(OpenRefusal::Forged) };
                if let Err(refusal) = check_agreement(&open.core, &id, agreement.terms.version) {
                    return OpenedContent::Refused(refusal);
                }
                let open = Box::new(open);
                let Some(epoch) = context.book.epoch_key(sealed.epoch()) else {
                    return match roster {
                        Some(roster) => OpenedContent::Refused(OpenRefusal::EpochGone(Box::new(roster))),
                        None => OpenedContent::Fault,
                    };
                };
                let Ok(key) = sealed.unwrap(&epoch) else { return unopenable(open, "its key does not unwrap") };
                read(&context, open, key, &offer, &objects, &agreement)
            });
            let content = opened.await.unwrap_or(OpenedContent::Fault);
            let _ = actor.send(Command::Opened { envelope, content: Box::new(content) }).await;
        });
    }

    pub(super) async fn handle_opened(&mut self, envelope: EnvelopeId, content: OpenedContent) {
        let Some(receiving) = self.receiving.get_mut(&envelope) else { return };
        let input = match content {
            OpenedContent::Readable(open, readable) => {
                receiving.content = Some(*readable);
                Input::Opened(Ok(open))
            }
            OpenedContent::Refused(refusal) => Input::Opened(Err(refusal)),
            OpenedContent::Fault => return self.close_session("a fault of this node").await,
        };
        self.input_receiving(envelope, input).await;
    }

    /// Commits what was opened, or the statement that it cannot be; gives the receipt's bytes.
    async fn commit(
        &mut self,
        envelope: EnvelopeId,
        open: &OpenEnvelope,
        verdict: Verdict,
    ) -> Result<Vec<u8>, MailError> {
        let agreement = self.agreement().ok_or(MailError::Missing)?;
        let receiving = self.receiving.get_mut(&envelope).ok_or(MailError::Missing)?;
        let (at, offered_at) = (ambient::now(), receiving.offered_at);
        let content = receiving.content.take().filter(|_| matches!(verdict, Verdict::Held(_)));
        let verdict =
            if content.is_none() && matches!(verdict, Verdict::Held(_)) { Verdict::Unopenable } else { verdict };
        let chunks = usize::try_from(open.core.counts.chunks).unwrap_or(usize::MAX);
        let segments = receiving.machine.objects().iter().skip(chunks).map(|entry| entry.id).collect();
        let answer = self.first_receipt(&agreement, open, verdict, (offered_at, at));
        let group = self.context.book.group_by_id(&open.core.group).map(|group| group.name).unwrap_or_default();
        let (key, head) = match content {
            Some(Readable { head, key }) => (key, Some(head)),
            None => (Zeroizing::default(), None),
        };
        let message = head.map(|head| InMessage {
            envelope,
            message: open.core.message,
            agreement: self.id,
            from: self.entity,
            from_name: agreement.counterpart().name.clone(),
            from_group: head.from_group,
            group: open.core.group,
            group_name: group,
            subject: head.subject,
            text: head.text,
            purpose: head.purpose,
            words: Vec::new(),
            priority: open.core.priority,
            received_at: at,
            keep_until: agreement.terms.retention_seconds.map(|seconds| now() + Duration::from_secs(seconds)),
            counts: open.core.counts,
            key: None,
            stage: Stage::Checking,
        });
        let note =
            ArrivalNote { message: open.core.message, agreement: self.id, number: open.core.number, core: open.hash };
        let scan = agreement.terms.controls.iter().any(|control| control == Control::MalwareScan.as_str());
        let arrival = Arrival { message, scan, key, segments, note, answer };
        self.context.mailroom.commit(self.entity, envelope, arrival).await
    }

    /// What signs the first statement about an envelope, once the log's head with it is known.
    pub(super) fn first_receipt(
        &self,
        agreement: &Agreement,
        open: &OpenEnvelope,
        verdict: Verdict,
        (offered_at, at): (Time, Time),
    ) -> Answer {
        let own = self.context.entity.current();
        let receipt = Receipt {
            verdict,
            core: open.hash,
            message: open.core.message,
            envelope: open.core.envelope,
            sender: open.core.sender,
            recipient: open.core.recipient,
            agreement: self.id,
            agreement_hash: agreement.record.hash(),
            counts: open.core.counts,
            offered_at,
            at,
            log_head: None,
            chain: own.chain().clone(),
        };
        Box::new(move |head: BlindedHead| {
            receipt_bytes(&Receipt { log_head: Some(head.0), ..receipt }.sign(own.statement()))
        })
    }

    /// Tells the senders of what is under way that nothing is let in for now.
    pub(super) async fn halt_receiving(&mut self, footing: Footing) {
        let Err(reason) = footing.check() else { return };
        let under_way: Vec<EnvelopeId> = self.receiving.keys().copied().collect();
        for envelope in under_way {
            self.input_receiving(envelope, Input::Halted(reason)).await;
        }
    }

    /// Drops what is under way of an envelope that will never be committed.
    pub(super) async fn break_off_receiving(&mut self, envelope: EnvelopeId) {
        if let Some(receiving) = self.receiving.remove(&envelope) {
            self.release_promise(receiving.promised);
            self.forget_pulls(envelope).await;
        }
    }

    /// Drops what was received in part of envelopes whose sender has given them up without being able to say so, or whose
    /// agreement has ended: nobody will ever ask for it.
    pub(super) async fn forget_stale(&mut self) {
        self.timers.set(Timer::Stale, now() + STALE_EVERY);
        if !self.agreement().is_some_and(|agreement| agreement.in_force(now())) {
            self.context.book.forget_deposits(&self.id).await;
        }
        // Offers are kept by counterpart: its newest agreement decides.
        let newest = self.context.book.by_entity(&self.entity);
        let Some(agreement) = newest.filter(|newest| newest.id == self.id) else { return };
        if agreement.view().forgets_owed(now()) {
            self.forget_owed().await;
        }
        let rows = match self.context.mailroom.all_incoming(&self.entity) {
            Ok(rows) => rows,
            Err(error) => return tracing::error!(agreement = %self.id, %error, "accepted offers could not be read"),
        };
        for row in rows {
            let envelope = row.offer.envelope;
            let hold = Duration::from_secs(row.offer.seconds_left.into());
            let is_over = ambient::now() >= row.offered_at + hold + STALE_AFTER_HOLD;
            let is_stale = is_over || agreement.standing == Standing::Ended;
            if is_stale && !self.receiving.contains_key(&envelope) {
                tracing::info!(%envelope, peer = %self.entity, "an envelope that nobody continues was dropped");
                self.drop_incoming(envelope).await;
            }
        }
    }

    /// The session is over: what was under way will be offered again.
    pub(super) fn forget_receiving(&mut self) {
        self.pulling = Pulling::default();
        let promised: u64 = self.receiving.drain().map(|(_, receiving)| receiving.promised).sum();
        self.release_promise(promised);
    }
}

fn is_full(error: &MailError) -> bool {
    use crate::blob::BlobError;
    matches!(error, MailError::Store(StoreError::Full) | MailError::Blobs(BlobError::Full))
}

/// The sender is told no more than that; this node's operator reads why.
fn unopenable(open: Box<OpenEnvelope>, why: impl std::fmt::Display) -> OpenedContent {
    tracing::warn!(envelope = %open.core.envelope, peer = %open.core.sender, %why, "what arrived cannot be opened");
    OpenedContent::Refused(OpenRefusal::Unopenable(open))
}

/// Reads the manifest and compares its table with what was received: tier 1 says no less.
fn read(
    context: &super::Context,
    open: Box<OpenEnvelope>,
    key: Zeroizing<[u8; 32]>,
    offer: &Offer,
    objects: &[ObjectEntry],
    agreement: &Agreement,
) -> OpenedContent {
    let origin = agreement.node.entity;
    let counts = open.core.counts;
    let bounds = Bounds { entries_max: u64::MAX, bytes_max: offer.plain_bytes, chunks_max: counts.chunks };
    let first = usize::try_from(counts.chunks).unwrap_or(usize::MAX);
    let segments: Vec<ObjectId> = objects.iter().skip(first).map(|entry| entry.id).collect();
    let manifest_key = ManifestKey::from_bytes(*key);
    let manifest = match read_manifest(&context.mailroom.blobs, origin, &segments, manifest_key, bounds) {
        Ok(manifest) => manifest,
        Err(ReadManifestError::Unopenable(why)) => return unopenable(open, why),
        Err(ReadManifestError::Local(error)) => {
            tracing::error!(%error, "a manifest could not be read from disk");
            return OpenedContent::Fault;
        }
    };
    let totals = manifest.totals;
    let counted = totals.files == counts.files
        && totals.bytes == counts.plain_bytes
        && totals.chunks == counts.chunks
        && totals.segments == counts.segments;
    if !counted {
        return unopenable(open, "its manifest does not add up to what the envelope counts");
    }
    if !check_table(&manifest, objects, &open.core.root_hash) {
        return unopenable(open, "its manifest names other objects than were announced");
    }
    if !is_for_agreed_purpose(&agreement.terms.purposes, manifest.head.purpose.as_ref()) {
        tracing::warn!(envelope = %open.core.envelope, peer = %open.core.sender, "its purpose is none that was agreed");
        return OpenedContent::Refused(OpenRefusal::PurposeNotAgreed(open));
    }
    OpenedContent::Readable(open, Box::new(Readable { head: manifest.head, key }))
}
