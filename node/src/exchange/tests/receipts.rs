//! Receipts after the first: told, kept, confirmed; and what settles an envelope whose end nobody knows.

use pakt_protocol::audit::{Event, MessageStep};
use pakt_protocol::content::manifest::ManifestKey;
use pakt_protocol::delivery::Reason;
use pakt_protocol::record::envelope::CORE_BYTES_MAX;
use pakt_protocol::record::receipt::{Receipt, Tier, Verdict, read};
use pakt_protocol::settling::Late;

use super::*;
use crate::mailroom::receipts;
use crate::mailroom::rows::Stage;
use crate::store::tables::OWED;

impl TestNode {
    /// Moves what arrived from `from` on, as whatever checks or reads it does.
    async fn advance(&self, from: &TestNode, envelope: EnvelopeId, stage: Stage) -> bool {
        let (own, arrived) = (self.entity.current(), (from.entity.id(), envelope));
        let moved = self.mailroom.store.write(move |tx| receipts::advance(tx, &own, arrived, stage)).await.unwrap();
        if let Some(message) = &moved {
            self.exchange.receipts_owed(&message.agreement).await;
        }
        moved.is_some()
    }

    fn state(&self, envelope: &EnvelopeId) -> State {
        self.mailroom.envelope(envelope).unwrap().delivery.state
    }

    fn verdicts(&self, envelope: &EnvelopeId) -> Vec<Verdict> {
        let row = self.mailroom.envelope(envelope).unwrap();
        row.receipts.iter().map(|held| read(&held.bytes).unwrap().verdict).collect()
    }

    async fn owes_nothing(&self) {
        let owed = || self.mailroom.store.read(|tx| tx.prefix_keys(&OWED, &(), 10)).unwrap();
        until("nothing is owed", || owed().is_empty()).await;
    }

    fn reports(&self) -> Vec<String> {
        let items = self.mailroom.inbox(None).unwrap();
        let subject = |item: InItem| match item {
            InItem::Report(report) => Some(report.subject),
            InItem::Message(_) => None,
        };
        items.into_iter().rev().filter_map(subject).collect()
    }

