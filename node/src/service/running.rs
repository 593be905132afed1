//! What a node does by itself while it runs, and how it stops.
//!
//! ```text
//! stop taking messages -> sessions end, queues are parked -> lanes end -> own tasks end -> last commit -> store closed
//! ```
//!
//! **Invariant:** every task is owned and joined, each with a deadline; the whole stays under ten seconds.
//! **Invariant:** a store that could not make something durable ends the process; a restart repairs it.

use std::path::PathBuf;
use std::time::Duration;

use pakt_protocol::content::known::secret_tag;
use pakt_protocol::ids::{AgreementId, EnvelopeId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Ended;
use super::leftovers::erase_keys;
use super::status::ENDS_SOON;
use crate::ambient;
use crate::api::types::{ErrorCode, ServiceError};
use crate::audit;
use crate::backup::ledger::Ledger;
use crate::book::{Book, Standing};
use crate::clock;
use crate::content::KnownContent;
use crate::entity::Entity;
use crate::exchange::{Exchange, Progress};
use crate::introductions::Introductions;
use crate::mailroom::Mailroom;
use crate::net::Net;
use crate::release::Release;
use crate::slots::{SlotId, Slots};
use crate::store::Store;

/// How often is looked whether a new epoch is due.
const EPOCH_CHECK_EVERY: Duration = Duration::from_secs(3_600);
/// How often the key slots are written anew under a fresh key.
const SLOTS_REWRITE_EVERY: Duration = Duration::from_secs(86_400);
/// How often is looked for messages whose time is over.
const PURGE_EVERY: Duration = Duration::from_secs(600);
/// How often is looked whether the ledger of purges lacks something, beside every change.
const LEDGER_EVERY: Duration = Duration::from_secs(60);
/// How often the log says which agreements end soon.
const ENDS_WARNED_EVERY: Duration = Duration::from_secs(86_400);
/// How often introduction messages are looked through whose time may be over.
const INTRODUCTIONS_TIDY_EVERY: Duration = Duration::from_secs(3_600);
/// How often is looked whether known content must make room, or cannot be found again.
const KNOWN_UPKEEP_EVERY: Duration = Duration::from_secs(60);
/// How often memory is given back that content needed.
const COOL_EVERY: Duration = Duration::from_secs(30);
/// How often is looked whether what is under way has moved, while somebody watches.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// How long each step of stopping may take; together well under ten seconds.
const SUBMISSIONS_END: Duration = Duration::from_millis(1_000);
const EXCHANGE_END: Duration = Duration::from_millis(3_500);
const NET_END: Duration = Duration::from_millis(1_500);
const TASKS_END: Duration = Duration::from_millis(500);
const STORE_END: Duration = Duration::from_millis(1_000);

/// What has to be ended in order.
pub(super) struct Running {
    pub(super) store: Store,
    pub(super) slots: Slots,
    pub(super) book: Book,
    pub(super) introductions: Introductions,
    pub(super) known: KnownContent,
    /// What purges what is due, as whom, and where that is named.
    pub(super) upkeep: (Mailroom, Entity, Option<Ledger>),
    pub(super) net: Net,
    pub(super) exchange: Exchange,
    pub(super) submissions: TaskTracker,
    pub(super) release: Release,
    /// The socket that gets the audit log.
    pub(super) syslog: Option<PathBuf>,
    /// Key slots that were filled before this start.
    pub(super) old_keys: Vec<SlotId>,
    /// The order to stop.
    pub(super) shutdown: CancellationToken,
    /// Ends what goes on by itself; cancelled with `shutdown`, and when the node fails.
    pub(super) stop: CancellationToken,
}

impl Running {
    /// Starts what the node does by itself, and the task that sees to its end and tells it to `end`.
    pub(super) fn start(mut self, watching: JoinHandle<()>, end: watch::Sender<Ended>) {
        let epochs = tokio::spawn(roll_epochs(self.book.clone(), self.exchange.clone(), self.stop.clone()));
        let rewriting = tokio::spawn(rewrite_slots(self.slots.clone(), self.stop.clone()));
        let tidying = tokio::spawn(tidy_introductions(self.introductions.clone(), self.stop.clone()));
        let noting = tokio::spawn(note_clock(self.store.clone(), self.stop.clone()));
        let keeping = tokio::spawn(keep_known(self.known.clone(), self.book.clone(), self.stop.clone()));
        let log = self.exchange.log().clone();
        let (mailroom, entity, ledger) = self.upkeep.clone();
        let tell = mailroom.clone();
        let looking = tokio::spawn(audit::keep::keep(log.clone(), self.stop.clone(), move || tell.changed()));
        let feeding = self.syslog.clone().map(|socket| tokio::spawn(audit::feed::feed(log, socket, self.stop.clone())));
        let cooling = tokio::spawn(cool(mailroom.clone(), self.exchange.clone(), self.stop.clone()));
        let warning = tokio::spawn(warn_of_ends(self.book.clone(), self.stop.clone()));
        let old_keys = std::mem::take(&mut self.old_keys);
        let erasing = tokio::spawn(erase_keys(mailroom.clone(), self.book.clone(), old_keys, self.stop.clone()));
        let scanning = self.release.scanner().cloned().map(|scanner| tokio::spawn(scanner.watch(self.stop.clone())));
        let (to_tell, told) = crate::release::told();
        let releasing = tokio::spawn(self.release.clone().run(to_tell, self.stop.clone()));
        let telling = tokio::spawn(tell_released(self.exchange.clone(), told));
        let purging = tokio::spawn(purge_due(mailroom.clone(), entity, self.stop.clone()));
        let naming = tokio::spawn(keep_ledger(ledger, mailroom, self.stop.clone()));
        let mut tasks = vec![
            ("audit log", looking),
            ("release", releasing),
            ("receipts", telling),
            ("retention", purging),
            ("ledger", naming),
            ("ends", warning),
            ("memory", cooling),
            ("keys", erasing),
            ("watching", watching),
            ("epochs", epochs),
            ("slots", rewriting),
            ("introductions", tidying),
            ("clock", noting),
            ("known content", keeping),
        ];
        tasks.extend(feeding.map(|feeding| ("syslog", feeding)));
        tasks.extend(scanning.map(|scanning| ("scanner", scanning)));
        // Its end is what everybody waits for through the channel, so nobody has to join it.
        tokio::spawn(async move {
            let outcome = self.until_the_end().await;
            self.stop_in_order(tasks).await;
            end.send_replace(Some(outcome));
        });
    }

    /// Waits for the order to stop, or for a failure.
    async fn until_the_end(&self) -> Result<(), ServiceError> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(()),
            () = self.store.failed() => Err(ServiceError::new(
                ErrorCode::Failed,
                "the disk failed: something could not be made durable",
                "check the disk and its free space, then start the node again; nothing that was confirmed is lost",
            )),
            () = self.net.stopped() => {
                let message = "the network part of the node has failed";
                Err(ServiceError::new(ErrorCode::Failed, message, "start the node again and report its log"))
            }
        }
    }

    async fn stop_in_order(&self, tasks: Vec<(&'static str, JoinHandle<()>)>) {
        self.stop.cancel();
        self.submissions.close();
        within("submissions", SUBMISSIONS_END, self.submissions.wait()).await;
        within("exchange", EXCHANGE_END, self.exchange.shutdown()).await;
        within("net", NET_END, self.net.shutdown()).await;
        for (name, mut task) in tasks {
            within(name, TASKS_END, async { drop((&mut task).await) }).await;
            task.abort();
        }
        let store = self.store.clone();
        within("store", STORE_END, async { drop(tokio::task::spawn_blocking(move || store.close()).await) }).await;
    }
}

