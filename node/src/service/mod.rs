//! The node as the local API sees it: every call of the API is one method of [`Node`].
//!
//! It maps the API's types to the book, the mailroom, the content pipeline and the exchange, and finds the words for
//! people. [`start`] brings a whole node up and sees to its end.
//!
//! | file | what it answers |
//! |---|---|
//! | `start`, `ground`, `running` | how a node comes up, what it stands on, what it does by itself, how it stops |
//! | `agreements`, `peers`, `groups` | with whom, reachable or not, what is shown to them |
//! | `addresses` | where this node can be dialled |
//! | `directory`, `introductions` | who is listed at a steward, and what comes and goes through introducers |
//! | `drafts`, `earlier`, `sending` | how a message becomes sealed and durable |
//! | `outbox`, `delivery`, `inbox` | where messages are, and why not further |
//! | `quarantine` | what the malware check holds |
//! | `keep` | what takes messages away for good, and what keeps them |
//! | `log`, `entries` | the audit log: heads of it, its verification, its entries |
//! | `backup` | backups, and what restored counterparts lost |
//! | `reconcile` | whether what was sent is held |
//! | `status`, `errors`, `words` | counts, warnings, reasons |
//!
//! **Invariant:** nothing is decided here that a counterpart could notice; that is the exchange's and the protocol's.
//! **Invariant:** names, subjects and file names appear in answers to local users only, never in a log.

mod addresses;
mod agreements;
mod backup;
mod delivery;
mod directory;
mod drafts;
mod earlier;
mod entries;
pub(crate) mod errors;
mod ground;
mod groups;
mod health;
mod ids;
mod inbox;
mod introductions;
mod keep;
mod keys;
mod leftovers;
mod life;
mod log;
mod outbox;
mod peers;
mod quarantine;
mod reconcile;
mod root;
mod running;
mod sending;
mod start;
mod status;
mod take;
mod words;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::types::ServiceError;
use crate::backup::ledger::Ledger;
use crate::blob::Blobs;
use crate::book::Book;
use crate::config::Config;
use crate::content::{ContentPool, KnownContent};
use crate::directory::Directory;
use crate::entity::Entity;
use crate::exchange::Exchange;
use crate::introductions::Introductions;
use crate::keyring::Keyring;
use crate::mailroom::Mailroom;
use crate::net::{Net, SharedRules};
use crate::release::Release;
use drafts::Drafts;

pub(crate) use backup::summary_view;
pub use ground::Shared;
pub use log::verify_log;
#[cfg(test)]
pub(crate) use start::put_right;
pub(crate) use start::{CHUNKS_NAME, SLOTS_NAME};
pub use start::{STORE_NAME, start, start_in_memory};
pub(crate) use status::{peer_id, root_place};

/// What a call of the API gets.
type Answer<T> = Result<T, ServiceError>;

/// How a node ended; none while it runs.
type Ended = Option<Result<(), ServiceError>>;

/// A running node; clones share it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    entity: Entity,
    book: Book,
    mailroom: Mailroom,
    directory: Directory,
    introductions: Introductions,
    blobs: Blobs,
    known: KnownContent,
    net: Net,
    exchange: Exchange,
    /// Held while keys are replaced.
    keyring: Arc<tokio::sync::Mutex<Keyring>>,
    pool: ContentPool,
    release: Release,
    dial_rules: SharedRules,
    listen: Option<SocketAddr>,
    /// This entity's card as armoured text, the same as in its file.
    card: Mutex<String>,
    /// Held while `config.toml` is changed.
    config_file: tokio::sync::Mutex<()>,
    unprotected: bool,
    /// Seconds by which the clock jumped before this start.
    clock_jump: Option<i64>,
    started: Instant,
    drafts: Drafts,
    backups: backup::Backups,
    ledger: Option<Ledger>,
    /// Messages that are being sealed.
    submissions: TaskTracker,
    /// Ends what would go on by itself.
    stop: CancellationToken,
    changes: watch::Sender<u64>,
    ended: watch::Receiver<Ended>,
}

impl Node {
    fn card_text(&self) -> std::sync::MutexGuard<'_, String> {
        self.inner.card.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that grows with every visible change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Returns once the node has stopped: in order after its shutdown was asked for, or by a failure.
    ///
    /// # Errors
    /// The failure that stopped it.
    pub async fn stopped(&self) -> anyhow::Result<()> {
        let mut ended = self.inner.ended.clone();
        let ended = match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone(),
            Err(_) => None,
        };
        match ended {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => anyhow::bail!("the task that watches over the node has failed; see the log"),
        }
    }
}

/// Runs what blocks on the disk on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(errors::broken_off()))
}
