//! Shrinking: of a scenario that fails with a seed, the fewest faults and messages that still break the same rule.
//!
//! What chance had drawn is written down first, fault by fault and message by message; then pieces are left out, large ones
//! before small ones, as long as the same rule is broken (delta debugging, Zeller and Hildebrandt 2002).
//!
//! **Invariant:** the result fails with the seed that it names, by the same rule.

use super::{Options, faults, run};
use crate::outcome::Verdict;
use crate::scenario::{Message, Scenario, Submission};

/// Messages that are tried to be left out one by one; more than these only as a whole, or in large pieces.
const RUNS_MAX: usize = 400;

/// A smaller scenario that fails in the same way.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// It, with the seed that it fails with; [`Scenario::to_toml`] writes it as a file that reproduces the failure.
    pub scenario: Scenario,
    /// The rule that is broken.
    pub rule: String,
    /// Faults and messages before and after.
    pub faults: (usize, usize),
    /// Messages before and after.
    pub messages: (usize, usize),
    /// Runs that it took.
    pub runs: usize,
}

/// Shrinks a failing run; none if it passes.
pub fn shrink(scenario: &Scenario, seed: u64, options: &Options) -> Option<Shrunk> {
    let rule = broken(scenario, seed, options)?;
    let mut search = Search { seed, options, rule, runs: 1 };
    let mut smaller = written_down(scenario, seed);
    // What is written down may fail in another way than what was drawn: then only the faults are left out.
    if !search.fails(&smaller) {
        smaller = Scenario { faults: smaller.faults, random_faults: None, ..scenario.clone() };
        if !search.fails(&smaller) {
            return None;
        }
    }
    let (faults, messages) = (smaller.faults.len(), smaller.messages.len());
    smaller = search.least(smaller, |scenario| &mut scenario.faults);
    smaller = search.least(smaller, |scenario| &mut scenario.messages);
    smaller = search.least(smaller, |scenario| &mut scenario.faults);
    smaller.name = format!("{}-shrunk", scenario.name);
    smaller.about = format!("Breaks the rule `{}` with seed {seed}.", search.rule);
    smaller.seed = Some(seed);
    let faults = (faults, smaller.faults.len());
    let messages = (messages, smaller.messages.len());
    Some(Shrunk { scenario: smaller, rule: search.rule, faults, messages, runs: search.runs })
}

/// The rule that a run breaks, if it breaks one.
fn broken(scenario: &Scenario, seed: u64, options: &Options) -> Option<String> {
    let outcome = run(scenario, seed, options, &mut ());
    if outcome.verdict == Verdict::Pass { None } else { outcome.finding.map(|finding| finding.rule) }
}

/// The same scenario with everything that chance draws in it.
fn written_down(scenario: &Scenario, seed: u64) -> Scenario {
    let links = scenario.topology.links(seed);
    let messages = scenario.submissions(&links, seed).map(message).collect();
    let faults = faults::all(scenario, &links, seed);
    Scenario { faults, messages, traffic: Vec::new(), random_faults: None, ..scenario.clone() }
}

fn message(submission: Submission) -> Message {
    Message {
        at: submission.at,
        from: submission.from,
        to: submission.to,
        kind: submission.kind,
        priority: Some(submission.priority),
        bytes: Some(submission.bytes),
        recall_after: submission.recall_after,
    }
}

struct Search<'a> {
    seed: u64,
    options: &'a Options,
    rule: String,
    runs: usize,
}

impl Search<'_> {
    fn fails(&mut self, scenario: &Scenario) -> bool {
        self.runs += 1;
        broken(scenario, self.seed, self.options).as_ref() == Some(&self.rule)
    }

    /// Leaves out what is not needed of one list.
    fn least<T: Clone>(&mut self, mut scenario: Scenario, list: impl Fn(&mut Scenario) -> &mut Vec<T>) -> Scenario {
        let mut piece = list(&mut scenario).len();
        while piece > 0 {
            let mut from = 0;
            while from < list(&mut scenario).len() && self.runs < RUNS_MAX {
                let mut smaller = scenario.clone();
                let all = list(&mut smaller);
                let to = (from + piece).min(all.len());
                all.drain(from..to);
                if self.fails(&smaller) {
                    scenario = smaller;
                } else {
                    from += piece;
                }
            }
            piece /= 2;
        }
        scenario
    }
}
