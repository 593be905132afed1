//! The root in a file of its own, for another machine or medium; sealed as a keystore is, under a passphrase of its own.
//!
//! **Invariant:** a root file is no keystore and a keystore no root file: the first bytes are bound into the seal.

use rand_core::CryptoRng;

use super::head::{ROOT_MAGIC, is_protected_as};
use super::held::{HeldBody, HeldRoot};
use super::{Argon2Params, KeystoreError, Protection, open_as, seal_as};
use crate::codec;

const VERSION: u8 = 1;

/// Seals a root into the bytes of a root file.
///
/// # Errors
/// [`KeystoreError::EmptyPassphrase`] or [`KeystoreError::OutOfMemory`].
pub fn lock_root(
    root: &HeldRoot,
    protection: Protection<'_>,
    params: Argon2Params,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Vec<u8>, KeystoreError> {
    let body = codec::encode_secret(VERSION, &HeldBody::of(root));
    seal_as(ROOT_MAGIC, &body, protection, params, rng).map(|(bytes, _)| bytes)
}

/// Opens the bytes of a root file.
///
/// # Errors
/// [`KeystoreError`] says whether the passphrase or the file is to blame.
pub fn unlock_root(bytes: &[u8], protection: Protection<'_>) -> Result<HeldRoot, KeystoreError> {
    let (body, _) = open_as(ROOT_MAGIC, bytes, protection)?;
    let body: HeldBody =
        codec::decode(VERSION, &body, super::KEYSTORE_BYTES_MAX).map_err(|_| KeystoreError::Damaged)?;
    body.held().ok_or(KeystoreError::Damaged)
}

/// Whether a root file needs a passphrase.
///
/// # Errors
/// [`KeystoreError::Damaged`] or [`KeystoreError::Newer`].
pub fn is_root_protected(bytes: &[u8]) -> Result<bool, KeystoreError> {
    is_protected_as(ROOT_MAGIC, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::{Keystore, lock, unlock};
    use crate::sealing::ContactKey;
    use crate::signing::{RootKey, StatementKey, TransportKey};
    use crate::store_seal::StoreKey;
    use crate::test_rng::TestRng;

    const CHEAP: Argon2Params = match Argon2Params::new(8, 1, 1) {
        Ok(params) => params,
        Err(_) => panic!(),
    };

    #[test]
    fn a_root_comes_back_and_is_no_keystore() {
        let rng = &mut TestRng::new(1);
        let root = HeldRoot::open(RootKey::from_seed([5; 32]));
        for protection in [Protection::None, Protection::Passphrase(b"word")] {
            let bytes = lock_root(&root, protection, CHEAP, rng).unwrap();
            let back = unlock_root(&bytes, protection).unwrap();
            assert_eq!(back.key(&[]).unwrap().seed(), root.key(&[]).unwrap().seed());
            assert_eq!(is_root_protected(&bytes), Ok(matches!(protection, Protection::Passphrase(_))));
            assert_eq!(unlock(&bytes, protection).map(drop), Err(KeystoreError::Damaged));
            for at in 0..bytes.len() {
                let mut bent = bytes.clone();
                bent[at] ^= 1;
                assert!(unlock_root(&bent, protection).is_err(), "byte {at}");
            }
        }
        let bytes = lock_root(&root, Protection::Passphrase(b"word"), CHEAP, rng).unwrap();
        assert_eq!(unlock_root(&bytes, Protection::None).map(drop), Err(KeystoreError::Locked));
        assert_eq!(unlock_root(&bytes, Protection::Passphrase(b"Word")).map(drop), Err(KeystoreError::WrongPassphrase));
        let keys = Keystore {
            root: None,
            transport: TransportKey::generate(rng),
            statement: StatementKey::generate(rng),
            contact: ContactKey::generate(rng),
            store: StoreKey::generate(rng),
            chain: vec![],
        };
        let bytes = lock(&keys, Protection::None, CHEAP, rng).unwrap();
        assert_eq!(unlock_root(&bytes, Protection::None).map(drop), Err(KeystoreError::Damaged));
    }
}
