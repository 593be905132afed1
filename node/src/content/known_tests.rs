//! Known content across messages, restarts, crashes, small disks and damage.

use std::collections::HashSet;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use pakt_keys::EntityId;
use pakt_keys::object::{SealBase, derive_key};
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::content::encode::{Codec, Effort, EncodeScratch};
use pakt_protocol::content::known::{ContentName, secret_tag};
use pakt_protocol::content::manifest::{Bounds, ManifestHead};
use pakt_protocol::content::seal::{ChunkEntry, seal_chunk};
use pakt_protocol::ids::ObjectId;
use pakt_protocol::time::Time;
use tokio::io::AsyncReadExt;

use super::*;
use crate::ambient;
use crate::blob::{Blobs, Owner, RESERVE_BYTES, Usage};
use crate::disk::{Crash, Disk, Fault, FaultDisk, FaultPlan};
use crate::store::Store;

const OWN: EntityId = EntityId([1; 32]);
const FILES: u64 = 8;
const FILE_BYTES: usize = 300_000;
/// What one such file is as an object.
const OBJECT_BYTES: u64 = FILE_BYTES as u64 + 48;

struct Node {
    disk: Arc<FaultDisk>,
    blobs: Blobs,
    known: KnownContent,
    pool: ContentPool,
}

impl Node {
    fn start(bytes_max: u64) -> Node {
        Node::on(&FaultDisk::new(), bytes_max).unwrap()
    }

    fn on(disk: &Arc<FaultDisk>, bytes_max: u64) -> Result<Node, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let store = Store::open(disk.clone(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32]));
        let store = store.map_err(|error| text(&error))?;
        let blobs = Blobs::open_for_tests(store.clone(), disk.clone(), Path::new("/d/chunks"));
        let blobs = blobs.map_err(|error| text(&error))?;
        let known = KnownContent::open(store, blobs.clone(), OWN, Some(bytes_max));
        let known = known.map_err(|error| text(&error))?;
        Ok(Node { disk: disk.clone(), blobs, known, pool: ContentPool::start().unwrap() })
    }

    async fn seal(&self, tar: Vec<u8>, owner: Owner) -> Result<SealedTree, SealTreeError> {
        self.seal_under(base(), tar, owner).await
    }

    async fn seal_under(&self, base: SealBase, tar: Vec<u8>, owner: Owner) -> Result<SealedTree, SealTreeError> {
        let (head, known) = (ManifestHead::default(), self.known.if_on());
        let what = SealTree { known, ..SealTree::new(head, base, OWN, owner) };
        let sealed = seal_tree(Cursor::new(tar), what, &self.blobs, &self.pool);
        let sealed = sealed.await;
        self.known.settled().await;
        sealed
    }

    /// The message has ended, and what nobody needs has gone.
    async fn end(&self, owner: Owner) {
        self.blobs.release(owner).await.unwrap();
        self.blobs.reap().await.unwrap();
    }

    /// Opens the message and compares every file.
    async fn assert_holds(&self, sealed: &SealedTree, seeds: std::ops::Range<u64>) {
        let segments: Vec<_> = sealed.objects[sealed.totals.chunks as usize..].iter().map(|entry| entry.id).collect();
        let bounds = Bounds::from(sealed.totals);
        let manifest = read_manifest(&self.blobs, OWN, &segments, sealed.manifest_key.clone(), bounds).unwrap();
        let mut out = Vec::new();
        let mut stream = Box::pin(tar_stream(self.blobs.clone(), OWN, Arc::new(manifest), &self.pool));
        stream.read_to_end(&mut out).await.unwrap();
        let mut archive = tar::Archive::new(out.as_slice());
        let hashes = archive.entries().unwrap().map(|entry| {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry.unwrap(), &mut content).unwrap();
            blake3::hash(&content)
        });
        assert!(hashes.eq(seeds.map(|seed| blake3::hash(&noise(seed)))));
    }

    fn kept(&self) -> Usage {
        self.known.usage().unwrap()
    }

    /// Files of objects, and their bytes.
    fn files(&self) -> (usize, u64) {
        let files = self.disk.contents().into_iter().filter(|(path, _)| path.starts_with("/d/chunks"));
        files.fold((0, 0), |(count, sum), (_, bytes)| (count + 1, sum + bytes.len() as u64))
    }

    fn path_of(&self, id: ObjectId) -> std::path::PathBuf {
        let name = id.to_string();
        self.disk.contents().into_iter().map(|(path, _)| path).find(|path| path.ends_with(&name)).unwrap()
    }
}

