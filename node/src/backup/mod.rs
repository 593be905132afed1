//! Backups: one file with all that a node needs to come back, made while it runs, checked and restored without it.
//!
//! | file | what it does |
//! |---|---|
//! | `entry`, `stream` | what lies in a backup, and how it is cut into sealed frames ([`pakt_keys::backup`]) |
//! | `create` | takes one consistent view of the store, its objects and keys |
//! | `check` | follows a backup from its first entry to its last and says what is missing |
//! | `verify`, `restore` | read a file to its end; put a data directory together from it, whole or not at all |
//! | `ledger` | names what was purged, so that an older backup brings nothing back |
//! | `after` | the first start of a restored node |
//!
//! **Invariant:** a backup holds no private epoch key, no slot file and no recovery file.
//! **Invariant:** memory does not grow with what is backed up, but for some dozens of bytes per object and message.
//! **Invariant:** a restored directory is complete, or it is not there.

pub(crate) mod after;
mod check;
mod create;
mod entry;
pub(crate) mod ledger;
mod restore;
pub(crate) mod rows;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

use pakt_keys::backup::BackupFormatError;
use pakt_keys::keystore::KeystoreError;

use crate::api::types::{ErrorCode, ServiceError};
use crate::blob::BlobError;
use crate::slots::SlotsError;
use crate::store::StoreError;

pub use check::Summary;
pub(crate) use create::{Source, create};
pub use ledger::{BackupConfig, LedgerError};
pub use restore::{RestoreOptions, Restored, restore};
pub use verify::{Verified, verify};

/// Why a backup could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is not whole.
    #[error(transparent)]
    Format(#[from] BackupFormatError),
    /// Its keystore does not open.
    #[error("the keystore within the backup: {0}")]
    Keystore(#[from] KeystoreError),
    /// What its frames hold is not what a backup holds.
    #[error("the backup is damaged: {0}")]
    Content(&'static str),
    /// It was made with objects or keys missing.
    #[error("the backup is not complete: {0} objects or keys were missing when it was made")]
    Incomplete(u64),
    /// Records could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Objects could not be read or written.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// Key slots could not be read or written.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The ledger of purges could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file could not be read or written.
    #[error("the file could not be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// A step that has its own words.
    #[error("{0}")]
    Service(#[from] ServiceError),
    /// Nobody reads it any more.
    #[error("the backup was broken off: nobody took it")]
    Stopped,
}

impl From<BackupError> for ServiceError {
    fn from(error: BackupError) -> ServiceError {
        let text = error.to_string();
        let (code, hint) = match error {
            BackupError::Store(error) => return error.into(),
            BackupError::Blobs(error) => return error.into(),
            BackupError::Slots(error) => return error.into(),
            BackupError::Service(error) => return error,
            BackupError::Keystore(KeystoreError::Locked | KeystoreError::WrongPassphrase) => {
                (ErrorCode::Locked, "give the passphrase that held when the backup was made: --passphrase-file FILE")
            }
            BackupError::Format(BackupFormatError::Newer { .. })
            | BackupError::Keystore(KeystoreError::Newer { .. }) => {
                (ErrorCode::Damaged, "use the newer `pakt` that wrote it")
            }
            BackupError::Format(BackupFormatError::NotABackup) => (ErrorCode::Damaged, "name the right file"),
            BackupError::Incomplete(_) => (
                ErrorCode::Damaged,
                "see `pakt backup verify`; --incomplete restores the rest, the messages named there will not open",
            ),
            BackupError::Format(_) | BackupError::Keystore(_) | BackupError::Content(_) => {
                (ErrorCode::Damaged, "use another copy of it, or an older backup")
            }
            BackupError::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                (ErrorCode::Full, "make room and try again")
            }
            BackupError::Io(_) => (ErrorCode::Failed, "check the disk and the rights"),
            BackupError::Ledger(LedgerError::Store(error)) => return error.into(),
            BackupError::Ledger(LedgerError::Io(_)) => (ErrorCode::Failed, "check the disk and the rights"),
            BackupError::Ledger(_) => (
                ErrorCode::Damaged,
                "name the ledger with --ledger FILE; --without-ledger restores without it, and then what was purged since \
                 the backup may come back",
            ),
            BackupError::Stopped => (ErrorCode::Failed, "run it again"),
        };
        ServiceError::new(code, text, hint)
    }
}
