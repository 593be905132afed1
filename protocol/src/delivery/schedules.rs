//! P30 and P28 in virtual time: outages around the end of the hold time, and a network that doubles, reorders and loses.

use std::time::Duration;

use super::world::{Faults, Happens, Random, World};
use super::{Event, Reason, State};
use crate::record::receipt::{Tier, Verdict};

const HOUR: u64 = 3600;
const HOLD: u64 = 48 * HOUR;
/// A link that came back stays up from here on.
const FOR_GOOD: u64 = 60 * HOUR;
const END: u64 = 72 * HOUR;
/// What a whole conversation takes.
const CONVERSATION: u64 = 30;

fn hold() -> Duration {
    Duration::from_secs(HOLD)
}

/// What was reported, without warnings of lateness.
fn reports(world: &World) -> Vec<(u64, Event)> {
    world.told.iter().copied().filter(|(_, event)| !matches!(event, Event::Warn(_))).collect()
}

/// One final state on both sides, and what was reported on the way says so, once, at the right time.
fn check(what: &str, world: &World) {
    let (state, left) = (world.record.state, world.record.left);
    let held = matches!(world.verdict(), Some(Verdict::Held(_)));
    assert!(!state.is_open(), "{what}: {state:?} is no end");
    assert_eq!(state.tier().is_some(), held, "{what}: {state:?} here, {:?} there", world.verdict());
    assert_eq!(world.commits, u32::from(held), "{what}");
    assert_eq!(world.receipts.len(), world.settled.len(), "{what}: one receipt, one row of bytes");
    let reports = reports(world);
    let at =
        |wanted: Event| reports.iter().filter(|(_, event)| *event == wanted).map(|(at, _)| *at).collect::<Vec<_>>();
    let unconfirmed = at(Event::Report(Reason::NotConfirmed));
    let over = at(Event::Report(Reason::HoldTimeOver));
    let settled_at = world.record.history.iter().find(|(state, _)| !state.is_open()).map(|(_, at)| at.seconds());
    let in_doubt = left && settled_at > Some(HOLD);
    assert_eq!(unconfirmed.len(), usize::from(in_doubt), "{what}: {reports:?}");
    assert!(unconfirmed.iter().all(|at| *at == HOLD), "{what}: told when the hold time ends: {reports:?}");
    assert_eq!(over.len(), usize::from(!held), "{what}: {reports:?}");
    assert!(over.iter().all(|at| *at >= HOLD), "{what}: too early: {reports:?}");
    assert!(left || over.iter().all(|at| *at <= HOLD + CONVERSATION), "{what}: too late: {reports:?}");
    assert_eq!(at(Event::Resolved).len(), usize::from(held && in_doubt), "{what}: {reports:?}");
    assert_eq!(reports.len(), unconfirmed.len() + over.len() + at(Event::Resolved).len(), "{what}: {reports:?}");
    assert_eq!(state == State::Expired, !held, "{what}");
}

/// A link that is up and down at random, and comes back near the end of the hold time.
fn schedule(random: &mut Random) -> Vec<(u64, Happens)> {
    let mut agenda = vec![(FOR_GOOD, Happens::Up)];
    let near = HOLD - 120 + random.below(240);
    for _ in 0..random.below(4) {
        let at = random.below(HOLD - HOUR);
        // Short: some conversations are cut in the middle.
        agenda.extend([(at, Happens::Up), (at + 1 + random.below(15), Happens::Down)]);
    }
    if random.below(3) > 0 {
        agenda.push((near, Happens::Up));
    }
    if random.below(2) > 0 {
        agenda.push((near + 1 + random.below(20), Happens::Down));
    }
    for _ in 0..random.below(3) {
        agenda.push((HOLD - 30 + random.below(60), Happens::Restart));
    }
    agenda
}

#[test]
fn p30_a_thousand_schedules_of_outages_around_the_hold_time() {
    let mut states = [0; 3];
    for seed in 1..=1_000 {
        let mut random = Random::new(seed);
        let mut world = World::new(seed, hold(), &schedule(&mut random));
        world.later = (random.below(2) > 0).then_some((30 + random.below(HOUR), 2 * HOUR));
        // A cut in the middle that lasts until about the end.
        world.cut = (random.below(2) > 0).then(|| (1 + random.below(9), HOLD - 60 + random.below(HOUR)));
        world.run_until(END);
        check(&format!("seed {seed}"), &world);
        let place = match (world.record.state.tier(), reports(&world).is_empty()) {
            (Some(_), true) => 0,
            (Some(_), false) => 1,
            (None, _) => 2,
        };
        states[place] += 1;
    }
    let [delivered, in_doubt, expired] = states;
    assert!(delivered > 100 && in_doubt > 20 && expired > 100, "the schedules are one-sided: {states:?}");
}

