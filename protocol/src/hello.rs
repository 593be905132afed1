//! The first frame of each side after TLS: who I am, which versions I speak, what my clock shows.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::record::chain::CertificateChain;
use crate::time::Time;

/// Bytes of a hello, at most.
pub const HELLO_BYTES_MAX: usize = 64 << 10;
/// The version that this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// Protocol versions that a node speaks, oldest and newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// Oldest version.
    pub oldest: u16,
    /// Newest version.
    pub newest: u16,
}

impl VersionRange {
    /// What this build speaks.
    pub const OURS: VersionRange = VersionRange { oldest: PROTOCOL_VERSION, newest: PROTOCOL_VERSION };

    /// The newest version that both speak.
    pub fn common(self, other: VersionRange) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// The first frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Proves which entity's node this is.
    pub chain: CertificateChain,
    /// Versions spoken.
    pub versions: VersionRange,
    /// The wall clock, to warn people whose clocks are days apart; nothing is decided by it.
    pub now: Time,
}

impl Hello {
    /// The codec bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(1, self)
    }

    /// Reads a hello.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Hello, CodecError> {
        codec::decode(1, bytes, HELLO_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_meet_at_the_newest_common_one() {
        let range = |oldest, newest| VersionRange { oldest, newest };
        assert_eq!(range(1, 2).common(range(2, 3)), Some(2));
        assert_eq!(range(1, 1).common(range(2, 3)), None);
        assert_eq!(range(3, 2).common(range(1, 9)), None);
    }
}
