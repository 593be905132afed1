//! The power fails at every storage call of what matters: nothing that was answered is lost, nothing half is left.

use super::*;
use crate::disk::{Crash, Fault, FaultPlan};

/// Cuts the power at `at` calls from now; whoever notices errs.
fn cut(node: &Node, at: u64) {
    node.disk.plan(FaultPlan { at: node.disk.calls() + at, fault: Fault::Cut });
}

/// The node after a reboot, with an arbitrary part of what was not synced.
fn reboot(node: &Node, seed: u64) -> Node {
    let disk = node.disk.crash(Crash::LostSome, seed);
    let book = open(&disk, node.book.inner.entity.clone(), node.seed);
    Node { disk, book, seed: node.seed }
}

#[tokio::test]
async fn p32_an_accepted_agreement_and_its_counters_survive() {
    let a = Node::new(1);
    let (proposal, text) = a.propose(&Node::new(2)).await;
    let id = proposal.id;
    for at in 1.. {
        let b = Node::new(2);
        cut(&b, at);
        let accepted = b.book.accept(text.as_bytes(), true, &b.root()).await;
        let sealed = b.book.seal_flight(&id, b"hello").await;
        let struck = b.disk.struck_at().is_some();
        let b = reboot(&b, at);
        match (&accepted, b.book.get(&id)) {
            (Ok((_, file)), Some(_)) => assert_eq!(b.book.export(&id).unwrap(), *file),
            (Ok(_), None) => panic!("an accepted agreement was lost at call {at}"),
            (Err(_), found) => assert!(found.is_none_or(|agreement| agreement.contact.is_some())),
        }
        let (_, again) = b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap();
        assert!(accepted.is_err() || accepted.unwrap().1 == again);
        let (first, second) = (sealed.ok(), b.flight(&id).await);
        if let Some(first) = first {
            assert!(a.admits(&first).await && a.admits(&second).await, "a counter was used twice at call {at}");
        }
        if !struck {
            break;
        }
    }
}

#[tokio::test]
async fn p32_whoever_was_admitted_is_not_admitted_again() {
    for at in 1.. {
        let (a, b, id) = agreed().await;
        let flight = b.flight(&id).await;
        cut(&a, at);
        let admitted = a.admits(&flight).await;
        let struck = a.disk.struck_at().is_some();
        let a = reboot(&a, at);
        assert!(!(admitted && a.admits(&flight).await), "call {at}");
        if !struck {
            assert!(admitted);
            break;
        }
    }
}

#[tokio::test]
async fn p32_the_published_epoch_always_has_its_key() {
    for at in 1.. {
        let (a, _, id) = agreed().await;
        let first = a.book.current_epoch();
        let tomorrow = ambient::now() + DAY;
        cut(&a, at);
        let rolled = a.book.roll_epoch_if_due(tomorrow).await;
        let erased = a.book.roll_epoch_if_due(tomorrow + 4 * DAY).await;
        let struck = a.disk.struck_at().is_some();
        let a = reboot(&a, at);
        let published = a.book.own_roster(&id).await.unwrap().peek().unwrap();
        assert!(a.book.epoch_key(published.epoch).is_some(), "call {at}");
        assert!(rolled.is_err() || published.epoch > first, "call {at}");
        assert!(erased.is_err() || a.book.epoch_key(first).is_none(), "call {at}");
        if !struck {
            break;
        }
    }
}
