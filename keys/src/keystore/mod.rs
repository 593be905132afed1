//! The keys of a node at rest, as bytes: under a passphrase (Argon2id, RFC 9106) or plainly marked as unprotected.
//!
//! ```text
//! "PAKTKEYS" || version (1) || protection (1) || memory KiB, passes, lanes (u32be each) || salt (32)
//!            || salt (32), sealed keys, tag (16) || BLAKE3 checksum of all before (32)
//! ```
//!
//! The checksum tells damage from a wrong passphrase before any work is done; it protects nothing by itself.
//!
//! **Invariant:** any changed byte is refused: the head is bound into the seal.
//! **Invariant:** what a file can ask of Argon2 is bounded, and bytes of any kind never cause a panic.

mod head;
mod held;
mod recovery;
mod root_file;

use std::fmt;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec;
use crate::hedged;
use crate::sealing::ContactKey;
use crate::signing::{StatementKey, TransportKey};
use crate::store_seal::StoreKey;
use head::{Head, KEYS_MAGIC, Magic, checksum, is_protected_as, parse};
use held::HeldBody;

pub use head::Argon2Params;
pub use held::{APPROVALS, APPROVER_NAME_BYTES_MAX, APPROVERS_MAX, Approval, ApprovalError, Approver, HeldRoot};
pub use recovery::Recovery;
pub use root_file::{is_root_protected, lock_root, unlock_root};

/// The longest keystore that is read, in bytes; certificate chains are far below it.
pub const KEYSTORE_BYTES_MAX: usize = 1 << 20;

const VERSION: u8 = 1;

/// The private keys of one node.
pub struct Keystore {
    /// The entity's root, unless it is kept elsewhere.
    pub root: Option<HeldRoot>,
    /// Proves the node in TLS.
    pub transport: TransportKey,
    /// Signs what the node states.
    pub statement: StatementKey,
    /// Opens door grants.
    pub contact: ContactKey,
    /// Seals what lies on disk.
    pub store: StoreKey,
    /// The encoded certificate chain of these keys, opaque here.
    pub chain: Vec<u8>,
}

impl Keystore {
    /// A copy, as secret as the original.
    pub fn duplicate(&self) -> Keystore {
        Keystore {
            root: self.root.as_ref().map(HeldRoot::duplicate),
            transport: TransportKey::from_seed(*self.transport.seed()),
            statement: StatementKey::from_seed(*self.statement.seed()),
            contact: ContactKey::from_bytes(&self.contact.to_bytes()),
            store: StoreKey::from_bytes(*self.store.as_bytes()),
            chain: self.chain.clone(),
        }
    }
}

impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keystore(root: {}, ..)", self.root.is_some())
    }
}

/// What keeps a stolen file from being read.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// Nothing does: whoever holds the file holds the keys.
    None,
    /// A passphrase of at least one byte.
    Passphrase(&'a [u8]),
}

impl fmt::Debug for Protection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Passphrase(_) => "Passphrase(..)",
        })
    }
}

/// Why a keystore cannot be locked or unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// The keystore needs a passphrase and none was given.
    #[error("the keystore is locked: give its passphrase")]
    Locked,
    /// The passphrase does not open the keystore.
    #[error("the passphrase does not open the keystore")]
    WrongPassphrase,
    /// The bytes were changed, or are no keystore.
    #[error("the keystore is damaged: restore it from a backup")]
    Damaged,
    /// A newer program wrote the keystore.
    #[error("the keystore has format version {found}, this program knows {supported}: upgrade it")]
    Newer {
        /// Version byte of the file.
        found: u8,
        /// Version that this program knows.
        supported: u8,
    },
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty: give one, or leave the keystore unprotected knowingly")]
    EmptyPassphrase,
    /// The parameters are outside what any keystore may ask for.
    #[error("the Argon2id parameters are out of range")]
    BadParameters,
    /// The certificate chain does not fit into a keystore.
    #[error("the certificate chain is too long for a keystore")]
    ChainTooLong,
    /// This machine has not the memory that the keystore's parameters ask for.
    #[error("there is not enough memory to check the passphrase")]
    OutOfMemory,
}

/// What is sealed; private, so that keys are serialisable nowhere else.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Body {
    root: Option<HeldBody>,
    transport: [u8; 32],
    statement: [u8; 32],
    contact: [u8; 32],
    store: [u8; 32],
    #[serde(with = "codec::bytes")]
    chain: Vec<u8>,
}

