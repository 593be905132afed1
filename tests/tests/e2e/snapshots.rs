//! P12: a machine that is set back to a snapshot lives through the same moments twice; nothing random repeats.

use std::collections::BTreeSet;
use std::process::Command;

use pakt_tests::output::Output;
use pakt_tests::pair::{Pair, id_of, text};
use pakt_tests::wait::secs;
use pakt_tests::wire::FLIGHT_BYTES;
use pakt_tests::{tree, turn};

/// Bytes of a flight that its dialer draws anew each time.
const NONCE_BYTES: usize = 32;

#[test]
fn p12_nothing_repeats_after_a_snapshot_was_restored() {
    let _turn = turn::alone();
    let mut pair = Pair::wired();
    pair.a.kill();
    let snapshot = pair.path("snapshot");
    copy(pair.a.dir(), &snapshot);
    let file = pair.path("same.bin");
    tree::write_noise(&file, 2_000_000, 121);

    // The same life twice: the same file to the same group under the same subject.
    for round in 1..=2 {
        pair.a.start();
        pair.wait_online();
        let sent = id_of(&pair.send(&format!("Life {round}"), &[&file]));
        pair.wait_delivered(&sent, secs(60));
        pair.assert_received_once(&format!("Life {round}"), &[&file]);
        pair.a.kill();
        std::fs::remove_dir_all(pair.a.dir()).unwrap();
        copy(&snapshot, pair.a.dir());
    }

    let flights = pair.wire().flights();
    let whole = flights.iter().filter(|flight| flight.bytes.len() == FLIGHT_BYTES);
    let nonces: Vec<&[u8]> = whole.map(|flight| &flight.bytes[..NONCE_BYTES]).collect();
    let distinct: BTreeSet<&[u8]> = nonces.iter().copied().collect();
    assert!(nonces.len() >= 4, "the line saw both lives");
    assert_eq!(distinct.len(), nonces.len(), "a nonce was used twice");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    Output::of(Command::new("cp").args(["-a", &text(from), &text(to)])).expect(0);
}
