//! P31: a disk without room refuses before it accepts; reading, receipts and small things go on.

use std::fs;
use std::path::PathBuf;

use pakt_tests::pair::{DELIVERED, Pair, Plan, id_of, inbox, outbox, text};
use pakt_tests::tools::{self, SmallDisk};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;
use pakt_tests::{tree, turn};

const DISK_MIB: u64 = 96;

/// A small disk, its folder, or the reason why there is none.
fn small_disk(test: &str) -> Option<(SmallDisk, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let disk = tools::is_root().then(|| SmallDisk::mount(&folder.path().join("disk"), DISK_MIB)).flatten();
    if disk.is_none() {
        tools::skip(test, "a small file system needs root");
    }
    disk.map(|disk| (disk, folder))
}

#[test]
fn p31_a_full_receiver_refuses_before_the_first_content_byte() {
    let Some((disk, _folder)) = small_disk("p31_a_full_receiver_refuses_before_the_first_content_byte") else {
        return;
    };
    let _turn = turn::alone();
    let mut plan = Plan { wired: true, ..Plan::default() };
    plan.b.dir = Some(disk.path().join("data"));
    let pair = Pair::of(plan);
    let (small, large) = (pair.path("small.bin"), pair.path("large.bin"));
    tree::write_noise(&small, 2_000_000, 31);
    tree::write_noise(&large, 200_000_000, 32);
    let first = id_of(&pair.send("Fits", &[&small]));
    pair.wait_delivered(&first, secs(60));

    let before = pair.wire().into_side(Side::B);
    let envelope = id_of(&pair.send("Does not fit", &[&large]));
    let shown = until(secs(60), "the refusal and its reason are known", || {
        let shown = outbox(&pair.a, &envelope)?;
        shown["reason"].as_str().filter(|reason| !reason.is_empty())?;
        Some(shown)
    });
    let reason = shown["reason"].as_str().unwrap().to_lowercase();
    assert!(reason.contains("space") || reason.contains("room") || reason.contains("full"), "{shown}");
    let passed = pair.wire().into_side(Side::B) - before;
    assert!(passed < 1_000_000, "{passed} bytes were sent to a disk without room");
    assert!(inbox(&pair.b, "Does not fit").is_empty());

    // Reading and small things go on.
    pair.assert_received_once("Fits", &[&small]);
    let third = pair.path("third.bin");
    tree::write_noise(&third, 1_000_000, 33);
    let third_id = id_of(&pair.send("Still fits", &[&third]));
    pair.wait_delivered(&third_id, secs(60));
    pair.assert_received_once("Still fits", &[&third]);
}

#[test]
fn p31_a_disk_that_fills_up_in_mid_transfer_loses_nothing() {
    let Some((disk, _folder)) = small_disk("p31_a_disk_that_fills_up_in_mid_transfer_loses_nothing") else {
        return;
    };
    let _turn = turn::alone();
    let mut plan = Plan { wired: true, ..Plan::default() };
    plan.b.dir = Some(disk.path().join("data"));
    let mut pair = Pair::of(plan);
    let (first, second) = (pair.path("first.bin"), pair.path("second.bin"));
    tree::write_noise(&first, 1_000_000, 34);
    tree::write_noise(&second, 30_000_000, 35);
    let envelope = id_of(&pair.send("Acknowledged", &[&first]));
    pair.wait_delivered(&envelope, secs(60));

    pair.wire().throttle(5_000_000);
    let before = pair.wire().into_side(Side::B);
    let envelope = id_of(&pair.send("Interrupted", &[&second]));
    until(secs(60), "content flows", || (pair.wire().into_side(Side::B) > before + 5_000_000).then_some(()));
    let ballast = disk.path().join("ballast");
    fill(&ballast);
    std::thread::sleep(secs(8));
    let state = outbox(&pair.a, &envelope).unwrap()["state"].clone();
    assert!(!DELIVERED.contains(&state.as_str().unwrap()), "nothing can be delivered to a full disk");
    fs::remove_file(&ballast).unwrap();
    pair.wire().throttle(0);
    // A failed fsync stops the process; the service manager starts it again.
    if pair.b.ended().is_some() || !pakt_tests::pair::online(&pair.b) {
        pair.b.kill();
        pair.b.start();
    }
    let done = until(secs(90), "it ends in one final state", || {
        let shown = outbox(&pair.a, &envelope)?;
        let state = shown["state"].as_str()?.to_owned();
        ["delivered", "released", "taken", "refused"].contains(&&*state).then_some(state)
    });
    if done != "refused" {
        pair.assert_received_once("Interrupted", &[&second]);
    }
    pair.assert_received_once("Acknowledged", &[&first]);
}

