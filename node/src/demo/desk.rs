//! One operator of the demo: a data directory, a node process, and this program's own commands.
//!
//! **Invariant:** the node process ends with its desk, unless it is left running on purpose.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::api::types::{ErrorCode, Peer, ServiceError, Status};
use crate::cli::client::Client;

/// How long a node may take to come up, and to see its peer.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// How long a node may take to stop when told to.
const STOP_PATIENCE: Duration = Duration::from_secs(12);

/// An operator with a running node.
pub(super) struct Desk {
    /// The entity's registered number.
    pub(super) number: String,
    /// The data directory.
    pub(super) dir: PathBuf,
    program: PathBuf,
    client: Client,
    node: Option<Child>,
    log: PathBuf,
}

impl Desk {
    /// Creates a node in `folder` and starts it.
    pub(super) async fn open(folder: &Path, word: &str, name: &str, number: &str) -> Result<Desk, ServiceError> {
        let program = std::env::current_exe().map_err(|e| broken("this program", &e))?;
        let dir = folder.join(word);
        let log = folder.join(format!("{word}.log"));
        let recovery = folder.join(format!("{word}.recovery"));
        let client = Client::new(&dir);
        let mut desk = Desk { number: number.to_owned(), dir, program, client, node: None, log };
        let init = ["init", "--name", name, "--number", number, "--listen", "127.0.0.1:0"];
        desk.command(&[&init[..], &["--recovery-file", text(&recovery)?, "--json"]].concat()).await?;
        desk.start(&folder.join(format!("{word}.pid")))?;
        desk.answering().await?;
        Ok(desk)
    }

    fn start(&mut self, pid_file: &Path) -> Result<(), ServiceError> {
        let log = File::create(&self.log).map_err(|e| broken("the log", &e))?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg("--dir").arg(&self.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Its own group: Ctrl-C at the terminal is for the demo, which then ends its nodes in order.
        let child = command.process_group(0).spawn().map_err(|e| broken("the node", &e))?;
        fs::write(pid_file, format!("{}\n", child.id())).map_err(|e| broken("the folder", &e))?;
        self.node = Some(child);
        Ok(())
    }

    async fn answering(&mut self) -> Result<(), ServiceError> {
        let deadline = Instant::now() + PATIENCE;
        while self.client.get::<Status>("/v1/status").await.is_err() {
            let ended = self.node.as_mut().is_none_or(|node| !matches!(node.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                let message = format!("the node of {} does not come up: {}", self.number, last.join("; "));
                return Err(ServiceError::new(ErrorCode::Failed, message, "run `pakt doctor`"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until the one peer is online.
    pub(super) async fn online(&self) -> Result<(), ServiceError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let peers: Vec<Peer> = self.client.get("/v1/peers").await?;
            match peers.first() {
                Some(peer) if peer.online => return Ok(()),
                peer if Instant::now() > deadline => {
                    let why = peer.and_then(|peer| peer.reason.clone()).unwrap_or_else(|| "no reason is known".into());
                    let message = format!("the two nodes do not see each other: {why}");
                    return Err(ServiceError::new(ErrorCode::Failed, message, "does a firewall close loopback?"));
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Runs one command of this program as this operator; its progress shows on our stderr.
    pub(super) async fn command(&self, args: &[&str]) -> Result<Value, ServiceError> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(args).arg("--dir").arg(&self.dir).stdin(Stdio::null()).stdout(Stdio::piped());
        // Only sending takes long enough to be watched; what the others say is for operators who read every line.
        let watched = args.first() == Some(&"send");
        command.stderr(if watched { Stdio::inherit() } else { Stdio::null() }).kill_on_drop(true);
        let done = command.spawn().map_err(|e| broken("this program", &e))?.wait_with_output().await;
        let done = done.map_err(|e| broken("this program", &e))?;
        let value: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        if done.status.success() {
            return Ok(value);
        }
        let error: Option<ServiceError> = serde_json::from_value(value).ok();
        Err(error.unwrap_or_else(|| {
            let message = format!("`pakt {}` ended with {}", args.join(" "), done.status);
            ServiceError::new(ErrorCode::Failed, message, "run the demo with --keep and try the command yourself")
        }))
    }

    /// The most memory that the node has held, in bytes.
    pub(super) fn memory_peak(&self) -> u64 {
        let Some(node) = &self.node else { return 0 };
        let status = fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    /// Ends the node as an operator would and waits for it.
    pub(super) async fn close(mut self) -> Result<(), ServiceError> {
        let Some(mut node) = self.node.take() else { return Ok(()) };
        terminate(&node);
        let deadline = Instant::now() + STOP_PATIENCE;
        loop {
            match node.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let message = format!("the node of {} ended with {status}", self.number);
                    return Err(ServiceError::new(ErrorCode::Failed, message, "this is a fault of the program"));
                }
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                _ => {
                    self.node = Some(node);
                    let message = format!("the node of {} does not stop", self.number);
                    return Err(ServiceError::new(ErrorCode::Failed, message, "this is a fault of the program"));
                }
            }
        }
    }

    /// Lets the node outlive the demo.
    pub(super) fn leave_running(mut self) {
        self.node = None;
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(node) = &mut self.node {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn terminate(node: &Child) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(node), rustix::process::Signal::TERM);
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> Result<&str, ServiceError> {
    path.to_str().ok_or_else(|| {
        let message = format!("{} is not UTF-8", path.display());
        ServiceError::new(ErrorCode::Failed, message, "choose another folder for temporary files with TMPDIR")
    })
}

fn broken(what: &str, error: &std::io::Error) -> ServiceError {
    ServiceError::new(ErrorCode::Failed, format!("{what} cannot be used: {error}"), "check the folder's rights")
}
