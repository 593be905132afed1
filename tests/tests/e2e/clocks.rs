//! P27: clocks that are days apart lose nothing and expire nothing; both operators are warned with the difference.

use std::fs;
use std::path::PathBuf;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, id_of};
use pakt_tests::wait::{secs, until};
use pakt_tests::{tools, tree, turn};

/// The library that moves a process's wall clock.
pub(crate) fn faketime() -> Option<String> {
    let triples = fs::read_dir("/usr/lib").ok()?.flatten().map(|item| item.path());
    let found: Option<PathBuf> = triples.map(|dir| dir.join("faketime/libfaketime.so.1")).find(|path| path.is_file());
    found.map(|path| path.to_string_lossy().into_owned())
}

pub(crate) fn move_clock(node: &mut TestNode, library: &str, by: &str) {
    node.set_env("LD_PRELOAD", library);
    node.set_env("FAKETIME", by);
    node.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    node.set_env("NO_FAKE_STAT", "1");
}

#[test]
fn p27_clocks_days_apart_deliver_and_both_sides_warn() {
    let Some(library) = faketime() else {
        return tools::skip("p27_clocks_days_apart_deliver_and_both_sides_warn", "no libfaketime");
    };
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let path = pair.path("noise.bin");
    for (round, by) in ["+3d", "+26h", "+0"].into_iter().enumerate() {
        pair.b.terminate();
        move_clock(&mut pair.b, &library, by);
        pair.b.start();
        tree::write_noise(&path, 1_000_000, round as u64 + 600);
        let subject = format!("Clock {by}");
        let sent = pair.send(&subject, &[&path]);
        pair.wait_delivered(&id_of(&sent), secs(60));
        pair.assert_received_once(&subject, &[&path]);
        if by == "+3d" {
            assert_warned(&pair.a);
            assert_warned(&pair.b);
        }
    }
}

/// `doctor` names the clock and by how much it differs from the counterpart's.
#[track_caller]
fn assert_warned(node: &TestNode) {
    until(secs(20), "doctor warns of the clocks", || {
        let told = node.cli_json(&["doctor"]).json();
        let warned = told.as_array()?.iter().any(|row| {
            let finding = row["finding"].as_str().unwrap_or_default();
            row["ok"] == false
                && row["check"].as_str().is_some_and(|check| check.contains("clock"))
                && (finding.contains("3 d")
                    || finding.contains("3d")
                    || finding.contains("72 h")
                    || finding.contains("2 d"))
        });
        warned.then_some(())
    });
}

#[test]
fn p27_a_jump_of_the_clock_does_not_expire_what_waits() {
    let Some(library) = faketime() else {
        return tools::skip("p27_a_jump_of_the_clock_does_not_expire_what_waits", "no libfaketime");
    };
    let _turn = turn::beside();
    let mut pair = Pair::new();
    pair.b.terminate();
    let path = pair.path("noise.bin");
    tree::write_noise(&path, 300_000, 650);
    let sent = id_of(&pair.send("Jump", &[&path]));
    pair.a.terminate();
    move_clock(&mut pair.a, &library, "+30d");
    pair.a.start();
    std::thread::sleep(secs(5));
    let shown = pair.a.json(&["outbox", "show", &sent]);
    assert_ne!(shown["state"], "expired", "thirty days passed on the wall only: {shown}");
    pair.b.start();
    pair.wait_delivered(&sent, secs(60));
    pair.assert_received_once("Jump", &[&path]);
}
