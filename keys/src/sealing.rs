//! Who may read it: HPKE (RFC 9180) with the hybrid KEM X-Wing (X25519 and ML-KEM-768), HKDF-SHA256 and
//! AES-256-GCM, in base mode and single shot. It never seals content, only keys (manifest keys and door secrets) and the
//! letters of an introduction, which hold signed records.
//!
//! **Invariant:** a public key that exists has the right length, canonical halves and an X25519 half that
//! contributes; so does an encapsulation that is opened. Nobody can strip one half of the hybrid.
//! **Invariant:** no (key, nonce) pair meets two plaintexts. Each wrap draws 32 bytes and mixes them with receiver,
//! info and plaintext, so that even two clones of one generator, as a snapshot of a virtual machine makes them,
//! encapsulate differently unless they wrap the very same thing; then they produce the very same bytes.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::{CryptoRng, Infallible, TryCryptoRng, TryRng};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::signing::is_reduced;

/// Length of a public key in bytes: ML-KEM-768 (1,184), then X25519 (32).
pub const PUBLIC_BYTES: usize = 1216;

/// Length of an encapsulation in bytes: ML-KEM-768 (1,088), then X25519 (32).
pub const ENCAPSULATION_BYTES: usize = 1120;

/// What wrapping adds to the plaintext's length inside `ciphertext`, in bytes.
pub const TAG_BYTES: usize = 16;

type PrivateKey = <XWing as Kem>::PrivateKey;
type PublicKey = <XWing as Kem>::PublicKey;

/// A small secret, sealed to one key and one `info`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wrapped {
    /// The KEM's share: 1,120 bytes.
    #[serde(with = "crate::codec::bytes")]
    pub encapsulation: Vec<u8>,
    /// The sealed plaintext, 16 bytes longer than it.
    #[serde(with = "crate::codec::bytes")]
    pub ciphertext: Vec<u8>,
}

/// Bytes are not an X-Wing public key; who published them is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a valid X-Wing public key")]
pub struct PublicKeyError;

/// A wrapped secret does not open: wrong key, wrong info or changed bytes, which cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed key does not open: it was sealed to another key, for another purpose, or changed")]
pub struct UnwrapError;

/// u-coordinates of small order (RFC 7748): a shared secret with one of them is zero.
const X25519_SMALL_ORDER: [[u8; 32]; 5] = {
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    let order_8 = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    let other_order_8 = [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ];
    [[0; 32], one, minus_one, order_8, other_order_8]
};

/// Whether the X25519 half at the end of `bytes` is canonical and not of small order.
fn contributes(bytes: &[u8]) -> bool {
    bytes
        .last_chunk::<32>()
        .is_some_and(|point| point[31] < 0x80 && is_reduced(point) && !X25519_SMALL_ORDER.contains(point))
}

fn parse_public(bytes: &[u8]) -> Result<PublicKey, PublicKeyError> {
    if bytes.len() != PUBLIC_BYTES || !contributes(bytes) {
        return Err(PublicKeyError);
    }
    PublicKey::from_bytes(bytes).map_err(|_| PublicKeyError)
}

fn wrap(public: &[u8], info: &[u8], plaintext: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Wrapped {
    let key = parse_public(public).expect("public keys are checked where they are made");
    let mut rng = WrapRng::new(public, info, plaintext, rng);
    let (encapsulation, ciphertext) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &key,
        info,
        plaintext,
        b"",
        &mut rng,
    )
    .expect("X-Wing encapsulates to every checked key, and AES-GCM seals up to 64 GiB");
    Wrapped { encapsulation: encapsulation.to_bytes().to_vec(), ciphertext }
}

fn unwrap(key: &PrivateKey, info: &[u8], wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
    if !contributes(&wrapped.encapsulation) {
        return Err(UnwrapError);
    }
    let encapsulation = <XWing as Kem>::EncappedKey::from_bytes(&wrapped.encapsulation).map_err(|_| UnwrapError)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        key,
        &encapsulation,
        info,
        &wrapped.ciphertext,
        b"",
    )
    .map(Zeroizing::new)
    .map_err(|_| UnwrapError)
}

/// The randomness of one wrap: a BLAKE3 stream over fresh random bytes and everything that is wrapped.
struct WrapRng(blake3::OutputReader);

impl WrapRng {
    fn new(public: &[u8], info: &[u8], plaintext: &[u8], rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let mut fresh = Zeroizing::new([0; 32]);
        rng.fill_bytes(fresh.as_mut_slice());
        let mut hasher = blake3::Hasher::new_derive_key("pakt wrap randomness v1");
        hasher.update(fresh.as_slice());
        for part in [public, info, plaintext] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        Self(hasher.finalize_xof())
    }
}

impl TryRng for WrapRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for WrapRng {}

