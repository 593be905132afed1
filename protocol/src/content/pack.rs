//! Cutting a tree into chunks: one stream of content in tree order, cut so that little changes when
//! little changes.
//!
//! ```text
//! files    a b c d | BIG………………………… | e f g h i
//! chunks   [a b c][d][1 MiB][1 MiB][rest][e f][g h i]
//! ```
//! Files of 256 KiB and more start their own chunks of 1 MiB. Smaller ones share chunks. After each
//! of them a border is drawn if a hash of it, keyed by the group's secret, says so,
//! unless another one just before it did; where none is drawn for 1 MiB, the lowest of the hashes in
//! reach decides. Either way borders depend on the files near them, so one added file changes one
//! chunk, or two when it draws a border itself (measured: three in 1 of 80 cases where all files are
//! just below 256 KiB, else never more than two). A counterpart learns nothing from where the
//! borders lie, because it does not know the key.
//!
//! The packer is fed in tree order and drained with [`Packer::poll_output`] after each call; what
//! it holds itself is at most one open chunk.
//!
//! **Invariant:** the chunks of all outputs, put together, are the files of all outputs, put
//! together.

use std::collections::VecDeque;
use std::fmt;

use pakt_keys::object::{self, ObjectKey, SealBase};

use super::manifest::{EntryKind, OrderError, TreeEntry, TreeOrder};
use super::name::Component;
use crate::limits::{CHUNK_BYTES_MAX, SMALL_FILE_BYTES};

/// Mean distance of the small files whose hash asks for a border, in bytes; of borders it is some 536 KiB.
const BORDER_BYTES: u64 = 384 << 10;
/// A file asks in vain if another one asked within so many bytes before: a chunk so short, encoded, is
/// sealed under the message's random secret and never known again.
const BORDER_APART_BYTES: u64 = 128 << 10;
/// Where no border was drawn, a chunk is cut behind one of the files that end above this many
/// bytes.
const CUT_BYTES_MIN: usize = 256 << 10;
/// Binds the border key to its use.
const BORDER_LABEL: &str = "pakt chunk border v1";
/// Chunk buffers kept for reuse.
const SPARE_MAX: usize = 4;

/// A piece of content, 1 to [`CHUNK_BYTES_MAX`] bytes, before encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainChunk {
    /// Its place in the chunk table, from 0.
    pub index: u64,
    /// The content.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for PlainChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlainChunk({}, {} bytes)", self.index, self.bytes.len())
    }
}

/// What comes out of the packer, in the order of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packed {
    /// A row of the tree; a file's comes when it has been read to its end.
    Entry(TreeEntry),
    /// Content to encode and seal.
    Chunk(PlainChunk),
}

/// Why a tree cannot be packed: something at the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The walk does not come in tree order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The file is longer or shorter than it was when the walk saw it.
    #[error("a file changed while it was read")]
    FileChanged,
    /// Calls out of turn: a write without a file, or a new entry inside one.
    #[error("content must be written between the begin and the end of a file")]
    OutOfTurn,
}

/// Cuts one tree into chunks.
pub struct Packer {
    border_key: ObjectKey,
    order: TreeOrder,
    file: Option<OpenFile>,
    open: Vec<u8>,
    /// Ends of whole small files within `open`, each with its hash.
    ends: Vec<(usize, u64)>,
    /// Bytes of small files since the last one whose hash asked for a border, or since a large file.
    since_asked: u64,
    chunks: u64,
    output: VecDeque<Packed>,
    spare: Vec<Vec<u8>>,
}

struct OpenFile {
    depth: u8,
    name: Component,
    bytes: u64,
    left: u64,
    hasher: blake3::Hasher,
}

