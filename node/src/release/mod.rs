//! From `delivered` to `released`: every message is read to its last byte, scanned where that is demanded, and only then
//! seen by anybody.
//!
//! ```text
//! TO_RELEASE --room?--> check (a few at once, one thread that leaves the processor to others)
//!                          |--passed--> released, receipt owed
//!                          |--found --> quarantined, receipt owed
//!                          \--cannot be told now (scanner gone, beyond its limits, own disk)--> held, again later,
//!                                                                                       after what was never checked
//! ```
//!
//! **Invariant:** what is held stays unseen: no failure of the scanner, of the disk or of this program releases anything.
//! **Invariant:** a few messages are checked at once; which ones is the matter of `running`.
//! **Invariant:** no scan goes on for ever: not when the scanner hangs, not when its content takes the scanner long.

mod running;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pakt_protocol::content::manifest::{Bounds, Manifest, Totals};
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::running::Running;
use crate::content::{CheckError, ContentPool, NotClean, ReadManifestError, TarStreamError};
use crate::content::{check_content, read_manifest};
use crate::entity::Entity;
use crate::mailroom::receipts::Arrived;
use crate::mailroom::release::{Checked, Place, ToRelease};
use crate::mailroom::{MailError, Mailroom};
use crate::scan::Scanner;

/// Rows that are looked through at a time for one that may go.
const PAGE: usize = 32;
/// A message that could not be checked is tried again after this time, twice that, and so on.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
/// And this often at last.
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// What the same scanner says again only after much work waits for another one, or for so long.
const AGAIN_LATE: Duration = Duration::from_secs(4 * 3_600);
/// The queue is looked through this often whatever happens.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The scan of a message may take this long whatever it holds: the longest of single files among it (clamd's `MaxScanTime`).
const SCAN_TIME_MIN: Duration = Duration::from_secs(1_800);
/// And so much longer for each file; clamd takes about a millisecond for a small one.
const SCAN_TIME_OF_FILE: Duration = Duration::from_millis(5);
/// And a second longer for so many bytes; clamd takes at least ten times as many.
const SCANNED_PER_SECOND: u64 = 2 << 20;
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
    /// When it is tried again, unless the scanner changes before.
    pub again: Instant,
    row: ToRelease,
    tries: u32,
}

impl HeldBack {
    /// The message, as receipts name it.
    pub fn arrived(&self) -> Arrived {
        self.row.arrived()
    }
}

struct Inner {
    parts: Parts,
    scan_time_min: Duration,
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
    Hold(Held),
}

/// Why a message is held, and for how long.
struct Held {
    why: String,
    /// Whether the same scanner would come to the same end, and only after it has done all its work again.
    is_late: bool,
}

impl Held {
    fn late(why: String) -> Held {
        Held { why, is_late: true }
    }
}

impl<T: std::fmt::Display> From<T> for Held {
    fn from(why: T) -> Held {
        Held { why: why.to_string(), is_late: false }
    }
}

impl Release {
    /// A check over these parts; [`Release::run`] does it.
    pub fn new(parts: Parts) -> Release {
        Release::paced(parts, SCAN_TIME_MIN)
    }

    pub(crate) fn paced(parts: Parts, scan_time_min: Duration) -> Release {
        Release { inner: Arc::new(Inner { parts, scan_time_min, held: Mutex::default() }) }
    }

    /// The scanner that is asked, if there is one.
    pub fn scanner(&self) -> Option<&Scanner> {
        self.inner.parts.scanner.as_ref()
    }

    /// Messages that could not be checked, and why.
    pub fn held(&self) -> Vec<HeldBack> {
        self.lock().values().cloned().collect()
    }

    /// Whether a scanner must pass a message before it is seen.
    pub fn scans(&self, row: &ToRelease) -> bool {
        !row.by_hand && (row.scan || self.inner.parts.scan_all)
    }

    /// Why nothing can be scanned now, for people.
    pub fn unfit(&self) -> Option<String> {
        match self.scanner().map(Scanner::fit) {
            None => Some("no malware scanner is set".to_owned()),
            Some(Err(why)) => Some(format!("the malware scanner cannot be used: {why}")),
            Some(Ok(_)) => None,
        }
    }

