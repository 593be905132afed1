//! The signed records that two entities exchange and keep.
//!
//! Every record is a [`Signed`] value: the body's bytes exactly as they were signed, and a list of signatures. A body
//! is only handed out by the function that checked who signed it.
//!
//! **Invariant:** signatures cover the bytes as sent, under the record kind's own domain; nothing is re-encoded to
//! verify it.

pub mod address;
pub mod address_update;
pub mod agreement;
pub mod attestation;
pub mod card;
pub mod chain;
pub mod comparison;
pub mod decline;
pub mod envelope;
pub mod grant;
pub mod listing;
pub mod page;
pub mod recall;
pub mod receipt;
pub mod reconciliation;
pub mod restored;
pub mod roster;
pub mod statement;

use std::fmt;
use std::marker::PhantomData;

use pakt_keys::codec::{self, CodecError};
use pakt_keys::signing::{Domain, Signature, SignatureError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A kind of record: its signature domain, its version and its largest size.
pub trait Record: Serialize + DeserializeOwned {
    /// The domain that its signatures are separated by.
    const DOMAIN: Domain;
    /// The leading byte of its encoding.
    const VERSION: u8 = 1;
    /// Bytes of its encoding that are read at most.
    const BYTES_MAX: usize;
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not a record of this kind.
    #[error("the record cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// The signature is not the one that is needed.
    #[error("the record's signature is not valid: {0}")]
    Signature(#[from] SignatureError),
    /// The certificate chain does not hold.
    #[error(transparent)]
    Chain(#[from] chain::ChainError),
    /// A field breaks a rule of its kind of record.
    #[error("the record is not valid: {0}")]
    Field(&'static str),
    /// The record belongs to somebody else than the one it was presented for.
    #[error("the record is not about these parties: {0}")]
    Parties(&'static str),
}

/// A record body as signed, with its signatures.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    body: Vec<u8>,
    signatures: Vec<Signature>,
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

impl<T: Record> Signed<T> {
    /// Encodes `value` and has `sign` sign it.
    pub fn create(value: &T, sign: impl FnOnce(Domain, &[u8]) -> Vec<Signature>) -> Signed<T> {
        let body = codec::encode(T::VERSION, value);
        let signatures = sign(T::DOMAIN, &body);
        Signed { body, signatures, kind: PhantomData }
    }

    /// A record from a body and signatures that came separately.
    pub fn from_parts(body: Vec<u8>, signatures: Vec<Signature>) -> Signed<T> {
        Signed { body, signatures, kind: PhantomData }
    }

    /// Has `verify` check the signatures, then decodes the body.
    ///
    /// # Errors
    /// [`RecordError::Signature`] or [`RecordError::Codec`].
    pub fn verify(
        &self,
        verify: impl FnOnce(Domain, &[u8], &[Signature]) -> Result<(), SignatureError>,
    ) -> Result<T, RecordError> {
        verify(T::DOMAIN, &self.body, &self.signatures)?;
        self.peek()
    }

    /// Decodes the body without checking any signature: only to find out which key must have signed it.
    ///
    /// # Errors
    /// [`RecordError::Codec`].
    pub fn peek(&self) -> Result<T, RecordError> {
        Ok(codec::decode(T::VERSION, &self.body, T::BYTES_MAX)?)
    }

    /// The body's bytes as signed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The signatures as they came.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} bytes, {} signatures)", self.body.len(), self.signatures.len())
    }
}

/// Checks a text field: its length in bytes, and that it holds no control or direction-changing characters.
pub(crate) fn check_text(text: &str, bytes_max: usize, field: &'static str) -> Result<(), RecordError> {
    if text.len() > bytes_max || text.chars().any(crate::content::name::is_deceptive) {
        return Err(RecordError::Field(field));
    }
    Ok(())
}

/// Text that two people may both call a name: not empty, at most 200 bytes, nothing invisible.
pub(crate) fn check_name(text: &str, field: &'static str) -> Result<(), RecordError> {
    if text.is_empty() || text.trim() != text {
        return Err(RecordError::Field(field));
    }
    check_text(text, NAME_BYTES_MAX, field)
}

/// Bytes of an entity's or group's name.
pub const NAME_BYTES_MAX: usize = 200;

#[cfg(test)]
pub(crate) mod tests {
    //! Parties with fixed keys, for the tests of every record.

    use std::time::Duration;

    use getrandom::SysRng;
    use pakt_keys::EntityId;
    use pakt_keys::sealing::ContactKey;
    use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
    use rand_core::UnwrapErr;

    use super::address::Address;
    use super::agreement::{AgreementFile, AgreementRecord, AgreementTerms, Party as AgreementParty};
    use super::card::{Card, CardBody};
    use super::chain::CertificateChain;
    use super::grant::DoorGrant;
    use super::{Record, RecordError, Signed};
    use crate::time::Time;

    /// What two entities signed is refused with any other cards than theirs, the first two, and after any change.
    pub(crate) fn only_its_two_cards_verify<T>(
        bytes: &[u8],
        [card_a, card_b, card_c]: [&Card; 3],
        verify: impl Fn(&[u8], [&Card; 2]) -> Result<T, RecordError>,
    ) {
        for wrong in [[card_a, card_c], [card_c, card_b], [card_b, card_b], [card_a, card_a]] {
            assert!(matches!(verify(bytes, wrong), Err(RecordError::Parties(_))));
        }
        for at in (0..bytes.len()).step_by(11) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x20;
            assert!(verify(&changed, [card_a, card_b]).is_err(), "byte {at}");
        }
    }

    pub(crate) struct Party {
        seed: u8,
        pub(crate) root: RootKey,
        pub(crate) next: RootKey,
        pub(crate) statement: StatementKey,
        pub(crate) contact: ContactKey,
        pub(crate) chain: CertificateChain,
    }

    impl Party {
        pub(crate) fn new(seed: u8) -> Party {
            let root = RootKey::from_seed([seed; 32]);
            let next = RootKey::from_seed([seed + 50; 32]);
            let transport = TransportKey::from_seed([seed + 100; 32]);
            let statement = StatementKey::from_seed([seed + 150; 32]);
            let contact = ContactKey::generate(&mut UnwrapErr(SysRng));
            let node = (transport.public(), statement.public(), contact.public());
            let chain = CertificateChain::create(&root, &next.public(), node, Time(1));
            Party { seed, root, next, statement, contact, chain }
        }

        pub(crate) fn entity(&self) -> EntityId {
            EntityId::of(&self.root.public())
        }

        /// Replaces the statement key.
        pub(crate) fn renew(&mut self) {
            self.statement = StatementKey::from_seed([self.seed + 151; 32]);
            let transport = TransportKey::from_seed([self.seed + 100; 32]);
            let node = (transport.public(), self.statement.public(), self.contact.public());
            self.chain = self.chain.renewed(&self.root, node, Time(2)).expect("its own chain and root");
        }

        pub(crate) fn card_body(&self) -> CardBody {
            CardBody {
                name: format!("Clinic {}", self.seed),
                number: format!("NO:ORGNR:{}", self.seed),
                chain: self.chain.clone(),
                addresses: vec!["127.0.0.1:4100".parse::<Address>().expect("valid")],
                issued_at: Time(1),
            }
        }

        pub(crate) fn card(&self) -> Card {
            Card::verify(&self.card_body().sign(&self.statement).expect("valid")).expect("valid")
        }

        fn party(&self) -> AgreementParty {
            let body = self.card_body();
            AgreementParty { entity: self.entity(), name: body.name, number: body.number }
        }
    }

    pub(crate) fn terms(a: &Party, b: &Party) -> AgreementTerms {
        AgreementTerms {
            proposer: a.party(),
            acceptor: b.party(),
            version: 1,
            previous: None,
            nonce: [7; 32],
            accept_by: Time(1) + Duration::from_secs(30 * 86_400),
            purposes: vec!["radiology".into()],
            legal_basis: "treatment".into(),
            valid_from: Time(1),
            valid_until: Time(1) + Duration::from_secs(365 * 86_400),
            message_bytes_max: 1 << 30,
            hold_seconds: 3600,
            retention_seconds: None,
            messages_per_hour: None,
            controls: vec![],
            urgent_contact: String::new(),
            relay: false,
        }
    }

    pub(crate) fn agree(a: &Party, b: &Party) -> AgreementFile {
        let record = AgreementRecord::propose(&terms(a, b), &a.root).expect("valid").countersign(&b.root);
        let grant = |from: &Party, to: &Party| {
            let holder = (to.entity(), &to.contact.public());
            let grant = DoorGrant::seal((record.id, 1), from.entity(), holder, &[9; 32], &mut UnwrapErr(SysRng));
            assert_eq!(*grant.open(&to.contact).expect("opens"), [9; 32]);
            assert!(grant.open(&from.contact).is_err());
            Signed::create(&grant, |domain, bytes| from.statement.sign(domain, bytes))
        };
        let grants = vec![grant(a, b), grant(b, a)];
        AgreementFile {
            proposer: a.card_body().sign(&a.statement).expect("valid"),
            acceptor: b.card_body().sign(&b.statement).expect("valid"),
            record,
            grants,
        }
    }

    #[test]
    fn a_signature_of_another_kind_of_record_is_refused() {
        let party = Party::new(1);
        let body = party.card_body();
        let signed = Signed::create(&body, |_, bytes| party.statement.sign(super::roster::Roster::DOMAIN, bytes));
        assert!(matches!(Card::verify(&signed), Err(RecordError::Signature(_))));
    }
}
