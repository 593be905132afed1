//! Follows a backup entry by entry: whether every row opens in its place, every object is what its id says, and
//! everything that a message refers to is there.
//!
//! **Invariant:** what passes is a store that a node can take up; what does not says what is missing.

use std::collections::HashSet;

use pakt_keys::EntityId;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::ids::{EnvelopeId, MessageId, ObjectId};
use pakt_protocol::message::offer::ObjectEntry;
use pakt_protocol::time::Time;

use super::BackupError;
use super::entry::{Begin, End, Entry};
use crate::blob::{ObjectRow, Owner};
use crate::mailroom::rows::{InItem, OutMessage};
use crate::mailroom::{incoming_owner, outgoing_owner};
use crate::slots::SlotId;
use crate::store::Table;
use crate::store::dump::{check_schema, open_row};
use crate::store::tables::{AGREEMENTS, IN_SEGMENTS, INBOX, OBJECTS, OUT_MESSAGES, OUT_OBJECTS, OWNED, PINS};

/// Things that a summary names when they are missing; the rest are counted.
const NAMED_MAX: usize = 20;

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub entity: Option<EntityId>,
    /// Version of the program that made it.
    pub program: String,
    /// The moment that it shows.
    pub made_at: Time,
    /// The generation of the store: 0 until a backup was restored.
    pub generation: u64,
    /// The number of the last commit that it shows.
    pub sequence: u64,
    /// Whether its keys are under a passphrase.
    pub protected: bool,
    /// Agreements.
    pub agreements: u64,
    /// Messages and reports in the inbox.
    pub received: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Manifest keys.
    pub keys: u64,
    /// Sealed objects.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// How much is missing.
    pub missing_count: u64,
    /// What is missing, at most 20 of it.
    pub missing: Vec<String>,
}

/// Counts what goes into a backup or comes out of one.
#[derive(Default)]
pub(super) struct Tally(Summary);

impl Tally {
    pub(super) fn begin(&mut self, begin: &Begin) {
        self.0.entity = Some(begin.entity);
        self.0.program.clone_from(&begin.program);
        self.0.made_at = begin.made_at;
        self.0.generation = begin.generation;
        self.0.sequence = begin.sequence;
    }

    pub(super) fn row(&mut self, table: &str) {
        let Summary { agreements, received, sent, .. } = &mut self.0;
        for (name, count) in [(AGREEMENTS.name(), agreements), (INBOX.name(), received), (OUT_MESSAGES.name(), sent)] {
            *count += u64::from(name == table);
        }
    }

    fn missing(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.0.missing_count += count;
        if count > 0 && self.0.missing.len() < NAMED_MAX {
            self.0.missing.push(what());
        }
    }

    pub(super) fn missing_object(&mut self, id: &ObjectId) {
        self.missing(1, || format!("object {id}"));
    }

    pub(super) fn summary(&self, end: &End) -> Summary {
        let mut summary = self.0.clone();
        let End { rows, keys, objects, object_bytes, .. } = *end;
        (summary.rows, summary.keys, summary.objects, summary.object_bytes) = (rows, keys, objects, object_bytes);
        if end.missing_keys > 0 {
            summary.missing_count += end.missing_keys;
            summary.missing.push(format!("keys of {} messages", end.missing_keys));
        }
        summary
    }
}

/// An object as something to be found again, in a few bytes.
type Place = [u8; 16];

fn place(origin: &EntityId, id: &ObjectId) -> Place {
    std::array::from_fn(|at| origin.0[at] ^ id.0[at])
}

/// What has been seen of a backup, and what it still owes.
pub(super) struct Checker {
    store_key: StoreKey,
    entity: EntityId,
    tally: Tally,
    seen: End,
    begun: bool,
    end: Option<End>,
    keys: HashSet<SlotId>,
    /// Objects that messages name themselves, until their rows come.
    named: HashSet<Place>,
    /// Owners that must own something, until their rows come.
    owners: HashSet<Owner>,
    /// Objects with a row, until their bytes come.
    awaited: HashSet<Place>,
    rowed: HashSet<Place>,
    /// Why a row could not be read: said once it is known that an earlier program did not write it.
    unread: Option<BackupError>,
}

impl Checker {
    /// For a backup whose keystore holds this store key and belongs to this entity.
    pub(super) fn new(store_key: &StoreKey, entity: EntityId) -> Checker {
        Checker {
            store_key: StoreKey::from_bytes(*store_key.as_bytes()),
            entity,
            tally: Tally::default(),
            seen: End::default(),
            begun: false,
            end: None,
            keys: HashSet::new(),
            named: HashSet::new(),
            owners: HashSet::new(),
            awaited: HashSet::new(),
            rowed: HashSet::new(),
            unread: None,
        }
    }

