//! How a backup reads object files that the node may want to remove meanwhile, and how a restore puts them back.
//!
//! **Invariant:** an object whose row a backup's view holds keeps its file until the backup lets go.

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;

use super::{BlobError, Blobs, ObjectRow, files};
use crate::disk::Disk;

/// While it lives no object file is removed. Taken before the view whose objects are read.
pub(crate) struct Held {
    blobs: Blobs,
}

impl Blobs {
    /// Keeps every file that is there from now on until the guard is dropped.
    pub(crate) fn hold(&self) -> Held {
        self.inner.held.fetch_add(1, Ordering::SeqCst);
        Held { blobs: self.clone() }
    }

    pub(super) fn is_held(&self) -> bool {
        self.inner.held.load(Ordering::SeqCst) > 0
    }
}

impl Held {
    /// The object of a row of the view, compared with its id. Blocks on the disk.
    pub(crate) fn read(&self, origin: EntityId, id: ObjectId, row: ObjectRow) -> Result<Bytes, BlobError> {
        let bytes = self.blobs.inner.files.read(origin, id, row, usize::MAX)?;
        if ObjectId::of(&bytes) == id { Ok(bytes) } else { Err(BlobError::Damaged(id)) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.blobs.inner.held.fetch_sub(1, Ordering::SeqCst);
        // What was to be removed meanwhile goes now; a full channel holds a wake-up already.
        let _ = self.blobs.inner.wake.try_send(());
    }
}

/// Writes the file of an object below `dir` (`DIR/chunks`) of a node that does not run; its name is durable after the
/// directory that is returned was synced.
pub(crate) fn put_back(
    disk: &dyn Disk,
    dir: &Path,
    (origin, id, batch): (EntityId, ObjectId, u32),
    bytes: &[u8],
) -> Result<std::path::PathBuf, BlobError> {
    let folder = files::batch_dir(dir, &origin, batch);
    if !disk.exists(&folder)? {
        disk.create_dir_all(&folder)?;
    }
    disk.write_whole(&folder.join(id.to_string()), bytes)?;
    Ok(folder)
}
