//! `--root`, `--root-passphrase-file` and `--approval`: how commands that need the root open it.
//!
//! **Invariant:** a passphrase is read from a file or typed unseen, never taken from the command line.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::read_text;
use crate::api::types::{Approval, ErrorCode, ServiceError, Signing};
use crate::{root, setup};

/// A root file is a page of text, a few more where approvers are named.
const ROOT_BYTES_MAX: u64 = 256 << 10;

/// How the root is opened; nothing is needed while it lies in the data directory without approvers.
#[derive(Clone, Debug, Default, Args)]
pub struct SigningArgs {
    /// The root file, where the root is kept elsewhere.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
    /// File with the passphrase of the root file; a terminal asks for it.
    #[arg(long, value_name = "FILE", requires = "root")]
    pub root_passphrase_file: Option<PathBuf>,
    /// An approver and the file with that approver's passphrase; twice, where two persons must approve. Without a file a
    /// terminal asks.
    #[arg(long, value_name = "NAME=FILE")]
    pub approval: Vec<String>,
}

impl SigningArgs {
    /// Reads the files that are named, and asks for what is not in a file.
    ///
    /// # Errors
    /// What is wrong with a file or the way it is named.
    pub fn read(&self) -> Result<Signing, ServiceError> {
        let root = self.root.as_deref().map(|path| read_text(path, ROOT_BYTES_MAX)).transpose()?;
        let root_passphrase = match (&root, &self.root_passphrase_file) {
            (_, Some(file)) => Some(setup::read_passphrase_text(file, "--root-passphrase-file FILE")?),
            (Some(text), None) if can_ask() && root::is_protected(text)? => Some(ask("Passphrase of the root file")?),
            _ => None,
        };
        let mut approvals = Vec::with_capacity(self.approval.len());
        for typed in &self.approval {
            let name = typed.split('=').next().unwrap_or(typed);
            // Whoever is named twice is asked once: the root says that two persons are needed.
            if approvals.iter().any(|known: &Approval| known.name == name) && !typed.contains('=') {
                let message = format!("{name} is named twice: two persons must approve");
                return Err(ServiceError::new(ErrorCode::Usage, message, "see `pakt approver list`"));
            }
            approvals.push(approval(typed)?);
        }
        Ok(Signing { root, root_passphrase, approvals })
    }
}

fn approval(typed: &str) -> Result<Approval, ServiceError> {
    let (name, passphrase) = match typed.split_once('=') {
        Some((name, file)) => (name, setup::read_passphrase_text(Path::new(file), &format!("--approval {name}=FILE"))?),
        None if can_ask() => (typed, ask(&format!("Passphrase of {typed}"))?),
        None => {
            let message = format!("--approval: {typed} is not NAME=FILE");
            let hint = "name the approver and the file with that person's passphrase";
            return Err(ServiceError::new(ErrorCode::Usage, message, hint));
        }
    };
    Ok(Approval { name: name.to_owned(), passphrase })
}

/// Whether a person sits there.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Shows again what is typed, however the question ends.
struct Echo(Termios);

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
        eprintln!();
    }
}

/// Asks for a secret on the terminal, without showing it.
pub fn ask(what: &str) -> Result<String, ServiceError> {
    let failed = |error: std::io::Error| {
        ServiceError::new(ErrorCode::Failed, format!("cannot ask: {error}"), "name a file with the passphrase")
    };
    eprint!("{what}: ");
    std::io::stderr().flush().map_err(failed)?;
    let shown = tcgetattr(std::io::stdin()).map_err(|error| failed(error.into()))?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    let echo = Echo(shown);
    tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden).map_err(|error| failed(error.into()))?;
    let mut line = Zeroizing::new(String::new());
    let read = std::io::stdin().read_line(&mut line);
    drop(echo);
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
