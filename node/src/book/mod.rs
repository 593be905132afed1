//! The book: all that this node keeps about its counterparts. Agreements, what opens their doors and ours, groups,
//! rosters, epoch keys.
//!
//! Everything lies in the store; a copy that is small enough for memory answers all questions. Start reading at
//! [`Book`], then [`Agreement`] for what is known about one counterpart.
//!
//! **Invariant:** whatever a method returns as done is durable; the copy in memory changes only after the commit.
//! **Invariant:** rows are changed within one transaction from what the store holds, never from the copy in memory.
//! **Invariant:** no name, number or group leaves this module in a log line; ids may.

mod addresses;
mod agreement;
mod amend;
pub(crate) mod attest;
mod deposits;
mod doors;
mod draft;
mod epochs;
mod error;
mod find;
mod frozen;
mod grants;
mod groups;
mod life;
mod peer;
mod restored;
mod roster;
pub(crate) mod rows;
mod sign;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use pakt_keys::{EntityId, EpochKey};
use pakt_protocol::door::{DoorSecret, DoorTable};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::address::Address;
use pakt_protocol::record::card::{CardBody, SignedCard};
use pakt_protocol::record::roster::Roster;
use tokio::sync::watch;

pub use agreement::{Agreement, AgreementState, Amendment};
pub use attest::PeerAttestation;
pub(crate) use deposits::random;
pub use draft::TermsDraft;
pub(crate) use epochs::shift as shift_epochs;
pub use error::{BookError, FindError, FlightProblem, HelloProblem};
pub use frozen::Evidence;
pub use groups::{GroupRow, Shown};
pub use pakt_protocol::agreement::{AmendmentAnswer, END_OPEN_FOR, Standing, StatementAnswer};
pub(crate) use restored::after_restore;
pub use sign::read_card;

use crate::ambient;
use crate::entity::Entity;
use crate::slots::{SlotId, Slots};
use crate::store::tables::{
    AGREEMENTS, CHAINS, CONTACTS, EPOCHS, GROUPS, OWN_ROSTERS, PEER_ADDRESSES, PEER_ATTESTATIONS, PEER_ROSTERS,
};
use crate::store::{Store, StoreError, WriteTx};
use peer::Refusal;
use rows::{AddressRow, AgreementRow, ContactRow, EpochRow};

/// Agreements, groups or epochs that are read at start; far above what one node has.
const ROWS_MAX: usize = 100_000;

/// The book of one node; clones share it.
#[derive(Clone)]
pub struct Book {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    slots: Slots,
    entity: Entity,
    addresses: RwLock<Vec<Address>>,
    state: RwLock<State>,
    dial_counters: Mutex<HashMap<AgreementId, doors::Reserved>>,
    tries: Mutex<HashMap<AgreementId, grants::Tries>>,
    /// Why the last node that came as a counterpart was not believed; gone once one was.
    turned_away: Mutex<HashMap<AgreementId, HelloProblem>>,
    changes: watch::Sender<u64>,
    frozen: watch::Sender<u64>,
}

/// The copy in memory of what the store holds.
#[derive(Default)]
struct State {
    agreements: BTreeMap<AgreementId, Arc<Agreement>>,
    /// The secrets for each counterpart's door, newest first.
    held: HashMap<AgreementId, Vec<DoorSecret>>,
    /// The secrets that open this node's door, per agreement.
    granted: HashMap<AgreementId, Vec<DoorSecret>>,
    /// The doors of this node.
    doors: DoorTable,
    own_rosters: HashMap<AgreementId, Signed<Roster>>,
    /// The newest of each counterpart.
    attestations: HashMap<AgreementId, PeerAttestation>,
    /// Ordered by name.
    groups: Vec<GroupRow>,
    /// The newest is the current one.
    epochs: BTreeMap<u64, Epoch>,
}

struct Epoch {
    row: EpochRow,
    key: Arc<EpochKey>,
}

/// Whether a change is worth a commit.
enum Outcome<T> {
    Changed(T),
    Same(T),
}

impl Book {
    /// Reads the book; a fresh one gets the group `Reception`, shown to everybody, and its first epoch.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When the store or the slots fail, or a row is damaged.
    pub fn open(store: Store, slots: Slots, entity: Entity, own_addresses: Vec<Address>) -> Result<Book, BookError> {
        groups::make_first(&store)?;
        epochs::make_first(&store, &slots, ambient::now())?;
        let state = RwLock::new(load(&store, &slots)?);
        let (changes, _) = watch::channel(0);
        let (frozen, _) = watch::channel(0);
        let inner = Inner {
            store,
            slots,
            entity,
            addresses: RwLock::new(own_addresses),
            state,
            dial_counters: Mutex::default(),
            tries: Mutex::default(),
            turned_away: Mutex::default(),
            changes,
            frozen,
        };
        Ok(Book { inner: Arc::new(inner) })
    }

