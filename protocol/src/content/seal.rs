//! One chunk into one sealed object and back: encode, derive the key from what it seals, seal,
//! address.
//!
//! Pure functions over a scratch per thread, so that a pool runs them in parallel and in any order;
//! only the manifest is written in order.
//!
//! **Invariant:** an object's key is derived from its content, so one key never meets two
//! plaintexts, whatever is repeated or cloned.
//! **Invariant:** what [`open_chunk`] returns is the one content that the object's commitment
//! allows, of exactly the declared length.

use pakt_keys::object::{self, ObjectKey, SealBase};
use serde::{Deserialize, Serialize};

use super::encode::{Codec, DecodeError, DecodeScratch, Effort, EncodeScratch, decode, encode};
use crate::ids::ObjectId;
use crate::limits::{CHUNK_BYTES_MAX, GUESSABLE_BYTES};

/// Binds keys to their use as content.
const CHUNK_LABEL: &str = "pakt chunk v1";

/// One row of the chunk table: where the content lies and how it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEntry {
    /// The sealed object.
    pub id: ObjectId,
    /// Its key; whoever has it can read the content.
    pub key: ObjectKey,
    /// How the content is written: a [`Codec`] byte.
    pub codec: u8,
    /// Bytes after decoding, 1 to [`CHUNK_BYTES_MAX`].
    pub plain_bytes: u32,
    /// Bytes before sealing; fewer than plain ones unless raw.
    pub encoded_bytes: u32,
}

impl ChunkEntry {
    /// Bytes of the sealed object.
    pub fn sealed_bytes(&self) -> usize {
        self.encoded_bytes as usize + object::OVERHEAD
    }

    /// Checks what can be checked without the object.
    ///
    /// # Errors
    /// A codec of the future, or lengths that no chunk has.
    pub fn check(&self) -> Result<Codec, DecodeError> {
        let codec = Codec::try_from(self.codec)?;
        if self.plain_bytes == 0 || self.plain_bytes as usize > CHUNK_BYTES_MAX {
            return Err(DecodeError::Length { bytes: self.plain_bytes.into() });
        }
        let fits = match codec {
            Codec::Raw => self.encoded_bytes == self.plain_bytes,
            Codec::Zstd | Codec::Planes16 | Codec::Image16 => (1..self.plain_bytes).contains(&self.encoded_bytes),
        };
        if fits { Ok(codec) } else { Err(DecodeError::WrongLength) }
    }
}

/// A chunk that is ready for the store and the manifest.
#[derive(Debug, Clone)]
pub struct SealedChunk {
    /// Its row in the chunk table.
    pub entry: ChunkEntry,
    /// The object itself.
    pub sealed: Vec<u8>,
    /// Whether it was sealed under the group's dedup secret, so that the sender may remember it as
    /// known content.
    pub reusable: bool,
}

/// Why an object does not give its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenChunkError {
    /// Wrong commitment, tag or length: deliberately one error.
    #[error("an object does not open with the key that its sender named")]
    Sealed,
    /// It opened, but does not hold the declared content.
    #[error(transparent)]
    Content(#[from] DecodeError),
}

/// Encodes and seals one chunk of 1 to [`CHUNK_BYTES_MAX`] bytes.
///
/// `base` is the sending group's dedup secret, `random_base` the message's own secret: it takes
/// over for objects so small that their content could be guessed whole by somebody who gets hold of
/// the dedup secret.
pub fn seal_chunk(
    plain: &[u8],
    base: &SealBase,
    random_base: &SealBase,
    effort: Effort,
    scratch: &mut EncodeScratch,
) -> SealedChunk {
    debug_assert!((1..=CHUNK_BYTES_MAX).contains(&plain.len()));
    let (codec, encoded) = encode(plain, effort, scratch);
    let reusable = encoded.len() >= GUESSABLE_BYTES;
    let key = object::derive_key(if reusable { base } else { random_base }, CHUNK_LABEL, encoded);
    let mut sealed = Vec::with_capacity(encoded.len() + object::OVERHEAD);
    object::seal_into(&key, encoded, &mut sealed);
    let entry = ChunkEntry {
        id: ObjectId::of(&sealed),
        key,
        codec: codec.into(),
        plain_bytes: plain.len() as u32,
        encoded_bytes: encoded.len() as u32,
    };
    SealedChunk { entry, sealed, reusable }
}

/// Opens one object into `out`, which afterwards holds exactly the chunk's plain bytes, or none
/// after an error.
///
/// The caller has compared the object with its id when it arrived; this does not hash it again.
///
/// # Errors
/// A wrong key, a changed object, or content other than declared.
pub fn open_chunk(
    entry: &ChunkEntry,
    sealed: &[u8],
    scratch: &mut DecodeScratch,
    out: &mut Vec<u8>,
) -> Result<(), OpenChunkError> {
    out.clear();
    let codec = entry.check()?;
    if sealed.len() != entry.sealed_bytes() {
        return Err(OpenChunkError::Sealed);
    }
    if codec == Codec::Raw {
        return object::open_into(&entry.key, sealed, out).map_err(|_| OpenChunkError::Sealed);
    }
    // The encoded bytes go through a buffer that the thread keeps: they are no more secret than `out`.
    let mut encoded = std::mem::take(&mut scratch.encoded);
    let opened = object::open_into(&entry.key, sealed, &mut encoded).map_err(|_| OpenChunkError::Sealed);
    let result = opened.and_then(|()| Ok(decode(codec, &encoded, entry.plain_bytes, scratch, out)?));
    scratch.encoded = encoded;
    result
}