fn base() -> SealBase {
    SealBase::from_bytes([3; 32])
}

fn noise(seed: u64) -> Vec<u8> {
    let mut out = vec![0; FILE_BYTES];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Files that are one chunk each, none of which gets smaller.
fn study(seeds: std::ops::Range<u64>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for seed in seeds {
        let mut header = tar::Header::new_gnu();
        header.set_size(FILE_BYTES as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, format!("{seed:03}.dcm"), noise(seed).as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn content_ids(sealed: &SealedTree) -> Vec<ObjectId> {
    sealed.objects[..sealed.totals.chunks as usize].iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn a_study_that_is_sent_again_is_neither_sealed_nor_written_again() {
    let node = Node::start(u64::MAX);
    let first = node.seal(study(0..FILES), [1; 16]).await.unwrap();
    assert_eq!(node.kept(), Usage { objects: FILES, bytes: FILES * OBJECT_BYTES });
    node.end([1; 16]).await;
    assert_eq!(node.files(), (FILES as usize, FILES * OBJECT_BYTES), "the segments have gone, the content stays");

    let again = node.seal(study(0..FILES + 1), [2; 16]).await.unwrap();
    assert_eq!(content_ids(&again)[..FILES as usize], content_ids(&first));
    let new = node.files().0 - FILES as usize;
    assert_eq!(new as u64, 1 + again.totals.segments, "one file and the manifest are new");
    node.assert_holds(&again, 0..FILES + 1).await;
    node.end([2; 16]).await;
    assert_eq!(node.kept().objects, FILES + 1);
}

#[tokio::test]
async fn what_was_sealed_under_another_codec_is_found() {
    let node = Node::start(u64::MAX);
    // Content that shrinks, remembered as a line that never encodes would have sealed it: another object.
    let plain: Vec<u8> = noise(1).iter().map(|byte| byte & 7).collect();
    let key = derive_key(&base(), "another codec", &plain);
    let sealed = pakt_keys::object::seal(&key, &plain);
    let (id, bytes) = (ObjectId::of(&sealed), plain.len() as u32);
    let entry = ChunkEntry { id, key, codec: Codec::Raw.into(), plain_bytes: bytes, encoded_bytes: bytes };
    node.blobs.write_batch_pinned(OWN, [1; 16], &[(id, sealed.into())]).await.unwrap();
    node.known.remember(ambient::service_now(), vec![(ContentName::of(&base(), &plain), entry)]);
    node.known.settled().await;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(plain.len() as u64);
    builder.append_data(&mut header, "a", plain.as_slice()).unwrap();
    let sealed = node.seal(builder.into_inner().unwrap(), [2; 16]).await.unwrap();
    assert_eq!(content_ids(&sealed), [id]);
}

#[tokio::test]
async fn another_secret_finds_nothing_and_off_is_off() {
    let node = Node::start(u64::MAX);
    let first = node.seal(study(0..2), [1; 16]).await.unwrap();
    let other = node.seal_under(SealBase::from_bytes([4; 32]), study(0..2), [2; 16]).await.unwrap();
    assert!(content_ids(&other).iter().all(|id| !content_ids(&first).contains(id)));
    assert_eq!(node.kept().objects, 4);

    let off = Node::start(0);
    off.seal(study(0..2), [1; 16]).await.unwrap();
    off.end([1; 16]).await;
    assert_eq!((off.kept(), off.files()), (Usage::default(), (0, 0)));
}

#[tokio::test]
async fn the_same_tree_twice_at_the_same_time_is_right() {
    let node = Node::start(u64::MAX);
    for round in 0..4u8 {
        let owners: Vec<Owner> = (0..4).map(|n| [round * 4 + n + 1; 16]).collect();
        let sealing = owners.iter().map(|owner| node.seal(study(0..FILES), *owner));
        for sealed in futures::future::join_all(sealing).await {
            node.assert_holds(&sealed.unwrap(), 0..FILES).await;
        }
        for owner in owners {
            node.end(owner).await;
        }
        assert_eq!(node.kept(), Usage { objects: FILES, bytes: FILES * OBJECT_BYTES });
        assert_eq!(node.files().1, FILES * OBJECT_BYTES);
    }
}

#[tokio::test]
async fn what_is_used_least_lately_goes_first() {
    let hour = |hours: u64| Time::from_seconds(3600 * hours);
    let name = |seed: u64| ContentName::of(&base(), &noise(seed));
    // Rows with times of their own, through the same door as the sealer's.
    let node = Node::start(3 * OBJECT_BYTES);
    let remember = async |seed: u64, at: Time| {
        let mut scratch = EncodeScratch::new();
        let chunk = seal_chunk(&noise(seed), &base(), &base(), Effort::LINE, &mut scratch);
        let object = [(chunk.entry.id, chunk.sealed.into())];
        node.blobs.write_batch_pinned(OWN, [1; 16], &object).await.unwrap();
        node.known.remember(at, vec![(name(seed), chunk.entry)]);
        node.known.settled().await;
    };
    for seed in 0..3 {
        remember(seed, hour(10 + seed)).await;
    }
    // The oldest is used again, so the second oldest makes room for a fourth.
    let hit = node.known.find(hour(20), &name(0), FILE_BYTES).unwrap();
    node.known.pin(hour(20), [2; 16], vec![hit]).await.unwrap();
    remember(3, hour(21)).await;
    let found: Vec<bool> = (0..4).map(|seed| node.known.find(hour(21), &name(seed), FILE_BYTES).is_some()).collect();
    assert_eq!(found, [true, false, true, true]);
    // What is in use stays, whatever its age.
    let hit = node.known.find(hour(21), &name(2), FILE_BYTES).unwrap();
    remember(4, hour(22)).await;
    assert!(node.known.find(hour(22), &name(2), FILE_BYTES).is_some());
    drop(hit);
}

#[tokio::test]
async fn rows_of_a_secret_that_was_renewed_go() {
    let node = Node::start(u64::MAX);
    node.seal(study(0..2), [1; 16]).await.unwrap();
    let renewed = SealBase::from_bytes([4; 32]);
    node.seal_under(renewed.clone(), study(0..3), [2; 16]).await.unwrap();
    node.end([1; 16]).await;
    node.end([2; 16]).await;
    node.known.upkeep(&HashSet::from([secret_tag(&renewed)])).await.unwrap();
    assert_eq!(node.kept().objects, 3);
    assert_eq!(node.files(), (3, 3 * OBJECT_BYTES));
    node.known.upkeep(&HashSet::new()).await.unwrap();
    assert_eq!((node.kept(), node.files()), (Usage::default(), (0, 0)));
}

#[tokio::test]
async fn p31_known_content_is_given_up_before_content_is_refused() {
    let node = Node::start(u64::MAX);
    node.seal(study(0..FILES), [1; 16]).await.unwrap();
    node.end([1; 16]).await;
    let used: u64 = node.disk.contents().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    // Space for half of it besides.
    node.disk.set_capacity(Some(used + RESERVE_BYTES + FILES * OBJECT_BYTES / 2));
    let other = node.seal(study(100..100 + FILES - 2), [2; 16]).await.unwrap();
    node.assert_holds(&other, 100..100 + FILES - 2).await;
    assert!(node.kept().bytes <= FILES * OBJECT_BYTES, "{:?}", node.kept());
    // What would not fit even then costs nothing.
    let before = node.kept();
    node.blobs.make_room(1 << 40).await.unwrap();
    assert_eq!(node.kept(), before);
    // Without other content it leaves as much space as it takes.
    node.end([2; 16]).await;
    node.known.upkeep(&HashSet::from([secret_tag(&base())])).await.unwrap();
    assert!(node.kept().bytes <= node.blobs.room().unwrap());
}

#[tokio::test]
async fn a_row_of_another_key_a_lost_and_a_damaged_object_are_misses_and_heal() {
    let node = Node::start(u64::MAX);
    let first = node.seal(study(0..3), [1; 16]).await.unwrap();
    node.end([1; 16]).await;
    let ids = content_ids(&first);
    node.disk.open(&node.path_of(ids[0])).unwrap().write_at(5, b"another commitment").unwrap();
    node.disk.open(&node.path_of(ids[1])).unwrap().set_len(7).unwrap();
    node.disk.remove(&node.path_of(ids[2])).unwrap();
    let again = node.seal(study(0..3), [2; 16]).await.unwrap();
    assert_eq!(content_ids(&again), ids);
    node.assert_holds(&again, 0..3).await;
    assert_eq!(node.kept().objects, 3);
}

#[tokio::test]
async fn an_object_that_lay_for_long_is_read_whole_before_it_is_used() {
    let node = Node::start(u64::MAX);
    let sealed = node.seal(study(0..1), [1; 16]).await.unwrap();
    let id = content_ids(&sealed)[0];
    node.disk.open(&node.path_of(id)).unwrap().write_at(1000, b"a flipped bit").unwrap();
    let (name, now) = (ContentName::of(&base(), &noise(0)), ambient::service_now());
    assert!(node.known.find(now, &name, FILE_BYTES).is_some(), "its beginning is as it was");
    assert!(node.known.find(now + std::time::Duration::from_secs(2 * 86_400), &name, FILE_BYTES).is_none());
    assert!(node.known.find(now, &name, FILE_BYTES + 1).is_none());
}

/// Strikes each call of a message and its repetition; whatever was there after the crash is used or made anew.
fn check_crashes(fault: Fault, crash: Crash) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut strikes, mut at) = (0, 1);
    loop {
        let context = (fault, crash, at);
        let disk = FaultDisk::new();
        disk.plan(FaultPlan { at, fault });
        if let Ok(node) = Node::on(&disk, 2 * OBJECT_BYTES) {
            runtime.block_on(async {
                let _ = node.seal(study(0..2), [1; 16]).await;
                let _ = node.blobs.release([1; 16]).await;
                let _ = node.seal(study(1..3), [2; 16]).await;
                let _ = node.blobs.release([2; 16]).await;
                let _ = node.blobs.reap().await;
            });
        }
        let struck = disk.struck_at();
        let node = Node::on(&disk.crash(crash, at), 2 * OBJECT_BYTES).unwrap();
        runtime.block_on(async {
            for owner in [[1; 16], [2; 16]] {
                node.end(owner).await;
            }
            node.blobs.sweep().unwrap();
            let (kept, stored) = (node.kept(), node.blobs.usage().unwrap());
            assert_eq!(kept, stored, "rows and objects say the same {context:?}");
            assert_eq!(node.files().1, stored.bytes, "{context:?}");
            let sealed = node.seal(study(0..3), [3; 16]).await.unwrap();
            node.assert_holds(&sealed, 0..3).await;
        });
        let Some(struck) = struck else { return strikes };
        strikes += 1;
        // Every third call is enough for a run of seconds.
        at = at.max(struck) + 3;
    }
}

macro_rules! matrix {
    ($($name:ident: $fault:expr, $crash:expr;)*) => {$(
        #[test]
        fn $name() {
            let strikes = check_crashes($fault, $crash);
            assert!(strikes > 20, "{strikes} strikes");
        }
    )*};
}

matrix! {
    p32_known_content_survives_lost_writes_at_any_call: Fault::Cut, Crash::LostAll;
    p32_known_content_survives_torn_writes_at_any_call: Fault::Cut, Crash::Torn { sector: 512 };
    p32_known_content_survives_an_error_at_any_call: Fault::ErrorOnce, Crash::LostSome;
}
