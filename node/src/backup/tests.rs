//! P24: backups of a small node, made, damaged and restored on a real disk.

mod ledger;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pakt_keys::backup::{BackupFormatError, CHECKSUM_BYTES, FRAME_HEAD_BYTES, ID_BYTES, PREFIX_BYTES};
use pakt_keys::keystore::KeystoreError;
use pakt_protocol::ids::{AgreementId, CoreHash, EnvelopeId, MessageId, ObjectId};
use pakt_protocol::record::envelope::{Counts, Priority};
use pakt_protocol::record::roster::GroupId;
use pakt_protocol::time::Time;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rand_core::Rng;
use zeroize::Zeroizing;

use super::entry::Entry;
use super::stream::{Reader, Writer};
use super::*;
use crate::blob::Blobs;
use crate::book::Book;
use crate::config::Config;
use crate::disk::RealDisk;
use crate::entity::Entity;
use crate::mailroom::inbox::{Arrival, ArrivalNote};
use crate::mailroom::rows::{InItem, InMessage, Stage};
use crate::mailroom::{Mailroom, incoming_owner, known_owner};
use crate::service::{CHUNKS_NAME, SLOTS_NAME, STORE_NAME};
use crate::slots::Slots;
use crate::store::Store;
use crate::store::tables::{EPOCHS, OBJECTS, PINS, RESTORED, USAGE};
use crate::{ambient, setup};
use pakt_keys::EntityId;
use pakt_keys::store_seal::StoreKey;

const PEER: EntityId = EntityId([2; 32]);
const AGREEMENT: AgreementId = AgreementId([5; 32]);

impl RestoreOptions {
    fn of(file: PathBuf) -> RestoreOptions {
        RestoreOptions {
            file,
            dir: PathBuf::new(),
            passphrase_file: None,
            recovery_file: None,
            incomplete: false,
            ledger: None,
            without_ledger: false,
        }
    }
}

/// A node that does not run, opened.
struct Node {
    home: tempfile::TempDir,
    dir: PathBuf,
    entity: Entity,
    mailroom: Mailroom,
    book: Book,
}

impl Node {
    fn new(passphrase: Option<&str>) -> Node {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("node");
        let file = passphrase.map(|text| {
            let file = home.path().join("passphrase");
            crate::files::write_private(&file, text.as_bytes()).unwrap();
            file
        });
        let options = setup::InitOptions {
            dir: dir.clone(),
            name: "Sykehuset Nord".into(),
            number: "NO:ORGNR:999000101".into(),
            listen: "127.0.0.1:0".into(),
            advertise: vec![],
            allow_range: vec![],
            passphrase_file: file,
            recovery_file: Some(home.path().join("recovery")),
            proxy: None,
            proxy_credentials_file: None,
            root_file: None,
            root_passphrase_file: None,
        };
        setup::init(&options).unwrap();
        Node::open(home, dir)
    }

