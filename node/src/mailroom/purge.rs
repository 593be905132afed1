//! Purging what arrived: crypto-erasure of one message, with or without a statement to its sender.
//!
//! ```text
//! begin: out of every list, its key's slot noted (PURGING) --> slot overwritten, durable --> finish: references dropped,
//! log, statement, duplicate mark stays --> ledger
//! ```
//! A crash in between is finished at the next start; nothing brings the message back. What stays of it: its ids, who
//! sent it, its receipts, and what was stated.
//!
//! **Invariant:** a receipt that says "purged" is signed after the key is overwritten, in the commit that drops the last
//! reference: that is the purge proof.
//! **Invariant:** one purge per envelope, whatever is asked for how often and by whom; its statement never changes.

use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::ids::{AgreementId, MessageId};
use pakt_protocol::record::receipt::Verdict;
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::receipts::{self, Arrived, find};
use super::rows::{InItem, InMessage, Report, Stage};
use super::{MailError, Mailroom, incoming_owner, journal, release, retention};
use crate::blob::Blobs;
use crate::entity::{Entity, Identity};
use crate::slots::SlotId;
use crate::store::tables::{
    HOLDS, IN_PLACES, IN_SEGMENTS, INBOX, INBOX_GROUPS, INBOX_IDS, PURGED, PURGING, RECALL_WISHES, RETENTION,
    UNLEDGERED,
};
use crate::store::{Rows, StoreError, WriteTx};
use crate::{ambient, audit};

/// Purges that were broken off and are finished at once.
const FINISH_MAX: usize = 1_024;

/// Why a message is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Somebody here deleted it.
    Deleted,
    /// Its time is over.
    RetentionOver,
    /// Its sender asked for it back.
    Recalled,
    /// It was not meant for this entity.
    NotForUs,
    /// It was purged before a backup was restored that still held it.
    Again,
}

impl Cause {
    /// The word in JSON and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Deleted => "deleted",
            Cause::RetentionOver => "retention_over",
            Cause::Recalled => "recalled",
            Cause::NotForUs => "not_for_us",
            Cause::Again => "purged_again",
        }
    }

    /// What its sender is told.
    fn verdict(self) -> Option<Verdict> {
        match self {
            Cause::Recalled => Some(Verdict::Recalled),
            Cause::NotForUs => Some(Verdict::Returned),
            Cause::Deleted | Cause::RetentionOver | Cause::Again => None,
        }
    }
}

/// Why a message is not purged.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// There is no such message.
    #[error("there is no message with this id")]
    Missing,
    /// It is on hold.
    #[error("the message is on hold")]
    OnHold,
    /// The agreement says that it is kept until then.
    #[error("the agreement says that the message is kept longer")]
    KeptUntil(Time),
    /// Nobody has taken it.
    #[error("nobody has taken the message")]
    NotTaken,
    /// Somebody has taken it.
    #[error("the message was taken")]
    Taken,
    /// Records, objects or key slots failed.
    #[error(transparent)]
    Mail(#[from] MailError),
}

impl From<StoreError> for PurgeError {
    fn from(error: StoreError) -> PurgeError {
        PurgeError::Mail(error.into())
    }
}

/// A purge under way: out of sight, its key not certainly erased.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PurgingRow {
    slot: Option<SlotId>,
    cause: Cause,
    message: MessageId,
    agreement: AgreementId,
    from_name: String,
    group: GroupId,
    group_name: String,
    received_at: Time,
    taken: bool,
    due: Option<Time>,
    /// What is stated to its sender.
    verdict: Option<Verdict>,
}

/// What is left of a purged message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PurgedRow {
    pub(crate) at: Time,
    pub(crate) cause: Cause,
    pub(crate) message: MessageId,
    pub(crate) agreement: AgreementId,
    /// Whether it had been taken.
    pub(crate) taken: bool,
}

/// Whether this cause may purge this message now.
fn check(tx: &impl Rows, key: &Arrived, message: &InMessage, cause: Cause, now: Time) -> Result<(), PurgeError> {
    if cause == Cause::Again {
        return Ok(());
    }
    if tx.contains(&HOLDS, key)? {
        return Err(PurgeError::OnHold);
    }
    if cause == Cause::Deleted && message.stage == Stage::Quarantined {
        return Ok(());
    }
    match (cause, retention::kept_until(tx, message)?) {
        (Cause::Recalled | Cause::NotForUs, _) if message.is_taken() => Err(PurgeError::Taken),
        (Cause::Deleted | Cause::RetentionOver, Some(until)) if now < until => Err(PurgeError::KeptUntil(until)),
        (Cause::Deleted, None) if !message.is_taken() => Err(PurgeError::NotTaken),
        _ => Ok(()),
    }
}

