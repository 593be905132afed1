//! The life of an agreement after it was made: amended, renewed, suspended, withdrawn, expired, ended; as operators do it.

use std::fs;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, Plan, active_agreement, id_of, inbox, online, outbox, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;
use pakt_tests::{tree, turn};
use serde_json::Value;

/// The one agreement of `node`, as `agreement list` shows it.
fn listed(node: &TestNode) -> Value {
    node.json(&["agreement", "list"])[0].clone()
}

fn version(node: &TestNode) -> u64 {
    listed(node)["version"].as_u64().expect("a version")
}

fn state(node: &TestNode) -> String {
    listed(node)["state"].as_str().expect("a state").to_owned()
}

/// Writes terms to the desk.
fn terms(pair: &Pair, toml: &str) -> String {
    fs::write(pair.path("change.toml"), toml).expect("the desk can be written");
    pair.at("change.toml")
}

fn until_version(node: &TestNode, wanted: u64) {
    until(secs(20), "the version counts", || (version(node) == wanted).then_some(()));
}

#[test]
fn an_amendment_is_offered_and_accepted_over_the_wire() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let id = pair.agreement.clone();
    let change = terms(&pair, "max_message = \"5MB\"\npurposes = [\"treatment\"]\n");
    let offered = pair.a.cli(&["agreement", "amend", &id, "--terms", &change]).expect(0);
    assert!(offered.stderr.contains("largest message") && offered.stderr.contains("has it"), "{offered}");
    assert_eq!(version(&pair.a), 1, "an offer changes nothing");

    let shown = pair.b.cli(&["agreement", "show", &id]).expect(0).text();
    assert!(shown.contains("amendment offered by") && shown.contains("5,000,000 bytes"), "{shown}");
    let list = pair.b.cli(&["agreement", "list"]).expect(0).text();
    assert!(list.contains("amendment offered"), "{list}");
    let warned = pair.b.json(&["status"])["warnings"].to_string();
    assert!(warned.contains("offers an amendment"), "{warned}");
    assert_eq!(listed(&pair.b)["amendments"][0]["ours"], false);

    let accepted = pair.b.json(&["agreement", "accept", &id]);
    assert_eq!(accepted["delivered"], true, "{accepted}");
    for node in [&pair.a, &pair.b] {
        until_version(node, 2);
        assert_eq!(listed(node)["amendments"].as_array().map(Vec::len), Some(0));
    }
    // What was agreed bites, and what is allowed passes.
    let (large, small) = (pair.path("large.bin"), pair.path("small.bin"));
    tree::write_noise(&large, 6_000_000, 71);
    tree::write_noise(&small, 100_000, 72);
    let refused = pair.a.cli_json(&["send", "--to", &pair.to_b(), "--subject", "Large", &text(&large)]);
    refused.expect(3).complaint();
    pair.wait_delivered(&id_of(&pair.send("Small", &[&small])), secs(30));

    // Both restart and hold the same record.
    pair.a.kill();
    pair.b.terminate();
    pair.a.start();
    pair.b.start();
    pair.wait_online();
    let [a, b] = [&pair.a, &pair.b].map(|node| node.cli(&["agreement", "export", &id]).expect(0).stdout);
    assert_eq!(a, b);
    assert_eq!(version(&pair.a), 2);
    // P5: the file of version 1 brings nothing back.
    for node in [&pair.a, &pair.b] {
        assert_ne!(node.cli(&["agreement", "import", &pair.at("agreement.pakt")]).code, 0);
        assert_eq!(version(node), 2);
    }
}

