//! Content: from a tree of files to sealed objects and back, without touching a disk.
//!
//! ```text
//! walk -> pack::Packer -> PlainChunk -> seal::seal_chunk (any thread, any order) -> SealedChunk -> store
//!                      \-> TreeEntry ----------------------\                        | ChunkEntry
//!                                                           manifest::SegmentWriter <-/ -> sealed segments
//!
//! sealed segments -> manifest::ManifestReader -> Manifest
//! sealed object   -> seal::open_chunk (any thread) -> plain chunk, in order -> unpack::Unpacker -> Step -> files
//! ```
//!
//! The content of a message is one stream: its files in tree order. Chunks cut that stream into
//! pieces. So every byte belongs to exactly one file and one chunk, and neither overlaps nor gaps
//! can be written down. Entries carry their depth instead of a path, so neither can cycles or
//! orphans.
//!
//! **Invariant:** everything read here came from a counterpart; sizes and counts are checked before
//! memory is taken for them.

pub mod encode;
pub mod extent;
mod image16;
pub mod known;
pub mod manifest;
pub mod name;
pub mod pack;
mod planes;
pub mod seal;
pub mod unpack;

#[cfg(test)]
mod round_trip;
