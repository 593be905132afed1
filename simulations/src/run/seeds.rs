//! Many seeds of one scenario: run on all cores, reported in order.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::Result;
use serde::Serialize;

use super::engine::{self, Ran, Wanted};
use super::options::EngineName;
use super::progress::Progress;
use crate::outcome::{Counts, Finding, Outcome, Verdict};
use crate::report::svg::{count_text, duration_text};
use crate::scenario::Scenario;

/// Runs each seed, and hands over what came of it in order of the seeds.
///
/// # Errors
/// The first that an engine or `each` returns; no further seed is begun then.
pub(super) fn each(
    range: Range<u64>,
    wanted: Wanted<'_>,
    progress: &Progress,
    mut each: impl FnMut(u64, Ran) -> io::Result<()>,
) -> Result<()> {
    let next = AtomicU64::new(range.start);
    let is_over = AtomicBool::new(false);
    // Complete nodes use all cores already.
    let threads =
        if wanted.engine == EngineName::Real { 1 } else { thread::available_parallelism().map_or(1, usize::from) };
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(threads);
        for _ in 0..threads {
            let (sender, next, is_over) = (sender.clone(), &next, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= range.end {
                        return;
                    }
                    let ran = engine::execute(wanted, seed, &mut progress.watch());
                    if sender.send((seed, ran)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let handed = in_order(range.start, receiver, &mut each);
        is_over.store(true, Ordering::Relaxed);
        handed
    })
}

fn in_order(
    mut next: u64,
    receiver: mpsc::Receiver<(u64, Result<Ran>)>,
    each: &mut impl FnMut(u64, Ran) -> io::Result<()>,
) -> Result<()> {
    // Bounded in practice by how much longer one seed takes than the others; each waits with its outcome only.
    let mut waiting = BTreeMap::new();
    for (seed, ran) in receiver {
        waiting.insert(seed, ran?);
        while let Some(ran) = waiting.remove(&next) {
            each(next, ran)?;
            next += 1;
        }
    }
    Ok(())
}

/// What one seed came to.
#[derive(Debug, Serialize)]
struct Brief {
    seed: u64,
    verdict: Verdict,
    event_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<Finding>,
    messages: Counts,
    wall_seconds: f64,
}

/// What many seeds came to.
pub(super) struct Tally {
    scenario: String,
    range: Range<u64>,
    briefs: Vec<Brief>,
    /// The first that failed, or the first of all.
    shown: Option<Outcome>,
}

/// What many seeds came to, as one object. `seed`, `event_hash`, `verdict` and `finding` are those of the first that failed, or of
/// the last where all passed.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    event_hash: &'a str,
    seed: u64,
    verdict: Verdict,
    finding: Option<&'a Finding>,
    scenario: &'a str,
    seeds: String,
    passed: usize,
    failed: usize,
    version: &'static str,
    runs: &'a [Brief],
}

impl Tally {
    pub(super) fn new(scenario: &Scenario, range: &Range<u64>) -> Self {
        Self { scenario: scenario.name.clone(), range: range.clone(), briefs: Vec::new(), shown: None }
    }

    /// Takes one in, and says it in a line.
    pub(super) fn add(&mut self, seed: u64, ran: Ran) -> String {
        let brief = match &ran {
            Ran::Finished(outcome) => Brief {
                seed,
                verdict: outcome.verdict,
                event_hash: outcome.event_hash.clone(),
                finding: outcome.finding.clone(),
                messages: outcome.messages,
                wall_seconds: outcome.wall.as_secs_f64(),
            },
            Ran::Panicked(why) => Brief {
                seed,
                verdict: Verdict::Crash,
                event_hash: String::new(),
                finding: Some(Finding {
                    rule: "panic".into(),
                    at: Default::default(),
                    what: why.clone(),
                    nodes: Vec::new(),
                }),
                messages: Counts::default(),
                wall_seconds: 0.0,
            },
        };
        let line = line(&brief);
        self.briefs.push(brief);
        if let Ran::Finished(outcome) = ran {
            let is_first_failure = outcome.verdict != Verdict::Pass
                && self.shown.as_ref().is_none_or(|shown| shown.verdict == Verdict::Pass);
            if self.shown.is_none() || is_first_failure {
                self.shown = Some(*outcome);
            }
        }
        line
    }

    /// The first run that failed, or the first of all.
    pub(super) fn worth_showing(&self) -> Option<&Outcome> {
        self.shown.as_ref()
    }