    fn open(home: tempfile::TempDir, dir: PathBuf) -> Node {
        let config = Config::load(&dir).unwrap();
        let keys = setup::unlock(&config, None).unwrap();
        let key = StoreKey::from_bytes(*keys.store.as_bytes());
        let entity = Entity::new(keys, config.name.clone(), config.number.clone()).unwrap();
        let disk = RealDisk::shared();
        let store = Store::open(disk.clone(), &dir.join(STORE_NAME), key).unwrap();
        after::settle(&store, &entity).unwrap();
        let slots = Slots::open(store.clone(), disk.clone(), &dir.join(setup::KEYS_NAME).join(SLOTS_NAME)).unwrap();
        let blobs = Blobs::open(store.clone(), disk, &dir.join(CHUNKS_NAME)).unwrap();
        let book = Book::open(store.clone(), slots.clone(), entity.clone(), vec![]).unwrap();
        let mailroom = Mailroom::new(store, blobs, slots);
        Node { home, dir, entity, mailroom, book }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A message whose objects have these lengths.
    async fn receive(&self, number: u8, objects: &[usize]) -> Vec<ObjectId> {
        let envelope = EnvelopeId([number; 16]);
        let objects: Vec<(ObjectId, Bytes)> = objects.iter().map(|length| noise(number, *length)).collect();
        let owner = incoming_owner(&PEER, &envelope);
        self.mailroom.blobs.write_batch_pinned(PEER, owner, &objects).await.unwrap();
        let ids: Vec<ObjectId> = objects.iter().map(|(id, _)| *id).collect();
        let message = InMessage {
            envelope,
            message: MessageId([number; 16]),
            agreement: AGREEMENT,
            from: PEER,
            from_name: "Zuid".into(),
            from_group: "Radiologie".into(),
            group: GroupId([6; 16]),
            group_name: "Mottak".into(),
            subject: "Knee".into(),
            text: String::new(),
            purpose: None,
            words: Vec::new(),
            priority: Priority::Normal,
            received_at: Time(1),
            keep_until: None,
            counts: Counts::default(),
            key: None,
            stage: Stage::Checking,
        };
        let arrival = Arrival {
            scan: false,
            message: Some(message),
            key: Zeroizing::new([number; 32]),
            segments: ids[..1].to_vec(),
            note: ArrivalNote {
                message: MessageId([number; 16]),
                agreement: AGREEMENT,
                number: number.into(),
                core: CoreHash([number; 32]),
            },
            answer: Box::new(move |_| vec![number]),
        };
        self.mailroom.commit(PEER, envelope, arrival).await.unwrap();
        ids
    }

    fn back_up(&self) -> (Vec<u8>, Summary) {
        let source = Source {
            dir: self.dir.clone(),
            entity: self.entity.id(),
            store: self.mailroom.store.clone(),
            blobs: self.mailroom.blobs.clone(),
            slots: self.mailroom.slots.clone(),
        };
        let mut bytes = Vec::new();
        let mut out = |piece: Vec<u8>| {
            bytes.extend_from_slice(&piece);
            Ok(())
        };
        let summary = create(&source, ambient::random(), &mut out).unwrap();
        assert_eq!(summary.bytes, bytes.len() as u64);
        (bytes, summary)
    }

    fn verify(&self, bytes: &[u8]) -> Result<Verified, BackupError> {
        let file = self.path("backup");
        fs::write(&file, bytes).unwrap();
        verify(&file, Some(&self.path("passphrase")).filter(|file| file.exists()).map(PathBuf::as_path), |_| {})
    }

    fn restore(&self, bytes: &[u8], incomplete: bool) -> Result<Restored, BackupError> {
        let file = self.path("backup");
        fs::write(&file, bytes).unwrap();
        let passphrase_file = Some(self.path("passphrase")).filter(|file| file.exists());
        let dir = self.path("restored");
        let options = RestoreOptions { dir, passphrase_file, incomplete, ..RestoreOptions::of(file) };
        restore(&options, |_| {})
    }

    /// Takes up what was restored.
    fn restored(self) -> Node {
        let dir = self.path("restored");
        let Node { home, .. } = self;
        Node::open(home, dir)
    }
}

fn noise(seed: u8, length: usize) -> (ObjectId, Bytes) {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).update(&length.to_be_bytes()).finalize_xof().fill(&mut bytes);
    (ObjectId::of(&bytes), Bytes::from(bytes))
}

fn rng() -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32])
}

/// With the checksum that somebody without any key can compute.
fn with_fresh_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len().saturating_sub(CHECKSUM_BYTES));
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    bytes
}

/// Where head and frames begin, and where the checksum does.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let keystore = u32::from_be_bytes(bytes[9..13].try_into().unwrap()) as usize;
    let mut at = PREFIX_BYTES + keystore + ID_BYTES;
    let mut borders = vec![at];
    while at + CHECKSUM_BYTES < bytes.len() {
        let length = u32::from_be_bytes(bytes[at + 1..at + FRAME_HEAD_BYTES].try_into().unwrap()) as usize;
        at += FRAME_HEAD_BYTES + length;
        borders.push(at);
    }
    borders
}

