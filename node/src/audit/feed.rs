//! The log on its way to the machine's syslog: each entry one datagram to a Unix socket, in order.
//!
//! ```text
//! entries from the last one that went --lines--> socket --> how far it is, durable
//! ```
//! The socket is local; what forwards from there is the operator's syslog.
//!
//! **Invariant:** every entry goes at least once: after a crash the last batch comes again, none is left out.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::time::Time;
use tokio::net::UnixDatagram;
use tokio_util::sync::CancellationToken;

use super::export::Format;
use super::{Log, page, size};
use crate::store::StoreError;
use crate::store::tables::SYSLOG_SENT;

/// Entries between two notes of how far it is.
const BATCH: usize = 256;
/// How often is looked for new entries.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long after a failure it is tried again: the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// An entry that has waited longer than this is worth a warning.
const BEHIND: Duration = Duration::from_secs(3_600);

#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error("the socket does not take it: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Log {
    /// How many entries wait for the socket, if the oldest of them has waited for long.
    ///
    /// # Errors
    /// When the store fails.
    pub fn feed_behind(&self, now: Time) -> Result<Option<u64>, StoreError> {
        self.store().read(|tx| {
            let sent = tx.get(&SYSLOG_SENT, &())?.unwrap_or(0);
            let oldest = page(tx, sent, 1)?.into_iter().next();
            let waits = oldest.is_some_and(|(_, entry)| now.since(entry.at) > BEHIND);
            Ok(waits.then_some(size(tx)?.saturating_sub(sent)))
        })
    }
}

/// Sends what is new to the socket until `stop`.
pub async fn feed(log: Log, socket: PathBuf, stop: CancellationToken) {
    let mut wait = LOOK_EVERY;
    let mut failed = false;
    loop {
        match send_new(&log, &socket, &stop).await {
            Ok(()) => {
                if failed {
                    tracing::info!("the syslog socket takes the audit log again");
                }
                (wait, failed) = (LOOK_EVERY, false);
            }
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "the audit log does not reach the syslog socket; it is kept, and tried again");
                }
                wait = if failed { (wait * 2).min(RETRY.1) } else { RETRY.0 };
                failed = true;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Sends everything that has not gone yet.
async fn send_new(log: &Log, path: &Path, stop: &CancellationToken) -> Result<(), FeedError> {
    let own = log.entity().id();
    let mut socket: Option<UnixDatagram> = None;
    while !stop.is_cancelled() {
        let sent = log.store().read(|tx| tx.get(&SYSLOG_SENT, &()))?.unwrap_or(0);
        let lines = lines_from(log, &own, sent)?;
        if lines.is_empty() {
            break;
        }
        let to = match &mut socket {
            Some(socket) => socket,
            none => none.insert(connected(path)?),
        };
        for line in &lines {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                gone = to.send(line.as_bytes()) => gone?,
            };
        }
        let now_sent = sent + lines.len() as u64;
        log.store().write(move |tx| tx.put(&SYSLOG_SENT, &(), &now_sent)).await?;
    }
    Ok::<(), FeedError>(())
}

fn connected(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn lines_from(log: &Log, own: &EntityId, from: u64) -> Result<Vec<String>, StoreError> {
    let entries = log.store().read(|tx| page(tx, from, BATCH))?;
    Ok(entries.iter().map(|(number, entry)| Format::Syslog.line(own, *number, entry)).collect())
}
