//! Agreements that change: amended, suspended, withdrawn, restored from a backup.

use super::*;
use crate::disk::Crash;
use pakt_protocol::policy::Footing;
use pakt_protocol::record::agreement::{AgreementFile, AgreementRecord, AgreementTerms, Side};
use pakt_protocol::record::statement::Action;

/// Terms as they are, but for the largest message.
fn larger(node: &Node, id: &AgreementId, bytes: u64) -> TermsDraft {
    let terms = node.book.get(id).unwrap().terms.clone();
    TermsDraft { message_bytes_max: bytes, ..TermsDraft::of(&terms, ambient::now()) }
}

async fn offer(from: &Node, to: &Node, id: &AgreementId, bytes: u64) -> String {
    let (offered, text) = from.book.amend(id, larger(from, id, bytes), &from.root()).await.unwrap();
    let file = offered.offered.as_ref().unwrap().file.to_bytes();
    let answer = to.book.take_amendment(id, &file).await.unwrap();
    assert_eq!(answer, AmendmentAnswer::Known(offered.offered.as_ref().unwrap().hash()));
    text
}

/// Both hold the version that `from` offers and `to` accepts.
async fn amended(from: &Node, to: &Node, id: &AgreementId, bytes: u64) -> Vec<u8> {
    offer(from, to, id, bytes).await;
    to.book.accept_amendment(id, None, &to.root()).await.unwrap();
    let file = to.book.current_file(id).unwrap();
    assert!(matches!(from.book.take_amendment(id, &file).await, Ok(AmendmentAnswer::Known(_))));
    file
}

fn version(node: &Node, id: &AgreementId) -> (u32, u64) {
    let terms = &node.book.get(id).unwrap().terms;
    (terms.version, terms.message_bytes_max)
}

#[tokio::test]
async fn either_side_amends_and_a_restart_keeps_it() {
    let (a, b, id) = agreed().await;
    assert!(matches!(
        a.book.amend(&id, larger(&a, &id, 100_000_000_000), &a.root()).await,
        Err(BookError::NothingChanged)
    ));
    amended(&a, &b, &id, 5).await;
    let file = amended(&b, &a, &id, 6).await;
    for node in [&a, &b] {
        assert_eq!(version(node, &id), (3, 6));
        assert!(node.book.get(&id).unwrap().in_force(ambient::now()));
    }
    let hash = AgreementFile::verify(&file).unwrap().record.hash();
    a.book.amendment_known(&id, hash).await.unwrap();
    let (a, b) = (a.restart(), b.restart());
    for node in [&a, &b] {
        assert_eq!(version(node, &id), (3, 6));
        assert_eq!(node.book.current_file(&id).unwrap(), file, "both hold the same record");
    }
    assert!(a.admits(&b.flight(&id).await).await && b.admits(&a.flight(&id).await).await);
}

#[tokio::test]
async fn an_amendment_by_file_counts_once_both_have_signed() {
    let (a, b, id) = agreed().await;
    let (_, text) = a.book.amend(&id, larger(&a, &id, 5), &a.root()).await.unwrap();
    assert_eq!(version(&a, &id).0, 1, "an offer changes nothing");
    assert!(matches!(a.book.take_offer_file(text.as_bytes()).await, Err(BookError::OwnProposal)));
    assert!(matches!(Node::new(3).book.take_offer_file(text.as_bytes()).await, Err(BookError::Unknown)));
    assert!(matches!(b.book.accept(text.as_bytes(), true, &b.root()).await, Err(BookError::OtherBase)));
    assert_eq!(b.book.take_offer_file(text.as_bytes()).await.unwrap().map(|(id, _)| id), Some(id));
    assert_eq!(version(&b, &id).0, 1, "nor does a received one");
    let (_, file) = b.book.accept_amendment(&id, None, &b.root()).await.unwrap();
    assert!(matches!(b.book.accept_amendment(&id, None, &b.root()).await, Err(BookError::NothingOffered)));
    a.book.import(file.as_bytes(), false).await.unwrap();
    a.book.import(file.as_bytes(), false).await.unwrap();
    assert_eq!((version(&a, &id), version(&b, &id)), ((2, 5), (2, 5)));
    // A store that lost the agreement takes up the newest version at once, with the grants of the first.
    let lost = Node::new(1);
    assert_eq!(lost.book.import(file.as_bytes(), false).await.unwrap().terms.version, 2);
}

