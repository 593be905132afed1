//! P24: a backup restores to a verified state or says why not; a restored node tells its peers about its gap.

use std::fs;
use std::path::PathBuf;

use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, Plan, id_of, inbox, online, outbox, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{scan, turn};
use serde_json::Value;

/// A pair whose nodes have passphrases.
fn guarded() -> Pair {
    let mut plan = Plan::default();
    plan.a.passphrase = Some("a passphrase kept elsewhere".into());
    Pair::of(plan)
}

fn send_back(pair: &Pair, subject: &str) -> String {
    let path = pair.path(&format!("{subject}.txt"));
    fs::write(&path, subject).unwrap();
    let to = format!("{}/Reception", pair.a.number());
    let args = ["send", "--to", &to, "--subject", subject, "--wait", "delivered", "--timeout", "30s", &text(&path)];
    id_of(&pair.b.json(&args)["envelopes"][0])
}

fn send(pair: &Pair, subject: &str) -> String {
    let path = pair.path(&format!("{subject}.txt"));
    fs::write(&path, format!("Innhold {subject}")).unwrap();
    let args = ["send", "--from", "Reception", "--to", &pair.to_b(), "--subject", subject, &text(&path)];
    id_of(&pair.a.json(&args)["envelopes"][0])
}

fn create(node: &TestNode, file: &str) -> Value {
    node.json(&["backup", "create", file])
}

fn groups_seen(node: &TestNode) -> String {
    node.json(&["peers"])[0]["groups"].to_string()
}

fn warnings(node: &TestNode) -> String {
    node.json(&["status"])["warnings"].to_string()
}

fn finding(node: &TestNode) -> Value {
    let told = node.cli_json(&["doctor"]).json();
    told.as_array().and_then(|rows| rows.iter().find(|row| row["check"] == "backup")).cloned().unwrap_or_default()
}

/// Puts the node's directory out of the way and restores this backup in its place.
fn restore(node: &mut TestNode, file: &str) -> Value {
    let lost = node.home().join("lost");
    fs::rename(node.dir(), &lost).unwrap();
    let passphrase = text(&node.passphrase_file());
    node.json(&["backup", "restore", file, "--passphrase-file", &passphrase])
}

#[test]
fn p24_a_restored_node_waits_then_tells_its_peer_of_the_gap() {
    let _turn = turn::alone();
    let mut pair = guarded();
    let before = send_back(&pair, "Before");
    pair.a.cli(&["group", "add", "Kanarigruppe"]).expect(0);
    pair.a.cli(&["group", "show", "Kanarigruppe", "--to", "all"]).expect(0);
    until(secs(20), "the group is seen", || groups_seen(&pair.b).contains("Kanarigruppe").then_some(()));
    assert_eq!(finding(&pair.a)["ok"], false);

    // One message waits while the backup is made, and is delivered afterwards.
    pair.b.terminate();
    until(secs(60), "the absence is seen", || (!online(&pair.a)).then_some(()));
    let queued = send(&pair, "Queued");
    let file = pair.at("a.backup");
    let made = create(&pair.a, &file);
    assert_eq!((&made["received"], &made["sent"], &made["missing_count"]), (&1.into(), &1.into(), &0.into()), "{made}");
    assert_eq!(finding(&pair.a)["ok"], true);
    pair.a.cli(&["backup", "create", &file]).expect(1);
    pair.b.start();
    pair.wait_online();
    pair.wait_delivered(&queued, secs(30));
    let lost = send_back(&pair, "Lost");
    let after = send(&pair, "After");
    pair.wait_delivered(&after, secs(30));
    pair.a.cli(&["group", "hide", "Kanarigruppe", "--to", "all"]).expect(0);
    until(secs(20), "the group is hidden", || (!groups_seen(&pair.b).contains("Kanarigruppe")).then_some(()));
    assert_sealed(&pair);

    pair.a.kill();
    let told = restore(&mut pair.a, &file);
    assert_eq!(told["summary"]["received"], 1, "{told}");
    pair.a.start();
    assert_waits(&pair, &queued);

    pair.a.cli(&["agreement", "confirm", &pair.agreement]).expect(0);
    pair.wait_online();
    // Delivered long ago: the same receipt again, and nothing twice.
    pair.wait_delivered(&queued, secs(30));
    assert_eq!(inbox(&pair.b, "Queued").len(), 1);
    assert_eq!(inbox(&pair.a, "Before").len(), 1);
    assert!(inbox(&pair.a, "Lost").is_empty() && outbox(&pair.a, &after).is_none());
    until(secs(20), "the peer is warned", || warnings(&pair.b).contains("was restored from a backup").then_some(()));
    let gaps = pair.b.json(&["backup", "gaps"]);
    assert_eq!(gaps[0]["envelopes"], serde_json::json!([lost]), "{gaps} {before}");
    assert_eq!((&gaps[0]["count"], &gaps[0]["seen"]), (&1.into(), &false.into()));
    assert!(pair.b.log().contains("was restored from a backup"), "it is in the log too");
    pair.b.cli(&["backup", "gaps", "--seen", pair.a.number()]).expect(0);
    assert!(!warnings(&pair.b).contains("was restored from a backup"));

    // Both ways, to the new epoch, and once.
    send_back(&pair, "Again");
    let fresh = send(&pair, "Fresh");
    pair.wait_delivered(&fresh, secs(30));
    assert_eq!((inbox(&pair.a, "Again").len(), inbox(&pair.b, "Fresh").len()), (1, 1));
    until(secs(20), "the roster of the backup, newly signed", || {
        groups_seen(&pair.b).contains("Kanarigruppe").then_some(())
    });
    assert_gaps_explained(&pair);
    // Told once: another start says nothing new.
    pair.a.terminate();
    pair.a.start();
    pair.wait_online();
    std::thread::sleep(secs(2));
    assert_eq!(pair.b.json(&["backup", "gaps"])[0]["seen"], true);
}

