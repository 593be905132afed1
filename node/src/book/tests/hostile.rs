//! What a counterpart, or somebody who holds some of its keys, may try.

use super::*;
use pakt_protocol::record::chain::{ChainError, RootLink};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::record::statement::{Action, AgreementStatement};

#[tokio::test]
async fn p1_strangers_replays_and_late_guests_stay_outside() {
    let (a, b, id) = agreed().await;
    let flight = b.flight(&id).await;
    assert!(a.admits(&flight).await);
    assert!(!a.admits(&flight).await, "a copy");
    assert!(!b.admits(&flight).await, "a copy sent back");
    let a = a.restart();
    assert!(!a.admits(&flight).await, "a copy after a restart");
    assert!(!a.admits(&[7; 2048]).await);
    let (flight, over) = (b.flight(&id).await, ambient::now() + 366 * DAY + END_OPEN_FOR);
    assert_eq!(a.book.admit_at(&flight, over).await, None, "the agreement is over");

    let (proposal, text) = a.propose(&Node::new(3)).await;
    let c = Node::new(3);
    c.book.accept(text.as_bytes(), true, &c.root()).await.unwrap();
    let late = ambient::now() + 31 * DAY;
    assert_eq!(a.book.admit_at(&c.flight(&proposal.id).await, late).await, None, "the proposal is void");
    let contact = c.book.get(&proposal.id).unwrap().contact.clone().unwrap();
    let refused = Err("the time for accepting this proposal is over");
    assert_eq!(a.book.take_contact_at(&proposal.id, &contact, late).await, refused);
    assert_eq!(a.standing(&proposal.id), Standing::Proposed);
}

#[tokio::test]
async fn p4_only_the_roots_that_are_named_make_an_agreement() {
    let (a, b, c) = (Node::new(1), Node::new(2), Node::new(3));
    let (proposal, text) = a.propose(&b).await;
    let check = |result: Result<(Arc<Agreement>, String), BookError>, expected: &str| {
        assert_eq!(format!("{:?}", result.unwrap_err()), expected);
    };
    check(c.book.accept(text.as_bytes(), true, &c.root()).await, "NotForUs");
    check(a.book.accept(text.as_bytes(), true, &a.root()).await, "OwnProposal");
    let renamed = Node::of(2, entity_named(2, 1, "NO:ORGNR:22"));
    check(renamed.book.accept(text.as_bytes(), true, &renamed.root()).await, "OutdatedCard");
    let rotated = Node::of(2, entity(2, 2));
    check(rotated.book.accept(text.as_bytes(), true, &rotated.root()).await, "OutdatedCard");
    check(
        a.book.propose(&a.book.own_card().unwrap(), TermsDraft::standard(ambient::now()), true, &a.root()).await,
        "OwnCard",
    );

    // The countersigned file of another agreement, and one that was changed.
    let (_, other) = a.propose(&c).await;
    let (foreign, _) = c.book.accept(other.as_bytes(), true, &c.root()).await.unwrap();
    let (good, _) = b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap();
    let good = good.contact.clone().unwrap();
    let mut bent = good.clone();
    *bent.last_mut().unwrap() ^= 1;
    let row = b.book.inner.store.read(|tx| tx.get(&AGREEMENTS, &proposal.id)).unwrap().unwrap();
    let mut forged = row.life.file.clone();
    forged.record = forged.record.countersign(&root(3));
    for file in [foreign.contact.as_deref().unwrap(), &bent, &forged.to_bytes(), b"", &good[..good.len() - 1]] {
        assert!(a.book.take_contact(&proposal.id, file).await.is_err());
    }
    assert_eq!(a.standing(&proposal.id), Standing::Proposed);
    assert_eq!(a.book.take_contact(&proposal.id, &good).await, Ok(()));
}

#[tokio::test]
async fn a_second_active_agreement_with_an_entity_or_number_is_refused() {
    let (a, b, id) = agreed().await;
    let again =
        a.book.propose(&b.book.own_card().unwrap(), TermsDraft::standard(ambient::now()), true, &a.root()).await;
    assert!(matches!(again, Err(BookError::SecondAgreement(known)) if known == id));
    // Another entity claims the registered number of B.
    let c = Node::of(3, entity_named(3, 1, "NO:ORGNR:2"));
    let (_, text) = c.propose(&a).await;
    assert!(matches!(a.book.accept(text.as_bytes(), true, &a.root()).await, Err(BookError::SecondAgreement(_))));
}