impl Packer {
    /// A packer for a message of the group whose dedup secret is `base`.
    pub fn new(base: &SealBase) -> Packer {
        Packer {
            border_key: object::derive_key(base, BORDER_LABEL, &[]),
            order: TreeOrder::new(),
            file: None,
            open: Vec::new(),
            ends: Vec::new(),
            since_asked: 0,
            chunks: 0,
            output: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Adds a directory; `path` from the message's top, each directory before what it holds, names
    /// in the order of their bytes.
    ///
    /// # Errors
    /// [`PackError::Order`] or [`PackError::OutOfTurn`].
    pub fn push_dir(&mut self, path: &[Component]) -> Result<(), PackError> {
        let (depth, name) = self.enter(path, true)?;
        self.output.push_back(Packed::Entry(TreeEntry { depth, name, kind: EntryKind::Dir }));
        Ok(())
    }

    /// Begins a file of exactly `bytes` bytes, in the same order as directories.
    ///
    /// # Errors
    /// [`PackError::Order`] or [`PackError::OutOfTurn`].
    pub fn begin_file(&mut self, path: &[Component], bytes: u64) -> Result<(), PackError> {
        let (depth, name) = self.enter(path, false)?;
        if bytes >= SMALL_FILE_BYTES {
            self.close_chunk();
        } else if self.open.len() as u64 + bytes > CHUNK_BYTES_MAX as u64 {
            self.cut_at_lowest_hash();
        }
        self.file = Some(OpenFile { depth, name, bytes, left: bytes, hasher: blake3::Hasher::new() });
        Ok(())
    }

    /// Adds content to the file that was begun, in pieces of any size.
    ///
    /// # Errors
    /// [`PackError::FileChanged`] for more than was announced, [`PackError::OutOfTurn`] outside a
    /// file.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), PackError> {
        let file = self.file.as_mut().ok_or(PackError::OutOfTurn)?;
        file.left = file.left.checked_sub(bytes.len() as u64).ok_or(PackError::FileChanged)?;
        file.hasher.update(bytes);
        let mut to_come = file.left + bytes.len() as u64;
        while !bytes.is_empty() {
            if self.open.capacity() == 0 {
                self.open = self.buffer(to_come);
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES_MAX - self.open.len()));
            self.open.extend_from_slice(now);
            to_come -= now.len() as u64;
            bytes = later;
            if self.open.len() == CHUNK_BYTES_MAX {
                self.close_chunk();
            }
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`PackError::FileChanged`] for less than was announced, [`PackError::OutOfTurn`] outside a
    /// file.
    pub fn end_file(&mut self) -> Result<(), PackError> {
        let OpenFile { depth, name, bytes, left, hasher } = self.file.take().ok_or(PackError::OutOfTurn)?;
        if left != 0 {
            return Err(PackError::FileChanged);
        }
        let blake3 = *hasher.finalize().as_bytes();
        if bytes >= SMALL_FILE_BYTES {
            self.close_chunk();
            self.since_asked = 0;
        } else if bytes > 0 {
            let hash = border_hash(&self.border_key, &name, &blake3);
            self.ends.push((self.open.len(), hash));
            self.since_asked += bytes;
            if hash % BORDER_BYTES < bytes && std::mem::take(&mut self.since_asked) >= BORDER_APART_BYTES {
                self.close_chunk();
            }
        }
        let kind = EntryKind::File { bytes, blake3 };
        self.output.push_back(Packed::Entry(TreeEntry { depth, name, kind }));
        Ok(())
    }

    /// Ends the tree and emits what is still open.
    ///
    /// # Errors
    /// [`PackError::OutOfTurn`] inside a file.
    pub fn finish(&mut self) -> Result<(), PackError> {
        if self.file.is_some() {
            return Err(PackError::OutOfTurn);
        }
        self.close_chunk();
        Ok(())
    }

    /// The next row or chunk, if any.
    pub fn poll_output(&mut self) -> Option<Packed> {
        self.output.pop_front()
    }

    /// Gives back the buffer of a chunk that has been sealed.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && buffer.capacity() >= CHUNK_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Checks that an entry may come now, and splits its path.
    fn enter(&mut self, path: &[Component], dir: bool) -> Result<(u8, Component), PackError> {
        if self.file.is_some() {
            return Err(PackError::OutOfTurn);
        }
        Ok(self.order.enter_path(path, dir)?)
    }

    /// A buffer for a chunk; exactly as large as needed where one file is all that it will hold.
    fn buffer(&mut self, to_come: u64) -> Vec<u8> {
        let bytes =
            if to_come >= SMALL_FILE_BYTES { to_come.min(CHUNK_BYTES_MAX as u64) as usize } else { CHUNK_BYTES_MAX };
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// Emits the open chunk, if it holds anything.
    fn close_chunk(&mut self) {
        self.ends.clear();
        if !self.open.is_empty() {
            let bytes = std::mem::take(&mut self.open);
            self.emit(bytes);
        }
    }

    /// Emits the open chunk up to the end of that file, among the later ones, whose hash is the
    /// lowest; the rest stays open.
    fn cut_at_lowest_hash(&mut self) {
        let reach = self.ends.iter().enumerate().filter(|(_, (end, _))| *end >= CUT_BYTES_MIN);
        let Some((place, end)) = reach.min_by_key(|(_, (_, hash))| *hash).map(|(place, (end, _))| (place, *end)) else {
            return self.close_chunk();
        };
        let mut rest = self.buffer(0);
        rest.extend_from_slice(&self.open[end..]);
        self.open.truncate(end);
        let bytes = std::mem::replace(&mut self.open, rest);
        self.ends.drain(..=place);
        for (later, _) in &mut self.ends {
            *later -= end;
        }
        self.emit(bytes);
    }

    fn emit(&mut self, bytes: Vec<u8>) {
        self.output.push_back(Packed::Chunk(PlainChunk { index: self.chunks, bytes }));
        self.chunks += 1;
    }
}

/// Decides about borders: depends on the file alone, and on a key that only the sending group has.
fn border_hash(key: &ObjectKey, name: &Component, digest: &[u8; 32]) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher.update(digest).update(name.as_str().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}
