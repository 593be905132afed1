//! The messages of a run in order of time, drawn one by one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::time::Duration;
use std::vec::IntoIter;

use fastrand::Rng;

use super::{Message, Submission, Traffic};
use crate::scenario::topology::Link;
use crate::scenario::{Scenario, chance};

/// Recalls come within this time of the submission: somebody notices the wrong recipient soon, or not at all.
const RECALL_SECONDS_MAX: u64 = 30 * 60;

/// All submissions of a run, in order of time. It holds the next one of each stream and node, never more.
pub struct Submissions {
    until: Duration,
    traffic: Vec<Traffic>,
    counterparts: Counterparts,
    next: BinaryHeap<Reverse<Next>>,
    scripted: Peekable<IntoIter<Message>>,
    number: u64,
}

/// The next message of one stream at one node. Fields in the order that decides who is first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    at: Duration,
    node: usize,
    stream: usize,
    chance: u64,
}

impl Submissions {
    pub(in crate::scenario) fn new(scenario: &Scenario, links: &[Link], seed: u64) -> Self {
        let mut scripted = scenario.messages.clone();
        scripted.sort_by_key(|message| message.at);
        let mut submissions = Self {
            until: scenario.duration,
            traffic: scenario.traffic.clone(),
            counterparts: Counterparts::new(scenario.topology.nodes(), links),
            next: BinaryHeap::new(),
            scripted: scripted.into_iter().peekable(),
            number: 0,
        };
        for stream in 0..scenario.traffic.len() {
            for node in 0..scenario.topology.nodes() {
                let rng = chance(seed, "submissions", &[stream as u64, node as u64]);
                submissions.schedule(Duration::ZERO, node, stream, rng);
            }
        }
        submissions
    }

    /// Puts the next message of a stream after `at` into the heap, if it lies in time.
    fn schedule(&mut self, mut at: Duration, node: usize, stream: usize, mut rng: Rng) {
        let Traffic { per_node_and_hour, curve, .. } = self.traffic[stream];
        let peak = per_node_and_hour * curve.peak();
        if peak <= 0.0 || self.counterparts.of(node).is_empty() {
            return;
        }
        // A Poisson process at the rate of the busiest hour, thinned out to that of each hour.
        loop {
            let gap = exponential(&mut rng) * 3600.0 / peak;
            if gap >= self.until.saturating_sub(at).as_secs_f64() {
                return;
            }
            at += Duration::from_secs_f64(gap);
            if rng.f64() * curve.peak() < curve.at(at) {
                return self.next.push(Reverse(Next { at, node, stream, chance: rng.get_seed() }));
            }
        }
    }

    fn drawn(&mut self, next: Next) -> Submission {
        let Next { at, node, stream, chance } = next;
        let mut rng = Rng::with_seed(chance);
        let Traffic { kind, bytes, priority, recipients, recall_percent, .. } = self.traffic[stream];
        let to = self.counterparts.draw(node, recipients, &mut rng);
        let is_recalled = rng.f64() * 100.0 < recall_percent;
        let recall_after = is_recalled.then(|| Duration::from_secs(rng.u64(1..=RECALL_SECONDS_MAX)));
        self.schedule(at, node, stream, rng);
        Submission {
            at,
            from: node,
            to,
            kind,
            priority: priority.unwrap_or(kind.priority()),
            bytes: bytes.unwrap_or(kind.bytes()),
            files: kind.files(),
            recall_after,
            number: self.number,
        }
    }

    fn scripted(&self, message: Message) -> Submission {
        let Message { at, from, to, kind, priority, bytes, recall_after } = message;
        Submission {
            at,
            from,
            to,
            kind,
            priority: priority.unwrap_or(kind.priority()),
            bytes: bytes.unwrap_or(kind.bytes()),
            files: kind.files(),
            recall_after,
            number: self.number,
        }
    }
}

impl Iterator for Submissions {
    type Item = Submission;

    fn next(&mut self) -> Option<Submission> {
        let drawn_at = self.next.peek().map(|Reverse(next)| next.at);
        let scripted = self.scripted.next_if(|message| drawn_at.is_none_or(|at| message.at <= at));
        let submission = match scripted {
            Some(message) => self.scripted(message),
            None => {
                let Reverse(next) = self.next.pop()?;
                self.drawn(next)
            }
        };
        self.number += 1;
        Some(submission)
    }
}

/// With a mean of one, by comparisons alone (von Neumann, 1951): logarithms differ between machines in their last digit.
fn exponential(rng: &mut Rng) -> f64 {
    let mut whole = 0.0;
    loop {
        let first = rng.f64();
        let (mut last, mut is_odd) = (first, true);
        loop {
            let next = rng.f64();
            if next >= last {
                break;
            }
            (last, is_odd) = (next, !is_odd);
        }
        if is_odd {
            return whole + first;
        }
        whole += 1.0;
    }
}

/// Who each node has an agreement with: all lists in one.
struct Counterparts {
    starts: Vec<usize>,
    all: Vec<usize>,
}

impl Counterparts {
    fn new(nodes: usize, links: &[Link]) -> Self {
        let mut both: Vec<Link> = links.iter().flat_map(|(a, b)| [(*a, *b), (*b, *a)]).collect();
        both.sort_unstable();
        let starts = (0..=nodes).map(|node| both.partition_point(|(from, _)| *from < node)).collect();
        Self { starts, all: both.into_iter().map(|(_, to)| to).collect() }
    }

    fn of(&self, node: usize) -> &[usize] {
        &self.all[self.starts[node]..self.starts[node + 1]]
    }

