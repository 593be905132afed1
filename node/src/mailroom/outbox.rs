//! Messages that were submitted here, until every envelope of them has ended.

use std::ops::ControlFlow;
use std::sync::Arc;

use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::content::manifest::ManifestKey;
use pakt_protocol::delivery::{Reason, Record, State};
use pakt_protocol::ids::{EnvelopeId, MessageId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::receipt::{Receipt, Verdict};
use pakt_protocol::record::roster::GroupId;
use zeroize::Zeroizing;

use super::page::Page;
use super::rows::{HeldReceipt, InItem, OutEnvelope, OutMessage, Report};
use super::{MailError, Mailroom, open, outgoing_owner};
use crate::ambient;
use crate::audit;
use crate::blob::Blobs;
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
                    tx.put(&OUT_ENVELOPES, &envelope.id, envelope)?;
                    open::add(tx, envelope)?;
                    tx.remove(&EARLY, &(envelope.agreement, envelope.id))?;
                    audit::append(tx, event(envelope, MessageStep::Sent))?;
                }
                tx.put(&OUT_MESSAGES, &message.id, &message)
            })
            .await;
        if let Err(error) = stored {
            self.erase_unless_kept(slot, &error).await;
            return Err(error.into());
        }
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

    /// Keeps where an envelope stands; one that ended leaves the queue, and tells its group if it was not delivered.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn keep(
        &self,
        id: EnvelopeId,
        record: Record,
        receipt: Option<(Vec<u8>, Receipt)>,
        report: Option<Reason>,
        (wire_bytes, durable_bytes): (u64, u64),
    ) -> Result<(), MailError> {
        let blobs = self.blobs.clone();
        let ended = self
            .store
            .write(move |tx| {
                let Some(mut row) = tx.get(&OUT_ENVELOPES, &id)? else { return Ok(None) };
                row.wire_bytes = row.wire_bytes.max(wire_bytes);
                row.durable_bytes = row.durable_bytes.max(durable_bytes);
                row.delivery = record;
                if let Some((bytes, receipt)) = receipt {
                    add_receipt(&mut row, bytes, &receipt);
                }
                if let Some(reason) = report {
                    add_report(tx, &row, reason)?;
                }
                let is_final = row.delivery.state.is_final();
                if is_final {
                    open::remove(tx, &row)?;
                    audit::append(tx, event(&row, final_step(row.delivery.state)))?;
                }
                tx.put(&OUT_ENVELOPES, &id, &row)?;
                if is_final { end_message(tx, &blobs, &row.message) } else { Ok::<_, StoreError>(None) }
            })
            .await?;
        if let Some(slot) = ended {
            self.erase(slot).await;
        }
        self.changed();
        Ok(())
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

/// What the log notes about an envelope.
fn event(row: &OutEnvelope, step: MessageStep) -> Event {
    let &OutEnvelope { id: envelope, message, agreement, entity, .. } = row;
    Event::Message { envelope, message, agreement, entity, step }
}

fn final_step(state: State) -> MessageStep {
    match state {
        State::Delivered => MessageStep::Delivered,
        State::Expired => MessageStep::Expired,
        _ => MessageStep::Refused,
    }
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
            row.delivery.shift(passed);
            tx.put(&OUT_ENVELOPES, &id, &row)?;
        }
    }
    Ok(())
}

fn add_receipt(row: &mut OutEnvelope, bytes: Vec<u8>, receipt: &Receipt) {
    let tier = match receipt.verdict {
        Verdict::Held(tier) => tier.number(),
        Verdict::Unopenable | Verdict::Conflict | Verdict::PurposeNotAgreed => 0,
    };
    if row.receipts.iter().all(|held| held.tier != tier) {
        row.receipts.push(HeldReceipt { tier, at: receipt.at, bytes });
        row.receipts.sort_by_key(|held| held.tier);
    }
}

/// If every envelope of the message has ended: frees its objects, takes its key off its row and gives the key's slot.
fn end_message(tx: &mut WriteTx, blobs: &Blobs, id: &MessageId) -> Result<Option<SlotId>, StoreError> {
    let Some(mut message) = tx.get(&OUT_MESSAGES, id)? else { return Ok(None) };
    for envelope in &message.envelopes {
        let open = tx.get(&OUT_ENVELOPES, envelope)?.is_some_and(|row| !row.delivery.state.is_final());
        if open {
            return Ok(None);
        }
    }
    for page in tx.prefix_keys(&OUT_OBJECTS, id, usize::MAX)? {
        tx.remove(&OUT_OBJECTS, &page)?;
    }
    blobs.unpin(tx, outgoing_owner(id))?;
    let slot = message.key.take();
    tx.put(&OUT_MESSAGES, id, &message)?;
    Ok(slot)
}

/// Puts a report into the sending group's inbox.
fn add_report(tx: &mut WriteTx, row: &OutEnvelope, reason: Reason) -> Result<(), StoreError> {
    let Some(message) = tx.get(&OUT_MESSAGES, &row.message)? else { return Ok(()) };
    let (subject, text) = words(&message, row, reason);
    let report = Report {
        id: ambient::random(),
        group: message.from_group,
        group_name: message.from_name,
        envelope: row.id,
        subject,
        text,
        at: ambient::now(),
    };
    super::inbox::add_item(tx, &InItem::Report(report))
}

fn words(message: &OutMessage, row: &OutEnvelope, reason: Reason) -> (String, String) {
    let (what, advice) = match (row.delivery.state, reason) {
        (State::Queued | State::Offered | State::Transferring, Reason::NotConfirmed) => (
            "Not confirmed, may have been delivered",
            "The message had left before its hold time ended, but no receipt has come. Ask the recipient by another way \
             before you send it again. The node keeps asking.",
        ),
        (State::Queued | State::Offered | State::Transferring, _) => (
            "Delayed",
            "The message is still waiting. The node keeps trying until the hold time ends. If it is urgent, use another way now.",
        ),
        _ => (
            "Not delivered",
            "The recipient has not got this message. Send it again once the reason is gone, or use another way.",
        ),
    };
    let subject = format!("{what}: {}", message.subject);
    let text = format!(
        "{what}.\n\nTo: {}/{}\nSubject: {}\nReason: {}\nEnvelope: {}\n\n{advice}\n",
        row.entity_name,
        row.group_name,
        message.subject,
        reason_text(reason),
        row.id
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
        Reason::Refused(Refusal::HoldTooLong) => "it would be held longer than the agreement allows",
    }
}
