//! Messages that were submitted here, until every envelope of them has ended.

use std::ops::ControlFlow;
use std::sync::Arc;

use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::codec;
use pakt_protocol::content::manifest::ManifestKey;
use pakt_protocol::delivery::{self, Reason, Record, State};
use pakt_protocol::ids::{EnvelopeId, MessageId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::envelope::{CORE_BYTES_MAX, EnvelopeCore};
use pakt_protocol::record::receipt::{Receipt, Verdict};
use pakt_protocol::record::roster::GroupId;
use zeroize::Zeroizing;

use super::page::Page;
use super::rows::{Earlier, HeldReceipt, InItem, OutEnvelope, OutMessage, Report};
use super::{MailError, Mailroom, open, outgoing_owner, recall, receipts};
use crate::ambient;
use crate::audit;
use crate::blob::Blobs;
use crate::metrics::counted;
use crate::metrics::counted::Counted;
use crate::reconcile::numbers;
use crate::slots::SlotId;
use crate::store::tables::{EARLY, OPEN_ENVELOPES, OUT_ENVELOPES, OUT_GROUPS, OUT_MESSAGES, OUT_OBJECTS, OUT_ORDER};
use crate::store::{StoreError, WriteTx};

/// Object entries in one row of the store.
const PAGE_ENTRIES: usize = 4096;

impl Mailroom {
    /// Makes a sealed message durable; its objects are pinned already, its key is not in a slot yet.
    ///
    /// # Errors
    /// [`MailError`]; nothing of the message is then kept but its objects, which the caller releases.
    pub async fn submit(
        &self,
        mut message: OutMessage,
        mut envelopes: Vec<OutEnvelope>,
        key: &ManifestKey,
        objects: Vec<ObjectEntry>,
    ) -> Result<(), MailError> {
        let slots = self.slots.clone();
        let bytes = Zeroizing::new(*key.as_bytes());
        let slot =
            tokio::task::spawn_blocking(move || slots.put(&*bytes)).await.map_err(|_| StoreError::Panicked)??;
        message.key = Some(slot);
        let stored: Result<(), StoreError> = self
            .store
            .write(move |tx| {
                message.sequence = tx.next_sequence("outbox")?;
                tx.put(&OUT_ORDER, &message.sequence, &message.id)?;
                tx.put(&OUT_GROUPS, &(message.from_group.0, message.sequence), &message.id)?;
                Blobs::settle(tx, outgoing_owner(&message.id))?;
                for (page, entries) in (0u64..).zip(objects.chunks(PAGE_ENTRIES)) {
                    tx.put(&OUT_OBJECTS, &(message.id, page), &entries.to_vec())?;
                }
                for envelope in &mut envelopes {
                    envelope.sequence = tx.next_sequence("envelopes")?;
                    number(tx, envelope)?;
                    tx.put(&OUT_ENVELOPES, &envelope.id, envelope)?;
                    open::add(tx, envelope)?;
                    tx.remove(&EARLY, &(envelope.agreement, envelope.id))?;
                    audit::append(tx, event(envelope, MessageStep::Sent))?;
                }
                for earlier in &message.earlier {
                    audit::append(tx, followed(earlier, message.id))?;
                }
                tx.put(&OUT_MESSAGES, &message.id, &message)
            })
            .await;
        if let Err(error) = stored {
            self.erase_unless_kept(slot, &error).await;
            return Err(error.into());
        }
        counted().submitted.inc();
        self.changed();
        Ok(())
    }

    /// One envelope.
    ///
    /// # Errors
    /// [`MailError::Missing`] or [`MailError::Store`].
    pub fn envelope(&self, id: &EnvelopeId) -> Result<OutEnvelope, MailError> {
        self.store.read(|tx| tx.get(&OUT_ENVELOPES, id))?.ok_or(MailError::Missing)
    }

    /// One message.
    ///
    /// # Errors
    /// [`MailError::Missing`] or [`MailError::Store`].
    pub fn message(&self, id: &MessageId) -> Result<OutMessage, MailError> {
        self.store.read(|tx| tx.get(&OUT_MESSAGES, id))?.ok_or(MailError::Missing)
    }

    /// The newest messages first, of one sending group or of all, as many as the page asks for; `show` makes of each and
    /// its envelopes what is kept of it.
    ///
    /// # Errors
    /// [`MailError::Missing`] where the page begins at a message that is not there, [`MailError::Store`].
    pub fn outbox_page<T>(
        &self,
        group: Option<&GroupId>,
        page: &Page,
        mut show: impl FnMut(&OutMessage, &[OutEnvelope]) -> T,
    ) -> Result<Vec<T>, MailError> {
        let before = page.before.map_or(Ok(u64::MAX), |id| self.place_of(id))?;
        let mut shown = Vec::new();
        self.store.read(|tx| {
            let mut visit = |id: MessageId| {
                let Some(message) = tx.get(&OUT_MESSAGES, &id)? else { return Ok(ControlFlow::Continue(())) };
                let rows = message.envelopes.iter().map(|id| tx.get(&OUT_ENVELOPES, id));
                let envelopes: Vec<_> = rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
                Ok(page.take(&mut shown, show(&message, &envelopes)))
            };
            match group {
                None => tx.scan_backwards(&OUT_ORDER, ..before, |_, id| visit(id)),
                Some(GroupId(group)) => {
                    tx.scan_backwards(&OUT_GROUPS, (*group, 0)..(*group, before), |_, id| visit(id))
                }
            }
        })?;
        Ok(shown)
    }

    /// The place in the order of submission of a message, by its id or that of an envelope of it.
    fn place_of(&self, id: [u8; 16]) -> Result<u64, MailError> {
        let found = self.store.read(|tx| {
            let message =
                tx.get(&OUT_ENVELOPES, &EnvelopeId(id))?.map_or(MessageId(id), |row: OutEnvelope| row.message);
            tx.get(&OUT_MESSAGES, &message)
        })?;
        Ok(found.ok_or(MailError::Missing)?.sequence)
    }

    /// Ids of messages submitted here that lie in `span`, two at most.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn messages_named(&self, span: (MessageId, MessageId)) -> Result<Vec<MessageId>, MailError> {
        let found = self.store.read(|tx| tx.range(&OUT_MESSAGES, span.0..=span.1, 2))?;
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }

    /// Every object of a message: content first, then segments.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn objects(&self, message: &MessageId) -> Result<Arc<Vec<ObjectEntry>>, MailError> {
        let pages = self.store.read(|tx| tx.prefix(&OUT_OBJECTS, message, usize::MAX))?;
        Ok(Arc::new(pages.into_iter().flat_map(|((_, _), entries): (_, Vec<ObjectEntry>)| entries).collect()))
    }

    /// The manifest key of a message that has not ended.
    ///
    /// # Errors
    /// [`MailError::Missing`] once it has ended.
    pub fn manifest_key(&self, message: &MessageId) -> Result<Zeroizing<[u8; 32]>, MailError> {
        let slot = self.message(message)?.key.ok_or(MailError::Missing)?;
        let bytes = self.slots.get(slot)?.ok_or(MailError::Missing)?;
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| MailError::Missing)?;
        Ok(Zeroizing::new(key))
    }

    /// Keeps where an envelope stands; one that is open no more leaves the queue, and its group is told what the steps
    /// say. False if it had left the queue before: then that stays.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn keep(
        &self,
        id: EnvelopeId,
        record: Record,
        receipt: Option<(Vec<u8>, Receipt)>,
        steps: Vec<Step>,
        (wire_bytes, durable_bytes): (u64, u64),
    ) -> Result<bool, MailError> {
        let blobs = self.blobs.clone();
        let kept = self
            .store
            .write(move |tx| {
                let Some(mut row) = tx.get(&OUT_ENVELOPES, &id)? else { return Ok(None) };
                if !row.delivery.state.is_open() {
                    return Ok(None);
                }
                row.wire_bytes = row.wire_bytes.max(wire_bytes);
                row.durable_bytes = row.durable_bytes.max(durable_bytes);
                Ok::<_, StoreError>(Some(keep_in(tx, &blobs, row, record, (receipt, &steps))?))
            })
            .await?;
        let Some(kept) = kept else { return Ok(false) };
        if let Some(slot) = kept.slot {
            self.erase(slot).await;
        }
        self.changed();
        Ok(true)
    }

    /// Erases the slot of a row whose commit failed, if the row is certainly not there: after an error of the disk it may
    /// be, and must not lose its key. What is left over then is found at the next start.
    pub(crate) async fn erase_unless_kept(&self, slot: SlotId, error: &StoreError) {
        if matches!(error, StoreError::Full | StoreError::TooLarge { .. } | StoreError::Closed) {
            self.erase(slot).await;
        }
    }

    /// Erases a key slot; one that cannot be erased is a matter for the log, the row is gone.
    pub(crate) async fn erase(&self, slot: SlotId) {
        let slots = self.slots.clone();
        let erased = tokio::task::spawn_blocking(move || slots.erase(&[slot])).await;
        if !matches!(erased, Ok(Ok(()))) {
            tracing::error!("a key slot could not be erased");
        }
    }

    /// Erases every slot that no row names: what a crash left between a slot and its row. Only before the node takes up
    /// work; while it works see [`Mailroom::erase_unneeded`].
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn erase_orphans(&self, also_needed: Vec<SlotId>) -> Result<(), MailError> {
        self.erase_unneeded(self.slots.list()?, also_needed).await
    }

    /// Erases those of `suspects` that no row names. They were listed before the node took up work: a slot that was filled
    /// since is not among them, and one that lost its row meanwhile may be erased twice.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn erase_unneeded(&self, suspects: Vec<SlotId>, also_needed: Vec<SlotId>) -> Result<(), MailError> {
        let mailroom = self.clone();
        let found = tokio::task::spawn_blocking(move || mailroom.unneeded(suspects, also_needed)).await;
        for slot in found.map_err(|_| StoreError::Panicked)?? {
            self.erase(slot).await;
        }
        Ok(())
    }

    fn unneeded(&self, mut suspects: Vec<SlotId>, also_needed: Vec<SlotId>) -> Result<Vec<SlotId>, MailError> {
        suspects.sort_unstable();
        let mut needed = vec![false; suspects.len()];
        let mut need = |slot: SlotId| {
            if let Ok(at) = suspects.binary_search(&slot) {
                needed[at] = true;
            }
        };
        also_needed.into_iter().for_each(&mut need);
        self.store.read(|tx| {
            tx.scan(&OUT_MESSAGES, .., |_, message: OutMessage| {
                message.key.into_iter().for_each(&mut need);
                Ok(ControlFlow::Continue(()))
            })?;
            tx.scan(&super::inbox::ITEMS, .., |_, item| {
                if let InItem::Message(message) = item {
                    message.key.into_iter().for_each(&mut need);
                }
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok(suspects.into_iter().zip(needed).filter(|(_, needed)| !needed).map(|(slot, _)| slot).collect())
    }
}

/// Gives an envelope its number, and puts that into its core.
fn number(tx: &mut WriteTx, envelope: &mut OutEnvelope) -> Result<(), StoreError> {
    envelope.number = numbers::give(tx, envelope.agreement, envelope.id)?;
    let core: Result<EnvelopeCore, _> = codec::decode(1, &envelope.core, CORE_BYTES_MAX);
    let core = core.map_err(|_| StoreError::Damaged(OUT_ENVELOPES.name()))?;
    envelope.core = EnvelopeCore { number: envelope.number, ..core }.to_bytes();
    Ok(())
}

/// What the log notes about an envelope.
fn event(row: &OutEnvelope, step: MessageStep) -> Event {
    let &OutEnvelope { id: envelope, message, agreement, entity, .. } = row;
    Event::Message { envelope, message, agreement, entity, step }
}

/// What the log notes about an earlier message that another one passes on or corrects.
fn followed(earlier: &Earlier, by: MessageId) -> Event {
    let &Earlier { is_received, envelope, message, agreement, entity } = earlier;
    let step = if is_received { MessageStep::Forwarded { by } } else { MessageStep::Corrected { by } };
    Event::Message { envelope, message, agreement, entity, step }
}

/// What the sending group is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// That it is late, that it ended, or that this is not known.
    Report(Reason),
    /// That what was reported has turned out well.
    Resolved,
}

impl Step {
    /// What the group is told of an event of the machine, if anything.
    pub fn of(event: delivery::Event) -> Option<Step> {
        match event {
            delivery::Event::Warn(reason) | delivery::Event::Report(reason) => Some(Step::Report(reason)),
            delivery::Event::Resolved => Some(Step::Resolved),
            delivery::Event::Attempt
            | delivery::Event::Withdraw
            | delivery::Event::Ask
            | delivery::Event::AskRecall => None,
        }
    }
}

/// What [`keep_in`] leaves to be done after the commit.
pub(super) struct KeptIn {
    /// The slot of the message's key, which nobody needs any more.
    pub(super) slot: Option<SlotId>,
}

/// Keeps where an envelope stands, with the receipt that says so, what the group is told, and the log's entry.
pub(super) fn keep_in(
    tx: &mut WriteTx,
    blobs: &Blobs,
    mut row: OutEnvelope,
    record: Record,
    (receipt, steps): (Option<(Vec<u8>, Receipt)>, &[Step]),
) -> Result<KeptIn, StoreError> {
    let earlier = std::mem::replace(&mut row.delivery, record);
    let (before, state) = (earlier.state, row.delivery.state);
    Counted::stepped(tx, before, &row.delivery);
    if row.delivery.recalling && !earlier.recalling {
        recall::note_asked(tx, &row)?;
    }
    if let Some((bytes, receipt)) = receipt {
        add_receipt(&mut row, bytes, &receipt);
    }
    for step in steps {
        add_report(tx, &row, *step)?;
    }
    let step = receipts::step_of(state).filter(|_| before != state);
    if let Some(step) = step {
        audit::append(tx, event(&row, step))?;
    }
    numbers::follow(tx, &row)?;
    tx.put(&OUT_ENVELOPES, &row.id, &row)?;
    if !before.is_open() || state.is_open() {
        return Ok(KeptIn { slot: None });
    }
    open::remove(tx, &row)?;
    Ok(KeptIn { slot: end_message(tx, blobs, &row.message)? })
}

/// Moves the deadlines of everything that is under way by a jump of the clock, in microseconds.
pub(crate) fn shift_deliveries(tx: &mut WriteTx, jump: i64) -> Result<(), StoreError> {
    for (_, id) in tx.prefix(&OPEN_ENVELOPES, &(), usize::MAX)? {
        if let Some(mut row) = tx.get(&OUT_ENVELOPES, &id)? {
            row.delivery.shift(jump);
            tx.put(&OUT_ENVELOPES, &id, &row)?;
        }
    }
    Ok(())
}

/// Prepares what waits in a restored store to be asked about: it may have been delivered since the backup was made, and
/// has the time left that it had then; `passed` is how long that is ago, in microseconds.
pub(crate) fn ask_again(tx: &mut WriteTx, passed: i64) -> Result<(), StoreError> {
    for (_, id) in tx.prefix(&OPEN_ENVELOPES, &(), usize::MAX)? {
        if let Some(mut row) = tx.get(&OUT_ENVELOPES, &id)? {
            row.delivery.left = true;
            // What was decided since is not known: it may have been recalled, and must not go out of its own accord.
            row.delivery.stopped.get_or_insert(Reason::RestoredSince);
            row.delivery.shift(passed);
            tx.put(&OUT_ENVELOPES, &id, &row)?;
        }
    }
    Ok(())
}

fn add_receipt(row: &mut OutEnvelope, bytes: Vec<u8>, receipt: &Receipt) {
    let tier = receipt.verdict.place();
    if row.receipts.iter().all(|held| held.tier != tier) {
        row.receipts.push(HeldReceipt { tier, at: receipt.at, bytes });
        row.receipts.sort_by_key(|held| held.tier);
    }
}

/// If no envelope of the message is open: frees its objects, takes its key off its row and gives the key's slot.
fn end_message(tx: &mut WriteTx, blobs: &Blobs, id: &MessageId) -> Result<Option<SlotId>, StoreError> {
    let Some(mut message) = tx.get(&OUT_MESSAGES, id)? else { return Ok(None) };
    for envelope in &message.envelopes {
        let open = tx.get(&OUT_ENVELOPES, envelope)?.is_some_and(|row| row.delivery.state.is_open());
        if open {
            return Ok(None);
        }
    }
    for page in tx.prefix_keys(&OUT_OBJECTS, id, usize::MAX)? {
        tx.remove(&OUT_OBJECTS, &page)?;
    }
    blobs.unpin(tx, outgoing_owner(id))?;
    let slot = message.key.take();
    for envelope in message.envelopes.iter().filter(|_| slot.is_some()) {
        if let Some(row) = tx.get(&OUT_ENVELOPES, envelope)? {
            audit::append(tx, event(&row, MessageStep::Erased))?;
        }
    }
    tx.put(&OUT_MESSAGES, id, &message)?;
    Ok(slot)
}

/// Puts a report into the sending group's inbox.
fn add_report(tx: &mut WriteTx, row: &OutEnvelope, step: Step) -> Result<(), StoreError> {
    let Some(message) = tx.get(&OUT_MESSAGES, &row.message)? else { return Ok(()) };
    let (subject, text) = words(&message, row, step);
    let report = Report {
        id: ambient::random(),
        group: message.from_group,
        group_name: message.from_name,
        envelope: row.id,
        subject,
        text,
        at: ambient::now(),
    };
    tx.on_commit(|| {
        counted().reports.inc();
    });
    super::inbox::add_item(tx, &InItem::Report(report)).map(drop)
}

/// Whether the receiver has signed that it purged the envelope; else it signed that it does not hold it.
fn is_purge_held(row: &OutEnvelope) -> bool {
    row.receipts.iter().any(|held| held.tier == Verdict::Recalled.place())
}

fn words(message: &OutMessage, row: &OutEnvelope, step: Step) -> (String, String) {
    let state = row.delivery.state;
    let (what, advice, reason) = match step {
        Step::Resolved if state == State::Recalled && !is_purge_held(row) => (
            "Recalled",
            "The recipient has signed that it does not hold the message and never will.",
            "it was taken back".to_owned(),
        ),
        Step::Resolved if state == State::Recalled => (
            "Recalled",
            "The recipient has purged the message before anybody there had taken it, and has signed that.",
            "it was taken back".to_owned(),
        ),
        Step::Resolved => (
            "Delivered after all",
            "What was reported about this message before is settled: the recipient has it, and has signed that.",
            format!("it is {} by now", state.as_str()),
        ),
        Step::Report(Reason::NotConfirmed) if state.is_open() => (
            "Not confirmed, may have been delivered",
            "The message had left, but no receipt has come. Ask the recipient by another way before you send it again. \
             The node keeps asking.",
            reason_text(Reason::NotConfirmed).to_owned(),
        ),
        Step::Report(reason) if state.is_open() => (
            "Delayed",
            "The message is still waiting. The node keeps trying until the hold time ends. If it is urgent, use another way now.",
            reason_text(reason).to_owned(),
        ),
        Step::Report(Reason::RecalledTooLate) => (
            "Recall came too late",
            "Somebody at the recipient had taken the message before it could be purged. Talk to the recipient.",
            reason_text(Reason::RecalledTooLate).to_owned(),
        ),
        Step::Report(Reason::RestoredSince) => (
            "Not delivered",
            "The recipient has signed that it does not hold the message and never will. Send it again if it is still wanted.",
            reason_text(Reason::RestoredSince).to_owned(),
        ),
        Step::Report(reason) => (
            "Not delivered",
            "The recipient has not got this message. Send it again once the reason is gone, or use another way.",
            reason_text(reason).to_owned(),
        ),
    };
    let subject = format!("{what}: {}", message.subject);
    let text = format!(
        "{what}.\n\nTo: {}/{}\nSubject: {}\nReason: {}\nEnvelope: {}\n\n{advice}\n",
        row.entity_name, row.group_name, message.subject, reason, row.id
    );
    (subject, text)
}

/// A reason in words for people.
pub fn reason_text(reason: Reason) -> &'static str {
    use pakt_protocol::message::offer::Refusal;
    match reason {
        Reason::Unreachable => "the recipient's node cannot be reached",
        Reason::ConnectionLost => "the connection was lost while it was under way",
        Reason::HoldTimeOver => "the hold time is over",
        Reason::NotConfirmed => "not confirmed within the hold time; it may have been delivered",
        Reason::AgreementEnded => "the agreement is no longer in force",
        Reason::GroupGone => "the recipient no longer shows this group",
        Reason::Unopenable => "the recipient received everything but cannot open it",
        Reason::Conflict => "the recipient holds another message under the same id",
        Reason::AgreementSuspended => "the agreement is suspended; it waits",
        Reason::AgreementNotBegun => "the agreement has not begun; it waits",
        Reason::AgreementExpired => "the agreement has run out",
        Reason::PurposeNotAgreed => "the recipient says that its purpose is none that the agreement names",
        Reason::ControlMissing => "the recipient does not attest the controls that the agreement asks for",
        Reason::RateReached => "as many messages as agreed have gone within the last hour",
        Reason::Quarantined => "the recipient's malware check found something in it; nobody there sees it",
        Reason::Returned => "the recipient says that it is not for them, and has purged it",
        Reason::RecalledTooLate => "it was taken before the recall arrived",
        Reason::RestoredSince => "this node was restored from a backup while it waited; it was not sent again",
        Reason::Fault => "a fault of this node; see its log",
        Reason::Refused(Refusal::NoAgreement) => "the recipient has no agreement in force with this entity",
        Reason::Refused(Refusal::UnknownGroup) => "the recipient has no such group",
        Reason::Refused(Refusal::TooLarge) => "the message is larger than the agreement allows",
        Reason::Refused(Refusal::NoSpace) => "the recipient has no space left",
        Reason::Refused(Refusal::RateExceeded) => "more messages than agreed per hour",
        Reason::Refused(Refusal::Busy) => "the recipient is busy",
        Reason::Refused(Refusal::Suspended) => "the recipient holds the agreement suspended",
        Reason::Refused(Refusal::NotBegun) => "the agreement has not begun at the recipient",
        Reason::Refused(Refusal::Expired) => "the agreement has run out at the recipient",
        Reason::Refused(Refusal::OtherVersion) => "another version of the agreement counts at the recipient",
        Reason::Refused(Refusal::OutsideOffer) => "the recipient says that the message is not what was offered",
        Reason::Refused(Refusal::Forged) => "the recipient does not believe this node's signature",
        Reason::Refused(Refusal::Unopenable) => "the recipient cannot open it",
        Reason::Refused(Refusal::Conflict) => "the recipient holds another message under the same id",
        Reason::Refused(Refusal::Purged) => {
            "the recipient had received and purged it before it was restored from a backup"
        }
        Reason::Refused(Refusal::HoldTooLong) => "it would be held longer than the agreement allows",
    }
}
