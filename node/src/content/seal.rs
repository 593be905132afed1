//! Making the objects of an outgoing message: read, packed, sealed and written side by side.
//!
//! ```text
//! stream -> pump -> thread: tar, Packer -> hold -> pool: seal_chunk -> batch -> task: Blobs::write_batch_pinned
//!                        \-> tree rows -> SegmentWriter <- chunk rows, in order <-/
//! ```
//! Content that [`KnownContent`] finds skips the sealing and is pinned instead of written.
//!
//! One loop, in the caller's task, moves everything on; it does no work on content itself. What is under way is bounded
//! by the pool's budget; a chunk counts from leaving the packer until it is durable.
//!
//! Whoever offers the message meanwhile is told of each object once it is durable ([`DurableSoFar`]), in the order of the
//! chunk table; sealing never waits for it.
//!
//! **Invariant:** when [`seal_tree`] returns a tree, all its objects are durable and pinned; when it fails or is
//! dropped, nothing of it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, FusedStream, FuturesUnordered, StreamExt};
use pakt_keys::EntityId;
use pakt_keys::object::SealBase;
use pakt_protocol::content::encode::Effort;
use pakt_protocol::content::extent::Extent;
use pakt_protocol::content::known::ContentName;
use pakt_protocol::content::manifest::{ManifestHead, ManifestKey, SegmentWriter, Totals};
use pakt_protocol::content::pack::PlainChunk;
use pakt_protocol::content::seal::{ChunkEntry, SealedChunk, seal_chunk};
use pakt_protocol::ids::ObjectId;
use pakt_protocol::message::offer::ObjectEntry;
use tokio::io::AsyncRead;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::durable::DurableSoFar;
use super::known::{Hit, KnownContent};
use super::pool::{ContentPool, Hold, PoolStopped};
use super::scanned::Scanned;
use super::tar_in::{Allowed, PIECES_MAX, STEPS_MAX, Scan, SealTreeError, Step, pack_tar, pump};
use crate::ambient;
use crate::blob::{BlobError, Blobs, Owner};
use crate::scan::Scanner;

/// Sealed bytes of one batch: large enough that the syncs of the index weigh little, small enough that several fit.
const BATCH_BYTES: usize = 6 << 20;
/// The first batch of a message, in bytes; the next are twice as large each, so that the line begins early.
const FIRST_BATCH_BYTES: usize = 1 << 20;
/// Chunks that wait for a thread or are on one: enough to keep all threads busy. The rest of what may be held is for
/// sealed objects that wait for the disk.
const SEALING_MAX: usize = 12;
/// Batches written at once: while one waits for the index, the files of the other are written.
const WRITES_MAX: usize = 2;
/// No more is taken in while this many bytes wait for a write.
const BACKLOG_BYTES: usize = 2 * BATCH_BYTES;
/// A batch that does not fill is written after this time, so that a slow stream does not keep the pool's memory.
const BATCH_AGE_MAX: Duration = Duration::from_millis(100);
/// What an object that needs no write counts as in a batch, so that its row is all that is waited for.
const KNOWN_BYTES: usize = 32 << 10;
/// Durable chunks that wait to be remembered: many, so that it costs few commits.
const REMEMBER_MAX: usize = 512;

/// A message's content, sealed and durable.
#[derive(Debug)]
pub struct SealedTree {
    /// Opens the manifest and with it everything.
    pub manifest_key: ManifestKey,
    /// What the manifest adds up to.
    pub totals: Totals,
    /// The hash over the manifest's segments that the envelope core carries.
    pub root_hash: [u8; 32],
    /// Content objects in the order of the chunk table, then the manifest's segments in theirs.
    pub objects: Vec<ObjectEntry>,
    /// Bytes of all objects.
    pub sealed_bytes: u64,
}

