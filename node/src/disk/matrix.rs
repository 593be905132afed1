//! The fault matrix: one fixed workload over store, objects and slots, struck at every single call to the disk.
//!
//! After each strike the machine reboots, everything must open again, and what was acknowledged must be there. What was
//! not acknowledged may be there or not, but nothing else may.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use pakt_keys::EntityId;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::ids::ObjectId;

use super::{Crash, Disk, Fault, FaultDisk, FaultPlan};
use crate::blob::{Blobs, Owner};
use crate::slots::{SlotId, Slots};
use crate::store::{Store, StoreError, Table};

const ROWS: Table<u64, Vec<u8>> = Table::new("rows-1");
const KEYS: Table<u64, SlotId> = Table::new("keys-1");
const ORIGIN: EntityId = EntityId([3; 32]);
const FIRST: Owner = [1; 16];
const SECOND: Owner = [2; 16];

struct Node {
    store: Store,
    blobs: Blobs,
    slots: Slots,
}

fn open(disk: &Arc<FaultDisk>) -> Result<Node, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let key = StoreKey::from_bytes([7; 32]);
    let store = Store::open(disk.clone(), Path::new("/data/pakt.redb"), key).map_err(|e| text(&e))?;
    let slots = Slots::open(store.clone(), disk.clone(), Path::new("/data/keys/slots")).map_err(|e| text(&e))?;
    let blobs = Blobs::open_for_tests(store.clone(), disk.clone(), Path::new("/data/chunks")).map_err(|e| text(&e))?;
    Ok(Node { store, blobs, slots })
}

fn object(seed: u8) -> (ObjectId, Bytes) {
    let bytes = Bytes::from(vec![seed; 5000 + usize::from(seed)]);
    (ObjectId::of(&bytes), bytes)
}

fn objects(seeds: std::ops::Range<u8>) -> Vec<(ObjectId, Bytes)> {
    seeds.map(object).collect()
}

/// What a reboot may find.
#[derive(Default)]
struct Expected {
    /// Per row every value that it may have.
    rows: BTreeMap<u64, Vec<Option<Vec<u8>>>>,
    /// Objects that must be there, by owner.
    objects: BTreeSet<(Owner, u8)>,
    /// Slots that must open to this, or must not open.
    slots: Vec<(SlotId, Option<[u8; 32]>)>,
}

impl Expected {
    fn row(&mut self, key: u64) -> &mut Vec<Option<Vec<u8>>> {
        self.rows.entry(key).or_insert_with(|| vec![None])
    }

    /// Notes the outcome of a change of rows: done, certainly not done, or open.
    fn changed(&mut self, outcome: &Result<(), StoreError>, changes: &[(u64, Option<Vec<u8>>)]) {
        for (key, value) in changes {
            let row = self.row(*key);
            match outcome {
                Ok(()) => *row = vec![value.clone()],
                Err(StoreError::Full | StoreError::Failed | StoreError::Closed) => {}
                Err(_) => row.push(value.clone()),
            }
        }
    }
}

fn put_rows(node: &Node, expected: &mut Expected, changes: Vec<(u64, Option<Vec<u8>>)>) {
    let rows = changes.clone();
    let outcome = node.store.write_blocking(move |tx| {
        for (key, value) in &rows {
            match value {
                Some(value) => tx.put(&ROWS, key, value)?,
                None => drop(tx.remove(&ROWS, key)?),
            }
        }
        Ok(())
    });
    expected.changed(&outcome, &changes);
}

fn put_slot(node: &Node, expected: &mut Expected, key: u64) -> Option<SlotId> {
    let secret = [key as u8; 32];
    let id = node.slots.put(&secret).ok()?;
    expected.slots.push((id, Some(secret)));
    let _: Result<(), StoreError> = node.store.write_blocking(move |tx| tx.put(&KEYS, &key, &id));
    Some(id)
}

fn erase_slot(node: &Node, expected: &mut Expected, id: Option<SlotId>) {
    let Some(id) = id else { return };
    let erased = node.slots.erase(&[id]).is_ok();
    expected.slots.retain(|(slot, _)| *slot != id);
    if erased {
        expected.slots.push((id, None));
    }
}

fn put_objects(node: &Node, expected: &mut Expected, owner: Owner, seeds: std::ops::Range<u8>) {
    if block_on(node.blobs.write_batch_pinned(ORIGIN, owner, &objects(seeds.clone()))).is_ok() {
        expected.objects.extend(seeds.map(|seed| (owner, seed)));
    }
}

