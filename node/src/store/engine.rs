//! The database file: opening, committing, and what happens when the disk refuses.
//!
//! ```text
//!           commit finds the disk full              a write finds space again
//!   Whole ------------------------------> ReadOnly ---------------------------> Whole
//!     |  any other failure                    |  any other failure
//!     +------------------> Failed <-----------+
//! ```
//!
//! redb refuses everything after one failed call to its file, so a full disk means opening it anew. `ReadOnly` opens it
//! through an [`Overlay`], because opening repairs, and repairing may need space.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pakt_keys::store_seal::StoreKey;
use redb::{Database, ReadableDatabase};
use tokio::sync::watch;

use super::backend::{Backend, Overlay};
use super::checked::Checked;
use super::error::guarded;
use super::migrate::{Migration, migrate};
use super::tables::COMMITS;
use super::tx::Hook;
use super::{ReadTx, StoreError, WriteTx};
use crate::disk::{self, Disk, DiskLock};

/// Memory for redb's pages; its own default of 1 GiB is not for a node beside other programs.
pub(crate) const CACHE_BYTES: usize = 16 << 20;
/// With less space than this a full store tries only now and then, because each try opens the file anew.
const RETRY_FREE_BYTES: u64 = 256 << 10;
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// How long a store that found space again waits for readers of the old state.
const READERS_WAIT: Duration = Duration::from_secs(2);
const READERS_POLL: Duration = Duration::from_millis(1);

enum State {
    Whole(Arc<Database>),
    ReadOnly { database: Arc<Database>, tried: Instant },
    Failed,
    Closed,
}

pub(super) struct Engine {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    key: Arc<StoreKey>,
    cache_bytes: usize,
    state: Mutex<State>,
    /// The number of the next commit.
    commits: AtomicU64,
    failed: watch::Sender<bool>,
    lock: Mutex<Option<Box<dyn DiskLock>>>,
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn open_database(backend: impl redb::StorageBackend, cache_bytes: usize) -> Result<Database, StoreError> {
    guarded(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
        builder.create_with_backend(backend).map_err(redb::Error::from)
    })
}

fn begin_write(database: &Database, key: &Arc<StoreKey>) -> Result<WriteTx, StoreError> {
    let txn = guarded(|| {
        let mut txn = database.begin_write().map_err(redb::Error::from)?;
        txn.set_two_phase_commit(true);
        Ok::<_, redb::Error>(txn)
    })?;
    Ok(WriteTx::new(txn, key.clone()))
}

/// Closing writes to the file; a failure there only means a repair at the next start.
fn close_database(database: Database) {
    let _ = guarded(|| database.close().map_err(redb::Error::from));
}

fn prepare(database: &Database, key: &Arc<StoreKey>, migrations: &[Migration]) -> Result<(), StoreError> {
    let mut tx = begin_write(database, key)?;
    migrate(&mut tx, migrations)?;
    tx.commit()
}

