//! Names of things: fixed-size, compared byte by byte, written in lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not an id of the wanted length in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: {expected} hexadecimal characters are needed")]
pub struct IdError {
    /// The number of characters that the id has.
    pub expected: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                let expected = 2 * $bytes;
                let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if lower => Ok($name(bytes)),
                    _ => Err(IdError { expected }),
                }
            }
        }
    };
}

id!(
    /// The name of a sealed object: BLAKE3 of its sealed bytes.
    ObjectId,
    32
);
id!(
    /// The name of an agreement: BLAKE3 of its version 1 terms, which hold a nonce.
    AgreementId,
    32
);
id!(
    /// The name of a message, random, the same for all its recipients.
    MessageId,
    16
);
id!(
    /// The name of an envelope: one message to one group of one entity, random.
    EnvelopeId,
    16
);
id!(
    /// The hash of an envelope core: what signatures and receipts speak of.
    CoreHash,
    32
);

impl ObjectId {
    /// The name of an object with these sealed bytes.
    pub fn of(sealed: &[u8]) -> ObjectId {
        ObjectId(*blake3::hash(sealed).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_strict() {
        let id = EnvelopeId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "ab", &"AB".repeat(16), &"ab".repeat(17), &"zz".repeat(16)] {
            assert!(bad.parse::<EnvelopeId>().is_err(), "{bad}");
        }
    }
}