#[tokio::test]
async fn p5_an_old_version_is_answered_with_the_newer_one() {
    let (a, b, id) = agreed().await;
    let (first, text) = (b.book.current_file(&id).unwrap(), b.book.export(&id).unwrap());
    amended(&a, &b, &id, 5).await;
    assert_eq!(b.book.take_amendment(&id, &first).await, Ok(AmendmentAnswer::ShowNewer));
    assert!(matches!(b.book.import(text.as_bytes(), true).await, Err(BookError::Older)));
    assert_eq!(b.book.take_contact(&id, &first).await, Ok(()));
    assert_eq!(version(&b, &id), (2, 5));
}

#[tokio::test]
async fn p5_of_two_complete_successors_the_lower_hash_counts_and_both_are_alarmed() {
    let (a, b, id) = agreed().await;
    let known = a.book.get(&id).unwrap();
    // Both roots sign two texts as version 2: what only restored backups or a stolen root can do.
    let forge = |bytes| {
        let terms = AgreementTerms {
            version: 2,
            previous: Some(known.record.hash()),
            nonce: id.0,
            message_bytes_max: bytes,
            ..known.terms.clone()
        };
        let record = AgreementRecord::offer(&terms, Side::Proposer, &root(1)).unwrap().countersign(&root(2));
        let cards = (known.proposer_card.clone(), known.acceptor_card.clone());
        AgreementFile { record, proposer: cards.0, acceptor: cards.1, grants: vec![] }
    };
    let (one, two) = (forge(1), forge(2));
    let lower = if one.record.hash() < two.record.hash() { 1 } else { 2 };
    for (node, first, second) in [(&a, &one, &two), (&b, &two, &one)] {
        assert!(node.book.take_amendment(&id, &first.to_bytes()).await.is_ok());
        assert!(!node.book.get(&id).unwrap().forked);
        assert!(node.book.take_amendment(&id, &second.to_bytes()).await.is_ok());
        assert_eq!(version(node, &id), (2, lower));
        assert!(node.book.get(&id).unwrap().forked);
    }
}

#[tokio::test]
async fn p5_a_root_signs_one_text_per_version() {
    let (a, b, id) = agreed().await;
    // Both offer at once: neither can sign the other's text under the same number, a further offer ends it.
    let (of_a, _) = a.book.amend(&id, larger(&a, &id, 1), &a.root()).await.unwrap();
    let (of_b, _) = b.book.amend(&id, larger(&b, &id, 2), &b.root()).await.unwrap();
    let file = |agreement: &Agreement| agreement.offered.as_ref().unwrap().file.to_bytes();
    a.book.take_amendment(&id, &file(&of_b)).await.unwrap();
    b.book.take_amendment(&id, &file(&of_a)).await.unwrap();
    for node in [&a, &b] {
        let refused = node.book.accept_amendment(&id, None, &node.root()).await;
        assert!(matches!(refused, Err(BookError::SignedOther(2))), "{refused:?}");
    }
    let a = a.restart();
    amended(&a, &b, &id, 3).await;
    assert_eq!((version(&a, &id), version(&b, &id)), ((3, 3), (3, 3)));
}

