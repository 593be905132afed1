//! The recovery record: the next root, kept on another machine until the current one is lost or replaced.
//!
//! **Invariant:** a record with any changed bit is refused, so that nobody waits for a root that never existed.

use zeroize::Zeroizing;

use crate::codec::{self, CodecError};
use crate::signing::{RootKey, RootPublic};

const RECOVERY_VERSION: u8 = 1;

/// What `recover` needs: the root that succeeds the current one; its file belongs on another machine.
#[derive(Debug)]
pub struct Recovery {
    /// The root to which the current one has committed.
    pub next_root: RootKey,
}

impl Recovery {
    /// The encoded recovery record; it is as secret as the key itself.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let seed = self.next_root.seed();
        codec::encode_secret(RECOVERY_VERSION, &(&*seed, self.next_root.public()))
    }

    /// Reads a recovery record, whose public half must fit its private one.
    ///
    /// # Errors
    /// [`CodecError`] for every other input.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let (seed, public): ([u8; 32], RootPublic) = codec::decode(RECOVERY_VERSION, bytes, 1 + 32 + 32)?;
        let seed = Zeroizing::new(seed);
        let next_root = RootKey::from_seed(*seed);
        if next_root.public() != public {
            return Err(CodecError::Malformed);
        }
        Ok(Self { next_root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    #[test]
    fn recovery_records_come_back_and_any_changed_bit_is_refused() {
        let recovery = Recovery { next_root: RootKey::generate(&mut TestRng::new(4)) };
        let bytes = recovery.to_bytes();
        let back = Recovery::from_bytes(&bytes).unwrap();
        assert_eq!(back.next_root.seed(), recovery.next_root.seed());
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(Recovery::from_bytes(&bent).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Recovery::from_bytes(&bytes[..length]).is_err());
        }
        assert_eq!(format!("{recovery:?}"), "Recovery { next_root: RootKey(..) }");
    }
}
