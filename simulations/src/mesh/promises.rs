//! Promises of the node in virtual time: each with what it is made against, over several seeds, and never for want of traffic.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{Options, run};
use crate::outcome::{Counts, Event, Record, Verdict, Watch, What};
use crate::scenario::{Fault, FaultKind, HostileKind, Kind, Scenario, Topology, Traffic};

const SEEDS: std::ops::Range<u64> = 0..3;
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// A record of one submission for one recipient: where, when, what.
type Line = (usize, Duration, Record);

/// What became of each submission, for each recipient.
#[derive(Default)]
struct Story(BTreeMap<(u64, usize, usize), Vec<Line>>);

impl Watch for Story {
    fn event(&mut self, event: &Event) {
        if let What::Record { submission, from, to, record } = &event.what {
            self.0.entry((*submission, *from, *to)).or_default().push((event.node, event.at, record.clone()));
        }
    }

    fn progress(&mut self, _: Duration) {}
}

impl Story {
    /// When somebody wrote down such a record about what one of two nodes sends to the other.
    fn between(&self, a: usize, b: usize, wanted: impl Fn(&Record) -> bool) -> Vec<(usize, Duration)> {
        let ours = self.0.iter().filter(|((_, from, to), _)| (*from, *to) == (a, b) || (*from, *to) == (b, a));
        let lines = ours.flat_map(|(_, lines)| lines).filter(|(_, _, record)| wanted(record));
        lines.map(|(node, at, _)| (*node, *at)).collect()
    }

    /// How often each recipient's node has taken what was sent to it.
    fn deliveries(&self) -> impl Iterator<Item = usize> {
        let at_recipient =
            |to: usize, lines: &[Line]| lines.iter().filter(|line| line.0 == to && line.2 == Record::Delivered).count();
        self.0.iter().map(move |((_, _, to), lines)| at_recipient(*to, lines))
    }
}

/// Three nodes that all know each other, for half a day.
fn three(faults: &[(Duration, Option<Duration>, FaultKind)]) -> Scenario {
    let topology = Topology::Links { nodes: 3, links: vec![(0, 1), (0, 2), (1, 2)] };
    let mut scenario = Scenario::new("promise", topology, 12 * HOUR);
    let traffic = |kind, per_node_and_hour| Traffic {
        kind,
        per_node_and_hour,
        curve: Default::default(),
        bytes: None,
        priority: None,
        recipients: 1,
        recall_percent: 0.0,
    };
    scenario.traffic = vec![traffic(Kind::Letter, 6.0), traffic(Kind::Mr, 2.0)];
    scenario.faults =
        faults.iter().map(|(at, for_, what)| Fault { at: *at, for_: *for_, what: what.clone() }).collect();
    scenario
}

/// Runs it with every seed; the judge must find nothing.
fn told(scenario: &Scenario, check: impl Fn(u64, Counts, &Story)) {
    for seed in SEEDS {
        let mut story = Story::default();
        let outcome = run(scenario, seed, &Options::default(), &mut story);
        assert_eq!(outcome.verdict, Verdict::Pass, "seed {seed}: {:?}", outcome.finding);
        assert!(outcome.messages.submitted > 100, "seed {seed}: hardly anything was sent");
        check(seed, outcome.messages, &story);
    }
}

#[test]
fn p5_neither_a_replay_nor_a_restored_backup_brings_an_ended_agreement_back() {
    let end = 4 * HOUR;
    let scenario = three(&[
        (end - 10 * MINUTE, Some(30 * MINUTE), FaultKind::Hostile { node: 2, kind: HostileKind::Replay }),
        (6 * HOUR, Some(30 * MINUTE), FaultKind::Hostile { node: 2, kind: HostileKind::Replay }),
        (end, None, FaultKind::End { a: 0, b: 1 }),
        (6 * HOUR, Some(5 * MINUTE), FaultKind::Restore { node: 1, backup_age: 5 * HOUR }),
    ]);
    told(&scenario, |seed, _, story| {
        let delivered = story.between(0, 1, |record| *record == Record::Delivered);
        assert!(delivered.iter().any(|(_, at)| *at < end), "seed {seed}: they had talked");
        let late = delivered.iter().find(|(_, at)| *at > end + MINUTE);
        assert_eq!(late, None, "seed {seed}");
    });
}