    fn first_failed(&self) -> Option<&Brief> {
        self.briefs.iter().find(|brief| brief.verdict != Verdict::Pass)
    }

    fn failed(&self) -> usize {
        self.briefs.iter().filter(|brief| brief.verdict != Verdict::Pass).count()
    }

    /// That of the first seed that failed.
    pub(super) fn exit_code(&self) -> u8 {
        self.first_failed().map_or(0, |brief| brief.verdict.exit_code())
    }

    pub(super) fn text(&self) -> String {
        let failed = self.failed();
        let (passed, from, to) = (self.briefs.len() - failed, self.range.start, self.range.end);
        match self.first_failed() {
            None => format!("{}, seeds {from}..{to}: all {} pass\n", self.scenario, count_text(passed as u64)),
            Some(first) => {
                format!(
                    "{}, seeds {from}..{to}: {passed} pass, {failed} fail, the first is {}\n",
                    self.scenario, first.seed
                )
            }
        }
    }

    pub(super) fn summary(&self) -> Summary<'_> {
        let said = self.first_failed().or(self.briefs.last());
        let failed = self.failed();
        Summary {
            event_hash: said.map_or("", |brief| &brief.event_hash),
            seed: said.map_or(self.range.start, |brief| brief.seed),
            verdict: said.map_or(Verdict::Pass, |brief| brief.verdict),
            finding: said.and_then(|brief| brief.finding.as_ref()),
            scenario: &self.scenario,
            seeds: format!("{}..{}", self.range.start, self.range.end),
            passed: self.briefs.len() - failed,
            failed,
            version: env!("CARGO_PKG_VERSION"),
            runs: &self.briefs,
        }
    }
}

fn line(brief: &Brief) -> String {
    let Brief { seed, verdict, event_hash, finding, messages, wall_seconds } = brief;
    let hash: String = event_hash.chars().take(16).collect();
    let took = duration_text(std::time::Duration::from_secs_f64(*wall_seconds));
    let verdict = format!("{verdict:?}").to_lowercase();
    let found = finding.as_ref().map_or(String::new(), |finding| format!("  {}: {}", finding.rule, finding.what));
    format!(
        "seed {seed:<6} {verdict:<6} {hash:<16}  {} of {} delivered  {took}{found}",
        count_text(messages.delivered),
        count_text(messages.submitted)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::made_up;

    fn tally(verdicts: &[Option<Verdict>]) -> Tally {
        let mut scenario = Scenario::named("pair").unwrap();
        scenario.traffic.truncate(1);
        let mut tally = Tally::new(&scenario, &(5..5 + verdicts.len() as u64));
        for (seed, verdict) in (5..).zip(verdicts) {
            let ran = match verdict {
                Some(verdict) => Ran::Finished(Box::new(Outcome { verdict: *verdict, ..made_up(&scenario, seed) })),
                None => Ran::Panicked("a word".into()),
            };
            assert!(tally.add(seed, ran).starts_with(&format!("seed {seed}")));
        }
        tally
    }

    #[test]
    fn many_seeds_end_as_the_first_that_failed() {
        let check = |verdicts: &[Option<Verdict>], code: u8, seed: u64, shown: Option<u64>| {
            let tally = tally(verdicts);
            let summary = serde_json::to_value(tally.summary()).unwrap();
            assert_eq!((tally.exit_code(), summary["seed"].as_u64()), (code, Some(seed)), "{verdicts:?}");
            assert_eq!(tally.worth_showing().map(|outcome| outcome.seed), shown, "{verdicts:?}");
            let failed = verdicts.iter().filter(|verdict| **verdict != Some(Verdict::Pass)).count();
            assert_eq!(summary["failed"], failed);
            assert_eq!(summary["runs"].as_array().unwrap().len(), verdicts.len());
        };
        let [pass, crash, wrong, stuck] = [Verdict::Pass, Verdict::Crash, Verdict::Wrong, Verdict::Stuck].map(Some);
        check(&[pass, pass], 0, 6, Some(5));
        check(&[pass, stuck, wrong, pass], 12, 6, Some(6));
        check(&[wrong, crash], 11, 5, Some(5));
        check(&[pass, crash], 10, 6, Some(6));
        check(&[None, wrong], 10, 5, Some(6));
        check(&[None], 10, 5, None);
    }
}
