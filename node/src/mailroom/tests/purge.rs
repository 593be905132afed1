//! P41: what is purged is gone from every place on the disk, whenever it is cut off; and nothing is purged that must stay.

use std::collections::HashSet;

use pakt_keys::keystore::{HeldRoot, Keystore};
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::slots::{HEADER_BYTES, SLOT_BYTES, header_open, open_slot};
use pakt_protocol::codec;
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::recall::RecallRequest;
use pakt_protocol::record::receipt::{Receipt, Tier, Verdict, receipt_bytes, verify_from};

use super::*;
use crate::entity::Entity;
use crate::mailroom::purge::Cause;
use crate::mailroom::recall::Answered;
use crate::mailroom::receipts::{advance, find};
use crate::mailroom::retention::shift_retention;
use crate::mailroom::rows::{HeldReceipt, Stage};
use crate::store::StoreError;
use crate::store::tables::{INBOX, OUT_ENVELOPES};

const KEY: (EntityId, EnvelopeId) = (PEER, ENVELOPE);
const CANARY: &str = "canary of a subject";
const HOUR: Duration = Duration::from_secs(3_600);

/// This entity, whose statements count.
fn own() -> Entity {
    let root = RootKey::from_seed([41; 32]);
    let (transport, statement) = (TransportKey::from_seed([42; 32]), StatementKey::from_seed([43; 32]));
    let contact = ContactKey::from_bytes(&[44; 32]);
    let next = RootKey::from_seed([45; 32]).public();
    let keys = (transport.public(), statement.public(), contact.public());
    let chain = CertificateChain::create(&root, &next, keys, Time(1));
    let chain = codec::encode(1, &chain);
    let store = StoreKey::from_bytes([7; 32]);
    let keys = Keystore { root: Some(HeldRoot::open(root)), transport, statement, contact, store, chain };
    Entity::new(keys, "Clinic".into(), "NO:ORGNR:1".into()).unwrap()
}

fn receipt(own: &Entity, verdict: Verdict) -> Vec<u8> {
    let receipt = Receipt {
        verdict,
        core: CoreHash([0; 32]),
        message: MESSAGE,
        envelope: ENVELOPE,
        sender: PEER,
        recipient: own.id(),
        agreement: AGREEMENT,
        agreement_hash: [5; 32],
        counts: Counts::default(),
        offered_at: Time(1),
        at: Time(2),
        log_head: None,
        chain: own.chain(),
    };
    receipt_bytes(&receipt.sign(own.current().statement()))
}

/// A message with a canary in its words, received and kept until then.
async fn received(mailroom: &Mailroom, sealed: &Sealed, keep_until: Option<Time>) -> Entity {
    let own = own();
    mailroom.begin_incoming(PEER, offer(sealed), Time(1), None).await.unwrap();
    let objects: Vec<(ObjectId, Bytes)> =
        sealed.objects.iter().map(|(entry, bytes)| (entry.id, bytes.clone())).collect();
    mailroom.blobs.write_batch_pinned(PEER, incoming_owner(&PEER, &ENVELOPE), &objects).await.unwrap();
    let mut arrival = arrival(sealed, &receipt(&own, Verdict::Held(Tier::Delivered)));
    let message = arrival.message.as_mut().unwrap();
    (message.subject, message.text, message.keep_until) = (CANARY.into(), CANARY.repeat(3), keep_until);
    mailroom.commit(PEER, ENVELOPE, arrival).await.unwrap();
    own
}

async fn take(mailroom: &Mailroom, own: &Entity) {
    let identity = own.current();
    let taken: Result<(), StoreError> = mailroom
        .store
        .write(move |tx| {
            assert!(advance(tx, &identity, KEY, Stage::Released)?.is_some());
            assert!(advance(tx, &identity, KEY, Stage::Taken)?.is_some());
            Ok(())
        })
        .await;
    taken.unwrap();
}

