//! Objects on a good disk, on a full one, and on one that a crash littered.

use std::path::{Path, PathBuf};

use futures::executor::block_on;
use pakt_keys::store_seal::StoreKey;

use super::*;
use crate::disk::{Crash, Fault, FaultDisk, FaultPlan};

const A: EntityId = EntityId([1; 32]);
const B: EntityId = EntityId([2; 32]);
const ONE: Owner = [1; 16];
const TWO: Owner = [2; 16];

fn open(disk: &Arc<FaultDisk>) -> (Store, Blobs) {
    let store = Store::open(disk.clone(), Path::new("/data/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
    let blobs = Blobs::open_with(
        store.clone(),
        disk.clone(),
        Path::new("/data/chunks"),
        Arc::new(Pool::start(2).unwrap()),
        false,
    )
    .unwrap();
    (store, blobs)
}

fn object(seed: u8, bytes: usize) -> (ObjectId, Bytes) {
    let bytes = Bytes::from(vec![seed; bytes]);
    (ObjectId::of(&bytes), bytes)
}

fn objects(seeds: std::ops::Range<u8>) -> Vec<(ObjectId, Bytes)> {
    seeds.map(|seed| object(seed, 100 + usize::from(seed))).collect()
}

fn files(disk: &FaultDisk) -> Vec<PathBuf> {
    let paths = disk.contents().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.starts_with("/data/chunks")).collect()
}

fn release(store: &Store, blobs: &Blobs, owner: Owner) {
    let unpinning = blobs.clone();
    store.write_blocking(move |tx| unpinning.unpin(tx, owner)).unwrap();
    block_on(blobs.reap()).unwrap();
}

#[test]
fn objects_are_read_back_by_their_own_origin_alone() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    let batch = objects(0..50);
    block_on(blobs.write_batch(A, &batch)).unwrap();
    drop((store, blobs));
    let (_store, blobs) = open(&disk.crash(Crash::LostAll, 0));
    for (id, bytes) in &batch {
        assert_eq!(blobs.read_verified(A, *id).unwrap(), bytes);
        assert!(matches!(blobs.read(B, *id), Err(BlobError::Missing)));
        assert!(blobs.contains(A, *id).unwrap() && !blobs.contains(B, *id).unwrap());
    }
    let stranger = object(200, 5).0;
    assert_eq!(blobs.known(A, &[stranger, batch[3].0]).unwrap(), HashSet::from([batch[3].0]));
    let expected = Usage { objects: 50, bytes: batch.iter().map(|(_, bytes)| bytes.len() as u64).sum() };
    assert_eq!((blobs.usage().unwrap(), blobs.usage_of(A).unwrap()), (expected, expected));
    assert_eq!(blobs.usage_of(B).unwrap(), Usage::default());
    assert_eq!(blobs.sweep().unwrap(), 0);
}

#[test]
fn known_objects_are_written_once_also_by_two_at_a_time() {
    let disk = FaultDisk::new();
    let (_store, blobs) = open(&disk);
    let batch = [objects(0..5), objects(0..5)].concat();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let writes = (0..8).map(|n| {
        let (blobs, batch) = (blobs.clone(), batch.clone());
        runtime.spawn(async move { blobs.write_batch_pinned(A, [n; 16], &batch).await })
    });
    for write in writes.collect::<Vec<_>>() {
        block_on(write).unwrap().unwrap();
    }
    assert_eq!(files(&disk).len(), 5);
    assert_eq!(blobs.usage().unwrap().objects, 5);
    let before = disk.calls();
    block_on(blobs.write_batch(A, &batch)).unwrap();
    assert_eq!(disk.calls(), before, "nothing is written for known objects");
}

#[test]
fn an_owner_that_is_taken_back_keeps_what_it_pins() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    let batch = objects(0..4);
    block_on(blobs.write_batch_pinned(A, ONE, &batch[..2])).unwrap();
    let unpinning = blobs.clone();
    store.write_blocking(move |tx| unpinning.unpin(tx, ONE)).unwrap();
    // The release is not worked off yet when the owner comes again.
    store.write_blocking(|tx| Blobs::take_back(tx, ONE)).unwrap();
    block_on(blobs.write_batch_pinned(A, ONE, &batch)).unwrap();
    block_on(blobs.reap()).unwrap();
    for (id, bytes) in &batch {
        assert_eq!(blobs.read_verified(A, *id).unwrap(), bytes);
    }
    release(&store, &blobs, ONE);
    assert_eq!((blobs.usage().unwrap(), files(&disk).len()), (Usage::default(), 0));
}

