//! The manifest of a message: subject, text, tree and chunk table, in sealed segments.
//!
//! A segment holds up to 256 rows of tree and chunk table, so neither side ever needs the whole.
//! All are sealed under keys derived from one [`ManifestKey`]; that key is what HPKE seals to the
//! recipient. [`SegmentWriter`] makes segments while content is still being read; [`SegmentReader`]
//! judges them one by one; [`ManifestReader`] collects a [`Manifest`].
//!
//! ```text
//! sealed segment = salt (32) || sealed object (commitment, AES-256-GCM, tag)
//! salt           = BLAKE3 keyed by the manifest key over label || index || body
//! object key     = BLAKE3 keyed by the manifest key over label || index || salt
//! root hash      = BLAKE3 derive_key("pakt manifest root v1", ids of all sealed segments in order)
//! ```
//!
//! **Invariant:** the salt binds each object key to the body that it seals: a manifest key that was
//! cloned, in a snapshot say, and met two manifests, still seals no two bodies under one key.

mod head;
mod read;
mod tree;
mod write;

use pakt_keys::codec;
use pakt_keys::object::{self, ObjectKey, SealBase};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use head::{HeadError, ManifestHead};
pub use read::{Bounds, Manifest, ManifestError, ManifestReader, Segment, SegmentReader, Span};
pub use tree::{EntryKind, OrderError, Tree, TreeEntry, TreeOrder, Walk};
pub use write::{SealedSegment, SegmentWriter};

use super::seal::ChunkEntry;
use crate::ids::ObjectId;
use crate::limits::OBJECT_BYTES_MAX;

/// Version byte of a segment's body.
const SEGMENT_VERSION: u8 = 1;
/// Bytes of the salt before each sealed segment.
const SALT_BYTES: usize = 32;
const SALT_LABEL: &str = "pakt segment salt v1";
const KEY_LABEL: &str = "pakt segment key v1";
const ROOT_CONTEXT: &str = "pakt manifest root v1";

/// What opens a manifest and with it the whole message: 32 random bytes, made once per envelope.
#[derive(Clone, Debug)]
pub struct ManifestKey(SealBase);

impl ManifestKey {
    /// A fresh key.
    pub fn generate(rng: &mut impl CryptoRng) -> ManifestKey {
        ManifestKey(SealBase::generate(rng))
    }

    /// The key that HPKE or a key slot gave back.
    pub fn from_bytes(bytes: [u8; 32]) -> ManifestKey {
        ManifestKey(SealBase::from_bytes(bytes))
    }

    /// The bytes to be wrapped for the recipient.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    fn salt(&self, index: u64, body: &[u8]) -> [u8; SALT_BYTES] {
        *object::derive_key(&self.0, SALT_LABEL, &[&index.to_be_bytes(), body].concat()).as_bytes()
    }

    fn segment_key(&self, index: u64, salt: &[u8; SALT_BYTES]) -> ObjectKey {
        object::derive_key(&self.0, KEY_LABEL, &[&index.to_be_bytes()[..], salt].concat())
    }

    fn seal(&self, index: u64, body: &[u8]) -> Vec<u8> {
        let salt = self.salt(index, body);
        [&salt[..], &object::seal(&self.segment_key(index, &salt), body)].concat()
    }

    /// None for a wrong key, place, salt, commitment or tag: they are not told apart.
    fn open(&self, index: u64, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, sealed) = sealed.split_first_chunk::<SALT_BYTES>()?;
        let body = object::open(&self.segment_key(index, salt), sealed).ok()?;
        (self.salt(index, &body) == *salt).then_some(body)
    }
}

/// What a whole manifest adds up to; its last segment says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Rows of the tree: files and directories.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Plain bytes of all files.
    pub bytes: u64,
    /// Rows of the chunk table.
    pub chunks: u64,
    /// Segments, the last one included.
    pub segments: u64,
}

/// The body of one segment as it is written.
#[derive(Serialize, Deserialize)]
struct SegmentBody {
    /// In the first segment only.
    head: Option<ManifestHead>,
    tree: Vec<TreeEntry>,
    chunks: Vec<ChunkEntry>,
    /// In the last segment only.
    totals: Option<Totals>,
}

impl SegmentBody {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        codec::encode_secret(SEGMENT_VERSION, self)
    }

    fn decode(bytes: &[u8]) -> Result<SegmentBody, codec::CodecError> {
        codec::decode(SEGMENT_VERSION, bytes, OBJECT_BYTES_MAX)
    }
}

/// The one hash over a whole manifest that the envelope core carries.
pub fn root_hash<'a>(segments: impl IntoIterator<Item = &'a ObjectId>) -> [u8; 32] {
    let mut root = RootHasher::new();
    segments.into_iter().for_each(|id| root.add(id));
    root.finish()
}

/// [`root_hash`] while the segments come in.
struct RootHasher(blake3::Hasher);

impl RootHasher {
    fn new() -> RootHasher {
        RootHasher(blake3::Hasher::new_derive_key(ROOT_CONTEXT))
    }

    fn add(&mut self, id: &ObjectId) {
        self.0.update(&id.0);
    }

    fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
