//! What a sender remembers of content that it has sealed, so that the same content is neither encoded nor sent again.
//!
//! ```text
//! content hash = BLAKE3 keyed by the dedup secret over the plain content      one pass; never stored
//! lookup       = BLAKE3 keyed by the dedup secret over the content hash       where the row lies
//! pad          = BLAKE3 keyed by the dedup secret over the hash and object id wraps the object's key in the row
//! ```
//! All of it stays with the sender; nothing of it is on the wire.
//!
//! **Invariant:** a row opens nothing by itself, also not for whoever has the dedup secret: the pad takes the content
//! hash, and that takes the content. So rows may outlive the message whose key was erased.
//! **Invariant:** one pad wraps one key: the object id that goes into it names the key by its commitment.
//! **Invariant:** only objects sealed under the dedup secret are remembered, and none that could be guessed whole
//! ([`crate::limits::GUESSABLE_BYTES`]): a row would confirm the guess.

use pakt_keys::object::{self, ObjectKey, SealBase};
use serde::{Deserialize, Serialize};

use super::seal::ChunkEntry;
use crate::ids::ObjectId;

const HASH_LABEL: &str = "pakt known content v1";
const LOOKUP_LABEL: &str = "pakt known content lookup v1";
const PAD_LABEL: &str = "pakt known content pad v1";
const SECRET_LABEL: &str = "pakt known content secret v1";

/// Tells the rows of one dedup secret from those of another.
pub type SecretTag = [u8; 8];

/// The tag of a dedup secret, which says nothing about it.
pub fn secret_tag(base: &SealBase) -> SecretTag {
    let [a, b, c, d, e, f, g, h, ..] = *object::derive_key(base, SECRET_LABEL, &[]).as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// One piece of content under one dedup secret: names its row, and wraps and unwraps the key in it.
#[derive(Debug, Clone)]
pub struct ContentName {
    base: SealBase,
    hash: ObjectKey,
}

/// A row of the chunk table whose key only the content itself unwraps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedEntry {
    /// The sealed object.
    pub id: ObjectId,
    codec: u8,
    plain_bytes: u32,
    encoded_bytes: u32,
    wrapped: [u8; 32],
}

impl WrappedEntry {
    /// Bytes of the sealed object.
    pub fn sealed_bytes(&self) -> usize {
        self.encoded_bytes as usize + object::OVERHEAD
    }
}

impl ContentName {
    /// Names `plain`: one pass over it.
    pub fn of(base: &SealBase, plain: &[u8]) -> ContentName {
        ContentName { base: base.clone(), hash: object::derive_key(base, HASH_LABEL, plain) }
    }

    /// The dedup secret that it was named under.
    pub fn secret(&self) -> SecretTag {
        secret_tag(&self.base)
    }

    /// Where the row lies.
    pub fn lookup(&self) -> [u8; 32] {
        *object::derive_key(&self.base, LOOKUP_LABEL, self.hash.as_bytes()).as_bytes()
    }

    /// The row to remember of this content.
    pub fn wrap(&self, entry: &ChunkEntry) -> WrappedEntry {
        WrappedEntry {
            id: entry.id,
            codec: entry.codec,
            plain_bytes: entry.plain_bytes,
            encoded_bytes: entry.encoded_bytes,
            wrapped: self.padded(&entry.id, entry.key.as_bytes()),
        }
    }

    /// The chunk table's row that a remembered one stands for, if it can be one; whether its key is the object's is seen
    /// from the object ([`object::is_key_of`]).
    pub fn unwrap(&self, row: &WrappedEntry) -> Option<ChunkEntry> {
        let entry = ChunkEntry {
            id: row.id,
            key: ObjectKey::from_bytes(self.padded(&row.id, &row.wrapped)),
            codec: row.codec,
            plain_bytes: row.plain_bytes,
            encoded_bytes: row.encoded_bytes,
        };
        entry.check().is_ok().then_some(entry)
    }

