//! From `delivered` to `released` between two nodes, with and without a scanner.

use pakt_protocol::controls::{Control, Evidence};
use pakt_protocol::record::receipt::{Tier, Verdict};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::mailroom::rows::{InMessage, Stage};
use crate::release::{self, Release};
use crate::scan::tests::{FakeClamd, Mode, QUICK, STREAM_BYTES_MAX, TOUGH};
use crate::scan::{Scanner, test_file};

/// The check of a node under test.
struct Check {
    release: Release,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// How long the scan of a message may take at least.
const SCAN_TIME: Duration = Duration::from_secs(3);

impl Check {
    fn start(node: &TestNode, scanner: Option<Scanner>) -> Check {
        let pool = ContentPool::start_low().unwrap();
        let (mailroom, entity) = (node.mailroom.clone(), node.entity.clone());
        let parts = release::Parts { mailroom, entity, scanner: scanner.clone(), scan_all: false, pool };
        let release = Release::paced(parts, SCAN_TIME);
        let (to_tell, mut told) = release::told();
        let stop = CancellationToken::new();
        let exchange = node.exchange.clone();
        let telling = tokio::spawn(async move {
            while let Some(agreement) = told.recv().await {
                exchange.receipts_owed(&agreement).await;
            }
        });
        let mut tasks = vec![telling, tokio::spawn(release.clone().run(to_tell, stop.clone()))];
        tasks.extend(scanner.map(|scanner| tokio::spawn(scanner.watch(stop.clone()))));
        Check { release, stop, tasks }
    }

    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

fn message(node: &TestNode, envelope: &EnvelopeId) -> Option<InMessage> {
    match node.mailroom.item(&envelope.0) {
        Ok(InItem::Message(message)) => Some(message),
        _ => None,
    }
}

fn stage(node: &TestNode, envelope: &EnvelopeId) -> Option<Stage> {
    message(node, envelope).map(|message| message.stage)
}

fn state(node: &TestNode, envelope: &EnvelopeId) -> State {
    node.mailroom.envelope(envelope).unwrap().delivery.state
}

/// What the receipts say that the sender holds, in their order.
fn stated(a: &TestNode, id: &AgreementId, envelope: &EnvelopeId) -> Vec<Verdict> {
    let node = a.book.get(id).unwrap().node.clone();
    let row = a.mailroom.envelope(envelope).unwrap();
    row.receipts.iter().map(|held| verify_from(&held.bytes, &node, &a.entity.id()).unwrap().verdict).collect()
}

fn tar_with(files: &[(&str, &[u8])]) -> std::io::Cursor<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    std::io::Cursor::new(builder.into_inner().unwrap())
}

/// A pair whose agreement demands a scan, the receiver's check and its scanner.
async fn scanned_pair(fake: &FakeClamd) -> (TestNode, TestNode, AgreementId, Check) {
    let scanner = Scanner::paced(&fake.config(), QUICK).unwrap();
    let b = node_with(
        "Clinic B",
        "NO:ORGNR:2",
        Controls::from_sources(vec![(Control::MalwareScan, Box::new(scanner.clone()))]),
    )
    .await;
    let mut terms = TermsDraft::standard(ambient::now());
    terms.controls = vec![Control::MalwareScan.as_str().to_owned()];
    let check = Check::start(&b, Some(scanner));
    let (a, b, id) = pair_with(b, terms).await;
    (a, b, id, check)
}

async fn send(a: &TestNode, id: &AgreementId, files: &[(&str, &[u8])]) -> EnvelopeId {
    let envelope = EnvelopeId(ambient::random());
    a.submit(id, envelope, tar_with(files), None).await.unwrap();
    envelope
}

#[tokio::test(flavor = "multi_thread")]
async fn released_follows_delivered_also_after_a_restart() {
    let b = node("Clinic B", "NO:ORGNR:2").await;
    let (a, b, id) = pair_with(b, TermsDraft::standard(ambient::now())).await;
    let early = a.send(&id, 2_000_000).await;
    until("delivered", || state(&a, &early) == State::Delivered).await;
    assert_eq!(stage(&b, &early), Some(Stage::Checking), "nobody has checked it yet");
    let check = Check::start(&b, None);
    until("released", || state(&a, &early) == State::Released).await;
    assert_eq!(stage(&b, &early), Some(Stage::Released));
    assert_eq!(stated(&a, &id, &early), [Verdict::Held(Tier::Delivered), Verdict::Held(Tier::Released)]);
    let late = send(&a, &id, &[("empty", b""), ("image", &[7; 300_000])]).await;
    until("released by itself", || state(&a, &late) == State::Released).await;
    assert_eq!(b.mailroom.waiting_for_release().unwrap(), (0, 0));
    check.stop().await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_scanner_finds_is_seen_by_nobody_and_its_sender_is_told() {
    let fake = FakeClamd::start();
    let (a, b, id, check) = scanned_pair(&fake).await;
    let harmless = send(&a, &id, &[("image", &[9; 200_000]), ("letter", b"Dear colleague")]).await;
    until("released", || state(&a, &harmless) == State::Released).await;
    assert!(fake.streams() >= 3, "tests, subject and files");
    let first = send(&a, &id, &[("letter", b"Dear colleague"), ("program", &test_file())]).await;
    let second = send(&a, &id, &[("program", &test_file())]).await;
    for envelope in [&first, &second] {
        until("refused", || state(&a, envelope) == State::Refused).await;
        assert_eq!(a.mailroom.envelope(envelope).unwrap().delivery.reason, Some(Reason::Quarantined));
        assert_eq!(stated(&a, &id, envelope), [Verdict::Held(Tier::Delivered), Verdict::Quarantined]);
        assert_eq!(stage(&b, envelope), Some(Stage::Quarantined));
    }
    let findings = b.mailroom.quarantined(10).unwrap();
    assert_eq!(findings.iter().map(|found| found.what.as_str()).collect::<Vec<_>>(), ["Eicar", "Eicar"]);
    // The operator deletes one, key and all, and lets the other out.
    let from = a.entity.id();
    let key = message(&b, &first).unwrap().key.unwrap();
    b.mailroom.delete_quarantined(&b.entity, (from, first), ambient::service_now()).await.unwrap();
    assert_eq!(stage(&b, &first), None);
    assert!(b.mailroom.slots.get(key).unwrap().is_none(), "nothing opens it any more");
    assert!(b.mailroom.purged(&(from, first)).unwrap().is_some());
    assert_eq!(b.mailroom.quarantined(10).unwrap().len(), 1);
    let deleted = b.mailroom.delete_quarantined(&b.entity, (from, harmless), ambient::service_now()).await;
    assert!(deleted.is_err(), "nothing was found in it");
    b.mailroom.let_out((from, second)).await.unwrap();
    until("released after all", || state(&a, &second) == State::Released).await;
    assert_eq!(stage(&b, &second), Some(Stage::Released));
    assert!(b.mailroom.quarantined(10).unwrap().is_empty());
    assert!(b.mailroom.let_out((from, second)).await.is_err(), "it is out");
    check.stop().await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_scanned_is_held_until_it_can_be() {
    let mut fake = FakeClamd::start();
    let (a, b, id, check) = scanned_pair(&fake).await;
    let beyond = send(&a, &id, &[("large", &vec![5; 2 * STREAM_BYTES_MAX])]).await;
    until("delivered", || state(&a, &beyond) == State::Delivered).await;
    until("held", || check.release.held().iter().any(|held| held.why.contains("StreamMaxLength"))).await;
    let again = check.release.held()[0].again;
    assert!(again > tokio::time::Instant::now() + Duration::from_secs(3_600), "the same scanner says the same again");
    // While the scanner answers nothing that can be understood, then while it is gone.
    fake.set(Mode::Mumbles);
    let unclear = send(&a, &id, &[("letter", b"one")]).await;
    until("delivered", || state(&a, &unclear) == State::Delivered).await;
    until("it is known", || a.book.peer_attestation(&id).unwrap().controls[0].evidence == Evidence::None).await;
    let waiting = send(&a, &id, &[("letter", b"two")]).await;
    fake.stop().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((stage(&b, &beyond), stage(&b, &unclear)), (Some(Stage::Checking), Some(Stage::Checking)));
    assert_eq!(state(&a, &waiting), State::Queued, "nothing is offered to a node without its scanner");
    fake.set(Mode::Scans);
    fake.listen();
    until("released", || state(&a, &unclear) == State::Released && state(&a, &waiting) == State::Released).await;
    assert_eq!(stage(&b, &beyond), Some(Stage::Checking), "its limits are still the same");
    b.mailroom.let_out((a.entity.id(), beyond)).await.unwrap();
    until("let out", || state(&a, &beyond) == State::Released).await;
    until("forgotten", || check.release.held().is_empty()).await;
    // What its sender takes back meanwhile is neither held nor checked any more.
    let back = send(&a, &id, &[("large", &vec![6; 2 * STREAM_BYTES_MAX])]).await;
    until("held as well", || !check.release.held().is_empty()).await;
    a.exchange.recall(&id, back).await.unwrap();
    until("recalled", || state(&a, &back) == State::Recalled).await;
    assert_eq!((stage(&b, &back), b.mailroom.waiting_for_release().unwrap()), (None, (0, 0)));
    until("forgotten, too", || check.release.held().is_empty()).await;
    check.stop().await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_scanner_that_is_gone_can_be_let_out_after_a_restart() {
    let mut fake = FakeClamd::start();
    let (a, b, id, check) = scanned_pair(&fake).await;
    let passed = send(&a, &id, &[("letter", b"Dear colleague")]).await;
    until("released", || state(&a, &passed) == State::Released).await;
    fake.set(Mode::Mumbles);
    let waiting = send(&a, &id, &[("letter", b"one")]).await;
    until("delivered", || state(&a, &waiting) == State::Delivered).await;
    check.stop().await;
    fake.stop().await;
    let scanner = Scanner::paced(&fake.config(), QUICK).unwrap();
    assert!(!scanner.test().await);
    let check = Check::start(&b, Some(scanner));
    // Nothing is known of it but what is stored.
    assert!(check.release.held().is_empty());
    assert!(check.release.unfit().unwrap().contains("does not answer"));
    let waits = check.release.waiting(10).unwrap();
    assert_eq!(waits.iter().map(|row| row.envelope).collect::<Vec<_>>(), [waiting]);
    let from = a.entity.id();
    assert!(check.release.may_let_out((from, waiting)).unwrap());
    assert!(!check.release.may_let_out((from, passed)).unwrap(), "it is out");
    assert!(!check.release.may_let_out((from, EnvelopeId([9; 16]))).unwrap());
    b.mailroom.let_out((from, waiting)).await.unwrap();
    until("let out", || state(&a, &waiting) == State::Released).await;
    assert!(check.release.waiting(10).unwrap().is_empty());
    check.stop().await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_does_not_end_is_broken_off() {
    let fake = FakeClamd::start();
    let (a, b, id, check) = scanned_pair(&fake).await;
    // Content that takes the scanner long; more of it than one sender has places for.
    fake.set(Mode::Chews);
    let mut tough = Vec::new();
    for number in 0..4 {
        tough.push(send(&a, &id, &[("tough", &[TOUGH, &[number]].concat())]).await);
    }
    let held = |says: &str| check.release.held().iter().filter(|held| held.why.contains(says)).count();
    until("held", || held("its scan took more than 3s") == tough.len()).await;
    let letter = send(&a, &id, &[("letter", b"Dear colleague")]).await;
    until("another is released meanwhile", || state(&a, &letter) == State::Released).await;
    assert!(tough.iter().all(|envelope| stage(&b, envelope) == Some(Stage::Checking)));
    // What is taken back gives its place back while it is scanned.
    a.exchange.recall(&id, tough[0]).await.unwrap();
    until("recalled", || state(&a, &tough[0]) == State::Recalled).await;
    // A scanner that says nothing at all is known for it within seconds, long before a scan takes too long.
    let last = send(&a, &id, &[("letter", b"Dear colleague")]).await;
    until("released as well", || state(&a, &last) == State::Released).await;
    fake.set(Mode::Silent);
    let silent = send(&a, &id, &[("letter", b"Dear colleague, once more")]).await;
    let begun = tokio::time::Instant::now();
    until("held, too", || check.release.held().iter().any(|held| held.envelope == silent)).await;
    assert!(begun.elapsed() < SCAN_TIME, "{:?}", begun.elapsed());
    assert!(check.release.held().iter().any(|held| held.why.contains("it took too long")));
    fake.set(Mode::Scans);
    until("released when it is back", || tough[1..].iter().chain([&silent]).all(|id| state(&a, id) == State::Released))
        .await;
    check.stop().await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn nothing_is_sealed_that_the_senders_scanner_does_not_pass() {
    let mut fake = FakeClamd::start();
    let scanner = Scanner::of(&fake.config()).unwrap();
    assert!(scanner.test().await);
    let node = node("Clinic A", "NO:ORGNR:1").await;
    let owner = outgoing_owner(&MessageId([3; 16]));
    let seal = async |text: &str, files: &[(&str, &[u8])]| {
        let head = ManifestHead { text: text.to_owned(), ..ManifestHead::default() };
        let dedup = SealBase::generate(&mut ambient::rng());
        let scanner = Some(scanner.clone());
        let what = SealTree { scanner, ..SealTree::new(head, dedup, node.entity.id(), owner) };
        let sealed = seal_tree(tar_with(files), what, &node.mailroom.blobs, &node.pool).await;
        sealed.map(drop).map_err(|error| (error.message(), format!("{error:?}")))
    };
    let virus = String::from_utf8(test_file()).unwrap();
    let large = vec![1; 4 * STREAM_BYTES_MAX];
    let refused = [
        (
            seal("", &[("a", b"x"), ("canary", virus.as_bytes())]).await,
            "canary cannot be sent: the malware scanner found Eicar",
        ),
        (seal(&virus, &[("a", b"x")]).await, "the text cannot be sent"),
        (seal("", &[("large", &large)]).await, "large cannot be sent: it is beyond"),
    ];
    for (sealed, says) in refused {
        let (message, logged) = sealed.unwrap_err();
        assert!(message.contains(says), "{message}");
        assert!(!logged.contains("canary"), "{logged}");
    }
    until("nothing is stored", || node.stored(&node) == 0).await;
    assert!(seal("Dear colleague", &[("a", b"x"), ("empty", b"")]).await.is_ok());
    fake.stop().await;
    let (message, _) = seal("", &[("a", b"x")]).await.unwrap_err();
    assert!(message.contains("a cannot be sent: the malware scanner cannot be used"), "{message}");
    node.stop().await;
}
