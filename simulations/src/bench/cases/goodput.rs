//! The case `goodput`: incompressible content over 100 Mbit/s, 20 ms, against what the bare line carries in the same run.

use anyhow::Result;
use clap::Args;

use crate::bench::contest::{Bench, begin};
use crate::bench::files;
use crate::bench::peers::PeerName;
use crate::bench::report::{CaseReport, PAKT, Row, Target};
use crate::link::Line;

/// Of the bare line's goodput.
const GOODPUT_RATIO_MIN: f64 = 0.97;
/// Bytes on the wire over content.
const WIRE_RATIO_MAX: f64 = 1.03;
const BYTES_QUICK: u64 = 20_000_000;

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct GoodputCase {
    /// Size of the file in MB
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    size_mb: u64,
}

/// Runs the case.
///
/// # Errors
/// If a peer fails, or this program may not emulate lines.
pub fn run(bench: &Bench, options: &GoodputCase) -> Result<Vec<CaseReport>> {
    let line = Line::new(100.0, 20.0);
    let bytes = bench.options.sized(options.size_mb * 1_000_000, BYTES_QUICK);
    let title = format!("{} MB that cannot be compressed, over {line}", bytes / 1_000_000);
    let start = begin(&title);
    let dir = bench.new_dir("goodput")?;
    let file = bench.incompressible(&dir, "content.bin", bytes, 9)?;
    let ground = bench.clean_line(line)?;
    let mut report = CaseReport::new("goodput", &title, &ground, "incompressible", files::size_of(&file)?);
    let peers = [PeerName::Iperf3, PeerName::Pakt, PeerName::Rsync, PeerName::Tar];
    report.rows = bench.contest(&ground, &file, &peers)?;
    let median = |start: &str| report.row(start).and_then(Row::median);
    let mut targets = Vec::new();
    if let (Some(pakt), Some(line)) = (median(PAKT), median("iperf3")) {
        targets.push(Target::at_least("goodput, pakt / bare line", GOODPUT_RATIO_MIN, line / pakt));
    }
    if let Some(wire) = report.row(PAKT).and_then(|row| row.bytes_on_wire) {
        targets.push(Target::at_most("bytes on the wire / content", WIRE_RATIO_MAX, wire as f64 / bytes as f64));
    }
    report.targets = targets;
    report.spent_seconds = start.elapsed().as_secs_f64();
    bench.remove(&dir)?;
    Ok(vec![report])
}
