//! The `compare` command: what `run --json` has printed, beside each other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::print;
use crate::outcome::Outcome;
use crate::report::{comparison_page, comparison_text};

/// What to compare.
#[derive(Clone, Debug, Args)]
pub struct CompareArguments {
    /// Two results of `run --json` with one seed each, or more
    #[arg(required = true, num_args = 2.., value_name = "JSON")]
    pub runs: Vec<PathBuf>,
    /// Write the comparison as one HTML page to this file; runs of meshes of different sizes are plotted against the number of nodes
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Prints the table, and writes the page.
///
/// # Errors
/// If a file is no result of a run, or the page cannot be written.
pub fn compare(arguments: &CompareArguments) -> Result<()> {
    let runs = arguments.runs.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    if let Some(path) = &arguments.html {
        fs::write(path, comparison_page(&runs)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print(&comparison_text(&runs))
}

fn read(path: &Path) -> Result<Outcome> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not what `run --json` prints for one seed", path.display()))
}
