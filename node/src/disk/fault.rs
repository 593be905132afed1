//! A disk in memory that fails, fills up, tears and forgets on demand.
//!
//! Every call is counted. A [`FaultPlan`] names the call at which things go wrong; [`FaultDisk::crash`] returns the disk
//! as a reboot would find it. The same calls, plan and seed give the same bytes.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault_model::{Dice, FileCell, Names, Node};
use super::{DirEntry, Disk, DiskError, DiskFile, DiskLock};

/// What a reboot finds of the changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All of them: the process was killed, the machine went on.
    Clean,
    /// None of them.
    LostAll,
    /// Each write and each name independently there or not.
    LostSome,
    /// As `LostSome`, and each sector of a write independently there or not.
    Torn {
        /// Bytes that the disk writes as one.
        sector: usize,
    },
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power fails during the call: it and every later call errs.
    Cut,
    /// The call fails; writes are done by half.
    ErrorOnce,
    /// The call and every later one fails.
    ErrorForever,
    /// The first call at or after the planned one that needs space finds the disk full.
    FullOnce,
    /// As `FullOnce`, and so does every later one until [`FaultDisk::heal`].
    FullForever,
    /// The first sync at or after the planned call fails, and what it should have made durable never will be.
    SyncOnce,
    /// The first read at or after the planned call gives one bit wrong; what lies on the disk is right.
    FlipOnce,
}

/// When what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// The number of the call, counted from 1 since the disk was made.
    pub at: u64,
    /// What happens then.
    pub fault: Fault,
}

/// What a call does, as far as faults care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallKind {
    /// Asks.
    Look,
    /// Reads bytes.
    Read,
    /// May need space.
    Grow,
    /// Changes without needing space.
    Change,
    /// Makes durable.
    Sync,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    locks: BTreeSet<PathBuf>,
    plan: Option<FaultPlan>,
    calls: u64,
    struck_at: Option<u64>,
    dead: bool,
    /// The read in hand gives one bit wrong.
    flips: bool,
    capacity: Option<u64>,
}

/// How a planned fault changes the call in hand.
enum Strike {
    None,
    /// Do it, then fail: the power went while it was under way.
    DoThenFail,
    /// Do half of it, then fail.
    Fail,
    Full,
    /// Do it, but give something wrong.
    Flip,
}

impl State {
    fn strike(&mut self, kind: CallKind) -> Strike {
        self.calls += 1;
        if self.dead {
            return Strike::Fail;
        }
        let Some(plan) = self.plan.filter(|plan| self.calls >= plan.at) else {
            return Strike::None;
        };
        let (hit, again, strike) = match plan.fault {
            Fault::Cut => (true, false, Strike::DoThenFail),
            Fault::ErrorOnce => (true, false, Strike::Fail),
            Fault::ErrorForever => (true, true, Strike::Fail),
            Fault::FullOnce => (kind == CallKind::Grow, false, Strike::Full),
            Fault::FullForever => (kind == CallKind::Grow, true, Strike::Full),
            Fault::SyncOnce => (kind == CallKind::Sync, false, Strike::Fail),
            Fault::FlipOnce => (kind == CallKind::Read, false, Strike::Flip),
        };
        if !hit {
            return Strike::None;
        }
        self.struck_at.get_or_insert(self.calls);
        self.dead |= plan.fault == Fault::Cut;
        if !again {
            self.plan = None;
        }
        strike
    }

    fn room(&self) -> u64 {
        let capacity = self.capacity.unwrap_or(u64::MAX / 2);
        capacity.saturating_sub(if self.capacity.is_some() { self.names.used_bytes() } else { 0 })
    }
}

/// A disk in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct FaultDisk {
    state: Arc<Mutex<State>>,
}