/// What is to be sealed, beside the content itself.
pub struct SealTree {
    /// Subject, text and the like.
    pub head: ManifestHead,
    /// The sending group's dedup secret.
    pub dedup: SealBase,
    /// Whom the objects come from: this entity.
    pub own: EntityId,
    /// Whom they are pinned for; never used before.
    pub owner: Owner,
    /// Plain bytes allowed.
    pub bytes_max: u64,
    /// What was told of the content before, if anything: more than this means that it has changed.
    pub extent: Option<Extent>,
    /// How hard to try to make it small, while lines are not waiting for it.
    pub effort: Effort,
    /// What was sealed before need not be sealed again.
    pub known: Option<KnownContent>,
    /// Told what is durable already.
    pub durable: Option<DurableSoFar>,
    /// What every file, the subject and the text must pass.
    pub scanner: Option<Scanner>,
}

impl SealTree {
    /// Content of any size at the usual effort, that nobody waits for before it is whole.
    pub fn new(head: ManifestHead, dedup: SealBase, own: EntityId, owner: Owner) -> SealTree {
        SealTree {
            head,
            dedup,
            own,
            owner,
            bytes_max: u64::MAX,
            extent: None,
            effort: Effort::LINE,
            known: None,
            durable: None,
            scanner: None,
        }
    }
}

/// Seals the tree in the stream `tar` and stores its objects, pinned for their owner.
///
/// Entries must come in tree order: each directory before what it holds, names in the order of their bytes. What is
/// stored already is pinned and not written again, and what is `known` not even sealed.
///
/// Cancel safety: when dropped, what was written is removed in the background.
///
/// # Errors
/// [`SealTreeError`]; everything that was written has been released then, or will be as soon as nobody follows
/// [`SealTree::durable`] any more.
pub async fn seal_tree(
    tar: impl AsyncRead + Send + Unpin + 'static,
    what: SealTree,
    blobs: &Blobs,
    pool: &ContentPool,
) -> Result<SealedTree, SealTreeError> {
    let SealTree { head, dedup, own, owner, bytes_max, extent, effort, known, durable, scanner } = what;
    scan_head(&head, scanner.clone()).await?;
    let running = FuturesUnordered::new();
    let writes = Writes { blobs: blobs.clone(), known, origin: own, owner, running, begun: false, durable };
    let mut rng = ambient::rng();
    let manifest_key = ManifestKey::generate(&mut rng);
    let bases = Arc::new(Bases { dedup, random: SealBase::generate(&mut rng) });
    let (to_thread, pieces) = mpsc::channel(PIECES_MAX);
    let (to_sealer, steps) = mpsc::channel(STEPS_MAX);
    let (thread_bases, thread_pool) = (bases.clone(), pool.clone());
    let mut sealer = Sealer {
        pool: pool.clone(),
        bases,
        effort,
        manifest: SegmentWriter::new(manifest_key.clone(), head)?,
        sealing: FuturesUnordered::new(),
        early: BTreeMap::new(),
        content: Vec::new(),
        segments: Vec::new(),
        named: Vec::new(),
        batch: Batch::default(),
        batch_bytes: FIRST_BATCH_BYTES,
        written: BTreeSet::new(),
        told: 0,
        writes,
    };
    let allowed = Allowed { bytes_max, extent };
    let scan = scanner.map(|scanner| Scan::by(scanner, Handle::current()));
    let packing = tokio::task::spawn_blocking(move || {
        pack_tar(pieces, to_sealer, &thread_bases.dedup, allowed, &thread_pool, scan)
    });
    // The pump ends before the last step comes, or with the thread.
    let pumping = async {
        pump(tar, to_thread).await;
        std::future::pending().await
    };
    let result = tokio::select! {
        result = sealer.run(steps, packing) => result,
        never = pumping => never,
    };
    match result {
        Ok((totals, root_hash)) => Ok(sealer.into_tree(manifest_key, totals, root_hash)),
        Err(error) => {
            sealer.writes.undo().await;
            Err(error)
        }
    }
}

/// Has subject and text scanned, as a person who reads them would see them.
async fn scan_head(head: &ManifestHead, scanner: Option<Scanner>) -> Result<(), SealTreeError> {
    let mut scanned = Scanned::by(scanner);
    for (name, text) in [("the subject", &head.subject), ("the text", &head.text)] {
        let refused = |why| SealTreeError::NotClean { why, path: name.to_owned() };
        scanned.text(text).await.map_err(refused)?;
    }
    Ok(())
}

/// What keys of objects are derived from.
struct Bases {
    dedup: SealBase,
    random: SealBase,
}

