//! The files of objects and the directories that hold them.
//!
//! A directory takes at most [`BATCH_OBJECTS_MAX`] objects of one origin. Its number is new in every run: a file in a
//! directory of an earlier run that has no index entry is a leftover, whatever this run is writing meanwhile.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use pakt_keys::EntityId;
use pakt_protocol::ids::ObjectId;
use tokio::sync::Mutex;

use super::{BlobError, ObjectRow, Pool};
use crate::disk::{Disk, DiskError, TEMPORARY_SUFFIX, temporary_name};

/// Objects in one directory, so that listing and syncing it stay cheap.
const BATCH_OBJECTS_MAX: usize = 4096;

struct Batch {
    number: u32,
    objects: usize,
}

struct Batches {
    open: HashMap<EntityId, Batch>,
    next: u32,
}

pub(super) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The first directory number of this run.
    first: u32,
    batches: Mutex<Batches>,
}

/// Names the folder of an origin; enough of it to tell a few thousand entities apart, and the batch number is unique
/// over all of them anyway.
fn origin_name(origin: &EntityId) -> String {
    hex::encode(&origin.0[..8])
}

/// The directory of a batch below the objects' folder.
pub(super) fn batch_dir(dir: &Path, origin: &EntityId, batch: u32) -> PathBuf {
    dir.join(origin_name(origin)).join(batch.to_string())
}

impl Files {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Files, BlobError> {
        disk.create_dir_all(dir)?;
        let mut last = 0;
        for origin in disk.list(dir)?.into_iter().filter(|entry| entry.is_dir) {
            let batches = disk.list(&dir.join(&origin.name))?;
            last = batches.iter().filter_map(|entry| entry.name.parse().ok()).fold(last, u32::max);
        }
        let first = last.saturating_add(1);
        let batches = Mutex::new(Batches { open: HashMap::new(), next: first });
        Ok(Files { disk, dir: dir.to_owned(), first, batches })
    }

    fn batch_dir(&self, origin: &EntityId, batch: u32) -> PathBuf {
        batch_dir(&self.dir, origin, batch)
    }

    fn path(&self, origin: &EntityId, id: &ObjectId, batch: u32) -> PathBuf {
        self.batch_dir(origin, batch).join(id.to_string())
    }

    pub(super) fn free_bytes(&self) -> Result<u64, BlobError> {
        Ok(self.disk.free_bytes(&self.dir)?)
    }

    /// Takes places for up to `objects` objects in one directory, which exists durably on return.
    async fn take_places(
        self: &Arc<Files>,
        pool: &Pool,
        origin: EntityId,
        objects: usize,
    ) -> Result<(u32, usize), BlobError> {
        let mut batches = self.batches.lock().await;
        let open = batches.open.get_mut(&origin).filter(|batch| batch.objects < BATCH_OBJECTS_MAX);
        if let Some(batch) = open {
            let places = objects.min(BATCH_OBJECTS_MAX - batch.objects);
            batch.objects += places;
            return Ok((batch.number, places));
        }
        let number = batches.next;
        batches.next = number.saturating_add(1);
        let (files, dir) = (self.clone(), self.batch_dir(&origin, number));
        // The lock is held meanwhile, so that nobody uses a directory that may still be lost.
        pool.run(move || {
            files.disk.create_dir_all(dir.parent().unwrap_or(&files.dir))?;
            files.disk.create_dir_all(&dir)
        })
        .await??;
        let places = objects.min(BATCH_OBJECTS_MAX);
        batches.open.insert(origin, Batch { number, objects: places });
        Ok((number, places))
    }

