//! Making a backup while the node runs: keys, then rows, then objects, all of one moment.
//!
//! ```text
//! hold files -> head to whoever takes it -> hold erasures -> view of the store -> keys into memory -> let erasures go
//!            -> keys, rows, objects to whoever takes them -> let files go
//! ```
//! Erasures wait for reading keys alone, never for whoever takes the backup.
//!
//! What is only kept to be known again when it is sent again stays out: it can be had again, and may be large.
//!
//! **Invariant:** every key and object that a row of the view speaks of is read before anything may remove it.

use std::ops::ControlFlow;
use std::path::PathBuf;

use pakt_keys::EntityId;
use pakt_keys::backup::ID_BYTES;
use pakt_protocol::ids::ObjectId;
use zeroize::Zeroizing;

use super::BackupError;
use super::check::{Summary, Tally};
use super::entry::{Begin, End, Entry};
use super::stream::{Out, Writer};
use crate::blob::{BlobError, Blobs, Held, ObjectRow, Owner};
use crate::config::CONFIG_NAME;
use crate::mailroom::known_owner;
use crate::mailroom::rows::{InItem, OutMessage};
use crate::slots::{KEY_BYTES_MAX, SlotId, Slots};
use crate::store::dump::{COMMITS_NAME, RawRow};
use crate::store::tables::{
    CLOCK, DOOMED, INBOX, KNOWN, KNOWN_BY_USE, KNOWN_USAGE, OBJECTS, OUT_MESSAGES, OWNED, PINS, RESTORED, USAGE,
};
use crate::store::{Key as _, ReadTx, Store, StoreError, Table};
use crate::{ambient, files, setup};

/// A configuration or card is a page of text.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Messages whose keys are read at once.
const KEYS_AT_ONCE: usize = 512;

/// Where a backup is taken from.
pub(crate) struct Source {
    pub(crate) dir: PathBuf,
    pub(crate) entity: EntityId,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) slots: Slots,
}

/// Tables that mean nothing elsewhere, or are made again.
const LEFT_OUT: [&str; 7] =
    [COMMITS_NAME, CLOCK.name(), DOOMED.name(), USAGE.name(), KNOWN.name(), KNOWN_BY_USE.name(), KNOWN_USAGE.name()];

/// Gives the pieces of a backup to `out`, and says what it holds. Blocks on the disk for as long as it takes.
///
/// # Errors
/// When something cannot be read, or `out` takes no more.
pub(crate) fn create(source: &Source, id: [u8; ID_BYTES], out: Out<'_>) -> Result<Summary, BackupError> {
    let path = setup::keystore_path(&source.dir);
    let read_keystore = || files::read_private(&path, pakt_keys::keystore::KEYSTORE_BYTES_MAX as u64);
    let keystore = read_keystore()?;
    let protected = pakt_keys::keystore::is_protected(&keystore)?;
    let held = source.blobs.hold();
    let mut writer = Writer::begin(source.store.key(), &keystore, &id, out)?;
    let erasures = source.slots.no_erasure();
    let made = source.store.read(|tx| {
        if read_keystore().ok().as_deref() != Some(keystore.as_slice()) {
            return Ok(Err(BackupError::Content("the keys were replaced while it began; run it again")));
        }
        let keys = read_keys(source, tx);
        drop(erasures);
        let mut pass = Pass { source, tx, writer: &mut writer, end: End::default(), tally: Tally::default() };
        let made = keys.and_then(|keys| pass.begin(keys)).and_then(|()| pass.rest(&held));
        match made {
            // The store looks at its own errors itself.
            Err(BackupError::Store(error)) => Err(error),
            made => Ok(made),
        }
    });
    let mut summary = made??;
    summary.bytes = writer.finish()?;
    summary.protected = protected;
    Ok(summary)
}

/// Keys of some messages, in memory for a while.
struct KeyPage {
    /// Each slot, and how many bytes of `secrets` are its.
    slots: Vec<(SlotId, u8)>,
    secrets: Zeroizing<Vec<u8>>,
    /// Keys that could not be read.
    missing: u64,
}

/// The keys of all messages of the view.
fn read_keys(source: &Source, tx: &ReadTx) -> Result<Vec<KeyPage>, BackupError> {
    let mut pages = Vec::new();
    read_keys_of(source, tx, &OUT_MESSAGES, |message: OutMessage| message.key, &mut pages)?;
    let of_item = |item| match item {
        InItem::Message(message) => message.key,
        InItem::Report(_) => None,
    };
    read_keys_of(source, tx, &INBOX, of_item, &mut pages)?;
    Ok(pages)
}

fn read_keys_of<K: crate::store::Key, V: serde::de::DeserializeOwned>(
    source: &Source,
    tx: &ReadTx,
    table: &Table<K, V>,
    slot_of: impl Fn(V) -> Option<SlotId>,
    pages: &mut Vec<KeyPage>,
) -> Result<(), BackupError> {
    let mut after = None;
    loop {
        let start = after.take().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut slots = Vec::new();
        for (key, value) in tx.range(table, (start, std::ops::Bound::Unbounded), KEYS_AT_ONCE)? {
            slots.extend(slot_of(value));
            after = Some(key);
        }
        if after.is_none() {
            return Ok(());
        }
        pages.push(read_page(source, &slots)?);
    }
}