macro_rules! sealing_key {
    ($(#[$doc:meta])* $key:ident, $(#[$public_doc:meta])* $public:ident) => {
        $(#[$doc])*
        pub struct $key {
            private: PrivateKey,
            public: $public,
        }

        impl $key {
            /// Draws a new key from `rng`.
            pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
                let mut bytes = Zeroizing::new([0; 32]);
                rng.fill_bytes(bytes.as_mut_slice());
                Self::from_bytes(&bytes)
            }

            /// The key of 32 stored bytes.
            pub fn from_bytes(bytes: &[u8; 32]) -> Self {
                let private = PrivateKey::from_bytes(bytes)
                    .expect("every 32 bytes are the seed of an X-Wing key");
                let public = $public(XWing::sk_to_pk(&private).to_bytes().as_slice().into());
                Self { private, public }
            }

            /// The 32 private bytes, for storing them sealed.
            pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
                let mut bytes = Zeroizing::new([0; 32]);
                self.private.write_exact(bytes.as_mut_slice());
                bytes
            }

            /// The public half.
            pub fn public(&self) -> $public {
                self.public.clone()
            }

            /// Opens what was wrapped to this key with the same `info`.
            ///
            /// # Errors
            /// [`UnwrapError`] for every other key, info or byte.
            pub fn unwrap(
                &self,
                info: &[u8],
                wrapped: &Wrapped,
            ) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
                unwrap(&self.private, info, wrapped)
            }
        }

        impl std::fmt::Debug for $key {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($key), "(..)"))
            }
        }

        $(#[$public_doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $public(Box<[u8]>);

        impl $public {
            /// Takes the 1,216 bytes of a public key.
            ///
            /// # Errors
            /// [`PublicKeyError`] unless both halves are canonical and usable.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, PublicKeyError> {
                parse_public(bytes).map(|_| Self(bytes.into()))
            }

            /// The 1,216 bytes of the key.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// Seals a small secret, so that only the owner of the private half opens it, and only with the
            /// same `info`.
            pub fn wrap(
                &self,
                info: &[u8],
                plaintext: &[u8],
                rng: &mut (impl CryptoRng + ?Sized),
            ) -> Wrapped {
                wrap(&self.0, info, plaintext, rng)
            }
        }

        impl std::fmt::Debug for $public {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let short = blake3::hash(&self.0);
                write!(f, concat!(stringify!($public), "(blake3 {:.16})"), short.to_hex())
            }
        }

        impl Serialize for $public {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::codec::bytes::serialize(&self.0, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $public {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = crate::codec::bytes::deserialize(deserializer)?;
                Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
            }
        }
    };
}

sealing_key! {
    /// The node's long-lived key, to which others seal door grants and the letters of an introduction, nothing else.
    ContactKey,
    /// The public half of a [`ContactKey`]; certified in the node certificate.
    ContactPublic
}

