//! From a backup to a data directory: everything is put together beside its place, checked, and moved in at the end.
//!
//! ```text
//! DIR/.restoring/…  written, checked, opened once  -->  keys, chunks, pakt.redb, card.pakt  -->  config.toml  -->  done
//! ```
//!
//! **Invariant:** a folder is a node once it has a `config.toml`, and that comes last: whatever breaks a restore off
//! leaves no node, and the next restore clears its leavings away.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pakt_keys::EntityId;
use pakt_keys::keystore::{self, KeystoreError};
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::door::next_counter;
use pakt_protocol::ids::EnvelopeId;
use zeroize::Zeroizing;

use super::BackupError;
use super::check::{Checker, Summary};
use super::entry::Entry;
use super::ledger::{self, LedgerKey, Tag};
use super::rows::RestoredRow;
use super::verify::{entity_of, open, unlock};
use crate::api::types::{ErrorCode, ServiceError};
use crate::blob::{self, Usage};
use crate::config::{CONFIG_NAME, Config};
use crate::disk::{Disk, RealDisk};
use crate::mailroom::purge;
use crate::service::{CHUNKS_NAME, SLOTS_NAME, STORE_NAME};
use crate::slots::{SlotId, Slots};
use crate::store::tables::{IN_PLACES, LEDGERED, RESTORED, USAGE};
use crate::store::{Store, StoreError};
use crate::{ambient, files, setup};

/// Where a restore puts things together, within the data directory.
const STAGING_NAME: &str = ".restoring";
/// Rows and keys that are written at once.
const BATCH: usize = 1_024;
/// Bytes of rows after which a batch is written.
const BATCH_BYTES: usize = 4 << 20;

/// What to restore where.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The backup.
    pub file: PathBuf,
    /// The data directory to make; it does not exist or is empty.
    pub dir: PathBuf,
    /// The passphrase that held when the backup was made; `config.toml` names it from now on.
    pub passphrase_file: Option<PathBuf>,
    /// Where the recovery file lies; `config.toml` names it from now on. It is in no backup.
    pub recovery_file: Option<PathBuf>,
    /// Whether a backup that was made with objects or keys missing will do.
    pub incomplete: bool,
    /// The ledger of purges; the one that the backup's `config.toml` names without it.
    pub ledger: Option<PathBuf>,
    /// Whether to do without a ledger.
    pub without_ledger: bool,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// What the backup held.
    pub summary: Summary,
    /// The number of this restore.
    pub generation: u64,
    /// The data directory.
    pub dir: PathBuf,
    /// Messages that the backup held and the ledger says were purged since.
    pub purged: u64,
}

/// Restores a node that does not run; `progress` is told how many bytes were read.
///
/// # Errors
/// [`BackupError`]; the directory is then as it was before.
pub fn restore(options: &RestoreOptions, progress: impl Fn(u64)) -> Result<Restored, BackupError> {
    let mut reader = open(&options.file)?;
    let passphrase = options.passphrase_file.as_deref();
    let keys = unlock(reader.keystore(), passphrase)?.ok_or(KeystoreError::Locked)?;
    let protected = keystore::is_protected(reader.keystore())?;
    reader.unlock(&keys.store);
    let mut checker = Checker::new(&keys.store, entity_of(&keys)?);
    let claim = Claim::take(&options.dir)?;
    let mut build = Build::begin(&claim.staging, reader.keystore(), &keys.store)?;
    while let Some(entry) = reader.next()? {
        checker.take(&entry)?;
        build.take(entry)?;
        progress(reader.bytes());
    }
    let summary = Summary { protected, bytes: reader.bytes(), ..checker.finish()? };
    if summary.missing_count > 0 && !options.incomplete {
        return Err(BackupError::Incomplete(summary.missing_count));
    }
    build.flush()?;
    let purged = match ledger_of(&claim.staging, options)? {
        Some(path) => build.purge_again(&path)?,
        None => 0,
    };
    let generation = build.finish(&summary)?;
    reopen(&claim.staging, &keys.store)?;
    settle_config(&claim.staging, options)?;
    let dir = claim.keep()?;
    Ok(Restored { summary, generation, dir, purged })
}

