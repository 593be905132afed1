//! A few threads that wait for the disk, so that nobody else has to.
//!
//! Syncs of separate files gain from running side by side: 64 files of 500 kB each become durable in 40 ms one after the
//! other, in 24 ms by four threads, and in 23 ms as one single file (ext4, virtual disk).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::BlobError;

/// Calls that wait for a thread; whoever comes later waits for a place.
const QUEUE_MAX: usize = 64;

type Call = Box<dyn FnOnce() + Send>;

pub(super) struct Pool {
    queue: Option<mpsc::Sender<Call>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(threads: usize) -> Result<Pool, BlobError> {
        let (queue, calls) = mpsc::channel::<Call>(QUEUE_MAX);
        let calls = Arc::new(Mutex::new(calls));
        let start = |number: usize| {
            let calls = calls.clone();
            std::thread::Builder::new().name(format!("pakt-disk-{number}")).spawn(move || {
                loop {
                    // Whoever holds the lock waits for the next call, the others for the lock.
                    let call = calls.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    let Some(call) = call else { return };
                    // The caller sees the panic as a missing answer.
                    let _ = catch_unwind(AssertUnwindSafe(call));
                }
            })
        };
        let threads: Result<Vec<_>, _> = (0..threads).map(start).collect();
        let threads = threads.map_err(|error| BlobError::Disk(error.into()))?;
        Ok(Pool { queue: Some(queue), threads })
    }

    /// Runs `work` on one of the threads; it runs to its end even if the returned future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlobError> {
        let (reply, answer) = oneshot::channel();
        let call: Call = Box::new(move || {
            let _ = reply.send(work());
        });
        let queue = self.queue.as_ref().ok_or(BlobError::Closed)?;
        queue.send(call).await.map_err(|_| BlobError::Closed)?;
        answer.await.map_err(|_| BlobError::Closed)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        let here = std::thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != here) {
            let _ = thread.join();
        }
    }
}
