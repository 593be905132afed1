//! `iperf3`: what the bare line carries, one TCP connection and nothing to do at either end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Job, Measured, Peer, ssh};
use crate::bench::files;
use crate::bench::ground::Ground;
use crate::bench::process::{self, Guard};

/// How long the daemon may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// An iperf3 server at the receiver.
#[derive(Debug)]
pub struct Iperf3Peer {
    port: u16,
    version: String,
    server: Guard,
}

/// The part of its report that counts.
#[derive(Deserialize)]
struct Said {
    end: End,
}

#[derive(Deserialize)]
struct End {
    sum_received: Sum,
}

#[derive(Deserialize)]
struct Sum {
    bits_per_second: f64,
}

impl Iperf3Peer {
    /// Starts the server, `None` if it is not installed.
    ///
    /// # Errors
    /// If it does not work.
    pub fn start(ground: &Ground, dir: &Path) -> Result<Option<Self>> {
        if !process::is_installed("iperf3")? {
            return Ok(None);
        }
        std::fs::create_dir_all(dir)?;
        let port = ssh::free_port(&ground.receiver)?;
        let mut command = Command::new("iperf3");
        command.args(["-s", "--forceflush", "-B", &ground.receiver.address.to_string(), "-p", &port.to_string()]);
        let mut server = Guard::spawn("iperf3 -s", &mut command, &ground.receiver, &dir.join("iperf3.log"))?;
        // It answers one client at a time, so its log is asked and not its port.
        process::wait_for("iperf3's listener", START_DEADLINE, || {
            server.check_alive()?;
            Ok(std::fs::read_to_string(dir.join("iperf3.log"))?.contains("listening").then_some(()))
        })?;
        let version = process::version("iperf3", "--version")?;
        Ok(Some(Self { port, version: version.split(" (").next().unwrap_or_default().into(), server }))
    }

    /// Bytes each second that one connection brings to the other side while it moves `bytes`.
    ///
    /// # Errors
    /// If it fails or is too slow.
    pub fn goodput(&mut self, job: &Job<'_>, bytes: u64) -> Result<f64> {
        self.server.check_alive()?;
        let mut client = Command::new("iperf3");
        client.args(["-c", &job.ground.receiver.address.to_string(), "-p", &self.port.to_string()]);
        client.args(["-n", &bytes.to_string(), "--json"]);
        let finished = process::run_at(&job.ground.sender, "iperf3 -c", &mut client, job.deadline)?;
        let said: Said = serde_json::from_slice(&finished.stdout).context("iperf3 --json")?;
        Ok(said.end.sum_received.bits_per_second / 8.0)
    }
}

impl Peer for Iperf3Peer {
    fn name(&self) -> &'static str {
        "iperf3 (bare line)"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Measured> {
        let bytes = files::size_of(job.source)?.bytes;
        let meter = job.ground.meter();
        let goodput = self.goodput(job, bytes)?;
        Ok(Measured { seconds: bytes as f64 / goodput, crossed: meter.read(), ..Measured::default() })
    }
}
