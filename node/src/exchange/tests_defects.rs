//! That a seeded defect of the machines is one of the node as well: two real nodes, which go wrong in the same way.
//!
//! The switch is one for the whole process, so these are run by themselves:
//! `cargo test -p pakt-node --features defects --lib tests_defects -- --test-threads 1`.

use std::time::Duration;

use pakt_protocol::defect::Defect;
use pakt_protocol::delivery::State;

use super::tests::{TestNode, pair, until};

fn state(node: &TestNode, envelope: &pakt_protocol::ids::EnvelopeId) -> State {
    node.mailroom.envelope(envelope).unwrap().delivery.state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_tier_is_what_people_are_shown() {
    for (defect, shown) in [(None, State::Delivered), (Some(Defect::SwapTier), State::Released)] {
        let (a, b, id) = pair().await;
        let _switched = defect.map(Defect::switch_on);
        let envelope = a.send(&id, 100).await;
        until("there is a receipt", || !a.mailroom.envelope(&envelope).unwrap().receipts.is_empty()).await;
        assert_eq!(state(&a, &envelope), shown, "nobody at the recipient has released it");
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_suspension_lets_messages_through() {
    for (defect, is_let_through) in [(None, false), (Some(Defect::IgnoreSuspension), true)] {
        let (a, b, id) = pair().await;
        let _switched = defect.map(Defect::switch_on);
        b.book.suspend(&id).await.unwrap();
        b.exchange.agreement_changed(&id).await;
        until("both know", || a.book.get(&id).unwrap().suspended_there().is_some()).await;
        let envelope = a.send(&id, 100).await;
        if is_let_through {
            until("delivered", || state(&a, &envelope) == State::Delivered).await;
        } else {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(state(&a, &envelope), State::Queued);
        }
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_note_lets_the_envelope_leave_unnoticed() {
    for (defect, is_noted) in [(None, true), (Some(Defect::SkipPersistLeft), false)] {
        let (a, b, id) = pair().await;
        let _switched = defect.map(Defect::switch_on);
        let envelope = a.send(&id, 100).await;
        until("delivered", || state(&a, &envelope) == State::Delivered).await;
        assert_eq!(a.mailroom.envelope(&envelope).unwrap().delivery.left, is_noted);
        a.stop().await;
        b.stop().await;
    }
}
