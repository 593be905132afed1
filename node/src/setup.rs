//! Setting up a node: keys, certificates, recovery file, card, settings; and unlocking them again.
//!
//! **Invariant:** `config.toml` is written last: a folder without it is no node, and a folder with it is a complete one.
//! **Invariant:** the recovery file is durable before anything commits to the key in it.
//! **Invariant:** nothing is overwritten, and a failed `init` leaves nothing behind that it made.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use pakt_keys::codec;
use pakt_keys::keystore::{self, Argon2Params, HeldRoot, Keystore, KeystoreError, Protection, Recovery};
use pakt_keys::sealing::ContactKey;
use pakt_keys::signing::{RootKey, StatementKey, TransportKey};
use pakt_keys::store_seal::StoreKey;
use pakt_keys::words;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::record::address::{ADDRESSES_MAX, Address};
use pakt_protocol::record::card::{CardBody, card_bytes, check_entity_name, check_number};
use pakt_protocol::record::chain::CertificateChain;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::types::{ErrorCode, ServiceError};
use crate::config::{self, ApiConfig, CONFIG_NAME, Config, LogConfig, StoreConfig};
use crate::keyring::Keyring;
use crate::net::Proxy;
use crate::{ambient, files, root};

/// Name of the keys' folder in the data directory.
pub const KEYS_NAME: &str = "keys";
/// Name of the keystore in the keys' folder.
pub const KEYSTORE_NAME: &str = "keystore";
/// Name of the card in the data directory.
pub const CARD_NAME: &str = "card.pakt";
/// Name of the recovery file in the data directory, unless another place is named.
pub const RECOVERY_NAME: &str = "recovery.pakt";
/// Version of the certificate chain's encoding within the keystore.
pub const CHAIN_VERSION: u8 = 1;
/// A passphrase is a line.
const PASSPHRASE_BYTES_MAX: u64 = 4 << 10;
/// Name of the systemd credential with the passphrase.
const CREDENTIAL_NAME: &str = "pakt-passphrase";

/// What `init` is told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The data directory to make.
    pub dir: PathBuf,
    /// The entity's name.
    pub name: String,
    /// The entity's registered number.
    pub number: String,
    /// Address and port to listen on; port 0 picks one.
    pub listen: String,
    /// Addresses for the card.
    pub advertise: Vec<String>,
    /// Private ranges that may be dialled in addition.
    pub allow_range: Vec<String>,
    /// Proxy that every dial goes through.
    pub proxy: Option<String>,
    /// Private file with its credentials.
    pub proxy_credentials_file: Option<PathBuf>,
    /// File with the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// Where the recovery file goes.
    pub recovery_file: Option<PathBuf>,
    /// Where the root goes, if not into the keystore.
    pub root_file: Option<PathBuf>,
    /// File with the passphrase that the root file gets.
    pub root_passphrase_file: Option<PathBuf>,
}

/// What `init` made.
#[derive(Clone, Debug, Serialize)]
pub struct Initialised {
    /// The entity's id.
    pub entity: String,
    /// Its name.
    pub name: String,
    /// Its registered number.
    pub number: String,
    /// Its fingerprint in words.
    pub fingerprint: String,
    /// The data directory.
    pub dir: PathBuf,
    /// Address and port of the listener.
    pub listen: String,
    /// Addresses that the card names.
    pub addresses: Vec<String>,
    /// The card file.
    pub card: PathBuf,
    /// The recovery file.
    pub recovery_file: PathBuf,
    /// Whether the keys lie there without a passphrase.
    pub unprotected: bool,
    /// Whether the settings name no file with the passphrase, so that `run` must be told where it lies.
    #[serde(skip)]
    pub passphrase_unnamed: bool,
}

