//! The case `again`: what has been sent before moves only what is new, over 100 Mbit/s, 20 ms.
//!
//! A study without its last series goes first; then the whole study (one series added); then the same again; then the same to
//! another group of the same entity. After that 3,000 small files, and the same with one file more. rsync does the same into one
//! target, so that it too finds what is there; to it another group is another folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::bench::contest::{Bench, StudyOptions, begin, or_too_slow};
use crate::bench::ground::Ground;
use crate::bench::pakt::Pair;
use crate::bench::peers::ssh::SshServer;
use crate::bench::peers::{Job, Peer, PeerName, RsyncPeer};
use crate::bench::report::{CaseReport, PAKT, Row, Target};
use crate::bench::{files, pakt, process, settle};
use crate::link::Line;

/// Of content, on the wire, for what was sent before.
const WIRE_SHARE_MAX: f64 = 0.01;
/// More than its share of the first sending may not go for a part that is new.
const NEW_PART_RATIO_MAX: f64 = 1.1;
const OTHER_GROUP: &str = "Radiology";
const SMALL_FILES: u64 = 3000;
const SMALL_FILES_QUICK: u64 = 300;
const SMALL_FILE_BYTES: u64 = 10_000;

/// The steps, in order.
const FIRST: &str = "without the last series";
const ADDED: &str = "one series added";
const AGAIN: &str = "the same again";
const FORWARD: &str = "to another group";
const SMALL: &str = "small files";
const ONE_MORE: &str = "one small file added";
const STEPS: [&str; 6] = [FIRST, ADDED, AGAIN, FORWARD, SMALL, ONE_MORE];

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct AgainCase {
    #[command(flatten)]
    study: StudyOptions,
}

/// The inputs, whose parts come and go between the steps.
struct Inputs {
    study: PathBuf,
    /// The last series while it is away.
    series_away: PathBuf,
    series: PathBuf,
    small: PathBuf,
    one_more: PathBuf,
}

impl Inputs {
    fn make(bench: &Bench, options: &AgainCase, dir: &Path) -> Result<Self> {
        let study = dir.join("STUDY");
        files::copy_tree(&bench.study(&options.study)?, &study)?;
        let mut series: Vec<PathBuf> = fs::read_dir(&study)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        series.sort();
        let small = dir.join("SMALL");
        let count = bench.options.sized(SMALL_FILES, SMALL_FILES_QUICK);
        files::write_many_incompressible(&small, count, SMALL_FILE_BYTES, 5)?;
        let series = series.pop().context("the study has no series")?;
        Ok(Self { series_away: dir.join("series-away"), one_more: small.join("one-more.bin"), study, series, small })
    }

    /// Makes the input of a step and says where it is.
    fn for_step(&self, step: &str) -> Result<&Path> {
        match step {
            FIRST => fs::rename(&self.series, &self.series_away)?,
            ADDED => fs::rename(&self.series_away, &self.series)?,
            SMALL if self.one_more.exists() => fs::remove_file(&self.one_more)?,
            ONE_MORE => files::write_incompressible(&self.one_more, SMALL_FILE_BYTES, 6)?,
            _ => (),
        }
        Ok(if [SMALL, ONE_MORE].contains(&step) { &self.small } else { &self.study })
    }
}

/// Runs the case.
///
/// # Errors
/// If a peer fails, or this program may not emulate lines.
pub fn run(bench: &Bench, options: &AgainCase) -> Result<Vec<CaseReport>> {
    let line = Line::new(100.0, 20.0);
    let title = format!("What was sent before, over {line}");
    let start = begin(&title);
    let dir = bench.new_dir("again")?;
    let inputs = Inputs::make(bench, options, &dir)?;
    let size = files::size_of(&inputs.study)?;
    bench.check_room(2 * size.bytes)?;
    let ground = bench.clean_line(line)?;
    let mut report = CaseReport::new("again", &title, &ground, "the study, then small files", size);
    let names = bench.options.peers_among(&[PeerName::Pakt, PeerName::Rsync]);
    let version = pakt::PaktPeer::new(&bench.program)?.version().to_string();
    let ssh = SshServer::start(&ground, &dir.join("ssh"))?.map(std::rc::Rc::new);
    let rsync = RsyncPeer::new(ssh.as_ref(), false)?.filter(|_| names.contains(&PeerName::Rsync));
    let mut pakt_rows = STEPS.map(|step| Row::new(&format!("{PAKT}: {step}"), &version)).to_vec();
    let mut rsync_rows: Vec<Row> = rsync.iter().flat_map(rsync_rows_of).collect();
    for round in 1..=bench.options.rounds() {
        eprintln!("  round {round} of {}", bench.options.rounds());
        pakt_round(bench, &ground, &inputs, &mut pakt_rows)?;
        if let Some(rsync) = &rsync {
            rsync_round(bench, &ground, &inputs, rsync, &mut rsync_rows)?;
        }
    }
    report.rows = pakt_rows.into_iter().chain(rsync_rows).collect();
    promise(&mut report, &inputs)?;
    report.spent_seconds = start.elapsed().as_secs_f64();
    drop((rsync, ssh));
    bench.remove(&dir)?;
    Ok(vec![report])
}