/// Waits for a step of stopping, but not for ever.
async fn within(step: &'static str, limit: Duration, work: impl Future<Output = ()>) {
    if timeout(limit, work).await.is_err() {
        tracing::warn!(step, "did not stop in time and is left behind");
    }
}

/// Begins an epoch a day and replaces old door grants, and tells the counterparts.
async fn roll_epochs(book: Book, exchange: Exchange, stop: CancellationToken) {
    let mut ticks = interval(EPOCH_CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match book.roll_epoch_if_due(ambient::service_now()).await {
            Ok(true) => exchange.rosters_changed().await,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot begin a new epoch; trying again in an hour"),
        }
        match book.renew_grants_if_due(ambient::service_now()).await {
            Ok(renewed) => exchange.grants_changed(&renewed).await,
            Err(error) => tracing::warn!(%error, "cannot make new door grants; trying again in an hour"),
        }
    }
}

/// Tells counterparts that their messages were released, until nothing is released any more.
async fn tell_released(exchange: Exchange, mut told: mpsc::Receiver<AgreementId>) {
    while let Some(agreement) = told.recv().await {
        exchange.receipts_owed(&agreement).await;
    }
}

/// Gives up introduction messages whose time is over.
async fn tidy_introductions(introductions: Introductions, stop: CancellationToken) {
    let mut ticks = interval(INTRODUCTIONS_TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = introductions.tidy(ambient::service_now()).await {
            tracing::warn!(%error, "cannot clear away old introductions; trying again in an hour");
        }
    }
}

