//! Faults: drawing them from a seed, and letting them befall a mesh.

use std::time::Duration;

use pakt_protocol::record::statement::Action;

use super::clock::{Micros, SECOND, chance, micros};
use super::disk::Slot;
use super::event::Due;
use super::network::Quality;
use super::world::World;
use crate::scenario::{Fault, FaultKind, FaultName, Scenario};

/// A node that dies and comes back at once needs so long.
const RESTART: Micros = SECOND;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Everything that befalls a mesh: what the scenario says and what is drawn, in order of time.
pub(super) fn all(scenario: &Scenario, links: &[(usize, usize)], seed: u64) -> Vec<Fault> {
    let mut all = scenario.faults.clone();
    all.extend(draw(scenario, links, seed));
    for fault in &mut all {
        // What has no end of its own lasts until the people go home.
        let stays =
            matches!(fault.what, FaultKind::Suspend { .. } | FaultKind::Crash { .. } | FaultKind::Restore { .. });
        if fault.for_.is_none() && fault.what.can_last() && !stays {
            fault.for_ = Some(scenario.duration.saturating_sub(fault.at));
        }
    }
    all.sort_by_key(|fault| fault.at);
    all
}

/// The random faults of a scenario for this seed, as scripted ones.
pub(super) fn draw(scenario: &Scenario, links: &[(usize, usize)], seed: u64) -> Vec<Fault> {
    let Some(random) = &scenario.random_faults else { return Vec::new() };
    let mut chance = chance(seed, "faults");
    let (mut faults, mut at) = (Vec::new(), 0.0);
    let until = random.until.as_secs_f64();
    loop {
        at -= random.mean_between.as_secs_f64() * (1.0 - chance.f64()).ln();
        if at >= until || links.is_empty() || random.kinds.is_empty() {
            return faults;
        }
        let kind = random.kinds[chance.usize(..random.kinds.len())];
        let begins = Duration::from_secs(at as u64);
        let (what, lasts) = draw_one(kind, scenario, links, begins, &mut chance);
        let left = random.until.saturating_sub(begins);
        faults.push(Fault { at: begins, for_: lasts.map(|lasts| lasts.min(left)), what });
    }
}

fn draw_one(
    kind: FaultName,
    scenario: &Scenario,
    links: &[(usize, usize)],
    at: Duration,
    chance: &mut fastrand::Rng,
) -> (FaultKind, Option<Duration>) {
    let node = chance.usize(..scenario.topology.nodes());
    let (low, high) = links[chance.usize(..links.len())];
    let (a, b) = if chance.bool() { (low, high) } else { (high, low) };
    let mut lasts = |from: u64, to: u64| Some(Duration::from_secs(chance.u64(from..to)));
    match kind {
        FaultName::Line => {
            let lasts = lasts(10 * MINUTE, 6 * HOUR);
            let what = FaultKind::Line {
                a,
                b,
                loss_percent: chance.f64() * chance.f64() * 40.0,
                delay: Duration::from_millis(chance.u64(0..2_000)),
                reorder_percent: if chance.bool() { chance.f64() * 2.0 } else { 0.0 },
                duplicate_percent: if chance.bool() { chance.f64() * 2.0 } else { 0.0 },
            };
            (what, lasts)
        }
        FaultName::Partition => {
            let lasts = lasts(MINUTE, 6 * HOUR);
            (FaultKind::Partition { a, b, one_way: chance.bool() }, lasts)
        }
        FaultName::Isolate => (FaultKind::Isolate { node }, lasts(MINUTE, 4 * HOUR)),
        FaultName::Clog => (FaultKind::Clog { node }, lasts(10 * MINUTE, 2 * HOUR)),
        FaultName::Crash => {
            let lasts = lasts(1, 30 * MINUTE);
            let lose_unsynced = chance.bool();
            let at_persist = chance.bool().then(|| chance.u64(1..40));
            (FaultKind::Crash { node, lose_unsynced, torn: lose_unsynced && chance.bool(), at_persist }, lasts)
        }
        FaultName::Restore => {
            let lasts = lasts(MINUTE, 30 * MINUTE);
            let age = Duration::from_secs(chance.u64(10 * MINUTE..24 * HOUR)).min(at);
            (FaultKind::Restore { node, backup_age: age }, lasts)
        }
        FaultName::DiskFull => (FaultKind::DiskFull { node }, lasts(MINUTE, 2 * HOUR)),
        FaultName::ClockStep => (FaultKind::ClockStep { node, seconds: chance.i64(-3 * 3_600..3 * 3_600) }, None),
        FaultName::ClockSkew => {
            let lasts = lasts(HOUR, 24 * HOUR);
            (FaultKind::ClockSkew { node, ppm: chance.i64(-500..500) }, lasts)
        }
        FaultName::Suspend => (FaultKind::Suspend { a, b }, lasts(5 * MINUTE, 12 * HOUR)),
        FaultName::Resume => (FaultKind::Resume { a, b }, None),
        FaultName::End => (FaultKind::End { a, b }, None),
        FaultName::Expire => (FaultKind::Expire { a, b }, None),
        FaultName::RotateKeys => (FaultKind::RotateKeys { node }, None),
        FaultName::Hostile => {
            let lasts = lasts(MINUTE, 2 * HOUR);
            (FaultKind::Hostile { node, kind: crate::scenario::HostileKind::Garbage }, lasts)
        }
    }
}

