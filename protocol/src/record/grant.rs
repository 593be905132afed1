//! Door grants: the secret that lets one counterpart knock at a node's door.

use pakt_keys::EntityId;
use pakt_keys::sealing::{ContactKey, ContactPublic, UnwrapError, Wrapped};
use pakt_keys::signing::Domain;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Record;
use crate::ids::AgreementId;

/// A door secret that `issuer` made for `holder`, sealed to the holder's contact key.
///
/// The holder dials with it, the issuer listens for it. Signed by the issuer's statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorGrant {
    /// The agreement whose door it opens.
    pub agreement: AgreementId,
    /// Who listens.
    pub issuer: EntityId,
    /// Who dials.
    pub holder: EntityId,
    /// Later grants have higher numbers; the two newest are valid.
    pub counter: u64,
    /// The 32-byte secret.
    pub sealed: Wrapped,
}

impl Record for DoorGrant {
    const DOMAIN: Domain = Domain::DoorGrant;
    const BYTES_MAX: usize = 4096;
}

impl DoorGrant {
    /// Seals `secret` for the holder.
    pub fn seal(
        (agreement, counter): (AgreementId, u64),
        issuer: EntityId,
        (holder, contact): (EntityId, &ContactPublic),
        secret: &[u8; 32],
        rng: &mut impl CryptoRng,
    ) -> DoorGrant {
        let info = info(&agreement, &issuer, &holder, counter);
        DoorGrant { agreement, issuer, holder, counter, sealed: contact.wrap(&info, secret, rng) }
    }

    /// Opens the secret with the holder's contact key.
    ///
    /// # Errors
    /// [`UnwrapError`] if it was sealed to another key or for another agreement, issuer, holder or counter.
    pub fn open(&self, contact: &ContactKey) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        let info = info(&self.agreement, &self.issuer, &self.holder, self.counter);
        let plain = contact.unwrap(&info, &self.sealed)?;
        let secret: [u8; 32] = plain.as_slice().try_into().map_err(|_| UnwrapError)?;
        Ok(Zeroizing::new(secret))
    }
}

/// HPKE info: the domain string, then the fields in order; the counter big-endian.
fn info(agreement: &AgreementId, issuer: &EntityId, holder: &EntityId, counter: u64) -> Vec<u8> {
    [b"pakt door grant v1".as_slice(), &agreement.0, &issuer.0, &holder.0, &counter.to_be_bytes()].concat()
}
