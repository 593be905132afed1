//! The case `large`: one incompressible file over loopback against scp, and whether memory stays flat.

use anyhow::Result;
use clap::Args;

use crate::bench::contest::{Bench, Input, begin};
use crate::bench::files;
use crate::bench::ground::Ground;
use crate::bench::peers::{MemoryPeaks, PeerName};
use crate::bench::report::{CaseReport, PAKT, Row, Target, megabytes};

/// No node may hold more memory than this.
const NODE_MEMORY_BYTES_MAX: u64 = 256_000_000;
/// A file of ten times the size may take at most this much of the memory.
const FLAT_RATIO_MAX: f64 = 1.25;
const BYTES_QUICK: u64 = 200_000_000;

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct LargeCase {
    /// Size of the file in MB; five times as much room is needed
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    size_mb: u64,
}

/// Runs the case.
///
/// # Errors
/// If a peer fails.
pub fn run(bench: &Bench, options: &LargeCase) -> Result<Vec<CaseReport>> {
    let bytes = bench.options.sized(options.size_mb * 1_000_000, BYTES_QUICK);
    let title = format!("One incompressible file of {:.1} GB over loopback", bytes as f64 / 1e9);
    let start = begin(&title);
    let dir = bench.new_dir("large")?;
    let large = bench.incompressible(&dir, "large.bin", bytes, 7)?;
    let tenth = bench.incompressible(&dir, "tenth.bin", bytes / 10, 8)?;
    let ground = Ground::loopback()?;
    let mut report = CaseReport::new("large", &title, &ground, "incompressible", files::size_of(&large)?);
    let inputs = [Input { label: "a tenth", source: &tenth }, Input { label: "whole", source: &large }];
    report.rows = bench.contest_of(&ground, &inputs, &[PeerName::Pakt, PeerName::Scp])?;
    let row = |peer: &str, label: &str| {
        report.rows.iter().find(|row| row.name.starts_with(peer) && row.name.ends_with(label))
    };
    let mut targets = Vec::new();
    let (pakt, scp) = (row(PAKT, "whole"), row("scp", "whole"));
    if let (Some(pakt), Some(scp)) = (pakt.and_then(Row::at_least_seconds), scp.and_then(Row::median)) {
        targets.push(Target::at_most("seconds, pakt / scp", 1.0, pakt / scp));
    }
    if let (Some(whole), Some(tenth)) =
        (pakt.and_then(|row| row.memory), row(PAKT, "a tenth").and_then(|row| row.memory))
    {
        targets.push(Target::at_most(
            "VmHWM in MB, the higher of both",
            megabytes(NODE_MEMORY_BYTES_MAX),
            worst(whole),
        ));
        let what = "VmHWM, the whole file / a tenth of it";
        targets.push(Target::at_most(what, FLAT_RATIO_MAX, worst(whole) / worst(tenth)));
    }
    report.targets = targets;
    report.spent_seconds = start.elapsed().as_secs_f64();
    bench.remove(&dir)?;
    Ok(vec![report])
}

fn worst(peaks: MemoryPeaks) -> f64 {
    megabytes(peaks.larger_kib() * 1024)
}