/// Plans when a fault begins and ends, and the backup that it will need.
pub(super) fn plan(world: &mut World, number: usize) {
    let fault = world.faults[number].clone();
    let at = micros(fault.at);
    world.shared.plans.plan(at, Due::FaultBegins(number));
    if let Some(lasts) = fault.for_ {
        world.shared.plans.plan(at + micros(lasts), Due::FaultEnds(number));
    }
    if let FaultKind::Restore { node, backup_age } = fault.what {
        world.shared.plans.plan(at.saturating_sub(micros(backup_age)), Due::Backup { node, fault: number });
    }
}

/// What has to do with faults happens.
pub(super) fn happen(world: &mut World, due: Due) {
    match due {
        Due::FaultBegins(number) => {
            let fault = world.faults[number].clone();
            world.shared.trace.fault(number, &fault, true);
            begin(world, number, &fault);
        }
        Due::FaultEnds(number) => {
            let fault = world.faults[number].clone();
            world.shared.trace.fault(number, &fault, false);
            end(world, number, &fault);
        }
        Due::Clog { link, stops } => block(world, link, [stops, stops], !stops),
        Due::Backup { node, fault } => {
            let now = world.shared.plans.now();
            let copy = world.nodes[node].home.disk.backup(now);
            world.backups.insert(fault, (copy, now));
        }
        Due::Start { node, fault } => start(world, node, fault),
        Due::LookAtSuspensions { node } => look_at_suspensions(world, node),
        _ => {}
    }
}

/// Buries nodes that have died within a commit.
pub(super) fn bury(world: &mut World) {
    for node in std::mem::take(&mut world.shared.dying) {
        if !std::mem::take(&mut world.nodes[node].home.dies) {
            continue;
        }
        let fault = world.nodes[node].home.dying_of.take();
        let Some((number, fault)) = fault.and_then(|number| Some((number, world.faults.get(number)?.clone()))) else {
            continue;
        };
        let FaultKind::Crash { lose_unsynced, .. } = fault.what else { continue };
        crash(world, node, lose_unsynced, number, fault.for_);
    }
}

