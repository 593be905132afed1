//! What this side states about what arrived, after the first receipt; and what it makes of such statements about what it
//! sent.
//!
//! ```text
//! here:   commit --Checking--> Released --> Taken        each with its receipt, kept in SETTLED and owed in OWED,
//!                    \--> Quarantined --> Released        in the commit of the change ([`advance`], [`owe_receipt`])
//! there:  receipt --verified--> settle: state, receipt, report, log entry in one commit --> "held" --> OWED forgets it
//! ```
//!
//! **Invariant:** a receipt is signed in the very commit that it speaks of, once: whenever it is told, the bytes are the
//! same.
//! **Invariant:** what is owed stays owed until the sender says that it holds it.

use std::collections::HashSet;

use pakt_keys::EntityId;
use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::codec;
use pakt_protocol::delivery::{self, Delivery, Input, State};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::machine::Output;
use pakt_protocol::owed::{self, Place};
use pakt_protocol::record::envelope::EnvelopeCore;
use pakt_protocol::record::receipt::{RECEIPT_FILE_BYTES_MAX, Receipt, SignedReceipt, Tier, Verdict, receipt_bytes};
use pakt_protocol::settling::{Late, Sent};

use super::outbox::{self, Step};
use super::rows::{InItem, InMessage, SettledRow, Stage, Stated};
use super::{MailError, Mailroom, journal};
use crate::ambient;
use crate::audit;
use crate::entity::Identity;
use crate::store::tables::{IN_PLACES, INBOX, OUT_ENVELOPES, OWED, SETTLED};
use crate::store::{Rows, StoreError, WriteTx};

/// Receipts that are forgotten at once; the rest goes with the next look.
const FORGOTTEN_MAX: usize = 4096;

/// An envelope that arrived, by the entity that it came from.
pub type Arrived = (EntityId, EnvelopeId);

/// Moves a message on and states so, in the commit of whatever else that takes; gives it as it is then. None if it is not
/// there, or not where this step begins.
///
/// # Errors
/// When the store fails.
pub fn advance(
    tx: &mut WriteTx,
    own: &Identity,
    arrived: Arrived,
    stage: Stage,
) -> Result<Option<InMessage>, StoreError> {
    let Some((sequence, mut message)) = find(tx, &arrived)? else { return Ok(None) };
    let verdict = match (message.stage, stage) {
        (Stage::Checking | Stage::Quarantined, Stage::Released) => Verdict::Held(Tier::Released),
        (Stage::Released, Stage::Taken) => Verdict::Held(Tier::Taken),
        (Stage::Checking, Stage::Quarantined) => Verdict::Quarantined,
        _ => return Ok(None),
    };
    message.stage = stage;
    tx.put(&INBOX, &sequence, &InItem::Message(message.clone()))?;
    owe_receipt(tx, own, arrived, verdict)?;
    Ok(Some(message))
}

/// Signs a further statement about an envelope that was settled, keeps it and owes it to the sender, in the commit of
/// the change that it speaks of; gives the receipt. What was stated before is not signed again.
///
/// # Errors
/// [`StoreError::Damaged`] if nothing was settled or the first receipt cannot be read, and when the store fails.
pub fn owe_receipt(
    tx: &mut WriteTx,
    own: &Identity,
    arrived: Arrived,
    verdict: Verdict,
) -> Result<Vec<u8>, StoreError> {
    let damaged = || StoreError::Damaged(SETTLED.name());
    let mut row: SettledRow = tx.get(&SETTLED, &arrived)?.ok_or_else(damaged)?;
    if let Some(stated) = row.later.iter().find(|stated| stated.verdict == verdict) {
        return Ok(stated.receipt.clone());
    }
    let first: SignedReceipt = codec::decode(1, &row.receipt, RECEIPT_FILE_BYTES_MAX).map_err(|_| damaged())?;
    let first: Receipt = first.peek().map_err(|_| damaged())?;
    let (entity, envelope) = arrived;
    let (message, agreement, core) = (first.message, first.agreement, first.core);
    let head = audit::append_blinded(tx, |blinder| {
        let step = MessageStep::Stated { verdict, core, blinder };
        Event::Message { envelope, message, agreement, entity, step }
    })?;
    journal::stated(tx, arrived, verdict)?;
    let log_head = Some(head.0);
    let receipt = Receipt { verdict, at: ambient::now(), log_head, chain: own.chain().clone(), ..first };
    let receipt = receipt_bytes(&receipt.sign(own.statement()));
    row.later.push(Stated { verdict, receipt: receipt.clone() });
    tx.put(&SETTLED, &arrived, &row)?;
    tx.put(&OWED, &(entity, envelope, verdict.place()), &receipt)?;
    Ok(receipt)
}

