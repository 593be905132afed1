//! Benches: Pakt beside the tools people use today, in one run, on one machine.
//!
//! A case prepares its input and its ground (loopback, or two namespaces with an emulated line) and lets every peer send the input
//! in turn, so that a machine that slows down slows all of them down; `report` makes medians, ratios, a table, JSON and a page.
//! Start reading at [`contest`]; `peers` are the tools, `cases` what is measured.
//!
//! **Invariant:** only what lies between the command and its durable end is timed; everything that was received is compared with what
//! was sent.

pub mod agreements;
pub mod cases;
pub mod codecs;
pub mod contest;
pub mod doors;
pub mod files;
pub mod ground;
pub mod growth;
pub mod mailbox;
pub mod meshes;
pub mod options;
pub mod pakt;
pub mod peers;
pub mod process;
pub mod report;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use cases::{again, goodput, large, loopback, many, stalled, study, urgent};
use contest::Bench;
use options::Options;
use report::{CaseReport, Findings, Report};

/// What to measure, and how.
#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    options: Options,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    #[command(flatten)]
    Case(BenchCase),
    /// Size and speed of each codec of chunks, on the phantom or on your own files, beside JPEG-LS
    Codecs(codecs::Options),
}

/// What can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCase {
    /// A radiology study of 126 MB over emulated lines, against everybody
    Study(study::StudyCase),
    /// The same study over loopback
    Loopback(loopback::LoopbackCase),
    /// What was sent before: the same again, one series added, to another group
    Again(again::AgainCase),
    /// 3,000 small files against one large one
    Files(many::FilesCase),
    /// One incompressible file of 10 GB over loopback against scp, and the memory that it takes
    Large(large::LargeCase),
    /// 1 MB urgent while a bulk message fills the line
    Urgent(urgent::UrgentCase),
    /// 200 MB that cannot be compressed against what the bare line carries
    Goodput(goodput::GoodputCase),
    /// An honest counterpart beside one that is slow or stalls
    Stalled(stalled::StalledCase),
    /// How time and memory grow with size, number of files and number of counterparts, over loopback
    Growth(growth::GrowthCase),
    /// What one stranger at the door costs, against the number of agreements
    Doors(doors::DoorsCase),
    /// Many agreements at one node: proposed, accepted and online as a batch, then idle
    Agreements(agreements::AgreementsCase),
    /// A node with very many messages: start, list, show, send, receive, status, and memory
    Mailbox(mailbox::MailboxCase),
    /// What a simulated mesh costs, against the number of its nodes
    Meshes(meshes::MeshesCase),
    /// All of these, one after the other
    All,
}

/// Runs one case or all, prints the tables and writes JSON and page.
///
/// # Errors
/// If something did not work; a figure that misses its target is not an error but stands in the report.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    process::watch_signals()?;
    let case = match &arguments.what {
        What::Case(case) => case,
        // It needs no nodes and has a table of its own.
        What::Codecs(options) => return codecs::run(options, arguments.options.rounds()),
    };
    if case.needs_lines() {
        crate::link::check_allowed()?;
    }
    let bench = Bench::new(&arguments.options)?;
    let found = case.run(&bench)?;
    let report = Report::new(bench.dir(), arguments.options.quick, found)?;
    report.print()?;
    if let Some(file) = &arguments.options.json {
        report.write_json(file)?;
    }
    if let Some(file) = &arguments.options.html {
        report.write_html(file)?;
    }
    Ok(())
}

impl BenchCase {
    fn needs_lines(&self) -> bool {
        !matches!(
            self,
            Self::Loopback(_)
                | Self::Large(_)
                | Self::Growth(_)
                | Self::Doors(_)
                | Self::Agreements(_)
                | Self::Mailbox(_)
                | Self::Meshes(_)
        )
    }

    fn run(&self, bench: &Bench) -> Result<Findings> {
        let cases = match self {
            Self::Study(options) => study::run(bench, options),
            Self::Loopback(options) => loopback::run(bench, options),
            Self::Again(options) => again::run(bench, options),
            Self::Files(options) => many::run(bench, options),
            Self::Large(options) => large::run(bench, options),
            Self::Urgent(options) => urgent::run(bench, options),
            Self::Goodput(options) => goodput::run(bench, options),
            Self::Stalled(options) => stalled::run(bench, options),
            Self::Growth(options) => return Ok(Findings { cases: Vec::new(), curves: growth::run(bench, options)? }),
            Self::Doors(options) => return Ok(doors::run(options).into()),
            Self::Agreements(options) => return Ok(agreements::run(bench, options)?.into()),
            Self::Mailbox(options) => return Ok(Findings { cases: Vec::new(), curves: mailbox::run(bench, options)? }),
            Self::Meshes(options) => return Ok(meshes::run(bench, options)?.into()),
            Self::All => return run_all(bench),
        };
        Ok(Findings { cases: cases?, curves: Vec::new() })
    }
}

/// Every case with its own defaults. One that fails is reported at the end, and does not take the others' figures with it.
fn run_all(bench: &Bench) -> Result<Findings> {
    let mut all = Findings::default();
    for name in [
        "study",
        "loopback",
        "again",
        "files",
        "large",
        "urgent",
        "goodput",
        "stalled",
        "growth",
        "doors",
        "agreements",
        "mailbox",
        "meshes",
    ] {
        match SingleCase::try_parse_from(["bench", name])?.case.run(bench) {
            Ok(found) => {
                all.cases.extend(found.cases);
                all.curves.extend(found.curves);
            }
            Err(error) => {
                process::check_interrupted()?;
                eprintln!("FAILED: {name}: {error:#}");
                all.cases.push(CaseReport::failed(name, &format!("{error:#}")));
            }
        }
    }
    Ok(all)
}

/// A case with the defaults of its command line.
#[derive(Debug, Parser)]
struct SingleCase {
    #[command(subcommand)]
    case: BenchCase,
}

/// Lets the kernel write out what the previous run has left, so that no run pays for another's dirty pages.
pub fn settle() {
    rustix::fs::sync();
}
