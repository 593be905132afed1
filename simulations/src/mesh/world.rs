//! The whole mesh: builds it from a scenario, lets time pass, and says what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use pakt_protocol::record::envelope::Priority;

use super::clock::{EPOCH, Micros, SECOND, chance, micros};
use super::disk::{Key, Slot, Value};
use super::event::{Due, Plans};
use super::judge::Judge;
use super::network::{Flight, Network, Side};
use super::node::{A_YEAR, Introduction, Node};
use super::suite::Suite;
use super::trace::Trace;
use super::{Options, Shared, faults, is_full};
use crate::outcome::{
    Engine, FRAMES_MAX, FRAMES_NODES_MAX, Frame, LinkState, LinkUse, Outcome, Percentiles, SAMPLES_MAX, Sample,
    Verdict, Watch,
};
use crate::scenario::{Fault, FaultKind, Scenario, Submission, Submissions};

/// While content is on its way beyond the time to settle, it is waited for so long at most.
const CONTENT_MAX: Duration = Duration::from_secs(48 * 3_600);
/// Steps between two reports of progress.
const PROGRESS_EVERY: u64 = 50_000;
/// When the nodes start: within so long.
const STARTS: Micros = SECOND;

/// A mesh in which time passes.
pub(crate) struct World {
    scenario: Scenario,
    seed: u64,
    pub(super) shared: Shared,
    pub(super) nodes: Vec<Node>,
    pub(super) faults: Vec<Fault>,
    submissions: Submissions,
    next: Option<Submission>,
    pub(super) backups: BTreeMap<usize, (BTreeMap<Key, Value>, Micros)>,
    samples: Vec<Sample>,
    frames: Vec<Frame>,
    sample_every: Micros,
    /// When the last fault is over and the last message is submitted.
    quiet_from: Micros,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64, options: &Options) -> World {
        let links = scenario.topology.links(seed);
        let nodes = scenario.topology.nodes();
        let faults = faults::all(scenario, &links, seed);
        let shared = Shared {
            plans: Plans::default(),
            network: Network::new(nodes, scenario.line, chance(seed, "network")),
            judge: Judge::new(nodes, scenario.terms.hold),
            suite: Suite::new(seed, is_full(scenario)),
            trace: Trace::new(options.details),
            chance: chance(seed, "people"),
            terms: scenario.terms,
            ill: Default::default(),
            dying: Vec::new(),
            #[cfg(test)]
            defect: options.defect,
        };
        let quiet_from = faults.iter().map(|fault| micros(fault.at + fault.for_.unwrap_or_default())).max();
        let mut world = World {
            scenario: scenario.clone(),
            seed,
            nodes: Vec::with_capacity(nodes),
            faults,
            submissions: scenario.submissions(&links, seed),
            next: None,
            backups: BTreeMap::new(),
            samples: Vec::new(),
            frames: Vec::new(),
            sample_every: (micros(scenario.duration) / (SAMPLES_MAX as u64 - 60)).max(SECOND),
            quiet_from: quiet_from.unwrap_or(0).max(micros(scenario.duration)),
            shared,
        };
        world.build(&links);
        world
    }

    fn build(&mut self, links: &[(usize, usize)]) {
        for index in 0..self.scenario.topology.nodes() {
            let identity = self.shared.suite.identity(index);
            let disk_chance = chance(self.seed, &format!("disk {index}"));
            self.nodes.push(Node::new(index, identity, disk_chance));
        }
        for &(a, b) in links {
            let expires = self.faults.iter().find(|fault| {
                let FaultKind::Expire { a: one, b: other } = fault.what else { return false };
                [(a, b), (b, a)].contains(&(one, other))
            });
            let until = expires.map(|fault| fault.at);
            let slots = [a, b].map(|node| self.nodes[node].peers.len() as Slot);
            let link = self.shared.network.add_link([a, b], slots);
            self.shared.judge.agreed(a, b, until.map(micros));
            let valid_until = EPOCH + until.unwrap_or(A_YEAR);
            for (side, (node, other)) in [(a, b), (b, a)].into_iter().enumerate() {
                let introduction = Introduction { slot: slots[side], link, side, other, valid_until };
                let (node, other) = two(&mut self.nodes, node, other);
                node.introduce(&introduction, &other.home.identity, &mut self.shared);
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].home.disk.keep_unsynced(0);
            self.nodes[node].home.running = false;
            let at = self.shared.chance.u64(0..STARTS);
            self.shared.plans.plan(at, Due::Start { node, fault: usize::MAX });
        }
        for fault in 0..self.faults.len() {
            faults::plan(self, fault);
        }
        self.next_submission();
        self.shared.plans.plan(self.sample_every, Due::Sample);
    }

    fn next_submission(&mut self) {
        self.next = self.submissions.next();
        if let Some(submission) = &self.next {
            self.shared.plans.plan(micros(submission.at), Due::Submit);
        }
    }

    /// Lets time pass until everything is settled or a rule is broken.
    pub(crate) fn run(mut self, watch: &mut dyn Watch) -> Outcome {
        let mut ends_at = self.quiet_from + micros(self.scenario.settle);
        let latest = ends_at + micros(CONTENT_MAX);
        loop {
            while self.shared.judge.finding.is_none() && self.shared.plans.next_at().is_some_and(|at| at <= ends_at) {
                self.step();
                self.look_on(watch);
            }
            let is_busy = self.shared.network.carries_content() && ends_at < latest;
            if self.shared.judge.finding.is_some() || !is_busy {
                break;
            }
            ends_at += micros(self.scenario.settle);
        }
        let now = ends_at.min(self.shared.plans.now().max(self.quiet_from));
        let verdict = if self.shared.judge.finding.is_some() { Verdict::Wrong } else { self.settle(ends_at) };
        self.look_on(watch);
        self.outcome(verdict, now)
    }

    fn look_on(&mut self, watch: &mut dyn Watch) {
        for (_, node, envelope, record) in std::mem::take(&mut self.shared.judge.records) {
            let from = self.shared.judge.sender_of(&envelope).unwrap_or(node);
            self.shared.trace.record(node, from, &envelope, record);
        }
        for event in self.shared.trace.events.drain(..) {
            watch.event(&event);
        }
        if self.shared.trace.steps.is_multiple_of(PROGRESS_EVERY) {
            watch.progress(Duration::from_micros(self.shared.plans.now()));
        }
    }

    fn step(&mut self) {
        let Some(due) = self.shared.plans.pop() else { return };
        self.shared.trace.step(self.shared.plans.now());
        match due {
            Due::Wake { node, slot, at } => self.at(node, slot, |actor| actor.wake(at)),
            Due::Arrive(flight) => self.arrive(*flight),
            Due::Knock { link, from, incarnation } => self.knock(link, from, incarnation),
            Due::DialFailed { link, from, incarnation } => {
                if let Some((node, slot)) = self.end_of(link, from, Some(incarnation)) {
                    self.at(node, slot, |actor| actor.handle_dial_failed());
                }
            }
            Due::LaneUp { link, lane, side, dialer } => self.lane_up((link, lane), side, dialer),
            Due::LaneGone { link, lane, side } => match self.end_of(link, side, None) {
                Some((node, slot)) => self.at(node, slot, |actor| actor.handle_lane_gone(lane)),
                None => self.shared.network.end(link, lane, side, self.shared.plans.now()),
            },
            Due::Batch { flow } => self.batch(flow),
            Due::Submit => self.submit(),
            Due::Deed { node, incarnation, deed } => {
                if self.is_up(node, incarnation) {
                    self.nodes[node].act(deed, &mut self.shared);
                }
            }
            Due::Confirm { node, incarnation } => {
                if self.is_up(node, incarnation) {
                    self.shared.judge.confirmed(node);
                    for slot in 0..self.nodes[node].peers.len() {
                        self.at(node, slot as Slot, |actor| actor.confirm());
                    }
                    let at = self.shared.plans.now() + super::node::ALARM_SEEN;
                    self.shared.plans.plan(at, Due::LookAtSuspensions { node });
                    // A full disk takes no confirmation: the operator comes again.
                    if self.nodes[node].peers.iter().any(|peer| peer.agreement.row.unconfirmed) {
                        self.shared.plans.plan(at, Due::Confirm { node, incarnation });
                    }
                }
            }
            Due::Daily { node, incarnation } => {
                if self.is_up(node, incarnation) {
                    self.nodes[node].roll_epoch(false, &mut self.shared);
                    let at = self.shared.plans.now() + 86_400 * SECOND;
                    self.shared.plans.plan(at, Due::Daily { node, incarnation });
                }
            }
            Due::Sample => self.sample(),
            due => faults::happen(self, due),
        }
        self.after_step();
    }

    /// What a step has left behind: lanes that may have fallen silent, nodes that died within a commit.
    fn after_step(&mut self) {
        for link in std::mem::take(&mut self.shared.ill) {
            self.fall_ill(link);
        }
        faults::bury(self);
    }

    fn fall_ill(&mut self, link: u32) {
        for side in 0..2 {
            if let Some((node, slot)) = self.end_of(link, side, None) {
                let heard_ago = self.shared.chance.u64(0..15 * SECOND);
                self.at(node, slot, |actor| actor.fall_ill(heard_ago));
            }
        }
    }

    pub(super) fn is_up(&self, node: usize, incarnation: u32) -> bool {
        self.nodes[node].home.running && self.nodes[node].home.incarnation == incarnation
    }

    /// Something happens at a node for one counterpart.
    pub(super) fn at(&mut self, node: usize, slot: Slot, act: impl FnOnce(&mut super::node::Actor)) {
        if self.nodes[node].home.running {
            self.nodes[node].with(slot, &mut self.shared, act);
        }
    }

    /// The node at one end of a link, and the place of the other end there; none if it does not run, or not any more.
    fn end_of(&self, link: u32, side: Side, incarnation: Option<u32>) -> Option<(usize, Slot)> {
        let link = &self.shared.network.links[link as usize];
        let (node, slot) = (link.nodes[side], link.slots[side]);
        let home = &self.nodes[node].home;
        (home.running && incarnation.is_none_or(|only| home.incarnation == only)).then_some((node, slot))
    }

    fn arrive(&mut self, flight: Flight) {
        if !self.shared.network.is_heard(&flight) {
            return;
        }
        let Some((node, slot)) = self.end_of(flight.link, 1 - flight.from, None) else { return };
        self.at(node, slot, |actor| actor.handle_frame(flight.lane, flight.message));
    }

    fn knock(&mut self, link: u32, from: Side, incarnation: u32) {
        if self.end_of(link, from, Some(incarnation)).is_none() {
            return;
        }
        let (node, slot) = {
            let link = &self.shared.network.links[link as usize];
            (link.nodes[1 - from], link.slots[1 - from])
        };
        let home = &self.nodes[node].home;
        let service = home.clock.service(self.shared.plans.now());
        let is_open = self.nodes[node].peers[slot as usize].agreement.view().door_open(service);
        let (running, is_dark) = (home.running, home.is_dark);
        let Shared { network, plans, .. } = &mut self.shared;
        match running && is_open {
            true => network.open(link, from, incarnation, plans),
            false => network.refuse(link, from, incarnation, running || is_dark, plans),
        }
    }

    fn lane_up(&mut self, (link, lane): (u32, u32), side: Side, dialer: Side) {
        let now = self.shared.plans.now();
        if !self.shared.network.is_open(link, lane, side) {
            // The other end has thought better of it, or this one died meanwhile.
            return;
        }
        let Some((node, slot)) = self.end_of(link, side, None) else {
            return self.shared.network.close((link, lane, side), now, &mut self.shared.plans);
        };
        let other = self.shared.network.links[link as usize].nodes[1 - side];
        let shown = self.nodes[other].home.identity.certified.clone();
        self.at(node, slot, |actor| actor.take_control(lane, side == dialer, &shown));
    }

    fn batch(&mut self, flow: u64) {
        let Some(batch) = self.shared.network.take_batch(flow, &mut self.shared.plans) else { return };
        if let Some((node, slot)) = self.end_of(batch.link, batch.to, None) {
            self.at(node, slot, |actor| actor.handle_batch(batch.lane, batch.envelope, batch.ids));
        }
    }

    fn submit(&mut self) {
        let Some(submission) = self.next.take() else { return };
        if self.nodes[submission.from].home.running {
            self.nodes[submission.from].submit(&submission, &mut self.shared);
        }
        self.next_submission();
    }

    // ------------------------------------------------------------------------------------------------------- measuring

    fn sample(&mut self) {
        let now = self.shared.plans.now();
        let (in_flight, oldest) = self.shared.judge.in_flight();
        let counts = &self.shared.judge.counts;
        self.samples.push(Sample {
            at: Duration::from_micros(now),
            in_flight,
            queue_age_max: Duration::from_micros(oldest.map_or(0, |oldest| now.saturating_sub(oldest))),
            online_links: self.shared.trace.online / 2,
            delivered: counts.delivered,
            expired: counts.expired,
            memory_bytes: memory_bytes(),
        });
        let every = (SAMPLES_MAX / FRAMES_MAX).max(1);
        if self.nodes.len() <= FRAMES_NODES_MAX && self.samples.len().is_multiple_of(every) {
            let links = (0..self.shared.network.links.len()).map(|link| self.link_state(link, now) as u8);
            self.frames.push(Frame { at: Duration::from_micros(now), link_states: links.collect() });
        }
        let room = self.samples.len() < SAMPLES_MAX;
        if room && now < self.quiet_from + micros(self.scenario.settle) {
            self.shared.plans.plan(now + self.sample_every, Due::Sample);
        }
    }

    fn link_state(&self, link: usize, now: Micros) -> LinkState {
        let link = &self.shared.network.links[link];
        let [a, b] = link.nodes;
        let ends = [(a, link.slots[0]), (b, link.slots[1])].map(|(node, slot)| &self.nodes[node].peers[slot as usize]);
        let is_online = ends.iter().all(|peer| peer.live.is_some());
        let is_busy = ends.iter().any(|peer| peer.is_busy());
        if self.shared.judge.is_over(a, b, now) {
            LinkState::Ended
        } else if self.shared.judge.is_suspended(a, b) {
            LinkState::Suspended
        } else {
            match (is_online, is_busy) {
                (true, true) => LinkState::Busy,
                (true, false) => LinkState::Online,
                (false, true) => LinkState::Waiting,
                (false, false) => LinkState::Offline,
            }
        }
    }

    /// What the judge says at the end.
    fn settle(&mut self, now: Micros) -> Verdict {
        let cut: std::collections::BTreeSet<(usize, usize)> = {
            let links = self.shared.network.links.iter().enumerate();
            let is_cut = |link: usize| self.shared.network.is_blocked(link as u32);
            links.filter(|(link, _)| is_cut(*link)).map(|(_, link)| (link.nodes[0], link.nodes[1])).collect()
        };
        let down: Vec<bool> = self.nodes.iter().map(|node| !node.home.running || node.home.disk.full).collect();
        let links = self.shared.network.links.iter().map(|link| (link.nodes[0], link.nodes[1]));
        let waits = links.filter(|(a, b)| self.shared.judge.is_suspended(*a, *b));
        let suspended: Vec<(usize, usize)> = waits.collect();
        let excuses = |a: usize, b: usize| {
            let pair = (a.min(b), a.max(b));
            cut.contains(&pair) || down[a] || down[b] || suspended.binary_search(&pair).is_ok()
        };
        if let Some(verdict) = self.shared.judge.settle(now, &excuses) {
            return verdict;
        }
        let offline = self.shared.network.links.iter().find(|link| {
            let [a, b] = link.nodes;
            let live = |side: usize| self.nodes[link.nodes[side]].peers[link.slots[side] as usize].live.is_some();
            self.shared.judge.is_in_force(a, b, now) && !excuses(a, b) && !(live(0) && live(1))
        });
        match offline.map(|link| link.nodes) {
            Some([a, b]) => {
                self.shared.judge.offline(now, a, b);
                Verdict::Stuck
            }
            None => Verdict::Pass,
        }
    }

    fn outcome(self, verdict: Verdict, now: Micros) -> Outcome {
        let World { scenario, seed, shared, nodes, faults, samples, frames, .. } = self;
        let Shared { network, judge, trace, .. } = shared;
        let priorities = [Priority::Urgent, Priority::Normal, Priority::Bulk];
        let latency = priorities.into_iter().zip(judge.latency).map(|(of, took)| (of, percentiles(took)));
        let link_use = |link: &super::network::Link| LinkUse {
            a: link.nodes[0],
            b: link.nodes[1],
            bytes: link.bytes,
            messages: link.messages,
        };
        Outcome {
            scenario: scenario.name.clone(),
            engine: Engine::Virtual,
            suite: scenario.suite_chosen(),
            seed,
            event_hash: trace.hash(),
            verdict,
            finding: judge.finding,
            simulated: Duration::from_micros(now),
            wall: Duration::ZERO,
            nodes: nodes.len(),
            links: network.links.len(),
            events: trace.steps,
            messages: judge.counts,
            bytes: network.bytes,
            latency: latency.filter(|(_, took)| took.count > 0).collect(),
            samples,
            link_bytes: network.links.iter().map(link_use).collect(),
            frames,
            memory_per_node: memory_bytes() / nodes.len().max(1) as u64,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            found: Vec::new(),
            faults,
        }
    }
}

/// Two different elements of a list.
fn two(nodes: &mut [Node], a: usize, b: usize) -> (&mut Node, &Node) {
    if a < b {
        let (low, high) = nodes.split_at_mut(b);
        (&mut low[a], &high[0])
    } else {
        let (low, high) = nodes.split_at_mut(a);
        (&mut high[0], &low[b])
    }
}

fn percentiles(mut took: Vec<u32>) -> Percentiles {
    took.sort_unstable();
    let at = |percent: usize| {
        let place = (took.len() * percent).div_ceil(100).saturating_sub(1);
        Duration::from_millis(took.get(place).copied().unwrap_or(0).into())
    };
    Percentiles { count: took.len() as u64, p50: at(50), p90: at(90), p99: at(99), max: at(100) }
}

/// Memory of this process, where the system tells it.
fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}
