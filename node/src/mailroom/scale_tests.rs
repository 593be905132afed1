//! Lists and counts over more messages than a page holds.

use std::path::Path;
use std::time::Duration;

use pakt_keys::EntityId;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::content::manifest::ManifestKey;
use pakt_protocol::delivery::{Reason, Record, State};
use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId};
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;

use super::page::{LIST_MAX, Page};
use super::release::{Finding, ToRelease};
use super::rows::{InItem, OutEnvelope, OutMessage, Report};
use super::{MailError, Mailroom};
use crate::blob::Blobs;
use crate::disk::FaultDisk;
use crate::slots::Slots;
use crate::store::tables::{OPEN_COUNTS, OPEN_ENVELOPES, QUARANTINED, TO_RELEASE};
use crate::store::{Store, WriteTx};

const GROUPS: [GroupId; 2] = [GroupId([1; 16]), GroupId([2; 16])];
const AGREEMENTS: [AgreementId; 2] = [AgreementId([5; 32]), AgreementId([6; 32])];

fn mailroom() -> Mailroom {
    let disk = FaultDisk::new();
    let store = Store::open(disk.clone(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).unwrap();
    let slots = Slots::open(store.clone(), disk.clone(), Path::new("/d/keys/slots")).unwrap();
    let blobs = Blobs::open_for_tests(store.clone(), disk, Path::new("/d/chunks")).unwrap();
    Mailroom::new(store, blobs, slots)
}

/// The ids that a number stands for; all begin with different digits.
fn id(number: u32) -> [u8; 16] {
    let mut id = [0xaa; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id
}

fn number(id: &[u8; 16]) -> u32 {
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

fn report(n: u32) -> InItem {
    InItem::Report(Report {
        id: id(n),
        group: GROUPS[(n % 2) as usize],
        group_name: String::new(),
        envelope: EnvelopeId(id(n)),
        subject: String::new(),
        text: String::new(),
        at: Time(u64::from(n)),
    })
}

fn inbox_with(count: u32) -> Mailroom {
    let mailroom = mailroom();
    let add = |tx: &mut WriteTx, n| super::inbox::add_item(tx, &report(n)).map(drop);
    mailroom.store.write_blocking(move |tx| (1..=count).try_for_each(|n| add(tx, n))).unwrap();
    mailroom
}

fn outgoing(n: u32) -> (OutMessage, OutEnvelope) {
    let envelope = EnvelopeId(id(n + 0x1000_0000));
    let message = OutMessage {
        id: MessageId(id(n)),
        sequence: 0,
        from_group: GROUPS[(n % 2) as usize],
        from_name: String::new(),
        subject: String::new(),
        priority: Priority::Normal,
        purpose: None,
        submitted_at: Time(1),
        counts: Counts::default(),
        key: None,
        envelopes: vec![envelope],
        earlier: vec![],
    };
    let core = EnvelopeCore {
        suite: SUITE,
        message: message.id,
        envelope,
        sender: EntityId([8; 32]),
        recipient: EntityId([9; 32]),
        group: GROUPS[0],
        priority: Priority::Normal,
        submitted_at: Time(1),
        counts: Counts::default(),
        agreement: AGREEMENTS[(n % 2) as usize],
        agreement_version: 1,
        number: 0,
        root_hash: [0; 32],
    };
    let row = OutEnvelope {
        id: envelope,
        message: message.id,
        sequence: 0,
        number: 0,
        agreement: AGREEMENTS[(n % 2) as usize],
        entity: EntityId([9; 32]),
        entity_name: String::new(),
        group: GROUPS[0],
        group_name: String::new(),
        core: core.to_bytes(),
        delivery: Record::new(Priority::Normal, Duration::from_secs(60), Time(u64::from(n))),
        wire_bytes: 0,
        durable_bytes: 0,
        receipts: vec![],
    };
    (message, row)
}

async fn submit(mailroom: &Mailroom, numbers: std::ops::RangeInclusive<u32>) {
    for (message, row) in numbers.map(outgoing) {
        mailroom.submit(message, vec![row], &ManifestKey::from_bytes([3; 32]), vec![]).await.unwrap();
    }
}

#[test]
fn the_inbox_comes_in_parts_that_meet() {
    let mailroom = inbox_with(1_100);
    let list = |group: Option<usize>, limit, before: Option<u32>| {
        let page = Page::new(limit, before.map(id));
        mailroom.inbox_page(group.map(|group| &GROUPS[group]), &page, |item| number(&item.id())).unwrap()
    };
    assert_eq!(list(None, None, None).len(), LIST_MAX);
    assert_eq!(list(None, Some(3), None), [1_100, 1_099, 1_098]);
    assert_eq!(list(None, Some(3), Some(1_098)), [1_097, 1_096, 1_095]);
    assert_eq!(list(None, Some(3), Some(2)), [1]);
    assert_eq!(list(None, None, Some(1)), [] as [u32; 0]);
    assert_eq!(list(Some(0), Some(2), None), [1_100, 1_098]);
    assert_eq!(list(Some(1), Some(2), Some(1_098)), [1_097, 1_095], "another group's item may mark the place");
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let part = list(Some(1), Some(100), before);
        let Some(last) = part.last() else { break };
        before = Some(*last);
        all.extend(part);
    }
    assert_eq!(all, (1..=1_100).rev().filter(|n| n % 2 == 1).collect::<Vec<_>>());
    let gone = mailroom.inbox_page(None, &Page::new(None, Some(id(9_999))), |_| ());
    assert!(matches!(gone, Err(MailError::Missing)));
}

#[test]
fn first_digits_find_what_no_list_shows() {
    let mailroom = inbox_with(1_100);
    let mut last = id(1);
    last[4..].fill(0xff);
    let mut first = id(1);
    first[4..].fill(0);
    assert_eq!(mailroom.items_named(first..=last).unwrap(), [id(1)]);
    assert_eq!(
        mailroom.items_named(id(0)..=id(1_100)).unwrap().len(),
        2,
        "two are enough to know that it is not clear"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_comes_in_parts_and_counts_what_is_open() {
    let mailroom = mailroom();
    submit(&mailroom, 1..=40).await;
    let list = |group: Option<usize>, limit, before: Option<[u8; 16]>| {
        let page = Page::new(limit, before);
        mailroom
            .outbox_page(group.map(|group| &GROUPS[group]), &page, |message, rows| (number(&message.id.0), rows.len()))
    };
    assert_eq!(list(None, Some(2), None).unwrap(), [(40, 1), (39, 1)]);
    assert_eq!(list(None, Some(1), Some(id(39))).unwrap(), [(38, 1)]);
    assert_eq!(
        list(None, Some(1), Some(id(0x1000_0000 + 39))).unwrap(),
        [(38, 1)],
        "an envelope's id marks the place too"
    );
    assert_eq!(list(Some(1), Some(2), Some(id(38))).unwrap(), [(37, 1), (35, 1)]);
    assert!(matches!(list(None, None, Some(id(77))), Err(MailError::Missing)));
    assert_eq!(mailroom.messages_named((MessageId(id(7)), MessageId(id(7)))).unwrap(), [MessageId(id(7))]);

    assert_eq!((mailroom.open_count().unwrap(), mailroom.open_count_of(&AGREEMENTS[0]).unwrap()), (40, 20));
    assert_eq!(mailroom.oldest_open(&AGREEMENTS[1]).unwrap(), Some(Time(1)));
    let first = mailroom.open_page(&AGREEMENTS[1], 0, 3).unwrap();
    assert_eq!(first.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!(mailroom.open_page(&AGREEMENTS[1], 6, 1).unwrap()[0].sequence, 7);
    for n in (1..=39).step_by(2) {
        end(&mailroom, n).await;
        // A second end of the same envelope counts for nothing.
        end(&mailroom, n).await;
    }
    assert_eq!((mailroom.open_count().unwrap(), mailroom.open_count_of(&AGREEMENTS[1]).unwrap()), (20, 0));
    assert_eq!(mailroom.oldest_open(&AGREEMENTS[1]).unwrap(), None);
    let (rows, counts) = mailroom
        .store
        .read(|tx| Ok((tx.prefix_keys(&OPEN_ENVELOPES, &(), usize::MAX)?.len(), tx.range(&OPEN_COUNTS, .., 9)?)))
        .unwrap();
    assert_eq!((rows, counts), (20, vec![(AGREEMENTS[0], 20)]));
}

async fn end(mailroom: &Mailroom, n: u32) {
    let (_, mut row) = outgoing(n);
    row.delivery.state = State::Expired;
    row.delivery.reason = Some(Reason::HoldTimeOver);
    mailroom.keep(row.id, row.delivery, None, Vec::new(), (0, 0)).await.unwrap();
}

/// What is needed at the start is told from what is not by a few rows, also after objects came without a message.
#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_known_without_looking_through_all() {
    let mailroom = mailroom();
    let object = bytes::Bytes::from_static(b"sealed");
    let (origin, objects) = (EntityId([9; 32]), [(pakt_protocol::ids::ObjectId::of(&object), object)]);
    let (message, row) = outgoing(1);
    let owner = super::outgoing_owner(&message.id);
    mailroom.blobs.write_batch_pinned(origin, owner, &objects).await.unwrap();
    assert_eq!(mailroom.blobs.unsettled().unwrap(), [owner]);
    mailroom.submit(message, vec![row], &ManifestKey::from_bytes([3; 32]), vec![]).await.unwrap();
    assert_eq!(mailroom.blobs.unsettled().unwrap(), [] as [[u8; 16]; 0]);
    // Broken off, then let go.
    mailroom.blobs.write_batch_pinned(origin, [8; 16], &objects).await.unwrap();
    assert_eq!(mailroom.blobs.unsettled().unwrap(), [[8; 16]]);
    mailroom.blobs.release([8; 16]).await.unwrap();
    mailroom.blobs.reap().await.unwrap();
    assert_eq!(mailroom.blobs.unsettled().unwrap(), [] as [[u8; 16]; 0]);
    assert!(mailroom.blobs.contains(origin, objects[0].0).unwrap(), "the message still needs it");
}

/// Keys of an earlier run that no row names go, whatever is sent meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn old_keys_without_a_row_are_erased_beside_the_work() {
    let mailroom = mailroom();
    submit(&mailroom, 1..=3).await;
    let orphan = mailroom.slots.put(b"orphan").unwrap();
    let suspects = mailroom.slots.list().unwrap();
    assert_eq!(suspects.len(), 4);
    let since = mailroom.slots.put(b"sent since the start").unwrap();
    submit(&mailroom, 4..=4).await;
    end(&mailroom, 1).await;
    mailroom.erase_unneeded(suspects, Vec::new()).await.unwrap();
    assert!(mailroom.slots.get(orphan).unwrap().is_none());
    assert!(mailroom.slots.get(since).unwrap().is_some(), "it was no suspect");
    for n in 2..=4 {
        assert!(mailroom.manifest_key(&MessageId(id(n))).is_ok(), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_the_check_holds_the_newest_are_listed() {
    let mailroom = mailroom();
    let fill = mailroom.store.write(|tx: &mut WriteTx| {
        for n in 1..=40 {
            let (from, envelope) = (EntityId([3; 32]), EnvelopeId(id(n)));
            let row = ToRelease { from, envelope, scan: n % 4 < 2, by_hand: false, bytes: 0 };
            // What needs a scanner stands at 2 and 3, what is urgent at 0 and 2.
            tx.put(&TO_RELEASE, &((n % 2) as u8 + if row.scan { 2 } else { 0 }, u64::from(n)), &row)?;
            tx.put(&QUARANTINED, &u64::from(n), &Finding { envelope, from, what: String::new(), at: Time(1) })?;
        }
        Ok::<_, MailError>(())
    });
    fill.await.unwrap();
    let found = mailroom.quarantined(3).unwrap();
    assert_eq!(found.iter().map(|finding| number(&finding.envelope.0)).collect::<Vec<_>>(), [40, 39, 38]);
    let check = |all: bool, limit: usize, expected: &[u32]| {
        let rows = mailroom.newest_to_release(all, limit).unwrap();
        let numbers: Vec<u32> = rows.iter().map(|row| number(&row.envelope.0)).take(12).collect();
        assert_eq!(numbers, expected, "all: {all}, {limit}");
    };
    check(false, 3, &[40, 36, 32]);
    check(false, 12, &[40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 37, 33]);
    check(true, 12, &[40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 38, 34]);
    assert_eq!(mailroom.newest_to_release(false, 100).unwrap().len(), 20);
    assert_eq!(mailroom.newest_to_release(true, 100).unwrap().len(), 40);
}
