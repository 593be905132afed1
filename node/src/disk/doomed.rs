//! A disk that ends the process in a chosen call, as kill -9 does: for tests that kill whole nodes at every step.
//!
//! `PAKT_DIE_AT=KIND:N:WHEN` in the environment: KIND is `write`, `sync` or `rename` (which counts removals too), N counts the calls of that kind from 1
//! since the process began, WHEN is `before`, `half` or `after`. `half` writes the first half of the bytes.
//!
//! **Invariant:** debug builds only; a release binary has none of this.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::process::{Signal, getpid, kill_process};

use super::{DirEntry, Disk, DiskError, DiskFile, DiskLock};

const VARIABLE: &str = "PAKT_DIE_AT";

/// All disks of the process count together.
static CALLS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Sync,
    Rename,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    Half,
    After,
}

/// The call that the process does not survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doom {
    kind: Kind,
    at: u64,
    when: When,
}

impl FromStr for Doom {
    type Err = ();

    fn from_str(text: &str) -> Result<Doom, ()> {
        let parts: Vec<&str> = text.split(':').collect();
        let [kind, at, when] = parts[..] else { return Err(()) };
        let kind = match kind {
            "write" => Kind::Write,
            "sync" => Kind::Sync,
            "rename" => Kind::Rename,
            _ => return Err(()),
        };
        let when = match when {
            "before" => When::Before,
            "half" => When::Half,
            "after" => When::After,
            _ => return Err(()),
        };
        Ok(Doom { kind, at: at.parse().map_err(drop)?, when })
    }
}

/// Ends the process without giving anything in it a chance.
fn die() -> ! {
    loop {
        // Nobody may keep a process from killing itself; it ends while this returns.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

impl Doom {
    /// Counts a call and does it, as far as the process lives; `half` is what one that dies in the middle still does.
    fn call<T>(&self, kind: Kind, act: impl FnOnce() -> T, half: impl FnOnce()) -> T {
        let is_last = self.kind == kind && CALLS.fetch_add(1, Ordering::Relaxed) + 1 == self.at;
        match self.when {
            When::Before if is_last => die(),
            When::Half if is_last => {
                half();
                die()
            }
            _ => {}
        }
        let done = act();
        if is_last {
            die();
        }
        done
    }
}

/// `disk`, or one that ends the process where the environment says when.
pub(super) fn doomed(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    let Ok(text) = std::env::var(VARIABLE) else { return disk };
    match text.parse() {
        Ok(doom) => Arc::new(DoomedDisk { disk, doom }),
        Err(()) => {
            tracing::error!("{VARIABLE} is not KIND:N:WHEN and does nothing");
            disk
        }
    }
}

#[derive(Debug)]
struct DoomedDisk {
    disk: Arc<dyn Disk>,
    doom: Doom,
}

impl DoomedDisk {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(DoomedFile { file, doom: self.doom })
    }
}

impl Disk for DoomedDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.file(self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.file(self.disk.open(path)?))
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let half = || {
            let file = self.disk.create(path);
            let _ = file.and_then(|file| file.write_at(0, &bytes[..bytes.len() / 2]));
        };
        let write = || self.disk.write_whole(path, bytes);
        self.doom.call(Kind::Write, || self.doom.call(Kind::Sync, write, || {}), half)
    }

    fn read_whole(&self, path: &Path, bytes: usize, bytes_max: usize) -> Result<Bytes, DiskError> {
        self.disk.read_whole(path, bytes, bytes_max)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.doom.call(Kind::Rename, || self.disk.rename(from, to), || {})
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.doom.call(Kind::Rename, || self.disk.remove(path), || {})
    }

    fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove_dir(path)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.doom.call(Kind::Sync, || self.disk.create_dir_all(path), || {})
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.doom.call(Kind::Sync, || self.disk.sync_dir(path), || {})
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.disk.list(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.disk.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        self.disk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct DoomedFile {
    file: Arc<dyn DiskFile>,
    doom: Doom,
}

impl DiskFile for DoomedFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let half = || drop(self.file.write_at(offset, &bytes[..bytes.len() / 2]));
        self.doom.call(Kind::Write, || self.file.write_at(offset, bytes), half)
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.len()
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        self.doom.call(Kind::Write, || self.file.set_len(bytes), || {})
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.doom.call(Kind::Sync, || self.file.sync(), || {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doom_is_read_strictly() {
        assert_eq!("sync:17:half".parse(), Ok(Doom { kind: Kind::Sync, at: 17, when: When::Half }));
        for text in ["", "sync", "sync:17", "sync:17:half:1", "read:1:after", "sync:x:after", "write:1:now"] {
            assert!(text.parse::<Doom>().is_err(), "{text}");
        }
    }
}
