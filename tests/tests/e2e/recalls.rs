//! Recalls, "not for us", hold: with real nodes, as people type it, down to the proof that a third person verifies.

use std::fs;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, id_of, text};
use pakt_tests::turn;
use pakt_tests::wait::{secs, until};
use serde_json::Value;

fn delivered(pair: &Pair, subject: &str) -> String {
    let path = pair.path(&format!("{subject}.txt"));
    fs::write(&path, subject).unwrap();
    let args =
        ["send", "--to", &pair.to_b(), "--subject", subject, "--wait", "delivered", "--timeout", "30s", &text(&path)];
    id_of(&pair.a.json(&args)["envelopes"][0])
}

fn inbox(node: &TestNode) -> Vec<Value> {
    node.json(&["inbox", "list"]).as_array().cloned().unwrap_or_default()
}

fn state(pair: &Pair, id: &str) -> String {
    let shown = pair.a.json(&["outbox", "show", id]);
    shown["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn p41_a_message_is_recalled_and_the_proof_is_verified_by_anyone() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let id = delivered(&pair, "Feil pasient");
    let recalled = pair.a.json(&["outbox", "recall", &id, "--wait", "--timeout", "30s"]);
    assert_eq!(recalled["envelopes"][0]["state"], "recalled", "{recalled}");
    pair.b.cli_json(&["inbox", "show", &id]).expect(4);
    let items = inbox(&pair.b);
    assert!(items.iter().all(|item| item["kind"] == "report"), "{items:?}");
    assert!(!serde_json::to_string(&items).unwrap().contains("Feil pasient"), "a subject outlives its message");
    // The proof, with the two cards alone.
    let (proof, card_a, card_b) = (pair.at("proof"), pair.at("a2.card"), pair.at("b2.card"));
    pair.a.cli(&["receipt", "export", &id, "--out", &proof]).expect(0);
    pair.a.cli(&["card", "--out", &card_a]).expect(0);
    pair.b.cli(&["card", "--out", &card_b]).expect(0);
    let verified = pair.a.json(&["receipt", "verify", &proof, "--card", &card_a, "--card", &card_b]);
    assert_eq!((&verified["valid"], &verified["verdict"]), (&true.into(), &"recalled".into()), "{verified}");
    pair.a.cli_json(&["outbox", "recall", &id]).expect(3);

    // Sent back by its recipient.
    let id = delivered(&pair, "Ikke til oss");
    let out = pair.at("returned");
    let returned = pair.b.json(&["inbox", "return", &id, "--out", &out]);
    assert_eq!((&returned["cause"], &returned["id"]), (&"not_for_us".into(), &id.as_str().into()), "{returned}");
    until(secs(20), "the sender is told", || (state(&pair, &id) == "refused").then_some(()));
    let verified = pair.a.json(&["receipt", "verify", &out, "--card", &card_a, "--card", &card_b]);
    assert_eq!(verified["verdict"], "returned", "{verified}");
    let told = inbox(&pair.a);
    assert!(told.iter().any(|item| item["kind"] == "report"), "{told:?}");

    // On hold nothing takes it away; afterwards the wish is granted, also after a restart.
    let id = delivered(&pair, "Skal beholdes");
    assert_eq!(pair.b.json(&["inbox", "hold", &id])["on_hold"], true);
    pair.b.cli_json(&["inbox", "return", &id]).expect(3);
    pair.b.cli_json(&["inbox", "delete", &id]).expect(3);
    pair.a.cli(&["outbox", "recall", &id]).expect(0);
    pair.a.cli(&["outbox", "recall", &id, "--wait", "--timeout", "1s"]).expect(7);
    pair.b.terminate();
    pair.b.start();
    pair.wait_online();
    assert_eq!(pair.b.json(&["inbox", "unhold", &id])["recalled"], true);
    until(secs(20), "the recall is answered", || (state(&pair, &id) == "recalled").then_some(()));
    pair.b.cli(&["log", "verify"]).expect(0);
    pair.a.cli(&["log", "verify"]).expect(0);
}
