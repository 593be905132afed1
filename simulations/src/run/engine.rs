//! The two engines behind one call.

use std::panic::{self, AssertUnwindSafe};

use anyhow::{Result, bail};

use super::options::EngineName;
use crate::outcome::{Outcome, Watch};
use crate::scenario::Scenario;

/// How a run ended.
pub(super) enum Ran {
    /// With a verdict.
    Finished(Box<Outcome>),
    /// Not at all: the simulation itself fell over.
    Panicked(String),
}

/// Runs one seed.
///
/// # Errors
/// If the engine cannot run such a scenario.
pub(super) fn execute(engine: EngineName, scenario: &Scenario, seed: u64, watch: &mut dyn Watch) -> Result<Ran> {
    // Nothing is used afterwards that a panic may have left half done: `watch` only counts and writes.
    let ran = panic::catch_unwind(AssertUnwindSafe(|| match engine {
        EngineName::Virtual => virtually(scenario, seed, watch),
        EngineName::Real => really(scenario, seed, watch),
    }));
    match ran {
        Ok(outcome) => Ok(Ran::Finished(Box::new(outcome?))),
        Err(panic) => Ok(Ran::Panicked(words(panic.as_ref()))),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no words").into()
}

fn virtually(_: &Scenario, _: u64, _: &mut dyn Watch) -> Result<Outcome> {
    bail!("this build has no virtual engine")
}

fn really(_: &Scenario, _: u64, _: &mut dyn Watch) -> Result<Outcome> {
    bail!("this build has no real engine")
}

/// The smallest schedule that breaks the same rule as `outcome`; none where the engine cannot look for one.
///
/// # Errors
/// If the engine cannot run the scenario again.
pub(super) fn shrink(_: EngineName, _: &Scenario, _: &Outcome) -> Result<Option<Scenario>> {
    Ok(None)
}
