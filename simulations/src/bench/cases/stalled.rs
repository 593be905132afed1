//! The case `stalled`: an honest counterpart beside one that is slow or falls silent (promises P19 and P20).
//!
//! A hub has a line of its own to each of two counterparts, so what one of them loses to the other it loses inside the hub. Content
//! goes from the hub to both, and then from both to the hub: alone, beside one whose line is throttled, and beside one whose line is
//! cut while its transfer is under way.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::bench::contest::{Bench, begin, or_too_slow};
use crate::bench::files;
use crate::bench::ground::Fork;
use crate::bench::pakt::{Node, PaktPeer, Priority, Sending, agree};
use crate::bench::peers::{Measured, MemoryPeaks, Peer};
use crate::bench::report::{CaseReport, PAKT, Row, Target, megabytes};
use crate::bench::{process, settle};
use crate::link::Line;

/// Of what the honest counterpart reaches alone.
const THROUGHPUT_RATIO_MIN: f64 = 0.8;
/// Of the hub.
const NODE_MEMORY_BYTES_MAX: u64 = 256_000_000;
const BYTES_QUICK: u64 = 20_000_000;
/// What a slow counterpart's line carries.
const SLOW_MEGABITS: f64 = 1.0;
/// How long the other transfer runs before its line is cut, and before the honest one begins.
const LEAD: Duration = Duration::from_secs(2);

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct StalledCase {
    /// Size of each message in MB
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    size_mb: u64,
}

/// What the other counterpart does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Other {
    Nothing,
    Slow,
    Stalled,
}

impl Other {
    fn words(self) -> &'static str {
        match self {
            Self::Nothing => "alone",
            Self::Slow => "beside a slow one",
            Self::Stalled => "beside a stalled one",
        }
    }
}

/// Which way content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Out,
    In,
}

impl Way {
    fn words(self) -> &'static str {
        match self {
            Self::Out => "to a counterpart",
            Self::In => "from a counterpart",
        }
    }
}

/// The hub and both counterparts, agreed and connected.
struct Trio {
    hub: Node,
    honest: Node,
    other: Node,
}

impl Trio {
    fn start(program: &Path, fork: &Fork, dir: &Path) -> Result<Self> {
        let node = |site, name: &str, number| Node::start(program, site, dir.join(name), name, number);
        let mut hub = node(&fork.hub, "hub", "NO:ORGNR:999000101")?;
        let honest = node(&fork.ends[0], "honest", "NL:KVK:99000102")?;
        let other = node(&fork.ends[1], "other", "NL:KVK:99000103")?;
        for end in [&honest, &other] {
            agree(&hub, end, dir)?;
        }
        hub.wait_online(2)?;
        Ok(Self { hub, honest, other })
    }

    fn send(&self, way: Way, end: &Node, file: &Path, subject: &str, deadline: Duration) -> Result<Sending> {
        match way {
            Way::Out => self.hub.start_send(&end.address(), file, subject, Priority::Normal, deadline),
            Way::In => end.start_send(&self.hub.address(), file, subject, Priority::Normal, deadline),
        }
    }
}

