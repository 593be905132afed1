//! Small private files: written whole or not at all, and refused when others can read them.
//!
//! **Invariant:** a private file never exists with wider rights than 0600, not even for a moment.
//! **Invariant:** a file that was written is durable, its name included, when the call returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::api::types::{ErrorCode, ServiceError};

/// Creates `path` and missing parents, `path` itself with mode 0700.
///
/// # Errors
/// Those of the file system.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Writes a file of mode 0600, durably, taking the place of an older one in one step.
///
/// # Errors
/// Those of the file system, as a sentence that names the file.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
    write_atomic(path, bytes, 0o600, |_| Ok(())).map_err(|e| write_error(path, &e))
}

/// Writes a file of mode 0600, durably, in the place of an older one whose bytes are overwritten afterwards, so that
/// old keys do not stay behind; where the file system or the disk keeps copies, they do.
///
/// # Errors
/// Those of the file system, as a sentence that names the file.
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
    let old = OpenOptions::new().write(true).open(path);
    write_private(path, bytes)?;
    let overwritten = old.and_then(|mut old| {
        let length = usize::try_from(old.metadata()?.len()).unwrap_or(0);
        old.write_all(&vec![0; length])?;
        old.sync_all()
    });
    // The new file is in place; that the old bytes may be left is worth a word, but no failure.
    if let Err(error) = overwritten.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }) {
        tracing::warn!(path = %path.display(), %error, "the bytes of the file before could not be overwritten");
    }
    Ok(())
}

/// Writes a file of mode 0644 whatever the umask, durably, taking the place of an older one in one step.
///
/// # Errors
/// Those of the file system, as a sentence that names the file.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
    let widened = |file: &File| file.set_permissions(fs::Permissions::from_mode(0o644));
    write_atomic(path, bytes, 0o600, widened).map_err(|e| write_error(path, &e))
}

/// Writes a file with the rights that the caller's umask leaves, durably, taking the place of an older one in one step.
///
/// # Errors
/// Those of the file system, as a sentence that names the file.
pub fn write_result(path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
    write_atomic(path, bytes, 0o644, |_| Ok(())).map_err(|e| write_error(path, &e))
}

/// Writes a file of mode 0600, durably, and only if nothing has that name yet.
///
/// # Errors
/// Those of the file system, as a sentence that names the file.
pub fn create_private(path: &Path, bytes: &[u8]) -> Result<(), ServiceError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        sync_parent(path)
    };
    write().map_err(|e| write_error(path, &e))
}

/// `finished` sees the whole file before it gets its name.
fn write_atomic(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    finished: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_name(path);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        keep_owner(path, &file)?;
        file.write_all(bytes)?;
        finished(&file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// What root writes in the place of a service's file stays the service's.
fn keep_owner(path: &Path, file: &File) -> io::Result<()> {
    let Ok(old) = fs::symlink_metadata(path) else { return Ok(()) };
    let new = file.metadata()?;
    if rustix::process::geteuid().is_root() && (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    Ok(())
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

pub(crate) fn write_error(path: &Path, error: &io::Error) -> ServiceError {
    let (code, hint) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (ErrorCode::Full, "make room and try again"),
        io::ErrorKind::AlreadyExists => (ErrorCode::Conflict, "choose another name or move that file away"),
        io::ErrorKind::NotFound => (ErrorCode::NotFound, "create the folder first"),
        _ => (ErrorCode::Failed, "check the rights of the folder"),
    };
    ServiceError::new(code, format!("cannot write {}: {error}", path.display()), hint)
}

/// Reads at most `bytes_max` bytes of a file that only its owner may read.
///
/// # Errors
/// `locked` when others can read it, `damaged` when it is longer, `not_found` when it is absent.
pub fn read_private(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ServiceError> {
    refuse_open_to_others(path)?;
    read_bounded(path, bytes_max)
}

/// Refuses a file on which anyone but its owner has any right.
///
/// # Errors
/// `locked`, with the command that closes it.
pub fn refuse_open_to_others(path: &Path) -> Result<(), ServiceError> {
    let Some(mode) = open_to_others(path) else { return Ok(()) };
    Err(ServiceError::new(
        ErrorCode::Locked,
        format!("{} can be read or changed by others (mode {mode:o})", path.display()),
        format!("if nobody else has seen it: chmod 600 {}", path.display()),
    ))
}

/// The permission bits of `path` if anyone but its owner has any.
pub fn open_to_others(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// `damaged` when it is longer, `not_found` when it is absent, `failed` otherwise.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ServiceError> {
    let file = File::open(path).map_err(|e| read_error(path, &e))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(ServiceError::new(ErrorCode::Failed, format!("{} is a folder", path.display()), "name a file"));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| read_error(path, &e))?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("{} is longer than the {bytes_max} bytes that such a file can have", path.display());
        return Err(ServiceError::new(ErrorCode::Damaged, message, "check that it is the right file"));
    }
    Ok(bytes)
}

/// The error for a file of the caller that cannot be read.
pub fn read_error(path: &Path, error: &io::Error) -> ServiceError {
    let (code, hint) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorCode::Failed, "check the name"),
        io::ErrorKind::PermissionDenied => (ErrorCode::Failed, "run as a user who may read it"),
        _ => (ErrorCode::Failed, ""),
    };
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        io::ErrorKind::PermissionDenied => format!("{} may not be read by this user", path.display()),
        _ => format!("cannot read {}: {error}", path.display()),
    };
    ServiceError::new(code, what, hint)
}

/// Whether this process may look into `dir`, and whose it is otherwise.
pub fn foreign_owner(dir: &Path) -> Option<u32> {
    let owner = fs::metadata(dir).ok()?.uid();
    let us = rustix::process::geteuid().as_raw();
    (us != 0 && owner != us).then_some(owner)
}

/// Whether somewhere below `error` a port was taken.
pub fn is_address_in_use(error: &anyhow::Error) -> bool {
    let in_use = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::AddrInUse)
    };
    error.chain().any(in_use)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_are_0600_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read_private(&path, 3).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        assert_eq!(create_private(&path, b"three").unwrap_err().code, ErrorCode::Conflict);
        assert_eq!(read_private(&path, 3).unwrap(), b"two");
    }

    #[test]
    fn what_is_replaced_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        replace_private(&path, b"first").unwrap();
        let old = File::open(&path).unwrap();
        replace_private(&path, b"second").unwrap();
        assert_eq!(read_private(&path, 9).unwrap(), b"second");
        let mut bytes = Vec::new();
        (&old).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 5]);
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"one").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_private(&path, 3).unwrap_err();
            assert_eq!(error.code, ErrorCode::Locked);
            assert!(error.hint.contains("chmod 600"), "{}", error.hint);
        }
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("card");
        write_public(&path, &[7; 100]).unwrap();
        assert_eq!(read_bounded(&path, 100).unwrap().len(), 100);
        assert_eq!(read_bounded(&path, 99).unwrap_err().code, ErrorCode::Damaged);
        assert_eq!(read_bounded(Path::new("/dev/zero"), 99).unwrap_err().code, ErrorCode::Damaged);
        assert_eq!(read_bounded(&dir.path().join("absent"), 9).unwrap_err().code, ErrorCode::Failed);
    }
}
