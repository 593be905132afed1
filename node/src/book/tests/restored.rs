//! P5, P24: what a restored node may say, and what its counterparts believe.

use pakt_protocol::door;
use pakt_protocol::ids::EnvelopeId;
use pakt_protocol::record::restored::RestoreNotice;

use super::*;
use crate::backup::rows::RestoredRow;
use crate::reconcile::numbers;
use crate::store::tables::{FORGOTTEN, RESTORE_TOLD, RESTORED};

/// The node as it is after a backup of this moment was restored, its memory of private epoch keys gone.
async fn restore(node: Node, generation: u64) -> Node {
    let row = RestoredRow {
        backup_at: ambient::now(),
        restored_at: ambient::now(),
        generation,
        nonce: [generation as u8; 32],
        settled: false,
        grants_renewed: false,
    };
    let slots = node.book.slots_in_use();
    node.book.inner.slots.erase(&slots).unwrap();
    let entity = node.book.inner.entity.clone();
    let write = node.book.inner.store.write(move |tx| {
        tx.put(&RESTORED, &(), &row)?;
        after_restore(tx, &entity, &row, ambient::now())
    });
    let written: Result<(), StoreError> = write.await;
    written.unwrap();
    node.restart()
}

async fn roster(node: &Node, id: &AgreementId) -> (Signed<Roster>, Roster) {
    let signed = node.book.own_roster(id).await.unwrap();
    let roster = signed.peek().unwrap();
    (signed, roster)
}

#[tokio::test]
async fn p5_a_restored_node_says_nothing_old_again() {
    let (a, b, id) = agreed().await;
    let (old, before) = roster(&a, &id).await;
    let a = restore(a, 1).await;
    let (new, after) = roster(&a, &id).await;
    assert!(after.counter >= before.counter + (1 << 32) && after.epoch >= before.epoch + (1 << 32));
    assert_ne!(after.epoch_key, before.epoch_key, "a new epoch at once");
    assert!(a.book.epoch_key(after.epoch).is_some() && a.book.epoch_key(before.epoch).is_none());
    b.book.take_roster(&id, &old).await.unwrap();
    b.book.take_roster(&id, &new).await.unwrap();
    assert!(b.book.take_roster(&id, &old).await.is_err(), "the old roster never again");
}

#[tokio::test]
async fn p5_numbers_of_envelopes_go_on_above_all_that_may_have_been_given() {
    let (a, _, id) = agreed().await;
    let give = |node: &Node| {
        let write = node.book.inner.store.write_blocking(move |tx| numbers::give(tx, id, EnvelopeId([9; 16])));
        write.unwrap()
    };
    assert_eq!([give(&a), give(&a), give(&a)], [1, 2, 3]);
    let a = restore(a, 1).await;
    let next = give(&a);
    assert!(next > 1 << 32);
    let forgotten = a.book.inner.store.read(|tx| tx.get(&FORGOTTEN, &id)).unwrap();
    assert_eq!(forgotten, Some(vec![(4, next - 1)]), "and what lies between is known as forgotten");
}

#[tokio::test]
async fn p5_flights_from_before_the_restore_are_refused() {
    let (a, b, id) = agreed().await;
    let recorded = [b.flight(&id).await, b.flight(&id).await, b.flight(&id).await];
    assert!(a.admits(&recorded[0]).await);
    // Two of them were never seen by the store that the backup shows.
    let secret = b.book.state().held[&id][0].clone();
    let a = restore(a, 1).await;
    let a = confirmed(a, &id).await;
    for flight in &recorded {
        assert!(!a.admits(flight).await, "a recorded flight opened the door of a restored node");
    }
    let counter = ambient::now().0 + 1_000_000;
    let fresh = door::seal_flight(&secret, counter, b"hello", &mut ambient::rng()).unwrap();
    assert!(a.admits(&fresh).await);
    assert!(!a.admits(&fresh).await);
}

/// The operator has confirmed the agreement.
async fn confirmed(node: Node, id: &AgreementId) -> Node {
    node.book.confirm(id).await.unwrap();
    node
}

#[tokio::test]
async fn p24_a_counterpart_believes_a_restore_once_and_in_order() {
    let (a, b, id) = agreed().await;
    assert!(a.book.restore_notice(&id).unwrap().is_none());
    let a = restore(a, 5).await;
    let notice = a.book.restore_notice(&id).unwrap().unwrap();
    assert_eq!(b.book.take_restored(&id, &notice).await, Ok((5, Some(0))));
    assert_eq!(b.book.take_restored(&id, &notice).await, Ok((5, None)), "it may come again");
    a.book.restore_known(&id, 4).await.unwrap();
    assert!(a.book.restore_notice(&id).unwrap().is_some(), "that was not about this restore");
    a.book.restore_known(&id, 5).await.unwrap();
    assert!(a.book.restore_notice(&id).unwrap().is_none());
    assert_eq!(a.book.inner.store.read(|tx| tx.get(&RESTORE_TOLD, &id)).unwrap(), Some(5));

    let said = notice.peek().unwrap();
    let by = |seed: u8, notice: &RestoreNotice| {
        Signed::create(notice, |domain, bytes| statement_key(seed, 1).sign(domain, bytes))
    };
    for (forged, why) in [
        (by(1, &RestoreNotice { generation: 4, ..said.clone() }), "older"),
        (by(1, &RestoreNotice { nonce: [9; 32], ..said.clone() }), "two different"),
        (by(2, &RestoreNotice { generation: 6, ..said.clone() }), "not a valid"),
        (by(1, &RestoreNotice { reader: a.id(), generation: 6, ..said.clone() }), "not a valid"),
    ] {
        let refused = b.book.take_restored(&id, &forged).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(b.book.gaps().unwrap()[0].1.notice, said);
    let again = by(1, &RestoreNotice { generation: 7, ..said });
    b.book.gap_seen(&id).await.unwrap();
    assert!(b.book.gaps().unwrap()[0].1.seen);
    assert_eq!(b.book.take_restored(&id, &again).await, Ok((7, Some(0))));
    assert!(!b.book.gaps().unwrap()[0].1.seen, "another restore is another gap");
}
