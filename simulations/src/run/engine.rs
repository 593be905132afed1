//! The two engines behind one call.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use anyhow::Result;

use super::options::EngineName;
use crate::mesh::shrink::Shrunk;
use crate::outcome::{Outcome, Watch};
use crate::scenario::Scenario;
use crate::{mesh, real};

/// How a run ended.
pub(super) enum Ran {
    /// With a verdict.
    Finished(Box<Outcome>),
    /// Not at all: the simulation itself fell over.
    Panicked(String),
}

/// What a run is asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) engine: EngineName,
    pub(super) scenario: &'a Scenario,
    /// Whether every frame and every commit is an event of its own; the event hash is the same.
    pub(super) details: bool,
    /// How long the scenario's duration takes in complete nodes, if not as long as usual.
    pub(super) real_time: Option<Duration>,
}

/// Runs one seed.
///
/// # Errors
/// If the engine cannot run such a scenario.
pub(super) fn execute(wanted: Wanted<'_>, seed: u64, watch: &mut dyn Watch) -> Result<Ran> {
    // Nothing is used afterwards that a panic may have left half done: `watch` only counts and writes.
    let ran = panic::catch_unwind(AssertUnwindSafe(|| match wanted.engine {
        EngineName::Virtual => Ok(virtually(wanted, seed, watch)),
        EngineName::Real => really(wanted, seed, watch),
    }));
    match ran {
        Ok(outcome) => Ok(Ran::Finished(Box::new(outcome?))),
        Err(panic) => Ok(Ran::Panicked(words(panic.as_ref()))),
    }
}

fn virtually(wanted: Wanted<'_>, seed: u64, watch: &mut dyn Watch) -> Outcome {
    #[allow(clippy::needless_update, reason = "tests of the judge have a field more")]
    let options = mesh::Options { details: wanted.details, ..mesh::Options::default() };
    mesh::run(wanted.scenario, seed, &options, watch)
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no words").into()
}

fn really(wanted: Wanted<'_>, seed: u64, watch: &mut dyn Watch) -> Result<Outcome> {
    let usual = real::Options::default();
    let options = real::Options { real_time: wanted.real_time.unwrap_or(usual.real_time), ..usual };
    real::run(wanted.scenario, seed, &options, watch)
}

/// The smallest schedule that breaks the same rule as `outcome`; none of a run of complete nodes, which is not the same twice.
pub(super) fn shrink(wanted: Wanted<'_>, outcome: &Outcome) -> Option<Shrunk> {
    match wanted.engine {
        EngineName::Virtual => mesh::shrink::shrink(wanted.scenario, outcome.seed, &mesh::Options::default()),
        EngineName::Real => None,
    }
}
