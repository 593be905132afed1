//! P32 for messages: one send and one receive, struck at every call to the disk.
//!
//! After each strike the machine reboots. What was acknowledged (a submission that returned, a receipt that could have
//! left) must be there whole: rows, objects, keys, and the content bit for bit. What was not acknowledged may be there or
//! not, but never by half.

mod purge;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pakt_keys::EntityId;
use pakt_keys::object::SealBase;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::content::manifest::{Bounds, ManifestHead, ManifestKey};
use pakt_protocol::delivery::Record;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId, ObjectId};
use pakt_protocol::message::Offer;
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::inbox::{Arrival, ArrivalNote};
use super::rows::{InItem, InMessage, OutEnvelope, OutMessage, Stage};
use super::{MailError, Mailroom, incoming_owner, outgoing_owner};
use crate::blob::Blobs;
use crate::content::{ContentPool, SealTree, SealedTree, read_manifest, seal_tree, tar_stream};
use crate::disk::{Crash, Fault, FaultDisk, FaultPlan};
use crate::slots::Slots;
use crate::store::tables::INBOX_IDS;
use crate::store::{Store, StoreError};

const OWN: EntityId = EntityId([1; 32]);
const PEER: EntityId = EntityId([2; 32]);
const MESSAGE: MessageId = MessageId([3; 16]);
const ENVELOPE: EnvelopeId = EnvelopeId([4; 16]);
const AGREEMENT: AgreementId = AgreementId([5; 32]);
const GROUP: GroupId = GroupId([6; 16]);
const RECEIPT: &[u8] = b"the receipt";

fn open(disk: &Arc<FaultDisk>) -> Result<Mailroom, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let store =
        Store::open(disk.clone(), Path::new("/d/pakt.redb"), StoreKey::from_bytes([7; 32])).map_err(|e| text(&e))?;
    let slots = Slots::open(store.clone(), disk.clone(), Path::new("/d/keys/slots")).map_err(|e| text(&e))?;
    let blobs = Blobs::open(store.clone(), disk.clone(), Path::new("/d/chunks")).map_err(|e| text(&e))?;
    Ok(Mailroom::new(store, blobs, slots))
}

