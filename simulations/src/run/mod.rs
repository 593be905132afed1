//! The `run` and `compare` commands: a scenario and a seed in, a verdict out.
//!
//! **Invariant:** exit codes say what `git bisect run` asks: 0 pass, 10 crash, 11 wrong, 12 stuck; 125 when it cannot run, which
//! is no verdict.
//! **Invariant:** with `--json`, stdout holds one object and nothing else.
//!
//! Start reading at [`run`].

mod compare;
mod engine;
mod events;
mod options;
mod progress;
mod seeds;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

pub use compare::{CompareArguments, compare};
pub use options::{EngineName, RunArguments, Seeds};

use self::engine::{Ran, Wanted};
use self::progress::Progress;
use self::seeds::Tally;
use crate::mesh::shrink::Shrunk;
use crate::outcome::{Outcome, Verdict};
use crate::report::{run_page, summary};
use crate::scenario::Scenario;

/// What the program ends with when there is no verdict: `git bisect run` passes over such a version.
pub const EXIT_CANNOT_RUN: u8 = 125;

/// Runs a scenario with one seed or several, and says what it ends with.
///
/// # Errors
/// If it cannot run: no such scenario, an engine that lacks what it asks for, a file that cannot be written. That is no verdict.
pub fn run(arguments: &RunArguments) -> Result<u8> {
    let scenario = arguments.scenario()?;
    match arguments.seeds(&scenario) {
        Seeds::One(seed) => one(arguments, &scenario, seed),
        Seeds::Range(range) => several(arguments, &scenario, range),
    }
}

fn one(arguments: &RunArguments, scenario: &Scenario, seed: u64) -> Result<u8> {
    let progress = Progress::new(scenario, 1, arguments.json);
    let mut events = events::Events::create(arguments.events.as_deref(), progress.watch())?;
    let ran = engine::execute(wanted(arguments, scenario), seed, &mut events)?;
    progress.finish();
    events.finish()?;
    let outcome = match ran {
        Ran::Finished(outcome) => *outcome,
        Ran::Panicked(why) => {
            eprintln!("error: seed {seed} crashed the simulation itself: {why}");
            return Ok(Verdict::Crash.exit_code());
        }
    };
    write_page(arguments, scenario, &outcome)?;
    if outcome.verdict != Verdict::Pass {
        shrink(arguments, scenario, &outcome)?;
    }
    if arguments.json {
        print_json(&outcome)?
    } else {
        print(&summary(&outcome))?
    }
    Ok(outcome.verdict.exit_code())
}

fn several(arguments: &RunArguments, scenario: &Scenario, range: std::ops::Range<u64>) -> Result<u8> {
    let progress = Progress::new(scenario, range.end - range.start, arguments.json);
    let mut tally = Tally::new(scenario, &range);
    seeds::each(range, wanted(arguments, scenario), &progress, |seed, ran| {
        let line = tally.add(seed, ran);
        progress.note(&line, !arguments.json)
    })?;
    progress.finish();
    if let Some(outcome) = tally.worth_showing() {
        write_page(arguments, scenario, outcome)?;
        if outcome.verdict != Verdict::Pass {
            shrink(arguments, scenario, outcome)?;
        }
    }
    if arguments.json {
        print_json(&tally.summary())?
    } else {
        print(&tally.text())?
    }
    Ok(tally.exit_code())
}

fn wanted<'a>(arguments: &RunArguments, scenario: &'a Scenario) -> Wanted<'a> {
    let RunArguments { engine, real_time, events, .. } = arguments;
    Wanted { engine: *engine, scenario, details: events.is_some(), real_time: *real_time }
}

fn write_page(arguments: &RunArguments, scenario: &Scenario, outcome: &Outcome) -> Result<()> {
    let Some(path) = &arguments.html else { return Ok(()) };
    let page = run_page(scenario, outcome, &arguments.again(outcome.seed));
    fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes the smallest schedule that breaks the same rule into the working directory.
fn shrink(arguments: &RunArguments, scenario: &Scenario, outcome: &Outcome) -> Result<()> {
    if arguments.no_shrink || arguments.engine == EngineName::Real {
        return Ok(());
    }
    eprintln!(
        "seed {} fails: looking for a smaller schedule that breaks the same rule (--no-shrink leaves this out)",
        outcome.seed
    );
    let Some(shrunk) = engine::shrink(wanted(arguments, scenario), outcome) else {
        eprintln!("found none");
        return Ok(());
    };
    let path = PathBuf::from(format!("{}-seed-{}.toml", scenario.name, outcome.seed));
    write_shrunk(&path, &shrunk, outcome)?;
    let Shrunk { faults, messages, runs, .. } = shrunk;
    eprintln!(
        "shrunk from {} faults and {} messages to {} and {} in {runs} runs: {}\n{}",
        faults.0,
        messages.0,
        faults.1,
        messages.1,
        path.display(),
        options::again_with(&path)
    );
    Ok(())
}

fn write_shrunk(path: &Path, shrunk: &Shrunk, outcome: &Outcome) -> Result<()> {
    let text = format!("# Shrunk from `{}`, seed {}.\n{}", outcome.scenario, outcome.seed, shrunk.scenario.to_toml()?);
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn print(text: &str) -> Result<()> {
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn print_json(value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    print(&text)
}