    /// All agreements, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Agreement>> {
        self.state().agreements.values().cloned().collect()
    }

    /// One agreement.
    pub fn get(&self, id: &AgreementId) -> Option<Arc<Agreement>> {
        self.state().agreements.get(id).cloned()
    }

    /// The agreement with an entity that counts: the active one, else the newest.
    pub fn by_entity(&self, entity: &EntityId) -> Option<Arc<Agreement>> {
        let state = self.state();
        let with_entity = state.agreements.values().filter(|agreement| agreement.counterpart().entity == *entity);
        with_entity.max_by_key(|agreement| agreement.rank()).cloned()
    }

    /// This entity's card as of now.
    ///
    /// # Errors
    /// [`BookError::Record`] when name, number or addresses break the rules of cards.
    pub fn own_card(&self) -> Result<SignedCard, BookError> {
        let (own, party) = (self.inner.entity.current(), self.inner.entity.party());
        let body = CardBody {
            name: party.name.clone(),
            number: party.number.clone(),
            chain: own.chain().clone(),
            addresses: self.own_addresses(),
            issued_at: ambient::now(),
        };
        Ok(body.sign(own.statement())?)
    }

    /// A number that grows with every change of the book.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// The key slots that the book refers to; others that hold no key of anybody else may be erased.
    pub fn slots_in_use(&self) -> Vec<SlotId> {
        self.state().epochs.values().map(|epoch| epoch.row.slot).collect()
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the row of one agreement, and the copy in memory after the commit.
    async fn change<T: Send + 'static>(
        &self,
        id: AgreementId,
        work: impl FnOnce(&mut WriteTx, &mut AgreementRow) -> Result<Outcome<T>, BookError> + Send + 'static,
    ) -> Result<T, BookError> {
        let inner = self.inner.clone();
        let write = self.inner.store.write(move |tx| {
            let mut row = tx.get(&AGREEMENTS, &id)?.ok_or(BookError::Unknown)?;
            match work(tx, &mut row)? {
                Outcome::Same(value) => Ok(value),
                Outcome::Changed(value) => {
                    inner.put(tx, row)?;
                    Ok(value)
                }
            }
        });
        write.await
    }
}

impl Inner {
    /// Writes a row, and the copy in memory once it is durable.
    fn put(self: &Arc<Inner>, tx: &mut WriteTx, row: AgreementRow) -> Result<(), BookError> {
        let view = Agreement::of_row(&row)?;
        tx.put(&AGREEMENTS, &view.id, &row)?;
        self.on_commit(tx, move |state| {
            let before = state.agreements.get(&view.id);
            let view = match before {
                Some(before) => view.with_what_the_row_lacks(before),
                None => view,
            };
            state.install(view, &row);
        });
        Ok(())
    }

    /// Has the copy in memory changed once this commit is durable.
    fn on_commit(self: &Arc<Inner>, tx: &mut WriteTx, change: impl FnOnce(&mut State) + Send + 'static) {
        let inner = self.clone();
        tx.on_commit(move || {
            change(&mut inner.state_mut());
            inner.changes.send_modify(|number| *number += 1);
        });
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn turned_away(&self) -> MutexGuard<'_, HashMap<AgreementId, HelloProblem>> {
        self.turned_away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn install(&mut self, view: Agreement, row: &AgreementRow) {
        let id = view.id;
        let held: Vec<_> = row.held.iter().map(|held| held.secret.clone()).collect();
        if held.is_empty() {
            self.held.remove(&id)
        } else {
            self.held.insert(id, held)
        };
        if view.has_door() {
            let secrets: Vec<_> = row.granted.iter().map(|granted| granted.secret.clone()).collect();
            self.doors.set(id, view.counterpart().entity, &secrets);
            self.granted.insert(id, secrets);
        } else {
            self.doors.remove(&id);
            self.granted.remove(&id);
        }
        self.agreements.insert(id, Arc::new(view));
    }

    /// Changes what is kept beside the row of an agreement.
    fn amend(&mut self, id: &AgreementId, change: impl FnOnce(&mut Agreement)) {
        if let Some(agreement) = self.agreements.get_mut(id) {
            change(Arc::make_mut(agreement));
        }
    }
}

fn load(store: &Store, slots: &Slots) -> Result<State, BookError> {
    let mut state = State::default();
    let epochs = store.read(|tx| {
        for (id, row) in tx.range(&AGREEMENTS, .., ROWS_MAX)? {
            let mut view = Agreement::of_row(&row).map_err(|_| StoreError::Damaged(AGREEMENTS.name()))?;
            if let Some(roster) = tx.get(&PEER_ROSTERS, &id)? {
                view.roster = Some(roster.peek().map_err(|_| StoreError::Damaged(PEER_ROSTERS.name()))?);
            }
            if let Some(AddressRow { update, at }) = tx.get(&PEER_ADDRESSES, &id)? {
                let update = update.peek().map_err(|_| StoreError::Damaged(PEER_ADDRESSES.name()))?;
                (view.addresses, view.addresses_told_at) = (update.addresses, Some(at));
            }
            if let Some(ContactRow { at, clock_difference_s }) = tx.get(&CONTACTS, &id)? {
                view.last_contact = Some(at);
                view.clock_difference_s = Some(clock_difference_s);
            }
            if let Some(known) = tx.get(&CHAINS, &id)? {
                view.frozen_at = known.frozen.map(|evidence| evidence.at);
                (view.outrun, view.former) = (known.outrun, known.former);
            }
            state.install(view, &row);
        }
        state.own_rosters = tx.range(&OWN_ROSTERS, .., ROWS_MAX)?.into_iter().collect();
        for (id, row) in tx.range(&PEER_ATTESTATIONS, .., ROWS_MAX)? {
            state.attestations.insert(id, row.to_view()?);
        }
        let groups = tx.range(&GROUPS, .., ROWS_MAX)?;
        state.groups = groups.into_iter().map(|(id, stored)| GroupRow::of_row(id, stored)).collect();
        tx.range(&EPOCHS, .., ROWS_MAX)
    })?;
    state.groups.sort_by(|a, b| a.name.cmp(&b.name));
    for (number, row) in epochs {
        // A slot without a key was erased before its row could go.
        if let Some(key) = epochs::read_key(slots, &row)? {
            state.epochs.insert(number, Epoch { row, key: Arc::new(key) });
        }
    }
    Ok(state)
}
