//! Pakt as a peer: two nodes as two operators would set them up, one agreement, one send.
//!
//! Only the command line is used, so that what is measured is what people get. The program is the one that cargo has just built
//! from this source.
//!
//! **Invariant:** entities, agreement and data directories are made anew for every run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::process::{self, Finished, Guard, Running};
use super::{Measured, MemoryPeaks, Peer, files};

/// Building everything from nothing takes minutes on a small machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(3600);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
const START_DEADLINE: Duration = Duration::from_secs(20);
const ONLINE_DEADLINE: Duration = Duration::from_secs(30);
/// The command line promises an end within 10 s of SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How long one send may take; also handed to `pakt send --timeout`.
const SEND_DEADLINE: Duration = Duration::from_secs(900);

const SENDER_NUMBER: &str = "NO:ORGNR:999000101";
const RECEIVER_NUMBER: &str = "NL:KVK:99000102";
/// Every entity has this group from the start.
const GROUP: &str = "Reception";
const SUBJECT: &str = "Bench";

/// Builds `pakt` with the profile of this program and says where it is.
///
/// # Errors
/// If cargo is missing or the build fails.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "-p",
        "pakt-node",
        "--bin",
        "pakt",
        "--message-format",
        "json-render-diagnostics",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    let finished = process::run("cargo build of pakt", &mut command, BUILD_DEADLINE)?;
    built_program(&finished.stdout).context("cargo has not said where pakt is")
}

/// Finds the program in cargo's messages, one JSON object a line.
fn built_program(messages: &[u8]) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct Artifact {
        target: Target,
        executable: Option<PathBuf>,
    }
    let lines = messages.split(|byte| *byte == b'\n');
    let artifacts = lines.filter_map(|line| serde_json::from_slice::<Artifact>(line).ok());
    artifacts.filter(|artifact| artifact.target.name == "pakt").find_map(|artifact| artifact.executable)
}

/// What `pakt send --json` prints; fields that the bench does not need are left out.
#[derive(Debug, Deserialize)]
struct Sent {
    envelopes: Vec<SentEnvelope>,
}

#[derive(Debug, Deserialize)]
struct SentEnvelope {
    state: String,
    bytes_on_wire: u64,
}

/// An item of `pakt inbox list --json`.
#[derive(Debug, Deserialize)]
struct Received {
    id: String,
    subject: String,
}

/// One node: its directory and its process.
struct Node {
    program: PathBuf,
    dir: PathBuf,
    process: Guard,
}

impl Node {
    /// Makes a new entity under `dir` and starts its node on a free loopback port.
    fn start(program: &Path, dir: PathBuf, name: &str, number: &str) -> Result<Self> {
        let recovery = dir.with_extension("recovery");
        let mut init = Command::new(program);
        init.arg("init").arg("--dir").arg(&dir).args(["--name", name, "--number", number, "--listen", "127.0.0.1:0"]);
        init.arg("--recovery-file").arg(recovery);
        process::run("pakt init", &mut init, COMMAND_DEADLINE)?;
        let mut run = Command::new(program);
        run.arg("run").arg("--dir").arg(&dir);
        let process = Guard::spawn("pakt run", &mut run, &dir.with_extension("log"))?;
        let mut node = Self { program: program.into(), dir, process };
        process::wait_for("the node's answer to status", START_DEADLINE, || {
            node.process.check_alive()?;
            Ok(node.call(&["status", "--json"]).ok())
        })?;
        Ok(node)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PAKT_DIR", &self.dir);
        command
    }

    fn call(&self, arguments: &[&str]) -> Result<Finished> {
        self.call_with(self.command(arguments), arguments)
    }

    fn call_with(&self, mut command: Command, arguments: &[&str]) -> Result<Finished> {
        process::run(&format!("pakt {}", arguments.join(" ")), &mut command, COMMAND_DEADLINE)
    }

    /// Calls with the path of one file as the last argument.
    fn call_on(&self, arguments: &[&str], file: &Path) -> Result<Finished> {
        let mut command = self.command(arguments);
        command.arg(file);
        self.call_with(command, arguments)
    }

    fn is_online(&self) -> Result<bool> {
        #[derive(Deserialize)]
        struct Counterpart {
            online: bool,
        }
        let said = self.call(&["peers", "--json"])?.stdout;
        let peers: Vec<Counterpart> = serde_json::from_slice(&said).context("pakt peers --json")?;
        Ok(peers.iter().any(|peer| peer.online))
    }
}

/// Two nodes under one agreement, both online.
pub struct Pair {
    sender: Node,
    receiver: Node,
}

impl Pair {
    /// Does what two operators do: two entities, two cards, a proposal, an acceptance.
    ///
    /// # Errors
    /// The first step that fails, with what the program said.
    pub fn agree(program: &Path, work: &Path) -> Result<Self> {
        let sender = Node::start(program, work.join("sender"), "Bench Sender", SENDER_NUMBER)?;
        let receiver = Node::start(program, work.join("receiver"), "Bench Receiver", RECEIVER_NUMBER)?;
        let card = work.join("receiver.card");
        receiver.call_on(&["card", "--out"], &card)?;
        let proposal = work.join("proposal");
        let mut propose = sender.command(&["agreement", "propose", "--with"]);
        propose.arg(&card).arg("--out").arg(&proposal);
        sender.call_with(propose, &["agreement", "propose"])?;
        receiver.call_on(&["agreement", "accept"], &proposal)?;
        let mut pair = Self { sender, receiver };
        process::wait_for("both nodes online", ONLINE_DEADLINE, || {
            pair.sender.process.check_alive()?;
            pair.receiver.process.check_alive()?;
            Ok((pair.sender.is_online()? && pair.receiver.is_online()?).then_some(()))
        })?;
        Ok(pair)
    }

