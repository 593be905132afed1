//! P2: an idle node sends nothing to anyone but agreed peers: no look-up, no greeting, no telemetry. Every packet of a network
//! namespace is looked at.
//!
//! 20 s here; longer with `PAKT_QUIET_SECONDS=600 cargo test -p pakt-tests --test e2e -- quiet`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use pakt_tests::mesh;
use pakt_tests::node::{Setup, TestNode};
use pakt_tests::pair::{Pair, Plan};
use pakt_tests::quarantine::{Quarantine, Seen};
use pakt_tests::wait::secs;
use pakt_tests::{tools, turn};

/// Longer than the pause between two heart-beats.
const QUIET_SECONDS: usize = 20;
/// An agreed counterpart that is not there; an address for documentation (RFC 5737), so nobody's.
const ABSENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 4100);

#[test]
fn p2_an_idle_node_speaks_to_agreed_peers_only() {
    let _turn = turn::beside();
    if !tools::is_root() || tools::program("ip").is_none() {
        return tools::skip("p2_an_idle_node_speaks_to_agreed_peers_only", "needs root and ip");
    }
    let quarantine = Quarantine::new("quiet");
    let inside = |setup: Setup| Setup { namespace: Some(quarantine.name().to_owned()), ..setup };
    let usual = Plan::default();
    let pair = Pair::of(Plan { a: inside(usual.a), b: inside(usual.b), ..Plan::default() });
    agree_with_absent(&pair, inside(Setup::new("Afwezig", "NL:KVK:99000103")));

    let watch = quarantine.watch();
    std::thread::sleep(secs(tools::count("PAKT_QUIET_SECONDS", QUIET_SECONDS) as u64));
    let seen = watch.end();
    let doors = [pair.a.listen(), pair.b.listen()];
    let count =
        |is: &dyn Fn(&Seen) -> bool| seen.iter().filter(|(packet, _)| is(packet)).map(|(_, n)| n).sum::<usize>();
    let between = count(&|packet| is_between(packet, &doors));
    let to_absent = count(&is_to_absent);
    tools::tell(&format!("{between} packets between peers, {to_absent} to the absent one"));
    assert!(between > 0 && to_absent > 0, "the watch is blind: {seen:?}");
    let others: Vec<_> =
        seen.iter().filter(|(packet, _)| !is_between(packet, &doors) && !is_to_absent(packet)).collect();
    assert!(others.is_empty(), "packets to others: {others:?}");
}

/// Gives A an agreement with a node that is there only to accept it.
fn agree_with_absent(pair: &Pair, setup: Setup) {
    let mut absent = TestNode::init(Setup { advertise: vec![ABSENT.to_string()], ..setup });
    absent.start();
    mesh::agree(&pair.a, &absent, pair.desk.path(), "");
    absent.terminate();
}

fn is_between(packet: &Seen, doors: &[SocketAddr]) -> bool {
    let is_door = |address: &SocketAddrV4| doors.contains(&SocketAddr::V4(*address));
    matches!(packet, Seen::Tcp { from, to } if from.ip().is_loopback() && to.ip().is_loopback() && (is_door(from) || is_door(to)))
}

fn is_to_absent(packet: &Seen) -> bool {
    matches!(packet, Seen::Tcp { to, .. } if *to == ABSENT)
}