/// Runs the case.
///
/// # Errors
/// If a node fails, or this program may not emulate lines.
pub fn run(bench: &Bench, options: &StalledCase) -> Result<Vec<CaseReport>> {
    let line = Line::new(100.0, 20.0);
    let title = format!("An honest counterpart beside a slow or stalled one, each over {line}");
    let start = begin(&title);
    let dir = bench.new_dir("stalled")?;
    let bytes = bench.options.sized(options.size_mb * 1_000_000, BYTES_QUICK);
    let file = bench.incompressible(&dir, "honest.bin", bytes, 11)?;
    let other_file = bench.incompressible(&dir, "other.bin", bytes, 12)?;
    let congestion_control = bench.congestion_control()?;
    let between = (Some(line.to_string()), congestion_control.as_str());
    let mut report = CaseReport::over("stalled", &title, between, "incompressible", files::size_of(&file)?);
    let version = PaktPeer::new(&bench.program)?.version().to_string();
    let cases =
        Way::value_variants().iter().flat_map(|way| Other::value_variants().iter().map(move |other| (*way, *other)));
    let cases: Vec<(Way, Other)> = cases.collect();
    report.rows = cases
        .iter()
        .map(|(way, other)| Row::new(&format!("{PAKT}: {}, {}", way.words(), other.words()), &version))
        .collect();
    for _ in 0..bench.options.rounds() {
        for ((way, other), row) in cases.iter().zip(&mut report.rows) {
            let fork = Fork::over(line, &congestion_control, bench.options.seed)?;
            run_once(bench, &fork, (*way, *other), [&file, &other_file], row)?;
        }
    }
    promise(&mut report, &cases);
    report.notes.push("VmHWM is that of the hub and of the honest counterpart.".into());
    report.spent_seconds = start.elapsed().as_secs_f64();
    bench.remove(&dir)?;
    Ok(vec![report])
}

fn run_once(bench: &Bench, fork: &Fork, case: (Way, Other), files: [&Path; 2], row: &mut Row) -> Result<()> {
    process::check_interrupted()?;
    let (way, other) = case;
    let deadline = bench.options.deadline();
    let dir = bench.new_dir("nodes")?;
    let trio = Trio::start(&bench.program, fork, &dir)?;
    let slow = Line::new(SLOW_MEGABITS, 20.0);
    if other != Other::Nothing {
        fork.links[1].set_line(slow);
    }
    settle();
    let beside = match other {
        Other::Nothing => None,
        Other::Slow | Other::Stalled => Some(trio.send(way, &trio.other, files[1], "other", deadline)?),
    };
    process::sleep(LEAD)?;
    if other == Other::Stalled {
        fork.links[1].cut();
    }
    let sending = trio.send(way, &trio.honest, files[0], "honest", deadline)?;
    match or_too_slow(sending.finish(deadline))? {
        Ok(delivered) => {
            eprintln!("  {}: {:.3} s", row.name, delivered.seconds);
            let (sender, receiver) = match way {
                Way::Out => (&trio.hub, &trio.honest),
                Way::In => (&trio.honest, &trio.hub),
            };
            let memory =
                MemoryPeaks { sender_kib: sender.memory_peak_kib()?, receiver_kib: Some(receiver.memory_peak_kib()?) };
            let bytes_on_wire = Some(delivered.bytes_on_wire);
            row.add(Measured { seconds: delivered.seconds, bytes_on_wire, memory: Some(memory), crossed: None });
            receiver.check_received("honest", files[0], &dir.join("saved"))?;
        }
        Err(after) => row.give_up(after),
    }
    drop(beside);
    // The other node may wait for its line: how it ends is not what is looked at here.
    drop(trio);
    bench.remove(&dir)
}

fn promise(report: &mut CaseReport, cases: &[(Way, Other)]) {
    let mut targets = Vec::new();
    for way in Way::value_variants() {
        let of = |other| cases.iter().position(|case| *case == (*way, other)).map(|index| &report.rows[index]);
        let Some(alone) = of(Other::Nothing).and_then(Row::median) else { continue };
        for other in [Other::Slow, Other::Stalled] {
            let Some(seconds) = of(other).and_then(Row::at_least_seconds) else { continue };
            let what = format!("throughput {}, {} / alone", way.words(), other.words());
            targets.push(Target::at_least(what, THROUGHPUT_RATIO_MIN, alone / seconds));
        }
    }
    let worst = report.rows.iter().filter_map(|row| row.memory).fold(MemoryPeaks::default(), MemoryPeaks::max);
    let worst = megabytes(worst.larger_kib() * 1024);
    targets.push(Target::at_most("VmHWM in MB, the highest", megabytes(NODE_MEMORY_BYTES_MAX), worst));
    report.targets = targets;
}
