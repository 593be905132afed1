//! A file that does not fit the memory a node may use: one incompressible gigabyte, a second transfer beside it.
//! Of a debug build a smaller one; the release binary gets the gigabyte (`PAKT_TEST_PROFILE=release`).

use std::time::Instant;

use pakt_tests::pair::{Pair, id_of};
use pakt_tests::wait::secs;
use pakt_tests::{binary, tools, tree, turn};

const LARGE_BYTES: u64 = 1 << 30;
const LARGE_BYTES_DEBUG: u64 = 160_000_000;
/// What either node may use at its peak.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

#[test]
fn a_big_file_arrives_and_memory_does_not_grow_with_it() {
    let _turn = turn::alone();
    let pair = Pair::new();
    let (large, beside) = (pair.path("large.bin"), pair.path("beside.bin"));
    let bytes = if binary::is_release() { LARGE_BYTES } else { LARGE_BYTES_DEBUG };
    tree::write_noise(&large, bytes, 1);
    tree::write_noise(&beside, bytes / 4, 2);
    let start = Instant::now();
    let first = id_of(&pair.send("Large", &[&large]));
    let second = id_of(&pair.send("Beside", &[&beside]));
    let sealed = start.elapsed();
    pair.wait_delivered(&first, secs(300));
    pair.wait_delivered(&second, secs(300));
    let delivered = start.elapsed();
    pair.assert_received_once("Large", &[&large]);
    pair.assert_received_once("Beside", &[&beside]);
    for (role, node) in [("sender", &pair.a), ("receiver", &pair.b)] {
        let peak = node.memory_peak_bytes();
        tools::tell(&format!(
            "{} + {} MB: sealed after {sealed:.1?}, delivered after {delivered:.1?}, {role} VmHWM {} MB",
            bytes / 1_000_000,
            bytes / 4_000_000,
            peak / 1_000_000
        ));
        assert!(peak < MEMORY_BYTES_MAX, "the {role} used {peak} bytes");
    }
}
