//! How a node comes up: what is opened in which order, and what a crash left is put right before anything moves.
//!
//! ```text
//! keys -> store (locks the directory) -> blobs, slots -> book -> mailroom -> leftovers -> card -> net -> exchange -> tasks
//! ```
//!
//! **Invariant:** nothing in the data directory is touched before keys and lock are in order.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pakt_keys::keystore::Keystore;
use pakt_keys::store_seal::StoreKey;
use pakt_protocol::armour::{self, Label};
use pakt_protocol::record::address::Address;
use pakt_protocol::record::card::{Card, card_bytes};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drafts::Drafts;
use super::ground::{Ground, Shared};
use super::leftovers::release_orphans;
use super::running::{Running, watch_changes};
use super::{Answer, Inner, Node, blocking};
use crate::api::types::{ErrorCode, ServiceError};
use crate::audit::Log;
use crate::backup::ledger::Ledger;
use crate::blob::Blobs;
use crate::book::Book;
use crate::config::{CONFIG_NAME, Config};
use crate::content::KnownContent;
use crate::controls::Controls;
use crate::directory::Directory;
use crate::disk::RealDisk;
use crate::entity::Entity;
use crate::exchange::{Exchange, Keeper, Parts, Settings};
use crate::introductions::Introductions;
use crate::keyring::Keyring;
use crate::mailroom::{MailError, Mailroom};
use crate::net::{DialRules, Net, NetConfig, SharedRules};
use crate::release::{self, Release};
use crate::scan::Scanner;
use crate::slots::{SlotId, Slots};
use crate::store::Store;
use crate::{ambient, backup, clock, files, setup};

/// Name of the database in the data directory.
pub const STORE_NAME: &str = "pakt.redb";
/// Name of the objects' folder in the data directory.
pub(crate) const CHUNKS_NAME: &str = "chunks";
/// Name of the key slots in the keys' folder.
pub(crate) const SLOTS_NAME: &str = "slots";
/// A configuration is a page of text.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// A scanner that takes longer to answer is waited for in the background.
const SCANNER_FIRST: Duration = Duration::from_secs(3);
/// A card is a page of text.
const CARD_FILE_BYTES_MAX: u64 = 256 << 10;

/// Everything durable of a node, opened.
struct Opened {
    store: Store,
    blobs: Blobs,
    known: KnownContent,
    slots: Slots,
    entity: Entity,
    book: Book,
    mailroom: Mailroom,
    directory: Directory,
    introductions: Introductions,
    /// Seconds by which the clock jumped while the node was down.
    clock_jump: Option<i64>,
}

/// Starts a node; it runs until `shutdown` is cancelled or it fails. On return it listens.
///
/// # Errors
/// What is wrong with the data directory, the keys or the listen address.
pub async fn start(
    config: Config,
    (keystore, keyring): (Keystore, Keyring),
    shutdown: CancellationToken,
) -> anyhow::Result<Node> {
    start_on(Ground::Own, config, (keystore, keyring), shutdown).await
}

/// Starts a node among others of this process: it is dialled at `memory:PORT`, which its configuration advertises. For
/// simulated meshes and tests; `pakt` has no way to it.
///
/// # Errors
/// What is wrong with the data directory or the keys, or that the port is taken.
pub async fn start_in_memory(
    config: Config,
    keys: (Keystore, Keyring),
    (port, shared): (u64, Shared),
    shutdown: CancellationToken,
) -> anyhow::Result<Node> {
    start_on(Ground::Mesh(port, shared), config, keys, shutdown).await
}

async fn start_on(
    ground: Ground,
    config: Config,
    (keystore, keyring): (Keystore, Keyring),
    shutdown: CancellationToken,
) -> anyhow::Result<Node> {
    let unprotected = setup::is_unprotected(&config)?;
    let listen = config.listen_address()?;
    let dial_rules = SharedRules::from(dial_rules(&config, listen)?);
    let addresses = card_addresses(&config)?;
    let seed = *keystore.transport.seed();
    let opening = (config.clone(), ground.clone());
    let opened = blocking(move || open(&opening.0, &opening.1, keystore, addresses)).await?;
    let network = (ground, seed, listen, dial_rules);
    let started = bring_up(config, opened, network, (unprotected, keyring), shutdown).await;
    started.map_err(|(store, error)| {
        store.close();
        error
    })
}

type Network = (Ground, [u8; 32], Option<SocketAddr>, SharedRules);

