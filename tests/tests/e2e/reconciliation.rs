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
    // Nobody, and nobody there.
    pair.a.cli_json(&["reconcile", "--with", "NO:ORGNR:1"]).expect(4);
    pair.wait_online();
    pair.b.terminate();
    let told = pair.a.cli_json(&["reconcile", "--with", &number, "--timeout", "1s"]).expect(7).json();
    assert_eq!(direction(&told, "sent")["pending"], true, "{told}");
}
