//! The bytes of a backup file: a head with the keystore, then sealed frames whose order, number and end are bound.
//!
//! ```text
//! file     = head || frame 0 || frame 1 || ... || last frame || checksum
//! head     = "PAKTBKUP" || version (1) || length of the keystore (u32be) || keystore as it lies on disk || id (32)
//! frame    = kind (1: 0 more follow, 1 the last) || length of the rest (u32be) || salt (32), sealed bytes, tag (16)
//! checksum = BLAKE3 of all before (32)
//! ```
//!
//! The stream key is derived from the store key and the hash of the head; a frame is sealed for its number and kind.
//! The checksum shows damage without any key; it protects nothing by itself.
//!
//! **Invariant:** a frame opens only at its place in its own backup: cut, swapped, repeated, appended or foreign frames
//! are named errors.
//! **Invariant:** no (key, nonce) pair meets two plaintexts, not even when clones of one machine back up at once: each
//! frame's key depends on its plaintext (`crate::hedged`).

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::hedged;
use crate::keystore::KEYSTORE_BYTES_MAX;
use crate::store_seal::StoreKey;

/// Plain bytes of one frame, at most.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes in front of the keystore.
pub const PREFIX_BYTES: usize = 13;
/// Bytes of the id behind the keystore.
pub const ID_BYTES: usize = 32;
/// Bytes in front of each frame.
pub const FRAME_HEAD_BYTES: usize = 5;
/// Bytes of the checksum at the end.
pub const CHECKSUM_BYTES: usize = 32;

const MAGIC: &[u8; 8] = b"PAKTBKUP";
const VERSION: u8 = 1;

/// Why bytes are not a whole backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackupFormatError {
    /// It does not begin as one.
    #[error("this is no backup of Pakt")]
    NotABackup,
    /// A newer program wrote it.
    #[error("the backup has format version {found}, this program knows {supported}: upgrade it")]
    Newer {
        /// Version byte of the file.
        found: u8,
        /// Version that this program knows.
        supported: u8,
    },
    /// The head has an impossible length.
    #[error("the head of the backup is damaged")]
    Head,
    /// A frame was changed, moved, or belongs to another backup.
    #[error("frame {0} of the backup was changed, moved, or belongs to another backup")]
    Frame(u64),
    /// The file ends before the last frame does.
    #[error("the backup was cut short at frame {0}")]
    CutShort(u64),
    /// The checksum at the end is not that of the file.
    #[error("the backup's checksum is wrong: it was changed or cut")]
    Checksum,
    /// Something follows the end.
    #[error("something was appended to the backup")]
    Appended,
}

/// Whether frames follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is another one.
    More,
    /// This is the last.
    Last,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::More => 0,
            Kind::Last => 1,
        }
    }
}

/// The bytes in front of the frames.
///
/// # Errors
/// [`BackupFormatError::Head`] for a keystore that is none by its length.
pub fn head(keystore: &[u8], id: &[u8; ID_BYTES]) -> Result<Vec<u8>, BackupFormatError> {
    let length = u32::try_from(keystore.len()).map_err(|_| BackupFormatError::Head)?;
    if keystore.len() > KEYSTORE_BYTES_MAX {
        return Err(BackupFormatError::Head);
    }
    let mut head = MAGIC.to_vec();
    head.push(VERSION);
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(keystore);
    head.extend_from_slice(id);
    Ok(head)
}

/// The length of the keystore that follows a backup's first [`PREFIX_BYTES`] bytes.
///
/// # Errors
/// [`BackupFormatError::NotABackup`], [`BackupFormatError::Newer`] or [`BackupFormatError::Head`].
pub fn keystore_bytes(prefix: &[u8; PREFIX_BYTES]) -> Result<usize, BackupFormatError> {
    if &prefix[..8] != MAGIC {
        return Err(BackupFormatError::NotABackup);
    }
    match prefix[8] {
        VERSION => {}
        0 => return Err(BackupFormatError::Head),
        found => return Err(BackupFormatError::Newer { found, supported: VERSION }),
    }
    let length = u32::from_be_bytes([prefix[9], prefix[10], prefix[11], prefix[12]]) as usize;
    if length <= KEYSTORE_BYTES_MAX { Ok(length) } else { Err(BackupFormatError::Head) }
}

