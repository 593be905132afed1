//! The plain head of a keystore file: what can be checked without a key, and how the key comes about.
//!
//! **Invariant:** costs are within bounds before Argon2 sees them.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{KEYSTORE_BYTES_MAX, KeystoreError, Protection, VERSION};

pub(super) const HEAD_BYTES: usize = 8 + 1 + 1 + 12 + 32;
pub(super) const CHECKSUM_BYTES: usize = 32;

pub(super) type Magic = &'static [u8; 8];
pub(super) const KEYS_MAGIC: Magic = b"PAKTKEYS";
pub(super) const ROOT_MAGIC: Magic = b"PAKTROOT";

/// The cost of one guess at the passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Params {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Argon2Params {
    /// The most memory that a keystore may ask for, in KiB: 1 GiB.
    pub const MEMORY_KIB_MAX: u32 = 1 << 20;
    /// The most passes over that memory.
    pub const PASSES_MAX: u32 = 16;
    /// The most lanes.
    pub const LANES_MAX: u32 = 16;

    /// Parameters within bounds: 8 KiB per lane at least.
    ///
    /// # Errors
    /// [`KeystoreError::BadParameters`] outside them.
    pub const fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KeystoreError> {
        let in_bounds = lanes >= 1
            && lanes <= Self::LANES_MAX
            && passes >= 1
            && passes <= Self::PASSES_MAX
            && memory_kib <= Self::MEMORY_KIB_MAX
            && memory_kib >= 8 * lanes;
        if in_bounds { Ok(Self { memory_kib, passes, lanes }) } else { Err(KeystoreError::BadParameters) }
    }

    /// Memory in KiB, passes and lanes.
    pub(super) fn to_array(self) -> [u32; 3] {
        [self.memory_kib, self.passes, self.lanes]
    }
}

impl Default for Argon2Params {
    /// 64 MiB and three passes, as the second choice of RFC 9106, but one lane: some tenths of a second.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

/// The plain head of the file.
pub(super) struct Head {
    pub(super) magic: Magic,
    pub(super) params: Option<Argon2Params>,
    pub(super) salt: [u8; 32],
}

impl Head {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let costs = self.params.map_or([0; 3], Argon2Params::to_array);
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(self.magic);
        head[8] = VERSION;
        head[9] = u8::from(self.params.is_some());
        for (field, cost) in head[10..22].chunks_exact_mut(4).zip(costs) {
            field.copy_from_slice(&cost.to_be_bytes());
        }
        head[22..].copy_from_slice(&self.salt);
        head
    }

    /// The master key that seals the body.
    pub(super) fn master(&self, protection: Protection<'_>) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        let Some(params) = self.params else {
            let open_secret = blake3::derive_key("pakt unprotected keystore v1", &self.salt);
            return Ok(Zeroizing::new(open_secret));
        };
        match protection {
            Protection::None => Err(KeystoreError::Locked),
            Protection::Passphrase(b"") => Err(KeystoreError::EmptyPassphrase),
            Protection::Passphrase(passphrase) => harden(passphrase, &self.salt, params),
        }
    }
}

/// One guess at a passphrase.
pub(super) fn harden(
    passphrase: &[u8],
    salt: &[u8; 32],
    params: Argon2Params,
) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(32))
        .map_err(|_| KeystoreError::BadParameters)?;
    let mut master = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, master.as_mut_slice())
        .map_err(|error| match error {
            argon2::Error::OutOfMemory => KeystoreError::OutOfMemory,
            _ => KeystoreError::BadParameters,
        })?;
    Ok(master)
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    blake3::derive_key("pakt keystore checksum v1", bytes)
}

/// Splits a file into head and sealed body, after checking all that needs no key.
pub(super) fn parse(magic: Magic, bytes: &[u8]) -> Result<(Head, &[u8]), KeystoreError> {
    use KeystoreError::Damaged;
    if bytes.len() > KEYSTORE_BYTES_MAX || !bytes.starts_with(magic) {
        return Err(Damaged);
    }
    match bytes.get(magic.len()) {
        Some(&VERSION) => {}
        Some(&found) if found > VERSION => {
            return Err(KeystoreError::Newer { found, supported: VERSION });
        }
        _ => return Err(Damaged),
    }
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Damaged)?;
    if *sum != checksum(content) {
        return Err(Damaged);
    }
    let (head, sealed) = content.split_first_chunk::<HEAD_BYTES>().ok_or(Damaged)?;
    Ok((parse_head(magic, head)?, sealed))
}

fn parse_head(magic: Magic, bytes: &[u8; HEAD_BYTES]) -> Result<Head, KeystoreError> {
    let mut costs = [0; 3];
    for (cost, field) in costs.iter_mut().zip(bytes[10..22].as_chunks::<4>().0) {
        *cost = u32::from_be_bytes(*field);
    }
    let params = match (bytes[9], costs) {
        (0, [0, 0, 0]) => None,
        (1, [memory_kib, passes, lanes]) => {
            Some(Argon2Params::new(memory_kib, passes, lanes).map_err(|_| KeystoreError::Damaged)?)
        }
        _ => return Err(KeystoreError::Damaged),
    };
    let salt = *bytes.last_chunk().ok_or(KeystoreError::Damaged)?;
    Ok(Head { magic, params, salt })
}

/// Whether the bytes of such a file need a passphrase.
pub(super) fn is_protected_as(magic: Magic, bytes: &[u8]) -> Result<bool, KeystoreError> {
    parse(magic, bytes).map(|(head, _)| head.params.is_some())
}
