//! What [`super::FaultDisk`] holds: for every file and name, what programs see and what would survive a power cut.
//!
//! **Invariant:** `durable` changes only by a successful sync, or by a crash that happened to keep something unsynced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Crash, DiskError};

/// A small generator (splitmix64), so that a seed names one crash for good.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.roll() & 1 == 1
    }
}

#[derive(Debug, Clone)]
enum Unsynced {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// The bytes of one file.
#[derive(Debug, Default, Clone)]
pub(super) struct FileBytes {
    pub(super) seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

fn put(target: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if target.len() < end {
        target.resize(end, 0);
    }
    target[offset..end].copy_from_slice(bytes);
}

impl FileBytes {
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.seen, offset, bytes);
        self.unsynced.push(Unsynced::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, bytes: usize) {
        self.seen.resize(bytes, 0);
        self.unsynced.push(Unsynced::Length(bytes));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Unsynced::Write { offset, bytes } => put(&mut self.durable, offset, &bytes),
                Unsynced::Length(bytes) => self.durable.resize(bytes, 0),
            }
        }
    }

    /// A sync that failed: the kernel marks the pages clean, so that no later sync writes them.
    pub(super) fn forget_unsynced(&mut self) {
        self.unsynced.clear();
    }

    fn after(&self, crash: Crash, dice: &mut Dice) -> FileBytes {
        let mut bytes = if crash == Crash::Clean { self.seen.clone() } else { self.durable.clone() };
        let unsynced = if crash == Crash::Clean { &[][..] } else { &self.unsynced[..] };
        for change in unsynced {
            match change {
                Unsynced::Length(length) if survives(crash, dice) => bytes.resize(*length, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write { offset, bytes: new } => match crash {
                    Crash::Torn { sector } => tear(&mut bytes, *offset, new, sector, dice),
                    _ if survives(crash, dice) => put(&mut bytes, *offset, new),
                    _ => {}
                },
            }
        }
        FileBytes { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }
}

fn survives(crash: Crash, dice: &mut Dice) -> bool {
    crash != Crash::LostAll && dice.coin()
}

/// Writes each sector of a write or leaves it, as a disk does that loses power in the middle.
fn tear(target: &mut Vec<u8>, offset: usize, bytes: &[u8], sector: usize, dice: &mut Dice) {
    let mut at = offset;
    let end = offset + bytes.len();
    while at < end {
        let next = ((at / sector + 1) * sector).min(end);
        if dice.coin() {
            put(target, at, &bytes[at - offset..next - offset]);
        }
        at = next;
    }
}

/// A file as every open handle and every name shares it.
#[derive(Debug, Default)]
pub(super) struct FileCell(Mutex<FileBytes>);

impl FileCell {
    pub(super) fn bytes(&self) -> MutexGuard<'_, FileBytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Dir,
    File(Arc<FileCell>),
}

/// Changes of names that become durable together or not at all.
#[derive(Debug, Clone)]
struct NameChange(Vec<(PathBuf, Option<Node>)>);

impl NameChange {
    fn touches(&self, dir: &Path) -> bool {
        self.0.iter().any(|(path, _)| path.parent() == Some(dir))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        for (path, node) in &self.0 {
            match node {
                Some(node) => names.insert(path.clone(), node.clone()),
                None => names.remove(path),
            };
        }
    }
}

/// All names, as seen and as durable.
#[derive(Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    unsynced: Vec<NameChange>,
}

impl Names {
    pub(super) fn node(&self, path: &Path) -> Option<&Node> {
        self.seen.get(path)
    }

    pub(super) fn file(&self, path: &Path) -> Result<Arc<FileCell>, DiskError> {
        match self.seen.get(path) {
            Some(Node::File(file)) => Ok(file.clone()),
            Some(Node::Dir) => Err(DiskError::Io(std::io::ErrorKind::IsADirectory)),
            None => Err(DiskError::NotFound),
        }
    }

    pub(super) fn is_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path == Path::new("/") || matches!(self.seen.get(path), Some(Node::Dir))
    }

    pub(super) fn change(&mut self, changes: Vec<(PathBuf, Option<Node>)>) {
        let change = NameChange(changes);
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            let synced = change.touches(dir);
            if synced {
                change.apply(durable);
            }
            !synced
        });
    }

    pub(super) fn forget_unsynced(&mut self, dir: &Path) {
        self.unsynced.retain(|change| !change.touches(dir));
    }

    pub(super) fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let below = self.seen.iter().filter(move |(path, _)| path.parent() == Some(dir));
        below.filter_map(|(path, node)| Some((path.file_name()?.to_str()?, node)))
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.seen.values().filter_map(|node| match node {
            Node::File(file) => Some(file.bytes().seen.len() as u64),
            Node::Dir => None,
        });
        files.sum()
    }

    /// Every byte of every file, with its path.
    pub(super) fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.seen.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path.clone(), file.bytes().seen.clone())),
            Node::Dir => None,
        });
        files.collect()
    }

    /// The names and bytes that a reboot after `crash` would find.
    pub(super) fn after(&self, crash: Crash, dice: &mut Dice) -> Names {
        let mut names = if crash == Crash::Clean { self.seen.clone() } else { self.durable.clone() };
        if crash != Crash::Clean {
            for change in &self.unsynced {
                if survives(crash, dice) {
                    change.apply(&mut names);
                }
            }
        }
        let mut kept: BTreeMap<PathBuf, Node> = BTreeMap::new();
        for (path, node) in &names {
            let parent = path.parent().unwrap_or(Path::new(""));
            let root = parent.as_os_str().is_empty() || parent == Path::new("/");
            // Parents sort before their children, so that one look behind is enough.
            if root || matches!(kept.get(parent), Some(Node::Dir)) {
                let node = match node {
                    Node::Dir => Node::Dir,
                    Node::File(file) => Node::File(Arc::new(FileCell(Mutex::new(file.bytes().after(crash, dice))))),
                };
                kept.insert(path.clone(), node);
            }
        }
        Names { seen: kept.clone(), durable: kept, unsynced: Vec::new() }
    }
}
