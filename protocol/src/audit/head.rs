//! The head of an audit log: how many entries it has and what they hash to.
//!
//! A [`LogHead`] is signed and goes to counterparts, who keep it. A [`BlindedHead`] stands in receipts: it binds the node to
//! its log without telling anybody how long that is, until the node shows the blinder.

use pakt_keys::EntityId;
use pakt_keys::signing::{Domain, StatementKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::tree::Hash;
use crate::codec;
use crate::record::chain::{CertificateChain, CertifiedNode};
use crate::record::{Record, RecordError, Signed};
use crate::time::Time;

/// What a node states about its log; signed by its statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// Whose log it is.
    pub entity: EntityId,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// When it was signed, by the node's clock.
    pub at: Time,
    /// The signer's chain, so that a head can be checked for as long as it is kept.
    pub chain: CertificateChain,
}

impl Record for LogHead {
    const DOMAIN: Domain = Domain::LogHead;
    const BYTES_MAX: usize = 32 << 10;
}

/// Bytes of an encoded signed head, at most.
pub const HEAD_FILE_BYTES_MAX: usize = 40 << 10;

impl LogHead {
    /// Signs the head.
    pub fn sign(&self, key: &StatementKey) -> Signed<LogHead> {
        Signed::create(self, |domain, bytes| key.sign(domain, bytes))
    }
}

/// The bytes of a head that are stored and put into armour.
pub fn head_bytes(signed: &Signed<LogHead>) -> Vec<u8> {
    codec::encode(1, signed)
}

/// Reads the bytes of a head, unverified.
///
/// # Errors
/// [`RecordError::Codec`].
pub fn read_head(bytes: &[u8]) -> Result<Signed<LogHead>, RecordError> {
    Ok(codec::decode(1, bytes, HEAD_FILE_BYTES_MAX)?)
}

/// Checks signature and chain of a head from its bytes alone, and gives it with its signer.
///
/// # Errors
/// Any [`RecordError`].
pub fn verify(signed: &Signed<LogHead>) -> Result<(LogHead, CertifiedNode), RecordError> {
    let signer = signed.peek()?.chain.verify()?;
    let head = signer.open_statement(signed)?;
    if head.entity != signer.entity {
        return Err(RecordError::Parties("the head is not signed by the entity whose log it is"));
    }
    Ok((head, signer))
}

/// A commitment to size and root that tells neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlindedHead(pub Hash);

impl BlindedHead {
    /// Blinds a head with a random `blinder` that is used once.
    pub fn of(size: u64, root: &Hash, blinder: &[u8; 32]) -> BlindedHead {
        let input = Sha256::new().chain_update(b"pakt blinded head v1\0").chain_update(size.to_be_bytes());
        BlindedHead(input.chain_update(root).chain_update(blinder).finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::Party;

    #[test]
    fn p4_only_the_entity_signs_its_heads() {
        let (a, b) = (Party::new(1), Party::new(2));
        let head = LogHead { entity: a.entity(), size: 3, root: [4; 32], at: Time(5), chain: a.chain.clone() };
        let signed = head.sign(&a.statement);
        let read = read_head(&head_bytes(&signed)).expect("reads");
        assert_eq!(verify(&read).expect("valid").0, head);
        assert!(matches!(verify(&head.sign(&b.statement)), Err(RecordError::Signature(_))));
        let foreign = LogHead { chain: b.chain.clone(), ..head };
        assert!(matches!(verify(&foreign.sign(&b.statement)), Err(RecordError::Parties(_))));
    }

    #[test]
    fn a_blinded_head_binds_size_root_and_blinder() {
        let base = BlindedHead::of(7, &[1; 32], &[2; 32]);
        assert_eq!(base, BlindedHead::of(7, &[1; 32], &[2; 32]));
        for other in [BlindedHead::of(8, &[1; 32], &[2; 32]), BlindedHead::of(7, &[3; 32], &[2; 32])] {
            assert_ne!(base, other);
        }
        assert_ne!(base, BlindedHead::of(7, &[1; 32], &[3; 32]));
    }
}
