//! Typed reading of rows, the same in both kinds of transactions.
//!
//! **Invariant:** a value opens only in the table and under the key that it was written to.

use std::ops::{Bound, ControlFlow, RangeBounds};

use pakt_keys::codec;
use pakt_keys::store_seal::StoreKey;
use serde::de::DeserializeOwned;

use super::key::after_prefix;
use super::{Key, StoreError, Table, VALUE_BYTES_MAX};

pub(super) type Bytes = Vec<u8>;
pub(super) type Bounds = (Bound<Bytes>, Bound<Bytes>);

/// Rows that are read at once while scanning, so that a long table does not fill the memory.
const PAGE_ROWS: usize = 128;

/// The version byte of every stored value.
pub(super) const VALUE_VERSION: u8 = 1;

/// What both kinds of transactions can do; only for functions that take either (`tx: &impl Rows`).
pub trait Rows {
    /// The sealed value under an encoded key.
    #[doc(hidden)]
    fn raw_get(&self, table: &'static str, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The first sealed rows within encoded bounds, or the last ones first.
    #[doc(hidden)]
    fn raw_page(
        &self,
        table: &'static str,
        bounds: &Bounds,
        backwards: bool,
        rows_max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// The key that the values are sealed under.
    #[doc(hidden)]
    fn store_key(&self) -> &StoreKey;

    /// The value under `key`.
    ///
    /// # Errors
    /// When the disk fails or the value is damaged.
    fn get<K: Key, V: DeserializeOwned>(&self, table: &Table<K, V>, key: &K) -> Result<Option<V>, StoreError> {
        let key = key.to_bytes();
        let sealed = self.raw_get(table.name(), &key)?;
        sealed.map(|sealed| open(self.store_key(), table, &key, &sealed)).transpose()
    }

    /// Whether there is a value under `key`.
    ///
    /// # Errors
    /// When the disk fails.
    fn contains<K: Key, V>(&self, table: &Table<K, V>, key: &K) -> Result<bool, StoreError> {
        Ok(self.raw_get(table.name(), &key.to_bytes())?.is_some())
    }

    /// At most `limit` rows within `bounds`, in key order.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged.
    fn range<K: Key, V: DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        bounds: impl RangeBounds<K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        collect(self, table, encode_bounds(&bounds), false, limit)
    }

    /// At most `limit` rows within `bounds`, the last first.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged.
    fn range_backwards<K: Key, V: DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        bounds: impl RangeBounds<K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        collect(self, table, encode_bounds(&bounds), true, limit)
    }

    /// At most `limit` rows whose keys begin with `prefix`: the first components of a tuple.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged.
    fn prefix<P: Key, K: Key, V: DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        prefix: &P,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        collect(self, table, prefix_bounds(prefix), false, limit)
    }

    /// At most `limit` rows whose keys begin with `prefix`, the last first.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged.
    fn prefix_backwards<P: Key, K: Key, V: DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        prefix: &P,
        limit: usize,
    ) -> Result<Vec<(K, V)>, StoreError> {
        collect(self, table, prefix_bounds(prefix), true, limit)
    }

    /// At most `limit` keys that begin with `prefix`, without opening the values.
    ///
    /// # Errors
    /// When the disk fails or a key is damaged.
    fn prefix_keys<P: Key, K: Key, V>(
        &self,
        table: &Table<K, V>,
        prefix: &P,
        limit: usize,
    ) -> Result<Vec<K>, StoreError> {
        let mut keys = Vec::new();
        let mut bounds = prefix_bounds(prefix);
        while keys.len() < limit {
            let page = self.raw_page(table.name(), &bounds, false, PAGE_ROWS.min(limit - keys.len()))?;
            let Some((last, _)) = page.last() else { break };
            bounds.0 = Bound::Excluded(last.clone());
            for (key, _) in &page {
                keys.push(K::from_bytes(key).ok_or(StoreError::Damaged(table.name()))?);
            }
        }
        Ok(keys)
    }

    /// Visits the rows within `bounds` in key order until `visit` breaks; memory does not grow with the table.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged, and what `visit` returns.
    fn scan<K: Key, V: DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        bounds: impl RangeBounds<K>,
        visit: impl FnMut(K, V) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        walk(self, table, encode_bounds(&bounds), (false, PAGE_ROWS), visit)
    }

    /// As [`Rows::scan`], the last row first.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged, and what `visit` returns.
    fn scan_backwards<K: Key, V: DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        bounds: impl RangeBounds<K>,
        visit: impl FnMut(K, V) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        walk(self, table, encode_bounds(&bounds), (true, PAGE_ROWS), visit)
    }

    /// Visits the rows whose keys begin with `prefix` in key order until `visit` breaks.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged, and what `visit` returns.
    fn scan_prefix<P: Key, K: Key, V: DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        prefix: &P,
        visit: impl FnMut(K, V) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        walk(self, table, prefix_bounds(prefix), (false, PAGE_ROWS), visit)
    }
}

fn open<K, V: DeserializeOwned>(
    store_key: &StoreKey,
    table: &Table<K, V>,
    key: &[u8],
    sealed: &[u8],
) -> Result<V, StoreError> {
    let damaged = StoreError::Damaged(table.name());
    let plain = store_key.open(table.name(), key, sealed).map_err(|_| damaged.clone())?;
    codec::decode(VALUE_VERSION, &plain, VALUE_BYTES_MAX).map_err(|_| damaged)
}