impl Engine {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        key: StoreKey,
        cache_bytes: usize,
        migrations: &[Migration],
    ) -> Result<Engine, StoreError> {
        disk.create_dir_all(folder(path))?;
        let lock = disk.lock(&folder(path).join(super::LOCK_NAME))?;
        let engine = Engine {
            disk,
            path: path.to_owned(),
            key: Arc::new(key),
            cache_bytes,
            state: Mutex::new(State::Closed),
            commits: AtomicU64::new(1),
            failed: watch::channel(false).0,
            lock: Mutex::new(Some(lock)),
        };
        if !engine.disk.exists(path)? {
            engine.create(migrations)?;
        }
        let database = engine.open_whole()?;
        let prepared = prepare(&database, &engine.key, migrations);
        if let Err(error) = prepared {
            close_database(database);
            return Err(error);
        }
        *engine.state() = State::Whole(Arc::new(database));
        let last = engine.read(|tx| tx.get(&COMMITS, &()))?.unwrap_or(0);
        engine.commits.store(last.saturating_add(1), Ordering::Relaxed);
        Ok(engine)
    }

    /// A database becomes visible under its name only when it is complete, so that a cut leaves none or a whole one.
    fn create(&self, migrations: &[Migration]) -> Result<(), StoreError> {
        let temporary = disk::temporary_name(&self.path);
        match self.disk.remove(&temporary) {
            Ok(()) | Err(disk::DiskError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let file = self.disk.create(&temporary)?;
        let database = open_database(Backend(Checked::over(file.clone())), self.cache_bytes)?;
        prepare(&database, &self.key, migrations)?;
        guarded(|| database.close().map_err(redb::Error::from))?;
        file.sync()?;
        self.disk.rename(&temporary, &self.path)?;
        Ok(self.disk.sync_dir(folder(&self.path))?)
    }

    fn open_whole(&self) -> Result<Database, StoreError> {
        open_database(Backend(Checked::over(self.disk.open(&self.path)?)), self.cache_bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTx) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = match &*self.state() {
            State::Whole(database) | State::ReadOnly { database, .. } => database.clone(),
            State::Failed => return Err(StoreError::Failed),
            State::Closed => return Err(StoreError::Closed),
        };
        let begun = guarded(|| database.begin_read().map_err(redb::Error::from));
        let result = begun.and_then(|txn| work(&ReadTx { txn, key: self.key.clone() }));
        match result {
            Err(error) if error.is_fatal() => {
                self.fail(&mut self.state());
                Err(error)
            }
            // The commit that found the disk full took the file from under this reader.
            Err(StoreError::Failed) if !matches!(*self.state(), State::Failed) => Err(StoreError::Full),
            result => result,
        }
    }

    /// Runs `fill` in one transaction and commits it.
    pub(super) fn commit(&self, fill: impl FnOnce(&mut WriteTx)) -> Result<Vec<Hook>, StoreError> {
        let database = self.writable()?;
        let number = self.commits.fetch_add(1, Ordering::Relaxed);
        let mut hooks = Vec::new();
        let result = begin_write(&database, &self.key).and_then(|mut tx| {
            fill(&mut tx);
            if tx.is_changed() && tx.broken().is_none() {
                // A failure is kept by the transaction.
                let _ = tx.put(&COMMITS, &(), &number);
            }
            hooks = tx.take_hooks();
            tx.commit()
        });
        match result {
            Ok(()) => Ok(hooks),
            Err(StoreError::Full) => {
                drop(database);
                self.degrade(&mut self.state());
                // redb may find the disk full when the commit is durable already and it only tidies up.
                let last = self.read(|tx| tx.get(&COMMITS, &()))?;
                if last == Some(number) { Ok(hooks) } else { Err(StoreError::Full) }
            }
            Err(error) => {
                self.fail(&mut self.state());
                Err(error)
            }
        }
    }

    fn writable(&self) -> Result<Arc<Database>, StoreError> {
        let tried = match &*self.state() {
            State::Whole(database) => return Ok(database.clone()),
            State::ReadOnly { tried, .. } => *tried,
            State::Failed => return Err(StoreError::Failed),
            State::Closed => return Err(StoreError::Closed),
        };
        if tried.elapsed() < RETRY_PERIOD && self.disk.free_bytes(folder(&self.path))? < RETRY_FREE_BYTES {
            return Err(StoreError::Full);
        }
        self.restore()
    }

    /// After the disk was found full: reads go on, from what was durable before.
    fn degrade(&self, state: &mut State) {
        // The database that failed must be gone first, or its end could fall into the life of the next one.
        *state = State::Closed;
        match self.open_overlay() {
            Ok(database) => {
                *state = State::ReadOnly { database: Arc::new(database), tried: Instant::now() };
            }
            Err(_) => self.fail(state),
        }
    }

    fn open_overlay(&self) -> Result<Database, StoreError> {
        let file = self.disk.open(&self.path)?;
        // What is read from here on is durable, also the last commit, if it is in.
        file.sync()?;
        open_database(Overlay::new(Checked::over(file))?, self.cache_bytes)
    }

    /// Opens the file for writing again. Readers of the overlay must be gone first: pages that they still read would be
    /// written over.
    fn restore(&self) -> Result<Arc<Database>, StoreError> {
        let deadline = Instant::now() + READERS_WAIT;
        let mut state = loop {
            let state = self.state();
            match &*state {
                State::ReadOnly { database, .. } if Arc::strong_count(database) == 1 => {
                    break state;
                }
                State::ReadOnly { .. } if Instant::now() < deadline => {}
                State::ReadOnly { .. } => return Err(StoreError::Full),
                State::Failed => return Err(StoreError::Failed),
                State::Whole(_) | State::Closed => return Err(StoreError::Closed),
            }
            drop(state);
            std::thread::sleep(READERS_POLL);
        };
        *state = State::Closed;
        match self.open_whole() {
            Ok(database) => {
                let database = Arc::new(database);
                *state = State::Whole(database.clone());
                Ok(database)
            }
            Err(error) => {
                match error {
                    StoreError::Full => self.degrade(&mut state),
                    _ => self.fail(&mut state),
                }
                Err(error)
            }
        }
    }

    fn fail(&self, state: &mut State) {
        *state = State::Failed;
        self.failed.send_replace(true);
    }

    pub(super) fn key(&self) -> &StoreKey {
        &self.key
    }

    pub(super) fn stop(&self) {
        self.fail(&mut self.state());
    }

    /// Why a command got no answer.
    pub(super) fn gone(&self) -> StoreError {
        if *self.failed.borrow() { StoreError::Failed } else { StoreError::Closed }
    }

    pub(super) fn watch_failure(&self) -> watch::Receiver<bool> {
        self.failed.subscribe()
    }

    /// Closes the file and releases the data directory; readers that are still at work finish first or err.
    pub(super) fn close(&self) {
        let state = std::mem::replace(&mut *self.state(), State::Closed);
        if let State::Whole(database) | State::ReadOnly { database, .. } = state
            && let Ok(database) = Arc::try_unwrap(database)
        {
            close_database(database);
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
