//! Nothing just sits there: what cannot be delivered waits, is delivered later, or is reported once.

use std::fs;
use std::time::Instant;

use pakt_tests::pair::{DELIVERED, Pair, Plan, id_of, inbox, online, outbox, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{tools, tree, turn};
use serde_json::Value;

#[test]
fn what_is_sent_to_an_absent_peer_arrives_when_it_is_back() {
    let _turn = turn::alone();
    let mut pair = Pair::new();
    pair.b.terminate();
    until(secs(60), "the absence is seen", || (!online(&pair.a)).then_some(()));
    let study = pair.path("study");
    tree::make_strange(&study, 100, 2_000_000);
    let kept = tree::read_sent(&[&study]);

    let sent = pair.send("Waits", &[&study]);
    for key in ["next_attempt_at", "expires_at"] {
        assert!(sent[key].is_string(), "{key} is missing: {sent}");
    }
    assert_eq!(sent["state"], "queued", "{sent}");
    // PATH is no longer needed, and the queue survives a power cut.
    let moved = pair.path("moved");
    fs::rename(&study, &moved).unwrap();
    pair.a.kill();
    pair.a.start();
    assert_eq!(pair.a.json(&["status"])["queued"], 1);

    let back = Instant::now();
    pair.b.start();
    until(secs(10), "it is connected within 10 s", || online(&pair.a).then_some(()));
    pair.wait_delivered(&id_of(&sent), secs(30));
    tools::tell(&format!("delivered {:?} after the peer's start", back.elapsed()));
    fs::rename(&moved, &study).unwrap();
    pair.assert_received_once("Waits", &[&study]);
    assert_eq!(tree::read_sent(&[&study]), kept);
    assert_eq!(pair.a.json(&["status"])["queued"], 0);
}

#[test]
fn wait_times_out_with_seven_and_the_message_stays_queued() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    pair.b.terminate();
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    let (to, path) = (pair.to_b(), text(&path));
    let start = Instant::now();
    let args = ["send", "--to", &to, "--subject", "Timeout", "--wait", "delivered", "--timeout", "3s", &path];
    pair.a.cli_json(&args).expect(7);
    assert!(start.elapsed() >= secs(3) && start.elapsed() < secs(20), "{:?}", start.elapsed());
    let list = pair.a.json(&["outbox", "list"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    pair.b.start();
    pair.wait_delivered(&id_of(&list[0]), secs(30));
    assert_eq!(inbox(&pair.b, "Timeout").len(), 1);
}

#[test]
fn p30_the_hold_time_ends_with_exactly_one_report() {
    let turn = turn::beside();
    let mut pair = Pair::of(Plan { terms: Some("hold = \"1m\"\n".into()), ..Plan::default() });
    pair.b.terminate();
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    let sent = pair.send("Too late", &[&path]);
    assert!(reports(&pair).is_empty());
    // A minute in which one node does little: others may use the machine.
    drop(turn);
    // The report comes although the sender was cut off in between, however often: PAKT_HOLD_RESTARTS=20 for all of them.
    let restarts = tools::count("PAKT_HOLD_RESTARTS", 3);
    for _ in 0..restarts {
        pair.a.kill();
        pair.a.start();
        assert!(reports(&pair).is_empty(), "before the hold time was over");
        std::thread::sleep(secs(45) / u32::try_from(restarts).unwrap());
    }
    let report = until(secs(120), "a report to the sending group", || {
        std::thread::sleep(secs(1));
        reports(&pair).pop()
    });
    let _turn = turn::beside();
    let shown = outbox(&pair.a, &id_of(&sent)).unwrap();
    assert_eq!(shown["state"], "expired", "{shown}");
    assert!(shown["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{shown}");
    assert_eq!(report["group"], "Reception", "{report}");
    let told = pair.a.json(&["inbox", "show", &id_of(&report)]);
    assert!(told.to_string().contains("Too late") || told.to_string().contains(&id_of(&sent)), "{told}");

    pair.b.start();
    pair.wait_online();
    std::thread::sleep(secs(8));
    assert!(inbox(&pair.b, "Too late").is_empty(), "an expired message was delivered");
    assert_eq!(reports(&pair).len(), 1);
    assert_eq!(outbox(&pair.a, &id_of(&sent)).unwrap()["state"], "expired", "a final state changed");
}

fn reports(pair: &Pair) -> Vec<Value> {
    let list = pair.a.json(&["inbox", "list"]);
    list.as_array().into_iter().flatten().filter(|item| item["kind"] == "report").cloned().collect()
}

#[test]
fn urgent_overtakes_bulk() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    let (bulk, urgent) = (pair.path("bulk.bin"), pair.path("urgent.bin"));
    tree::write_noise(&bulk, 60_000_000, 81);
    tree::write_noise(&urgent, 200_000, 82);
    pair.wire().throttle(4_000_000);
    let slow = id_of(&pair.send("Slow", &[&bulk]));
    let (to, path) = (pair.to_b(), text(&urgent));
    let args = ["send", "--to", &to, "--subject", "Urgent", "--priority", "urgent", &path];
    let start = Instant::now();
    pair.a.cli(&[&args[..], &["--wait", "delivered", "--timeout", "60s"]].concat()).expect(0);
    let took = start.elapsed();
    let state = outbox(&pair.a, &slow).unwrap()["state"].clone();
    assert!(!DELIVERED.contains(&state.as_str().unwrap()), "the bulk was through before; the test measured nothing");
    assert!(took < secs(6), "urgent took {took:?} behind a bulk transfer of 15 s");
    pair.wire().throttle(0);
    pair.wait_delivered(&slow, secs(60));
}

#[test]
fn p28_the_line_breaks_again_and_again_and_everything_arrives_once() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    let mut sent = Vec::new();
    pair.wire().throttle(8_000_000);
    for at in 0..12u64 {
        let path = pair.path(&format!("part-{at}.bin"));
        tree::write_noise(&path, 300_000 + at * 100_000, 900 + at);
        let subject = format!("Part {at}");
        let envelope = id_of(&pair.send(&subject, &[&path]));
        sent.push((subject, path, envelope));
        pair.wire().cut(true);
        std::thread::sleep(std::time::Duration::from_millis(150 + at * 40));
        pair.wire().cut(false);
        std::thread::sleep(std::time::Duration::from_millis(at * 60));
    }
    for (subject, path, envelope) in &sent {
        pair.wait_delivered(envelope, secs(90));
        pair.assert_received_once(subject, &[path]);
    }
    let all = pair.b.json(&["inbox", "list"]);
    assert_eq!(all.as_array().map(Vec::len), Some(sent.len()), "{all}");
}
