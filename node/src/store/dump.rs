//! Rows as they lie on disk, sealed: how a backup takes them out of one store and puts them into another under the same
//! key.
//!
//! **Invariant:** a row that is put back is one that opens in its place: the caller has tried.

use std::ops::Bound;

use pakt_keys::codec;
use pakt_keys::store_seal::StoreKey;
use redb::{TableDefinition, TableError, TableHandle};
use serde::de::DeserializeOwned;

use super::error::guarded;
use super::rows::VALUE_VERSION;
use super::tables::{COMMITS, META};
use super::{Key, ReadTx, Rows, StoreError, Table, VALUE_BYTES_MAX, WriteTx, migrate};

/// Rows that are read at once.
const PAGE_ROWS: usize = 128;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 4 << 20;

/// A row as it lies on disk: its key and its sealed value.
pub(crate) type RawRow = (Vec<u8>, Vec<u8>);

/// The table that counts this store's own commits.
pub(crate) const COMMITS_NAME: &str = COMMITS.name();

impl ReadTx {
    /// The names of all tables, sorted.
    pub(crate) fn table_names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = guarded(|| {
            let tables = self.txn.list_tables().map_err(redb::Error::from)?;
            Ok::<_, redb::Error>(tables.map(|table| table.name().to_owned()).collect::<Vec<_>>())
        })?;
        names.sort();
        Ok(names)
    }

    /// The number of the last commit that this view holds.
    pub(crate) fn commit_number(&self) -> Result<u64, StoreError> {
        Ok(Rows::get(self, &COMMITS, &())?.unwrap_or(0))
    }

    /// The next rows of a table after this key, in key order; none at its end.
    pub(crate) fn raw_rows_after(&self, table: &str, after: Option<&[u8]>) -> Result<Vec<RawRow>, StoreError> {
        guarded(|| {
            let definition: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(table);
            let table = match self.txn.open_table(definition) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(redb::Error::from(error)),
            };
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let (mut page, mut bytes) = (Vec::new(), 0);
            for row in table.range::<&[u8]>((start, Bound::Unbounded))? {
                let (key, value) = row?;
                bytes += key.value().len() + value.value().len();
                page.push((key.value().to_vec(), value.value().to_vec()));
                if page.len() >= PAGE_ROWS || bytes >= PAGE_BYTES {
                    break;
                }
            }
            Ok(page)
        })
    }
}

impl WriteTx {
    /// Puts a sealed row where it lay in the store that it was taken from.
    pub(crate) fn put_raw(&mut self, table: &str, key: &[u8], sealed: &[u8]) -> Result<(), StoreError> {
        self.insert_raw(table, key, sealed)
    }
}

/// Refuses the store's row about itself where it tells of rows that this program does not read; any other row passes.
///
/// # Errors
/// [`StoreError::Earlier`], [`StoreError::Damaged`] if the row does not open.
pub(crate) fn check_schema(store_key: &StoreKey, table: &str, key: &[u8], sealed: &[u8]) -> Result<(), StoreError> {
    if table != META.name() {
        return Ok(());
    }
    let (_, meta) = open_row(store_key, &META, key, sealed)?;
    migrate::check(meta.schema)
}

/// Opens a raw row of `table`.
pub(crate) fn open_row<K: Key, V: DeserializeOwned>(
    store_key: &StoreKey,
    table: &Table<K, V>,
    key: &[u8],
    sealed: &[u8],
) -> Result<(K, V), StoreError> {
    let damaged = StoreError::Damaged(table.name());
    let plain = store_key.open(table.name(), key, sealed).map_err(|_| damaged.clone())?;
    let value = codec::decode(VALUE_VERSION, &plain, VALUE_BYTES_MAX).map_err(|_| damaged.clone())?;
    Ok((K::from_bytes(key).ok_or(damaged)?, value))
}
