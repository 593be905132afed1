//! `pakt run`: unlock, start the service, serve the API, stop in order.
//!
//! **Invariant:** READY is notified only when the node listens and the API answers.
//! **Invariant:** a signal ends the process within ten seconds with exit 0; order: stop accepting, finish or park, commit,
//! close the API, leave.

use std::path::Path;
use std::time::Duration;

use pakt_keys::keystore::Keystore;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use super::Exit;
use super::args::RunArgs;
use super::output::Output;
use crate::api::listen::{ApiServer, give_to_group};
use crate::api::types::{ErrorCode, ServiceError};
use crate::config::{Config, LogFormat};
use crate::keyring::Keyring;
use crate::metrics::listen::MetricsServer;
use crate::service::{self, Node};
use crate::{files, setup};

/// How long the service may take to park its work; the API's own patience comes on top.
const STOP_PATIENCE: Duration = Duration::from_secs(8);
/// What is logged without `PAKT_LOG`: our own state changes, and warnings of everything else.
const LOG_DEFAULT: &str = "warn,pakt_node=info,pakt_protocol=info";

/// Runs the node until a signal or a failure.
///
/// # Errors
/// Whatever keeps the node from starting, and the failure that stopped it.
pub fn run(dir: &Path, output: Output, args: RunArgs) -> Result<Exit, ServiceError> {
    let config = Config::load(dir)?;
    start_log(args.log_format.unwrap_or(config.log.format));
    let keys = Keyring::open(&config, args.passphrase_file.as_deref())?;
    if setup::is_unprotected(&config)? {
        tracing::warn!("the keys lie on disk without a passphrase");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| ServiceError::new(ErrorCode::Failed, format!("cannot start: {e}"), ""))?;
    let result = runtime.block_on(serve(config, keys, output));
    // Work that ignores the order to stop is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: Config, keys: (Keystore, Keyring), output: Output) -> Result<Exit, ServiceError> {
    let shutdown = CancellationToken::new();
    let signals = Signals::listen()?;
    let dir = config.dir.clone();
    let (api_config, metrics_config) = (config.api.clone(), config.metrics);
    if let Some(group) = &api_config.group {
        open_dir_to(&dir, group)?;
    }
    let listen = config.listen.clone();
    let started = service::start(config, keys, shutdown.clone()).await;
    let node =
        started.map_err(|error| if files::is_address_in_use(&error) { port_taken(&listen) } else { failed(error) })?;
    let server = match ApiServer::start(&dir, &api_config, node.clone(), shutdown.clone()).await {
        Ok(server) => server,
        Err(error) => {
            shutdown.cancel();
            let _ = tokio::time::timeout(STOP_PATIENCE, node.stopped()).await;
            return Err(failed(error));
        }
    };
    let metrics = match MetricsServer::start(metrics_config, node.clone(), shutdown.clone()).await {
        Ok(metrics) => metrics,
        Err(error) => {
            shutdown.cancel();
            let _ = tokio::time::timeout(STOP_PATIENCE, node.stopped()).await;
            server.stopped().await;
            return Err(failed(error));
        }
    };
    if let Some(metrics) = &metrics {
        tracing::info!(listen = %metrics.address, "metrics are served");
    }
    announce(&node, &server, output).await;
    let ended = tokio::select! {
        () = signals.received() => None,
        ended = node.stopped() => Some(ended),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    shutdown.cancel();
    if let Some(metrics) = metrics {
        metrics.stop();
    }
    let (stopped, ()) = tokio::join!(tokio::time::timeout(STOP_PATIENCE, node.stopped()), server.stopped());
    match ended {
        Some(Err(error)) => return Err(failed(error)),
        Some(Ok(())) => {
            return Err(ServiceError::new(ErrorCode::Failed, "the node stopped by itself", "see its log"));
        }
        None => {}
    }
    match stopped {
        Ok(Err(error)) => Err(failed(error)),
        Ok(Ok(())) => Ok(Exit::DONE),
        Err(_) => {
            tracing::warn!("some work did not stop in time and was broken off");
            Ok(Exit::DONE)
        }
    }
}

/// Says on stderr and to the service manager that the node is up.
async fn announce(node: &Node, server: &ApiServer, output: Output) {
    let listen = node.status().await.map(|status| status.listen).unwrap_or_default();
    tracing::info!(%listen, api = %server.socket_text, "ready");
    if let Some(tcp) = &server.tcp {
        tracing::info!(api = %tcp, "the API listens on loopback");
    }
    if output.json {
        output.result(&serde_json::json!({"listen": listen, "api": server.socket_text}), |_| String::new());
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, ServiceError> {
        let listen = |kind| signal(kind).map_err(|e| failed(e.into()));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Lets the API's group reach the socket: through the data directory, but not into it.
fn open_dir_to(dir: &Path, group: &str) -> Result<(), ServiceError> {
    give_to_group(dir, group)?;
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o710)).map_err(|e| {
        let message = format!("config.toml: [api] group: {} cannot be opened to group {group}: {e}", dir.display());
        ServiceError::new(ErrorCode::Failed, message, "let the owner of that folder run the node")
    })
}

/// A failure as people read it: with its own code if it carries one.
pub(super) fn failed(error: anyhow::Error) -> ServiceError {
    match error.downcast::<ServiceError>() {
        Ok(error) => error,
        Err(error) => ServiceError::new(ErrorCode::Failed, format!("{error:#}"), ""),
    }
}

fn port_taken(listen: &str) -> ServiceError {
    ServiceError::new(
        ErrorCode::Failed,
        format!("cannot listen on {listen}: another program does"),
        "stop it, or change `listen` in config.toml",
    )
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("PAKT_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_DEFAULT));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::env::var_os("NO_COLOR").is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = match format {
        LogFormat::Text => builder.with_ansi(colour).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
