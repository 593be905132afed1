//! Who said it: Ed25519 keys by purpose, and lists of signatures that a post-quantum suite can join later.
//!
//! The signed input is `"pakt signature v1\0" || u16be(length of the domain) || domain || bytes`, so that bytes
//! signed for one purpose are worthless for every other. Signing is deterministic (RFC 8032): no generator.
//!
//! **Invariant:** what is verified are the bytes as received, never bytes encoded again.
//! **Invariant:** verification is strict: one accepted signature per key and message, no small-order and no
//! non-canonical key.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The suite number of Ed25519.
pub const SUITE_ED25519: u8 = 1;

/// More signatures than this on one record are refused unread.
pub const SIGNATURES_MAX: usize = 8;

/// What a signature speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Domain {
    /// A root key succeeds the one that committed to it.
    RootLink,
    /// The root certifies the keys of the node.
    NodeCertificate,
    /// The entity describes itself.
    Card,
    /// Both roots agree to terms.
    AgreementTerms,
    /// One party suspends, resumes or ends an agreement.
    AgreementStatement,
    /// The node hands a door secret to a counterpart.
    DoorGrant,
    /// The groups and the epoch key shown to a counterpart.
    Roster,
    /// The sender binds an envelope.
    Envelope,
    /// The receiver states what became of an envelope.
    Receipt,
    /// The node's current addresses.
    AddressUpdate,
    /// The head of the audit log.
    LogHead,
    /// What a receiver shows for the controls that an agreement asks for.
    Attestation,
    /// An entity agrees to be listed at a steward, or no longer.
    Listing,
    /// A steward answers who is listed.
    DirectoryPage,
    /// An entity does not want an agreement that was proposed to it.
    Decline,
    /// The entity has restored a backup.
    RestoreNotice,
    /// What a sender has sent under an agreement.
    SentStatement,
    /// What a receiver holds of it.
    HeldStatement,
    /// A sender asks for an envelope that has left to be purged.
    Recall,
}

impl Domain {
    /// All domains.
    pub const ALL: [Self; 19] = [
        Self::RootLink,
        Self::NodeCertificate,
        Self::Card,
        Self::AgreementTerms,
        Self::AgreementStatement,
        Self::DoorGrant,
        Self::Roster,
        Self::Envelope,
        Self::Receipt,
        Self::AddressUpdate,
        Self::LogHead,
        Self::Attestation,
        Self::Listing,
        Self::DirectoryPage,
        Self::Decline,
        Self::RestoreNotice,
        Self::SentStatement,
        Self::HeldStatement,
        Self::Recall,
    ];

    /// The text that enters the signed input.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RootLink => "pakt root link v1",
            Self::NodeCertificate => "pakt node certificate v1",
            Self::Card => "pakt card v1",
            Self::AgreementTerms => "pakt agreement terms v1",
            Self::AgreementStatement => "pakt agreement statement v1",
            Self::DoorGrant => "pakt door grant v1",
            Self::Roster => "pakt roster v1",
            Self::Envelope => "pakt envelope v1",
            Self::Receipt => "pakt receipt v1",
            Self::AddressUpdate => "pakt address update v1",
            Self::LogHead => "pakt log head v1",
            Self::Attestation => "pakt attestation v1",
            Self::Listing => "pakt listing v1",
            Self::DirectoryPage => "pakt directory page v1",
            Self::Decline => "pakt decline v1",
            Self::RestoreNotice => "pakt restore notice v1",
            Self::SentStatement => "pakt sent statement v1",
            Self::HeldStatement => "pakt held statement v1",
            Self::Recall => "pakt recall v1",
        }
    }
}

/// One signature of a record; records hold a list of them, one per suite.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// 1 = Ed25519; other numbers are kept for later suites.
    pub suite: u8,
    /// The signature itself: 64 bytes for Ed25519.
    #[serde(with = "crate::codec::bytes")]
    pub bytes: Vec<u8>,
}

