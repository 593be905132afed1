//! The envelope: what is signed and sealed about one message to one group of one entity.

use pakt_keys::EntityId;
use pakt_keys::codec;
use pakt_keys::sealing::{EpochKey, EpochPublic, UnwrapError, Wrapped};
use pakt_keys::signing::{Domain, Signature, StatementKey};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::chain::CertifiedNode;
use super::roster::GroupId;
use super::{Record, RecordError, Signed};
use crate::ids::{AgreementId, CoreHash, EnvelopeId, MessageId};
use crate::time::Time;

/// How urgent a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// Overtakes everything.
    Urgent,
    /// The usual.
    Normal,
    /// Yields to everything.
    Bulk,
}

/// Sizes of a message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Files in the tree.
    pub files: u64,
    /// Their bytes before encoding.
    pub plain_bytes: u64,
    /// Content objects that the chunk table names.
    pub chunks: u64,
    /// Manifest segments.
    pub segments: u64,
    /// Sealed bytes of all objects and segments.
    pub sealed_bytes: u64,
}

/// The signed description of one envelope; it names no subject, person or file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeCore {
    /// 1: X-Wing, HKDF-SHA256, AES-256-GCM, BLAKE3, Ed25519.
    pub suite: u8,
    /// The message, the same for all recipients.
    pub message: MessageId,
    /// This envelope.
    pub envelope: EnvelopeId,
    /// Who sends.
    pub sender: EntityId,
    /// Who receives.
    pub recipient: EntityId,
    /// The receiving group.
    pub group: GroupId,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was submitted, by the sender's clock.
    pub submitted_at: Time,
    /// What it holds.
    pub counts: Counts,
    /// The agreement that it travels under.
    pub agreement: AgreementId,
    /// The agreement's version when it was made.
    pub agreement_version: u32,
    /// Its place among all envelopes of this sender under this agreement, from 1 on.
    pub number: u64,
    /// Hash over the ids of the sealed manifest segments.
    pub root_hash: [u8; 32],
}

/// The suite of this version.
pub const SUITE: u8 = 1;

impl EnvelopeCore {
    /// The bytes that [`CoreHash`] is taken of.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(1, self)
    }

    /// The hash that signatures and receipts speak of.
    pub fn hash_of(bytes: &[u8]) -> CoreHash {
        CoreHash(blake3::derive_key("pakt envelope core v1", bytes))
    }
}

/// What the sender's statement key signs about an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EnvelopeSeal {
    core: CoreHash,
    epoch: u64,
    wrapped: [u8; 32],
}

impl Record for EnvelopeSeal {
    const DOMAIN: Domain = Domain::Envelope;
    const BYTES_MAX: usize = 256;
}

/// An envelope as it travels: the core's bytes, the manifest key sealed to an epoch, the sender's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedEnvelope {
    core: Vec<u8>,
    epoch: u64,
    wrapped: Wrapped,
    signatures: Vec<Signature>,
}

/// Bytes of an encoded envelope core, at most.
pub const CORE_BYTES_MAX: usize = 1024;

/// An envelope whose signature and parties were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenEnvelope {
    /// The core.
    pub core: EnvelopeCore,
    /// Its hash.
    pub hash: CoreHash,
}

impl SealedEnvelope {
    /// Seals `manifest_key` to the recipient's epoch and signs the whole.
    pub fn seal(
        core: &[u8],
        manifest_key: &[u8; 32],
        (epoch, epoch_key): (u64, &EpochPublic),
        key: &StatementKey,
        rng: &mut impl CryptoRng,
    ) -> SealedEnvelope {
        let hash = EnvelopeCore::hash_of(core);
        let wrapped = epoch_key.wrap(&info(&hash, epoch), manifest_key, rng);
        let seal = EnvelopeSeal { core: hash, epoch, wrapped: wrapped_hash(&wrapped) };
        let signatures = Signed::create(&seal, |domain, bytes| key.sign(domain, bytes)).signatures().to_vec();
        SealedEnvelope { core: core.to_vec(), epoch, wrapped, signatures }
    }

    /// The epoch that the manifest key is sealed to.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Checks signature and parties.
    ///
    /// # Errors
    /// Any [`RecordError`].
    pub fn verify(&self, sender: &CertifiedNode, recipient: &EntityId) -> Result<OpenEnvelope, RecordError> {
        let hash = EnvelopeCore::hash_of(&self.core);
        let seal = EnvelopeSeal { core: hash, epoch: self.epoch, wrapped: wrapped_hash(&self.wrapped) };
        let signed: Signed<EnvelopeSeal> =
            Signed::from_parts(codec::encode(EnvelopeSeal::VERSION, &seal), self.signatures.clone());
        sender.open_statement(&signed)?;
        let core: EnvelopeCore = codec::decode(1, &self.core, CORE_BYTES_MAX)?;
        if core.suite != SUITE {
            return Err(RecordError::Field("unknown suite"));
        }
        if core.number == 0 {
            return Err(RecordError::Field("numbers begin at 1"));
        }
        if core.sender != sender.entity || core.recipient != *recipient {
            return Err(RecordError::Parties("the envelope is between other entities"));
        }
        Ok(OpenEnvelope { core, hash })
    }

    /// Opens the manifest key.
    ///
    /// # Errors
    /// [`UnwrapError`] for another key or a changed envelope.
    pub fn unwrap(&self, key: &EpochKey) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        let hash = EnvelopeCore::hash_of(&self.core);
        let plain = key.unwrap(&info(&hash, self.epoch), &self.wrapped)?;
        let manifest_key: [u8; 32] = plain.as_slice().try_into().map_err(|_| UnwrapError)?;
        Ok(Zeroizing::new(manifest_key))
    }
}

fn info(hash: &CoreHash, epoch: u64) -> Vec<u8> {
    [b"pakt envelope v1".as_slice(), &hash.0, &epoch.to_be_bytes()].concat()
}

fn wrapped_hash(wrapped: &Wrapped) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("pakt wrapped key v1");
    hasher.update(&wrapped.encapsulation);
    hasher.update(&wrapped.ciphertext);
    *hasher.finalize().as_bytes()
}
