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
//! **Invariant:** [`Slots::put`] returns after the slot is durable, so that a row may refer to it.
//! **Invariant:** after [`Slots::erase`] the key is gone, also after a crash; backups never hold this file.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use pakt_keys::slots::{self, HEADER_BYTES, SLOT_BYTES, SLOT_PLAIN_BYTES_MAX, SlotError, SlotKey};
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::store::{Store, random};

#[cfg(test)]
mod tests;

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

/// One edition of the file.
struct Edition {
    file: Arc<dyn DiskFile>,
    key: SlotKey,
    /// The tag of each slot in use.
    tags: Vec<Option<[u8; TAG_BYTES]>>,
    /// The places among them that are free.
    free: BTreeSet<usize>,
    failed: bool,
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
    /// Held for reading while a backup takes keys, so that none is erased between its row and its slot.
    erasing: RwLock<()>,
}

/// While it lives nothing is erased; whoever wants to waits.
pub(crate) struct NoErasure<'a>(#[expect(dead_code, reason = "its end is what counts")] RwLockReadGuard<'a, ()>);

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

/// Tag and key material of a slot.
type OpenSlot = ([u8; TAG_BYTES], Zeroizing<Vec<u8>>);

fn open_slot(key: &SlotKey, index: usize, slot: &[u8]) -> Option<OpenSlot> {
    let plain = slots::open_slot(key, index as u64, GENERATION, slot)?;
    let (tag, secret) = plain.split_first_chunk()?;
    Some((*tag, Zeroizing::new(secret.to_vec())))
}

fn seal_slot(key: &SlotKey, index: usize, tag: &[u8; TAG_BYTES], secret: &[u8]) -> Result<[u8; SLOT_BYTES], SlotError> {
    let mut plain = Zeroizing::new(Vec::with_capacity(TAG_BYTES + secret.len()));
    plain.extend_from_slice(tag);
    plain.extend_from_slice(secret);
    slots::seal_slot(key, index as u64, GENERATION, &plain, &mut random())
}

