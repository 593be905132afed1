//! Reading a manifest that a counterpart wrote: segment by segment, nothing taken on trust.
//!
//! **Invariant:** memory is bounded by one segment in [`SegmentReader`], and by the bounds of the
//! offer in [`ManifestReader`].
//! **Invariant:** a manifest that [`SegmentReader::finish`] accepts is whole: its rows form a tree,
//! the bytes of its files are exactly the bytes of its chunks, it lies within the bounds and adds
//! up to what it says itself.

use std::ops::Range;

use pakt_keys::codec::CodecError;

use super::{
    HeadError, ManifestHead, ManifestKey, OrderError, RootHasher, SegmentBody, Totals, Tree, TreeEntry, TreeOrder,
};
use crate::content::encode::DecodeError;
use crate::content::manifest::EntryKind;
use crate::content::seal::ChunkEntry;
use crate::ids::ObjectId;
use crate::limits::{CHUNKS_MAX, OBJECT_BYTES_MAX, SEGMENT_ENTRIES_MAX, TREE_ENTRIES_MAX, TREE_NAME_BYTES_MAX};

/// What the receiver agreed to before the first byte: a manifest must stay within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Rows of the tree at most.
    pub entries_max: u64,
    /// Plain bytes at most; every reference to an object counts at its decoded length.
    pub bytes_max: u64,
    /// Rows of the chunk table at most.
    pub chunks_max: u64,
}

impl Bounds {
    /// The protocol's own limits, for manifests that this node wrote or has accepted before.
    pub const PROTOCOL: Bounds = Bounds { entries_max: TREE_ENTRIES_MAX, bytes_max: u64::MAX, chunks_max: CHUNKS_MAX };

    /// The bounds, none above the protocol's own.
    fn within_protocol(self) -> Bounds {
        Bounds {
            entries_max: self.entries_max.min(TREE_ENTRIES_MAX),
            bytes_max: self.bytes_max,
            chunks_max: self.chunks_max.min(CHUNKS_MAX),
        }
    }
}

impl From<Totals> for Bounds {
    fn from(totals: Totals) -> Bounds {
        Bounds { entries_max: totals.entries, bytes_max: totals.bytes, chunks_max: totals.chunks }
    }
}

/// Why a manifest is refused. All but `Newer` and a codec of the future are the sender's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Wrong key, wrong place, changed bytes, or too long.
    #[error("a manifest segment does not open")]
    Sealed,
    /// The body is not a segment, or one of a newer version.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The head is missing, repeated or too long.
    #[error("the head of the manifest is missing or repeated")]
    Head,
    /// A part of the head is too long.
    #[error(transparent)]
    HeadLength(#[from] HeadError),
    /// Rows do not form a tree.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A row of the chunk table names what cannot be.
    #[error(transparent)]
    Chunk(#[from] DecodeError),
    /// A segment has too many rows, too few, or comes after the last.
    #[error("a manifest segment is cut where none ends")]
    Cut,
    /// More entries, chunks, names or bytes than offered or possible.
    #[error("the manifest exceeds what was offered")]
    Bounds,
    /// The manifest does not add up.
    #[error("the manifest does not add up to its own totals")]
    Totals,
}

/// One segment that has passed all checks.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The head, in the first segment.
    pub head: Option<ManifestHead>,
    /// Rows of the tree, following those of the segment before.
    pub tree: Vec<TreeEntry>,
    /// Rows of the chunk table, following those of the segment before.
    pub chunks: Vec<ChunkEntry>,
    /// Whether this is the last.
    pub last: bool,
}

/// Checks segments in order, holding none.
pub struct SegmentReader {
    key: ManifestKey,
    bounds: Bounds,
    order: TreeOrder,
    totals: Totals,
    chunk_bytes: u64,
    name_bytes: u64,
    claimed: Option<Totals>,
    root: RootHasher,
}

