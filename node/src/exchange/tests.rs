//! Two nodes in one process, over real sockets and real files: from a proposal to a receipt.

mod recall;
mod receipts;
mod release;
mod terms;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pakt_keys::keystore::{HeldRoot, Keystore};
use pakt_keys::object::SealBase;
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::codec;
use pakt_protocol::content::extent::Extent;
use pakt_protocol::content::manifest::ManifestHead;
use pakt_protocol::delivery::{Reason, Record, State};
use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId};
use pakt_protocol::message::offer::Refusal;
use pakt_protocol::record::address::Address;
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::receipt::verify_from;
use pakt_protocol::record::roster::GroupId;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::*;
use crate::blob::Blobs;
use crate::book::TermsDraft;
use crate::content::{ContentPool, DurableSoFar, SealTree, SealTreeError, seal_tree};
use crate::disk::RealDisk;
use crate::mailroom::outgoing_owner;
use crate::mailroom::rows::{InItem, OutEnvelope, OutMessage, Report};
use crate::net::{DialRules, NetConfig};
use crate::slots::Slots;
use crate::store::tables::{INBOX, INBOX_IDS};
use crate::store::{Store, StoreError};

#[derive(Clone)]
pub(super) struct TestNode {
    _folder: Arc<TempDir>,
    pub(super) entity: Entity,
    pub(super) book: Book,
    pub(super) mailroom: Mailroom,
    net: Net,
    pub(super) exchange: Exchange,
    pool: ContentPool,
    pub(super) introductions: Introductions,
}

pub(super) async fn node(name: &str, number: &str) -> TestNode {
    node_with(name, number, Controls::from_sources(vec![])).await
}

async fn node_with(name: &str, number: &str, controls: Controls) -> TestNode {
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
        root: Some(HeldRoot::open(root)),
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
    let mailroom = Mailroom::new(store.clone(), blobs, slots);
    let directory = Directory::open(store.clone(), book.clone(), entity.clone(), Default::default()).unwrap();
    let introductions =
        Introductions::open(store, book.clone(), entity.clone(), directory.clone(), Default::default()).unwrap();
    let mut config = NetConfig::new(seed);
    config.listen = Some(format!("127.0.0.1:{port}").parse().unwrap());
    config.dial_rules = DialRules { own: vec!["127.0.0.1".parse().unwrap()], allowed: vec![] }.into();
    let (net, lanes) = Net::start(config, Arc::new(Keeper::new(book.clone(), entity.clone()))).await.unwrap();
    let parts = Parts {
        entity: entity.clone(),
        book: book.clone(),
        mailroom: mailroom.clone(),
        directory,
        introductions: introductions.clone(),
        net: net.clone(),
        lanes,
        controls,
        settings: Settings::default(),
    };
    let exchange = Exchange::start(parts);
    let pool = ContentPool::start().unwrap();
    TestNode { _folder: Arc::new(folder), entity, book, mailroom, net, exchange, pool, introductions }
}

impl TestNode {
    fn root(&self) -> RootKey {
        self.entity.current().root().unwrap().key(&[]).unwrap()
    }

    pub(super) async fn stop(self) {
        self.exchange.shutdown().await;
        self.net.shutdown().await;
    }

    pub(super) async fn send(&self, agreement: &AgreementId, bytes: usize) -> EnvelopeId {
        let envelope = EnvelopeId(ambient::random());
        self.submit(agreement, envelope, std::io::Cursor::new(tar_of(bytes)), None).await.unwrap();
        envelope
    }