async fn bring_up(
    config: Config,
    opened: Opened,
    network: Network,
    (unprotected, keyring): (bool, Keyring),
    shutdown: CancellationToken,
) -> Result<Node, (Store, anyhow::Error)> {
    let Opened { store, blobs, known, slots, entity, book, mailroom, directory, introductions, clock_jump } = opened;
    let fail = |error: anyhow::Error| (store.clone(), error);
    let (card, old_keys) = settle(&config, (&store, &entity), &book, &mailroom).await.map_err(fail)?;
    let (ground, dial_rules) = (network.0.clone(), network.3.clone());
    let pool = ground.content_pool().context("cannot start the threads for content").map_err(fail)?;
    let release = checks(&config, &ground, &mailroom, &entity).await.map_err(fail)?;
    let controls = Controls::of_this_node(&mailroom.store, release.scanner().cloned());
    let connecting = connect(&config, network, controls, &entity, (&book, &mailroom), (&directory, &introductions));
    let (net, exchange) = connecting.await.map_err(fail)?;
    let (changes, _) = watch::channel(0);
    let (end, ended) = watch::channel(None);
    let stop = shutdown.child_token();
    let submissions = TaskTracker::new();
    let ledger = config.backup.ledger.clone().map(|path| Ledger::new(path, store.clone()));
    let watching = watch_changes(book.clone(), mailroom.clone(), exchange.clone(), changes.clone(), stop.clone());
    let running = Running {
        store,
        slots,
        book: book.clone(),
        introductions: introductions.clone(),
        known: known.clone(),
        upkeep: (mailroom.clone(), entity.clone(), ledger.clone()),
        net: net.clone(),
        exchange: exchange.clone(),
        submissions: submissions.clone(),
        release: release.clone(),
        old_keys,
        syslog: config.log.syslog.clone(),
        shutdown,
        stop: stop.clone(),
    };
    running.start(tokio::spawn(watching), end);
    let inner = Inner {
        listen: net.listening(),
        config,
        entity,
        book,
        mailroom,
        directory,
        introductions,
        blobs,
        known,
        net,
        exchange,
        keyring: Arc::new(tokio::sync::Mutex::new(keyring)),
        pool,
        release,
        dial_rules,
        card: Mutex::new(card),
        config_file: tokio::sync::Mutex::new(()),
        unprotected,
        clock_jump,
        started: Instant::now(),
        drafts: Drafts::default(),
        backups: super::backup::Backups::default(),
        ledger,
        submissions,
        stop,
        changes,
        ended,
    };
    Ok(Node { inner: Arc::new(inner) })
}

/// What a crash, a restore or another configuration left is put right and noted; gives this entity's card, and the key slots
/// that are still to be looked through.
async fn settle(
    config: &Config,
    (store, entity): (&Store, &Entity),
    book: &Book,
    mailroom: &Mailroom,
) -> anyhow::Result<(String, Vec<SlotId>)> {
    let old_keys = put_right(entity, book, mailroom, &mailroom.blobs).await?;
    backup::after::renew_grants(store, book).await?;
    note_start(config, &Log::new(store.clone(), entity.clone())).await?;
    Ok((write_card(&config.dir, book)?, old_keys))
}

/// The check of what arrives, with the scanner that the operator set.
async fn checks(config: &Config, ground: &Ground, mailroom: &Mailroom, entity: &Entity) -> anyhow::Result<Release> {
    let scanner = Scanner::of(&config.scan);
    if let Some(scanner) = &scanner {
        // What is attested at the first contact is what is so, if the scanner answers at once.
        let _ = tokio::time::timeout(SCANNER_FIRST, scanner.test()).await;
    }
    let pool = ground.check_pool().context("cannot start the thread for checks")?;
    let (mailroom, entity) = (mailroom.clone(), entity.clone());
    Ok(Release::new(release::Parts { mailroom, entity, scanner, scan_all: config.scan.all, pool }))
}

/// Listens, and dials from here on.
async fn connect(
    config: &Config,
    (ground, seed, listen, dial_rules): Network,
    controls: Controls,
    entity: &Entity,
    (book, mailroom): (&Book, &Mailroom),
    (directory, introductions): (&Directory, &Introductions),
) -> anyhow::Result<(Net, Exchange)> {
    let settings = Settings { bulk_lanes: config.bulk_lanes, line: config.line.clone(), relay: config.relay.clone() };
    let net_config = NetConfig { listen, proxy: config.dial_proxy()?, dial_rules, ..NetConfig::new(seed) };
    let keeper = Arc::new(Keeper::new(book.clone(), entity.clone()));
    let (net, lanes) = ground.net(net_config, keeper).await?;
    let exchange = Exchange::start(Parts {
        entity: entity.clone(),
        book: book.clone(),
        mailroom: mailroom.clone(),
        directory: directory.clone(),
        introductions: introductions.clone(),
        net: net.clone(),
        lanes,
        controls,
        settings,
    });
    Ok((net, exchange))
}

