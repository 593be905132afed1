//! The operating system's file system.
//!
//! **Invariant:** files are made 0600 and directories 0700, whatever the umask of the process says.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{DirEntry, Disk, DiskError, DiskFile, DiskLock, whole};

/// The disk that the operating system shows; paths are taken as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl RealDisk {
    /// The disk as a shared object, the way that [`crate::store::Store`] takes it.
    pub fn shared() -> Arc<dyn Disk> {
        let disk = Arc::new(RealDisk);
        #[cfg(debug_assertions)]
        let disk = super::doomed::doomed(disk);
        disk
    }
}

pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(Arc::new(RealFile(options().create_new(true).open(path)?)))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(Arc::new(RealFile(options().open(path)?)))
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        whole::write(path, bytes)
    }

    fn read_whole(&self, path: &Path, bytes: usize, bytes_max: usize) -> Result<Bytes, DiskError> {
        whole::read(path, bytes, bytes_max)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        Ok(fs::rename(from, to)?)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        Ok(fs::remove_file(path)?)
    }

    fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        Ok(fs::remove_dir(path)?)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        if !path.is_dir() {
            if !parent.as_os_str().is_empty() && !parent.is_dir() {
                self.create_dir_all(parent)?;
            }
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
                made => made?,
            }
        }
        // Also if it was there: whoever made it may have been killed before this.
        self.sync_dir(parent)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let synced = File::open(path).and_then(|dir| dir.sync_all());
        synced.map_err(|error| DiskError::from(error).of_sync())
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let (true, Ok(name)) = (kind.is_dir() || kind.is_file(), entry.file_name().into_string()) else {
                continue;
            };
            entries.push(DirEntry { name, is_dir: kind.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        Ok(path.try_exists()?)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        let stat = rustix::fs::statvfs(path).map_err(io::Error::from)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError> {
        let file = options().create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock(file))),
            Err(TryLockError::WouldBlock) => Err(DiskError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// Holds the lock for as long as the file is open.
#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl DiskLock for RealLock {}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        Ok(self.0.read_exact_at(out, offset)?)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        Ok(self.0.write_all_at(bytes, offset)?)
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        let present = self.len()?;
        if bytes > present && !self.reserve(present, bytes - present)? {
            self.0.set_len(bytes)?;
        }
        if bytes < present {
            self.0.set_len(bytes)?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.0.sync_data().map_err(|error| DiskError::from(error).of_sync())
    }
}

impl RealFile {
    /// Grows the file with blocks behind it, so that the disk cannot be full in the middle of a commit; false where the
    /// file system does not offer that.
    fn reserve(&self, offset: u64, bytes: u64) -> Result<bool, DiskError> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), offset, bytes) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(false),
            Err(error) => {
                // A failed reservation may leave the file longer than asked for nothing.
                self.0.set_len(offset)?;
                Err(io::Error::from(error).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{read_file, replace_file};
    use super::*;

    #[test]
    fn files_and_directories_belong_to_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        RealDisk.create_dir_all(&folder).unwrap();
        let path = folder.join("f");
        replace_file(&RealDisk, &path, b"one").unwrap();
        replace_file(&RealDisk, &path, b"two").unwrap();
        assert_eq!(read_file(&RealDisk, &path, 3).unwrap(), b"two");
        assert!(matches!(read_file(&RealDisk, &path, 2), Err(DiskError::Io(io::ErrorKind::FileTooLarge))));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder), mode(folder.parent().unwrap())), (0o600, 0o700, 0o700));
        let names: Vec<_> = RealDisk.list(&folder).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["f"]);
        assert!(RealDisk.free_bytes(&folder).unwrap() > 0);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        assert!(matches!(RealDisk.lock(&path), Err(DiskError::Locked)));
        drop(held);
        RealDisk.lock(&path).unwrap();
    }

    #[test]
    fn length_follows_what_is_set_and_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("f")).unwrap();
        assert!(file.is_empty().unwrap());
        file.set_len(10_000).unwrap();
        file.write_at(9_999, b"xy").unwrap();
        assert_eq!(file.len().unwrap(), 10_001);
        let mut out = [1; 3];
        file.read_at(9_998, &mut out).unwrap();
        assert_eq!(&out, b"\0xy");
        assert!(file.read_at(9_999, &mut out).is_err());
        file.set_len(3).unwrap();
        file.sync().unwrap();
        assert_eq!(file.len().unwrap(), 3);
    }
}