    /// An envelope whose signed envelope has left and that nobody knows the end of; like `like`, of which nothing is left.
    async fn left_open(&self, like: &EnvelopeId, hold_over: bool) -> EnvelopeId {
        let mut row = self.mailroom.envelope(like).unwrap();
        let mut message = self.mailroom.message(&row.message).unwrap();
        let mut core: EnvelopeCore = codec::decode(1, &row.core, CORE_BYTES_MAX).unwrap();
        (row.id, message.id) = (EnvelopeId(ambient::random()), MessageId(ambient::random()));
        (row.message, message.envelopes) = (message.id, vec![row.id]);
        (core.message, core.envelope) = (message.id, row.id);
        (row.core, row.receipts) = (core.to_bytes(), vec![]);
        row.delivery = Record::new(Priority::Normal, Duration::from_secs(3600), now());
        row.delivery.left = true;
        if hold_over {
            row.delivery.expires_at = now();
        }
        let (id, agreement) = (row.id, row.agreement);
        self.mailroom.submit(message, vec![row], &ManifestKey::from_bytes([9; 32]), vec![]).await.unwrap();
        self.exchange.submitted(&agreement, id).await;
        id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_tiers_reach_the_sender_and_are_owed_until_it_holds_them() {
    let (a, b, id) = pair().await;
    let envelope = a.send(&id, 1000).await;
    until("delivered", || a.state(&envelope) == State::Delivered).await;
    b.owes_nothing().await;
    assert!(!b.advance(&a, envelope, Stage::Taken).await, "it is not released yet");
    assert!(b.advance(&a, envelope, Stage::Released).await);
    until("released", || a.state(&envelope) == State::Released).await;
    assert!(b.advance(&a, envelope, Stage::Taken).await);
    until("taken", || a.state(&envelope) == State::Taken).await;
    assert!(!b.advance(&a, envelope, Stage::Taken).await, "once");
    b.owes_nothing().await;
    let tiers = [Tier::Delivered, Tier::Released, Tier::Taken].map(Verdict::Held);
    assert_eq!(a.verdicts(&envelope), tiers);
    assert_eq!(a.reports(), Vec::<String>::new());

    // A sender that lost them, as a restored one has, gets the same bytes again.
    let settled = b.mailroom.settled(&a.entity.id(), &envelope).unwrap().unwrap();
    let held: Vec<Vec<u8>> = a.mailroom.envelope(&envelope).unwrap().receipts.into_iter().map(|r| r.bytes).collect();
    let given: Vec<Vec<u8>> =
        std::iter::once(settled.receipt).chain(settled.later.into_iter().map(|s| s.receipt)).collect();
    assert_eq!(held, given);
    b.mailroom.owe_again((a.entity.id(), envelope)).await.unwrap();
    b.exchange.receipts_owed(&id).await;
    b.owes_nothing().await;
    assert_eq!(a.mailroom.envelope(&envelope).unwrap().receipts.len(), 3, "nothing twice");
    // Each statement is in both logs, once.
    let noted = |node: &TestNode, wanted: fn(&MessageStep) -> bool| {
        let entries = node.mailroom.store.read(|tx| crate::audit::page(tx, 0, 100)).unwrap();
        let is = |event: &Event| matches!(event, Event::Message { step, .. } if wanted(step));
        entries.iter().filter(|(_, entry)| is(&entry.event)).count()
    };
    assert_eq!(noted(&a, |step| matches!(step, MessageStep::Released | MessageStep::Taken)), 2);
    assert_eq!(noted(&b, |step| matches!(step, MessageStep::Stated { .. })), 2);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_quarantined_is_refused_and_what_is_let_out_is_released_after_all() {
    let (a, b, id) = pair().await;
    let envelope = a.send(&id, 1000).await;
    until("delivered", || a.state(&envelope) == State::Delivered).await;
    assert!(b.advance(&a, envelope, Stage::Quarantined).await);
    until("refused", || a.state(&envelope) == State::Refused).await;
    assert_eq!(a.mailroom.envelope(&envelope).unwrap().delivery.reason, Some(Reason::Quarantined));
    assert_eq!(a.reports(), ["Not delivered: Knee"]);
    assert!(b.advance(&a, envelope, Stage::Released).await);
    until("released", || a.state(&envelope) == State::Released).await;
    assert_eq!(a.reports(), ["Not delivered: Knee", "Delivered after all: Knee"]);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p30_what_nobody_knows_the_end_of_is_asked_about_and_settled_by_a_signature() {
    let (a, b, id) = pair().await;
    let envelope = a.send(&id, 1000).await;
    until("delivered", || a.state(&envelope) == State::Delivered).await;
    let open = a.left_open(&envelope, true).await;
    until("settled", || a.state(&open) == State::Expired).await;
    assert_eq!(a.verdicts(&open), [Verdict::NotHeld]);
    let subjects = a.reports();
    assert_eq!(subjects, ["Not confirmed, may have been delivered: Knee", "Not delivered: Knee"]);
    // For ever: the same id does not come in any more.
    let settled = b.mailroom.settled(&a.entity.id(), &open).unwrap().unwrap();
    assert_eq!(read(&settled.receipt).unwrap().verdict, Verdict::NotHeld);
    assert!(b.mailroom.item(&open.0).is_err());
    b.owes_nothing().await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p30_receipts_are_told_and_asked_for_after_the_agreement_ended() {
    let (a, b, id) = pair().await;
    let envelope = a.send(&id, 1000).await;
    until("delivered", || a.state(&envelope) == State::Delivered).await;
    b.owes_nothing().await;
    b.book.end(&id, &b.root()).await.unwrap();
    b.exchange.agreement_changed(&id).await;
    until("both know", || [&a, &b].iter().all(|node| node.book.get(&id).unwrap().end_confirmed)).await;
    until("offline", || !a.exchange.peer(&id).online && !b.exchange.peer(&id).online).await;
    let open = a.left_open(&envelope, false).await;
    until("in doubt", || a.mailroom.envelope(&open).unwrap().delivery.is_unconfirmed()).await;
    // Somebody reads it only now: the counterpart is dialled for that alone, and asks what it lacks.
    assert!(b.advance(&a, envelope, Stage::Released).await);
    until("released", || a.state(&envelope) == State::Released).await;
    until("settled", || a.state(&open) == State::Refused).await;
    let row = a.mailroom.envelope(&open).unwrap();
    assert_eq!((row.delivery.reason, a.verdicts(&open)), (Some(Reason::AgreementEnded), vec![Verdict::NotHeld]));
    b.owes_nothing().await;
    until("offline again", || !a.exchange.peer(&id).online && !b.exchange.peer(&id).online).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p30_receipts_are_told_and_asked_for_after_the_agreed_time() {
    let b = node("Clinic B", "NO:ORGNR:2").await;
    let mut draft = TermsDraft::standard(ambient::now());
    draft.valid_until = ambient::now() + Duration::from_secs(8);
    let (a, b, id) = pair_with(b, draft).await;
    let envelope = a.send(&id, 1000).await;
    until("delivered", || a.state(&envelope) == State::Delivered).await;
    b.owes_nothing().await;
    let offline = || !a.exchange.peer(&id).online && !b.exchange.peer(&id).online;
    until("its time is over", || [&a, &b].iter().all(|node| !node.book.get(&id).unwrap().in_force(now()))).await;
    until("offline", offline).await;
    let open = a.left_open(&envelope, false).await;
    until("in doubt", || a.mailroom.envelope(&open).unwrap().delivery.is_unconfirmed()).await;
    // Somebody reads it only now: the counterpart is dialled for that alone, and asks what it lacks.
    assert!(b.advance(&a, envelope, Stage::Released).await);
    until("released", || a.state(&envelope) == State::Released).await;
    until("settled", || a.state(&open) == State::Refused).await;
    let row = a.mailroom.envelope(&open).unwrap();
    assert_eq!((row.delivery.reason, a.verdicts(&open)), (Some(Reason::AgreementExpired), vec![Verdict::NotHeld]));
    b.owes_nothing().await;
    until("offline again", offline).await;
    // No content goes under it.
    let late = a.send(&id, 1000).await;
    until("refused", || a.state(&late) == State::Refused).await;
    assert!(b.mailroom.item(&late.0).is_err());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_receipt_about_another_core_or_for_another_entity_settles_nothing() {
    let (a, b, id) = pair().await;
    let envelope = a.send(&id, 1000).await;
    until("delivered", || a.state(&envelope) == State::Delivered).await;
    let held = a.mailroom.envelope(&envelope).unwrap().receipts[0].bytes.clone();
    let first: Receipt = read(&held).unwrap();
    let taken = Receipt { verdict: Verdict::Held(Tier::Taken), ..first.clone() };
    let other_core = Receipt { core: pakt_protocol::ids::CoreHash([7; 32]), ..taken.clone() };
    let unknown = Receipt { envelope: EnvelopeId([7; 16]), ..taken.clone() };
    let rows = [
        (b.entity.id(), other_core, Late::Foreign),
        (a.entity.id(), taken.clone(), Late::Foreign),
        (b.entity.id(), unknown, Late::Unknown),
        (b.entity.id(), taken, Late::Held),
    ];
    for (from, receipt, expected) in rows {
        assert_ne!(a.state(&envelope), State::Taken);
        assert_eq!(a.mailroom.settle(from, vec![1], receipt).await.unwrap(), expected);
    }
    assert_eq!(a.state(&envelope), State::Taken);
    a.stop().await;
    b.stop().await;
}
