//! Directory without publicity: the listings that counterparts have handed in to a steward, and this entity's own
//! listings at its stewards.
//!
//! **Invariant:** what is shown is durable, the newest that its entity has signed, and of an agreement in force.
//! **Invariant:** a number is never used for two listings of this entity, also not after a restored backup.

mod config;

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_protocol::audit::{DirectoryStep, Event};
use pakt_protocol::directory::{Question, Shown, page};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::listing::{Entry, LISTING_LASTS_MAX, Listing, verify_from};
use pakt_protocol::record::page::Page;
use pakt_protocol::record::{Record as _, RecordError, Signed};
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};

pub use config::DirectoryConfig;

use crate::ambient;
use crate::audit;
use crate::book::{Agreement, Book, BookError};
use crate::entity::Entity;
use crate::store::tables::{LISTINGS, OWN_LISTINGS};
use crate::store::{Store, StoreError, WriteTx};

/// Listings that are read at start; far above what one steward has.
const ROWS_MAX: usize = 100_000;
/// A listing with less time left than this is signed anew.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(30 * 86_400);

/// A listing that a counterpart has handed in; its entity is the key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ListingRow {
    agreement: AgreementId,
    listing: Signed<Listing>,
}

/// This entity's listing at a steward; the agreement with it is the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnListing {
    /// The newest that was signed.
    pub(crate) listing: Signed<Listing>,
    /// Whether it is to be listed, or was taken back.
    pub(crate) wanted: Option<Wanted>,
    /// How far the newest one is.
    pub(crate) state: ListingState,
}

/// What an entity wants to have listed; name, number and card are its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Where it is; may be empty.
    pub town: String,
    /// What it offers.
    pub offers: Vec<String>,
}

/// What the steward has said about the newest listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListingState {
    /// Nothing yet.
    Waiting,
    /// It holds it.
    Taken,
    /// It keeps no directory, or does not take it.
    Refused,
}

/// Who is listed at this steward, without the listings themselves.
type Index = BTreeMap<EntityId, (AgreementId, Shown)>;

/// The directory; clones share it.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    book: Book,
    entity: Entity,
    config: DirectoryConfig,
    index: RwLock<Index>,
}

impl Directory {
    /// Reads who is listed. Blocks on the disk.
    ///
    /// # Errors
    /// When the store fails or a row is damaged.
    pub fn open(store: Store, book: Book, entity: Entity, config: DirectoryConfig) -> Result<Directory, StoreError> {
        let mut index = Index::new();
        for (entity, row) in store.read(|tx| tx.range(&LISTINGS, .., ROWS_MAX))? {
            let listing = row.listing.peek().map_err(|_| StoreError::Damaged(LISTINGS.name()))?;
            if let Some(shown) = Shown::of(&listing) {
                index.insert(entity, (row.agreement, shown));
            }
        }
        Ok(Directory { inner: Arc::new(Inner { store, book, entity, config, index: RwLock::new(index) }) })
    }

    /// Whether this node keeps a directory for its counterparts.
    pub fn is_steward(&self) -> bool {
        self.inner.config.steward
    }

    // ------------------------------------------------------------------------------------------------- the steward

