//! From `delivered` to `released`: every message is read to its last byte, scanned where that is demanded, and only then
//! seen by anybody.
//!
//! ```text
//! TO_RELEASE --room?--> check (a few at once, one thread that leaves the processor to others)
//!                          |--passed--> released, receipt owed
//!                          |--found --> quarantined, receipt owed
//!                          \--cannot be told now (scanner gone, beyond its limits, own disk)--> held, again later
//! ```
//!
//! **Invariant:** what is held stays unseen: no failure of the scanner, of the disk or of this program releases anything.
//! **Invariant:** a few messages are checked at once, and large ones never take all places.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pakt_protocol::content::manifest::Bounds;
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::content::{CheckError, ContentPool, NotClean, ReadManifestError, TarStreamError};
use crate::content::{check_content, read_manifest};
use crate::entity::Entity;
use crate::mailroom::release::{Checked, Place, ToRelease};
use crate::mailroom::{MailError, Mailroom};
use crate::scan::Scanner;

/// Messages that are checked at once: enough that their commits fall together.
const AT_ONCE_MAX: usize = 8;
/// Large ones among them.
const LARGE_AT_ONCE_MAX: usize = 2;
/// Plain bytes from which a message is a large one.
const LARGE_BYTES: u64 = 16 << 20;
/// Rows that are looked through at a time for one that may go.
const PAGE: usize = 32;
/// A message that could not be checked is tried again after this time, twice that, and so on.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
/// And this often at last.
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// The queue is looked through this often whatever happens.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Released messages whose senders are still to be told.
const TOLD_MAX: usize = 256;

/// What the check stands on.
pub struct Parts {
    /// Messages.
    pub mailroom: Mailroom,
    /// Who signs the receipts.
    pub entity: Entity,
    /// The scanner, if the operator set one.
    pub scanner: Option<Scanner>,
    /// Whether everything is scanned, whatever its agreement says.
    pub scan_all: bool,
    /// Threads that open and decode.
    pub pool: ContentPool,
}

/// A message that could not be checked.
#[derive(Debug, Clone)]
pub struct HeldBack {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Why, for people.
    pub why: String,
    /// Since when, by the machine's clock.
    pub since: Instant,
    tries: u32,
    again: Instant,
}

struct Inner {
    parts: Parts,
    held: Mutex<BTreeMap<Place, HeldBack>>,
}

/// The check of what arrives; clones share it.
#[derive(Clone)]
pub struct Release {
    inner: Arc<Inner>,
}

/// How one check ended.
enum Outcome {
    Done(Checked),
    Hold(String),
}

impl Release {
    /// A check over these parts; [`Release::run`] does it.
    pub fn new(parts: Parts) -> Release {
        Release { inner: Arc::new(Inner { parts, held: Mutex::default() }) }
    }

    /// The scanner that is asked, if there is one.
    pub fn scanner(&self) -> Option<&Scanner> {
        self.inner.parts.scanner.as_ref()
    }

    /// Messages that could not be checked, and why.
    pub fn held(&self) -> Vec<HeldBack> {
        self.lock().values().cloned().collect()
    }

    /// Whether a message must be scanned before it is seen.
    pub fn demands(&self, row_demands: bool) -> bool {
        row_demands || self.inner.parts.scan_all
    }

