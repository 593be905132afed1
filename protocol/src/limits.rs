//! Every bound of the protocol in one place, with the reason for each.

/// Plain bytes in one content chunk: large enough that hashing and sealing cost nothing, small enough to resume cheaply.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Files of this size and more start their own chunks; smaller ones share chunks.
pub const SMALL_FILE_BYTES: u64 = 256 << 10;
/// Sealed bytes of one object: a chunk that did not compress, its codec overhead, commitment and tag.
pub const OBJECT_BYTES_MAX: usize = CHUNK_BYTES_MAX + 4096;
/// Entries (tree or chunk) in one manifest segment, so that a segment fits one object with long names.
pub const SEGMENT_ENTRIES_MAX: usize = 256;
/// Bytes of one path component: what ext4, NTFS and APFS hold.
pub const NAME_BYTES_MAX: usize = 255;
/// Components in one path.
pub const PATH_DEPTH_MAX: usize = 64;
/// Files and directories in one message.
pub const TREE_ENTRIES_MAX: u64 = 2_000_000;
/// Chunks in one message: 1 MiB each, so that 10 TB fit.
pub const CHUNKS_MAX: u64 = 10_000_000;
/// Bytes of a subject, UTF-8.
pub const SUBJECT_BYTES_MAX: usize = 1_000;
/// Bytes of a message text, UTF-8.
pub const TEXT_BYTES_MAX: usize = 256 << 10;
/// The one flight from the dialer through the door.
pub const FLIGHT_BYTES: usize = 2048;
/// Accepted door counters that a listener remembers per direction.
pub const DOOR_COUNTERS_MAX: usize = 64;
/// Bytes of all names in one message, each counted once: what a tree of the largest size needs with names of usual length.
pub const TREE_NAME_BYTES_MAX: u64 = 256 << 20;
/// Encoded bytes under which an object is sealed under the message's random secret: so little content could be guessed whole.
pub const GUESSABLE_BYTES: usize = 64 << 10;
/// Binary logarithm of the largest window that a zstd frame may ask for: 8 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Bytes of a message's purpose, UTF-8: one of those that the agreement lists.
pub const PURPOSE_BYTES_MAX: usize = 100;
