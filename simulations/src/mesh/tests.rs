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
    let over_lines: u64 = outcome.link_bytes.iter().map(|link| link.messages).sum();
    assert!((messages.delivered..=messages.submitted).contains(&over_lines), "{over_lines} {messages:?}");
    println!("{} events in {:?}", outcome.events, outcome.wall);
}

fn mesh_of(nodes: usize, lasts: u64) -> Scenario {
    let links = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
    let links = links.filter(|(a, b)| (a + b) % 3 != 0 || a + 1 == *b).collect();
    let mut scenario = Scenario::new("mesh", Topology::Links { nodes, links }, hours(lasts));
    scenario.traffic = vec![letters(2.0), Traffic { kind: Kind::Mr, ..letters(0.2) }];
    scenario.traffic[0].recipients = 2;
    scenario
}

fn with_faults(faults: &[(u64, Option<u64>, FaultKind)]) -> Scenario {
    let mut scenario = mesh_of(4, 12);
    let fault = |(at, lasts, what): &(u64, Option<u64>, FaultKind)| Fault {
        at: Duration::from_secs(*at * 60),
        for_: lasts.map(|lasts| Duration::from_secs(lasts * 60)),
        what: what.clone(),
    };
    scenario.faults = faults.iter().map(fault).collect();
    scenario
}

type Row = Vec<(u64, Option<u64>, FaultKind)>;

fn rows_of_faults() -> Vec<Row> {
    use crate::scenario::HostileKind::*;
    use FaultKind::*;
    let delay = Duration::from_secs(1);
    let bad = |reorder_percent, duplicate_percent, loss_percent| Line {
        a: 0,
        b: 1,
        loss_percent,
        delay,
        reorder_percent,
        duplicate_percent,
    };
    let crash = |lose_unsynced, at_persist| Crash { node: 1, lose_unsynced, torn: lose_unsynced, at_persist };
    vec![
        vec![(60, Some(120), bad(0.0, 0.0, 30.0))],
        vec![(60, Some(120), bad(5.0, 0.0, 0.0))],
        vec![(60, Some(120), bad(0.0, 5.0, 0.0))],
        vec![
            (60, Some(30), Partition { a: 0, b: 1, one_way: false }),
            (200, Some(30), Partition { a: 1, b: 0, one_way: true }),
        ],
        vec![(60, Some(30), Isolate { node: 1 })],
        vec![(60, Some(90), Clog { node: 1 })],
        vec![(60, Some(5), crash(false, None)), (120, Some(5), crash(true, None))],
        (1..20).map(|n| (20 * n, Some(1), crash(n % 2 == 0, Some(n)))).collect(),
        vec![(200, Some(10), Restore { node: 1, backup_age: hours(1) })],
        vec![(60, Some(90), DiskFull { node: 1 })],
        vec![(60, None, ClockStep { node: 1, seconds: 7_200 }), (90, Some(1), crash(false, None))],
        vec![(60, Some(300), ClockSkew { node: 1, ppm: 50_000 })],
        vec![(60, Some(60), Suspend { a: 0, b: 1 })],
        vec![(60, None, Suspend { a: 0, b: 1 }), (180, None, Resume { a: 0, b: 1 })],
        vec![(60, None, End { a: 0, b: 1 })],
        vec![(60, None, Expire { a: 0, b: 1 })],
        vec![(60, None, End { a: 0, b: 1 }), (200, Some(10), Restore { node: 1, backup_age: hours(3) })],
        vec![(60, Some(60), Suspend { a: 0, b: 1 }), (200, Some(10), Restore { node: 0, backup_age: hours(2) })],
        vec![(60, None, RotateKeys { node: 1 }), (61, None, RotateKeys { node: 0 })],
        [Garbage, Replay, Forge, Flood, Early, Silent]
            .into_iter()
            .zip(1..)
            .map(|(kind, n)| (60 * n, Some(20), Hostile { node: 1, kind }))
            .collect(),
    ]
}

