//! What every case takes from its command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::peers::PeerName;

/// How to run cases.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Timed runs of each peer; the median counts
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Only these peers, where a case compares; Pakt first
    #[arg(long, global = true, value_enum, value_delimiter = ',')]
    pub peers: Vec<PeerName>,
    /// Everything once and small: shows that it works, and measures nothing
    #[arg(long, global = true)]
    pub quick: bool,
    /// Seconds after which one run of a peer is given up
    #[arg(long, global = true, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub limit: u64,
    /// Congestion control of clean lines (default: the kernel's); lossy lines are measured under BBR and CUBIC
    #[arg(long, global = true, value_name = "NAME")]
    pub congestion_control: Option<String>,
    /// Where the emulated line draws its losses from
    #[arg(long, global = true, default_value_t = 1)]
    pub seed: u64,
    /// Measure this program instead of building one
    #[arg(long, global = true, value_name = "PATH")]
    pub pakt: Option<PathBuf>,
    /// Where to put inputs, nodes and targets (default: the system's temporary directory)
    #[arg(long, global = true, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Write the report as JSON to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as one HTML page to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Leave everything there instead of removing it
    #[arg(long, global = true)]
    pub keep: bool,
}

impl Options {
    /// When one run is given up.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.limit)
    }

    /// Timed runs of each peer.
    pub fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }

    /// A size, or the small one of a quick run.
    pub fn sized(&self, size: u64, quick: u64) -> u64 {
        if self.quick { size.min(quick) } else { size }
    }

    /// Those of `usual` that were asked for.
    pub fn peers_among(&self, usual: &[PeerName]) -> Vec<PeerName> {
        usual.iter().copied().filter(|name| self.peers.is_empty() || self.peers.contains(name)).collect()
    }
}