fn encode_bounds<K: Key>(bounds: &impl RangeBounds<K>) -> Bounds {
    (bounds.start_bound().map(Key::to_bytes), bounds.end_bound().map(Key::to_bytes))
}

fn prefix_bounds<P: Key>(prefix: &P) -> Bounds {
    let start = prefix.to_bytes();
    let end = after_prefix(start.clone()).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(start), end)
}

fn walk<T: Rows + ?Sized, K: Key, V: DeserializeOwned>(
    tx: &T,
    table: &Table<K, V>,
    mut bounds: Bounds,
    (backwards, page_rows): (bool, usize),
    mut visit: impl FnMut(K, V) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    loop {
        let page = tx.raw_page(table.name(), &bounds, backwards, page_rows)?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        let next = Bound::Excluded(last.clone());
        if backwards {
            bounds.1 = next;
        } else {
            bounds.0 = next;
        }
        for (bytes, sealed) in page {
            let key = K::from_bytes(&bytes).ok_or(StoreError::Damaged(table.name()))?;
            let value = open(tx.store_key(), table, &bytes, &sealed)?;
            if visit(key, value)?.is_break() {
                return Ok(());
            }
        }
    }
}

fn collect<T: Rows + ?Sized, K: Key, V: DeserializeOwned>(
    tx: &T,
    table: &Table<K, V>,
    bounds: Bounds,
    backwards: bool,
    limit: usize,
) -> Result<Vec<(K, V)>, StoreError> {
    let mut rows = Vec::new();
    if limit == 0 {
        return Ok(rows);
    }
    walk(tx, table, bounds, (backwards, limit.min(PAGE_ROWS)), |key, value| {
        rows.push((key, value));
        Ok(if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(rows)
}

/// Gives a transaction the methods of [`Rows`] as its own, so that only generic functions need the trait.
macro_rules! own_rows {
    ($tx:ty) => {
        impl $tx {
            /// See [`Rows::get`].
            ///
            /// # Errors
            /// When the disk fails or the value is damaged.
            pub fn get<K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                key: &K,
            ) -> Result<Option<V>, StoreError> {
                Rows::get(self, table, key)
            }

            /// See [`Rows::contains`].
            ///
            /// # Errors
            /// When the disk fails.
            pub fn contains<K: Key, V>(&self, table: &Table<K, V>, key: &K) -> Result<bool, StoreError> {
                Rows::contains(self, table, key)
            }

            /// See [`Rows::range`].
            ///
            /// # Errors
            /// When the disk fails or a row is damaged.
            pub fn range<K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                bounds: impl RangeBounds<K>,
                limit: usize,
            ) -> Result<Vec<(K, V)>, StoreError> {
                Rows::range(self, table, bounds, limit)
            }

            /// See [`Rows::range_backwards`].
            ///
            /// # Errors
            /// When the disk fails or a row is damaged.
            pub fn range_backwards<K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                bounds: impl RangeBounds<K>,
                limit: usize,
            ) -> Result<Vec<(K, V)>, StoreError> {
                Rows::range_backwards(self, table, bounds, limit)
            }

            /// See [`Rows::prefix`].
            ///
            /// # Errors
            /// When the disk fails or a row is damaged.
            pub fn prefix<P: Key, K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                prefix: &P,
                limit: usize,
            ) -> Result<Vec<(K, V)>, StoreError> {
                Rows::prefix(self, table, prefix, limit)
            }

            /// See [`Rows::prefix_backwards`].
            ///
            /// # Errors
            /// When the disk fails or a row is damaged.
            pub fn prefix_backwards<P: Key, K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                prefix: &P,
                limit: usize,
            ) -> Result<Vec<(K, V)>, StoreError> {
                Rows::prefix_backwards(self, table, prefix, limit)
            }

            /// See [`Rows::prefix_keys`].
            ///
            /// # Errors
            /// When the disk fails or a key is damaged.
            pub fn prefix_keys<P: Key, K: Key, V>(
                &self,
                table: &Table<K, V>,
                prefix: &P,
                limit: usize,
            ) -> Result<Vec<K>, StoreError> {
                Rows::prefix_keys(self, table, prefix, limit)
            }

            /// See [`Rows::scan`].
            ///
            /// # Errors
            /// When the disk fails or a row is damaged, and what `visit` returns.
            pub fn scan<K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                bounds: impl RangeBounds<K>,
                visit: impl FnMut(K, V) -> Result<ControlFlow<()>, StoreError>,
            ) -> Result<(), StoreError> {
                Rows::scan(self, table, bounds, visit)
            }

            /// See [`Rows::scan_backwards`].
            ///
            /// # Errors
            /// When the disk fails or a row is damaged, and what `visit` returns.
            pub fn scan_backwards<K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                bounds: impl RangeBounds<K>,
                visit: impl FnMut(K, V) -> Result<ControlFlow<()>, StoreError>,
            ) -> Result<(), StoreError> {
                Rows::scan_backwards(self, table, bounds, visit)
            }

            /// See [`Rows::scan_prefix`].
            ///
            /// # Errors
            /// When the disk fails or a row is damaged, and what `visit` returns.
            pub fn scan_prefix<P: Key, K: Key, V: DeserializeOwned>(
                &self,
                table: &Table<K, V>,
                prefix: &P,
                visit: impl FnMut(K, V) -> Result<ControlFlow<()>, StoreError>,
            ) -> Result<(), StoreError> {
                Rows::scan_prefix(self, table, prefix, visit)
            }
        }
    };
}

own_rows!(super::ReadTx);
own_rows!(super::WriteTx);
