//! What people and machines get wrong: each has its message and its exit code; nothing is written, nothing lost.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use pakt_tests::node::{Setup, TestNode};
use pakt_tests::pair::{Pair, id_of, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{tree, turn};

fn setup() -> Setup {
    Setup::new("Fjordbyen sykehus", "NO:ORGNR:999000101")
}

/// `run` ends by itself with `code`, names `word` on stderr and leaves the directory as it was.
#[track_caller]
fn assert_run_refused(node: &TestNode, args: &[&str], code: i32, word: &str) {
    let before = tree::read(node.dir());
    let refused = node.run_output(args).expect(code);
    let said = format!("{}{}", refused.stderr, refused.text()).to_lowercase();
    assert!(said.contains(word), "`{word}` is not said\n{refused}");
    assert!(!said.contains("panicked"), "{refused}");
    let mut after = tree::read(node.dir());
    // A log may say why.
    after.retain(|path, _| !path.starts_with("log") || before.contains_key(path));
    let mut before = before;
    before.retain(|path, _| !path.starts_with("log"));
    after.retain(|path, _| !path.starts_with("log"));
    tree::assert_same(&before, &after);
}

#[test]
fn a_missing_or_wrong_passphrase_is_said_and_nothing_is_touched() {
    let _turn = turn::beside();
    let mut node = TestNode::init(Setup { passphrase: Some("riktig passord".into()), ..setup() });
    // `init` wrote down where the passphrase lies: once that file is away, or not named, nobody knows it.
    let (kept, away) = (node.passphrase_file(), node.home().join("away"));
    fs::rename(&kept, &away).unwrap();
    assert_run_refused(&node, &[], 6, "passphrase");
    let config = node.dir().join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    let unnamed: String =
        good.lines().filter(|line| !line.contains("passphrase")).map(|line| format!("{line}\n")).collect();
    assert_ne!(unnamed, good);
    fs::write(&config, unnamed).unwrap();
    assert_run_refused(&node, &[], 6, "passphrase");
    fs::write(&config, good).unwrap();
    let wrong = text(&node.write_private("wrong", "feil passord"));
    assert_run_refused(&node, &["--passphrase-file", &wrong], 6, "passphrase");
    let empty = text(&node.write_private("empty", ""));
    assert_run_refused(&node, &["--passphrase-file", &empty], 6, "passphrase");
    let absent = text(&node.home().join("absent"));
    let refused = node.run_output(&["--passphrase-file", &absent]);
    assert!([1, 6].contains(&refused.code) && refused.stderr.contains("absent"), "{refused}");
    fs::rename(&away, &kept).unwrap();
    node.start();
    assert_eq!(node.json(&["status"])["unprotected"], false);
}

#[test]
fn key_files_that_others_can_read_are_refused() {
    let _turn = turn::beside();
    let mut node = TestNode::init(setup());
    node.start();
    node.terminate();
    let files: Vec<_> = fs::read_dir(node.dir().join("keys")).unwrap().flatten().map(|item| item.path()).collect();
    assert!(!files.is_empty());
    for file in files.iter().filter(|file| file.is_file()) {
        for mode in [0o640, 0o604, 0o666] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            let name = file.file_name().unwrap().to_str().unwrap().to_lowercase();
            assert_run_refused(&node, &[], 6, &name);
        }
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
    node.start();
}

#[test]
fn damaged_key_files_are_refused_with_six() {
    let _turn = turn::beside();
    let mut node = TestNode::init(setup());
    node.start();
    node.terminate();
    let keys = node.dir().join("keys");
    let files: Vec<_> = fs::read_dir(&keys).unwrap().flatten().map(|item| item.path()).collect();
    for file in files.iter().filter(|file| file.is_file()) {
        let good = fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "slots" {
            continue;
        }
        for damage in [damaged_bit as fn(&[u8]) -> Vec<u8>, truncated, emptied] {
            fs::write(file, damage(&good)).unwrap();
            let refused = node.run_output(&[]);
            assert_eq!(refused.code, 6, "{name}\n{refused}");
            assert!(!refused.stderr.contains("panicked"), "{refused}");
        }
        fs::write(file, &good).unwrap();
    }
    node.start();
}

fn damaged_bit(good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let at = bytes.len() * 2 / 3;
    bytes[at] ^= 4;
    bytes
}

fn truncated(good: &[u8]) -> Vec<u8> {
    good[..good.len() / 2].to_vec()
}

fn emptied(_good: &[u8]) -> Vec<u8> {
    Vec::new()
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused() {
    let _turn = turn::beside();
    let node = TestNode::init(setup());
    // The keystore starts with its name and its version.
    let keystore = fs::read_dir(node.dir().join("keys"))
        .unwrap()
        .flatten()
        .map(|item| item.path())
        .find(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"PAKTKEYS")))
        .expect("a keystore");
    let good = fs::read(&keystore).unwrap();
    let mut newer = good.clone();
    newer[8] = 200;
    fs::write(&keystore, &newer).unwrap();
    assert_run_refused(&node, &[], 6, "newer");
    fs::write(&keystore, &good).unwrap();

    let config = node.dir().join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    let version = good.lines().find(|line| line.starts_with("version") || line.starts_with("format"));
    let version = version.expect("config.toml says which version of the directory it belongs to");
    let key = version.split('=').next().unwrap();
    fs::write(&config, good.replacen(version, &format!("{key}= 900"), 1)).unwrap();
    assert_run_refused(&node, &[], 6, "newer");
}