sealing_key! {
    /// The key of one day, to which counterparts seal manifest keys; always generated, never derived.
    EpochKey,
    /// The public half of an [`EpochKey`]; published in the roster.
    EpochPublic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::test_rng::TestRng;
    use hpke::kem::X25519HkdfSha256;

    fn key(seed: u64) -> EpochKey {
        EpochKey::generate(&mut TestRng::new(seed))
    }

    fn wrapped() -> Wrapped {
        key(1).public().wrap(b"info", b"secret", &mut TestRng::new(2))
    }

    #[test]
    fn what_is_wrapped_opens_with_the_same_key_and_info_only() {
        let wrapped = wrapped();
        assert_eq!(wrapped.encapsulation.len(), ENCAPSULATION_BYTES);
        assert_eq!(wrapped.ciphertext.len(), b"secret".len() + TAG_BYTES);
        let opened = key(1).unwrap(b"info", &wrapped).unwrap();
        assert_eq!(opened.as_slice(), b"secret");
        assert_eq!(key(1).unwrap(b"inf0", &wrapped), Err(UnwrapError));
        assert_eq!(key(1).unwrap(b"", &wrapped), Err(UnwrapError));
        assert_eq!(key(2).unwrap(b"info", &wrapped), Err(UnwrapError));
        let restored = EpochKey::from_bytes(&key(1).to_bytes());
        assert_eq!(restored.public(), key(1).public());
        assert!(restored.unwrap(b"info", &wrapped).is_ok());
    }

    #[test]
    fn empty_secrets_and_infos_are_secrets_and_infos() {
        let wrapped = key(1).public().wrap(b"", b"", &mut TestRng::new(2));
        assert_eq!(key(1).unwrap(b"", &wrapped).unwrap().as_slice(), b"");
    }

    #[test]
    fn every_changed_byte_and_length_is_refused() {
        let good = wrapped();
        let key = key(1);
        let check = |bent: &Wrapped| assert_eq!(key.unwrap(b"info", bent), Err(UnwrapError));
        for position in (0..ENCAPSULATION_BYTES).step_by(53).chain([1087, 1088, 1119]) {
            let mut bent = good.clone();
            bent.encapsulation[position] ^= 0x40;
            check(&bent);
        }
        for position in 0..good.ciphertext.len() {
            let mut bent = good.clone();
            bent.ciphertext[position] ^= 1;
            check(&bent);
            bent = good.clone();
            bent.ciphertext.truncate(position);
            check(&bent);
        }
        for length in [0, 1, 31, 32, 1088, 1119, 1121, 2240] {
            let mut bent = good.clone();
            bent.encapsulation.resize(length, 0x11);
            check(&bent);
        }
    }

    #[test]
    fn p9_neither_half_of_the_hybrid_can_be_stripped() {
        let good = key(1).public();
        let check = |bytes: &[u8]| {
            assert_eq!(EpochPublic::from_bytes(bytes), Err(PublicKeyError));
            let stored = codec::encode(1, &(bytes.len() as u64));
            let stored = [stored.as_slice(), bytes].concat();
            let decoded = codec::decode::<EpochPublic>(1, &stored, 1 << 12);
            assert_eq!(decoded, Err(codec::CodecError::Malformed));
        };
        for point in X25519_SMALL_ORDER {
            let mut bytes = good.as_bytes().to_vec();
            bytes[1184..].copy_from_slice(&point);
            check(&bytes);
            bytes[1215] |= 0x80;
            check(&bytes);
            let mut sent = wrapped();
            sent.encapsulation[1088..].copy_from_slice(&point);
            assert_eq!(key(1).unwrap(b"info", &sent), Err(UnwrapError));
        }
        for low in 0xed..=0xff {
            let mut bytes = good.as_bytes().to_vec();
            bytes[1184..].fill(0xff);
            (bytes[1184], bytes[1215]) = (low, 0x7f);
            check(&bytes);
        }
        // ML-KEM coefficients of 12 bits must be below 3329.
        let mut unreduced = good.as_bytes().to_vec();
        unreduced[..1152].fill(0xff);
        check(&unreduced);
        for length in [0, 32, 1184, 1215] {
            check(&good.as_bytes()[..length]);
        }
        check(&[good.as_bytes(), &[0]].concat());
    }

    #[test]
    fn the_table_of_small_order_is_what_the_library_finds_not_contributing() {
        for point in X25519_SMALL_ORDER {
            let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&point).unwrap();
            let outcome = X25519HkdfSha256::encap_with_rng(&public, None, &mut TestRng::new(1));
            assert!(outcome.is_err(), "{}", hex::encode(point));
        }
    }

    #[test]
    fn p12_two_clones_of_one_generator_never_share_key_and_nonce() {
        let wrap = |receiver: u64, info: &[u8], plaintext: &[u8]| {
            key(receiver).public().wrap(info, plaintext, &mut TestRng::new(9))
        };
        let first = wrap(1, b"info", b"secret");
        for other in [
            wrap(1, b"info", b"secreT"),
            wrap(1, b"infos", b"ecret"),
            wrap(1, b"Info", b"secret"),
            wrap(2, b"info", b"secret"),
        ] {
            // A new encapsulation is a new shared secret, thus a new key.
            assert_ne!(first.encapsulation, other.encapsulation);
            assert_ne!(first.encapsulation[1088..], other.encapsulation[1088..]);
            assert_ne!(first.ciphertext, other.ciphertext);
        }
        // The same thing wrapped twice by clones is the same bytes: equality shows, nothing else.
        assert_eq!(first, wrap(1, b"info", b"secret"));
        let fresh = key(1).public().wrap(b"info", b"secret", &mut TestRng::new(10));
        assert_ne!(first.encapsulation, fresh.encapsulation);
    }

    #[test]
    fn the_format_has_not_changed() {
        let hash = blake3::hash(&codec::encode(1, &wrapped()));
        assert_eq!(hash.to_hex().as_str(), "721f7e22e71e2e7a2eeb3a5cda118cc54cce5530b504838b87df33a585f3da54");
    }

    #[test]
    fn the_generator_of_the_operating_system_fits_also_unsized() {
        let mut system = rand_core::UnwrapErr(getrandom::SysRng);
        let rng: &mut dyn CryptoRng = &mut system;
        let key = ContactKey::generate(rng);
        let [first, second] = [(); 2].map(|()| key.public().wrap(b"i", b"secret", rng));
        assert_ne!(first.encapsulation, second.encapsulation);
        assert_eq!(key.unwrap(b"i", &first), key.unwrap(b"i", &second));
    }

    #[test]
    fn records_hold_keys_and_wraps() {
        let public = key(1).public();
        let bytes = codec::encode(1, &(&public, wrapped()));
        let decoded = codec::decode::<(EpochPublic, Wrapped)>(1, &bytes, 1 << 13);
        assert_eq!(decoded, Ok((public.clone(), wrapped())));
        let text = format!("{public:?} {:?}", key(1));
        assert!(text.len() < 80 && text.ends_with("EpochKey(..)"), "{text}");
    }

    #[test]
    fn the_hybrid_is_x_wing_of_the_draft() {
        // draft-connolly-cfrg-xwing-kem, first test vector: the key pair of this seed begins and ends so.
        let seed = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26";
        let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
        let public = hex::encode(EpochKey::from_bytes(&seed).public().as_bytes());
        assert!(public.starts_with("e2236b35a8c24b39b10aa1323a96a919"), "{public}");
    }
}
