//! `pakt keystore`: the passphrase under which the keys of a node lie.
//!
//! **Invariant:** the node does not run meanwhile, and the keystore is replaced in one step: after a crash the old passphrase
//! opens it, or the new one.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use pakt_keys::keystore::{self as file, Argon2Params, Protection};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Exit;
use super::output::Output;
use super::signing::{ask, can_ask};
use crate::api::types::{ErrorCode, ServiceError};
use crate::config::Config;
use crate::keyring::{self, Keyring};
use crate::{ambient, files, setup};

/// `pakt keystore …`
#[derive(Debug, Subcommand)]
pub enum KeystoreCommand {
    /// Give the keystore a passphrase, or another one; the node must not run.
    #[command(after_help = "Examples:
  pakt keystore passphrase --new-passphrase-file /etc/pakt/passphrase
  pakt keystore passphrase --passphrase-file old --new-passphrase-file new")]
    Passphrase {
        /// File with the present passphrase, if there is one.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// File with the new passphrase; a terminal asks for it, twice.
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Changed {
    keystore: PathBuf,
    note: String,
}

/// `pakt keystore`
///
/// # Errors
/// When the node runs, the present passphrase does not open the keystore, or the new one cannot be read or written.
pub fn keystore(dir: &Path, output: Output, command: KeystoreCommand) -> Result<Exit, ServiceError> {
    let KeystoreCommand::Passphrase { passphrase_file, new_passphrase_file } = command;
    let config = Config::load(dir)?;
    let _lock = keyring::lock_directory(&config)?;
    let (keys, _) = Keyring::open(&config, passphrase_file.as_deref())?;
    let new = new_passphrase(new_passphrase_file.as_deref())?;
    let path = setup::keystore_path(&config.dir);
    let sealed = file::lock(&keys, Protection::Passphrase(&new), Argon2Params::default(), &mut ambient::rng());
    files::replace_private(&path, &sealed.map_err(|error| setup::keystore_error(&path, error))?)?;
    let note = next_step(&config, new_passphrase_file.as_deref());
    output.result(&Changed { keystore: path, note }, |changed| {
        format!("the keystore has the new passphrase\n{}", changed.note)
    });
    Ok(Exit::DONE)
}

fn new_passphrase(named: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
    if let Some(named) = named {
        return setup::read_passphrase_for(named, "--new-passphrase-file FILE");
    }
    if !can_ask() {
        let message = "no new passphrase is named";
        return Err(ServiceError::new(ErrorCode::Usage, message, "name its file with --new-passphrase-file FILE"));
    }
    let first = Zeroizing::new(ask("New passphrase of the keystore")?);
    let again = Zeroizing::new(ask("The same again")?);
    if first.is_empty() || first != again {
        let message = if first.is_empty() { "the passphrase is empty" } else { "the two differ" };
        return Err(ServiceError::new(ErrorCode::Usage, format!("{message}; nothing was changed"), "try again"));
    }
    Ok(Zeroizing::new(first.as_bytes().to_vec()))
}

/// Where the node looks for the passphrase when it starts.
fn next_step(config: &Config, new: Option<&Path>) -> String {
    match (&config.passphrase_file, new) {
        (Some(known), Some(new)) if known == new => "the node finds it where config.toml says".to_owned(),
        (Some(known), _) => format!("config.toml names {}: put the new passphrase there", known.display()),
        (None, _) => "name its file: `passphrase_file` in config.toml, or --passphrase-file with `pakt run`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_passphrase_changes_while_the_node_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("node");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (first, second, empty) = (file("first", "one\n"), file("second", "two\n"), file("empty", "\n"));
        let options = setup::InitOptions {
            dir: dir.clone(),
            name: "Nord".into(),
            number: "NO:ORGNR:1".into(),
            listen: "127.0.0.1:0".into(),
            advertise: vec![],
            allow_range: vec![],
            proxy: None,
            proxy_credentials_file: None,
            passphrase_file: None,
            recovery_file: Some(folder.path().join("recovery")),
            root_file: None,
            root_passphrase_file: None,
        };
        setup::init(&options).unwrap();
        let output = Output { json: true, yes: true, wide: false, force: false };
        let change = |old: Option<&PathBuf>, new: &PathBuf| {
            let (passphrase_file, new_passphrase_file) = (old.cloned(), Some(new.clone()));
            let command = KeystoreCommand::Passphrase { passphrase_file, new_passphrase_file };
            keystore(&dir, output, command).map(drop).map_err(|error| (error.code, error.hint))
        };
        let config = Config::load(&dir).unwrap();
        let opens = |with: Option<&PathBuf>| setup::unlock(&config, with.map(PathBuf::as_path)).is_ok();
        assert!(opens(None), "a fresh one has none");
        change(None, &first).unwrap();
        assert!(opens(Some(&first)) && !opens(None) && !opens(Some(&second)));
        let (code, hint) = change(Some(&first), &empty).unwrap_err();
        assert_eq!(code, ErrorCode::Locked);
        assert!(hint.contains("--new-passphrase-file"), "{hint}");
        assert!(change(Some(&second), &second).is_err(), "the present one is needed");
        assert!(opens(Some(&first)), "nothing was changed");
        change(Some(&first), &second).unwrap();
        assert!(opens(Some(&second)) && !opens(Some(&first)));
        let _running = keyring::lock_directory(&config).unwrap();
        assert_eq!(change(Some(&second), &first).unwrap_err().0, ErrorCode::Busy, "a node that runs keeps its keys");
    }
}
