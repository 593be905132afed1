//! What waits between `delivered` and `released`: the queue of the check, and what it held for good.
//!
//! ```text
//! commit --one commit--> TO_RELEASE --passed: one commit with the receipt--> released
//!                            ^   \--found: one commit with the receipt--> QUARANTINED --deleted--> nothing is left
//!                            \------------- let out by the operator, audited ----/
//! ```
//!
//! **Invariant:** a message leaves the queue in the commit that says what became of it: a crash costs the check, never
//! the message.
//! **Invariant:** what was found is deleted or let out by the operator only, and the log says so.

use pakt_keys::EntityId;
use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::envelope::{Counts, Priority};
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::purge::{Cause, PurgeError};
use super::receipts::{Arrived, advance, find};
use super::rows::{InMessage, Stage};
use super::{MailError, Mailroom};
use crate::ambient;
use crate::audit;
use crate::entity::{Entity, Identity};
use crate::store::tables::{QUARANTINED, TO_RELEASE};
use crate::store::{StoreError, WriteTx};

/// Rows that are counted for a status; more are as many as this.
const COUNTED_MAX: usize = 10_000;

/// What a segment of a manifest takes in memory once it is read, roughly: 256 entries with names, some of them long.
const SEGMENT_BYTES: u64 = 128 << 10;

/// Where a message waits for its check: what needs no scanner and what is urgent goes first.
pub type Place = (u8, u64);

/// Places of what needs no scanner.
const PLAIN: u8 = 0;
/// Places of what a scanner must pass.
const SCANNED: u8 = 2;

/// A message that waits for its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToRelease {
    /// Who sent it.
    pub from: EntityId,
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Whether its agreement demands a scan.
    pub scan: bool,
    /// The operator lets it out: it is not scanned, whatever else says so.
    pub by_hand: bool,
    /// What it takes to check it, in bytes, to tell the large ones.
    pub bytes: u64,
}

impl ToRelease {
    /// The message, as receipts name it.
    pub fn arrived(&self) -> Arrived {
        (self.from, self.envelope)
    }
}

/// What the check found in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Who sent it.
    pub from: EntityId,
    /// The signature's name, or what is wrong with the message.
    pub what: String,
    /// When.
    pub at: Time,
}

fn place(row: &ToRelease, priority: Priority, sequence: u64) -> Place {
    let needs = if row.scan && !row.by_hand { SCANNED } else { PLAIN };
    (needs + u8::from(priority != Priority::Urgent), sequence)
}

/// Content, or what the manifest takes in memory: a message may hold millions of empty files.
fn weight(counts: &Counts) -> u64 {
    counts.plain_bytes.max(counts.segments.saturating_mul(SEGMENT_BYTES))
}

fn enter(tx: &mut WriteTx, message: &InMessage, sequence: u64, scan: bool, by_hand: bool) -> Result<(), StoreError> {
    let bytes = weight(&message.counts);
    let row = ToRelease { from: message.from, envelope: message.envelope, scan, by_hand, bytes };
    tx.put(&TO_RELEASE, &place(&row, message.priority, sequence), &row)
}

/// Has a message that was committed just now checked.
pub(super) fn begin(tx: &mut WriteTx, message: &InMessage, sequence: u64, scan: bool) -> Result<(), StoreError> {
    enter(tx, message, sequence, scan, false)
}

/// A message is gone: so is what waits for its check, and what that found.
///
/// # Errors
/// When the store fails.
pub fn forget(tx: &mut WriteTx, sequence: u64) -> Result<(), StoreError> {
    tx.remove(&QUARANTINED, &sequence)?;
    for kind in PLAIN..SCANNED + 2 {
        tx.remove(&TO_RELEASE, &(kind, sequence))?;
    }
    Ok(())
}

/// What the check says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// It may be seen.
    Passed,
    /// Nobody may see it; what was found.
    Found(String),
    /// It is not there any more, or has moved on.
    Gone,
}

