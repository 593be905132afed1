//! Giving a received tree back as a tar stream: objects are opened ahead of the reader, in order.
//!
//! **Invariant:** the last bytes of a file leave only after its whole content was verified; a damaged object or a file
//! that is not as described ends the stream with an error, without the end mark.
//! **Invariant:** the stream tells nothing of this node: rights and times are the same in every stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::stream::{self, StreamExt};
use pakt_keys::EntityId;
use pakt_protocol::content::manifest::{EntryKind, Manifest};
use pakt_protocol::content::seal::{OpenChunkError, open_chunk};
use pakt_protocol::content::unpack::{Step, UnpackError, Unpacker};
use pakt_protocol::ids::ObjectId;
use pakt_protocol::limits::CHUNK_BYTES_MAX;
use tar::{EntryType, Header};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::pool::{ContentPool, PoolStopped};
use crate::blob::{BlobError, Blobs};

/// Chunks opened ahead of the one that is being written: 8 MiB at most.
const AHEAD: usize = 8;
/// Pieces of the stream that wait for the reader, of about one chunk each.
const PIECES_MAX: usize = 2;
/// Bytes of a piece at which it is handed on, though more could follow.
const PIECE_BYTES: usize = CHUNK_BYTES_MAX;
/// The time in every header: 1980-01-01, the oldest that all archivers know.
const MODIFIED_AT: u64 = 315_532_800;
/// Files and their ends are padded to this many bytes.
const BLOCK_BYTES: u64 = 512;
/// What GNU tar calls an entry that holds a long name.
const LONG_NAME: &[u8] = b"././@LongLink";

