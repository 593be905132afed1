//! Where this node can be dialled, as each counterpart is told, and where counterparts can be.
//!
//! **Invariant:** an older update than the one stored is refused, and so is another with its number.
//! **Invariant:** an update that leaves has a number that is durable.

use std::sync::PoisonError;

use pakt_protocol::door::next_counter;
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::address::Address;
use pakt_protocol::record::address_update::AddressUpdate;

use super::rows::AddressRow;
use super::{Book, BookError, Refusal, Standing};
use crate::ambient;
use crate::store::StoreError;
use crate::store::tables::{OWN_ADDRESSES, PEER_ADDRESSES};

impl Book {
    /// Where this node can be dialled.
    pub fn own_addresses(&self) -> Vec<Address> {
        self.inner.addresses.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names other addresses from now on, in cards and to counterparts; keeping them is the caller's task.
    pub fn set_own_addresses(&self, addresses: Vec<Address>) {
        *self.inner.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
        self.inner.changes.send_modify(|number| *number += 1);
    }

    /// The newest addresses for the counterpart of an agreement; a new update is made where addresses or key changed.
    ///
    /// # Errors
    /// [`BookError::Unknown`], or when the store fails.
    pub async fn own_address_update(&self, id: &AgreementId) -> Result<Signed<AddressUpdate>, BookError> {
        let reader = self.get(id).ok_or(BookError::Unknown)?.counterpart().entity;
        let (entity, id, addresses) = (self.inner.entity.clone(), *id, self.own_addresses());
        let known = self.inner.store.read(|tx| tx.get(&OWN_ADDRESSES, &id))?;
        let says = |known: &Signed<AddressUpdate>| {
            entity.node().open_statement(known).is_ok_and(|said| said.addresses == addresses)
        };
        if let Some(known) = known.filter(says) {
            return Ok(known);
        }
        let write = self.inner.store.write(move |tx| {
            let (known, own) = (tx.get(&OWN_ADDRESSES, &id)?, entity.current());
            let last = match &known {
                None => 0,
                Some(known) => match own.node().open_statement(known) {
                    Ok(said) if said.addresses == addresses => return Ok(known.clone()),
                    _ => known.peek()?.counter,
                },
            };
            let counter = next_counter(last, ambient::now());
            let update = AddressUpdate { issuer: entity.id(), reader, agreement: id, counter, addresses };
            let signed = Signed::create(&update, |domain, bytes| own.statement().sign(domain, bytes));
            tx.put(&OWN_ADDRESSES, &id, &signed)?;
            Ok(signed)
        });
        write.await
    }

    /// Takes the counterpart's addresses, from itself or through a partner; gives whether they are news.
    ///
    /// # Errors
    /// What the counterpart may be told.
    pub async fn take_addresses(&self, id: &AgreementId, signed: &Signed<AddressUpdate>) -> Result<bool, &'static str> {
        let agreement = self.get(id).filter(|agreement| agreement.standing == Standing::Active);
        let agreement = agreement.ok_or("the agreement is not active")?;
        let update = AddressUpdate::verify(signed, id, &agreement.node, &self.inner.entity.id());
        let update = update.map_err(|_| "the addresses are not valid")?;
        let (inner, id, signed, at) = (self.inner.clone(), *id, signed.clone(), ambient::now());
        let write = self.inner.store.write(move |tx| {
            if let Some(known) = tx.get(&PEER_ADDRESSES, &id)? {
                let counter = known.update.peek().map_err(|_| StoreError::Damaged(PEER_ADDRESSES.name()))?.counter;
                if known.update.body() == signed.body() {
                    return Ok(false);
                }
                if update.counter < counter {
                    return Err(Refusal::Rule("the addresses are older than those that are known"));
                }
                if update.counter == counter {
                    return Err(Refusal::Rule("there are two different lists of addresses with one number"));
                }
            }
            tx.put(&PEER_ADDRESSES, &id, &AddressRow { update: signed, at })?;
            inner.on_commit(tx, move |state| {
                state.amend(&id, |agreement| {
                    agreement.addresses = update.addresses;
                    agreement.addresses_told_at = Some(at);
                });
            });
            Ok(true)
        });
        write.await.map_err(|refusal: Refusal| refusal.for_peer(&id))
    }
}
