//! The judge judged: for every seeded defect of the machines, the first seed with which it is found.
//!
//! ```text
//! cargo test -p pakt-simulations --features defects --test defects -- --nocapture                     five of them
//! PAKT_DEFECTS=all cargo test -p pakt-simulations --features defects --test defects -- --nocapture    every one
//! PAKT_DEFECTS=swap-tier,no-report …                                                                  these
//! ```
//!
//! **Invariant:** the same scenario and seed pass when no defect is on: what is found is the defect and nothing else.
#![cfg(feature = "defects")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pakt_protocol::defect::Defect;
use pakt_simulations::mesh::{Options, run};
use pakt_simulations::outcome::{Outcome, Verdict};
use pakt_simulations::scenario::{
    self, Fault, FaultKind, FaultName, Kind, RandomFaults, Scenario, Suite, Topology, Traffic,
};

/// A defect that no seed below this shows is not found.
const SEEDS: u64 = 200;
/// What is looked for where nobody says otherwise: one of each sort, a few seconds together.
const FEW: [Defect; 5] = [
    Defect::SkipPersistLeft,
    Defect::SkipDuplicateCheck,
    Defect::IgnoreSuspension,
    Defect::AcceptEarly,
    Defect::ForgetRequeue,
];

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// A small mesh in which something happens all the time.
fn mesh(name: &str, nodes: usize, lasts: Duration) -> Scenario {
    let links = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).collect();
    let mut scenario = Scenario::new(name, Topology::Links { nodes, links }, lasts);
    scenario.suite = Suite::Model;
    scenario.traffic =
        vec![Traffic { recall_percent: 10.0, ..Traffic::of(Kind::Letter, 4.0) }, Traffic::of(Kind::Mr, 0.2)];
    scenario
}

fn befalls(scenario: &mut Scenario, kinds: &[FaultName], mean_between: Duration) {
    scenario.random_faults = Some(RandomFaults { kinds: kinds.to_vec(), mean_between, until: scenario.duration });
}

/// A day without faults.
fn calm(_seed: u64) -> Scenario {
    mesh("calm", 3, hours(26))
}

/// Lines so slow that nodes and lanes die between a question and its answer; what is not there within the hour is late.
fn slow(seed: u64) -> Scenario {
    use FaultName::*;
    let mut scenario = mesh("slow", 3 + (seed % 2) as usize, hours(24));
    scenario.line = scenario::Line { rate_mbit: 2.0, delay: Duration::from_secs(8), loss_percent: 2.0 };
    scenario.terms.hold = minutes(60);
    scenario.settle = minutes(60);
    scenario.traffic[0].per_node_and_hour = 12.0;
    befalls(&mut scenario, &[Partition, Partition, Isolate, Crash, Line], minutes(10));
    scenario
}

/// People fall out, make up and part.
fn quarrels(seed: u64) -> Scenario {
    use FaultName::*;
    let mut scenario = slow(seed);
    scenario.name = "quarrels".to_owned();
    scenario.line.delay = Duration::from_secs(4);
    befalls(&mut scenario, &[Suspend, Suspend, Suspend, Partition, Partition, End], minutes(20));
    let expires = Fault { at: hours(12), for_: None, what: FaultKind::Expire { a: 0, b: 1 } };
    scenario.faults = vec![expires];
    scenario
}

/// Partners part while letters are on lines as slow as those of a ship.
fn partings(_seed: u64) -> Scenario {
    let mut scenario = slow(0);
    scenario.name = "partings".to_owned();
    scenario.duration = hours(6);
    // What nobody gives back must not have expired by then.
    scenario.settle = minutes(30);
    scenario.line.delay = Duration::from_secs(20);
    scenario.traffic = vec![Traffic::of(Kind::Letter, 60.0)];
    befalls(&mut scenario, &[FaultName::End], hours(1));
    scenario
}

/// Nodes come back from backups.
fn backups(seed: u64) -> Scenario {
    use FaultName::*;
    let mut scenario = mesh("backups", 3 + (seed % 2) as usize, hours(36));
    scenario.traffic[0].recall_percent = 40.0;
    befalls(&mut scenario, &[Restore, Crash, Partition], hours(3));
    scenario
}

type Ground = fn(u64) -> Scenario;

/// Where a defect does harm.
fn ground_of(defect: Defect) -> Ground {
    use Defect::*;
    match defect {
        AcceptEarly | SkipPersistOffer | CommitIncomplete | SkipPersistLeft | SwapTier | ConfirmUnkept => calm,
        RecallUnasked | DenyWhatCame => calm,
        GiveUpOnBusy | ForgetAtEnd | NeverDialForReceipts | DeafAfterEnd => quarrels,
        IgnoreSuspension | IgnoreExpiry | AcceptSuspended => quarrels,
        StopAfterLeft | IgnoreEnd => partings,
        ExpireEarly | ShowNoPurges => backups,
        _ => slow,
    }
}

fn outcome(ground: Ground, seed: u64) -> Outcome {
    run(&ground(seed), seed, &Options::default(), &mut ())
}

/// The first seed with which the judge finds it.
fn hunt(defect: Defect) -> Option<Outcome> {
    let _switched = defect.switch_on();
    (0..SEEDS).map(|seed| outcome(ground_of(defect), seed)).find(|outcome| outcome.verdict != Verdict::Pass)
}

/// What the command line asks for.
fn wanted() -> Vec<Defect> {
    match std::env::var("PAKT_DEFECTS").as_deref() {
        Ok("all") => Defect::ALL.to_vec(),
        Ok(names) => names.split(',').map(|name| Defect::named(name).expect(name)).collect(),
        Err(_) => FEW.to_vec(),
    }
}

#[test]
fn every_seeded_defect_is_found_and_nothing_else_is() {
    let (mut missed, mut honest) = (Vec::new(), BTreeSet::new());
    println!("{:24} {:9} {:>4}  {:7} {:14} {:>7}", "defect", "scenario", "seed", "verdict", "rule", "after");
    for defect in wanted() {
        let started = Instant::now();
        let found = hunt(defect);
        let after = started.elapsed().as_secs_f64();
        let Some(Outcome { scenario, seed, verdict, finding: Some(finding), .. }) = found else {
            println!("{:24} not found in {SEEDS} seeds, {after:.1} s", defect.name());
            missed.push(defect.name());
            continue;
        };
        let verdict = format!("{verdict:?}");
        println!("{:24} {scenario:9} {seed:>4}  {verdict:7} {:14} {after:>5.1} s", defect.name(), finding.rule);
        for seed in 0..=seed {
            if honest.insert((scenario.clone(), seed)) {
                let outcome = outcome(ground_of(defect), seed);
                assert_eq!(outcome.verdict, Verdict::Pass, "{scenario} {seed} without a defect: {:?}", outcome.finding);
            }
        }
    }
    println!("{} runs without a defect pass", honest.len());
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {}", missed.join(", "));
}
