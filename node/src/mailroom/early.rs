//! Envelopes that are offered before their message is submitted, so that a crash does not leave their content with a
//! counterpart for nothing.
//!
//! **Invariant:** an envelope has a row here before its early offer leaves, and none from the commit on that submits it.

use pakt_protocol::ids::{AgreementId, EnvelopeId};

use super::{MailError, Mailroom};
use crate::store::StoreError;
use crate::store::tables::{EARLY, OUT_ENVELOPES};

impl Mailroom {
    /// Notes that an envelope is about to be offered early; false if it has been submitted meanwhile.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn note_early(&self, agreement: AgreementId, envelope: EnvelopeId) -> Result<bool, MailError> {
        let noted = self.store.write(move |tx| {
            if tx.contains(&OUT_ENVELOPES, &envelope)? {
                return Ok(false);
            }
            tx.put(&EARLY, &(agreement, envelope), &())?;
            Ok::<_, StoreError>(true)
        });
        Ok(noted.await?)
    }

    /// Forgets an early offer: the counterpart holds nothing of it, or never will again.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub async fn forget_early(&self, agreement: AgreementId, envelope: EnvelopeId) -> Result<(), MailError> {
        Ok(self.store.write(move |tx| tx.remove(&EARLY, &(agreement, envelope)).map(drop)).await?)
    }

    /// Early offers of an agreement whose messages were not submitted.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn early_offers(&self, agreement: &AgreementId) -> Result<Vec<EnvelopeId>, MailError> {
        let keys = self.store.read(|tx| tx.prefix_keys(&EARLY, agreement, usize::MAX))?;
        Ok(keys.into_iter().map(|(_, envelope)| envelope).collect())
    }
}
