//! Urgent messages beside a transfer that fills the line.

use std::time::{Duration, Instant};

use pakt_tests::pair::{DELIVERED, Pair, id_of, outbox, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{tools, tree, turn};

/// The line.
const BYTES_PER_SECOND: u64 = 2_000_000;
/// Four lanes of bulk beside it would make a fair share of the line five times as slow.
const URGENT_BYTES: u64 = 3_000_000;

#[test]
fn an_urgent_message_overtakes_what_fills_the_line() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    pair.wire().throttle(BYTES_PER_SECOND);
    let idle = urgent(&pair, 1);

    let archive = pair.path("archive.bin");
    tree::write_noise(&archive, 40_000_000, 99);
    let bulk = id_of(&pair.send("Archive", &[&archive]));
    let flows = || outbox(&pair.a, &bulk).filter(|shown| shown["bytes_on_wire"].as_u64() > Some(4_000_000));
    until(secs(30), "the archive flows", flows);
    let beside = urgent(&pair, 2);
    tools::tell(&format!("urgent: {idle:.2?} on the idle line, {beside:.2?} on the full one"));
    assert!(beside <= idle * 2 + Duration::from_millis(1_000), "{beside:?} beside bulk, {idle:?} alone");

    let after = outbox(&pair.a, &bulk).unwrap();
    assert!(!DELIVERED.contains(&after["state"].as_str().unwrap()), "the archive was still under way: {after}");
    pair.wait_delivered(&bulk, secs(60));
    pair.assert_received_once("Archive", &[&archive]);
}

/// Sends an urgent message and waits for its receipt.
fn urgent(pair: &Pair, seed: u64) -> Duration {
    let image = pair.path(&format!("urgent-{seed}.bin"));
    tree::write_noise(&image, URGENT_BYTES, seed);
    let (to, path) = (pair.to_b(), text(&image));
    let began = Instant::now();
    let subject = format!("Now {seed}");
    let args = ["send", "--to", &to, "--subject", &subject, "--priority", "urgent", "--wait", "delivered", &path];
    pair.a.json(&args);
    began.elapsed()
}