/// The workload; it goes on after errors, as a node would.
fn work(node: &Node, expected: &mut Expected) {
    put_rows(node, expected, (0..4).map(|key| (key, Some(vec![key as u8; 100]))).collect());
    let first = put_slot(node, expected, 1);
    put_slot(node, expected, 2);
    put_objects(node, expected, FIRST, 0..4);
    put_rows(node, expected, vec![(1, Some(vec![11; 9000])), (2, None), (4, Some(vec![4; 10]))]);
    put_objects(node, expected, SECOND, 2..6);
    erase_slot(node, expected, first);
    expected.objects.retain(|(owner, _)| *owner != FIRST);
    let blobs = node.blobs.clone();
    let _: Result<(), StoreError> = node.store.write_blocking(move |tx| blobs.unpin(tx, FIRST));
    let _ = block_on(node.blobs.reap());
    put_objects(node, expected, SECOND, 0..1);
    let _ = node.slots.rewrite();
    put_slot(node, expected, 3);
    put_rows(node, expected, vec![(1, None), (5, Some(vec![5; 700_000]))]);
    put_rows(node, expected, vec![(0, Some(vec![10; 10]))]);
}

fn verify(node: &Node, expected: &Expected, context: &dyn Debug) {
    for (key, allowed) in &expected.rows {
        let value = node.store.read(|tx| tx.get(&ROWS, key)).unwrap();
        assert!(allowed.contains(&value), "row {key}: {:?} {context:?}", value.map(|value| value.len()));
    }
    for (_, seed) in &expected.objects {
        let (id, bytes) = object(*seed);
        let found = node.blobs.read_verified(ORIGIN, id);
        assert!(found.as_ref().is_ok_and(|found| *found == bytes), "object {seed}: {found:?} {context:?}");
    }
    for (id, secret) in &expected.slots {
        let found = node.slots.get(*id).unwrap();
        assert_eq!(found.as_ref().map(|found| found.as_slice()), secret.as_ref().map(|s| &s[..]), "{context:?}");
    }
    for key in 1..=3 {
        if let Some(id) = node.store.read(|tx| tx.get(&KEYS, &key)).unwrap() {
            let erased = expected.slots.iter().all(|(slot, secret)| *slot != id || secret.is_none());
            assert!(erased || node.slots.get(id).unwrap().is_some(), "a row refers to a lost slot {context:?}");
        }
    }
}

/// Nothing that a crash littered remains once the sweep has been.
fn verify_tidy(disk: &FaultDisk, node: &Node, context: &dyn Debug) {
    block_on(node.blobs.reap()).unwrap();
    node.blobs.sweep().unwrap();
    let paths = disk.contents().into_iter().map(|(path, _)| path);
    let files: Vec<PathBuf> = paths.filter(|path| path.starts_with("/data/chunks")).collect();
    assert_eq!(files.len() as u64, node.blobs.usage().unwrap().objects, "{files:?} {context:?}");
}

/// Strikes each call in turn; returns how many strikes that were.
fn check(fault: Fault, crash: Crash) -> u64 {
    let mut at = 1;
    let mut strikes = 0;
    loop {
        let context = (fault, crash, at);
        let disk = FaultDisk::new();
        disk.plan(FaultPlan { at, fault });
        let mut expected = Expected::default();
        if let Ok(node) = open(&disk) {
            work(&node, &mut expected);
        }
        let struck = disk.struck_at();
        let disk = disk.crash(crash, at);
        let node = open(&disk).unwrap_or_else(|error| panic!("{error} {context:?}"));
        verify(&node, &expected, &context);
        verify_tidy(&disk, &node, &context);
        let Some(struck) = struck else { return strikes };
        strikes += 1;
        at = at.max(struck) + 1;
    }
}

#[test]
fn the_workload_succeeds_on_a_good_disk() {
    let disk = FaultDisk::new();
    let mut expected = Expected::default();
    let node = open(&disk).unwrap();
    work(&node, &mut expected);
    let seeds: Vec<u8> = expected.objects.iter().map(|(_, seed)| *seed).collect();
    assert_eq!(seeds, [0, 2, 3, 4, 5]);
    assert!(expected.rows.values().all(|allowed| allowed.len() == 1));
    assert_eq!(expected.slots.len(), 3);
    verify(&node, &expected, &"no fault");
    drop(node);
    let node = open(&disk).unwrap();
    verify(&node, &expected, &"closed and opened");
    verify_tidy(&disk, &node, &"closed and opened");
}