impl SegmentReader {
    /// A reader for a manifest that may not exceed `bounds`.
    pub fn new(key: ManifestKey, bounds: Bounds) -> SegmentReader {
        SegmentReader {
            key,
            bounds: bounds.within_protocol(),
            order: TreeOrder::new(),
            totals: Totals::default(),
            chunk_bytes: 0,
            name_bytes: 0,
            claimed: None,
            root: RootHasher::new(),
        }
    }

    /// Takes the next sealed segment. After an error the reader is of no further use.
    ///
    /// # Errors
    /// Whatever is wrong with it, or with what it adds to the segments before.
    pub fn feed(&mut self, sealed: &[u8]) -> Result<Segment, ManifestError> {
        if self.claimed.is_some() {
            return Err(ManifestError::Cut);
        }
        if sealed.len() > OBJECT_BYTES_MAX {
            return Err(ManifestError::Sealed);
        }
        let index = self.totals.segments;
        let body = self.key.open(index, sealed).ok_or(ManifestError::Sealed)?;
        let body = SegmentBody::decode(&body)?;
        self.root.add(&ObjectId::of(sealed));
        self.totals.segments += 1;
        self.check_shape(&body, index)?;
        body.tree.iter().try_for_each(|entry| self.count_entry(entry))?;
        body.chunks.iter().try_for_each(|entry| self.count_chunk(entry))?;
        self.claimed = body.totals;
        let SegmentBody { head, tree, chunks, totals } = body;
        Ok(Segment { head, tree, chunks, last: totals.is_some() })
    }

    /// Ends the manifest.
    ///
    /// # Errors
    /// [`ManifestError::Cut`] before the last segment, [`ManifestError::Totals`] if it does not add
    /// up.
    pub fn finish(&self) -> Result<(Totals, [u8; 32]), ManifestError> {
        let claimed = self.claimed.ok_or(ManifestError::Cut)?;
        if claimed != self.totals || self.totals.bytes != self.chunk_bytes {
            return Err(ManifestError::Totals);
        }
        Ok((self.totals, self.root.finish()))
    }

    /// One way to cut a manifest: every segment but the last is full, only a lone one may be empty.
    fn check_shape(&self, body: &SegmentBody, index: u64) -> Result<(), ManifestError> {
        let rows = body.tree.len() + body.chunks.len();
        let fits = match &body.totals {
            None => rows == SEGMENT_ENTRIES_MAX,
            Some(_) => rows <= SEGMENT_ENTRIES_MAX && (rows > 0 || index == 0),
        };
        if !fits {
            return Err(ManifestError::Cut);
        }
        match (&body.head, index) {
            (Some(head), 0) => Ok(head.check()?),
            (None, 1..) => Ok(()),
            _ => Err(ManifestError::Head),
        }
    }

    fn count_entry(&mut self, entry: &TreeEntry) -> Result<(), ManifestError> {
        self.order.enter(entry)?;
        self.totals.entries += 1;
        self.totals.files += u64::from(matches!(entry.kind, EntryKind::File { .. }));
        self.totals.bytes = self.totals.bytes.checked_add(entry.kind.bytes()).ok_or(ManifestError::Bounds)?;
        self.name_bytes += entry.name.as_str().len() as u64;
        self.check_bounds()
    }

    fn count_chunk(&mut self, entry: &ChunkEntry) -> Result<(), ManifestError> {
        entry.check()?;
        self.totals.chunks += 1;
        self.chunk_bytes = self.chunk_bytes.checked_add(entry.plain_bytes.into()).ok_or(ManifestError::Bounds)?;
        self.check_bounds()
    }

    fn check_bounds(&self) -> Result<(), ManifestError> {
        let within = self.totals.entries <= self.bounds.entries_max
            && self.totals.chunks <= self.bounds.chunks_max
            && self.totals.bytes.max(self.chunk_bytes) <= self.bounds.bytes_max
            && self.name_bytes <= TREE_NAME_BYTES_MAX;
        if within { Ok(()) } else { Err(ManifestError::Bounds) }
    }
}