/// Deletes what the agreements keep no longer, by the service clock.
async fn purge_due(mailroom: Mailroom, entity: Entity, stop: CancellationToken) {
    let mut ticks = interval(PURGE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match mailroom.purge_due(&entity, ambient::service_now()).await {
            Ok(0) => {}
            Ok(purged) => tracing::info!(purged, "messages were deleted: their time is over"),
            Err(error) => tracing::warn!(%error, "cannot delete what is due; trying again in ten minutes"),
        }
    }
}

/// Names purged messages beside the backups, soon after each, and again while that does not work.
async fn keep_ledger(ledger: Option<Ledger>, mailroom: Mailroom, stop: CancellationToken) {
    let Some(ledger) = ledger else { return };
    let mut changes = mailroom.changes();
    let mut ticks = interval(LEDGER_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        let naming = ledger.clone();
        match tokio::task::spawn_blocking(move || naming.flush()).await {
            Ok(Ok(_)) => failed = false,
            Ok(Err(error)) if !failed => {
                failed = true;
                tracing::warn!(%error, "purged messages cannot be named beside the backups; trying again every minute");
            }
            _ => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed(), if !failed => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
    }
}

/// Gives memory back that content needed: a quiet node holds none of it.
async fn cool(mailroom: Mailroom, exchange: Exchange, stop: CancellationToken) {
    let mut ticks = interval(COOL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        mailroom.blobs.cool();
        exchange.cool();
    }
}

/// Says once a day in the log which agreements end soon; `status` says it at any time.
async fn warn_of_ends(book: Book, stop: CancellationToken) {
    let mut ticks = interval(ENDS_WARNED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = ambient::now();
        for agreement in book.all() {
            let until = agreement.terms.valid_until;
            if agreement.standing == Standing::Active && now < until && until < now + ENDS_SOON {
                let days = until.since(now).as_secs() / 86_400;
                tracing::warn!(agreement = %agreement.id, days, "the agreement ends soon: renew it");
            }
        }
    }
}

/// Notes the clock now and then, and a last time at the end.
async fn note_clock(store: Store, stop: CancellationToken) {
    let mut ticks = interval(clock::NOTE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        if let Err(error) = clock::note(&store).await {
            tracing::warn!(%error, "cannot note the clock");
        }
        if last {
            return;
        }
    }
}

/// Takes known content away that cannot be found again or that there is no room for.
async fn keep_known(known: KnownContent, book: Book, stop: CancellationToken) {
    let mut ticks = interval(KNOWN_UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let kept = match book.live_dedup_secrets(ambient::now()) {
            Ok(secrets) => known.upkeep(&secrets.iter().map(secret_tag).collect()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "cannot look after known content; trying again in a minute");
        }
    }
    known.settled().await;
}

/// Writes the key slots anew once a day, so that erased keys cannot be found on the disk either.
async fn rewrite_slots(slots: Slots, stop: CancellationToken) {
    let mut ticks = interval(SLOTS_REWRITE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once; a node that restarts often still rewrites, which costs a moment.
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let slots = slots.clone();
        match tokio::task::spawn_blocking(move || slots.rewrite()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot rewrite the key slots; trying again tomorrow"),
            Err(_) => tracing::error!("the rewrite of the key slots was broken off"),
        }
    }
}

/// What watchers of the node see change without a commit: who is online, and how far content is.
#[derive(Default, PartialEq)]
struct Seen {
    peers: Vec<(bool, Option<String>, usize)>,
    under_way: Vec<(EnvelopeId, Progress)>,
}

impl Seen {
    fn now(book: &Book, exchange: &Exchange) -> Seen {
        let peer = |id| {
            let peer = exchange.peer(id);
            (peer.online, peer.reason, peer.lanes.len())
        };
        let peers = book.all().iter().map(|agreement| peer(&agreement.id)).collect();
        Seen { peers, under_way: exchange.under_way() }
    }
}

/// Counts `changes` up whenever something visible has changed: at once after a commit, else within half a second.
pub(super) async fn watch_changes(
    book: Book,
    mailroom: Mailroom,
    exchange: Exchange,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
) {
    let (mut book_changes, mut mail_changes) = (book.changes(), mailroom.changes());
    let mut ticks = interval(WATCH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    loop {
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = book_changes.changed() => changed.is_ok(),
            changed = mail_changes.changed() => changed.is_ok(),
            _ = ticks.tick(), if changes.receiver_count() > 0 => {
                let now = Seen::now(&book, &exchange);
                let differs = now != seen;
                seen = now;
                differs
            }
            // Nobody watches: look now and then whether somebody does.
            () = tokio::time::sleep(WATCH_EVERY), if changes.receiver_count() == 0 => false,
        };
        if changed {
            changes.send_modify(|revision| *revision += 1);
        }
    }
}
