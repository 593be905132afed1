//! The case `loopback`: no line in between, so what counts is the work itself.

use anyhow::Result;
use clap::Args;

use super::study::EVERYBODY;
use crate::bench::contest::{Bench, StudyOptions, begin};
use crate::bench::files;
use crate::bench::ground::Ground;
use crate::bench::report::CaseReport;

/// Pakt may need at most this much of what rsync over ssh needs.
const RSYNC_RATIO_MAX: f64 = 0.6;

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct LoopbackCase {
    #[command(flatten)]
    study: StudyOptions,
}

/// Runs the case.
///
/// # Errors
/// If a peer fails.
pub fn run(bench: &Bench, options: &LoopbackCase) -> Result<Vec<CaseReport>> {
    let title = "A study over loopback";
    let start = begin(title);
    let study = bench.study(&options.study)?;
    let ground = Ground::loopback()?;
    let mut report = CaseReport::new("loopback", title, &ground, "a synthetic MR study", files::size_of(&study)?);
    report.rows = bench.contest(&ground, &study, &EVERYBODY)?;
    report.promise_ratio(report.row("rsync -a ").cloned().as_ref(), RSYNC_RATIO_MAX);
    report.spent_seconds = start.elapsed().as_secs_f64();
    Ok(vec![report])
}