/// A sealed chunk on its way to the disk.
struct Sealed {
    index: u64,
    chunk: Chunk,
}

/// Where a chunk's object comes from.
enum Chunk {
    /// It lies on the disk from an earlier message.
    Known(Hit),
    /// It was sealed just now; the name is there if it is to be remembered.
    New(SealedChunk, Option<ContentName>, Hold),
}

/// Chunks with the names that they are remembered by.
type Named = Vec<(ContentName, ChunkEntry)>;

struct Sealer {
    pool: ContentPool,
    bases: Arc<Bases>,
    effort: Effort,
    manifest: SegmentWriter,
    /// At most [`SEALING_MAX`].
    sealing: FuturesUnordered<BoxFuture<'static, Result<Sealed, PoolStopped>>>,
    /// Rows of the chunk table that were sealed before an earlier one.
    early: BTreeMap<u64, ChunkEntry>,
    content: Vec<ObjectEntry>,
    segments: Vec<ObjectEntry>,
    /// Durable, and to be remembered.
    named: Named,
    batch: Batch,
    /// How large the next batch is to be.
    batch_bytes: usize,
    /// Places in the chunk table of objects that are durable before an earlier one.
    written: BTreeSet<u64>,
    /// Objects that followers were told of.
    told: u64,
    writes: Writes,
}

impl Sealer {
    async fn run(
        &mut self,
        steps: mpsc::Receiver<Step>,
        packing: JoinHandle<Result<(), SealTreeError>>,
    ) -> Result<(Totals, [u8; 32]), SealTreeError> {
        let pool = self.pool.clone();
        let held = stream::unfold((steps, pool), |(mut steps, pool)| async {
            let step = steps.recv().await?;
            let hold = match &step.chunk {
                Some(chunk) => Some(pool.hold(chunk.bytes.len()).await),
                None => None,
            };
            Some(((step, hold), (steps, pool)))
        });
        let mut held = pin!(held.fuse());
        while !(held.is_terminated() && self.sealing.is_empty()) {
            self.write_full_batches();
            tokio::select! {
                Some(written) = self.writes.running.next() => self.take_written(written)?,
                Some(sealed) = self.sealing.next() => self.take_sealed(sealed?),
                // Its end is an answer too: nothing else might wake this loop then but the age of the batch.
                next = held.next(), if self.may_take() && !held.is_terminated() => {
                    if let Some((step, hold)) = next {
                        self.take_step(step, hold.transpose()?);
                    }
                }
                () = tokio::time::sleep_until(self.batch.since + BATCH_AGE_MAX), if self.may_write() => self.write_batch(),
                else => {}
            }
        }
        packing.await.map_err(|_| PoolStopped)??;
        let sums = self.manifest.finish();
        self.take_segments();
        while !self.batch.is_empty() {
            self.write_batch();
        }
        while let Some(written) = self.writes.running.next().await {
            self.take_written(written)?;
        }
        self.remember();
        Ok(sums)
    }

    fn take_step(&mut self, step: Step, hold: Option<Hold>) {
        for entry in step.entries {
            self.manifest.push_entry(entry);
        }
        self.take_segments();
        if let (Some(chunk), Some(hold)) = (step.chunk, hold) {
            let known = self.writes.known.clone();
            let sealed = seal(self.pool.clone(), self.bases.clone(), self.effort(), known, chunk, hold);
            self.sealing.push(Box::pin(sealed));
        }
    }

    /// Where every line takes objects as fast as they are sealed, nobody is to wait for a smaller encoding.
    fn effort(&self) -> Effort {
        let is_awaited = self.writes.durable.as_ref().is_some_and(DurableSoFar::is_awaited);
        if is_awaited { Effort::FAST } else { self.effort }
    }

    fn take_sealed(&mut self, sealed: Sealed) {
        let Sealed { index, chunk } = sealed;
        let entry = match chunk {
            Chunk::Known(hit) => self.batch.push_known(index, hit),
            Chunk::New(SealedChunk { entry, sealed, .. }, name, hold) => {
                self.batch.push(entry.id, sealed, Some((index, hold)));
                self.batch.named.extend(name.map(|name| (name, entry.clone())));
                entry
            }
        };
        self.early.insert(index, entry);
        while let Some(entry) = self.early.remove(&(self.content.len() as u64)) {
            self.content.push(ObjectEntry { id: entry.id, bytes: entry.sealed_bytes() as u32 });
            self.manifest.push_chunk(entry);
        }
        self.take_segments();
    }