/// Creates a node.
///
/// # Errors
/// `conflict` when the directory or the recovery file is there already, `usage` for values that no node can have, `failed` and
/// `full` when writing fails.
pub fn init(options: &InitOptions) -> Result<Initialised, ServiceError> {
    check(options)?;
    let passphrase = options.passphrase_file.as_deref().map(read_passphrase).transpose()?;
    let listen = fixed_port(&options.listen)?;
    let dir = Claimed::claim(&options.dir)?;
    let config = Config {
        dir: dir.path.clone(),
        format: config::FORMAT,
        name: options.name.clone(),
        number: options.number.clone(),
        listen,
        advertise: options.advertise.clone(),
        allow_range: options.allow_range.clone(),
        proxy: options.proxy.clone(),
        proxy_credentials_file: options.proxy_credentials_file.as_ref().map(absolute),
        passphrase_file: options.passphrase_file.as_ref().filter(|file| lasts(file)).map(absolute),
        recovery_file: Some(match &options.recovery_file {
            Some(file) => absolute(file),
            None => dir.path.join(RECOVERY_NAME),
        }),
        require_verified: false,
        approvals: None,
        bulk_lanes: None,
        store: StoreConfig::default(),
        backup: Default::default(),
        line: Default::default(),
        relay: Default::default(),
        directory: Default::default(),
        introductions: Default::default(),
        metrics: Default::default(),
        scan: Default::default(),
        api: ApiConfig::default(),
        log: LogConfig::default(),
    };
    let root_passphrase = options.root_passphrase_file.as_deref().map(read_passphrase).transpose()?;
    let root_file = options.root_file.as_deref().map(|file| (file, root_passphrase.as_deref().map(Vec::as_slice)));
    let made = write_node(&config, passphrase.as_deref().map(Vec::as_slice), root_file)?;
    dir.keep();
    Ok(made)
}

fn check(options: &InitOptions) -> Result<(), ServiceError> {
    let usage = |what: &str, error: &dyn std::fmt::Display| {
        ServiceError::new(ErrorCode::Usage, format!("{what}: {error}"), "see `pakt init --help`")
    };
    check_entity_name(&options.name).map_err(|e| usage("--name", &e))?;
    check_number(&options.number).map_err(|e| usage("--number", &e))?;
    for address in &options.advertise {
        address.parse::<Address>().map_err(|e| usage("--advertise", &e))?;
    }
    if options.advertise.len() > ADDRESSES_MAX {
        return Err(usage("--advertise", &format_args!("at most {ADDRESSES_MAX} addresses")));
    }
    if let Some(proxy) = &options.proxy {
        Proxy::parse(proxy).map_err(|e| usage("--proxy", &e))?;
    }
    for range in &options.allow_range {
        check_range(range).map_err(|e| usage("--allow-range", &e))?;
    }
    Ok(())
}

/// Whether `text` is `ADDRESS/BITS`.
fn check_range(text: &str) -> Result<(), &'static str> {
    let bad = "write a range as ADDRESS/BITS, as in 10.0.0.0/8";
    let (address, bits) = text.split_once('/').ok_or(bad)?;
    let address: std::net::IpAddr = address.parse().map_err(|_| bad)?;
    let bits: u8 = bits.parse().map_err(|_| bad)?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    if bits <= max { Ok(()) } else { Err(bad) }
}

/// The listen address with a port: a free one is picked now and kept.
fn fixed_port(listen: &str) -> Result<String, ServiceError> {
    let usage = || {
        let message = format!("--listen: {listen} is no address to listen on");
        ServiceError::new(ErrorCode::Usage, message, "write HOST:PORT with an IP address of this machine, or 0.0.0.0")
    };
    if listen == config::LISTEN_NONE {
        return Ok(listen.to_owned());
    }
    let (host, port) = listen.rsplit_once(':').ok_or_else(usage)?;
    let port: u16 = port.parse().map_err(|_| usage())?;
    let ip: std::net::IpAddr = host.trim_matches(['[', ']']).parse().map_err(|_| usage())?;
    if port != 0 {
        return Ok(std::net::SocketAddr::new(ip, port).to_string());
    }
    let bound = TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr());
    let address = bound.map_err(|e| {
        let message = format!("--listen: no port can be opened on {host}: {e}");
        ServiceError::new(ErrorCode::Failed, message, "name an address of this machine")
    })?;
    Ok(address.to_string())
}