    /// Writes files side by side; on return they and their names are durable. After an error none of them is left,
    /// unless removing them failed as well.
    pub(super) async fn write(
        self: &Arc<Files>,
        pool: &Pool,
        origin: EntityId,
        mut objects: Vec<(ObjectId, Bytes)>,
    ) -> Result<Vec<(ObjectId, ObjectRow)>, BlobError> {
        let mut rows = Vec::with_capacity(objects.len());
        while !objects.is_empty() {
            let taken = self.take_places(pool, origin, objects.len()).await;
            let written = match taken {
                Ok((batch, places)) => {
                    let part = objects.drain(..places).collect();
                    self.write_part(pool, origin, batch, part, &mut rows).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                self.remove(origin, &rows);
                return Err(error);
            }
        }
        Ok(rows)
    }

    async fn write_part(
        self: &Arc<Files>,
        pool: &Pool,
        origin: EntityId,
        batch: u32,
        objects: Vec<(ObjectId, Bytes)>,
        rows: &mut Vec<(ObjectId, ObjectRow)>,
    ) -> Result<(), BlobError> {
        let writes = objects.into_iter().map(|(id, bytes)| {
            // Checked against OBJECT_BYTES_MAX before, which is far below.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            rows.push((id, ObjectRow { batch, bytes: length }));
            let (files, path) = (self.clone(), self.path(&origin, &id, batch));
            pool.run(move || files.write_one(&path, &bytes))
        });
        let results = join_all(writes).await;
        for result in results {
            result??;
        }
        let (files, dir) = (self.clone(), self.batch_dir(&origin, batch));
        Ok(pool.run(move || files.disk.sync_dir(&dir)).await??)
    }

    fn write_one(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let temporary = temporary_name(path);
        let written = self.write_temporary(&temporary, bytes);
        if written.is_err() {
            // What cannot be removed now is swept away after the next start.
            let _ = self.disk.remove(&temporary);
        }
        written?;
        self.disk.rename(&temporary, path)
    }

    fn write_temporary(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        match self.disk.write_whole(path, bytes) {
            Err(DiskError::Exists) => {
                self.disk.remove(path)?;
                self.disk.write_whole(path, bytes)
            }
            written => written,
        }
    }

    /// Removes files that no index entry speaks of; what remains is swept away after the next start.
    pub(super) fn remove(&self, origin: EntityId, rows: &[(ObjectId, ObjectRow)]) {
        for (id, row) in rows {
            let _ = self.disk.remove(&self.path(&origin, id, row.batch));
        }
    }

    pub(super) fn remove_all(&self, files: &[(EntityId, ObjectId, u32)]) {
        for (origin, id, batch) in files {
            let _ = self.disk.remove(&self.path(origin, id, *batch));
        }
    }

    /// The first bytes of a file, at most `bytes_max`, if it is as long as its row says.
    pub(super) fn read(
        &self,
        origin: EntityId,
        id: ObjectId,
        row: ObjectRow,
        bytes_max: usize,
    ) -> Result<Bytes, BlobError> {
        let bytes = self.disk.read_whole(&self.path(&origin, &id, row.batch), row.bytes as usize, bytes_max);
        bytes.map_err(|error| match error {
            DiskError::NotFound => BlobError::Missing,
            DiskError::WrongLength => BlobError::Damaged(id),
            error => error.into(),
        })
    }

    /// Removes the files of earlier runs that `is_needed` does not know in that batch; returns how many.
    pub(super) fn sweep(
        &self,
        origins: &[EntityId],
        is_needed: impl Fn(EntityId, ObjectId, u32) -> Result<bool, BlobError>,
    ) -> Result<usize, BlobError> {
        let mut by_name: HashMap<String, Vec<EntityId>> = HashMap::new();
        for origin in origins {
            by_name.entry(origin_name(origin)).or_default().push(*origin);
        }
        let mut removed = 0;
        for folder in self.disk.list(&self.dir)?.into_iter().filter(|entry| entry.is_dir) {
            let candidates = by_name.get(&folder.name).map(Vec::as_slice).unwrap_or_default();
            let folder = self.dir.join(&folder.name);
            for batch in self.disk.list(&folder)? {
                let number = batch.name.parse::<u32>().ok();
                let Some(number) = number.filter(|number| *number < self.first) else {
                    continue;
                };
                let is_kept = |name: &str| -> Result<bool, BlobError> {
                    let Ok(id) = name.parse() else {
                        return Ok(!name.ends_with(TEMPORARY_SUFFIX));
                    };
                    for origin in candidates {
                        if is_needed(*origin, id, number)? {
                            return Ok(true);
                        }
                    }
                    Ok(false)
                };
                removed += self.sweep_batch(&folder.join(&batch.name), is_kept)?;
            }
        }
        Ok(removed)
    }

    fn sweep_batch(&self, dir: &Path, is_kept: impl Fn(&str) -> Result<bool, BlobError>) -> Result<usize, BlobError> {
        let mut removed = 0;
        let mut kept = 0;
        for entry in self.disk.list(dir)? {
            if entry.is_dir || is_kept(&entry.name)? {
                kept += 1;
                continue;
            }
            match self.disk.remove(&dir.join(&entry.name)) {
                Ok(()) => removed += 1,
                Err(DiskError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if kept == 0 {
            // Filled by a later run never, so that it goes when its last file has gone.
            let _ = self.disk.remove_dir(dir);
        }
        Ok(removed)
    }
}
