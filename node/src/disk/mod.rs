//! The one seam between the node and the disk: everything durable goes through [`Disk`].
//!
//! [`RealDisk`] is the operating system's file system, [`FaultDisk`] one in memory that fails, tears and forgets on
//! demand, so that every promise about durability can be tested at every single call.
//!
//! **Invariant:** a file's bytes are durable only after [`DiskFile::sync`], a file's name only after
//! [`Disk::sync_dir`]; nothing here syncs behind the caller's back except where it says so.
//! **Invariant:** a sync that failed is never tried again: the kernel may have dropped the pages already.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

#[cfg(debug_assertions)]
mod doomed;
mod fault;
mod fault_model;
#[cfg(test)]
mod matrix;
mod real;
mod whole;

pub use fault::{Crash, Fault, FaultDisk, FaultPlan};
pub use real::RealDisk;

/// Why the disk did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiskError {
    /// Another process holds the lock.
    #[error("the data directory is in use by another process; stop it first or use another directory")]
    Locked,
    /// No space (or quota) is left.
    #[error("the disk is full; free some space and try again")]
    Full,
    /// There is no such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// There is one already.
    #[error("the file exists already")]
    Exists,
    /// A file is not as long as it was when it was written.
    #[error("a file has another length than it was written with; check the disk")]
    WrongLength,
    /// The disk did not confirm that written bytes are durable; what was written since the last sync may be lost.
    #[error("the disk failed to make data durable ({0}); check the disk, then start again")]
    Unsynced(io::ErrorKind),
    /// Any other failure of the disk or of the rights to it.
    #[error("the disk failed ({0}); check the disk and the rights to the data directory")]
    Io(io::ErrorKind),
}

impl DiskError {
    /// Whether the same call may succeed later without a restart.
    pub fn is_transient(&self) -> bool {
        matches!(self, DiskError::Full)
    }

    /// The same failure as seen from a sync call, after which nothing unsynced can be relied on.
    pub(crate) fn of_sync(self) -> DiskError {
        match self {
            DiskError::Full => DiskError::Unsynced(io::ErrorKind::StorageFull),
            DiskError::NotFound => DiskError::Unsynced(io::ErrorKind::NotFound),
            DiskError::Io(kind) => DiskError::Unsynced(kind),
            other => other,
        }
    }
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> DiskError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
            io::ErrorKind::NotFound => DiskError::NotFound,
            io::ErrorKind::AlreadyExists => DiskError::Exists,
            kind => DiskError::Io(kind),
        }
    }
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> io::Error {
        let kind = match &error {
            DiskError::Locked => io::ErrorKind::WouldBlock,
            DiskError::Full => io::ErrorKind::StorageFull,
            DiskError::NotFound => io::ErrorKind::NotFound,
            DiskError::Exists => io::ErrorKind::AlreadyExists,
            DiskError::WrongLength => io::ErrorKind::InvalidData,
            DiskError::Unsynced(kind) | DiskError::Io(kind) => *kind,
        };
        io::Error::new(kind, error)
    }
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last component of its path; names that are not UTF-8 are never ours and are left out of listings.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// An open file, read and written at offsets in bytes; clones of the handle share the file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills `out` from `offset`.
    ///
    /// # Errors
    /// When the file ends before `out` is full, or the disk fails.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`, growing the file as needed.
    ///
    /// # Errors
    /// When the disk is full or fails; any part of the bytes may then have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// The length in bytes.
    ///
    /// # Errors
    /// When the disk fails.
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// When the disk fails.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Cuts or grows the file to `bytes`; new bytes read as zero and, where the file system can, are reserved, so that
    /// a later write into them does not find the disk full.
    ///
    /// # Errors
    /// When the disk is full or fails.
    fn set_len(&self, bytes: u64) -> Result<(), DiskError>;

    /// Returns once all bytes and the length are durable.
    ///
    /// # Errors
    /// [`DiskError::Unsynced`]: stop using the file; never call sync again in the hope that it succeeds.
    fn sync(&self) -> Result<(), DiskError>;
}

/// An exclusive lock on a path, released on drop or when the process ends.
pub trait DiskLock: Send + Sync + fmt::Debug {}

