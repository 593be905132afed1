//! The case `loopback`: no line in between, so what counts is the work itself.
//!
//! 1. The phantom study, sent by every peer in turn, `runs` times.
//! 2. Two incompressible files at once through one fresh pair of nodes, for the memory that they hold.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use pakt_node::demo::phantom;

use super::pakt::{self, Pair, PaktPeer};
use super::peer_rsync::RsyncPeer;
use super::report::{LargeFiles, PeerRuns, Report};
use super::{Measured, MemoryPeaks, Peer, files, process, settle};

/// The study is the same in every run of every bench.
const STUDY_SEED: u64 = 1;
/// A little more than one image takes.
const SLICE_BYTES: u64 = 530_000;
const STUDY_NAME: &str = "PHANTOM_STUDY";
/// How many files are under way at once in the second part.
const LARGE_FILES: u64 = 2;
/// Source, both nodes' stores, the saved copy and a spool between: nothing is there more often at one time.
const COPIES_MAX: u64 = 5;
/// Databases, logs and keys.
const SPARE_BYTES: u64 = 500_000_000;

/// How to run the case.
#[derive(Debug, Args)]
pub struct Options {
    /// Timed runs of each peer; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Write the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to put the study, the nodes and the targets (default: the system's temporary directory)
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Leave everything there instead of removing it
    #[arg(long)]
    keep: bool,
    /// Images in the study
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    slices: u32,
    /// Size in MiB of each of the two large files; 0 leaves them out
    #[arg(long, default_value_t = 1024)]
    large_mib: u64,
    /// Only these peers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [PeerName::Rsync, PeerName::Pakt])]
    peers: Vec<PeerName>,
}

/// Who can take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeerName {
    Rsync,
    Pakt,
}

/// Runs the case, prints its table and writes its JSON.
///
/// # Errors
/// If something did not work, or on SIGINT and SIGTERM.
pub fn run(options: &Options) -> Result<()> {
    let work = options.work.clone().unwrap_or_else(std::env::temp_dir);
    let large_bytes = options.large_mib.saturating_mul(1 << 20);
    let needed = (u64::from(options.slices) * SLICE_BYTES).saturating_add(large_bytes.saturating_mul(LARGE_FILES));
    files::check_free(&work, needed.saturating_mul(COPIES_MAX).saturating_add(SPARE_BYTES))?;
    let program = match options.peers.contains(&PeerName::Pakt) {
        true => Some(pakt::build()?),
        false => None,
    };
    let mut dir = tempfile::Builder::new().prefix("pakt-bench-").tempdir_in(&work)?;
    dir.disable_cleanup(options.keep);
    let mut report = compare(options, dir.path(), program.as_deref())?;
    if let (Some(program), 1..) = (&program, large_bytes) {
        report.large = Some(send_large_files(program, &dir.path().join("large"), large_bytes)?);
    }
    report.print()?;
    if let Some(file) = &options.json {
        report.write_json(file)?;
    }
    if options.keep {
        eprintln!("everything is still in {}", dir.path().display());
    }
    Ok(())
}

fn compare(options: &Options, dir: &Path, program: Option<&Path>) -> Result<Report> {
    let study = dir.join(STUDY_NAME);
    let summary = phantom::write_study(&study, options.slices, STUDY_SEED, &mut |_| ())?;
    let mut peers = peers(options, dir, program)?;
    let mut runs: Vec<PeerRuns> = peers.iter().map(|peer| PeerRuns::new(peer.name(), peer.version())).collect();
    for number in 1..=options.runs {
        for (peer, runs) in peers.iter_mut().zip(&mut runs) {
            process::check_interrupted()?;
            files::warm(&study)?;
            let work = dir.join(format!("run-{number}"));
            fs::create_dir(&work)?;
            let measured = peer.run(&study, &work).with_context(|| format!("{}, run {number}", peer.name()))?;
            eprintln!("{}, run {number} of {}: {:.3} s", peer.name(), options.runs, measured.seconds);
            runs.add(measured);
            if options.keep {
                fs::rename(&work, dir.join(format!("run-{number}-{}", runs.slug())))?;
            } else {
                fs::remove_dir_all(&work)?;
            }
        }
    }
    Report::new("loopback", dir, summary.files, summary.bytes, runs)
}

fn peers(options: &Options, dir: &Path, program: Option<&Path>) -> Result<Vec<Box<dyn Peer>>> {
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    for name in &options.peers {
        match (name, program) {
            (PeerName::Rsync, _) => match RsyncPeer::start(&dir.join("ssh"))? {
                Some(peer) => peers.push(Box::new(peer)),
                None if std::env::var_os("PAKT_REQUIRE_ALL").is_some() => {
                    bail!("rsync, ssh and sshd are required")
                }
                None => eprintln!("SKIPPED rsync -a over ssh: rsync, ssh or sshd is not installed"),
            },
            (PeerName::Pakt, Some(program)) => peers.push(Box::new(PaktPeer::new(program)?)),
            (PeerName::Pakt, None) => bail!("pakt was not built"),
        }
    }
    if peers.is_empty() {
        bail!("there is nothing to measure");
    }
    Ok(peers)
}

/// Sends two incompressible files at once through one fresh pair of nodes.
fn send_large_files(program: &Path, dir: &Path, bytes: u64) -> Result<LargeFiles> {
    fs::create_dir(dir)?;
    let names: Vec<String> = (1..=LARGE_FILES).map(|number| format!("large-{number}.bin")).collect();
    for (name, seed) in names.iter().zip(1..) {
        files::write_incompressible(&dir.join(name), bytes, seed)?;
    }
    let pair = Pair::agree(program, dir)?;
    settle();
    let measured = send_at_once(&pair, dir, &names)?;
    let seconds = measured.iter().map(|measured| measured.seconds).collect();
    let memory = measured.iter().filter_map(|measured| measured.memory).fold(MemoryPeaks::default(), MemoryPeaks::max);
    for name in &names {
        let saved = dir.join(format!("saved-{name}"));
        pair.check_received(name, &dir.join(name), &saved)?;
        fs::remove_dir_all(saved)?;
    }
    pair.stop()?;
    Ok(LargeFiles { files: LARGE_FILES, bytes_each: bytes, seconds, memory })
}

/// Starts a send of every file and waits for all of them, each with its own clock.
fn send_at_once(pair: &Pair, dir: &Path, names: &[String]) -> Result<Vec<Measured>> {
    let start = |name: &String| pair.start_send(&dir.join(name), name);
    let sending = names.iter().map(start).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let wait = |sending| scope.spawn(|| pair.finish_send(sending));
        let waiting: Vec<_> = sending.into_iter().map(wait).collect();
        let joined =
            waiting.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("the wait for a send panicked")));
        joined.collect()
    })
}
