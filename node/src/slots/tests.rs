//! The slots on a good disk, and on one that fails at every single call of a rewrite.

use std::path::Path;

use pakt_keys::store_seal::StoreKey;

use super::*;
use crate::disk::{Crash, Fault, FaultDisk, FaultPlan};

const PATH: &str = "/data/keys/slots";

fn store(disk: &Arc<FaultDisk>) -> Store {
    Store::open(disk.clone(), Path::new("/data/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap()
}

fn open(disk: &Arc<FaultDisk>) -> Slots {
    Slots::open(store(disk), disk.clone(), Path::new(PATH)).unwrap()
}

fn file(disk: &FaultDisk, path: &str) -> Option<Vec<u8>> {
    let found = disk.contents().into_iter().find(|(name, _)| name == Path::new(path));
    found.map(|(_, bytes)| bytes)
}

fn check(slots: &Slots, id: SlotId, expected: Option<&[u8]>) {
    assert_eq!(slots.get(id).unwrap().as_ref().map(|secret| secret.as_slice()), expected);
}

#[test]
fn keys_outlive_restarts_and_rewrites_until_erased() {
    let disk = FaultDisk::new();
    let slots = open(&disk);
    let ids: Vec<_> = (0..600u32).map(|n| slots.put(&n.to_be_bytes()).unwrap()).collect();
    assert!(slots.put(&[0; KEY_BYTES_MAX]).is_ok());
    assert!(matches!(slots.put(&[0; KEY_BYTES_MAX + 1]), Err(SlotsError::Format(SlotError::TooLong { .. }))));
    slots.erase(&ids[10..590]).unwrap();
    drop(slots);

    let slots = open(&disk);
    assert_eq!(slots.list().unwrap().len(), 21);
    slots.rewrite().unwrap();
    let reused = slots.put(b"reused").unwrap();
    assert_eq!(reused.index, ids[10].index);
    check(&slots, ids[10], None);
    slots.erase(&[ids[10]]).unwrap();
    check(&slots, reused, Some(b"reused"));
    drop(slots);

    let slots = open(&disk);
    for (number, id) in (0..600u32).zip(&ids) {
        let bytes = number.to_be_bytes();
        check(&slots, *id, (!(10..590).contains(&number)).then_some(&bytes[..]));
    }
    check(&slots, reused, Some(b"reused"));
}

#[test]
fn an_erased_key_does_not_open_with_a_copy_of_the_slot_after_a_rewrite() {
    let disk = FaultDisk::new();
    let slots = open(&disk);
    let id = slots.put(b"secret").unwrap();
    let copy = file(&disk, PATH).unwrap();
    slots.erase(&[id]).unwrap();
    slots.rewrite().unwrap();
    drop(slots);
    disk.open(Path::new(PATH)).unwrap().write_at(offset(0), &copy[HEADER_BYTES..]).unwrap();
    check(&open(&disk), id, None);
}

#[test]
fn a_rewrite_overwrites_the_old_edition_before_it_goes() {
    let disk = FaultDisk::new();
    let slots = open(&disk);
    slots.put(b"secret").unwrap();
    let before = file(&disk, PATH).unwrap();
    let old = disk.open(Path::new(PATH)).unwrap();
    slots.rewrite().unwrap();
    let mut after = vec![0; before.len()];
    old.read_at(0, &mut after).unwrap();
    assert!(before.chunks(16).zip(after.chunks(16)).all(|(before, after)| before != after));
    assert_eq!((file(&disk, "/data/keys/slots.old"), file(&disk, "/data/keys/slots.new")), (None, None));
}

#[test]
fn p32_a_rewrite_cut_at_any_call_loses_no_key_and_revives_none() {
    for crash in [Crash::Clean, Crash::LostAll, Crash::LostSome, Crash::Torn { sector: 512 }] {
        let mut at = 1;
        loop {
            let disk = FaultDisk::new();
            let slots = open(&disk);
            let ids: Vec<_> = (0..6u8).map(|n| slots.put(&[n; 32]).unwrap()).collect();
            slots.erase(&ids[..2]).unwrap();
            disk.plan(FaultPlan { at: disk.calls() + at, fault: Fault::Cut });
            let done = slots.rewrite().is_ok() && slots.erase(&ids[2..3]).is_ok();
            drop(slots);
            let disk = disk.crash(crash, at);
            let slots = open(&disk);
            for (number, id) in (0..6u8).zip(&ids) {
                match number {
                    0 | 1 => check(&slots, *id, None),
                    2 if done => check(&slots, *id, None),
                    2 => {}
                    _ => check(&slots, *id, Some(&[number; 32])),
                }
            }
            slots.rewrite().unwrap();
            assert_eq!(file(&disk, "/data/keys/slots.old"), None);
            check(&slots, ids[5], Some(&[5; 32]));
            if done {
                assert!(at > 10, "the plan struck every call");
                break;
            }
            at += 1;
        }
    }
}

#[test]
fn a_failure_that_passes_leaves_the_slots_in_use() {
    let mut at = 1;
    loop {
        let disk = FaultDisk::new();
        let slots = open(&disk);
        let id = slots.put(b"kept").unwrap();
        disk.plan(FaultPlan { at: disk.calls() + at, fault: Fault::ErrorOnce });
        let rewritten = slots.rewrite();
        if disk.struck_at().is_none() {
            assert!(rewritten.is_ok() && at > 10);
            break;
        }
        match slots.rewrite() {
            Ok(()) => {
                check(&slots, id, Some(b"kept"));
                let later = slots.put(b"later").unwrap();
                let slots = {
                    drop(slots);
                    open(&disk.crash(Crash::LostAll, 0))
                };
                check(&slots, id, Some(b"kept"));
                check(&slots, later, Some(b"later"));
            }
            Err(error) => {
                assert!(matches!(error, SlotsError::Failed), "{error} at {at}");
                drop(slots);
                check(&open(&disk.crash(Crash::LostAll, 0)), id, Some(b"kept"));
            }
        }
        at += 1;
    }
}

#[test]
fn a_foreign_or_damaged_file_is_refused() {
    let disk = FaultDisk::new();
    drop(open(&disk));
    disk.open(Path::new(PATH)).unwrap().write_at(20, &[1, 2, 3]).unwrap();
    let refused = Slots::open(store(&disk), disk.clone(), Path::new(PATH)).map(|_| ());
    assert!(matches!(refused, Err(SlotsError::Format(SlotError::Damaged))));
    disk.open(Path::new(PATH)).unwrap().set_len(5).unwrap();
    let refused = Slots::open(store(&disk), disk.clone(), Path::new(PATH)).map(|_| ());
    assert!(matches!(refused, Err(SlotsError::Format(SlotError::Damaged))));
}

#[test]
fn what_comes_at_once_is_synced_at_once_and_each_gets_its_own() {
    const THREADS: u64 = 8;
    let disk = FaultDisk::new();
    let slots = open(&disk);
    let old: Vec<SlotId> = (0..THREADS).map(|n| slots.put(&n.to_be_bytes()).unwrap()).collect();
    let (held, before) = (slots.inner.edition.lock().unwrap(), disk.calls());
    let (puts, erasures): (Vec<_>, Vec<_>) = (0..THREADS)
        .map(|n| {
            let (putting, erasing, id) = (slots.clone(), slots.clone(), old[n as usize]);
            let put = std::thread::spawn(move || putting.put(&(100 + n).to_be_bytes()).unwrap());
            (put, std::thread::spawn(move || erasing.erase(&[id]).unwrap()))
        })
        .unzip();
    while slots.inner.waiting.lock().unwrap().len() < 2 * THREADS as usize {
        std::thread::yield_now();
    }
    drop(held);
    let new: Vec<SlotId> = puts.into_iter().map(|put| put.join().unwrap()).collect();
    erasures.into_iter().for_each(|erasure| erasure.join().unwrap());
    assert_eq!(disk.calls() - before, 2 * THREADS + 1, "a write each, and one sync");
    let check_all = |slots: &Slots| {
        for (n, (old, new)) in old.iter().zip(&new).enumerate() {
            check(slots, *old, None);
            check(slots, *new, Some(&(100 + n as u64).to_be_bytes()));
        }
    };
    check_all(&slots);
    drop(slots);
    check_all(&open(&disk));
}

#[test]
fn of_what_comes_at_once_each_fails_for_itself_or_all_with_the_sync() {
    for (fault, fails) in [(Fault::FullOnce, 1), (Fault::SyncOnce, 2)] {
        let disk = FaultDisk::new();
        let slots = open(&disk);
        let held = slots.inner.edition.lock().unwrap();
        let putting = (0..2u8).map(|n| {
            let slots = slots.clone();
            std::thread::spawn(move || slots.put(&[n]))
        });
        let putting: Vec<_> = putting.collect();
        while slots.inner.waiting.lock().unwrap().len() < 2 {
            std::thread::yield_now();
        }
        disk.plan(FaultPlan { at: disk.calls() + 1, fault });
        drop(held);
        let put: Vec<_> = putting.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(put.iter().filter(|put| put.is_err()).count(), fails, "{fault:?}");
        let kept = put.iter().flatten().map(|id| slots.get(*id).unwrap().is_some());
        assert!(kept.into_iter().all(|kept| kept), "{fault:?}");
    }
}
