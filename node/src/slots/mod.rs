//! Keys that must be erasable for good: private halves of epoch keys, keys of manifests. They live in one file of fixed
//! slots and never in the database, whose deleted values linger in free pages.
//!
//! ```text
//! keys/slots       the file in use: header with the slot key (sealed under the store key), then the slots
//! keys/slots.new   the next edition while it is written
//! keys/slots.old   the last edition until it is overwritten
//! ```
//!
//! A rewrite seals all keys that are still needed under a fresh slot key, swaps the files by two renames and overwrites
//! the old edition, so that traces of erased slots, wherever the file system or the drive kept them, open under no key
//! that exists. Whatever call is the last before a crash, [`Slots::open`] finds one complete edition.
//!
//! Puts and erasures that come at once share one sync: whoever gets hold of the file does what all of them wait for.
//!
//! **Invariant:** [`Slots::put`] returns after the slot is durable, so that a row may refer to it.
//! **Invariant:** after [`Slots::erase`] the key is gone, also after a crash; backups never hold this file.

mod edition;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use pakt_keys::slots::{self, HEADER_BYTES, SLOT_BYTES, SLOT_PLAIN_BYTES_MAX, SlotError, SlotKey};
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::disk::{Disk, DiskError};
use crate::store::{Store, random};
use edition::{Change, ChangeKind, Edition, seal_slot};

/// Names one use of a slot; stays valid over rewrites, and does not open what is put there later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    index: u64,
    tag: [u8; TAG_BYTES],
}

/// Random bytes in front of the key material, to tell one use of a slot from the next.
const TAG_BYTES: usize = 8;

/// The most key material that a slot takes, in bytes.
pub const KEY_BYTES_MAX: usize = SLOT_PLAIN_BYTES_MAX - TAG_BYTES;

/// Slots are told apart by their tag and editions by their key, so that all slots have one generation.
const GENERATION: u64 = 0;

/// Places that a file can have when keys are put back: far above the messages of any node.
const SLOTS_MAX: usize = 1 << 26;

/// Slots that are rewritten at once.
const STRIDE: usize = 512;

/// Why key material could not be kept, found or erased.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SlotsError {
    /// The file does not open, or the caller's key is too long.
    #[error(transparent)]
    Format(#[from] SlotError),
    /// The disk is full or failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An earlier failure of the disk stopped the slots.
    #[error("the key slots stopped after a failure of the disk; check the disk, then start again")]
    Failed,
}

impl SlotsError {
    /// Whether the same call may succeed later without a restart.
    pub fn is_transient(&self) -> bool {
        matches!(self, SlotsError::Disk(DiskError::Full))
    }
}

/// The key slots; clones share them. All calls block on the disk.
#[derive(Clone)]
pub struct Slots {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    edition: Mutex<Edition>,
    /// Changes that wait for the next sync; never more than threads that wait for theirs.
    waiting: Mutex<Vec<Arc<Change>>>,
    /// Held for reading by those who erase, for writing while a backup takes keys, so that none is erased between its row
    /// and its slot.
    erasing: RwLock<()>,
}

/// While it lives nothing is erased; whoever wants to waits.
pub(crate) struct NoErasure<'a>(#[expect(dead_code, reason = "its end is what counts")] RwLockWriteGuard<'a, ()>);