    /// What waits for the scanner, urgent ones first, then the newest, at most `limit`.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn waiting(&self, limit: usize) -> Result<Vec<ToRelease>, MailError> {
        let rows = self.inner.parts.mailroom.newest_to_release(self.inner.parts.scan_all, limit)?;
        Ok(rows.into_iter().filter(|row| self.scans(row)).collect())
    }

    /// Whether it is for the operator to let out a message that waits for its check: a scanner must pass it, or it is held.
    ///
    /// # Errors
    /// [`MailError::Store`].
    pub fn may_let_out(&self, arrived: Arrived) -> Result<bool, MailError> {
        let waiting = self.inner.parts.mailroom.waiting_to_release(arrived)?;
        let is_held = |row: &ToRelease| self.lock().values().any(|held| held.row == *row);
        Ok(waiting.is_some_and(|row| self.scans(&row) || is_held(&row)))
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
                () = due.notified() => self.prune(&running),
                () = changed(scanner.as_mut()) => self.retry_now(),
                (place, row, outcome) = running.ended() => self.end(place, row, outcome, &told),
                () = sleep_until(again) => self.prune(&running),
            }
        }
        running.shutdown().await;
    }

    /// Starts checks while there is room; gives when to look again.
    fn start_some(&self, running: &mut Running) -> Result<Instant, MailError> {
        let now = Instant::now();
        let parts = &self.inner.parts;
        let may_scan = parts.scanner.as_ref().is_some_and(|scanner| scanner.fit().is_ok());
        if !may_scan {
            running.break_off(|check| check.scan);
        }
        self.start_fresh(running, may_scan)?;
        self.start_again(running, may_scan, now);
        let next = self.lock().values().map(|held| held.again).filter(|again| *again > now).min();
        Ok(next.unwrap_or(now + LOOK_EVERY).min(now + LOOK_EVERY))
    }

    /// What was never checked goes first: what is held may cost as much each time, and come to nothing.
    fn start_fresh(&self, running: &mut Running, may_scan: bool) -> Result<(), MailError> {
        let mut after = None;
        while !running.is_full() {
            // What needs a scanner waits for one without being looked at.
            let may_scan = may_scan && running.has_room_to_scan();
            let page = self.inner.parts.mailroom.to_release(after, may_scan, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (place, row) in page {
                let scan = self.scans(&row);
                let is_held = self.lock().contains_key(&place);
                if !is_held && (!scan || may_scan) && running.has_room_for(&place, &row, scan) {
                    running.begin(self.clone(), place, row, scan);
                }
            }
        }
        Ok(())
    }

    /// What is held and due, whatever has waited longest first.
    fn start_again(&self, running: &mut Running, may_scan: bool, now: Instant) {
        let held = self.lock();
        let mut due: Vec<_> = held.iter().filter(|(_, held)| held.again <= now).collect();
        due.sort_by_key(|(_, held)| held.again);
        for (place, HeldBack { row, .. }) in due {
            let scan = self.scans(row);
            if (!scan || may_scan) && running.has_room_for(place, row, scan) && self.still_waits(place, row) {
                running.begin(self.clone(), *place, *row, scan);
            }
        }
    }

    fn end(&self, place: Place, row: ToRelease, outcome: Told, told: &mpsc::Sender<AgreementId>) {
        match outcome {
            Ok(None) => drop(self.lock().remove(&place)),
            Ok(Some(agreement)) => {
                self.lock().remove(&place);
                // A full queue only costs that the counterpart is told at the next session or receipt.
                let _ = told.try_send(agreement);
            }
            Err(why) => self.hold(place, row, why),
        }
    }

    fn hold(&self, place: Place, row: ToRelease, Held { why, is_late }: Held) {
        let now = Instant::now();
        let mut held = self.lock();
        let held = held.entry(place).or_insert_with(|| {
            let envelope = row.envelope;
            tracing::warn!(%envelope, %why, "a message is held: it cannot be checked");
            HeldBack { envelope, why: String::new(), since: now, again: now, row, tries: 0 }
        });
        let soon = (AGAIN_FIRST * 2u32.saturating_pow(held.tries)).min(AGAIN_MAX);
        held.again = now + if is_late { AGAIN_LATE } else { soon };
        held.tries = (held.tries + 1).min(16);
        held.why = why;
    }

    /// The scanner is another one than before: what it could not do, it may do now.
    fn retry_now(&self) {
        let now = Instant::now();
        self.lock().values_mut().for_each(|held| held.again = now);
    }

    /// Forgets what is not held any more, and breaks off what need not be checked any more: it was let out, or deleted.
    fn prune(&self, running: &Running) {
        self.lock().retain(|place, held| self.still_waits(place, &held.row));
        running.break_off(|check| !self.still_waits(&check.place, &check.row));
    }

    /// Whether a message waits for its check as it did; it may where the store cannot tell.
    fn still_waits(&self, place: &Place, row: &ToRelease) -> bool {
        self.inner.parts.mailroom.is_to_release(place, row).unwrap_or(true)
    }

    /// Checks one message, records what comes of it, and gives the agreement whose counterpart is to be told.
    async fn check(&self, place: Place, row: ToRelease, scan: bool, stop: &CancellationToken) -> Told {
        let parts = &self.inner.parts;
        let checked = match self.look(&row, scan, stop).await {
            // It was purged or let out while it was looked at: nothing is there to hold, and nothing was found.
            _ if !self.still_waits(&place, &row) => return Ok(None),
            Outcome::Done(checked) => checked,
            Outcome::Hold(why) => return Err(why),
        };
        if let Checked::Found(what) = &checked {
            tracing::warn!(envelope = %row.envelope, peer = %row.from, %what, "a message is put into quarantine");
        }
        let own = parts.entity.current();
        let moved = parts.mailroom.checked(own, (place, row), checked).await?;
        Ok(moved.map(|message| message.agreement))
    }

    async fn look(&self, row: &ToRelease, scan: bool, stop: &CancellationToken) -> Outcome {
        let Parts { mailroom, scanner, pool, .. } = &self.inner.parts;
        // Read to its end whatever happens, or more manifests than are meant to would lie in memory.
        let manifest = match self.manifest(row).await {
            Ok(manifest) => Arc::new(manifest),
            Err(outcome) => return outcome,
        };
        let scanner = scanner.clone().filter(|_| scan);
        if let (true, None) = (scan, &scanner) {
            return Outcome::Hold(self.why_broken_off().into());
        }
        let time = scan.then(|| self.inner.scan_time_min.saturating_add(scan_time(&manifest.totals)));
        let checked = tokio::select! {
            biased;
            () = stop.cancelled() => return Outcome::Hold(self.why_broken_off().into()),
            checked = check_content(mailroom.blobs.clone(), row.from, manifest, pool, scanner) => checked,
            time = over(time) => return Outcome::Hold(Held::late(too_long(time))),
        };
        match checked {
            Ok(()) => Outcome::Done(Checked::Passed),
            Err(CheckError::Content(TarStreamError::Object(why))) => found(&why),
            Err(CheckError::Content(TarStreamError::Unpack(why))) => found(&why),
            Err(CheckError::NotClean(NotClean::Found(name))) => Outcome::Done(Checked::Found(name)),
            Err(CheckError::NotClean(beyond @ NotClean::Beyond(_))) => Outcome::Hold(Held::late(beyond.to_string())),
            Err(error) => Outcome::Hold(error.into()),
        }
    }

    async fn manifest(&self, row: &ToRelease) -> Result<Manifest, Outcome> {
        let (room, waiting) = (self.inner.parts.mailroom.clone(), *row);
        let read = tokio::task::spawn_blocking(move || {
            let Some(message) = room.unchecked(&waiting)? else { return Ok::<_, MailError>(None) };
            let (segments, key) = room.opening(&message)?;
            Ok(Some(read_manifest(&room.blobs, message.from, &segments, key, Bounds::PROTOCOL)))
        });
        Err(match read.await {
            Ok(Ok(Some(Ok(manifest)))) => return Ok(manifest),
            Ok(Ok(None)) => Outcome::Done(Checked::Gone),
            Ok(Err(MailError::Missing)) => Outcome::Hold("its key or its manifest is gone".into()),
            Ok(Ok(Some(Err(ReadManifestError::Unopenable(why))))) => found(&why),
            Ok(Ok(Some(Err(ReadManifestError::Local(error))))) => Outcome::Hold(error.into()),
            Ok(Err(error)) => Outcome::Hold(error.into()),
            Err(_) => Outcome::Hold("the check was broken off".into()),
        })
    }

    fn why_broken_off(&self) -> String {
        self.unfit().unwrap_or_else(|| "the check was broken off".to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, HeldBack>> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(why: &dyn std::fmt::Display) -> Outcome {
    Outcome::Done(Checked::Found(format!("it is not what its sender described: {why}")))
}

/// How much longer than any the scan of a message may take that holds so much.
fn scan_time(totals: &Totals) -> Duration {
    let files = u32::try_from(totals.files).unwrap_or(u32::MAX);
    SCAN_TIME_OF_FILE.saturating_mul(files) + Duration::from_secs(totals.bytes / SCANNED_PER_SECOND)
}

fn too_long(time: Duration) -> String {
    format!("its scan took more than {}", humantime::format_duration(Duration::from_secs(time.as_secs())))
}

/// Waits until a time is over, for ever if there is none, and gives it.
async fn over(time: Option<Duration>) -> Duration {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
    time.unwrap_or_default()
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
type Told = Result<Option<AgreementId>, Held>;

/// A channel for those that are owed a receipt.
pub fn told() -> (mpsc::Sender<AgreementId>, mpsc::Receiver<AgreementId>) {
    mpsc::channel(TOLD_MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pakt_keys::EntityId;
    use pakt_keys::keystore::{HeldRoot, Keystore};
    use pakt_keys::sealing::ContactKey;
    use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
    use pakt_keys::store_seal::StoreKey;
    use pakt_protocol::codec;
    use pakt_protocol::record::chain::CertificateChain;
    use pakt_protocol::time::Time;

    use super::*;
    use crate::blob::Blobs;
    use crate::disk::FaultDisk;
    use crate::slots::Slots;
    use crate::store::tables::TO_RELEASE;
    use crate::store::{Store, StoreError, WriteTx};

    fn entity() -> Entity {
        let root = RootKey::from_seed([41; 32]);
        let (transport, statement) = (TransportKey::from_seed([42; 32]), StatementKey::from_seed([43; 32]));
        let contact = ContactKey::from_bytes(&[44; 32]);
        let keys = (transport.public(), statement.public(), contact.public());
        let chain = CertificateChain::create(&root, &RootKey::from_seed([45; 32]).public(), keys, Time(1));
        let (chain, store) = (codec::encode(1, &chain), StoreKey::from_bytes([7; 32]));
        let keys = Keystore { root: Some(HeldRoot::open(root)), transport, statement, contact, store, chain };
        Entity::new(keys, "Clinic".into(), "NO:ORGNR:1".into()).unwrap()
    }

    /// So many messages that need no scanner wait for their check, by number.
    async fn waiting(count: u8) -> (Release, Vec<ToRelease>) {
        let disk = FaultDisk::new();
        let store = Store::open(disk.clone(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let slots = Slots::open(store.clone(), disk.clone(), Path::new("/d/keys/slots")).unwrap();
        let blobs = Blobs::open_for_tests(store.clone(), disk, Path::new("/d/chunks")).unwrap();
        let row = |number| ToRelease {
            from: EntityId([3; 32]),
            envelope: EnvelopeId([number; 16]),
            scan: false,
            by_hand: false,
            bytes: 0,
        };
        let rows: Vec<ToRelease> = (0..count).map(row).collect();
        let put = rows.clone();
        let filled = store.write(move |tx: &mut WriteTx| {
            put.iter().zip(0..).try_for_each(|(row, number)| tx.put(&TO_RELEASE, &(1, number), row))?;
            Ok::<_, StoreError>(())
        });
        filled.await.unwrap();
        let (mailroom, pool) = (Mailroom::new(store, blobs, slots), ContentPool::start_low().unwrap());
        (Release::new(Parts { mailroom, entity: entity(), scanner: None, scan_all: false, pool }), rows)
    }

    #[tokio::test]
    async fn what_is_held_goes_after_what_was_never_checked() {
        let check = async |held: &[u8], expected: &[u64]| {
            let (release, rows) = waiting(10).await;
            for &number in held {
                release.hold((1, number.into()), rows[usize::from(number)], "own disk".into());
            }
            release.retry_now();
            let mut running = Running::default();
            release.start_some(&mut running).unwrap();
            assert_eq!(running.places(), expected, "{held:?}");
            running.shutdown().await;
        };
        check(&[], &[0, 1, 2, 3, 4, 5, 6, 7]).await;
        check(&[0, 1, 2], &[0, 3, 4, 5, 6, 7, 8, 9]).await;
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[0, 1, 2, 3, 4, 5, 6, 7]).await;
    }

    #[test]
    fn what_holds_more_may_be_scanned_for_longer() {
        let check = |files: u64, bytes: u64, seconds: u64| {
            let totals = Totals { files, bytes, ..Totals::default() };
            assert_eq!(scan_time(&totals).as_secs(), seconds, "{files} files, {bytes} bytes");
        };
        check(0, 0, 0);
        check(400, 16 << 20, 10);
        check(2_000_000, 0, 10_000);
        check(1, 100 << 30, 51_200);
        check(u64::MAX, 0, 21_474_836);
    }
}
