//! What stays the same in every run of the matrix: the two entities, what the counterpart signs and sends, and a node over a disk.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pakt_keys::keystore::{HeldRoot, Keystore};
use pakt_keys::object::SealBase;
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::codec;
use pakt_protocol::content::manifest::{ManifestHead, ManifestKey};
use pakt_protocol::ids::{AgreementId, EnvelopeId, MessageId, ObjectId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::record::chain::CertificateChain;
use pakt_protocol::record::envelope::Counts;
use pakt_protocol::time::Time;

use super::work::MESSAGES;
use crate::ambient;
use crate::audit::Log;
use crate::blob::Blobs;
use crate::book::{Book, TermsDraft};
use crate::clock;
use crate::content::{ContentPool, SealTree, SealedTree, seal_tree};
use crate::disk::{Disk, FaultDisk};
use crate::entity::Entity;
use crate::mailroom::Mailroom;
use crate::service::put_right;
use crate::slots::Slots;
use crate::store::Store;

/// The seed of the node under test, and of its counterpart.
const OWN: u8 = 1;
const PEER: u8 = 2;
/// Where the objects lie.
pub(super) const CHUNKS: &str = "/d/chunks";

/// The terms that the amendment changes.
pub(super) const AMENDED_BYTES_MAX: u64 = 5_000_000;

fn root(seed: u8) -> RootKey {
    RootKey::from_seed([seed; 32])
}

fn entity(seed: u8) -> Entity {
    let transport = TransportKey::from_seed([seed + 30; 32]);
    let statement = StatementKey::from_seed([seed + 60; 32]);
    let contact = ContactKey::from_bytes(&[seed; 32]);
    let keys = (transport.public(), statement.public(), contact.public());
    let chain = CertificateChain::create(&root(seed), &root(seed + 90).public(), keys, Time(1));
    let keystore = Keystore {
        root: Some(HeldRoot::open(root(seed))),
        transport,
        statement,
        contact,
        store: StoreKey::from_bytes([seed; 32]),
        chain: codec::encode(1, &chain),
    };
    Entity::new(keystore, format!("Clinic {seed}"), format!("NO:ORGNR:{seed}")).unwrap()
}

/// Everything durable of a node, opened and put right.
pub(super) struct Node {
    pub(super) store: Store,
    pub(super) blobs: Blobs,
    pub(super) slots: Slots,
    pub(super) book: Book,
    pub(super) mailroom: Mailroom,
    pub(super) log: Log,
}

async fn open(disk: &Arc<FaultDisk>, entity: &Entity) -> Result<Node, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let disk: Arc<dyn Disk> = disk.clone();
    let key = StoreKey::from_bytes([7; 32]);
    let store = Store::open(disk.clone(), Path::new("/d/pakt.redb"), key).map_err(|e| text(&e))?;
    clock::settle(&store).map_err(|e| text(&e))?;
    let slots = Slots::open(store.clone(), disk.clone(), Path::new("/d/keys/slots")).map_err(|e| text(&e))?;
    let blobs = Blobs::open_for_tests(store.clone(), disk, Path::new(CHUNKS)).map_err(|e| text(&e))?;
    let address = vec!["127.0.0.1:4100".parse().unwrap()];
    let book = Book::open(store.clone(), slots.clone(), entity.clone(), address).map_err(|e| text(&e))?;
    let mailroom = Mailroom::new(store.clone(), blobs.clone(), slots.clone());
    let old_keys = put_right(entity, &book, &mailroom, &blobs).await.map_err(|e| text(&e.message))?;
    mailroom.erase_unneeded(old_keys, book.slots_in_use()).await.map_err(|e| text(&e))?;
    let log = Log::new(store.clone(), entity.clone());
    Ok(Node { store, blobs, slots, book, mailroom, log })
}

/// One message's content, sealed.
pub(super) struct Content {
    /// Content first, then segments.
    pub(super) objects: Vec<(ObjectEntry, Bytes)>,
    pub(super) tree: SealedTree,
}

