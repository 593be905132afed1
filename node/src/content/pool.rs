//! The threads that encode, seal, open and decode, each with its own scratch, and the memory that content may take
//! while it is worked on.
//!
//! **Invariant:** no more than [`SEAL_BYTES_MAX`] of content wait to be sealed or written, however many messages are
//! being sealed at once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use pakt_protocol::content::encode::{DecodeScratch, EncodeScratch};
use pakt_protocol::limits::CHUNK_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Content between packing and disk, of all messages together, in bytes: a few batches, so that reading, sealing and
/// writing overlap.
pub(super) const SEAL_BYTES_MAX: usize = 24 << 20;
/// What the smallest chunk counts as, in bytes, so that tiny ones are bounded in number too.
const HOLD_BYTES_MIN: usize = 64 << 10;
/// More threads gain nothing: the disk is slower by then.
const THREADS_MAX: usize = 8;
/// How far threads step back that nobody waits for, of 19.
const LOW: i32 = 10;
/// Chunk buffers kept for reuse, of 1 MiB each.
const SPARE_MAX: usize = 12;

type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// What one thread keeps between chunks.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) encode: EncodeScratch,
    pub(super) decode: DecodeScratch,
}

/// The pool stopped before it gave an answer: it is shutting down, or the work panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("work on content was broken off; try again")]
pub struct PoolStopped;

/// A few threads for all work on content; clones share them.
#[derive(Clone)]
pub struct ContentPool {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    budget: Arc<Semaphore>,
    held_peak: AtomicUsize,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl ContentPool {
    /// Starts one thread per processor, at most 8.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start() -> io::Result<ContentPool> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        ContentPool::with_threads("content", count, 0)
    }

    /// Starts one thread that leaves the processor to all others: for what nobody waits for.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start_low() -> io::Result<ContentPool> {
        ContentPool::with_threads("check", 1, LOW)
    }

    fn with_threads(name: &str, count: usize, nice: i32) -> io::Result<ContentPool> {
        // Short, so that messages that are worked on at the same time take turns.
        let (queue, jobs) = mpsc::channel::<Job>(2 * count);
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |number: usize| {
            let jobs = jobs.clone();
            let begin = move || {
                // Where the system refuses it, the work is as important as any other.
                let _ = (nice != 0).then(|| rustix::process::nice(nice));
                work(&jobs);
            };
            std::thread::Builder::new().name(format!("pakt-{name}-{number}")).spawn(begin)
        };
        let threads = (0..count).map(start).collect::<io::Result<Vec<_>>>()?;
        let inner = Inner {
            queue: Some(queue),
            threads,
            budget: Arc::new(Semaphore::new(SEAL_BYTES_MAX)),
            held_peak: AtomicUsize::new(0),
            spare: Mutex::default(),
        };
        Ok(ContentPool { inner: Arc::new(inner) })
    }

    /// Runs `job` on one of the threads; once taken up it runs to its end, even if the returned future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, PoolStopped> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |scratch| {
            let _ = reply.send(job(scratch));
        });
        let queue = self.inner.queue.as_ref().ok_or(PoolStopped)?;
        queue.send(job).await.map_err(|_| PoolStopped)?;
        answer.await.map_err(|_| PoolStopped)
    }

    /// Waits until `bytes` more of content may be held for sealing.
    pub(super) async fn hold(&self, bytes: usize) -> Result<Hold, PoolStopped> {
        let bytes = bytes.clamp(HOLD_BYTES_MIN, CHUNK_BYTES_MAX);
        let permits = u32::try_from(bytes).map_err(|_| PoolStopped)?;
        let permit = self.inner.budget.clone().acquire_many_owned(permits).await.map_err(|_| PoolStopped)?;
        self.inner.held_peak.fetch_max(self.bytes_held(), Ordering::Relaxed);
        Ok(Hold(permit))
    }

    /// Bytes of content that wait to be sealed or written now.
    pub fn bytes_held(&self) -> usize {
        SEAL_BYTES_MAX - self.inner.budget.available_permits()
    }

    /// The most that [`ContentPool::bytes_held`] has been.
    pub fn bytes_held_peak(&self) -> usize {
        self.inner.held_peak.load(Ordering::Relaxed)
    }

    /// An empty buffer for a chunk, one that was used before if there is any.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let spare = self.inner.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES_MAX))
    }

    /// Gives a buffer back; those of another size are not kept.
    pub(super) fn recycle(&self, mut buffer: Vec<u8>) {
        if !(CHUNK_BYTES_MAX..=2 * CHUNK_BYTES_MAX).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut spare = self.inner.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        // The last handle may go with a job, on one of the threads themselves.
        let here = std::thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != here) {
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    let mut scratch = Scratch::default();
    loop {
        // Whoever holds the lock waits for the next job, the others for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        // The caller sees a panic as a missing answer; what it left in the scratch is not used again.
        if catch_unwind(AssertUnwindSafe(|| job(&mut scratch))).is_err() {
            scratch = Scratch::default();
        }
    }
}

/// The right to hold some bytes of content for sealing, until dropped.
pub(super) struct Hold(OwnedSemaphorePermit);

impl Hold {
    /// Gives back what is held beyond `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let excess = self.0.num_permits().saturating_sub(bytes.max(HOLD_BYTES_MIN));
        drop(self.0.split(excess));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn p40_a_panic_in_one_job_leaves_the_pool_working() {
        let pool = ContentPool::start().unwrap();
        for _ in 0..20 {
            assert_eq!(pool.run(|_| -> u8 { panic!("injected") }).await, Err(PoolStopped));
        }
        assert_eq!(pool.run(|_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn holds_are_counted_and_given_back() {
        let pool = ContentPool::start().unwrap();
        let mut large = pool.hold(CHUNK_BYTES_MAX).await.unwrap();
        let tiny = pool.hold(1).await.unwrap();
        assert_eq!(pool.bytes_held(), CHUNK_BYTES_MAX + HOLD_BYTES_MIN);
        large.shrink(300_000);
        assert_eq!(pool.bytes_held(), 300_000 + HOLD_BYTES_MIN);
        drop((large, tiny));
        assert_eq!(pool.bytes_held(), 0);
        assert_eq!(pool.bytes_held_peak(), CHUNK_BYTES_MAX + HOLD_BYTES_MIN);
    }

    #[tokio::test]
    async fn only_buffers_of_one_chunk_are_kept() {
        let pool = ContentPool::start().unwrap();
        let (small, chunk) = (vec![1; 100], vec![1; CHUNK_BYTES_MAX]);
        let kept = chunk.as_ptr();
        pool.recycle(chunk);
        pool.recycle(small);
        let buffer = pool.buffer();
        assert!(buffer.is_empty() && buffer.as_ptr() == kept);
        assert!(pool.buffer().capacity() >= CHUNK_BYTES_MAX);
    }
}
