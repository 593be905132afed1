//! P24: an older backup brings nothing back that was purged since; and what a backup must not hold up.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::backup::ledger::Ledger;
use crate::mailroom::purge::Cause;
use crate::store::tables::LEDGERED;

impl Node {
    /// Purges a message as its time being over would.
    async fn purge(&self, number: u8) {
        let key = (PEER, EnvelopeId([number; 16]));
        self.mailroom.purge(&self.entity, key, Cause::RetentionOver, Time(9)).await.unwrap();
    }

    fn inbox(&self) -> Vec<u8> {
        let number = |item| match item {
            InItem::Message(message) => Some(message.envelope.0[0]),
            InItem::Report(_) => None,
        };
        self.mailroom.inbox(None).unwrap().into_iter().filter_map(number).collect()
    }

    /// Names the file of purges in the configuration; gives its path.
    fn name_ledger(&self) -> PathBuf {
        let path = self.path("nord.purges");
        let config = self.dir.join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        let named = format!("[backup]\nledger = {}", toml::Value::from(path.display().to_string()));
        fs::write(&config, text.replace("[backup]", &named)).unwrap();
        path
    }

    fn restore_with(&self, bytes: &[u8], change: impl FnOnce(&mut RestoreOptions)) -> Result<Restored, BackupError> {
        let file = self.path("backup");
        fs::write(&file, bytes).unwrap();
        let mut options = RestoreOptions { dir: self.path("restored"), ..RestoreOptions::of(file) };
        change(&mut options);
        restore(&options, |_| {})
    }
}

#[tokio::test]
async fn p24_an_older_backup_brings_back_nothing_that_the_ledger_names() {
    let node = Node::new(None);
    let path = node.name_ledger();
    node.receive(1, &[100, 700_000]).await;
    node.receive(2, &[60]).await;
    let (bytes, _) = node.back_up();
    // One that the backup holds, one that came and went after it.
    node.purge(2).await;
    node.receive(3, &[70]).await;
    node.purge(3).await;
    assert!(matches!(node.restore_with(&bytes, |_| {}), Err(BackupError::Ledger(LedgerError::Missing(_)))));
    assert!(!node.path("restored").exists(), "nothing half restored stays");
    Ledger::new(path.clone(), node.mailroom.store.clone()).flush().unwrap();

    // Without it the backup is as it was.
    assert_eq!(node.restore_with(&bytes, |options| options.without_ledger = true).unwrap().purged, 0);
    fs::rename(node.path("restored"), node.path("without")).unwrap();
    let restored = node.restore_with(&bytes, |_| {}).unwrap();
    assert_eq!(restored.purged, 1);
    let node = node.restored();
    assert_eq!(node.inbox(), [1]);
    assert_eq!(node.mailroom.slots.list().unwrap().len(), 1 + node.book.slots_in_use().len(), "its key is not there");
    assert!(node.mailroom.settled(&PEER, &EnvelopeId([2; 16])).unwrap().is_some(), "a duplicate brings nothing back");
    for (number, forgotten) in [(1, false), (2, true), (3, true)] {
        let key = (PEER, EnvelopeId([number; 16]));
        assert_eq!(node.mailroom.is_forgotten(&key).unwrap(), forgotten, "{number}");
    }
    assert_eq!(node.mailroom.store.read(|tx| tx.prefix_keys(&LEDGERED, &(), 9)).unwrap().len(), 2);
    // The ledger goes on after the restore, and names nothing less.
    node.purge(1).await;
    let ledger = Ledger::new(path.clone(), node.mailroom.store.clone());
    ledger.flush().unwrap();
    let key = crate::backup::ledger::LedgerKey::of(node.mailroom.store.key());
    let (tags, _) = crate::backup::ledger::read(&path, &key).unwrap();
    assert!((1..=3).all(|number| tags.contains(&key.tag(&PEER, &EnvelopeId([number; 16])))));
}

