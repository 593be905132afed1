//! Where this side can be dialled: sent when a session is live and whenever it changes.

use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::address_update::AddressUpdate;

/// The issuer's newest addresses for this counterpart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressNews {
    /// The addresses.
    pub update: Signed<AddressUpdate>,
}
