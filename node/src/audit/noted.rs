//! Steps that are seen afterwards: what is so now is compared with what was noted last, and is an entry when it differs.
//!
//! **Invariant:** each is an entry once, however often it is seen and whenever the node stops.

use pakt_keys::EntityId;
use pakt_protocol::audit::{AdministratorStep, AgreementStep, Event, KeyStep};
use pakt_protocol::ids::AgreementId;

use super::{Log, append};
use crate::store::tables::{APPROVERS_NOTED, EXPIRED_NOTED, KEYS_NOTED, STARTED_WITH};
use crate::store::{StoreError, WriteTx};

impl Log {
    /// The node uses the configuration with this hash.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_configuration(&self, hash: [u8; 32]) -> Result<(), StoreError> {
        let write = self.store().write(move |tx| {
            if tx.get(&STARTED_WITH, &())? == Some(hash) {
                return Ok(());
            }
            tx.put(&STARTED_WITH, &(), &hash)?;
            append(tx, Event::Administrator(AdministratorStep::ConfigurationChanged(hash)))
        });
        write.await
    }

    /// The node uses its keys and approvers as they are now: what is new or gone is an entry, by whatever command.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_keys(&self) -> Result<(), StoreError> {
        let own = self.entity().current();
        let (root_generation, serial) = (own.node().root_generation, own.node().serial);
        let named = own.root().map(|root| root.approvers()).unwrap_or_default();
        let approvers: Vec<[u8; 32]> = named.iter().map(|approver| approver.fingerprint()).collect();
        let write = self.store().write(move |tx| {
            note_approvers(tx, approvers)?;
            let noted = tx.get(&KEYS_NOTED, &())?;
            if noted == Some((root_generation, serial)) {
                return Ok(());
            }
            tx.put(&KEYS_NOTED, &(), &(root_generation, serial))?;
            match noted {
                None => Ok(()),
                Some((generation, _)) => {
                    let step = if generation == root_generation { KeyStep::Rotated } else { KeyStep::Recovered };
                    append(tx, Event::Key { step, root_generation, serial })
                }
            }
        });
        write.await
    }

    /// The node tells other addresses.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_addresses(&self) -> Result<(), StoreError> {
        self.store().write(|tx| append(tx, Event::Administrator(AdministratorStep::AddressesSet))).await
    }

    /// This version of an agreement has run out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_expired(&self, agreement: AgreementId, entity: EntityId, version: u32) -> Result<(), StoreError> {
        let write = self.store().write(move |tx| {
            if tx.get(&EXPIRED_NOTED, &agreement)? == Some(version) {
                return Ok(());
            }
            tx.put(&EXPIRED_NOTED, &agreement, &version)?;
            append(tx, Event::Agreement { agreement, entity, version, step: AgreementStep::Expired })
        });
        write.await
    }
}

fn note_approvers(tx: &mut WriteTx, named: Vec<[u8; 32]>) -> Result<(), StoreError> {
    let noted = tx.get(&APPROVERS_NOTED, &())?.unwrap_or_default();
    if noted == named {
        return Ok(());
    }
    for gone in noted.iter().filter(|known| !named.contains(known)) {
        append(tx, Event::Administrator(AdministratorStep::ApproverRemoved(*gone)))?;
    }
    for new in named.iter().filter(|known| !noted.contains(known)) {
        append(tx, Event::Administrator(AdministratorStep::ApproverAdded(*new)))?;
    }
    tx.put(&APPROVERS_NOTED, &(), &named)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pakt_keys::store_seal::StoreKey;

    use super::super::page;
    use super::*;
    use crate::disk::FaultDisk;
    use crate::store::Store;

    #[test]
    fn approvers_are_noted_once_by_a_hash() {
        let store = Store::open(FaultDisk::new(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
        let (one, two, three) = ([1; 32], [2; 32], [3; 32]);
        for named in [vec![], vec![one, two], vec![one, two], vec![two, three]] {
            store.write_blocking(move |tx| note_approvers(tx, named)).unwrap();
        }
        let entries = store.read(|tx| page(tx, 0, 10)).unwrap();
        let events: Vec<Event> = entries.into_iter().map(|(_, entry)| entry.event).collect();
        let steps = [
            AdministratorStep::ApproverAdded(one),
            AdministratorStep::ApproverAdded(two),
            AdministratorStep::ApproverRemoved(one),
            AdministratorStep::ApproverAdded(three),
        ];
        assert_eq!(events, steps.map(Event::Administrator));
    }
}