/// Kind and sealed length of the frame with this number that begins so.
///
/// # Errors
/// [`BackupFormatError::Frame`].
pub fn frame_head(number: u64, bytes: &[u8; FRAME_HEAD_BYTES]) -> Result<(Kind, usize), BackupFormatError> {
    let kind = match bytes[0] {
        0 => Kind::More,
        1 => Kind::Last,
        _ => return Err(BackupFormatError::Frame(number)),
    };
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    let fits = (hedged::OVERHEAD..=FRAME_BYTES_MAX + hedged::OVERHEAD).contains(&length);
    if fits { Ok((kind, length)) } else { Err(BackupFormatError::Frame(number)) }
}

/// The key of one backup's frames.
pub struct StreamKey(Zeroizing<[u8; 32]>);

impl StreamKey {
    /// The key of the backup that begins with `head`.
    pub fn new(store: &StoreKey, head: &[u8]) -> StreamKey {
        let mut hasher = blake3::Hasher::new_derive_key("pakt backup stream v1");
        hasher.update(store.as_bytes()).update(blake3::hash(head).as_bytes());
        StreamKey(Zeroizing::new(*hasher.finalize().as_bytes()))
    }

    /// Seals the frame with this number, its head included; at most [`FRAME_BYTES_MAX`] plain bytes.
    pub fn seal(&self, number: u64, kind: Kind, plain: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
        debug_assert!(plain.len() <= FRAME_BYTES_MAX);
        let sealed = hedged::seal(&self.0, &context(&number.to_be_bytes(), &[kind.byte()]), plain, rng);
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + sealed.len());
        frame.push(kind.byte());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&sealed);
        frame
    }

    /// Opens the sealed bytes of the frame with this number.
    ///
    /// # Errors
    /// [`BackupFormatError::Frame`].
    pub fn open(&self, number: u64, kind: Kind, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, BackupFormatError> {
        let opened = hedged::open(&self.0, &context(&number.to_be_bytes(), &[kind.byte()]), sealed);
        opened.ok_or(BackupFormatError::Frame(number))
    }
}

fn context<'a>(number: &'a [u8], kind: &'a [u8]) -> [&'a [u8]; 3] {
    [b"backup frame", number, kind]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    fn key(id: u8) -> StreamKey {
        let head = head(b"keystore", &[id; 32]).unwrap();
        StreamKey::new(&StoreKey::from_bytes([3; 32]), &head)
    }

    #[test]
    fn a_frame_opens_at_its_place_only() {
        let frame = key(1).seal(7, Kind::More, b"plain", &mut TestRng::new(1));
        let sealed = &frame[FRAME_HEAD_BYTES..];
        let check = |key: StreamKey, number: u64, kind: Kind, opens: bool| {
            let opened = key.open(number, kind, sealed);
            assert_eq!(opened.is_ok(), opens, "{number} {kind:?}");
        };
        check(key(1), 7, Kind::More, true);
        check(key(1), 8, Kind::More, false);
        check(key(1), 7, Kind::Last, false);
        check(key(2), 7, Kind::More, false);
        check(StreamKey::new(&StoreKey::from_bytes([4; 32]), b"x"), 7, Kind::More, false);
        let first: &[u8; FRAME_HEAD_BYTES] = frame.first_chunk().unwrap();
        assert_eq!(frame_head(7, first), Ok((Kind::More, sealed.len())));
    }

    #[test]
    fn what_a_head_can_ask_for_is_bounded() {
        let good = head(b"keystore", &[1; 32]).unwrap();
        let prefix: &[u8; PREFIX_BYTES] = good.first_chunk().unwrap();
        assert_eq!(keystore_bytes(prefix), Ok(8));
        let check = |at: usize, byte: u8, expected: BackupFormatError| {
            let mut bent = *prefix;
            bent[at] = byte;
            assert_eq!(keystore_bytes(&bent), Err(expected));
        };
        check(0, b'p', BackupFormatError::NotABackup);
        check(8, 0, BackupFormatError::Head);
        check(8, 2, BackupFormatError::Newer { found: 2, supported: 1 });
        check(9, 1, BackupFormatError::Head);
        assert!(head(&vec![0; KEYSTORE_BYTES_MAX + 1], &[0; 32]).is_err());
        for bytes in [[2, 0, 0, 0, 60], [0, 0, 0, 0, 47], [1, 0, 0x20, 0, 0], [0xff; 5]] {
            assert_eq!(frame_head(3, &bytes), Err(BackupFormatError::Frame(3)));
        }
    }

    #[test]
    fn p12_clones_that_back_up_at_once_share_no_key_and_nonce() {
        let seal = |plain: &[u8]| key(1).seal(0, Kind::More, plain, &mut TestRng::new(5));
        let salt = |frame: &[u8]| frame[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + 32].to_vec();
        assert_ne!(salt(&seal(b"one")), salt(&seal(b"two")));
    }
}
