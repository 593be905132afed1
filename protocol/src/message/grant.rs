//! Later door grants: the first one lies in the agreement's file, these replace it.

use serde::{Deserialize, Serialize};

use crate::ids::AgreementId;
use crate::record::Signed;
use crate::record::grant::DoorGrant;

/// A new secret for this node's door: dial with it from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The grant, sealed to the reader and signed by the statement key.
    pub grant: Signed<DoorGrant>,
}

/// The grant with this number is durable and will be dialled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The agreement whose door it opens.
    pub agreement: AgreementId,
    /// The grant's number.
    pub counter: u64,
}
