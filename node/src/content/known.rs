//! Known content: sealed objects that stay after their message has ended, so that content that is sent again is neither
//! encoded nor sealed nor, as the receiver has it too, sent again; whatever codec today's line would pick.
//!
//! ```text
//! plain chunk --one keyed pass--> KNOWN row --content unwraps the key--> object still there and of that key? --> pin it
//!                                  | none of it                                                             | no
//!                                  \--> encode, seal, write, and remember once durable <---------------------/
//! ```
//! What a row holds is decided in [`pakt_protocol::content::known`]: without the content itself it opens nothing, also
//! not together with the dedup secret and the store key. So deleting a message stays erasure (P41) although its objects
//! stay: the manifest key is gone, and the row gives the object's key only to somebody who has the content anyway.
//!
//! Rows and pins change in one commit, so a crash leaves both or neither. A row whose object is gone, damaged or of
//! another key is a miss, never an error.
//!
//! **Invariant:** content that is kept for later never stands in the way of content: at most half of the space that is
//! free without it, and given up before anything is refused.
//! **Invariant:** an object that was found stays until its finder has pinned it: a row in use is not evicted.

use std::collections::{HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pakt_keys::EntityId;
use pakt_keys::object::{COMMITMENT_BYTES, is_key_of};
use pakt_protocol::content::known::{ContentName, SecretTag, WrappedEntry};
use pakt_protocol::content::seal::ChunkEntry;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use crate::blob::{BlobError, Blobs, Owner, Usage};
use crate::mailroom::known_owner;
use crate::store::tables::{KNOWN, KNOWN_BY_USE, KNOWN_USAGE};
use crate::store::{ReadTx, Store, StoreError, WriteTx};

/// Where a row lies: the dedup secret's tag and the keyed hash of the content.
pub(crate) type KnownKey = (SecretTag, [u8; 32]);

/// Content that was sealed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownRow {
    entry: WrappedEntry,
    /// The minute since 1970 in which it was used last, give or take [`TOUCH_MINUTES`].
    used: u32,
}

/// Without a setting: this part of the disk's free space, what lies here already included.
const DEFAULT_PART: u64 = 10;
/// And no more than this: what a large hospital sends in some days.
const DEFAULT_BYTES_MAX: u64 = 100_000_000_000;
/// A use is noted if the last one that was noted lies this far back.
const TOUCH_MINUTES: u32 = 60;
/// An object that nobody used for so long is read whole before it is used again: disks forget.
const TRUST_MINUTES: u32 = 24 * 60;
/// Rows changed in one commit.
const SLICE_ROWS: usize = 256;

/// The sender's known content; clones share it.
#[derive(Clone)]
pub struct KnownContent {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    blobs: Blobs,
    own: EntityId,
    /// Bytes of objects kept at most; 0: off.
    bytes_max: u64,
    uses: Mutex<Uses>,
    /// One eviction at a time.
    evicting: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
}

/// What must not happen to a row at the same time.
#[derive(Default)]
struct Uses {
    in_use: HashMap<KnownKey, usize>,
    leaving: HashSet<KnownKey>,
    /// Rows whose object was found to be unusable.
    unsound: Vec<KnownKey>,
}

/// Content that was found; its object stays as long as this is held.
pub(super) struct Hit {
    pub(super) entry: ChunkEntry,
    in_use: InUse,
}

/// Keeps a row from being evicted.
struct InUse {
    inner: Arc<Inner>,
    key: KnownKey,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut uses = self.inner.uses();
        if let Some(count) = uses.in_use.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                uses.in_use.remove(&self.key);
            }
        }
    }
}

fn minute(now: Time) -> u32 {
    u32::try_from(now.seconds() / 60).unwrap_or(u32::MAX)
}