/// A whole manifest in memory: about 150 bytes per file and per chunk.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Subject and text.
    pub head: ManifestHead,
    /// Files and directories.
    pub tree: Tree,
    /// The chunk table.
    pub chunks: Vec<ChunkEntry>,
    /// What it adds up to.
    pub totals: Totals,
    /// The hash over its segments, to be compared with the envelope core's.
    pub root: [u8; 32],
    /// Where each chunk begins in the stream of content, in bytes.
    chunk_starts: Vec<u64>,
    /// Where each entry begins in the stream of content, in bytes.
    entry_starts: Vec<u64>,
}

/// A part of a file within one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Row of the chunk table.
    pub chunk: usize,
    /// Bytes within the decoded chunk.
    pub range: Range<usize>,
}

impl Manifest {
    /// The parts of chunks that make up the file in row `entry` of the tree, in order; none for a
    /// directory or an empty file.
    pub fn spans(&self, entry: usize) -> impl Iterator<Item = Span> + '_ {
        let start = self.entry_starts.get(entry).copied().unwrap_or_default();
        let end = start + self.tree.entries().get(entry).map_or(0, |entry| entry.kind.bytes());
        let first = self.chunk_starts.partition_point(|chunk| *chunk <= start).saturating_sub(1);
        let rows = self.chunk_starts.iter().zip(&self.chunks).enumerate().skip(first);
        rows.take_while(move |(_, (chunk_start, _))| start < end && **chunk_start < end).map(
            move |(chunk, (chunk_start, row))| {
                let chunk_end = chunk_start + u64::from(row.plain_bytes);
                // Both lie within one chunk, so they fit.
                let range =
                    (start.max(*chunk_start) - chunk_start) as usize..(end.min(chunk_end) - chunk_start) as usize;
                Span { chunk, range }
            },
        )
    }
}

/// Collects a [`Manifest`] from its segments.
pub struct ManifestReader {
    segments: SegmentReader,
    head: Option<ManifestHead>,
    tree: Tree,
    chunks: Vec<ChunkEntry>,
}

impl ManifestReader {
    /// A reader for a manifest that may not exceed `bounds`.
    pub fn new(key: ManifestKey, bounds: Bounds) -> ManifestReader {
        ManifestReader {
            segments: SegmentReader::new(key, bounds),
            head: None,
            tree: Tree::default(),
            chunks: Vec::new(),
        }
    }

    /// Takes the next sealed segment.
    ///
    /// # Errors
    /// As [`SegmentReader::feed`].
    pub fn feed(&mut self, sealed: &[u8]) -> Result<(), ManifestError> {
        let mut segment = self.segments.feed(sealed)?;
        self.head = self.head.take().or(segment.head);
        self.tree.append_checked(segment.tree);
        self.chunks.append(&mut segment.chunks);
        Ok(())
    }

    /// Ends the manifest.
    ///
    /// # Errors
    /// As [`SegmentReader::finish`].
    pub fn finish(self) -> Result<Manifest, ManifestError> {
        let (totals, root) = self.segments.finish()?;
        let head = self.head.ok_or(ManifestError::Head)?;
        let chunk_starts = starts(self.chunks.iter().map(|chunk| chunk.plain_bytes.into()));
        let entry_starts = starts(self.tree.entries().iter().map(|entry| entry.kind.bytes()));
        Ok(Manifest { head, tree: self.tree, chunks: self.chunks, totals, root, chunk_starts, entry_starts })
    }
}

/// Running sums; the reader has checked that they fit.
fn starts(lengths: impl Iterator<Item = u64>) -> Vec<u64> {
    lengths
        .scan(0u64, |next, length| {
            let start = *next;
            *next += length;
            Some(start)
        })
        .collect()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
