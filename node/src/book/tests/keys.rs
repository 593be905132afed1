//! What replaced keys do: to grants, to counterparts, to whoever holds the old ones.

use pakt_keys::sealing::EpochKey;
use pakt_protocol::armour;
use pakt_protocol::record::agreement::AgreementFile;
use pakt_protocol::record::chain::RootLink;
use pakt_protocol::record::grant::DoorGrant;

use super::*;
use crate::keyring;

/// New node keys for an entity that runs.
fn rotate(node: &Node) {
    let entity = &node.book.inner.entity;
    let keys = keyring::rotated(entity.current().keys(), &node.root(), ambient::now()).unwrap();
    entity.replace(keys).unwrap();
}

async fn grant_over(from: &Node, to: &Node, id: &AgreementId) {
    let grant = from.book.unconfirmed_grant(id).unwrap().unwrap();
    let counter = to.book.take_grant(id, &grant).await.unwrap();
    from.book.grant_confirmed(id, counter).await.unwrap();
}

async fn meet(a: &Node, b: &Node, id: &AgreementId) {
    a.book.note_contact(id, &b.book.inner.entity.chain(), 0).await.unwrap();
    b.book.note_contact(id, &a.book.inner.entity.chain(), 0).await.unwrap();
}

#[tokio::test]
async fn the_two_newest_grants_open_the_door_and_no_older_one() {
    let (a, b, id) = agreed().await;
    assert!(a.book.unconfirmed_grant(&id).unwrap().is_none(), "the first one lies in the file");
    let old = [b.flight(&id).await, b.flight(&id).await, b.flight(&id).await];
    for old in &old[..2] {
        assert_eq!(a.book.renew_grants().await.unwrap(), [id]);
        assert!(a.admits(old).await, "whatever was issued, the one that the holder has stays valid");
    }
    grant_over(&a, &b, &id).await;
    assert!(a.book.unconfirmed_grant(&id).unwrap().is_none());
    let newer = b.flight(&id).await;
    a.book.renew_grants().await.unwrap();
    grant_over(&a, &b, &id).await;
    assert!(!a.admits(&old[2]).await);
    assert!(a.admits(&newer).await && a.admits(&b.flight(&id).await).await);
    let (a, b) = (a.restart(), b.restart());
    assert!(a.admits(&b.flight(&id).await).await && b.admits(&a.flight(&id).await).await);
}

#[tokio::test]
async fn p5_old_foreign_and_doubled_grants_are_refused() {
    let (a, b, id) = agreed().await;
    a.book.renew_grants().await.unwrap();
    let first = a.book.unconfirmed_grant(&id).unwrap().unwrap();
    let counter = b.book.take_grant(&id, &first).await.unwrap();
    assert_eq!(b.book.take_grant(&id, &first).await, Ok(counter), "the newest may come again");
    a.book.renew_grants().await.unwrap();
    grant_over(&a, &b, &id).await;
    let check = |taken: Result<u64, &'static str>, says: &str| {
        let why = taken.unwrap_err();
        assert!(why.contains(says), "{why}");
    };
    check(b.book.take_grant(&id, &first).await, "older");
    let forged = |change: fn(&mut DoorGrant), signer: StatementKey| {
        let to = (b.id(), &b.book.inner.entity.node().contact);
        let mut grant = DoorGrant::seal((id, u64::MAX), a.id(), to, &[1; 32], &mut ambient::rng());
        change(&mut grant);
        Signed::create(&grant, |domain, bytes| signer.sign(domain, bytes))
    };
    let own = || statement_key(1, 1);
    check(b.book.take_grant(&id, &forged(|_| {}, statement_key(2, 1))).await, "not signed");
    check(b.book.take_grant(&id, &forged(|grant| grant.counter = 7, own())).await, "not sealed");
    check(b.book.take_grant(&id, &forged(|grant| grant.agreement.0[0] ^= 1, own())).await, "other parties");
    check(b.book.take_grant(&id, &forged(|grant| grant.issuer = grant.holder, own())).await, "other parties");
    assert_eq!(b.book.take_grant(&id, &forged(|_| {}, own())).await, Ok(u64::MAX));
    check(b.book.take_grant(&id, &forged_again(&a, &b, &id)).await, "one number");
}

