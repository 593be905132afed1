//! The bytes of the key-slot file: keys that must be erasable for good, outside the database.
//!
//! ```text
//! file   = header (128) || slot 0 (128) || slot 1 (128) || ...
//! header = "PAKTSLOT" || version (1) || slot key sealed under the store key (80) || zeros (39)
//! slot   = salt (32) || AES-256-GCM over length (1), key material and zeros (80) || tag (16)
//! ```
//!
//! A slot is erased by overwriting it; once the file was rewritten under a fresh slot key, remains of old slots on
//! the disk open under no key that still exists. 128 divides every sector size, so no slot lies across two sectors.
//!
//! **Invariant:** a slot opens only at its own index and generation: an old copy of a slot, or one moved elsewhere in
//! the file, does not open.
//! **Invariant:** an erased slot cannot be told from a used one without the slot key.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::hedged;
use crate::secret::secret_bytes;
use crate::store_seal::StoreKey;

/// Length of a slot in the file, in bytes.
pub const SLOT_BYTES: usize = 128;

/// Length of the file's header, in bytes.
pub const HEADER_BYTES: usize = 128;

/// The most key material that one slot holds, in bytes.
pub const SLOT_PLAIN_BYTES_MAX: usize = PADDED_BYTES - 1;

const PADDED_BYTES: usize = SLOT_BYTES - hedged::OVERHEAD;
const MAGIC: &[u8; 8] = b"PAKTSLOT";
const VERSION: u8 = 1;
const SEALED_KEY: std::ops::Range<usize> = 9..9 + 32 + hedged::OVERHEAD;

secret_bytes! {
    /// The key of one edition of the slot file; a new one with every rewrite.
    SlotKey
}

/// Why a slot file or a slot cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The header was changed, or belongs to another store key.
    #[error("the key-slot file is damaged or belongs to another keystore: restore it from a backup")]
    Damaged,
    /// A newer program wrote the file.
    #[error("the key-slot file has format version {found}, this program knows {supported}: upgrade it")]
    Newer {
        /// Version byte of the file.
        found: u8,
        /// Version that this program knows.
        supported: u8,
    },
    /// The caller's key material does not fit a slot; length in bytes.
    #[error("{bytes} bytes do not fit into a key slot")]
    TooLong {
        /// Length of what was to be sealed, in bytes.
        bytes: usize,
    },
}

/// The header of a slot file with this slot key.
pub fn header_seal(store: &StoreKey, slot_key: &SlotKey, rng: &mut (impl CryptoRng + ?Sized)) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8] = VERSION;
    let context: [&[u8]; 2] = [b"slot header", &[VERSION]];
    let sealed = hedged::seal(store.as_bytes(), &context, slot_key.as_bytes(), rng);
    header[SEALED_KEY].copy_from_slice(&sealed);
    header
}

/// The slot key of a file that begins with `header`.
///
/// # Errors
/// [`SlotError::Newer`] or [`SlotError::Damaged`].
pub fn header_open(store: &StoreKey, header: &[u8]) -> Result<SlotKey, SlotError> {
    let header: &[u8; HEADER_BYTES] = header.first_chunk().ok_or(SlotError::Damaged)?;
    if &header[..8] != MAGIC || header[SEALED_KEY.end..].iter().any(|byte| *byte != 0) {
        return Err(SlotError::Damaged);
    }
    match header[8] {
        VERSION => {}
        0 => return Err(SlotError::Damaged),
        found => {
            return Err(SlotError::Newer { found, supported: VERSION });
        }
    }
    let context: [&[u8]; 2] = [b"slot header", &[VERSION]];
    let opened = hedged::open(store.as_bytes(), &context, &header[SEALED_KEY]).ok_or(SlotError::Damaged)?;
    let bytes = opened.first_chunk().ok_or(SlotError::Damaged)?;
    Ok(SlotKey::from_bytes(*bytes))
}

