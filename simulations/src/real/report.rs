//! What a run of complete nodes comes to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::events::Events;
use super::judge::Judged;
use super::measure::{Memory, processor_time};
use super::mesh::Mesh;
use super::play::Played;
use crate::outcome::{Counts, Engine, FRAMES_NODES_MAX, Finding, LinkUse, Outcome, Verdict};
use crate::scenario::{Scenario, Suite};

/// What one phase took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    wall: Duration,
    processor: Duration,
    memory: Memory,
}

impl Usage {
    /// What a piece of work takes; the memory is that after it.
    pub(super) async fn of(work: impl Future<Output = Result<()>>) -> Result<Usage> {
        let (begun, processor) = (Instant::now(), processor_time());
        work.await?;
        let processor = processor_time().saturating_sub(processor);
        Ok(Usage { wall: begun.elapsed(), processor, memory: Memory::read()? })
    }
}

/// What each phase took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Phases {
    pub(super) started: Usage,
    pub(super) agreed: Usage,
    pub(super) online: Usage,
    pub(super) idle: Usage,
    pub(super) played: Usage,
}

/// What a day came to.
pub(super) struct Day {
    pub(super) seed: u64,
    /// Links that were not up in time.
    pub(super) missing: usize,
    pub(super) phases: Phases,
    pub(super) played: Played,
    pub(super) judged: Judged,
    /// What a node failed with.
    pub(super) failed: Option<String>,
    pub(super) wall: Duration,
}

pub(super) fn outcome(mesh: &Mesh, (scenario, events): (&Scenario, &Events<'_>), day: Day) -> Outcome {
    let nodes = mesh.sites.len();
    let mut found = found(mesh, events, &day);
    found.extend(unlike(scenario));
    let simulated = events.pace.now();
    let finding = finding(&day, simulated);
    let Day { seed, phases, played, judged, wall, .. } = day;
    let verdict = match &finding {
        None => Verdict::Pass,
        Some(finding) if finding.rule == FAILED => Verdict::Crash,
        Some(finding) if finding.rule == UNSETTLED || finding.rule == OFFLINE => Verdict::Stuck,
        Some(_) => Verdict::Wrong,
    };
    let link_bytes = link_bytes(mesh, &played);
    Outcome {
        scenario: scenario.name.clone(),
        engine: Engine::Real,
        suite: Suite::Full,
        seed,
        event_hash: events.hash(),
        verdict,
        finding,
        simulated,
        wall,
        nodes,
        links: mesh.links.len(),
        events: events.count,
        messages: Counts { reports: judged.reports, ..played.ledger.counts() },
        bytes: link_bytes.iter().map(|link| link.bytes).sum(),
        latency: played.ledger.latency(),
        samples: played.samples,
        link_bytes,
        frames: if nodes > FRAMES_NODES_MAX { Vec::new() } else { played.frames },
        memory_per_node: phases.played.memory.now / nodes.max(1) as u64,
        version: env!("CARGO_PKG_VERSION").into(),
        found,
        faults: scenario.faults.clone(),
    }
}

const FAILED: &str = "failed";
const UNSETTLED: &str = "settled";
const OFFLINE: &str = "online";

fn finding(day: &Day, at: Duration) -> Option<Finding> {
    let of_all = |rule: &str, what| Finding { rule: rule.into(), at, what, nodes: Vec::new() };
    if let Some(failure) = &day.failed {
        return Some(of_all(FAILED, failure.clone()));
    }
    if let Some(finding) = &day.judged.finding {
        return Some(finding.clone());
    }
    if day.missing > 0 {
        return Some(of_all(OFFLINE, format!("{} agreements were not online in time", day.missing)));
    }
    (!day.played.settled).then(|| {
        let open = day.played.ledger.open().count();
        of_all(UNSETTLED, format!("{open} envelopes had no final state in time"))
    })
}

/// What each link carried: content as the senders count it, and the control lanes that were up at the end.
fn link_bytes(mesh: &Mesh, played: &Played) -> Vec<LinkUse> {
    let mut carried: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for one in played.ledger.envelopes.values() {
        if let Some(place) = mesh.place(one.message.from, one.to) {
            let (bytes, messages) = carried.entry(place).or_default();
            *bytes += one.wire_bytes;
            *messages += u64::from(one.is_delivered());
        }
    }
    let used = |(place, (a, b)): (usize, &(usize, usize))| {
        let (bytes, messages) = carried.get(&place).copied().unwrap_or_default();
        let lanes = played.lane_bytes.get(place).copied().unwrap_or(0);
        LinkUse { a: *a, b: *b, bytes: bytes + lanes, messages }
    };
    mesh.links.iter().enumerate().map(used).collect()
}

/// What people should know of this run, in figures.
fn found(mesh: &Mesh, events: &Events<'_>, day: &Day) -> Vec<String> {
    let (nodes, phases) = (mesh.sites.len().max(1), &day.phases);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let each = |bytes: u64| megabytes(bytes) / nodes as f64;
    let share = |usage: &Usage| 100.0 * usage.processor.as_secs_f64() / usage.wall.as_secs_f64().max(1e-9);
    let line = |what: &str, usage: &Usage| {
        format!(
            "{what}: {:.1} s, processor {:.1} s ({:.1} ms per node), memory {:.0} MB ({:.2} MB per node)",
            usage.wall.as_secs_f64(),
            usage.processor.as_secs_f64(),
            1e3 * usage.processor.as_secs_f64() / nodes as f64,
            megabytes(usage.memory.now),
            each(usage.memory.now)
        )
    };
    let mut found = vec![
        line("nodes set up and started", &phases.started),
        line("agreements signed by both", &phases.agreed),
        line("all online", &phases.online),
        line("idle", &phases.idle),
        line("the day", &phases.played),
        format!(
            "processor per node: {:.3} % of one while idle, {:.3} % during the day",
            share(&phases.idle) / nodes as f64,
            share(&phases.played) / nodes as f64
        ),
        format!(
            "memory at its peak: {:.0} MB, {:.2} MB per node",
            megabytes(phases.played.memory.peak),
            each(phases.played.memory.peak)
        ),
        format!("fast motion: {:.0} simulated seconds in a real one; latencies are in real time", events.pace.speed),
        format!("the files of {} received messages were compared with what was sent", day.judged.compared),
    ];
    let (asked, sent) = day.played.ledger.bytes;
    if sent < asked {
        found.push(format!(
            "contents were cut: {:.1} MB of the scenario became {:.1} MB",
            megabytes(asked),
            megabytes(sent)
        ));
    }
    if !day.played.late_max.is_zero() {
        found.push(format!("the latest message was handed over {:.1} s late", day.played.late_max.as_secs_f64()));
    }
    let not_taken = day.played.ledger.not_taken.iter();
    found.extend(
        not_taken.map(|(why, count)| format!("{count} envelopes were not taken by their sender's node: {why}")),
    );
    found
}

/// What of a scenario has no part in a mesh of complete nodes.
fn unlike(scenario: &Scenario) -> Vec<String> {
    let mut found = vec!["the lines of the scenario have no part: the nodes talk over memory".to_owned()];
    if scenario.terms.scan {
        found.push("no malware scanner runs beside these nodes: messages were checked, but not scanned".to_owned());
    }
    if !scenario.faults.is_empty() {
        found.push("a crash is a stop in order: what was not synced is not lost".to_owned());
    }
    found
}