impl Edition {
    fn read(store: &Store, file: Arc<dyn DiskFile>) -> Result<Edition, SlotsError> {
        let bytes = file.len()?;
        if bytes < HEADER_BYTES as u64 {
            return Err(SlotError::Damaged.into());
        }
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header)?;
        let key = slots::header_open(store.key(), &header)?;
        // A slot that a crash cut short was never answered for; the next one takes its place.
        let count = (bytes - HEADER_BYTES as u64) / SLOT_BYTES as u64;
        let count = usize::try_from(count).map_err(|_| DiskError::Io(io::ErrorKind::FileTooLarge))?;
        let mut edition = Edition { file, key, tags: Vec::with_capacity(count), free: BTreeSet::new(), failed: false };
        edition.each_stride(count, |edition, first, bytes| {
            for (at, opened) in edition.open_stride(first, bytes)?.into_iter().enumerate() {
                edition.enter(first + at, opened.map(|(tag, _)| tag));
            }
            Ok(())
        })?;
        Ok(edition)
    }

    /// Opens the slots of a stride that was read. What does not open is read once more: taken for erased, a key would be
    /// lost for good because one read of it went wrong.
    fn open_stride(&self, first: usize, bytes: &[u8]) -> Result<Vec<Option<OpenSlot>>, SlotsError> {
        let mut again: Option<Vec<u8>> = None;
        let mut opened = Vec::with_capacity(bytes.len() / SLOT_BYTES);
        for (at, slot) in bytes.chunks_exact(SLOT_BYTES).enumerate() {
            let mut found = open_slot(&self.key, first + at, slot);
            if found.is_none() {
                if again.is_none() {
                    let mut bytes = vec![0; bytes.len()];
                    self.file.read_at(offset(first), &mut bytes)?;
                    again = Some(bytes);
                }
                let place = at * SLOT_BYTES..(at + 1) * SLOT_BYTES;
                let other = again.as_ref().map(|again| &again[place]).filter(|again| *again != slot);
                found = other.and_then(|slot| open_slot(&self.key, first + at, slot));
            }
            opened.push(found);
        }
        Ok(opened)
    }

    /// Reads the first `count` slots in strides; `visit` gets the index of the first slot of each.
    fn each_stride(
        &mut self,
        count: usize,
        mut visit: impl FnMut(&mut Edition, usize, &[u8]) -> Result<(), SlotsError>,
    ) -> Result<(), SlotsError> {
        let mut buffer = vec![0; STRIDE.min(count) * SLOT_BYTES];
        let mut first = 0;
        while first < count {
            let slots = STRIDE.min(count - first);
            let bytes = &mut buffer[..slots * SLOT_BYTES];
            self.file.read_at(offset(first), bytes)?;
            visit(self, first, bytes)?;
            first += slots;
        }
        Ok(())
    }

    /// Notes what a place holds; places up to it are free.
    fn enter(&mut self, index: usize, tag: Option<[u8; TAG_BYTES]>) {
        if self.tags.len() <= index {
            self.free.extend(self.tags.len()..=index);
            self.tags.resize(index + 1, None);
        }
        self.tags[index] = tag;
        match tag {
            Some(_) => self.free.remove(&index),
            None => self.free.insert(index),
        };
    }

    fn index_of(&self, id: SlotId) -> Option<usize> {
        let index = usize::try_from(id.index).ok()?;
        (self.tags.get(index).copied().flatten() == Some(id.tag)).then_some(index)
    }

    fn secret(&self, id: SlotId) -> Result<Option<Zeroizing<Vec<u8>>>, SlotsError> {
        let Some(index) = self.index_of(id) else {
            return Ok(None);
        };
        let mut slot = [0; SLOT_BYTES];
        self.file.read_at(offset(index), &mut slot)?;
        let opened = self.open_stride(index, &slot)?.pop().flatten().filter(|(tag, _)| *tag == id.tag);
        Ok(opened.map(|(_, secret)| secret))
    }

    /// Writes the next edition of all slots in use to `file`.
    fn copy_to(&mut self, store: &Store, file: Arc<dyn DiskFile>) -> Result<Edition, SlotsError> {
        let count = self.tags.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let key = SlotKey::generate(&mut random());
        file.write_at(0, &slots::header_seal(store.key(), &key, &mut random()))?;
        let mut next = Edition { file, key, tags: Vec::with_capacity(count), free: BTreeSet::new(), failed: false };
        self.each_stride(count, |edition, first, bytes| {
            let mut out = Vec::with_capacity(bytes.len());
            for (at, opened) in edition.open_stride(first, bytes)?.into_iter().enumerate() {
                let index = first + at;
                let wanted = edition.tags[index];
                let opened = opened.filter(|(tag, _)| Some(*tag) == wanted);
                match &opened {
                    Some((tag, secret)) => out.extend_from_slice(&seal_slot(&next.key, index, tag, secret)?),
                    None => out.extend_from_slice(&slots::erased_slot(&mut random())),
                }
                if wanted.is_some() && opened.is_none() {
                    tracing::error!("a key slot is damaged; what it kept cannot be opened any more");
                }
                next.enter(index, opened.map(|(tag, _)| tag));
            }
            Ok(next.file.write_at(offset(first), &out)?)
        })?;
        next.file.sync()?;
        Ok(next)
    }
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
        Ok(Slots { inner: Arc::new(Inner { store, disk, path: path.to_owned(), edition, erasing: RwLock::default() }) })
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
        self.with(|edition| {
            // The first free one, so that the file stays short.
            let index = edition.free.first().copied().unwrap_or(edition.tags.len());
            let mut tag = [0; TAG_BYTES];
            random().fill_bytes(&mut tag);
            let slot = seal_slot(&edition.key, index, &tag, secret)?;
            edition.file.write_at(offset(index), &slot)?;
            edition.file.sync()?;
            edition.enter(index, Some(tag));
            Ok(SlotId { index: index as u64, tag })
        })
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
        let _erasing = self.inner.erasing.write().unwrap_or_else(PoisonError::into_inner);
        self.with(|edition| {
            let indices: Vec<_> = ids.iter().filter_map(|id| edition.index_of(*id)).collect();
            if indices.is_empty() {
                return Ok(());
            }
            for index in &indices {
                edition.file.write_at(offset(*index), &slots::erased_slot(&mut random()))?;
            }
            edition.file.sync()?;
            for index in indices {
                edition.enter(index, None);
            }
            Ok(())
        })
    }

    /// Has erasures wait; only for as long as it takes to read some keys.
    pub(crate) fn no_erasure(&self) -> NoErasure<'_> {
        NoErasure(self.inner.erasing.read().unwrap_or_else(PoisonError::into_inner))
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
