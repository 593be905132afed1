//! `pakt rotate`, `recover`, `root` and `approver`: what is done with keys.
//!
//! **Invariant:** all but `rotate` change the keystore of a node that does not run, as the user who owns it; no key and no
//! approver's passphrase goes through the API for that.
//! **Invariant:** a key is in its new place, durably, before it leaves its old one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pakt_keys::keystore::{APPROVALS, Approver, Argon2Params, HeldRoot, Keystore, Recovery};
use pakt_keys::signing::RootKey;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::codec;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Exit;
use super::client::Client;
use super::output::{Output, facts, moment, safe};
use super::signing::{SigningArgs, ask};
use crate::api::types::*;
use crate::config::Config;
use crate::keyring::{self, Keyring};
use crate::{ambient, files, root, setup};

/// `pakt rotate`
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// How the root is opened.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// File with the passphrase of the keystore; only needed while the node does not run.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `pakt recover`
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The recovery file that belongs to the root that is to be replaced.
    #[arg(long, value_name = "FILE")]
    pub recovery_file: PathBuf,
    /// Where the next recovery file is written; it belongs on another machine or medium.
    #[arg(long, value_name = "FILE")]
    pub new_recovery_file: Option<PathBuf>,
    /// Write the new root here instead of into the keystore.
    #[arg(long, value_name = "FILE")]
    pub root_file: Option<PathBuf>,
    /// File with the passphrase that the new root file gets.
    #[arg(long, value_name = "FILE", requires = "root_file")]
    pub root_passphrase_file: Option<PathBuf>,
    /// File with the passphrase of the keystore.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// `pakt root …`
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Move the root out of the keystore into a file that belongs elsewhere; the node must not run.
    #[command(after_help = "Examples:\n  pakt root export --out /media/usb/nord.root --root-passphrase-file p")]
    Export {
        /// Where the root goes; outside the data directory.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// File with the passphrase that the root file gets.
        #[arg(long, value_name = "FILE")]
        root_passphrase_file: Option<PathBuf>,
        /// An approver and the file with that approver's passphrase; twice, where two persons must approve.
        #[arg(long, value_name = "NAME=FILE")]
        approval: Vec<String>,
        /// File with the passphrase of the keystore.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

/// `pakt approver …`
#[derive(Debug, Subcommand)]
pub enum ApproverCommand {
    /// Name an approver; from the second one on, two must approve what the root signs. The node must not run.
    #[command(after_help = "Examples:\n  pakt approver add Anna --approver-passphrase-file anna")]
    Add {
        /// The approver's name.
        name: String,
        /// File with the approver's own passphrase; a terminal asks for it.
        #[arg(long, value_name = "FILE")]
        approver_passphrase_file: Option<PathBuf>,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
        /// File with the passphrase of the keystore.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Remove an approver; with one left, nobody has to approve. The node must not run.
    Remove {
        /// The approver's name.
        name: String,
        /// How the root is opened.
        #[command(flatten)]
        signing: SigningArgs,
        /// File with the passphrase of the keystore.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// List the approvers.
    List {
        /// How the root file is opened, where the root is kept elsewhere.
        #[command(flatten)]
        signing: SigningArgs,
        /// File with the passphrase of the keystore.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

/// `pakt rotate`: by the running node, else in the keystore itself.
///
/// # Errors
/// Whatever the node says, or what is wrong with the root or the keystore.
pub async fn rotate(client: &Client, dir: &Path, output: Output, args: &RotateArgs) -> Result<Exit, ServiceError> {
    let signing = args.signing.read()?;
    let asked = client.post("/v1/rotate", &SignedRequest { signing: signing.clone() }).await;
    let rotated: Rotated = match asked {
        Err(error) if error.code == ErrorCode::NotRunning => {
            rotate_stopped(dir, &signing, args.passphrase_file.as_deref()).map_err(|stopped| match stopped.code {
                // It runs, but this user may not speak to it.
                ErrorCode::Busy => error,
                _ => stopped,
            })?
        }
        asked => asked?,
    };
    output.result(&rotated, |rotated| {
        let told = match rotated.counterparts {
            0 => "nobody: there is no active agreement".to_owned(),
            count => format!("{count}, each when it is next in contact"),
        };
        facts(&[
            ("entity", rotated.entity.clone()),
            ("peer id", rotated.peer_id.clone()),
            ("certificate", format!("{}.{}, {}", rotated.root_generation, rotated.serial, moment(&rotated.issued_at))),
            ("counterparts told", told),
        ])
    });
    Ok(Exit::DONE)
}

fn rotate_stopped(dir: &Path, signing: &Signing, passphrase: Option<&Path>) -> Result<Rotated, ServiceError> {
    let config = Config::load(dir)?;
    let _lock = keyring::lock_directory(&config)?;
    let (keys, keyring) = Keyring::open(&config, passphrase)?;
    let current = certified(&keys)?;
    let root = root::open(keys.root.as_ref(), signing, &current.root, config.approvals == Some(2))?;
    let keys = keyring::rotated(&keys, &root, ambient::now())?;
    put_in_place(&config, &keyring, &keys)
}

/// Writes the keystore, then the card that shows its certificates. What can fail without touching the disk comes first;
/// a card that cannot be written is written when the node starts.
fn put_in_place(config: &Config, keyring: &Keyring, keys: &Keystore) -> Result<Rotated, ServiceError> {
    let (chain, node) = (keyring::chain_of(keys)?, certified(keys)?);
    let card = setup::sign_card(config, &chain, &keys.statement)?;
    keyring.replace(keys)?;
    if let Err(error) = files::write_public(&config.dir.join(setup::CARD_NAME), card.as_bytes()) {
        tracing::warn!(%error, "the card could not be written");
    }
    Ok(Rotated {
        entity: node.entity.to_string(),
        peer_id: crate::service::peer_id(&node.transport),
        root_generation: node.root_generation,
        serial: node.serial,
        issued_at: time_text(chain.certificate.peek()?.issued_at),
        counterparts: 0,
    })
}

fn certified(keys: &Keystore) -> Result<pakt_protocol::record::chain::CertifiedNode, ServiceError> {
    keyring::chain_of(keys)?.verify().map_err(|error| {
        let message = format!("the keystore's certificate chain does not hold: {error}");
        ServiceError::new(ErrorCode::Damaged, message, "restore the keys' folder from where it was kept")
    })
}

#[derive(Serialize)]
struct Recovered {
    #[serde(flatten)]
    rotated: Rotated,
    new_recovery_file: PathBuf,
    root: PathBuf,
}

/// `pakt recover`
///
/// # Errors
/// When the recovery file is not the one of the current root, or something cannot be written. From the moment that the
/// keystore is written no file with a key is removed: it may be the only copy.
pub fn recover(dir: &Path, output: Output, args: &RecoverArgs) -> Result<Exit, ServiceError> {
    let config = Config::load(dir)?;
    let _lock = keyring::lock_directory(&config)?;
    let (keys, keyring) = Keyring::open(&config, args.passphrase_file.as_deref())?;
    let Recovery { next_root: successor } = read_recovery(&args.recovery_file)?;
    let next = RootKey::generate(&mut ambient::rng());
    let mut keys = keyring::recovered(&keys, &successor, &next.public(), ambient::now())?;
    output.confirm("Replace the root of this entity by the one of the recovery file, and all keys of the node?")?;

    let recovery_path = args.new_recovery_file.clone().unwrap_or_else(|| config.dir.join(setup::RECOVERY_NAME));
    let recovery = Zeroizing::new(armour::encode(Label::Recovery, &Recovery { next_root: next }.to_bytes()));
    files::create_private(&recovery_path, recovery.as_bytes()).map_err(|error| match error.code {
        ErrorCode::Conflict => {
            ServiceError { hint: "name another place with --new-recovery-file FILE".into(), ..error }
        }
        _ => error,
    })?;
    if let Some(path) = &args.root_file {
        move_root(&config, &mut keys, path, args.root_passphrase_file.as_deref())
            .inspect_err(|_| drop(std::fs::remove_file(&recovery_path)))?;
    }
    let rotated = put_in_place(&config, &keyring, &keys).map_err(|error| {
        let root = args.root_file.iter().map(|path| format!(" and {}", path.display())).collect::<String>();
        let keep = format!("keep {}{root}: what was written there may be what counts now", recovery_path.display());
        ServiceError { hint: format!("{}; {keep}", error.hint), ..error }
    })?;
    let root = args.root_file.clone().unwrap_or_else(|| setup::keystore_path(&config.dir));
    output.result(&Recovered { rotated, new_recovery_file: recovery_path, root }, |recovered| {
        recovered_text(recovered, &args.recovery_file)
    });
    Ok(Exit::DONE)
}

fn recovered_text(recovered: &Recovered, used: &Path) -> String {
    let Recovered { rotated, new_recovery_file, root } = recovered;
    let lines = facts(&[
        ("entity", rotated.entity.clone()),
        ("root", format!("generation {}, in {}", rotated.root_generation, root.display())),
        ("peer id", rotated.peer_id.clone()),
        ("recovery file", format!("{}\nmove it to another place", new_recovery_file.display())),
    ]);
    format!(
        "{lines}\n\nDestroy {}: it holds the key that is the root now.\nStart the node: counterparts learn of it when they \
         are next in contact.",
        used.display()
    )
}

fn read_recovery(path: &Path) -> Result<Recovery, ServiceError> {
    let text = Zeroizing::new(files::read_private(path, armour::ARMOUR_BYTES_MAX as u64)?);
    let bytes = Zeroizing::new(armour::decode(Label::Recovery, &text)?);
    Recovery::from_bytes(&bytes).map_err(|error: codec::CodecError| {
        let message = format!("{}: {error}", path.display());
        ServiceError::new(ErrorCode::Damaged, message, "take another copy of the recovery file")
    })
}

/// Writes the root of a keystore into a file of its own, and takes it out of `keys`.
fn move_root(
    config: &Config,
    keys: &mut Keystore,
    path: &Path,
    passphrase_file: Option<&Path>,
) -> Result<(), ServiceError> {
    let place = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if place.starts_with(&config.dir) {
        let message = format!("{} lies in the data directory", path.display());
        return Err(ServiceError::new(ErrorCode::Usage, message, "choose a place on another machine or medium"));
    }
    let held = keys.root.as_ref().ok_or_else(|| {
        ServiceError::new(ErrorCode::Conflict, "the root is kept elsewhere already", "nothing has to be done")
    })?;
    let passphrase = passphrase_file.map(setup::read_passphrase).transpose()?;
    let text = root::file_text(held, passphrase.as_deref().map(Vec::as_slice))?;
    files::create_private(path, text.as_bytes())?;
    keys.root = None;
    Ok(())
}

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    protected: bool,
}

/// `pakt root export`
///
/// # Errors
/// When the root is elsewhere already or does not open, or the file cannot be written.
pub fn root(dir: &Path, output: Output, command: RootCommand) -> Result<Exit, ServiceError> {
    let RootCommand::Export { out, root_passphrase_file, approval, passphrase_file } = command;
    let config = Config::load(dir)?;
    let _lock = keyring::lock_directory(&config)?;
    let (mut keys, keyring) = Keyring::open(&config, passphrase_file.as_deref())?;
    if let Some(held) = &keys.root {
        let signing = SigningArgs { approval, ..SigningArgs::default() }.read()?;
        root::open_held(held, &signing)?;
    }
    move_root(&config, &mut keys, &out, root_passphrase_file.as_deref())?;
    keyring.replace(&keys).map_err(|error| {
        let keep = format!("keep {}: it may be the only copy of the root now", out.display());
        ServiceError { hint: format!("{}; {keep}", error.hint), ..error }
    })?;
    let protected = root_passphrase_file.is_some();
    output.result(&Exported { file: out, protected }, |exported| {
        let file = exported.file.display();
        let care = if exported.protected { "" } else { " It has no passphrase: whoever has it is this entity." };
        format!("the root is in {file} and no longer here.{care}\nName it with --root {file} where it is needed.")
    });
    Ok(Exit::DONE)
}

#[derive(Serialize)]
struct Approvers {
    approvers: Vec<ApproverRow>,
    approvals: usize,
}

/// `pakt approver`
///
/// # Errors
/// When the root does not open under the present rule, or the approver cannot be named or removed.
pub fn approver(dir: &Path, output: Output, command: ApproverCommand) -> Result<Exit, ServiceError> {
    let config = Config::load(dir)?;
    let held = match command {
        ApproverCommand::Add { name, approver_passphrase_file, signing, passphrase_file } => {
            let passphrase = Zeroizing::new(match approver_passphrase_file {
                Some(file) => setup::read_passphrase_text(&file, "--approver-passphrase-file FILE")?,
                None => ask(&format!("Passphrase of {}", safe(&name)))?,
            });
            change_approvers(&config, &signing, passphrase_file.as_deref(), |held, root| {
                if held.knows_passphrase(passphrase.as_bytes())? {
                    let message = "another approver has this passphrase: one person could approve for two";
                    let hint = "each approver chooses one of their own, and tells it to nobody";
                    return Err(ServiceError::new(ErrorCode::Conflict, message, hint));
                }
                let rng = &mut ambient::rng();
                let approver = Approver::create(&name, passphrase.as_bytes(), Argon2Params::default(), rng)?;
                Ok(held.with_approver(root, approver, rng)?)
            })?
        }
        ApproverCommand::Remove { name, signing, passphrase_file } => {
            let demanded = config.approvals == Some(2);
            change_approvers(&config, &signing, passphrase_file.as_deref(), |held, root| {
                let fewer = held.without_approver(root, &name, &mut ambient::rng())?;
                if demanded && !fewer.needs_approvals() {
                    let message = "the settings demand two approvals, so two approvers must stay";
                    return Err(ServiceError::new(ErrorCode::Refused, message, "name another one first"));
                }
                Ok(fewer)
            })?
        }
        ApproverCommand::List { signing, passphrase_file } => {
            let (keys, _) = Keyring::open(&config, passphrase_file.as_deref())?;
            held_root(&keys, &signing.read()?)?
        }
    };
    let approvers = held.approvers().iter().map(|approver| ApproverRow { name: approver.name().to_owned() }).collect();
    let approvals = if held.needs_approvals() { APPROVALS } else { 0 };
    output.result(&Approvers { approvers, approvals }, approvers_text);
    Ok(Exit::DONE)
}

fn approvers_text(shown: &Approvers) -> String {
    let rule = match (shown.approvals, shown.approvers.len()) {
        (0, 0) => "nobody has to approve what the root signs",
        (0, _) => "nobody has to approve what the root signs before a second approver is named",
        _ => "two of these must approve what the root signs",
    };
    let names = shown.approvers.iter().map(|approver| safe(&approver.name));
    names.chain([rule.to_owned()]).collect::<Vec<_>>().join("\n")
}

/// The root as it lies in the file that is named, else in the keystore.
fn held_root(keys: &Keystore, signing: &Signing) -> Result<HeldRoot, ServiceError> {
    if let Some(text) = &signing.root {
        return root::read_file(text, signing.root_passphrase.as_deref().map(str::as_bytes));
    }
    keys.root.as_ref().map(HeldRoot::duplicate).ok_or_else(|| {
        ServiceError::new(
            ErrorCode::Locked,
            "the root key is not in this data directory",
            "name its file with --root FILE",
        )
    })
}

/// Opens the root under the present rule, and puts what `change` makes of it where it lay.
fn change_approvers(
    config: &Config,
    signing: &SigningArgs,
    passphrase_file: Option<&Path>,
    change: impl FnOnce(&HeldRoot, &RootKey) -> Result<HeldRoot, ServiceError>,
) -> Result<HeldRoot, ServiceError> {
    let _lock = keyring::lock_directory(config)?;
    let (keys, keyring) = Keyring::open(config, passphrase_file)?;
    let opened = signing.read()?;
    let held = held_root(&keys, &opened)?;
    let changed = change(&held, &root::open_held(&held, &opened)?)?;
    match &signing.root {
        Some(path) => {
            let text = root::file_text(&changed, opened.root_passphrase.as_deref().map(str::as_bytes))?;
            files::replace_private(path, text.as_bytes())?;
        }
        None => keyring.replace(&Keystore { root: Some(changed.duplicate()), ..keys })?,
    }
    Ok(changed)
}