/// Takes a message out of every list; its key is erased next.
pub(super) fn begin(tx: &mut WriteTx, key: Arrived, cause: Cause, now: Time) -> Result<Option<SlotId>, PurgeError> {
    if let Some(row) = tx.get(&PURGING, &key)? {
        return Ok(row.slot);
    }
    let (sequence, message) = find(tx, &key)?.ok_or(PurgeError::Missing)?;
    check(tx, &key, &message, cause, now)?;
    let row = PurgingRow {
        slot: message.key,
        cause,
        message: message.message,
        agreement: message.agreement,
        from_name: message.from_name.clone(),
        group: message.group,
        group_name: message.group_name.clone(),
        received_at: message.received_at,
        taken: message.is_taken(),
        due: message.keep_until,
        verdict: cause.verdict(),
    };
    tx.put(&PURGING, &key, &row)?;
    tx.remove(&INBOX, &sequence)?;
    tx.remove(&INBOX_GROUPS, &(message.group.0, sequence))?;
    tx.remove(&IN_PLACES, &key)?;
    journal::gone(tx, key)?;
    release::forget(tx, sequence)?;
    let id = message.envelope.0;
    // Only its own name.
    if tx.get(&INBOX_IDS, &id)? == Some(sequence) {
        tx.remove(&INBOX_IDS, &id)?;
    }
    Ok(message.key)
}

/// Drops what still refers to a message whose key is erased, and states it.
fn finish(tx: &mut WriteTx, own: &Identity, key: Arrived, at: Time) -> Result<PurgedRow, StoreError> {
    let Some(row) = tx.get(&PURGING, &key)? else {
        return tx.get(&PURGED, &key)?.ok_or(StoreError::Damaged(PURGED.name()));
    };
    match row.verdict {
        Some(verdict) => drop(receipts::owe_receipt(tx, own, key, verdict)?),
        None => {
            let step = match row.cause {
                Cause::RetentionOver => MessageStep::RetentionOver,
                Cause::Again => MessageStep::PurgedAgain,
                Cause::Deleted | Cause::Recalled | Cause::NotForUs => MessageStep::Deleted,
            };
            let PurgingRow { message, agreement, .. } = row;
            audit::append(tx, Event::Message { envelope: key.1, message, agreement, entity: key.0, step })?;
        }
    }
    tell_group(tx, key, &row, at)?;
    drop_references(tx, key, row, at)
}

/// Nothing refers to the message any more.
fn drop_references(tx: &mut WriteTx, key: Arrived, row: PurgingRow, at: Time) -> Result<PurgedRow, StoreError> {
    tx.remove(&PURGING, &key)?;
    tx.remove(&IN_SEGMENTS, &key)?;
    tx.remove(&HOLDS, &key)?;
    tx.remove(&RECALL_WISHES, &key)?;
    if let Some(due) = row.due {
        tx.remove(&RETENTION, &(due.0, key.0, key.1))?;
    }
    Blobs::let_go(tx, incoming_owner(&key.0, &key.1))?;
    tx.put(&UNLEDGERED, &key, &())?;
    let PurgingRow { cause, message, agreement, taken, .. } = row;
    let purged = PurgedRow { at, cause, message, agreement, taken };
    tx.put(&PURGED, &key, &purged)?;
    Ok(purged)
}

/// In a store that is being restored: takes out messages that were purged after the backup was made; gives the slots of
/// their keys, which the caller erases before anybody uses the store.
pub(crate) fn again(tx: &mut WriteTx, keys: &[Arrived], at: Time) -> Result<Vec<SlotId>, StoreError> {
    let mut slots = Vec::new();
    for &key in keys {
        let begun = match begin(tx, key, Cause::Again, at) {
            Ok(slot) => slot,
            Err(PurgeError::Mail(MailError::Store(error))) => return Err(error),
            Err(_) => continue,
        };
        slots.extend(begun);
        if let Some(row) = tx.get(&PURGING, &key)? {
            let PurgingRow { message, agreement, .. } = row;
            let step = MessageStep::PurgedAgain;
            audit::append(tx, Event::Message { envelope: key.1, message, agreement, entity: key.0, step })?;
            drop_references(tx, key, row, at)?;
        }
    }
    Ok(slots)
}