#[tokio::test]
async fn p4_amendments_of_others_are_refused() {
    let (a, b, id) = agreed().await;
    let known = a.book.get(&id).unwrap();
    let terms = AgreementTerms {
        version: 2,
        previous: Some(known.record.hash()),
        nonce: id.0,
        message_bytes_max: 7,
        ..known.terms.clone()
    };
    let file = |record| AgreementFile {
        record,
        proposer: known.proposer_card.clone(),
        acceptor: known.acceptor_card.clone(),
        grants: vec![],
    };
    let signed = |terms: &AgreementTerms, key: u8| AgreementRecord::offer(terms, Side::Acceptor, &root(key)).unwrap();
    let elsewhere = AgreementTerms { nonce: [0; 32], ..terms.clone() };
    let renamed = {
        let mut terms = terms.clone();
        terms.acceptor.name = "Another".into();
        terms
    };
    let rows = [
        ("a foreign root", file(signed(&terms, 3))),
        ("another agreement", file(signed(&elsewhere, 2))),
        ("another name", file(signed(&renamed, 2))),
        ("this side's own offer", file(AgreementRecord::offer(&terms, Side::Proposer, &root(1)).unwrap())),
        ("one side's signature twice", file(signed(&terms, 2).countersign(&root(2)))),
    ];
    for (what, file) in rows {
        assert!(a.book.take_amendment(&id, &file.to_bytes()).await.is_err(), "{what}");
    }
    // Offers that came too late or follow other terms are left alone.
    let late = AgreementTerms { accept_by: Time(1), ..terms.clone() };
    let other_base = AgreementTerms { previous: Some([1; 32]), ..terms.clone() };
    for terms in [late, other_base] {
        let answer = a.book.take_amendment(&id, &file(signed(&terms, 2)).to_bytes()).await;
        assert_eq!(answer, Ok(AmendmentAnswer::Nothing));
    }
    assert!(a.book.get(&id).unwrap().received.is_none());
    assert!(a.book.take_amendment(&id, &file(signed(&terms, 2)).to_bytes()).await.is_ok());
    assert!(a.book.get(&id).unwrap().received.is_some());
    drop(b);
}

#[tokio::test]
async fn a_withdrawn_offer_cannot_be_accepted() {
    let (a, b, id) = agreed().await;
    assert!(matches!(a.book.withdraw_offer(&id).await, Err(BookError::NothingToWithdraw)));
    let text = offer(&a, &b, &id, 5).await;
    a.book.withdraw_offer(&id).await.unwrap();
    assert!(a.book.get(&id).unwrap().offered.is_none());
    assert_eq!(b.book.take_statement(&id, a.newest(&id), false).await, Ok(StatementAnswer::Known));
    assert!(matches!(b.book.accept_amendment(&id, None, &b.root()).await, Err(BookError::NothingOffered)));
    assert!(matches!(b.book.take_offer_file(text.as_bytes()).await, Err(BookError::Withdrawn)));
    // The number is used up; the next offer has the next one.
    amended(&a, &b, &id, 6).await;
    assert_eq!((version(&a, &id), version(&b, &id)), ((3, 6), (3, 6)));
}

#[tokio::test]
async fn p6_either_side_suspends_and_only_that_side_resumes() {
    let (a, b, id) = agreed().await;
    let now = ambient::now();
    let footing = |node: &Node| node.book.get(&id).unwrap().footing(now);
    assert!(matches!(a.book.resume(&id, &a.root()).await, Err(BookError::NotSuspended)));
    a.book.suspend(&id).await.unwrap();
    assert!(matches!(a.book.suspend(&id).await, Err(BookError::AlreadySuspended)));
    assert_eq!((footing(&a), footing(&b)), (Footing::Suspended, Footing::InForce));
    b.book.take_statement(&id, a.newest(&id), false).await.unwrap();
    assert_eq!(footing(&b), Footing::Suspended);
    assert_eq!(b.book.get(&id).unwrap().state_for_people(now), AgreementState::Suspended);
    assert!(matches!(b.book.resume(&id, &b.root()).await, Err(BookError::NotSuspended)));
    b.book.suspend(&id).await.unwrap();
    a.book.take_statement(&id, b.newest(&id), false).await.unwrap();
    a.book.resume(&id, &a.root()).await.unwrap();
    let (a, b) = (a.restart(), b.restart());
    assert_eq!(b.book.take_statement(&id, a.newest(&id), false).await, Ok(StatementAnswer::Known));
    let footing = |node: &Node| node.book.get(&id).unwrap().footing(now);
    assert_eq!((footing(&a), footing(&b)), (Footing::Suspended, Footing::Suspended), "the other side still holds it");
    assert!(a.book.resume(&id, &root(3)).await.is_err(), "a foreign root resumes nothing");
    b.book.resume(&id, &b.root()).await.unwrap();
    a.book.take_statement(&id, b.newest(&id), false).await.unwrap();
    assert_eq!((footing(&a), footing(&b)), (Footing::InForce, Footing::InForce));
    assert!(a.book.get(&id).unwrap().door_open(now));
}

