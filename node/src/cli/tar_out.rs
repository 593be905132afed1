//! The tar stream that `send` makes of a walked tree.
//!
//! Headers are written by hand and file content is read straight into the pieces that go to the socket: no byte is
//! copied on the way, so that the command line never is the slow part. Names above 100 bytes go into GNU long-name
//! records, the one form that carries every name unchanged.
//!
//! **Invariant:** a file that is not exactly as the walk saw it, before and after reading, ends the stream with an error and its path.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use tar::{EntryType, Header};
use tokio::sync::mpsc;

use super::walk::{Entry, Kind, Seen, Tree, changed, unsendable};
use crate::api::types::{ErrorCode, ServiceError};

/// Bytes in one piece.
const PIECE_BYTES: usize = 512 << 10;
/// Pieces that may wait for the socket: bounds the memory to a few megabytes.
pub const PIECES_MAX: usize = 4;
const BLOCK: usize = 512;

/// Where pieces go; an error ends the request on the other side.
pub type PieceSender = mpsc::Sender<io::Result<Bytes>>;

/// Why a stream ended early.
#[derive(Debug)]
pub enum StreamEnd {
    /// A file changed; another try may succeed.
    Changed(ServiceError),
    /// Something cannot be read.
    Failed(ServiceError),
    /// The receiver stopped listening; its answer says why.
    Stopped,
}

impl StreamEnd {
    /// The error for the person who sends, if this side is the cause.
    pub fn into_error(self) -> Option<ServiceError> {
        match self {
            Self::Changed(error) | Self::Failed(error) => Some(error),
            Self::Stopped => None,
        }
    }
}

/// Writes `tree` into `pieces`, blocking; checks at the end with `verify` that nothing has changed meanwhile.
///
/// # Errors
/// The reason of an early end; the stream then carries an error as well.
pub fn write_tree(
    tree: &Tree,
    pieces: PieceSender,
    verify: impl FnOnce() -> Result<(), StreamEnd>,
) -> Result<(), StreamEnd> {
    let mut writer = Writer { pieces, buffer: Vec::with_capacity(PIECE_BYTES) };
    let mut write = || {
        for entry in &tree.entries {
            writer.entry(entry)?;
        }
        Ok(())
    };
    let result = write().and_then(|()| verify()).and_then(|()| writer.finish());
    if matches!(result, Err(StreamEnd::Changed(_) | StreamEnd::Failed(_))) {
        let _ = writer.pieces.blocking_send(Err(io::Error::other("the sender gave up")));
    }
    result
}

struct Writer {
    pieces: PieceSender,
    buffer: Vec<u8>,
}

impl Writer {
    fn entry(&mut self, entry: &Entry) -> Result<(), StreamEnd> {
        match entry.kind {
            Kind::Dir => self.header(&format!("{}/", entry.name), EntryType::Directory, 0),
            Kind::File(seen) => {
                self.header(&entry.name, EntryType::Regular, seen.bytes)?;
                self.content(&entry.path, seen)?;
                self.pad(seen.bytes)
            }
        }
    }

    fn header(&mut self, name: &str, kind: EntryType, bytes: u64) -> Result<(), StreamEnd> {
        let mut header = Header::new_gnu();
        let field = &mut header.as_old_mut().name;
        let fits = name.len() <= field.len();
        if !fits {
            self.long_name(name)?;
        }
        let shown = name.as_bytes().iter().take(header.as_old().name.len());
        for (to, from) in header.as_old_mut().name.iter_mut().zip(shown) {
            *to = *from;
        }
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_entry_type(kind);
        header.set_size(bytes);
        header.set_mtime(0);
        header.set_cksum();
        self.put(header.as_bytes())
    }

    /// The GNU record that gives the next header a name of any length.
    fn long_name(&mut self, name: &str) -> Result<(), StreamEnd> {
        let mut header = Header::new_gnu();
        let marker = b"././@LongLink";
        header.as_old_mut().name[..marker.len()].copy_from_slice(marker);
        header.set_mode(0o644);
        header.set_entry_type(EntryType::GNULongName);
        let bytes = name.len() as u64 + 1;
        header.set_size(bytes);
        header.set_mtime(0);
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad(bytes)
    }

    fn content(&mut self, path: &Path, seen: Seen) -> Result<(), StreamEnd> {
        let file = open(path)?;
        let same = |file: &File| file.metadata().is_ok_and(|meta| Seen::of(&meta) == seen);
        if !same(&file) {
            return Err(StreamEnd::Changed(changed(path)));
        }
        let mut left = seen.bytes;
        while left > 0 {
            let read = self.read_some(&file, left).map_err(|e| failed(path, &e))?;
            if read == 0 {
                return Err(StreamEnd::Changed(changed(path)));
            }
            left -= read;
            self.send_full()?;
        }
        if same(&file) { Ok(()) } else { Err(StreamEnd::Changed(changed(path))) }
    }