#[tokio::test]
async fn p4_the_chain_on_a_lane_is_pinned_to_the_root() {
    let (a, b, id) = agreed().await;
    let check = |node: &Node, key: [u8; 32], hello: &Hello, expected: Option<HelloProblem>| {
        assert_eq!(node.book.check_hello(&id, &b.id(), key, hello).err(), expected);
    };
    let key_of = |chain: &CertificateChain| chain.verify().unwrap().transport.0;
    let hello = |chain: CertificateChain| Hello { chain, ..b.hello() };
    check(&a, b.tls_key(), &b.hello(), None);
    check(&a, [7; 32], &b.hello(), Some(HelloProblem::OtherKey));
    let foreign = chain(3, 1);
    check(&a, key_of(&foreign), &hello(foreign.clone()), Some(HelloProblem::OtherEntity));
    let mixed = CertificateChain { links: chain(2, 1).links, certificate: foreign.certificate };
    assert!(matches!(a.book.check_hello(&id, &b.id(), b.tls_key(), &hello(mixed)), Err(HelloProblem::Chain(_))));
    // A second certificate with the number of the first.
    let twin = NodeCertificate { issued_at: Time(2), ..chain(2, 1).certificate.peek().unwrap() };
    let twin = Signed::create(&twin, |domain, bytes| root(2).sign(domain, bytes));
    let twin = CertificateChain { certificate: twin, ..chain(2, 1) };
    check(&a, key_of(&twin), &hello(twin.clone()), Some(HelloProblem::Forked));
    // The newest certificate counts, the one before no longer.
    let newer = chain(2, 2);
    check(&a, key_of(&newer), &hello(newer.clone()), None);
    a.book.note_turned_away(id, HelloProblem::Forked);
    assert_eq!(a.book.turned_away(&id), Some(HelloProblem::Forked));
    a.book.note_contact(&id, &newer, 93_600).await.unwrap();
    assert_eq!(a.book.turned_away(&id), None, "a node was believed since");
    assert!(a.book.note_contact(&id, &chain(2, 1), 0).await.is_err());
    let a = a.restart();
    assert_eq!(a.book.get(&id).unwrap().clock_difference_s, Some(93_600));
    check(&a, b.tls_key(), &b.hello(), Some(HelloProblem::Superseded));
    check(&a, key_of(&newer), &hello(newer.clone()), None);
    // The root that the first one committed to replaces it, and no other does.
    let replaced = |next: &RootKey| {
        let link = RootLink { generation: 1, root: next.public(), successor: [0; 32] };
        let certificate = NodeCertificate { root_generation: 1, serial: 1, ..newer.certificate.peek().unwrap() };
        let mut chain = newer.clone();
        chain.links.push(Signed::create(&link, |domain, bytes| next.sign(domain, bytes)));
        chain.certificate = Signed::create(&certificate, |domain, bytes| next.sign(domain, bytes));
        chain
    };
    let uncommitted = Some(HelloProblem::Chain(ChainError::Uncommitted(1)));
    check(&a, key_of(&newer), &hello(replaced(&root(3))), uncommitted);
    check(&a, key_of(&newer), &hello(replaced(&root(92))), None);
    let versions = |oldest, newest| Hello { versions: VersionRange { oldest, newest }, ..hello(newer.clone()) };
    check(&a, key_of(&newer), &versions(2, 3), Some(HelloProblem::PeerNewer));
    check(&a, key_of(&newer), &versions(0, 0), Some(HelloProblem::PeerOlder));
    a.book.note_contact(&id, &replaced(&root(92)), 0).await.unwrap();
    check(&a, key_of(&newer), &hello(newer.clone()), Some(HelloProblem::Superseded));
    let nobody = a.book.check_hello(&id, &a.id(), b.tls_key(), &b.hello());
    assert_eq!(nobody, Err(HelloProblem::NoAgreement));
}