/// A group that could see the message reads why it is gone; not what was in it.
fn tell_group(tx: &mut WriteTx, key: Arrived, row: &PurgingRow, at: Time) -> Result<(), StoreError> {
    let (subject, why) = match row.cause {
        Cause::Recalled => ("A message was recalled", "its sender asked for it back before anybody had taken it"),
        Cause::RetentionOver if !row.taken => {
            ("A message was deleted that nobody had taken", "the time that the agreement keeps it is over")
        }
        _ => return Ok(()),
    };
    let text = format!(
        "{subject}: {why}.\n\nFrom: {}\nReceived: {}\nEnvelope: {}\n\nNothing of it is left here.\n",
        row.from_name,
        crate::api::types::time_text(row.received_at),
        key.1
    );
    let report = Report {
        id: ambient::random(),
        group: row.group,
        group_name: row.group_name.clone(),
        envelope: key.1,
        subject: subject.to_owned(),
        text,
        at,
    };
    super::inbox::add_item(tx, &InItem::Report(report)).map(drop)
}

impl InMessage {
    /// Whether somebody took responsibility for it.
    pub fn is_taken(&self) -> bool {
        self.stage == Stage::Taken
    }
}

impl Mailroom {
    /// Purges a message: its key is overwritten, then what refers to it is dropped and, where asked for, stated. Gives
    /// what is left of it, also if it was purged before.
    ///
    /// # Errors
    /// Why it is not purged; after an error of the disk it is out of every list, and a later call or start finishes it.
    pub(crate) async fn purge(
        &self,
        entity: &Entity,
        key: Arrived,
        cause: Cause,
        now: Time,
    ) -> Result<PurgedRow, PurgeError> {
        if let Some(row) = self.purged(&key)? {
            return Ok(row);
        }
        let begun = self.store.write(move |tx| begin(tx, key, cause, now)).await;
        let slot = begun?;
        self.changed();
        self.release_due();
        let purged = self.erase_and_finish(entity, key, slot).await?;
        self.changed();
        Ok(purged)
    }

    async fn erase_and_finish(
        &self,
        entity: &Entity,
        key: Arrived,
        slot: Option<SlotId>,
    ) -> Result<PurgedRow, MailError> {
        if let Some(slot) = slot {
            let slots = self.slots.clone();
            let erased = tokio::task::spawn_blocking(move || slots.erase(&[slot])).await;
            erased.map_err(|_| StoreError::Panicked)??;
        }
        let (blobs, own) = (self.blobs.clone(), entity.current());
        let finished = self.store.write(move |tx| {
            blobs.wake_after(tx);
            finish(tx, &own, key, ambient::now())
        });
        Ok(finished.await?)
    }

    /// Deletes a report of this node.
    ///
    /// # Errors
    /// [`MailError::Missing`] or [`MailError::Store`].
    pub(crate) async fn delete_report(&self, id: [u8; 16]) -> Result<(), MailError> {
        let deleted = self.store.write(move |tx| {
            let sequence = tx.get(&INBOX_IDS, &id)?.ok_or(MailError::Missing)?;
            let Some(InItem::Report(report)) = tx.get(&INBOX, &sequence)? else {
                return Err(MailError::Missing);
            };
            tx.remove(&INBOX, &sequence)?;
            tx.remove(&INBOX_GROUPS, &(report.group.0, sequence))?;
            tx.remove(&INBOX_IDS, &id)?;
            Ok(())
        });
        deleted.await?;
        self.changed();
        Ok(())
    }

    /// Finishes purges that were broken off; gives how many.
    ///
    /// # Errors
    /// [`MailError`].
    pub async fn finish_purges(&self, entity: &Entity) -> Result<u64, MailError> {
        let rows = self.store.read(|tx| tx.prefix(&PURGING, &(), FINISH_MAX))?;
        let count = rows.len() as u64;
        for (key, row) in rows {
            self.erase_and_finish(entity, key, row.slot).await?;
        }
        if count > 0 {
            self.changed();
        }
        Ok(count)
    }

    /// What is left of a purged message.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub(crate) fn purged(&self, key: &Arrived) -> Result<Option<PurgedRow>, MailError> {
        Ok(self.store.read(|tx| tx.get(&PURGED, key))?)
    }
}