/// Every key that lies on a disk, for somebody who has the store key.
fn key_dump(disk: &FaultDisk) -> Vec<Vec<u8>> {
    let store_key = StoreKey::from_bytes([7; 32]);
    let mut keys = vec![store_key.as_bytes().to_vec()];
    for (path, bytes) in disk.contents() {
        if !path.starts_with("/d/keys") || bytes.len() < HEADER_BYTES {
            continue;
        }
        let Ok(slot_key) = header_open(&store_key, &bytes) else { continue };
        keys.push(slot_key.as_bytes().to_vec());
        for (index, slot) in (0u64..).zip(bytes[HEADER_BYTES..].chunks_exact(SLOT_BYTES)) {
            keys.extend(open_slot(&slot_key, index, 0, slot).map(|plain| plain[8..].to_vec()));
        }
    }
    keys
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What the row of the message looks like on disk, sealed, and its key.
fn sealed_row(mailroom: &Mailroom) -> (Vec<u8>, Vec<u8>) {
    mailroom.store.read(|tx| tx.raw_rows_after(INBOX.name(), None)).unwrap().pop().unwrap()
}

/// Whether some key of the dump opens the words within an opened row.
fn words_open(row: &[u8], keys: &[Vec<u8>]) -> bool {
    let item: InItem = codec::decode(row[0], row, 1 << 20).unwrap();
    let InItem::Message(message) = item else { panic!("a message") };
    keys.iter().any(|key| {
        let Ok(key) = <[u8; 32]>::try_from(key.as_slice()) else { return false };
        let mut opened = message.clone();
        crate::mailroom::words::open(&mut opened, &key);
        opened.subject == CANARY
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p41_after_a_deletion_image_and_keys_open_nothing() {
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let disk = FaultDisk::new();
    let mailroom = open(&disk).unwrap();
    let own = received(&mailroom, &sealed, None).await;
    let InItem::Message(message) = mailroom.item(&ENVELOPE.0).unwrap() else { panic!("a message") };
    assert_eq!((message.subject.as_str(), message.text.as_str()), (CANARY, CANARY.repeat(3).as_str()));
    let manifest_key = *sealed.tree.manifest_key.as_bytes();
    // The scan finds what it looks for while it is there.
    let (row_key, row) = sealed_row(&mailroom);
    let opened = StoreKey::from_bytes([7; 32]).open(INBOX.name(), &row_key, &row).unwrap();
    assert!(!holds(&opened, CANARY.as_bytes()), "words lie in a row");
    assert!(key_dump(&disk).contains(&manifest_key.to_vec()));
    assert!(words_open(&opened, &key_dump(&disk)));
    let has_row = |disk: &FaultDisk| disk.contents().iter().any(|(_, bytes)| holds(bytes, &row));
    assert!(has_row(&disk));

    take(&mailroom, &own).await;
    mailroom.purge(&own, KEY, Cause::Deleted, Time(9)).await.unwrap();
    mailroom.blobs.reap().await.unwrap();
    let dump = key_dump(&disk);
    assert!(!dump.iter().any(|key| holds(key, &manifest_key)), "the key is still there");
    assert!(!words_open(&opened, &dump), "a row that lingers can be opened");
    for (path, bytes) in disk.contents() {
        assert!(!holds(&bytes, CANARY.as_bytes()) && !holds(&bytes, &manifest_key), "{}", path.display());
        let left = sealed.objects.iter().any(|(_, object)| holds(&bytes, &object[..object.len().min(48)]));
        assert!(!left, "an object is left in {}", path.display());
    }
    assert!(matches!(mailroom.opening(&message), Err(MailError::Missing)));
    assert!(mailroom.item(&ENVELOPE.0).is_err() && mailroom.inbox(None).unwrap().is_empty());
    // A duplicate gets the first receipt and brings nothing back.
    let again = mailroom.commit(PEER, ENVELOPE, arrival(&sealed, b"another")).await.unwrap();
    assert_eq!(again, receipt(&own, Verdict::Held(Tier::Delivered)));
    assert!(mailroom.inbox(None).unwrap().is_empty());
}

/// Strikes each call of a purge in turn; gives the number of strikes.
fn strike(fault: Fault, crash: Crash) -> u64 {
    let runtime = Runtime::new().unwrap();
    let sealed = runtime.block_on(sealed(&ContentPool::start().unwrap()));
    let mut strikes = 0;
    for at in 1.. {
        let context = (fault, crash, at);
        let disk = FaultDisk::new();
        let mailroom = open(&disk).unwrap();
        let own = runtime.block_on(received(&mailroom, &sealed, None));
        disk.plan(FaultPlan { at: disk.calls() + at, fault });
        let purged = runtime.block_on(mailroom.purge(&own, KEY, Cause::Recalled, Time(9))).is_ok();
        let stated = mailroom.settled(&PEER, &ENVELOPE).ok().flatten().and_then(|row| row.later.first().cloned());
        let struck = disk.struck_at();
        let disk = disk.crash(crash, at);
        let mailroom = open(&disk).unwrap_or_else(|error| panic!("{error} {context:?}"));
        runtime.block_on(async {
            mailroom.finish_purges(&own).await.unwrap();
            mailroom.erase_orphans(Vec::new()).await.unwrap();
        });
        let key_there = key_dump(&disk).contains(&sealed.tree.manifest_key.as_bytes().to_vec());
        let item = mailroom.item(&ENVELOPE.0);
        assert_eq!(item.is_ok(), key_there, "message and key go together {context:?}");
        let waits = mailroom.waiting_for_release().unwrap().0 == 1;
        assert_eq!(item.is_ok(), waits, "message and its check go together {context:?}");
        assert!(!purged || item.is_err(), "a purge that was stated is undone {context:?}");
        let row = mailroom.settled(&PEER, &ENVELOPE).unwrap().unwrap();
        assert_eq!(item.is_err(), row.later.len() == 1, "purged and stated go together {context:?}");
        // What removes the objects afterwards may be struck before this could be read.
        if let (true, Some(stated)) = (purged, &stated) {
            assert!(row.later.first() == Some(stated), "another receipt {context:?}");
        }
        let Some(_) = struck else {
            assert!(purged && stated.is_some(), "an undisturbed purge is done {context:?}");
            break;
        };
        strikes += 1;
    }
    strikes
}

#[test]
fn p41_a_purge_is_whole_after_a_cut_at_any_call() {
    assert!(strike(Fault::Cut, Crash::Clean) > 10);
}

#[test]
fn p41_a_purge_is_whole_after_lost_writes_at_any_call() {
    assert!(strike(Fault::Cut, Crash::LostAll) > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_purged_that_must_stay() {
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let until = Time(1) + HOUR;
    let late = until + HOUR;
    // kept until, taken, on hold, cause, when, purged
    type Row = (Option<Time>, bool, bool, Cause, Time, bool);
    let rows: [Row; 12] = [
        (None, false, false, Cause::Deleted, late, false),
        (None, true, false, Cause::Deleted, late, true),
        (None, true, true, Cause::Deleted, late, false),
        (Some(until), true, false, Cause::Deleted, Time(9), false),
        (Some(until), false, false, Cause::Deleted, late, true),
        (Some(until), false, false, Cause::RetentionOver, Time(9), false),
        (Some(until), false, false, Cause::RetentionOver, until, true),
        (Some(until), true, true, Cause::RetentionOver, late, false),
        (Some(until), false, false, Cause::Recalled, Time(9), true),
        (None, true, false, Cause::Recalled, Time(9), false),
        (None, true, false, Cause::NotForUs, Time(9), false),
        (None, true, true, Cause::Again, Time(9), true),
    ];
    for (row, (keep_until, taken, hold, cause, now, goes)) in rows.into_iter().enumerate() {
        let mailroom = open(&FaultDisk::new()).unwrap();
        let own = received(&mailroom, &sealed, keep_until).await;
        if taken {
            take(&mailroom, &own).await;
        }
        assert!(!hold || mailroom.set_hold(PEER, ENVELOPE, true, Time(2)).await.unwrap());
        let purged = mailroom.purge(&own, KEY, cause, now).await;
        assert_eq!(purged.is_ok(), goes, "row {row}: {:?}", purged.err());
        assert_eq!(mailroom.item(&ENVELOPE.0).is_err(), goes, "row {row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p27_what_is_due_goes_once_its_time_is_over_and_a_jump_of_the_clock_takes_nothing_early() {
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let mailroom = open(&FaultDisk::new()).unwrap();
    let until = Time(1) + HOUR;
    let own = received(&mailroom, &sealed, Some(until)).await;
    assert_eq!(mailroom.purge_due(&own, until - Duration::from_secs(1)).await.unwrap(), 0);
    assert_eq!(mailroom.due_untaken(until).unwrap(), 1);
    // The clock went thirty days ahead: what it shows now says nothing about the message's age.
    let month = 30 * 24 * HOUR;
    let jumped: Result<(), StoreError> =
        mailroom.store.write(move |tx| shift_retention(tx, i64::try_from(month.as_micros()).unwrap())).await;
    jumped.unwrap();
    assert_eq!(mailroom.purge_due(&own, until + month - Duration::from_secs(1)).await.unwrap(), 0);
    let InItem::Message(message) = mailroom.item(&ENVELOPE.0).unwrap() else { panic!("a message") };
    assert_eq!(mailroom.kept_until(&message).unwrap(), Some(until + month));
    assert!(mailroom.set_hold(PEER, ENVELOPE, true, Time(2)).await.unwrap());
    assert!(!mailroom.set_hold(PEER, ENVELOPE, true, Time(3)).await.unwrap(), "it is on hold already");
    assert_eq!(mailroom.purge_due(&own, until + month).await.unwrap(), 0, "on hold");
    assert_eq!(mailroom.due_untaken(until + month).unwrap(), 0);
    assert!(mailroom.set_hold(PEER, ENVELOPE, false, Time(4)).await.unwrap());
    assert_eq!(mailroom.purge_due(&own, until + month).await.unwrap(), 1);
    assert_eq!(mailroom.purge_due(&own, until + month).await.unwrap(), 0);
    // Nobody had taken it: that is not silent.
    let items = mailroom.inbox(None).unwrap();
    let [InItem::Report(report)] = items.as_slice() else { panic!("a report") };
    assert!(report.subject.contains("nobody had taken") && !report.text.contains(CANARY));
    mailroom.delete_report(report.id).await.unwrap();
    assert!(mailroom.inbox(None).unwrap().is_empty());
}

fn request(own: &Entity, core: [u8; 32]) -> RecallRequest {
    RecallRequest {
        sender: PEER,
        recipient: own.id(),
        agreement: AGREEMENT,
        message: MESSAGE,
        envelope: ENVELOPE,
        core: CoreHash(core),
        at: Time(5),
    }
}

/// What was stated last about the envelope.
fn stated(mailroom: &Mailroom, own: &Entity) -> Verdict {
    let row = mailroom.settled(&PEER, &ENVELOPE).unwrap().unwrap();
    let bytes = row.later.last().map_or(row.receipt, |stated| stated.receipt.clone());
    verify_from(&bytes, &own.node(), &PEER).unwrap().verdict
}

fn owed(mailroom: &Mailroom) -> Vec<u8> {
    mailroom.owed(&PEER, &HashSet::new(), 100).unwrap().into_iter().map(|((_, place), _)| place).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recall_is_answered_by_what_it_finds() {
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let recall = async |mailroom: &Mailroom, own: &Entity| {
        mailroom.recall_here(own, request(own, [0; 32]), [5; 32], Time(9)).await.unwrap()
    };
    // In an inbox, not taken.
    let mailroom = open(&FaultDisk::new()).unwrap();
    let own = received(&mailroom, &sealed, Some(Time(1) + HOUR)).await;
    let other = mailroom.recall_here(&own, request(&own, [1; 32]), [5; 32], Time(9)).await.unwrap();
    assert_eq!(other, Answered::OtherCore);
    assert_eq!(recall(&mailroom, &own).await, Answered::Stated);
    assert_eq!((stated(&mailroom, &own), mailroom.item(&ENVELOPE.0).is_err()), (Verdict::Recalled, true));
    let first = mailroom.settled(&PEER, &ENVELOPE).unwrap().unwrap();
    assert_eq!(recall(&mailroom, &own).await, Answered::Stated);
    assert!(mailroom.settled(&PEER, &ENVELOPE).unwrap().unwrap() == first, "the same bytes again");
    assert!(owed(&mailroom).contains(&Verdict::Recalled.place()));

    // Taken before.
    let mailroom = open(&FaultDisk::new()).unwrap();
    let own = received(&mailroom, &sealed, None).await;
    take(&mailroom, &own).await;
    mailroom.receipts_held(PEER, vec![(ENVELOPE, Verdict::Held(Tier::Taken))]).await.unwrap();
    assert_eq!(owed(&mailroom), [0; 0]);
    assert_eq!(recall(&mailroom, &own).await, Answered::Stated);
    assert_eq!((stated(&mailroom, &own), owed(&mailroom)), (Verdict::Held(Tier::Taken), vec![3]));
    assert!(mailroom.item(&ENVELOPE.0).is_ok());

    // On hold: once that is lifted.
    let mailroom = open(&FaultDisk::new()).unwrap();
    let own = received(&mailroom, &sealed, None).await;
    mailroom.set_hold(PEER, ENVELOPE, true, Time(2)).await.unwrap();
    assert_eq!(recall(&mailroom, &own).await, Answered::Waits);
    assert!(mailroom.is_recall_wished(&KEY).unwrap() && mailroom.item(&ENVELOPE.0).is_ok());
    mailroom.set_hold(PEER, ENVELOPE, false, Time(3)).await.unwrap();
    assert_eq!(mailroom.grant_wish(&own, KEY, Time(9)).await.unwrap(), Answered::Stated);
    assert_eq!((stated(&mailroom, &own), mailroom.item(&ENVELOPE.0).is_err()), (Verdict::Recalled, true));

    // Sent back before.
    let mailroom = open(&FaultDisk::new()).unwrap();
    let own = received(&mailroom, &sealed, None).await;
    mailroom.purge(&own, KEY, Cause::NotForUs, Time(9)).await.unwrap();
    assert_eq!(recall(&mailroom, &own).await, Answered::Stated);
    assert_eq!(stated(&mailroom, &own), Verdict::Returned);

    // It never came, and never will.
    let mailroom = open(&FaultDisk::new()).unwrap();
    assert_eq!(recall(&mailroom, &own).await, Answered::Stated);
    assert_eq!((stated(&mailroom, &own), owed(&mailroom)), (Verdict::NotHeld, vec![0]));
    let answered = mailroom.commit(PEER, ENVELOPE, arrival(&sealed, b"delivered")).await.unwrap();
    assert_eq!(answered, mailroom.settled(&PEER, &ENVELOPE).unwrap().unwrap().receipt);
    assert!(mailroom.inbox(None).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p24_what_was_purged_before_a_restore_goes_again_by_the_own_receipt() {
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let own = own();
    let bytes = receipt(&own, Verdict::Recalled);
    let proof = verify_from(&bytes, &own.node(), &PEER).unwrap();
    // The backup still held it.
    let mailroom = open(&FaultDisk::new()).unwrap();
    received(&mailroom, &sealed, Some(Time(1) + HOUR)).await;
    assert!(mailroom.purge_again(&own, bytes.clone(), proof.clone(), Time(9)).await.unwrap());
    assert!(mailroom.item(&ENVELOPE.0).is_err());
    assert_eq!(stated(&mailroom, &own), Verdict::Recalled);
    assert!(!mailroom.purge_again(&own, bytes.clone(), proof.clone(), Time(9)).await.unwrap(), "once is enough");
    // It came and went after the backup: it does not come again.
    let mailroom = open(&FaultDisk::new()).unwrap();
    assert!(!mailroom.purge_again(&own, bytes.clone(), proof.clone(), Time(9)).await.unwrap());
    assert_eq!(mailroom.commit(PEER, ENVELOPE, arrival(&sealed, b"delivered")).await.unwrap(), bytes);
    assert!(mailroom.inbox(None).unwrap().is_empty());
    // One about another core touches nothing.
    let mailroom = open(&FaultDisk::new()).unwrap();
    received(&mailroom, &sealed, None).await;
    let foreign = Receipt { core: CoreHash([9; 32]), ..proof };
    assert!(!mailroom.purge_again(&own, bytes, foreign, Time(9)).await.unwrap());
    assert!(mailroom.store.read(|tx| find(tx, &KEY)).unwrap().is_some());
}

#[test]
fn the_newest_purges_of_a_counterpart_are_shown_whatever_its_clock_said() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let mailroom = open(&FaultDisk::new()).unwrap();
    let places = [Verdict::Held(Tier::Delivered).place(), Verdict::Recalled.place(), Verdict::Returned.place()];
    let row = move |number: u8, entity: EntityId| OutEnvelope {
        id: EnvelopeId([number; 16]),
        message: MESSAGE,
        sequence: 0,
        number: 0,
        agreement: AGREEMENT,
        entity,
        entity_name: String::new(),
        group: GROUP,
        group_name: String::new(),
        core: vec![],
        delivery: Record::new(Priority::Normal, Duration::from_secs(60), Time(1)),
        wire_bytes: 0,
        durable_bytes: 0,
        receipts: vec![HeldReceipt {
            tier: places[usize::from(number % 3)],
            at: Time(number.into()),
            bytes: vec![number],
        }],
    };
    let written: Result<(), StoreError> = mailroom.store.write_blocking(move |tx| {
        (0..9).try_for_each(|number| tx.put(&OUT_ENVELOPES, &EnvelopeId([number; 16]), &row(number, PEER)))?;
        tx.put(&OUT_ENVELOPES, &EnvelopeId([100; 16]), &row(100, OWN))
    });
    written.unwrap();
    assert_eq!(mailroom.purges_of(&PEER, 100).unwrap(), ([1, 2, 4, 5, 7, 8].map(|number| vec![number]).to_vec(), 6));
    assert_eq!(mailroom.purges_of(&PEER, 2).unwrap(), (vec![vec![7], vec![8]], 6));
}
