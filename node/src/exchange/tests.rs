//! Two nodes in one process, over real sockets and real files: from a proposal to a receipt.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pakt_keys::keystore::Keystore;
use pakt_keys::object::SealBase;
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::codec;
use pakt_protocol::content::manifest::ManifestHead;
use pakt_protocol::delivery::{Record, State};
use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId};
use pakt_protocol::record::address::Address;
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::receipt::verify_from;
use tempfile::TempDir;

use super::*;
use crate::blob::Blobs;
use crate::book::TermsDraft;
use crate::content::{ContentPool, seal_tree};
use crate::disk::RealDisk;
use crate::mailroom::outgoing_owner;
use crate::mailroom::rows::{InItem, OutEnvelope, OutMessage};
use crate::net::{DialRules, NetConfig};
use crate::slots::Slots;
use crate::store::Store;

struct TestNode {
    _folder: TempDir,
    entity: Entity,
    book: Book,
    mailroom: Mailroom,
    net: Net,
    exchange: Exchange,
    pool: ContentPool,
}

async fn node(name: &str, number: &str) -> TestNode {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = ambient::rng();
    let (root, next) = (RootKey::generate(&mut rng), RootKey::generate(&mut rng));
    let (transport, statement) = (TransportKey::generate(&mut rng), StatementKey::generate(&mut rng));
    let contact = ContactKey::generate(&mut rng);
    let keys = (transport.public(), statement.public(), contact.public());
    let chain = CertificateChain::create(&root, &next.public(), keys, ambient::now());
    let seed = *transport.seed();
    let store_key = [7; 32];
    let keystore = Keystore {
        root: Some(root),
        transport,
        statement,
        contact,
        store: StoreKey::from_bytes(store_key),
        chain: codec::encode(1, &chain),
    };
    let entity = Entity::new(keystore, name.to_owned(), number.to_owned()).unwrap();
    let disk = RealDisk::shared();
    let path = |part: &str| -> std::path::PathBuf { Path::new(folder.path()).join(part) };
    let store = Store::open(disk.clone(), &path("pakt.redb"), StoreKey::from_bytes(store_key)).unwrap();
    let blobs = Blobs::open(store.clone(), disk.clone(), &path("chunks")).unwrap();
    let slots = Slots::open(store.clone(), disk, &path("keys/slots")).unwrap();
    // The port is needed for the card before anything listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address: Address = format!("127.0.0.1:{port}").parse().unwrap();
    let book = Book::open(store.clone(), slots.clone(), entity.clone(), vec![address]).unwrap();
    let mailroom = Mailroom::new(store, blobs, slots);
    let mut config = NetConfig::new(seed);
    config.listen = Some(format!("127.0.0.1:{port}").parse().unwrap());
    config.dial_rules = DialRules { own: vec!["127.0.0.1".parse().unwrap()], allowed: vec![] };
    let (net, lanes) = Net::start(config, Arc::new(Keeper::new(book.clone(), entity.clone()))).await.unwrap();
    let parts = Parts {
        entity: entity.clone(),
        book: book.clone(),
        mailroom: mailroom.clone(),
        net: net.clone(),
        lanes,
        settings: Settings::default(),
    };
    let exchange = Exchange::start(parts);
    TestNode { _folder: folder, entity, book, mailroom, net, exchange, pool: ContentPool::start().unwrap() }
}

impl TestNode {
    async fn stop(self) {
        self.exchange.shutdown().await;
        self.net.shutdown().await;
    }