#[test]
fn an_object_goes_with_its_last_owner_and_can_come_again() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    let batch = objects(0..10);
    block_on(blobs.write_batch_pinned(A, ONE, &batch)).unwrap();
    block_on(blobs.write_batch_pinned(B, ONE, &batch[..1])).unwrap();
    let shared = batch[0].0;
    assert!(store.write_blocking(move |tx| Blobs::pin(tx, A, shared, TWO)).unwrap());
    assert!(store.read(|tx| Blobs::is_pinned(tx, A, shared, TWO)).unwrap());
    assert_eq!(block_on(blobs.remove(A, &[shared])).unwrap(), 0, "it is pinned");

    release(&store, &blobs, ONE);
    assert_eq!(blobs.usage().unwrap().objects, 1);
    assert_eq!(files(&disk).len(), 1);
    blobs.read_verified(A, shared).unwrap();
    assert!(matches!(blobs.read(B, shared), Err(BlobError::Missing)));
    assert!(!store.write_blocking(move |tx| Blobs::pin(tx, B, shared, TWO)).unwrap());

    release(&store, &blobs, TWO);
    assert_eq!((blobs.usage().unwrap(), files(&disk).len()), (Usage::default(), 0));
    block_on(blobs.write_batch(A, &batch)).unwrap();
    assert_eq!(block_on(blobs.remove(A, &[shared, batch[1].0])).unwrap(), 2);
    block_on(blobs.reap()).unwrap();
    assert_eq!(files(&disk).len(), 8);
    assert_eq!(block_on(blobs.remove_unpinned()).unwrap(), 8);
    block_on(blobs.reap()).unwrap();
    assert_eq!(files(&disk).len(), 0);
}

#[test]
fn an_object_written_again_before_its_file_went_stays() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    let batch = objects(0..3);
    block_on(blobs.write_batch(A, &batch)).unwrap();
    block_on(blobs.remove(A, &[batch[0].0])).unwrap();
    assert_eq!(files(&disk).len(), 3, "the file goes later");
    block_on(blobs.write_batch_pinned(A, ONE, &batch)).unwrap();
    block_on(blobs.reap()).unwrap();
    for (id, bytes) in &batch {
        assert_eq!(blobs.read_verified(A, *id).unwrap(), bytes);
    }
    release(&store, &blobs, ONE);
    assert_eq!(files(&disk).len(), 0);
}

#[test]
fn a_background_thread_removes_what_nobody_needs() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    block_on(blobs.write_batch_pinned(A, ONE, &objects(0..3))).unwrap();
    drop(blobs);
    let blobs = Blobs::open(store.clone(), disk.clone(), Path::new("/data/chunks")).unwrap();
    let unpinning = blobs.clone();
    store.write_blocking(move |tx| unpinning.unpin(tx, ONE)).unwrap();
    for _ in 0..2000 {
        if files(&disk).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the files are still there");
}

#[test]
fn leftovers_of_a_crash_are_swept_and_nothing_else() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    let batch = objects(0..3);
    block_on(blobs.write_batch(A, &batch)).unwrap();
    let folder = files(&disk)[0].parent().unwrap().to_owned();
    let stray = object(99, 10);
    disk.create(&folder.join(stray.0.to_string())).unwrap();
    disk.create(&folder.join(format!("{}.tmp", batch[0].0))).unwrap();
    disk.create_dir_all(Path::new("/data/chunks/0000000000000000/7")).unwrap();
    disk.create(&Path::new("/data/chunks/0000000000000000/7").join(stray.0.to_string())).unwrap();
    assert_eq!(blobs.sweep().unwrap(), 0, "directories of this run may be in use");
    drop((store, blobs));
    let (_store, blobs) = open(&disk);
    assert_eq!(blobs.sweep().unwrap(), 3);
    assert_eq!(files(&disk).len(), 3);
    assert!(!disk.exists(Path::new("/data/chunks/0000000000000000/7")).unwrap());
    block_on(blobs.write_batch(A, &[stray])).unwrap();
    assert_eq!(blobs.sweep().unwrap(), 0);
    assert_eq!(files(&disk).len(), 4);
}

