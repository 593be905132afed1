//! From a tar stream to the packer, on a thread that may wait.
//!
//! [`pump`] moves bytes from the stream to the thread, [`pack_tar`] takes them apart there and hands on what the packer
//! makes of them. Dropping either end stops both.
//!
//! **Invariant:** only directories and regular files pass, their names taken as they are; whatever else lies in the
//! stream is refused, never skipped.
//! **Invariant:** a stream without its end mark is never taken for a whole one.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use pakt_keys::object::SealBase;
use pakt_protocol::content::extent::Extent;
use pakt_protocol::content::manifest::{HeadError, OrderError, TreeEntry};
use pakt_protocol::content::name::{Component, NameError, display_safe};
use pakt_protocol::content::pack::{PackError, Packed, Packer, PlainChunk};
use pakt_protocol::limits::{SEGMENT_ENTRIES_MAX, TREE_ENTRIES_MAX, TREE_NAME_BYTES_MAX};
use tar::{Archive, Entry, EntryType};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::pool::{ContentPool, PoolStopped};
use super::scanned::{NotClean, Scanned};
use crate::blob::BlobError;
use crate::scan::Scanner;

/// Bytes read from the stream at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces between the stream and the thread.
pub(super) const PIECES_MAX: usize = 4;
/// Steps between the thread and the sealing, of one chunk each at most.
pub(super) const STEPS_MAX: usize = 2;
/// Bytes given to the packer at a time: they stay in the processor's cache.
const COPY_BYTES: usize = 64 << 10;
/// Bytes of one entry's header with its extensions, at most.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// Zero bytes after the end mark, at most: what a tape of the largest blocking factor is padded with.
const PADDING_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one half of the end mark.
const BLOCK_BYTES: u64 = 512;

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// A link, device, pipe, sparse file or the like.
    #[error("only files and directories can be sent")]
    Kind,
    /// A name that cannot be sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name in another encoding.
    #[error("its name is not UTF-8")]
    Encoding,
    /// Not in the order of a tree.
    #[error(transparent)]
    Order(#[from] OrderError),
}

/// Why a tree was not sealed; nothing of it is left behind.
#[derive(thiserror::Error)]
pub enum SealTreeError {
    /// The stream ended before its end mark.
    #[error("the content ended before it was complete; send it again")]
    Truncated,
    /// The stream broke.
    #[error("the content could not be read ({0}); send it again")]
    Read(io::ErrorKind),
    /// The stream is not a tar stream.
    #[error("the content is not a tar stream")]
    Malformed,
    /// An entry cannot be sent; its name is in [`SealTreeError::message`] only.
    #[error("an entry cannot be sent: {problem}")]
    Entry {
        /// What is wrong with it.
        problem: EntryProblem,
        /// Its path, for the local user who sent it.
        path: String,
    },
    /// More content than allowed.
    #[error("the content is larger than the {bytes_max} bytes that may be sent")]
    TooLarge {
        /// Plain bytes allowed.
        bytes_max: u64,
    },
    /// More content than was told before it was read.
    #[error("the content changed while it was read: there is more of it than before; nothing was sent, send it again")]
    Changed,
    /// More files and directories, or longer names, than a message holds.
    #[error("a message holds at most {TREE_ENTRIES_MAX} files and directories; send them as several messages")]
    TooManyEntries,
    /// Subject, text or purpose are too long.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The malware scanner does not let it through; the entry's name is in [`SealTreeError::message`] only.
    #[error("something cannot be sent: {why}")]
    NotClean {
        /// What the scanner says.
        why: NotClean,
        /// The entry's path, for the local user who sent it.
        path: String,
    },
    /// The objects could not be stored.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The node is shutting down, or failed on its own.
    #[error(transparent)]
    Stopped(#[from] PoolStopped),
}

impl SealTreeError {
    /// The message for the local user who sent the content: names the entry, so it must not reach a log.
    pub fn message(&self) -> String {
        match self {
            SealTreeError::Entry { problem, path } => format!("{} cannot be sent: {problem}", display_safe(path)),
            SealTreeError::NotClean { why, path } => format!("{} cannot be sent: {why}", display_safe(path)),
            other => other.to_string(),
        }
    }

