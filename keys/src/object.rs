//! The content itself: sealed objects, each under its own key that is derived from what it seals.
//!
//! ```text
//! sealed object = commitment (32) || AES-256-GCM with zero nonce over the encoded bytes || tag (16)
//! commitment    = BLAKE3 derive_key("pakt commit v1", key)
//! key           = BLAKE3 keyed by the base over u16be(length of the label) || label || encoded bytes
//! ```
//!
//! AES-GCM alone does not commit: one ciphertext can be made that opens under two keys to two plaintexts. The
//! commitment is checked first, so one object opens under one key only.
//!
//! **Invariant:** a key meets one plaintext only, so the nonce may be zero; callers get keys from [`derive_key`]
//! or from a manifest, and never seal a second plaintext under one.
//! **Invariant:** a wrong commitment, a wrong tag and a wrong length are one error, and no byte of a plaintext that
//! fails its tag leaves this module.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::secret::secret_bytes;

/// What sealing adds to the length of an object, in bytes: commitment and tag.
pub const OVERHEAD: usize = COMMITMENT_BYTES + TAG_BYTES;

/// Bytes at the beginning of an object that commit to its key.
pub const COMMITMENT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

secret_bytes! {
    /// The key of one sealed object; travels inside manifests and nowhere else.
    #[derive(Serialize, Deserialize)]
    ObjectKey
}

secret_bytes! {
    /// What object keys are derived from: a group's dedup secret, or the random secret of one message.
    #[derive(Serialize, Deserialize)]
    SealBase
}

/// An object does not open: wrong key or changed bytes, which cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed object does not open: wrong key or changed bytes")]
pub struct OpenError;

/// Derives the key that seals exactly these `encoded` bytes; `label` names the kind of object.
///
/// Equal input gives the equal key, which is what lets known content be found again within one base.
pub fn derive_key(base: &SealBase, label: &str, encoded: &[u8]) -> ObjectKey {
    let label_bytes = u16::try_from(label.len()).unwrap_or(u16::MAX);
    debug_assert_eq!(usize::from(label_bytes), label.len(), "labels are short constants");
    let mut hasher = blake3::Hasher::new_keyed(base.as_bytes());
    hasher.update(&label_bytes.to_be_bytes());
    hasher.update(label.as_bytes());
    hasher.update(encoded);
    ObjectKey::from_bytes(*hasher.finalize().as_bytes())
}

/// Seals `plain` under a key that never sealed anything else.
pub fn seal(key: &ObjectKey, plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    seal_into(key, plain, &mut sealed);
    sealed
}

/// As [`seal`], replacing the content of `out`, so that its memory is used again.
pub fn seal_into(key: &ObjectKey, plain: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(plain.len() + OVERHEAD);
    out.extend_from_slice(&commitment(key));
    out.extend_from_slice(plain);
    let tag = gcm_seal(key.as_bytes(), &mut out[COMMITMENT_BYTES..]);
    out.extend_from_slice(&tag);
}

/// Opens a sealed object.
///
/// # Errors
/// [`OpenError`], whatever is wrong.
pub fn open(key: &ObjectKey, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut plain = Zeroizing::new(Vec::new());
    open_into(key, sealed, &mut plain)?;
    Ok(plain)
}

/// As [`open`], replacing the content of `out`, so that its memory is used again; wiping it is the caller's task.
///
/// # Errors
/// [`OpenError`], whatever is wrong; `out` is then empty.
pub fn open_into(key: &ObjectKey, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
    out.clear();
    let rest = sealed.get(COMMITMENT_BYTES..).ok_or(OpenError)?;
    let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError)?;
    if !is_key_of(key, sealed) {
        return Err(OpenError);
    }
    out.extend_from_slice(body);
    if !gcm_open(key.as_bytes(), out, tag) {
        out.zeroize();
        return Err(OpenError);
    }
    Ok(())
}

/// Whether `head`, the sealed object or its beginning, commits to `key`: all that can be told without the rest.
pub fn is_key_of(key: &ObjectKey, head: &[u8]) -> bool {
    head.first_chunk::<COMMITMENT_BYTES>().is_some_and(|found| found.as_slice().ct_eq(&commitment(key)).into())
}

fn commitment(key: &ObjectKey) -> [u8; COMMITMENT_BYTES] {
    blake3::derive_key("pakt commit v1", key.as_bytes())
}

/// AES-256-GCM with zero nonce in place; the one place of this crate that seals with it.
pub(crate) fn gcm_seal(key: &[u8; 32], buffer: &mut [u8]) -> [u8; TAG_BYTES] {
    Aes256Gcm::new(key.into())
        .encrypt_inout_detached(&Nonce::default(), b"", buffer.into())
        .expect("AES-GCM seals up to 64 GiB, and no caller holds that in memory")
        .into()
}

