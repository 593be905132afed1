//! One input, one ground, several peers, in turn: so that a machine that slows down slows all of them down.
//!
//! **Invariant:** a peer that was too slow once is not run again in the same case, and the report says after how long it was given up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use pakt_node::demo::phantom;

use super::ground::Ground;
use super::options::Options;
use super::peers::{self, Entrant, Job, Measured, PeerName};
use super::process::TooSlow;
use super::report::Row;
use super::{files, pakt, process};
use crate::link::Line;

/// The study is the same in every run of every bench.
const STUDY_SEED: u64 = 1;
/// A little more than one image takes.
const SLICE_BYTES: u64 = 530_000;
/// Images in a quick run.
const SLICES_QUICK: u64 = 24;
/// Source, both nodes' stores, the saved copy and a spool between: nothing is there more often at one time.
const COPIES_MAX: u64 = 5;
/// Databases, logs and keys.
const SPARE_BYTES: u64 = 500_000_000;

/// Which study is sent.
#[derive(Clone, Copy, Debug, Args)]
pub struct StudyOptions {
    /// Images in the study
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub slices: u32,
}

/// What is sent, and what it is called beside other inputs of the same case.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Nothing where there is only one.
    pub label: &'a str,
    /// A file or a folder.
    pub source: &'a Path,
}

impl Input<'_> {
    fn row(&self, entrant: &Entrant) -> Row {
        match entrant {
            Entrant::Ready(peer) if self.label.is_empty() => Row::new(peer.name(), peer.version()),
            Entrant::Ready(peer) => Row::new(&format!("{}: {}", peer.name(), self.label), peer.version()),
            Entrant::Absent(missing) => Row::absent(missing),
        }
    }
}

/// What all cases of one call share.
#[derive(Debug)]
pub struct Bench {
    /// As given.
    pub options: Options,
    /// The program that is measured.
    pub program: PathBuf,
    dir: tempfile::TempDir,
    numbered: std::cell::Cell<u32>,
}

impl Bench {
    /// Builds the program, or takes the one that was asked for, and makes a working directory.
    ///
    /// # Errors
    /// If either does not work.
    pub fn new(options: &Options) -> Result<Self> {
        let program = match &options.pakt {
            Some(path) => path.canonicalize().with_context(|| format!("there is no {}", path.display()))?,
            None => pakt::build()?,
        };
        let work = options.work.clone().unwrap_or_else(std::env::temp_dir);
        let mut dir = tempfile::Builder::new().prefix("pakt-bench-").tempdir_in(&work)?;
        dir.disable_cleanup(options.keep);
        if options.keep {
            eprintln!("everything stays in {}", dir.path().display());
        }
        Ok(Self { options: options.clone(), program, dir, numbered: std::cell::Cell::new(0) })
    }

    /// The working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The congestion control of clean lines.
    ///
    /// # Errors
    /// If the kernel does not name its own.
    pub fn congestion_control(&self) -> Result<String> {
        match &self.options.congestion_control {
            Some(name) => Ok(name.clone()),
            None => Ok(Ground::loopback()?.congestion_control),
        }
    }

    /// Two namespaces with a clean line between them.
    ///
    /// # Errors
    /// If this program may not make them.
    pub fn clean_line(&self, line: Line) -> Result<Ground> {
        Ground::over(line, &self.congestion_control()?, self.options.seed)
    }