    async fn send(&self, agreement: &AgreementId, bytes: usize) -> EnvelopeId {
        let row = self.book.get(agreement).unwrap();
        let group = row.roster.as_ref().expect("the counterpart was online").groups[0].clone();
        let (message, envelope) = (MessageId(ambient::random()), EnvelopeId(ambient::random()));
        let head = ManifestHead { subject: "Knee".into(), from_group: "Reception".into(), ..ManifestHead::default() };
        let tar = tar_of(bytes);
        let dedup = SealBase::generate(&mut ambient::rng());
        let own = self.entity.id();
        let owner = outgoing_owner(&message);
        let sealed =
            seal_tree(std::io::Cursor::new(tar), head, dedup, &self.mailroom.blobs, own, owner, u64::MAX, None, &self.pool)
                .await
                .unwrap();
        let counts = Counts {
            files: sealed.totals.files,
            plain_bytes: sealed.totals.bytes,
            chunks: sealed.totals.chunks,
            segments: sealed.totals.segments,
            sealed_bytes: sealed.sealed_bytes,
        };
        let core = EnvelopeCore {
            suite: SUITE,
            message,
            envelope,
            sender: own,
            recipient: row.counterpart().entity,
            group: group.id,
            priority: Priority::Normal,
            submitted_at: ambient::now(),
            counts,
            agreement: *agreement,
            agreement_version: 1,
            root_hash: sealed.root_hash,
        };
        let out = OutMessage {
            id: message,
            sequence: 0,
            from_group: self.book.groups()[0].id,
            from_name: "Reception".into(),
            subject: "Knee".into(),
            priority: Priority::Normal,
            purpose: None,
            submitted_at: ambient::now(),
            counts,
            key: None,
            envelopes: vec![envelope],
        };
        let delivery = Record::new(Priority::Normal, Duration::from_secs(60), now());
        let row = OutEnvelope {
            id: envelope,
            message,
            sequence: 0,
            agreement: *agreement,
            entity: row.counterpart().entity,
            entity_name: row.counterpart().name.clone(),
            group: group.id,
            group_name: group.name,
            core: core.to_bytes(),
            delivery,
            wire_bytes: 0,
            durable_bytes: 0,
            receipts: vec![],
        };
        self.mailroom.submit(out, vec![row], &sealed.manifest_key, sealed.objects).await.unwrap();
        self.exchange.submitted(agreement, envelope).await;
        envelope
    }
}

/// One file of incompressible bytes in a folder.
fn tar_of(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes as u64);
    header.set_mode(0o600);
    builder.append_data(&mut header, "image.bin", content.as_slice()).unwrap();
    builder.into_inner().unwrap()
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not reached: {what}");
}

/// Two nodes whose agreement was completed over the wire.
async fn pair() -> (TestNode, TestNode, AgreementId) {
    let (a, b) = (node("Clinic A", "NO:ORGNR:1").await, node("Clinic B", "NO:ORGNR:2").await);
    let card = b.book.own_card().unwrap();
    let draft = TermsDraft::standard(ambient::now());
    let (proposed, file) = a.book.propose(&card, draft, true).await.unwrap();
    let id = proposed.id;
    a.exchange.agreement_changed(&id).await;
    let (accepted, _) = b.book.accept(file.as_bytes(), true).await.unwrap();
    assert_eq!(accepted.id, id);
    b.exchange.agreement_changed(&id).await;
    b.exchange.contact_confirmed(&id, Duration::from_secs(10)).await.unwrap();
    for node in [&a, &b] {
        until("online", || node.exchange.peer(&id).online && node.book.get(&id).unwrap().roster.is_some()).await;
    }
    (a, b, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_completes_the_agreement_and_a_message_arrives() {
    let (a, b, id) = pair().await;
    for (from, to, bytes) in [(&a, &b, 5 << 20), (&b, &a, 100), (&a, &b, 3 << 20)] {
        let envelope = from.send(&id, bytes).await;
        until("delivered", || from.mailroom.envelope(&envelope).unwrap().delivery.state == State::Delivered).await;
        let row = from.mailroom.envelope(&envelope).unwrap();
        let node = from.book.get(&id).unwrap().node.clone();
        let receipt = verify_from(&row.receipts[0].bytes, &node, &from.entity.id()).unwrap();
        assert_eq!(receipt.envelope, envelope);
        let InItem::Message(message) = to.mailroom.item(&envelope.0).unwrap() else { panic!("a message") };
        assert_eq!(message.subject, "Knee");
        assert_eq!(message.counts.plain_bytes, bytes as u64);
        assert!(row.wire_bytes >= bytes as u64, "{} for {bytes}", row.wire_bytes);
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_an_end_stops_everything_and_both_know() {
    let (a, b, id) = pair().await;
    b.book.end(&id).await.unwrap();
    b.exchange.agreement_changed(&id).await;
    until("both know", || a.book.get(&id).unwrap().peer_end.is_some() && b.book.get(&id).unwrap().end_confirmed).await;
    until("offline", || !a.exchange.peer(&id).online && !b.exchange.peer(&id).online).await;
    a.stop().await;
    b.stop().await;
}
