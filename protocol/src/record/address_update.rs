//! Where a node can be dialled from now on: signed for one counterpart, numbered, so that an old one cannot come back.
//!
//! **Invariant:** it says where to knock and nothing else: who answers there is decided by the door and the certificates.

use pakt_keys::EntityId;
use pakt_keys::signing::Domain;
use serde::{Deserialize, Serialize};

use super::address::{ADDRESSES_MAX, Address};
use super::chain::CertifiedNode;
use super::{Record, RecordError, Signed};
use crate::ids::AgreementId;

/// Addresses of one node for one counterpart; signed by the node's statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressUpdate {
    /// Whose addresses these are.
    pub issuer: EntityId,
    /// Who may read them.
    pub reader: EntityId,
    /// The agreement that they are told under.
    pub agreement: AgreementId,
    /// A later update has a higher number; an older one is refused.
    pub counter: u64,
    /// In the order in which they are to be tried; none if the node only dials out.
    pub addresses: Vec<Address>,
}

impl Record for AddressUpdate {
    const DOMAIN: Domain = Domain::AddressUpdate;
    const BYTES_MAX: usize = 2_400;
}

impl AddressUpdate {
    /// Checks an update that `node` shows under an agreement to `reader`.
    ///
    /// # Errors
    /// Any [`RecordError`].
    pub fn verify(
        signed: &Signed<AddressUpdate>,
        agreement: &AgreementId,
        node: &CertifiedNode,
        reader: &EntityId,
    ) -> Result<AddressUpdate, RecordError> {
        let update = node.open_statement(signed)?;
        update.check(agreement, &node.entity, reader)?;
        Ok(update)
    }

    /// The addresses in an update whose signer is not known, because `issuer` may have replaced its keys: to knock at once,
    /// never to be kept. Whoever sealed it must be known otherwise.
    ///
    /// # Errors
    /// Any [`RecordError`] but that of the signature.
    pub fn hint(
        signed: &Signed<AddressUpdate>,
        agreement: &AgreementId,
        issuer: &EntityId,
        reader: &EntityId,
    ) -> Result<Vec<Address>, RecordError> {
        let update = signed.peek()?;
        update.check(agreement, issuer, reader)?;
        Ok(update.addresses)
    }

    fn check(&self, agreement: &AgreementId, issuer: &EntityId, reader: &EntityId) -> Result<(), RecordError> {
        if self.issuer != *issuer || self.reader != *reader || self.agreement != *agreement {
            return Err(RecordError::Parties("the addresses are for other parties"));
        }
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(RecordError::Field("a node names at most 8 addresses"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    fn update(a: &Party, b: &Party, addresses: usize) -> AddressUpdate {
        let address = |n: usize| format!("{}.example:{}", "x".repeat(60), 4100 + n).parse().unwrap();
        AddressUpdate {
            issuer: a.entity(),
            reader: b.entity(),
            agreement: AgreementId([5; 32]),
            counter: 3,
            addresses: (0..addresses).map(address).collect(),
        }
    }

    #[test]
    fn p4_an_update_is_bound_to_its_parties_and_its_agreement() {
        let (a, b, c) = (Party::new(1), Party::new(2), Party::new(3));
        let sign = |update: &AddressUpdate, by: &Party| Signed::create(update, |d, bytes| by.statement.sign(d, bytes));
        let node = a.chain.verify().unwrap();
        let id = AgreementId([5; 32]);
        let check = |signed: &Signed<AddressUpdate>, id: &AgreementId, reader: &Party| {
            AddressUpdate::verify(signed, id, &node, &reader.entity())
        };
        let good = sign(&update(&a, &b, 8), &a);
        assert_eq!(check(&good, &id, &b), Ok(update(&a, &b, 8)));
        assert!(matches!(check(&good, &AgreementId([6; 32]), &b), Err(RecordError::Parties(_))));
        assert!(matches!(check(&good, &id, &c), Err(RecordError::Parties(_))));
        assert!(matches!(check(&sign(&update(&c, &b, 1), &a), &id, &b), Err(RecordError::Parties(_))));
        assert!(matches!(check(&sign(&update(&a, &b, 1), &c), &id, &b), Err(RecordError::Signature(_))));
        assert!(matches!(check(&sign(&update(&a, &b, 9), &a), &id, &b), Err(RecordError::Field(_))));
        // Signed by a key that nobody knows yet, it is a hint, between the same parties.
        let hint = |update: AddressUpdate| AddressUpdate::hint(&sign(&update, &c), &id, &a.entity(), &b.entity());
        assert_eq!(hint(update(&a, &b, 8)), Ok(update(&a, &b, 8).addresses));
        for other in [update(&c, &b, 1), update(&a, &c, 1), update(&a, &b, 9)] {
            assert!(hint(other).is_err());
        }
    }

    #[test]
    fn the_longest_update_can_be_read() {
        let (a, b) = (Party::new(1), Party::new(2));
        let label = "x".repeat(63);
        let longest: Address = format!("{label}.{label}.{label}.{}:65535", "x".repeat(61)).parse().unwrap();
        let update = AddressUpdate { addresses: vec![longest; ADDRESSES_MAX], ..update(&a, &b, 0) };
        let signed = Signed::create(&update, |domain, bytes| a.statement.sign(domain, bytes));
        assert_eq!(signed.peek(), Ok(update));
    }
}