/// A file system: files 0600, directories 0700, all calls blocking.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes a new, empty file.
    ///
    /// # Errors
    /// [`DiskError::Exists`] when the name is taken; otherwise when the disk is full or fails.
    fn create(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or when the disk fails.
    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Makes a new file that holds `bytes` and returns once they are durable; its name is after [`Disk::sync_dir`]. The
    /// file may be padded, so that only [`Disk::read_whole`] reads it.
    ///
    /// # Errors
    /// As [`Disk::create`], [`DiskFile::write_at`] and [`DiskFile::sync`]; a part of the file may then be left.
    fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        write_new(self, path, bytes)
    }

    /// Reads the first bytes, at most `bytes_max`, of a file that was written with [`Disk::write_whole`] and held
    /// `bytes` bytes.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::WrongLength`], or when the disk fails.
    fn read_whole(&self, path: &Path, bytes: usize, bytes_max: usize) -> Result<Bytes, DiskError> {
        let file = self.open(path)?;
        if file.len()? != bytes as u64 {
            return Err(DiskError::WrongLength);
        }
        let mut out = vec![0; bytes.min(bytes_max)];
        file.read_at(0, &mut out)?;
        Ok(out.into())
    }

    /// Renames a file within one file system, replacing `to` if it exists; atomic, durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or when the disk fails.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file, durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or when the disk fails.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes an empty directory, durable after [`Disk::sync_dir`] of its parent.
    ///
    /// # Errors
    /// When it is missing or not empty, or the disk fails.
    fn remove_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes a directory and its missing parents; on return its name and those of the parents made are durable, also if it
    /// was there before.
    ///
    /// # Errors
    /// When the disk is full or fails.
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Returns once all names in the directory are durable.
    ///
    /// # Errors
    /// [`DiskError::Unsynced`]: names changed since the last sync may be lost.
    fn sync_dir(&self, path: &Path) -> Result<(), DiskError>;

    /// The names in a directory, sorted; links and devices are left out.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], or when the disk fails.
    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError>;

    /// Whether a file or directory has this name.
    ///
    /// # Errors
    /// When the disk fails.
    fn exists(&self, path: &Path) -> Result<bool, DiskError>;

    /// Bytes that this process may still write to the file system that holds `path`.
    ///
    /// # Errors
    /// When the disk fails.
    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError>;

    /// Takes an exclusive lock on the file `path`, making it if needed.
    ///
    /// # Errors
    /// [`DiskError::Locked`] when another process or handle holds it.
    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError>;
}

/// Opens a file, making an empty one if there is none; whether it was made is the second value.
///
/// # Errors
/// When the disk is full or fails.
pub fn open_or_create(disk: &dyn Disk, path: &Path) -> Result<(Arc<dyn DiskFile>, bool), DiskError> {
    match disk.open(path) {
        Err(DiskError::NotFound) => Ok((disk.create(path)?, true)),
        other => Ok((other?, false)),
    }
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// [`DiskError::NotFound`], `FileTooLarge` when it is longer, or when the disk fails.
pub fn read_file(disk: &dyn Disk, path: &Path, bytes_max: u64) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(path)?;
    let bytes = file.len()?;
    let length = usize::try_from(bytes).ok().filter(|_| bytes <= bytes_max);
    let mut out = vec![0; length.ok_or(DiskError::Io(io::ErrorKind::FileTooLarge))?];
    file.read_at(0, &mut out)?;
    Ok(out)
}

/// Replaces a file as a whole: after a crash either the old or the new bytes are there. Durable on return.
///
/// # Errors
/// When the disk is full or fails; the old file is then untouched unless the error is [`DiskError::Unsynced`].
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let temporary = temporary_name(path);
    match disk.remove(&temporary) {
        Ok(()) | Err(DiskError::NotFound) => {}
        Err(error) => return Err(error),
    }
    let written = write_new(disk, &temporary, bytes);
    if written.is_err() {
        // The leftover is removed by the next attempt at the latest.
        let _ = disk.remove(&temporary);
    }
    written?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn write_new(disk: &(impl Disk + ?Sized), path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let file = disk.create(path)?;
    file.write_at(0, bytes)?;
    file.sync()
}

/// The name under which a file is written before it gets its own.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

/// Ends the name of every file that is not complete yet; such a file found at start is a leftover of a crash.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";
