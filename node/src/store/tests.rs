//! The store on a good disk: rows, ranges, batches, errors of callers, migrations.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pakt_keys::store_seal::StoreKey;
use serde::{Deserialize, Serialize};

use super::*;
use crate::disk::{Disk, FaultDisk, RealDisk};

const NOTES: Table<(u16, u64), Note> = Table::new("notes-1");
const COUNTS: Table<u64, u64> = Table::new("counts-1");

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Note {
    text: String,
}

fn note(text: &str) -> Note {
    Note { text: text.into() }
}

fn path() -> &'static Path {
    Path::new("/data/pakt.redb")
}

fn key() -> StoreKey {
    StoreKey::from_bytes([7; 32])
}

fn open(disk: &Arc<FaultDisk>) -> Store {
    Store::open(disk.clone(), path(), key()).unwrap()
}

fn put(store: &Store, group: u16, number: u64, text: &str) {
    let note = note(text);
    store.write_blocking(move |tx| tx.put(&NOTES, &(group, number), &note)).unwrap();
}

type NoteRow = ((u16, u64), Note);

fn texts(rows: Vec<NoteRow>) -> Vec<String> {
    rows.into_iter().map(|(_, note)| note.text).collect()
}

#[test]
fn rows_come_back_in_key_order_after_a_restart() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    for (group, number) in [(2, 1), (1, 300), (1, 2), (3, 0)] {
        put(&store, group, number, &format!("{group}/{number}"));
    }
    store.close();
    assert!(matches!(store.read(|tx| tx.get(&NOTES, &(1, 2))), Err(StoreError::Closed)));
    let closed: Result<(), StoreError> = store.write_blocking(|_| Ok(()));
    assert!(matches!(closed, Err(StoreError::Closed)));

    let store = open(&disk);
    let check = |rows: Result<Vec<NoteRow>, StoreError>, expected: &[&str]| {
        assert_eq!(texts(rows.unwrap()), expected);
    };
    store
        .read(|tx| {
            assert_eq!(tx.get(&NOTES, &(1, 2))?, Some(note("1/2")));
            assert_eq!(tx.get(&NOTES, &(1, 3))?, None);
            assert_eq!(tx.get(&COUNTS, &1)?, None, "a table that was never written is empty");
            check(tx.range(&NOTES, .., 9), &["1/2", "1/300", "2/1", "3/0"]);
            check(tx.range(&NOTES, (1, 3)..(3, 0), 9), &["1/300", "2/1"]);
            check(tx.range(&NOTES, (3, 0)..(1, 3), 9), &[]);
            check(tx.range(&NOTES, .., 2), &["1/2", "1/300"]);
            check(tx.range_backwards(&NOTES, ..=(2, 1), 2), &["2/1", "1/300"]);
            check(tx.prefix(&NOTES, &1u16, 9), &["1/2", "1/300"]);
            check(tx.prefix_backwards(&NOTES, &1u16, 1), &["1/300"]);
            check(tx.prefix(&NOTES, &(), 0), &[]);
            assert_eq!(tx.prefix_keys(&NOTES, &1u16, 9)?, [(1, 2), (1, 300)]);
            assert!(tx.contains(&NOTES, &(3, 0))?);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_long_table_is_walked_page_by_page() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    store
        .write_blocking(|tx| {
            for number in 0..1000 {
                tx.put(&COUNTS, &number, &(number * 2))?;
            }
            assert_eq!(tx.range_backwards(&COUNTS, .., 1)?, [(999, 1998)]);
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let mut seen = 0;
    store
        .read(|tx| {
            assert_eq!(tx.range(&COUNTS, .., 2000)?.len(), 1000);
            assert_eq!(tx.prefix_keys(&COUNTS, &(), 700)?.len(), 700);
            tx.scan(&COUNTS, 10.., |key, value| {
                assert_eq!((key, value), (10 + seen, 2 * (10 + seen)));
                seen += 1;
                Ok(if seen < 500 { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) })
            })
        })
        .unwrap();
    assert_eq!(seen, 500);
}

#[derive(Debug)]
enum Refusal {
    Store(StoreError),
    Mine,
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        Refusal::Store(error)
    }
}

#[test]
fn a_closure_that_errs_or_panics_leaves_nothing_and_disturbs_nobody() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    put(&store, 1, 1, "old");
    let hooks = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let results = runtime.block_on(futures::future::join_all((0..30u64).map(|number| {
        let hooks = hooks.clone();
        store.write(move |tx| {
            let hook = hooks.clone();
            tx.on_commit(move || {
                hook.fetch_add(1, Ordering::SeqCst);
            });
            tx.put(&COUNTS, &number, &number)?;
            tx.put(&NOTES, &(1, 1), &note("changed"))?;
            tx.remove(&NOTES, &(1, 1))?;
            match number % 3 {
                0 => Err(Refusal::Mine),
                1 => panic!("on purpose"),
                _ => tx.put(&NOTES, &(1, 1), &note(&number.to_string())).map_err(Refusal::from),
            }
        })
    })));
    for (number, result) in results.iter().enumerate() {
        match number % 3 {
            0 => assert!(matches!(result, Err(Refusal::Mine))),
            1 => assert!(matches!(result, Err(Refusal::Store(StoreError::Panicked)))),
            _ => assert!(result.is_ok()),
        }
    }
    assert_eq!(hooks.load(Ordering::SeqCst), 10);
    let rows = store.read(|tx| tx.range(&COUNTS, .., 99)).unwrap();
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|(number, _)| number % 3 == 2));
    assert_eq!(store.read(|tx| tx.get(&NOTES, &(1, 1))).unwrap(), Some(note("29")));
}

