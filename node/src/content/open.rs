//! Judging what came in: the manifest opened, and its table compared with what was received.
//!
//! **Invariant:** a fault of this node's disk is never held against the sender: segments are compared with their ids
//! before the manifest is blamed.

use pakt_keys::EntityId;
use pakt_protocol::content::manifest::{Bounds, Manifest, ManifestError, ManifestKey, ManifestReader, root_hash};
use pakt_protocol::ids::ObjectId;
use pakt_protocol::message::offer::ObjectEntry;

use crate::blob::{BlobError, Blobs};

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadManifestError {
    /// This node's disk: a segment is gone or damaged, or cannot be read now.
    #[error(transparent)]
    Local(#[from] BlobError),
    /// The sender's: what arrived intact does not open, is out of bounds or does not add up.
    #[error("the message cannot be opened: {0}")]
    Unopenable(#[from] ManifestError),
}

impl ReadManifestError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, ReadManifestError::Local(error) if error.is_transient())
    }
}

/// Reads, opens and checks the manifest in `segments`, in their order, stored as coming from `origin`. Blocks on the
/// disk.
///
/// # Errors
/// [`ReadManifestError`], by whose fault it is.
pub fn read_manifest(
    blobs: &Blobs,
    origin: EntityId,
    segments: &[ObjectId],
    key: ManifestKey,
    bounds: Bounds,
) -> Result<Manifest, ReadManifestError> {
    let mut reader = ManifestReader::new(key, bounds);
    for id in segments {
        reader.feed(&blobs.read_verified(origin, *id)?)?;
    }
    Ok(reader.finish()?)
}

/// Whether the manifest speaks of exactly the objects that were announced and received, in their order (content first,
/// then segments), with their lengths, and is the one that `root` stands for.
pub fn check_table(manifest: &Manifest, announced: &[ObjectEntry], root: &[u8; 32]) -> bool {
    let Some((content, segments)) = announced.split_at_checked(manifest.chunks.len()) else {
        return false;
    };
    let same_content = manifest
        .chunks
        .iter()
        .zip(content)
        .all(|(row, received)| row.id == received.id && row.sealed_bytes() as u64 == u64::from(received.bytes));
    same_content
        && segments.len() as u64 == manifest.totals.segments
        && root_hash(segments.iter().map(|segment| &segment.id)) == *root
        && manifest.root == *root
}
