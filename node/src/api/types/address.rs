//! Where this node can be dialled.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The addresses of this node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Addresses {
    /// Addresses that counterparts are told, in the order in which they try them.
    pub addresses: Vec<String>,
    /// Whether they are the listen address, as `advertise` in the settings is empty.
    pub from_listen: bool,
    /// Counterparts that are online and have been told; the others are told when they come.
    #[serde(default)]
    pub online: u64,
}

/// Name other addresses.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AddressesRequest {
    /// `HOST:PORT` each, an IPv6 address in brackets, at most eight; none for the listen address, if it is a specific one.
    pub addresses: Vec<String>,
}
