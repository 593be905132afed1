//! Why the store did not do what was asked, by blame: the operator's, the disk's, the caller's.

use std::io;

use crate::disk::DiskError;

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the data directory.
    #[error("the data directory is in use by another process; stop it first or use another directory")]
    Locked,
    /// The disk is full. Reads go on, writes go on once there is space.
    #[error("the disk is full; free some space and try again")]
    Full,
    /// A newer program wrote this data directory.
    #[error("the data directory has format {found}, this program knows up to {supported}: upgrade the program")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// A program from before the release wrote it.
    #[error(
        "this was made by an earlier version of pakt, before 0.1's release; keep it for the program that made it, and begin \
         anew with `pakt init`"
    )]
    Earlier,
    /// The store key does not open this data directory.
    #[error("the store key does not open this data directory; use the keystore that belongs to it")]
    WrongKey,
    /// What lies on disk is not what was written; the word says where.
    #[error("the data directory is damaged ({0}); check the disk and restore the last backup")]
    Damaged(&'static str),
    /// The disk failed; nothing more is written until the node is started again.
    #[error("the disk failed ({0}); check the disk and the rights to the data directory, then start again")]
    Io(io::ErrorKind),
    /// An earlier failure of the disk stopped the store.
    #[error("the store stopped after a failure of the disk; check the disk, then start again")]
    Failed,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A value is longer than a row may be.
    #[error("the value has {bytes} bytes, a row holds at most {max}")]
    TooLarge {
        /// Length of the encoded value in bytes.
        bytes: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The caller's closure panicked; nothing of it was written.
    #[error("an internal error stopped this operation; nothing of it was stored")]
    Panicked,
}

impl StoreError {
    /// Whether the same call may succeed later without a restart.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Full)
    }

    /// Whether nothing can be relied on any more until the database is opened again.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, StoreError::Io(_) | StoreError::Damaged(ENGINE))
    }
}

/// Names the database file itself as the place of a damage.
pub(super) const ENGINE: &str = "pakt.redb";

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> StoreError {
        match error {
            DiskError::Locked => StoreError::Locked,
            DiskError::Full => StoreError::Full,
            DiskError::NotFound => StoreError::Io(io::ErrorKind::NotFound),
            DiskError::Exists => StoreError::Io(io::ErrorKind::AlreadyExists),
            DiskError::WrongLength => StoreError::Io(io::ErrorKind::InvalidData),
            DiskError::Unsynced(kind) | DiskError::Io(kind) => StoreError::Io(kind),
        }
    }
}

/// `DiskError` travels through redb inside an `io::Error`; a sync that failed for lack of space is no `Full`.
fn of_io(error: &io::Error) -> StoreError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<DiskError>());
    match inner {
        Some(disk) => disk.clone().into(),
        None if error.kind() == io::ErrorKind::InvalidData => StoreError::Damaged(ENGINE),
        None => StoreError::Io(error.kind()),
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(error) => of_io(&error),
            redb::Error::PreviousIo => StoreError::Failed,
            redb::Error::DatabaseClosed => StoreError::Closed,
            redb::Error::DatabaseAlreadyOpen => StoreError::Locked,
            redb::Error::ValueTooLarge(bytes) => StoreError::TooLarge { bytes, max: super::VALUE_BYTES_MAX },
            _ => StoreError::Damaged(ENGINE),
        }
    }
}

/// Runs redb code; it asserts in places where a damaged file breaks its expectations, and that is damage to us.
pub(super) fn guarded<T, E: Into<redb::Error>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, StoreError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| StoreError::from(error.into())),
        Err(_) => Err(StoreError::Damaged(ENGINE)),
    }
}