#[test]
fn an_amendment_goes_by_file_where_a_side_is_away() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let id = pair.agreement.clone();
    pair.b.terminate();
    let (offer, complete) = (pair.at("offer.pakt"), pair.at("complete.pakt"));
    let change = terms(&pair, "urgent_contact = \"+47 22 00 00 00\"\n");
    let offered = pair.a.cli(&["agreement", "amend", &id, "--terms", &change, "--out", &offer]).expect(0);
    assert!(offered.stderr.contains("mail"), "{offered}");
    pair.a.terminate();
    pair.b.start();
    let shown = pair.b.cli(&["agreement", "show", &offer]).expect(0).text();
    assert!(
        shown.contains("amendment") && shown.contains("+47 22 00 00 00") && shown.contains("What changes"),
        "{shown}"
    );
    pair.b.cli(&["agreement", "accept", &offer, "--out", &complete]).expect(0);
    assert_eq!(version(&pair.b), 2);
    pair.b.terminate();
    pair.a.start();
    assert_eq!(version(&pair.a), 1);
    pair.a.cli(&["agreement", "import", &complete]).expect(0);
    assert_eq!(version(&pair.a), 2);
    pair.b.start();
    pair.wait_online();
    until(secs(20), "both know that it counts", || {
        [&pair.a, &pair.b].iter().all(|node| listed(node)["known"] == true).then_some(())
    });
}

#[test]
fn who_was_away_learns_of_a_newer_version_by_itself() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let id = pair.agreement.clone();
    let offer = pair.at("offer.pakt");
    let change = terms(&pair, "max_message = \"7MB\"\n");
    pair.b.terminate();
    pair.a.cli(&["agreement", "amend", &id, "--terms", &change, "--out", &offer]).expect(0);
    let file = pair.path("x.bin");
    tree::write_noise(&file, 10_000, 73);
    let queued = id_of(&pair.send("Queued under version 1", &[&file]));
    pair.a.terminate();
    pair.b.start();
    pair.b.cli(&["agreement", "accept", &offer]).expect(0);
    pair.a.start();
    until_version(&pair.a, 2);
    pair.wait_delivered(&queued, secs(30));
}

#[test]
fn a_withdrawn_offer_is_gone_on_both_sides() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let id = pair.agreement.clone();
    let change = terms(&pair, "max_message = \"5MB\"\n");
    pair.a.cli(&["agreement", "amend", &id, "--terms", &change]).expect(0);
    until(secs(10), "it is offered", || listed(&pair.b)["amendments"][0].is_object().then_some(()));
    pair.a.cli(&["agreement", "withdraw", &id]).expect(0);
    for node in [&pair.a, &pair.b] {
        until(secs(10), "it is gone", || {
            (listed(node)["amendments"].as_array().map(Vec::len) == Some(0)).then_some(())
        });
    }
    pair.b.cli_json(&["agreement", "accept", &id]).expect(4).complaint();
    pair.a.cli_json(&["agreement", "withdraw", &id]).expect(2).complaint();
    assert_eq!(version(&pair.a), 1);
}

#[test]
fn a_proposal_is_withdrawn() {
    let _turn = turn::beside();
    let pair = Pair::strangers(Plan::default());
    pair.exchange_cards();
    pair.propose();
    let id = id_of(&listed(&pair.a));
    pair.a.cli(&["agreement", "withdraw", &id]).expect(0);
    assert_eq!(state(&pair.a), "ended");
    let _ = pair.b.cli(&["agreement", "accept", &pair.at("proposal.pakt")]);
    until(secs(20), "the acceptor learns", || (state(&pair.b) == "ended").then_some(()));
    assert!(active_agreement(&pair.a).is_none());
}

