//! The case `agreements`: one node with many counterparts. All proposals in one command, each counterpart accepts, all come online;
//! then nothing happens for a while, and what an idle node with so many lanes costs is read.
//!
//! Every counterpart is a process of its own on this machine, so the times are those of the machine with all of them on it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use super::contest::{Bench, begin};
use super::ground::Site;
use super::pakt::Node;
use super::peers::MemoryPeaks;
use super::process;
use super::report::{Curve, Point};

/// Memory that a counterpart's process takes, with some to spare.
const NODE_BYTES: u64 = 50_000_000;
/// Time that all counterparts together may take to come online.
const IDLE: Duration = Duration::from_secs(30);
const COUNT_QUICK: u64 = 3;

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct AgreementsCase {
    /// Agreements at the one node; each counterpart is a node of its own, with some 30 MB of memory
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=256))]
    count: u64,
}

/// Measures one point.
///
/// # Errors
/// If a node fails.
pub fn run(bench: &Bench, options: &AgreementsCase) -> Result<Curve> {
    begin("Many agreements at one node");
    let count = bench.options.sized(options.count, COUNT_QUICK);
    bench.check_room(count * NODE_BYTES)?;
    let dir = bench.new_dir("agreements")?;
    let measured = measure(bench, count, &dir);
    bench.remove(&dir)?;
    let (point, notes) = measured?;
    Ok(Curve {
        name: "agreements".into(),
        title: "Many agreements at one node".into(),
        along: "agreements".into(),
        points: vec![point],
        notes,
    })
}

fn measure(bench: &Bench, count: u64, dir: &Path) -> Result<(Point, Vec<String>)> {
    let site = Site::here();
    let mut hub = Node::start(&bench.program, &site, dir.join("hub"), "Bench Hub", "NO:ORGNR:999000101")?;
    let alone_kib = hub.memory_now_kib()?;
    let mut ends = Vec::new();
    for number in 1..=count {
        process::check_interrupted()?;
        let (entity, registered) = (format!("Bench End {number}"), format!("NL:KVK:{}", 99_000_100 + number));
        ends.push(Node::start(&bench.program, &site, dir.join(format!("end-{number}")), &entity, &registered)?);
    }
    let cards = ends.iter().map(|end| end.write_card(dir)).collect::<Result<Vec<PathBuf>>>()?;

    let start = Instant::now();
    let proposals = hub.propose_to_all(&cards, &dir.join("proposals"))?;
    let proposed = start.elapsed();
    for (end, proposal) in ends.iter().zip(&proposals) {
        end.accept(proposal)?;
    }
    let accepted = start.elapsed();
    hub.wait_online(ends.len())?;
    let online = start.elapsed();

    process::sleep(Duration::from_secs(5))?;
    let (cpu_before, idle_start) = (hub.cpu_seconds()?, Instant::now());
    process::sleep(IDLE)?;
    let share = (hub.cpu_seconds()? - cpu_before) / idle_start.elapsed().as_secs_f64();
    let (idle_kib, peak_kib) = (hub.memory_now_kib()?, hub.memory_peak_kib()?);
    let end_kib = ends.first().context("at least one counterpart")?.memory_peak_kib()?;
    let notes = vec![
        format!(
            "Proposed in one command {:.2} s; all accepted, one command each, after {:.1} s; all online after {:.1} s.",
            proposed.as_secs_f64(),
            accepted.as_secs_f64(),
            online.as_secs_f64()
        ),
        format!(
            "Idle with {count} counterparts: {:.1} MB resident ({:.1} MB without any), {:.2} % of one processor over {} s.",
            megabytes(idle_kib),
            megabytes(alone_kib),
            share * 100.0,
            IDLE.as_secs()
        ),
    ];
    for note in &notes {
        eprintln!("  {note}");
    }
    for end in ends {
        end.stop()?;
    }
    hub.stop()?;
    let memory = Some(MemoryPeaks { sender_kib: peak_kib, receiver_kib: Some(end_kib) });
    Ok((Point { at: count, seconds: online.as_secs_f64(), bytes: 0, memory }, notes))
}

fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