/// A message that arrived, and its place in the inbox, while it is there; by its sender too, because ids are picked by
/// senders.
///
/// # Errors
/// When the store fails.
pub fn find(tx: &impl Rows, key: &Arrived) -> Result<Option<(u64, InMessage)>, StoreError> {
    let Some(sequence) = tx.get(&IN_PLACES, key)? else { return Ok(None) };
    Ok(match tx.get(&INBOX, &sequence)? {
        Some(InItem::Message(message)) => Some((sequence, message)),
        _ => None,
    })
}

impl Mailroom {
    /// Receipts that this counterpart has not confirmed, at most `limit`; those of `but` are left out.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn owed(
        &self,
        from: &EntityId,
        but: &HashSet<Place>,
        limit: usize,
    ) -> Result<Vec<(Place, Vec<u8>)>, MailError> {
        Ok(self.store.read(|tx| {
            let keys = tx.prefix_keys(&OWED, from, limit.saturating_add(but.len()))?;
            let places = keys.into_iter().map(|(_, envelope, place)| (envelope, place));
            let mut owed = Vec::new();
            for place in places.filter(|place| !but.contains(place)).take(limit) {
                let receipt = tx.get(&OWED, &(*from, place.0, place.1))?;
                owed.extend(receipt.map(|receipt| (place, receipt)));
            }
            Ok::<_, StoreError>(owed)
        })?)
    }

    /// Owes everything again that was stated about an envelope: its sender does not know of it any more.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn owe_again(&self, arrived: Arrived) -> Result<(), MailError> {
        let (from, envelope) = arrived;
        let owed = self.store.write(move |tx| {
            let Some(row) = tx.get(&SETTLED, &arrived)? else { return Ok(()) };
            for stated in row.later {
                tx.put(&OWED, &(from, envelope, stated.verdict.place()), &stated.receipt)?;
            }
            Ok::<_, StoreError>(())
        });
        Ok(owed.await?)
    }

    /// Owes a counterpart nothing any more: the time in which it could be told is over.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn forget_owed(&self, from: EntityId) -> Result<(), MailError> {
        let forgotten = self.store.write(move |tx| {
            for key in tx.prefix_keys(&OWED, &from, FORGOTTEN_MAX)? {
                tx.remove(&OWED, &key)?;
            }
            Ok::<_, StoreError>(())
        });
        Ok(forgotten.await?)
    }

    /// The sender holds these receipts: they are owed no more, nor are those of lower tiers.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn receipts_held(&self, from: EntityId, held: Vec<(EnvelopeId, Verdict)>) -> Result<(), MailError> {
        let forgotten = self.store.write(move |tx| {
            for (envelope, verdict) in held {
                for place in owed::covered(verdict) {
                    tx.remove(&OWED, &(from, envelope, place))?;
                }
            }
            Ok::<_, StoreError>(())
        });
        Ok(forgotten.await?)
    }

    /// Takes a verified receipt about something that was sent and is not under way: what follows from it and the receipt
    /// are one commit.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn settle(&self, from: EntityId, bytes: Vec<u8>, receipt: Receipt) -> Result<Late, MailError> {
        let blobs = self.blobs.clone();
        let (settled, slot) = self
            .store
            .write(move |tx| {
                let row = tx.get(&OUT_ENVELOPES, &receipt.envelope)?;
                let sent = row.as_ref().map(|row| Sent {
                    recipient: row.entity,
                    core: EnvelopeCore::hash_of(&row.core),
                    is_held: row.receipts.iter().any(|held| held.bytes == bytes),
                });
                let late = Late::judge(&receipt, from, sent);
                let Some(row) = row.filter(|_| late == Late::Keep) else { return Ok((late, None)) };
                let (record, steps) = after(row.delivery.clone(), Input::Receipt(receipt.verdict));
                let kept = outbox::keep_in(tx, &blobs, row, record, (Some((bytes, receipt)), &steps))?;
                Ok::<_, StoreError>((late, kept.slot))
            })
            .await?;
        if let Some(slot) = slot {
            self.erase(slot).await;
        }
        self.changed();
        Ok(settled)
    }
}

/// What one input makes of a delivery that no machine is at work on, and what its group is told.
pub fn after(record: delivery::Record, input: Input) -> (delivery::Record, Vec<Step>) {
    let now = ambient::service_now();
    let mut machine = Delivery::new(record, now);
    machine.handle_input(input, now);
    let mut steps = Vec::new();
    while let Some(output) = machine.poll_output() {
        if let Output::Event(event) = output {
            steps.extend(Step::of(event));
        }
    }
    (machine.record().clone(), steps)
}

/// What the log notes when an envelope has come to this state.
pub(super) fn step_of(state: State) -> Option<MessageStep> {
    match state {
        State::Queued | State::Offered | State::Transferring => None,
        State::Delivered => Some(MessageStep::Delivered),
        State::Released => Some(MessageStep::Released),
        State::Taken => Some(MessageStep::Taken),
        State::Refused => Some(MessageStep::Refused),
        State::Expired => Some(MessageStep::Expired),
        State::Recalled => Some(MessageStep::Recalled),
    }
}
