//! Introductions as they lie in the store: what is passed on, what strangers ask of this entity, and what it asks of them.
//!
//! Messages that leave are in `queue`, what arrives for this entity in `arrivals`, what the operator decides in
//! `decisions`. Who may say what is decided in `pakt_protocol::introduction`.
//!
//! **Invariant:** nothing that came through an introducer leads to a connection before the operator has accepted it.
//! **Invariant:** a letter that is passed on is never opened, and could not be.

mod arrivals;
mod config;
mod decisions;
mod queue;
pub(crate) mod rows;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::audit::{Event, IntroductionStep};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::time::Time;

pub use arrivals::Arrival;
pub use config::{GiveCard, IntroductionsConfig, Receive};
pub use decisions::IntroductionError;
pub use rows::Decision;

use crate::book::Book;
use crate::directory::Directory;
use crate::entity::Entity;
use crate::store::tables::{CARD_REQUESTS, CARDS_ASKED, RECEIVED};
use crate::store::{Store, StoreError};
use queue::Waiting;

/// Rows that are read at once; far above what limits let in.
const ROWS_MAX: usize = 100_000;
/// How long an undecided request for a card, or a card that was asked for, is kept.
const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// What the audit log says about a step under an agreement with an introducer.
fn step(agreement: AgreementId, entity: EntityId, step: IntroductionStep) -> Event {
    Event::Introduction { agreement, entity, step }
}

/// Introductions; clones share them.
#[derive(Clone)]
pub struct Introductions {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    book: Book,
    entity: Entity,
    directory: Directory,
    config: IntroductionsConfig,
    waiting: Mutex<Waiting>,
}

impl Introductions {
    /// Reads what waits. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails or a row is damaged.
    pub fn open(
        store: Store,
        book: Book,
        entity: Entity,
        directory: Directory,
        config: IntroductionsConfig,
    ) -> Result<Introductions, StoreError> {
        let waiting = Mutex::new(Waiting::load(&store)?);
        Ok(Introductions { inner: Arc::new(Inner { store, book, entity, directory, config, waiting }) })
    }

    /// Whether counterparts are introduced to each other here.
    pub fn passes_on(&self) -> bool {
        self.inner.config.pass_on.unwrap_or(self.inner.directory.is_steward())
    }

    /// Drops what is over: its time, its introducer's agreement, its recipient's.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tidy(&self, now: Time) -> Result<(), StoreError> {
        let book = self.inner.book.clone();
        let is_over = move |id: &AgreementId| book.get(id).is_none_or(|agreement| !agreement.in_force(now));
        let dropped = self.drop_out(now, is_over).await?;
        let write = self.inner.store.write(move |tx| {
            for (id, row) in tx.range(&RECEIVED, .., ROWS_MAX)? {
                if row.accept_by < now {
                    tx.remove(&RECEIVED, &id)?;
                }
            }
            for (entity, row) in tx.range(&CARD_REQUESTS, .., ROWS_MAX)? {
                if now.since(row.at) >= KEPT_FOR {
                    tx.remove(&CARD_REQUESTS, &entity)?;
                }
            }
            for (entity, row) in tx.range(&CARDS_ASKED, .., ROWS_MAX)? {
                if now.since(row.asked_at) >= KEPT_FOR {
                    tx.remove(&CARDS_ASKED, &entity)?;
                }
            }
            Ok::<_, StoreError>(())
        });
        if dropped > 0 {
            tracing::info!(dropped, "introduction messages were given up");
        }
        write.await
    }
}