/// Why signatures do not prove anything; the signer is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No signature of a suite that this program knows.
    #[error("the record is not signed")]
    Missing,
    /// Two signatures of one suite, or more than [`SIGNATURES_MAX`].
    #[error("the record carries more signatures than it may")]
    Duplicate,
    /// The signature belongs to other bytes, another purpose or another key.
    #[error("the signature does not belong to this record and key")]
    Invalid,
    /// The public key is not one that a signer can have.
    #[error("the signer's key is not a valid key")]
    BadKey,
}

/// The commitment of a root to the root that will succeed it.
pub fn successor_commitment(successor: &RootPublic) -> [u8; 32] {
    blake3::derive_key("pakt successor v1", &successor.0)
}

fn signed_input(domain: Domain, bytes: &[u8]) -> Vec<u8> {
    const PREFIX: &[u8] = b"pakt signature v1\0";
    let name = domain.as_str().as_bytes();
    let name_bytes = u16::try_from(name.len()).expect("the names above are shorter than 64 KiB");
    let mut input = Vec::with_capacity(PREFIX.len() + 2 + name.len() + bytes.len());
    input.extend_from_slice(PREFIX);
    input.extend_from_slice(&name_bytes.to_be_bytes());
    input.extend_from_slice(name);
    input.extend_from_slice(bytes);
    input
}

/// The Ed25519 signature of a list in which no suite occurs twice.
fn sole_ed25519(signatures: &[Signature]) -> Result<&Signature, SignatureError> {
    if signatures.len() > SIGNATURES_MAX {
        return Err(SignatureError::Duplicate);
    }
    for (i, signature) in signatures.iter().enumerate() {
        if signatures[..i].iter().any(|earlier| earlier.suite == signature.suite) {
            return Err(SignatureError::Duplicate);
        }
    }
    signatures.iter().find(|signature| signature.suite == SUITE_ED25519).ok_or(SignatureError::Missing)
}

fn verifying_key(public: &[u8; 32]) -> Result<VerifyingKey, SignatureError> {
    if !is_reduced(public) {
        return Err(SignatureError::BadKey);
    }
    let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError::BadKey)?;
    if key.is_weak() {
        return Err(SignatureError::BadKey);
    }
    Ok(key)
}

/// Whether the y coordinate (the low 255 bits, little-endian) is below 2^255 - 19; decompression alone would take
/// both forms of a small y. The remaining ambiguity, the sign of x = 0, only concerns keys of small order.
pub(crate) fn is_reduced(point: &[u8; 32]) -> bool {
    point[0] < 0xed || point[31] & 0x7f != 0x7f || point[1..31].iter().any(|byte| *byte != 0xff)
}

fn verify(public: &[u8; 32], domain: Domain, bytes: &[u8], signatures: &[Signature]) -> Result<(), SignatureError> {
    let signature = sole_ed25519(signatures)?;
    let key = verifying_key(public)?;
    let signature = ed25519_dalek::Signature::from_slice(&signature.bytes).map_err(|_| SignatureError::Invalid)?;
    key.verify_strict(&signed_input(domain, bytes), &signature).map_err(|_| SignatureError::Invalid)
}

macro_rules! signing_key {
    ($(#[$doc:meta])* $key:ident, $(#[$public_doc:meta])* $public:ident) => {
        $(#[$doc])*
        pub struct $key(SigningKey);

        impl $key {
            /// Draws a new key from `rng`.
            pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
                let mut seed = Zeroizing::new([0; 32]);
                rand_core::Rng::fill_bytes(rng, seed.as_mut_slice());
                Self(SigningKey::from_bytes(&seed))
            }

            /// The key of a stored seed; wiping the original is the caller's task.
            pub fn from_seed(seed: [u8; 32]) -> Self {
                Self(SigningKey::from_bytes(&Zeroizing::new(seed)))
            }

            /// The seed, for storing it sealed.
            pub fn seed(&self) -> Zeroizing<[u8; 32]> {
                Zeroizing::new(self.0.to_bytes())
            }

            /// The public half.
            pub fn public(&self) -> $public {
                $public(self.0.verifying_key().to_bytes())
            }

            /// Signs `bytes` for one purpose, with every suite that this key has.
            pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Vec<Signature> {
                let signature = self.0.sign(&signed_input(domain, bytes));
                vec![Signature { suite: SUITE_ED25519, bytes: signature.to_bytes().to_vec() }]
            }
        }

        impl std::fmt::Debug for $key {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($key), "(..)"))
            }
        }

        $(#[$public_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $public(pub [u8; 32]);

        impl $public {
            /// Checks that a signer can have this key: canonical, on the curve, not of small order.
            ///
            /// # Errors
            /// [`SignatureError::BadKey`] otherwise.
            pub fn check(&self) -> Result<(), SignatureError> {
                verifying_key(&self.0).map(drop)
            }

            /// Checks that the owner of this key signed exactly `bytes` for exactly this purpose.
            ///
            /// One Ed25519 signature is required, signatures of unknown suites are passed over.
            ///
            /// # Errors
            /// [`SignatureError`] says which rule is broken.
            pub fn verify(
                &self,
                domain: Domain,
                bytes: &[u8],
                signatures: &[Signature],
            ) -> Result<(), SignatureError> {
                verify(&self.0, domain, bytes, signatures)
            }
        }

        impl std::fmt::Debug for $public {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($public), "({})"), hex::encode(self.0))
            }
        }
    };
}

