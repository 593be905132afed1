//! Envelopes that have not ended: which, and how many.
//!
//! Nothing here costs more the more messages there are: they are counted as they come and go, and read a page at a time.
//!
//! **Invariant:** the count of an agreement is the number of its rows, by being changed in the same commit.

use pakt_protocol::ids::{AgreementId, EnvelopeId};
use pakt_protocol::time::Time;

use super::rows::OutEnvelope;
use super::{MailError, Mailroom};
use crate::store::tables::{OPEN_COUNTS, OPEN_ENVELOPES, OUT_ENVELOPES};
use crate::store::{StoreError, WriteTx};

/// Enters an envelope that was submitted.
pub(super) fn add(tx: &mut WriteTx, row: &OutEnvelope) -> Result<(), StoreError> {
    tx.put(&OPEN_ENVELOPES, &(row.agreement, row.sequence), &row.id)?;
    let count = tx.get(&OPEN_COUNTS, &row.agreement)?.unwrap_or(0);
    tx.put(&OPEN_COUNTS, &row.agreement, &(count + 1))
}

/// Takes an envelope out that has ended; one that is not there costs nothing.
pub(super) fn remove(tx: &mut WriteTx, row: &OutEnvelope) -> Result<(), StoreError> {
    if !tx.remove(&OPEN_ENVELOPES, &(row.agreement, row.sequence))? {
        return Ok(());
    }
    match tx.get(&OPEN_COUNTS, &row.agreement)?.unwrap_or(0) {
        0 | 1 => tx.remove(&OPEN_COUNTS, &row.agreement).map(drop),
        count => tx.put(&OPEN_COUNTS, &row.agreement, &(count - 1)),
    }
}

impl Mailroom {
    /// At most `limit` envelopes of an agreement that have not ended, oldest first, from the place `from` in its queue on.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn open_page(&self, agreement: &AgreementId, from: u64, limit: usize) -> Result<Vec<OutEnvelope>, MailError> {
        let rows = self.store.read(|tx| {
            let ids = tx.range(&OPEN_ENVELOPES, (*agreement, from)..=(*agreement, u64::MAX), limit)?;
            let rows = ids.into_iter().map(|((_, _), id)| tx.get(&OUT_ENVELOPES, &id));
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// All envelopes of an agreement that have not ended, oldest first.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn open_envelopes(&self, agreement: &AgreementId) -> Result<Vec<OutEnvelope>, MailError> {
        self.open_page(agreement, 0, usize::MAX)
    }

    /// The number of envelopes that have not ended.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn open_count(&self) -> Result<u64, MailError> {
        let counts = self.store.read(|tx| tx.range(&OPEN_COUNTS, .., usize::MAX))?;
        Ok(counts.into_iter().map(|(_, count)| count).sum())
    }

    /// The number of envelopes of an agreement that have not ended.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn open_count_of(&self, agreement: &AgreementId) -> Result<u64, MailError> {
        Ok(self.store.read(|tx| tx.get(&OPEN_COUNTS, agreement))?.unwrap_or(0))
    }

    /// When the oldest of them was submitted.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn oldest_open(&self, agreement: &AgreementId) -> Result<Option<Time>, MailError> {
        let oldest = self.open_page(agreement, 0, 1)?.pop();
        Ok(oldest.and_then(|row| row.delivery.history.first().map(|(_, at)| *at)))
    }

    /// Ids of envelopes submitted here that lie in `span`, two at most.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn envelopes_named(&self, span: (EnvelopeId, EnvelopeId)) -> Result<Vec<EnvelopeId>, MailError> {
        let found = self.store.read(|tx| tx.range(&OUT_ENVELOPES, span.0..=span.1, 2))?;
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }
}
