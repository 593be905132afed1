//! Replacing the node's keys while it runs.
//!
//! ```text
//! new certificate, signed by the root -> keystore durable -> identity swapped -> network -> card -> lanes anew -> door grants
//! ```
//!
//! **Invariant:** no key is used before it is durable; a crash between two steps is made good at the next start.

use pakt_keys::signing::RootKey;

use super::{Answer, Node, blocking, errors, start};
use crate::api::types::*;
use crate::book::Standing;
use crate::entity::Entity;
use crate::service::peer_id;
use crate::{ambient, keyring};

impl Node {
    /// Replaces transport, statement and contact key; what is under way goes on over new lanes.
    ///
    /// # Errors
    /// When the root does not open or the keystore cannot be written; the old keys stay in use then.
    pub async fn rotate(&self, request: SignedRequest) -> Answer<Rotated> {
        let root = self.root(&request.signing).await?;
        let node = self.clone();
        // A caller that goes away must not leave half of it done.
        let work = tokio::spawn(async move { node.replace_keys(root).await });
        work.await.unwrap_or_else(|_| Err(errors::broken_off()))
    }

    async fn replace_keys(&self, root: RootKey) -> Answer<Rotated> {
        let one_at_a_time = self.inner.keyring.clone().lock_owned().await;
        let entity = self.inner.entity.clone();
        let replaced = blocking(move || {
            let keys = keyring::rotated(entity.current().keys(), &root, ambient::now())?;
            one_at_a_time.replace(&keys)?;
            entity.replace(keys)?;
            Ok(one_at_a_time)
        });
        let one_at_a_time = replaced.await?;
        let own = self.inner.entity.current();
        self.inner.net.set_identity(&own.transport().seed()).map_err(|error| {
            let message = format!("the new keys are in place, but the network does not take them: {error}");
            ServiceError::new(ErrorCode::Failed, message, "start the node again")
        })?;
        self.inner.exchange.log().note_keys().await?;
        self.renew_card().await?;
        self.inner.exchange.identity_changed().await;
        let renewed = self.inner.book.renew_grants_if_due(ambient::service_now()).await?;
        self.inner.exchange.grants_changed(&renewed).await;
        tracing::info!(serial = own.node().serial, "the node's keys were replaced");
        drop(one_at_a_time);
        let active = self.inner.book.all().into_iter().filter(|agreement| agreement.standing == Standing::Active);
        rotated(&self.inner.entity, active.count() as u64)
    }

    /// Writes the card anew, as the certificates are now.
    async fn renew_card(&self) -> Answer<()> {
        let (dir, book) = (self.inner.config.dir.clone(), self.inner.book.clone());
        let card = blocking(move || start::write_card(&dir, &book)).await?;
        *self.card_text() = card;
        Ok(())
    }
}

/// What is told about keys that were replaced.
fn rotated(entity: &Entity, counterparts: u64) -> Answer<Rotated> {
    let own = entity.current();
    let certificate = own.chain().certificate.peek()?;
    Ok(Rotated {
        entity: entity.id().to_string(),
        peer_id: peer_id(&own.node().transport),
        root_generation: own.node().root_generation,
        serial: own.node().serial,
        issued_at: time_text(certificate.issued_at),
        counterparts,
    })
}
