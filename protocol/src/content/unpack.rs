//! From decoded chunks, in order, to what must be done on disk, file by file.
//!
//! The unpacker does not write: it says what to create, append and finish, in tree order, and the
//! caller does it below a directory of its choice. Each file is compared with its BLAKE3 before
//! [`Step::Finish`] is said.
//!
//! **Invariant:** a file is finished only with exactly the bytes that its sender hashed; files are
//! never interleaved.

use std::fmt;

use super::manifest::{EntryKind, Tree, TreeEntry};

/// One thing to do on disk; `entry` is a row of the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Create a directory.
    Dir {
        /// Its row.
        entry: usize,
    },
    /// Create an empty file; what follows is for it.
    Create {
        /// Its row.
        entry: usize,
    },
    /// Append to the file created last.
    Append {
        /// Its row.
        entry: usize,
        /// What to append.
        bytes: &'a [u8],
    },
    /// The file is whole and verified.
    Finish {
        /// Its row.
        entry: usize,
    },
}

impl fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Dir { entry } => write!(f, "Dir({entry})"),
            Step::Create { entry } => write!(f, "Create({entry})"),
            Step::Append { entry, bytes } => write!(f, "Append({entry}, {} bytes)", bytes.len()),
            Step::Finish { entry } => write!(f, "Finish({entry})"),
        }
    }
}

/// Why unpacking stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The bytes are not those that the sender hashed: the sender's fault, every object was
    /// verified on its own.
    #[error("a file is not what its sender described")]
    Changed {
        /// Its row.
        entry: usize,
    },
    /// There is content beyond the last file.
    #[error("there is more content than the files hold")]
    TooMuch,
    /// The content ended early.
    #[error("there is less content than the files hold")]
    TooLittle,
}

/// Walks one tree along its content.
///
/// For each chunk: call [`Unpacker::step`] with the same slice until it returns None. It is then
/// empty, or all is done. Before the first chunk, and where there is none at all, an empty slice
/// gives the steps that need no content.
#[derive(Debug, Clone, Default)]
pub struct Unpacker {
    next: usize,
    open: Option<OpenFile>,
}

#[derive(Debug, Clone)]
struct OpenFile {
    entry: usize,
    left: u64,
    expected: [u8; 32],
    hasher: blake3::Hasher,
}

impl Unpacker {
    /// Before the first row.
    pub fn new() -> Unpacker {
        Unpacker::default()
    }

    /// The next thing to do; takes what it needs off the front of `content`.
    ///
    /// # Errors
    /// [`UnpackError::Changed`] or [`UnpackError::TooMuch`]; the message must then be treated as
    /// damaged.
    pub fn step<'a>(&mut self, tree: &Tree, content: &mut &'a [u8]) -> Result<Option<Step<'a>>, UnpackError> {
        match self.open.as_mut() {
            Some(open) if open.left == 0 => self.finish_file().map(Some),
            Some(_) if content.is_empty() => Ok(None),
            Some(open) => Ok(Some(open.take(content))),
            None => match tree.entries().get(self.next) {
                Some(entry) => Ok(Some(self.begin(entry))),
                None if content.is_empty() => Ok(None),
                None => Err(UnpackError::TooMuch),
            },
        }
    }

    /// Checks that nothing is missing, once all chunks have been given.
    ///
    /// # Errors
    /// [`UnpackError::TooLittle`].
    pub fn finish(&self, tree: &Tree) -> Result<(), UnpackError> {
        let whole = self.open.is_none() && self.next == tree.entries().len();
        if whole { Ok(()) } else { Err(UnpackError::TooLittle) }
    }

    fn begin(&mut self, row: &TreeEntry) -> Step<'static> {
        let entry = self.next;
        self.next += 1;
        match row.kind {
            EntryKind::Dir => Step::Dir { entry },
            EntryKind::File { bytes, blake3 } => {
                let hasher = blake3::Hasher::new();
                self.open = Some(OpenFile { entry, left: bytes, expected: blake3, hasher });
                Step::Create { entry }
            }
        }
    }

    fn finish_file(&mut self) -> Result<Step<'static>, UnpackError> {
        let open = self.open.take().ok_or(UnpackError::TooLittle)?;
        let OpenFile { entry, expected, hasher, .. } = open;
        if *hasher.finalize().as_bytes() == expected {
            Ok(Step::Finish { entry })
        } else {
            Err(UnpackError::Changed { entry })
        }
    }
}

impl OpenFile {
    /// Appends what the file still needs of `content`.
    fn take<'a>(&mut self, content: &mut &'a [u8]) -> Step<'a> {
        let bytes = self.left.min(content.len() as u64) as usize;
        let (now, later) = content.split_at(bytes);
        *content = later;
        self.left -= bytes as u64;
        self.hasher.update(now);
        Step::Append { entry: self.entry, bytes: now }
    }
}