fn read_page(source: &Source, slots: &[SlotId]) -> Result<KeyPage, BackupError> {
    // Never grown, so that no copy of a key is left behind.
    let secrets = Zeroizing::new(Vec::with_capacity(slots.len() * KEY_BYTES_MAX));
    let mut page = KeyPage { slots: Vec::with_capacity(slots.len()), secrets, missing: 0 };
    for (slot, secret) in slots.iter().zip(source.slots.get_all(slots)?) {
        match secret {
            Some(secret) => {
                page.slots.push((*slot, u8::try_from(secret.len()).unwrap_or(u8::MAX)));
                page.secrets.extend_from_slice(&secret);
            }
            None => page.missing += 1,
        }
    }
    Ok(page)
}

struct Pass<'a, 'w> {
    source: &'a Source,
    tx: &'a ReadTx,
    writer: &'a mut Writer<'w>,
    end: End,
    tally: Tally,
}

impl Pass<'_, '_> {
    fn begin(&mut self, keys: Vec<KeyPage>) -> Result<(), BackupError> {
        let begin = Begin {
            entity: self.source.entity,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: ambient::now(),
            generation: self.tx.get(&RESTORED, &())?.map_or(0, |row| row.generation),
            sequence: self.tx.commit_number()?,
        };
        self.tally.begin(&begin);
        self.writer.entry(&Entry::Begin(begin))?;
        for name in [CONFIG_NAME, setup::CARD_NAME] {
            let bytes = files::read_bounded(&self.source.dir.join(name), FILE_BYTES_MAX)?;
            self.writer.entry(&Entry::File { name: name.to_owned(), bytes })?;
        }
        for page in keys {
            self.end.missing_keys += page.missing;
            let mut rest = page.secrets.as_slice();
            for (slot, bytes) in page.slots {
                let (secret, others) = rest.split_at(usize::from(bytes));
                rest = others;
                self.end.keys += 1;
                self.writer.entry(&Entry::Key { slot, secret: secret.to_vec() })?;
            }
        }
        Ok(())
    }

    fn rest(&mut self, held: &Held) -> Result<Summary, BackupError> {
        for table in self.tx.table_names()? {
            if !LEFT_OUT.contains(&table.as_str()) {
                self.table(&table)?;
            }
        }
        self.objects(held)?;
        self.writer.entry(&Entry::End(self.end.clone()))?;
        Ok(self.tally.summary(&self.end))
    }

    fn table(&mut self, table: &str) -> Result<(), BackupError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.tx.raw_rows_after(table, after.as_deref())?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for row in page {
                if self.belongs(table, &row)? {
                    let (key, value) = row;
                    self.end.rows += 1;
                    self.tally.row(table);
                    self.writer.entry(&Entry::Row { table: table.to_owned(), key, value })?;
                }
            }
        }
    }

    /// Whether a row is part of the backup: what only known content needs is not.
    fn belongs(&self, table: &str, (key, _): &RawRow) -> Result<bool, StoreError> {
        let owner = if table == PINS.name() {
            <(EntityId, ObjectId, Owner)>::from_bytes(key).map(|(_, _, owner)| owner)
        } else if table == OWNED.name() {
            <(Owner, EntityId, ObjectId)>::from_bytes(key).map(|(owner, _, _)| owner)
        } else if table == OBJECTS.name() {
            let (origin, id) = <(EntityId, ObjectId)>::from_bytes(key).ok_or(StoreError::Damaged(OBJECTS.name()))?;
            return self.is_needed(origin, id);
        } else {
            return Ok(true);
        };
        Ok(owner != Some(known_owner()))
    }

    fn is_needed(&self, origin: EntityId, id: ObjectId) -> Result<bool, StoreError> {
        let pins: Vec<(EntityId, ObjectId, Owner)> = self.tx.prefix_keys(&PINS, &(origin, id), 2)?;
        Ok(pins.iter().any(|(_, _, owner)| *owner != known_owner()))
    }

    fn objects(&mut self, held: &Held) -> Result<(), BackupError> {
        let mut failed = None;
        self.tx.scan(&OBJECTS, .., |(origin, id), row: ObjectRow| {
            if !self.is_needed(origin, id)? {
                return Ok(ControlFlow::Continue(()));
            }
            failed = self.object(held, origin, id, row).err();
            Ok(if failed.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn object(&mut self, held: &Held, origin: EntityId, id: ObjectId, row: ObjectRow) -> Result<(), BackupError> {
        match held.read(origin, id, row) {
            Ok(bytes) => {
                self.end.objects += 1;
                self.end.object_bytes += bytes.len() as u64;
                self.writer.entry(&Entry::Object { origin, id, batch: row.batch, bytes: bytes.to_vec() })
            }
            Err(BlobError::Missing | BlobError::Damaged(_)) => {
                tracing::error!(object = %id, "an object is damaged; the backup is made without it");
                self.end.missing_objects += 1;
                self.tally.missing_object(&id);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}
