//! A new roster: sent by each side when a session starts and whenever it changes.

use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::roster::Roster;

/// The issuer's newest roster for this counterpart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RosterUpdate {
    /// The roster.
    pub roster: Signed<Roster>,
}