/// Seals key material for one slot; `generation` counts the uses of this index.
///
/// # Errors
/// [`SlotError::TooLong`] above [`SLOT_PLAIN_BYTES_MAX`].
pub fn seal_slot(
    slot_key: &SlotKey,
    index: u64,
    generation: u64,
    plain: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<[u8; SLOT_BYTES], SlotError> {
    if plain.len() > SLOT_PLAIN_BYTES_MAX {
        return Err(SlotError::TooLong { bytes: plain.len() });
    }
    let mut padded = Zeroizing::new([0; PADDED_BYTES]);
    padded[0] = plain.len() as u8;
    padded[1..=plain.len()].copy_from_slice(plain);
    let place = place(index, generation);
    let sealed = hedged::seal(slot_key.as_bytes(), &[b"slot", &place], padded.as_slice(), rng);
    let mut slot = [0; SLOT_BYTES];
    slot.copy_from_slice(&sealed);
    Ok(slot)
}

/// Opens a slot; `None` if it is erased, damaged, or was sealed for another place or another edition of the file.
pub fn open_slot(slot_key: &SlotKey, index: u64, generation: u64, slot: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if slot.len() != SLOT_BYTES {
        return None;
    }
    let padded = hedged::open(slot_key.as_bytes(), &[b"slot", &place(index, generation)], slot)?;
    let (&length, rest) = padded.split_first()?;
    rest.get(..usize::from(length)).map(|plain| Zeroizing::new(plain.to_vec()))
}

/// What an erased slot is overwritten with: random bytes.
pub fn erased_slot(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    rng.fill_bytes(&mut slot);
    slot
}

fn place(index: u64, generation: u64) -> [u8; 16] {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&index.to_be_bytes());
    place[8..].copy_from_slice(&generation.to_be_bytes());
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    fn key(seed: u64) -> SlotKey {
        SlotKey::generate(&mut TestRng::new(seed))
    }

    fn store() -> StoreKey {
        StoreKey::generate(&mut TestRng::new(5))
    }

    fn slot() -> [u8; SLOT_BYTES] {
        seal_slot(&key(1), 3, 4, b"key material", &mut TestRng::new(2)).unwrap()
    }

    fn check(seed: u64, index: u64, generation: u64, slot: &[u8], expected: Option<&[u8]>) {
        let opened = open_slot(&key(seed), index, generation, slot);
        assert_eq!(opened.as_ref().map(|plain| plain.as_slice()), expected);
    }

    #[test]
    fn p8_a_slot_opens_at_its_place_and_edition_only() {
        check(1, 3, 4, &slot(), Some(b"key material"));
        check(1, 3, 5, &slot(), None);
        check(1, 4, 4, &slot(), None);
        check(1, 4, 3, &slot(), None);
        check(2, 3, 4, &slot(), None);
        check(1, 3, 4, &erased_slot(&mut TestRng::new(2)), None);
        check(1, 3, 4, &[0; SLOT_BYTES], None);
    }

    #[test]
    fn any_changed_bit_and_any_other_length_is_refused() {
        for bit in 0..SLOT_BYTES * 8 {
            let mut bent = slot();
            bent[bit / 8] ^= 1 << (bit % 8);
            check(1, 3, 4, &bent, None);
        }
        for length in 0..SLOT_BYTES {
            check(1, 3, 4, &slot()[..length], None);
        }
        check(1, 3, 4, &[slot().as_slice(), &[0]].concat(), None);
    }

    #[test]
    fn every_length_that_fits_comes_back_and_no_other_is_taken() {
        let plain = [9; 200];
        for length in 0..plain.len() {
            let sealed = seal_slot(&key(1), 0, 0, &plain[..length], &mut TestRng::new(2));
            if length > SLOT_PLAIN_BYTES_MAX {
                assert_eq!(sealed, Err(SlotError::TooLong { bytes: length }));
            } else {
                check(1, 0, 0, &sealed.unwrap(), Some(&plain[..length]));
            }
        }
        const { assert!(SLOT_PLAIN_BYTES_MAX >= 64) };
    }

    #[test]
    fn the_header_hands_the_slot_key_to_the_owner_of_the_store_key() {
        let header = header_seal(&store(), &key(1), &mut TestRng::new(2));
        assert_eq!(header_open(&store(), &header), Ok(key(1)));
        let longer = [header.as_slice(), &slot()].concat();
        assert_eq!(header_open(&store(), &longer), Ok(key(1)), "the whole file may be passed");
        let foreign = StoreKey::from_bytes([1; 32]);
        assert_eq!(header_open(&foreign, &header), Err(SlotError::Damaged));
        for length in 0..HEADER_BYTES {
            assert_eq!(header_open(&store(), &header[..length]), Err(SlotError::Damaged));
        }
    }

    #[test]
    fn any_changed_bit_of_the_header_is_refused() {
        let header = header_seal(&store(), &key(1), &mut TestRng::new(2));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bent = header;
            bent[bit / 8] ^= 1 << (bit % 8);
            let expected = match bent[8] {
                VERSION | 0 => SlotError::Damaged,
                found => SlotError::Newer { found, supported: VERSION },
            };
            assert_eq!(header_open(&store(), &bent), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn a_sealed_slot_is_no_store_value_and_the_other_way_round() {
        let value = store().seal("slot", b"", &[0; 80], &mut TestRng::new(1));
        let same_key = SlotKey::from_bytes(*store().as_bytes());
        assert_eq!(open_slot(&same_key, 0, 0, &value), None);
    }
}
