//! Transactions: rows are sealed on the way in; reading them is the business of [`super::rows`].
//!
//! **Invariant:** a closure that errs leaves nothing of itself: what it changed is put back from its undo list, so that
//! the others of the same commit are not disturbed.

use std::cell::OnceCell;
use std::ops::Bound;
use std::sync::Arc;

use pakt_keys::codec;
use pakt_keys::store_seal::StoreKey;
use redb::{ReadableTable, TableDefinition, TableError};
use serde::Serialize;

use super::error::guarded;
use super::rows::{Bounds, Bytes, Rows, VALUE_VERSION};
use super::tables::SEQUENCES;
use super::{Key, StoreError, Table, VALUE_BYTES_MAX, random};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Bytes that are read at once while scanning.
const PAGE_BYTES: usize = 1 << 20;

fn get_row(table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &[u8]) -> Result<Option<Bytes>, redb::Error> {
    Ok(table.get(key)?.map(|value| value.value().to_vec()))
}

/// redb refuses a start behind the end; such bounds hold nothing.
fn is_empty(bounds: &Bounds) -> bool {
    use Bound::{Excluded, Included};
    match bounds {
        (Included(start), Included(end)) => start > end,
        (Included(start) | Excluded(start), Excluded(end)) | (Excluded(start), Included(end)) => start >= end,
        _ => false,
    }
}