#[tokio::test]
async fn missing_statements_are_asked_for_and_a_replaced_key_signs_them_again() {
    let (a, b, id) = agreed().await;
    a.book.suspend(&id).await.unwrap();
    a.book.resume(&id, &a.root()).await.unwrap();
    a.book.suspend(&id).await.unwrap();
    // A's keys are replaced before B hears of any of this.
    let a = a.restart_as(2);
    b.book.note_contact(&id, &a.book.inner.entity.chain(), 0).await.unwrap();
    let newest = a.book.statements_after(&id, &a.id(), 2).remove(0);
    assert_eq!(b.book.take_statement(&id, newest, false).await, Ok(StatementAnswer::Missing(0)));
    for statement in a.book.statements_after(&id, &a.id(), 0) {
        assert_eq!(b.book.take_statement(&id, statement, false).await, Ok(StatementAnswer::Known));
    }
    assert!(b.book.get(&id).unwrap().suspended_there().is_some());
    assert!(a.book.statements_after(&id, &EntityId([9; 32]), 0).is_empty());
}

#[tokio::test]
async fn p5_a_restored_node_waits_and_then_proves_itself_forward() {
    let (a, b, id) = agreed().await;
    a.book.suspend(&id).await.unwrap();
    b.book.take_statement(&id, a.newest(&id), false).await.unwrap();
    let from_b = b.flight(&id).await;
    // The backup of A knows version 1 and one statement.
    let Node { disk, book, seed } = a;
    book.inner.store.close();
    drop(book);
    let [backup, disk] = [disk.crash(Crash::Clean, 0), disk.crash(Crash::Clean, 0)];
    let a = Node { book: open(&disk, entity(seed, 1), seed), disk, seed };
    a.book.resume(&id, &a.root()).await.unwrap();
    b.book.take_statement(&id, a.newest(&id), false).await.unwrap();
    amended(&a, &b, &id, 5).await;
    let now = ambient::now();

    let restored = Node { book: open(&backup, entity(1, 1), 1), disk: backup, seed: 1 };
    assert_eq!(restored.book.unconfirm_all().await.unwrap(), 1);
    let restored = restored.restart();
    let held = restored.book.get(&id).unwrap();
    assert_eq!((held.footing(now), held.state_for_people(now)), (Footing::Unconfirmed, AgreementState::Unconfirmed));
    assert!(!held.door_open(now) && !held.should_dial(now) && !restored.admits(&from_b).await);
    for refused in
        [restored.book.suspend(&id).await, restored.book.amend(&id, larger(&a, &id, 9), &root(1)).await.map(drop)]
    {
        assert!(matches!(refused, Err(BookError::Unconfirmed)));
    }
    restored.book.confirm(&id).await.unwrap();
    assert!(matches!(restored.book.confirm(&id).await, Err(BookError::NothingToConfirm)));

    // B shows what A has lost: its own statements and the newer version.
    for statement in b.book.statements_after(&id, &restored.id(), 1) {
        let signed_by_itself = restored.book.take_statement(&id, statement, true).await;
        assert_eq!(signed_by_itself, Ok(StatementAnswer::Nothing));
    }
    let file = b.book.current_file(&id).unwrap();
    assert!(matches!(restored.book.take_amendment(&id, &file).await, Ok(AmendmentAnswer::Known(_))));
    assert_eq!(version(&restored, &id), (2, 5));
    let known = restored.book.get(&id).unwrap();
    assert!(known.in_force(now) && !known.forked);
    // What it signs next has a number that was not used before.
    amended(&restored, &b, &id, 7).await;
    assert_eq!(version(&b, &id), (3, 7));
}