#[test]
fn many_writers_share_commits() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = disk.calls();
    runtime.block_on(futures::future::join_all((0..200u64).map(|number| {
        let store = store.clone();
        async move { store.write(move |tx| tx.put(&COUNTS, &number, &0)).await.unwrap() }
    })));
    let calls = disk.calls() - before;
    assert!(calls < 600, "{calls} disk calls for 200 writes");
    assert_eq!(store.read(|tx| tx.range(&COUNTS, .., 999)).unwrap().len(), 200);
}

#[test]
fn a_closure_that_changes_nothing_costs_no_sync() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    put(&store, 1, 1, "x");
    let before = disk.calls();
    let present = store.write_blocking(|tx| tx.contains(&NOTES, &(1, 1))).unwrap();
    assert!(present);
    assert_eq!(disk.calls(), before);
}

#[test]
fn numbers_of_a_sequence_are_given_out_once() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    let next = |store: &Store| store.write_blocking(|tx| tx.next_sequence("letters")).unwrap();
    assert_eq!((next(&store), next(&store)), (1, 2));
    let refused: Result<(), Refusal> = store.write_blocking(|tx| {
        tx.next_sequence("letters")?;
        Err(Refusal::Mine)
    });
    assert!(refused.is_err());
    drop(store);
    assert_eq!(next(&open(&disk)), 3);
}

#[test]
fn a_value_that_is_too_large_is_refused_alone() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    let text = "x".repeat(VALUE_BYTES_MAX);
    let refused = store.write_blocking(move |tx| tx.put(&NOTES, &(1, 1), &note(&text)));
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })));
    put(&store, 1, 2, "fits");
}

#[test]
fn a_second_store_a_wrong_key_and_a_newer_schema_are_refused() {
    let disk = FaultDisk::new();
    let store = Store::open_with(disk.clone(), path(), key(), &[]).unwrap();
    assert!(matches!(Store::open(disk.clone(), path(), key()), Err(StoreError::Locked)));
    put(&store, 1, 1, "kept");
    drop(store);
    let wrong = StoreKey::from_bytes([8; 32]);
    assert!(matches!(Store::open(disk.clone(), path(), wrong), Err(StoreError::WrongKey)));

    fn rename(tx: &mut WriteTx) -> Result<(), StoreError> {
        tx.put(&NOTES, &(1, 1), &Note { text: "migrated".into() })
    }
    fn fail(tx: &mut WriteTx) -> Result<(), StoreError> {
        tx.put(&NOTES, &(1, 1), &Note { text: "half".into() })?;
        Err(StoreError::Damaged("notes-1"))
    }
    let migrated = |steps: &[migrate::Migration]| Store::open_with(disk.clone(), path(), key(), steps);
    assert!(matches!(migrated(&[rename, fail]), Err(StoreError::Damaged("notes-1"))));
    let store = migrated(&[rename]).unwrap();
    assert_eq!(store.read(|tx| tx.get(&NOTES, &(1, 1))).unwrap(), Some(note("migrated")));
    put(&store, 1, 1, "after");
    drop(store);
    let store = migrated(&[rename]).unwrap();
    assert_eq!(store.read(|tx| tx.get(&NOTES, &(1, 1))).unwrap(), Some(note("after")));
    drop(store);
    assert!(matches!(migrated(&[]), Err(StoreError::Newer { found: 2, supported: 1 })));
}

