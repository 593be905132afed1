//! P1 under load: a storm of strangers from sixteen addresses, one of which an honest counterpart shares. Not one byte comes back,
//! memory stays bounded, and honest messages arrive as if nothing were.
//!
//! 5,000 connections in 6 s here; the whole is
//! `PAKT_CONNECTS=50000 cargo test --release -p pakt-tests --test e2e -- storm`, at the same pace for 60 s.

use std::time::{Duration, Instant};

use pakt_tests::pair::{Pair, inbox};
use pakt_tests::storm::{Met, Storm};
use pakt_tests::wait::secs;
use pakt_tests::{binary, tools, tree, turn};

const CONNECTS: usize = 5_000;
const CONNECTS_PER_SECOND: usize = 50_000 / 60;
const ADDRESSES: u8 = 16;
/// An honest message from command to receipt, storm or not.
const RECEIPT_WITHIN: Duration = Duration::from_secs(3);
/// What strangers may make a node hold: places at the door, their sockets and buffers.
const MEMORY_BYTES_MAX: u64 = 32 << 20;
/// What strangers may take of one processor; an unoptimised build tells nothing about that.
const CPU_SHARE_MAX: f64 = 0.25;

#[test]
fn p1_a_storm_of_strangers_learns_nothing_and_stops_nobody() {
    let _turn = turn::alone();
    let connects = tools::count("PAKT_CONNECTS", CONNECTS);
    let pair = Pair::new();
    let path = pair.path("letter.bin");
    tree::write_noise(&path, 100_000, 31);
    // Everything that a message needs is in memory before it is measured.
    send(&pair, "Before", &path);
    let (memory_before, cpu_idle) = (pair.a.memory_peak_bytes(), cpu_share(&pair, secs(3)));

    let lasts = Duration::from_secs_f64(connects as f64 / CONNECTS_PER_SECOND as f64);
    let storm = Storm { target: pair.a.listen(), connects, lasts, addresses: ADDRESSES };
    let (began, cpu_before) = (Instant::now(), pair.a.cpu_seconds());
    let blowing = std::thread::spawn(move || storm.blow());
    let mut receipts = Vec::new();
    while !blowing.is_finished() {
        receipts.push(send(&pair, &format!("In the storm {}", receipts.len()), &path));
        std::thread::sleep(Duration::from_millis(500));
    }
    let met = blowing.join().expect("the storm ends");
    let share = (pair.a.cpu_seconds() - cpu_before) / began.elapsed().as_secs_f64() - cpu_idle;
    let memory = pair.a.memory_peak_bytes().saturating_sub(memory_before);
    let longest = receipts.iter().max().copied().unwrap_or_default();
    tools::tell(&format!(
        "{} connections in {:.1?}: {} bytes back, {} honest messages, longest {longest:.2?}, {:.1} % of one processor \
         (honest messages included), {:.1} MB more memory",
        met.connected,
        began.elapsed(),
        met.bytes_back,
        receipts.len(),
        share * 100.0,
        memory as f64 / 1e6
    ));
    assert_eq!(met, Met { connected: connects / usize::from(ADDRESSES) * usize::from(ADDRESSES), bytes_back: 0 });
    assert!(!receipts.is_empty() && longest <= RECEIPT_WITHIN, "an honest message took {longest:?}");
    assert!(memory <= MEMORY_BYTES_MAX, "strangers cost {memory} bytes");
    assert!(!binary::is_release() || share <= CPU_SHARE_MAX, "strangers took {share:.2} of one processor");
    for (at, _) in receipts.iter().enumerate() {
        assert_eq!(inbox(&pair.a, &format!("In the storm {at}")).len(), 1);
    }
}

/// Sends from the counterpart to the node in the storm; gives the time from the command to the receipt.
fn send(pair: &Pair, subject: &str, path: &std::path::Path) -> Duration {
    let start = Instant::now();
    let to = format!("{}/Reception", pair.a.number());
    let sent =
        pair.b.json(&["send", "--to", &to, "--subject", subject, "--wait", "delivered", &path.to_string_lossy()]);
    assert_eq!(sent["envelopes"].as_array().map(Vec::len), Some(1), "{sent}");
    start.elapsed()
}

/// The share of one processor that the node takes when nothing happens.
fn cpu_share(pair: &Pair, time: Duration) -> f64 {
    let before = pair.a.cpu_seconds();
    std::thread::sleep(time);
    (pair.a.cpu_seconds() - before) / time.as_secs_f64()
}
