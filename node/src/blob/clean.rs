//! Takes away what nobody needs: objects whose last owner has gone, and what a crash left behind.
//!
//! **Invariant:** the row goes first, durably, then the file; a crash in between leaves a file without a row, which the
//! sweep of the next run removes.

use std::collections::HashSet;

use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;

use super::{BlobError, Blobs, index};
use crate::store::WriteTx;
use crate::store::tables::{DOOMED, USAGE};

impl Blobs {
    pub(super) fn clean(&self, swept: &mut bool) {
        if !*swept {
            match self.sweep() {
                Ok(0) => {}
                Ok(files) => tracing::info!(files, "removed objects that a crash left without an index entry"),
                Err(error) => {
                    tracing::warn!(%error, "cannot look for objects that a crash left behind")
                }
            }
            *swept = true;
        }
        if let Err(error) = futures::executor::block_on(self.reap())
            && !matches!(error, BlobError::Closed)
        {
            tracing::warn!(%error, "cannot remove objects that nobody needs; trying again with the next ones");
        }
    }

    /// Removes those of `ids` that nobody has pinned; returns how many.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn remove(&self, origin: EntityId, ids: &[ObjectId]) -> Result<usize, BlobError> {
        let blobs = self.clone();
        let objects: Vec<_> = ids.iter().map(|id| (origin, *id)).collect();
        let dropped = self.inner.store.write(move |tx| {
            blobs.wake_after(tx);
            index::drop_unpinned(tx, &objects)
        });
        Ok(dropped.await?)
    }

    /// Drops every object that nobody has pinned: what a crash left between writing and pinning. Only before the node
    /// takes up work.
    ///
    /// # Errors
    /// When the store failed.
    pub async fn remove_unpinned(&self) -> Result<usize, BlobError> {
        let mut dropped = 0;
        while let Some(some) = self.inner.store.write(index::drop_loose).await? {
            dropped += some;
        }
        let _ = self.inner.wake.try_send(());
        Ok(dropped)
    }

    /// Has the cleaner look around once this commit is durable.
    pub(crate) fn wake_after(&self, tx: &mut WriteTx) {
        let wake = self.inner.wake.clone();
        tx.on_commit(move || {
            // A full channel holds a wake-up already.
            let _ = wake.try_send(());
        });
    }

    /// Removes now what released owners leave behind; done in the background after every [`Blobs::unpin`].
    ///
    /// # Errors
    /// When the store or the disk failed; the rest is removed by a later call.
    pub async fn reap(&self) -> Result<(), BlobError> {
        while self.inner.store.write(index::release_some).await? {}
        loop {
            let doomed = self.inner.store.read(|tx| tx.prefix_keys(&DOOMED, &(), index::SLICE_ROWS))?;
            // Looked at after the rows: what was doomed after a backup began is seen only once it holds.
            if doomed.is_empty() || self.is_held() {
                return Ok(());
            }
            // Nobody writes one of these files while its row and then the file itself goes.
            let objects = doomed.iter().map(|(origin, id, _)| (*origin, *id)).collect::<HashSet<_>>();
            let _claim = self.inner.busy.claim(objects.into_iter().collect()).await;
            let taken = self.inner.store.write(move |tx| index::take_doomed(tx, &doomed)).await?;
            let files = self.inner.files.clone();
            self.inner.pool.run(move || files.remove_all(&taken)).await?;
        }
    }

    /// Removes files without an index entry that an earlier run left behind; returns how many. Safe at any time, done in
    /// the background after opening.
    ///
    /// # Errors
    /// When the store or the disk failed.
    pub fn sweep(&self) -> Result<usize, BlobError> {
        let origins = self.inner.store.read(|tx| tx.prefix_keys(&USAGE, &(), usize::MAX))?;
        self.inner.files.sweep(&origins, |origin, id, batch| {
            // A doomed file is the business of `reap`, which waits for backups.
            let is_kept = self.row(origin, id)?.is_some_and(|row| row.batch == batch);
            Ok(is_kept || self.inner.store.read(|tx| tx.contains(&DOOMED, &(origin, id, batch)))?)
        })
    }
}