/// Another secret under a number that is taken.
fn forged_again(a: &Node, b: &Node, id: &AgreementId) -> Signed<DoorGrant> {
    let to = (b.id(), &b.book.inner.entity.node().contact);
    let grant = DoorGrant::seal((*id, u64::MAX), a.id(), to, &[2; 32], &mut ambient::rng());
    Signed::create(&grant, |domain, bytes| statement_key(1, 1).sign(domain, bytes))
}

#[tokio::test]
async fn a_holder_tries_the_grant_before_when_nobody_answers_to_the_newest() {
    let (a, b, id) = agreed().await;
    a.book.renew_grants().await.unwrap();
    let before = b.book.secret_to_dial_with(&id, Time(0)).unwrap();
    b.book.take_grant(&id, &a.book.unconfirmed_grant(&id).unwrap().unwrap()).await.unwrap();
    let is_older = |second: u64| {
        let secret = b.book.secret_to_dial_with(&id, Time::from_seconds(second)).unwrap();
        secret.as_bytes() == before.as_bytes()
    };
    b.book.dialled_well(&id);
    assert_eq!([1, 2, 3, 4, 5, 6].map(is_older), [false, false, true, true, false, false]);
    assert_eq!([7, 7, 7, 7].map(is_older), [true; 4], "lanes that are dialled together are one try");
    b.book.dialled_well(&id);
    assert_eq!([8, 9, 10].map(is_older), [true, true, false], "what worked is tried first");
}

#[tokio::test]
async fn grants_are_due_by_age_and_when_keys_of_either_side_were_replaced() {
    let (a, b, id) = agreed().await;
    let now = ambient::now();
    assert!(a.book.renew_grants_if_due(now + 89 * DAY).await.unwrap().is_empty());
    assert_eq!(a.book.renew_grants_if_due(now + 91 * DAY).await.unwrap(), [id]);
    grant_over(&a, &b, &id).await;
    assert!(a.book.renew_grants_if_due(now + 92 * DAY).await.unwrap().is_empty());

    rotate(&b);
    assert_eq!(b.book.renew_grants_if_due(now).await.unwrap(), [id]);
    // A has not met the new keys yet: what they sign is worth nothing there.
    let unmet = b.book.unconfirmed_grant(&id).unwrap().unwrap();
    assert!(a.book.take_grant(&id, &unmet).await.is_err());
    meet(&a, &b, &id).await;
    grant_over(&b, &a, &id).await;
    assert!(b.admits(&a.flight(&id).await).await);

    let stolen = b.flight(&id).await;
    assert!(a.book.renew_grant_if_due(&id, now + 92 * DAY).await.unwrap());
    grant_over(&a, &b, &id).await;
    assert!(!a.admits(&stolen).await, "what the old keys could know opens nothing any more");
    assert!(a.admits(&b.flight(&id).await).await);
}

#[tokio::test]
async fn a_proposal_outlives_a_rotation_of_its_proposer() {
    let (a, b) = (Node::new(1), Node::new(2));
    let (_, text) = a.propose(&b).await;
    rotate(&a);
    let (agreement, _) = b.book.accept(text.as_bytes(), true, &b.root()).await.unwrap();
    let id = agreement.id;
    assert!(a.admits(&b.flight(&id).await).await);
    a.book.take_contact(&id, agreement.contact.as_deref().unwrap()).await.unwrap();
    assert!(matches!(a.book.seal_flight(&id, b"hello").await, Err(FlightProblem::NoGrant)));
    meet(&a, &b, &id).await;
    assert!(b.book.renew_grant_if_due(&id, ambient::now()).await.unwrap());
    grant_over(&b, &a, &id).await;
    assert!(b.admits(&a.flight(&id).await).await);
}