impl Content {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            files: self.tree.totals.files,
            plain_bytes: self.tree.totals.bytes,
            chunks: self.tree.totals.chunks,
            segments: self.tree.totals.segments,
            sealed_bytes: self.tree.sealed_bytes,
        }
    }

    pub(super) fn key(&self) -> ManifestKey {
        self.tree.manifest_key.clone()
    }

    pub(super) fn segments(&self) -> Vec<ObjectId> {
        let first = usize::try_from(self.tree.totals.chunks).unwrap();
        self.objects.iter().skip(first).map(|(entry, _)| entry.id).collect()
    }

    pub(super) fn batch(&self) -> Vec<(ObjectId, Bytes)> {
        self.objects.iter().map(|(entry, bytes)| (entry.id, bytes.clone())).collect()
    }
}

/// What stays the same.
pub(super) struct World {
    pub(super) own: Entity,
    pub(super) peer: Entity,
    pub(super) agreement: AgreementId,
    /// The counterpart's amendment, armoured.
    pub(super) amendment: String,
    contents: Vec<Content>,
    /// The node's disk with the agreement in force.
    pub(super) agreed: Arc<FaultDisk>,
}

impl World {
    pub(super) async fn new() -> World {
        let (own, peer) = (entity(OWN), entity(PEER));
        let (disk, other_disk) = (FaultDisk::new(), FaultDisk::new());
        let node = open(&disk, &own).await.unwrap();
        let other = open(&other_disk, &peer).await.unwrap();
        let draft = TermsDraft::standard(ambient::now());
        let card = node.book.own_card().unwrap();
        let (_, proposal) = other.book.propose(&card, draft, true, &root(PEER)).await.unwrap();
        let (agreement, _) = node.book.accept(proposal.as_bytes(), true, &root(OWN)).await.unwrap();
        let agreement_id = agreement.id;
        other.book.take_contact(&agreement_id, agreement.contact.as_deref().unwrap()).await.unwrap();
        node.book.contact_confirmed(&agreement_id).await.unwrap();
        let terms = other.book.get(&agreement_id).unwrap().terms.clone();
        let draft = TermsDraft { message_bytes_max: AMENDED_BYTES_MAX, ..TermsDraft::of(&terms, ambient::now()) };
        let (_, amendment) = other.book.amend(&agreement_id, draft, &root(PEER)).await.unwrap();
        let pool = ContentPool::start().unwrap();
        let mut contents = Vec::new();
        for message in 0..=MESSAGES {
            contents.push(content(&pool, &other, message).await);
        }
        World { own, peer, agreement: agreement_id, amendment, contents, agreed: disk }
    }

    /// Opens the node as a start does; a crash's leftovers are cleared away.
    pub(super) async fn open(&self, disk: &Arc<FaultDisk>) -> Result<Node, String> {
        open(disk, &self.own).await
    }

    pub(super) fn own_root(&self) -> RootKey {
        root(OWN)
    }

    pub(super) fn content(&self, message: u8) -> &Content {
        &self.contents[usize::from(message)]
    }
}

pub(super) fn message_id(message: u8) -> MessageId {
    MessageId([message + 1; 16])
}

pub(super) fn envelope_id(message: u8) -> EnvelopeId {
    EnvelopeId([message + 101; 16])
}

/// What a message says about itself.
pub(super) fn subject(message: u8) -> String {
    format!("Knee {message}")
}

/// A small file; every tenth message has a second chunk beside it.
async fn content(pool: &ContentPool, node: &Node, message: u8) -> Content {
    let mut builder = tar::Builder::new(Vec::new());
    let long = if message.is_multiple_of(10) { 300_000 } else { 700 };
    for (name, bytes) in [("a", 1_000 + usize::from(message)), ("b", long)] {
        let mut content = vec![0; bytes];
        blake3::Hasher::new().update(&[message]).finalize_xof().fill(&mut content);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    let tar = std::io::Cursor::new(builder.into_inner().unwrap());
    let head = ManifestHead { subject: subject(message), ..ManifestHead::default() };
    let origin = pakt_keys::EntityId([message + 1; 32]);
    let what = SealTree::new(head, SealBase::from_bytes([message; 32]), origin, [message; 16]);
    let tree = seal_tree(tar, what, &node.blobs, pool).await.unwrap();
    let read = |entry: &ObjectEntry| (*entry, node.blobs.read(origin, entry.id).unwrap());
    let objects = tree.objects.iter().map(read).collect();
    Content { objects, tree }
}
