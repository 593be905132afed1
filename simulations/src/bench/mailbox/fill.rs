//! Fills the mailroom of a stopped node: the same rows, keys, pins and log entries that messages over the network leave.
//!
//! Ids come from numbers, so that a question can name any of the messages without a list of them.
//!
//! **Invariant:** what is filled can be opened: every message has its own key slot and its own rows; the sealed objects are
//! those of one message that was sealed for it.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use pakt_keys::EntityId;
use pakt_keys::object::SealBase;
use pakt_keys::store_seal::StoreKey;
use pakt_node::blob::Blobs;
use pakt_node::config::Config;
use pakt_node::content::{ContentPool, SealTree, SealedTree, seal_tree};
use pakt_node::disk::RealDisk;
use pakt_node::keyring::Keyring;
use pakt_node::mailroom::inbox::{Arrival, ArrivalNote};
use pakt_node::mailroom::rows::{InMessage, OutEnvelope, OutMessage, Stage};
use pakt_node::mailroom::{Mailroom, incoming_owner, outgoing_owner};
use pakt_node::slots::Slots;
use pakt_node::store::Store;
use pakt_protocol::content::manifest::{ManifestHead, ManifestKey};
use pakt_protocol::delivery::{Record, State};
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId, ObjectId};
use pakt_protocol::record::envelope::{Counts, EnvelopeCore, Priority, SUITE};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use zeroize::Zeroizing;

/// Messages that are on their way into the store at once.
const AT_ONCE: usize = 4096;
/// About as long as a receipt with its head.
const RECEIPT_BYTES: usize = 420;
const PEER: EntityId = EntityId([0x77; 32]);
const AGREEMENT: AgreementId = AgreementId([0x78; 32]);
const HOLD: Duration = Duration::from_secs(48 * 3600);

/// The id of the envelope with a number; even ones were received, odd ones sent.
pub(super) fn envelope_id(number: u64) -> EnvelopeId {
    EnvelopeId(id("envelope", number))
}

fn id(what: &str, number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    blake3::Hasher::new_derive_key("pakt bench mailbox")
        .update(what.as_bytes())
        .update(&number.to_be_bytes())
        .finalize_xof()
        .fill(&mut id);
    id
}

/// Adds the messages with these numbers to the node in `dir`, which does not run.
///
/// # Errors
/// When its store cannot be opened or written.
pub(super) fn fill(dir: &Path, numbers: Range<u64>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fill_all(dir, numbers)).with_context(super::in_dir(dir))
}

/// What all messages share.
struct Sample {
    mailroom: Mailroom,
    group: GroupId,
    group_name: String,
    tree: SealedTree,
    objects: Vec<(ObjectId, Bytes)>,
    key: ManifestKey,
}

async fn fill_all(dir: &Path, numbers: Range<u64>) -> Result<()> {
    let (keystore, _) = Keyring::open(&Config::load(dir)?, None)?;
    let disk = RealDisk::shared();
    let store = Store::open(disk.clone(), &dir.join("pakt.redb"), StoreKey::from_bytes(*keystore.store.as_bytes()))?;
    let slots = Slots::open(store.clone(), disk.clone(), &dir.join("keys/slots"))?;
    let blobs = Blobs::open(store.clone(), disk, &dir.join("chunks"))?;
    let sample = sample(Mailroom::new(store.clone(), blobs, slots)).await?;
    let adding = stream::iter(numbers).map(|number| sample.add(number)).buffer_unordered(AT_ONCE);
    adding.try_collect::<()>().await?;
    drop(sample);
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(())
}

/// Seals one small message and reads its objects.
async fn sample(mailroom: Mailroom) -> Result<Sample> {
    let head = ManifestHead { subject: "Bench".into(), ..ManifestHead::default() };
    let what = SealTree::new(head, SealBase::from_bytes([8; 32]), PEER, [9; 16]);
    let pool = ContentPool::start()?;
    let blobs = mailroom.blobs().clone();
    let tree =
        seal_tree(Cursor::new(super::ask::tar_of_one("letter.txt", b"A letter.\n")?), what, &blobs, &pool).await?;
    let read = |entry: &pakt_protocol::message::offer::ObjectEntry| Ok((entry.id, blobs.read(PEER, entry.id)?));
    let objects = tree.objects.iter().map(read).collect::<Result<Vec<_>>>()?;
    let key = ManifestKey::from_bytes(*tree.manifest_key.as_bytes());
    Ok(Sample { mailroom, group: GroupId([0x79; 16]), group_name: "Reception".into(), tree, objects, key })
}

