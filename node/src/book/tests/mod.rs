//! Two entities with a book each, on disks in memory.

mod addresses;
mod change;
mod deposits;
mod faults;
mod hostile;
mod keep;
mod keys;
mod life;
mod restored;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pakt_keys::keystore::{HeldRoot, Keystore};
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::codec;
use pakt_protocol::door::Flight;
use pakt_protocol::hello::{Hello, VersionRange};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::record::Signed;
use pakt_protocol::record::chain::{CertificateChain, NodeCertificate};
use pakt_protocol::record::statement::AgreementStatement;
use pakt_protocol::time::Time;

use super::*;
use crate::disk::FaultDisk;

const DAY: Duration = Duration::from_secs(86_400);

/// A node of one entity; `serial` counts its certificates.
struct Node {
    disk: Arc<FaultDisk>,
    book: Book,
    seed: u8,
}

fn root(seed: u8) -> RootKey {
    RootKey::from_seed([seed; 32])
}

fn statement_key(seed: u8, serial: u64) -> StatementKey {
    StatementKey::from_seed([seed + 60 + serial as u8; 32])
}

fn chain(seed: u8, serial: u64) -> CertificateChain {
    let transport = TransportKey::from_seed([seed + 30 + serial as u8; 32]).public();
    let contact = ContactKey::from_bytes(&[seed; 32]).public();
    let node = (transport, statement_key(seed, serial).public(), contact);
    let first = CertificateChain::create(&root(seed), &root(seed + 90).public(), node, Time(1));
    let certificate = NodeCertificate { serial, ..first.certificate.peek().unwrap() };
    let certificate = Signed::create(&certificate, |domain, bytes| root(seed).sign(domain, bytes));
    CertificateChain { certificate, ..first }
}

fn entity_named(seed: u8, serial: u64, number: &str) -> Entity {
    let keys = Keystore {
        root: Some(HeldRoot::open(root(seed))),
        transport: TransportKey::from_seed([seed + 30 + serial as u8; 32]),
        statement: statement_key(seed, serial),
        contact: ContactKey::from_bytes(&[seed; 32]),
        store: StoreKey::from_bytes([seed; 32]),
        chain: codec::encode(1, &chain(seed, serial)),
    };
    Entity::new(keys, format!("Clinic {seed}"), number.to_owned()).unwrap()
}

fn entity(seed: u8, serial: u64) -> Entity {
    entity_named(seed, serial, &format!("NO:ORGNR:{seed}"))
}

fn open(disk: &Arc<FaultDisk>, entity: Entity, seed: u8) -> Book {
    let store = Store::open(disk.clone(), Path::new("/data/pakt.redb"), StoreKey::from_bytes([seed; 32])).unwrap();
    let slots = Slots::open(store.clone(), disk.clone(), Path::new("/data/keys/slots")).unwrap();
    Book::open(store, slots, entity, vec!["127.0.0.1:4100".parse().unwrap()]).unwrap()
}

impl Node {
    fn new(seed: u8) -> Node {
        Node::of(seed, entity(seed, 1))
    }

    fn of(seed: u8, entity: Entity) -> Node {
        let disk = FaultDisk::new();
        let book = open(&disk, entity, seed);
        Node { disk, book, seed }
    }

    fn restart(self) -> Node {
        let serial = self.book.inner.entity.node().serial;
        self.restart_as(serial)
    }

    /// After a change of the node's certificate.
    fn restart_as(self, serial: u64) -> Node {
        let Node { disk, book, seed } = self;
        book.inner.store.close();
        drop(book);
        let book = open(&disk, entity(seed, serial), seed);
        Node { disk, book, seed }
    }

    fn root(&self) -> RootKey {
        root(self.seed)
    }

    fn id(&self) -> EntityId {
        self.book.inner.entity.id()
    }

    async fn propose(&self, to: &Node) -> (Arc<Agreement>, String) {
        self.book
            .propose(&to.book.own_card().unwrap(), TermsDraft::standard(ambient::now()), true, &self.root())
            .await
            .unwrap()
    }

    /// What this node shows first on a lane.
    fn hello(&self) -> Hello {
        let chain = self.book.inner.entity.chain();
        Hello { chain, versions: VersionRange::OURS, now: ambient::now() }
    }

    fn tls_key(&self) -> [u8; 32] {
        self.book.inner.entity.node().transport.0
    }

    async fn flight(&self, id: &AgreementId) -> Flight {
        *self.book.seal_flight(id, b"hello").await.unwrap()
    }

    async fn admits(&self, flight: &Flight) -> bool {
        self.book.admit(flight).await.is_some()
    }

    /// The newest statement of this side.
    fn newest(&self, id: &AgreementId) -> Signed<AgreementStatement> {
        self.book.get(id).unwrap().own.newest().cloned().expect("something was stated")
    }

    fn standing(&self, id: &AgreementId) -> Standing {
        self.book.get(id).unwrap().standing
    }
}

/// Two nodes with an agreement in force.
async fn agreed() -> (Node, Node, AgreementId) {
    let (a, b) = (Node::new(1), Node::new(2));
    let id = agree(&a, &b).await;
    (a, b, id)
}

async fn agree(a: &Node, b: &Node) -> AgreementId {
    let (proposal, text) = a.propose(b).await;
    let (agreement, _) = b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap();
    assert_eq!(agreement.id, proposal.id);
    a.book.take_contact(&agreement.id, agreement.contact.as_deref().unwrap()).await.unwrap();
    b.book.contact_confirmed(&agreement.id).await.unwrap();
    agreement.id
}
