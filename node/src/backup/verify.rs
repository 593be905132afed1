//! Reads a backup to its last byte and says whether a node can be restored from it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use pakt_keys::EntityId;
use pakt_keys::keystore::{self, Keystore, Protection};
use pakt_protocol::codec;
use pakt_protocol::record::chain::CertificateChain;

use super::BackupError;
use super::check::{Checker, Summary};
use super::stream::Reader;
use crate::entity::{CHAIN_BYTES_MAX, EntityError};
use crate::{files, setup};

/// Bytes that are asked of the disk at once.
const READ_BYTES: usize = 1 << 20;

/// What was found out about a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Everything was opened and compared.
    Whole(Summary),
    /// Without the passphrase only head, frames' lengths and the checksum could be looked at: no accident has changed it,
    /// whether somebody has cannot be said.
    Outside {
        /// Its frames.
        frames: u64,
        /// Its length in bytes.
        bytes: u64,
    },
}

/// Checks a backup; `progress` is told how many bytes were read. Without a passphrase a protected one is only looked at
/// from outside.
///
/// # Errors
/// [`BackupError`] says what is wrong; what is only missing is in the summary.
pub fn verify(file: &Path, passphrase_file: Option<&Path>, progress: impl Fn(u64)) -> Result<Verified, BackupError> {
    let mut reader = open(file)?;
    let keys = match unlock(reader.keystore(), passphrase_file)? {
        Some(keys) => keys,
        None => {
            let frames = reader.skip_to_end()?;
            return Ok(Verified::Outside { frames, bytes: reader.bytes() });
        }
    };
    let protected = keystore::is_protected(reader.keystore())?;
    reader.unlock(&keys.store);
    let mut checker = Checker::new(&keys.store, entity_of(&keys)?);
    while let Some(entry) = reader.next()? {
        checker.take(&entry)?;
        progress(reader.bytes());
    }
    Ok(Verified::Whole(Summary { protected, bytes: reader.bytes(), ..checker.finish()? }))
}

pub(super) fn open(file: &Path) -> Result<Reader<impl Read>, BackupError> {
    let opened = File::open(file).map_err(|error| files::read_error(file, &error))?;
    Reader::open(BufReader::with_capacity(READ_BYTES, opened))
}

/// Opens the keystore of a backup; none if it needs a passphrase and there is none.
pub(super) fn unlock(bytes: &[u8], passphrase_file: Option<&Path>) -> Result<Option<Keystore>, BackupError> {
    if !keystore::is_protected(bytes)? {
        return Ok(Some(keystore::unlock(bytes, Protection::None)?));
    }
    match setup::passphrase_of(passphrase_file)? {
        Some(passphrase) => Ok(Some(keystore::unlock(bytes, Protection::Passphrase(&passphrase))?)),
        None => Ok(None),
    }
}

/// Whose keys they are.
pub(super) fn entity_of(keys: &Keystore) -> Result<EntityId, BackupError> {
    let chain: Result<CertificateChain, _> = codec::decode(setup::CHAIN_VERSION, &keys.chain, CHAIN_BYTES_MAX);
    let node = chain.map_err(EntityError::from).and_then(|chain| chain.verify().map_err(EntityError::from));
    node.map(|node| node.entity).map_err(|_| BackupError::Content("the certificate chain of its keys does not hold"))
}