    /// A new empty directory, for one case or one run.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new_dir(&self, name: &str) -> Result<PathBuf> {
        self.numbered.set(self.numbered.get() + 1);
        let dir = self.dir().join(format!("{:03}-{name}", self.numbered.get()));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Removes a directory of the bench, unless everything is to be kept.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, dir: &Path) -> Result<()> {
        if !self.options.keep {
            fs::remove_dir_all(dir)?;
        }
        Ok(())
    }

    /// Fails unless there is room to send `bytes`.
    ///
    /// # Errors
    /// Names what is there and what is needed.
    pub fn check_room(&self, bytes: u64) -> Result<()> {
        self.check_free(bytes.saturating_mul(COPIES_MAX))
    }

    /// Checks that so many bytes find room, and some more.
    ///
    /// # Errors
    /// If they do not.
    pub fn check_free(&self, bytes: u64) -> Result<()> {
        files::check_free(self.dir(), bytes.saturating_add(SPARE_BYTES))
    }

    /// The phantom study, written at the first call.
    ///
    /// # Errors
    /// Those of the file system, or that there is no room.
    pub fn study(&self, options: &StudyOptions) -> Result<PathBuf> {
        let slices = self.options.sized(u64::from(options.slices), SLICES_QUICK) as u32;
        let study = self.dir().join(format!("PHANTOM_STUDY_{slices}"));
        if !study.exists() {
            self.check_room(u64::from(slices) * SLICE_BYTES)?;
            eprintln!("writing a study of {slices} images");
            phantom::write_study(&study, slices, STUDY_SEED, &mut |_| ())?;
        }
        Ok(study)
    }

    /// One file that no compressor makes smaller.
    ///
    /// # Errors
    /// Those of the file system, or that there is no room.
    pub fn incompressible(&self, dir: &Path, name: &str, bytes: u64, seed: u64) -> Result<PathBuf> {
        self.check_room(bytes)?;
        let path = dir.join(name);
        eprintln!("writing {name}, {} MB", bytes / 1_000_000);
        files::write_incompressible(&path, bytes, seed)?;
        Ok(path)
    }

    /// Lets every peer send `source` in turn, as often as was asked for.
    ///
    /// # Errors
    /// If a peer fails, or on SIGINT and SIGTERM.
    pub fn contest(&self, ground: &Ground, source: &Path, names: &[PeerName]) -> Result<Vec<Row>> {
        self.contest_of(ground, &[Input { label: "", source }], names)
    }

    /// Lets every peer send every input in turn, as often as was asked for.
    ///
    /// # Errors
    /// If a peer fails, or on SIGINT and SIGTERM.
    pub fn contest_of(&self, ground: &Ground, inputs: &[Input<'_>], names: &[PeerName]) -> Result<Vec<Row>> {
        let names = self.options.peers_among(names);
        if names.is_empty() {
            bail!("none of the peers that were asked for takes part in this case");
        }
        for input in inputs {
            self.check_room(files::size_of(input.source)?.bytes)?;
        }
        let daemons = self.new_dir("daemons")?;
        let mut entrants = peers::start(&names, ground, &daemons, &self.program)?;
        // One row for each peer and input, in this order.
        let mut rows: Vec<Row> =
            entrants.iter().flat_map(|entrant| inputs.iter().map(|input| input.row(entrant))).collect();
        let (rounds, count) = (self.options.rounds(), rows.len());
        for (round, index) in (1..=rounds).flat_map(|round| (0..count).map(move |index| (round, index))) {
            let (peer, input) = (&mut entrants[index / inputs.len()], &inputs[index % inputs.len()]);
            let Entrant::Ready(peer) = peer else { continue };
            if rows[index].gave_up_after.is_some() {
                continue;
            }
            let left = time_left(&rows[index..], &rows, rounds - round);
            let outcome = self.run_once(ground, input.source, peer.as_mut());
            let outcome = outcome.with_context(|| format!("{}, run {round}", rows[index].name))?;
            log_run(&rows[index].name, round, rounds, &outcome, left);
            match outcome {
                Ok(measured) => rows[index].add(measured),
                Err(after) => rows[index].give_up(after),
            }
        }
        drop(entrants);
        self.remove(&daemons)?;
        Ok(rows)
    }

    /// The run, or after how long it was given up.
    fn run_once(
        &self,
        ground: &Ground,
        source: &Path,
        peer: &mut dyn peers::Peer,
    ) -> Result<std::result::Result<Measured, Duration>> {
        process::check_interrupted()?;
        files::warm(source)?;
        let work = self.new_dir("run")?;
        let result = peer.run(&Job { ground, source, work: &work, deadline: self.options.deadline() });
        self.remove(&work)?;
        or_too_slow(result)
    }
}

/// Takes the one failure apart that is a finding: that it took too long.
///
/// # Errors
/// Every other failure.
pub fn or_too_slow<T>(result: Result<T>) -> Result<std::result::Result<T, Duration>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => match error.downcast_ref::<TooSlow>() {
            Some(slow) => Ok(Err(slow.after)),
            None => Err(error),
        },
    }
}

/// What the rest of this case will take, as far as every peer that is still to run has run once.
fn time_left(rest_of_round: &[Row], rows: &[Row], rounds: u32) -> Option<Duration> {
    let once = |rows: &[Row]| rows.iter().filter(|row| row.takes_part()).map(|row| row.median()).sum::<Option<f64>>();
    let seconds = once(rest_of_round)? + once(rows)? * f64::from(rounds);
    Some(Duration::from_secs_f64(seconds))
}

fn log_run(
    name: &str,
    round: u32,
    rounds: u32,
    outcome: &std::result::Result<Measured, Duration>,
    left: Option<Duration>,
) {
    let what = match outcome {
        Ok(measured) => format!("{:.3} s", measured.seconds),
        Err(after) => format!("given up after {} s", after.as_secs()),
    };
    let left = left.filter(|left| left.as_secs() > 0);
    let left = left.map_or(String::new(), |left| format!(" (about {} s of transfers left here)", left.as_secs()));
    eprintln!("  {name}, run {round} of {rounds}: {what}{left}");
}

/// Says on stderr that a case begins; returns when.
pub fn begin(title: &str) -> Instant {
    eprintln!("\n== {title}");
    Instant::now()
}