    /// Whether the same content may be accepted later.
    pub fn is_transient(&self) -> bool {
        match self {
            SealTreeError::Truncated | SealTreeError::Read(_) | SealTreeError::Changed | SealTreeError::Stopped(_) => {
                true
            }
            SealTreeError::Blob(error) => error.is_transient(),
            SealTreeError::NotClean { why, .. } => matches!(why, NotClean::Unscanned(_)),
            _ => false,
        }
    }
}

impl std::fmt::Debug for SealTreeError {
    // As Display: a path must not reach a log by way of a derived Debug.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealTreeError({self})")
    }
}

/// How much content there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// Plain bytes that the recipients take.
    pub(super) bytes_max: u64,
    /// What was told of it before.
    pub(super) extent: Option<Extent>,
}

/// What the packer made: rows of the tree, then at most one chunk.
#[derive(Default)]
pub(super) struct Step {
    pub(super) entries: Vec<TreeEntry>,
    pub(super) chunk: Option<PlainChunk>,
}

/// One piece of the stream; an empty one is its end.
pub(super) type Piece = io::Result<Vec<u8>>;

/// Moves the stream to the thread until it ends, breaks, or the thread has gone.
pub(super) async fn pump(mut stream: impl AsyncRead + Unpin, pieces: mpsc::Sender<Piece>) {
    loop {
        let piece = next_piece(&mut stream).await;
        let last = piece.as_ref().map_or(true, Vec::is_empty);
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}

async fn next_piece(stream: &mut (impl AsyncRead + Unpin)) -> Piece {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while piece.len() < PIECE_BYTES {
        if stream.read_buf(&mut piece).await? == 0 {
            break;
        }
    }
    Ok(piece)
}

/// Takes the stream apart and packs it; blocks. Ends early, without an error of its own, when nobody takes its steps.
pub(super) fn pack_tar(
    pieces: mpsc::Receiver<Piece>,
    steps: mpsc::Sender<Step>,
    base: &SealBase,
    allowed: Allowed,
    pool: &ContentPool,
    scan: Option<Scan>,
) -> Result<(), SealTreeError> {
    let header_left = Rc::new(Cell::new(HEADER_BYTES_MAX));
    let source = Source { pieces, piece: Vec::new(), taken: 0, header_left: header_left.clone(), state: Flow::Open };
    let mut archive = Archive::new(source);
    let mut packing = Packing {
        packer: Packer::new(base),
        steps,
        step: Step::default(),
        pool,
        allowed,
        scan,
        seen: Extent::default(),
        name_bytes: 0,
    };
    let result = packing.take_archive(&mut archive, &header_left);
    let mut source = archive.into_inner();
    let result = result.and_then(|()| source.check_end());
    result.map_err(|stop| stop.blame(&source.state))?;
    packing.finish().map_err(|stop| stop.blame(&source.state))
}

/// Why the thread stops: an error to report, or something that the state of the stream explains.
enum Stop {
    Error(SealTreeError),
    /// The tar reader gave up, or found less than announced.
    Stream,
    /// Nobody takes the steps any more.
    Unwanted,
}

impl Stop {
    fn blame(self, state: &Flow) -> SealTreeError {
        match (self, state) {
            (Stop::Error(error), _) => error,
            (Stop::Unwanted, _) | (Stop::Stream, Flow::Dropped) => PoolStopped.into(),
            (Stop::Stream, Flow::Ended) => SealTreeError::Truncated,
            (Stop::Stream, Flow::Broken(kind)) => SealTreeError::Read(*kind),
            (Stop::Stream, Flow::Open) => SealTreeError::Malformed,
        }
    }
}

impl From<SealTreeError> for Stop {
    fn from(error: SealTreeError) -> Stop {
        Stop::Error(error)
    }
}

struct Packing<'a> {
    packer: Packer,
    steps: mpsc::Sender<Step>,
    step: Step,
    pool: &'a ContentPool,
    allowed: Allowed,
    scan: Option<Scan>,
    seen: Extent,
    name_bytes: u64,
}