impl Sample {
    async fn add(&self, number: u64) -> Result<()> {
        if number.is_multiple_of(2) { self.receive(number).await } else { self.send(number).await }
    }

    fn counts(&self) -> Counts {
        let SealedTree { totals, sealed_bytes, .. } = &self.tree;
        Counts {
            files: totals.files,
            plain_bytes: totals.bytes,
            chunks: totals.chunks,
            segments: totals.segments,
            sealed_bytes: *sealed_bytes,
        }
    }

    async fn receive(&self, number: u64) -> Result<()> {
        let (envelope, message) = (envelope_id(number), MessageId(id("message", number)));
        self.mailroom.blobs().write_batch_pinned(PEER, incoming_owner(&PEER, &envelope), &self.objects).await?;
        let row = InMessage {
            envelope,
            message,
            agreement: AGREEMENT,
            from: PEER,
            from_name: "A counterpart of the bench".into(),
            from_group: "Reception".into(),
            group: self.group,
            group_name: self.group_name.clone(),
            subject: format!("Letter {number} about somebody"),
            text: "The letter is attached. Kind regards, the other side.".into(),
            purpose: None,
            priority: Priority::Normal,
            received_at: Time(1_790_000_000_000_000 + number),
            keep_until: None,
            counts: self.counts(),
            key: None,
            stage: Stage::Taken,
            words: Vec::new(),
        };
        let first = usize::try_from(self.tree.totals.chunks)?;
        let arrival = Arrival {
            message: Some(row),
            scan: false,
            key: Zeroizing::new(*self.key.as_bytes()),
            segments: self.objects.iter().skip(first).map(|(id, _)| *id).collect(),
            note: ArrivalNote { message, agreement: AGREEMENT, core: CoreHash([7; 32]), number: number + 1 },
            answer: Box::new(|_| vec![7; RECEIPT_BYTES]),
        };
        self.mailroom.commit(PEER, envelope, arrival).await?;
        Ok(())
    }

    /// The core of an envelope that is sent, before it has its number.
    fn core(&self, envelope: EnvelopeId, message: MessageId, submitted_at: Time) -> Vec<u8> {
        let core = EnvelopeCore {
            suite: SUITE,
            message,
            envelope,
            sender: EntityId([0x76; 32]),
            recipient: PEER,
            group: GroupId([0x7a; 16]),
            priority: Priority::Normal,
            submitted_at,
            counts: self.counts(),
            agreement: AGREEMENT,
            agreement_version: 1,
            number: 0,
            root_hash: self.tree.root_hash,
        };
        core.to_bytes()
    }

    async fn send(&self, number: u64) -> Result<()> {
        let (envelope, message) = (envelope_id(number), MessageId(id("message", number)));
        self.mailroom.blobs().write_batch_pinned(PEER, outgoing_owner(&message), &self.objects).await?;
        let now = Time(1_790_000_000_000_000 + number);
        let row = OutMessage {
            id: message,
            sequence: 0,
            from_group: self.group,
            from_name: self.group_name.clone(),
            subject: format!("Letter {number} about somebody"),
            priority: Priority::Normal,
            purpose: None,
            submitted_at: now,
            counts: self.counts(),
            key: None,
            envelopes: vec![envelope],
            earlier: vec![],
        };
        let mut delivery = Record::new(Priority::Normal, HOLD, now);
        let out = OutEnvelope {
            id: envelope,
            message,
            sequence: 0,
            number: 0,
            agreement: AGREEMENT,
            entity: PEER,
            entity_name: "A counterpart of the bench".into(),
            group: GroupId([0x7a; 16]),
            group_name: "Reception".into(),
            core: self.core(envelope, message, now),
            delivery: delivery.clone(),
            wire_bytes: 3_000,
            durable_bytes: 900,
            receipts: vec![],
        };
        self.mailroom.submit(row, vec![out], &self.key, self.tree.objects.clone()).await?;
        for state in [State::Offered, State::Transferring, State::Delivered] {
            delivery.history.push((state, now));
        }
        delivery.state = State::Delivered;
        self.mailroom.keep(envelope, delivery, None, Vec::new(), (3_000, 900)).await?;
        Ok(())
    }
}