/// Opens in place; false, with the buffer as it was, if the tag does not fit.
pub(crate) fn gcm_open(key: &[u8; 32], buffer: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
    Aes256Gcm::new(key.into()).decrypt_inout_detached(&Nonce::default(), b"", buffer.into(), tag.into()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;
    use proptest::prelude::*;

    fn key(seed: u64) -> ObjectKey {
        ObjectKey::generate(&mut TestRng::new(seed))
    }

    #[test]
    fn the_beginning_of_an_object_tells_its_key() {
        let sealed = seal(&key(1), b"content");
        assert!(is_key_of(&key(1), &sealed) && is_key_of(&key(1), &sealed[..COMMITMENT_BYTES]));
        assert!(!is_key_of(&key(2), &sealed) && !is_key_of(&key(1), &sealed[..COMMITMENT_BYTES - 1]));
    }

    fn check(key: &ObjectKey, sealed: &[u8], expected: Option<&[u8]>) {
        let opened = open(key, sealed);
        let wanted = expected.ok_or(OpenError);
        assert_eq!(opened.as_ref().map(|plain| plain.as_slice()), wanted.as_ref().map(|p| *p));
        let mut reused = vec![0xaa; 7];
        assert_eq!(open_into(key, sealed, &mut reused), wanted.map(drop));
        assert_eq!(reused, expected.unwrap_or_default());
    }

    #[test]
    fn objects_open_under_their_key_only() {
        for length in [0, 1, 15, 16, 17, 1000, 1 << 20] {
            let plain = vec![0x5a; length];
            let sealed = seal(&key(1), &plain);
            assert_eq!(sealed.len(), length + OVERHEAD);
            check(&key(1), &sealed, Some(&plain));
            check(&key(2), &sealed, None);
        }
    }

    #[test]
    fn any_changed_bit_and_any_length_is_refused_with_the_one_error() {
        let sealed = seal(&key(1), b"plain");
        for bit in 0..sealed.len() * 8 {
            let mut bent = sealed.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            check(&key(1), &bent, None);
        }
        for length in 0..sealed.len() {
            check(&key(1), &sealed[..length], None);
        }
        check(&key(1), &[sealed.as_slice(), &[0]].concat(), None);
    }

    /// Multiplication in the field of GCM (NIST SP 800-38D, section 6.3); bit 0 is the highest.
    fn field_mul(x: u128, y: u128) -> u128 {
        let (mut product, mut v) = (0, y);
        for i in 0..128 {
            if x >> (127 - i) & 1 == 1 {
                product ^= v;
            }
            v = if v & 1 == 1 { v >> 1 ^ 0xe1 << 120 } else { v >> 1 };
        }
        product
    }

    /// x^(2^128 - 2), the inverse.
    fn field_inverse(x: u128) -> u128 {
        let (mut result, mut square) = (1 << 127, x);
        for _ in 1..128 {
            square = field_mul(square, square);
            result = field_mul(result, square);
        }
        result
    }

    /// The hash key H and the mask of the tag for the zero nonce, read off the cipher itself: the tag of
    /// nothing is the mask, as GHASH of nothing is zero, and one block of zeros as ciphertext leaves only the
    /// block of lengths: tag = mask ^ H * lengths.
    fn hash_key_and_mask(key: &ObjectKey) -> (u128, u128) {
        let tag_of = |ciphertext: &[u8]| {
            let mut plain = ciphertext.to_vec();
            gcm_seal(key.as_bytes(), &mut plain);
            // Sealing xors the key stream in; sealing its own output would give the wanted ciphertext.
            let stream: Vec<u8> = plain.iter().zip(ciphertext).map(|(a, b)| a ^ b).collect();
            let mut wanted: Vec<u8> = ciphertext.iter().zip(&stream).map(|(a, b)| a ^ b).collect();
            let tag = gcm_seal(key.as_bytes(), &mut wanted);
            assert_eq!(wanted, ciphertext);
            u128::from_be_bytes(tag)
        };
        let mask = tag_of(&[]);
        let hash_key = field_mul(tag_of(&[0; 16]) ^ mask, field_inverse(128));
        (hash_key, mask)
    }

    /// One ciphertext of two blocks with one tag that AES-GCM accepts under both keys.
    fn two_key_ciphertext(first: &ObjectKey, second: &ObjectKey) -> (Vec<u8>, [u8; 16]) {
        let (h1, mask1) = hash_key_and_mask(first);
        let (h2, mask2) = hash_key_and_mask(second);
        let block = u128::from_be_bytes(*b"any first block.");
        let power = |h, n| (1..n).fold(h, |product, _| field_mul(product, h));
        let fixed = |h, mask| mask ^ field_mul(power(h, 3), block) ^ field_mul(h, 256);
        // tag = mask ^ H^3 * block ^ H^2 * x ^ H * lengths must be equal under both: solve for x.
        let difference = fixed(h1, mask1) ^ fixed(h2, mask2);
        let x = field_mul(difference, field_inverse(power(h1, 2) ^ power(h2, 2)));
        let tag = fixed(h1, mask1) ^ field_mul(power(h1, 2), x);
        let ciphertext = [block.to_be_bytes(), x.to_be_bytes()].concat();
        (ciphertext, tag.to_be_bytes())
    }

    #[test]
    fn p11_a_ciphertext_that_opens_under_two_keys_fails_at_the_commitment() {
        let (first, second) = (key(1), key(2));
        let (ciphertext, tag) = two_key_ciphertext(&first, &second);
        let mut plains = [&first, &second].map(|key| {
            let mut plain = ciphertext.clone();
            assert!(gcm_open(key.as_bytes(), &mut plain, &tag), "AES-GCM alone accepts it");
            plain
        });
        assert_ne!(plains[0], plains[1], "one ciphertext, two plaintexts");
        let sealed = [commitment(&first).as_slice(), &ciphertext, &tag].concat();
        check(&first, &sealed, Some(&plains[0]));
        check(&second, &sealed, None);
        let mut bad_tag = sealed.clone();
        bad_tag[sealed.len() - 1] ^= 1;
        assert_eq!(open(&second, &sealed), open(&first, &bad_tag), "the same error as a bad tag");
        plains.zeroize();
    }

    #[test]
    fn p11_a_valid_tag_under_another_key_does_not_help() {
        let honest = seal(&key(1), b"the plaintext");
        let other = seal(&key(2), b"another text!");
        let swapped = [&honest[..COMMITMENT_BYTES], &other[COMMITMENT_BYTES..]].concat();
        check(&key(1), &swapped, None);
        check(&key(2), &swapped, None);
    }

    #[test]
    fn p12_the_key_binds_base_label_and_plaintext() {
        let [base, other] = [1, 2].map(|seed| SealBase::generate(&mut TestRng::new(seed)));
        let key = derive_key(&base, "chunk", b"encoded");
        assert_eq!(key, derive_key(&base, "chunk", b"encoded"));
        assert_ne!(key, derive_key(&other, "chunk", b"encoded"));
        assert_ne!(key, derive_key(&base, "chunks", b"encoded"));
        assert_ne!(key, derive_key(&base, "chunke", b"ncoded"));
        assert_ne!(key, derive_key(&base, "chun", b"kencoded"));
        assert_ne!(key, derive_key(&base, "chunk", b"encodee"));
        assert_ne!(key, derive_key(&base, "chunk", b"encoded\0"));
        assert_ne!(key, derive_key(&base, "chunk", b""));
    }

    #[test]
    fn p12_a_cloned_machine_that_seals_two_plaintexts_uses_two_keys() {
        // Both clones hold the same base, whether stored before the snapshot or drawn after it.
        let mut machine = TestRng::new(3);
        let mut clone = machine.clone();
        let (base, same) = (SealBase::generate(&mut machine), SealBase::generate(&mut clone));
        assert_eq!(base, same);
        let seal_one = |base: &SealBase, plain: &[u8]| seal(&derive_key(base, "chunk", plain), plain);
        let (first, second) = (seal_one(&base, b"plain one"), seal_one(&same, b"plain two"));
        assert_ne!(first[..COMMITMENT_BYTES], second[..COMMITMENT_BYTES], "two keys");
        // Under one key the streams would cancel out and show the difference of the plaintexts.
        let body = |sealed: &[u8]| sealed[COMMITMENT_BYTES..COMMITMENT_BYTES + 9].to_vec();
        let difference: Vec<u8> = body(&first).iter().zip(body(&second)).map(|(a, b)| a ^ b).collect();
        assert_ne!(difference[..6], [0; 6]);
        assert_eq!(seal_one(&base, b"plain one"), seal_one(&same, b"plain one"), "dedup finds it");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let text = format!("{:?} {:?}", key(1), SealBase::generate(&mut TestRng::new(1)));
        assert_eq!(text, "ObjectKey(..) SealBase(..)");
    }

    #[test]
    fn golden_object() {
        let base = SealBase::from_bytes([7; 32]);
        let key = derive_key(&base, "chunk", b"golden");
        let sealed = hex::encode(seal(&key, b"golden"));
        assert_eq!(sealed, GOLDEN, "the format of stored objects has changed");
    }

    /// Computed with another implementation (Python: blake3, cryptography).
    const GOLDEN: &str = "a9d1e88b2d2ccd02468c4f7477e356403aded50d5d159c20292c1a01f790c157\
                          b6ef9191fe4d2081478f3609e3c75b1f99155572fae0";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(bytes: [u8; 32], plain in proptest::collection::vec(any::<u8>(), 0..300)) {
            let key = ObjectKey::from_bytes(bytes);
            check(&key, &seal(&key, &plain), Some(&plain));
        }

        #[test]
        fn any_bytes_are_survived(sealed in proptest::collection::vec(any::<u8>(), 0..300)) {
            check(&key(1), &sealed, None);
        }
    }
}