    /// Reads into what is free of the present piece, at most `left` bytes.
    fn read_some(&mut self, file: &File, left: u64) -> io::Result<u64> {
        let before = self.buffer.len();
        let room = self.buffer.capacity() - before;
        rustix::io::retry_on_intr(|| rustix::io::read(file, rustix::buffer::spare_capacity(&mut self.buffer)))?;
        let read = (self.buffer.len() - before).min(room);
        // More than the walk saw: the file has grown, which the check after reading reports; the surplus is not sent.
        let wanted = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.buffer.truncate(before + wanted);
        Ok(wanted as u64)
    }

    fn pad(&mut self, bytes: u64) -> Result<(), StreamEnd> {
        let over = (bytes % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.put(&[0; BLOCK][over..]) }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StreamEnd> {
        if self.buffer.len() + bytes.len() > self.buffer.capacity() {
            self.send()?;
        }
        self.buffer.extend_from_slice(bytes);
        self.send_full()
    }

    fn send_full(&mut self) -> Result<(), StreamEnd> {
        if self.buffer.len() == self.buffer.capacity() { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), StreamEnd> {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        if full.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(Ok(Bytes::from(full))).map_err(|_| StreamEnd::Stopped)
    }

    fn finish(&mut self) -> Result<(), StreamEnd> {
        self.put(&[0; 2 * BLOCK])?;
        self.send()
    }
}

fn open(path: &Path) -> Result<File, StreamEnd> {
    use rustix::fs::{Mode, OFlags};
    // Not blocking: what was a file at the walk may be a pipe by now, and opening that would wait for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(File::from(file)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => Err(StreamEnd::Changed(changed(path))),
        Err(error) => Err(failed(path, &error.into())),
    }
}

fn failed(path: &Path, error: &io::Error) -> StreamEnd {
    let mut failure = unsendable(path, &format!("cannot be read: {error}"), "check its rights and the disk");
    failure.code = ErrorCode::Failed;
    StreamEnd::Failed(failure)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;

    use super::*;

    fn stream(tree: &Tree) -> (Vec<u8>, Result<(), StreamEnd>) {
        let (sender, mut receiver) = mpsc::channel(PIECES_MAX);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_tree(tree, sender, || Ok(())));
            let mut bytes = Vec::new();
            while let Some(piece) = receiver.blocking_recv() {
                if let Ok(piece) = piece {
                    bytes.extend_from_slice(&piece);
                }
            }
            (bytes, writer.join().unwrap())
        })
    }

    #[test]
    fn other_readers_see_what_was_walked() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir_all(top.join("empty")).unwrap();
        let long = format!("{}/{}", "d".repeat(120), "ø".repeat(100));
        fs::create_dir(top.join("d".repeat(120))).unwrap();
        let files = [
            ("zero", vec![]),
            ("block", vec![1; 512]),
            ("odd", vec![2; 513]),
            ("large", vec![3; 3 * PIECE_BYTES + 7]),
            ("line\nbreak", vec![4; 3]),
            (long.as_str(), vec![5; 9]),
        ];
        for (name, content) in &files {
            fs::write(top.join(name), content).unwrap();
        }
        let tree = Tree::scan(&[top]).unwrap();
        let (bytes, end) = stream(&tree);
        end.unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some((_, expected)) = files.iter().find(|(file, _)| name == format!("top/{file}")) {
                assert_eq!(&content, expected, "{name}");
            }
            names.push(name.trim_end_matches('/').to_owned());
        }
        let walked: Vec<_> = tree.entries.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!(names, walked);
    }

    #[test]
    fn a_change_ends_the_stream_and_is_named() {
        let check = |change: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, "before").unwrap();
            let tree = Tree::scan(std::slice::from_ref(&path)).unwrap();
            change(&path);
            let (_, end) = stream(&tree);
            let Err(StreamEnd::Changed(error)) = end else { panic!("{end:?}") };
            assert!(error.message.contains(&path.display().to_string()), "{}", error.message);
        };
        check(&|path| fs::write(path, "longer than before").unwrap());
        check(&|path| fs::write(path, "").unwrap());
        check(&|path| fs::remove_file(path).unwrap());
        check(&|path| {
            fs::remove_file(path).unwrap();
            fs::write(path, "before").unwrap();
        });
        check(&|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
        });
    }

    #[test]
    fn a_receiver_that_left_stops_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![0; 8 * PIECE_BYTES]).unwrap();
        let tree = Tree::scan(&[dir.path().join("a")]).unwrap();
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        assert!(matches!(write_tree(&tree, sender, || Ok(())), Err(StreamEnd::Stopped)));
    }
}
