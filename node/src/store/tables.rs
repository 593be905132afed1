//! Every table of the node in one place.
//!
//! A name ends in the version of its rows; a change of key or value is a new name and a step in
//! [`super::migrate::MIGRATIONS`], never a silent change of the meaning of stored bytes.
//!
//! **Invariant:** names and keys lie on disk unsealed, values sealed: what a thief may not read belongs in the value.

use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;
use serde::{Deserialize, Serialize};

use super::Table;
use crate::blob::{ObjectRow, Owner, Usage};

/// What the store knows about itself.
pub(super) const META: Table<(), Meta> = Table::new("meta-1");

/// The number of the last commit, so that after a failure it can be told whether that one is in.
pub(super) const COMMITS: Table<(), u64> = Table::new("commits-1");

/// The last number given out per named counter.
pub(super) const SEQUENCES: Table<String, u64> = Table::new("sequences-1");

/// The one row of [`META`]; it also shows whether the store key is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The number of migrations that these tables have seen, plus one.
    pub(super) schema: u32,
}

/// Where a sealed object lies, by the entity that it came from.
pub(crate) const OBJECTS: Table<(EntityId, ObjectId), ObjectRow> = Table::new("objects-1");

/// Who needs an object.
pub(crate) const PINS: Table<(EntityId, ObjectId, Owner), ()> = Table::new("pins-1");

/// The same rows by owner.
pub(crate) const OWNED: Table<(Owner, EntityId, ObjectId), ()> = Table::new("owned-1");

/// Owners that need nothing any more; their pins are worked off in small commits.
pub(crate) const RELEASED: Table<Owner, ()> = Table::new("released-1");

/// Files (origin, object, batch) without an index entry that are still to be removed.
pub(crate) const DOOMED: Table<(EntityId, ObjectId, u32), ()> = Table::new("doomed-1");

/// What is stored per entity that it came from.
pub(crate) const USAGE: Table<EntityId, Usage> = Table::new("usage-1");
