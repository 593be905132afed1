//! An entity that was set up again from a backup says so, until the counterpart knows.

use serde::{Deserialize, Serialize};

use crate::record::Signed;
use crate::record::restored::RestoreNotice;

/// "I was restored from a backup"; said in every session until [`RestoredKnown`] comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restored {
    /// The signed notice.
    pub notice: Signed<RestoreNotice>,
}

/// The notice with this generation is durable here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoredKnown {
    /// The notice's generation.
    pub generation: u64,
}
