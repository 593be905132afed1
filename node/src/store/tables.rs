//! Every table of the node in one place.
//!
//! A name ends in the version of its rows; a change of key or value is a new name and a step in
//! [`super::migrate::MIGRATIONS`], never a silent change of the meaning of stored bytes.
//!
//! **Invariant:** names and keys lie on disk unsealed, values sealed: what a thief may not read belongs in the value.

use serde::{Deserialize, Serialize};

use super::Table;

/// What the store knows about itself.
pub(super) const META: Table<(), Meta> = Table::new("meta-1");

/// The last number given out per named counter.
pub(super) const SEQUENCES: Table<String, u64> = Table::new("sequences-1");

/// The one row of [`META`]; it also shows whether the store key is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The number of migrations that these tables have seen, plus one.
    pub(super) schema: u32,
}