    /// Tells followers of what is durable now, up to the first object that is not.
    fn take_written(&mut self, written: Result<Result<Written, BlobError>, JoinError>) -> Result<(), SealTreeError> {
        let Written { places, named } = written.map_err(|_| PoolStopped)??;
        self.named.extend(named);
        if self.named.len() >= REMEMBER_MAX {
            self.remember();
        }
        let Some(durable) = &self.writes.durable else { return Ok(()) };
        self.written.extend(places);
        let first = self.told;
        while self.written.remove(&self.told) {
            self.told += 1;
        }
        durable.add(&self.content[first as usize..self.told as usize]);
        Ok(())
    }

    fn remember(&mut self) {
        if let Some(known) = &self.writes.known {
            known.remember(ambient::service_now(), std::mem::take(&mut self.named));
        }
    }

    fn take_segments(&mut self) {
        while let Some(segment) = self.manifest.poll_segment() {
            let bytes = segment.sealed.len() as u32;
            self.segments.push(ObjectEntry { id: segment.id, bytes });
            self.batch.push(segment.id, segment.sealed, None);
        }
    }

    fn may_take(&self) -> bool {
        self.batch.bytes < BACKLOG_BYTES && self.sealing.len() < SEALING_MAX
    }

    fn may_write(&self) -> bool {
        !self.batch.is_empty() && self.writes.running.len() < WRITES_MAX
    }

    fn write_full_batches(&mut self) {
        while self.batch.bytes >= self.batch_bytes && self.may_write() {
            self.write_batch();
        }
    }

    fn write_batch(&mut self) {
        let batch = self.batch.take(self.batch_bytes);
        self.batch_bytes = BATCH_BYTES.min(2 * self.batch_bytes);
        self.writes.start(batch);
    }

    fn into_tree(mut self, manifest_key: ManifestKey, totals: Totals, root_hash: [u8; 32]) -> SealedTree {
        self.writes.begun = false;
        self.writes.durable = None;
        let mut objects = std::mem::take(&mut self.content);
        objects.append(&mut self.segments);
        let sealed_bytes = objects.iter().map(|object| u64::from(object.bytes)).sum();
        SealedTree { manifest_key, totals, root_hash, objects, sealed_bytes }
    }
}

async fn seal(
    pool: ContentPool,
    bases: Arc<Bases>,
    effort: Effort,
    known: Option<KnownContent>,
    plain: PlainChunk,
    mut hold: Hold,
) -> Result<Sealed, PoolStopped> {
    let PlainChunk { index, bytes } = plain;
    let sealed = pool.run(move |scratch| {
        let mut name = None;
        if let Some(known) = known {
            let named = ContentName::of(&bases.dedup, &bytes);
            if let Some(hit) = known.find(ambient::service_now(), &named, bytes.len()) {
                return (Err(hit), bytes);
            }
            name = Some(named);
        }
        let chunk = seal_chunk(&bytes, &bases.dedup, &bases.random, effort, &mut scratch.encode);
        let name = name.filter(|_| chunk.reusable);
        (Ok((chunk, name)), bytes)
    });
    let (chunk, buffer) = sealed.await?;
    pool.recycle(buffer);
    let chunk = match chunk {
        Err(hit) => Chunk::Known(hit),
        Ok((chunk, name)) => {
            hold.shrink(chunk.sealed.len());
            Chunk::New(chunk, name, hold)
        }
    };
    Ok(Sealed { index, chunk })
}

