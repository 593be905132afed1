//! Terms that bite, as operators see them: purposes and controls.

use std::fs;

use pakt_tests::pair::{Pair, Plan, id_of, inbox, outbox, text};
use pakt_tests::turn;
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;

fn pair(terms: &str) -> Pair {
    Pair::of(Plan { wired: true, terms: Some(terms.into()), ..Plan::default() })
}

#[test]
fn a_purpose_must_be_one_of_the_agreement() {
    let _turn = turn::beside();
    let pair = pair("purposes = [\"treatment\", \"billing\"]\nretention = \"30d\"\n");
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    let send = |purpose: &[&str]| {
        let (to, path) = (pair.to_b(), text(&path));
        let args = [&["send", "--to", &to, "--subject", "Why", &path][..], purpose].concat();
        pair.a.cli_json(&args)
    };
    let told = send(&[]).expect(2).complaint();
    assert!(told.contains("treatment") && told.contains("billing"), "{told}");
    send(&["--purpose", "curiosity"]).expect(3);
    let sent = send(&["--purpose", "billing"]).expect(0).json();
    pair.wait_delivered(&id_of(&sent["envelopes"][0]), secs(30));
    let item = inbox(&pair.b, "Why").remove(0);
    let shown = pair.b.json(&["inbox", "show", &id_of(&item)]);
    assert_eq!(shown["purpose"], "billing");
    assert!(shown["keep_until"].as_str() > shown["received_at"].as_str(), "{shown}");
}

#[test]
fn nothing_is_sent_to_a_node_without_the_agreed_scanner() {
    let _turn = turn::beside();
    let pair = pair("controls = [\"malware-scan\"]\n");
    let path = pair.path("x");
    pakt_tests::tree::write_noise(&path, 3_000_000, 5);
    let before = pair.wire().into_side(Side::B);
    let sent = pair.send("Scanned?", &[&path]);
    let envelope = id_of(&sent);
    let shown = until(secs(30), "it is known why it waits", || {
        outbox(&pair.a, &envelope).filter(|shown| shown["reason"].to_string().contains("malware-scan"))
    });
    assert_eq!(shown["state"], "queued", "{shown}");
    std::thread::sleep(secs(3));
    assert!(pair.wire().into_side(Side::B) - before < 100_000, "content was sent");
    assert!(inbox(&pair.b, "Scanned?").is_empty());
    assert!(pair.a.json(&["peers"])[0]["holding"].to_string().contains("malware-scan"));
    assert!(pair.b.json(&["status"])["warnings"].to_string().contains("malware-scan"));
    let found = pair.b.cli_json(&["doctor"]).json();
    assert!(found.to_string().contains("cannot attest"), "{found}");
}

#[test]
fn a_control_that_nobody_can_attest_cannot_be_proposed() {
    let _turn = turn::beside();
    let pair = Pair::strangers(Plan { terms: Some("controls = [\"guard-dog\"]\n".into()), ..Plan::default() });
    pair.exchange_cards();
    let (card, terms) = (pair.at("b.card"), pair.at("terms.toml"));
    let told = pair.a.cli_json(&["agreement", "propose", "--with", &card, "--terms", &terms]).expect(2).complaint();
    assert!(told.contains("malware-scan, journal, retention"), "{told}");
}