impl KnownContent {
    /// The known content of `own` in `store` and `blobs`; `bytes_max` of objects at most, 0 to keep none, or what suits
    /// the disk.
    ///
    /// # Errors
    /// When store or disk fail.
    pub fn open(store: Store, blobs: Blobs, own: EntityId, bytes_max: Option<u64>) -> Result<KnownContent, BlobError> {
        let bytes_max = match bytes_max {
            Some(bytes) => bytes,
            None => {
                let here = blobs.free_bytes()?.saturating_add(blobs.usage()?.bytes);
                (here / DEFAULT_PART).min(DEFAULT_BYTES_MAX)
            }
        };
        let inner = Inner {
            store,
            blobs: blobs.clone(),
            own,
            bytes_max,
            uses: Mutex::default(),
            evicting: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
        };
        let known = KnownContent { inner: Arc::new(inner) };
        let weak = Arc::downgrade(&known.inner);
        blobs.set_spare(Box::new(move |bytes| {
            let known = weak.upgrade().map(|inner| KnownContent { inner });
            Box::pin(async move {
                if let Some(known) = known {
                    known.make_room(bytes).await;
                }
            })
        }));
        Ok(known)
    }

    /// Itself, unless it is off.
    pub fn if_on(&self) -> Option<KnownContent> {
        (self.inner.bytes_max > 0).then(|| self.clone())
    }