#[tokio::test]
async fn p5_old_and_foreign_rosters_are_refused() {
    let (a, b, id) = agreed().await;
    let old = b.book.own_roster(&id).await.unwrap();
    a.book.take_roster(&id, &old).await.unwrap();
    b.book.group_add("Radiology").await.unwrap();
    b.book.group_show("Radiology", None).await.unwrap();
    let new = b.book.own_roster(&id).await.unwrap();
    a.book.take_roster(&id, &new).await.unwrap();
    a.book.take_roster(&id, &new).await.unwrap();
    let a = a.restart();
    let counter = new.peek().unwrap().counter;
    let forge = |change: fn(&mut Roster), serial: u64| {
        let mut roster = Roster { counter: counter + 1, ..new.peek().unwrap() };
        change(&mut roster);
        Signed::create(&roster, |domain, bytes| statement_key(2, serial).sign(domain, bytes))
    };
    let rows = [
        ("older", old),
        ("fork", forge(|roster| (roster.counter, roster.epoch) = (roster.counter - 1, 9), 1)),
        ("other key", forge(|_| {}, 2)),
        ("other issuer", forge(|roster| std::mem::swap(&mut roster.issuer, &mut roster.reader), 1)),
        ("other agreement", forge(|roster| roster.agreement = AgreementId([0; 32]), 1)),
        ("out of order", forge(|roster| roster.groups.reverse(), 1)),
    ];
    for (what, roster) in rows {
        assert!(a.book.take_roster(&id, &roster).await.is_err(), "{what}");
    }
    assert_eq!(a.book.get(&id).unwrap().roster, Some(new.peek().unwrap()));
    assert_eq!(a.book.take_roster(&id, &forge(|_| {}, 1)).await, Ok(()));
}

#[tokio::test]
async fn p4_only_the_root_of_a_party_ends_an_agreement() {
    let (a, b, id) = agreed().await;
    let statement = |party: EntityId, number| AgreementStatement {
        agreement: id,
        party,
        number,
        previous: None,
        action: Action::End,
        at: Time(1),
    };
    let sign = |statement: AgreementStatement, key: RootKey| Signed::create(&statement, |d, bytes| key.sign(d, bytes));
    let by_node = Signed::create(&statement(b.id(), 1), |domain, bytes| statement_key(2, 1).sign(domain, bytes));
    let other = AgreementStatement { agreement: AgreementId([0; 32]), ..statement(b.id(), 1) };
    let rows = [
        by_node,
        sign(statement(b.id(), 1), root(3)),
        sign(statement(a.id(), 1), root(2)),
        sign(statement(b.id(), 2), root(2)),
        sign(other, root(2)),
    ];
    for end in rows {
        let taken = a.book.take_statement(&id, end, false).await;
        assert!(!matches!(taken, Ok(StatementAnswer::Known)), "{taken:?}");
    }
    assert_eq!(a.standing(&id), Standing::Active);
    let taken = a.book.take_statement(&id, sign(statement(b.id(), 1), root(2)), false).await;
    assert_eq!(taken, Ok(StatementAnswer::Known));
    assert!(a.book.take_roster(&id, &b.book.own_roster(&id).await.unwrap()).await.is_err());
}

#[tokio::test]
async fn p3_hidden_and_absent_groups_are_alike() {
    let (a, b, id) = agreed().await;
    let before = b.book.own_roster(&id).await.unwrap();
    let hidden = b.book.group_add("Canary Ward").await.unwrap();
    assert_eq!(b.book.own_roster(&id).await.unwrap().body(), before.body(), "a hidden group leaves no trace");
    a.book.take_roster(&id, &before).await.unwrap();
    let absent = a.book.find_recipient("Clinic 2/No such group").unwrap_err();
    assert_eq!(a.book.find_recipient("Clinic 2/Canary Ward").unwrap_err(), absent);
    assert!(!b.book.shown_to(&hidden.id, &a.id()) && !b.book.shown_to(&GroupId([9; 16]), &a.id()));

    b.book.group_show("Canary Ward", Some(a.id())).await.unwrap();
    assert!(b.book.shown_to(&hidden.id, &a.id()) && !b.book.shown_to(&hidden.id, &EntityId([3; 32])));
    let roster = b.book.own_roster(&id).await.unwrap();
    assert_eq!(roster.peek().unwrap().groups.len(), 2);
    b.book.group_hide("Canary Ward", Some(a.id())).await.unwrap();
    b.book.group_hide("Reception", Some(a.id())).await.unwrap();
    let roster = b.book.own_roster(&id).await.unwrap();
    assert!(roster.peek().unwrap().groups.is_empty());
    assert!(!roster.body().windows(6).any(|window| window == b"Canary"));
}
