//! What the log needs by itself: counts of days that are over, and once a day a look at every entry.
//!
//! **Invariant:** a log that is not what it was stays an alarm until a later look finds it whole; delivery goes on.
//! **Invariant:** a look that came to no end shows until one comes to its end: a log that nobody reads is not taken for whole.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pakt_protocol::time::Time;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::verify::verify_while;
use super::{Log, pace};
use crate::ambient;
use crate::store::StoreError;

/// How long after a start the log is read for the first time: what is urgent at a start goes first.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(30);
/// How often counts are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(3_600);
/// How often the whole log is read.
const LOOK_EVERY: Duration = Duration::from_secs(86_400);

/// What the last look that came to its end found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// When it was.
    pub at: Time,
    /// How many entries it read.
    pub entries: u64,
    /// What is wrong.
    pub fault: Option<String>,
}

/// A look that could not read the log to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// When it was.
    pub at: Time,
    /// Why.
    pub why: String,
}

/// What the looks since the start have shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looks {
    /// The last one that came to its end.
    pub looked: Option<Looked>,
    /// The last one, if it did not.
    pub unread: Option<Unread>,
}

/// Where the looks are kept.
#[derive(Debug, Default)]
pub(super) struct LastLook(Mutex<Looks>);

impl LastLook {
    fn change(&self, change: impl FnOnce(&mut Looks)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Log {
    /// What the looks since the start have shown.
    pub fn looks(&self) -> Looks {
        self.last_look.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the last look that came to its end found, if there was one since the start.
    pub fn looked(&self) -> Option<Looked> {
        self.looks().looked
    }

    /// Reads the whole log and keeps what was found; false if it was `stop`ped before the end. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails, which is kept too; a row that cannot be read is a finding, not an error.
    pub fn look(&self, stop: &CancellationToken) -> Result<bool, StoreError> {
        self.look_at(ambient::now(), stop).inspect_err(|error| self.note_unread(error.to_string()))
    }

    fn look_at(&self, at: Time, stop: &CancellationToken) -> Result<bool, StoreError> {
        let (entries, fault) = match self.store().read(|tx| verify_while(tx, &[], || !stop.is_cancelled())) {
            Ok(None) => return Ok(false),
            Ok(Some(Ok(verified))) => (verified.entries, None),
            Ok(Some(Err(tampered))) => (self.size()?, Some(tampered.to_string())),
            Err(StoreError::Damaged(table)) => (self.size()?, Some(format!("a row of {table} cannot be read"))),
            Err(error) => return Err(error),
        };
        match &fault {
            None => tracing::info!(entries, "the audit log was read: every entry is as it was written"),
            Some(fault) => tracing::error!(entries, %fault, "the audit log is not what it was"),
        }
        self.last_look.change(|looks| *looks = Looks { looked: Some(Looked { at, entries, fault }), unread: None });
        Ok(true)
    }

    /// Keeps that a look came to no end; what an earlier one found stays.
    pub(super) fn note_unread(&self, why: String) {
        let at = ambient::now();
        self.last_look.change(|looks| looks.unread = Some(Unread { at, why }));
    }

    /// The number of entries.
    ///
    /// # Errors
    /// When the store fails.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.store().read(super::size)
    }

    /// Writes the counts of what was left out on days that are over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tidy(&self, now: Time) -> Result<(), StoreError> {
        if !self.store().read(|tx| pace::is_due(tx, now))? {
            return Ok(());
        }
        self.store().write(move |tx| pace::settle(tx, now)).await
    }
}

/// Keeps the log until `stop`; `changed` is called when there is something new to see.
pub async fn keep(log: Log, stop: CancellationToken, changed: impl Fn()) {
    let mut ticks = interval_at(Instant::now() + FIRST_LOOK_AFTER, TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = log.tidy(ambient::now()).await {
            tracing::warn!(%error, "the counts of the audit log could not be written; trying again in an hour");
        }
        if looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            continue;
        }
        let (reading, ending) = (log.clone(), stop.clone());
        match tokio::task::spawn_blocking(move || reading.look(&ending)).await {
            Ok(Ok(_)) => looked = Some(Instant::now()),
            Ok(Err(error)) => tracing::warn!(%error, "the audit log could not be read; trying again in an hour"),
            Err(_) => {
                tracing::error!("the look at the audit log was broken off; trying again in an hour");
                log.note_unread("an internal error broke it off".to_owned());
            }
        }
        changed();
    }
}