    /// Seals and submits one message, as the service does; it is offered early if its extent is told.
    async fn submit(
        &self,
        agreement: &AgreementId,
        envelope: EnvelopeId,
        tar: impl AsyncRead + Send + Unpin + 'static,
        extent: Option<Extent>,
    ) -> Result<(), SealTreeError> {
        let row = self.book.get(agreement).unwrap();
        let group = row.roster.as_ref().expect("the counterpart was online").groups[0].clone();
        let message = MessageId(ambient::random());
        let head = ManifestHead { subject: "Knee".into(), from_group: "Reception".into(), ..ManifestHead::default() };
        let dedup = SealBase::generate(&mut ambient::rng());
        let own = self.entity.id();
        let durable = DurableSoFar::default();
        if let Some(extent) = extent {
            self.offer_early(agreement, (envelope, group.id), extent, &head, &durable).await;
        }
        let what = SealTree {
            extent,
            durable: Some(durable.clone()),
            ..SealTree::new(head, dedup, own, outgoing_owner(&message))
        };
        let sealed = seal_tree(tar, what, &self.mailroom.blobs, &self.pool).await?;
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
            number: 0,
            root_hash: sealed.root_hash,
        };
        let out = self.message(message, envelope, counts);
        let delivery = Record::new(Priority::Normal, Duration::from_secs(60), now());
        let row = OutEnvelope {
            id: envelope,
            message,
            sequence: 0,
            number: 0,
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
        Ok(())
    }

    async fn offer_early(
        &self,
        agreement: &AgreementId,
        (envelope, group): (EnvelopeId, GroupId),
        extent: Extent,
        head: &ManifestHead,
        durable: &DurableSoFar,
    ) {
        let offer = EarlyOffer {
            envelope,
            group,
            priority: Priority::Normal,
            extent,
            bounds: extent.bounds(head),
            expires_at: now() + Duration::from_secs(60),
            objects: durable.follow(),
        };
        self.exchange.offer_early(agreement, offer).await;
    }

    fn message(&self, id: MessageId, envelope: EnvelopeId, counts: Counts) -> OutMessage {
        OutMessage {
            id,
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
            earlier: vec![],
        }
    }

    /// Bytes that are stored as coming from `origin`.
    fn stored(&self, origin: &TestNode) -> u64 {
        self.mailroom.blobs.usage_of(origin.entity.id()).unwrap().bytes
    }

    /// Waits until nothing of `origin` is stored, and nothing that it offered is remembered.
    async fn holds_nothing_of(&self, origin: &TestNode) {
        let from = origin.entity.id();
        until("nothing is stored", || self.stored(origin) == 0).await;
        until("nothing is awaited", || self.mailroom.all_incoming(&from).unwrap().is_empty()).await;
    }
}

/// The extent of [`tar_of`] so many bytes.
fn extent(bytes: usize) -> Option<Extent> {
    Some(Extent { files: 1, folders: 0, plain_bytes: bytes as u64 })
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

pub(super) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not reached: {what}");
}

/// Two nodes whose agreement was completed over the wire.
pub(super) async fn pair() -> (TestNode, TestNode, AgreementId) {
    let b = node("Clinic B", "NO:ORGNR:2").await;
    pair_with(b, TermsDraft::standard(ambient::now())).await
}

