//! The key that seals what lies on disk: values of the database and further local secrets.
//!
//! **Invariant:** a sealed value opens only in the table and under the key that it was sealed for, so that nobody
//! who can write to the disk moves values about.
//! **Invariant:** no (key, nonce) pair repeats, however many values are sealed: each value has its own key.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::hedged;
use crate::secret::secret_bytes;

/// What sealing adds to the length of a value, in bytes: salt and tag.
pub const OVERHEAD: usize = hedged::OVERHEAD;

secret_bytes! {
    /// The key of everything at rest; kept in the keystore.
    StoreKey
}

/// A stored value does not open: it belongs elsewhere, to another key, or was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored value does not open: it was changed, moved, or sealed under another key")]
pub struct StoreOpenError;

impl StoreKey {
    /// Seals the value of one record.
    pub fn seal(&self, table: &str, key: &[u8], value: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
        hedged::seal(self.as_bytes(), &[b"value", table.as_bytes(), key], value, rng)
    }

    /// Opens the value of one record.
    ///
    /// # Errors
    /// [`StoreOpenError`] unless it was sealed for this table and key.
    pub fn open(&self, table: &str, key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreOpenError> {
        hedged::open(self.as_bytes(), &[b"value", table.as_bytes(), key], sealed).ok_or(StoreOpenError)
    }

    /// Derives a further local secret, the same one every time for one `label`.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("pakt local secret v1");
        hasher.update(self.as_bytes()).update(label.as_bytes());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    fn store() -> StoreKey {
        StoreKey::generate(&mut TestRng::new(1))
    }

    fn check(store: &StoreKey, table: &str, key: &[u8], opens: bool) {
        let sealed = self::store().seal("messages-1", b"key", b"value", &mut TestRng::new(2));
        assert_eq!(sealed.len(), b"value".len() + OVERHEAD);
        let opened = store.open(table, key, &sealed);
        assert_eq!(opened.is_ok(), opens, "{table} {key:?}");
        assert!(opened.is_ok_and(|value| value.as_slice() == b"value") == opens);
    }

    #[test]
    fn a_value_opens_in_its_place_only() {
        check(&store(), "messages-1", b"key", true);
        check(&store(), "messages-1", b"kez", false);
        check(&store(), "messages-2", b"key", false);
        check(&store(), "messages-1k", b"ey", false);
        check(&store(), "messages-1", b"", false);
        check(&StoreKey::from_bytes([0; 32]), "messages-1", b"key", false);
    }

    #[test]
    fn short_and_foreign_bytes_are_refused() {
        for length in [0, 1, 31, 32, 47, 48, 100] {
            let opened = store().open("t", b"k", &vec![7; length]);
            assert_eq!(opened, Err(StoreOpenError), "{length}");
        }
    }

    #[test]
    fn derived_secrets_differ_by_label_and_key_and_are_not_the_key() {
        assert_eq!(store().derive("dedup"), store().derive("dedup"));
        assert_ne!(store().derive("dedup"), store().derive("dedu"));
        assert_ne!(store().derive("dedup"), StoreKey::from_bytes([0; 32]).derive("dedup"));
        assert_ne!(*store().derive(""), *store().as_bytes());
        assert_eq!(format!("{:?}", store()), "StoreKey(..)");
    }
}
