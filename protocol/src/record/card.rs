//! The card: an entity's signed description of itself, exchanged before an agreement.

use pakt_keys::codec;
use pakt_keys::signing::{Domain, StatementKey};
use serde::{Deserialize, Serialize};

use super::address::{ADDRESSES_MAX, Address};
use super::chain::{CertificateChain, CertifiedNode};
use super::{Record, RecordError, Signed, check_name};
use crate::time::Time;

/// What a card says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardBody {
    /// The entity's name.
    pub name: String,
    /// Its registered number: `NO:ORGNR:999000101`.
    pub number: String,
    /// Its roots and its node certificate.
    pub chain: CertificateChain,
    /// Where its node can be dialled; none if it only dials out.
    pub addresses: Vec<Address>,
    /// When it was made.
    pub issued_at: Time,
}

impl Record for CardBody {
    const DOMAIN: Domain = Domain::Card;
    const BYTES_MAX: usize = 64 << 10;
}

/// A card as it travels.
pub type SignedCard = Signed<CardBody>;

/// A card whose chain and signature were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// What it says.
    pub body: CardBody,
    /// The node that it certifies.
    pub node: CertifiedNode,
}

/// Whether `number` has the form COUNTRY:REGISTER:NUMBER.
///
/// # Errors
/// [`RecordError::Field`].
pub fn check_number(number: &str) -> Result<(), RecordError> {
    let bad = RecordError::Field("a registered number has the form COUNTRY:REGISTER:NUMBER, as in NO:ORGNR:999000101");
    let parts: Vec<&str> = number.split(':').collect();
    let word = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
    };
    let [country, _, _] = parts.as_slice() else {
        return Err(bad);
    };
    let country_fits = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
    if !country_fits || number.len() > 64 || !parts.iter().all(word) {
        return Err(bad);
    }
    Ok(())
}

/// Whether `name` can be an entity's name.
///
/// # Errors
/// [`RecordError::Field`].
pub fn check_entity_name(name: &str) -> Result<(), RecordError> {
    check_name(name, "a name has 1 to 200 bytes and no control characters or outer blanks")
}

impl CardBody {
    /// Signs the card with the node's statement key.
    ///
    /// # Errors
    /// [`RecordError::Field`] if a field breaks the rules.
    pub fn sign(&self, key: &StatementKey) -> Result<SignedCard, RecordError> {
        self.check()?;
        Ok(Signed::create(self, |domain, bytes| key.sign(domain, bytes)))
    }

    fn check(&self) -> Result<(), RecordError> {
        check_entity_name(&self.name)?;
        check_number(&self.number)?;
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(RecordError::Field("a card names at most 8 addresses"));
        }
        Ok(())
    }
}

impl Card {
    /// Checks a card: its chain, its signature by the certified statement key, its fields.
    ///
    /// # Errors
    /// Any [`RecordError`].
    pub fn verify(signed: &SignedCard) -> Result<Card, RecordError> {
        let node = signed.peek()?.chain.verify()?;
        let body = node.open_statement(signed)?;
        body.check()?;
        Ok(Card { body, node })
    }

    /// Whether the roots of `chain` are those of this card, as far as both go.
    ///
    /// # Errors
    /// [`RecordError::Chain`] if the links of either do not hold.
    pub fn shares_roots(&self, chain: &CertificateChain) -> Result<bool, RecordError> {
        let (own, shown) = (self.body.chain.verify_links()?, chain.verify_links()?);
        Ok(own.iter().zip(&shown).all(|(a, b)| a == b))
    }

    /// Checks a card from the bytes of its record.
    ///
    /// # Errors
    /// Any [`RecordError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Card, RecordError> {
        Card::verify(&codec::decode(1, bytes, CardBody::BYTES_MAX)?)
    }
}

/// The bytes of a card that go into armour.
pub fn card_bytes(signed: &SignedCard) -> Vec<u8> {
    codec::encode(1, signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    #[test]
    fn p4_a_card_is_signed_by_the_node_that_it_names() {
        let party = Party::new(1);
        let other = Party::new(2);
        let body = party.card_body();
        let card = Card::verify(&body.sign(&party.statement).expect("valid")).expect("valid");
        assert_eq!(card.node.entity, party.entity());
        let foreign = body.sign(&other.statement).expect("valid");
        assert!(matches!(Card::verify(&foreign), Err(RecordError::Signature(_))));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let party = Party::new(1);
        let bytes = card_bytes(&party.card_body().sign(&party.statement).expect("valid"));
        assert!(Card::from_bytes(&bytes).is_ok());
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(Card::from_bytes(&changed).is_err(), "byte {at}");
        }
        for cut in (0..bytes.len()).step_by(13) {
            assert!(Card::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn numbers_and_names() {
        for good in ["NO:ORGNR:999000101", "NL:KVK:99000102", "DE:HRB-B:12.3"] {
            assert_eq!(check_number(good), Ok(()), "{good}");
        }
        for bad in ["", "999", "NO:1", "no:ORGNR:1", "NOR:ORGNR:1", "NO::1", "NO:A:1:2", "NO:A: 1", "NO:Å:1"] {
            assert!(check_number(bad).is_err(), "{bad}");
        }
        for bad in ["", " a", "a ", "a\nb", "a\u{202e}b", &"x".repeat(201)] {
            assert!(check_entity_name(bad).is_err(), "{bad:?}");
        }
    }
}
