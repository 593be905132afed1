//! C-STORE with dcmtk: `storescu` to a running `storescp`, what a scanner and an archive speak.
//!
//! `storescp` names files by their instance and writes meta information of its own, so the data sets behind it are what is compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Job, Measured, Peer, ssh, timed};
use crate::bench::files;
use crate::bench::ground::Ground;
use crate::bench::process::{self, Guard};

/// What it says once it listens is nothing at all, so its port is asked.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// What both sides offer each other at most: larger units are faster, and the default of 16 KiB would not be fair.
const PDU_BYTES: &str = "131072";
/// Preamble and magic of a DICOM file (PS3.10, 7.1).
const PREAMBLE_BYTES: usize = 132;
/// (0002,0000) UL: tag, type, length and value of the group's length.
const GROUP_LENGTH_BYTES: usize = 12;

/// A running storescp.
#[derive(Debug)]
pub(super) struct StorePeer {
    port: u16,
    /// The daemon's folder, fixed for its life; each run empties it into its own target.
    received: PathBuf,
    version: String,
    server: Guard,
}

impl StorePeer {
    pub(super) fn start(ground: &Ground, dir: &Path) -> Result<Option<Self>> {
        if !(process::is_installed("storescu")? && process::is_installed("storescp")?) {
            return Ok(None);
        }
        let received = dir.join("storescp");
        fs::create_dir_all(&received)?;
        let port = ssh::free_port(&ground.receiver)?;
        let mut command = Command::new("storescp");
        command.args(["-q", "+B", "-dhl", "-pdu", PDU_BYTES, "-od"]).arg(&received).arg(port.to_string());
        let mut server = Guard::spawn("storescp", &mut command, &ground.receiver, &dir.join("storescp.log"))?;
        process::wait_for("storescp's listener", START_DEADLINE, || {
            server.check_alive()?;
            let address = (ground.receiver.address, port);
            Ok(ground.receiver.inside(|| std::net::TcpStream::connect(address))?.ok())
        })?;
        let said = process::version("storescu", "--version")?;
        let version = said.trim_start_matches("$dcmtk: ").split(" 20").next().unwrap_or_default().into();
        Ok(Some(Self { port, received, version, server }))
    }
}

impl Peer for StorePeer {
    fn name(&self) -> &'static str {
        "DICOM C-STORE"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Measured> {
        self.server.check_alive()?;
        for file in files::files_under(&self.received)?.values() {
            fs::remove_file(file)?;
        }
        let mut storescu = Command::new("storescu");
        storescu.args(["-q", "+sd", "+r", "-R", "-pdu", PDU_BYTES]);
        storescu.arg(job.ground.receiver.address.to_string()).arg(self.port.to_string()).arg(job.source);
        let measured = timed(job, "storescu", &mut storescu)?;
        let (sent, arrived) = (data_sets(job.source)?, data_sets(&self.received)?);
        if sent != arrived {
            bail!("what storescp has stored is not what was sent");
        }
        Ok(measured)
    }
}

/// How often each data set is there, by its hash.
fn data_sets(dir: &Path) -> Result<BTreeMap<[u8; 32], u32>> {
    let mut found = BTreeMap::new();
    for file in files::files_under(dir)?.values() {
        let content = fs::read(file)?;
        let data_set = data_set(&content).with_context(|| format!("{} is not a DICOM file", file.display()))?;
        *found.entry(*blake3::hash(data_set).as_bytes()).or_insert(0) += 1;
    }
    Ok(found)
}

/// What follows the meta information of a DICOM file.
fn data_set(content: &[u8]) -> Option<&[u8]> {
    let value = content.get(PREAMBLE_BYTES + 8..PREAMBLE_BYTES + GROUP_LENGTH_BYTES)?;
    let group = u32::from_le_bytes(value.try_into().ok()?) as usize;
    content.get(PREAMBLE_BYTES + GROUP_LENGTH_BYTES + group..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_set_is_what_follows_the_meta_information() {
        let mut file = vec![0; PREAMBLE_BYTES + 8];
        file.extend([3, 0, 0, 0]);
        file.extend(b"abcdef");
        assert_eq!(data_set(&file), Some(&b"def"[..]));
        assert_eq!(data_set(&file[..140]), None);
    }
}