#[test]
fn a_store_from_before_the_release_is_refused_by_name() {
    let disk = FaultDisk::new();
    drop(Store::open_with(disk.clone(), path(), key(), &[]).unwrap());
    let refused = Store::open(disk.clone(), path(), key()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StoreError::Earlier) && refused.to_string().contains("before 0.1's release"));
}

#[test]
fn a_data_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pakt.redb");
    let store = Store::open(RealDisk::shared(), &path, key()).unwrap();
    let second = Store::open(RealDisk::shared(), &path, key()).map(|_| ()).unwrap_err();
    assert!(matches!(second, StoreError::Locked));
    assert!(second.to_string().contains("in use by another process"));
    put(&store, 1, 1, "real");
    drop(store);
    let store = Store::open(RealDisk::shared(), &path, key()).unwrap();
    assert_eq!(store.read(|tx| tx.get(&NOTES, &(1, 1))).unwrap(), Some(note("real")));
}

#[test]
fn a_changed_byte_is_reported_and_never_believed() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    for number in 0..20 {
        put(&store, 1, number, "something that must not change");
    }
    drop(store);
    let (_, bytes) = disk.contents().into_iter().find(|(name, _)| name == path()).unwrap();
    let mut reported = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 60) {
        let copy = FaultDisk::new();
        copy.create_dir_all(Path::new("/data")).unwrap();
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        copy.create(path()).unwrap().write_at(0, &changed).unwrap();
        let rows = Store::open(copy, path(), key()).and_then(|store| store.read(|tx| tx.range(&NOTES, .., 99)));
        match rows {
            Ok(rows) => assert!(rows.iter().all(|(_, note)| note.text.starts_with("something"))),
            Err(_) => reported += 1,
        }
    }
    assert!(reported > 0);
}

#[test]
fn failure_of_a_sync_stops_the_store_for_good() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    put(&store, 1, 1, "before");
    disk.plan(crate::disk::FaultPlan { at: 1, fault: crate::disk::Fault::SyncOnce });
    let failed = store.write_blocking(|tx| tx.put(&NOTES, &(1, 2), &note("lost")));
    assert!(matches!(failed, Err(StoreError::Io(_))), "{failed:?}");
    assert!(matches!(store.read(|tx| tx.get(&NOTES, &(1, 1))), Err(StoreError::Failed)));
    let later = store.write_blocking(|tx| tx.put(&NOTES, &(1, 3), &note("later")));
    assert!(matches!(later, Err(StoreError::Failed)));
    futures::executor::block_on(store.failed());
    drop(store);
    let store = open(&disk.crash(crate::disk::Crash::LostAll, 0));
    assert_eq!(store.read(|tx| tx.get(&NOTES, &(1, 1))).unwrap(), Some(note("before")));
}

#[test]
fn p31_a_full_disk_stops_no_reader_and_writes_go_on_with_space() {
    let disk = FaultDisk::new();
    let store = open(&disk);
    put(&store, 1, 1, "before");
    let used: usize = disk.contents().iter().map(|(_, bytes)| bytes.len()).sum();
    disk.set_capacity(Some(used as u64 + 1000));
    let big = || {
        let big = note(&"x".repeat(6 << 20));
        store.write_blocking(move |tx| tx.put(&NOTES, &(1, 2), &big))
    };
    for _ in 0..3 {
        assert!(matches!(big(), Err(StoreError::Full)));
        assert_eq!(store.read(|tx| tx.get(&NOTES, &(1, 1))).unwrap(), Some(note("before")));
        assert_eq!(store.read(|tx| tx.get(&NOTES, &(1, 2))).unwrap(), None);
    }
    disk.set_capacity(None);
    big().unwrap();
    put(&store, 1, 3, "after");
    drop(store);
    let store = open(&disk.crash(crate::disk::Crash::LostAll, 0));
    assert_eq!(store.read(|tx| tx.prefix_keys(&NOTES, &(), 9)).unwrap(), [(1, 1), (1, 2), (1, 3)]);
}