impl Packing<'_> {
    fn take_archive(&mut self, archive: &mut Archive<Source>, header_left: &Cell<u64>) -> Result<(), Stop> {
        let mut buffer = vec![0; COPY_BYTES];
        for entry in archive.entries().map_err(|_| Stop::Stream)? {
            let mut entry = entry.map_err(|_| Stop::Stream)?;
            header_left.set(u64::MAX);
            self.take_entry(&mut entry, &mut buffer)?;
            header_left.set(HEADER_BYTES_MAX);
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: &mut Entry<'_, Source>, buffer: &mut [u8]) -> Result<(), Stop> {
        let refuse = |problem: EntryProblem, bytes: &[u8]| {
            Stop::Error(SealTreeError::Entry { problem, path: String::from_utf8_lossy(bytes).into_owned() })
        };
        let kind = entry_kind(entry).map_err(|problem| refuse(problem, &entry.path_bytes()))?;
        let path = components(&entry.path_bytes(), kind).map_err(|problem| refuse(problem, &entry.path_bytes()))?;
        self.count_entry(&path, (kind != EntryType::Directory).then_some(entry.size()))?;
        let order = |error: PackError, bytes: &[u8]| match error {
            PackError::Order(error) => refuse(error.into(), bytes),
            PackError::FileChanged | PackError::OutOfTurn => Stop::Stream,
        };
        if kind == EntryType::Directory {
            self.packer.push_dir(&path).map_err(|error| order(error, &entry.path_bytes()))?;
            return self.drain();
        }
        let bytes = entry.size();
        self.packer.begin_file(&path, bytes).map_err(|error| order(error, &entry.path_bytes()))?;
        loop {
            match entry.read(buffer).map_err(|_| Stop::Stream)? {
                0 => break,
                count => {
                    self.packer.write(&buffer[..count]).map_err(|_| Stop::Stream)?;
                    if let Some(scan) = &mut self.scan {
                        scan.write(&buffer[..count]).map_err(|why| refuse_unclean(why, &entry.path_bytes()))?;
                    }
                }
            }
            self.drain()?;
        }
        // Less content than announced: the stream ended within the file.
        self.packer.end_file().map_err(|_| Stop::Stream)?;
        if let Some(scan) = &mut self.scan {
            scan.end().map_err(|why| refuse_unclean(why, &entry.path_bytes()))?;
        }
        self.drain()
    }

    /// Counts an entry, a file with its bytes, before anything of it is taken.
    fn count_entry(&mut self, path: &[Component], file_bytes: Option<u64>) -> Result<(), Stop> {
        match file_bytes {
            Some(bytes) => {
                self.seen.files += 1;
                self.seen.plain_bytes = self.seen.plain_bytes.saturating_add(bytes);
            }
            None => self.seen.folders += 1,
        }
        self.name_bytes += path.last().map_or(0, |name| name.as_str().len() as u64);
        let Allowed { bytes_max, extent } = self.allowed;
        let (seen, told) = (self.seen, extent.unwrap_or(self.seen));
        if seen.plain_bytes > bytes_max {
            Err(SealTreeError::TooLarge { bytes_max }.into())
        } else if seen.files > told.files || seen.folders > told.folders || seen.plain_bytes > told.plain_bytes {
            Err(SealTreeError::Changed.into())
        } else if seen.files + seen.folders > TREE_ENTRIES_MAX || self.name_bytes > TREE_NAME_BYTES_MAX {
            Err(SealTreeError::TooManyEntries.into())
        } else {
            Ok(())
        }
    }

    /// Hands on what the packer has made.
    fn drain(&mut self) -> Result<(), Stop> {
        while let Some(packed) = self.packer.poll_output() {
            match packed {
                Packed::Entry(entry) => self.step.entries.push(entry),
                Packed::Chunk(chunk) => {
                    self.step.chunk = Some(chunk);
                    self.hand_on()?;
                    self.packer.recycle(self.pool.buffer());
                }
            }
            if self.step.entries.len() == SEGMENT_ENTRIES_MAX {
                self.hand_on()?;
            }
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<(), Stop> {
        self.steps.blocking_send(std::mem::take(&mut self.step)).map_err(|_| Stop::Unwanted)
    }

    fn finish(mut self) -> Result<(), Stop> {
        self.packer.finish().map_err(|_| Stop::Stream)?;
        self.drain()?;
        self.hand_on()
    }
}

fn refuse_unclean(why: NotClean, path: &[u8]) -> Stop {
    Stop::Error(SealTreeError::NotClean { why, path: String::from_utf8_lossy(path).into_owned() })
}

/// The malware scanner as a thread that waits for it sees it.
pub(super) struct Scan {
    scanned: Scanned,
    runtime: Handle,
}

impl Scan {
    pub(super) fn by(scanner: Scanner, runtime: Handle) -> Scan {
        Scan { scanned: Scanned::by(Some(scanner)), runtime }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), NotClean> {
        self.runtime.block_on(self.scanned.write(bytes))
    }

    fn end(&mut self) -> Result<(), NotClean> {
        self.runtime.block_on(self.scanned.end())
    }
}

/// A directory or a regular file, or what is wrong with it.
fn entry_kind(entry: &mut Entry<'_, Source>) -> Result<EntryType, EntryProblem> {
    let kind = entry.header().entry_type();
    if !matches!(kind, EntryType::Directory | EntryType::Regular) {
        return Err(EntryProblem::Kind);
    }
    // The newer way of writing sparse files: a regular entry whose content is not the file's.
    let extensions = entry.pax_extensions().map_err(|_| EntryProblem::Kind)?;
    let sparse = extensions
        .into_iter()
        .flatten()
        .any(|extension| extension.is_ok_and(|extension| extension.key_bytes().starts_with(b"GNU.sparse.")));
    if sparse { Err(EntryProblem::Kind) } else { Ok(kind) }
}

fn components(path: &[u8], kind: EntryType) -> Result<Vec<Component>, EntryProblem> {
    let path = std::str::from_utf8(path).map_err(|_| EntryProblem::Encoding)?;
    let path = match kind {
        EntryType::Directory => path.strip_suffix('/').unwrap_or(path),
        _ => path,
    };
    path.split('/').map(|name| Ok(Component::parse(name)?)).collect()
}

/// How the stream stands.
enum Flow {
    Open,
    /// It said that it is over.
    Ended,
    Broken(io::ErrorKind),
    /// Whoever fed it has gone.
    Dropped,
}

/// The thread's end of the stream.
struct Source {
    pieces: mpsc::Receiver<Piece>,
    piece: Vec<u8>,
    /// Bytes of `piece` that have been read.
    taken: usize,
    /// Bytes that may still be read for a header: the tar reader holds extensions in memory whole.
    header_left: Rc<Cell<u64>>,
    state: Flow,
}

impl Source {
    /// Fetches the next piece; false at the end.
    fn refill(&mut self) -> io::Result<bool> {
        self.taken = 0;
        self.piece.clear();
        if !matches!(self.state, Flow::Open) {
            return Ok(false);
        }
        match self.pieces.blocking_recv() {
            Some(Ok(piece)) if piece.is_empty() => self.state = Flow::Ended,
            Some(Ok(piece)) => self.piece = piece,
            Some(Err(error)) => {
                self.state = Flow::Broken(error.kind());
                return Err(error);
            }
            None => {
                self.state = Flow::Dropped;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(!self.piece.is_empty())
    }

    /// After the last entry: the first half of the end mark was read, the second must follow, then nothing but padding
    /// to the very end.
    fn check_end(&mut self) -> Result<(), Stop> {
        if !matches!(self.state, Flow::Open) {
            // The tar reader takes an end without a mark for a whole stream.
            return Err(Stop::Stream);
        }
        let mut zeros = 0;
        loop {
            let rest = &self.piece[self.taken..];
            zeros += rest.len() as u64;
            if rest.iter().any(|byte| *byte != 0) || zeros > PADDING_BYTES_MAX {
                return Err(SealTreeError::Malformed.into());
            }
            if !self.refill().map_err(|_| Stop::Stream)? {
                return if zeros < BLOCK_BYTES { Err(Stop::Stream) } else { Ok(()) };
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || (self.taken == self.piece.len() && !self.refill()?) {
            return Ok(0);
        }
        let rest = &self.piece[self.taken..];
        let count = rest.len().min(out.len());
        let left = self.header_left.get();
        self.header_left.set(left.checked_sub(count as u64).ok_or(io::ErrorKind::InvalidData)?);
        out[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}