impl FaultDisk {
    /// An empty disk without faults.
    pub fn new() -> Arc<FaultDisk> {
        Arc::new(FaultDisk::default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what goes wrong next, replacing an earlier plan.
    pub fn plan(&self, plan: FaultPlan) {
        let mut state = self.state();
        state.plan = Some(plan);
        state.struck_at = None;
    }

    /// Ends every planned fault; a disk that lost power stays without.
    pub fn heal(&self) {
        self.state().plan = None;
    }

    /// Limits the bytes that all files together may hold.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The number of calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The number of the call that the plan struck first, if it did.
    pub fn struck_at(&self) -> Option<u64> {
        self.state().struck_at
    }

    /// The bytes of all files as programs see them, for scans that look for what must not be there.
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.state().names.contents()
    }

    /// The disk after a reboot; this one errs from now on.
    pub fn crash(&self, crash: Crash, seed: u64) -> Arc<FaultDisk> {
        self.state().dead = true;
        self.after(crash, seed)
    }

    /// What a reboot would find if the power failed now; this one goes on.
    pub fn after(&self, crash: Crash, seed: u64) -> Arc<FaultDisk> {
        let state = self.state();
        let names = state.names.after(crash, &mut Dice::new(seed));
        let next = State { names, capacity: state.capacity, ..State::default() };
        Arc::new(FaultDisk { state: Arc::new(Mutex::new(next)) })
    }

    /// Counts a call and does it, unless a fault says otherwise; `half` is what a failing call still does.
    fn call<T>(
        &self,
        kind: CallKind,
        act: impl FnOnce(&mut State) -> Result<T, DiskError>,
        half: impl FnOnce(&mut State),
    ) -> Result<T, DiskError> {
        let mut state = self.state();
        let failure = || match kind {
            CallKind::Sync => DiskError::Unsynced(io::ErrorKind::Other),
            _ => DiskError::Io(io::ErrorKind::Other),
        };
        let dead = state.dead;
        match state.strike(kind) {
            Strike::None => act(&mut state),
            Strike::Flip => {
                state.flips = true;
                act(&mut state)
            }
            Strike::Full => Err(DiskError::Full),
            Strike::DoThenFail => {
                // A sync that the power cut may have done nothing; the crash decides about each unsynced change.
                if kind != CallKind::Sync {
                    let _ = act(&mut state);
                }
                Err(failure())
            }
            Strike::Fail => {
                if !dead {
                    half(&mut state);
                }
                Err(failure())
            }
        }
    }

    fn simple<T>(&self, kind: CallKind, act: impl FnOnce(&mut State) -> Result<T, DiskError>) -> Result<T, DiskError> {
        self.call(kind, act, |_| {})
    }

    fn handle(&self, file: Arc<FileCell>) -> Arc<dyn DiskFile> {
        Arc::new(FaultFile { disk: self.clone(), file })
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let file = self.simple(CallKind::Grow, |state| {
            if state.names.node(path).is_some() {
                return Err(DiskError::Exists);
            }
            if !state.names.is_dir(path.parent().unwrap_or(Path::new(""))) {
                return Err(DiskError::NotFound);
            }
            let file = Arc::new(FileCell::default());
            state.names.change(vec![(path.to_owned(), Some(Node::File(file.clone())))]);
            Ok(file)
        })?;
        Ok(self.handle(file))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.handle(self.simple(CallKind::Look, |state| state.names.file(path))?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.simple(CallKind::Change, |state| {
            let file = state.names.file(from)?;
            let changes = vec![(to.to_owned(), Some(Node::File(file))), (from.to_owned(), None)];
            state.names.change(changes);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.simple(CallKind::Change, |state| {
            state.names.file(path)?;
            state.names.change(vec![(path.to_owned(), None)]);
            Ok(())
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.simple(CallKind::Change, |state| {
            if !state.names.is_dir(path) {
                return Err(DiskError::NotFound);
            }
            if state.names.children(path).next().is_some() {
                return Err(DiskError::Io(io::ErrorKind::DirectoryNotEmpty));
            }
            state.names.change(vec![(path.to_owned(), None)]);
            Ok(())
        })
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.simple(CallKind::Grow, |state| {
            let missing: Vec<_> = path.ancestors().filter(|dir| !state.names.is_dir(dir)).collect();
            for dir in missing.iter().rev() {
                if state.names.node(dir).is_some() {
                    return Err(DiskError::Exists);
                }
                state.names.change(vec![((*dir).to_owned(), Some(Node::Dir))]);
            }
            // When the power fails in this call, whether the names are durable is for the crash to decide.
            if !state.dead {
                for dir in missing.into_iter().rev().chain([path]) {
                    state.names.sync_dir(dir.parent().unwrap_or(Path::new("")));
                }
            }
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), DiskError> {
        let act = |state: &mut State| {
            if !state.names.is_dir(path) {
                return Err(DiskError::Unsynced(io::ErrorKind::NotFound));
            }
            state.names.sync_dir(path);
            Ok(())
        };
        self.call(CallKind::Sync, act, |state| state.names.forget_unsynced(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.simple(CallKind::Look, |state| {
            if !state.names.is_dir(path) {
                return Err(DiskError::NotFound);
            }
            let children = state.names.children(path);
            let mut entries: Vec<DirEntry> = children
                .map(|(name, node)| DirEntry { name: name.to_owned(), is_dir: matches!(node, Node::Dir) })
                .collect();
            entries.sort();
            Ok(entries)
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.simple(CallKind::Look, |state| Ok(state.names.is_dir(path) || state.names.node(path).is_some()))
    }

    fn free_bytes(&self, _path: &Path) -> Result<u64, DiskError> {
        self.simple(CallKind::Look, |state| Ok(state.room()))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError> {
        self.simple(CallKind::Look, |state| {
            if !state.locks.insert(path.to_owned()) {
                return Err(DiskError::Locked);
            }
            Ok(())
        })?;
        Ok(Box::new(FaultLock { disk: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct FaultLock {
    disk: FaultDisk,
    path: PathBuf,
}

impl DiskLock for FaultLock {}

impl Drop for FaultLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    file: Arc<FileCell>,
}

fn index(offset: u64) -> Result<usize, DiskError> {
    usize::try_from(offset).map_err(|_| DiskError::Io(io::ErrorKind::FileTooLarge))
}

impl FaultFile {
    fn make_room(&self, state: &State, end: usize) -> Result<(), DiskError> {
        let growth = end.saturating_sub(self.file.bytes().seen.len()) as u64;
        if growth > 0 && growth > state.room() { Err(DiskError::Full) } else { Ok(()) }
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.disk.simple(CallKind::Read, |state| {
            let start = index(offset)?;
            let file = self.file.bytes();
            let bytes = file.seen.get(start..start.saturating_add(out.len()));
            out.copy_from_slice(bytes.ok_or(DiskError::Io(io::ErrorKind::UnexpectedEof))?);
            if std::mem::take(&mut state.flips) && !out.is_empty() {
                // Another place in every call, the same one in every run.
                let bit = Dice::new(state.calls).roll() as usize % (out.len() * 8);
                out[bit / 8] ^= 1 << (bit % 8);
            }
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let start = index(offset)?;
        let act = |state: &mut State| {
            self.make_room(state, start.saturating_add(bytes.len()))?;
            self.file.bytes().write(start, bytes);
            Ok(())
        };
        self.disk.call(CallKind::Grow, act, |_| self.file.bytes().write(start, &bytes[..bytes.len() / 2]))
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.disk.simple(CallKind::Look, |_| Ok(self.file.bytes().seen.len() as u64))
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        let length = index(bytes)?;
        self.disk.simple(CallKind::Grow, |state| {
            self.make_room(state, length)?;
            self.file.bytes().set_len(length);
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        let act = |_: &mut State| {
            self.file.bytes().sync();
            Ok(())
        };
        self.disk.call(CallKind::Sync, act, |_| self.file.bytes().forget_unsynced())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_file, replace_file};
    use super::*;

    const DIR: &str = "/d";

    fn path(name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    fn disk() -> Arc<FaultDisk> {
        let disk = FaultDisk::new();
        disk.create_dir_all(Path::new(DIR)).unwrap();
        disk
    }

    #[test]
    fn unsynced_bytes_and_names_are_lost_and_synced_ones_are_not() {
        let disk = disk();
        let file = disk.create(&path("f")).unwrap();
        file.write_at(0, b"durable").unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        file.write_at(0, b"changed").unwrap();
        disk.create(&path("g")).unwrap().sync().unwrap();
        let clean = disk.crash(Crash::Clean, 0);
        assert_eq!(read_file(&*clean, &path("f"), 99).unwrap(), b"changed");
        let lost = disk.crash(Crash::LostAll, 0);
        assert_eq!(read_file(&*lost, &path("f"), 99).unwrap(), b"durable");
        assert!(!lost.exists(&path("g")).unwrap());
        assert!(file.len().is_err(), "a crashed disk answers nothing");
    }

    #[test]
    fn a_torn_write_is_torn_at_sectors() {
        let mut mixed = 0;
        for seed in 0..20 {
            let disk = disk();
            replace_file(&*disk, &path("f"), &[0; 4096]).unwrap();
            disk.open(&path("f")).unwrap().write_at(100, &[1; 3000]).unwrap();
            let after = read_file(&*disk.crash(Crash::Torn { sector: 512 }, seed), &path("f"), 9999).unwrap();
            assert!(after[..100].iter().chain(&after[3100..]).all(|byte| *byte == 0));
            let sectors = [100..512, 512..1024, 1024..1536, 1536..2048, 2048..2560, 2560..3072, 3072..3100];
            let kept = sectors.iter().filter(|sector| after[(*sector).clone()].iter().all(|byte| *byte == 1)).count();
            let lost = sectors.iter().filter(|sector| after[(*sector).clone()].iter().all(|byte| *byte == 0)).count();
            assert_eq!(kept + lost, sectors.len());
            mixed += usize::from(kept > 0 && lost > 0);
        }
        assert!(mixed > 10);
    }

    #[test]
    fn a_replaced_file_is_old_or_new_after_every_cut() {
        for crash in [Crash::Clean, Crash::LostAll, Crash::LostSome, Crash::Torn { sector: 512 }] {
            for at in 1..12 {
                let disk = disk();
                replace_file(&*disk, &path("f"), &[1; 2000]).unwrap();
                disk.plan(FaultPlan { at: disk.calls() + at, fault: Fault::Cut });
                let done = replace_file(&*disk, &path("f"), &[2; 2000]).is_ok();
                let after = read_file(&*disk.crash(crash, at), &path("f"), 9999).unwrap();
                assert!(after == [2; 2000] || (!done && after == [1; 2000]), "{crash:?} at {at}");
            }
        }
    }

    #[test]
    fn a_failed_sync_never_becomes_durable_later() {
        let disk = disk();
        replace_file(&*disk, &path("f"), b"old").unwrap();
        let file = disk.open(&path("f")).unwrap();
        file.write_at(0, b"new").unwrap();
        disk.plan(FaultPlan { at: 1, fault: Fault::SyncOnce });
        assert!(matches!(file.sync(), Err(DiskError::Unsynced(_))));
        file.sync().unwrap();
        assert_eq!(read_file(&*disk, &path("f"), 9).unwrap(), b"new");
        assert_eq!(read_file(&*disk.crash(Crash::LostAll, 0), &path("f"), 9).unwrap(), b"old");
    }

    #[test]
    fn a_flipped_bit_is_read_once_and_lies_nowhere() {
        let disk = disk();
        replace_file(&*disk, &path("f"), &[0; 100]).unwrap();
        disk.plan(FaultPlan { at: disk.calls(), fault: Fault::FlipOnce });
        let wrong = read_file(&*disk, &path("f"), 100).unwrap();
        assert_eq!(wrong.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert_eq!(read_file(&*disk, &path("f"), 100).unwrap(), [0; 100]);
    }

    #[test]
    fn a_full_disk_has_room_again_when_something_goes() {
        let disk = disk();
        disk.set_capacity(Some(100));
        let file = disk.create(&path("f")).unwrap();
        file.write_at(0, &[0; 60]).unwrap();
        assert_eq!(disk.free_bytes(Path::new(DIR)).unwrap(), 40);
        assert!(matches!(file.write_at(60, &[0; 41]), Err(DiskError::Full)));
        file.write_at(0, &[1; 60]).unwrap();
        disk.remove(&path("f")).unwrap();
        disk.create(&path("g")).unwrap().set_len(100).unwrap();
    }

    #[test]
    fn one_lock_at_a_time() {
        let disk = disk();
        let held = disk.lock(&path("lock")).unwrap();
        assert!(matches!(disk.lock(&path("lock")), Err(DiskError::Locked)));
        drop(held);
        disk.lock(&path("lock")).unwrap();
    }
}