fn whole(verified: Result<Verified, BackupError>) -> Summary {
    match verified {
        Ok(Verified::Whole(summary)) => summary,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn p24_a_restored_store_holds_what_the_backup_held() {
    let node = Node::new(None);
    let ids = node.receive(1, &[100, 700_000, 900_000]).await;
    node.receive(2, &[50]).await;
    let (bytes, made) = node.back_up();
    node.receive(3, &[60]).await;
    let summary = whole(node.verify(&bytes));
    assert_eq!(summary, made);
    assert_eq!((summary.received, summary.objects, summary.keys, summary.missing_count), (2, 4, 2, 0));
    assert!(!summary.protected && summary.entity == Some(node.entity.id()));

    let restored = node.restore(&bytes, false).unwrap();
    assert!(restored.generation > 0);
    let old_epoch = node.mailroom.store.read(|tx| tx.range_backwards(&EPOCHS, .., 1)).unwrap().remove(0).0;
    let node = node.restored();
    assert_eq!(node.book.all().len(), 0);
    for (id, length) in ids.iter().zip([100, 700_000, 900_000]) {
        assert_eq!(node.mailroom.blobs.read_verified(PEER, *id).unwrap().len(), length);
    }
    let items = node.mailroom.inbox(None).unwrap();
    assert_eq!(items.len(), 2, "what came after the backup is not there");
    for item in items {
        let InItem::Message(message) = item else { panic!("a message") };
        let (_, key) = node.mailroom.opening(&message).unwrap();
        assert_eq!(*key.as_bytes(), [message.envelope.0[0]; 32]);
    }
    assert_eq!(node.mailroom.blobs.usage().unwrap().objects, 4);
    let row = node.mailroom.store.read(|tx| tx.get(&RESTORED, &())).unwrap().unwrap();
    assert!(row.settled && row.backup_at == summary.made_at && row.generation == restored.generation);
    let epoch = node.mailroom.store.read(|tx| tx.range_backwards(&EPOCHS, .., 1)).unwrap().remove(0).0;
    assert!(epoch >= old_epoch + (1 << 32), "a new epoch far above the old ones: {old_epoch} {epoch}");
    assert!(node.book.epoch_key(epoch).is_some());

    // A backup of the restored node goes on counting.
    let (bytes, again) = node.back_up();
    assert_eq!(again.generation, restored.generation);
    fs::remove_dir_all(node.path("node")).unwrap();
    let file = node.path("backup");
    fs::write(&file, bytes).unwrap();
    let options = RestoreOptions { dir: node.path("third"), ..RestoreOptions::of(file) };
    assert!(restore(&options, |_| {}).unwrap().generation > restored.generation);
}

#[tokio::test]
async fn p24_any_of_500_damages_is_found_and_leaves_nothing() {
    let node = Node::new(None);
    node.receive(1, &[100, 30_000]).await;
    let (good, _) = node.back_up();
    let mut rng = rng();
    for round in 0..500 {
        let mut bent = good.clone();
        let at = rng.next_u64() as usize % bent.len();
        match round % 5 {
            0 => bent[at] ^= 1 << (rng.next_u32() % 8),
            1 => bent.truncate(at),
            2 => bent.insert(at, rng.next_u32() as u8),
            3 => drop(bent.remove(at)),
            _ => {
                let end = (at + 40).min(bent.len());
                bent[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            }
        }
        if round % 2 == 0 {
            bent = with_fresh_checksum(bent);
        }
        if bent == good {
            continue;
        }
        let error = node.verify(&bent).expect_err("a damage");
        assert!(!matches!(error, BackupError::Io(_) | BackupError::Stopped), "{round}: {error}");
        if round % 25 == 0 {
            assert!(node.restore(&bent, true).is_err());
            assert!(!node.path("restored").exists(), "{round}: something half restored stayed");
        }
    }
    whole(node.verify(&good));
}

#[tokio::test]
async fn p24_frames_stay_in_their_place_and_in_their_backup() {
    let node = Node::new(None);
    node.receive(1, &[1 << 20, (1 << 20) - 1, (1 << 20) - 2]).await;
    let (good, _) = node.back_up();
    let (other, _) = node.back_up();
    let (borders, others) = (borders(&good), borders(&other));
    assert!(borders.len() > 4);
    let check = |bent: Vec<u8>, expected: &dyn Fn(BackupFormatError) -> bool, what: &str| match node
        .verify(&with_fresh_checksum(bent))
    {
        Err(BackupError::Format(error)) if expected(error) => {}
        found => panic!("{what}: {found:?}"),
    };
    for (number, border) in borders.iter().enumerate().take(borders.len() - 1) {
        // Cut at a border: what follows is a checksum, which is no frame.
        let cut = [&good[..*border], &[0; CHECKSUM_BYTES]].concat();
        check(cut, &|error| matches!(error, BackupFormatError::CutShort(_) | BackupFormatError::Frame(_)), "cut");
        // A whole frame of another backup of the same node.
        if number + 1 < others.len() {
            let frame = &other[others[number]..others[number + 1]];
            let mixed = [&good[..*border], frame, &good[borders[number + 1]..]].concat();
            check(mixed, &|error| error == BackupFormatError::Frame(number as u64), "another backup's");
        }
    }
    let frame = |at: usize| &good[borders[at]..borders[at + 1]];
    let end = borders.len() - 1;
    let swapped = [&good[..borders[0]], frame(1), frame(0), &good[borders[2]..]].concat();
    check(swapped, &|error| error == BackupFormatError::Frame(0), "swapped");
    let twice = [&good[..borders[1]], frame(0), &good[borders[1]..]].concat();
    check(twice, &|error| error == BackupFormatError::Frame(1), "twice");
    let left_out = [&good[..borders[1]], &good[borders[2]..]].concat();
    check(left_out, &|error| error == BackupFormatError::Frame(1), "left out");
    let mut early = good[..borders[2]].to_vec();
    early[borders[1]] = 1;
    early.extend([0; CHECKSUM_BYTES]);
    check(early, &|error| error == BackupFormatError::Frame(1), "an end that is none");
    let longer = [&good[..], frame(0)].concat();
    assert!(matches!(node.verify(&longer), Err(BackupError::Format(BackupFormatError::Appended))));
    let both = [&good[..], &other[..]].concat();
    assert!(matches!(node.verify(&both), Err(BackupError::Format(BackupFormatError::Appended))));
    let spliced = [&good[..borders[end - 1]], &other[others[others.len() - 2]..]].concat();
    check(spliced, &|error| matches!(error, BackupFormatError::Frame(_)), "the end of another");
}

#[tokio::test]
async fn p24_what_was_missing_when_it_was_made_is_said() {
    let node = Node::new(None);
    let ids = node.receive(1, &[100, 300]).await;
    let gone = glob(&node.dir.join(CHUNKS_NAME), &ids[1].to_string()).expect("the file");
    fs::remove_file(&gone).unwrap();
    let (bytes, made) = node.back_up();
    assert_eq!(made.missing_count, 1);
    let summary = whole(node.verify(&bytes));
    assert!(summary.missing_count > 0 && !summary.missing.is_empty(), "{summary:?}");
    assert!(matches!(node.restore(&bytes, false), Err(BackupError::Incomplete(_))));
    assert!(!node.path("restored").exists());
    node.restore(&bytes, true).unwrap();
}

fn glob(dir: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { glob(&path, name) } else { path.ends_with(name).then_some(path) }
    })
}

#[tokio::test]
async fn p22_a_backup_needs_the_passphrase_and_holds_no_epoch_key() {
    let node = Node::new(Some("correct horse"));
    node.receive(1, &[100]).await;
    let (bytes, _) = node.back_up();
    let summary = whole(node.verify(&bytes));
    assert!(summary.protected);
    let file = node.path("backup");
    assert!(matches!(verify(&file, None, |_| {}), Ok(Verified::Outside { .. })));
    let wrong = node.path("wrong");
    crate::files::write_private(&wrong, b"correct house").unwrap();
    let refused = verify(&file, Some(&wrong), |_| {});
    assert!(matches!(refused, Err(BackupError::Keystore(KeystoreError::WrongPassphrase))), "{refused:?}");

    // Everything within, opened: no private half of an epoch, and no slot that an epoch's row names.
    let config = Config::load(&node.dir).unwrap();
    let keys = setup::unlock(&config, None).unwrap();
    let mut reader = Reader::open(&bytes[..]).unwrap();
    reader.unlock(&keys.store);
    let epochs: Vec<_> = node.book.slots_in_use();
    assert_eq!(epochs.len(), 1);
    let secret = node.mailroom.slots.get(epochs[0]).unwrap().unwrap();
    let mut seen = 0;
    while let Some(entry) = reader.next().unwrap() {
        let plain = entry.to_bytes();
        assert!(!plain.windows(16).any(|window| window == &secret[..16]));
        if let Entry::Key { slot, .. } = &entry {
            assert!(!epochs.contains(slot));
            seen += 1;
        }
    }
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn what_is_only_known_content_stays_out() {
    let node = Node::new(None);
    node.receive(1, &[100]).await;
    let own = node.entity.id();
    let (kept, bytes) = noise(9, 5_000);
    node.mailroom.blobs.write_batch_pinned(own, known_owner(), &[(kept, bytes)]).await.unwrap();
    let (bytes, summary) = node.back_up();
    assert_eq!(summary.objects, 1);
    node.restore(&bytes, false).unwrap();
    let node = node.restored();
    let (row, pins, usage) = node
        .mailroom
        .store
        .read(|tx| {
            Ok((tx.get(&OBJECTS, &(own, kept))?, tx.prefix_keys(&PINS, &(own, kept), 9)?.len(), tx.get(&USAGE, &own)?))
        })
        .unwrap();
    assert!(row.is_none() && pins == 0 && usage.is_none());
}

#[tokio::test]
async fn files_stay_while_a_backup_reads() {
    let node = Node::new(None);
    let ids = node.receive(1, &[100]).await;
    let held = node.mailroom.blobs.hold();
    let row = node.mailroom.store.read(|tx| tx.get(&OBJECTS, &(PEER, ids[0]))).unwrap().unwrap();
    node.mailroom.blobs.release(incoming_owner(&PEER, &EnvelopeId([1; 16]))).await.unwrap();
    node.mailroom.blobs.reap().await.unwrap();
    assert!(!node.mailroom.blobs.contains(PEER, ids[0]).unwrap());
    assert_eq!(node.mailroom.blobs.sweep().unwrap(), 0);
    assert_eq!(held.read(PEER, ids[0], row).unwrap().len(), 100);
    drop(held);
    // The cleaner of the node may be at it already.
    for _ in 0..500 {
        node.mailroom.blobs.reap().await.unwrap();
        if node.mailroom.blobs.hold().read(PEER, ids[0], row).is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the file was never removed");
}

#[tokio::test]
async fn a_restore_takes_no_folder_that_is_in_use_and_clears_one_that_was_broken_off() {
    let node = Node::new(None);
    node.receive(1, &[100]).await;
    let (bytes, _) = node.back_up();
    let target = node.path("restored");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("something"), b"of somebody").unwrap();
    let refused = node.restore(&bytes, false).map(drop).unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    assert!(target.join("something").exists());
    fs::remove_file(target.join("something")).unwrap();
    // Killed between two moves.
    fs::create_dir(target.join(".restoring")).unwrap();
    fs::create_dir(target.join("keys")).unwrap();
    fs::write(target.join("keys/keystore"), b"half").unwrap();
    node.restore(&bytes, false).unwrap();
    assert!(target.join("config.toml").exists() && !target.join(".restoring").exists());
    let refused = node.restore(&bytes, false).map(drop).unwrap_err();
    assert!(refused.to_string().contains("holds a node"), "{refused}");
}

#[test]
fn entries_cross_frames_whole() {
    let store_key = StoreKey::from_bytes([1; 32]);
    let mut bytes = Vec::new();
    let mut out = |piece: Vec<u8>| {
        bytes.extend_from_slice(&piece);
        Ok(())
    };
    let mut writer = Writer::begin(&store_key, b"keystore", &[2; 32], &mut out).unwrap();
    let value = |seed: u8| noise(seed, 700_000).1.to_vec();
    for seed in 0..5 {
        let entry = Entry::Row { table: "t".into(), key: vec![seed], value: value(seed) };
        writer.entry(&entry).unwrap();
    }
    writer.finish().unwrap();
    let mut reader = Reader::open(&bytes[..]).unwrap();
    assert_eq!(reader.keystore(), b"keystore");
    reader.unlock(&store_key);
    for seed in 0..5 {
        let Some(Entry::Row { key, value: found, .. }) = &reader.next().unwrap() else { panic!("a row") };
        assert!(key == &[seed] && *found == value(seed));
    }
    assert!(reader.next().unwrap().is_none());
    assert_eq!(reader.bytes(), bytes.len() as u64);
}

#[tokio::test]
async fn a_backup_from_before_the_release_is_refused_by_name() {
    const OLD: crate::store::Table<u64, u64> = crate::store::Table::new("in-segments-1");
    let node = Node::new(None);
    let unreadable: Result<(), StoreError> = node.mailroom.store.write_blocking(|tx| tx.put(&OLD, &99, &99));
    unreadable.unwrap();
    let (bytes, _) = node.back_up();
    assert!(matches!(node.verify(&bytes), Err(BackupError::Content("a row cannot be read"))));
    let earlier: Result<(), StoreError> = node.mailroom.store.write_blocking(|tx| crate::store::pretend(tx, 1));
    earlier.unwrap();
    let (bytes, _) = node.back_up();
    assert!(matches!(node.verify(&bytes), Err(BackupError::Store(StoreError::Earlier))));
    assert!(matches!(node.restore(&bytes, false), Err(BackupError::Store(StoreError::Earlier))));
    assert!(!node.path("restored").exists(), "nothing half restored stays");
}
