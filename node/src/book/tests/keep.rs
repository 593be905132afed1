//! What restarts, crashes and time do to counters, epochs and secrets.

use super::*;
use crate::book::rows::AgreementRow;
use crate::disk::Crash;
use pakt_protocol::codec;
use pakt_protocol::door::DoorTable;

fn counter_of(node: &Node, id: &AgreementId, flight: &Flight) -> u64 {
    let row = node.book.inner.store.read(|tx| tx.get(&AGREEMENTS, id)).unwrap().unwrap();
    let mut table = DoorTable::new();
    table.set(*id, node.id(), &[row.granted[0].secret.clone()]);
    table.open(flight).unwrap().counter
}

#[tokio::test]
async fn dial_counters_only_grow_also_after_a_crash() {
    let (a, b, id) = agreed().await;
    let mut last = 0;
    for _ in 0..3 {
        for _ in 0..70 {
            let counter = counter_of(&a, &id, &b.flight(&id).await);
            assert!(counter > last);
            last = counter;
        }
    }
    let disk = b.disk.crash(Crash::Clean, 1);
    let book = open(&disk, entity(2, 1), 2);
    let b = Node { disk, book, seed: 2 };
    assert!(counter_of(&a, &id, &b.flight(&id).await) > last);
}

#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let (a, b, id) = agreed().await;
    let flight = b.flight(&id).await;
    assert!(a.admits(&flight).await);
    a.book.take_roster(&id, &b.book.own_roster(&id).await.unwrap()).await.unwrap();
    let issued = a.book.own_roster(&id).await.unwrap();
    let epoch = a.book.current_epoch();
    for crash in [Crash::Clean, Crash::LostAll] {
        let disk = a.disk.crash(crash, 7);
        let book = open(&disk, entity(1, 1), 1);
        assert_eq!(book.admit(&flight).await, None);
        assert_eq!(book.get(&id).unwrap().roster, a.book.get(&id).unwrap().roster);
        assert_eq!(book.own_roster(&id).await.unwrap(), issued);
        assert!(book.epoch_key(epoch).is_some());
    }
}

#[tokio::test]
async fn p8_epoch_keys_are_erased_72_hours_after_their_successor() {
    let (a, _, id) = agreed().await;
    let start = ambient::now();
    let (first, roster) = (a.book.current_epoch(), a.book.own_roster(&id).await.unwrap().peek().unwrap());
    assert_eq!(a.book.epoch_key(first).unwrap().public(), roster.epoch_key);
    assert!(!a.book.roll_epoch_if_due(start + DAY / 2).await.unwrap());
    let next_at = start + DAY + DAY / 24;
    assert!(a.book.roll_epoch_if_due(next_at).await.unwrap());
    let second = a.book.current_epoch();
    assert!(second > first);
    let newer = a.book.own_roster(&id).await.unwrap().peek().unwrap();
    assert_eq!(newer.epoch, second);
    assert!(newer.counter > roster.counter);
    let slot = a.book.inner.store.read(|tx| tx.get(&EPOCHS, &first)).unwrap().unwrap().slot;

    assert!(a.book.roll_epoch_if_due(next_at + 2 * DAY).await.unwrap());
    let a = a.restart();
    assert!(a.book.epoch_key(first).is_some());
    assert!(a.book.roll_epoch_if_due(next_at + 3 * DAY).await.unwrap());
    let a = a.restart();
    assert!(a.book.epoch_key(first).is_none() && a.book.epoch_key(second).is_some());
    assert_eq!(a.book.inner.slots.get(slot).unwrap(), None);
    let mut left = a.book.inner.slots.list().unwrap();
    let mut used = a.book.slots_in_use();
    left.sort();
    used.sort();
    assert_eq!(left, used);
    // A clock that goes back a month does not stop the renewal.
    assert!(a.book.roll_epoch_if_due(start - 30 * DAY).await.unwrap());
}

