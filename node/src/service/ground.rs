//! What a node stands on: a process of its own, or one that it shares with the other nodes of a simulated mesh or a test.
//!
//! In a mesh the network is memory instead of TCP; door, TLS, lanes, stores and everything above are the same.
//!
//! **Invariant:** no setting, flag or call of the API leads to [`Ground::Mesh`]: `pakt run` knows only [`Ground::Own`].

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::blob::{BlobError, Writers};
use crate::content::ContentPool;
use crate::net::{Doorkeeper, Lane, Net, NetConfig, NetError, NetLimits};
use crate::store::CACHE_BYTES;

/// Memory for the pages of each store in a mesh: its few rows fit.
const MESH_CACHE_BYTES: usize = 1 << 20;
/// Bytes read ahead per lane in a mesh: memory has no system calls to save.
const MESH_READ_BUFFER_BYTES: usize = 4 << 10;

/// What all nodes of one process share, so that hundreds of them fit into it; clones share it.
#[derive(Clone)]
pub struct Shared {
    content: ContentPool,
    checks: ContentPool,
    writers: Writers,
}

impl Shared {
    /// Starts the threads that work on the content of every node, and those that write it.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start() -> anyhow::Result<Shared> {
        // One thread in the background, which is enough for one node, would never get through what hundreds receive.
        let (content, checks) = (ContentPool::start()?, ContentPool::start()?);
        Ok(Shared { content, checks, writers: Writers::start()? })
    }
}

/// Where a node runs.
#[derive(Clone)]
pub(super) enum Ground {
    /// In a process of its own, over TCP.
    Own,
    /// Among others, over memory at this port.
    Mesh(u64, Shared),
}

impl Ground {
    /// Memory for the pages of the store, in bytes.
    pub(super) fn cache_bytes(&self) -> usize {
        match self {
            Ground::Own => CACHE_BYTES,
            Ground::Mesh(..) => MESH_CACHE_BYTES,
        }
    }

    /// The threads that seal and open content.
    pub(super) fn content_pool(&self) -> io::Result<ContentPool> {
        match self {
            Ground::Own => ContentPool::start(),
            Ground::Mesh(_, shared) => Ok(shared.content.clone()),
        }
    }

    /// The thread that checks what arrived.
    pub(super) fn check_pool(&self) -> io::Result<ContentPool> {
        match self {
            Ground::Own => ContentPool::start_low(),
            Ground::Mesh(_, shared) => Ok(shared.checks.clone()),
        }
    }

    /// The threads that make content durable.
    pub(super) fn writers(&self) -> Result<Writers, BlobError> {
        match self {
            Ground::Own => Writers::start(),
            Ground::Mesh(_, shared) => Ok(shared.writers.clone()),
        }
    }

    /// Listens and dials.
    pub(super) async fn net(
        &self,
        config: NetConfig,
        keeper: Arc<dyn Doorkeeper>,
    ) -> Result<(Net, mpsc::Receiver<Lane>), NetError> {
        match self {
            Ground::Own => Net::start(config, keeper).await,
            Ground::Mesh(port, _) => {
                let limits = NetLimits { read_buffer_bytes: MESH_READ_BUFFER_BYTES, ..config.limits };
                Net::start_in_memory(NetConfig { limits, ..config }, *port, keeper).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::api::types::{AcceptRequest, EnvelopeState, NewMessage, Priority, ProposeRequest, Signing};
    use crate::config::{Config, LISTEN_NONE};
    use crate::keyring::Keyring;
    use crate::service::{Node, start_in_memory};
    use crate::setup::{InitOptions, init};

    async fn node(parent: &Path, port: u64, shared: &Shared, stop: &CancellationToken) -> Node {
        let dir = parent.join(format!("node-{port}"));
        let options = InitOptions {
            dir: dir.clone(),
            name: format!("Clinic {port}"),
            number: format!("NO:ORGNR:{port}"),
            listen: LISTEN_NONE.into(),
            advertise: vec![format!("memory:{port}")],
            allow_range: vec![],
            proxy: None,
            proxy_credentials_file: None,
            passphrase_file: None,
            recovery_file: None,
            root_file: None,
            root_passphrase_file: None,
        };
        init(&options).unwrap();
        let config = Config::load(&dir).unwrap();
        let keys = Keyring::open(&config, None).unwrap();
        start_in_memory(config, keys, (port, shared.clone()), stop.clone()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whole_nodes_of_one_process_agree_and_send() {
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let shared = Shared::start().unwrap();
        let (a, b) =
            (node(folder.path(), 7_001, &shared, &stop).await, node(folder.path(), 7_002, &shared, &stop).await);
        let (signing, fingerprint) = (Signing::default(), None);
        let cards = vec![b.card().await.unwrap()];
        let request = ProposeRequest { cards, terms_toml: None, fingerprint: None, signing, bundle: None };
        let file = a.propose(request).await.unwrap().remove(0).file;
        let accepted = b.accept(AcceptRequest { file, fingerprint, signing: Signing::default() }).await.unwrap();
        assert!(accepted.delivered, "{}", accepted.note);
        let message = NewMessage {
            from: None,
            to: vec!["NO:ORGNR:7002/Reception".into()],
            subject: "Knee".into(),
            body: String::new(),
            priority: Priority::Normal,
            purpose: None,
            bytes: None,
            files: None,
            folders: None,
            forwards: None,
            corrects: None,
        };
        let draft = loop {
            // The groups of the other side come with the first session.
            match a.draft(message.clone()).await {
                Ok(draft) => break draft,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let sent = a.submit(draft.id, Box::pin(Cursor::new(vec![0; 1024]))).await.unwrap();
        for _ in 0..500 {
            let now = a.outbox_show(sent.message.clone()).await.unwrap().envelopes.remove(0);
            if now.state == EnvelopeState::Released {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(b.inbox_list(Default::default()).await.unwrap()[0].state, EnvelopeState::Released);
        stop.cancel();
        a.stopped().await.unwrap();
        b.stopped().await.unwrap();
    }
}
