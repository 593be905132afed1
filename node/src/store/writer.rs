//! The one thread that commits, and the handle through which everybody else reaches it.
//!
//! Shutdown: the last handle or [`Store::close`] closes the queue; what waits in it is still committed; then the thread
//! ends and the file is closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use pakt_keys::store_seal::StoreKey;
use tokio::sync::{mpsc, oneshot};

use super::engine::{CACHE_BYTES, Engine};
use super::migrate::MIGRATIONS;
#[cfg(test)]
use super::migrate::Migration;
use super::{ReadTx, StoreError, WriteTx};
use crate::disk::Disk;

/// Changes that wait for the next commit; whoever comes later waits for a place.
const QUEUE_MAX: usize = 256;
/// Changes in one commit.
const BATCH_MAX: usize = 256;
/// Bytes that a commit may have replaced before it takes no further change, so that its undo list stays small.
const BATCH_UNDO_BYTES_MAX: usize = 8 << 20;

/// A change that waits to be committed.
trait Job: Send {
    /// Runs the closure; false if nothing of it is to be kept.
    fn run(&mut self, tx: &mut WriteTx) -> bool;
    /// Answers the caller.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<T, E, F> {
    work: Option<F>,
    outcome: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for Task<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: FnOnce(&mut WriteTx) -> Result<T, E> + Send,
{
    fn run(&mut self, tx: &mut WriteTx) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(tx)));
        let outcome = outcome.unwrap_or_else(|_| Err(StoreError::Panicked.into()));
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (self.outcome, committed) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(StoreError::Closed.into()),
        };
        // A caller that went away does not need the answer.
        let _ = self.reply.send(answer);
    }
}

fn commit_batch(engine: &Engine, queue: &mut mpsc::Receiver<Box<dyn Job>>, first: Box<dyn Job>) {
    let mut jobs = Vec::new();
    let mut next = Some(first);
    let committed = engine.commit(|tx| {
        while let Some(mut job) = next.take() {
            let mark = tx.mark();
            if !job.run(tx) {
                tx.roll_back(mark);
            }
            jobs.push(job);
            if jobs.len() < BATCH_MAX && tx.undo_bytes() < BATCH_UNDO_BYTES_MAX && tx.broken().is_none() {
                next = queue.try_recv().ok();
            }
        }
    });
    // A transaction that could not even begin leaves the first job where it was.
    jobs.extend(next);
    let committed = committed.map(|hooks| {
        for hook in hooks {
            let _ = catch_unwind(AssertUnwindSafe(hook));
        }
    });
    for job in jobs {
        job.finish(committed.clone());
    }
}

struct Handle {
    engine: Arc<Engine>,
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Handle {
    fn close(&self) {
        drop(take(&self.queue));
        if let Some(thread) = take(&self.thread)
            // The last handle may be dropped by a hook, which the thread itself runs.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
        self.engine.close();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// The node's records; clones share one database, which closes with the last of them.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

impl Store {
    /// Opens the database at `path`, or makes it, and holds the lock file `lock` beside it until closed.
    ///
    /// After a crash the whole file is read and repaired.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::WrongKey`], [`StoreError::Newer`], [`StoreError::Damaged`], or when the
    /// disk is full or fails.
    pub fn open(disk: Arc<dyn Disk>, path: &Path, key: StoreKey) -> Result<Store, StoreError> {
        Store::open_caching(disk, path, key, CACHE_BYTES)
    }

    /// As [`Store::open`], with so many bytes of memory for the pages of the file.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) fn open_caching(
        disk: Arc<dyn Disk>,
        path: &Path,
        key: StoreKey,
        cache_bytes: usize,
    ) -> Result<Store, StoreError> {
        Store::start(Engine::open(disk, path, key, cache_bytes, MIGRATIONS)?)
    }

    #[cfg(test)]
    pub(super) fn open_with(
        disk: Arc<dyn Disk>,
        path: &Path,
        key: StoreKey,
        migrations: &[Migration],
    ) -> Result<Store, StoreError> {
        Store::start(Engine::open(disk, path, key, CACHE_BYTES, migrations)?)
    }

    fn start(engine: Engine) -> Result<Store, StoreError> {
        let engine = Arc::new(engine);
        let (queue, mut jobs) = mpsc::channel::<Box<dyn Job>>(QUEUE_MAX);
        let committer = engine.clone();
        let thread = std::thread::Builder::new().name("pakt-store".into()).spawn(move || {
            while let Some(first) = jobs.blocking_recv() {
                commit_batch(&committer, &mut jobs, first);
            }
        });
        let thread = thread.map_err(|error| StoreError::Io(error.kind()))?;
        let handle = Handle { engine, queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) };
        Ok(Store { handle: Arc::new(handle) })
    }

    /// Runs `work` on a view of the last commit, on this thread; short reads need no thread of their own.
    ///
    /// # Errors
    /// What `work` returns, and when the store failed or is closed.
    pub fn read<T>(&self, work: impl FnOnce(&ReadTx) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.handle.engine.read(work)
    }

    /// Runs `work` on the writer's thread and returns once what it changed is durable; if it errs or panics, nothing of
    /// it is kept. It must not wait for anything, the store included.
    ///
    /// Cancel safety: once the returned future was polled, `work` may run and become durable even if it is dropped.
    ///
    /// # Errors
    /// What `work` returns; [`StoreError::Full`] and others when the commit failed: nothing of it was kept, except
    /// after [`StoreError::Io`], when the next start shows whether it was.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut WriteTx) -> Result<T, E> + Send + 'static,
    {
        let queue = self.handle.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let task = Task { work: Some(work), outcome: None, reply };
        queue.send(Box::new(task)).await.map_err(|_| self.handle.engine.gone())?;
        drop(queue);
        answer.await.unwrap_or_else(|_| Err(self.handle.engine.gone().into()))
    }

    /// As [`Store::write`], for threads that have no asynchronous runtime; it blocks.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut WriteTx) -> Result<T, E> + Send + 'static,
    {
        futures::executor::block_on(self.write(work))
    }

    /// Resolves once a failure of the disk stopped the store; the process should end then and be started again.
    pub async fn failed(&self) {
        let mut failure = self.handle.engine.watch_failure();
        // The sender lives as long as the handle that this borrows.
        let _ = failure.wait_for(|failed| *failed).await;
    }

    /// The key that everything at rest is sealed under.
    pub(crate) fn key(&self) -> &StoreKey {
        self.handle.engine.key()
    }

    /// Stops the store because something that its rows speak of could not be made durable.
    pub(crate) fn fail(&self) {
        self.handle.engine.stop();
    }

    /// Commits what waits, closes the file and releases the data directory; later calls err.
    pub fn close(&self) {
        self.handle.close();
    }
}
