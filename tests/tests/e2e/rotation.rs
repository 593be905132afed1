//! Keys that are replaced, lost and stolen: what goes on, what ends, and who has to agree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, id_of, online, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::wire::Side;
use pakt_tests::{tree, turn};

const CONTENT_BYTES: u64 = 24_000_000;
/// The line's rate, so that there is a middle to rotate in.
const BYTES_PER_SECOND: u64 = 8_000_000;
/// Longer than several attempts to connect.
const ATTEMPTS: Duration = Duration::from_secs(8);

fn keystore(node: &TestNode) -> PathBuf {
    node.dir().join("keys").join("keystore")
}

fn peer_id(node: &TestNode) -> String {
    node.json(&["status"])["peer_id"].as_str().unwrap().to_owned()
}

/// Sends while the line is slow, and has `rotate` done in the middle.
fn send_across(pair: &Pair, subject: &str, rotate: impl FnOnce()) {
    let path = pair.path(subject);
    tree::write_noise(&path, CONTENT_BYTES, subject.len() as u64);
    pair.wire().throttle(BYTES_PER_SECOND);
    let before = pair.wire().into_side(Side::B);
    let envelope = id_of(&pair.send(subject, &[&path]));
    let half = before + CONTENT_BYTES / 2;
    until(secs(60), "half of it has arrived", || (pair.wire().into_side(Side::B) >= half).then_some(()));
    rotate();
    pair.wait_delivered(&envelope, secs(90));
    pair.assert_received_once(subject, &[&path]);
}

fn send_small(pair: &Pair, subject: &str) {
    let path = pair.path(subject);
    tree::write_noise(&path, 10_000, 1);
    let envelope = id_of(&pair.send(subject, &[&path]));
    pair.wait_delivered(&envelope, secs(60));
    pair.assert_received_once(subject, &[&path]);
}

