//! Virtual meshes: the protocol machines of whole nodes under a virtual clock, with simulated lines and disks, and a judge
//! that looks at every step.
//!
//! ```text
//! scenario + seed --> [`world`]: queue of events --> node: machines --> disk, lines --> queue …
//!                                                            judge looks at what is written and what leaves
//! ```
//! One thread, no sockets, no files, no clock of this machine: a run depends on scenario, seed and version alone, and
//! [`Outcome::event_hash`] says so. Start reading at [`run`].
//!
//! **Invariant:** same scenario, same seed, same version: same events.
//! **Invariant:** whatever decides anything about the protocol is `pakt-protocol`'s own.

mod clock;
mod disk;
mod event;
mod faults;
mod judge;
mod network;
mod node;
#[cfg(test)]
mod promises;
pub mod shrink;
mod suite;
#[cfg(test)]
mod tests;
mod trace;
mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::outcome::{Counts, Engine, Finding, Outcome, Verdict, Watch};
use crate::scenario::{Scenario, Suite, Terms};

use event::Plans;
use world::World;

/// What a run may be told beside its scenario.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether every frame and every commit is an event of its own, beside what happens to envelopes, lanes and nodes.
    pub details: bool,
    /// Something is wrong with the nodes: tests of the judge only.
    #[cfg(test)]
    pub(crate) defect: Option<Defect>,
}

/// What can be wrong with the nodes, so that the judge must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    AcknowledgeEarly,
    SkipPersist,
    SkipLeft,
    IgnoreEnd,
    ForgetRetry,
}

/// What all nodes of a run share.
pub(crate) struct Shared {
    pub(crate) plans: Plans,
    pub(crate) network: network::Network,
    pub(crate) judge: judge::Judge,
    pub(crate) suite: suite::Suite,
    pub(crate) trace: trace::Trace,
    pub(crate) chance: fastrand::Rng,
    pub(crate) terms: Terms,
    /// Links whose lanes may have fallen silent in this step.
    pub(crate) ill: BTreeSet<u32>,
    /// Nodes that have died within a commit of this step.
    pub(crate) dying: Vec<usize>,
    #[cfg(test)]
    defect: Option<Defect>,
}

impl Shared {
    /// Whether the nodes have this defect.
    #[cfg(test)]
    pub(crate) fn is_broken(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    #[cfg(not(test))]
    pub(crate) fn is_broken(&self, _: Defect) -> bool {
        false
    }

    pub(crate) fn hold_seconds(&self) -> u32 {
        u32::try_from(self.terms.hold.as_secs()).unwrap_or(u32::MAX)
    }

    pub(crate) fn group_of(&self, node: usize) -> pakt_protocol::record::roster::GroupId {
        node::group_of(node)
    }
}

/// Runs a scenario with one seed from its start until everything is settled, or a rule is broken.
///
/// ```no_run
/// use pakt_simulations::{mesh, outcome::Verdict, scenario::Scenario};
///
/// let scenario = Scenario::named("pair").expect("shipped");
/// let outcome = mesh::run(&scenario, 7, &mesh::Options::default(), &mut ());
/// assert_eq!(outcome.verdict, Verdict::Pass, "{:?}", outcome.finding);
/// ```
pub fn run(scenario: &Scenario, seed: u64, options: &Options, watch: &mut dyn Watch) -> Outcome {
    let started = Instant::now();
    let mut outcome = match catch_unwind(AssertUnwindSafe(|| World::new(scenario, seed, options).run(watch))) {
        Ok(outcome) => outcome,
        Err(panic) => crashed(scenario, seed, &*panic),
    };
    outcome.wall = started.elapsed();
    outcome
}

/// A machine panicked: that is all that is known.
fn crashed(scenario: &Scenario, seed: u64, panic: &(dyn std::any::Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<String>().cloned();
    let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let finding = Finding {
        rule: "panic".to_owned(),
        at: std::time::Duration::ZERO,
        what: what.unwrap_or_else(|| "a machine panicked".to_owned()),
        nodes: Vec::new(),
    };
    Outcome {
        scenario: scenario.name.clone(),
        engine: Engine::Virtual,
        suite: scenario.suite_chosen(),
        seed,
        event_hash: String::new(),
        verdict: Verdict::Crash,
        finding: Some(finding),
        simulated: std::time::Duration::ZERO,
        wall: std::time::Duration::ZERO,
        nodes: scenario.topology.nodes(),
        links: 0,
        events: 0,
        messages: Counts::default(),
        bytes: 0,
        latency: Vec::new(),
        samples: Vec::new(),
        link_bytes: Vec::new(),
        frames: Vec::new(),
        memory_per_node: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        found: Vec::new(),
        faults: scenario.faults.clone(),
    }
}

/// Whether a run of this scenario really seals and opens.
fn is_full(scenario: &Scenario) -> bool {
    scenario.suite_chosen() == Suite::Full
}