    /// Starts a send that ends with the durable receipt; `subject` finds the message again at the receiver.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_send(&self, path: &Path, subject: &str) -> Result<Running> {
        let (to, timeout) = (format!("{RECEIVER_NUMBER}/{GROUP}"), format!("{}s", SEND_DEADLINE.as_secs()));
        let arguments =
            ["send", "--to", &to, "--subject", subject, "--wait", "delivered", "--timeout", &timeout, "--json"];
        let mut command = self.sender.command(&arguments);
        command.arg(path);
        Running::start("pakt send", &mut command)
    }

    /// Waits for a send and for its receipt.
    ///
    /// # Errors
    /// If the message was not delivered.
    pub fn finish_send(&self, sending: Running) -> Result<Measured> {
        let finished = sending.finish(SEND_DEADLINE)?;
        self.measured(&finished)
    }

    /// Saves a message at the receiver into `saved` and compares it with what was sent.
    ///
    /// # Errors
    /// If the message is not in the inbox exactly once, or not as it was sent.
    pub fn check_received(&self, subject: &str, path: &Path, saved: &Path) -> Result<()> {
        let listed = self.receiver.call(&["inbox", "list", "--json"])?.stdout;
        let inbox: Vec<Received> = serde_json::from_slice(&listed).context("pakt inbox list --json")?;
        let ids: Vec<&str> = inbox.iter().filter(|item| item.subject == subject).map(|item| item.id.as_str()).collect();
        let [id] = ids[..] else { bail!("{} messages with the subject {subject} in the inbox", ids.len()) };
        let mut save = self.receiver.command(&["inbox", "save", id, "--to"]);
        save.arg(saved);
        process::run("pakt inbox save", &mut save, SEND_DEADLINE)?;
        let name = path.file_name().context("the source has no name")?;
        files::check_same(path, &saved.join(name))
    }

    fn measured(&self, finished: &Finished) -> Result<Measured> {
        let sent: Sent = serde_json::from_slice(&finished.stdout).context("pakt send --json")?;
        if sent.envelopes.is_empty() || sent.envelopes.iter().any(|envelope| envelope.state != "delivered") {
            bail!(
                "pakt send has returned without a delivery: {}",
                String::from_utf8_lossy(&finished.stdout).trim_end()
            );
        }
        Ok(Measured {
            seconds: finished.elapsed.as_secs_f64(),
            bytes_on_wire: Some(sent.envelopes.iter().map(|envelope| envelope.bytes_on_wire).sum()),
            memory: Some(self.memory_peaks()?),
        })
    }

    /// The most memory that either node has held so far.
    ///
    /// # Errors
    /// If a node runs no more.
    pub fn memory_peaks(&self) -> Result<MemoryPeaks> {
        Ok(MemoryPeaks {
            sender_kib: self.sender.process.memory_peak_kib()?,
            receiver_kib: self.receiver.process.memory_peak_kib()?,
        })
    }

    /// Ends both nodes as an operator would.
    ///
    /// # Errors
    /// If one of them does not end in time or reports a failure.
    pub fn stop(self) -> Result<()> {
        let stopped = self.sender.process.terminate(STOP_DEADLINE);
        self.receiver.process.terminate(STOP_DEADLINE).and(stopped)
    }
}

/// Pakt as one of the peers of a bench.
#[derive(Debug)]
pub struct PaktPeer {
    program: PathBuf,
    version: String,
}

impl PaktPeer {
    /// The peer that runs `program`.
    ///
    /// # Errors
    /// If the program does not say its version.
    pub fn new(program: &Path) -> Result<Self> {
        let said = process::run("pakt --version", Command::new(program).arg("--version"), COMMAND_DEADLINE)?;
        let version = String::from_utf8_lossy(&said.stdout).trim().to_string();
        Ok(Self { program: program.into(), version })
    }
}

impl Peer for PaktPeer {
    fn name(&self) -> &'static str {
        "pakt send --wait delivered"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn run(&mut self, source: &Path, work: &Path) -> Result<Measured> {
        let pair = Pair::agree(&self.program, work)?;
        super::settle();
        let sending = pair.start_send(source, SUBJECT)?;
        let measured = pair.finish_send(sending)?;
        pair.check_received(SUBJECT, source, &work.join("saved"))?;
        pair.stop()?;
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        let check = |messages: &str, expected: Option<&str>| {
            assert_eq!(built_program(messages.as_bytes()), expected.map(PathBuf::from), "{messages}");
        };
        let library = r#"{"reason":"compiler-artifact","target":{"name":"pakt_node"},"executable":null}"#;
        let program = r#"{"reason":"compiler-artifact","target":{"name":"pakt"},"executable":"/t/release/pakt"}"#;
        let end = r#"{"reason":"build-finished","success":true}"#;
        check(&[library, program, end].join("\n"), Some("/t/release/pakt"));
        check(&[library, end].join("\n"), None);
        check("", None);
    }
}