fn rsync_rows_of(rsync: &RsyncPeer) -> Vec<Row> {
    STEPS.map(|step| Row::new(&format!("rsync -a: {step}"), rsync.version())).to_vec()
}

fn pakt_round(bench: &Bench, ground: &Ground, inputs: &Inputs, rows: &mut [Row]) -> Result<()> {
    let work = bench.new_dir("pakt")?;
    let mut pair = Pair::agree(&bench.program, ground, &work)?;
    pair.receiver.add_group(OTHER_GROUP)?;
    pair.sender.wait_group(OTHER_GROUP)?;
    for (step, row) in STEPS.into_iter().zip(rows) {
        process::check_interrupted()?;
        let source = inputs.for_step(step)?;
        let to = if step == FORWARD { pair.receiver.group(OTHER_GROUP) } else { pair.receiver.address() };
        files::warm(source)?;
        settle();
        let deadline = bench.options.deadline();
        match or_too_slow(pair.send_to(ground, &to, source, step, deadline))? {
            Ok(measured) => row.add(measured),
            Err(after) => row.give_up(after),
        }
        let saved = work.join(step);
        pair.check_received(step, source, &saved)?;
        bench.remove(&saved)?;
    }
    pair.stop()?;
    bench.remove(&work)
}

fn rsync_round(bench: &Bench, ground: &Ground, inputs: &Inputs, rsync: &RsyncPeer, rows: &mut [Row]) -> Result<()> {
    let work = bench.new_dir("rsync")?;
    let (target, other) = (work.join("target"), work.join("other"));
    fs::create_dir(&target)?;
    fs::create_dir(&other)?;
    for (step, row) in STEPS.into_iter().zip(rows) {
        process::check_interrupted()?;
        let source = inputs.for_step(step)?;
        files::warm(source)?;
        let target = if step == FORWARD { &other } else { &target };
        let job = Job { ground, source, work: &work, deadline: bench.options.deadline() };
        match or_too_slow(rsync.copy(&job, target))? {
            Ok(measured) => row.add(measured),
            Err(after) => row.give_up(after),
        }
        files::check_same(source, &target.join(files::name_of(source)?))?;
    }
    bench.remove(&work)
}

fn promise(report: &mut CaseReport, inputs: &Inputs) -> Result<()> {
    let wire = |report: &CaseReport, step: &str| Some(report.row(&format!("{PAKT}: {step}"))?.bytes_on_wire? as f64);
    let mut targets = Vec::new();
    for step in [AGAIN, FORWARD] {
        if let Some(bytes) = wire(report, step) {
            let what = format!("bytes on the wire / content, {step}");
            targets.push(Target::at_most(what, WIRE_SHARE_MAX, bytes / report.size.bytes as f64));
        }
    }
    if let (Some(added), Some(first)) = (wire(report, ADDED), wire(report, FIRST)) {
        let new = files::size_of(&inputs.series)?.bytes as f64;
        let share = first / (report.size.bytes as f64 - new) * new;
        targets.push(Target::at_most(
            "bytes on the wire of the added series / its share",
            NEW_PART_RATIO_MAX,
            added / share,
        ));
    }
    if let Some(bytes) = wire(report, ONE_MORE) {
        let content = files::size_of(&inputs.small)?.bytes as f64;
        targets.push(Target::at_most(
            "bytes on the wire / content, one small file added",
            WIRE_SHARE_MAX,
            bytes / content,
        ));
    }
    let seconds = |start: String| report.row(&start).and_then(Row::median);
    for step in [ADDED, AGAIN, ONE_MORE] {
        if let (Some(pakt), Some(rsync)) = (seconds(format!("{PAKT}: {step}")), seconds(format!("rsync -a: {step}"))) {
            targets.push(Target::at_most(format!("seconds, pakt / rsync -a, {step}"), 1.0, pakt / rsync));
        }
    }
    report.targets = targets;
    Ok(())
}