fn absolute(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

// ---------------------------------------------------------------------------------------------------- the directory

/// A new data directory that vanishes again unless it is kept.
struct Claimed {
    path: PathBuf,
    created: bool,
    kept: bool,
}

impl Claimed {
    fn claim(dir: &Path) -> Result<Self, ServiceError> {
        let path = absolute(&dir.to_owned());
        let created = match files::create_private_dir(&path) {
            Ok(()) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(e) => {
                let message = format!("cannot create {}: {e}", path.display());
                return Err(ServiceError::new(ErrorCode::Failed, message, "check the rights of the folder above"));
            }
        };
        if !created {
            refuse_used(&path)?;
        }
        Ok(Self { path, created, kept: false })
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

/// An empty folder may become a node, as service managers make it; anything else is left alone.
fn refuse_used(path: &Path) -> Result<(), ServiceError> {
    let empty = fs::read_dir(path).map(|mut entries| entries.next().is_none());
    if matches!(empty, Ok(true)) {
        let private = fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700));
        return private.map_err(|e| {
            let message = format!("cannot make {} private: {e}", path.display());
            ServiceError::new(ErrorCode::Failed, message, "let its owner run this")
        });
    }
    let node = if path.join(CONFIG_NAME).exists() { "holds a node already" } else { "exists and is not empty" };
    let message = format!("{} {node}; nothing was changed", path.display());
    Err(ServiceError::new(ErrorCode::Conflict, message, "name a folder that does not exist"))
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if self.created {
            let _ = fs::remove_dir_all(&self.path);
            return;
        }
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}

/// Removes a file that was written, unless all went well.
struct Undo<'a>(Option<&'a Path>);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------- writing

fn write_node(
    config: &Config,
    passphrase: Option<&[u8]>,
    root_file: Option<(&Path, Option<&[u8]>)>,
) -> Result<Initialised, ServiceError> {
    let mut rng = ambient::rng();
    let now = ambient::now();
    let root = RootKey::generate(&mut rng);
    let next_root = RootKey::generate(&mut rng);
    let transport = TransportKey::generate(&mut rng);
    let statement = StatementKey::generate(&mut rng);
    let contact = ContactKey::generate(&mut rng);
    let node = (transport.public(), statement.public(), contact.public());
    let chain = CertificateChain::create(&root, &next_root.public(), node, now);
    let entity = chain.verify().map_err(|e| inconsistent(&e))?.entity;

    let recovery_path = config.recovery_file.clone().unwrap_or_else(|| config.dir.join(RECOVERY_NAME));
    let recovery = Zeroizing::new(armour::encode(Label::Recovery, &Recovery { next_root }.to_bytes()));
    files::create_private(&recovery_path, recovery.as_bytes())?;
    let mut undo = Undo(Some(&recovery_path));

    let mut held = Some(HeldRoot::open(root));
    let mut undo_root = Undo(None);
    if let (Some((path, passphrase)), Some(root)) = (root_file, &held) {
        files::create_private(path, root::file_text(root, passphrase)?.as_bytes())?;
        undo_root.0 = Some(path);
        held = None;
    }

    let card = sign_card(config, &chain, &statement)?;
    let store = StoreKey::generate(&mut rng);
    let chain = codec::encode(CHAIN_VERSION, &chain);
    let keys = Keystore { root: held, transport, statement, contact, store, chain };
    write_keystore(config, &keys, passphrase)?;
    let card_path = config.dir.join(CARD_NAME);
    files::write_public(&card_path, card.as_bytes())?;
    files::write_private(&config.dir.join(CONFIG_NAME), config.render().as_bytes())?;
    undo.0 = None;
    undo_root.0 = None;
    drop((undo, undo_root));
    Ok(Initialised {
        entity: entity.to_string(),
        name: config.name.clone(),
        number: config.number.clone(),
        fingerprint: words::fingerprint(&entity),
        dir: config.dir.clone(),
        listen: config.listen.clone(),
        addresses: config.card_addresses(),
        card: card_path,
        recovery_file: recovery_path,
        unprotected: passphrase.is_none(),
        passphrase_unnamed: passphrase.is_some() && config.passphrase_file.is_none(),
    })
}