#[test]
fn each_fault_alone() {
    let rows = rows_of_faults();
    let mut failed = Vec::new();
    for (row, faults) in rows.iter().enumerate() {
        for seed in 0..2 {
            let scenario = with_faults(faults);
            let outcome = run(&scenario, seed, &Options::default(), &mut ());
            if outcome.verdict != Verdict::Pass {
                failed.push(format!(
                    "{:?} row {row} seed {seed}: {:?} {:?}",
                    outcome.verdict, faults[0].2, outcome.finding
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn weather(seed: u64) -> Scenario {
    use crate::scenario::FaultName::*;
    let mut scenario = mesh_of(3 + (seed % 6) as usize, 72);
    scenario.name = "weather".to_owned();
    scenario.traffic = vec![letters(0.4), Traffic { kind: Kind::Mr, ..letters(0.05) }];
    scenario.traffic[0].recipients = 2;
    let kinds = vec![
        Line, Partition, Isolate, Clog, Crash, Crash, Crash, Restore, DiskFull, ClockStep, ClockSkew, Suspend, End,
        RotateKeys,
    ];
    let mean_between = Duration::from_secs(HOUR);
    scenario.random_faults = Some(crate::scenario::RandomFaults { kinds, mean_between, until: hours(72) });
    scenario
}

/// Three days of three to eight nodes in which everything happens; more of them with `PAKT_SEEDS=A..B`.
#[test]
fn seeds_of_bad_weather_pass() {
    let seeds: Vec<u64> = match std::env::var("PAKT_SEEDS") {
        Ok(text) => {
            let (from, to) = text.split_once("..").expect("A..B");
            (from.parse().expect("A")..to.parse().expect("B")).collect()
        }
        // The last ones have found something that no earlier one had.
        Err(_) => (0..100).chain([890, 1069, 1159]).collect(),
    };
    let mut failed = Vec::new();
    for seed in seeds {
        let outcome = run(&weather(seed), seed, &Options::default(), &mut ());
        println!(
            "seed {seed}: {:?} {} events {} messages in {:?}",
            outcome.verdict, outcome.events, outcome.messages.submitted, outcome.wall
        );
        if outcome.verdict != Verdict::Pass {
            failed.push(format!("{:?} seed {seed}: {:?}", outcome.verdict, outcome.finding));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The last events that concern some nodes.
struct Tail {
    nodes: Vec<usize>,
    lines: std::collections::VecDeque<String>,
}

impl crate::outcome::Watch for Tail {
    fn event(&mut self, event: &crate::outcome::Event) {
        use crate::outcome::What;
        let peer = match &event.what {
            What::Sent { peer, .. } | What::Lane { peer, .. } => Some(*peer),
            What::Record { from, to, .. } => Some(if *from == event.node { *to } else { *from }),
            _ => None,
        };
        if self.nodes.contains(&event.node) && peer.is_none_or(|peer| self.nodes.contains(&peer)) {
            self.lines.push_back(format!("{:?} {} {:?}", event.at, event.node, event.what));
            if self.lines.len() > 20_000 {
                self.lines.pop_front();
            }
        }
    }

    fn progress(&mut self, _: Duration) {}
}

/// Tells what led to a failure: `PAKT_SEED=n cargo test … what_led_to_a_failure_is_told -- --nocapture`.
#[test]
fn what_led_to_a_failure_is_told() {
    let seed: u64 = std::env::var("PAKT_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let scenario = match std::env::var("PAKT_ROW") {
        Ok(row) => with_faults(&rows_of_faults()[row.parse::<usize>().expect("a row")]),
        Err(_) => weather(seed),
    };
    let options = Options { details: true, ..Options::default() };
    let first = run(&scenario, seed, &Options::default(), &mut ());
    let nodes = first.finding.as_ref().map(|finding| finding.nodes.clone()).unwrap_or_default();
    let mut tail = Tail { nodes, lines: Default::default() };
    let outcome = run(&scenario, seed, &options, &mut tail);
    assert_eq!(outcome.finding, first.finding, "details change nothing");
    tail.lines.iter().for_each(|line| println!("{line}"));
    println!("{:?} {:?}", outcome.verdict, outcome.finding);
    println!("{:#?}", outcome.faults);
}

#[test]
fn the_same_seed_gives_the_same_events() {
    let hash = |seed| run(&weather(seed), seed, &Options::default(), &mut ()).event_hash;
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}

/// People fall out, make up and part over slow lines, and nodes miss some of it.
fn quarrels() -> Scenario {
    use crate::scenario::{FaultName::*, Line, RandomFaults, Suite};
    let mut scenario = mesh_of(4, 24);
    scenario.name = "quarrels".into();
    scenario.suite = Suite::Model;
    scenario.traffic =
        vec![Traffic { recall_percent: 10.0, ..letters(12.0) }, Traffic { kind: Kind::Mr, ..letters(0.2) }];
    scenario.line = Line { rate_mbit: 2.0, delay: Duration::from_secs(4), loss_percent: 2.0 };
    scenario.terms.hold = hours(1);
    scenario.settle = Duration::from_secs(1_800);
    let kinds = vec![Suspend, Suspend, Suspend, Partition, Partition, End];
    let mean_between = Duration::from_secs(1_200);
    scenario.random_faults = Some(RandomFaults { kinds, mean_between, until: hours(24) });
    scenario
}

/// A node that learned of a suspension and its end at once dropped what it had accepted before, and its senders waited.
#[test]
fn p30_who_missed_a_suspension_and_its_end_leaves_nobody_waiting() {
    (0..12).for_each(|seed| drop(passes(&quarrels(), seed)));
}

/// A busy pair whose nodes die often, and whose people quarrel.
fn storm() -> Scenario {
    use crate::scenario::FaultName::*;
    let mut scenario = Scenario::new("storm", Topology::Pair {}, hours(8));
    scenario.traffic = vec![letters(12.0)];
    let kinds = vec![Crash, Crash, Crash, Partition, Suspend];
    let mean_between = Duration::from_secs(600);
    scenario.random_faults = Some(crate::scenario::RandomFaults { kinds, mean_between, until: hours(8) });
    scenario
}

#[test]
fn the_judge_finds_broken_nodes() {
    use super::Defect::*;
    let rows = [
        (AcknowledgeEarly, &["early"][..]),
        (SkipPersist, &["early"]),
        (SkipLeft, &["early"]),
        (IgnoreEnd, &["no-agreement"]),
        (ForgetRetry, &["unsettled", "no-report", "two-ends"]),
    ];
    for (defect, rules) in rows {
        let options = Options { defect: Some(defect), ..Options::default() };
        let found = (0..100).find_map(|seed| {
            let outcome = run(&storm(), seed, &options, &mut ());
            outcome.finding.filter(|finding| rules.contains(&finding.rule.as_str())).map(|finding| (seed, finding))
        });
        println!("{defect:?}: {found:?}");
        assert!(found.is_some(), "{defect:?} was not found");
    }
}

#[test]
fn a_failure_shrinks_to_what_it_takes() {
    let options = Options { defect: Some(super::Defect::SkipLeft), ..Options::default() };
    let seed = (0..100).find(|seed| run(&storm(), *seed, &options, &mut ()).verdict != Verdict::Pass);
    let seed = seed.expect("a defect that shows");
    let shrunk = super::shrink::shrink(&storm(), seed, &options).expect("it fails");
    println!("{shrunk:?}");
    assert!(shrunk.messages.1 == 1 && shrunk.faults.1 == 0, "{:?} {:?}", shrunk.faults, shrunk.messages);
    let text = shrunk.scenario.to_toml().expect("it can be written");
    let read = Scenario::parse(&text).expect("it can be read");
    let outcome = run(&read, seed, &options, &mut ());
    assert_eq!(outcome.finding.map(|finding| finding.rule), Some(shrunk.rule));
    assert_eq!(run(&read, seed, &Options::default(), &mut ()).verdict, Verdict::Pass, "the node without the defect");
}
