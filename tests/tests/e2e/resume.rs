//! A transfer goes on where it was: after hours without a line, and at another address.
//!
//! `kills` does the same for either side being killed, `queue` for a line that breaks again and again.

use std::net::TcpListener;
use std::time::Duration;

use pakt_tests::pair::{Pair, id_of, online};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;
use pakt_tests::{tools, tree, turn};

use super::clocks::{faketime, move_clock};

const CONTENT_BYTES: u64 = 40_000_000;
/// The line's rate, so that there is a middle to interrupt.
const BYTES_PER_SECOND: u64 = 8_000_000;
/// What an interruption may cost: content fetched a second time.
const REFETCHED_BYTES_MAX: u64 = 8_000_000;
/// Longer than any side waits for a sign of life.
const SILENCE: Duration = Duration::from_secs(50);

/// Starts a transfer and gives its envelope and what had arrived at B before it, once about `share` of it is there.
fn start(pair: &Pair, subject: &str, share: f64) -> (String, u64) {
    let path = pair.path(subject);
    tree::write_noise(&path, CONTENT_BYTES, subject.len() as u64);
    pair.wire().throttle(BYTES_PER_SECOND);
    let before = pair.wire().into_side(Side::B);
    let envelope = id_of(&pair.send(subject, &[&path]));
    let goal = before + (CONTENT_BYTES as f64 * share) as u64;
    until(secs(60), "some of it has arrived", || (pair.wire().into_side(Side::B) >= goal).then_some(()));
    (envelope, before)
}

#[track_caller]
fn assert_went_on(pair: &Pair, subject: &str, (envelope, before): (String, u64)) {
    pair.wait_delivered(&envelope, secs(90));
    let fetched = pair.wire().into_side(Side::B) - before;
    let allowed = CONTENT_BYTES + CONTENT_BYTES / 50 + REFETCHED_BYTES_MAX;
    assert!(fetched <= allowed, "{fetched} bytes fetched, at most {allowed}");
    pair.assert_received_once(subject, &[&pair.path(subject)]);
}

#[test]
fn a_line_that_is_silent_for_longer_than_anyone_waits() {
    let turn = turn::beside();
    let pair = Pair::wired();
    let under_way = start(&pair, "Silent", 0.4);
    pair.wire().stall(true);
    // Two idle nodes: others may use the machine.
    drop(turn);
    std::thread::sleep(SILENCE);
    until(secs(30), "both have noticed", || (!online(&pair.a) && !online(&pair.b)).then_some(()));
    let _turn = turn::beside();
    // Whatever still lies in the old connections is gone with them.
    pair.wire().cut(true);
    pair.wire().stall(false);
    pair.wire().cut(false);
    assert_went_on(&pair, "Silent", under_way);
}

#[test]
fn a_line_that_is_cut_for_hours() {
    let Some(library) = faketime() else {
        return tools::skip("a_line_that_is_cut_for_hours", "no libfaketime");
    };
    let _turn = turn::beside();
    let mut pair = Pair::wired();
    let under_way = start(&pair, "Hours", 0.5);
    pair.wire().cut(true);
    for node in [&mut pair.a, &mut pair.b] {
        node.terminate();
        move_clock(node, &library, "+7h");
        node.start();
    }
    pair.wire().lead(Side::A, pair.a.listen());
    pair.wire().lead(Side::B, pair.b.listen());
    pair.wire().cut(false);
    assert_went_on(&pair, "Hours", under_way);
}

#[test]
fn a_receiver_that_has_moved_to_another_address() {
    let _turn = turn::beside();
    let mut pair = Pair::wired();
    let under_way = start(&pair, "Moved", 0.5);
    pair.b.terminate();
    let old = pair.b.dir().join("config.toml");
    let config = std::fs::read_to_string(&old).unwrap();
    let listen = config.lines().find(|line| line.starts_with("listen = ")).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(&old, config.replace(listen, &format!("listen = \"{free}\""))).unwrap();
    // At the address that its card names nobody answers any more: it must find its counterpart, not be found.
    pair.wire().lead(Side::B, TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    pair.b.start();
    assert_eq!(pair.b.listen(), free);
    // What arrives now comes over connections that B has dialled: the other direction of the line.
    let before = pair.wire().into_side(Side::B);
    until(secs(30), "they have found each other", || (online(&pair.a) && online(&pair.b)).then_some(()));
    let (envelope, start) = under_way;
    assert_went_on(&pair, "Moved", (envelope, start));
    assert!(pair.wire().into_side(Side::B) > before, "nothing more had to be sent; the test measured nothing");
}
