//! What a receiver shows for the controls that the agreement asks for.

use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::attestation::Attestation;

/// The issuer's newest attestation: sent when a session starts, when it changes and when it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttestationUpdate {
    /// The attestation.
    pub attestation: Signed<Attestation>,
}

/// Asks for a fresh attestation: something waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantAttestation;
