//! An agreement from the proposal to its end, over the wire and through mailed files.

use super::*;
use pakt_protocol::record::agreement::Side;

#[tokio::test]
async fn a_proposal_becomes_an_agreement_over_its_own_door() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (proposal, text) = a.propose(&b).await;
    let id = proposal.id;
    let now = ambient::now();
    assert_eq!((proposal.standing, proposal.side, proposal.verified), (Standing::Proposed, Side::Proposer, true));
    assert_eq!(proposal.state_for_people(now), AgreementState::Proposed);
    assert_eq!(proposal.state_for_people(now + 31 * DAY), AgreementState::Expired);
    assert!(!proposal.in_force(now) && !proposal.should_dial(now));

    let (accepted, file) = b.book.accept(text.as_bytes(), false, &b.root()).await.unwrap();
    assert!(accepted.in_force(now) && accepted.should_dial(now) && !accepted.verified);
    assert_eq!(accepted.counterpart(), a.book.inner.entity.party());
    assert_eq!(
        b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap().1,
        file,
        "the same proposal gives the same file"
    );
    assert!(b.book.get(&id).unwrap().verified, "comparing the fingerprint later counts");

    // B dials through the proposal's door, A through none yet.
    assert!(matches!(a.book.seal_flight(&id, b"").await, Err(FlightProblem::NoGrant)));
    let (admitted, from, hello) = a.book.admit(&b.flight(&id).await).await.unwrap();
    assert_eq!((admitted, from, hello), (id, b.id(), b"hello".to_vec()));
    assert!(a.book.check_hello(&id, &b.id(), b.tls_key(), &b.hello()).is_ok());
    let contact = accepted.contact.as_deref().unwrap();
    a.book.take_contact(&id, contact).await.unwrap();
    a.book.take_contact(&id, contact).await.unwrap();
    assert!(a.book.get(&id).unwrap().in_force(now));
    b.book.contact_confirmed(&id).await.unwrap();
    assert_eq!(b.book.get(&id).unwrap().contact, None);
    assert!(b.admits(&a.flight(&id).await).await);

    let (a, b) = (a.restart(), b.restart());
    for node in [&a, &b] {
        let agreement = node.book.get(&id).unwrap();
        assert!(agreement.in_force(now) && agreement.verified);
        assert!(!agreement.in_force(now + 366 * DAY));
        assert_eq!(agreement.state_for_people(now + 366 * DAY), AgreementState::Expired);
        assert_eq!(node.book.export(&id).unwrap(), file);
    }
    assert!(b.admits(&a.flight(&id).await).await);
}

#[tokio::test]
async fn files_alone_are_enough() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (proposal, text) = a.propose(&b).await;
    assert!(matches!(a.book.import(text.as_bytes(), true).await, Err(BookError::NotCountersigned)));
    let (_, file) = b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap();
    assert!(matches!(b.book.accept(file.as_bytes(), true, &b.root()).await, Err(BookError::AlreadySigned)));
    let imported = a.book.import(file.as_bytes(), true).await.unwrap();
    assert_eq!((imported.id, imported.standing), (proposal.id, Standing::Active));
    assert!(b.admits(&a.flight(&imported.id).await).await);

    // Stores that have lost the agreement take it up again, as either side.
    for lost in [1, 2] {
        let node = Node::new(lost);
        let imported = node.book.import(file.as_bytes(), false).await.unwrap();
        assert_eq!((imported.standing, imported.verified), (Standing::Active, false));
        let (_, other) = if lost == 1 { (&a, &b) } else { (&b, &a) };
        assert!(other.admits(&node.flight(&imported.id).await).await);
    }
    assert!(matches!(Node::new(3).book.import(file.as_bytes(), true).await, Err(BookError::NotForUs)));
}