#[tokio::test]
async fn p24_a_ledger_of_another_node_or_a_changed_one_stops_the_restore() {
    let node = Node::new(None);
    node.receive(1, &[100]).await;
    let (bytes, _) = node.back_up();
    node.purge(1).await;
    let path = node.path("nord.purges");
    Ledger::new(path.clone(), node.mailroom.store.clone()).flush().unwrap();
    let mut ledger = fs::read(&path).unwrap();
    *ledger.last_mut().unwrap() ^= 1;
    fs::write(node.path("bent"), &ledger).unwrap();
    let bent = node.path("bent");
    let damaged = node.restore_with(&bytes, |options| options.ledger = Some(bent));
    assert!(matches!(damaged, Err(BackupError::Ledger(LedgerError::Damaged(_)))));
    assert!(!node.path("restored").exists());
    assert_eq!(node.restore_with(&bytes, |options| options.ledger = Some(path)).unwrap().purged, 1);
}

#[tokio::test]
async fn p24_a_ledger_that_was_put_back_stops_the_restore() {
    let node = Node::new(None);
    let path = node.name_ledger();
    let mut copies = Vec::new();
    for number in 1..=3 {
        node.receive(number, &[100]).await;
        Ledger::new(path.clone(), node.mailroom.store.clone()).flush().unwrap();
        copies.push(fs::read(&path).unwrap());
        node.purge(number).await;
    }
    Ledger::new(path.clone(), node.mailroom.store.clone()).flush().unwrap();
    let whole = fs::read(&path).unwrap();
    let (bytes, _) = node.back_up();
    let shorter = |result| matches!(result, Err(BackupError::Ledger(LedgerError::Shorter(_))));
    let elsewhere = node.path("elsewhere");
    for (at, copy) in copies.iter().enumerate() {
        fs::write(&path, copy).unwrap();
        fs::write(&elsewhere, copy).unwrap();
        assert!(shorter(node.restore_with(&bytes, |_| {})), "{at} entries");
        let there = node.restore_with(&bytes, |options| options.ledger = Some(elsewhere.clone()));
        assert!(shorter(there), "{at} entries at another place");
        assert!(!node.path("restored").exists());
    }
    // One that was begun at another place holds every purge, each once; and the whole one does.
    node.receive(4, &[100]).await;
    fs::write(&path, &whole).unwrap();
    assert_eq!(node.restore_with(&bytes, |_| {}).unwrap().purged, 0);
}

#[tokio::test]
async fn p24_two_restores_into_one_folder_do_not_meet() {
    let node = Node::new(None);
    node.receive(1, &[100]).await;
    let (bytes, _) = node.back_up();
    fs::create_dir(node.path("restored")).unwrap();
    let taken = fs::File::open(node.path("restored")).unwrap();
    taken.try_lock().unwrap();
    match node.restore_with(&bytes, |_| {}) {
        Err(BackupError::Service(error)) => assert_eq!(error.code, ErrorCode::Busy),
        other => panic!("{other:?}"),
    }
    drop(taken);
    node.restore_with(&bytes, |_| {}).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn p24_whoever_takes_a_backup_slowly_holds_up_no_erasure() {
    let node = Node::new(None);
    node.receive(1, &[100]).await;
    node.receive(2, &[100]).await;
    let source = Source {
        dir: node.dir.clone(),
        entity: node.entity.id(),
        store: node.mailroom.store.clone(),
        blobs: node.mailroom.blobs.clone(),
        slots: node.mailroom.slots.clone(),
    };
    let slots = node.mailroom.slots.clone();
    let (done, erased) = mpsc::channel();
    // The head is taken before the keys are read, what follows after that.
    let all = slots.list().unwrap();
    let mut erasures = vec![all, vec![slots.put(&[9; 32]).unwrap()]];
    let mut bytes = Vec::new();
    let summary = create(&source, ambient::random(), &mut |piece: Vec<u8>| {
        bytes.extend_from_slice(&piece);
        if let Some(erasure) = erasures.pop() {
            let (slots, done) = (slots.clone(), done.clone());
            std::thread::spawn(move || done.send(slots.erase(&erasure).is_ok()).unwrap());
            assert_eq!(erased.recv_timeout(Duration::from_secs(20)), Ok(true), "the erasure waits for the backup");
        }
        Ok(())
    });
    assert!(erasures.is_empty() && slots.list().unwrap().is_empty());
    assert_eq!((summary.unwrap().keys, whole(node.verify(&bytes)).missing_count), (2, 0));
}
