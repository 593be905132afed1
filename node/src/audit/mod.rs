//! The audit log of this node: [`append`] writes an entry in the very commit of the change that it records.
//!
//! One row per entry: its bytes and the hashes of the subtrees that it completes (`pakt_protocol::audit::tree`), so an
//! append costs one small row and a count.
//!
//! | file | what it does |
//! |---|---|
//! | `heads` | signs heads, and keeps those of counterparts |
//! | `noted` | adds what is seen afterwards |
//! | `pace` | bounds what a counterpart can add by its steps |
//! | `verify` | reads everything again and compares |
//! | `keep` | looks at the whole log once a day |
//! | `export`, `feed` | entries as FHIR, syslog and JSON; the way to a syslog socket |
//!
//! **Invariant:** an entry is durable if and only if the change that it records is.
//! **Invariant:** entries hold ids, never a name, subject, text or address.

pub mod export;
pub mod feed;
pub mod heads;
#[cfg(test)]
mod heads_tests;
pub mod keep;
mod noted;
pub(crate) mod pace;
#[cfg(test)]
pub(crate) mod tests;
pub mod verify;

pub use pakt_protocol::audit::Entry;
use pakt_protocol::audit::tree::{self, Hash};
use pakt_protocol::audit::{BlindedHead, Event};
use serde::{Deserialize, Serialize};

use crate::ambient;
use crate::store::tables::{AUDIT, AUDIT_SIZE};
use crate::store::{Rows, StoreError, WriteTx};

pub use heads::Log;
pub(crate) use pace::append_paced;

/// One entry as it is stored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditRow {
    /// The leaf: the codec bytes of its [`Entry`].
    entry: Vec<u8>,
    /// Hashes of the complete subtrees that end with it, its own first.
    hashes: Vec<Hash>,
}

/// Adds an entry to the log, in the commit of what it records.
///
/// # Errors
/// When the store fails.
pub fn append(tx: &mut WriteTx, event: Event) -> Result<(), StoreError> {
    let index = size(tx)?;
    let entry = Entry { at: ambient::now(), event };
    let hashes = tree::completed(index, entry.hash(), |end, level| subtree(tx, end, level))?;
    tx.put(&AUDIT, &index, &AuditRow { entry: entry.to_bytes(), hashes })?;
    tx.put(&AUDIT_SIZE, &(), &(index + 1))
}

/// Adds the entry that a receipt speaks of, and gives the blinded head of the log with it. The entry holds what blinds
/// the head.
///
/// # Errors
/// When the store fails.
pub fn append_blinded(tx: &mut WriteTx, event: impl FnOnce([u8; 32]) -> Event) -> Result<BlindedHead, StoreError> {
    let blinder = ambient::random();
    append(tx, event(blinder))?;
    let size = size(tx)?;
    Ok(BlindedHead::of(size, &root(tx, size)?, &blinder))
}

/// The number of entries.
///
/// # Errors
/// When the store fails.
pub(crate) fn size(tx: &impl Rows) -> Result<u64, StoreError> {
    Ok(tx.get(&AUDIT_SIZE, &())?.unwrap_or(0))
}

/// The root over the first `size` entries.
///
/// # Errors
/// When the store fails.
pub(crate) fn root(tx: &impl Rows, size: u64) -> Result<Hash, StoreError> {
    tree::root(size, |end, level| subtree(tx, end, level))
}

/// The stored hash of a complete subtree.
fn subtree(tx: &impl Rows, end: u64, level: u32) -> Result<Hash, StoreError> {
    let row = tx.get(&AUDIT, &end)?;
    let hash = row.and_then(|row: AuditRow| row.hashes.get(level as usize).copied());
    hash.ok_or(StoreError::Damaged(AUDIT.name()))
}

/// At most `limit` entries from number `from` on, with their numbers.
///
/// # Errors
/// When the store fails or an entry is damaged.
pub fn page(tx: &impl Rows, from: u64, limit: usize) -> Result<Vec<(u64, Entry)>, StoreError> {
    let rows = tx.range(&AUDIT, from.., limit)?;
    let read = |(index, row): (u64, AuditRow)| {
        let entry = Entry::from_bytes(&row.entry).map_err(|_| StoreError::Damaged(AUDIT.name()))?;
        Ok((index, entry))
    };
    rows.into_iter().map(read).collect()
}
