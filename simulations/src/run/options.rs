//! What `run` takes from its command line.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::scenario::{Scenario, ScenarioError};

/// Seeds of one command: more are a mistyped number.
const SEEDS_MAX: u64 = 10_000_000;

/// How to run a scenario.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// One that is shipped (pair, teleradiology-310, national-10000, bad-week, revocation-storm), or a file
    pub scenario: String,
    /// The protocol machines under a virtual clock, or complete nodes
    #[arg(long, value_enum, default_value_t = EngineName::Virtual)]
    pub engine: EngineName,
    /// How long the scenario's duration takes with complete nodes, such as 5m (default: 2m)
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub real_time: Option<Duration>,
    /// What chance is drawn from (default: that of the scenario, or 1)
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Each seed from A up to, but not with B
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    pub seeds: Option<Range<u64>>,
    /// Write the report as one HTML page to this file; of several seeds that of the first that failed
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write every event as a line of JSON to this file
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    pub events: Option<PathBuf>,
    /// One object on stdout, and nothing else
    #[arg(long)]
    pub json: bool,
    /// Do not look for a smaller schedule that fails the same way
    #[arg(long)]
    pub no_shrink: bool,
}

/// What runs a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    /// The protocol machines under a virtual clock
    Virtual,
    /// Complete nodes in one process
    Real,
}

/// The seeds of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// One, with all its details.
    One(u64),
    /// Each of these; the end is not one of them.
    Range(Range<u64>),
}

impl RunArguments {
    /// The scenario that is asked for.
    ///
    /// # Errors
    /// If there is none, or it says what no scenario may say.
    pub fn scenario(&self) -> Result<Scenario, ScenarioError> {
        Scenario::find(&self.scenario)
    }

    /// The seeds that are asked for: those of the command line, else that of the scenario, else 1.
    pub fn seeds(&self, scenario: &Scenario) -> Seeds {
        match &self.seeds {
            Some(range) => Seeds::Range(range.clone()),
            None => Seeds::One(self.seed.or(scenario.seed).unwrap_or(1)),
        }
    }

    /// The command that runs one seed of it again.
    pub fn again(&self, seed: u64) -> String {
        let engine = match self.engine {
            EngineName::Virtual => "",
            EngineName::Real => " --engine real",
        };
        format!("cargo run --release -p pakt-simulations -- run {}{engine} --seed {seed}", self.scenario)
    }
}

/// The command that runs a file.
pub(super) fn again_with(path: &Path) -> String {
    format!("cargo run --release -p pakt-simulations -- run {}", path.display())
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let wanted = || format!("`{text}` is not two numbers such as 0..100, the first one smaller");
    let (from, to) = text.split_once("..").ok_or_else(wanted)?;
    let (from, to): (u64, u64) = (from.parse().map_err(|_| wanted())?, to.parse().map_err(|_| wanted())?);
    match to.checked_sub(from) {
        None | Some(0) => Err(wanted()),
        Some(count) if count > SEEDS_MAX => Err(format!("{count} seeds are more than {SEEDS_MAX}")),
        Some(_) => Ok(from..to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_ranges_without_their_end() {
        let check = |text: &str, expected: Option<Range<u64>>| assert_eq!(seeds(text).ok(), expected, "{text}");
        check("0..100", Some(0..100));
        check("7..8", Some(7..8));
        check("7..7", None);
        check("8..7", None);
        check("7", None);
        check("a..b", None);
        check("0..=3", None);
        check("0..99999999", None);
    }
}
