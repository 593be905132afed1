//! The command line of the benches and the simulated meshes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pakt_simulations::bench::{self, BenchArguments};
use pakt_simulations::link::Refused;
use pakt_simulations::run::{self, CompareArguments, EXIT_CANNOT_RUN, RunArguments};

/// What a bench ends with when this machine does not let it emulate lines, as `env` and `timeout` do for what is not theirs.
const EXIT_REFUSED: u8 = 125;

/// Measure Pakt on this machine, and simulate meshes of it
#[derive(Parser)]
#[command(name = "pakt-simulations", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare Pakt with the tools people use today, side by side in one run
    Bench(Box<BenchArguments>),
    /// Run a mesh: exit code 0 pass, 10 crash, 11 wrong, 12 stuck, 125 cannot run
    Run(RunArguments),
    /// Show results of `run --json` beside each other
    Compare(CompareArguments),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return unparsed(&error),
    };
    match arguments.command {
        Command::Bench(arguments) => ended(bench::run(&arguments).map(|()| 0), |error| {
            if error.downcast_ref::<Refused>().is_some() { EXIT_REFUSED } else { 1 }
        }),
        Command::Run(arguments) => ended(run::run(&arguments), |_| EXIT_CANNOT_RUN),
        Command::Compare(arguments) => ended(run::compare(&arguments).map(|()| 0), |_| EXIT_CANNOT_RUN),
    }
}

/// Help is fine; a command line that is none must not look like a verdict to `git bisect run`, as clap's 2 would.
fn unparsed(error: &clap::Error) -> ExitCode {
    // Where stdout is gone, nobody reads the help.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EXIT_CANNOT_RUN) } else { ExitCode::SUCCESS }
}

fn ended(result: anyhow::Result<u8>, code: impl Fn(&anyhow::Error) -> u8) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        code(&error)
    }))
}
