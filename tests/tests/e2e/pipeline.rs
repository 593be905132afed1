//! Content leaves before it is fully read, and nothing of it stays anywhere when it is broken off.

use std::fs;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{DELIVERED, Pair, id_of, inbox, online, outbox};
use pakt_tests::upload::{Reply, Upload};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;
use pakt_tests::{tree, turn};

/// Content of one message.
const CONTENT_BYTES: u64 = 48_000_000;
/// What is handed over before a test does what it is about.
const FIRST_BYTES: u64 = 24_000_000;

fn stored_bytes(node: &TestNode) -> u64 {
    node.json(&["status"])["store"]["bytes"].as_u64().unwrap_or(u64::MAX)
}

/// Begins a message, and waits until most of what was read is durable at B although the rest has not been read.
fn half_way(pair: &Pair, subject: &str, seed: u64) -> Upload {
    let to = pair.to_b();
    let before = stored_bytes(&pair.b);
    let mut upload = Upload::begin(&pair.a, &[&to], subject, CONTENT_BYTES, seed);
    upload.write(FIRST_BYTES);
    until(secs(30), "content at the receiver", || (stored_bytes(&pair.b) > before + FIRST_BYTES * 3 / 4).then_some(()));
    assert_eq!(pair.a.json(&["outbox", "list"]).as_array().map(Vec::len), Some(0), "it is not submitted yet");
    assert!(inbox(&pair.b, subject).is_empty(), "nothing is visible before it is whole");
    upload
}

#[track_caller]
fn envelope_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    id_of(&reply.body["envelopes"][0])
}

/// The folder that an upload of this seed is.
fn study(pair: &Pair, seed: u64) -> std::path::PathBuf {
    let folder = pair.path("study");
    fs::create_dir(&folder).unwrap();
    tree::write_noise(&folder.join("image.bin"), CONTENT_BYTES, seed);
    folder
}

#[track_caller]
fn assert_nothing_stays(pair: &Pair) {
    for node in [&pair.a, &pair.b] {
        until(secs(30), "nothing stays", || (stored_bytes(node) == 0).then_some(()));
    }
    assert_eq!(pair.a.json(&["status"])["queued"], 0);
}

#[test]
fn content_arrives_before_it_is_fully_read() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    let upload = half_way(&pair, "Early", 1);
    until(secs(10), "the sender knows", || (upload.bytes_durable(&pair.a) > FIRST_BYTES / 2).then_some(()));
    let halfway = pair.wire().into_side(Side::B);
    let reply = upload.finish();
    let shown = pair.wait_delivered(&envelope_of(&reply), secs(60));
    let states: Vec<&str> = shown["history"].as_array().unwrap().iter().filter_map(|at| at["state"].as_str()).collect();
    assert_eq!(states[..4], ["queued", "offered", "transferring", "delivered"], "{shown}");
    let again = pair.wire().into_side(Side::B) - halfway;
    assert!(again < CONTENT_BYTES - FIRST_BYTES / 2, "{again} bytes came after the first half had arrived");
    let on_wire = shown["bytes_on_wire"].as_u64().unwrap();
    assert!((CONTENT_BYTES..CONTENT_BYTES * 105 / 100).contains(&on_wire), "{on_wire}");
    pair.assert_received_once("Early", &[&study(&pair, 1)]);
}

#[test]
fn content_that_breaks_off_stays_nowhere() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    drop(half_way(&pair, "Broken off", 2));
    assert_nothing_stays(&pair);
    // More than was told: it changed while it was read.
    let to = pair.to_b();
    let upload = Upload::begin_as(&pair.a, &[&to], "Grown", CONTENT_BYTES / 2, CONTENT_BYTES, 3);
    let reply = upload.finish();
    assert_ne!(reply.status, 200, "{reply:?}");
    assert!(reply.body.to_string().contains("changed while it was read"), "{reply:?}");
    assert_nothing_stays(&pair);
    // The session was not harmed.
    let file = pair.path("after.bin");
    tree::write_noise(&file, 100_000, 4);
    pair.wait_delivered(&id_of(&pair.send("After", &[&file])), secs(10));
}

