//! Whole files past the page cache: what is written once, synced at once and seldom read again.
//!
//! Content goes from memory of ours straight to the disk and back. The page cache would copy every byte once more, into
//! memory that nobody has touched lately, and throw other files' pages out for it. Direct transfer wants memory, offset
//! and length in blocks, so a file is padded with zeros up to the next block; its owner knows how long it really is.
//!
//! **Invariant:** where the file system cannot do it the same bytes take the ordinary way.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::OFlags;

use super::DiskError;
use super::real::options;

/// Suits the logical blocks of every disk and the pages of every processor that this runs on.
const BLOCK_BYTES: usize = 4096;
/// Buffers kept for reuse, of an object each.
const SPARE_MAX: usize = 16;

/// Buffers that were read into and are free again.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

thread_local! {
    /// What one thread writes from.
    static OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that a file of `bytes` bytes takes on disk.
fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// Writes a new file and syncs its bytes, not its name.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let file = open(path, true)?;
    let written = OUT.with_borrow_mut(|buffer| {
        let space = aligned(buffer, padded(bytes.len()));
        space[..bytes.len()].copy_from_slice(bytes);
        space[bytes.len()..].fill(0);
        past_the_cache(&file, || file.write_all_at(space, 0))
    });
    written?;
    file.sync_data().map_err(|error| DiskError::from(error).of_sync())
}

/// Reads the first bytes, at most `bytes_max`, of a file that holds `bytes` bytes.
pub(super) fn read(path: &Path, bytes: usize, bytes_max: usize) -> Result<Bytes, DiskError> {
    let file = open(path, false)?;
    let length = file.metadata()?.len();
    if length != padded(bytes) as u64 && length != bytes as u64 {
        return Err(DiskError::WrongLength);
    }
    let bytes = bytes.min(bytes_max);
    let mut buffer = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    let space = aligned(&mut buffer, padded(bytes));
    past_the_cache(&file, || read_up_to(&file, space, bytes))?;
    let start = start_of(&buffer);
    Ok(Bytes::from_owner(Block { buffer, start, bytes }))
}

/// Fills `space` at least up to `bytes`: the rest is padding, and the last read may end at the end of the file.
fn read_up_to(file: &File, space: &mut [u8], bytes: usize) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes {
        match file.read_at(&mut space[filled..], filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn open(path: &Path, new: bool) -> io::Result<File> {
    let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
    match options().create_new(new).custom_flags(direct).open(path) {
        // Some file systems say so after the file was made, so that a new one may be there already.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => options().create(new).truncate(new).open(path),
        opened => opened,
    }
}

/// Does it, and does it again with the cache where the file system takes no transfer of this shape.
fn past_the_cache(file: &File, mut transfer: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    match transfer() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            rustix::fs::fcntl_setfl(file, OFlags::empty())?;
            transfer()
        }
        done => done,
    }
}

fn start_of(buffer: &[u8]) -> usize {
    buffer.as_ptr().align_offset(BLOCK_BYTES)
}

/// The part of the buffer that begins at a block, `bytes` long; the buffer grows as needed.
fn aligned(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes + BLOCK_BYTES {
        // Not resized: what is in it need not be copied.
        *buffer = vec![0; bytes + BLOCK_BYTES];
    }
    let start = start_of(buffer);
    &mut buffer[start..start + bytes]
}

/// Bytes of a file; the buffer is used again.
struct Block {
    buffer: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.bytes]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_wrong_length_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [1, 511, 4095, 4096, 4097, 100_000, (1 << 20) + 48] {
            let path = dir.path().join(bytes.to_string());
            let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            write(&path, &content).unwrap();
            assert!(matches!(write(&path, &content), Err(DiskError::Exists)));
            assert_eq!(read(&path, bytes, usize::MAX).unwrap(), content);
            assert_eq!(read(&path, bytes, 32).unwrap(), content[..bytes.min(32)]);
            for wrong in [padded(bytes) + 1, bytes.saturating_sub(BLOCK_BYTES)] {
                assert!(matches!(read(&path, wrong, wrong), Err(DiskError::WrongLength)), "{bytes} as {wrong}");
            }
        }
        assert!(matches!(read(&dir.path().join("none"), 1, 1), Err(DiskError::NotFound)));
    }

    #[test]
    fn the_ordinary_way_gives_the_same_file() {
        // /dev/shm is a file system in memory: some kernels refuse direct transfers there.
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
        let path = dir.path().join("object");
        write(&path, &[7; 5000]).unwrap();
        assert_eq!(read(&path, 5000, 5000).unwrap(), vec![7; 5000]);
    }

    #[test]
    fn buffers_are_used_again_and_hold_nothing_of_the_last_file_beyond_the_length() {
        let dir = tempfile::tempdir().unwrap();
        let (long, short) = (dir.path().join("long"), dir.path().join("short"));
        write(&long, &[1; 9000]).unwrap();
        write(&short, &[2; 10]).unwrap();
        drop(read(&long, 9000, 9000).unwrap());
        assert_eq!(read(&short, 10, 10).unwrap(), vec![2; 10]);
        assert_eq!(std::fs::read(&short).unwrap()[10..], [0; 4086]);
    }
}