#[test]
fn p31_a_full_sender_accepts_nothing_and_loses_nothing() {
    let Some((disk, _folder)) = small_disk("p31_a_full_sender_accepts_nothing_and_loses_nothing") else {
        return;
    };
    let _turn = turn::alone();
    let mut plan = Plan::default();
    plan.a.dir = Some(disk.path().join("data"));
    let pair = Pair::of(plan);
    let (small, large) = (pair.path("small.bin"), pair.path("large.bin"));
    tree::write_noise(&small, 1_000_000, 36);
    tree::write_noise(&large, 200_000_000, 37);
    let refused = pair.a.cli_json(&["send", "--to", &pair.to_b(), "--subject", "Too much", &text(&large)]);
    let told = refused.expect(1).complaint().to_lowercase();
    assert!(told.contains("space") || told.contains("room") || told.contains("full"), "{told}");
    assert_eq!(pair.a.json(&["outbox", "list"]).as_array().map(Vec::len), Some(0));
    // What the failed attempt had written is free again.
    let envelope = id_of(&pair.send("Small", &[&small]));
    pair.wait_delivered(&envelope, secs(60));
    pair.assert_received_once("Small", &[&small]);
}

/// Free space by step, in KiB, and whether a message of [`STEP_BYTES`] fits: the last 16 MiB are for records.
const STEPS: [(u64, bool); 7] = [
    (40 << 10, true),
    (22 << 10, true),
    (17 << 10, false),
    (8 << 10, false),
    (1 << 10, false),
    (64, false),
    (0, false),
];
const STEP_BYTES: u64 = 1_500_000;

#[test]
fn p31_a_disk_that_is_filled_step_by_step_refuses_in_time_and_recovers_by_itself() {
    let test = "p31_a_disk_that_is_filled_step_by_step_refuses_in_time_and_recovers_by_itself";
    let Some((disk, _folder)) = small_disk(test) else { return };
    let _turn = turn::alone();
    let mut plan = Plan::default();
    plan.b.dir = Some(disk.path().join("data"));
    let mut pair = Pair::of(plan);
    let (pid, ballast) = (pair.b.pid(), disk.path().join("ballast"));
    let mut held = Vec::new();
    for (at, (kib, fits)) in STEPS.into_iter().enumerate() {
        let answer = (at == 3).then(|| waiting_answer(&mut pair));
        disk.leave_free(&ballast, kib << 10);
        if let Some(answer) = answer {
            pair.a.start();
            until(secs(60), "a receipt is taken without room for content", || {
                let state = outbox(&pair.b, &answer)?["state"].as_str()?.to_owned();
                DELIVERED.contains(&&*state).then_some(())
            });
        }
        let (subject, path) = (format!("Step {at}"), pair.path(&format!("step-{at}")));
        tree::write_noise(&path, STEP_BYTES, 300 + at as u64);
        let envelope = id_of(&pair.send(&subject, &[&path]));
        let ended = until(secs(60), "it is delivered or refused", || ended(&pair, &envelope));
        assert_eq!(ended == "delivered", fits, "{ended} with {kib} KiB free");
        if fits {
            held.push((subject, path));
        } else {
            assert!(inbox(&pair.b, &subject).is_empty(), "refused, and there all the same");
        }
        let (subject, path) = &held[at % held.len()];
        assert_eq!(inbox(&pair.b, subject).len(), 1, "lists are read with {kib} KiB free");
        // Whoever opens a message is noted in the log first, so that it takes a few bytes.
        if kib > 64 {
            pair.assert_received_once(subject, &[path]);
        }
    }
    fs::remove_file(&ballast).unwrap();
    let path = pair.path("room");
    tree::write_noise(&path, STEP_BYTES, 399);
    let envelope = id_of(&pair.send("Room again", &[&path]));
    pair.wait_delivered(&envelope, secs(60));
    held.push(("Room again".to_owned(), path));
    for (subject, path) in &held {
        pair.assert_received_once(subject, &[path]);
    }
    assert_eq!(pair.b.ended(), None, "{}", pair.b.log());
    assert_eq!(pair.b.pid(), pid);
}

/// How a message has ended, if it has: delivered, or refused for want of space.
fn ended(pair: &Pair, envelope: &str) -> Option<&'static str> {
    let shown = outbox(&pair.a, envelope)?;
    let (state, reason) = (shown["state"].as_str()?, shown["reason"].as_str().unwrap_or_default());
    match state {
        "refused" if reason.contains("space") => Some("refused"),
        "refused" => panic!("refused for another reason: {shown}"),
        state => DELIVERED.contains(&state).then_some("delivered"),
    }
}

/// A message of B that waits for A, which is down.
fn waiting_answer(pair: &mut Pair) -> String {
    pair.a.terminate();
    let path = pair.path("answer");
    tree::write_noise(&path, 1_000, 398);
    let to = format!("{}/Reception", pair.a.number());
    let told = pair.b.json(&["send", "--to", &to, "--subject", "Answer", &text(&path)]);
    id_of(&told["envelopes"][0])
}

fn fill(path: &PathBuf) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    let block = vec![0u8; 1 << 16];
    while file.write_all(&block).is_ok() {}
    let mut last = &block[..];
    while !last.is_empty() && file.write_all(last).is_err() {
        last = &last[..last.len() / 2];
    }
}
