//! This node's own identity: the unlocked keys and what they certify.
//!
//! **Invariant:** private keys stay in here; whoever needs a signature asks for it.

use std::sync::Arc;

use pakt_keys::EntityId;
use pakt_keys::keystore::Keystore;
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_protocol::codec::{self, CodecError};
use pakt_protocol::record::agreement::Party;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode, ChainError};

/// The entity that this node belongs to; clones share the keys.
#[derive(Clone)]
pub struct Entity {
    keys: Arc<Keystore>,
    party: Party,
    chain: Arc<CertificateChain>,
    node: Arc<CertifiedNode>,
}

/// Why a keystore is not a node's.
#[derive(Debug, thiserror::Error)]
pub enum EntityError {
    /// The chain cannot be read.
    #[error("the keystore's certificate chain cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// The chain does not hold.
    #[error("the keystore's certificate chain does not hold: {0}")]
    Chain(#[from] ChainError),
    /// The chain certifies other keys than the keystore holds.
    #[error("the keystore's certificate is for other keys than it holds")]
    OtherKeys,
}

/// Bytes of an encoded chain, at most.
pub const CHAIN_BYTES_MAX: usize = 64 << 10;

impl Entity {
    /// Takes up an unlocked keystore.
    ///
    /// # Errors
    /// [`EntityError`] if chain and keys do not belong together.
    pub fn new(keys: Keystore, name: String, number: String) -> Result<Entity, EntityError> {
        let chain: CertificateChain = codec::decode(1, &keys.chain, CHAIN_BYTES_MAX)?;
        let node = chain.verify()?;
        let same = node.transport == keys.transport.public()
            && node.statement == keys.statement.public()
            && node.contact == keys.contact.public();
        if !same {
            return Err(EntityError::OtherKeys);
        }
        let party = Party { entity: node.entity, name, number };
        Ok(Entity { keys: Arc::new(keys), party, chain: Arc::new(chain), node: Arc::new(node) })
    }

    /// The entity's id.
    pub fn id(&self) -> EntityId {
        self.party.entity
    }

    /// Id, name and number, as agreements name them.
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// Root links and node certificate.
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// What the chain certifies.
    pub fn node(&self) -> &CertifiedNode {
        &self.node
    }

    /// The root key, unless it lives elsewhere.
    pub fn root(&self) -> Option<&RootKey> {
        self.keys.root.as_ref()
    }

    /// Signs statements.
    pub fn statement(&self) -> &StatementKey {
        &self.keys.statement
    }

    /// Opens door grants.
    pub fn contact(&self) -> &ContactKey {
        &self.keys.contact
    }

    /// Proves itself in TLS.
    pub fn transport(&self) -> &TransportKey {
        &self.keys.transport
    }
}

impl std::fmt::Debug for Entity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entity").field("id", &self.party.entity).finish_non_exhaustive()
    }
}
