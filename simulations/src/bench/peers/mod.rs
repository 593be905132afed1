//! Ways to bring files from one place to another: Pakt and what people use today.
//!
//! A new peer is one file with one type that implements [`Peer`], and one line in [`PeerName`] and [`start`].
//!
//! **Invariant:** only what lies between the command and its end is timed; daemons run before, targets are empty, and everything
//! that arrived is compared with what was sent.

mod dicom;
mod iperf3;
mod rsync;
mod scp;
mod sendme;
pub mod ssh;
mod tar;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use super::ground::{Crossed, Ground};
use super::pakt::PaktPeer;
use super::{files, process};
pub use iperf3::Iperf3Peer;
pub use rsync::RsyncPeer;
use ssh::SshServer;

/// One timed run to do.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Where.
    pub ground: &'a Ground,
    /// A file or a folder, not to be changed.
    pub source: &'a Path,
    /// An empty directory for the target.
    pub work: &'a Path,
    /// When to give up.
    pub deadline: Duration,
}

/// A way to bring files from one place to another.
pub trait Peer {
    /// As in the report.
    fn name(&self) -> &'static str;

    /// Program and version.
    fn version(&self) -> &str;

    /// Sends the source once, timed, into an empty target, and compares what arrived.
    ///
    /// # Errors
    /// If it did not arrive as it was sent; [`process::TooSlow`] if it had not ended by the deadline.
    fn run(&mut self, job: &Job<'_>) -> Result<Measured>;
}

/// What one timed run has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// From the command to its end.
    pub seconds: f64,
    /// TCP payload in both directions, where the peer counts it itself.
    pub bytes_on_wire: Option<u64>,
    /// What the emulated line has carried in that time.
    pub crossed: Option<Crossed>,
    /// The most memory held, where the peer has nodes of its own.
    pub memory: Option<MemoryPeaks>,
}

/// The most memory of both nodes (VmHWM), in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPeaks {
    /// Of the sending node, or of the one process that was measured.
    pub sender_kib: u64,
    /// Of the receiving node, where there is one.
    pub receiver_kib: Option<u64>,
}

impl MemoryPeaks {
    /// The node that held more.
    pub fn larger_kib(self) -> u64 {
        self.sender_kib.max(self.receiver_kib.unwrap_or_default())
    }

    /// The larger of both, for each node.
    pub fn max(self, other: Self) -> Self {
        Self {
            sender_kib: self.sender_kib.max(other.sender_kib),
            receiver_kib: self.receiver_kib.max(other.receiver_kib),
        }
    }
}

/// Who can take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PeerName {
    /// `pakt send --wait delivered`
    Pakt,
    /// `rsync -a` over ssh
    Rsync,
    /// `rsync -az --compress-choice=zstd` over ssh
    RsyncZ,
    /// `tar | zstd -3 | ssh 'zstd -d | tar x'`
    Tar,
    /// `scp -r`
    Scp,
    /// C-STORE by dcmtk's `storescu` to `storescp`; for DICOM only
    Storescu,
    /// iroh's `sendme`
    Sendme,
    /// `iperf3`: as many bytes over one bare connection
    Iperf3,
}

/// A peer that takes part, or why it does not.
pub enum Entrant {
    /// Its daemon runs.
    Ready(Box<dyn Peer>),
    /// What is missing.
    Absent(&'static str),
}

/// Starts the daemons of the peers that are installed, with their files under `dir`.
///
/// # Errors
/// If what is installed does not work, or something is missing where nothing may be.
pub fn start(names: &[PeerName], ground: &Ground, dir: &Path, program: &Path) -> Result<Vec<Entrant>> {
    let wants_ssh =
        |name: &PeerName| matches!(name, PeerName::Rsync | PeerName::RsyncZ | PeerName::Tar | PeerName::Scp);
    let ssh = match names.iter().any(wants_ssh) {
        true => SshServer::start(ground, &dir.join("ssh"))?.map(Rc::new),
        false => None,
    };
    let mut entrants = Vec::new();
    for name in names {
        let entrant = start_one(*name, ground, &dir.join("daemons"), program, ssh.as_ref())?;
        if let Entrant::Absent(missing) = entrant {
            // The only one that no package manager brings.
            if std::env::var_os("PAKT_REQUIRE_ALL").is_some() && *name != PeerName::Sendme {
                bail!("{missing}, and PAKT_REQUIRE_ALL lets nothing be left out");
            }
            eprintln!("LEFT OUT: {missing}");
        }
        entrants.push(entrant);
    }
    Ok(entrants)
}

fn start_one(
    name: PeerName,
    ground: &Ground,
    dir: &Path,
    program: &Path,
    ssh: Option<&Rc<SshServer>>,
) -> Result<Entrant> {
    fn ready<P: Peer + 'static>(peer: Option<P>, missing: &'static str) -> Entrant {
        peer.map_or(Entrant::Absent(missing), |peer| Entrant::Ready(Box::new(peer)))
    }
    Ok(match name {
        PeerName::Pakt => Entrant::Ready(Box::new(PaktPeer::new(program)?)),
        PeerName::Rsync => ready(RsyncPeer::new(ssh, false)?, "rsync -a over ssh: rsync or OpenSSH is not installed"),
        PeerName::RsyncZ => ready(RsyncPeer::new(ssh, true)?, "rsync -az over ssh: rsync or OpenSSH is not installed"),
        PeerName::Tar => ready(tar::TarPeer::new(ssh)?, "tar, zstd, ssh: zstd or OpenSSH is not installed"),
        PeerName::Scp => ready(scp::ScpPeer::new(ssh)?, "scp -r: OpenSSH is not installed"),
        PeerName::Storescu => ready(dicom::StorePeer::start(ground, dir)?, "C-STORE: dcmtk is not installed"),
        PeerName::Sendme => ready(sendme::SendmePeer::new()?, "sendme: not installed"),
        PeerName::Iperf3 => ready(Iperf3Peer::start(ground, dir)?, "iperf3: not installed"),
    })
}

/// Compares what lies in `target` under the name of the source with the source.
fn check_copy(job: &Job<'_>, target: &Path) -> Result<()> {
    files::check_same(job.source, &target.join(files::name_of(job.source)?))
}

/// Makes the target directory of a job.
fn make_target(job: &Job<'_>) -> Result<PathBuf> {
    let target = job.work.join("target");
    std::fs::create_dir(&target)?;
    Ok(target)
}

/// Runs the command of a job at its sender, after the kernel has written out what earlier runs have left.
fn timed(job: &Job<'_>, name: &str, command: &mut std::process::Command) -> Result<Measured> {
    super::settle();
    let meter = job.ground.meter();
    let finished = process::run_at(&job.ground.sender, name, command, job.deadline)?;
    Ok(Measured { seconds: finished.elapsed.as_secs_f64(), crossed: meter.read(), ..Measured::default() })
}
