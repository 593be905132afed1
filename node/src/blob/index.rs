//! The rows about objects: where each lies, who needs it, what it adds up to.
//!
//! An object lives as long as somebody has pinned it. Releasing an owner is one row in the caller's commit, whatever it
//! owns; [`release_some`] works off the rest in small commits.
//!
//! **Invariant:** a row of [`OBJECTS`] speaks of a file that is durable and complete.

use std::collections::HashSet;

use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;
use serde::{Deserialize, Serialize};

use crate::store::tables::{DOOMED, LOOSE, OBJECTS, OWNED, PINS, RELEASED, UNSETTLED, USAGE};
use crate::store::{Rows, StoreError, WriteTx};

/// Who needs an object: the id of an envelope, message or transfer; one that was released is taken back before it is used
/// again.
pub type Owner = [u8; 16];

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRow {
    /// The number of the directory that holds the file.
    pub batch: u32,
    /// Length of the sealed object in bytes.
    pub bytes: u32,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Number of objects.
    pub objects: u64,
    /// Sum of their lengths in bytes.
    pub bytes: u64,
}

/// Rows worked off in one commit.
pub(super) const SLICE_ROWS: usize = 256;

fn add_usage(tx: &mut WriteTx, origin: &EntityId, added: &[ObjectRow]) -> Result<(), StoreError> {
    if added.is_empty() {
        return Ok(());
    }
    let mut usage = tx.get(&USAGE, origin)?.unwrap_or_default();
    for row in added {
        usage.objects += 1;
        usage.bytes += u64::from(row.bytes);
    }
    tx.put(&USAGE, origin, &usage)
}

/// Enters written files, pins all of `wanted` for `owner`, and returns those of `wanted` that are not there.
pub(super) fn enter(
    tx: &mut WriteTx,
    origin: EntityId,
    owner: Option<Owner>,
    wanted: &[ObjectId],
    written: &[(ObjectId, ObjectRow)],
) -> Result<Vec<ObjectId>, StoreError> {
    let mut added = Vec::new();
    for (id, row) in written {
        if !tx.contains(&OBJECTS, &(origin, *id))? {
            tx.put(&OBJECTS, &(origin, *id), row)?;
            if owner.is_none() {
                tx.put(&LOOSE, &(origin, *id), &())?;
            }
            added.push(*row);
        }
        tx.remove(&DOOMED, &(origin, *id, row.batch))?;
    }
    add_usage(tx, &origin, &added)?;
    let mut missing = Vec::new();
    for id in wanted {
        let present = match owner {
            Some(owner) => pin(tx, origin, *id, owner)?,
            None => tx.contains(&OBJECTS, &(origin, *id))?,
        };
        if !present {
            missing.push(*id);
        }
    }
    Ok(missing)
}

/// Notes that `owner` needs an object; false if it is not there.
pub(super) fn pin(tx: &mut WriteTx, origin: EntityId, id: ObjectId, owner: Owner) -> Result<bool, StoreError> {
    if !tx.contains(&OBJECTS, &(origin, id))? {
        return Ok(false);
    }
    tx.put(&PINS, &(origin, id, owner), &())?;
    tx.put(&OWNED, &(owner, origin, id), &())?;
    if !tx.contains(&UNSETTLED, &owner)? {
        tx.put(&UNSETTLED, &owner, &())?;
    }
    Ok(true)
}

/// Notes that `owner` needs these objects no more, and takes those that nobody else needs out of the index.
pub(super) fn unpin_objects(
    tx: &mut WriteTx,
    origin: EntityId,
    ids: &[ObjectId],
    owner: Owner,
) -> Result<(), StoreError> {
    for id in ids {
        tx.remove(&OWNED, &(owner, origin, *id))?;
        tx.remove(&PINS, &(origin, *id, owner))?;
    }
    let objects: Vec<_> = ids.iter().map(|id| (origin, *id)).collect();
    drop_unpinned(tx, &objects).map(drop)
}

/// Takes objects that nobody needs out of the index and dooms their files; returns how many.
pub(super) fn drop_unpinned(tx: &mut WriteTx, objects: &[(EntityId, ObjectId)]) -> Result<usize, StoreError> {
    let mut dropped = 0;
    for (origin, id) in objects {
        let Some(row) = tx.get(&OBJECTS, &(*origin, *id))? else {
            continue;
        };
        if !tx.prefix_keys(&PINS, &(*origin, *id), 1)?.is_empty() {
            continue;
        }
        tx.remove(&OBJECTS, &(*origin, *id))?;
        tx.put(&DOOMED, &(*origin, *id, row.batch), &())?;
        subtract_usage(tx, origin, row)?;
        dropped += 1;
    }
    Ok(dropped)
}

fn subtract_usage(tx: &mut WriteTx, origin: &EntityId, row: ObjectRow) -> Result<(), StoreError> {
    let usage = tx.get(&USAGE, origin)?.unwrap_or_default();
    let left =
        Usage { objects: usage.objects.saturating_sub(1), bytes: usage.bytes.saturating_sub(u64::from(row.bytes)) };
    if left.objects == 0 {
        tx.remove(&USAGE, origin)?;
        return Ok(());
    }
    tx.put(&USAGE, origin, &left)
}

/// Works off a slice of what released owners held; false when nothing is left.
pub(super) fn release_some(tx: &mut WriteTx) -> Result<bool, StoreError> {
    let Some(owner) = tx.prefix_keys(&RELEASED, &(), 1)?.pop() else {
        return Ok(false);
    };
    let owned = tx.prefix_keys(&OWNED, &owner, SLICE_ROWS)?;
    for (_, origin, id) in &owned {
        tx.remove(&OWNED, &(owner, *origin, *id))?;
        tx.remove(&PINS, &(*origin, *id, owner))?;
    }
    let objects: Vec<_> = owned.iter().map(|(_, origin, id)| (*origin, *id)).collect();
    drop_unpinned(tx, &objects)?;
    if owned.len() < SLICE_ROWS {
        tx.remove(&RELEASED, &owner)?;
        tx.remove(&UNSETTLED, &owner)?;
    }
    Ok(true)
}

/// Drops a slice of the objects that were entered without an owner and got none; gives how many, `None` at the end.
pub(super) fn drop_loose(tx: &mut WriteTx) -> Result<Option<usize>, StoreError> {
    let loose: Vec<(EntityId, ObjectId)> = tx.prefix_keys(&LOOSE, &(), SLICE_ROWS)?;
    if loose.is_empty() {
        return Ok(None);
    }
    for object in &loose {
        tx.remove(&LOOSE, object)?;
    }
    drop_unpinned(tx, &loose).map(Some)
}

/// Takes the rows of those doomed files that still have one, and returns them: their files may go now.
pub(super) fn take_doomed(
    tx: &mut WriteTx,
    doomed: &[(EntityId, ObjectId, u32)],
) -> Result<Vec<(EntityId, ObjectId, u32)>, StoreError> {
    let mut taken = Vec::new();
    for row in doomed {
        if tx.remove(&DOOMED, row)? {
            taken.push(*row);
        }
    }
    Ok(taken)
}

/// Those of `ids` that are stored as coming from `origin`.
pub(super) fn known(tx: &impl Rows, origin: EntityId, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, StoreError> {
    let mut found = HashSet::new();
    for id in ids {
        if tx.contains(&OBJECTS, &(origin, *id))? {
            found.insert(*id);
        }
    }
    Ok(found)
}
