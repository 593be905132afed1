//! P30: a message that is lost after its receipt shows on both sides, over the wire.

use pakt_protocol::delivery::State;
use pakt_protocol::ids::{AgreementId, EnvelopeId};

use super::tests::{TestNode, pair, until};
use crate::ambient;
use crate::reconcile::rows::{GapKind, Side, Tally};
use crate::store::StoreError;
use crate::store::tables::HELD_NUMBERS;

/// Asks for both directions and waits for them; what was counted of what the first has sent.
async fn reconcile(a: &TestNode, b: &TestNode, id: &AgreementId) -> Tally {
    let begin = ambient::service_now();
    a.exchange.reconcile(id).await;
    let complete = |node: &TestNode, side: Side| node.exchange.rounds().row(id, side).unwrap().complete;
    let is_new = |node: &TestNode, side: Side| complete(node, side).is_some_and(|complete| complete.at >= begin);
    for node in [a, b] {
        until("compared", || is_new(node, Side::Sent) && is_new(node, Side::Received)).await;
    }
    complete(a, Side::Sent).unwrap().tally
}

fn gaps(node: &TestNode, id: &AgreementId, side: Side) -> Vec<(GapKind, u64, Option<EnvelopeId>)> {
    let gaps = node.exchange.rounds().gaps(id, side).unwrap();
    gaps.into_iter().map(|(number, gap)| (gap.kind, number, gap.envelope)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p30_a_loss_after_the_receipt_shows_on_both_sides() {
    let (a, b, id) = pair().await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(a.send(&id, 100).await);
    }
    let back = b.send(&id, 100).await;
    for (node, envelope) in sent.iter().map(|envelope| (&a, envelope)).chain([(&b, &back)]) {
        until("delivered", || node.mailroom.envelope(envelope).unwrap().delivery.state != State::Queued).await;
        until("a receipt", || !node.mailroom.envelope(envelope).unwrap().receipts.is_empty()).await;
    }
    let tally = reconcile(&a, &b, &id).await;
    assert_eq!((tally.given, tally.delivered, tally.held, tally.gaps), (3, 3, 3, 0));
    let lost = (id, 2);
    let write = b.mailroom.store.write(move |tx| {
        let envelope = tx.get(&HELD_NUMBERS, &lost)?.expect("held");
        tx.remove(&HELD_NUMBERS, &lost)?;
        Ok::<_, StoreError>(envelope)
    });
    let envelope = write.await.unwrap();
    assert_eq!(reconcile(&a, &b, &id).await.gaps, 1);
    let expected = vec![(GapKind::Lost, 2, Some(envelope))];
    assert_eq!(gaps(&a, &id, Side::Sent), expected);
    until("named", || gaps(&b, &id, Side::Received) == expected).await;
    assert_eq!((a.exchange.rounds().open_gaps().unwrap(), b.exchange.rounds().open_gaps().unwrap()), (1, 1));
    assert!(gaps(&b, &id, Side::Sent).is_empty(), "the other direction is whole");
    let write = b.mailroom.store.write(move |tx| tx.put(&HELD_NUMBERS, &lost, &envelope));
    let written: Result<(), StoreError> = write.await;
    written.unwrap();
    assert_eq!(reconcile(&a, &b, &id).await.gaps, 0);
    assert_eq!((a.exchange.rounds().open_gaps().unwrap(), b.exchange.rounds().open_gaps().unwrap()), (0, 0));
    a.stop().await;
    b.stop().await;
}