/// Opens what lies on disk; blocks. The store locks the directory first.
fn open(config: &Config, ground: &Ground, keystore: Keystore, addresses: Vec<Address>) -> Answer<Opened> {
    let keys = config.dir.join(setup::KEYS_NAME);
    refuse_open_key_files(&keys)?;
    let disk = RealDisk::shared();
    let store_key = StoreKey::from_bytes(*keystore.store.as_bytes());
    let entity = Entity::new(keystore, config.name.clone(), config.number.clone())?;
    let store = Store::open_caching(disk.clone(), &config.dir.join(STORE_NAME), store_key, ground.cache_bytes())?;
    let clock_jump = clock::settle(&store)?;
    if let Some(seconds) = clock_jump {
        tracing::warn!(seconds, "the clock jumped since the last run; what waits keeps the time it had left");
    }
    backup::after::settle(&store, &entity)?;
    let slots = Slots::open(store.clone(), disk.clone(), &keys.join(SLOTS_NAME))?;
    let blobs = Blobs::open_sharing(store.clone(), disk, &config.dir.join(CHUNKS_NAME), &ground.writers()?)?;
    let known = KnownContent::open(store.clone(), blobs.clone(), entity.id(), config.known_content_bytes())?;
    let book = Book::open(store.clone(), slots.clone(), entity.clone(), addresses)?;
    let mailroom = Mailroom::new(store.clone(), blobs.clone(), slots.clone());
    let directory = Directory::open(store.clone(), book.clone(), entity.clone(), config.directory)?;
    let introductions =
        Introductions::open(store.clone(), book.clone(), entity.clone(), directory.clone(), config.introductions)?;
    Ok(Opened { store, blobs, known, slots, entity, book, mailroom, directory, introductions, clock_jump })
}

/// Adds to the audit log that configuration or keys are others than at the last start.
async fn note_start(config: &Config, log: &Log) -> Answer<()> {
    let text = files::read_bounded(&config.dir.join(CONFIG_NAME), CONFIG_BYTES_MAX)?;
    log.note_configuration(*blake3::hash(&text).as_bytes()).await?;
    Ok(log.note_keys().await?)
}

/// Every file of the keys' folder is for its owner only.
fn refuse_open_key_files(keys: &Path) -> Answer<()> {
    for entry in std::fs::read_dir(keys).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Some(mode) = files::open_to_others(&path) {
            let message = format!("{} can be read or changed by others (mode {mode:o})", path.display());
            let hint = format!("if nobody else has seen it: chmod 600 {}", path.display());
            return Err(ServiceError::new(ErrorCode::Locked, message, hint));
        }
    }
    Ok(())
}

/// Takes away what a crash left between two steps that belong together; gives the key slots that are still to be looked
/// through, which needs no haste.
pub(crate) async fn put_right(entity: &Entity, book: &Book, mailroom: &Mailroom, blobs: &Blobs) -> Answer<Vec<SlotId>> {
    mailroom.finish_purges(entity).await?;
    let old_keys = mailroom.slots.list().map_err(MailError::from)?;
    // Where keys were replaced and the node ended before it had told.
    book.renew_grants_if_due(ambient::service_now()).await?;
    let released = release_orphans(mailroom).await?;
    let removed = blobs.remove_unpinned().await?;
    if released + removed > 0 {
        tracing::info!(released, removed, "cleared away what was broken off");
    }
    Ok(old_keys)
}

/// Writes this entity's card where `init` wrote it, if it says something else by now, and gives its text.
pub(super) fn write_card(dir: &Path, book: &Book) -> Answer<String> {
    let path = dir.join(setup::CARD_NAME);
    let signed = book.own_card()?;
    let current = signed.peek()?;
    if let Ok(text) = files::read_bounded(&path, CARD_FILE_BYTES_MAX)
        && let Ok(bytes) = armour::decode(Label::Card, &text)
        && let Ok(known) = Card::from_bytes(&bytes)
    {
        // When it was issued is no reason to issue it again.
        let same = known.body.issued_at <= current.issued_at
            && pakt_protocol::record::card::CardBody { issued_at: current.issued_at, ..known.body } == current;
        if same {
            return Ok(armour::encode(Label::Card, &bytes));
        }
    }
    let text = armour::encode(Label::Card, &card_bytes(&signed));
    files::write_public(&path, text.as_bytes())?;
    Ok(text)
}

fn wrong_config(key: &str, value: &str, hint: &str) -> ServiceError {
    ServiceError::new(ErrorCode::Damaged, format!("config.toml: `{key}`: {value} cannot be used"), hint)
}

fn card_addresses(config: &Config) -> Answer<Vec<Address>> {
    let parse = |text: &String| {
        text.parse().map_err(|_| wrong_config("advertise", text, "write HOST:PORT, an IPv6 address in brackets"))
    };
    config.card_addresses().iter().map(parse).collect()
}

/// What this node dials: the ranges that its own addresses lie in, and those that the operator allowed.
pub(super) fn dial_rules(config: &Config, listen: Option<SocketAddr>) -> Answer<DialRules> {
    let advertised = card_addresses(config)?.into_iter().filter_map(|address| address.ip());
    let own: Vec<IpAddr> = listen.iter().map(SocketAddr::ip).chain(advertised).collect();
    let range = |text: &String| {
        text.parse().map_err(|_| wrong_config("allow_range", text, "write ADDRESS/BITS, as in 10.0.0.0/8"))
    };
    Ok(DialRules { own, allowed: config.allow_range.iter().map(range).collect::<Answer<_>>()? })
}