/// The card that the configuration describes, signed now, as armoured text.
pub(crate) fn sign_card(config: &Config, chain: &CertificateChain, key: &StatementKey) -> Result<String, ServiceError> {
    let usage = |error: &dyn std::fmt::Display| {
        let message = format!("{} describes no card: {error}", config.dir.join(CONFIG_NAME).display());
        ServiceError::new(ErrorCode::Usage, message, "correct name, number, listen or advertise")
    };
    let addresses = config.card_addresses();
    let card = CardBody {
        name: config.name.clone(),
        number: config.number.clone(),
        chain: chain.clone(),
        addresses: addresses.iter().map(|a| a.parse()).collect::<Result<_, _>>().map_err(|e| usage(&e))?,
        issued_at: ambient::now(),
    };
    let signed = card.sign(key).map_err(|e| usage(&e))?;
    Ok(armour::encode(Label::Card, &card_bytes(&signed)))
}

fn write_keystore(config: &Config, keys: &Keystore, passphrase: Option<&[u8]>) -> Result<(), ServiceError> {
    let dir = config.dir.join(KEYS_NAME);
    files::create_private_dir(&dir).map_err(|e| {
        let message = format!("cannot create {}: {e}", dir.display());
        ServiceError::new(ErrorCode::Failed, message, "check the rights of the folder")
    })?;
    let protection = passphrase.map_or(Protection::None, Protection::Passphrase);
    let bytes = keystore::lock(keys, protection, Argon2Params::default(), &mut ambient::rng())
        .map_err(|e| keystore_error(&dir.join(KEYSTORE_NAME), e))?;
    files::create_private(&dir.join(KEYSTORE_NAME), &bytes)
}

fn inconsistent(error: &dyn std::fmt::Display) -> ServiceError {
    ServiceError::new(ErrorCode::Failed, format!("the new keys do not fit together: {error}"), "try again")
}

// -------------------------------------------------------------------------------------------------------- unlocking

/// The passphrase in force: the flag's file, the systemd credential, or the file of the configuration.
///
/// # Errors
/// `locked` when a file is named and gives no passphrase, or can be read by others.
pub fn passphrase(config: &Config, flag: Option<&Path>) -> Result<Option<Zeroizing<Vec<u8>>>, ServiceError> {
    if let Some(file) = flag {
        return read_passphrase(file).map(Some);
    }
    let credential = credentials_dir().map(|dir| dir.join(CREDENTIAL_NAME)).filter(|file| file.exists());
    if let Some(file) = credential {
        return read_passphrase(&file).map(Some);
    }
    config.passphrase_file.as_deref().map(read_passphrase).transpose()
}

/// The passphrase for something that has no configuration yet: the flag's file or the systemd credential.
///
/// # Errors
/// As [`passphrase`].
pub fn passphrase_of(flag: Option<&Path>) -> Result<Option<Zeroizing<Vec<u8>>>, ServiceError> {
    let credential = || credentials_dir().map(|dir| dir.join(CREDENTIAL_NAME)).filter(|file| file.exists());
    flag.map(Path::to_path_buf).or_else(credential).as_deref().map(read_passphrase).transpose()
}

/// Where the service manager puts the credentials of this process.
fn credentials_dir() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// Whether a file with the passphrase will be there at the next start: not a pipe, nor a credential of this process.
pub(crate) fn lasts(file: &Path) -> bool {
    file.is_file() && !is_credential(file)
}

fn is_credential(file: &Path) -> bool {
    credentials_dir().is_some_and(|dir| file.starts_with(dir))
}

/// Reads a passphrase: the file without its last line break.
pub(crate) fn read_passphrase(file: &Path) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
    read_passphrase_for(file, "--passphrase-file FILE")
}

/// The same, for what `flag` names.
pub(crate) fn read_passphrase_for(file: &Path, flag: &str) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
    // The service manager guards its credentials by other means than the mode; a pipe has no rights worth a look.
    if lasts(file) {
        files::refuse_open_to_others(file)?;
    }
    let locked = |message: String| {
        ServiceError::new(ErrorCode::Locked, message, format!("give the file with the passphrase: {flag}"))
    };
    let read = files::read_bounded(file, PASSPHRASE_BYTES_MAX).map_err(|e| locked(e.message))?;
    let mut bytes = Zeroizing::new(read);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(locked(format!("{} holds no passphrase", file.display())));
    }
    Ok(bytes)
}

