//! One flight: sealed by the dialer, opened by the listener, and the keys that both derive from a granted secret.
//!
//! **Invariant:** a flight key seals one flight: it is derived from a nonce that itself depends on fresh randomness,
//! the counter and the ClientHello, so that a cloned machine repeats a key only by repeating the whole flight.

use aes_gcm::aead::KeyInit;
use aes_gcm::{AeadInOut, Aes256Gcm, Nonce};
use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::limits::FLIGHT_BYTES;

const NONCE_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const PREFIX_BYTES: usize = NONCE_BYTES + TAG_BYTES;
const SEAL_BYTES: usize = 16;
const SEALED_AT: usize = FLIGHT_BYTES - SEAL_BYTES;
const COUNTER_BYTES: usize = 8;
const HEAD_BYTES: usize = COUNTER_BYTES + 2;

/// Bytes of the longest ClientHello that fits one flight.
pub const HELLO_BYTES_MAX: usize = SEALED_AT - PREFIX_BYTES - HEAD_BYTES;

/// The bytes of one flight as they cross the network.
pub type Flight = [u8; FLIGHT_BYTES];

/// Why a flight cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlightError {
    /// The caller's ClientHello does not fit.
    #[error("a ClientHello of {bytes} bytes does not fit the flight, at most {HELLO_BYTES_MAX} do")]
    HelloTooLong {
        /// The length that was offered.
        bytes: usize,
    },
}

/// What a listener granted to one counterpart; whoever holds it can make this listener answer.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DoorSecret([u8; 32]);

impl DoorSecret {
    /// The secret with these bytes, as a grant carries them.
    pub fn from_bytes(bytes: [u8; 32]) -> DoorSecret {
        DoorSecret(bytes)
    }

    /// A new secret for a new grant.
    pub fn generate(rng: &mut impl CryptoRng) -> DoorSecret {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        DoorSecret(bytes)
    }

    /// The bytes, for the grant and for the store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for DoorSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DoorSecret(..)")
    }
}

/// What is derived once per secret, so that trying a row costs one keyed hash.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct DoorKeys {
    tag: [u8; 32],
    flight: [u8; 32],
    nonce: [u8; 32],
}

impl DoorKeys {
    pub(super) fn new(secret: &DoorSecret) -> DoorKeys {
        DoorKeys {
            tag: blake3::derive_key("pakt door tag v1", &secret.0),
            flight: blake3::derive_key("pakt door flight v1", &secret.0),
            nonce: blake3::derive_key("pakt door nonce v1", &secret.0),
        }
    }

    /// Whether the flight names this secret; the time taken does not depend on the answer.
    pub(super) fn names(&self, flight: &Flight) -> Choice {
        self.tag_of(&flight[..NONCE_BYTES]).ct_eq(&flight[NONCE_BYTES..PREFIX_BYTES])
    }

    /// Counter and ClientHello of a flight sealed under this secret.
    pub(super) fn open(&self, flight: &Flight) -> Option<(u64, Vec<u8>)> {
        let (prefix, rest) = flight.split_at(PREFIX_BYTES);
        let (sealed, tag) = rest.split_at(SEALED_AT - PREFIX_BYTES);
        let mut body = Zeroizing::new(sealed.to_vec());
        let tag: [u8; SEAL_BYTES] = tag.try_into().ok()?;
        self.cipher(&prefix[..NONCE_BYTES])
            .decrypt_inout_detached(&Nonce::default(), prefix, body.as_mut_slice().into(), &tag.into())
            .ok()?;
        let counter = u64::from_be_bytes(body[..COUNTER_BYTES].try_into().ok()?);
        let length = u16::from_be_bytes(body[COUNTER_BYTES..HEAD_BYTES].try_into().ok()?);
        let (hello, padding) = body[HEAD_BYTES..].split_at_checked(usize::from(length))?;
        padding.iter().all(|byte| *byte == 0).then(|| (counter, hello.to_vec()))
    }

    fn tag_of(&self, nonce: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&blake3::keyed_hash(&self.tag, nonce).as_bytes()[..TAG_BYTES]);
        tag
    }

    fn cipher(&self, nonce: &[u8]) -> Aes256Gcm {
        let key = Zeroizing::new(*blake3::keyed_hash(&self.flight, nonce).as_bytes());
        Aes256Gcm::new((&*key).into())
    }

    fn fresh_nonce(&self, counter: u64, hello: &[u8], rng: &mut impl CryptoRng) -> [u8; NONCE_BYTES] {
        let mut random = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *random);
        let mut hasher = blake3::Hasher::new_keyed(&self.nonce);
        hasher.update(&*random).update(&counter.to_be_bytes()).update(hello);
        *hasher.finalize().as_bytes()
    }
}

