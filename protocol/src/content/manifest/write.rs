//! Writing a manifest while the content is still being read.
//!
//! Rows go in by their own order, tree and chunks independently; a segment comes out whenever 256
//! rows have gathered.
//!
//! **Invariant:** what a writer has put out, a [`SegmentReader`](super::SegmentReader) takes, if
//! the chunks hold the files.

use std::collections::VecDeque;

use super::{HeadError, ManifestHead, ManifestKey, RootHasher, SegmentBody, Totals, TreeEntry};
use crate::content::seal::ChunkEntry;
use crate::ids::ObjectId;
use crate::limits::SEGMENT_ENTRIES_MAX;

use super::EntryKind;

/// One segment, ready for the store and the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its place in the manifest, from 0.
    pub index: u64,
    /// Its name.
    pub id: ObjectId,
    /// The object itself.
    pub sealed: Vec<u8>,
}

/// Gathers rows into sealed segments.
pub struct SegmentWriter {
    key: ManifestKey,
    body: SegmentBody,
    totals: Totals,
    root: RootHasher,
    output: VecDeque<SealedSegment>,
}

impl SegmentWriter {
    /// Begins a manifest.
    ///
    /// # Errors
    /// A subject, text or purpose that is too long.
    pub fn new(key: ManifestKey, head: ManifestHead) -> Result<SegmentWriter, HeadError> {
        head.check()?;
        let body = SegmentBody { head: Some(head), tree: Vec::new(), chunks: Vec::new(), totals: None };
        Ok(SegmentWriter { key, body, totals: Totals::default(), root: RootHasher::new(), output: VecDeque::new() })
    }

    /// Adds the next row of the tree, in the order in which the packer gives them.
    pub fn push_entry(&mut self, entry: TreeEntry) {
        self.make_room();
        self.totals.entries += 1;
        self.totals.files += u64::from(matches!(entry.kind, EntryKind::File { .. }));
        self.totals.bytes = self.totals.bytes.saturating_add(entry.kind.bytes());
        self.body.tree.push(entry);
    }

    /// Adds the next row of the chunk table, in the order of the chunks' indices.
    pub fn push_chunk(&mut self, entry: ChunkEntry) {
        self.make_room();
        self.totals.chunks += 1;
        self.body.chunks.push(entry);
    }

    /// The next finished segment, if any.
    pub fn poll_segment(&mut self) -> Option<SealedSegment> {
        self.output.pop_front()
    }

    /// Ends the manifest; the last segment is then to be polled. Returns what the envelope core
    /// carries: totals and root hash.
    pub fn finish(&mut self) -> (Totals, [u8; 32]) {
        self.totals.segments += 1;
        self.body.totals = Some(self.totals);
        self.seal_body(self.totals.segments - 1);
        (self.totals, self.root.finish())
    }

    fn make_room(&mut self) {
        if self.body.tree.len() + self.body.chunks.len() == SEGMENT_ENTRIES_MAX {
            self.seal_body(self.totals.segments);
            self.totals.segments += 1;
        }
    }

    fn seal_body(&mut self, index: u64) {
        let sealed = self.key.seal(index, &self.body.encode());
        let id = ObjectId::of(&sealed);
        self.root.add(&id);
        self.body = SegmentBody { head: None, tree: Vec::new(), chunks: Vec::new(), totals: None };
        self.output.push_back(SealedSegment { index, id, sealed });
    }
}