#[tokio::test]
async fn p7_the_old_key_is_refused_once_the_new_one_is_known() {
    let (a, b, id) = agreed().await;
    let (old, old_key) = (b.hello(), b.tls_key());
    let check = |hello: &Hello, key: [u8; 32], problem: Option<HelloProblem>| {
        assert_eq!(a.book.check_hello(&id, &b.id(), key, hello).err(), problem);
    };
    rotate(&b);
    check(&old, old_key, None);
    check(&b.hello(), b.tls_key(), None);
    check(&b.hello(), old_key, Some(HelloProblem::OtherKey));
    meet(&a, &b, &id).await;
    check(&old, old_key, Some(HelloProblem::Superseded));
    check(&old, b.tls_key(), Some(HelloProblem::Superseded));
    check(&b.hello(), b.tls_key(), None);
    assert!(matches!(a.book.note_contact(&id, &old.chain, 0).await, Err(BookError::Hello(_))));
    assert!(a.book.get(&id).unwrap().frozen_at.is_none(), "an old certificate is no contradiction");
}

/// The chain of `seed` after its successor took over, committing to `next`.
fn succeeded(seed: u8, next: u8) -> CertificateChain {
    let contact = ContactKey::from_bytes(&[seed; 32]).public();
    let transport = TransportKey::from_seed([next; 32]).public();
    let node = (transport, StatementKey::from_seed([next; 32]).public(), contact);
    chain(seed, 1).succeeded(&root(seed + 90), &root(next).public(), node, Time(5)).unwrap()
}

fn hello_of(chain: CertificateChain) -> (Hello, [u8; 32]) {
    let key = chain.verify().unwrap().transport.0;
    (Hello { chain, versions: VersionRange::OURS, now: ambient::now() }, key)
}

#[tokio::test]
async fn p4_contradicting_certificates_freeze_a_counterpart() {
    let twin = {
        let mut certificate = chain(2, 1).certificate.peek().unwrap();
        certificate.issued_at = Time(77);
        let certificate = Signed::create(&certificate, |domain, bytes| root(2).sign(domain, bytes));
        CertificateChain { certificate, ..chain(2, 1) }
    };
    let other_commitment = {
        let link = RootLink { successor: [9; 32], ..chain(2, 1).links[0].peek().unwrap() };
        let link = Signed::create(&link, |domain, bytes| root(2).sign(domain, bytes));
        CertificateChain { links: vec![link], ..chain(2, 1) }
    };
    let rows = [
        ("two certificates with one number", None, twin),
        ("two commitments of one root", None, other_commitment),
        ("two commitments of a later root", Some(succeeded(2, 140)), succeeded(2, 141)),
        ("a root that signs after its successor is known", Some(succeeded(2, 140)), chain(2, 2)),
    ];
    for (case, known, shown) in rows {
        let (a, b, id) = agreed().await;
        if let Some(known) = known {
            a.book.note_contact(&id, &known, 0).await.unwrap();
        }
        let (hello, key) = hello_of(shown.clone());
        let problem = a.book.check_hello(&id, &b.id(), key, &hello).unwrap_err();
        assert!(problem.freezes(), "{case}: {problem}");
        let mut told = a.book.frozen();
        told.mark_unchanged();
        a.book.freeze(&id, &shown).await.unwrap();
        assert!(told.has_changed().unwrap());
        a.book.freeze(&id, &chain(2, 1)).await.unwrap();
        let flight = b.flight(&id).await;
        let a = a.restart();
        let agreement = a.book.get(&id).unwrap();
        let now = ambient::now();
        assert!(!agreement.in_force(now) && !agreement.door_open(now) && !agreement.should_dial(now), "{case}");
        assert!(!a.admits(&flight).await, "{case}");
        let evidence = a.book.evidence(&id).unwrap().unwrap();
        assert_eq!((evidence.shown, evidence.known), (shown, agreement.chain.clone()), "{case}");
        a.book.end(&id, &a.root()).await.unwrap();
        assert_eq!(a.standing(&id), Standing::Ended);
    }
}

#[tokio::test]
async fn an_old_certificate_that_was_known_freezes_nobody() {
    let (a, b, id) = agreed().await;
    a.book.note_contact(&id, &succeeded(2, 140), 0).await.unwrap();
    let (old, key) = hello_of(chain(2, 1));
    let a = a.restart();
    assert_eq!(a.book.check_hello(&id, &b.id(), key, &old), Err(HelloProblem::Superseded));
    let (late, _) = hello_of(chain(2, 2));
    let without_its_key = a.book.check_hello(&id, &b.id(), [0; 32], &late);
    assert_eq!(without_its_key, Err(HelloProblem::Superseded), "a copied chain is no proof that a root signs again");
}