#[tokio::test]
async fn p6_an_end_lets_only_receipts_through_the_doors_and_closes_them_after_a_month() {
    let (a, b, id) = agreed().await;
    let early = b.flight(&id).await;
    a.book.end(&id, &a.root()).await.unwrap();
    let end = a.newest(&id);
    a.book.end(&id, &a.root()).await.unwrap();
    assert_eq!(a.newest(&id), end);
    let now = ambient::now();
    let ended = a.book.get(&id).unwrap();
    assert_eq!(ended.state_for_people(now), AgreementState::Ended);
    assert!(!ended.in_force(now) && ended.should_dial(now));
    assert!(a.admits(&early).await, "the counterpart may come to hear of the end");
    assert!(!ended.door_open(now + 31 * DAY));

    for _ in 0..2 {
        let answer = b.book.take_statement(&id, end.clone(), false).await;
        assert_eq!(answer, Ok(StatementAnswer::Known), "it is told that it is known");
    }
    assert!(!b.book.get(&id).unwrap().in_force(now) && !b.book.get(&id).unwrap().should_dial(now));
    assert!(b.book.get(&id).unwrap().door_open(now), "receipts may be lacking");
    assert!(!b.book.get(&id).unwrap().door_open(now + 31 * DAY));
    assert!(b.book.end(&id, &b.root()).await.is_err());
    let (from_a, from_b) = (a.flight(&id).await, b.flight(&id).await);
    // The echo of its own end tells A that B knows.
    assert_eq!(a.book.take_statement(&id, end.clone(), true).await, Ok(StatementAnswer::EndKnown));
    assert_eq!(b.book.take_statement(&id, end, true).await, Ok(StatementAnswer::EndKnown));
    let (a, b) = (a.restart(), b.restart());
    assert!(a.admits(&from_b).await && b.admits(&from_a).await, "for receipts alone");
    let later = ambient::now() + 31 * DAY;
    for node in [&a, &b] {
        let ended = node.book.get(&id).unwrap();
        assert!(!ended.should_dial(now) && ended.view().may_settle(now), "nothing is to be said, receipts may be");
        assert!(!ended.in_force(now) && !ended.door_open(later) && !ended.view().may_settle(later));
    }
    assert_eq!((a.standing(&id), b.standing(&id)), (Standing::Ended, Standing::Ended));

    // Ended for good: neither the old file nor the old proposal brings it back, a new proposal does.
    let old = a.book.export(&id).unwrap();
    assert!(matches!(b.book.import(old.as_bytes(), true).await, Err(BookError::Ended)));
    let again = agree(&a, &b).await;
    assert_ne!(again, id);
    assert_eq!(a.book.by_entity(&b.id()).unwrap().id, again);
}

#[tokio::test]
async fn a_withdrawn_proposal_cannot_be_completed() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (proposal, text) = a.propose(&b).await;
    a.book.end(&proposal.id, &a.root()).await.unwrap();
    let end = a.newest(&proposal.id);
    let (accepted, file) = b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap();
    let answer = a.book.take_contact(&proposal.id, accepted.contact.as_deref().unwrap()).await;
    assert_eq!(answer, Err("the agreement has ended"));
    assert!(matches!(a.book.import(file.as_bytes(), true).await, Err(BookError::Ended)));
    assert!(a.admits(&b.flight(&proposal.id).await).await, "the acceptor comes to learn of it");
    b.book.take_statement(&proposal.id, end, false).await.unwrap();
    assert!(matches!(b.book.accept(text.as_bytes(), true, &b.root()).await, Err(BookError::Ended)));
}

#[tokio::test]
async fn what_a_person_types_is_found() {
    let (a, b, id) = agreed().await;
    let twin = Node::of(3, entity_named(3, 1, "NL:KVK:3"));
    let other = agree(&a, &twin).await;
    let (b_id, hex) = (b.id().to_string(), id.to_string());
    for text in [hex.as_str(), &hex[..8], &b_id, "NO:ORGNR:2", "Clinic 2"] {
        assert_eq!(a.book.find(text).unwrap().id, id, "{text}");
    }
    assert_eq!(a.book.find("NL:KVK:3").unwrap().id, other);
    for text in ["", "Clinic", "clinic 2", &hex[..7], "NO:ORGNR:1"] {
        assert_eq!(a.book.find(text).unwrap_err(), FindError::Unknown, "{text}");
    }
    assert_eq!(a.book.find_recipient("Clinic 2").unwrap_err(), FindError::NoGroup);
    assert_eq!(a.book.find_recipient("Nobody/Reception").unwrap_err(), FindError::Unknown);
    assert_eq!(a.book.find_recipient("Clinic 2/Reception").unwrap_err(), FindError::NoRoster);
    a.book.take_roster(&id, &b.book.own_roster(&id).await.unwrap()).await.unwrap();
    for text in ["Clinic 2/Reception", "NO:ORGNR:2/Reception", &format!("{b_id}/Reception")] {
        let (found, group) = a.book.find_recipient(text).unwrap();
        assert_eq!((found.id, group.name.as_str()), (id, "Reception"));
    }
}