/// The store and the folders of a node that is being put together.
struct Build {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    store: Store,
    slots: Slots,
    keys: Vec<(SlotId, Zeroizing<Vec<u8>>)>,
    rows: Vec<(String, Vec<u8>, Vec<u8>)>,
    row_bytes: usize,
    folders: BTreeSet<PathBuf>,
    usage: HashMap<EntityId, Usage>,
}

impl Build {
    fn begin(dir: &Path, keystore: &[u8], store_key: &StoreKey) -> Result<Build, BackupError> {
        let keys_dir = dir.join(setup::KEYS_NAME);
        files::create_private_dir(&keys_dir)?;
        files::create_private(&keys_dir.join(setup::KEYSTORE_NAME), keystore)?;
        let disk = RealDisk::shared();
        disk.create_dir_all(&dir.join(CHUNKS_NAME)).map_err(StoreError::from)?;
        let key = StoreKey::from_bytes(*store_key.as_bytes());
        let store = Store::open(disk.clone(), &dir.join(STORE_NAME), key)?;
        let slots = Slots::open(store.clone(), disk.clone(), &keys_dir.join(SLOTS_NAME))?;
        Ok(Build {
            disk,
            dir: dir.to_owned(),
            store,
            slots,
            keys: Vec::new(),
            rows: Vec::new(),
            row_bytes: 0,
            folders: BTreeSet::new(),
            usage: HashMap::new(),
        })
    }

    /// Puts an entry in its place; it was checked.
    fn take(&mut self, mut entry: Entry) -> Result<(), BackupError> {
        match &mut entry {
            Entry::Begin(_) | Entry::End(_) => Ok(()),
            Entry::File { name, bytes } => self.file(name, bytes),
            Entry::Key { slot, secret } => {
                self.keys.push((*slot, Zeroizing::new(std::mem::take(secret))));
                if self.keys.len() >= BATCH { self.write_keys() } else { Ok(()) }
            }
            Entry::Row { table, key, value } => {
                self.row_bytes += key.len() + value.len();
                let row = (std::mem::take(table), std::mem::take(key), std::mem::take(value));
                self.rows.push(row);
                if self.rows.len() >= BATCH || self.row_bytes >= BATCH_BYTES { self.write_rows() } else { Ok(()) }
            }
            Entry::Object { origin, id, batch, bytes } => {
                let usage = self.usage.entry(*origin).or_default();
                usage.objects += 1;
                usage.bytes += bytes.len() as u64;
                let chunks = self.dir.join(CHUNKS_NAME);
                let folder = blob::put_back(&*self.disk, &chunks, (*origin, *id, *batch), bytes)?;
                self.folders.insert(folder);
                Ok(())
            }
        }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        let path = self.dir.join(name);
        match name {
            CONFIG_NAME => Ok(files::write_private(&path, bytes)?),
            setup::CARD_NAME => Ok(files::write_public(&path, bytes)?),
            _ => Err(BackupError::Content("it holds a file that is no part of a node")),
        }
    }

    fn write_keys(&mut self) -> Result<(), BackupError> {
        Ok(self.slots.put_back(&std::mem::take(&mut self.keys))?)
    }

    fn write_rows(&mut self) -> Result<(), BackupError> {
        let rows = std::mem::take(&mut self.rows);
        self.row_bytes = 0;
        let written: Result<(), StoreError> = self
            .store
            .write_blocking(move |tx| rows.iter().try_for_each(|(table, key, value)| tx.put_raw(table, key, value)));
        Ok(written?)
    }

    /// Writes what waits.
    fn flush(&mut self) -> Result<(), BackupError> {
        self.write_keys()?;
        self.write_rows()
    }

