//! What this node leaves at partners for its other counterparts, and what they leave here.
//!
//! **Invariant:** a partner is told nothing of for whom a deposit is, and this node cannot read what it keeps.
//! **Invariant:** a counterpart may leave [`DEPOSITS_MAX`] deposits; they go when its agreement is not in force any more.

use std::ops::Bound::Included;

use pakt_keys::EntityId;
use pakt_protocol::deposit::{self, DEPOSIT_BYTES_LONG, DEPOSIT_BYTES_SHORT, DEPOSITS_MAX};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::message::deposit::DepositEntry;
use pakt_protocol::record::Signed;
use pakt_protocol::record::address::Address;
use pakt_protocol::record::address_update::AddressUpdate;

use super::{Book, BookError, Standing};
use crate::ambient;
use crate::store::tables::{DEPOSIT_TAGS, DEPOSITS, DEPOSITS_WHOLE};
use crate::store::{StoreError, WriteTx};

/// The number of deposits is told in steps of so many, so that it says little about how many counterparts there are.
const DEPOSITS_STEP: usize = 16;
/// Depositors that may have left something under one tag: it is random, so there is one, or somebody guesses.
const SAME_TAG_MAX: usize = 4;

impl Book {
    /// Names what this node wants `keeper` to keep: changes with addresses, key, counterparts and door grants.
    pub fn deposits_digest(&self, keeper: &AgreementId) -> [u8; 32] {
        let addresses = self.own_addresses();
        let Some(partner) = self.get(keeper).map(|agreement| agreement.counterpart().entity) else { return [0; 32] };
        let mut hasher = blake3::Hasher::new_derive_key("pakt deposits digest v1");
        hasher.update(&self.inner.entity.node().statement.0).update(&partner.0);
        for address in &addresses {
            hasher.update(address.as_str().as_bytes()).update(b"\n");
        }
        let now = ambient::now();
        let state = self.state();
        let others = state.agreements.values().filter(|one| one.id != *keeper && one.in_force(now));
        for other in others {
            for secret in state.granted.get(&other.id).into_iter().flatten() {
                hasher.update(&deposit::tag(secret, &partner));
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// What this node wants `keeper` to keep: its addresses for each other counterpart, and some that nobody can open.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn deposits_for(&self, keeper: &AgreementId) -> Result<Vec<DepositEntry>, BookError> {
        let partner = self.get(keeper).ok_or(BookError::Unknown)?.counterpart().entity;
        let now = ambient::now();
        let mut entries = Vec::new();
        let others = self.all().into_iter().filter(|one| one.id != *keeper && one.in_force(now));
        // Without an address there is nothing that could be found again.
        for other in others.filter(|_| !self.own_addresses().is_empty()) {
            let update = self.own_address_update(&other.id).await?;
            let secrets = self.state().granted.get(&other.id).cloned().unwrap_or_default();
            for secret in &secrets {
                let sealed = deposit::seal(secret, &partner, &update);
                entries.extend(sealed.map(|sealed| DepositEntry { tag: deposit::tag(secret, &partner), sealed }));
            }
        }
        let size = entries.first().map_or(DEPOSIT_BYTES_SHORT, |entry| entry.sealed.len());
        entries.truncate(DEPOSITS_MAX);
        entries.resize_with(entries.len().next_multiple_of(DEPOSITS_STEP), || filling(size));
        entries.sort_by_key(|entry| entry.tag);
        Ok(entries)
    }

    /// Keeps a part of what a counterpart leaves; the first part takes the place of all before it.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn keep_deposits(
        &self,
        from: &AgreementId,
        first: bool,
        entries: Vec<DepositEntry>,
        whole: Option<[u8; 32]>,
    ) -> Result<(), &'static str> {
        let fits = |entry: &DepositEntry| [DEPOSIT_BYTES_SHORT, DEPOSIT_BYTES_LONG].contains(&entry.sealed.len());
        if !entries.iter().all(fits) || entries.len() > DEPOSITS_MAX {
            return Err("these are not deposits");
        }
        let from = *from;
        let write = self.inner.store.write(move |tx| {
            if first {
                clear(tx, from)?;
            }
            let kept = tx.range(&DEPOSITS, of(from), DEPOSITS_MAX)?.len();
            // What does not fit is left out: it hurts nobody but the one who left too much.
            for entry in entries.into_iter().take(DEPOSITS_MAX.saturating_sub(kept)) {
                tx.put(&DEPOSITS, &(from, entry.tag), &entry.sealed)?;
                tx.put(&DEPOSIT_TAGS, &(entry.tag, from), &())?;
            }
            if let Some(whole) = whole {
                tx.put(&DEPOSITS_WHOLE, &from, &whole)?;
            }
            Ok::<_, StoreError>(())
        });
        write.await.map_err(|error| {
            tracing::error!(agreement = %from, %error, "deposits could not be stored");
            "they could not be stored"
        })
    }