#[track_caller]
fn stays_offline(pair: &Pair) {
    let end = std::time::Instant::now() + ATTEMPTS;
    while std::time::Instant::now() < end {
        assert!(!online(&pair.a) && !online(&pair.b), "the old key is taken");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn p7_a_rotation_under_load_loses_nothing_and_kills_the_old_key() {
    let _turn = turn::beside();
    let mut pair = Pair::wired();
    let stolen = pair.path("stolen");
    std::fs::copy(keystore(&pair.a), &stolen).unwrap();
    let before = peer_id(&pair.a);
    send_across(&pair, "Sender rotates", || {
        let told = pair.a.json(&["rotate"]);
        assert_eq!(told["counterparts"], 1, "{told}");
        assert_ne!(told["peer_id"], before.as_str());
        assert_eq!(told["peer_id"], peer_id(&pair.a).as_str());
    });
    send_across(&pair, "Receiver rotates", || drop(pair.b.json(&["rotate"])));
    send_across(&pair, "Both rotate", || {
        pair.a.json(&["rotate"]);
        pair.b.json(&["rotate"]);
    });
    let card = pair.at("rotated.card");
    pair.a.cli(&["card", "--out", &card]).expect(0);
    pair.a.cli(&["card", "show", &card]).expect(0);

    // The thief starts with what lay there before the first rotation.
    pair.a.terminate();
    let current = pair.path("current");
    std::fs::copy(keystore(&pair.a), &current).unwrap();
    std::fs::copy(&stolen, keystore(&pair.a)).unwrap();
    pair.a.start();
    stays_offline(&pair);
    pair.a.terminate();
    std::fs::copy(&current, keystore(&pair.a)).unwrap();
    pair.a.start();
    pair.wait_online();
    send_small(&pair, "After the theft");
}

#[test]
fn keys_are_replaced_while_the_counterpart_or_the_node_itself_is_down() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    pair.b.terminate();
    pair.a.json(&["rotate"]);
    pair.a.terminate();
    let offline = pair.a.json(&["rotate"]);
    let shown = pair.a.cli(&["card"]).expect(0).stdout;
    pair.a.start();
    assert_eq!(peer_id(&pair.a), offline["peer_id"].as_str().unwrap());
    assert_eq!(pair.a.cli(&["card"]).expect(0).stdout, shown, "the card was written with the keys");
    pair.b.start();
    pair.wait_online();
    send_small(&pair, "After two rotations");
}

/// A passphrase file of an approver, and the argument that names it.
fn approver(node: &TestNode, name: &str) -> (String, String) {
    let file = text(&node.write_private(name, &format!("word of {name}\n")));
    (file.clone(), format!("{name}={file}"))
}

#[test]
fn two_persons_must_agree_wherever_the_root_lies() {
    let _turn = turn::beside();
    let mut pair = Pair::strangers(pakt_tests::pair::Plan::default());
    pair.exchange_cards();
    let ((anna_file, anna), (ole_file, ole)) = (approver(&pair.a, "Anna"), approver(&pair.a, "Ole"));
    let (eva_file, eva) = approver(&pair.a, "Eva");
    let add = |pair: &Pair, name: &str, file: &str, more: &[&str], code: i32| {
        let mut args = vec!["approver", "add", name, "--approver-passphrase-file", file];
        args.extend(more);
        pair.a.cli(&args).expect(code);
    };
    add(&pair, "Anna", &anna_file, &[], 1);
    pair.a.terminate();
    add(&pair, "Anna", &anna_file, &[], 0);
    add(&pair, "Anna", &ole_file, &[], 1);
    add(&pair, "Ole", &ole_file, &[], 0);
    add(&pair, "Eva", &eva_file, &["--approval", &anna], 6);
    add(&pair, "Eva", &eva_file, &["--approval", &anna, "--approval", &ole], 0);
    let listed = pair.a.json(&["approver", "list"]);
    assert_eq!((&listed["approvals"], listed["approvers"].as_array().unwrap().len()), (&2.into(), 3));
    pair.a.cli(&["approver", "remove", "Anna", "--approval", &ole, "--approval", &eva]).expect(0);
    pair.a.start();
    assert_eq!(pair.a.json(&["status"])["root"], "approved");

    let card = pair.at("b.card");
    let propose = |pair: &Pair, more: &[&str], code: i32| {
        let mut args = vec!["agreement", "propose", "--with", &card];
        args.extend(more);
        let out = pair.a.cli(&args);
        assert_eq!(out.code, code, "{more:?}: {}", out.stderr);
        out.stderr
    };
    assert!(propose(&pair, &[], 6).contains("0 approved"));
    propose(&pair, &["--approval", &ole], 6);
    assert!(propose(&pair, &["--approval", &ole, "--approval", &ole], 6).contains("same person"));
    assert!(propose(&pair, &["--approval", &ole, "--approval", &anna], 6).contains("no approver named Anna"));
    let wrong = format!("Eva={ole_file}");
    assert!(propose(&pair, &["--approval", &ole, "--approval", &wrong], 6).contains("passphrase of Eva"));
    propose(&pair, &["--approval", &eva, "--approval", &ole], 0);
    pair.a.cli(&["rotate"]).expect(6);
    pair.a.cli(&["rotate", "--approval", &ole, "--approval", &eva]).expect(0);

    // The same root, elsewhere.
    let (root, word) = (pair.at("nord.root"), text(&pair.a.write_private("root-word", "of the file\n")));
    let export: Vec<&str> = vec!["root", "export", "--out", &root, "--root-passphrase-file", &word];
    let both = ["--approval", &*ole, "--approval", &*eva];
    pair.a.cli(&[&export[..], &both].concat()).expect(1);
    pair.a.terminate();
    let inside = text(&pair.a.dir().join("root"));
    pair.a.cli(&[&["root", "export", "--out", &inside][..], &both].concat()).expect(2);
    pair.a.cli(&export).expect(6);
    pair.a.cli(&[&export[..], &both].concat()).expect(0);
    pair.a.cli(&[&export[..], &both].concat()).expect(1);
    pair.a.start();
    assert_eq!(pair.a.json(&["status"])["root"], "elsewhere");
    propose(&pair, &both, 6);
    let with_file = ["--root", &*root, "--root-passphrase-file", &*word];
    propose(&pair, &with_file, 6);
    propose(&pair, &[&["--root", &*root][..], &both].concat(), 6);
    propose(&pair, &[&with_file[..], &both].concat(), 0);
}

#[track_caller]
fn recover(node: &TestNode, used: &Path, next: &Path, code: i32) -> serde_json::Value {
    let (used, next) = (text(used), text(next));
    let args = ["recover", "--recovery-file", &used, "--new-recovery-file", &next];
    node.cli_json(&args).expect(code).json()
}

#[test]
fn a_root_that_is_lost_is_replaced_by_the_one_that_it_committed_to() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let entity = pair.a.json(&["status"])["entity"].clone();
    let [first, second, third] = ["recovery.pakt", "second.pakt", "third.pakt"].map(|name| pair.a.home().join(name));
    recover(&pair.a, &first, &second, 1);
    pair.a.terminate();
    let root = pair.path("lost.root");
    pair.a.cli(&["root", "export", "--out", &text(&root)]).expect(0);
    std::fs::remove_file(&root).unwrap();
    let told = recover(&pair.a, &first, &second, 0);
    assert_eq!((&told["entity"], &told["root_generation"]), (&entity, &1.into()));
    recover(&pair.a, &first, &third, 3);
    assert!(!third.exists(), "what fails leaves nothing");
    pair.a.start();
    pair.wait_online();
    send_small(&pair, "After the recovery");
    assert_eq!(pair.a.json(&["status"])["root"], "here");

    // Again, while the counterpart is away; and the new root signs.
    pair.b.terminate();
    pair.a.terminate();
    recover(&pair.a, &second, &third, 0);
    pair.a.start();
    pair.a.json(&["rotate"]);
    pair.b.start();
    pair.wait_online();
    send_small(&pair, "After the second recovery");
    let id = pair.agreement.clone();
    pair.a.cli(&["agreement", "end", &id, "--yes"]).expect(0);
    until(secs(20), "B knows", || (pair.b.json(&["agreement", "list"])[0]["state"] == "ended").then_some(()));
}