    /// Takes the newest listing of a counterpart; true once it is durable, false if it is not acceptable here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn take(&self, from: &Agreement, signed: Signed<Listing>) -> Result<bool, StoreError> {
        let other = from.counterpart();
        let own = self.inner.entity.id();
        let checked = verify_from(&signed, &from.node, (&other.name, &other.number), &own);
        let listing = match checked {
            Ok(listing) if self.is_steward() => listing,
            Ok(_) => return Ok(false),
            Err(error) => {
                tracing::info!(agreement = %from.id, %error, "a listing was refused");
                return Ok(false);
            }
        };
        let (inner, id, entity) = (self.inner.clone(), from.id, other.entity);
        let write = self.inner.store.write(move |tx| {
            if let Some(known) = tx.get(&LISTINGS, &entity)? {
                let counter = counter_of(&known.listing).ok_or(StoreError::Damaged(LISTINGS.name()))?;
                let same = known.listing.body() == signed.body();
                if known.agreement == id && (same || counter >= listing.counter) {
                    return Ok(same);
                }
            }
            tx.put(&LISTINGS, &entity, &ListingRow { agreement: id, listing: signed })?;
            let step = if listing.entry.is_some() { DirectoryStep::Listed } else { DirectoryStep::Unlisted };
            let event = Event::Directory { agreement: id, entity, counter: listing.counter, step };
            audit::append_paced(tx, (id, entity), event)?;
            let shown = Shown::of(&listing);
            inner.on_commit(tx, move |index| {
                index.remove(&entity);
                if let Some(shown) = shown {
                    index.insert(entity, (id, shown));
                }
            });
            Ok::<_, StoreError>(true)
        });
        write.await
    }

    /// The signed page that answers a question of a counterpart.
    pub fn answer(&self, question: &Question, now: Time) -> Signed<Page> {
        let inner = &self.inner;
        let from = question.after.map_or(Unbounded, Excluded);
        let index = inner.index.read().unwrap_or_else(PoisonError::into_inner);
        let shown = index.range((from, Unbounded)).filter(|(_, (agreement, shown))| {
            let agreement = inner.book.get(agreement);
            let listed = |agreement: &Agreement| agreement.in_force(now) && shown.holds(&agreement.node, now);
            agreement.is_some_and(|agreement| listed(&agreement))
        });
        let listings = shown.filter_map(|(entity, _)| {
            let row = inner.store.read(|tx| tx.get(&LISTINGS, entity));
            row.ok().flatten().map(|row| (*entity, row.listing))
        });
        let page = page(question, listings, now);
        Signed::create(&page, |domain, bytes| inner.entity.current().statement().sign(domain, bytes))
    }

    /// Whether an entity is shown here now.
    pub fn lists(&self, entity: &EntityId) -> bool {
        self.inner.index.read().unwrap_or_else(PoisonError::into_inner).contains_key(entity)
    }

    // ------------------------------------------------------------------------------------- an entity that is listed

    /// Signs what is to be listed at a steward, or that nothing is any more; it is told at the next occasion.
    ///
    /// # Errors
    /// [`BookError::Record`] for what cannot be listed, or when the store fails.
    pub async fn publish(&self, with: &Agreement, wanted: Option<Wanted>) -> Result<(), BookError> {
        self.sign(with, wanted, ambient::now()).await.map(drop)
    }

    async fn sign(&self, with: &Agreement, wanted: Option<Wanted>, now: Time) -> Result<OwnListing, BookError> {
        let card = self.inner.book.own_card()?;
        let own = with.own_party().clone();
        let (inner, id, steward) = (self.inner.clone(), with.id, with.counterpart().entity);
        let write = self.inner.store.write(move |tx| {
            let last = tx.get(&OWN_LISTINGS, &id)?.and_then(|row| counter_of(&row.listing)).unwrap_or(0);
            let entry = wanted.clone().map(|Wanted { town, offers }| Entry {
                name: own.name,
                number: own.number,
                town,
                offers,
                card,
            });
            let listing = Listing {
                entity: own.entity,
                steward,
                counter: pakt_protocol::door::next_counter(last, now),
                made_at: now,
                valid_until: now + LISTING_LASTS_MAX,
                entry,
            };
            let step = if wanted.is_some() { DirectoryStep::Published } else { DirectoryStep::Withdrawn };
            let event = Event::Directory { agreement: id, entity: steward, counter: listing.counter, step };
            let listing = inner.signed(&listing)?;
            audit::append(tx, event)?;
            let row = OwnListing { listing, wanted, state: ListingState::Waiting };
            tx.put(&OWN_LISTINGS, &id, &row)?;
            Ok(row)
        });
        write.await
    }

    /// What a steward is to be told now: what it has not taken yet, or a listing whose card or time is running out.
    ///
    /// # Errors
    /// When it cannot be signed, or the store fails.
    pub async fn to_publish(&self, with: &Agreement, now: Time) -> Result<Option<Signed<Listing>>, BookError> {
        let Some(row) = self.own(&with.id)? else { return Ok(None) };
        let listing = row.listing.peek()?;
        let outdated = match &listing.entry {
            Some(entry) => {
                let (shown, current) = (entry.card.peek()?, self.inner.book.own_card()?.peek()?);
                shown.chain != current.chain
                    || shown.addresses != current.addresses
                    || listing.valid_until < now + RENEWED_BEFORE_END
            }
            None => false,
        };
        match row.state {
            _ if outdated => Ok(Some(self.sign(with, row.wanted, now).await?.listing)),
            ListingState::Waiting => Ok(Some(row.listing)),
            ListingState::Taken | ListingState::Refused => Ok(None),
        }
    }

    /// The steward has said what became of a listing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn published(&self, with: AgreementId, counter: u64, taken: bool) -> Result<(), StoreError> {
        let write = self.inner.store.write(move |tx| {
            let Some(row) = tx.get(&OWN_LISTINGS, &with)? else { return Ok(()) };
            if counter_of(&row.listing) != Some(counter) {
                return Ok(());
            }
            let state = if taken { ListingState::Taken } else { ListingState::Refused };
            if row.state != state {
                let entity = row.listing.peek().map_err(|_| StoreError::Damaged(OWN_LISTINGS.name()))?.steward;
                let step = if taken { DirectoryStep::Taken } else { DirectoryStep::Refused };
                let event = Event::Directory { agreement: with, entity, counter, step };
                audit::append_paced(tx, (with, entity), event)?;
            }
            tx.put(&OWN_LISTINGS, &with, &OwnListing { state, ..row })
        });
        write.await
    }

    /// This entity's listing at the steward of an agreement.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn own(&self, with: &AgreementId) -> Result<Option<OwnListing>, StoreError> {
        self.inner.store.read(|tx| tx.get(&OWN_LISTINGS, with))
    }

    /// Where this entity is listed or was: its agreements with stewards.
    ///
    /// # Errors
    /// When the store fails.
    pub fn stewards(&self) -> Result<Vec<AgreementId>, StoreError> {
        let rows = self.inner.store.read(|tx| tx.range(&OWN_LISTINGS, .., ROWS_MAX))?;
        let known = rows.into_iter().filter(|(_, row)| row.state == ListingState::Taken);
        Ok(known.map(|(id, _)| id).collect())
    }

    /// Forgets both sides' listings under an agreement that has ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget(&self, agreement: &Agreement) -> Result<(), StoreError> {
        let (inner, id, entity) = (self.inner.clone(), agreement.id, agreement.counterpart().entity);
        let write = self.inner.store.write(move |tx| {
            tx.remove(&OWN_LISTINGS, &id)?;
            if tx.get(&LISTINGS, &entity)?.is_some_and(|row| row.agreement == id) {
                tx.remove(&LISTINGS, &entity)?;
                inner.on_commit(tx, move |index| {
                    index.remove(&entity);
                });
            }
            Ok(())
        });
        write.await
    }
}

impl Inner {
    /// Signs a listing that every reader will take.
    fn signed(&self, listing: &Listing) -> Result<Signed<Listing>, RecordError> {
        let signed = Signed::create(listing, |domain, bytes| self.entity.current().statement().sign(domain, bytes));
        if signed.body().len() > Listing::BYTES_MAX {
            return Err(RecordError::Field("the listing is longer than a directory takes"));
        }
        let party = self.entity.party();
        verify_from(&signed, &self.entity.node(), (&party.name, &party.number), &listing.steward)?;
        Ok(signed)
    }

    fn on_commit(self: &Arc<Inner>, tx: &mut WriteTx, change: impl FnOnce(&mut Index) + Send + 'static) {
        let inner = self.clone();
        tx.on_commit(move || change(&mut inner.index.write().unwrap_or_else(PoisonError::into_inner)));
    }
}

fn counter_of(listing: &Signed<Listing>) -> Option<u64> {
    Some(listing.peek().ok()?.counter)
}