/// Everything that whoever takes a node's disk and its keystore can try on a recording.
fn dump_opens(node: Node, recorded: &pakt_keys::Wrapped) -> (Node, bool) {
    let node = node.restart();
    let slots = &node.book.inner.slots;
    let identity = node.book.inner.entity.current();
    let keys = identity.keys();
    let (contact, statement) = (*keys.contact.to_bytes(), *keys.statement.seed());
    let mut found = vec![contact, statement, *keys.transport.seed(), *keys.store.as_bytes()];
    for slot in slots.list().unwrap() {
        let secret = slots.get(slot).unwrap().unwrap();
        found.extend(<[u8; 32]>::try_from(secret.as_slice()));
    }
    let opened = found.iter().any(|key| EpochKey::from_bytes(key).unwrap(b"info", recorded).is_ok());
    (node, opened)
}

#[tokio::test]
async fn p8_a_recording_and_all_keys_after_the_window_open_nothing() {
    let (_, b, id) = agreed().await;
    let roster = b.book.own_roster(&id).await.unwrap().peek().unwrap();
    let recorded = roster.epoch_key.wrap(b"info", b"the key of a manifest", &mut ambient::rng());
    let replaced_at = ambient::now() + DAY;
    let (b, opens) = dump_opens(b, &recorded);
    assert!(opens, "within the window the keys open it, so that what is on its way arrives");
    assert!(b.book.roll_epoch_if_due(replaced_at).await.unwrap());
    b.book.roll_epoch_if_due(replaced_at + 3 * DAY - Duration::from_secs(1)).await.unwrap();
    let (b, opens) = dump_opens(b, &recorded);
    assert!(opens);
    b.book.roll_epoch_if_due(replaced_at + 3 * DAY).await.unwrap();
    let (b, opens) = dump_opens(b, &recorded);
    assert!(!opens);
    let today = b.book.own_roster(&id).await.unwrap().peek().unwrap();
    let (_, opens) = dump_opens(b, &today.epoch_key.wrap(b"info", b"key", &mut ambient::rng()));
    assert!(opens, "what is sent today opens");
}

/// What the root of `seed` signs as its own before and after its successor took over, as nodes in which only that counts.
async fn replaced_root() -> (Node, Node, AgreementId, CertificateChain) {
    let (a, b, id) = agreed().await;
    (a, b, id, succeeded(2, 140))
}

#[tokio::test]
async fn p7_what_a_replaced_root_signed_is_no_offer_any_more() {
    let offer = |b: &Node, id: &AgreementId| {
        let terms = b.book.get(id).unwrap().terms.clone();
        TermsDraft { message_bytes_max: 5, ..TermsDraft::of(&terms, ambient::now()) }
    };
    // By file: the thief of the old root mails it after the successor is known.
    let (a, b, id, newer) = replaced_root().await;
    let (_, text) = b.book.amend(&id, offer(&b, &id), &b.root()).await.unwrap();
    a.book.note_contact(&id, &newer, 0).await.unwrap();
    let refused = a.book.take_offer_file(text.as_bytes()).await;
    assert!(matches!(refused, Err(BookError::Hello(HelloProblem::ReplacedRoot))), "{refused:?}");
    let file = armour::decode_any(text.as_bytes()).unwrap().1;
    assert_eq!(a.book.take_amendment(&id, &file).await, Ok(AmendmentAnswer::Nothing), "the lane goes on");
    assert!(a.book.get(&id).unwrap().received.is_none());
    // Kept before the root was replaced, and not accepted since.
    let (a, b, id, newer) = replaced_root().await;
    let (_, text) = b.book.amend(&id, offer(&b, &id), &b.root()).await.unwrap();
    assert!(a.book.take_offer_file(text.as_bytes()).await.unwrap().is_some());
    a.book.note_contact(&id, &newer, 0).await.unwrap();
    let refused = a.book.accept_amendment(&id, None, &a.root()).await.map(|_| ());
    assert!(matches!(refused, Err(BookError::Hello(HelloProblem::ReplacedRoot))), "{refused:?}");
    assert_eq!(a.book.get(&id).unwrap().terms.version, 1);
    // This side's offer, countersigned by the root that was replaced: only the counterpart's node itself brings that.
    let (a, b, id, newer) = replaced_root().await;
    let (_, text) = a.book.amend(&id, offer(&a, &id), &a.root()).await.unwrap();
    b.book.take_offer_file(text.as_bytes()).await.unwrap();
    let (_, complete) = b.book.accept_amendment(&id, None, &b.root()).await.unwrap();
    a.book.note_contact(&id, &newer, 0).await.unwrap();
    let refused = a.book.import(complete.as_bytes(), false).await.map(|_| ());
    assert!(matches!(refused, Err(BookError::Hello(HelloProblem::ReplacedRoot))), "{refused:?}");
    let file = armour::decode_any(complete.as_bytes()).unwrap().1;
    assert!(matches!(a.book.take_amendment(&id, &file).await, Ok(AmendmentAnswer::Known(_))));
    assert_eq!(a.book.get(&id).unwrap().terms.version, 2);
}

