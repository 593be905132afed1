//! The keystore's file, and how its keys are replaced by others.
//!
//! **Invariant:** the new file is durable before anybody uses a key in it; the bytes of the old one are overwritten.
//! **Invariant:** a file that a running node holds is changed by that node only.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use pakt_keys::keystore::{self, HeldRoot, Keystore, Protection, Relock};
use pakt_keys::sealing::{ContactKey, ContactPublic};
use pakt_keys::signing::{RootKey, RootPublic, StatementKey, StatementPublic, TransportKey, TransportPublic};
use pakt_protocol::codec;
use pakt_protocol::record::chain::{CertificateChain, ChainError};
use pakt_protocol::time::Time;

use crate::api::types::{ErrorCode, ServiceError};
use crate::config::Config;
use crate::disk::{DiskError, DiskLock, RealDisk};
use crate::entity::CHAIN_BYTES_MAX;
use crate::store::LOCK_NAME;
use crate::{ambient, files, setup};

/// What writes the keystore anew, under the passphrase that it has.
#[derive(Debug)]
pub struct Keyring {
    path: PathBuf,
    relock: Mutex<Relock>,
}

impl Keyring {
    /// Unlocks the keys of a node, and gives what replaces them.
    ///
    /// # Errors
    /// Those of [`setup::unlock`].
    pub fn open(config: &Config, passphrase_file: Option<&Path>) -> Result<(Keystore, Keyring), ServiceError> {
        let path = setup::keystore_path(&config.dir);
        let bytes = setup::read_keystore(&path)?;
        let refused = |error| setup::keystore_error(&path, error);
        let passphrase = match keystore::is_protected(&bytes).map_err(refused)? {
            true => setup::passphrase(config, passphrase_file)?,
            false => None,
        };
        let protection = passphrase.as_deref().map_or(Protection::None, |bytes| Protection::Passphrase(bytes));
        let (keys, relock) = keystore::unlock_for_change(&bytes, protection).map_err(refused)?;
        Ok((keys, Keyring { path, relock: Mutex::new(relock) }))
    }

    /// Makes other keys durable in the place of those that lie there; blocks.
    ///
    /// # Errors
    /// When they cannot be written; the old ones lie there still, then.
    pub fn replace(&self, keys: &Keystore) -> Result<(), ServiceError> {
        let relock = self.relock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = relock.lock(keys, &mut ambient::rng());
        let bytes = bytes.map_err(|error| setup::keystore_error(&self.path, error))?;
        files::replace_private(&self.path, &bytes)
    }
}

/// Keeps a node from starting while its keystore is changed.
///
/// # Errors
/// `busy` while a node runs in this data directory.
pub fn lock_directory(config: &Config) -> Result<Box<dyn DiskLock>, ServiceError> {
    RealDisk::shared().lock(&config.dir.join(LOCK_NAME)).map_err(|error| match error {
        DiskError::Locked => {
            let message = format!("a node runs in {}", config.dir.display());
            ServiceError::new(ErrorCode::Busy, message, "stop it first, and start it again afterwards")
        }
        error => {
            let message = format!("cannot lock {}: {error}", config.dir.display());
            ServiceError::new(ErrorCode::Failed, message, "check the rights of the folder")
        }
    })
}

/// New node keys.
struct NodeKeys {
    transport: TransportKey,
    statement: StatementKey,
    contact: ContactKey,
}

impl NodeKeys {
    fn generate() -> NodeKeys {
        let rng = &mut ambient::rng();
        NodeKeys {
            transport: TransportKey::generate(rng),
            statement: StatementKey::generate(rng),
            contact: ContactKey::generate(rng),
        }
    }

    fn public(&self) -> (TransportPublic, StatementPublic, ContactPublic) {
        (self.transport.public(), self.statement.public(), self.contact.public())
    }

    fn in_place_of(self, before: Keystore, chain: &CertificateChain) -> Keystore {
        let NodeKeys { transport, statement, contact } = self;
        let chain = codec::encode(setup::CHAIN_VERSION, chain);
        Keystore { transport, statement, contact, chain, ..before }
    }
}

/// The chain that lies in a keystore.
///
/// # Errors
/// `damaged` when it cannot be read.
pub fn chain_of(keys: &Keystore) -> Result<CertificateChain, ServiceError> {
    let chain = codec::decode(setup::CHAIN_VERSION, &keys.chain, CHAIN_BYTES_MAX);
    chain.map_err(|error| {
        let message = format!("the keystore's certificate chain cannot be read: {error}");
        ServiceError::new(ErrorCode::Damaged, message, "restore the keys' folder from where it was kept")
    })
}

/// The keystore with a new transport, statement and contact key, certified by the root.
///
/// # Errors
/// `locked` when `root` is not the current one.
pub fn rotated(keys: &Keystore, root: &RootKey, now: Time) -> Result<Keystore, ServiceError> {
    let node = NodeKeys::generate();
    let chain = chain_of(keys)?.renewed(root, node.public(), now).map_err(chain_error)?;
    Ok(node.in_place_of(keys.duplicate(), &chain))
}

/// The keystore after the root was replaced by its successor, which commits to `next`; the node's keys are new as well.
/// The successor lies in the keystore under the approvers of the root before it, also where that one was elsewhere.
///
/// # Errors
/// `refused` when the current root committed to another successor.
pub fn recovered(keys: &Keystore, successor: &RootKey, next: &RootPublic, now: Time) -> Result<Keystore, ServiceError> {
    let node = NodeKeys::generate();
    let chain = chain_of(keys)?.succeeded(successor, next, node.public(), now).map_err(chain_error)?;
    let root = match &keys.root {
        Some(held) => held.replaced_by(successor, &mut ambient::rng()),
        None => HeldRoot::open(RootKey::from_seed(*successor.seed())),
    };
    Ok(Keystore { root: Some(root), ..node.in_place_of(keys.duplicate(), &chain) })
}

fn chain_error(error: ChainError) -> ServiceError {
    match error {
        ChainError::Certificate => {
            let message = "this root is not the one that this entity's certificates name now";
            ServiceError::new(ErrorCode::Locked, message, "use the file that was written last")
        }
        ChainError::Uncommitted(_) => {
            let message = "this recovery file is not the one that belongs to this entity's current root";
            ServiceError::new(ErrorCode::Refused, message, "each root has its own; use the one that was written last")
        }
        ChainError::Length(_) => {
            ServiceError::new(ErrorCode::Failed, "the root was replaced as often as it can be", "set up a new entity")
        }
        error => ServiceError::new(
            ErrorCode::Damaged,
            format!("the keystore's certificate chain does not hold: {error}"),
            "restore the keys' folder from where it was kept",
        ),
    }
}