/// The same with this acceptor and these terms.
async fn pair_with(b: TestNode, draft: TermsDraft) -> (TestNode, TestNode, AgreementId) {
    let a = node("Clinic A", "NO:ORGNR:1").await;
    let card = b.book.own_card().unwrap();
    let (proposed, file) = a.book.propose(&card, draft, true, &a.root()).await.unwrap();
    let id = proposed.id;
    a.exchange.agreement_changed(&id).await;
    let (accepted, _) = b.book.accept(file.as_bytes(), true, &b.root()).await.unwrap();
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
async fn p8_epochs_that_roll_and_are_erased_under_load_lose_nothing() {
    let (a, b, id) = pair().await;
    let day = Duration::from_secs(86_400);
    let start = ambient::service_now();
    let mut sent = Vec::new();
    for round in 1..=6 {
        sent.push(a.send(&id, 3 << 20).await);
        // Four days later: a new epoch begins, and the one before the last is erased.
        let before = b.book.current_epoch();
        assert!(b.book.roll_epoch_if_due(start + day * 4 * round).await.unwrap());
        assert!(b.book.current_epoch() > before);
        b.exchange.rosters_changed().await;
    }
    for envelope in &sent {
        let delivered = || a.mailroom.envelope(envelope).unwrap().delivery.state == State::Delivered;
        until("delivered", delivered).await;
        assert!(b.mailroom.item(&envelope.0).is_ok());
    }
    assert!(b.book.slots_in_use().len() <= 2, "the erased ones are gone");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_an_end_stops_everything_and_both_know() {
    let (a, b, id) = pair().await;
    b.book.end(&id, &b.root()).await.unwrap();
    b.exchange.agreement_changed(&id).await;
    until("both know", || [&a, &b].iter().all(|node| node.book.get(&id).unwrap().end_confirmed)).await;
    until("offline", || !a.exchange.peer(&id).online && !b.exchange.peer(&id).online).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_suspension_holds_what_is_queued_until_its_side_resumes() {
    let (a, b, id) = pair().await;
    b.book.suspend(&id).await.unwrap();
    b.exchange.agreement_changed(&id).await;
    until("both know", || a.book.get(&id).unwrap().suspended_there().is_some()).await;
    until("it is confirmed", || b.book.get(&id).unwrap().own_known == 1).await;
    let envelope = a.send(&id, 100).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(a.mailroom.envelope(&envelope).unwrap().delivery.state, State::Queued);
    assert!(a.exchange.peer(&id).online && b.exchange.peer(&id).online, "the control lane stays up");

    b.book.resume(&id, &b.root()).await.unwrap();
    b.exchange.agreement_changed(&id).await;
    until("delivered", || a.mailroom.envelope(&envelope).unwrap().delivery.state == State::Delivered).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_goes_both_ways_over_the_wire_and_traffic_goes_on() {
    let (a, b, id) = pair().await;
    let draft = |bytes| {
        let terms = a.book.get(&id).unwrap().terms.clone();
        TermsDraft { message_bytes_max: bytes, ..TermsDraft::of(&terms, ambient::now()) }
    };
    for (from, to, bytes) in [(&a, &b, 5_000), (&b, &a, 6_000)] {
        from.book.amend(&id, draft(bytes), &from.root()).await.unwrap();
        from.exchange.agreement_changed(&id).await;
        until("it is offered", || to.book.get(&id).unwrap().received.is_some()).await;
        until("and that is known", || from.book.get(&id).unwrap().offer_known).await;
        to.book.accept_amendment(&id, None, &to.root()).await.unwrap();
        to.exchange.agreement_changed(&id).await;
        until("it counts on both sides", || from.book.get(&id).unwrap().terms.message_bytes_max == bytes).await;
        until("and that is known", || to.book.get(&id).unwrap().version_known).await;
        let envelope = from.send(&id, 100).await;
        until("delivered", || from.mailroom.envelope(&envelope).unwrap().delivery.state == State::Delivered).await;
    }
    assert_eq!(a.book.get(&id).unwrap().terms.version, 3);
    a.stop().await;
    b.stop().await;
}

const EARLY_BYTES: usize = 24 << 20;

/// A message whose first half has been read and has arrived for the most part, and whose second half has not.
struct HalfWay {
    envelope: EnvelopeId,
    submitting: JoinHandle<Result<(), SealTreeError>>,
    content: DuplexStream,
    rest: Vec<u8>,
}

impl HalfWay {
    async fn begin(from: &TestNode, to: &TestNode, agreement: &AgreementId) -> HalfWay {
        let envelope = EnvelopeId(ambient::random());
        let (mut content, reader) = tokio::io::duplex(64 << 10);
        let (node, id) = (from.clone(), *agreement);
        let submitting = tokio::spawn(async move { node.submit(&id, envelope, reader, extent(EARLY_BYTES)).await });
        let mut first = tar_of(EARLY_BYTES);
        let rest = first.split_off(EARLY_BYTES / 2);
        let before = to.stored(from);
        content.write_all(&first).await.unwrap();
        until("content has arrived", || to.stored(from) > before + EARLY_BYTES as u64 / 3).await;
        assert!(from.mailroom.envelope(&envelope).is_err(), "nothing is submitted yet");
        assert_eq!(from.mailroom.early_offers(agreement).unwrap(), [envelope], "a crash would find it");
        HalfWay { envelope, submitting, content, rest }
    }

    async fn finish(mut self) -> EnvelopeId {
        self.content.write_all(&self.rest).await.unwrap();
        self.content.shutdown().await.unwrap();
        self.submitting.await.unwrap().unwrap();
        self.envelope
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_leaves_before_it_is_fully_read() {
    let (a, b, id) = pair().await;
    let envelope = HalfWay::begin(&a, &b, &id).await.finish().await;
    until("delivered", || a.mailroom.envelope(&envelope).unwrap().delivery.state == State::Delivered).await;
    let row = a.mailroom.envelope(&envelope).unwrap();
    let states: Vec<State> = row.delivery.history.iter().map(|(state, _)| *state).collect();
    assert_eq!(states, [State::Queued, State::Offered, State::Transferring, State::Delivered]);
    let expected = EARLY_BYTES as u64..EARLY_BYTES as u64 * 105 / 100;
    assert!(expected.contains(&row.wire_bytes), "{} bytes for {EARLY_BYTES}", row.wire_bytes);
    assert!(a.mailroom.early_offers(&id).unwrap().is_empty());
    let InItem::Message(message) = b.mailroom.item(&envelope.0).unwrap() else { panic!("a message") };
    assert_eq!(message.counts.plain_bytes, EARLY_BYTES as u64);
    until("no space is promised any more", || b.exchange.inner.context.promised.load(Relaxed) == 0).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_breaks_off_is_withdrawn() {
    let (a, b, id) = pair().await;
    let HalfWay { submitting, content, .. } = HalfWay::begin(&a, &b, &id).await;
    drop(content);
    assert!(matches!(submitting.await.unwrap(), Err(SealTreeError::Truncated)));
    b.holds_nothing_of(&a).await;
    a.holds_nothing_of(&a).await;
    until("it is forgotten", || a.mailroom.early_offers(&id).unwrap().is_empty()).await;
    assert!(b.mailroom.inbox(None).unwrap().is_empty());
    // The session was not harmed.
    let next = a.send(&id, 100).await;
    until("delivered", || a.mailroom.envelope(&next).unwrap().delivery.state == State::Delivered).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_offer_that_is_refused_ends_as_it_would_have_later() {
    let (a, b, id) = pair().await;
    // The counterpart hides the group behind this side's back.
    let group = b.book.groups()[0].clone();
    b.book.group_hide(&group.name, None).await.unwrap();
    let envelope = EnvelopeId(ambient::random());
    a.submit(&id, envelope, std::io::Cursor::new(tar_of(EARLY_BYTES)), extent(EARLY_BYTES)).await.unwrap();
    until("refused", || a.mailroom.envelope(&envelope).unwrap().delivery.state == State::Refused).await;
    assert!(a.mailroom.early_offers(&id).unwrap().is_empty());
    b.holds_nothing_of(&a).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_under_the_id_of_something_else_is_refused_and_displaces_nothing() {
    let (a, b, id) = pair().await;
    let (envelope, group) = (EnvelopeId(ambient::random()), b.book.groups()[0].clone());
    let report = Report {
        id: envelope.0,
        group: group.id,
        group_name: group.name,
        envelope,
        subject: "Here first".into(),
        text: String::new(),
        at: ambient::now(),
    };
    let put: Result<(), StoreError> = b.mailroom.store.write_blocking(move |tx| {
        tx.put(&INBOX_IDS, &envelope.0, &1_000)?;
        tx.put(&INBOX, &1_000, &InItem::Report(report))
    });
    put.unwrap();
    a.submit(&id, envelope, std::io::Cursor::new(tar_of(100)), None).await.unwrap();
    until("refused", || a.mailroom.envelope(&envelope).unwrap().delivery.state == State::Refused).await;
    let reason = a.mailroom.envelope(&envelope).unwrap().delivery.reason;
    assert_eq!(reason, Some(Reason::Refused(Refusal::Conflict)));
    assert!(matches!(b.mailroom.item(&envelope.0), Ok(InItem::Report(_))));
    b.holds_nothing_of(&a).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_an_end_takes_early_content_with_it() {
    let (a, b, id) = pair().await;
    let early = HalfWay::begin(&a, &b, &id).await;
    a.book.end(&id, &a.root()).await.unwrap();
    a.exchange.agreement_changed(&id).await;
    b.holds_nothing_of(&a).await;
    until("it is forgotten", || a.mailroom.early_offers(&id).unwrap().is_empty()).await;
    early.submitting.abort();
    a.holds_nothing_of(&a).await;
    a.stop().await;
    b.stop().await;
}
