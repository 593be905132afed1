//! Finding each other again through a common partner: what a node leaves there for its other counterparts.
//!
//! B leaves at P, for each other counterpart A, its signed addresses, sealed under the door secret that it granted to
//! A, with a tag that only A and B can compute. When A cannot reach B any more, it asks P for that tag.
//!
//! ```text
//! tag    = BLAKE3 keyed(DK("pakt deposit tag v1", secret), P's entity id), the first 16 bytes
//! salt   = BLAKE3 keyed(DK("pakt deposit salt v1", secret), P's entity id || plain)
//! key    = BLAKE3 keyed(DK("pakt deposit key v1", secret), P's entity id || salt)
//! sealed = salt 32 || AES-256-GCM(key, zero nonce, plain) || tag 16
//! plain  = length u16be || encoded Signed<AddressUpdate> || zeros
//! ```
//! **Invariant:** a key seals one plaintext: it is derived from what it seals, so the nonce may be zero.
//! **Invariant:** P reads neither who may open it nor what it says; tags at two partners have nothing in common.

use aes_gcm::aead::KeyInit;
use aes_gcm::{AeadInOut, Aes256Gcm, Nonce};
use pakt_keys::EntityId;
use pakt_keys::codec;
use zeroize::Zeroizing;

use crate::door::DoorSecret;
use crate::record::Signed;
use crate::record::address_update::AddressUpdate;

/// Bytes of a deposit that holds a few addresses.
pub const DEPOSIT_BYTES_SHORT: usize = 512;
/// Bytes of any other: the longest addresses fit.
pub const DEPOSIT_BYTES_LONG: usize = 2_560;
/// Deposits that one counterpart may leave.
pub const DEPOSITS_MAX: usize = 1_024;
/// Tags that are asked for at once, and deposits that are answered: always as many.
pub const SEEK_TAGS: usize = 8;

const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const LENGTH_BYTES: usize = 2;
/// Bytes of an encoded signed update: its body, a list of two signatures at the most, and room for their lengths.
const UPDATE_BYTES_MAX: usize = DEPOSIT_BYTES_LONG - SALT_BYTES - TAG_BYTES - LENGTH_BYTES;

/// The tag under which `keeper` keeps what the granter of `secret` left for its holder.
pub fn tag(secret: &DoorSecret, keeper: &EntityId) -> [u8; 16] {
    let whole = keyed("pakt deposit tag v1", secret, keeper, &[]);
    let mut tag = [0; 16];
    tag.copy_from_slice(&whole[..16]);
    tag
}

/// Seals an update for the holder of `secret`, to be left at `keeper`; none if it is longer than any update can be.
pub fn seal(secret: &DoorSecret, keeper: &EntityId, update: &Signed<AddressUpdate>) -> Option<Vec<u8>> {
    let bytes = codec::encode(1, update);
    let fits = |size: &usize| bytes.len() + SALT_BYTES + LENGTH_BYTES + TAG_BYTES <= *size;
    let size = [DEPOSIT_BYTES_SHORT, DEPOSIT_BYTES_LONG].into_iter().find(fits)?;
    let mut plain = Zeroizing::new(vec![0; size - SALT_BYTES - TAG_BYTES]);
    plain[..LENGTH_BYTES].copy_from_slice(&u16::try_from(bytes.len()).ok()?.to_be_bytes());
    plain[LENGTH_BYTES..LENGTH_BYTES + bytes.len()].copy_from_slice(&bytes);
    let salt = keyed("pakt deposit salt v1", secret, keeper, &plain);
    let sealed = cipher(secret, keeper, &salt[..])
        .encrypt_inout_detached(&Nonce::default(), &[], plain.as_mut_slice().into())
        .expect("AES-GCM refuses only texts of gigabytes, this one has some kilobytes");
    Some([&salt[..], &plain[..], &sealed[..]].concat())
}

/// Opens what was found under the tag of `secret`: as it was left, or behind it bytes that only fill it up.
pub fn open(secret: &DoorSecret, keeper: &EntityId, found: &[u8]) -> Option<Signed<AddressUpdate>> {
    [DEPOSIT_BYTES_SHORT, DEPOSIT_BYTES_LONG].into_iter().find_map(|size| open_one(secret, keeper, found.get(..size)?))
}

