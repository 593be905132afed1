//! One node of the mesh with its folder: set up, started, asked, stopped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use pakt_node::api::types::Peer;
use pakt_node::config::{Config, LISTEN_NONE};
use pakt_node::keyring::Keyring;
use pakt_node::service::{Node, Shared, start_in_memory};
use pakt_node::setup::{InitOptions, init};
use tokio_util::sync::CancellationToken;

/// The group that every fresh entity has.
const GROUP: &str = "Reception";
/// How long a node may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Ports of the memory, which all meshes of a process share; addresses have room for 16 bits.
const PORTS: u64 = 60_000;

/// One node of a mesh.
pub(super) struct Site {
    dir: PathBuf,
    port: u64,
    /// The entity's registered number.
    pub(super) number: String,
    running: Option<(Node, CancellationToken)>,
}

impl Site {
    /// Sets a node up below `parent`, and starts it.
    pub(super) async fn create(parent: PathBuf, index: usize, shared: Shared) -> Result<Site> {
        static NEXT_PORT: AtomicU64 = AtomicU64::new(0);
        let port = 1 + NEXT_PORT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let number = format!("NO:ORGNR:{}", 900_000_000 + index);
        let dir = parent.join(format!("node-{index}"));
        let options = options(&dir, index, port, &number);
        tokio::task::spawn_blocking(move || init(&options)).await??;
        let mut site = Site { dir, port, number, running: None };
        site.start(shared).await.with_context(|| format!("node {index} does not start"))?;
        Ok(site)
    }

    /// Starts it from what lies in its folder.
    pub(super) async fn start(&mut self, shared: Shared) -> Result<()> {
        let dir = self.dir.clone();
        let opening = tokio::task::spawn_blocking(move || -> Result<_> {
            let config = Config::load(&dir)?;
            let keys = Keyring::open(&config, None)?;
            Ok((config, keys))
        });
        let (config, keys) = opening.await??;
        let stop = CancellationToken::new();
        let node = start_in_memory(config, keys, (self.port, shared), stop.clone()).await?;
        self.running = Some((node, stop));
        Ok(())
    }

    /// Stops it in order.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let Some((node, stop)) = self.running.take() else { return Ok(()) };
        stop.cancel();
        tokio::time::timeout(STOP_PATIENCE, node.stopped()).await.context("a node does not stop")?
    }

    /// The node, while it runs.
    pub(super) fn node(&self) -> Option<&Node> {
        self.running.as_ref().map(|(node, _)| node)
    }

    /// The node, which must run.
    pub(super) fn up(&self) -> Result<Node> {
        self.node().cloned().context("the node does not run")
    }

    /// Where messages to it go.
    pub(super) fn recipient(&self) -> String {
        format!("{}/{GROUP}", self.number)
    }

    /// Its counterparts, none while it does not run.
    pub(super) async fn peers(&self) -> Result<Vec<Peer>> {
        match self.node() {
            Some(node) => Ok(node.peers().await?),
            None => Ok(Vec::new()),
        }
    }
}

fn options(dir: &Path, index: usize, port: u64, number: &str) -> InitOptions {
    InitOptions {
        dir: dir.to_owned(),
        name: format!("Mesh {index}"),
        number: number.to_owned(),
        listen: LISTEN_NONE.into(),
        advertise: vec![format!("memory:{port}")],
        allow_range: Vec::new(),
        proxy: None,
        proxy_credentials_file: None,
        passphrase_file: None,
        recovery_file: None,
        root_file: None,
        root_passphrase_file: None,
    }
}