#[test]
fn p6_an_end_bites_at_once_with_studies_under_way() {
    let stopped = Cell::new(0);
    for minutes in [0, 7, 31] {
        let end = 4 * HOUR + minutes * MINUTE;
        let mut scenario = three(&[(end, None, FaultKind::End { a: 0, b: 1 })]);
        // A study takes minutes, so that some are always under way.
        scenario.line.rate_mbit = 2.0;
        told(&scenario, |seed, counts, story| {
            let delivered = story.between(0, 1, |record| *record == Record::Delivered);
            // What had been signed before is still told.
            let late = delivered.iter().filter(|(_, at)| *at > end + Duration::from_secs(5));
            assert!(late.count() <= 2, "seed {seed}");
            stopped.set(stopped.get() + counts.refused);
        });
    }
    assert!(stopped.get() > 0, "what is under way stops, and its sender is told");
}

#[test]
fn p27_wrong_clocks_lose_nothing_and_expire_nothing_early() {
    let day = 86_400;
    let scenario = three(&[
        (HOUR, None, FaultKind::ClockStep { node: 1, seconds: 26 * 3_600 }),
        (2 * HOUR, Some(HOUR), FaultKind::Partition { a: 0, b: 1, one_way: false }),
        (5 * HOUR, None, FaultKind::ClockStep { node: 0, seconds: 30 * day }),
        (6 * HOUR, Some(MINUTE), FaultKind::Crash { node: 0, lose_unsynced: true, torn: false, at_persist: None }),
        (8 * HOUR, None, FaultKind::ClockStep { node: 0, seconds: -30 * day }),
    ]);
    told(&scenario, |seed, counts, _| {
        assert_eq!((counts.expired, counts.delivered), (0, counts.submitted), "seed {seed}: {counts:?}");
    });
}

#[test]
fn p28_what_comes_twice_late_or_without_its_receipt_is_delivered_once() {
    let bad = |a, b| FaultKind::Line {
        a,
        b,
        loss_percent: 10.0,
        delay: Duration::from_millis(100),
        reorder_percent: 20.0,
        duplicate_percent: 20.0,
    };
    // A node that dies has received what it has not acknowledged, and the other way round.
    let dies = FaultKind::Crash { node: 1, lose_unsynced: false, torn: false, at_persist: None };
    let mut faults = vec![(HOUR, Some(6 * HOUR), bad(0, 1)), (HOUR, Some(6 * HOUR), bad(1, 2))];
    faults.extend((1..12).map(|n| (HOUR + n * 30 * MINUTE, Some(MINUTE / 2), dies.clone())));
    let scenario = three(&faults);
    told(&scenario, |seed, counts, story| {
        assert_eq!(counts.delivered, counts.submitted, "seed {seed}: {counts:?}");
        assert!(story.deliveries().all(|times| times == 1), "seed {seed}");
    });
}

#[test]
fn p30_around_the_hold_time_everything_ends_once_and_its_sender_knows() {
    for minutes in [55, 60, 65] {
        let away = FaultKind::Isolate { node: 1 };
        let mut scenario = three(&[(2 * HOUR, Some(minutes * MINUTE), away.clone()), (7 * HOUR, Some(HOUR), away)]);
        scenario.terms.hold = HOUR;
        told(&scenario, |seed, counts, story| {
            let ended = counts.delivered + counts.refused + counts.expired + counts.recalled + counts.unconfirmed;
            assert_eq!(ended, counts.submitted, "seed {seed}: {counts:?}");
            assert!(counts.reports >= counts.expired, "seed {seed}: {counts:?}");
            assert!(story.deliveries().all(|times| times <= 1), "seed {seed}");
        });
    }
}

#[test]
fn p32_crashes_at_any_commit_with_lost_and_torn_writes_lose_nothing() {
    let crash = |at: u32| {
        let what = FaultKind::Crash {
            node: at as usize % 3,
            lose_unsynced: true,
            torn: at.is_multiple_of(2),
            at_persist: Some(at.into()),
        };
        (at * 20 * MINUTE, Some(MINUTE), what)
    };
    let crashes: Vec<_> = (1..30).map(crash).collect();
    // A message that was lost before its receipt was signed comes again: what was acknowledged, the judge knows.
    told(&three(&crashes), |seed, counts, _| {
        assert_eq!(counts.delivered, counts.submitted, "seed {seed}: {counts:?}");
    });
}
