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

use std::time::{Duration, Instant};

use pakt_protocol::defect::Defect;
use pakt_simulations::mesh::{Options, run};
use pakt_simulations::outcome::{Outcome, Verdict};
use pakt_simulations::scenario::{
    self,
    Fault, FaultKind, FaultName, Kind, RandomFaults, Scenario, Suite, Topology, Traffic,
};

/// A defect that no seed below this shows is not found.
const SEEDS: u64 = 200;
/// What is looked for where nobody says otherwise: one of each sort, a few seconds together.
const FEW: [Defect; 5] =
    [Defect::SkipPersistLeft, Defect::SkipDuplicateCheck, Defect::IgnoreSuspension, Defect::AcceptEarly, Defect::ForgetRequeue];

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
    scenario.traffic = vec![Traffic { recall_percent: 10.0, ..Traffic::of(Kind::Letter, 4.0) }, Traffic::of(Kind::Mr, 0.2)];
    scenario
}

fn befalls(scenario: &mut Scenario, kinds: &[FaultName], mean_between: Duration) {
    scenario.random_faults = Some(RandomFaults { kinds: kinds.to_vec(), mean_between, until: scenario.duration });
}

/// A day without faults.
fn calm(_seed: u64) -> Scenario {
    mesh("calm", 3, hours(26))
}

/// Everything that befalls lines, disks, clocks and nodes.
fn weather(seed: u64) -> Scenario {
    use FaultName::*;
    let mut scenario = mesh("weather", 3 + (seed % 3) as usize, hours(48));
    befalls(&mut scenario, &[Line, Partition, Isolate, Clog, Crash, DiskFull, ClockSkew, RotateKeys], minutes(40));
    scenario
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

/// Nodes come back from backups.
fn backups(seed: u64) -> Scenario {
    use FaultName::*;
    let mut scenario = mesh("backups", 3 + (seed % 2) as usize, hours(36));
    scenario.traffic[0].recall_percent = 40.0;
    befalls(&mut scenario, &[Restore, Crash, Partition], hours(3));
    scenario
}

type Ground = fn(u64) -> Scenario;
const GROUNDS: [Ground; 5] = [calm, weather, slow, quarrels, backups];

fn outcome(ground: Ground, seed: u64) -> Outcome {
    run(&ground(seed), seed, &Options::default(), &mut ())
}

#[test]
#[ignore]
fn explore() {
    let names = std::env::var("X").unwrap_or_default();
    let grounds: Vec<usize> = std::env::var("G").map_or((0..5).collect(), |t| t.split(',').map(|g| g.parse().unwrap()).collect());
    let seeds: u64 = std::env::var("N").map_or(10, |n| n.parse().unwrap());
    let defects: Vec<Option<Defect>> = if names == "none" { vec![None] } else if names.is_empty() { std::iter::once(None).chain(Defect::ALL.iter().copied().map(Some)).collect() } else { names.split(',').map(|n| Some(Defect::named(n).unwrap())).collect() };
    for defect in defects {
        let _on = defect.map(Defect::switch_on);
        let mut line = format!("{:24}", defect.map_or("-", Defect::name));
        for &g in &grounds {
            let started = Instant::now();
            let found = (0..seeds).map(|seed| (seed, outcome(GROUNDS[g], seed))).filter(|(_, o)| o.verdict != Verdict::Pass).find(|_| defect.is_some() || { true });
            match found {
                Some((seed, o)) => { let f = o.finding.unwrap(); line += &format!(" | {g}:{seed} {} {:?}", f.rule, started.elapsed()); if defect.is_none() || std::env::var("V").is_ok() { line += &format!(" {f:?}"); } }
                None => line += &format!(" | {g}: no {:?}", started.elapsed()),
            }
        }
        println!("{line}");
    }
}