    /// So many of them, in order; all where there are fewer.
    fn draw(&self, node: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
        let counterparts = self.of(node);
        if count == 1 {
            return vec![counterparts[rng.usize(..counterparts.len())]];
        }
        let mut drawn = rng.choose_multiple(counterparts.iter().copied(), count);
        drawn.sort_unstable();
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Curve, Kind, Priority, Topology};

    fn scenario(curve: Curve, per_node_and_hour: f64) -> Scenario {
        let mut scenario = Scenario::new("test", Topology::Star { nodes: 11 }, Duration::from_secs(14 * 24 * 3600));
        scenario.traffic = vec![Traffic { curve, ..Traffic::of(Kind::Letter, per_node_and_hour) }];
        scenario
    }

    fn submissions(scenario: &Scenario, seed: u64) -> Vec<Submission> {
        scenario.submissions(&scenario.topology.links(seed), seed).collect()
    }

    #[test]
    fn rates_are_those_of_the_scenario() {
        let check = |curve: Curve, rate: f64| {
            let expected = rate * 11.0 * 14.0 * 24.0;
            let found = submissions(&scenario(curve, rate), 3).len() as f64;
            // Five times the deviation of a Poisson process.
            assert!((found - expected).abs() <= 5.0 * expected.sqrt(), "{curve:?} {rate}: {found}, not {expected}");
        };
        for curve in [Curve::Flat, Curve::Office] {
            check(curve, 0.01);
            check(curve, 1.0);
            check(curve, 10.0);
            check(curve, 0.0);
        }
    }

    #[test]
    fn a_week_of_an_office_has_the_mean_of_a_flat_one_and_quiet_nights() {
        let hours = |curve: Curve| (0..168).map(move |hour| curve.at(Duration::from_secs(hour * 3600)));
        assert!((hours(Curve::Office).sum::<f64>() - 168.0).abs() < 1e-9);
        assert_eq!(hours(Curve::Office).fold(0.0, f64::max), Curve::Office.peak());
        let all = submissions(&scenario(Curve::Office, 10.0), 1);
        let within = |hours: std::ops::Range<u64>, days: std::ops::Range<u64>| {
            let hour = |at: Duration| at.as_secs() / 3600;
            let is_within = |at| hours.contains(&(hour(at) % 24)) && days.contains(&(hour(at) / 24 % 7));
            all.iter().filter(|submission| is_within(submission.at)).count()
        };
        let (morning, night, weekend) = (within(9..12, 0..5), within(0..3, 0..5), within(9..12, 5..7));
        assert!(morning > 10 * night, "{morning} in the mornings, {night} in the nights");
        assert!(morning > 8 * weekend, "{morning} on working days, {weekend} on week-ends");
    }

    #[test]
    fn submissions_are_in_order_numbered_to_counterparts_and_the_same_again() {
        let mut scenario = scenario(Curve::Office, 5.0);
        scenario.traffic.push(Traffic { recipients: 3, recall_percent: 50.0, ..Traffic::of(Kind::LabResult, 1.0) });
        let all = submissions(&scenario, 9);
        assert!(all.is_sorted_by_key(|submission| submission.at));
        assert!(all.iter().enumerate().all(|(index, submission)| submission.number == index as u64));
        assert_eq!(all, submissions(&scenario, 9));
        assert_ne!(all, submissions(&scenario, 10));
        // Node 0 is the middle of the star: it knows ten, the others one.
        let results: Vec<_> = all.iter().filter(|submission| submission.kind == Kind::LabResult).collect();
        for submission in &results {
            assert_eq!(submission.to.len(), if submission.from == 0 { 3 } else { 1 });
            assert!(submission.to.is_sorted_by(|a, b| a < b) && !submission.to.contains(&submission.from));
            assert_eq!(submission.priority, Priority::Urgent);
        }
        let recalled = results.iter().filter(|submission| submission.recall_after.is_some()).count() as f64;
        assert!((recalled / results.len() as f64 - 0.5).abs() < 0.05);
    }

    #[test]
    fn a_stream_taken_out_changes_no_other() {
        let mut both = scenario(Curve::Flat, 1.0);
        both.traffic.push(Traffic::of(Kind::LabResult, 1.0));
        let letters = |scenario: &Scenario| {
            let all = submissions(scenario, 4).into_iter();
            all.filter(|submission| submission.kind == Kind::Letter).map(|one| (one.at, one.from, one.to)).collect()
        };
        let with: Vec<_> = letters(&both);
        both.traffic.pop();
        assert_eq!(with, letters(&both));
    }

    #[test]
    fn what_is_scripted_stands_between_what_is_drawn() {
        let mut mixed = scenario(Curve::Flat, 1.0);
        let drawn = submissions(&mixed, 4);
        mixed.messages = drawn.iter().take(50).map(Message::from).rev().collect();
        let all = submissions(&mixed, 4);
        assert_eq!(all.len(), drawn.len() + 50);
        assert!(all.is_sorted_by_key(|submission| submission.at));
        mixed.traffic.clear();
        assert_eq!(submissions(&mixed, 4), drawn[..50]);
    }

    #[test]
    fn the_exponential_has_its_mean_and_its_tail() {
        let mut rng = Rng::with_seed(1);
        let drawn: Vec<f64> = (0..100_000).map(|_| exponential(&mut rng)).collect();
        let above = |limit: f64| drawn.iter().filter(|value| **value > limit).count() as f64 / 100_000.0;
        assert!((drawn.iter().sum::<f64>() / 100_000.0 - 1.0).abs() < 0.02);
        for limit in [0.5, 1.0, 3.0_f64] {
            assert!((above(limit) - (-limit).exp()).abs() < 0.005, "above {limit}: {}", above(limit));
        }
    }
}