/// Reads a passphrase that travels through the local API, which takes text; `flag` named its file.
///
/// # Errors
/// `locked` when the file gives no passphrase, can be read by others or is no text.
pub fn read_passphrase_text(file: &Path, flag: &str) -> Result<String, ServiceError> {
    let bytes = read_passphrase_for(file, flag)?;
    std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| {
        let message = format!("{} is not UTF-8 text", file.display());
        ServiceError::new(ErrorCode::Locked, message, "choose a passphrase that can be typed")
    })
}

/// The keystore file of a data directory.
pub fn keystore_path(dir: &Path) -> PathBuf {
    dir.join(KEYS_NAME).join(KEYSTORE_NAME)
}

/// Unlocks the keys of a node.
///
/// # Errors
/// `locked` for a missing or wrong passphrase or a key file that others can read, `damaged` for a changed or newer one.
pub fn unlock(config: &Config, passphrase_file: Option<&Path>) -> Result<Keystore, ServiceError> {
    Keyring::open(config, passphrase_file).map(|(keys, _)| keys)
}

/// Whether the keys of a node lie there without a passphrase.
///
/// # Errors
/// Those of [`unlock`], but for the passphrase.
pub fn is_unprotected(config: &Config) -> Result<bool, ServiceError> {
    let path = keystore_path(&config.dir);
    let protected = keystore::is_protected(&read_keystore(&path)?).map_err(|e| keystore_error(&path, e))?;
    Ok(!protected)
}

pub(crate) fn read_keystore(path: &Path) -> Result<Zeroizing<Vec<u8>>, ServiceError> {
    if let Some(keys) = path.parent() {
        refuse_open_dir(keys, 0o077)?;
        keys.parent().map(|dir| refuse_open_dir(dir, 0o066)).transpose()?;
        let others = fs::read_dir(keys).into_iter().flatten().flatten();
        for file in others.map(|entry| entry.path()).filter(|file| file.is_file()) {
            files::refuse_open_to_others(&file)?;
        }
    }
    let read = files::read_private(path, keystore::KEYSTORE_BYTES_MAX as u64);
    read.map(Zeroizing::new).map_err(|e| match e.code {
        ErrorCode::Failed => {
            ServiceError::new(ErrorCode::Damaged, e.message, "restore the keys' folder from where it was kept")
        }
        _ => e,
    })
}

/// Refuses a folder that has any right of `mask` for others; passing through it may be allowed.
fn refuse_open_dir(dir: &Path, mask: u32) -> Result<(), ServiceError> {
    let Some(mode) = files::open_to_others(dir).filter(|mode| mode & mask != 0) else { return Ok(()) };
    let message = format!("{} is open to others (mode {mode:o})", dir.display());
    let hint = format!("if nobody else was there: chmod 700 {}", dir.display());
    Err(ServiceError::new(ErrorCode::Locked, message, hint))
}

pub(crate) fn keystore_error(path: &Path, error: KeystoreError) -> ServiceError {
    let (code, hint) = match error {
        KeystoreError::Locked | KeystoreError::WrongPassphrase | KeystoreError::EmptyPassphrase => {
            (ErrorCode::Locked, "give the file with the passphrase: --passphrase-file FILE")
        }
        KeystoreError::Newer { .. } => (ErrorCode::Damaged, "use the newer `pakt` that wrote it"),
        KeystoreError::Damaged | KeystoreError::BadParameters | KeystoreError::ChainTooLong => {
            (ErrorCode::Damaged, "restore the keys' folder from where it was kept")
        }
        KeystoreError::OutOfMemory => (ErrorCode::Failed, "free some memory and try again"),
    };
    ServiceError::new(code, format!("{}: {error}", path.display()), hint)
}

/// Reads the card that lies in the data directory.
///
/// # Errors
/// `damaged` when it is not there or not a card.
pub fn read_card(config: &Config) -> Result<String, ServiceError> {
    let path = config.dir.join(CARD_NAME);
    let bytes = files::read_bounded(&path, armour::ARMOUR_BYTES_MAX as u64).map_err(|e| {
        ServiceError::new(ErrorCode::Damaged, e.message, "a running node gives its card too: start it and ask again")
    })?;
    armour::decode(Label::Card, &bytes).map_err(|e| {
        let message = format!("{}: {e}", path.display());
        ServiceError::new(ErrorCode::Damaged, message, "a running node gives its card too: start it and ask again")
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
