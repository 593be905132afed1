//! What partners keep for each other.

use super::*;
use crate::store::tables::DEPOSITS;
use pakt_protocol::deposit::{DEPOSIT_BYTES_SHORT, DEPOSITS_MAX};
use pakt_protocol::message::deposit::DepositEntry;

#[tokio::test]
async fn a_partner_keeps_what_only_the_one_it_is_for_can_find() {
    let (a, b, p) = (Node::new(1), Node::new(2), Node::new(3));
    let ab = agree(&a, &b).await;
    let ap = agree(&a, &p).await;
    let bp = agree(&b, &p).await;
    let digest = b.book.deposits_digest(&bp);
    let left = b.book.deposits_for(&bp).await.unwrap();
    assert_eq!(left.len() % 16, 0, "how many there are is told in steps");
    p.book.keep_deposits(&bp, true, left.clone(), Some(digest)).await.unwrap();
    assert_eq!(p.book.kept_digest(&bp), digest);

    let tag = a.book.seek_tag(&ab, &p.id()).unwrap();
    assert_eq!(left.iter().filter(|entry| entry.tag == tag).count(), 1);
    let found = p.book.find_deposits(&ap, &[tag, [7; 16]]);
    assert_eq!(found[1], None);
    let update = a.book.open_deposit(&ab, &p.id(), found[0].as_ref().unwrap()).unwrap();
    assert_eq!(a.book.take_addresses(&ab, &update).await, Ok(true));
    assert_eq!(p.book.find_deposits(&bp, &[tag]), [None], "not to the one who left it");
    for entry in &left {
        assert_eq!(p.book.open_deposit(&bp, &p.id(), &entry.sealed), None, "the partner reads nothing");
    }

    b.book.set_own_addresses(vec!["[2001:db8::1]:7".parse().unwrap()]);
    assert_ne!(b.book.deposits_digest(&bp), digest);
    p.book.end(&bp, &p.root()).await.unwrap();
    assert_eq!(p.book.find_deposits(&ap, &[tag]), [None], "after the end");
    p.book.forget_deposits(&bp).await;
    assert_eq!(p.book.kept_digest(&bp), [0; 32]);
}

#[tokio::test]
async fn what_was_left_under_replaced_keys_is_a_hint_and_nothing_more() {
    let (a, b, p) = (Node::new(1), Node::new(2), Node::new(3));
    let ab = agree(&a, &b).await;
    let ap = agree(&a, &p).await;
    let bp = agree(&b, &p).await;
    let moved: Address = "[2001:db8::1]:7".parse().unwrap();
    let b = b.restart_as(2);
    b.book.set_own_addresses(vec![moved.clone()]);
    let left = b.book.deposits_for(&bp).await.unwrap();
    p.book.keep_deposits(&bp, true, left, Some([1; 32])).await.unwrap();
    let found = p.book.find_deposits(&ap, &[a.book.seek_tag(&ab, &p.id()).unwrap()]);
    let update = a.book.open_deposit(&ab, &p.id(), found[0].as_ref().unwrap()).unwrap();
    assert!(a.book.take_addresses(&ab, &update).await.is_err(), "no key that A knows has signed it");
    assert_eq!(a.book.deposit_hint(&ab, &update), vec![moved.clone()]);
    assert!(!a.book.get(&ab).unwrap().addresses.contains(&moved), "it is not kept");
    assert!(a.book.deposit_hint(&ap, &update).is_empty(), "it is for one agreement");
    a.book.end(&ab, &a.root()).await.unwrap();
    assert!(a.book.deposit_hint(&ab, &update).is_empty());
}

#[tokio::test]
async fn a_partner_knows_a_counterpart_by_the_keys_that_it_had() {
    let (a, b, id) = agreed().await;
    let [first, second] = [1, 2].map(|serial| chain(2, serial).verify().unwrap().transport.0);
    a.book.note_contact(&id, &chain(2, 2), 0).await.unwrap();
    let a = a.restart();
    let known = a.book.get(&id).unwrap();
    assert!(known.had_transport(&first) && known.had_transport(&second) && !known.had_transport(&[7; 32]));
    for serial in 3..14 {
        a.book.note_contact(&id, &chain(2, serial), 0).await.unwrap();
    }
    let known = a.book.get(&id).unwrap();
    assert!(!known.had_transport(&first) && known.had_transport(&chain(2, 13).verify().unwrap().transport.0));
    assert!(known.had_transport(&chain(2, 12).verify().unwrap().transport.0), "the newest of them are remembered");
    drop(b);
}

#[tokio::test]
async fn p16_a_counterpart_leaves_no_more_than_it_may() {
    let (a, p) = (Node::new(1), Node::new(3));
    let id = agree(&a, &p).await;
    let entry = |n: usize| {
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&n.to_be_bytes());
        DepositEntry { tag, sealed: vec![1; DEPOSIT_BYTES_SHORT] }
    };
    for part in 0..3 {
        let entries = (0..600).map(|n| entry(part * 600 + n)).collect();
        p.book.keep_deposits(&id, part == 0, entries, None).await.unwrap();
    }
    let kept = |p: &Node| p.book.inner.store.read(|tx| tx.range(&DEPOSITS, .., 10_000)).unwrap().len();
    assert_eq!(kept(&p), DEPOSITS_MAX);
    let odd = DepositEntry { sealed: vec![1; 100], ..entry(1) };
    assert!(p.book.keep_deposits(&id, false, vec![odd], None).await.is_err());
    p.book.keep_deposits(&id, true, vec![entry(9)], Some([1; 32])).await.unwrap();
    assert_eq!(kept(&p), 1, "a new set takes the place of the old one");
}