#[tokio::test]
async fn a_store_without_its_slots_gets_a_new_epoch() {
    let (a, _, id) = agreed().await;
    let before = a.book.own_roster(&id).await.unwrap().peek().unwrap();
    let lost = a.book.slots_in_use();
    a.book.inner.slots.erase(&lost).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let a = a.restart();
    let after = a.book.own_roster(&id).await.unwrap().peek().unwrap();
    assert!(after.epoch > before.epoch);
    assert_eq!(a.book.epoch_key(after.epoch).unwrap().public(), after.epoch_key);
}

#[tokio::test]
async fn a_new_statement_key_signs_a_new_roster() {
    let (a, b, id) = agreed().await;
    let before = b.book.own_roster(&id).await.unwrap();
    a.book.take_roster(&id, &before).await.unwrap();
    let b = b.restart_as(2);
    let after = b.book.own_roster(&id).await.unwrap();
    assert!(after.peek().unwrap().counter > before.peek().unwrap().counter);
    assert!(a.book.take_roster(&id, &after).await.is_err());
    a.book.note_contact(&id, &b.book.inner.entity.chain(), 0).await.unwrap();
    assert_eq!(a.book.take_roster(&id, &after).await, Ok(()));
}

#[tokio::test]
async fn groups_and_their_secrets() {
    let node = Node::new(1);
    let names = |node: &Node| node.book.groups().into_iter().map(|group| group.name).collect::<Vec<_>>();
    assert_eq!(names(&node), ["Reception"]);
    let mut changes = node.book.changes();
    let group = node.book.group_add("Cardiology").await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(group.shown, Shown::To(vec![]));
    for bad in ["", "a/b", " a", "a\n"] {
        assert!(matches!(node.book.group_add(bad).await, Err(BookError::Record(_))), "{bad:?}");
    }
    assert!(matches!(node.book.group_add("RECEPTION").await, Err(BookError::GroupExists)));
    assert!(matches!(node.book.group_show("Nobody", None).await, Err(BookError::NoSuchGroup)));
    assert!(!changes.has_changed().unwrap(), "what fails changes nothing");
    assert_eq!(node.book.group_by_name("Cardiology"), node.book.group_by_id(&group.id));

    let now = ambient::now();
    let secret = node.book.dedup_secret(&group.id, now).await.unwrap();
    assert_ne!(node.book.dedup_secret(&node.book.groups()[1].id, now).await.unwrap(), secret);
    let node = node.restart();
    assert_eq!(names(&node), ["Cardiology", "Reception"]);
    assert_eq!(node.book.dedup_secret(&group.id, now + 29 * DAY).await.unwrap(), secret);
    assert_ne!(node.book.dedup_secret(&group.id, now + 30 * DAY).await.unwrap(), secret);
}

#[tokio::test]
async fn p22_names_do_not_lie_on_the_disk() {
    let (a, b, id) = agreed().await;
    a.book.take_roster(&id, &b.book.own_roster(&id).await.unwrap()).await.unwrap();
    a.book.group_add("Canary Ward").await.unwrap();
    for (path, bytes) in a.disk.contents() {
        for canary in ["Clinic", "Canary", "ORGNR", "Reception", "127.0.0.1"] {
            let hit = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!hit, "{canary} in {}", path.display());
        }
    }
}

/// Rows that lie in stores were written field by field.
#[tokio::test]
async fn an_agreement_lies_in_the_store_as_it_always_did() {
    let (a, _, id) = agreed().await;
    let row: AgreementRow = a.book.inner.store.read(|tx| tx.get(&AGREEMENTS, &id)).unwrap().unwrap();
    let life = &row.life;
    let until_ended = (
        (&life.file, life.side, life.standing, life.verified, life.contact_pending, life.unconfirmed),
        &life.statements,
    );
    let versions = (life.signed, life.version_at, life.version_known, life.forked);
    let offers = (&life.offered, life.offer_known, &life.received);
    let rest = (&life.chain, &row.granted, &row.held, row.made_at);
    assert_eq!(codec::encode(1, &row), codec::encode(1, &(until_ended, versions, offers, rest)));
}