fn begin(world: &mut World, number: usize, fault: &Fault) {
    match fault.what {
        FaultKind::Line { a, b, loss_percent, delay, reorder_percent, duplicate_percent } => {
            let Some(link) = link_of(world, a, b) else { return };
            let quality = Quality { loss_percent, delay, reorder_percent, duplicate_percent };
            world.shared.network.worsen(link, number, quality);
            world.shared.ill.insert(link);
        }
        FaultKind::Partition { a, b, one_way } => {
            let Some(link) = link_of(world, a, b) else { return };
            block(world, link, directions(world, link, a, one_way), false);
        }
        FaultKind::Isolate { node } => {
            links_of(world, node).into_iter().for_each(|link| block(world, link, [true; 2], false));
        }
        FaultKind::Clog { node } => clog(world, node, fault.for_.unwrap_or_default()),
        FaultKind::Crash { node, lose_unsynced, at_persist, .. } => match at_persist {
            Some(nth) => {
                let home = &mut world.nodes[node].home;
                home.disk.dies_at = Some(home.disk.commits() + nth.max(1));
                home.dying_of = Some(number);
            }
            None => crash(world, node, lose_unsynced, number, fault.for_),
        },
        FaultKind::Restore { node, .. } => crash(world, node, true, number, fault.for_),
        FaultKind::DiskFull { node } => world.nodes[node].home.disk.full = true,
        FaultKind::ClockStep { node, seconds } => {
            world.shared.judge.clock_moved(node);
            world.nodes[node].home.clock.wall_ahead += seconds * 1_000_000;
        }
        FaultKind::ClockSkew { node, ppm } => skew(world, node, ppm),
        FaultKind::Suspend { a, b } => state(world, a, b, Action::Suspend),
        FaultKind::Resume { a, b } => state(world, a, b, Action::Resume),
        FaultKind::End { a, b } => state(world, a, b, Action::End),
        // Its agreement was made so.
        FaultKind::Expire { .. } => {}
        FaultKind::RotateKeys { node } => {
            if world.nodes[node].home.running {
                let World { nodes, shared, .. } = world;
                nodes[node].rotate(shared);
            }
        }
        FaultKind::Hostile { node, kind } => {
            world.shared.judge.turned_hostile(node);
            world.nodes[node].home.hostile = Some(kind);
        }
    }
}

fn end(world: &mut World, number: usize, fault: &Fault) {
    match fault.what {
        FaultKind::Line { a, b, reorder_percent, duplicate_percent, .. } => {
            let Some(link) = link_of(world, a, b) else { return };
            world.shared.network.mend(link, number);
            // No lane that keeps its order does this: what it has left hanging is cleared by the next session alone.
            if reorder_percent > 0.0 || duplicate_percent > 0.0 {
                let super::Shared { network, plans, .. } = &mut world.shared;
                network.cut(link, plans);
            }
        }
        FaultKind::Partition { a, b, one_way } => {
            if let Some(link) = link_of(world, a, b) {
                block(world, link, directions(world, link, a, one_way), true);
            }
        }
        FaultKind::Isolate { node } => {
            links_of(world, node).into_iter().for_each(|link| block(world, link, [true; 2], true));
        }
        FaultKind::DiskFull { node } => world.nodes[node].home.disk.full = false,
        FaultKind::ClockSkew { node, .. } => skew(world, node, 0),
        FaultKind::Suspend { a, b } => state(world, a, b, Action::Resume),
        FaultKind::Hostile { node, .. } => world.nodes[node].home.hostile = None,
        _ => {}
    }
}

fn link_of(world: &World, a: usize, b: usize) -> Option<u32> {
    world.nodes[a].peers.iter().find(|peer| peer.other == b).map(|peer| peer.link)
}

fn links_of(world: &World, node: usize) -> Vec<u32> {
    world.nodes[node].peers.iter().map(|peer| peer.link).collect()
}

/// Which directions of a link are meant, seen from `a`.
fn directions(world: &World, link: u32, a: usize, one_way: bool) -> [bool; 2] {
    let from = usize::from(world.shared.network.links[link as usize].nodes[1] == a);
    let mut meant = [!one_way; 2];
    meant[from] = true;
    meant
}

/// Blocks directions of a link for one reason, or frees them from it.
fn block(world: &mut World, link: u32, meant: [bool; 2], frees: bool) {
    let super::Shared { network, plans, ill, .. } = &mut world.shared;
    // A part of a fault that goes link by link means both directions.
    let meant = if meant == [false; 2] { [true; 2] } else { meant };
    for direction in (0..2).filter(|direction| meant[*direction]) {
        if frees {
            network.unblock(link, direction, plans);
        } else {
            network.block(link, direction);
        }
    }
    ill.insert(link);
}

