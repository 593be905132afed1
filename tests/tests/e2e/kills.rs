//! P32 from outside: kill -9 of the receiver and of the sender in the middle of transfers.
//!
//! Ten kills each; `PAKT_KILLS=50` for fifty. At least a third strike before 20 % and a third after 80 % of the
//! content, one in four while the node recovers from the kill before: as it starts, or when the transfer goes on.

use std::time::Duration;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, id_of};
use pakt_tests::wait::secs;
use pakt_tests::wire::Side;
use pakt_tests::{tools, tree, turn};

/// Content of one transfer.
const CONTENT_BYTES: u64 = 32_000_000;
/// The line's rate, so that a kill can be aimed.
const BYTES_PER_SECOND: u64 = 8_000_000;
/// What one kill may cost: content fetched a second time.
const REFETCHED_BYTES_MAX: u64 = 8_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sender,
    Receiver,
}

#[test]
fn p32_the_receiver_is_killed() {
    kill_again_and_again(Victim::Receiver);
}

#[test]
fn p32_the_sender_is_killed() {
    kill_again_and_again(Victim::Sender);
}

fn kill_again_and_again(victim: Victim) {
    let _turn = turn::alone();
    let kills = pakt_tests::tools::count("PAKT_KILLS", 10);
    let mut pair = Pair::wired();
    pair.wire().throttle(BYTES_PER_SECOND);
    let mut struck = Vec::new();
    let plan = plan(kills);
    for (round, aims) in plan.iter().enumerate() {
        struck.extend(one_transfer(&mut pair, victim, round as u64, aims));
    }
    let all = pair.b.json(&["inbox", "list"]);
    assert_eq!(all.as_array().map(Vec::len), Some(plan.len()), "lost or doubled: {all}");
    let early = struck.iter().filter(|at| **at < 0.2).count();
    let late = struck.iter().filter(|at| **at > 0.8).count();
    tools::tell(&format!("{victim:?}: {} kills, {early} before 20 %, {late} after 80 %: {struck:.2?}", struck.len()));
    assert_eq!(struck.len(), kills);
    assert!(early * 3 >= kills && late * 3 >= kills, "the kills missed their aims: {struck:.2?}");
}

/// One transfer with a kill at the first aim and, when there is a second, one more during the recovery.
/// Gives the progress at which each kill struck.
fn one_transfer(pair: &mut Pair, victim: Victim, round: u64, aims: &[f64]) -> Vec<f64> {
    let folder = pair.path(&format!("kill-{round}"));
    std::fs::create_dir(&folder).unwrap();
    for file in 0..8 {
        tree::write_noise(&folder.join(format!("{file}.bin")), CONTENT_BYTES / 8, round * 100 + file + 10_000);
    }
    for small in 0..50 {
        tree::write_noise(&folder.join(format!("s{small}")), small * 11, round * 100 + small + 50_000);
    }
    let subject = format!("Kill {round}");
    // Nothing flows before `send` has returned, so that early kills are early.
    pair.wire().stall(true);
    let before = pair.wire().into_side(Side::B);
    let envelope = id_of(&pair.send(&subject, &[&folder]));
    pair.wire().stall(false);

    let mut struck = Vec::new();
    for (at, aim) in aims.iter().enumerate() {
        let progress = match at {
            0 => kill_at(pair, victim, before, (CONTENT_BYTES as f64 * aim) as u64),
            _ if round.is_multiple_of(2) => kill_as_it_starts(pair, victim, before, round),
            _ => {
                victim_of(pair, victim).start();
                kill_at(pair, victim, before, fetched(pair, before) + 300_000)
            }
        };
        struck.push(progress);
    }
    victim_of(pair, victim).start();
    pair.wait_delivered(&envelope, secs(60));
    let fetched = fetched(pair, before);
    let allowed = CONTENT_BYTES + CONTENT_BYTES / 100 + 500_000 + REFETCHED_BYTES_MAX * aims.len() as u64;
    assert!(fetched <= allowed, "{round}: {fetched} bytes fetched, at most {allowed}; killed at {struck:.2?}");
    pair.assert_received_once(&subject, &[&folder]);
    std::fs::remove_dir_all(&folder).unwrap();
    struck
}

/// Kills as soon as `goal` bytes have arrived; gives the progress then.
fn kill_at(pair: &mut Pair, victim: Victim, before: u64, goal: u64) -> f64 {
    let end = std::time::Instant::now() + secs(60);
    while fetched(pair, before) < goal && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    let arrived = fetched(pair, before);
    assert!(arrived >= goal, "only {arrived} of {goal} bytes within a minute");
    victim_of(pair, victim).kill();
    arrived as f64 / CONTENT_BYTES as f64
}

/// Kills somewhere between the first step of a start and the first lane; gives the progress then.
fn kill_as_it_starts(pair: &mut Pair, victim: Victim, before: u64, round: u64) -> f64 {
    victim_of(pair, victim).spawn_run();
    std::thread::sleep(Duration::from_millis(10 + round * 37 % 400));
    victim_of(pair, victim).kill();
    fetched(pair, before) as f64 / CONTENT_BYTES as f64
}

fn fetched(pair: &Pair, before: u64) -> u64 {
    pair.wire().into_side(Side::B) - before
}

fn victim_of(pair: &mut Pair, victim: Victim) -> &mut TestNode {
    match victim {
        Victim::Sender => &mut pair.a,
        Victim::Receiver => &mut pair.b,
    }
}

/// Aims for `kills` kills, transfer by transfer. Of four kills three start a transfer's trouble and one strikes in the
/// recovery; the first aims alternate between early and late.
fn plan(kills: usize) -> Vec<Vec<f64>> {
    const EARLY: [f64; 4] = [0.03, 0.15, 0.08, 0.01];
    const LATE: [f64; 4] = [0.85, 0.95, 0.90, 0.83];
    let mut transfers: Vec<Vec<f64>> = Vec::new();
    for kill in 0..kills {
        match transfers.last_mut() {
            Some(last) if kill % 4 == 3 => last.push(last[0]),
            _ => {
                let at = transfers.len();
                transfers.push(vec![if at.is_multiple_of(2) { EARLY[at / 2 % 4] } else { LATE[at / 2 % 4] }]);
            }
        }
    }
    transfers
}

#[test]
fn the_plan_covers_start_end_and_recovery() {
    for kills in [10, 50, 100] {
        let plan = plan(kills);
        let recovery = plan.iter().filter(|aims| aims.len() == 2).count();
        let all: Vec<f64> = plan.concat();
        assert_eq!(all.len(), kills);
        assert!(recovery * 4 >= kills - 3);
        assert!(all.iter().filter(|aim| **aim < 0.2).count() * 3 >= kills);
        assert!(all.iter().filter(|aim| **aim > 0.8).count() * 3 >= kills);
    }
}