/// A tree of one file that fills two chunks and one small file.
fn tar() -> Vec<u8> {
    let mut large = vec![0; (1 << 20) + 5000];
    blake3::Hasher::new().finalize_xof().fill(&mut large);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [("large", large.as_slice()), ("small", b"small file".as_slice())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn head() -> ManifestHead {
    ManifestHead { subject: "Knee".into(), ..ManifestHead::default() }
}

fn core(sealed: &SealedTree) -> Vec<u8> {
    let core = EnvelopeCore {
        suite: SUITE,
        message: MESSAGE,
        envelope: ENVELOPE,
        sender: OWN,
        recipient: PEER,
        group: GROUP,
        priority: Priority::Normal,
        submitted_at: Time(1),
        counts: counts(sealed),
        agreement: AGREEMENT,
        agreement_version: 1,
        number: 0,
        root_hash: sealed.root_hash,
    };
    core.to_bytes()
}

fn counts(sealed: &SealedTree) -> Counts {
    Counts {
        files: sealed.totals.files,
        plain_bytes: sealed.totals.bytes,
        chunks: sealed.totals.chunks,
        segments: sealed.totals.segments,
        sealed_bytes: sealed.sealed_bytes,
    }
}

/// Whatever tree the objects hold, as tar.
async fn content(
    mailroom: &Mailroom,
    origin: EntityId,
    segments: &[ObjectId],
    key: ManifestKey,
    pool: &ContentPool,
) -> Vec<u8> {
    let manifest = read_manifest(&mailroom.blobs, origin, segments, key, Bounds::PROTOCOL).unwrap();
    let mut out = Vec::new();
    let mut stream = Box::pin(tar_stream(mailroom.blobs.clone(), origin, Arc::new(manifest), pool));
    stream.read_to_end(&mut out).await.unwrap();
    out
}

/// Seals and submits one message, as the service does; whether it was acknowledged.
async fn send(mailroom: &Mailroom, pool: &ContentPool) -> bool {
    // It was offered while it was being read.
    if mailroom.note_early(AGREEMENT, ENVELOPE).await.is_err() {
        return false;
    }
    let dedup = SealBase::from_bytes([8; 32]);
    let what = SealTree::new(head(), dedup, OWN, outgoing_owner(&MESSAGE));
    let sealed = seal_tree(Cursor::new(tar()), what, &mailroom.blobs, pool).await;
    let Ok(sealed) = sealed else { return false };
    let message = OutMessage {
        id: MESSAGE,
        sequence: 0,
        from_group: GROUP,
        from_name: String::new(),
        subject: "Knee".into(),
        priority: Priority::Normal,
        purpose: None,
        submitted_at: Time(1),
        counts: counts(&sealed),
        key: None,
        envelopes: vec![ENVELOPE],
        earlier: vec![],
    };
    let envelope = OutEnvelope {
        id: ENVELOPE,
        message: MESSAGE,
        sequence: 0,
        number: 0,
        agreement: AGREEMENT,
        entity: PEER,
        entity_name: String::new(),
        group: GROUP,
        group_name: String::new(),
        core: core(&sealed),
        delivery: Record::new(Priority::Normal, Duration::from_secs(60), Time(1)),
        wire_bytes: 0,
        durable_bytes: 0,
        receipts: vec![],
    };
    mailroom.submit(message, vec![envelope], &sealed.manifest_key, sealed.objects).await.is_ok()
}

async fn verify_send(mailroom: &Mailroom, pool: &ContentPool, acknowledged: bool, context: &dyn std::fmt::Debug) {
    let open = mailroom.open_envelopes(&AGREEMENT).unwrap();
    assert!(!acknowledged || open.len() == 1, "an acknowledged message is gone {context:?}");
    if open.is_empty() {
        return;
    }
    assert_eq!(mailroom.early_offers(&AGREEMENT).unwrap(), [], "it would be withdrawn {context:?}");
    let message = mailroom.message(&MESSAGE).unwrap();
    let objects = mailroom.objects(&MESSAGE).unwrap();
    let key = ManifestKey::from_bytes(*mailroom.manifest_key(&MESSAGE).unwrap());
    for entry in objects.iter() {
        assert!(mailroom.blobs.read_verified(OWN, entry.id).is_ok(), "an object is gone {context:?}");
    }
    let first = usize::try_from(message.counts.chunks).unwrap();
    let segments: Vec<ObjectId> = objects.iter().skip(first).map(|entry| entry.id).collect();
    assert_eq!(content(mailroom, OWN, &segments, key, pool).await.len(), expected_length(), "{context:?}");
}

fn expected_length() -> usize {
    tar().len()
}

/// What a counterpart has sealed, made once on a good disk.
struct Sealed {
    objects: Vec<(ObjectEntry, Bytes)>,
    tree: SealedTree,
}

async fn sealed(pool: &ContentPool) -> Sealed {
    let disk = FaultDisk::new();
    let mailroom = open(&disk).unwrap();
    let dedup = SealBase::from_bytes([8; 32]);
    let what = SealTree::new(head(), dedup, OWN, [9; 16]);
    let tree = seal_tree(Cursor::new(tar()), what, &mailroom.blobs, pool).await.unwrap();
    let read = |entry: &ObjectEntry| (*entry, mailroom.blobs.read(OWN, entry.id).unwrap());
    let objects = tree.objects.iter().map(read).collect();
    Sealed { objects, tree }
}

fn arrival(sealed: &Sealed, receipt: &[u8]) -> Arrival {
    let first = usize::try_from(sealed.tree.totals.chunks).unwrap();
    let message = InMessage {
        envelope: ENVELOPE,
        message: MESSAGE,
        agreement: AGREEMENT,
        from: PEER,
        from_name: String::new(),
        from_group: String::new(),
        group: GROUP,
        group_name: String::new(),
        subject: "Knee".into(),
        text: String::new(),
        purpose: None,
        words: Vec::new(),
        priority: Priority::Normal,
        received_at: Time(1),
        keep_until: None,
        counts: counts(&sealed.tree),
        key: None,
        stage: Stage::Checking,
    };
    Arrival {
        message: Some(message),
        scan: false,
        key: Zeroizing::new(*sealed.tree.manifest_key.as_bytes()),
        segments: sealed.objects.iter().skip(first).map(|(entry, _)| entry.id).collect(),
        note: ArrivalNote { message: MESSAGE, agreement: AGREEMENT, number: 1, core: CoreHash([0; 32]) },
        answer: {
            let receipt = receipt.to_vec();
            Box::new(move |_| receipt)
        },
    }
}

fn offer(sealed: &Sealed) -> Offer {
    Offer {
        envelope: ENVELOPE,
        group: GROUP,
        priority: Priority::Normal,
        agreement_version: 1,
        files: 2,
        plain_bytes: sealed.tree.totals.bytes,
        objects: sealed.objects.len() as u64,
        sealed_bytes: sealed.tree.sealed_bytes,
        seconds_left: 60,
    }
}

/// Receives one message, as the exchange does; whether the receipt could leave.
async fn receive(mailroom: &Mailroom, sealed: &Sealed) -> bool {
    if mailroom.begin_incoming(PEER, offer(sealed), Time(1), None).await.is_err() {
        return false;
    }
    for batch in sealed.objects.chunks(2) {
        let batch: Vec<(ObjectId, Bytes)> = batch.iter().map(|(entry, bytes)| (entry.id, bytes.clone())).collect();
        if mailroom.blobs.write_batch_pinned(PEER, incoming_owner(&PEER, &ENVELOPE), &batch).await.is_err() {
            return false;
        }
    }
    mailroom.commit(PEER, ENVELOPE, arrival(sealed, RECEIPT)).await.is_ok_and(|receipt| receipt == RECEIPT)
}

async fn verify_receive(
    mailroom: &Mailroom,
    (pool, sealed): (&ContentPool, &Sealed),
    acknowledged: bool,
    context: &dyn std::fmt::Debug,
) {
    let settled = mailroom.settled(&PEER, &ENVELOPE).unwrap();
    assert!(!acknowledged || settled.is_some(), "a receipt that has left is not known any more {context:?}");
    let items = mailroom.inbox(None).unwrap();
    assert_eq!(items.len(), usize::from(settled.is_some()), "message and receipt are one commit {context:?}");
    if settled.is_none() {
        return;
    }
    let InItem::Message(message) = &items[0] else { panic!("a message") };
    let (segments, key) = mailroom.opening(message).unwrap();
    assert_eq!(content(mailroom, PEER, &segments, key, pool).await.len(), expected_length(), "{context:?}");
    // A duplicate after the reboot: the same receipt, nothing twice.
    let again = mailroom.commit(PEER, ENVELOPE, arrival(sealed, b"another receipt")).await;
    assert_eq!(again.unwrap(), RECEIPT, "{context:?}");
    assert_eq!(mailroom.inbox(None).unwrap().len(), 1, "{context:?}");
}

/// Strikes each call of a send and of a receive in turn; gives the number of strikes.
fn check(fault: Fault, crash: Crash) -> u64 {
    let runtime = Runtime::new().unwrap();
    let pool = ContentPool::start().unwrap();
    let sealed = runtime.block_on(sealed(&pool));
    let mut strikes = 0;
    for receiving in [false, true] {
        let mut at = 1;
        loop {
            let context = (fault, crash, receiving, at);
            let disk = FaultDisk::new();
            disk.plan(FaultPlan { at, fault });
            let acknowledged = match open(&disk) {
                Ok(mailroom) if receiving => runtime.block_on(receive(&mailroom, &sealed)),
                Ok(mailroom) => runtime.block_on(send(&mailroom, &pool)),
                Err(_) => false,
            };
            let struck = disk.struck_at();
            let disk = disk.crash(crash, at);
            let mailroom = open(&disk).unwrap_or_else(|error| panic!("{error} {context:?}"));
            runtime.block_on(async {
                mailroom.erase_orphans(Vec::new()).await.unwrap();
                if receiving {
                    verify_receive(&mailroom, (&pool, &sealed), acknowledged, &context).await;
                } else {
                    verify_send(&mailroom, &pool, acknowledged, &context).await;
                }
            });
            let Some(struck) = struck else {
                assert!(acknowledged, "an undisturbed run is acknowledged {context:?}");
                break;
            };
            strikes += 1;
            at = at.max(struck) + 1;
        }
    }
    strikes
}

macro_rules! matrix {
    ($($name:ident: $fault:expr, $crash:expr, $least:expr;)*) => {$(
        #[test]
        fn $name() {
            let strikes = check($fault, $crash);
            assert!(strikes > $least, "{strikes} strikes");
        }
    )*};
}

matrix! {
    p32_a_message_survives_a_clean_cut_at_any_call: Fault::Cut, Crash::Clean, 100;
    p32_a_message_survives_lost_writes_at_any_call: Fault::Cut, Crash::LostAll, 100;
    p32_a_message_survives_torn_writes_at_any_call: Fault::Cut, Crash::Torn { sector: 512 }, 100;
    p32_a_message_survives_an_error_at_any_call: Fault::ErrorOnce, Crash::LostSome, 100;
    p32_a_message_survives_a_failed_sync: Fault::SyncOnce, Crash::LostAll, 10;
    p31_a_message_survives_a_full_disk_at_any_call: Fault::FullOnce, Crash::LostAll, 20;
}

#[test]
fn ids_that_a_counterpart_picks_never_own_our_objects() {
    let id = [9; 16];
    let owners = [
        outgoing_owner(&MessageId(id)),
        incoming_owner(&PEER, &EnvelopeId(id)),
        incoming_owner(&OWN, &EnvelopeId(id)),
        id,
    ];
    for (at, owner) in owners.iter().enumerate() {
        assert!(!owners[..at].contains(owner));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_after_its_envelope_was_dropped_is_let_go_and_nothing_else() {
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let mailroom = open(&FaultDisk::new()).unwrap();
    let late: Vec<(ObjectId, Bytes)> = sealed.objects.iter().map(|(entry, bytes)| (entry.id, bytes.clone())).collect();
    mailroom.begin_incoming(PEER, offer(&sealed), Time(1), None).await.unwrap();
    mailroom.drop_incoming(PEER, ENVELOPE).await.unwrap();
    mailroom.blobs.reap().await.unwrap();
    mailroom.blobs.write_batch_pinned(PEER, incoming_owner(&PEER, &ENVELOPE), &late).await.unwrap();
    mailroom.drop_late(PEER, ENVELOPE).await.unwrap();
    mailroom.blobs.reap().await.unwrap();
    assert_eq!(mailroom.blobs.usage_of(PEER).unwrap().objects, 0);
    // Of what is under way, and of what was committed, nothing goes.
    assert!(receive(&mailroom, &sealed).await);
    mailroom.drop_late(PEER, ENVELOPE).await.unwrap();
    mailroom.blobs.reap().await.unwrap();
    assert_eq!(mailroom.blobs.usage_of(PEER).unwrap().objects, late.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_many_empty_files_waits_for_its_check_as_a_large_one() {
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let check = async |plain_bytes: u64, segments: u64, expected: u64| {
        let mailroom = open(&FaultDisk::new()).unwrap();
        mailroom.begin_incoming(PEER, offer(&sealed), Time(1), None).await.unwrap();
        let objects: Vec<(ObjectId, Bytes)> =
            sealed.objects.iter().map(|(entry, bytes)| (entry.id, bytes.clone())).collect();
        mailroom.blobs.write_batch_pinned(PEER, incoming_owner(&PEER, &ENVELOPE), &objects).await.unwrap();
        let mut arrival = arrival(&sealed, RECEIPT);
        let counts = &mut arrival.message.as_mut().unwrap().counts;
        (counts.plain_bytes, counts.segments) = (plain_bytes, segments);
        mailroom.commit(PEER, ENVELOPE, arrival).await.unwrap();
        let waiting = mailroom.to_release(None, true, 10).unwrap();
        assert_eq!(waiting.iter().map(|(_, row)| row.bytes).collect::<Vec<_>>(), [expected]);
    };
    check(1 << 30, 4, 1 << 30).await;
    check(100, 1, 128 << 10).await;
    // Two million empty files.
    check(0, 7_813, 7_813 * (128 << 10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_counterpart_takes_the_id_of_a_message_that_is_here() {
    const OTHER: EntityId = EntityId([3; 32]);
    let sealed = sealed(&ContentPool::start().unwrap()).await;
    let mailroom = open(&FaultDisk::new()).unwrap();
    let forged = || {
        let mut arrival = arrival(&sealed, b"another receipt");
        arrival.message.as_mut().unwrap().from = OTHER;
        arrival
    };
    assert!(!mailroom.is_id_taken(&(OTHER, ENVELOPE)).unwrap());
    assert!(receive(&mailroom, &sealed).await);
    let (_, waiting) = mailroom.to_release(None, true, 2).unwrap()[0];
    assert!(mailroom.is_id_taken(&(OTHER, ENVELOPE)).unwrap() && !mailroom.is_id_taken(&(PEER, ENVELOPE)).unwrap());
    // One that was accepted before the message came meets it at its commit.
    let refused = mailroom.commit(OTHER, ENVELOPE, forged()).await;
    assert!(matches!(refused, Err(MailError::IdTaken)), "{refused:?}");
    assert!(mailroom.settled(&OTHER, &ENVELOPE).unwrap().is_none(), "nothing was answered");
    assert_eq!(mailroom.slots.list().unwrap().len(), 1, "its key is not kept");
    let InItem::Message(message) = mailroom.item(&ENVELOPE.0).unwrap() else { panic!("a message") };
    assert_eq!((message.from, mailroom.inbox(None).unwrap().len()), (PEER, 1));
    assert!(mailroom.opening(&message).is_ok());
    // Whatever the id names, the check finds the message by its sender too.
    let stray: Result<(), StoreError> = mailroom.store.write_blocking(|tx| tx.put(&INBOX_IDS, &ENVELOPE.0, &99));
    stray.unwrap();
    assert_eq!(mailroom.unchecked(&waiting).unwrap().map(|message| message.from), Some(PEER));
}