#[test]
fn a_sender_killed_half_way_leaves_nothing_at_the_receiver() {
    let _turn = turn::alone();
    let mut pair = Pair::wired();
    let upload = half_way(&pair, "Killed", 5);
    pair.a.kill();
    drop(upload);
    assert!(stored_bytes(&pair.b) > 0, "the receiver cannot know yet");
    pair.a.start();
    pair.wait_online();
    assert_nothing_stays(&pair);
    // And a stop in order.
    let upload = half_way(&pair, "Stopped", 6);
    let (status, took) = pair.a.terminate();
    assert!(status.success() && took < secs(10), "{status} after {took:?}");
    drop(upload);
    pair.a.start();
    pair.wait_online();
    assert_nothing_stays(&pair);
}

#[test]
fn a_session_cut_half_way_goes_on_where_it_was() {
    let _turn = turn::alone();
    let pair = Pair::wired();
    // Cut, and back while it is still being read.
    let mut upload = half_way(&pair, "Cut", 7);
    pair.wire().cut(true);
    upload.write(FIRST_BYTES / 2);
    until(secs(30), "the cut is seen", || (!online(&pair.a)).then_some(()));
    let before = pair.wire().into_side(Side::B);
    pair.wire().cut(false);
    pair.wait_online();
    let shown = pair.wait_delivered(&envelope_of(&upload.finish()), secs(60));
    assert!(DELIVERED.contains(&shown["state"].as_str().unwrap()), "{shown}");
    let again = pair.wire().into_side(Side::B) - before;
    assert!(again < CONTENT_BYTES - FIRST_BYTES / 2, "{again} bytes after the cut");
    pair.assert_received_once("Cut", &[&study(&pair, 7)]);

    // Cut until after it was submitted.
    let mut upload = Upload::begin(&pair.a, &[&pair.to_b()], "Cut long", CONTENT_BYTES, 8);
    upload.write(FIRST_BYTES);
    let at = pair.wire().into_side(Side::B);
    until(secs(30), "content flows", || (pair.wire().into_side(Side::B) > at + FIRST_BYTES / 4).then_some(()));
    pair.wire().cut(true);
    let reply = upload.finish();
    let envelope = envelope_of(&reply);
    let state = reply.body["envelopes"][0]["state"].as_str().unwrap();
    assert!(!DELIVERED.contains(&state), "{reply:?}");
    assert!(outbox(&pair.a, &envelope).is_some(), "durable although nobody is there");
    pair.wire().cut(false);
    pair.wait_delivered(&envelope, secs(60));
    assert_eq!(inbox(&pair.b, "Cut long").len(), 1);
}

#[test]
fn a_receiver_killed_half_way_gets_it_once() {
    let _turn = turn::alone();
    let mut pair = Pair::wired();
    let upload = half_way(&pair, "Receiver", 9);
    pair.b.kill();
    pair.b.start();
    pair.wait_delivered(&envelope_of(&upload.finish()), secs(60));
    pair.assert_received_once("Receiver", &[&study(&pair, 9)]);
}

#[test]
fn two_groups_get_it_and_an_absent_peer_gets_it_later() {
    let _turn = turn::alone();
    let mut pair = Pair::wired();
    pair.b.cli(&["group", "add", "Radiology"]).expect(0);
    pair.b.cli(&["group", "show", "Radiology", "--to", "all"]).expect(0);
    let to = [pair.to_b(), format!("{}/Radiology", pair.b.number())];
    until(secs(10), "the group is known", || pair.a.json(&["peers"]).to_string().contains("Radiology").then_some(()));
    let mut upload = Upload::begin(&pair.a, &[&to[0], &to[1]], "Two", CONTENT_BYTES, 10);
    upload.write(FIRST_BYTES);
    until(secs(30), "content at the receiver", || (stored_bytes(&pair.b) > FIRST_BYTES / 2).then_some(()));
    let reply = upload.finish();
    envelope_of(&reply);
    for envelope in reply.body["envelopes"].as_array().unwrap() {
        pair.wait_delivered(&id_of(envelope), secs(60));
    }
    assert_eq!(inbox(&pair.b, "Two").len(), 2);

    pair.b.terminate();
    until(secs(60), "the absence is seen", || (!online(&pair.a)).then_some(()));
    let mut upload = Upload::begin(&pair.a, &[&to[0]], "Absent", CONTENT_BYTES, 11);
    upload.write(FIRST_BYTES);
    let reply = upload.finish();
    assert_eq!(reply.body["envelopes"][0]["state"], "queued", "{reply:?}");
    pair.b.start();
    pair.wait_delivered(&envelope_of(&reply), secs(60));
    assert_eq!(inbox(&pair.b, "Absent").len(), 1);
}