/// Objects that wait for a write.
struct Batch {
    objects: Vec<(ObjectId, Bytes)>,
    /// For each content object its place in the chunk table, and its share of the budget.
    holds: Vec<Option<(u64, Hold)>>,
    /// Objects that lie there already, each with its place.
    hits: Vec<(u64, Hit)>,
    named: Named,
    bytes: usize,
    /// When the oldest of them came.
    since: Instant,
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            objects: Vec::new(),
            holds: Vec::new(),
            hits: Vec::new(),
            named: Vec::new(),
            bytes: 0,
            since: Instant::now(),
        }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.hits.is_empty()
    }

    fn begin(&mut self, bytes: usize) {
        if self.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += bytes;
    }

    fn push_known(&mut self, index: u64, hit: Hit) -> ChunkEntry {
        self.begin(KNOWN_BYTES);
        let entry = hit.entry.clone();
        self.hits.push((index, hit));
        entry
    }

    fn push(&mut self, id: ObjectId, sealed: Vec<u8>, hold: Option<(u64, Hold)>) {
        self.begin(sealed.len());
        self.objects.push((id, sealed.into()));
        self.holds.push(hold);
    }

    /// Takes one batch off the front, with all that needs no write.
    fn take(&mut self, bytes_min: usize) -> Batch {
        let mut bytes = 0;
        let fits = |(_, object): &(ObjectId, Bytes)| {
            bytes += object.len();
            bytes >= bytes_min
        };
        let count = self.objects.iter().position(fits).map_or(self.objects.len(), |last| last + 1);
        let mut batch =
            Batch { objects: self.objects.split_off(count), holds: self.holds.split_off(count), ..Batch::default() };
        let (taken, left) = std::mem::take(&mut self.named)
            .into_iter()
            .partition(|(_, entry)| self.objects.iter().any(|(id, _)| *id == entry.id));
        (self.named, batch.named) = (taken, left);
        batch.bytes = batch.objects.iter().map(|(_, object)| object.len()).sum();
        std::mem::replace(self, batch)
    }
}

/// What one batch made durable.
struct Written {
    /// Places in the chunk table.
    places: Vec<u64>,
    named: Named,
}

/// Writes under way, and the promise to take them back unless all is well.
struct Writes {
    blobs: Blobs,
    known: Option<KnownContent>,
    origin: EntityId,
    owner: Owner,
    running: FuturesUnordered<JoinHandle<Result<Written, BlobError>>>,
    /// Whether there may be something to take back.
    begun: bool,
    durable: Option<DurableSoFar>,
}

impl Writes {
    fn start(&mut self, batch: Batch) {
        self.begun = true;
        let (blobs, known, origin, owner) = (self.blobs.clone(), self.known.clone(), self.origin, self.owner);
        // A task of its own: it runs to its end in any case, so that no file is left without its row.
        self.running.push(tokio::spawn(async move {
            let Batch { objects, hits, named, holds, .. } = batch;
            let mut places: Vec<u64> = hits.iter().map(|(place, _)| *place).collect();
            if let Some(known) = known {
                let hits = hits.into_iter().map(|(_, hit)| hit).collect();
                known.pin(ambient::service_now(), owner, hits).await?;
            }
            if !objects.is_empty() {
                blobs.write_batch_pinned(origin, owner, &objects).await?;
                blobs.keep_warm(origin, &objects);
            }
            places.extend(holds.into_iter().flatten().map(|(place, _)| place));
            Ok(Written { places, named })
        }));
    }

    /// Lets writes end, then releases the owner; does not wait for those who follow what is durable.
    async fn undo(mut self) {
        let followed = self.durable.as_ref().is_some_and(DurableSoFar::is_followed);
        if let Some(undoing) = self.undo_in_background()
            && !followed
        {
            // Fails only if the runtime is shutting down.
            let _ = undoing.await;
        }
    }

    fn undo_in_background(&mut self) -> Option<JoinHandle<()>> {
        let durable = self.durable.take();
        if let Some(durable) = &durable {
            durable.break_off();
        }
        if !std::mem::take(&mut self.begun) {
            return None;
        }
        let (blobs, owner) = (self.blobs.clone(), self.owner);
        let mut running = std::mem::take(&mut self.running);
        let undo = async move {
            while running.next().await.is_some() {}
            if let Some(durable) = durable {
                durable.let_go().await;
            }
            if let Err(error) = blobs.release(owner).await {
                tracing::warn!(%error, "cannot release the objects of a message that was broken off");
            }
        };
        Some(Handle::try_current().ok()?.spawn(undo))
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.undo_in_background();
    }
}
