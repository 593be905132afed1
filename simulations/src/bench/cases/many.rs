//! The case `files`: 3,000 small files against one file of the same size, over 100 Mbit/s, 20 ms.

use anyhow::Result;
use clap::Args;

use crate::bench::contest::{Bench, Input, begin};
use crate::bench::files;
use crate::bench::peers::PeerName;
use crate::bench::report::{CaseReport, PAKT, Row, Target};
use crate::link::Line;

/// Many small files may take this much of what one large one takes.
const RATIO_MAX: f64 = 1.15;
const FILE_BYTES: u64 = 10_000;
const COUNT_QUICK: u64 = 300;
const PEERS: [PeerName; 3] = [PeerName::Pakt, PeerName::Tar, PeerName::Rsync];

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct FilesCase {
    /// How many files of 10 KB
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: u64,
}

/// Runs the case.
///
/// # Errors
/// If a peer fails, or this program may not emulate lines.
pub fn run(bench: &Bench, options: &FilesCase) -> Result<Vec<CaseReport>> {
    let line = Line::new(100.0, 20.0);
    let count = bench.options.sized(options.count, COUNT_QUICK);
    let title = format!("{count} small files against one large one, over {line}");
    let start = begin(&title);
    let dir = bench.new_dir("files")?;
    let many = dir.join("SMALL");
    files::write_many_incompressible(&many, count, FILE_BYTES, 3)?;
    let one = bench.incompressible(&dir, "one.bin", count * FILE_BYTES, 4)?;
    let ground = bench.clean_line(line)?;
    let mut report = CaseReport::new("files", &title, &ground, "incompressible, in each form", files::size_of(&many)?);
    let (many_label, one_label) = (format!("{count} files"), "one file");
    let inputs = [Input { label: &many_label, source: &many }, Input { label: one_label, source: &one }];
    report.rows = bench.contest_of(&ground, &inputs, &PEERS)?;
    let pakt = |label: &str| report.rows.iter().find(|row| row.name.starts_with(PAKT) && row.name.ends_with(label));
    if let (Some(many), Some(one)) =
        (pakt(&many_label).and_then(Row::at_least_seconds), pakt(one_label).and_then(Row::median))
    {
        report.targets.push(Target::at_most("seconds, pakt, many files / one file", RATIO_MAX, many / one));
    }
    report.spent_seconds = start.elapsed().as_secs_f64();
    bench.remove(&dir)?;
    Ok(vec![report])
}