    /// The objects that are kept, and their bytes.
    ///
    /// # Errors
    /// When the store failed.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.inner.store.read(usage)
    }

    /// Waits until all that was to be remembered is.
    pub async fn settled(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.tasks.reopen();
    }

    /// Looks content up that is about to be sealed; blocks on the disk for a moment.
    pub(super) fn find(&self, now: Time, name: &ContentName, plain_bytes: usize) -> Option<Hit> {
        let key = (name.secret(), name.lookup());
        let in_use = self.hold(key)?;
        let inner = &self.inner;
        let row = inner.store.read(|tx| {
            let row = tx.get(&KNOWN, &key)?;
            Ok(match row {
                Some(row) if Blobs::is_pinned(tx, inner.own, row.entry.id, known_owner())? => Some(row),
                _ => None,
            })
        });
        let row = row.ok().flatten()?;
        let entry = name.unwrap(&row.entry).filter(|entry| entry.plain_bytes as usize == plain_bytes);
        match entry.filter(|entry| inner.is_sound(entry, minute(now).saturating_sub(row.used) >= TRUST_MINUTES)) {
            Some(entry) => Some(Hit { entry, in_use }),
            None => {
                inner.uses().unsound.push(key);
                None
            }
        }
    }

    fn hold(&self, key: KnownKey) -> Option<InUse> {
        let mut uses = self.inner.uses();
        if uses.leaving.contains(&key) {
            return None;
        }
        *uses.in_use.entry(key).or_default() += 1;
        Some(InUse { inner: self.inner.clone(), key })
    }

    /// Pins what was found for `owner`, durably, and forgets what was found to be unusable, so that it is written anew.
    ///
    /// # Errors
    /// When the store failed.
    pub(super) async fn pin(&self, now: Time, owner: Owner, hits: Vec<Hit>) -> Result<(), BlobError> {
        self.drop_unsound().await?;
        if hits.is_empty() {
            return Ok(());
        }
        let own = self.inner.own;
        let found: Vec<_> = hits.iter().map(|hit| (hit.in_use.key, hit.entry.id)).collect();
        let pinned = self.inner.store.write(move |tx| {
            for (key, id) in found {
                if !Blobs::pin(tx, own, id, owner)? {
                    return Ok(false);
                }
                touch(tx, key, minute(now))?;
            }
            Ok::<_, StoreError>(true)
        });
        let pinned = pinned.await?;
        drop(hits);
        if pinned { Ok(()) } else { Err(BlobError::Missing) }
    }

    async fn drop_unsound(&self) -> Result<(), BlobError> {
        let unsound = std::mem::take(&mut self.inner.uses().unsound);
        if unsound.is_empty() {
            return Ok(());
        }
        tracing::warn!(objects = unsound.len(), "kept objects are damaged; they are made anew");
        let _turn = self.inner.evicting.lock().await;
        self.evict(unsound).await.map(drop)
    }

    /// Remembers sealed content, which is durable and pinned, in the background.
    pub(super) fn remember(&self, now: Time, sealed: Vec<(ContentName, ChunkEntry)>) {
        if sealed.is_empty() {
            return;
        }
        let known = self.clone();
        self.inner.tasks.spawn(async move {
            let remembered = known.remember_all(now, sealed).await;
            match remembered {
                Ok(()) | Err(BlobError::Full | BlobError::Closed) => {}
                Err(error) => tracing::warn!(%error, "sent content cannot be remembered"),
            }
        });
    }

    async fn remember_all(&self, now: Time, sealed: Vec<(ContentName, ChunkEntry)>) -> Result<(), BlobError> {
        let own = self.inner.own;
        for slice in sealed.chunks(SLICE_ROWS) {
            let of = |(name, entry): &(ContentName, ChunkEntry)| {
                let row = KnownRow { entry: name.wrap(entry), used: minute(now) };
                ((name.secret(), name.lookup()), row)
            };
            let rows: Vec<(KnownKey, KnownRow)> = slice.iter().map(of).collect();
            let added = self.inner.store.write(move |tx| {
                with_usage(tx, |tx, usage| rows.iter().try_for_each(|(key, row)| add(tx, own, *key, row, usage)))
            });
            added.await?;
        }
        self.shrink().await
    }

    /// Forgets what cannot be found again, because its dedup secret is none of `live`, and what there is no room for.
    ///
    /// # Errors
    /// When store or disk failed.
    pub async fn upkeep(&self, live: &HashSet<SecretTag>) -> Result<(), BlobError> {
        let mut after = None;
        loop {
            let bounds = (after.map_or(Unbounded, Excluded), Unbounded);
            let next = self.inner.store.read(|tx| tx.range(&KNOWN, bounds, 1))?.pop();
            let Some(((tag, _), _)) = next else { break };
            if !live.contains(&tag) {
                let _turn = self.inner.evicting.lock().await;
                while self.evict(self.inner.store.read(|tx| tx.prefix_keys(&KNOWN, &tag, SLICE_ROWS))?).await? {}
            }
            // On to the next secret, whatever this one has.
            after = Some((tag, [0xff; 32]));
        }
        self.shrink().await
    }

    /// Evicts what is used least lately until the rest fits its bound, and leaves others as much free space.
    async fn shrink(&self) -> Result<(), BlobError> {
        let _turn = self.inner.evicting.lock().await;
        loop {
            let held = self.usage()?.bytes;
            let bound = self.inner.bytes_max.min(held.saturating_add(self.inner.blobs.room()?) / 2);
            if held <= bound || !self.evict_oldest(held - bound).await? {
                return Ok(());
            }
        }
    }

    /// Gives up what is needed for `bytes` of content to fit, unless it would not even then.
    async fn make_room(&self, bytes: u64) {
        let _turn = self.inner.evicting.lock().await;
        loop {
            let done = async {
                let (held, room) = (self.usage()?.bytes, self.inner.blobs.room()?);
                if room >= bytes || held.saturating_add(room) < bytes {
                    return Ok(true);
                }
                Ok::<_, BlobError>(!self.evict_oldest(bytes - room).await?)
            };
            match done.await {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => return tracing::warn!(%error, "kept objects cannot be given up"),
            }
        }
    }

    /// Evicts some of what is used least lately, of `bytes` or less; false if there is nothing to evict.
    async fn evict_oldest(&self, bytes: u64) -> Result<bool, BlobError> {
        let in_use: HashSet<KnownKey> = self.inner.uses().in_use.keys().copied().collect();
        let rows_max = SLICE_ROWS.saturating_add(in_use.len());
        let oldest = self.inner.store.read(|tx| tx.range(&KNOWN_BY_USE, .., rows_max))?;
        let mut sum = 0;
        // Behind what cannot go now there may be enough that can.
        let free = oldest.into_iter().filter(|((_, key), _)| !in_use.contains(key));
        let needed = free.take(SLICE_ROWS).take_while(|(_, sealed)| {
            let before = sum;
            sum += u64::from(*sealed);
            before < bytes
        });
        self.evict(needed.map(|((_, key), _)| key).collect()).await
    }

    /// Takes rows and their objects away but for those in use; false if there were none. The caller has its turn.
    async fn evict(&self, mut keys: Vec<KnownKey>) -> Result<bool, BlobError> {
        {
            let mut uses = self.inner.uses();
            keys.retain(|key| !uses.in_use.contains_key(key));
            uses.leaving.extend(&keys);
        }
        if keys.is_empty() {
            return Ok(false);
        }
        let _leaving = Leaving { inner: &self.inner };
        let own = self.inner.own;
        let removed = self
            .inner
            .store
            .write(move |tx| with_usage(tx, |tx, usage| keys.iter().try_for_each(|key| remove(tx, own, *key, usage))));
        removed.await?;
        self.inner.blobs.reap().await?;
        Ok(true)
    }
}