#[test]
fn p6_a_suspension_holds_what_is_queued_and_what_is_queued_arrives_after_it() {
    let _turn = turn::alone();
    for suspender in [Side::A, Side::B] {
        let mut pair = Pair::wired();
        let id = pair.agreement.clone();
        let (large, small) = (pair.path("large.bin"), pair.path("small.bin"));
        tree::write_noise(&large, 20_000_000, 81);
        tree::write_noise(&small, 1_000, 82);
        pair.wire().throttle(2_000_000);
        let under_way = id_of(&pair.send("Under way", &[&large]));
        let before = pair.wire().into_side(Side::B);
        until(secs(60), "content flows", || (pair.wire().into_side(Side::B) > before + 3_000_000).then_some(()));

        let (own, other) = if suspender == Side::A { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        own.cli(&["agreement", "suspend", &id]).expect(0);
        std::thread::sleep(secs(5));
        let after = pair.wire().both();
        std::thread::sleep(secs(3));
        let later = pair.wire().both() - after;
        assert!(later < 50_000, "{later} bytes passed after the suspension");
        pair.wire().throttle(0);
        for node in [own, other] {
            until(secs(10), "both know", || (state(node) == "suspended").then_some(()));
            assert!(online(node), "the control lane stays up");
            let reason = node.json(&["peers"])[0]["reason"].to_string();
            assert!(reason.contains("suspended"), "{reason}");
        }
        let shown = outbox(&pair.a, &under_way).expect("it is known");
        assert_eq!(shown["state"], "queued", "{shown}");
        assert!(shown["reason"].to_string().contains("suspended"), "{shown}");
        pair.a.cli_json(&["send", "--to", &pair.to_b(), "--subject", "No", &text(&small)]).expect(3).complaint();
        assert_ne!(other.cli(&["agreement", "resume", &id]).code, 0, "only the side that suspended resumes");

        // Restarts keep it.
        pair.a.kill();
        pair.b.kill();
        pair.a.start();
        pair.b.start();
        pair.wait_online();
        let own = if suspender == Side::A { &pair.a } else { &pair.b };
        assert_eq!((state(&pair.a), state(&pair.b)), ("suspended".into(), "suspended".into()));
        assert!(inbox(&pair.b, "Under way").is_empty());
        own.cli(&["agreement", "resume", &id]).expect(0);
        pair.wait_delivered(&under_way, secs(60));
        pair.assert_received_once("Under way", &[&large]);
    }
}

#[test]
fn p6_an_end_bites_in_mid_transfer_from_either_side() {
    let _turn = turn::alone();
    for ender in [Side::A, Side::B] {
        let pair = Pair::wired();
        let (first, second) = (pair.path("first.bin"), pair.path("second.bin"));
        tree::write_noise(&first, 40_000_000, 61);
        tree::write_noise(&second, 1_000_000, 62);
        pair.wire().throttle(2_000_000);
        let under_way = id_of(&pair.send("Under way", &[&first]));
        let queued = id_of(&pair.send("Queued", &[&second]));
        let before = pair.wire().into_side(Side::B);
        until(secs(60), "content flows", || (pair.wire().into_side(Side::B) > before + 3_000_000).then_some(()));

        let (own, other) = if ender == Side::A { (&pair.a, &pair.b) } else { (&pair.b, &pair.a) };
        own.cli(&["agreement", "end", &pair.agreement]).expect(0);
        std::thread::sleep(secs(5));
        let after = pair.wire().both();
        std::thread::sleep(secs(3));
        let later = pair.wire().both() - after;
        assert!(later < 50_000, "{later} bytes passed after the end");

        pair.wire().throttle(0);
        until(secs(30), "the other side is told", || (state(other) == "ended").then_some(()));
        for envelope in [&under_way, &queued] {
            let shown = until(secs(20), "what waits is given up", || {
                outbox(&pair.a, envelope).filter(|shown| shown["state"] == "refused")
            });
            assert!(shown["reason"].to_string().contains("agreement"), "{shown}");
        }
        assert!(inbox(&pair.b, "Under way").is_empty() && inbox(&pair.b, "Queued").is_empty());
        let refused = pair.a.cli_json(&["send", "--to", &pair.to_b(), "--subject", "Late", &text(&second)]);
        refused.expect(3).complaint();
    }
}

#[test]
fn p6_an_agreement_expires_at_its_time_and_a_renewal_by_file_brings_it_back() {
    let _turn = turn::beside();
    let pair = Pair::of(Plan { terms: Some("valid_until = \"25s\"\n".into()), ..Plan::default() });
    let id = pair.agreement.clone();
    let warned = pair.a.json(&["status"])["warnings"].to_string();
    assert!(warned.contains("renew"), "it ends soon: {warned}");
    assert_eq!(listed(&pair.a)["ends_in_days"], 0);
    for node in [&pair.a, &pair.b] {
        until(secs(40), "it expires", || (state(node) == "expired").then_some(()));
        until(secs(10), "and the connection goes", || (!online(node)).then_some(()));
    }
    let file = pair.path("x.bin");
    tree::write_noise(&file, 1_000, 91);
    let refused = pair.a.cli_json(&["send", "--to", &pair.to_b(), "--subject", "Late", &text(&file)]);
    assert!(refused.expect(3).complaint().contains("ran out"));

    let (offer, complete) = (pair.at("offer.pakt"), pair.at("complete.pakt"));
    pair.b.cli(&["agreement", "renew", &id, "--until", "30d", "--out", &offer]).expect(0);
    pair.a.cli(&["agreement", "accept", &offer, "--out", &complete]).expect(0);
    pair.b.cli(&["agreement", "import", &complete]).expect(0);
    pair.wait_online();
    pair.wait_delivered(&id_of(&pair.send("Again", &[&file])), secs(30));
}

#[test]
fn a_renewal_goes_over_the_wire() {
    let _turn = turn::beside();
    let pair = Pair::of(Plan { terms: Some("valid_until = \"20d\"\n".into()), ..Plan::default() });
    let id = pair.agreement.clone();
    let doctor = pair.a.cli_json(&["doctor"]).json().to_string();
    assert!(doctor.contains("ends "), "{doctor}");
    assert!(listed(&pair.b)["ends_in_days"].as_i64().is_some_and(|days| (18..=20).contains(&days)));
    pair.a.cli(&["agreement", "renew", &id]).expect(0);
    pair.b.cli(&["agreement", "accept", &id]).expect(0);
    for node in [&pair.a, &pair.b] {
        until_version(node, 2);
        let days = listed(node)["ends_in_days"].as_i64().expect("it ends");
        assert!((38..=40).contains(&days), "as long again: {days}");
    }
}

#[test]
fn a_fingerprint_is_compared_later_and_the_policy_demands_it() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let id = pair.agreement.clone();
    let file = pair.path("x.bin");
    tree::write_noise(&file, 1_000, 92);
    let config = pair.a.dir().join("config.toml");
    let before = fs::read_to_string(&config).expect("a configuration");
    pair.a.terminate();
    fs::write(&config, format!("require_verified = true\n{}", before.replace("require_verified = false\n", "")))
        .expect("the configuration can be written");
    pair.a.start();
    pair.wait_online();
    let send = |node: &TestNode| node.cli_json(&["send", "--to", &pair.to_b(), "--subject", "Checked", &text(&file)]);
    assert!(send(&pair.a).expect(3).complaint().contains("agreement verify"));

    let of = |node: &TestNode| listed(node)["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let (of_a, of_b) = (of(&pair.b), of(&pair.a));
    assert_ne!(pair.a.cli(&["agreement", "verify", &id, "--fingerprint", &of_a]).code, 0);
    assert_eq!(listed(&pair.a)["verified"], false);
    pair.a.cli(&["agreement", "verify", &id, "--fingerprint", &of_b.to_uppercase()]).expect(0);
    assert_eq!(listed(&pair.a)["verified"], true);
    send(&pair.a).expect(0);
}

#[test]
fn terms_are_reviewed_in_plain_words() {
    let _turn = turn::beside();
    let pair = Pair::strangers(Plan {
        terms: Some("purposes = [\"treatment\"]\nhold = \"1h\"\nrate = \"20/h\"\n".into()),
        ..Plan::default()
    });
    pair.exchange_cards();
    pair.propose();
    let shown = pair.b.cli(&["agreement", "show", &pair.at("proposal.pakt")]).expect(0).text();
    for says in ["What this makes this node do", "one of these purposes: treatment", "1 h", "20/h"] {
        assert!(shown.contains(says), "{says} is missing\n{shown}");
    }
    let review = pair.b.json(&["agreement", "show", &pair.at("proposal.pakt")])["review"].clone();
    assert_eq!(review.as_array().map(Vec::len), Some(11), "{review}");
}
