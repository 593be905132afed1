//! Malware: the scanner that content passes, and what shows that it is one.
//!
//! ```text
//!            every 30 s: probe --fit--> evidence for 90 s --> `malware-scan` attested, verdicts count
//! [Scanner] <                \-unfit--> no evidence; again after 3 s
//!            a scan that failed: at once
//! ```
//! [`clamd`] speaks to the scanner, `probe` puts it to the test, `config` is what the operator set. What is scanned, and
//! what follows, is decided in [`crate::release`] and [`crate::service`].
//!
//! **Invariant:** a verdict counts only between two tests that the scanner passed, or within 90 s after one.
//! **Invariant:** nothing of the content is logged; a signature's name is all that is told of a finding.

pub mod clamd;
mod config;
mod probe;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pakt_protocol::controls::Evidence;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use clamd::{Clamd, ScanError, Stream, Verdict};
pub use config::{Endpoint, ScanConfig, SignaturesAge};
pub use probe::{Unfit, test_file};

use crate::ambient;
use crate::controls::Source;

/// How often the scanner of a node is tested.
const PACE: Pace = Pace {
    every: Duration::from_secs(30),
    again: Duration::from_secs(3),
    fit_for: Duration::from_secs(90),
    probe_max: Duration::from_secs(60),
};
/// A scanner that cannot be reached so many times in a row is gone, not started anew.
const PASSING_MAX: u32 = 2;

/// How often a scanner is tested.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// While it is fit.
    pub(crate) every: Duration,
    /// While it is not.
    pub(crate) again: Duration,
    /// A test says no more after this time, whatever became of the next.
    pub(crate) fit_for: Duration,
    /// A test that takes longer has failed; far above what three small streams take.
    pub(crate) probe_max: Duration,
}

/// What is known of a scanner.
#[derive(Debug, Clone)]
enum Health {
    /// It was not asked yet.
    Untested,
    /// It passed; the line that shows it.
    Fit { line: String, at: Instant },
    /// It did not, or not any more; why.
    Unfit(String),
}

struct Inner {
    clamd: Clamd,
    age: SignaturesAge,
    pace: Pace,
    health: Mutex<Health>,
    changes: watch::Sender<u64>,
    doubts: Notify,
}

/// The scanner of this node; clones share it.
#[derive(Clone)]
pub struct Scanner {
    inner: Arc<Inner>,
}

impl Scanner {
    /// The scanner that the operator set, if any.
    pub fn of(config: &ScanConfig) -> Option<Scanner> {
        Scanner::paced(config, PACE)
    }

    pub(crate) fn paced(config: &ScanConfig, pace: Pace) -> Option<Scanner> {
        let inner = Inner {
            clamd: Clamd::at(config.clamd.clone()?),
            age: config.signatures_max_age,
            pace,
            health: Mutex::new(Health::Untested),
            changes: watch::Sender::new(0),
            doubts: Notify::new(),
        };
        Some(Scanner { inner: Arc::new(inner) })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.clamd.endpoint()
    }

    /// Begins a stream.
    ///
    /// # Errors
    /// [`ScanError`].
    pub async fn begin(&self) -> Result<Stream, ScanError> {
        self.inner.clamd.begin().await
    }

    /// The line that shows that it is a scanner, while that is so.
    ///
    /// # Errors
    /// Why it is not, for people.
    pub fn fit(&self) -> Result<String, String> {
        match &*self.health() {
            Health::Fit { line, at } if at.elapsed() <= self.inner.pace.fit_for => Ok(line.clone()),
            Health::Fit { .. } => Err("its last test is too long ago".to_owned()),
            Health::Untested => Err("it was not tested yet".to_owned()),
            Health::Unfit(why) => Err(why.clone()),
        }
    }

    /// A number that grows whenever it becomes fit or unfit.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// It failed somebody: it is tested now instead of later.
    pub fn doubt(&self) {
        self.inner.doubts.notify_one();
    }

    /// Puts it to the test now; tells whether it passed.
    pub async fn test(&self) -> bool {
        let probed = self.probe().await;
        self.take(&probed);
        probed.is_ok()
    }

    async fn probe(&self) -> Result<String, Unfit> {
        let probing = probe::probe(&self.inner.clamd, self.inner.age, ambient::now());
        tokio::time::timeout(self.inner.pace.probe_max, probing)
            .await
            .unwrap_or_else(|_| Err(ScanError::TimedOut.into()))
    }

    /// Tests it again and again, until stopped.
    pub async fn watch(self, stop: CancellationToken) {
        let mut passing = 0;
        loop {
            let probed = tokio::select! {
                () = stop.cancelled() => return,
                probed = self.probe() => probed,
            };
            passing = if probed.as_ref().is_err_and(Unfit::is_passing) { passing + 1 } else { 0 };
            if probed.is_ok() || passing == 0 || passing >= PASSING_MAX || self.fit().is_err() {
                self.take(&probed);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(if probed.is_ok() { self.inner.pace.every } else { self.inner.pace.again }) => {}
                // A doubt that came while it was tested is answered by the next test.
                () = self.inner.doubts.notified(), if probed.is_ok() => {}
            }
        }
    }

    fn take(&self, probed: &Result<String, Unfit>) {
        let mut health = self.health();
        let changed = match (&*health, probed) {
            (Health::Fit { line, .. }, Ok(new)) => line != new,
            (Health::Unfit(why), Err(new)) => *why != new.to_string(),
            _ => true,
        };
        *health = match probed {
            Ok(line) => Health::Fit { line: line.clone(), at: Instant::now() },
            Err(unfit) => Health::Unfit(unfit.to_string()),
        };
        drop(health);
        if changed {
            match probed {
                Ok(scanner) => tracing::info!(%scanner, "the malware scanner passed its test"),
                Err(why) => tracing::warn!(scanner = %self.endpoint(), %why, "the malware scanner failed its test"),
            }
            self.inner.changes.send_modify(|revision| *revision += 1);
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.inner.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Scanner {
    fn evidence(&self) -> Evidence {
        self.fit().map_or(Evidence::None, Evidence::On)
    }
}
