//! Attestations of receiver controls: those that are issued to counterparts, and the newest of each counterpart.
//!
//! **Invariant:** an attestation that leaves has a number that is durable; of a counterpart's only a newer one is taken,
//! and how fresh it is follows from when it came.

use pakt_protocol::audit::Event;
use pakt_protocol::controls::Attested;
use pakt_protocol::door::next_counter;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::attestation::{self, Attestation};
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

use super::{Book, BookError, Standing};
use crate::ambient;
use crate::audit;
use crate::store::StoreError;
use crate::store::tables::{OWN_ATTESTATIONS, PEER_ATTESTATIONS};

/// What was attested to a counterpart last.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OwnAttestationRow {
    pub(super) counter: u64,
    controls: Vec<Attested>,
}

/// The newest attestation of a counterpart.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PeerAttestationRow {
    signed: Signed<Attestation>,
    /// When it came, by the service clock.
    came_at: Time,
}

/// What a counterpart attests, and when that came by the service clock.
#[derive(Debug, Clone)]
pub struct PeerAttestation {
    /// The controls.
    pub controls: Vec<Attested>,
    /// When it came.
    pub came_at: Time,
}

impl PeerAttestationRow {
    pub(super) fn to_view(&self) -> Result<PeerAttestation, StoreError> {
        let attestation = self.signed.peek().map_err(|_| StoreError::Damaged(PEER_ATTESTATIONS.name()))?;
        Ok(PeerAttestation { controls: attestation.controls, came_at: self.came_at })
    }
}

impl Book {
    /// A new attestation of these controls for the counterpart of an agreement.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn attest(&self, id: &AgreementId, controls: Vec<Attested>) -> Result<Signed<Attestation>, BookError> {
        let agreement = self.get(id).ok_or(BookError::Unknown)?;
        let (inner, id, reader) = (self.inner.clone(), *id, agreement.counterpart().entity);
        let write = self.inner.store.write(move |tx| {
            let at = ambient::now();
            let last = tx.get(&OWN_ATTESTATIONS, &id)?;
            let counter = next_counter(last.as_ref().map_or(0, |row| row.counter), at);
            if last.is_none_or(|last| last.controls != controls) {
                audit::append(tx, Event::Attested { agreement: id, counter })?;
            }
            tx.put(&OWN_ATTESTATIONS, &id, &OwnAttestationRow { counter, controls: controls.clone() })?;
            let (issuer, identity) = (inner.entity.id(), inner.entity.current());
            let attestation = Attestation { issuer, reader, agreement: id, counter, at, controls };
            Ok(Signed::create(&attestation, |domain, bytes| identity.statement().sign(domain, bytes)))
        });
        write.await
    }

    /// Takes the counterpart's attestation, which came `now` by the service clock; the one that is known may come again,
    /// and is no fresher for it.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_attestation(
        &self,
        id: &AgreementId,
        signed: &Signed<Attestation>,
        now: Time,
    ) -> Result<(), &'static str> {
        let agreement = self.get(id).ok_or("there is no such agreement")?;
        if agreement.standing != Standing::Active {
            return Err("the agreement is not active");
        }
        let attestation = attestation::verify(signed, id, &agreement.node, &self.inner.entity.id());
        let attestation = attestation.map_err(|_| "this is no valid attestation")?;
        let (inner, id, signed) = (self.inner.clone(), *id, signed.clone());
        let from = agreement.counterpart().entity;
        let write = self.inner.store.write(move |tx| {
            let mut is_new = true;
            if let Some(known) = tx.get(&PEER_ATTESTATIONS, &id)? {
                let last = known.signed.peek().map_err(|_| StoreError::Damaged(PEER_ATTESTATIONS.name()))?;
                if known.signed.body() == signed.body() {
                    return Ok(Ok(()));
                }
                is_new = last.controls != attestation.controls;
                if attestation.counter < last.counter {
                    return Ok(Err("the attestation is older than one that is known"));
                }
                if attestation.counter == last.counter {
                    return Ok(Err("there are two different attestations with one number"));
                }
            }
            if is_new {
                let event = Event::PeerAttested { agreement: id, counter: attestation.counter };
                audit::append_paced(tx, (id, from), event)?;
            }
            tx.put(&PEER_ATTESTATIONS, &id, &PeerAttestationRow { signed, came_at: now })?;
            let view = PeerAttestation { controls: attestation.controls, came_at: now };
            inner.on_commit(tx, move |state| drop(state.attestations.insert(id, view)));
            Ok(Ok(()))
        });
        write.await.unwrap_or_else(|error: StoreError| {
            tracing::error!(agreement = %id, %error, "an attestation could not be stored");
            Err("it could not be stored")
        })
    }

    /// The newest attestation of the counterpart of an agreement.
    pub fn peer_attestation(&self, id: &AgreementId) -> Option<PeerAttestation> {
        self.state().attestations.get(id).cloned()
    }
}