#[test]
fn p4_a_root_in_two_hands_freezes_the_agreement() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let [first, second, third] = ["recovery.pakt", "second.pakt", "third.pakt"].map(|name| pair.a.home().join(name));
    pair.a.terminate();
    let before = pair.path("before");
    std::fs::copy(keystore(&pair.a), &before).unwrap();
    recover(&pair.a, &first, &second, 0);
    pair.a.start();
    pair.wait_online();
    send_small(&pair, "All is well");
    // Somebody else has the old keystore and the recovery file, and commits to another successor.
    pair.a.terminate();
    std::fs::copy(&before, keystore(&pair.a)).unwrap();
    recover(&pair.a, &first, &third, 0);
    pair.a.start();
    let alarm = |node: &TestNode| node.json(&["status"])["warnings"].to_string().contains("ALARM");
    until(secs(30), "B raises an alarm", || alarm(&pair.b).then_some(()));
    stays_offline(&pair);
    let doctor = pair.b.cli(&["doctor"]);
    assert_eq!(doctor.code, 1);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("contradict each other"));
    let to = format!("{}/Reception", pair.a.number());
    pair.b.cli(&["send", "--to", &to, "--subject", "No", &pair.at("All is well")]).expect(3);
    let id = pair.agreement.clone();
    pair.b.cli(&["agreement", "end", &id, "--yes"]).expect(0);
    assert!(!alarm(&pair.b));
}

#[test]
fn a_root_can_be_elsewhere_from_the_start() {
    let _turn = turn::beside();
    let node = TestNode::init(pakt_tests::node::Setup::new("Klinik Ost", "DE:IK:999000103"));
    let (dir, root) = (text(&node.home().join("other")), text(&node.home().join("other.root")));
    let recovery = text(&node.home().join("other.recovery"));
    let mut command = std::process::Command::new(pakt_tests::binary::pakt());
    command.args(["init", "--dir", &dir, "--name", "Ost", "--number", "DE:IK:1", "--listen", "127.0.0.1:0"]);
    command.args(["--recovery-file", &recovery, "--root-file", &root]);
    pakt_tests::output::Output::of(&mut command).expect(0);
    assert!(std::fs::read_to_string(&root).unwrap().starts_with("-----BEGIN PAKT ROOT KEY-----"));
    let pakt = |args: &[&str], code: i32| {
        let mut command = std::process::Command::new(pakt_tests::binary::pakt());
        command.args(args).args(["--dir", &dir]);
        pakt_tests::output::Output::of(&mut command).expect(code);
    };
    pakt(&["rotate"], 6);
    pakt(&["rotate", "--root", &root], 0);
}