fn open_one(secret: &DoorSecret, keeper: &EntityId, sealed: &[u8]) -> Option<Signed<AddressUpdate>> {
    let (salt, rest) = sealed.split_first_chunk::<SALT_BYTES>()?;
    let (body, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let mut plain = Zeroizing::new(body.to_vec());
    cipher(secret, keeper, salt)
        .decrypt_inout_detached(&Nonce::default(), &[], plain.as_mut_slice().into(), tag.into())
        .ok()?;
    let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>()?;
    let (bytes, padding) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let is_padded = padding.iter().all(|byte| *byte == 0);
    codec::decode(1, bytes, UPDATE_BYTES_MAX).ok().filter(|_| is_padded)
}

fn cipher(secret: &DoorSecret, keeper: &EntityId, salt: &[u8]) -> Aes256Gcm {
    Aes256Gcm::new((&*keyed("pakt deposit key v1", secret, keeper, salt)).into())
}

fn keyed(domain: &str, secret: &DoorSecret, keeper: &EntityId, what: &[u8]) -> Zeroizing<[u8; 32]> {
    let key = Zeroizing::new(blake3::derive_key(domain, secret.as_bytes()));
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(&keeper.0).update(what);
    Zeroizing::new(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::AgreementId;
    use crate::record::tests::Party;

    fn update(addresses: usize, length: usize) -> Signed<AddressUpdate> {
        let (a, b) = (Party::new(1), Party::new(2));
        let address = |n: usize| format!("{}.{}.no:{}", "x".repeat(60), "y".repeat(length), 4100 + n).parse().unwrap();
        let addresses = (0..addresses).map(address).collect();
        let update = AddressUpdate {
            issuer: a.entity(),
            reader: b.entity(),
            agreement: AgreementId([5; 32]),
            counter: 3,
            addresses,
        };
        Signed::create(&update, |domain, bytes| a.statement.sign(domain, bytes))
    }

    #[test]
    fn only_the_holder_of_the_secret_finds_and_opens_it_and_only_at_that_keeper() {
        let (secret, other) = (DoorSecret::from_bytes([1; 32]), DoorSecret::from_bytes([2; 32]));
        let (keeper, elsewhere) = (EntityId([7; 32]), EntityId([8; 32]));
        for (addresses, length, size) in
            [(0, 1, DEPOSIT_BYTES_SHORT), (2, 1, DEPOSIT_BYTES_SHORT), (8, 60, DEPOSIT_BYTES_LONG)]
        {
            let update = update(addresses, length);
            let sealed = seal(&secret, &keeper, &update).unwrap();
            assert_eq!(sealed.len(), size);
            assert_eq!(open(&secret, &keeper, &sealed), Some(update.clone()));
            let filled = [&sealed[..], &vec![9; DEPOSIT_BYTES_LONG - size]].concat();
            assert_eq!(open(&secret, &keeper, &filled), Some(update));
            assert_eq!(open(&other, &keeper, &sealed), None);
            assert_eq!(open(&secret, &elsewhere, &sealed), None);
            for at in (0..size).step_by(13) {
                let mut bent = sealed.clone();
                bent[at] ^= 1;
                assert_eq!(open(&secret, &keeper, &bent), None, "byte {at}");
            }
            for length in [0, 1, 48, size - 1] {
                assert_eq!(open(&secret, &keeper, &sealed[..length]), None, "{length}");
            }
        }
        assert_ne!(tag(&secret, &keeper), tag(&secret, &elsewhere));
        assert_ne!(tag(&secret, &keeper), tag(&other, &keeper));
    }

    #[test]
    fn p12_no_key_meets_two_plaintexts() {
        let (secret, keeper) = (DoorSecret::from_bytes([1; 32]), EntityId([7; 32]));
        let [one, two] = [1, 2].map(|addresses| seal(&secret, &keeper, &update(addresses, 1)).unwrap());
        assert_ne!(one[..SALT_BYTES], two[..SALT_BYTES]);
        assert_eq!(one, seal(&secret, &keeper, &update(1, 1)).unwrap(), "the same again says nothing new");
    }
}
