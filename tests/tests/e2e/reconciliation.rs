//! P30: both sides compare what was sent with what is held; an operator asks for it and reads it.

use std::fs;

use pakt_tests::pair::{Pair, id_of};
use pakt_tests::turn;
use pakt_tests::wait::secs;
use serde_json::Value;

fn direction<'a>(all: &'a Value, direction: &str) -> &'a Value {
    let rows = all.as_array().expect("an array");
    rows.iter().find(|row| row["direction"] == direction).expect("both directions")
}

#[test]
fn p30_you_sent_three_i_hold_three() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    for subject in ["One", "Two", "Three"] {
        let sent = pair.send(subject, &[&path]);
        pair.wait_delivered(&id_of(&sent), secs(30));
    }
    let number = pair.b.number().to_owned();
    let all = pair.a.json(&["reconcile", "--with", &number]);
    let (sent, received) = (direction(&all, "sent"), direction(&all, "received"));
    let counts = |row: &Value| ["given", "delivered", "held", "gap_count"].map(|key| row[key].as_u64().unwrap_or(99));
    assert_eq!((counts(sent), counts(received)), ([3, 3, 3, 0], [0, 0, 0, 0]), "{all}");
    assert_eq!((&sent["pending"], &sent["overdue"]), (&false.into(), &false.into()));
    // The other side has the same on record, and so has this one after a restart.
    let theirs = pair.b.json(&["reconcile", "list"]);
    assert_eq!(counts(direction(&theirs, "received")), [3, 3, 3, 0], "{theirs}");
    pair.a.terminate();
    pair.a.start();
    let again = pair.a.json(&["reconcile", "list"]);
    assert_eq!(direction(&again, "sent")["at"], sent["at"]);
    assert_eq!(pair.a.json(&["status"])["reconciliation_gaps"], 0);
    what_was_signed_is_a_file_that_two_cards_verify(&mut pair);
    // Nobody, and nobody there.
    pair.a.cli_json(&["reconcile", "--with", "NO:ORGNR:1"]).expect(4);
    pair.wait_online();
    pair.b.terminate();
    let told = pair.a.cli_json(&["reconcile", "--with", &number, "--timeout", "1s"]).expect(7).json();
    assert_eq!(direction(&told, "sent")["pending"], true, "{told}");
}

/// Either side exports the same evidence; it is verified where no node runs, and a changed byte shows.
fn what_was_signed_is_a_file_that_two_cards_verify(pair: &mut Pair) {
    let (number_a, number_b) = (pair.a.number().to_owned(), pair.b.number().to_owned());
    let (ours, theirs, changed) = (pair.at("a.reconciliation"), pair.at("b.reconciliation"), pair.at("changed"));
    let (card_a, card_b) = (pair.at("a.card"), pair.at("b.card"));
    let exported = pair.a.json(&["reconcile", "export", &number_b, "--out", &ours]);
    assert_eq!(exported["file"].as_str().unwrap(), fs::read_to_string(&ours).unwrap());
    assert_eq!(exported["comparisons"].as_array().map(Vec::len), Some(2), "{exported}");
    pair.b.cli(&["reconcile", "export", &number_a, "--out", &theirs]).expect(0);
    pair.a.cli(&["reconcile", "export", "NO:ORGNR:1"]).expect(4);
    for file in [&ours, &theirs] {
        let verify = ["reconcile", "verify", file, "--card", &card_b, "--card", &card_a];
        let shown = pair.b.plain(&[&verify[..], &["--json"]].concat()).expect(0).json();
        let all = shown["comparisons"].as_array().unwrap();
        let sent = all.iter().find(|one| one["from"]["number"] == number_a).unwrap();
        assert_eq!(
            (&shown["valid"], &sent["delivered"], &sent["held"], &sent["lost"], &sent["to"]["number"]),
            (&true.into(), &3.into(), &3.into(), &serde_json::json!([]), &number_b.as_str().into()),
            "{shown}"
        );
        let text = pair.b.plain(&verify).expect(0).text();
        assert!(text.contains("holds 3") && text.contains("gaps"), "{text}");
    }
    // A card of one side is not enough, and what was changed is refused.
    pair.b.plain(&["reconcile", "verify", &ours, "--card", &card_a]).expect(2);
    pair.b.plain(&["reconcile", "verify", &ours, "--card", &card_a, "--card", &card_a]).expect(6);
    pair.b.plain(&["reconcile", "verify", &card_a, "--card", &card_a, "--card", &card_b]).expect(2);
    let text = fs::read_to_string(&ours).unwrap();
    let at = text.len() / 2;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    fs::write(&changed, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
    pair.b.plain(&["reconcile", "verify", &changed, "--card", &card_a, "--card", &card_b]).expect(6);
}