    /// The name of the whole set that is kept of a counterpart; zeros without one.
    pub fn kept_digest(&self, from: &AgreementId) -> [u8; 32] {
        let read = self.inner.store.read(|tx| tx.get(&DEPOSITS_WHOLE, from));
        read.ok().flatten().unwrap_or_default()
    }

    /// What others left under these tags; never what the asking counterpart left itself.
    pub fn find_deposits(&self, asker: &AgreementId, tags: &[[u8; 16]]) -> Vec<Option<Vec<u8>>> {
        let now = ambient::now();
        let find = |tag: &[u8; 16]| {
            let range = (Included((*tag, AgreementId([0; 32]))), Included((*tag, AgreementId([0xff; 32]))));
            let found = self.inner.store.read(|tx| {
                let rows = tx.range(&DEPOSIT_TAGS, range, SAME_TAG_MAX)?;
                let mut depositors = rows.into_iter().map(|((_, from), ())| from);
                let valid = |from: &AgreementId| from != asker && self.get(from).is_some_and(|one| one.in_force(now));
                let Some(from) = depositors.find(valid) else { return Ok(None) };
                tx.get(&DEPOSITS, &(from, *tag))
            });
            found.ok().flatten()
        };
        tags.iter().map(find).collect()
    }

    /// Forgets what a counterpart left, as its agreement is over.
    pub async fn forget_deposits(&self, from: &AgreementId) {
        let from = *from;
        let none = self.inner.store.read(|tx| Ok(tx.range(&DEPOSITS, of(from), 1)?.is_empty()));
        if none.unwrap_or(false) {
            return;
        }
        if let Err(error) = self.inner.store.write(move |tx| clear(tx, from)).await {
            tracing::error!(agreement = %from, %error, "deposits could not be removed");
        }
    }

    /// The tag under which `wanted` has left its addresses for this node at the entity `keeper`.
    pub fn seek_tag(&self, wanted: &AgreementId, keeper: &EntityId) -> Option<[u8; 16]> {
        self.state().held.get(wanted)?.first().map(|secret| deposit::tag(secret, keeper))
    }

    /// Opens what was found at `keeper` under the tag of `wanted`.
    pub fn open_deposit(&self, wanted: &AgreementId, keeper: &EntityId, found: &[u8]) -> Option<Signed<AddressUpdate>> {
        let secret = self.state().held.get(wanted)?.first().cloned()?;
        deposit::open(&secret, keeper, found)
    }

    /// The addresses in a deposit that opened but that no known key of the counterpart has signed: it may have replaced its
    /// keys since. Only the two of them know the secret that it was sealed under.
    pub fn deposit_hint(&self, wanted: &AgreementId, update: &Signed<AddressUpdate>) -> Vec<Address> {
        let own = self.inner.entity.id();
        let agreement = self.get(wanted).filter(|agreement| agreement.standing == Standing::Active);
        let hint = agreement.and_then(|one| AddressUpdate::hint(update, wanted, &one.counterpart().entity, &own).ok());
        hint.unwrap_or_default()
    }
}

/// A deposit that looks like the others, for nobody.
fn filling(size: usize) -> DepositEntry {
    DepositEntry { tag: ambient::random(), sealed: random(size) }
}

/// Random bytes of any length.
pub(crate) fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand_core::Rng::fill_bytes(&mut ambient::rng(), &mut bytes);
    bytes
}

fn of(from: AgreementId) -> std::ops::RangeInclusive<(AgreementId, [u8; 16])> {
    (from, [0; 16])..=(from, [0xff; 16])
}

fn clear(tx: &mut WriteTx, from: AgreementId) -> Result<(), StoreError> {
    for ((_, tag), _) in tx.range(&DEPOSITS, of(from), DEPOSITS_MAX)? {
        tx.remove(&DEPOSITS, &(from, tag))?;
        tx.remove(&DEPOSIT_TAGS, &(tag, from))?;
    }
    tx.remove(&DEPOSITS_WHOLE, &from)?;
    Ok(())
}
