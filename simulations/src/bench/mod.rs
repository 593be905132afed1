//! Benches: Pakt beside the tools people use today, in one run, on one machine.
//!
//! A case (`loopback`) prepares its input and lets every [`Peer`] send it in turn, so that a machine that slows down slows all of them
//! down; `report` makes medians, ratios and a table. A new peer is one `peer_*` file with one type that implements [`Peer`].
//!
//! **Invariant:** only what lies between the command and its durable end is timed; everything that was received is compared with what
//! was sent.

pub mod codecs;
pub mod files;
pub mod loopback;
pub mod pakt;
pub mod peer_rsync;
pub mod process;
pub mod report;

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCase {
    /// A radiology study of 126 MB over loopback, against rsync over ssh; then the memory that 1 GB files take
    Loopback(loopback::Options),
    /// Size and speed of each codec of chunks, on the phantom or on your own files, beside JPEG-LS
    Codecs(codecs::Options),
}

/// Runs one case, prints its table and writes its JSON.
///
/// # Errors
/// If something did not work; a figure that misses its target is not an error but stands in the report.
pub fn run(case: &BenchCase) -> Result<()> {
    process::watch_signals()?;
    match case {
        BenchCase::Loopback(options) => loopback::run(options),
        BenchCase::Codecs(options) => codecs::run(options),
    }
}

/// A way to bring files from one place to another.
pub trait Peer {
    /// As in the report.
    fn name(&self) -> &'static str;

    /// Program and version.
    fn version(&self) -> &str;

    /// Sends `source` once, timed, into an empty target under the empty directory `work`, and compares what arrived.
    ///
    /// # Errors
    /// If it did not arrive as it was sent.
    fn run(&mut self, source: &Path, work: &Path) -> Result<Measured>;
}

/// What one timed run has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// From the command to its end.
    pub seconds: f64,
    /// TCP payload in both directions, where the peer knows it.
    pub bytes_on_wire: Option<u64>,
    /// The most memory held, where the peer has nodes of its own.
    pub memory: Option<MemoryPeaks>,
}

/// VmHWM of both nodes, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryPeaks {
    /// Of the sending node.
    pub sender_kib: u64,
    /// Of the receiving node.
    pub receiver_kib: u64,
}

impl MemoryPeaks {
    /// The larger of both, for each node.
    pub fn max(self, other: Self) -> Self {
        Self {
            sender_kib: self.sender_kib.max(other.sender_kib),
            receiver_kib: self.receiver_kib.max(other.receiver_kib),
        }
    }
}

/// Lets the kernel write out what the previous run has left, so that no run pays for another's dirty pages.
pub fn settle() {
    rustix::fs::sync();
}