impl Mailroom {
    /// Messages that wait for their check from a place on, at most `limit`, those that need no scanner first; without
    /// `scanned` none that need one.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn to_release(
        &self,
        from: Option<Place>,
        scanned: bool,
        limit: usize,
    ) -> Result<Vec<(Place, ToRelease)>, MailError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let first = from.map_or(Unbounded, Excluded);
        let last = if scanned { Unbounded } else { Excluded((SCANNED, 0)) };
        if matches!((first, last), (Excluded(first), Excluded(last)) if first >= last) {
            return Ok(Vec::new());
        }
        Ok(self.store.read(|tx| tx.range(&TO_RELEASE, (first, last), limit))?)
    }

    /// How many wait for a check that needs no scanner, and for one that does; at most 10,000 of each.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn waiting_for_release(&self) -> Result<(u64, u64), MailError> {
        let count = |first: u8| -> Result<u64, StoreError> {
            let of = |kind: u8| self.store.read(|tx| tx.prefix_keys(&TO_RELEASE, &kind, COUNTED_MAX));
            Ok((of(first)?.len() + of(first + 1)?.len()) as u64)
        };
        Ok((count(PLAIN)?, count(SCANNED)?))
    }

    /// Whether the message of a place still waits for its check, as it did: one that was let out waits for another.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn is_to_release(&self, place: &Place, row: &ToRelease) -> Result<bool, MailError> {
        Ok(self.store.read(|tx| tx.get(&TO_RELEASE, place))?.as_ref() == Some(row))
    }

    /// What a message waits for, if it waits for its check.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn waiting_to_release(&self, arrived: Arrived) -> Result<Option<ToRelease>, MailError> {
        let waiting = self.store.read(|tx| {
            let Some((sequence, _)) = find(tx, &arrived)? else { return Ok(None) };
            let rows = (PLAIN..SCANNED + 2).map(|kind| tx.get(&TO_RELEASE, &(kind, sequence)));
            rows.collect::<Result<Vec<_>, StoreError>>().map(|rows| rows.into_iter().flatten().next())
        });
        Ok(waiting?)
    }

    /// Messages whose agreements demand a scan and that wait for it, with `all` the others too: urgent ones first, then the
    /// newest, at most `limit`.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn newest_to_release(&self, all: bool, limit: usize) -> Result<Vec<ToRelease>, MailError> {
        let kinds = [SCANNED, PLAIN, SCANNED + 1, PLAIN + 1].into_iter().filter(|kind| all || *kind >= SCANNED);
        let mut rows = Vec::new();
        for kind in kinds {
            let places = (kind, 0)..=(kind, u64::MAX);
            let of_kind = self.store.read(|tx| tx.range_backwards(&TO_RELEASE, places, limit - rows.len()))?;
            rows.extend(of_kind.into_iter().map(|(_, row)| row));
        }
        Ok(rows)
    }

    /// A message that is still to be checked; none if it is gone or has moved on.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn unchecked(&self, row: &ToRelease) -> Result<Option<InMessage>, MailError> {
        let found = self.store.read(|tx| find(tx, &row.arrived()))?;
        let waits = |message: &InMessage| match message.stage {
            Stage::Checking => true,
            Stage::Quarantined => row.by_hand,
            Stage::Released | Stage::Taken => false,
        };
        Ok(found.map(|(_, message)| message).filter(waits))
    }

    /// Records what the check says of a message, with the receipt for its sender; gives the message if it moved on.
    ///
    /// # Errors
    /// [`MailError::Store`]; nothing of it is then visible.
    pub async fn checked(
        &self,
        own: std::sync::Arc<Identity>,
        (place, row): (Place, ToRelease),
        checked: Checked,
    ) -> Result<Option<InMessage>, MailError> {
        let moved = self.store.write(move |tx| {
            // The operator may have let it out meanwhile: then that is what counts.
            if tx.get(&TO_RELEASE, &place)? != Some(row) {
                return Ok(None);
            }
            tx.remove(&TO_RELEASE, &place)?;
            let moved = match &checked {
                Checked::Gone => None,
                Checked::Passed => {
                    tx.remove(&QUARANTINED, &place.1)?;
                    advance(tx, &own, row.arrived(), Stage::Released)?
                }
                Checked::Found(what) => {
                    let (from, envelope, at) = (row.from, row.envelope, ambient::now());
                    tx.put(&QUARANTINED, &place.1, &Finding { envelope, from, what: what.clone(), at })?;
                    advance(tx, &own, row.arrived(), Stage::Quarantined)?
                }
            };
            Ok::<_, StoreError>(moved)
        });
        let moved = moved.await?;
        self.changed();
        Ok(moved)
    }

    /// What was found, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn quarantined(&self, limit: usize) -> Result<Vec<Finding>, MailError> {
        let rows = self.store.read(|tx| tx.range_backwards(&QUARANTINED, .., limit))?;
        Ok(rows.into_iter().map(|(_, finding)| finding).collect())
    }

    /// Lets a message out that was found bad or cannot be scanned, on the operator's word: it is checked again without
    /// the scanner, and then released.
    ///
    /// # Errors
    /// [`MailError::Missing`] if it is neither, or [`MailError::Store`].
    pub async fn let_out(&self, arrived: Arrived) -> Result<(), MailError> {
        let out = self.store.write(move |tx| {
            let Some((sequence, message)) = find(tx, &arrived)? else { return Ok(false) };
            if !matches!(message.stage, Stage::Checking | Stage::Quarantined) {
                return Ok(false);
            }
            let finding = tx.get(&QUARANTINED, &sequence)?;
            forget(tx, sequence)?;
            if let Some(finding) = finding {
                // Until it has passed, it is shown for what it is.
                tx.put(&QUARANTINED, &sequence, &finding)?;
            }
            enter(tx, &message, sequence, true, true)?;
            let &InMessage { envelope, message, agreement, from: entity, .. } = &message;
            let step = MessageStep::LetOut;
            audit::append(tx, Event::Message { envelope, message, agreement, entity, step })?;
            Ok::<_, StoreError>(true)
        });
        if !out.await? {
            return Err(MailError::Missing);
        }
        self.changed();
        self.release_due();
        Ok(())
    }

    /// Deletes a message that was found bad, with its key: nothing opens it any more.
    ///
    /// # Errors
    /// [`PurgeError::Missing`] if there is none in quarantine, or why it is not purged.
    pub(crate) async fn delete_quarantined(
        &self,
        entity: &Entity,
        arrived: Arrived,
        now: Time,
    ) -> Result<(), PurgeError> {
        let found = self.store.read(|tx| find(tx, &arrived))?;
        if !found.is_some_and(|(_, message)| message.stage == Stage::Quarantined) {
            return Err(PurgeError::Missing);
        }
        self.purge(entity, arrived, Cause::Deleted, now).await.map(drop)
    }
}
