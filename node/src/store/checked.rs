//! The database file, with every block compared with what was written or first read of it.
//!
//! redb checks the checksums of all its pages when it is opened, and believes what it reads from then on: a bit that comes
//! wrong from the disk later would hide a row, or be written back as part of a page that changed, and stay. Here the hash of
//! each block that was read or written since the file was opened is kept, eight bytes for four kilobytes.
//!
//! **Invariant:** a whole block is read as it was written or read before, or not at all.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{DiskError, DiskFile};

const BLOCK: usize = 4096;

/// A file whose blocks do not change by themselves.
#[derive(Debug)]
pub(super) struct Checked {
    file: Arc<dyn DiskFile>,
    /// By the number of the block; none where it is not known, or where only a part of it was written.
    sums: Mutex<Vec<Option<u64>>>,
}

fn sum_of(block: &[u8]) -> u64 {
    let mut sum = [0; 8];
    blake3::Hasher::new().update(block).finalize_xof().fill(&mut sum);
    u64::from_le_bytes(sum)
}

/// The whole blocks within a range: number of the first, and where it begins in the range.
fn whole_blocks(offset: u64, bytes: usize) -> Option<(usize, usize)> {
    let first = usize::try_from(offset).ok()?.div_ceil(BLOCK);
    let skipped = first * BLOCK - offset as usize;
    (skipped + BLOCK <= bytes).then_some((first, skipped))
}

/// The sums of the whole blocks within a range, with their numbers.
fn sums_of(offset: u64, bytes: &[u8]) -> Vec<(usize, u64)> {
    let Some((first, skipped)) = whole_blocks(offset, bytes.len()) else { return Vec::new() };
    let blocks = bytes[skipped..].chunks_exact(BLOCK).enumerate();
    blocks.map(|(at, block)| (first + at, sum_of(block))).collect()
}

impl Checked {
    pub(super) fn over(file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(Checked { file, sums: Mutex::default() })
    }

    fn sums(&self) -> MutexGuard<'_, Vec<Option<u64>>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the blocks that are not known; false if one is, and is another.
    fn agrees(&self, offset: u64, bytes: &[u8]) -> bool {
        let read = sums_of(offset, bytes);
        let mut sums = self.sums();
        if let Some((last, _)) = read.last()
            && sums.len() <= *last
        {
            sums.resize(last + 1, None);
        }
        read.into_iter().all(|(block, sum)| *sums[block].get_or_insert(sum) == sum)
    }

    /// Forgets every block that a range touches.
    fn forget(&self, offset: u64, bytes: u64) {
        let (first, end) = (offset / BLOCK as u64, offset.saturating_add(bytes).div_ceil(BLOCK as u64));
        let mut sums = self.sums();
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(sums.len());
        if let Some(touched) = usize::try_from(first).ok().and_then(|first| sums.get_mut(first..end)) {
            touched.fill(None);
        }
    }
}

impl DiskFile for Checked {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_at(offset, out)?;
        if out.len() < BLOCK {
            // The head of the file, which redb looks at when it opens: nothing is known to compare it with.
            let mut again = vec![0; out.len()];
            self.file.read_at(offset, &mut again)?;
            if again == out {
                return Ok(());
            }
        } else if self.agrees(offset, out) {
            return Ok(());
        } else {
            self.file.read_at(offset, out)?;
            if self.agrees(offset, out) {
                tracing::warn!("the disk gave a wrong block of the database once; check the disk");
                return Ok(());
            }
        }
        Err(DiskError::Io(io::ErrorKind::InvalidData))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.forget(offset, bytes.len() as u64);
        self.file.write_at(offset, bytes)?;
        self.agrees(offset, bytes);
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.len()
    }

    fn set_len(&self, bytes: u64) -> Result<(), DiskError> {
        self.forget(bytes, u64::MAX);
        self.file.set_len(bytes)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, Fault, FaultDisk, FaultPlan};

    fn read(file: &Arc<dyn DiskFile>, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let mut out = vec![0; bytes];
        file.read_at(offset, &mut out).map(|()| out)
    }

    #[test]
    fn a_block_is_what_it_was_or_an_error() {
        let disk = FaultDisk::new();
        let file = disk.create(Path::new("/f")).unwrap();
        let checked = Checked::over(file.clone());
        checked.write_at(0, &[1; 3 * BLOCK]).unwrap();
        checked.write_at(BLOCK as u64 + 10, &[2; 10]).unwrap();
        // Of a block that was written in part nothing is known until it is read.
        read(&checked, BLOCK as u64, BLOCK).unwrap();
        // A bit that is wrong once is read again.
        disk.plan(FaultPlan { at: 1, fault: Fault::FlipOnce });
        assert_eq!(read(&checked, 0, 3 * BLOCK).unwrap()[..BLOCK], [1; BLOCK]);
        disk.plan(FaultPlan { at: 1, fault: Fault::FlipOnce });
        assert!(matches!(read(&checked, 100, 50), Err(DiskError::Io(io::ErrorKind::InvalidData))));
        // One that stays wrong is refused, wherever it is read.
        file.write_at(2 * BLOCK as u64 + 7, &[9]).unwrap();
        assert!(read(&checked, 0, 3 * BLOCK).is_err() && read(&checked, 2 * BLOCK as u64, BLOCK).is_err());
        assert_eq!(read(&checked, 0, 2 * BLOCK).unwrap()[BLOCK..BLOCK + 30], [[1; 10], [2; 10], [1; 10]].concat());
        // What is written anew is believed, and what was cut off is forgotten.
        checked.write_at(2 * BLOCK as u64, &[3; BLOCK]).unwrap();
        assert_eq!(read(&checked, 2 * BLOCK as u64, BLOCK).unwrap(), [3; BLOCK]);
        checked.set_len(BLOCK as u64).unwrap();
        checked.set_len(3 * BLOCK as u64).unwrap();
        assert_eq!(read(&checked, BLOCK as u64, 2 * BLOCK).unwrap(), [0; 2 * BLOCK]);
    }
}