#[tokio::test]
async fn a_first_backup_that_states_something_else_raises_an_alarm() {
    let (a, b, id) = agreed().await;
    a.book.suspend(&id).await.unwrap();
    let signed = {
        let statement = AgreementStatement {
            agreement: id,
            party: a.id(),
            number: 1,
            previous: None,
            action: Action::Withdraw { terms: [1; 32] },
            at: Time(5),
        };
        Signed::create(&statement, |domain, bytes| statement_key(1, 1).sign(domain, bytes))
    };
    // What the counterpart took first counts, and the suspension is stated again behind it.
    assert_eq!(b.book.take_statement(&id, signed.clone(), false).await, Ok(StatementAnswer::Known));
    assert_eq!(b.book.take_statement(&id, a.newest(&id), false).await, Ok(StatementAnswer::Other(0)));
    assert_eq!(a.book.take_statement(&id, signed, true).await, Ok(StatementAnswer::Again));
    assert_eq!(b.book.take_statement(&id, a.newest(&id), false).await, Ok(StatementAnswer::Known));
    for node in [&a, &b] {
        let agreement = node.book.get(&id).unwrap();
        assert!(agreement.forked && agreement.footing(ambient::now()) == Footing::Suspended);
    }
}

#[tokio::test]
async fn an_agreement_begins_and_ends_by_date() {
    let (a, b) = (Node::new(1), Node::new(2));
    let now = ambient::now();
    let draft = TermsDraft { valid_from: now + DAY, ..TermsDraft::standard(now) };
    let (_, text) = a.book.propose(&b.book.own_card().unwrap(), draft, true, &a.root()).await.unwrap();
    let (agreement, _) = b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap();
    let footing = |at| agreement.footing(at);
    assert_eq!((footing(now), footing(now + DAY)), (Footing::NotBegun, Footing::InForce));
    assert_eq!((footing(now + 364 * DAY), footing(now + 365 * DAY)), (Footing::InForce, Footing::Expired));
    assert_eq!(agreement.view().next_date(now), Some(now + DAY));
    assert_eq!(agreement.view().next_date(now + DAY), Some(now + 365 * DAY));
    assert_eq!(agreement.view().next_date(now + 365 * DAY), Some(now + 395 * DAY), "then the door closes for good");
    assert_eq!(agreement.view().next_date(now + 395 * DAY), None);
    let opens = |at| (agreement.door_open(at), agreement.should_dial(at), agreement.view().may_settle(at));
    assert_eq!(opens(now + 364 * DAY), (true, true, false));
    for day in [365, 394] {
        assert_eq!(opens(now + day * DAY), (true, false, true), "receipts may be lacking");
    }
    assert_eq!(opens(now + 395 * DAY), (false, false, false));
}

#[tokio::test]
async fn a_renewal_can_come_back_after_the_end_but_only_to_the_side_that_offers_it() {
    let (a, b, id) = agreed().await;
    let until = a.book.get(&id).unwrap().terms.valid_until;
    let terms = a.book.get(&id).unwrap().terms.clone();
    let draft = TermsDraft { valid_until: until + 365 * DAY, ..TermsDraft::of(&terms, ambient::now()) };
    let (offered, text) = a.book.amend(&id, draft, &a.root()).await.unwrap();
    let opens = |agreement: &Agreement, at| {
        assert!(!agreement.in_force(at), "there is no traffic");
        (agreement.door_open(at), agreement.should_dial(at))
    };
    for at in [until, until + 29 * DAY] {
        assert_eq!(opens(&offered, at), (true, true));
        assert_eq!(opens(&b.book.get(&id).unwrap(), at), (true, false), "it has nothing to say itself");
    }
    assert_eq!(opens(&offered, until + 30 * DAY), (false, false));
    assert!(!offered.view().awaits_renewal(until - DAY), "before the end it is an agreement like any other");
    b.book.take_offer_file(text.as_bytes()).await.unwrap();
    let (accepted, _) = b.book.accept_amendment(&id, None, &b.root()).await.unwrap();
    assert!(accepted.in_force(until + DAY) && accepted.should_dial(until + DAY), "it brings the renewal");
    a.book.withdraw_offer(&id).await.unwrap();
    assert_eq!(opens(&a.book.get(&id).unwrap(), until), (true, false));
    // One that would not count any more keeps nothing open.
    let draft = TermsDraft { valid_until: until + DAY, ..TermsDraft::of(&terms, ambient::now()) };
    let (offered, _) = a.book.amend(&id, draft, &a.root()).await.unwrap();
    assert_eq!(opens(&offered, until), (true, true));
    assert_eq!(opens(&offered, until + DAY), (true, false));
}
