//! redb's file as a [`DiskFile`], so that every byte it writes passes the seam where faults are injected.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{DiskError, DiskFile};

/// The file as it is.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn DiskFile>);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len()?)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        Ok(self.0.read_at(offset, out)?)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Ok(self.0.set_len(bytes)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(self.0.sync()?)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Ok(self.0.write_at(offset, bytes)?)
    }
}

const BLOCK: u64 = 4096;

/// The file with all writes kept in memory: opening a database repairs it, and on a full disk only this way remains to
/// read on.
///
/// **Invariant:** the file is never changed; its length must not shrink while this lives.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Arc<dyn DiskFile>,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    length: u64,
    /// Bytes from here on read as zero, whatever the file holds.
    base: u64,
    blocks: HashMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Result<Overlay, DiskError> {
        let length = file.len()?;
        Ok(Overlay { file, over: Mutex::new(Over { length, base: length, blocks: HashMap::new() }) })
    }

    fn with<T>(&self, work: impl FnOnce(&mut Over) -> T) -> T {
        work(&mut self.over.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn block(&self, base: u64, number: u64) -> io::Result<Box<[u8]>> {
        let mut block = vec![0; BLOCK as usize].into_boxed_slice();
        let start = number * BLOCK;
        let held = base.saturating_sub(start).min(BLOCK) as usize;
        if held > 0 {
            self.file.read_at(start, &mut block[..held])?;
        }
        Ok(block)
    }
}

/// Calls `work` with (block number, offset in the block, range of the buffer) for each block that a range touches.
fn each_block(
    offset: u64,
    bytes: usize,
    mut work: impl FnMut(u64, usize, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes {
        let at = offset + done as u64;
        let within = (at % BLOCK) as usize;
        let part = (BLOCK as usize - within).min(bytes - done);
        work(at / BLOCK, within, done..done + part)?;
        done += part;
    }
    Ok(())
}

impl redb::StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|over| over.length))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|over| {
            if offset.saturating_add(out.len() as u64) > over.length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            each_block(offset, out.len(), |number, within, range| {
                let part = range.len();
                let target = &mut out[range];
                match over.blocks.get(&number) {
                    Some(block) => target.copy_from_slice(&block[within..within + part]),
                    None => target.copy_from_slice(&self.block(over.base, number)?[within..within + part]),
                }
                Ok(())
            })
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.with(|over| {
            over.length = bytes;
            over.base = over.base.min(bytes);
            over.blocks.retain(|number, _| number * BLOCK < bytes);
            if let Some(block) = over.blocks.get_mut(&(bytes / BLOCK)) {
                block[(bytes % BLOCK) as usize..].fill(0);
            }
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|over| {
            over.length = over.length.max(offset + bytes.len() as u64);
            let base = over.base;
            each_block(offset, bytes.len(), |number, within, range| {
                let part = range.len();
                let block = match over.blocks.entry(number) {
                    std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
                    std::collections::hash_map::Entry::Vacant(free) => free.insert(self.block(base, number)?),
                };
                block[within..within + part].copy_from_slice(&bytes[range]);
                Ok(())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use redb::StorageBackend;

    use super::*;
    use crate::disk::{Disk, FaultDisk};

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, usize, u8),
        Length(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20_000u64, 0..9_000usize, any::<u8>()).prop_map(|(at, bytes, fill)| Step::Write(at, bytes, fill)),
            (0..20_000u64).prop_map(Step::Length),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn an_overlay_reads_as_a_file_would_and_leaves_it_alone(steps in proptest::collection::vec(step(), 0..8)) {
            let disk = FaultDisk::new();
            let file = disk.create(Path::new("/f")).unwrap();
            file.write_at(0, &[7; 10_000]).unwrap();
            let overlay = Overlay::new(file.clone()).unwrap();
            let mut model = vec![7; 10_000];
            for step in steps {
                match step {
                    Step::Write(at, bytes, fill) => {
                        overlay.write(at, &vec![fill; bytes]).unwrap();
                        let end = at as usize + bytes;
                        model.resize(model.len().max(end), 0);
                        model[at as usize..end].fill(fill);
                    }
                    Step::Length(bytes) => {
                        overlay.set_len(bytes).unwrap();
                        model.resize(bytes as usize, 0);
                    }
                }
                let mut out = vec![1; overlay.len().unwrap() as usize];
                overlay.read(0, &mut out).unwrap();
                prop_assert!(out == model);
                prop_assert!(overlay.read(1, &mut vec![0; model.len()]).is_err());
            }
            let mut out = vec![0; 10_000];
            file.read_at(0, &mut out).unwrap();
            prop_assert!(out == [7; 10_000]);
        }
    }
}
