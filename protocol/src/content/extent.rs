//! How large a message will be, told before its content is read: the upper bounds of an early offer.
//!
//! **Invariant:** whatever tree of at most this extent is packed, encoded and sealed, it makes no more objects and no
//! more sealed bytes than [`Extent::bounds`] says.

use pakt_keys::{codec, object};

use super::manifest::ManifestHead;
use crate::limits::{CHUNK_BYTES_MAX, NAME_BYTES_MAX, OBJECT_BYTES_MAX, SEGMENT_ENTRIES_MAX};

/// Bytes of one row of a manifest beside a name, at most: a row of the chunk table is the longer kind.
const ROW_BYTES_MAX: u64 = 96;
/// Bytes that every segment has beside its rows and the head, at most: version, salt, lengths, totals, seal.
const SEGMENT_BYTES_MAX: u64 = 192;

/// What a walk of the tree found, or what is allowed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Files.
    pub files: u64,
    /// Directories.
    pub folders: u64,
    /// Bytes of all files.
    pub plain_bytes: u64,
}

/// What a tree of some extent comes to, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentBounds {
    /// Chunks and segments.
    pub objects: u64,
    /// Sealed bytes of all of them.
    pub sealed_bytes: u64,
}

impl Extent {
    /// The bounds of a message with this `head` and a tree of this extent.
    ///
    /// A chunk ends because it is full or at the end of a file that is not empty, and each end of a file ends one chunk
    /// at most. No encoding is longer than its chunk. A segment holds 256 rows unless it is the last one.
    pub fn bounds(&self, head: &ManifestHead) -> ExtentBounds {
        let entries = self.files.saturating_add(self.folders);
        let ends = self.files.min(self.plain_bytes);
        let chunks = ends.saturating_add(self.plain_bytes / CHUNK_BYTES_MAX as u64);
        let rows = entries.saturating_add(chunks);
        let segments = rows / SEGMENT_ENTRIES_MAX as u64 + 1;
        let objects = chunks.saturating_add(segments);
        let head_bytes = codec::encode(1, head).len() as u64;
        let sealed_bytes = [
            self.plain_bytes,
            chunks.saturating_mul(object::OVERHEAD as u64),
            rows.saturating_mul(ROW_BYTES_MAX),
            entries.saturating_mul(NAME_BYTES_MAX as u64),
            segments.saturating_mul(SEGMENT_BYTES_MAX),
            head_bytes,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
        .min(objects.saturating_mul(OBJECT_BYTES_MAX as u64));
        ExtentBounds { objects, sealed_bytes }
    }
}
