//! Whole runs: that honest nodes pass, that broken ones do not, that a seed says it all.

use std::time::Duration;

use super::{Options, run};
use crate::outcome::{Outcome, Verdict};
use crate::scenario::{Fault, FaultKind, Kind, Scenario, Topology, Traffic};

const HOUR: u64 = 3_600;

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * HOUR)
}

fn letters(per_node_and_hour: f64) -> Traffic {
    Traffic {
        kind: Kind::Letter,
        per_node_and_hour,
        curve: Default::default(),
        bytes: None,
        priority: None,
        recipients: 1,
        recall_percent: 5.0,
    }
}

fn pair(lasts: u64) -> Scenario {
    let mut scenario = Scenario::new("pair", Topology::Pair {}, hours(lasts));
    scenario.traffic = vec![letters(6.0), Traffic { kind: Kind::Ct, ..letters(0.2) }];
    scenario
}

fn passes(scenario: &Scenario, seed: u64) -> Outcome {
    let outcome = run(scenario, seed, &Options::default(), &mut ());
    assert_eq!(outcome.verdict, Verdict::Pass, "{} seed {seed}: {:?}", scenario.name, outcome.finding);
    outcome
}

#[test]
fn a_pair_delivers() {
    let outcome = passes(&pair(24), 1);
    let messages = outcome.messages;
    assert!(messages.submitted > 200, "{messages:?}");
    assert_eq!(messages.delivered + messages.recalled, messages.submitted, "{messages:?}");
    println!("{outcome:?}");
}
