//! The identity of a legal entity: a hash of its first root key.
//!
//! **Invariant:** an `EntityId` never changes, whatever keys the entity replaces later.
//! **Invariant:** one id has one lower-case text form; only the all-upper-case form is tolerated beside it.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use serde::{Deserialize, Serialize};

use crate::signing::RootPublic;

const PREFIX: Hrp = Hrp::parse_unchecked("ent");

/// The hash of an entity's inception root; its text form is bech32m with the prefix `ent`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityId(pub [u8; 32]);

/// Why a text is not an entity id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntityIdError {
    /// The text is not bech32m, or a letter is wrong.
    #[error("this is not an entity id, or a letter of it is wrong: copy it again")]
    Mistyped,
    /// The text is bech32m, but of something else than an entity.
    #[error("an entity id begins with ent1 and has 62 letters")]
    NotAnEntity,
}

impl EntityId {
    /// The id of the entity whose inception root this is.
    pub fn of(inception_root: &RootPublic) -> Self {
        Self(blake3::derive_key("pakt entity v1", &inception_root.0))
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode_lower::<Bech32m>(PREFIX, &self.0)
            .expect("32 bytes are far below the length limit of bech32m");
        f.pad(&text)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EntityId {
    type Err = EntityIdError;

    fn from_str(text: &str) -> Result<Self, EntityIdError> {
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| EntityIdError::Mistyped)?;
        if checked.hrp() != PREFIX || checked.byte_iter().len() != 32 {
            return Err(EntityIdError::NotAnEntity);
        }
        let mut id = Self([0; 32]);
        id.0.iter_mut().zip(checked.byte_iter()).for_each(|(to, from)| *to = from);
        // Bech32 leaves four bits unused; only zeros there give this id its one text form.
        if !id.to_string().eq_ignore_ascii_case(text) {
            return Err(EntityIdError::Mistyped);
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bech32::{Bech32, ByteIterExt, Fe32, Fe32IterExt};

    fn id() -> EntityId {
        EntityId::of(&RootPublic([7; 32]))
    }

    fn check(text: &str, expected: Result<EntityId, EntityIdError>) {
        assert_eq!(text.parse::<EntityId>(), expected, "{text}");
    }

    #[test]
    fn the_text_form_is_stable_and_comes_back() {
        let text = id().to_string();
        assert!(text.starts_with("ent1"));
        assert_eq!(text.len(), 62);
        assert_eq!(format!("{:?}", id()), text);
        check(&text, Ok(id()));
        check(&text.to_uppercase(), Ok(id()));
        assert_ne!(EntityId::of(&RootPublic([8; 32])), id());
    }

    #[test]
    fn every_changed_letter_is_refused() {
        let text = id().to_string();
        for position in 0..text.len() {
            for letter in "qpzry9x8gf2tvdw0s3jn54khce6mua7l1bio".chars() {
                let mut letters: Vec<char> = text.chars().collect();
                if letters[position] == letter {
                    continue;
                }
                letters[position] = letter;
                let changed: String = letters.iter().collect();
                assert!(changed.parse::<EntityId>().is_err(), "{changed}");
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
        use EntityIdError::*;
        let text = id().to_string();
        let encode =
            |prefix: &str, bytes: &[u8]| bech32::encode_lower::<Bech32m>(Hrp::parse_unchecked(prefix), bytes).unwrap();
        let old = bech32::encode_lower::<Bech32>(PREFIX, &id().0).unwrap();
        let mixed = format!("ENT1{}", &text[4..]);
        let mut symbols: Vec<Fe32> = id().0.iter().copied().bytes_to_fes().collect();
        let last = symbols.len() - 1;
        symbols[last] = Fe32::try_from(symbols[last].to_u8() | 1).unwrap();
        let padded: String = symbols.into_iter().with_checksum::<Bech32m>(&PREFIX).chars().collect();
        check("", Err(Mistyped));
        check("ent1", Err(Mistyped));
        check(&old, Err(Mistyped));
        check(&mixed, Err(Mistyped));
        check(&padded, Err(Mistyped));
        check(&format!("{text} "), Err(Mistyped));
        check(&encode("bc", &id().0), Err(NotAnEntity));
        check(&encode("ent", &id().0[..31]), Err(NotAnEntity));
        check(&encode("ent", &[0; 33]), Err(NotAnEntity));
        check(&encode("ent", &[]), Err(NotAnEntity));
    }

    #[test]
    fn the_encoding_is_32_raw_bytes() {
        let bytes = crate::codec::encode(1, &id());
        assert_eq!(bytes[1..], id().0);
        assert_eq!(crate::codec::decode(1, &bytes, 33), Ok(id()));
    }
}
