//! Pakt as a peer: nodes as operators would set them up, agreements, sends.
//!
//! Only the command line is used, so that what is measured is what people get. The program is the one that cargo has just built
//! from this source, unless another one is asked for. `node` is one node, [`Pair`] two of them under one agreement.
//!
//! **Invariant:** entities, agreements and data directories are made anew for every timed run.

mod node;
mod pair;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

pub use node::{Node, Priority, Sending, agree};
pub use pair::Pair;

use super::peers::{Job, Measured, Peer};
use super::process;

/// Building everything from nothing takes minutes on a small machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(3600);
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);
/// Subject of the message of an ordinary run.
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

    fn run(&mut self, job: &Job<'_>) -> Result<Measured> {
        let pair = Pair::agree(&self.program, job.ground, job.work)?;
        super::settle();
        let measured = pair.send(job.ground, job.source, SUBJECT, job.deadline)?;
        pair.check_received(SUBJECT, job.source, &job.work.join("saved"))?;
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