    /// Purges again what the ledger at `path` names, if it is as long as the backup says that it was.
    fn purge_again(&mut self, path: &Path) -> Result<u64, BackupError> {
        let (tags, entries) = ledger::read(path, &LedgerKey::of(self.store.key()))?;
        ledger::check_whole(&self.store, path, (&tags, entries))?;
        self.forget(&tags)
    }

    /// Purges again what the ledger names, and sees that none of it is taken in again; gives how many messages went.
    fn forget(&mut self, tags: &HashSet<Tag>) -> Result<u64, BackupError> {
        let key = LedgerKey::of(self.store.key());
        let mut named: Vec<(EntityId, EnvelopeId)> = Vec::new();
        self.store.read(|tx| {
            tx.scan(&IN_PLACES, .., |(from, envelope), _| {
                if tags.contains(&key.tag(&from, &envelope)) {
                    named.push((from, envelope));
                }
                Ok(ControlFlow::Continue(()))
            })
        })?;
        let count = named.len() as u64;
        for page in named.chunks(BATCH) {
            let page = page.to_vec();
            let slots = self.store.write_blocking(move |tx| purge::again(tx, &page, ambient::now()))?;
            self.slots.erase(&slots)?;
        }
        for page in tags.iter().copied().collect::<Vec<_>>().chunks(BATCH) {
            let page = page.to_vec();
            let put: Result<(), StoreError> =
                self.store.write_blocking(move |tx| page.iter().try_for_each(|tag| tx.put(&LEDGERED, tag, &())));
            put?;
        }
        Ok(count)
    }

    /// Marks the store as restored and closes it; gives the generation.
    fn finish(mut self, summary: &Summary) -> Result<u64, BackupError> {
        for folder in &self.folders {
            self.disk.sync_dir(folder).map_err(StoreError::from)?;
        }
        let (usage, backup_at) = (std::mem::take(&mut self.usage), summary.made_at);
        let generation = self.store.write_blocking(move |tx| {
            for (origin, usage) in &usage {
                tx.put(&USAGE, origin, usage)?;
            }
            let restored_at = ambient::now();
            let last = tx.get(&RESTORED, &())?.map_or(0, |row| row.generation);
            let row = RestoredRow {
                // A clock that was set back since must not make the backup come from the future.
                backup_at: backup_at.min(restored_at),
                restored_at,
                generation: next_counter(last, restored_at),
                nonce: ambient::random(),
                settled: false,
                grants_renewed: false,
            };
            tx.put(&RESTORED, &(), &row)?;
            Ok::<_, StoreError>(row.generation)
        })?;
        // Fills the places between the keys, and leaves nothing of how they were put there.
        self.slots.rewrite()?;
        self.store.close();
        Ok(generation)
    }
}

/// Where the ledger lies that tells what was purged since.
fn ledger_of(staging: &Path, options: &RestoreOptions) -> Result<Option<PathBuf>, BackupError> {
    if options.without_ledger {
        return Ok(None);
    }
    match &options.ledger {
        Some(path) => Ok(Some(path.clone())),
        None => Ok(Config::load(staging)?.backup.ledger),
    }
}

/// Opens what was put together, as a node would, and brings it up to date.
fn reopen(dir: &Path, store_key: &StoreKey) -> Result<(), BackupError> {
    let disk = RealDisk::shared();
    let key = StoreKey::from_bytes(*store_key.as_bytes());
    let store = Store::open(disk.clone(), &dir.join(STORE_NAME), key)?;
    let slots = Slots::open(store.clone(), disk, &dir.join(setup::KEYS_NAME).join(SLOTS_NAME))?;
    drop(slots);
    store.close();
    Ok(())
}

/// Writes into `config.toml` where passphrase and recovery file lie now, and sees that it can be read.
fn settle_config(dir: &Path, options: &RestoreOptions) -> Result<(), BackupError> {
    let path = dir.join(CONFIG_NAME);
    let mut text = String::from_utf8(files::read_bounded(&path, 1 << 20)?)
        .map_err(|_| BackupError::Content("its config.toml is not text"))?;
    for (key, file) in [("passphrase_file", &options.passphrase_file), ("recovery_file", &options.recovery_file)] {
        if let Some(file) = file.as_ref().filter(|file| setup::lasts(file)) {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            text = with_key(&text, key, &file.display().to_string());
        }
    }
    files::write_private(&path, text.as_bytes())?;
    Config::load(dir)?;
    Ok(())
}

