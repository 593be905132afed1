//! This node's own identity: the unlocked keys and what they certify; replaced while the node runs when its keys are.
//!
//! **Invariant:** private keys stay in here; whoever needs a signature asks for it.
//! **Invariant:** nobody keeps a copy of chain or keys; where two of them must belong together, both come from one
//! [`Entity::current`].

use std::sync::{Arc, PoisonError, RwLock};

use pakt_keys::EntityId;
use pakt_keys::keystore::{HeldRoot, Keystore};
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{StatementKey, TransportKey};
use pakt_protocol::codec::{self, CodecError};
use pakt_protocol::record::agreement::Party;
use pakt_protocol::record::chain::{CertificateChain, CertifiedNode, ChainError};

/// The entity that this node belongs to; clones share the keys.
#[derive(Clone)]
pub struct Entity {
    inner: Arc<Inner>,
}

struct Inner {
    party: Party,
    current: RwLock<Arc<Identity>>,
}

/// Keys and certificates that belong together.
pub struct Identity {
    keys: Keystore,
    chain: CertificateChain,
    node: CertifiedNode,
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
    /// The keys are another entity's.
    #[error("the keystore belongs to another entity")]
    OtherEntity,
}

/// Bytes of an encoded chain, at most.
pub const CHAIN_BYTES_MAX: usize = 64 << 10;

impl Identity {
    fn of(keys: Keystore) -> Result<Identity, EntityError> {
        let chain: CertificateChain = codec::decode(1, &keys.chain, CHAIN_BYTES_MAX)?;
        let node = chain.verify()?;
        let same = node.transport == keys.transport.public()
            && node.statement == keys.statement.public()
            && node.contact == keys.contact.public();
        if same { Ok(Identity { keys, chain, node }) } else { Err(EntityError::OtherKeys) }
    }

    /// Root links and node certificate.
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }

    /// What the chain certifies.
    pub fn node(&self) -> &CertifiedNode {
        &self.node
    }

    /// All keys, to make the next keystore from.
    pub fn keys(&self) -> &Keystore {
        &self.keys
    }

    /// The root as it lies in the keystore, unless it is kept elsewhere.
    pub fn root(&self) -> Option<&HeldRoot> {
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

impl Entity {
    /// Takes up an unlocked keystore.
    ///
    /// # Errors
    /// [`EntityError`] if chain and keys do not belong together.
    pub fn new(keys: Keystore, name: String, number: String) -> Result<Entity, EntityError> {
        let identity = Identity::of(keys)?;
        let party = Party { entity: identity.node.entity, name, number };
        let current = RwLock::new(Arc::new(identity));
        Ok(Entity { inner: Arc::new(Inner { party, current }) })
    }

    /// Uses other keys of the same entity from now on; they must be durable already.
    ///
    /// # Errors
    /// [`EntityError`] if they do not belong together, or to another entity.
    pub fn replace(&self, keys: Keystore) -> Result<(), EntityError> {
        let identity = Identity::of(keys)?;
        if identity.node.entity != self.id() {
            return Err(EntityError::OtherEntity);
        }
        *self.inner.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
        Ok(())
    }

    /// The entity's id.
    pub fn id(&self) -> EntityId {
        self.inner.party.entity
    }

    /// Id, name and number, as agreements name them.
    pub fn party(&self) -> &Party {
        &self.inner.party
    }

    /// Keys and certificates as of now; what must belong together is taken from one of these.
    pub fn current(&self) -> Arc<Identity> {
        self.inner.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Root links and node certificate, as of now.
    pub fn chain(&self) -> CertificateChain {
        self.current().chain.clone()
    }

    /// What the chain certifies, as of now.
    pub fn node(&self) -> CertifiedNode {
        self.current().node.clone()
    }
}

impl std::fmt::Debug for Entity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entity").field("id", &self.id()).finish_non_exhaustive()
    }
}