#[tokio::test]
async fn p7_a_replaced_root_makes_no_new_agreement() {
    let (a, b, id, newer) = replaced_root().await;
    a.book.note_contact(&id, &newer, 0).await.unwrap();
    a.book.end(&id, &a.root()).await.unwrap();
    let thief = Node::new(2);
    let (_, proposal) = thief.propose(&a).await;
    let refused = a.book.accept(proposal.as_bytes(), false, &a.root()).await.map(|_| ());
    assert!(matches!(refused, Err(BookError::Hello(HelloProblem::ReplacedRoot))), "{refused:?}");
    let card = thief.book.own_card().unwrap();
    let refused = a.book.propose(&card, TermsDraft::standard(ambient::now()), false, &a.root()).await.map(|_| ());
    assert!(matches!(refused, Err(BookError::Hello(HelloProblem::ReplacedRoot))), "{refused:?}");
    // An earlier certificate of the root that counts is no hindrance.
    drop((a, b));
    let (a, _b, id) = agreed().await;
    a.book.note_contact(&id, &chain(2, 2), 0).await.unwrap();
    a.book.end(&id, &a.root()).await.unwrap();
    let (_, proposal) = Node::new(2).propose(&a).await;
    a.book.accept(proposal.as_bytes(), false, &a.root()).await.unwrap();
}

#[tokio::test]
async fn an_exported_file_brings_back_a_counterpart_that_lost_contact() {
    let (a, b, id) = agreed().await;
    let mailed = a.book.export_for_contact(&id).unwrap();
    assert_eq!(mailed, a.book.export(&id).unwrap(), "nothing has changed since");
    // B had two more grants and lost them, as after a backup from before; A has replaced its keys since.
    for _ in 0..2 {
        a.book.renew_grants().await.unwrap();
        let lost = a.book.unconfirmed_grant(&id).unwrap().unwrap();
        a.book.grant_confirmed(&id, lost.peek().unwrap().counter).await.unwrap();
    }
    rotate(&a);
    assert!(!a.admits(&b.flight(&id).await).await, "B's secrets open nothing any more");
    assert!(b.book.import(mailed.as_bytes(), false).await.is_ok(), "an old file is no harm");
    assert!(!a.admits(&b.flight(&id).await).await);
    let mailed = a.book.export_for_contact(&id).unwrap();
    assert_ne!(mailed, a.book.export(&id).unwrap());
    b.book.import(mailed.as_bytes(), false).await.unwrap();
    assert!(a.admits(&b.flight(&id).await).await, "and it is found again");
    assert_eq!(b.book.get(&id).unwrap().node, a.book.inner.entity.node(), "with its new keys");
    let again = a.book.export_for_contact(&id).unwrap();
    b.book.import(again.as_bytes(), false).await.unwrap();
    let b = b.restart();
    assert!(a.admits(&b.flight(&id).await).await);
    // Sealed to B alone, and worth nothing to whoever else holds the file.
    let c = Node::new(3);
    assert!(c.book.import(again.as_bytes(), false).await.is_err());
    let file = AgreementFile::verify(&armour::decode_any(again.as_bytes()).unwrap().1).unwrap();
    let own = file.grants.iter().find(|grant| grant.issuer == a.id()).unwrap();
    assert!(own.open(c.book.inner.entity.current().contact()).is_err());
    assert!(b.book.export_for_contact(&id).is_ok(), "where nothing of the own changed");
}
