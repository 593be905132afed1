//! The audit log: heads that a counterpart holds, receipts, and a log that is read again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use pakt_tests::node::TestNode;
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
    what_is_listed_is_exported_and_names_nobody(&pair, &id_of(&sent));
    let verified = pair.b.json(&args);
    // The same without a running node; its last run may have ended with an entry.
    pair.b.terminate();
    assert!(pair.b.json(&args)["entries"].as_u64() >= verified["entries"].as_u64());
    pair.b.start();
    pair.wait_online();
    assert!(!pair.a.json(&["status"])["warnings"].to_string().contains("audit log"));
}

/// All entries of a node, page by page.
fn entries(node: &TestNode) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    loop {
        let page = node.json(&["log", "list", "--from", &all.len().to_string(), "--limit", "7"]);
        let page = page.as_array().unwrap().clone();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn kinds(node: &TestNode) -> BTreeSet<String> {
    entries(node).iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect()
}

fn what_is_listed_is_exported_and_names_nobody(pair: &Pair, sent: &str) {
    let (a, b) = (&pair.a, &pair.b);
    let received = b.json(&["inbox", "list"])[0]["id"].as_str().unwrap().to_owned();
    b.json(&["inbox", "show", &received]);
    let path = pair.path("secretfile");
    fs::write(&path, "secretbody").unwrap();
    let file = path.to_str().unwrap();
    let (to_a, to_b) = (format!("{}/Reception", a.number()), format!("{}/Reception", b.number()));
    let send = |node: &TestNode, to: &str, flag: &str, id: &str| {
        let args = ["send", "--to", to, "--subject", "Secretsubject", flag, id, "--wait", "delivered", file];
        node.json(&[&args[..], &["--timeout", "30s"]].concat());
    };
    send(b, &to_a, "--forwards", &received);
    send(a, &to_b, "--corrects", sent);
    b.cli_json(&["send", "--to", &to_a, "--subject", "x", "--forwards", &"0".repeat(32), file]).expect(4);
    until(secs(20), "the content is erased at the sender", || kinds(a).contains("delete-at-sender").then_some(()));
    let has = |node: &TestNode, wanted: &[&str]| {
        let kinds = kinds(node);
        assert!(wanted.iter().all(|kind| kinds.contains(*kind)), "{wanted:?} in {kinds:?}");
    };
    has(a, &["send", "delivery", "change", "delete-at-sender", "receive", "agreement", "administrator"]);
    has(b, &["receive", "read", "forward", "send", "agreement"]);
    for (number, entry) in entries(b).iter().enumerate() {
        assert_eq!(entry["number"], number, "{entry}");
    }
    let formats = ["fhir", "syslog", "json"];
    let exports = formats.map(|format| {
        let out = pair.at(&format!("b.{format}"));
        let before = entries(b).len() as u64;
        let done = b.json(&["log", "export", "--format", format, "--out", &out]);
        assert_eq!(done["entries"], before, "{done}");
        b.cli_json(&["log", "export", "--format", format, "--out", &out]).expect(1);
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        fs::read_to_string(&out).unwrap()
    });
    let listed = serde_json::to_string(&entries(b)).unwrap();
    for text in exports.iter().chain([&listed]) {
        for secret in [a.name(), b.name(), a.number(), b.number(), "Reception", "Logged", "Secret", "secret"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
    let fhir: Vec<serde_json::Value> = exports[0].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(fhir.iter().all(|event| event["resourceType"] == "AuditEvent"));
    let last = entries(b).pop().unwrap();
    assert_eq!((last["kind"].as_str(), last["action"].as_str()), (Some("log"), Some("exported")));
    let two = b.cli(&["log", "export", "--format", "syslog", "--from", "1", "--to", "2"]).expect(0);
    assert_eq!(two.text(), exports[1].lines().skip(1).take(2).map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(b.cli(&["log", "export", "--format", "json", "--since", "2090-01-01"]).expect(0).text(), "");
    b.cli_json(&["log", "export", "--format", "json", "--since", "soon", "--out", &pair.at("no")]).expect(2);
    let findings = b.cli_json(&["doctor"]).json();
    let of_log = |finding: &&serde_json::Value| finding["check"] == "audit log";
    assert_eq!(findings.as_array().unwrap().iter().find(of_log).unwrap()["ok"], true);
}