/// The text with a top-level key set.
fn with_key(text: &str, key: &str, value: &str) -> String {
    let line = format!("{key} = {}", toml::Value::from(value));
    let is_it = |line: &&str| {
        let rest = line.trim_start_matches(['#', ' ']).strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    match text.lines().find(is_it) {
        Some(old) => text.replacen(old, &line, 1),
        None => format!("{line}\n{text}"),
    }
}

/// A data directory that is taken for a restore, and empty again unless it is kept.
struct Claim {
    dir: PathBuf,
    staging: PathBuf,
    created: bool,
    kept: bool,
    /// The directory, locked: its end lets go.
    _lock: fs::File,
}

impl Claim {
    fn take(dir: &Path) -> Result<Claim, BackupError> {
        let dir = std::path::absolute(dir)?;
        let created = match files::create_private_dir(&dir) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error.into()),
        };
        let lock = lock(&dir)?;
        let staging = dir.join(STAGING_NAME);
        if !created {
            if staging.exists() && !dir.join(CONFIG_NAME).exists() {
                clear(&dir);
            }
            if fs::read_dir(&dir)?.next().is_some() {
                let node = if dir.join(CONFIG_NAME).exists() { "holds a node" } else { "is not empty" };
                let message = format!("{} {node}; nothing was changed", dir.display());
                let hint = "name a folder that does not exist; move a broken node's folder away, do not delete it yet";
                return Err(ServiceError::new(ErrorCode::Conflict, message, hint).into());
            }
            fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        }
        let claim = Claim { dir, staging, created, kept: false, _lock: lock };
        files::create_private_dir(&claim.staging)?;
        Ok(claim)
    }

    /// Moves everything into place, the configuration last.
    fn keep(mut self) -> Result<PathBuf, BackupError> {
        for name in [setup::KEYS_NAME, CHUNKS_NAME, STORE_NAME, setup::CARD_NAME] {
            fs::rename(self.staging.join(name), self.dir.join(name))?;
        }
        sync(&self.dir)?;
        fs::rename(self.staging.join(CONFIG_NAME), self.dir.join(CONFIG_NAME))?;
        sync(&self.dir)?;
        self.kept = true;
        let _ = fs::remove_dir_all(&self.staging);
        Ok(self.dir.clone())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        clear(&self.dir);
        if self.created {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// Takes a folder for one restore at a time; the lock goes with the process that holds it.
fn lock(dir: &Path) -> Result<fs::File, BackupError> {
    let folder = fs::File::open(dir)?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(fs::TryLockError::WouldBlock) => {
            let message = format!("another restore into {} is under way", dir.display());
            Err(ServiceError::new(ErrorCode::Busy, message, "wait until it is done, or name another folder").into())
        }
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Empties a folder; what marks it as a restore that was broken off goes last.
fn clear(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let (staging, others): (Vec<_>, Vec<_>) = entries.partition(|path| path.ends_with(STAGING_NAME));
    for path in others.into_iter().chain(staging) {
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
}

fn sync(dir: &Path) -> Result<(), BackupError> {
    Ok(fs::File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_configuration_is_set_where_it_stands() {
        let check = |text: &str, expected: &str| assert_eq!(with_key(text, "passphrase_file", "/etc/p"), expected);
        check("a = 1\npassphrase_file = \"x\"\nb = 2", "a = 1\npassphrase_file = \"/etc/p\"\nb = 2");
        check("a = 1\n# passphrase_file =\n[api]", "a = 1\npassphrase_file = \"/etc/p\"\n[api]");
        check("# about passphrase_file\na = 1", "passphrase_file = \"/etc/p\"\n# about passphrase_file\na = 1");
    }
}
