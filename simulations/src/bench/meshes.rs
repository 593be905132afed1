//! The case `meshes`: what a simulated mesh costs against its number of nodes.
//!
//! Each point is the shipped scenario `national-10000` with another number of nodes, one week with one message per node and hour,
//! run by a process of its own, so that its memory is its own. All points use the model suite, as the largest does.
//!
//! A point counts only if the judge passed the run.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use super::contest::{Bench, begin};
use super::peers::MemoryPeaks;
use super::process;
use super::report::{Curve, Point};
use crate::scenario::{Scenario, Topology};

const NODES: [u64; 7] = [10, 30, 100, 300, 1000, 3000, 10_000];
const NODES_QUICK: u64 = 30;
const SCENARIO: &str = "national-10000";
/// What a week of 10,000 nodes may take, in seconds.
const TARGET_SECONDS: f64 = 1_800.0;
const TARGET_NODES: u64 = 10_000;

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct MeshesCase {
    /// The most nodes
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    nodes_max: u64,
}

/// What a run says of itself, as far as it is wanted here.
#[derive(Deserialize)]
struct Said {
    simulated_seconds: f64,
    wall_seconds: f64,
    events: u64,
    verdict: String,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    memory_bytes: u64,
}

/// Measures the curve.
///
/// # Errors
/// If a run fails, or its judge finds something.
pub fn run(bench: &Bench, options: &MeshesCase) -> Result<Curve> {
    begin("A simulated week");
    let dir = bench.new_dir("meshes")?;
    let most = bench.options.sized(options.nodes_max, NODES_QUICK);
    let (mut points, mut notes) = (Vec::new(), Vec::new());
    for nodes in NODES.into_iter().filter(|nodes| *nodes <= most) {
        let said = week(&dir, nodes)?;
        let peak = said.samples.iter().map(|sample| sample.memory_bytes).max().unwrap_or_default();
        let note = format!(
            "{nodes} nodes: {:.0} times as fast as time goes, {:.0} events per second, {:.0} KB for each node.",
            said.simulated_seconds / said.wall_seconds,
            said.events as f64 / said.wall_seconds,
            peak as f64 / nodes as f64 / 1e3
        );
        eprintln!("  {note}");
        notes.push(note);
        let memory = Some(MemoryPeaks { sender_kib: peak / 1024, receiver_kib: None });
        points.push(Point { at: nodes, seconds: said.wall_seconds, bytes: 0, memory });
    }
    bench.remove(&dir)?;
    if let Some(point) = points.iter().find(|point| point.at == TARGET_NODES) {
        let verdict = if point.seconds <= TARGET_SECONDS { "reached" } else { "NOT reached" };
        notes.push(format!("A week of {TARGET_NODES} nodes took {:.0} s (at most 1,800 s): {verdict}", point.seconds));
    }
    Ok(Curve {
        name: "meshes".into(),
        title: "A simulated week, one message per node and hour".into(),
        along: "nodes".into(),
        points,
        notes,
    })
}

fn week(dir: &Path, nodes: u64) -> Result<Said> {
    process::check_interrupted()?;
    let mut scenario = Scenario::named(SCENARIO)?;
    let Topology::National { nodes: count, links_mean, links_max } = &mut scenario.topology else {
        bail!("{SCENARIO} is not national");
    };
    *count = usize::try_from(nodes)?;
    *links_max = (*links_max).min(*count - 1);
    *links_mean = links_mean.min(*links_max as f64 / 2.0);
    let file = dir.join(format!("week-{nodes}.toml"));
    std::fs::write(&file, scenario.to_toml()?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").arg(&file).args(["--json", "--no-shrink"]);
    let finished = process::run("a simulated week", &mut command, Duration::from_secs(4 * 3_600))?;
    let said: Said = serde_json::from_slice(&finished.stdout).context("the outcome of the run")?;
    if said.verdict != "pass" {
        bail!("{nodes} nodes: the judge says {}", said.verdict);
    }
    Ok(said)
}