#[test]
fn a_damaged_configuration_names_the_line_or_key() {
    let _turn = turn::beside();
    let node = TestNode::init(setup());
    let config = node.dir().join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{good}\nsurprise = [\n")).unwrap();
    let refused = node.run_output(&[]);
    assert!([1, 2, 6].contains(&refused.code), "{refused}");
    assert!(refused.stderr.contains("config.toml"), "{refused}");
}

#[test]
fn a_port_in_use_is_named() {
    let _turn = turn::beside();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut node = TestNode::init(Setup { listen: address.to_string(), ..setup() });
    let refused = node.run_output(&[]).expect(1);
    assert!(refused.stderr.contains(&address.port().to_string()), "the port is not named\n{refused}");
    drop(taken);
    node.start();
}

#[test]
fn a_path_that_does_not_exist_is_named_and_nothing_is_queued() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let good = pair.path("good");
    fs::write(&good, "good").unwrap();
    let (to, good, gone) = (pair.to_b(), text(&good), pair.at("gone-7731"));
    let refused = pair.a.cli_json(&["send", "--to", &to, "--subject", "x", &good, &gone]).expect(1);
    assert!(refused.complaint().contains("gone-7731"), "{refused}");
    assert_eq!(pair.a.json(&["outbox", "list"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn what_is_neither_file_nor_folder_is_refused() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let folder = pair.path("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("fine"), "fine").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("link-7731")).unwrap();
    let refused = pair.a.cli_json(&["send", "--to", &pair.to_b(), "--subject", "Link", &text(&folder)]).expect(1);
    assert!(refused.complaint().contains("link-7731"), "{refused}");
    assert_eq!(pair.a.json(&["outbox", "list"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_the_whole_send() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let folder = pair.path("changing");
    fs::create_dir(&folder).unwrap();
    tree::write_noise(&folder.join("a-still.bin"), 30_000_000, 91);
    let file = folder.join("b-growing-7731.bin");
    tree::write_noise(&file, 30_000_000, 92);
    let (to, path) = (pair.to_b(), text(&folder));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, file) = (Arc::clone(&stop), file.clone());
        move || {
            let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
            while !stop.load(SeqCst) {
                file.write_all(b"more").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    });
    let refused = pair.a.cli_json(&["send", "--to", &to, "--subject", "Changing", &path]);
    stop.store(true, SeqCst);
    writer.join().unwrap();
    assert!(refused.clone().expect(1).complaint().contains("b-growing-7731.bin"), "{refused}");
    assert_eq!(pair.a.json(&["outbox", "list"]).as_array().map(Vec::len), Some(0));

    // Once it is still it goes, and with --settle the sender waits for that by itself.
    let args = ["send", "--to", &to, "--subject", "Settled", "--settle", "2s", &path];
    let sent = pair.a.json(&args);
    pair.wait_delivered(&id_of(&sent["envelopes"][0]), secs(60));
    pair.assert_received_once("Settled", &[&folder]);
}

#[test]
fn an_unreachable_peer_is_explained() {
    let _turn = turn::beside();
    let mut pair = Pair::new();
    let address = pair.b.listen();
    pair.b.kill();
    let path = pair.path("x");
    fs::write(&path, "x").unwrap();
    // First it says that the connection was lost, then what came of dialling again.
    until(secs(15), "peers says what dialling came to", || {
        let peers = pair.a.json(&["peers"]);
        let told = peers[0]["reason"].as_str()?.to_lowercase();
        let explained = told.contains(&address.port().to_string()) || told.contains("refused");
        (peers[0]["online"] == false && explained).then_some(())
    });
    let sent = pair.a.cli(&["send", "--to", &pair.to_b(), "--subject", "x", &text(&path)]).expect(0);
    assert!(!sent.text().is_empty() || !sent.stderr.is_empty(), "it says when it tries again");
}

#[test]
fn names_and_ids_that_nobody_has_exit_four() {
    let _turn = turn::beside();
    let pair = Pair::new();
    let nothing = "00000000000000000000000000000000";
    let rows: [&[&str]; 6] = [
        &["inbox", "show", nothing],
        &["inbox", "save", nothing, "--to", "somewhere"],
        &["outbox", "show", nothing],
        &["receipt", "export", nothing],
        &["agreement", "export", nothing],
        &["agreement", "end", nothing],
    ];
    for args in rows {
        pair.a.cli_json(args).expect(4).complaint();
    }
    assert!(!pair.a.home().join("somewhere").exists());
}