/// Seals a ClientHello into the one flight that passes the door of whoever granted `secret`.
///
/// `counter` must be greater than every counter used with this secret before, and durable before the flight leaves.
///
/// # Errors
/// [`FlightError::HelloTooLong`] when the ClientHello has more than [`HELLO_BYTES_MAX`] bytes.
pub fn seal_flight(
    secret: &DoorSecret,
    counter: u64,
    hello: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Box<Flight>, FlightError> {
    let too_long = FlightError::HelloTooLong { bytes: hello.len() };
    if hello.len() > HELLO_BYTES_MAX {
        return Err(too_long);
    }
    let length = u16::try_from(hello.len()).map_err(|_| too_long)?;
    let keys = DoorKeys::new(secret);
    let nonce = keys.fresh_nonce(counter, hello, rng);

    let mut flight = Box::new([0; FLIGHT_BYTES]);
    flight[..NONCE_BYTES].copy_from_slice(&nonce);
    flight[NONCE_BYTES..PREFIX_BYTES].copy_from_slice(&keys.tag_of(&nonce));
    let (prefix, rest) = flight.split_at_mut(PREFIX_BYTES);
    let (body, tag) = rest.split_at_mut(SEALED_AT - PREFIX_BYTES);
    body[..COUNTER_BYTES].copy_from_slice(&counter.to_be_bytes());
    body[COUNTER_BYTES..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    body[HEAD_BYTES..HEAD_BYTES + hello.len()].copy_from_slice(hello);
    let sealed = keys
        .cipher(&nonce)
        .encrypt_inout_detached(&Nonce::default(), prefix, body.into())
        .expect("AES-GCM refuses only texts of gigabytes, this one has 1,984 bytes");
    tag.copy_from_slice(&sealed);
    Ok(flight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rng() -> impl CryptoRng {
        rand_core::UnwrapErr(getrandom::SysRng)
    }

    #[test]
    fn a_flight_opens_only_whole_and_only_with_its_secret() {
        let (ours, other) = (DoorSecret::generate(&mut rng()), DoorSecret::generate(&mut rng()));
        let flight = seal_flight(&ours, 7, b"hello", &mut rng()).unwrap();
        assert_eq!(DoorKeys::new(&ours).open(&flight), Some((7, b"hello".to_vec())));
        assert!(!bool::from(DoorKeys::new(&other).names(&flight)));
        assert_eq!(DoorKeys::new(&other).open(&flight), None);
        for at in (0..FLIGHT_BYTES).step_by(31).chain([PREFIX_BYTES, SEALED_AT, FLIGHT_BYTES - 1]) {
            let mut bent = flight.clone();
            bent[at] ^= 1;
            assert_eq!(DoorKeys::new(&ours).open(&bent), None, "byte {at}");
        }
    }

    #[test]
    fn nothing_repeats_between_two_flights() {
        let secret = DoorSecret::generate(&mut rng());
        let one = seal_flight(&secret, 1, b"same", &mut rng()).unwrap();
        let two = seal_flight(&secret, 1, b"same", &mut rng()).unwrap();
        let equal = one.iter().zip(two.iter()).filter(|(a, b)| a == b).count();
        assert!(equal < 64, "{equal} of {FLIGHT_BYTES} bytes are equal, chance gives 8");
    }

    #[test]
    fn p12_a_cloned_generator_repeats_no_key() {
        struct Stuck;
        impl rand_core::TryRng for Stuck {
            type Error = std::convert::Infallible;
            fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
                Ok(4)
            }
            fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
                Ok(4)
            }
            fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
                bytes.fill(4);
                Ok(())
            }
        }
        impl rand_core::TryCryptoRng for Stuck {}
        let secret = DoorSecret::from_bytes([1; 32]);
        let flights = [(1, "a"), (2, "a"), (1, "b")].map(|(n, hello)| {
            let flight = seal_flight(&secret, n, hello.as_bytes(), &mut Stuck).unwrap();
            <[u8; NONCE_BYTES]>::try_from(&flight[..NONCE_BYTES]).unwrap()
        });
        assert!(flights[0] != flights[1] && flights[1] != flights[2] && flights[0] != flights[2]);
    }

    #[test]
    fn a_hello_that_does_not_fit_is_refused() {
        let secret = DoorSecret::generate(&mut rng());
        let longest = vec![9; HELLO_BYTES_MAX];
        let flight = seal_flight(&secret, u64::MAX, &longest, &mut rng()).unwrap();
        assert_eq!(DoorKeys::new(&secret).open(&flight), Some((u64::MAX, longest)));
        let bytes = HELLO_BYTES_MAX + 1;
        let refused = seal_flight(&secret, 1, &vec![9; bytes], &mut rng());
        assert_eq!(refused.err(), Some(FlightError::HelloTooLong { bytes }));
    }

    #[test]
    fn the_secret_does_not_print() {
        assert_eq!(format!("{:?}", DoorSecret::from_bytes([0xab; 32])), "DoorSecret(..)");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn round_trip(counter: u64, hello in proptest::collection::vec(any::<u8>(), 0..=HELLO_BYTES_MAX)) {
            let secret = DoorSecret::from_bytes([3; 32]);
            let flight = seal_flight(&secret, counter, &hello, &mut rng()).unwrap();
            prop_assert!(bool::from(DoorKeys::new(&secret).names(&flight)));
            prop_assert_eq!(DoorKeys::new(&secret).open(&flight), Some((counter, hello)));
        }
    }
}