#[test]
fn damage_is_reported() {
    let disk = FaultDisk::new();
    let (_store, blobs) = open(&disk);
    let batch = objects(0..3);
    block_on(blobs.write_batch(A, &batch)).unwrap();
    let path = |number: usize| {
        let name = batch[number].0.to_string();
        files(&disk).into_iter().find(|path| path.ends_with(&name)).unwrap()
    };
    disk.open(&path(0)).unwrap().write_at(5, b"x").unwrap();
    disk.open(&path(1)).unwrap().set_len(7).unwrap();
    disk.remove(&path(2)).unwrap();
    assert!(blobs.read(A, batch[0].0).is_ok());
    assert!(matches!(blobs.read_verified(A, batch[0].0), Err(BlobError::Damaged(_))));
    assert!(matches!(blobs.read(A, batch[1].0), Err(BlobError::Damaged(_))));
    assert!(matches!(blobs.read(A, batch[2].0), Err(BlobError::Damaged(_))));
}

#[test]
fn directories_hold_a_bounded_number_of_objects() {
    let disk = FaultDisk::new();
    let (_store, blobs) = open(&disk);
    let batch: Vec<_> = (0..4200u32)
        .map(|n| {
            let bytes = Bytes::copy_from_slice(&n.to_be_bytes());
            (ObjectId::of(&bytes), bytes)
        })
        .collect();
    block_on(blobs.write_batch(A, &batch)).unwrap();
    let folder = Path::new("/data/chunks").join(hex::encode([1; 8]));
    assert_eq!(disk.list(&folder.join("1")).unwrap().len(), 4096);
    assert_eq!(disk.list(&folder.join("2")).unwrap().len(), 104);
    let too_large = (object(1, 1).0, Bytes::from(vec![0; OBJECT_BYTES_MAX + 1]));
    assert!(matches!(block_on(blobs.write_batch(A, &[too_large])), Err(BlobError::TooLarge { .. })));
}

#[test]
fn p31_content_leaves_the_last_bytes_to_records() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    let first = object(1, 1 << 20);
    block_on(blobs.write_batch(A, std::slice::from_ref(&first))).unwrap();
    let used: u64 = disk.contents().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    for (spare, fits) in [(0, false), ((1 << 20) - 1, false), (1 << 20, true)] {
        disk.set_capacity(Some(used + RESERVE_BYTES + spare));
        let written = block_on(blobs.write_batch(A, &[object(2, 1 << 20)]));
        assert_eq!(written.is_ok(), fits, "{spare}");
        assert!(fits || matches!(written, Err(BlobError::Full)));
        assert_eq!(files(&disk).len(), 1 + usize::from(fits), "nothing half done remains");
        store.write_blocking(move |tx| tx.next_sequence("receipts")).unwrap();
        blobs.read_verified(A, first.0).unwrap();
    }
}

#[test]
fn p31_a_disk_that_fills_up_while_writing_leaves_no_files() {
    for at in 1..12 {
        let disk = FaultDisk::new();
        let (_store, blobs) = open(&disk);
        disk.plan(FaultPlan { at: disk.calls() + at, fault: Fault::FullForever });
        let batch = objects(0..4);
        let written = block_on(blobs.write_batch(A, &batch));
        assert!(matches!(written, Err(BlobError::Full)), "{at}");
        assert_eq!(files(&disk), Vec::<PathBuf>::new(), "{at}");
        disk.heal();
        block_on(blobs.write_batch(A, &batch)).unwrap();
        for (id, _) in &batch {
            blobs.read_verified(A, *id).unwrap();
        }
    }
}

#[test]
fn a_file_that_cannot_be_synced_stops_the_store() {
    let disk = FaultDisk::new();
    let (store, blobs) = open(&disk);
    disk.plan(FaultPlan { at: disk.calls() + 3, fault: Fault::SyncOnce });
    assert!(block_on(blobs.write_batch(A, &objects(0..4))).is_err());
    block_on(store.failed());
    assert!(store.read(|_| Ok(())).is_err());
}