/// Swizzle-clog: links stop one by one in random order, and open one by one in another.
fn clog(world: &mut World, node: usize, lasts: Duration) {
    let mut links = links_of(world, node);
    let (now, half) = (world.shared.plans.now(), micros(lasts) / 2);
    let step = half / (links.len() as u64).max(1);
    for (begins, stops) in [(now, true), (now + half, false)] {
        world.shared.chance.shuffle(&mut links);
        for (place, link) in (0..).zip(&links) {
            world.shared.plans.plan(begins + place * step, Due::Clog { link: *link, stops });
        }
    }
}

fn crash(world: &mut World, node: usize, lose_unsynced: bool, number: usize, lasts: Option<Duration>) {
    let World { nodes, shared, .. } = world;
    if nodes[node].home.running {
        nodes[node].crash(lose_unsynced, shared);
    }
    let at = shared.plans.now() + lasts.map_or(RESTART, micros).max(RESTART);
    shared.plans.plan(at, Due::Start { node, fault: number });
}

fn start(world: &mut World, node: usize, fault: usize) {
    let backup = world.backups.remove(&fault);
    let World { nodes, shared, .. } = world;
    if let Some((copy, made_at)) = backup {
        if nodes[node].home.running {
            nodes[node].crash(true, shared);
        }
        nodes[node].restore(copy, made_at, shared);
    }
    if nodes[node].home.running {
        return;
    }
    nodes[node].start(shared);
}

fn skew(world: &mut World, node: usize, ppm: i64) {
    world.shared.judge.clock_moved(node);
    let now = world.shared.plans.now();
    world.nodes[node].home.clock.skew(now, ppm);
    for slot in 0..world.nodes[node].peers.len() {
        world.at(node, slot as Slot, |actor| actor.look_again());
    }
}

/// A node that was restored may have lost that it took a suspension back, or suspends once more what it is told it had
/// suspended: its operator resumes what nobody means to be suspended.
fn look_at_suspensions(world: &mut World, node: usize) {
    let now = world.shared.plans.now();
    let meant = |other: usize| {
        let times = world.faults.iter().flat_map(|fault| {
            let (at, ends) = (micros(fault.at), fault.for_.map(|lasts| micros(fault.at + lasts)));
            match fault.what {
                FaultKind::Suspend { a, b } if (a, b) == (node, other) => vec![(Some(at), true), (ends, false)],
                FaultKind::Resume { a, b } if (a, b) == (node, other) => vec![(Some(at), false)],
                _ => vec![],
            }
        });
        let past = times.filter_map(|(at, suspends)| Some((at.filter(|at| *at <= now)?, suspends)));
        past.max_by_key(|(at, _)| *at).is_some_and(|(_, suspends)| suspends)
    };
    let peers = world.nodes[node].peers.iter();
    let others: Vec<usize> =
        peers.filter(|peer| peer.can_resume() && !meant(peer.other)).map(|peer| peer.other).collect();
    others.into_iter().for_each(|other| state(world, node, other, Action::Resume));
}

/// Somebody at `a` makes a statement about the agreement with `b`.
fn state(world: &mut World, a: usize, b: usize, action: Action) {
    let Some(slot) = world.nodes[a].peers.iter().find(|peer| peer.other == b).map(|peer| peer.slot) else { return };
    if !world.nodes[a].home.running {
        return;
    }
    let World { nodes, shared, .. } = world;
    let suspended = match action {
        Action::Suspend => Some(true),
        Action::Resume => Some(false),
        Action::End | Action::Withdraw { .. } => None,
    };
    // What is allowed again may go at once.
    let number = nodes[a].peers[slot as usize].statements();
    if action == Action::Resume && nodes[a].peers[slot as usize].can_resume() {
        shared.judge.stated(a, b, (suspended, false), number + 1);
    }
    let made = nodes[a].with(slot, shared, |actor| actor.state(action));
    if made {
        let number = nodes[a].peers[slot as usize].statements();
        shared.judge.stated(a, b, (suspended, action == Action::End), number);
    }
}