/// Why a stream ended before its end; it comes inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum TarStreamError {
    /// This node's disk: an object is gone or damaged.
    #[error(transparent)]
    Local(#[from] BlobError),
    /// The sender's: an object that arrived intact does not hold what the manifest says.
    #[error("the message is damaged, as it was sent: {0}")]
    Object(#[from] OpenChunkError),
    /// The sender's: a file is not what its manifest says.
    #[error("the message is damaged, as it was sent: {0}")]
    Unpack(#[from] UnpackError),
    /// The node is shutting down, or failed on its own.
    #[error(transparent)]
    Stopped(#[from] PoolStopped),
}

impl From<TarStreamError> for io::Error {
    fn from(error: TarStreamError) -> io::Error {
        let kind = match &error {
            TarStreamError::Stopped(_) => io::ErrorKind::BrokenPipe,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// The tree of `manifest`, whose objects are stored as coming from `origin`, as a tar stream: directories (0700) and
/// files (0600) in tree order, long names as GNU tar writes them.
///
/// Must be called within a tokio runtime. Reading fails with a [`TarStreamError`]; after that, and after the reader is
/// dropped, no more work is done.
pub fn tar_stream(
    blobs: Blobs,
    origin: EntityId,
    manifest: Arc<Manifest>,
    pool: &ContentPool,
) -> impl AsyncRead + Send + 'static {
    let (to_reader, pieces) = mpsc::channel(PIECES_MAX);
    let opener = Opener { blobs, origin, manifest, pool: pool.clone() };
    let task = tokio::spawn(async move {
        let end = match produce(&opener, &to_reader).await {
            Ok(()) => Piece::End,
            Err(error) => Piece::Failed(error),
        };
        // The reader may have gone.
        let _ = to_reader.send(end).await;
    });
    TarStream { pieces, piece: Vec::new(), read: 0, state: State::Open, pool: pool.clone(), task }
}

enum Piece {
    Content(Vec<u8>),
    End,
    Failed(TarStreamError),
}

enum State {
    Open,
    Ended,
    Failed,
}

struct TarStream {
    pieces: mpsc::Receiver<Piece>,
    piece: Vec<u8>,
    /// Bytes of `piece` that have been read.
    read: usize,
    state: State,
    pool: ContentPool,
    task: JoinHandle<()>,
}

impl AsyncRead for TarStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read == this.piece.len() {
            match this.state {
                State::Open => {}
                State::Ended => return Poll::Ready(Ok(())),
                // Whoever missed the first error must not take the end for a whole stream.
                State::Failed => return Poll::Ready(Err(TarStreamError::Stopped(PoolStopped).into())),
            }
            this.pool.recycle(std::mem::take(&mut this.piece));
            this.read = 0;
            match ready!(this.pieces.poll_recv(context)) {
                Some(Piece::Content(piece)) => this.piece = piece,
                Some(Piece::End) => this.state = State::Ended,
                Some(Piece::Failed(error)) => {
                    this.state = State::Failed;
                    return Poll::Ready(Err(error.into()));
                }
                None => this.state = State::Failed,
            }
        }
        let count = out.remaining().min(this.piece.len() - this.read);
        out.put_slice(&this.piece[this.read..this.read + count]);
        this.read += count;
        Poll::Ready(Ok(()))
    }
}

impl Drop for TarStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the chunks of one message.
pub(super) struct Opener {
    pub(super) blobs: Blobs,
    pub(super) origin: EntityId,
    pub(super) manifest: Arc<Manifest>,
    pub(super) pool: ContentPool,
}

impl Opener {
    pub(super) async fn open(&self, index: usize) -> Result<Vec<u8>, TarStreamError> {
        let (blobs, origin, manifest) = (self.blobs.clone(), self.origin, self.manifest.clone());
        let id = manifest.chunks[index].id;
        let mut plain = self.pool.buffer();
        let opened = self.pool.run(move |scratch| {
            let sealed = blobs.read(origin, id)?;
            match open_chunk(&manifest.chunks[index], &sealed, &mut scratch.decode, &mut plain) {
                Ok(()) => Ok(plain),
                // It was compared with its id when it arrived: if it differs now, it is not the sender's fault.
                Err(_) if ObjectId::of(&sealed) != id => Err(BlobError::Damaged(id).into()),
                Err(error) => Err(error.into()),
            }
        });
        opened.await?
    }
}

/// Writes the whole stream; stops early, without an error, when nobody reads it.
async fn produce(opener: &Opener, to_reader: &mpsc::Sender<Piece>) -> Result<(), TarStreamError> {
    let (manifest, pool) = (&opener.manifest, &opener.pool);
    let mut opened = stream::iter(0..manifest.chunks.len()).map(|index| opener.open(index)).buffered(AHEAD);
    let mut rows = TarRows::new(manifest.clone());
    // Rows before the first chunk need none.
    let mut chunk = Vec::new();
    loop {
        let mut taken = 0;
        loop {
            let piece = pool.buffer();
            let filled = pool.run(move |_| {
                let filled = rows.fill(&chunk, taken, piece);
                (rows, chunk, filled)
            });
            let filled = filled.await?;
            (rows, chunk) = (filled.0, filled.1);
            let Filled { piece, taken: now, more } = filled.2?;
            taken = now;
            if to_reader.send(Piece::Content(piece)).await.is_err() {
                return Ok(());
            }
            if !more {
                break;
            }
        }
        pool.recycle(chunk);
        match opened.next().await {
            Some(next) => chunk = next?,
            None => break,
        }
    }
    rows.unpacker.finish(&manifest.tree)?;
    let _ = to_reader.send(Piece::Content(vec![0; 2 * BLOCK_BYTES as usize])).await;
    Ok(())
}

/// A part of the stream, and whether the same chunk gives more.
struct Filled {
    piece: Vec<u8>,
    taken: usize,
    more: bool,
}

/// Writes steps of the unpacker as tar.
struct TarRows {
    manifest: Arc<Manifest>,
    unpacker: Unpacker,
    /// Rows of the tree from the top to the current one.
    path: Vec<usize>,
}

impl TarRows {
    fn new(manifest: Arc<Manifest>) -> TarRows {
        TarRows { manifest, unpacker: Unpacker::new(), path: Vec::new() }
    }

    /// Takes `chunk` from `taken` on, until it is used up or `piece` is full.
    fn fill(&mut self, chunk: &[u8], taken: usize, mut piece: Vec<u8>) -> Result<Filled, UnpackError> {
        let manifest = self.manifest.clone();
        let mut content = &chunk[taken..];
        let mut more = true;
        let mut appended = false;
        // Never between the content of a file and its verification.
        while appended || piece.len() < PIECE_BYTES {
            let Some(step) = self.unpacker.step(&manifest.tree, &mut content)? else {
                more = false;
                break;
            };
            appended = matches!(step, Step::Append { .. });
            match step {
                Step::Dir { entry } | Step::Create { entry } => self.write_header(entry, &mut piece),
                Step::Append { bytes, .. } => piece.extend_from_slice(bytes),
                Step::Finish { entry } => pad(manifest.tree.entries()[entry].kind.bytes(), &mut piece),
            }
        }
        Ok(Filled { piece, taken: chunk.len() - content.len(), more })
    }

    fn write_header(&mut self, entry: usize, piece: &mut Vec<u8>) {
        let rows = self.manifest.tree.entries();
        let row = &rows[entry];
        self.path.truncate(row.depth.into());
        self.path.push(entry);
        let names: Vec<&str> = self.path.iter().map(|row| rows[*row].name.as_str()).collect();
        let mut path = names.join("/");
        let mut header = Header::new_gnu();
        header.set_mtime(MODIFIED_AT);
        match row.kind {
            EntryKind::Dir => {
                path.push('/');
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o700);
                header.set_size(0);
            }
            EntryKind::File { bytes, .. } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(0o600);
                header.set_size(bytes);
            }
        }
        write_named(header, path.as_bytes(), piece);
    }
}

/// Writes a header for `path` byte for byte; a long one goes before it as an entry of its own, as GNU tar does it. (The
/// tar crate would refuse some names that are only dots up to where it cuts them.)
fn write_named(mut header: Header, path: &[u8], piece: &mut Vec<u8>) {
    let name = &mut header.as_old_mut().name;
    let count = path.len().min(name.len());
    name[..count].copy_from_slice(&path[..count]);
    if path.len() > name.len() {
        let mut long = Header::new_gnu();
        long.set_entry_type(EntryType::GNULongName);
        long.as_old_mut().name[..LONG_NAME.len()].copy_from_slice(LONG_NAME);
        long.set_mode(0o600);
        long.set_mtime(0);
        let bytes = path.len() as u64 + 1;
        long.set_size(bytes);
        write_header(long, piece);
        piece.extend_from_slice(path);
        piece.push(0);
        pad(bytes, piece);
    }
    write_header(header, piece);
}

fn write_header(mut header: Header, piece: &mut Vec<u8>) {
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    piece.extend_from_slice(header.as_bytes());
}

/// Fills up the last block of a file of `bytes` bytes.
fn pad(bytes: u64, piece: &mut Vec<u8>) {
    let padding = bytes.wrapping_neg() % BLOCK_BYTES;
    piece.resize(piece.len() + padding as usize, 0);
}