    /// Looks at the next entry.
    ///
    /// # Errors
    /// [`BackupError`] says what does not fit.
    pub(super) fn take(&mut self, entry: &Entry) -> Result<(), BackupError> {
        if self.end.is_some() || self.begun == matches!(entry, Entry::Begin(_)) {
            return Err(BackupError::Content("its entries are out of order"));
        }
        match entry {
            Entry::Begin(begin) => self.begin(begin),
            Entry::File { .. } => Ok(()),
            Entry::Key { slot, .. } => {
                self.seen.keys += 1;
                self.keys.insert(*slot);
                Ok(())
            }
            Entry::Row { table, key, value } => {
                self.count_row(table, key, value)?;
                if let Err(error) = self.row(table, key, value) {
                    self.unread.get_or_insert(error);
                }
                Ok(())
            }
            Entry::Object { origin, id, bytes, .. } => self.object(origin, id, bytes),
            Entry::End(end) => {
                self.end = Some(end.clone());
                Ok(())
            }
        }
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), BackupError> {
        if begin.entity != self.entity {
            return Err(BackupError::Content("its keys are another entity's"));
        }
        self.begun = true;
        self.tally.begin(begin);
        Ok(())
    }

    /// Counts a row that opens in its place, of a store that this program reads.
    fn count_row(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        self.seen.rows += 1;
        self.tally.row(table);
        if self.store_key.open(table, key, value).is_err() {
            return Err(BackupError::Content("a row does not open in its place"));
        }
        Ok(check_schema(&self.store_key, table, key, value)?)
    }

    /// Notes what a row refers to.
    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        match table {
            name if name == OUT_MESSAGES.name() => {
                let (id, message): (MessageId, OutMessage) = self.open(&OUT_MESSAGES, key, value)?;
                self.message_key(message.key, || format!("the key of sent message {id}"));
                if message.key.is_some() {
                    self.owners.insert(outgoing_owner(&id));
                }
            }
            name if name == INBOX.name() => {
                if let (_, InItem::Message(message)) = self.open(&INBOX, key, value)? {
                    self.message_key(message.key, || format!("the key of received message {}", message.envelope));
                    self.owners.insert(incoming_owner(&message.from, &message.envelope));
                }
            }
            name if name == IN_SEGMENTS.name() => {
                let ((from, _), ids): ((EntityId, EnvelopeId), Vec<ObjectId>) = self.open(&IN_SEGMENTS, key, value)?;
                self.named.extend(ids.iter().map(|id| place(&from, id)));
            }
            name if name == OUT_OBJECTS.name() => {
                let (_, entries): (_, Vec<ObjectEntry>) = self.open(&OUT_OBJECTS, key, value)?;
                let missing = entries.iter().filter(|entry| !self.rowed.contains(&place(&self.entity, &entry.id)));
                for entry in missing {
                    self.tally.missing_object(&entry.id);
                }
            }
            name if name == OBJECTS.name() => {
                let ((origin, id), _): (_, ObjectRow) = self.open(&OBJECTS, key, value)?;
                self.named.remove(&place(&origin, &id));
                self.awaited.insert(place(&origin, &id));
                self.rowed.insert(place(&origin, &id));
            }
            name if name == PINS.name() => {
                let ((origin, id, _), ()) = self.open(&PINS, key, value)?;
                self.pinned(&origin, &id);
            }
            name if name == OWNED.name() => {
                let ((owner, origin, id), ()) = self.open(&OWNED, key, value)?;
                self.owners.remove(&owner);
                self.pinned(&origin, &id);
            }
            _ => {}
        }
        Ok(())
    }

    fn open<K: crate::store::Key, V: serde::de::DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        key: &[u8],
        value: &[u8],
    ) -> Result<(K, V), BackupError> {
        open_row(&self.store_key, table, key, value).map_err(|_| BackupError::Content("a row cannot be read"))
    }

    fn message_key(&mut self, slot: Option<SlotId>, what: impl FnOnce() -> String) {
        if slot.is_some_and(|slot| !self.keys.contains(&slot)) {
            self.tally.missing(1, what);
        }
    }

    fn pinned(&mut self, origin: &EntityId, id: &ObjectId) {
        if !self.rowed.contains(&place(origin, id)) {
            self.tally.missing_object(id);
        }
    }

    fn object(&mut self, origin: &EntityId, id: &ObjectId, bytes: &[u8]) -> Result<(), BackupError> {
        self.seen.objects += 1;
        self.seen.object_bytes += bytes.len() as u64;
        if ObjectId::of(bytes) != *id {
            return Err(BackupError::Content("an object is not what its id says"));
        }
        if !self.awaited.remove(&place(origin, id)) {
            return Err(BackupError::Content("an object that no row speaks of"));
        }
        Ok(())
    }

    /// What the backup holds, once its last entry was taken.
    ///
    /// # Errors
    /// [`BackupError::Content`] if entries are missing.
    pub(super) fn finish(mut self) -> Result<Summary, BackupError> {
        if let Some(error) = self.unread.take() {
            return Err(error);
        }
        let end = self.end.take().ok_or(BackupError::Content("it has no end"))?;
        let counted = (self.seen.rows, self.seen.keys, self.seen.objects, self.seen.object_bytes);
        if counted != (end.rows, end.keys, end.objects, end.object_bytes) {
            return Err(BackupError::Content("it does not hold as much as its end says"));
        }
        let (awaited, named, owners) = (self.awaited.len(), self.named.len(), self.owners.len());
        self.tally.missing(awaited as u64, || format!("{awaited} objects that rows speak of"));
        self.tally.missing(named as u64, || format!("{named} segments of received messages"));
        self.tally.missing(owners as u64, || format!("all content of {owners} messages"));
        let said = End { missing_keys: 0, ..end };
        Ok(self.tally.summary(&said))
    }
}