impl Inner {
    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the object is as long as the entry says and commits to its key; whole: whether it is what was written.
    fn is_sound(&self, entry: &ChunkEntry, whole: bool) -> bool {
        let read = match whole {
            true => self.blobs.read_verified(self.own, entry.id),
            false => self.blobs.read_head(self.own, entry.id, COMMITMENT_BYTES),
        };
        read.is_ok_and(|head| is_key_of(&entry.key, &head))
    }
}

/// Lets rows that were leaving be used again if they come back.
struct Leaving<'a> {
    inner: &'a Inner,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.inner.uses().leaving.clear();
    }
}

fn usage(tx: &ReadTx) -> Result<Usage, StoreError> {
    Ok(tx.get(&KNOWN_USAGE, &())?.unwrap_or_default())
}

/// Changes rows and keeps their sum right, once for all.
fn with_usage(
    tx: &mut WriteTx,
    change: impl FnOnce(&mut WriteTx, &mut Usage) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let before = tx.get(&KNOWN_USAGE, &())?.unwrap_or_default();
    let mut usage = before;
    change(tx, &mut usage)?;
    if usage != before {
        tx.put(&KNOWN_USAGE, &(), &usage)?;
    }
    Ok(())
}

/// Adds a row and pins its object, unless content is known already or the object has gone.
fn add(tx: &mut WriteTx, own: EntityId, key: KnownKey, row: &KnownRow, usage: &mut Usage) -> Result<(), StoreError> {
    if let Some(earlier) = tx.get(&KNOWN, &key)? {
        if Blobs::is_pinned(tx, own, earlier.entry.id, known_owner())? {
            return Ok(());
        }
        remove(tx, own, key, usage)?;
    }
    if !Blobs::pin(tx, own, row.entry.id, known_owner())? {
        return Ok(());
    }
    let bytes = sealed_bytes(row);
    tx.put(&KNOWN, &key, row)?;
    tx.put(&KNOWN_BY_USE, &(row.used, key), &bytes)?;
    usage.objects += 1;
    usage.bytes += u64::from(bytes);
    Ok(())
}

fn remove(tx: &mut WriteTx, own: EntityId, key: KnownKey, usage: &mut Usage) -> Result<(), StoreError> {
    let Some(row) = tx.get(&KNOWN, &key)? else { return Ok(()) };
    tx.remove(&KNOWN, &key)?;
    tx.remove(&KNOWN_BY_USE, &(row.used, key))?;
    usage.objects = usage.objects.saturating_sub(1);
    usage.bytes = usage.bytes.saturating_sub(sealed_bytes(&row).into());
    Blobs::unpin_objects(tx, own, &[row.entry.id], known_owner())
}

/// Notes a use, if the last one that was noted lies back long enough.
fn touch(tx: &mut WriteTx, key: KnownKey, now: u32) -> Result<(), StoreError> {
    let Some(row) = tx.get(&KNOWN, &key)? else { return Ok(()) };
    if now.saturating_sub(row.used) < TOUCH_MINUTES {
        return Ok(());
    }
    tx.remove(&KNOWN_BY_USE, &(row.used, key))?;
    tx.put(&KNOWN_BY_USE, &(now, key), &sealed_bytes(&row))?;
    tx.put(&KNOWN, &key, &KnownRow { used: now, ..row })
}

fn sealed_bytes(row: &KnownRow) -> u32 {
    u32::try_from(row.entry.sealed_bytes()).unwrap_or(u32::MAX)
}
