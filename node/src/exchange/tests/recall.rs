//! Recalls, and what is not for the recipient, between two nodes.

use std::collections::HashSet;

use pakt_protocol::delivery::{Delivery, Event, Input, Reason};
use pakt_protocol::machine::Output;
use pakt_protocol::record::receipt::{Tier, Verdict};

use super::*;
use crate::mailroom::outbox::ask_again;
use crate::mailroom::purge::Cause;
use crate::mailroom::receipts::advance;
use crate::mailroom::rows::Stage;
use crate::store::StoreError;

impl TestNode {
    fn state_of(&self, envelope: &EnvelopeId) -> State {
        self.mailroom.envelope(envelope).unwrap().delivery.state
    }

    async fn delivered(&self, id: &AgreementId) -> EnvelopeId {
        let envelope = self.send(id, 300_000).await;
        until("delivered", || self.state_of(&envelope).tier().is_some()).await;
        envelope
    }

    /// What the last receipt of an envelope states, as the node of `by` signed it.
    fn stated(&self, id: &AgreementId, envelope: &EnvelopeId) -> Verdict {
        let row = self.mailroom.envelope(envelope).unwrap();
        let node = self.book.get(id).unwrap().node.clone();
        verify_from(&row.receipts.last().unwrap().bytes, &node, &self.entity.id()).unwrap().verdict
    }

    async fn stage(&self, from: &TestNode, envelope: EnvelopeId, stages: &'static [Stage]) {
        let (own, key) = (self.entity.current(), (from.entity.id(), envelope));
        let moved: Result<(), StoreError> = self
            .mailroom
            .store
            .write(move |tx| {
                for stage in stages {
                    assert!(advance(tx, &own, key, *stage)?.is_some());
                }
                Ok(())
            })
            .await;
        moved.unwrap();
    }

    fn report_subjects(&self) -> Vec<String> {
        let subject = |item| match item {
            InItem::Report(report) => Some(report.subject),
            InItem::Message(_) => None,
        };
        self.mailroom.inbox(None).unwrap().into_iter().filter_map(subject).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_before_the_envelope_leaves_is_certain_and_leaves_nothing() {
    let (a, b, id) = pair().await;
    b.stop().await;
    until("offline", || !a.exchange.peer(&id).online).await;
    let envelope = a.send(&id, 300_000).await;
    assert_eq!(a.state_of(&envelope), State::Queued);
    a.exchange.recall(&id, envelope).await.unwrap();
    assert_eq!(a.state_of(&envelope), State::Recalled);
    assert!(a.mailroom.open_envelopes(&id).unwrap().is_empty());
    assert_eq!(a.report_subjects(), [""; 0], "whoever recalled it knows");
    until("nothing is stored", || a.stored(&a) == 0).await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p41_a_recalled_message_is_purged_and_the_sender_holds_the_proof() {
    let (a, b, id) = pair().await;
    let envelope = a.delivered(&id).await;
    a.exchange.recall(&id, envelope).await.unwrap();
    until("recalled", || a.state_of(&envelope) == State::Recalled).await;
    assert_eq!(a.stated(&id, &envelope), Verdict::Recalled);
    assert!(b.mailroom.item(&envelope.0).is_err());
    b.holds_nothing_of(&a).await;
    assert_eq!(b.report_subjects(), ["A message was recalled"]);
    until("confirmed", || b.mailroom.owed(&a.entity.id(), &HashSet::new(), 9).unwrap().is_empty()).await;
    assert!(a.mailroom.open_recalls(id).await.unwrap().is_empty());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_comes_too_late_is_answered_with_the_receipt_taken() {
    let (a, b, id) = pair().await;
    let envelope = a.delivered(&id).await;
    // Taken, and not told yet.
    b.stage(&a, envelope, &[Stage::Released, Stage::Taken]).await;
    a.exchange.recall(&id, envelope).await.unwrap();
    until("taken", || a.state_of(&envelope) == State::Taken).await;
    assert_eq!(a.stated(&id, &envelope), Verdict::Held(Tier::Taken));
    assert!(b.mailroom.item(&envelope.0).is_ok());
    assert!(a.report_subjects().iter().any(|subject| subject.contains("too late")), "{:?}", a.report_subjects());
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p41_what_is_not_for_the_recipient_is_purged_and_the_sender_is_told() {
    let (a, b, id) = pair().await;
    let envelope = a.delivered(&id).await;
    let key = (a.entity.id(), envelope);
    b.mailroom.purge(&b.entity, key, Cause::NotForUs, ambient::service_now()).await.unwrap();
    b.exchange.receipts_owed(&id).await;
    until("refused", || a.state_of(&envelope) == State::Refused).await;
    assert_eq!(a.mailroom.envelope(&envelope).unwrap().delivery.reason, Some(Reason::Returned));
    assert_eq!((a.stated(&id, &envelope), a.report_subjects().len()), (Verdict::Returned, 1));
    b.holds_nothing_of(&a).await;
    // A recall afterwards finds that it has ended.
    a.exchange.recall(&id, envelope).await.unwrap();
    assert_eq!(a.state_of(&envelope), State::Refused);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_is_not_durable_is_not_confirmed() {
    let (a, b, id) = pair().await;
    b.stop().await;
    until("offline", || !a.exchange.peer(&id).online).await;
    let envelope = a.send(&id, 1000).await;
    a.mailroom.store.fail();
    assert!(a.exchange.recall(&id, envelope).await.is_err());
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_what_waited_in_a_backup_is_asked_about_and_never_sent() {
    let (a, b, id) = pair().await;
    b.stop().await;
    until("offline", || !a.exchange.peer(&id).online).await;
    let envelope = a.send(&id, 1000).await;
    let restored: Result<(), StoreError> = a.mailroom.store.write(|tx| ask_again(tx, 0)).await;
    restored.unwrap();
    let record = a.mailroom.envelope(&envelope).unwrap().delivery;
    assert_eq!(record.stopped, Some(Reason::RestoredSince));
    let mut delivery = Delivery::new(record, now());
    delivery.handle_input(Input::PeerUp, now());
    let outputs: Vec<_> = std::iter::from_fn(|| delivery.poll_output()).collect();
    assert!(outputs.contains(&Output::Event(Event::Ask)), "{outputs:?}");
    assert!(!outputs.contains(&Output::Event(Event::Attempt)), "{outputs:?}");
    delivery.handle_input(Input::Receipt(Verdict::NotHeld), now());
    assert_eq!((delivery.record().state, delivery.record().reason), (State::Refused, Some(Reason::RestoredSince)));
    a.stop().await;
}
