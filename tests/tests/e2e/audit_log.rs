//! The audit log: heads that a counterpart holds, receipts, and a log that is read again.

use std::fs;

use pakt_tests::pair::{Pair, id_of};
use pakt_tests::turn;
use pakt_tests::wait::{secs, until};

#[test]
fn p25_a_log_is_verified_against_what_the_counterpart_holds() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    let sent = pair.send("Logged", &[&path]);
    pair.wait_delivered(&id_of(&sent), secs(30));
    pair.assert_received_once("Logged", &[&path]);
    let (held, receipt, own) = (pair.at("held.head"), pair.at("x.receipt"), pair.at("own.head"));
    let number = pair.b.number().to_owned();
    until(secs(20), "a head of the counterpart's log", || {
        (pair.a.cli(&["log", "head", "--of", &number, "--out", &held]).code == 0).then_some(())
    });
    pair.a.cli(&["receipt", "export", &id_of(&sent), "--out", &receipt]).expect(0);
    pair.b.cli(&["log", "head", "--out", &own]).expect(0);
    let args = ["log", "verify", "--head", &held, "--head", &receipt, "--head", &own];
    let verified = pair.b.json(&args);
    assert!(verified["entries"].as_u64() >= Some(4) && verified["compared"].as_u64() >= Some(3), "{verified}");
    // Another entity's head says nothing about this log.
    let foreign = pair.a.cli_json(&["log", "verify", "--head", &held]).expect(1);
    assert!(foreign.complaint().contains("audit log of ent1"), "it says whose it is");
    // A head whose bytes were changed is refused.
    let text = fs::read_to_string(&held).unwrap();
    let at = text.len() / 2;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    fs::write(pair.path("bad.head"), format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    pair.b.cli_json(&["log", "verify", "--head", &pair.at("bad.head")]).expect(6);
    // The same without a running node.
    pair.b.terminate();
    assert_eq!(pair.b.json(&args)["entries"], verified["entries"]);
    pair.b.start();
    pair.wait_online();
    assert!(!pair.a.json(&["status"])["warnings"].to_string().contains("audit log"));
}