impl Body {
    fn of(keys: &Keystore) -> Self {
        Self {
            root: keys.root.as_ref().map(HeldBody::of),
            transport: *keys.transport.seed(),
            statement: *keys.statement.seed(),
            contact: *keys.contact.to_bytes(),
            store: *keys.store.as_bytes(),
            chain: keys.chain.clone(),
        }
    }

    fn keystore(&self) -> Option<Keystore> {
        let root = match &self.root {
            Some(body) => Some(body.held()?),
            None => None,
        };
        Some(Keystore {
            root,
            transport: TransportKey::from_seed(self.transport),
            statement: StatementKey::from_seed(self.statement),
            contact: ContactKey::from_bytes(&self.contact),
            store: StoreKey::from_bytes(self.store),
            chain: self.chain.clone(),
        })
    }
}

/// Seals the keys into the bytes of a keystore file; `params` matter only with a passphrase.
///
/// # Errors
/// [`KeystoreError::EmptyPassphrase`], [`KeystoreError::ChainTooLong`] or [`KeystoreError::OutOfMemory`].
pub fn lock(
    keys: &Keystore,
    protection: Protection<'_>,
    params: Argon2Params,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Vec<u8>, KeystoreError> {
    let body = codec::encode_secret(VERSION, &Body::of(keys));
    seal_as(KEYS_MAGIC, &body, protection, params, rng).map(|(bytes, _)| bytes)
}

/// Opens the bytes of a keystore file; an unprotected one opens with any `protection`.
///
/// # Errors
/// [`KeystoreError`] says whether the passphrase or the file is to blame.
pub fn unlock(bytes: &[u8], protection: Protection<'_>) -> Result<Keystore, KeystoreError> {
    unlock_for_change(bytes, protection).map(|(keys, _)| keys)
}

/// Opens the bytes of a keystore file and gives what writes a changed keystore under the same passphrase.
///
/// # Errors
/// Those of [`unlock`].
pub fn unlock_for_change(bytes: &[u8], protection: Protection<'_>) -> Result<(Keystore, Relock), KeystoreError> {
    let (body, relock) = open_as(KEYS_MAGIC, bytes, protection)?;
    let body: Body = codec::decode(VERSION, &body, KEYSTORE_BYTES_MAX).map_err(|_| KeystoreError::Damaged)?;
    Ok((body.keystore().ok_or(KeystoreError::Damaged)?, relock))
}

/// Seals keystores under a passphrase that was checked before; as secret as the keys.
pub struct Relock {
    head: Head,
    master: Zeroizing<[u8; 32]>,
}

impl Relock {
    /// The bytes of a keystore file with these keys.
    ///
    /// # Errors
    /// [`KeystoreError::ChainTooLong`].
    pub fn lock(&self, keys: &Keystore, rng: &mut (impl CryptoRng + ?Sized)) -> Result<Vec<u8>, KeystoreError> {
        self.seal(&codec::encode_secret(VERSION, &Body::of(keys)), rng)
    }

    fn seal(&self, body: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Result<Vec<u8>, KeystoreError> {
        let head = self.head.encode();
        let mut bytes = head.to_vec();
        bytes.extend(hedged::seal(&self.master, &[b"keystore", &head], body, rng));
        bytes.extend(checksum(&bytes));
        if bytes.len() > KEYSTORE_BYTES_MAX { Err(KeystoreError::ChainTooLong) } else { Ok(bytes) }
    }
}

impl fmt::Debug for Relock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relock(..)")
    }
}

