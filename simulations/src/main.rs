//! The command line of the benches.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pakt_simulations::bench::{self, BenchCase};

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
    Bench {
        #[command(subcommand)]
        case: BenchCase,
    },
}

fn main() -> ExitCode {
    let Command::Bench { case } = Arguments::parse().command;
    match bench::run(&case) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
