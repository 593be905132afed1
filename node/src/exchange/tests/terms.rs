//! The terms that bite, between two nodes: controls, purposes, rate.

use std::sync::atomic::AtomicBool;

use pakt_protocol::controls::{Control, Evidence};
use pakt_protocol::delivery::Reason;
use pakt_protocol::record::receipt::Verdict;

use super::*;
use crate::controls::Source;
use crate::mailroom::rate::Direction;

/// A scanner that the test switches.
#[derive(Clone, Default)]
struct Scanner(Arc<AtomicBool>);

impl Source for Scanner {
    fn evidence(&self) -> Evidence {
        if self.0.load(Relaxed) { Evidence::On("a scanner".into()) } else { Evidence::None }
    }
}

fn draft(change: impl FnOnce(&mut TermsDraft)) -> TermsDraft {
    let mut draft = TermsDraft::standard(ambient::now());
    change(&mut draft);
    draft
}

fn state(node: &TestNode, envelope: &EnvelopeId) -> State {
    node.mailroom.envelope(envelope).unwrap().delivery.state
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_offered_before_every_control_is_attested_and_all_stops_when_one_goes() {
    let scanner = Scanner::default();
    let controls = Controls::from_sources(vec![(Control::MalwareScan, Box::new(scanner.clone()))]);
    let b = node_with("Clinic B", "NO:ORGNR:2", controls).await;
    let (a, b, id) = pair_with(b, draft(|terms| terms.controls = vec!["malware-scan".into()])).await;
    let early = EnvelopeId(ambient::random());
    let tar = tar_of(EARLY_BYTES);
    a.submit(&id, early, std::io::Cursor::new(tar), extent(EARLY_BYTES)).await.unwrap();
    until("it is known why it waits", || {
        a.exchange.peer(&id).holding.is_some_and(|holding| holding.why.contains("malware-scan"))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&a, &early), State::Queued);
    assert!(a.mailroom.early_offers(&id).unwrap().is_empty(), "it was never offered");
    assert_eq!(b.stored(&a), 0);
    assert!(b.mailroom.all_incoming(&a.entity.id()).unwrap().is_empty());
    // The agreement asks both sides: what A cannot attest, B does not send to.
    let back = b.send(&id, 100).await;
    scanner.0.store(true, Relaxed);
    until("delivered once it is on", || state(&a, &early) == State::Delivered).await;
    assert_eq!(state(&b, &back), State::Queued);
    assert!(a.exchange.peer(&id).holding.is_none());
    scanner.0.store(false, Relaxed);
    until("it is known that it is off", || {
        let known = a.book.peer_attestation(&id).unwrap();
        known.controls.iter().all(|one| one.evidence == Evidence::None)
    })
    .await;
    let late = a.send(&id, 100).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(state(&a, &late), State::Queued);
    assert_eq!(a.mailroom.envelope(&late).unwrap().delivery.attempts, 0);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purpose_outside_the_agreement_is_refused_with_a_signature() {
    let b = node("Clinic B", "NO:ORGNR:2").await;
    // The test's messages name no purpose: a sender that does not keep to the terms.
    let (a, b, id) = pair_with(b, draft(|terms| terms.purposes = vec!["treatment".into()])).await;
    let envelope = a.send(&id, 100_000).await;
    until("refused", || state(&a, &envelope) == State::Refused).await;
    let row = a.mailroom.envelope(&envelope).unwrap();
    assert_eq!(row.delivery.reason, Some(Reason::PurposeNotAgreed));
    let node = a.book.get(&id).unwrap().node.clone();
    let receipt = verify_from(&row.receipts[0].bytes, &node, &a.entity.id()).unwrap();
    assert_eq!((receipt.envelope, receipt.verdict), (envelope, Verdict::PurposeNotAgreed));
    assert!(b.mailroom.inbox(None).unwrap().is_empty());
    b.holds_nothing_of(&a).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_kept_by_the_sender_and_counted_by_both() {
    let b = node("Clinic B", "NO:ORGNR:2").await;
    let (a, b, id) = pair_with(b, draft(|terms| terms.messages_per_hour = Some(3))).await;
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(a.send(&id, 100).await);
    }
    let delivered = || sent.iter().filter(|envelope| state(&a, envelope) == State::Delivered).count();
    until("three are delivered", || delivered() == 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(delivered(), 3);
    for envelope in &sent[3..] {
        let row = a.mailroom.envelope(envelope).unwrap();
        assert_eq!(
            (row.delivery.state, row.delivery.attempts),
            (State::Queued, 0),
            "an honest sender is never refused"
        );
    }
    let holding = a.exchange.peer(&id).holding.unwrap();
    assert!(holding.why.contains("3 messages per hour"), "{holding:?}");
    let wait = holding.until.unwrap().since(now());
    assert!(wait > Duration::from_secs(3_500) && wait < Duration::from_secs(3_800), "{wait:?}");
    // What a restart would find.
    let counted = |node: &TestNode, of: &TestNode, direction| {
        node.mailroom.rate_window(&of.entity.id(), direction).unwrap().len()
    };
    assert_eq!((counted(&a, &b, Direction::Sent), counted(&b, &a, Direction::Received)), (3, 3));
    assert_eq!((counted(&a, &b, Direction::Received), counted(&b, &a, Direction::Sent)), (0, 0));
    // The other direction has its own count.
    let back = b.send(&id, 100).await;
    until("delivered", || state(&b, &back) == State::Delivered).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_accepted_while_the_other_side_was_away_comes_back_after_the_end() {
    let b = node("Clinic B", "NO:ORGNR:2").await;
    let (a, b, id) = pair_with(b, draft(|terms| terms.valid_until = ambient::now() + Duration::from_secs(6))).await;
    let terms = a.book.get(&id).unwrap().terms.clone();
    let longer =
        TermsDraft { valid_until: terms.valid_until + Duration::from_secs(3_600), ..TermsDraft::of(&terms, now()) };
    // The offer reaches the people at B by mail: neither node has told the other.
    let (_, file) = a.book.amend(&id, longer, &a.root()).await.unwrap();
    b.book.take_offer_file(file.as_bytes()).await.unwrap();
    for node in [&a, &b] {
        until("its time is over", || !node.book.get(&id).unwrap().in_force(now())).await;
        until("offline", || !node.exchange.peer(&id).online).await;
    }
    b.book.accept_amendment(&id, None, &b.root()).await.unwrap();
    b.exchange.agreement_changed(&id).await;
    until("renewed", || a.book.get(&id).unwrap().in_force(now())).await;
    until("B knows", || b.book.get(&id).unwrap().version_known).await;
    let is_live = |node: &TestNode| node.exchange.peer(&id).online;
    until("online again", || is_live(&a) && is_live(&b)).await;
    let envelope = a.send(&id, 100).await;
    until("and what waits goes", || state(&a, &envelope) != State::Queued).await;
    a.stop().await;
    b.stop().await;
}