fn get_page(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    bounds: &Bounds,
    backwards: bool,
    rows_max: usize,
) -> Result<Vec<(Bytes, Bytes)>, redb::Error> {
    let mut page = Vec::new();
    if is_empty(bounds) {
        return Ok(page);
    }
    let mut bytes = 0;
    let slices = (bounds.0.as_ref().map(Vec::as_slice), bounds.1.as_ref().map(Vec::as_slice));
    let mut rows = table.range::<&[u8]>(slices)?;
    while page.len() < rows_max && bytes < PAGE_BYTES {
        let Some(row) = (if backwards { rows.next_back() } else { rows.next() }) else {
            break;
        };
        let (key, value) = row?;
        bytes += key.value().len() + value.value().len();
        page.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(page)
}

/// A view of the store as of one commit.
pub struct ReadTx {
    pub(super) txn: redb::ReadTransaction,
    pub(super) key: Arc<StoreKey>,
}

impl ReadTx {
    /// A table that nobody wrote to yet is empty.
    fn with<T: Default>(
        &self,
        table: &'static str,
        work: impl FnOnce(&redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        guarded(|| match self.txn.open_table(Definition::new(table)) {
            Ok(table) => work(&table),
            Err(TableError::TableDoesNotExist(_)) => Ok(T::default()),
            Err(error) => Err(error.into()),
        })
    }
}

impl Rows for ReadTx {
    fn raw_get(&self, table: &'static str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.with(table, |table| get_row(table, key))
    }

    fn raw_page(
        &self,
        table: &'static str,
        bounds: &Bounds,
        backwards: bool,
        rows_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.with(table, |table| get_page(table, bounds, backwards, rows_max))
    }

    fn store_key(&self) -> &StoreKey {
        &self.key
    }
}

/// What a changed row held before.
struct Undo {
    table: &'static str,
    key: Bytes,
    before: Option<Bytes>,
}

/// Called on the writer's thread once the commit is durable.
pub(super) type Hook = Box<dyn FnOnce() + Send>;

/// Where a closure began, so that it can be taken back.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    undo: usize,
    hooks: usize,
}

/// The changes of one commit, seen by nobody else until it is durable.
pub struct WriteTx {
    txn: redb::WriteTransaction,
    key: Arc<StoreKey>,
    undo: Vec<Undo>,
    undo_bytes: usize,
    hooks: Vec<Hook>,
    /// Whether rows were put as they lay elsewhere, which nothing undoes.
    raw: bool,
    /// Once redb has failed, nothing of this transaction can be committed.
    broken: OnceCell<StoreError>,
}

impl WriteTx {
    pub(super) fn new(txn: redb::WriteTransaction, key: Arc<StoreKey>) -> WriteTx {
        WriteTx { txn, key, undo: Vec::new(), undo_bytes: 0, hooks: Vec::new(), raw: false, broken: OnceCell::new() }
    }

    fn with<T>(
        &self,
        table: &'static str,
        work: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if let Some(error) = self.broken.get() {
            return Err(error.clone());
        }
        let result = guarded(|| {
            let mut table = self.txn.open_table(Definition::new(table))?;
            work(&mut table)
        });
        if let Err(error) = &result {
            let _ = self.broken.set(error.clone());
        }
        result
    }

    fn replace(&mut self, table: &'static str, key: &[u8], value: Option<&[u8]>) -> Result<Option<Bytes>, StoreError> {
        self.with(table, |table| {
            let before = match value {
                Some(value) => table.insert(key, value)?,
                None => table.remove(key)?,
            };
            Ok(before.map(|before| before.value().to_vec()))
        })
    }

    /// Inserts a sealed row into a table that may be unknown to this program; it is not undone if the closure errs, so it
    /// is for stores that nobody uses yet.
    pub(super) fn insert_raw(&mut self, table: &str, key: &[u8], sealed: &[u8]) -> Result<(), StoreError> {
        self.raw = true;
        let inserted = guarded(|| {
            let definition: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(table);
            let mut table = self.txn.open_table(definition).map_err(redb::Error::from)?;
            table.insert(key, sealed).map(drop).map_err(redb::Error::from)
        });
        if let Err(error) = &inserted {
            let _ = self.broken.set(error.clone());
        }
        inserted
    }

    fn change(&mut self, table: &'static str, key: Bytes, value: Option<&[u8]>) -> Result<bool, StoreError> {
        let before = self.replace(table, &key, value)?;
        let present = before.is_some();
        if present || value.is_some() {
            self.undo_bytes += key.len() + before.as_ref().map_or(0, Vec::len);
            self.undo.push(Undo { table, key, before });
        }
        Ok(present)
    }

    /// Writes a row, replacing an earlier one.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], or when the disk is full or fails.
    pub fn put<K: Key, V: Serialize>(&mut self, table: &Table<K, V>, key: &K, value: &V) -> Result<(), StoreError> {
        let plain = codec::encode_secret(VALUE_VERSION, value);
        if plain.len() > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: plain.len(), max: VALUE_BYTES_MAX });
        }
        let key = key.to_bytes();
        let sealed = self.key.seal(table.name(), &key, &plain, &mut random());
        self.change(table.name(), key, Some(&sealed))?;
        Ok(())
    }

    /// Removes a row; false if there was none.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn remove<K: Key, V>(&mut self, table: &Table<K, V>, key: &K) -> Result<bool, StoreError> {
        self.change(table.name(), key.to_bytes(), None)
    }

    /// The next number of a named counter, from 1 on, never given out twice once the commit is durable.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn next_sequence(&mut self, name: &str) -> Result<u64, StoreError> {
        let name = name.to_owned();
        let next = self.get(&SEQUENCES, &name)?.unwrap_or(0).saturating_add(1);
        self.put(&SEQUENCES, &name, &next)?;
        Ok(next)
    }

    /// Has `hook` called on the writer's thread once this commit is durable, and not at all if the closure errs; it must
    /// be short and must not wait for the store.
    pub fn on_commit(&mut self, hook: impl FnOnce() + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { undo: self.undo.len(), hooks: self.hooks.len() }
    }

    /// Puts back all that was changed since `mark`.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        self.hooks.truncate(mark.hooks);
        while self.undo.len() > mark.undo && self.broken.get().is_none() {
            let Some(Undo { table, key, before }) = self.undo.pop() else {
                return;
            };
            // A failure is kept in `broken` and stops the commit.
            let _ = self.replace(table, &key, before.as_deref());
        }
    }

    pub(super) fn broken(&self) -> Option<StoreError> {
        self.broken.get().cloned()
    }

    pub(super) fn undo_bytes(&self) -> usize {
        self.undo_bytes
    }

    /// Whether there is anything to commit.
    pub(super) fn is_changed(&self) -> bool {
        !self.undo.is_empty() || self.raw
    }

    /// What is to be called after the commit.
    pub(super) fn take_hooks(&mut self) -> Vec<Hook> {
        std::mem::take(&mut self.hooks)
    }

    /// Makes the changes durable; nothing is written if nothing changed. After an error the changes may be durable all
    /// the same, because redb goes on working once they are.
    pub(super) fn commit(self) -> Result<(), StoreError> {
        if let Some(error) = self.broken.into_inner() {
            // redb gives up the transaction by itself after a failure, or panics in doing so.
            let _ = guarded(|| {
                drop(self.txn);
                Ok::<(), redb::Error>(())
            });
            return Err(error);
        }
        guarded(|| {
            if self.undo.is_empty() && !self.raw {
                self.txn.abort().map_err(redb::Error::from)
            } else {
                self.txn.commit().map_err(redb::Error::from)
            }
        })
    }
}

impl Rows for WriteTx {
    fn raw_get(&self, table: &'static str, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.with(table, |table| get_row(table, key))
    }

    fn raw_page(
        &self,
        table: &'static str,
        bounds: &Bounds,
        backwards: bool,
        rows_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.with(table, |table| get_page(table, bounds, backwards, rows_max))
    }

    fn store_key(&self) -> &StoreKey {
        &self.key
    }
}
