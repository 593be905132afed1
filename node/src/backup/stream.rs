//! Entries as a stream of sealed frames, written piece by piece and read from any file.
//!
//! Entries follow each other, each behind its length (u32, big-endian); frames cut that stream wherever they are full.

use std::io::{ErrorKind, Read};

use pakt_keys::backup::{
    self, BackupFormatError, CHECKSUM_BYTES, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, ID_BYTES, Kind, PREFIX_BYTES, StreamKey,
};
use pakt_keys::store_seal::StoreKey;
use zeroize::{Zeroize, Zeroizing};

use super::BackupError;
use super::entry::{ENTRY_BYTES_MAX, Entry};
use crate::ambient;

/// Takes the pieces of a backup in order.
pub(super) type Out<'a> = &'a mut dyn FnMut(Vec<u8>) -> Result<(), BackupError>;

/// Writes a backup.
pub(super) struct Writer<'a> {
    out: Out<'a>,
    key: StreamKey,
    number: u64,
    plain: Zeroizing<Vec<u8>>,
    checksum: blake3::Hasher,
    bytes: u64,
}

impl<'a> Writer<'a> {
    /// Begins a backup with this id and writes its head.
    pub(super) fn begin(
        store_key: &StoreKey,
        keystore: &[u8],
        id: &[u8; ID_BYTES],
        out: Out<'a>,
    ) -> Result<Writer<'a>, BackupError> {
        let head = backup::head(keystore, id)?;
        let mut writer = Writer {
            out,
            key: StreamKey::new(store_key, &head),
            number: 0,
            plain: Zeroizing::new(Vec::with_capacity(FRAME_BYTES_MAX)),
            checksum: blake3::Hasher::new(),
            bytes: 0,
        };
        writer.put(head)?;
        Ok(writer)
    }

    fn put(&mut self, piece: Vec<u8>) -> Result<(), BackupError> {
        self.checksum.update(&piece);
        self.bytes += piece.len() as u64;
        (self.out)(piece)
    }

    /// Adds an entry.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<(), BackupError> {
        let bytes = entry.to_bytes();
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= ENTRY_BYTES_MAX);
        let length = length.ok_or(BackupError::Content("an entry is too long"))?;
        self.plain_bytes(&length.to_be_bytes())?;
        self.plain_bytes(&bytes)
    }

    fn plain_bytes(&mut self, mut bytes: &[u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            if self.plain.len() == FRAME_BYTES_MAX {
                self.frame(Kind::More)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(FRAME_BYTES_MAX - self.plain.len()));
            self.plain.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn frame(&mut self, kind: Kind) -> Result<(), BackupError> {
        let frame = self.key.seal(self.number, kind, &self.plain, &mut ambient::rng());
        self.number += 1;
        self.plain.as_mut_slice().zeroize();
        self.plain.clear();
        self.put(frame)
    }

    /// Writes the last frame and the checksum; gives the length of the whole in bytes.
    pub(super) fn finish(mut self) -> Result<u64, BackupError> {
        self.frame(Kind::Last)?;
        let checksum = self.checksum.finalize();
        (self.out)(checksum.as_bytes().to_vec())?;
        Ok(self.bytes + CHECKSUM_BYTES as u64)
    }
}

/// Reads a backup from its first byte to its last.
pub(super) struct Reader<R> {
    input: R,
    head: Vec<u8>,
    keystore: std::ops::Range<usize>,
    key: Option<StreamKey>,
    number: u64,
    ended: bool,
    plain: Zeroizing<Vec<u8>>,
    taken: usize,
    checksum: blake3::Hasher,
    bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    pub(super) fn open(mut input: R) -> Result<Reader<R>, BackupError> {
        let mut prefix = [0; PREFIX_BYTES];
        fill(&mut input, &mut prefix, BackupFormatError::NotABackup)?;
        let length = backup::keystore_bytes(&prefix)?;
        let mut head = prefix.to_vec();
        head.resize(PREFIX_BYTES + length + ID_BYTES, 0);
        fill(&mut input, &mut head[PREFIX_BYTES..], BackupFormatError::CutShort(0))?;
        let mut checksum = blake3::Hasher::new();
        checksum.update(&head);
        let bytes = head.len() as u64;
        let keystore = PREFIX_BYTES..PREFIX_BYTES + length;
        let plain = Zeroizing::new(Vec::new());
        Ok(Reader { input, head, keystore, key: None, number: 0, ended: false, plain, taken: 0, checksum, bytes })
    }

    /// The keystore's bytes as they lay on disk.
    pub(super) fn keystore(&self) -> &[u8] {
        &self.head[self.keystore.clone()]
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Names the key that opens the frames.
    pub(super) fn unlock(&mut self, store_key: &StoreKey) {
        self.key = Some(StreamKey::new(store_key, &self.head));
    }

    /// Reads all frames and the checksum without opening any; gives the number of frames.
    pub(super) fn skip_to_end(&mut self) -> Result<u64, BackupError> {
        while !self.ended {
            self.sealed_frame()?;
        }
        Ok(self.number)
    }

    /// The next entry; none after the last, and then the file was read to its end and is whole.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, BackupError> {
        let mut length = [0; 4];
        if self.is_over()? {
            return Ok(None);
        }
        self.take(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > ENTRY_BYTES_MAX {
            return Err(BackupError::Content("an entry is too long"));
        }
        let mut bytes = Zeroizing::new(vec![0; length]);
        self.take(&mut bytes)?;
        Entry::from_bytes(&bytes).map(Some)
    }

    fn is_over(&mut self) -> Result<bool, BackupError> {
        while self.taken == self.plain.len() {
            if self.ended {
                return Ok(true);
            }
            self.frame()?;
        }
        Ok(false)
    }

    fn take(&mut self, mut out: &mut [u8]) -> Result<(), BackupError> {
        while !out.is_empty() {
            if self.is_over()? {
                return Err(BackupError::Content("an entry is cut"));
            }
            let count = out.len().min(self.plain.len() - self.taken);
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&self.plain[self.taken..self.taken + count]);
            self.taken += count;
            out = later;
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), BackupError> {
        let (kind, sealed) = self.sealed_frame()?;
        let key = self.key.as_ref().ok_or(BackupError::Content("it was not unlocked"))?;
        self.plain = key.open(self.number - 1, kind, &sealed)?;
        self.taken = 0;
        Ok(())
    }

    fn sealed_frame(&mut self) -> Result<(Kind, Vec<u8>), BackupError> {
        let cut = BackupFormatError::CutShort(self.number);
        let mut head = [0; FRAME_HEAD_BYTES];
        fill(&mut self.input, &mut head, cut)?;
        let (kind, length) = backup::frame_head(self.number, &head)?;
        let mut sealed = vec![0; length];
        fill(&mut self.input, &mut sealed, cut)?;
        self.checksum.update(&head).update(&sealed);
        self.bytes += (head.len() + sealed.len()) as u64;
        self.number += 1;
        if kind == Kind::Last {
            self.end(cut)?;
        }
        Ok((kind, sealed))
    }

    fn end(&mut self, cut: BackupFormatError) -> Result<(), BackupError> {
        let mut checksum = [0; CHECKSUM_BYTES];
        fill(&mut self.input, &mut checksum, cut)?;
        if self.checksum.finalize() != checksum {
            return Err(BackupFormatError::Checksum.into());
        }
        self.bytes += CHECKSUM_BYTES as u64;
        match fill(&mut self.input, &mut [0], cut) {
            Ok(()) => Err(BackupFormatError::Appended.into()),
            Err(BackupError::Format(_)) => {
                self.ended = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Fills `out`; a file that ends before is `cut`.
fn fill(input: &mut impl Read, out: &mut [u8], cut: BackupFormatError) -> Result<(), BackupError> {
    input.read_exact(out).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => cut.into(),
        _ => error.into(),
    })
}
