//! Sealing of values at rest under one long-lived key, without a nonce that could repeat.
//!
//! salt = BLAKE3 keyed(salt key, fresh random bytes, context, plaintext); the value's own key is derived from
//! master, context and salt and used once with the zero nonce. Random 96-bit nonces under one key would collide
//! after some 2^32 values, and a cloned generator would repeat them at once.
//!
//! **Invariant:** one (key, nonce) pair never meets two plaintexts, not even when clones of one generator seal:
//! the salt, and thus the key, depends on the plaintext.
//! **Invariant:** a value opens only under the context (table and key, slot, file) that it was sealed for.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::object::{gcm_open, gcm_seal};

const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// What [`seal`] adds to a plaintext, in bytes: salt and tag.
pub(crate) const OVERHEAD: usize = SALT_BYTES + TAG_BYTES;

/// Seals `plain` for one context.
pub(crate) fn seal(master: &[u8; 32], context: &[&[u8]], plain: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
    let mut fresh = Zeroizing::new([0; 32]);
    rng.fill_bytes(fresh.as_mut_slice());
    let salt = hash(master, "pakt hedged salt v1", context, &[fresh.as_slice(), plain]);
    let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
    sealed.extend_from_slice(salt.as_slice());
    sealed.extend_from_slice(plain);
    let tag = gcm_seal(&value_key(master, context, salt.as_slice()), &mut sealed[SALT_BYTES..]);
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens what was sealed for this context; `None` says: another key, another context or changed bytes.
pub(crate) fn open(master: &[u8; 32], context: &[&[u8]], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, rest) = sealed.split_first_chunk::<SALT_BYTES>()?;
    let (body, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let mut plain = Zeroizing::new(body.to_vec());
    gcm_open(&value_key(master, context, salt), &mut plain, tag).then_some(plain)
}

fn value_key(master: &[u8; 32], context: &[&[u8]], salt: &[u8]) -> Zeroizing<[u8; 32]> {
    hash(master, "pakt hedged key v1", context, &[salt])
}

/// Keyed hash over label, number of parts and parts, each part with its length: no two inputs look alike.
fn hash(master: &[u8; 32], label: &str, context: &[&[u8]], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_keyed(master);
    hasher.update(label.as_bytes());
    hasher.update(&(context.len() as u64).to_be_bytes());
    for part in context.iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    Zeroizing::new(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    const MASTER: [u8; 32] = [1; 32];

    fn sealed() -> Vec<u8> {
        seal(&MASTER, &[b"a", b"bc"], b"plain", &mut TestRng::new(1))
    }

    fn check(master: [u8; 32], context: &[&[u8]], sealed: &[u8], opens: bool) {
        let opened = open(&master, context, sealed);
        assert_eq!(opened.is_some(), opens, "{context:?} {sealed:02x?}");
        assert!(opened.is_none_or(|plain| plain.as_slice() == b"plain"));
    }

    #[test]
    fn the_format_has_not_changed() {
        // Computed with another implementation (Python: blake3, cryptography).
        let expected = "af7b2f8668d53d3d5d445c6162ade1efed450134adb215909907ebb38f410b26\
                        bf713136899375dd5ff80c49ffa25dc79165435da6";
        assert_eq!(hex::encode(sealed()), expected);
    }

    #[test]
    fn a_value_opens_in_its_context_only() {
        assert_eq!(sealed().len(), b"plain".len() + OVERHEAD);
        check(MASTER, &[b"a", b"bc"], &sealed(), true);
        check([2; 32], &[b"a", b"bc"], &sealed(), false);
        check(MASTER, &[b"ab", b"c"], &sealed(), false);
        check(MASTER, &[b"abc"], &sealed(), false);
        check(MASTER, &[b"a", b"bc", b""], &sealed(), false);
        check(MASTER, &[b"bc", b"a"], &sealed(), false);
        check(MASTER, &[], &sealed(), false);
    }

    #[test]
    fn any_changed_bit_and_any_length_is_refused() {
        for bit in 0..sealed().len() * 8 {
            let mut bent = sealed();
            bent[bit / 8] ^= 1 << (bit % 8);
            check(MASTER, &[b"a", b"bc"], &bent, false);
        }
        for length in 0..sealed().len() {
            check(MASTER, &[b"a", b"bc"], &sealed()[..length], false);
        }
        check(MASTER, &[b"a", b"bc"], &[sealed().as_slice(), &[0]].concat(), false);
    }

    #[test]
    fn p12_clones_of_one_generator_never_share_key_and_nonce() {
        let salt = |context: &[u8], plain: &[u8]| {
            seal(&MASTER, &[context], plain, &mut TestRng::new(7))[..SALT_BYTES].to_vec()
        };
        assert_ne!(salt(b"c", b"plain"), salt(b"c", b"plaim"));
        assert_ne!(salt(b"c", b"plain"), salt(b"d", b"plain"));
        assert_ne!(salt(b"cp", b"lain"), salt(b"c", b"plain"));
        assert_eq!(salt(b"c", b"plain"), salt(b"c", b"plain"), "equality shows, nothing else");
    }

    #[test]
    fn the_same_value_is_never_sealed_to_the_same_bytes_by_a_healthy_generator() {
        let mut rng = TestRng::new(1);
        let [first, second] = [(); 2].map(|()| seal(&MASTER, &[b"c"], b"plain", &mut rng));
        assert_ne!(first, second);
    }
}