fn offset(index: usize) -> u64 {
    HEADER_BYTES as u64 + index as u64 * SLOT_BYTES as u64
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Overwrites a file, then removes it.
fn destroy(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    let file = disk.open(path)?;
    let bytes = file.len()?;
    let mut noise = vec![0; STRIDE * SLOT_BYTES];
    let mut done = 0;
    while done < bytes {
        random().fill_bytes(&mut noise);
        let part = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(noise.len());
        file.write_at(done, &noise[..part])?;
        done += part as u64;
    }
    file.sync()?;
    disk.remove(path)?;
    disk.sync_dir(folder(path))
}

/// Leaves exactly one edition, under `path`, or none if there never was one.
fn recover(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    let (new, old) = (beside(path, ".new"), beside(path, ".old"));
    if disk.exists(&old)? {
        if disk.exists(path)? {
            destroy(disk, &old)?;
        } else {
            disk.rename(&old, path)?;
            disk.sync_dir(folder(path))?;
        }
    }
    if disk.exists(&new)? {
        destroy(disk, &new)?;
    }
    Ok(())
}

fn create(disk: &dyn Disk, path: &Path, store: &Store) -> Result<(), DiskError> {
    let new = beside(path, ".new");
    let key = SlotKey::generate(&mut random());
    let file = disk.create(&new)?;
    file.write_at(0, &slots::header_seal(store.key(), &key, &mut random()))?;
    file.sync()?;
    disk.rename(&new, path)?;
    disk.sync_dir(folder(path))
}

impl Slots {
    /// Opens the slots at `path` (`DIR/keys/slots`), or makes them; they are sealed under the key of `store`, which also
    /// stops when the slots cannot be made durable.
    ///
    /// # Errors
    /// When the file is damaged or belongs to another store key, or the disk is full or fails.
    pub fn open(store: Store, disk: Arc<dyn Disk>, path: &Path) -> Result<Slots, SlotsError> {
        disk.create_dir_all(folder(path))?;
        recover(&*disk, path)?;
        if !disk.exists(path)? {
            create(&*disk, path, &store)?;
        }
        let edition = Mutex::new(Edition::read(&store, disk.open(path)?)?);
        let (waiting, erasing) = (Mutex::default(), RwLock::default());
        Ok(Slots { inner: Arc::new(Inner { store, disk, path: path.to_owned(), edition, waiting, erasing }) })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Edition) -> Result<T, SlotsError>) -> Result<T, SlotsError> {
        let mut edition: MutexGuard<'_, Edition> = self.inner.edition.lock().unwrap_or_else(PoisonError::into_inner);
        if edition.failed {
            return Err(SlotsError::Failed);
        }
        let result = work(&mut edition);
        if let Err(SlotsError::Disk(DiskError::Unsynced(_))) = result {
            edition.failed = true;
            self.inner.store.fail();
        }
        result
    }

    /// Keeps key material; on return it is durable.
    ///
    /// # Errors
    /// [`SlotError::TooLong`] above [`KEY_BYTES_MAX`], or when the disk is full or fails.
    pub fn put(&self, secret: &[u8]) -> Result<SlotId, SlotsError> {
        let put = self.change(ChangeKind::Put(Zeroizing::new(secret.to_vec())))?;
        put.ok_or(SlotsError::Failed)
    }

    /// Makes a change durable, with all others that wait at the same time.
    fn change(&self, kind: ChangeKind) -> Result<Option<SlotId>, SlotsError> {
        let own = Arc::new(Change { kind, done: OnceLock::new() });
        let waiting = || self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().push(own.clone());
        let applied = self.with(|edition| match own.done.get() {
            Some(_) => Ok(()),
            None => edition.apply(&std::mem::take(&mut *waiting())),
        });
        match own.done.get() {
            Some(done) => done.clone(),
            // Nothing was done: the slots had stopped before.
            None => {
                waiting().retain(|change| !Arc::ptr_eq(change, &own));
                applied.and(Err(SlotsError::Failed))
            }
        }
    }

    /// The key material of a slot; `None` if it was erased or is damaged.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn get(&self, id: SlotId) -> Result<Option<Zeroizing<Vec<u8>>>, SlotsError> {
        self.with(|edition| edition.secret(id))
    }

    /// The key material of several slots, in their order, without others in between.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn get_all(&self, ids: &[SlotId]) -> Result<Vec<Option<Zeroizing<Vec<u8>>>>, SlotsError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.with(|edition| ids.iter().map(|id| edition.secret(*id)).collect())
    }

    /// Overwrites slots; on return that is durable. Erased and unknown ones cost nothing.
    ///
    /// # Errors
    /// When the disk fails: the keys may or may not be gone, so erase them again.
    pub fn erase(&self, ids: &[SlotId]) -> Result<(), SlotsError> {
        let _erasing = self.inner.erasing.read().unwrap_or_else(PoisonError::into_inner);
        self.change(ChangeKind::Erase(ids.to_vec())).map(|_| ())
    }

    /// Has erasures wait; only for as long as it takes to read some keys.
    pub(crate) fn no_erasure(&self) -> NoErasure<'_> {
        NoErasure(self.inner.erasing.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts keys back under the names that they had in the file that was lost; on return they are durable.
    ///
    /// # Errors
    /// [`SlotError::Damaged`] for a place beyond any file, or when the disk is full or fails.
    pub(crate) fn put_back(&self, keys: &[(SlotId, Zeroizing<Vec<u8>>)]) -> Result<(), SlotsError> {
        self.with(|edition| {
            for (id, secret) in keys {
                let index = usize::try_from(id.index).ok().filter(|index| *index < SLOTS_MAX);
                let index = index.ok_or(SlotError::Damaged)?;
                let slot = seal_slot(&edition.key, index, &id.tag, secret)?;
                edition.file.write_at(offset(index), &slot)?;
                edition.enter(index, Some(id.tag));
            }
            Ok(edition.file.sync()?)
        })
    }

    /// All slots in use, so that the owner can erase those that a crash left without a row.
    ///
    /// # Errors
    /// [`SlotsError::Failed`].
    pub fn list(&self) -> Result<Vec<SlotId>, SlotsError> {
        self.with(|edition| {
            let tags = edition.tags.iter().enumerate();
            Ok(tags.filter_map(|(index, tag)| Some(SlotId { index: index as u64, tag: (*tag)? })).collect())
        })
    }

    /// Writes the next edition under a fresh slot key and destroys the old one; due once a day.
    ///
    /// # Errors
    /// When the disk is full or fails; one complete edition stays in use, and the next call finishes what this one left.
    pub fn rewrite(&self) -> Result<(), SlotsError> {
        let (disk, path) = (&*self.inner.disk, &*self.inner.path);
        let (new, old) = (beside(path, ".new"), beside(path, ".old"));
        self.with(|edition| {
            recover(disk, path)?;
            let next = edition.copy_to(&self.inner.store, disk.create(&new)?)?;
            disk.rename(path, &old)?;
            disk.rename(&new, path)?;
            // From here on the new edition is the one that a restart would find.
            *edition = next;
            disk.sync_dir(folder(path))?;
            Ok(destroy(disk, &old)?)
        })
    }
}
