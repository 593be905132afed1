//! Starting, stopping and what works without a running node.

use std::fs;

use pakt_tests::node::{Setup, TestNode};
use pakt_tests::pair::text;
use pakt_tests::turn;
use pakt_tests::wait::secs;

fn setup() -> Setup {
    Setup::new("Fjordbyen sykehus", "NO:ORGNR:999000101")
}

#[test]
fn init_prints_the_next_three_commands_and_never_overwrites() {
    let _turn = turn::beside();
    let node = TestNode::init(Setup { dir: None, ..setup() });
    let listing = |node: &TestNode| pakt_tests::tree::read(node.dir());
    let before = listing(&node);
    let again = node.init_output();
    assert_eq!(again.code, 1, "{again}");
    assert_eq!(listing(&node), before, "a second init changed something");

    let fresh = TestNode::init(setup());
    fs::remove_dir_all(fresh.dir()).unwrap();
    fs::remove_file(fresh.home().join("recovery.pakt")).unwrap();
    let told = fresh.init_output().expect(0);
    let all = format!("{}{}", told.text(), told.stderr);
    assert!(all.matches("pakt ").count() >= 3, "the next three commands are missing\n{told}");
    assert!(all.contains("unprotected") || all.contains("passphrase"), "it says that keys lie open\n{told}");
}

#[test]
fn keys_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let _turn = turn::beside();
    let mut node = TestNode::init(setup());
    node.start();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for item in fs::read_dir(node.dir().join("keys")).unwrap().flatten() {
        assert_eq!(mode(&item.path()), 0o600, "{:?}", item.path());
    }
    assert_eq!(mode(&node.dir().join("keys")) & 0o077, 0);
    assert_eq!(mode(&node.dir().join("api.sock")) & 0o077, 0);
}

#[test]
fn without_a_running_node_commands_say_so() {
    let _turn = turn::beside();
    let node = TestNode::init(setup());
    let file = node.home().join("x");
    fs::write(&file, "x").unwrap();
    let rows: [&[&str]; 7] = [
        &["status"],
        &["peers"],
        &["agreement", "list"],
        &["inbox", "list"],
        &["outbox", "list"],
        &["group", "list"],
        &["send", "--to", "NL:KVK:99000102/Reception", "--subject", "x", &text(&file)],
    ];
    for args in rows {
        node.cli_json(args).expect(5).complaint();
        let plain = node.cli(args).expect(5);
        assert!(plain.stdout.is_empty() && plain.stderr.contains("pakt run"), "{plain}");
    }
    let card = node.home().join("card");
    node.cli(&["card", "--out", &text(&card)]).expect(0);
    let stdout = node.cli(&["card"]).expect(0).stdout;
    assert_eq!(stdout, fs::read(&card).unwrap());
    let shown = node.json(&["card", "show", &text(&card)]);
    assert!(shown.to_string().contains("NO:ORGNR:999000101"), "{shown}");
    let doctor = node.cli_json(&["doctor"]);
    assert!([0, 1].contains(&doctor.code) && doctor.json().is_array(), "{doctor}");
}

#[test]
fn sigterm_ends_cleanly_and_a_stale_socket_is_replaced() {
    let _turn = turn::beside();
    let mut node = TestNode::init(setup());
    node.start();
    let first = node.listen();
    let (status, took) = node.terminate();
    assert!(status.success(), "{status}");
    assert!(took < secs(10), "{took:?}");
    node.start();
    assert_eq!(node.listen(), first, "the port picked at init is kept");
    node.kill();
    assert!(node.dir().join("api.sock").exists(), "kill -9 leaves the socket behind");
    node.cli(&["status"]).expect(5);
    node.start();
    node.json(&["status"]);
}

#[test]
fn a_directory_is_run_once_at_a_time() {
    let _turn = turn::beside();
    let mut node = TestNode::init(setup());
    node.start();
    let second = node.run_output(&[]);
    assert_ne!(second.code, 0, "{second}");
    node.json(&["status"]);
}

#[test]
fn usage_errors_exit_two_and_help_shows_examples() {
    let _turn = turn::beside();
    let node = TestNode::init(setup());
    for args in [&["no-such-command"][..], &["status", "--no-such-flag"], &["send"]] {
        node.cli(args).expect(2);
    }
    for args in
        [&["--help"][..], &["send", "--help"], &["agreement", "propose", "--help"], &["inbox", "save", "--help"]]
    {
        let mut command = std::process::Command::new(pakt_tests::binary::pakt());
        let help = pakt_tests::output::Output::of(command.args(args)).expect(0).text();
        assert!(help.contains("pakt "), "{args:?} has no example:\n{help}");
    }
}
