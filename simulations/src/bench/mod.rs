//! Benches: Pakt beside the tools people use today, in one run, on one machine.
//!
//! A case prepares its input and its ground (loopback, or two namespaces with an emulated line) and lets every peer send the input
//! in turn, so that a machine that slows down slows all of them down; `report` makes medians, ratios, a table, JSON and a page.
//! Start reading at [`contest`]; `peers` are the tools, `cases` what is measured.
//!
//! **Invariant:** only what lies between the command and its durable end is timed; everything that was received is compared with what
//! was sent.

pub mod cases;
pub mod contest;
pub mod files;
pub mod ground;
pub mod options;
pub mod pakt;
pub mod peers;
pub mod process;
pub mod report;

use anyhow::Result;
use clap::{Args, Subcommand};

use cases::{loopback, study};
use contest::Bench;
use options::Options;
use report::{CaseReport, Report};

/// What to measure, and how.
#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    case: BenchCase,
    #[command(flatten)]
    options: Options,
}

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCase {
    /// A radiology study of 126 MB over emulated lines, against everybody
    Study(study::StudyCase),
    /// The same study over loopback
    Loopback(loopback::LoopbackCase),
}

/// Runs one case or all, prints the tables and writes JSON and page.
///
/// # Errors
/// If something did not work; a figure that misses its target is not an error but stands in the report.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    process::watch_signals()?;
    if arguments.case.needs_lines() {
        crate::link::check_allowed()?;
    }
    let bench = Bench::new(&arguments.options)?;
    let cases = arguments.case.run(&bench)?;
    let report = Report::new(bench.dir(), arguments.options.quick, cases)?;
    report.print()?;
    if let Some(file) = &arguments.options.json {
        report.write_json(file)?;
    }
    Ok(())
}

impl BenchCase {
    fn needs_lines(&self) -> bool {
        match self {
            Self::Study(_) => true,
            Self::Loopback(_) => false,
        }
    }

    fn run(&self, bench: &Bench) -> Result<Vec<CaseReport>> {
        match self {
            Self::Study(options) => study::run(bench, options),
            Self::Loopback(options) => loopback::run(bench, options),
        }
    }
}

/// Lets the kernel write out what the previous run has left, so that no run pays for another's dirty pages.
pub fn settle() {
    rustix::fs::sync();
}
