//! All small records of the node: one redb file, values sealed, every change durable before anybody hears of it.
//!
//! Start reading at [`Store`]; [`tables`] lists what is stored, [`Key`] says how keys sort. redb sits on a
//! [`crate::disk::Disk`], two-phase commit on. One thread commits; it takes all changes that wait at that moment into
//! one commit, so that a hundred callers pay for two syncs together.
//!
//! **Invariant:** [`Store::write`] returns success only after the commit is durable.
//! **Invariant:** a disk that failed to sync is never trusted again: the store stops, and [`Store::failed`] resolves.
//! **Invariant:** a full disk stops nobody from reading, and writes go on once there is space, without a restart.

use std::marker::PhantomData;

use rand_core::UnwrapErr;

mod backend;
mod checked;
pub(crate) mod dump;
mod engine;
mod error;
mod key;
mod migrate;
mod rows;
pub mod tables;
#[cfg(test)]
mod tests;
mod tx;
mod writer;

pub(crate) use engine::CACHE_BYTES;
pub use error::StoreError;
pub use key::Key;
#[cfg(test)]
pub(crate) use migrate::pretend;
pub use rows::Rows;
pub use tx::{ReadTx, WriteTx};
pub use writer::Store;

/// Name of the file beside the database that a running node keeps locked.
pub const LOCK_NAME: &str = "lock";

/// Bytes of one encoded value at most; content lies in objects, so that rows stay small.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// A table as a constant: its name with a version, and the types of its rows.
pub struct Table<K, V> {
    name: &'static str,
    rows: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Table<K, V> {
    /// A table of this name; two tables never share one.
    pub const fn new(name: &'static str) -> Table<K, V> {
        assert!(!name.is_empty(), "a table has a name");
        Table { name, rows: PhantomData }
    }

    /// The name in the database file.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// The system's generator; it fails only where no secret could be drawn at all.
pub(crate) fn random() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}