macro_rules! matrix {
    ($($name:ident: $fault:expr, $crash:expr, $least:expr;)*) => {$(
        #[test]
        fn $name() {
            let strikes = check($fault, $crash);
            assert!(strikes > $least, "{strikes} strikes");
        }
    )*};
}

matrix! {
    p32_a_clean_cut_at_any_call_loses_nothing: Fault::Cut, Crash::Clean, 150;
    p32_lost_unsynced_writes_at_any_call_lose_nothing: Fault::Cut, Crash::LostAll, 150;
    p32_partly_lost_writes_at_any_call_lose_nothing: Fault::Cut, Crash::LostSome, 150;
    p32_writes_torn_at_512_at_any_call_lose_nothing: Fault::Cut, Crash::Torn { sector: 512 }, 150;
    p32_writes_torn_at_4096_at_any_call_lose_nothing: Fault::Cut, Crash::Torn { sector: 4096 }, 150;
    p32_one_error_at_any_call_loses_nothing: Fault::ErrorOnce, Crash::LostAll, 150;
    p32_errors_from_any_call_on_lose_nothing: Fault::ErrorForever, Crash::LostSome, 150;
    p32_one_failed_sync_loses_nothing: Fault::SyncOnce, Crash::LostAll, 30;
    p31_a_disk_full_once_at_any_call_loses_nothing: Fault::FullOnce, Crash::LostAll, 60;
    p31_a_disk_full_from_any_call_on_loses_nothing: Fault::FullForever, Crash::LostSome, 60;
}

#[test]
fn p31_a_full_disk_heals_without_a_restart() {
    let mut at = 1;
    loop {
        let disk = FaultDisk::new();
        let node = open(&disk).unwrap();
        disk.plan(FaultPlan { at: disk.calls() + at, fault: Fault::FullForever });
        let mut expected = Expected::default();
        work(&node, &mut expected);
        let struck = disk.struck_at().is_some();
        verify(&node, &expected, &("still full", at));
        disk.heal();
        put_rows(&node, &mut expected, vec![(9, Some(vec![9; 9]))]);
        put_objects(&node, &mut expected, [9; 16], 9..10);
        let slot = put_slot(&node, &mut expected, 9);
        assert!(slot.is_some() && expected.objects.contains(&([9; 16], 9)) && expected.rows[&9].len() == 1, "{at}");
        verify(&node, &expected, &("healed", at));
        drop(node);
        let disk = disk.crash(Crash::LostAll, 0);
        verify(&open(&disk).unwrap(), &expected, &("healed and opened", at));
        if !struck {
            assert!(at > 150);
            return;
        }
        at += 1;
    }
}

#[test]
fn p22_no_canary_lies_readable_on_the_disk() {
    let disk = FaultDisk::new();
    let node = open(&disk).unwrap();
    let canaries: Vec<Vec<u8>> = (0..50u8).map(|n| format!("canary-{n:02}-of-the-patient").into_bytes()).collect();
    let mut ids = Vec::new();
    for (key, canary) in (0u64..).zip(&canaries) {
        let value = canary.clone();
        node.store.write_blocking::<_, StoreError, _>(move |tx| tx.put(&ROWS, &key, &value)).unwrap();
        ids.push(node.slots.put(canary).unwrap());
        if key % 2 == 0 {
            node.store.write_blocking::<_, StoreError, _>(move |tx| tx.remove(&ROWS, &key)).unwrap();
        }
    }
    node.slots.erase(&ids[..25]).unwrap();
    let scan = || {
        let files = disk.contents();
        assert!(files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 20_000);
        files
            .iter()
            .flat_map(|(_, bytes)| bytes.windows(canaries[0].len()))
            .filter(|window| window.starts_with(b"canary-") && canaries.iter().any(|canary| canary == window))
            .count()
    };
    assert_eq!(scan(), 0);
    node.slots.rewrite().unwrap();
    drop(node);
    assert_eq!(scan(), 0);
    disk.create(Path::new("/data/leak")).unwrap().write_at(3, &canaries[49]).unwrap();
    assert_eq!(scan(), 1, "the scan finds what is there");
}
