//! The command line of the benches.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pakt_simulations::bench::{self, BenchArguments};
use pakt_simulations::link::Refused;

/// What a bench ends with when this machine does not let it emulate lines, as `env` and `timeout` do for what is not theirs.
const EXIT_REFUSED: u8 = 125;

/// Measure Pakt on this machine
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
}

fn main() -> ExitCode {
    let Command::Bench(arguments) = Arguments::parse().command;
    match bench::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let refused = error.downcast_ref::<Refused>().is_some();
            if refused { ExitCode::from(EXIT_REFUSED) } else { ExitCode::FAILURE }
        }
    }
}
