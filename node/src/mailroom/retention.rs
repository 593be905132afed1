//! How long what arrived is kept: until the agreement's time is over, and longer while it is on hold.
//!
//! ```text
//! arrival + agreed time --> due (RETENTION, by time) --> looked at every few minutes --> purged, unless on hold
//! ```
//! Due times are kept on a clock of their own: the service clock less every jump of it ([`crate::clock`]), so that a
//! wrong clock deletes nothing early and one that was set right keeps nothing for ever.
//!
//! **Invariant:** nothing is deleted before its time by anybody, unless its sender asked for it back or it was not meant
//! for this entity; nothing on hold is deleted at all.

use pakt_keys::EntityId;
use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::time::Time;

use super::purge::{Cause, PurgeError};
use super::receipts::find;
use super::rows::InMessage;
use super::{MailError, Mailroom};
use crate::audit;
use crate::entity::Entity;
use crate::store::tables::{HOLDS, RETENTION, RETENTION_SHIFT};
use crate::store::{Rows, StoreError, WriteTx};

/// Due messages that are looked at before the next ones are read.
const PAGE: usize = 256;

/// What jumps of the clock have added up to, in microseconds.
fn shift(tx: &impl Rows) -> Result<i64, StoreError> {
    Ok(tx.get(&RETENTION_SHIFT, &())?.unwrap_or(0))
}

/// Notes a jump of the clock, in microseconds: nothing is due earlier or later for it.
pub(crate) fn shift_retention(tx: &mut WriteTx, jump: i64) -> Result<(), StoreError> {
    let shift = shift(tx)?.saturating_add(jump);
    tx.put(&RETENTION_SHIFT, &(), &shift)
}

/// Puts the due time of a message that arrives on the retention's clock, and keeps it in order.
pub(super) fn keep(tx: &mut WriteTx, message: &mut InMessage) -> Result<(), StoreError> {
    let Some(until) = message.keep_until else { return Ok(()) };
    let due = until.shifted(shift(tx)?.saturating_neg());
    message.keep_until = Some(due);
    tx.put(&RETENTION, &(due.0, message.from, message.envelope), &())
}

/// Until when a message of a row is kept, by the service clock.
pub(super) fn kept_until(tx: &impl Rows, message: &InMessage) -> Result<Option<Time>, StoreError> {
    message.keep_until.map(|due| Ok(due.shifted(shift(tx)?))).transpose()
}

impl Mailroom {
    /// Until when a message is kept at least, by the service clock.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn kept_until(&self, message: &InMessage) -> Result<Option<Time>, MailError> {
        Ok(self.store.read(|tx| kept_until(tx, message))?)
    }

    /// Since when a message is on hold, if it is.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn held_since(&self, message: &InMessage) -> Result<Option<Time>, MailError> {
        Ok(self.store.read(|tx| tx.get(&HOLDS, &(message.from, message.envelope)))?)
    }

    /// Puts a message on hold, or takes it off; gives whether that is a change.
    ///
    /// # Errors
    /// [`MailError::Missing`] or [`MailError::Store`].
    pub async fn set_hold(&self, from: EntityId, envelope: EnvelopeId, on: bool, now: Time) -> Result<bool, MailError> {
        let changed = self.store.write(move |tx| {
            let key = (from, envelope);
            let (_, message) = find(tx, &key)?.ok_or(MailError::Missing)?;
            if tx.contains(&HOLDS, &key)? == on {
                return Ok(false);
            }
            let step = if on {
                tx.put(&HOLDS, &key, &now)?;
                MessageStep::HoldSet
            } else {
                tx.remove(&HOLDS, &key)?;
                MessageStep::HoldLifted
            };
            let InMessage { message, agreement, .. } = message;
            audit::append(tx, Event::Message { envelope, message, agreement, entity: from, step })?;
            Ok::<_, MailError>(true)
        });
        let changed = changed.await?;
        self.changed();
        Ok(changed)
    }

    /// Purges what is due, and finishes purges that were broken off; gives how many messages went.
    ///
    /// # Errors
    /// [`MailError`]; the rest is purged by a later call.
    pub async fn purge_due(&self, entity: &Entity, now: Time) -> Result<u64, MailError> {
        let mut purged = self.finish_purges(entity).await?;
        let mut after = None;
        loop {
            let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let (page, shift) = self.store.read(|tx| {
                let page = tx.range(&RETENTION, (start, std::ops::Bound::Unbounded), PAGE)?;
                Ok((page, shift(tx)?))
            })?;
            let Some((last, ())) = page.last() else { return Ok(purged) };
            after = Some(*last);
            for ((due, from, envelope), ()) in page {
                if now < Time(due).shifted(shift) {
                    return Ok(purged);
                }
                match self.purge(entity, (from, envelope), Cause::RetentionOver, now).await {
                    Ok(_) => purged += 1,
                    Err(PurgeError::OnHold) => {}
                    Err(PurgeError::Mail(error)) => return Err(error),
                    Err(error) => tracing::warn!(%envelope, %error, "what is due could not be deleted"),
                }
            }
        }
    }

    /// How many messages fall due until then that nobody has taken, at most `PAGE` looked at.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn due_untaken(&self, until: Time) -> Result<u64, MailError> {
        Ok(self.store.read(|tx| {
            let until = until.shifted(shift(tx)?.saturating_neg());
            let mut count = 0;
            for ((due, from, envelope), ()) in tx.range(&RETENTION, .., PAGE)? {
                if due > until.0 {
                    break;
                }
                let key = (from, envelope);
                let message = find(tx, &key)?.map(|(_, message)| message);
                count += u64::from(message.is_some_and(|message| !message.is_taken()) && !tx.contains(&HOLDS, &key)?);
            }
            Ok(count)
        })?)
    }
}
