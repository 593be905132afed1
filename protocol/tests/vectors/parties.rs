//! The parties of the vectors: keys that anyone can derive again from their names.

use std::convert::Infallible;

use pakt_keys::EntityId;
use pakt_keys::sealing::{ContactKey, EpochKey};
use pakt_keys::signing::{Domain, RootKey, Signature, StatementKey, TransportKey, successor_commitment};
use rand_core::{TryCryptoRng, TryRng};

use crate::wire::{self, CardFields, CertificateFields};

/// 2026-01-01 00:00 UTC in microseconds: when everything in the vectors happens.
pub(crate) const NOW: u64 = 1_767_225_600_000_000;
/// One day in microseconds.
pub(crate) const DAY: u64 = 86_400_000_000;

/// 32 bytes that belong to a name.
pub(crate) fn secret(name: &str) -> [u8; 32] {
    blake3::derive_key("pakt vector key v1", name.as_bytes())
}

/// A generator whose bytes belong to a name.
pub(crate) struct NamedRng(blake3::OutputReader);

impl NamedRng {
    pub(crate) fn new(name: &str) -> NamedRng {
        NamedRng(blake3::Hasher::new_derive_key("pakt vector randomness v1").update(name.as_bytes()).finalize_xof())
    }
}

impl TryRng for NamedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for NamedRng {}

/// One entity with all its keys.
pub(crate) struct Party {
    pub(crate) name: &'static str,
    pub(crate) number: &'static str,
    pub(crate) addresses: Vec<&'static str>,
    pub(crate) root: RootKey,
    pub(crate) next: RootKey,
    pub(crate) transport: TransportKey,
    pub(crate) statement: StatementKey,
    pub(crate) contact: ContactKey,
    pub(crate) epoch: EpochKey,
}

impl Party {
    fn new(letter: &str, name: &'static str, number: &'static str, addresses: &[&'static str]) -> Party {
        let seed = |purpose: &str| secret(&format!("{letter} {purpose}"));
        Party {
            name,
            number,
            addresses: addresses.to_vec(),
            root: RootKey::from_seed(seed("root")),
            next: RootKey::from_seed(seed("next root")),
            transport: TransportKey::from_seed(seed("transport")),
            statement: StatementKey::from_seed(seed("statement")),
            contact: ContactKey::from_bytes(&seed("contact")),
            epoch: EpochKey::from_bytes(&seed("epoch")),
        }
    }

    pub(crate) fn a() -> Party {
        Party::new("a", "Fjordklinikken Bergen AS", "NO:ORGNR:999000101", &["node.fjordklinikken.example:4100"])
    }

    pub(crate) fn b() -> Party {
        let addresses = ["[2001:db8::12]:4100", "198.51.100.7:4100"];
        Party::new("b", "Radiologie Zaanstreek B.V.", "NL:KVK:99000102", &addresses)
    }

    pub(crate) fn c() -> Party {
        Party::new("c", "Somebody Else Ltd", "GB:CRN:99000103", &[])
    }

    pub(crate) fn entity(&self) -> EntityId {
        EntityId::of(&self.root.public())
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        let body = wire::link(0, &self.root.public().0, &successor_commitment(&self.next.public()));
        wire::signed(&body, &self.root.sign(Domain::RootLink, &body))
    }

    /// The second link: the committed successor, which commits to a further one.
    pub(crate) fn second_link(&self) -> Vec<u8> {
        let body = wire::link(1, &self.next.public().0, &secret("commitment to a third root"));
        wire::signed(&body, &self.next.sign(Domain::RootLink, &body))
    }

    pub(crate) fn certificate(&self) -> CertificateFields {
        CertificateFields {
            entity: self.entity().0,
            root_generation: 0,
            serial: 1,
            transport: self.transport.public().0,
            statement: self.statement.public().0,
            contact: self.contact.public().as_bytes().to_vec(),
            issued_at: NOW,
        }
    }

    /// A chain of one link with this certificate.
    pub(crate) fn chain_with(&self, certificate: &CertificateFields) -> Vec<u8> {
        let body = certificate.body();
        let certificate = wire::signed(&body, &self.root.sign(Domain::NodeCertificate, &body));
        wire::chain(&[self.link()], &certificate)
    }

    pub(crate) fn chain(&self) -> Vec<u8> {
        self.chain_with(&self.certificate())
    }

    /// The chain after one change of the root.
    pub(crate) fn later_chain(&self) -> Vec<u8> {
        let body = CertificateFields { root_generation: 1, ..self.certificate() }.body();
        let certificate = wire::signed(&body, &self.next.sign(Domain::NodeCertificate, &body));
        wire::chain(&[self.link(), self.second_link()], &certificate)
    }

    pub(crate) fn card(&self) -> CardFields {
        CardFields {
            name: self.name,
            number: self.number,
            chain: self.chain(),
            addresses: self.addresses.clone(),
            issued_at: NOW,
        }
    }

    pub(crate) fn sign(&self, domain: Domain, body: &[u8]) -> Vec<Signature> {
        self.statement.sign(domain, body)
    }

    /// A card inside another structure.
    pub(crate) fn signed_card(&self) -> Vec<u8> {
        let body = self.card().body();
        wire::signed(&body, &self.sign(Domain::Card, &body))
    }
}