    /// Checks what waits until stopped; tells `told` the agreements whose counterparts are owed a receipt.
    pub async fn run(self, told: mpsc::Sender<AgreementId>, stop: CancellationToken) {
        let mut running = Running::default();
        let mailroom = self.inner.parts.mailroom.clone();
        let due = mailroom.release_waiter();
        let mut scanner = self.inner.parts.scanner.as_ref().map(Scanner::changes);
        loop {
            let again = match self.start_some(&mut running) {
                Ok(again) => again,
                Err(error) => {
                    tracing::error!(%error, "what waits for its check could not be read");
                    Instant::now() + AGAIN_FIRST
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = due.notified() => self.prune(),
                () = changed(scanner.as_mut()) => self.retry_now(),
                Some(ended) = running.checks.join_next_with_id() => self.end(&mut running, ended, &told),
                () = sleep_until(again) => self.prune(),
            }
        }
        running.checks.abort_all();
        while running.checks.join_next().await.is_some() {}
    }

    /// Starts checks while there is room; gives when to look again.
    fn start_some(&self, running: &mut Running) -> Result<Instant, MailError> {
        let now = Instant::now();
        let parts = &self.inner.parts;
        let may_scan = parts.scanner.as_ref().is_some_and(|scanner| scanner.fit().is_ok());
        let mut after = None;
        while running.checks.len() < AT_ONCE_MAX {
            // What needs a scanner waits for one without being looked at.
            let page = parts.mailroom.to_release(after, may_scan, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (place, row) in page {
                let scan = !row.by_hand && self.demands(row.scan);
                let waits = self.lock().get(&place).is_some_and(|held| held.again > now);
                if waits || (scan && !may_scan) || !running.has_room_for(&place, &row) {
                    continue;
                }
                running.begin(self.clone(), place, row, scan);
                if running.checks.len() >= AT_ONCE_MAX {
                    break;
                }
            }
        }
        let next = self.lock().values().map(|held| held.again).filter(|again| *again > now).min();
        Ok(next.unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY))
    }

    fn end(&self, running: &mut Running, ended: Result<(Id, Told), JoinError>, told: &mpsc::Sender<AgreementId>) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(broken) => (broken.id(), Err("the check was broken off; see the node's log".to_owned())),
        };
        let Some((place, row)) = running.rows.remove(&id) else { return };
        match outcome {
            Ok(None) => drop(self.lock().remove(&place)),
            Ok(Some(agreement)) => {
                self.lock().remove(&place);
                // A full queue only costs that the counterpart is told at the next session or receipt.
                let _ = told.try_send(agreement);
            }
            Err(why) => self.hold(place, row.envelope, why),
        }
    }

    fn hold(&self, place: Place, envelope: EnvelopeId, why: String) {
        let now = Instant::now();
        let mut held = self.lock();
        let row = held.entry(place).or_insert_with(|| {
            tracing::warn!(%envelope, %why, "a message is held: it cannot be checked");
            HeldBack { envelope, why: String::new(), since: now, tries: 0, again: now }
        });
        row.again = now + (AGAIN_FIRST * 2u32.saturating_pow(row.tries)).min(AGAIN_MAX);
        row.tries = (row.tries + 1).min(16);
        row.why = why;
    }

    /// The scanner is another one than before: what it could not do, it may do now.
    fn retry_now(&self) {
        let now = Instant::now();
        self.lock().values_mut().for_each(|held| held.again = now);
    }

    /// Forgets what is not held any more: it was let out, or deleted.
    fn prune(&self) {
        let mailroom = &self.inner.parts.mailroom;
        self.lock().retain(|place, _| mailroom.is_to_release(place).unwrap_or(true));
    }

    /// Checks one message, records what comes of it, and gives the agreement whose counterpart is to be told.
    async fn check(&self, place: Place, row: ToRelease, scan: bool) -> Told {
        let parts = &self.inner.parts;
        let checked = match self.look(&row, scan).await {
            // It was purged while it was looked at: nothing is there to hold, and nothing was found.
            _ if !parts.mailroom.is_to_release(&place).unwrap_or(true) => return Ok(None),
            Outcome::Done(checked) => checked,
            Outcome::Hold(why) => return Err(why),
        };
        if let Checked::Found(what) = &checked {
            tracing::warn!(envelope = %row.envelope, peer = %row.from, %what, "a message is put into quarantine");
        }
        let own = parts.entity.current();
        let moved = parts.mailroom.checked(own, (place, row), checked).await.map_err(|error| error.to_string())?;
        Ok(moved.map(|message| message.agreement))
    }

    async fn look(&self, row: &ToRelease, scan: bool) -> Outcome {
        let Parts { mailroom, scanner, pool, .. } = &self.inner.parts;
        let (room, waiting) = (mailroom.clone(), *row);
        let read = tokio::task::spawn_blocking(move || {
            let Some(message) = room.unchecked(&waiting)? else { return Ok::<_, MailError>(None) };
            let (segments, key) = room.opening(&message)?;
            Ok(Some(read_manifest(&room.blobs, message.from, &segments, key, Bounds::PROTOCOL)))
        });
        let manifest = match read.await {
            Ok(Ok(Some(Ok(manifest)))) => manifest,
            Ok(Ok(None)) => return Outcome::Done(Checked::Gone),
            Ok(Err(MailError::Missing)) => return Outcome::Hold("its key or its manifest is gone".to_owned()),
            Ok(Ok(Some(Err(ReadManifestError::Unopenable(why))))) => return found(&why),
            Ok(Ok(Some(Err(ReadManifestError::Local(error))))) => return Outcome::Hold(error.to_string()),
            Ok(Err(error)) => return Outcome::Hold(error.to_string()),
            Err(_) => return Outcome::Hold("the check was broken off".to_owned()),
        };
        let scanner = scanner.clone().filter(|_| scan);
        if scan && scanner.is_none() {
            return Outcome::Hold("no malware scanner is set".to_owned());
        }
        let (blobs, manifest) = (mailroom.blobs.clone(), Arc::new(manifest));
        match check_content(blobs, row.from, manifest, pool, scanner).await {
            Ok(()) => Outcome::Done(Checked::Passed),
            Err(CheckError::Content(TarStreamError::Object(why))) => found(&why),
            Err(CheckError::Content(TarStreamError::Unpack(why))) => found(&why),
            Err(CheckError::NotClean(NotClean::Found(name))) => Outcome::Done(Checked::Found(name)),
            Err(error) => Outcome::Hold(error.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, HeldBack>> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(why: &dyn std::fmt::Display) -> Outcome {
    Outcome::Done(Checked::Found(format!("it is not what its sender described: {why}")))
}

/// Waits for the scanner to become fit or unfit, for ever if there is none.
async fn changed(scanner: Option<&mut tokio::sync::watch::Receiver<u64>>) {
    let is_change = match scanner {
        Some(scanner) => scanner.changed().await.is_ok(),
        None => false,
    };
    if !is_change {
        std::future::pending::<()>().await;
    }
}

/// The agreement whose counterpart is to be told, if any, or why the message is held.
type Told = Result<Option<AgreementId>, String>;

/// Checks under way, at most [`AT_ONCE_MAX`].
#[derive(Default)]
struct Running {
    checks: JoinSet<Told>,
    rows: HashMap<Id, (Place, ToRelease)>,
}

impl Running {
    fn begin(&mut self, release: Release, place: Place, row: ToRelease, scan: bool) {
        let check = self.checks.spawn(async move { release.check(place, row, scan).await });
        self.rows.insert(check.id(), (place, row));
    }

    fn has_room_for(&self, place: &Place, row: &ToRelease) -> bool {
        let is_large = |row: &ToRelease| row.bytes >= LARGE_BYTES;
        let large = self.rows.values().filter(|(_, row)| is_large(row)).count();
        let runs = self.rows.values().any(|(running, _)| running == place);
        !runs && (!is_large(row) || large < LARGE_AT_ONCE_MAX)
    }
}

/// A channel for those that are owed a receipt.
pub fn told() -> (mpsc::Sender<AgreementId>, mpsc::Receiver<AgreementId>) {
    mpsc::channel(TOLD_MAX)
}
