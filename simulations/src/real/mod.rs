//! A mesh of complete nodes in one process: real door, TLS, lanes, exchange, mailroom and stores in a temporary folder, over memory
//! instead of TCP.
//!
//! ```text
//! Scenario --links--> Mesh: set up, start, propose, accept, online --submissions--> Day: send, follow --> Judge: every inbox
//! ```
//!
//! It runs the scenarios of the virtual mesh in fast motion: simulated time decides when people send; what a node does then takes
//! the time that it takes. So latencies are real ones, and timers of the node (retries, hold times) run in real time. Lines of the
//! scenario have no part in it. Whatever is otherwise than the scenario says is said in `Outcome::found`.
//!
//! **Invariant:** keys and ids are drawn by the nodes themselves, so that the event hash of two runs differs; the submissions are
//! the same for the same seed.
//! **Invariant:** whatever happens, also on an error or Ctrl-C, the nodes are stopped and the folder is removed.
//!
//! ```no_run
//! use pakt_simulations::{real, scenario::Scenario};
//! # fn main() -> anyhow::Result<()> {
//! let outcome = real::run(&Scenario::named("pair")?, 7, &real::Options::default(), &mut ())?;
//! println!("{:?}: {:#?}", outcome.verdict, outcome.found);
//! # Ok(()) }
//! ```

mod content;
mod events;
mod faults;
mod judge;
mod ledger;
mod measure;
mod mesh;
mod play;
mod report;
mod site;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

pub use measure::{Memory, processor_time};

use self::events::{Events, Pace};
use self::judge::Judged;
use self::mesh::Mesh;
use self::play::Played;
use self::report::{Phases, Usage};
use crate::outcome::{Outcome, Watch};
use crate::scenario::Scenario;

/// Threads for what blocks on the disk, of all nodes together.
const BLOCKING_MAX: usize = 64;
/// What a real mesh of one process is for; more nodes are the virtual mesh's.
const NODES_MAX: usize = 1_000;
/// How long the runtime may take to end.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(5);
/// Nodes refuse shorter and longer hold times.
const HOLD: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(48 * 3_600));
/// Contents are made in memory, so that they cannot be larger.
const CONTENT_BYTES_MAX: u64 = 64 << 20;

/// How a mesh of complete nodes is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How long the scenario's duration takes in real time; never longer than in the scenario.
    pub real_time: Duration,
    /// Bytes of a message at most, up to 64 MiB: larger contents are cut, and the outcome says so.
    pub content_bytes_max: u64,
    /// How long, in real time, all agreements may take to come online.
    pub online: Duration,
    /// How long nothing is done once all are online, to measure what an idle mesh costs; zero to leave that out.
    pub idle: Duration,
    /// How long, in real time, everything may take to settle after the last submission or fault.
    pub settle: Duration,
    /// Where the nodes' folders are made; the system's temporary folder without it.
    pub folder: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            real_time: Duration::from_secs(120),
            content_bytes_max: 1_000_000,
            online: Duration::from_secs(600),
            idle: Duration::from_secs(10),
            settle: Duration::from_secs(120),
            folder: None,
        }
    }
}

/// Runs a scenario with complete nodes. It blocks, on a runtime of its own.
///
/// # Errors
/// If the scenario needs what such a mesh does not have (faults of lines, disks and clocks), this machine does not let it run, or it
/// was interrupted.
pub fn run(scenario: &Scenario, seed: u64, options: &Options, watch: &mut dyn Watch) -> Result<Outcome> {
    faults::check(scenario)?;
    let (nodes, links) = (scenario.topology.nodes(), scenario.topology.links(seed));
    if nodes > NODES_MAX {
        bail!("{nodes} nodes are too many for one process, at most {NODES_MAX}: run it in the virtual mesh");
    }
    let options = Options { content_bytes_max: options.content_bytes_max.min(CONTENT_BYTES_MAX), ..options.clone() };
    measure::allow_files(nodes)?;
    let mut folder = tempfile::Builder::new();
    folder.prefix("pakt-mesh-");
    let folder = match &options.folder {
        Some(parent) => folder.tempdir_in(parent),
        None => folder.tempdir(),
    };
    let folder = folder.context("cannot make a folder for the nodes")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().max_blocking_threads(BLOCKING_MAX).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut mesh = Mesh::new(folder.path().to_owned(), links)?;
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let outcome = tokio::select! {
            outcome = live(&mut mesh, scenario, (seed, &options), watch) => outcome,
            _ = terminate.recv() => Err(anyhow::anyhow!("interrupted")),
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        };
        let stopped = mesh.stop().await;
        let outcome = outcome?;
        stopped.map(|()| outcome)
    });
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    // Also removed when it is dropped on the way here; this tells whether it worked.
    folder.close().context("cannot remove the nodes' folder")?;
    outcome
}

/// The life of a mesh, until it is stopped.
async fn live(
    mesh: &mut Mesh,
    scenario: &Scenario,
    (seed, options): (u64, &Options),
    watch: &mut dyn Watch,
) -> Result<Outcome> {
    let (begun, mut phases) = (Instant::now(), Phases::default());
    let speed = (scenario.duration.as_secs_f64() / options.real_time.as_secs_f64().max(1e-3)).max(1.0);
    phases.started = Usage::of(mesh.start(scenario.topology.nodes())).await?;
    phases.agreed = Usage::of(mesh.agree(scenario.terms.hold.clamp(HOLD.0, HOLD.1))).await?;
    let (mut missing, online) = (0, mesh.online(options.online));
    phases.online = Usage::of(async { online.await.map(|offline| missing = offline) }).await?;
    phases.idle = Usage::of(async { Ok(tokio::time::sleep(options.idle).await) }).await?;
    let mut events = Events::new(watch, Pace::begin(speed));
    let (mut played, mut failed) = (Played::default(), None);
    let playing = play::play(mesh, &mut events, scenario, (seed, options));
    phases.played = Usage::of(async {
        match playing.await {
            Ok(day) => played = day,
            Err(error) => failed = Some(error),
        }
        Ok(())
    })
    .await?;
    let judged = judge::judge(mesh, &played.ledger, &mut events).await;
    let judged = judged.unwrap_or_else(|error| {
        failed.get_or_insert(error);
        Judged::default()
    });
    let failed = failed.map(|error| format!("{error:#}"));
    Ok(report::outcome(
        mesh,
        (scenario, &events),
        report::Day { seed, missing, phases, played, judged, failed, wall: begun.elapsed() },
    ))
}
