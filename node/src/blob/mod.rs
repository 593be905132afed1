//! Sealed objects on disk: `DIR/chunks/<origin>/<batch>/<object id>`, kept apart by the entity that they came from.
//!
//! Start reading at [`Blobs`]; `index` holds the rows, `files` the directories, `clean` takes away what nobody needs. Writing makes every file durable,
//! then its name, then the index entry, so that the index never speaks of something that a crash could take back;
//! what a crash leaves without an entry is swept away later.
//!
//! **Invariant:** an object is visible to its own origin only: "have it" never tells one peer about another.
//! **Invariant:** the last bytes of the disk belong to records and receipts, not to content.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::future::BoxFuture;
use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;
use pakt_protocol::limits::OBJECT_BYTES_MAX;

use crate::disk::{Disk, DiskError};
use crate::store::tables::{OBJECTS, PINS, RELEASED, UNSETTLED, USAGE};
use crate::store::{Rows, Store, StoreError, WriteTx};

mod busy;
mod clean;
mod copy;
mod files;
mod index;
mod pool;
#[cfg(test)]
mod tests;
mod warm;

use busy::Busy;
pub(crate) use copy::{Held, put_back};
use files::Files;
pub use index::{ObjectRow, Owner, Usage};
use pool::Pool;
use warm::Warm;

/// Bytes that stay free for records and receipts when content fills the disk.
pub const RESERVE_BYTES: u64 = 16 << 20;

/// Threads that write files side by side.
const WRITERS: usize = 4;

/// Why an object could not be stored or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BlobError {
    /// There is no such object from this origin.
    #[error("there is no such object")]
    Missing,
    /// The file is not what was written.
    #[error("object {0} is damaged; check the disk and restore the last backup, or have it sent again")]
    Damaged(ObjectId),
    /// The object is longer than an object may be.
    #[error("the object has {bytes} bytes, at most {OBJECT_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The disk has no space left for content.
    #[error("the disk is full; free some space and try again")]
    Full,
    /// The index failed.
    #[error(transparent)]
    Store(StoreError),
    /// The disk failed.
    #[error(transparent)]
    Disk(DiskError),
    /// The node is shutting down.
    #[error("the object store is closed")]
    Closed,
}

impl BlobError {
    /// Whether the same call may succeed later without a restart.
    pub fn is_transient(&self) -> bool {
        matches!(self, BlobError::Full)
    }
}

impl From<StoreError> for BlobError {
    fn from(error: StoreError) -> BlobError {
        match error {
            StoreError::Full => BlobError::Full,
            StoreError::Closed => BlobError::Closed,
            other => BlobError::Store(other),
        }
    }
}

impl From<DiskError> for BlobError {
    fn from(error: DiskError) -> BlobError {
        match error {
            DiskError::Full => BlobError::Full,
            other => BlobError::Disk(other),
        }
    }
}

/// The threads that make objects durable; clones share them.
#[derive(Clone)]
pub struct Writers(Arc<Pool>);

impl Writers {
    /// Starts them.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start() -> Result<Writers, BlobError> {
        Ok(Writers(Arc::new(Pool::start(WRITERS)?)))
    }
}

/// All sealed objects; clones share them.
#[derive(Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    files: Arc<Files>,
    busy: Arc<Busy>,
    pool: Arc<Pool>,
    wake: SyncSender<()>,
    cleaner: Mutex<Option<JoinHandle<()>>>,
    warm: Warm,
    spare: OnceLock<Spare>,
    /// Backups that are reading: no file is removed meanwhile.
    held: AtomicUsize,
}

/// Gives up objects until so many bytes of content fit, as far as there are any to give up.
pub(crate) type Spare = Box<dyn Fn(u64) -> BoxFuture<'static, ()> + Send + Sync>;

