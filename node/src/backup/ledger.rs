//! The ledger of purges: a file that lies with the backups and names what was purged since, so that restoring an older
//! backup brings nothing back.
//!
//! ```text
//! 16 bytes "pakt purges v1\n\0", then per purge: tag (32) | check (16)
//! tag   = BLAKE3 keyed (ledger key, "tag" | sender's entity id | envelope id)
//! check = the first 16 bytes of BLAKE3 keyed (ledger key, "check" | number (u64) | check before | tag)
//! ```
//! The ledger key is derived from the store key, which is in every backup: who reads the file alone learns how many
//! purges there were. A last entry that a crash cut short is passed over and written again.
//!
//! **Invariant:** a purge leaves the waiting list only after its entry is durable in the ledger.
//! **Invariant:** a ledger that is missing, shorter than it was, or changed is never begun anew in its place: an empty
//! mount point must not look like a ledger.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use pakt_keys::EntityId;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::ids::EnvelopeId;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::rows::LedgerRow;
use crate::store::tables::{LEDGER, PURGED, UNLEDGERED};
use crate::store::{Store, StoreError};

/// The first bytes of a ledger.
const MAGIC: &[u8; 16] = b"pakt purges v1\n\0";
/// Bytes of an entry.
const ENTRY_BYTES: usize = 48;
/// Entries that are written at once.
const BATCH: usize = 1_024;
/// Entries that a ledger may hold: far above the messages of any node.
const ENTRIES_MAX: u64 = 1 << 26;

/// `[backup]` of `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupConfig {
    /// The file that names what was purged; it lies where the backups lie, not on this disk.
    pub ledger: Option<PathBuf>,
}

/// Why a ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It is not there, and it was before.
    #[error("the ledger of purges {} is not there: is its disk mounted?", .0.display())]
    Missing(PathBuf),
    /// It is not one of this node, or was changed.
    #[error("the ledger of purges {} is damaged or another node's", .0.display())]
    Damaged(PathBuf),
    /// It holds less than it did.
    #[error("the ledger of purges {} was put back: it holds less than it did", .0.display())]
    Shorter(PathBuf),
    /// It could not be read or written.
    #[error("the ledger of purges could not be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What names a purge in a ledger.
pub(crate) type Tag = [u8; 32];

/// Makes and checks the entries of one node's ledger.
pub(crate) struct LedgerKey(Zeroizing<[u8; 32]>);

impl LedgerKey {
    pub(crate) fn of(store_key: &StoreKey) -> LedgerKey {
        LedgerKey(store_key.derive("purge ledger"))
    }

    /// The tag of an envelope.
    pub(crate) fn tag(&self, from: &EntityId, envelope: &EnvelopeId) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"tag").update(&from.0).update(&envelope.0);
        *hasher.finalize().as_bytes()
    }

    fn check(&self, number: u64, before: &[u8; 16], tag: &Tag) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"check").update(&number.to_be_bytes()).update(before).update(tag);
        let mut check = [0; 16];
        hasher.finalize_xof().fill(&mut check);
        check
    }
}

/// How far a ledger goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tail {
    entries: u64,
    check: [u8; 16],
}

impl Tail {
    fn bytes(&self) -> u64 {
        MAGIC.len() as u64 + self.entries * ENTRY_BYTES as u64
    }
}

/// Reads a whole ledger; `each` gets its tags in order.
fn read_all(path: &Path, file: &File, key: &LedgerKey, mut each: impl FnMut(Tag)) -> Result<Tail, LedgerError> {
    let damaged = || LedgerError::Damaged(path.to_owned());
    let mut reader = std::io::BufReader::with_capacity(1 << 16, file);
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic).map_err(|_| damaged())?;
    if magic != *MAGIC {
        return Err(damaged());
    }
    let mut tail = Tail::default();
    let mut entry = [0; ENTRY_BYTES];
    loop {
        match reader.read_exact(&mut entry) {
            Ok(()) => {}
            // Cut short by a crash: it was never counted.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(tail),
            Err(error) => return Err(error.into()),
        }
        let (tag, check) = entry.split_at(32);
        let tag: Tag = tag.try_into().map_err(|_| damaged())?;
        if key.check(tail.entries, &tail.check, &tag) != check || tail.entries >= ENTRIES_MAX {
            return Err(damaged());
        }
        tail.check.copy_from_slice(check);
        tail.entries += 1;
        each(tag);
    }
}

