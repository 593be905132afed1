//! Content that was sent before moves no second time: again, with something added, to another group, after restarts.
//! P13: what another entity holds is not found.

use std::fs;
use std::path::Path;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{tools, tree, turn};

const FILES: u64 = 24;
const FILE_BYTES: u64 = 600_000;

fn write_series(folder: &Path, seed: u64, files: u64) {
    fs::create_dir_all(folder).unwrap();
    for file in 0..files {
        tree::write_noise(&folder.join(format!("{file:04}.dcm")), FILE_BYTES, seed * 1_000 + file);
    }
}

/// Sends and waits for the receipt; gives content and TCP payload in bytes.
#[track_caller]
fn send(from: &TestNode, to: &str, subject: &str, path: &Path) -> (u64, u64) {
    let args = ["send", "--to", to, "--subject", subject, "--wait", "delivered", "--timeout", "120s", &text(path)];
    let told = from.json(&args);
    let envelope = &told["envelopes"][0];
    let bytes = |key: &str| envelope[key].as_u64().unwrap_or_else(|| panic!("{key} is missing: {told}"));
    let sums = (bytes("bytes_content"), bytes("bytes_on_wire"));
    tools::tell(&format!("{subject}: {} of content, {} on the wire", sums.0, sums.1));
    sums
}

#[test]
fn a_study_moves_once() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let study = pair.path("study");
    write_series(&study.join("series 1"), 1, FILES);
    let to = pair.to_b();
    let (content, first) = send(&pair.a, &to, "First", &study);
    assert!(content == FILES * FILE_BYTES && first > content, "noise does not shrink");

    let (_, again) = send(&pair.a, &to, "Again", &study);
    assert!(again * 100 < content, "{again} bytes for content that is known");

    write_series(&study.join("series 2"), 2, 4);
    let (_, added) = send(&pair.a, &to, "One series more", &study);
    assert!(added < 4 * FILE_BYTES + content / 100, "{added} bytes for a series of {}", 4 * FILE_BYTES);

    pair.b.cli(&["group", "add", "Radiologi"]).expect(0);
    pair.b.cli(&["group", "show", "Radiologi", "--to", "all"]).expect(0);
    let radiology = format!("{}/Radiologi", pair.b.number());
    until(secs(15), "the new group is known", || {
        let out = pair.a.cli_json(&["peers"]);
        out.to_string().contains("Radiologi").then_some(())
    });
    let (content, forwarded) = send(&pair.a, &radiology, "Forwarded", &study);
    assert!(forwarded * 100 < content, "{forwarded} bytes to another group of the same entity");

    pair.a.kill();
    pair.a.start();
    pair.wait_online();
    let (_, restarted) = send(&pair.a, &to, "After the sender's restart", &study);
    assert!(restarted * 100 < content, "{restarted} bytes after the sender's restart");
    pair.b.kill();
    pair.b.start();
    pair.wait_online();
    let (_, restarted) = send(&pair.a, &to, "After the receiver's restart", &study);
    assert!(restarted * 100 < content, "{restarted} bytes after the receiver's restart");

    for subject in ["One series more", "Forwarded", "After the receiver's restart"] {
        pair.assert_received_once(subject, &[&study]);
    }
}

#[test]
fn one_file_among_three_thousand_moves_little() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let folder = pair.path("many");
    fs::create_dir(&folder).unwrap();
    for file in 0..3_000 {
        tree::write_noise(&folder.join(format!("{file:05}.dat")), 10_000, 40_000 + file);
    }
    let to = pair.to_b();
    let (content, _) = send(&pair.a, &to, "Many", &folder);
    tree::write_noise(&folder.join("01500.new"), 10_000, 90_000);
    let (_, added) = send(&pair.a, &to, "One more", &folder);
    // The file changes one chunk or two of at most 1 MiB; the rest is the manifest.
    assert!(added < (2 << 20) + 500_000, "{added} bytes for one file of 10 KB");
    pair.assert_received_once("One more", &[&folder]);
    let (_, again) = send(&pair.a, &to, "And again", &folder);
    assert!(again * 100 < content, "{again} bytes for names and hashes of 3,001 known files");
}

#[test]
fn one_message_to_two_groups_moves_once() {
    let _turn = turn::beside();
    let pair = Pair::new();
    pair.b.cli(&["group", "add", "Radiologi"]).expect(0);
    pair.b.cli(&["group", "show", "Radiologi", "--to", "all"]).expect(0);
    until(secs(15), "the new group is known", || {
        pair.a.cli_json(&["peers"]).to_string().contains("Radiologi").then_some(())
    });
    let study = pair.path("study");
    write_series(&study, 3, FILES);
    let (one, other) = (pair.to_b(), format!("{}/Radiologi", pair.b.number()));
    let args = ["send", "--to", &one, "--to", &other, "--subject", "Two groups", "--wait", "delivered"];
    let told = pair.a.json(&[&args[..], &["--timeout", "120s", &text(&study)]].concat());
    let content = FILES * FILE_BYTES;
    let sum: u64 = told["envelopes"].as_array().unwrap().iter().filter_map(|row| row["bytes_on_wire"].as_u64()).sum();
    tools::tell(&format!("two groups: {content} of content, {sum} on the wire"));
    assert!(sum < content + content / 10, "{sum} bytes for {content} to two groups of one entity");
}

#[test]
fn p13_what_another_entity_sent_is_not_found() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let study = pair.path("study");
    write_series(&study, 4, FILES);
    send(&pair.a, &pair.to_b(), "There", &study);
    let back = format!("{}/Reception", pair.a.number());
    // A holds these very bytes, sealed and open; to B it answers as if it had never seen them.
    let (content, moved) = send(&pair.b, &back, "And back", &study);
    assert!(moved > content, "{moved} bytes moved of {content}");
}

#[test]
fn known_content_can_be_turned_off() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let study = pair.path("study");
    write_series(&study, 5, 4);
    send(&pair.a, &pair.to_b(), "Kept", &study);
    let kept = || pair.a.json(&["status"])["store"]["bytes"].as_u64().unwrap();
    assert!(kept() >= 4 * FILE_BYTES);
    let config = pair.a.dir().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    pair.a.kill();
    fs::write(&config, text.replace("# known_content = \"20GB\"", "known_content = \"0\"")).unwrap();
    pair.a.start();
    pair.wait_online();
    until(secs(20), "nothing is kept", || (pair.a.json(&["status"])["store"]["bytes"] == 0).then_some(()));
    let (content, moved) = send(&pair.a, &pair.to_b(), "Not known", &study);
    // The receiver has what it was sent: sealed anew under the same secret it is the same.
    assert!(moved * 20 < content, "{moved} bytes moved of {content}");
    until(secs(20), "nothing is kept", || (pair.a.json(&["status"])["store"]["bytes"] == 0).then_some(()));
}