impl Blobs {
    /// Opens the objects below `dir` (`DIR/chunks`), whose index lies in `store`, and starts to clear away in the
    /// background what a crash left behind.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(store: Store, disk: Arc<dyn Disk>, dir: &Path) -> Result<Blobs, BlobError> {
        Blobs::open_sharing(store, disk, dir, &Writers::start()?)
    }

    /// As [`Blobs::open`], with threads that other nodes of this process write with too.
    ///
    /// # Errors
    /// As [`Blobs::open`].
    pub fn open_sharing(
        store: Store,
        disk: Arc<dyn Disk>,
        dir: &Path,
        Writers(pool): &Writers,
    ) -> Result<Blobs, BlobError> {
        Blobs::open_with(store, disk, dir, pool.clone(), true)
    }

    /// With one writer and no thread in the background, so that the same calls reach the disk in the same order.
    #[cfg(test)]
    pub(crate) fn open_for_tests(store: Store, disk: Arc<dyn Disk>, dir: &Path) -> Result<Blobs, BlobError> {
        Blobs::open_with(store, disk, dir, Arc::new(Pool::start(1)?), false)
    }

    fn open_with(
        store: Store,
        disk: Arc<dyn Disk>,
        dir: &Path,
        pool: Arc<Pool>,
        background: bool,
    ) -> Result<Blobs, BlobError> {
        let files = Arc::new(Files::open(disk, dir)?);
        // One wake-up that waits is as good as many.
        let (wake, woken) = sync_channel(1);
        let inner = Arc::new(Inner {
            store,
            files,
            busy: Arc::default(),
            pool,
            wake,
            cleaner: Mutex::default(),
            warm: Warm::default(),
            spare: OnceLock::new(),
            held: AtomicUsize::new(0),
        });
        if background {
            let weak = Arc::downgrade(&inner);
            let thread = std::thread::Builder::new().name("pakt-cleaner".into()).spawn(move || {
                let mut swept = false;
                while let Some(inner) = weak.upgrade() {
                    Blobs { inner }.clean(&mut swept);
                    if woken.recv().is_err() {
                        return;
                    }
                }
            });
            let thread = thread.map_err(|error| BlobError::Disk(error.into()))?;
            *inner.cleaner.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        }
        Ok(Blobs { inner })
    }

    /// Stores objects that came from `origin`; on return they are durable and indexed. Known ones cost nothing.
    ///
    /// Nothing keeps them yet: pin them soon, or use [`Blobs::write_batch_pinned`].
    ///
    /// Cancel safety: dropping the future may leave files or entries of some of the objects.
    ///
    /// # Errors
    /// [`BlobError::Full`] before the last bytes of the disk are taken, [`BlobError::TooLarge`], or when the disk
    /// fails; none of the objects is indexed then.
    pub async fn write_batch(&self, origin: EntityId, objects: &[(ObjectId, Bytes)]) -> Result<(), BlobError> {
        self.write(origin, None, objects).await
    }

    /// As [`Blobs::write_batch`], and pins every object for `owner` in the same commit.
    ///
    /// # Errors
    /// As [`Blobs::write_batch`].
    pub async fn write_batch_pinned(
        &self,
        origin: EntityId,
        owner: Owner,
        objects: &[(ObjectId, Bytes)],
    ) -> Result<(), BlobError> {
        self.write(origin, Some(owner), objects).await
    }

    async fn write(
        &self,
        origin: EntityId,
        owner: Option<Owner>,
        objects: &[(ObjectId, Bytes)],
    ) -> Result<(), BlobError> {
        let too_large = objects.iter().find(|(_, bytes)| bytes.len() > OBJECT_BYTES_MAX);
        if let Some((_, bytes)) = too_large {
            return Err(BlobError::TooLarge { bytes: bytes.len() });
        }
        // Before anything is claimed: giving up objects claims theirs.
        self.make_room(objects.iter().map(|(_, bytes)| bytes.len() as u64).sum()).await?;
        let mut seen = HashSet::new();
        let objects: Vec<_> = objects.iter().filter(|(id, _)| seen.insert(*id)).collect();
        let wanted: Arc<[ObjectId]> = objects.iter().map(|(id, _)| *id).collect();
        let _claim = self.inner.busy.claim(wanted.iter().map(|id| (origin, *id)).collect()).await;
        let known = self.inner.store.read(|tx| index::known(tx, origin, &wanted))?;
        let mut missing: HashSet<ObjectId> = wanted.iter().filter(|id| !known.contains(id)).copied().collect();
        loop {
            let new = objects.iter().filter(|(id, _)| missing.contains(id)).map(|object| (*object).clone());
            let written = self.write_files(origin, new.collect()).await?;
            let (rows, ids) = (written.clone(), wanted.clone());
            let entered = self.inner.store.write(move |tx| index::enter(tx, origin, owner, &ids, &rows)).await;
            match entered {
                // Only an object that its last owner left in this very moment needs a second round.
                Ok(left) if left.is_empty() => return Ok(()),
                Ok(left) => missing = left.into_iter().collect(),
                Err(error) => {
                    // After any other failure the entry may have been made, so that the file must stay.
                    if matches!(error, StoreError::Full) {
                        self.inner.files.remove(origin, &written);
                    }
                    return Err(error.into());
                }
            }
        }
    }

    async fn write_files(
        &self,
        origin: EntityId,
        objects: Vec<(ObjectId, Bytes)>,
    ) -> Result<Vec<(ObjectId, ObjectRow)>, BlobError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let bytes: u64 = objects.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        if bytes > self.room()? {
            return Err(BlobError::Full);
        }
        let result = self.inner.files.write(&self.inner.pool, origin, objects).await;
        if let Err(BlobError::Disk(DiskError::Unsynced(_))) = result {
            self.inner.store.fail();
        }
        result
    }

    /// Whether the object is stored as coming from `origin`.
    ///
    /// # Errors
    /// When the store failed.
    pub fn contains(&self, origin: EntityId, id: ObjectId) -> Result<bool, BlobError> {
        Ok(self.inner.store.read(|tx| tx.contains(&OBJECTS, &(origin, id)))?)
    }

    /// Those of `ids` that are stored as coming from `origin`.
    ///
    /// # Errors
    /// When the store failed.
    pub fn known(&self, origin: EntityId, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, BlobError> {
        Ok(self.inner.store.read(|tx| index::known(tx, origin, ids))?)
    }

    /// The bytes of an object, checked for their length only: whoever opens it notices the rest. Blocks on the disk.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Damaged`], or when the disk fails.
    pub fn read(&self, origin: EntityId, id: ObjectId) -> Result<Bytes, BlobError> {
        self.read_head(origin, id, usize::MAX)
    }

    /// As [`Blobs::read`], but no more than the first `bytes_max` bytes.
    ///
    /// # Errors
    /// As [`Blobs::read`].
    pub fn read_head(&self, origin: EntityId, id: ObjectId, bytes_max: usize) -> Result<Bytes, BlobError> {
        loop {
            let row = self.row(origin, id)?.ok_or(BlobError::Missing)?;
            match self.inner.files.read(origin, id, row, bytes_max) {
                // It may have been removed, or removed and written again, since the row was read.
                Err(BlobError::Missing) if self.row(origin, id)? == Some(row) => {
                    return Err(BlobError::Damaged(id));
                }
                Err(BlobError::Missing) => {}
                result => return result,
            }
        }
    }

    fn row(&self, origin: EntityId, id: ObjectId) -> Result<Option<ObjectRow>, BlobError> {
        Ok(self.inner.store.read(|tx| tx.get(&OBJECTS, &(origin, id)))?)
    }

    /// Keeps a few of the objects that were just written in memory, until newer ones come: they will be asked for soon.
    pub fn keep_warm(&self, origin: EntityId, objects: &[(ObjectId, Bytes)]) {
        self.inner.warm.put(origin, objects);
    }

    /// Lets go of objects in memory that came in before this was called last; the files stay.
    pub fn cool(&self) {
        self.inner.warm.cool();
    }

    /// As [`Blobs::read`], and compares the hash of the bytes with the id.
    ///
    /// # Errors
    /// As [`Blobs::read`].
    pub fn read_verified(&self, origin: EntityId, id: ObjectId) -> Result<Bytes, BlobError> {
        // One read that went wrong is no damaged object.
        for _ in 0..2 {
            let bytes = self.read(origin, id)?;
            if ObjectId::of(&bytes) == id {
                return Ok(bytes);
            }
        }
        Err(BlobError::Damaged(id))
    }

    /// The object, from memory if it was written a moment ago and never left it, else as [`Blobs::read_verified`].
    ///
    /// # Errors
    /// As [`Blobs::read`].
    pub fn read_to_serve(&self, origin: EntityId, id: ObjectId) -> Result<Bytes, BlobError> {
        self.inner.warm.get(origin, id).map_or_else(|| self.read_verified(origin, id), Ok)
    }

    /// Notes in the caller's commit that `owner` needs an object; false if it is not there.
    ///
    /// # Errors
    /// When the store failed.
    pub fn pin(tx: &mut WriteTx, origin: EntityId, id: ObjectId, owner: Owner) -> Result<bool, StoreError> {
        index::pin(tx, origin, id, owner)
    }

    /// Whether `owner` needs an object.
    ///
    /// # Errors
    /// When the store failed.
    pub fn is_pinned(tx: &impl Rows, origin: EntityId, id: ObjectId, owner: Owner) -> Result<bool, StoreError> {
        tx.contains(&PINS, &(origin, id, owner))
    }

    /// Notes in the caller's commit that `owner` needs these objects no more; what nobody else needs is gone for readers
    /// with that commit, its file with the next [`Blobs::reap`].
    ///
    /// # Errors
    /// When the store failed.
    pub fn unpin_objects(tx: &mut WriteTx, origin: EntityId, ids: &[ObjectId], owner: Owner) -> Result<(), StoreError> {
        index::unpin_objects(tx, origin, ids, owner)
    }

    /// Notes in the caller's commit that `owner` needs nothing any more. What nobody else needs is removed in the
    /// background soon after; before the owner's id is used again it must be taken back with [`Blobs::take_back`].
    ///
    /// # Errors
    /// When the store failed.
    pub fn unpin(&self, tx: &mut WriteTx, owner: Owner) -> Result<(), StoreError> {
        Blobs::let_go(tx, owner)?;
        self.wake_after(tx);
        Ok(())
    }

    /// As [`Blobs::unpin`], but what nobody else needs is removed with the next cleaning, or at the next start.
    ///
    /// # Errors
    /// When the store failed.
    pub(crate) fn let_go(tx: &mut WriteTx, owner: Owner) -> Result<(), StoreError> {
        tx.put(&RELEASED, &owner, &())
    }

    /// Takes a released owner back in the caller's commit: what it still holds it keeps, and nothing that it pins from
    /// now on is removed behind its back.
    ///
    /// # Errors
    /// When the store failed.
    pub fn take_back(tx: &mut WriteTx, owner: Owner) -> Result<(), StoreError> {
        tx.remove(&RELEASED, &owner).map(drop)
    }

    /// Notes in the caller's commit that a message speaks of this owner: what it pinned is no leftover after a crash.
    ///
    /// # Errors
    /// When the store failed.
    pub fn settle(tx: &mut WriteTx, owner: Owner) -> Result<(), StoreError> {
        tx.remove(&UNSETTLED, &owner).map(drop)
    }

    /// Owners that no message speaks of as far as is known: those under way, and what a crash left.
    ///
    /// # Errors
    /// When the store failed.
    pub fn unsettled(&self) -> Result<Vec<Owner>, BlobError> {
        Ok(self.inner.store.read(|tx| tx.prefix_keys(&UNSETTLED, &(), usize::MAX))?)
    }

    /// As [`Blobs::unpin`], in a commit of its own.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn release(&self, owner: Owner) -> Result<(), BlobError> {
        let blobs = self.clone();
        Ok(self.inner.store.write(move |tx| blobs.unpin(tx, owner)).await?)
    }

    /// What is stored from all origins.
    ///
    /// # Errors
    /// When the store failed.
    pub fn usage(&self) -> Result<Usage, BlobError> {
        let rows = self.inner.store.read(|tx| tx.range(&USAGE, .., usize::MAX))?;
        let sum = |usage: Usage, (_, row): (EntityId, Usage)| Usage {
            objects: usage.objects + row.objects,
            bytes: usage.bytes + row.bytes,
        };
        Ok(rows.into_iter().fold(Usage::default(), sum))
    }

    /// What is stored from one origin.
    ///
    /// # Errors
    /// When the store failed.
    pub fn usage_of(&self, origin: EntityId) -> Result<Usage, BlobError> {
        Ok(self.inner.store.read(|tx| tx.get(&USAGE, &origin))?.unwrap_or_default())
    }

    /// Free bytes on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn free_bytes(&self) -> Result<u64, BlobError> {
        self.inner.files.free_bytes()
    }

    /// Names who gives up objects that are only kept for later when content needs their space; the first call counts.
    pub(crate) fn set_spare(&self, spare: Spare) {
        // Set once at start.
        let _ = self.inner.spare.set(spare);
    }

    /// Has objects that are only kept for later given up if less than `bytes` of content would fit.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn make_room(&self, bytes: u64) -> Result<(), BlobError> {
        if let Some(spare) = self.inner.spare.get()
            && self.room()? < bytes
        {
            spare(bytes).await;
        }
        Ok(())
    }

    /// Bytes of content that still fit, the reserve for records left alone.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn room(&self) -> Result<u64, BlobError> {
        Ok(self.free_bytes()?.saturating_sub(RESERVE_BYTES))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The cleaner waits for this channel; its own end of it is replaced by one that nobody listens to.
        self.wake = sync_channel(0).0;
        let thread = self.cleaner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}