/// Seals a body into a file that begins with `magic`.
fn seal_as(
    magic: Magic,
    body: &[u8],
    protection: Protection<'_>,
    params: Argon2Params,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<(Vec<u8>, Relock), KeystoreError> {
    let params = matches!(protection, Protection::Passphrase(_)).then_some(params);
    let mut head = Head { magic, params, salt: [0; 32] };
    rng.fill_bytes(&mut head.salt);
    let master = head.master(protection)?;
    let relock = Relock { head, master };
    Ok((relock.seal(body, rng)?, relock))
}

/// The body of a file that begins with `magic`.
fn open_as(
    magic: Magic,
    bytes: &[u8],
    protection: Protection<'_>,
) -> Result<(Zeroizing<Vec<u8>>, Relock), KeystoreError> {
    let (head, sealed) = parse(magic, bytes)?;
    let master = head.master(protection)?;
    let refused = match head.params {
        Some(_) => KeystoreError::WrongPassphrase,
        None => KeystoreError::Damaged,
    };
    let body = hedged::open(&master, &[b"keystore", &head.encode()], sealed).ok_or(refused)?;
    Ok((body, Relock { head, master }))
}

/// Whether the bytes of a keystore file need a passphrase.
///
/// # Errors
/// [`KeystoreError::Damaged`] or [`KeystoreError::Newer`].
pub fn is_protected(bytes: &[u8]) -> Result<bool, KeystoreError> {
    is_protected_as(KEYS_MAGIC, bytes)
}

#[cfg(test)]
mod tests {
    use super::head::{CHECKSUM_BYTES, HEAD_BYTES};
    use super::*;
    use crate::signing::RootKey;
    use crate::test_rng::TestRng;

    const CHEAP: Argon2Params = match Argon2Params::new(8, 1, 1) {
        Ok(params) => params,
        Err(_) => panic!(),
    };
    const WORD: Protection<'static> = Protection::Passphrase(b"word");

    fn keys(with_root: bool) -> Keystore {
        let rng = &mut TestRng::new(1);
        Keystore {
            root: with_root.then(|| HeldRoot::open(RootKey::generate(rng))),
            transport: TransportKey::generate(rng),
            statement: StatementKey::generate(rng),
            contact: ContactKey::generate(rng),
            store: StoreKey::generate(rng),
            chain: b"chain".to_vec(),
        }
    }

    fn locked(protection: Protection<'_>) -> Vec<u8> {
        lock(&keys(true), protection, CHEAP, &mut TestRng::new(2)).unwrap()
    }

    fn with_fresh_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        let sum = checksum(&bytes);
        bytes.extend(sum);
        bytes
    }

    fn check(bytes: &[u8], protection: Protection<'_>, expected: KeystoreError) {
        assert_eq!(unlock(bytes, protection).map(drop), Err(expected));
    }

    #[test]
    fn all_keys_come_back() {
        for (with_root, protection) in
            [(true, WORD), (false, WORD), (true, Protection::None), (false, Protection::None)]
        {
            let keys = keys(with_root);
            let bytes = lock(&keys, protection, CHEAP, &mut TestRng::new(2)).unwrap();
            let back = unlock(&bytes, protection).unwrap();
            let seed = |root: Option<HeldRoot>| root.map(|root| root.key(&[]).unwrap().seed());
            assert_eq!(seed(back.root), seed(keys.root));
            assert_eq!(back.transport.seed(), keys.transport.seed());
            assert_eq!(back.statement.seed(), keys.statement.seed());
            assert_eq!(back.contact.to_bytes(), keys.contact.to_bytes());
            assert_eq!(back.store, keys.store);
            assert_eq!(back.chain, keys.chain);
            assert_eq!(is_protected(&bytes), Ok(matches!(protection, Protection::Passphrase(_))));
        }
    }

    #[test]
    fn passphrases_have_named_errors() {
        let bytes = locked(WORD);
        check(&bytes, Protection::None, KeystoreError::Locked);
        check(&bytes, Protection::Passphrase(b""), KeystoreError::EmptyPassphrase);
        check(&bytes, Protection::Passphrase(b"Word"), KeystoreError::WrongPassphrase);
        check(&bytes, Protection::Passphrase(b"word\n"), KeystoreError::WrongPassphrase);
        let empty = lock(&keys(true), Protection::Passphrase(b""), CHEAP, &mut TestRng::new(2));
        assert_eq!(empty, Err(KeystoreError::EmptyPassphrase));
        assert!(unlock(&locked(Protection::None), WORD).is_ok());
    }

    #[test]
    fn any_changed_bit_is_damage_before_any_work_is_done() {
        for protection in [WORD, Protection::None] {
            let good = locked(protection);
            for bit in 0..good.len() * 8 {
                let mut bent = good.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                let expected = match bent[8] {
                    VERSION | 0 => KeystoreError::Damaged,
                    found => KeystoreError::Newer { found, supported: VERSION },
                };
                check(&bent, protection, expected);
                assert_eq!(is_protected(&bent), Err(expected));
            }
        }
    }

    #[test]
    fn a_changed_bit_under_a_forged_checksum_is_refused_too() {
        for protection in [WORD, Protection::None] {
            let good = locked(protection);
            // Bytes 10 to 21 are the costs: forged ones within bounds would only make this test slow.
            let bits = (9 * 8..10 * 8).chain(22 * 8..(good.len() - CHECKSUM_BYTES) * 8);
            for bit in bits {
                let mut bent = good.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                let bent = with_fresh_checksum(bent);
                let refused = unlock(&bent, protection).map(drop).unwrap_err();
                let blames_right = match protection {
                    Protection::Passphrase(_) => {
                        [KeystoreError::WrongPassphrase, KeystoreError::Damaged].contains(&refused)
                    }
                    _ => refused == KeystoreError::Damaged,
                };
                assert!(blames_right, "bit {bit}: {refused:?}");
            }
        }
    }

    #[test]
    fn every_other_length_is_damage() {
        let good = locked(WORD);
        for length in 0..good.len() {
            check(&good[..length], WORD, KeystoreError::Damaged);
            if length > HEAD_BYTES + CHECKSUM_BYTES {
                let shorter = with_fresh_checksum(good[..length].to_vec());
                assert!(unlock(&shorter, WORD).is_err());
            }
        }
        check(&[good.as_slice(), &[0]].concat(), WORD, KeystoreError::Damaged);
        check(&vec![0; KEYSTORE_BYTES_MAX + 1], WORD, KeystoreError::Damaged);
    }

    #[test]
    fn a_file_cannot_ask_for_unbounded_work() {
        let good = locked(WORD);
        for (field, value) in [
            (10, 0),
            (10, 7),
            (10, Argon2Params::MEMORY_KIB_MAX + 1),
            (10, u32::MAX),
            (14, 0),
            (14, Argon2Params::PASSES_MAX + 1),
            (14, u32::MAX),
            (18, 0),
            (18, 2),
            (18, Argon2Params::LANES_MAX + 1),
            (18, u32::MAX),
        ] {
            let mut bent = good.clone();
            bent[field..field + 4].copy_from_slice(&value.to_be_bytes());
            check(&with_fresh_checksum(bent), WORD, KeystoreError::Damaged);
        }
    }

    #[test]
    fn a_stripped_protection_does_not_open() {
        let mut bent = locked(WORD);
        bent[9] = 0;
        bent[10..22].fill(0);
        check(&with_fresh_checksum(bent), Protection::None, KeystoreError::Damaged);
    }

    #[test]
    fn p22_no_key_shows_in_a_protected_file() {
        let (keys, bytes) = (keys(true), locked(WORD));
        let seeds = [
            *keys.transport.seed(),
            *keys.statement.seed(),
            *keys.contact.to_bytes(),
            *keys.store.as_bytes(),
            *keys.root.as_ref().unwrap().key(&[]).unwrap().seed(),
        ];
        for seed in seeds {
            assert!(!bytes.windows(8).any(|window| window == &seed[..8]));
        }
        let text = format!("{keys:?} {WORD:?}");
        assert_eq!(text, "Keystore(root: true, ..) Passphrase(..)");
    }

    #[test]
    fn p12_clones_of_one_generator_seal_two_keystores_under_two_keys() {
        let seal = |chain: &[u8]| {
            let keys = Keystore { chain: chain.to_vec(), ..keys(true) };
            lock(&keys, WORD, CHEAP, &mut TestRng::new(3)).unwrap()
        };
        let value_salt = HEAD_BYTES..HEAD_BYTES + 32;
        assert_ne!(seal(b"one")[value_salt.clone()], seal(b"two")[value_salt]);
    }

    #[test]
    fn a_changed_keystore_opens_under_the_passphrase_that_it_had() {
        for protection in [WORD, Protection::None] {
            let (mut keys, relock) = unlock_for_change(&locked(protection), protection).unwrap();
            keys.chain = b"longer chain".to_vec();
            keys.root = None;
            let bytes = relock.lock(&keys, &mut TestRng::new(9)).unwrap();
            let back = unlock(&bytes, protection).unwrap();
            assert_eq!((back.chain.as_slice(), back.root.is_none()), (&b"longer chain"[..], true));
            assert_eq!(format!("{relock:?}"), "Relock(..)");
            if matches!(protection, Protection::Passphrase(_)) {
                check(&bytes, Protection::Passphrase(b"other"), KeystoreError::WrongPassphrase);
            }
        }
    }

    #[test]
    fn the_default_is_what_the_design_asks_for() {
        assert_eq!(Argon2Params::new(64 << 10, 3, 1), Ok(Argon2Params::default()));
    }

    #[test]
    fn the_format_has_not_changed() {
        for (protection, expected) in [
            (WORD, "638b78fcdd2d181ca2f73b215c5cb3e3c307460c7c15b08dfec9e1ab88c4efc6"),
            (Protection::None, "9243b26515715b527305b77ac2021a8a92bda0b488fb4f3d1d59fbdd78adc490"),
        ] {
            assert_eq!(blake3::hash(&locked(protection)).to_hex().as_str(), expected);
        }
    }
}
