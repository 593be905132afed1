//! Floods of introductions, and what is none: bounded, dropped, and nobody is told why.

use pakt_keys::EntityId;
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_protocol::ids::AgreementId;
use pakt_protocol::introduction::{Letter, UNDECIDED_MAX, WAITING_BETWEEN_MAX, WAITING_MAX};
use pakt_protocol::message::introduction::{Introduction, IntroductionBody, IntroductionFate};
use pakt_protocol::record::card::{CardBody, SignedCard};
use pakt_protocol::record::chain::CertificateChain;

use super::tests::{node, pair};
use crate::ambient;
use crate::introductions::Arrival;

/// An entity that nobody knows, and its card.
fn stranger() -> (EntityId, SignedCard) {
    let mut rng = ambient::rng();
    let (root, statement) = (RootKey::generate(&mut rng), StatementKey::generate(&mut rng));
    let transport = TransportKey::generate(&mut rng).public();
    let keys = (transport, statement.public(), ContactKey::generate(&mut rng).public());
    let chain = CertificateChain::create(&root, &RootKey::generate(&mut rng).public(), keys, ambient::now());
    let body = CardBody {
        name: "Anybody".into(),
        number: "NO:ORGNR:7".into(),
        chain,
        addresses: vec!["10.0.0.1:22".parse().unwrap()],
        issued_at: ambient::now(),
    };
    (EntityId::of(&root.public()), body.sign(&statement).unwrap())
}

fn request(from: EntityId, to: EntityId, card: SignedCard) -> Introduction {
    Introduction { id: ambient::random(), from, to, body: IntroductionBody::CardRequest(card) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_counterpart_has_waiting_is_bounded_and_held_once() {
    let s = node("Steward", "NO:ORGNR:9").await;
    let (lane, flooder, other) = (AgreementId([1; 32]), AgreementId([2; 32]), AgreementId([3; 32]));
    let (from, card) = stranger();
    let message = || request(from, EntityId([5; 32]), card.clone());
    let held =
        |origin: AgreementId, message: Introduction| s.introductions.pass_on(lane, origin, message, ambient::now());
    let first = message();
    for _ in 0..3 {
        assert_eq!(held(flooder, first.clone()).await.unwrap(), IntroductionFate::Taken);
    }
    assert_eq!(s.introductions.leaving(&lane, 10, |_| false).unwrap().len(), 1, "a duplicate is held once");
    for _ in 1..WAITING_BETWEEN_MAX {
        assert_eq!(held(flooder, message()).await.unwrap(), IntroductionFate::Taken);
    }
    assert_eq!(held(flooder, message()).await.unwrap(), IntroductionFate::Later, "enough of this one for that one");
    assert_eq!(held(other, message()).await.unwrap(), IntroductionFate::Taken, "others are not in its way");
    let others_first = s.introductions.leaving(&lane, 1, |number| number < WAITING_BETWEEN_MAX as u64).unwrap();
    assert!(others_first.len() == 1, "what was put off is in nobody's way");
    let (number, _) = s.introductions.leaving(&lane, 1, |_| false).unwrap()[0];
    s.introductions.left(lane, number, IntroductionFate::Taken).await.unwrap();
    assert_eq!(held(flooder, message()).await.unwrap(), IntroductionFate::Taken, "what was taken makes room");
    // To many recipients, all of it is bounded.
    let lanes = (10..).map(|at| AgreementId([at; 32]));
    let mut all = WAITING_BETWEEN_MAX;
    for lane in lanes.take(WAITING_MAX / WAITING_BETWEEN_MAX) {
        for _ in 0..WAITING_BETWEEN_MAX {
            let fate = s.introductions.pass_on(lane, flooder, message(), ambient::now()).await.unwrap();
            all += usize::from(fate == IntroductionFate::Taken);
        }
    }
    assert_eq!(all, WAITING_MAX, "enough of this one");
    // Neither agreement exists: nothing of this may stay.
    s.introductions.tidy(ambient::now()).await.unwrap();
    assert!(s.introductions.leaving(&lane, 10, |_| false).unwrap().is_empty());
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_the_operator_is_bounded_and_what_is_not_right_is_dropped() {
    let (introducer, b, id) = pair().await;
    let via = b.book.get(&id).unwrap();
    let own = b.entity.id();
    let take = |message: Introduction| b.introductions.take(&via, message, ambient::now());
    let (from, card) = stranger();
    let (other, other_card) = stranger();
    let letter = |letter: Letter, claimed: EntityId| {
        let (id, node) = (ambient::random(), b.entity.node());
        let wrapped = letter.seal(&id, &from, (&own, &node.contact), &mut ambient::rng()).unwrap();
        Introduction { id, from: claimed, to: own, body: IntroductionBody::Letter(wrapped) }
    };
    let unasked = Introduction { id: [1; 16], from, to: own, body: IntroductionBody::Card(card.clone()) };
    let dropped = [
        request(other, own, card.clone()),
        unasked,
        letter(Letter::Proposal(b"no agreement file".to_vec()), from),
        letter(Letter::Agreement(b"no agreement file".to_vec()), from),
        letter(Letter::Proposal(vec![]), other),
    ];
    for message in dropped {
        assert_eq!(take(message).await.unwrap(), Arrival::Dropped);
    }
    assert_eq!(take(request(from, own, card.clone())).await.unwrap(), Arrival::Kept);
    assert_eq!(take(request(from, own, card)).await.unwrap(), Arrival::Dropped, "one request of each waits");
    for _ in 1..UNDECIDED_MAX {
        let (from, card) = stranger();
        assert_eq!(take(request(from, own, card)).await.unwrap(), Arrival::Kept);
    }
    assert_eq!(take(request(other, own, other_card)).await.unwrap(), Arrival::Later, "enough waits");
    assert_eq!(b.book.all().len(), 1, "none of them is anybody to dial");
    introducer.stop().await;
    b.stop().await;
}