#[test]
fn p30_whoever_returns_a_minute_before_the_end_gets_the_message() {
    for (back, state) in [(HOLD - 60, State::Delivered), (HOLD, State::Expired), (HOLD + 60, State::Expired)] {
        let mut world = World::new(1, hold(), &[(back, Happens::Up)]);
        world.run_until(END);
        assert_eq!(world.record.state, state, "back after {back} s");
        check("back late", &world);
        let warned = world.told.iter().find(|(_, event)| matches!(event, Event::Warn(_)));
        assert_eq!(warned, Some(&(4 * HOUR, Event::Warn(Reason::Unreachable))), "late after four hours");
    }
}

#[test]
fn p30_a_cut_at_any_message_ends_in_one_state_on_both_sides() {
    // Up shortly before the end, cut at the n-th message, back before or after the end.
    for back in [HOLD - 20, HOLD - 1, HOLD, HOLD + 1, HOLD + HOUR] {
        for cut in 1..=12 {
            let mut world = World::new(cut, hold(), &[(HOLD - 40, Happens::Up)]);
            world.cut = Some((cut, back));
            world.run_until(END);
            check(&format!("cut at message {cut}, back at {back}"), &world);
        }
    }
}

#[test]
fn p30_only_the_last_receipt_is_dropped() {
    // The straight conversation: offer, announce, accept, progress, ready, envelope, receipt.
    for back in [HOLD - HOUR, HOLD + HOUR] {
        let mut world = World::new(1, hold(), &[(10, Happens::Up)]);
        world.cut = Some((7, back));
        world.run_until(60);
        assert_eq!(
            (world.commits, world.record.state),
            (1, State::Queued),
            "the receiver has it, the sender does not know"
        );
        world.run_until(END);
        assert_eq!(world.record.state, State::Delivered);
        let expected = if back < HOLD { vec![] } else { vec![HOLD, back + 1] };
        assert_eq!(reports(&world).iter().map(|(at, _)| *at).collect::<Vec<_>>(), expected);
        check("the last receipt", &world);
    }
}

#[test]
fn p30_later_tiers_arrive_whenever_the_link_is_back() {
    for seed in 1..=200 {
        let mut random = Random::new(seed);
        let (mut at, mut agenda) = (0, vec![(END - HOUR, Happens::Up)]);
        for _ in 0..20 {
            let (up, down) = (1 + random.below(HOUR), 1 + random.below(20));
            agenda.extend([(at + up, Happens::Up), (at + up + down, Happens::Down)]);
            at += up + down;
        }
        let mut world = World::new(seed, hold(), &agenda);
        world.later = Some((random.below(2 * HOUR), 2 * HOUR + random.below(HOUR)));
        world.run_until(END);
        assert_eq!(world.record.state, State::Taken, "seed {seed}");
        let tiers: Vec<Tier> = world.record.history.iter().filter_map(|(state, _)| state.tier()).collect();
        assert!(tiers.is_sorted() && tiers.last() == Some(&Tier::Taken), "seed {seed}: {tiers:?}");
        check(&format!("seed {seed}"), &world);
    }
}

/// 100,000 by default; PAKT_DELIVERIES sets another number.
#[test]
fn p28_deliveries_over_a_network_that_doubles_reorders_and_loses() {
    let count = std::env::var("PAKT_DELIVERIES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000);
    for seed in 1..=count {
        // What a session has left out of order may stall it: every session ends some time.
        let lives = |at: u64| [(at, Happens::Up), (at + 58, Happens::Down)];
        let agenda: Vec<_> = (0..2 * HOUR).step_by(60).flat_map(lives).collect();
        let mut world = World::new(seed, hold(), &agenda);
        world.faults = Faults { doubled: 20, reordered: 20, receipts_lost: 30 };
        world.later = Some((3, 9));
        world.run_until(2 * HOUR);
        assert_eq!(world.record.state, State::Taken, "seed {seed}");
        assert_eq!((world.commits, reports(&world).len()), (1, 0), "seed {seed}: nothing twice, nothing to report");
        assert_eq!(world.receipts.len(), 3, "seed {seed}: the same bytes however often they are told");
    }
}