signing_key! {
    /// The key that *is* the entity; needed rarely, may live on another machine.
    RootKey,
    /// The public half of a [`RootKey`]; what counterparts pin.
    RootPublic
}

signing_key! {
    /// The key that proves the node in TLS; its public half is the libp2p PeerId.
    TransportKey,
    /// The public half of a [`TransportKey`].
    TransportPublic
}

signing_key! {
    /// The key that signs what the node states: rosters, envelopes, receipts, addresses, log heads.
    StatementKey,
    /// The public half of a [`StatementKey`].
    StatementPublic
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;
    use proptest::prelude::*;

    fn key() -> StatementKey {
        StatementKey::generate(&mut TestRng::new(1))
    }

    fn extra(suite: u8) -> Signature {
        Signature { suite, bytes: vec![1; 3] }
    }

    fn check(public: StatementPublic, bytes: &[u8], signatures: &[Signature], expected: Result<(), SignatureError>) {
        assert_eq!(public.verify(Domain::Card, bytes, signatures), expected, "{public:?} {bytes:?} {signatures:?}");
    }

    #[test]
    fn the_signed_input_is_fixed() {
        let input = signed_input(Domain::Card, b"abc");
        assert_eq!(input, b"pakt signature v1\0\x00\x0cpakt card v1abc");
    }

    #[test]
    fn lists_of_signatures_follow_the_rule() {
        use SignatureError::*;
        let public = key().public();
        let good = key().sign(Domain::Card, b"abc").remove(0);
        let mut bent = good.clone();
        bent.bytes[5] ^= 1;
        let mut short = good.clone();
        short.bytes.pop();
        let mut long = good.clone();
        long.bytes.push(0);
        let many: Vec<_> = std::iter::once(good.clone()).chain((2..10).map(extra)).collect();
        check(public, b"abc", std::slice::from_ref(&good), Ok(()));
        check(public, b"abc", &[good.clone(), extra(2)], Ok(()));
        check(public, b"abc", &[extra(9), good.clone()], Ok(()));
        check(public, b"abc", &[], Err(Missing));
        check(public, b"abc", &[extra(2)], Err(Missing));
        check(public, b"abc", &[good.clone(), good.clone()], Err(Duplicate));
        check(public, b"abc", &[bent.clone(), good.clone()], Err(Duplicate));
        check(public, b"abc", &[good.clone(), extra(2), extra(2)], Err(Duplicate));
        check(public, b"abc", &many, Err(Duplicate));
        check(public, b"abc", &[bent], Err(Invalid));
        check(public, b"abc", &[short], Err(Invalid));
        check(public, b"abc", &[long], Err(Invalid));
        check(public, b"abd", std::slice::from_ref(&good), Err(Invalid));
        check(public, b"", std::slice::from_ref(&good), Err(Invalid));
        let other = StatementKey::generate(&mut TestRng::new(2)).public();
        check(other, b"abc", &[good], Err(Invalid));
    }

    #[test]
    fn p4_a_signature_of_one_domain_is_worthless_in_every_other() {
        for signed in Domain::ALL {
            let signatures = key().sign(signed, b"abc");
            for asked in Domain::ALL {
                let outcome = key().public().verify(asked, b"abc", &signatures);
                assert_eq!(outcome.is_ok(), signed == asked, "{signed:?} as {asked:?}");
            }
        }
    }

    #[test]
    fn text_cannot_slide_from_the_domain_into_the_bytes() {
        let signatures = key().sign(Domain::Card, b" and more");
        let slid = [b"pakt card v1".as_slice(), b" and more"].concat();
        check(key().public(), &slid, &signatures, Err(SignatureError::Invalid));
    }

    /// The eight points of small order in every encoding that decompression takes.
    const SMALL_ORDER: [&str; 14] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];

    fn bytes32(hex_text: &str) -> [u8; 32] {
        hex::decode(hex_text).unwrap().try_into().unwrap()
    }

    #[test]
    fn keys_of_small_order_are_refused_even_with_the_signature_that_fits_all_messages() {
        for point in SMALL_ORDER.map(bytes32) {
            let public = StatementPublic(point);
            assert_eq!(public.check(), Err(SignatureError::BadKey), "{public:?}");
            // R = A, S = 0 satisfies the lax equation for the neutral element.
            let forged = Signature { suite: 1, bytes: [point, [0; 32]].concat() };
            check(public, b"abc", &[forged], Err(SignatureError::BadKey));
        }
    }

    #[test]
    fn every_non_canonical_key_is_refused() {
        let mut decompressed = 0;
        for low in 0xed..=0xff {
            for top in [0x7f, 0xff] {
                let mut point = [0xff; 32];
                (point[0], point[31]) = (low, top);
                decompressed += usize::from(VerifyingKey::from_bytes(&point).is_ok());
                assert_eq!(StatementPublic(point).check(), Err(SignatureError::BadKey));
            }
        }
        assert!(decompressed > 4, "the library takes these, only our own check refuses them");
        let not_on_the_curve = StatementPublic([2; 32]);
        assert!(VerifyingKey::from_bytes(&not_on_the_curve.0).is_err());
        assert_eq!(not_on_the_curve.check(), Err(SignatureError::BadKey));
    }

    #[test]
    fn a_signature_has_no_second_form() {
        // S + L verifies under the lax rules of old libraries.
        const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
        let mut signature = key().sign(Domain::Card, b"abc").remove(0);
        let mut carry = 0u16;
        for (byte, order) in signature.bytes[32..].iter_mut().zip(bytes32(ORDER)) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        check(key().public(), b"abc", &[signature], Err(SignatureError::Invalid));
    }

    #[test]
    fn rfc_8032_vector_1_gives_the_known_public_key() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(RootKey::from_seed(bytes32(seed)).public().0, bytes32(public));
        assert_eq!(*RootKey::from_seed(bytes32(seed)).seed(), bytes32(seed));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let key = RootKey::from_seed([0xab; 32]);
        assert_eq!(format!("{key:?}"), "RootKey(..)");
        assert!(format!("{:?}", key.public()).starts_with("RootPublic("));
    }

    #[test]
    fn a_commitment_names_one_successor() {
        let [first, second] = [1, 2].map(|seed| RootKey::generate(&mut TestRng::new(seed)).public());
        assert_eq!(successor_commitment(&first), successor_commitment(&first));
        assert_ne!(successor_commitment(&first), successor_commitment(&second));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_flipped_bit_is_refused(
            seed: [u8; 32], bytes in proptest::collection::vec(any::<u8>(), 1..60),
            position: prop::sample::Index, bit in 0u8..8,
        ) {
            let key = StatementKey::from_seed(seed);
            let mut signatures = key.sign(Domain::Receipt, &bytes);
            prop_assert_eq!(key.public().verify(Domain::Receipt, &bytes, &signatures), Ok(()));
            let mut bent = bytes.clone();
            bent[position.index(bytes.len())] ^= 1 << bit;
            prop_assert!(key.public().verify(Domain::Receipt, &bent, &signatures).is_err());
            signatures[0].bytes[position.index(64)] ^= 1 << bit;
            prop_assert!(key.public().verify(Domain::Receipt, &bytes, &signatures).is_err());
        }
    }
}
