//! `--root`, `--root-passphrase-file` and `--approval`: how commands that need the root open it.
//!
//! **Invariant:** a passphrase is read from a file, never from the command line.

use std::path::PathBuf;

use clap::Args;

use super::read_text;
use crate::api::types::{Approval, ErrorCode, ServiceError, Signing};
use crate::setup;

/// A root file is a page of text.
const ROOT_BYTES_MAX: u64 = 64 << 10;

/// How the root is opened; nothing is needed while it lies in the data directory without approvers.
#[derive(Clone, Debug, Default, Args)]
pub struct SigningArgs {
    /// The root file, where the root is kept elsewhere.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// File with the passphrase of the root file.
    #[arg(long, value_name = "FILE", requires = "root")]
    pub root_passphrase_file: Option<PathBuf>,
    /// An approver and the file with that approver's passphrase; twice, where two persons must approve.
    #[arg(long, value_name = "NAME=FILE")]
    pub approval: Vec<String>,
}

impl SigningArgs {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// What is wrong with a file or the way it is named.
    pub fn read(&self) -> Result<Signing, ServiceError> {
        let root = self.root.as_deref().map(|path| read_text(path, ROOT_BYTES_MAX)).transpose()?;
        let root_passphrase = self.root_passphrase_file.as_deref().map(setup::read_passphrase_text).transpose()?;
        let approvals = self.approval.iter().map(|typed| approval(typed)).collect::<Result<_, _>>()?;
        Ok(Signing { root, root_passphrase, approvals })
    }
}

fn approval(typed: &str) -> Result<Approval, ServiceError> {
    let (name, file) = typed.split_once('=').ok_or_else(|| {
        let message = format!("--approval: {typed} is not NAME=FILE");
        ServiceError::new(ErrorCode::Usage, message, "name the approver and the file with that person's passphrase")
    })?;
    let passphrase = setup::read_passphrase_text(file.as_ref())?;
    Ok(Approval { name: name.to_owned(), passphrase })
}