/// The restore explains on both sides what a comparison shows: one message each way, and no alarm.
#[track_caller]
fn assert_gaps_explained(pair: &Pair) {
    let asked = pair.b.json(&["reconcile", "--with", pair.a.number()]);
    for all in [&asked, &pair.a.json(&["reconcile", "list"])] {
        for row in all.as_array().unwrap() {
            assert_eq!((&row["explained"], &row["gap_count"]), (&1.into(), &0.into()), "{all}");
        }
    }
    for node in [&pair.a, &pair.b] {
        assert!(!warnings(node).contains("ALARM"), "{}", warnings(node));
    }
}

/// Not a word to or from the counterpart until the agreement is confirmed.
#[track_caller]
fn assert_waits(pair: &Pair, queued: &str) {
    let state = pair.a.json(&["agreement", "list"])[0]["state"].clone();
    assert_eq!(state, "unconfirmed");
    for _ in 0..8 {
        std::thread::sleep(secs(1));
        assert!(!online(&pair.a) && !online(&pair.b), "traffic before it was confirmed");
    }
    assert_eq!(outbox(&pair.a, queued).unwrap()["state"], "queued");
    assert!(warnings(&pair.a).contains("restored"), "{}", warnings(&pair.a));
}

/// P22: nothing in the backup can be read.
#[track_caller]
fn assert_sealed(pair: &Pair) {
    let words = ["Before", "Queued.txt", "Innhold Queued", "Kanarigruppe", "passphrase kept", "Kliniek De Vaart"];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let file = pair.path("a.backup");
    assert!(scan::hits(&[&file], &words).is_empty());
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn p24_each_of_five_backups_restores_and_a_corrupt_one_says_why() {
    let _turn = turn::alone();
    let mut pair = guarded();
    let passphrase = text(&pair.a.passphrase_file());
    let mut made = Vec::new();
    for at in 0..5u64 {
        let path = pair.path(&format!("study-{at}"));
        pakt_tests::tree::write_noise(&path, 2_000_000, at);
        // The backup is made while this one is on its way.
        pair.send(&format!("Study {at}"), &[&path]);
        let file = pair.at(&format!("backup-{at}"));
        made.push((file.clone(), create(&pair.a, &file)));
        send_back(&pair, &format!("Reply {at}"));
    }
    pair.a.terminate();
    let first_home = pair.a.dir().to_path_buf();
    for (at, (file, said)) in made.iter().enumerate() {
        let verified = pair.a.json(&["backup", "verify", file, "--passphrase-file", &passphrase]);
        assert_eq!((&verified["checked"], &verified["complete"]), (&"whole".into(), &true.into()), "{verified}");
        for key in ["received", "sent", "objects", "keys", "rows", "sequence", "bytes"] {
            assert_eq!(verified["summary"][key], said[key], "{key}");
        }
        assert_eq!(said["received"], at, "{said}");
        let dir: PathBuf = pair.a.home().join(format!("restored-{at}"));
        pair.a.use_dir(dir);
        pair.a.json(&["backup", "restore", file, "--passphrase-file", &passphrase]);
        pair.a.start();
        assert_eq!(pair.a.json(&["inbox", "list"]).as_array().map(Vec::len), Some(at));
        if at > 0 {
            let item = inbox(&pair.a, "Reply 0").remove(0);
            let to = text(&pair.a.home().join(format!("saved-{at}")));
            pair.a.cli(&["inbox", "save", &id_of(&item), "--to", &to]).expect(0);
            assert_eq!(fs::read(format!("{to}/Reply 0.txt")).unwrap(), b"Reply 0");
        }
        pair.a.terminate();
    }
    pair.a.use_dir(pair.a.home().join("never"));
    let (file, _) = &made[4];
    let outside = pair.a.json(&["backup", "verify", file]);
    assert_eq!(outside["checked"], "outside", "{outside}");
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    for args in [vec!["backup", "verify", file], vec!["backup", "verify", file, "--passphrase-file", &passphrase]] {
        let told = pair.a.cli_json(&args).expect(6).json();
        assert!(told["message"].as_str().is_some_and(|text| text.contains("changed")), "{told}");
    }
    let told = pair.a.cli_json(&["backup", "restore", file, "--passphrase-file", &passphrase]).expect(6).json();
    // Its frame or, in the last one, its checksum says so.
    assert!(told["message"].as_str().is_some_and(|text| text.contains("changed")), "{told}");
    assert!(!pair.a.dir().exists(), "something half restored stays");
    pair.a.cli_json(&["backup", "restore", &made[3].0]).expect(6);
    assert!(!pair.a.dir().exists());
    pair.a.use_dir(first_home);
    pair.a.cli_json(&["backup", "restore", &made[3].0, "--passphrase-file", &passphrase]).expect(1);
}