/// The purges that a ledger names, and its entries.
///
/// # Errors
/// [`LedgerError`].
pub(crate) fn read(path: &Path, key: &LedgerKey) -> Result<(HashSet<Tag>, u64), LedgerError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(LedgerError::Missing(path.to_owned())),
        Err(error) => return Err(error.into()),
    };
    let mut tags = HashSet::new();
    let tail = read_all(path, &file, key, |tag| {
        tags.insert(tag);
    })?;
    Ok((tags, tail.entries))
}

/// Sees that a ledger goes as far as a store knows that it went. One that was begun elsewhere since may have fewer entries:
/// it begins with every purge that the store knows.
///
/// # Errors
/// [`LedgerError::Shorter`], and when the store fails.
pub(crate) fn check_whole(
    store: &Store,
    path: &Path,
    (tags, entries): (&HashSet<Tag>, u64),
) -> Result<(), LedgerError> {
    let Some(row) = store.read(|tx| tx.get(&LEDGER, &()))? else { return Ok(()) };
    if entries >= row.entries {
        return Ok(());
    }
    let shorter = || LedgerError::Shorter(path.to_owned());
    if path.to_string_lossy() == row.path {
        return Err(shorter());
    }
    let (key, mut names_all) = (LedgerKey::of(store.key()), true);
    store.read(|tx| {
        tx.scan(&PURGED, .., |(from, envelope), _| {
            let is_named = tags.contains(&key.tag(&from, &envelope)) || tx.contains(&UNLEDGERED, &(from, envelope))?;
            names_all &= is_named;
            Ok(if names_all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
    })?;
    if names_all { Ok(()) } else { Err(shorter()) }
}

/// The ledger of a running node; clones share it. All calls block on the disk.
#[derive(Clone)]
pub(crate) struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    key: LedgerKey,
    store: Store,
    /// How far it went when it was written last in this run.
    tail: Mutex<Option<Tail>>,
    trouble: Mutex<Option<String>>,
}

impl Ledger {
    pub(crate) fn new(path: PathBuf, store: Store) -> Ledger {
        let key = LedgerKey::of(store.key());
        Ledger { inner: Arc::new(Inner { path, key, store, tail: Mutex::default(), trouble: Mutex::default() }) }
    }

    /// Why purges wait to be named, if they do.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names what waits; gives how many.
    ///
    /// # Errors
    /// [`LedgerError`]; what was not named waits on.
    pub(crate) fn flush(&self) -> Result<u64, LedgerError> {
        let flushed = self.write_waiting();
        let trouble = flushed.as_ref().err().map(ToString::to_string);
        *self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        flushed
    }

    fn write_waiting(&self) -> Result<u64, LedgerError> {
        let inner = &*self.inner;
        let mut tail = inner.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known_entries()?;
        let mut written = 0;
        loop {
            let waiting = inner.store.read(|tx| tx.prefix_keys(&UNLEDGERED, &(), BATCH))?;
            if waiting.is_empty() && tail.is_some() {
                return Ok(written);
            }
            let tags: Vec<Tag> = waiting.iter().map(|(from, envelope)| inner.key.tag(from, envelope)).collect();
            // On an error nobody knows how far it goes.
            let before = tail.take();
            let after = self.append(before, known, &tags)?;
            *tail = Some(after);
            let row = LedgerRow { path: self.name(), entries: after.entries };
            written += waiting.len() as u64;
            inner.store.write_blocking(move |tx| {
                for key in &waiting {
                    tx.remove(&UNLEDGERED, key)?;
                }
                tx.put(&LEDGER, &(), &row)
            })?;
        }
    }

    fn name(&self) -> String {
        self.inner.path.to_string_lossy().into_owned()
    }

    /// How many entries it must hold. A ledger at another place begins with everything that was ever purged.
    fn known_entries(&self) -> Result<u64, LedgerError> {
        let store = &self.inner.store;
        let row = store.read(|tx| tx.get(&LEDGER, &()))?;
        if let Some(row) = row.filter(|row| row.path == self.name()) {
            return Ok(row.entries);
        }
        let mut after = None;
        loop {
            let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let page = store.read(|tx| tx.range(&PURGED, (start, std::ops::Bound::Unbounded), BATCH))?;
            let Some((last, _)) = page.last() else { return Ok(0) };
            after = Some(*last);
            let put: Result<(), StoreError> =
                store.write_blocking(move |tx| page.iter().try_for_each(|(key, _)| tx.put(&UNLEDGERED, key, &())));
            put?;
        }
    }

    /// Adds entries; on return they are durable.
    fn append(&self, before: Option<Tail>, known: u64, tags: &[Tag]) -> Result<Tail, LedgerError> {
        let Inner { path, key, .. } = &*self.inner;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let mut file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && known == 0 && before.is_none() => {
                begin(path, &options)?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(LedgerError::Missing(path.clone())),
            Err(error) => return Err(error.into()),
        };
        let bytes = file.metadata()?.len();
        let tail = match before.filter(|tail| tail.bytes() == bytes) {
            Some(tail) => tail,
            None => read_all(path, &file, key, |_| {})?,
        };
        if tail.entries < known {
            return Err(LedgerError::Shorter(path.clone()));
        }
        let mut out = Vec::with_capacity(tags.len() * ENTRY_BYTES);
        let mut after = tail;
        for tag in tags {
            after.check = key.check(after.entries, &after.check, tag);
            after.entries += 1;
            out.extend_from_slice(tag);
            out.extend_from_slice(&after.check);
        }
        if !out.is_empty() {
            file.set_len(tail.bytes())?;
            file.seek(SeekFrom::Start(tail.bytes()))?;
            file.write_all(&out)?;
            file.sync_all()?;
        }
        Ok(after)
    }
}

/// Begins a ledger where there is none: whole under its name, or not there.
fn begin(path: &Path, options: &OpenOptions) -> Result<File, LedgerError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let mut file = options.clone().create(true).truncate(true).open(&temporary)?;
    file.write_all(MAGIC)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    Ok(options.open(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FaultDisk;

    const PEER: EntityId = EntityId([2; 32]);

    fn store() -> Store {
        Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap()
    }

    fn purge(store: &Store, number: u8) {
        let key = (PEER, EnvelopeId([number; 16]));
        let put: Result<(), StoreError> = store.write_blocking(move |tx| tx.put(&UNLEDGERED, &key, &()));
        put.unwrap();
    }

    fn key() -> LedgerKey {
        LedgerKey::of(&StoreKey::from_bytes([7; 32]))
    }

    fn named(path: &Path) -> Vec<u8> {
        let (tags, _) = read(path, &key()).unwrap();
        (0..=255).filter(|number| tags.contains(&key().tag(&PEER, &EnvelopeId([*number; 16])))).collect()
    }

    #[test]
    fn purges_are_named_in_order_and_survive_a_cut_at_any_byte() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("nord.purges");
        let store = store();
        let ledger = Ledger::new(path.clone(), store.clone());
        assert_eq!(ledger.flush().unwrap(), 0);
        assert_eq!(named(&path), [0; 0]);
        purge(&store, 1);
        purge(&store, 2);
        assert_eq!(ledger.flush().unwrap(), 2);
        let two = std::fs::read(&path).unwrap();
        purge(&store, 3);
        assert_eq!((ledger.flush().unwrap(), ledger.flush().unwrap()), (1, 0));
        assert_eq!(named(&path), [1, 2, 3]);
        let whole = std::fs::read(&path).unwrap();
        for cut in two.len()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(named(&path), [1, 2], "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            std::fs::write(&path, &bent).unwrap();
            assert!(matches!(read(&path, &key()), Err(LedgerError::Damaged(_))), "byte {at}");
        }
        std::fs::write(&path, &whole).unwrap();
        let foreign = LedgerKey::of(&StoreKey::from_bytes([8; 32]));
        assert!(matches!(read(&path, &foreign), Err(LedgerError::Damaged(_))));
    }

    #[test]
    fn a_ledger_that_is_gone_or_put_back_is_not_begun_anew() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("nord.purges");
        let store = store();
        Ledger::new(path.clone(), store.clone()).flush().unwrap();
        let empty = std::fs::read(&path).unwrap();
        purge(&store, 1);
        Ledger::new(path.clone(), store.clone()).flush().unwrap();
        purge(&store, 2);
        std::fs::rename(&path, home.path().join("away")).unwrap();
        let ledger = Ledger::new(path.clone(), store.clone());
        assert!(matches!(ledger.flush(), Err(LedgerError::Missing(_))));
        assert!(ledger.trouble().is_some() && !path.exists());
        std::fs::write(&path, &empty).unwrap();
        assert!(matches!(ledger.flush(), Err(LedgerError::Shorter(_))));
        std::fs::rename(home.path().join("away"), &path).unwrap();
        assert_eq!(ledger.flush().unwrap(), 1);
        assert_eq!((named(&path), ledger.trouble()), (vec![1, 2], None));
    }
}
