//! What lies in a backup, in this order: a beginning, files, keys, rows by table, objects, an end.

use pakt_keys::{EntityId, codec};
use pakt_protocol::ids::ObjectId;
use pakt_protocol::time::Time;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::BackupError;
use crate::slots::SlotId;
use crate::store::VALUE_BYTES_MAX;

/// Bytes of one encoded entry, at most: the longest row.
pub(super) const ENTRY_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);
const VERSION: u8 = 1;

/// Whose backup it is, and of what moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) entity: EntityId,
    /// Version of the program that made it.
    pub(super) program: String,
    pub(super) made_at: Time,
    /// The generation of the store: 0 until a backup was restored.
    pub(super) generation: u64,
    /// The number of the last commit that it shows.
    pub(super) sequence: u64,
}

/// What was written, so that a reader knows that it read all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) rows: u64,
    pub(super) keys: u64,
    pub(super) objects: u64,
    pub(super) object_bytes: u64,
    /// Objects that rows speak of and that could not be read.
    pub(super) missing_objects: u64,
    /// Keys that rows speak of and that could not be read.
    pub(super) missing_keys: u64,
}

/// One thing in a backup.
#[derive(Serialize, Deserialize)]
pub(super) enum Entry {
    Begin(Begin),
    /// A file of the data directory by its name.
    File {
        name: String,
        #[serde(with = "codec::bytes")]
        bytes: Vec<u8>,
    },
    /// The manifest key of a message.
    Key {
        slot: SlotId,
        #[serde(with = "codec::bytes")]
        secret: Vec<u8>,
    },
    /// A row as it lies in the store, sealed.
    Row {
        table: String,
        #[serde(with = "codec::bytes")]
        key: Vec<u8>,
        #[serde(with = "codec::bytes")]
        value: Vec<u8>,
    },
    /// A sealed object and the directory that its row names.
    Object {
        origin: EntityId,
        id: ObjectId,
        batch: u32,
        #[serde(with = "codec::bytes")]
        bytes: Vec<u8>,
    },
    End(End),
}

impl Entry {
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        codec::encode_secret(VERSION, self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Entry, BackupError> {
        codec::decode(VERSION, bytes, ENTRY_BYTES_MAX).map_err(|_| BackupError::Content("an entry cannot be read"))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Entry::Key { secret, .. } = self {
            secret.zeroize();
        }
    }
}