    fn padded(&self, id: &ObjectId, key: &[u8; 32]) -> [u8; 32] {
        let mut input = [0; 64];
        input[..32].copy_from_slice(self.hash.as_bytes());
        input[32..].copy_from_slice(&id.0);
        let pad = object::derive_key(&self.base, PAD_LABEL, &input);
        std::array::from_fn(|at| key[at] ^ pad.as_bytes()[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::encode::{DecodeScratch, Effort, EncodeScratch};
    use crate::content::seal::{SealedChunk, open_chunk, seal_chunk};

    fn base(seed: u8) -> SealBase {
        SealBase::from_bytes([seed; 32])
    }

    fn noise(seed: u8) -> Vec<u8> {
        let mut out = vec![0; 100_000];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
        out
    }

    fn sealed(plain: &[u8]) -> SealedChunk {
        seal_chunk(plain, &base(1), &base(2), Effort::LINE, &mut EncodeScratch::new())
    }

    #[test]
    fn the_content_itself_gives_the_row_back() {
        let plain = noise(1);
        let chunk = sealed(&plain);
        let row = ContentName::of(&base(1), &plain).wrap(&chunk.entry);
        let entry = ContentName::of(&base(1), &plain).unwrap(&row).unwrap();
        assert_eq!(entry, chunk.entry);
        assert_eq!(row.sealed_bytes(), chunk.sealed.len());
        assert!(object::is_key_of(&entry.key, &chunk.sealed));
        let mut out = Vec::new();
        open_chunk(&entry, &chunk.sealed, &mut DecodeScratch::new(), &mut out).unwrap();
        assert_eq!(out, plain);
    }

    #[test]
    fn p41_a_row_and_the_dedup_secret_open_nothing_without_the_content() {
        let plain = noise(1);
        let chunk = sealed(&plain);
        let name = ContentName::of(&base(1), &plain);
        let row = name.wrap(&chunk.entry);
        assert_ne!(&row.wrapped, chunk.entry.key.as_bytes());
        let mut nearly = plain.clone();
        nearly[99_999] ^= 1;
        // All that lies on disk beside the content: the secret, the lookup, the row.
        let guesses = [
            ContentName::of(&base(1), &nearly),
            ContentName::of(&base(1), &[]),
            ContentName::of(&base(2), &plain),
            ContentName { base: base(1), hash: ObjectKey::from_bytes(name.lookup()) },
            ContentName { base: base(1), hash: ObjectKey::from_bytes([0; 32]) },
        ];
        for guess in guesses {
            let entry = guess.unwrap(&row).unwrap();
            assert!(!object::is_key_of(&entry.key, &chunk.sealed));
            assert_ne!(guess.lookup(), name.lookup());
        }
    }

    #[test]
    fn rows_are_told_apart_by_secret_and_content() {
        let names = [
            ContentName::of(&base(1), &noise(1)),
            ContentName::of(&base(1), &noise(2)),
            ContentName::of(&base(2), &noise(1)),
        ];
        assert_eq!(names[0].secret(), names[1].secret());
        assert_ne!(names[0].secret(), names[2].secret());
        let lookups: std::collections::HashSet<_> = names.iter().map(ContentName::lookup).collect();
        assert_eq!(lookups.len(), 3);
    }

    #[test]
    fn one_pad_never_wraps_two_keys() {
        let name = ContentName::of(&base(1), &noise(1));
        let (one, other) = (sealed(&noise(1)).entry, sealed(&noise(2)).entry);
        let xor = |entry: &ChunkEntry| -> Vec<u8> {
            let row = name.wrap(entry);
            row.wrapped.iter().zip(entry.key.as_bytes()).map(|(a, b)| a ^ b).collect()
        };
        assert_ne!(xor(&one), xor(&other), "the same content under two codecs: two objects, two pads");
    }

    #[test]
    fn a_row_that_no_chunk_has_is_refused() {
        let plain = noise(1);
        let name = ContentName::of(&base(1), &plain);
        let row = name.wrap(&sealed(&plain).entry);
        let check = |change: &dyn Fn(&mut WrappedEntry)| {
            let mut changed = row.clone();
            change(&mut changed);
            assert!(name.unwrap(&changed).is_none());
        };
        check(&|row| row.codec = 200);
        check(&|row| row.plain_bytes = 0);
        check(&|row| row.encoded_bytes = u32::MAX);
    }
}
