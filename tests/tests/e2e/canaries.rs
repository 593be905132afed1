//! P22: whoever steals the disk, a backup or the logs of a node whose passphrase lies elsewhere finds nothing; nor does
//! whoever reads what it tells a monitoring system or an auditor.
//!
//! The nodes log all that they can.

use std::fs;
use std::path::{Path, PathBuf};

use pakt_tests::http::{listen_for_monitoring, metrics};
use pakt_tests::node::TestNode;
use pakt_tests::pair::{Pair, Plan, id_of, text};
use pakt_tests::wait::{secs, until};
use pakt_tests::{scan, turn};

const SUBJECTS: usize = 40;
const BODIES: usize = 40;
const FILE_NAMES: usize = 60;
const FILE_BODIES: usize = 52;
const GROUPS: usize = 8;

/// A word that no software contains by chance, and that looks like a name.
fn canary(kind: &str, at: usize) -> String {
    let mark = blake3::hash(format!("{kind} {at}").as_bytes()).to_hex();
    format!("Kanari{kind}{}", &mark[..10])
}

#[test]
fn p22_a_stolen_disk_and_its_logs_show_nothing() {
    let _turn = turn::alone();
    let mut plan = Plan::default();
    plan.a.passphrase = Some("correct horse battery staple 41".into());
    plan.b.passphrase = Some("another passphrase kept elsewhere".into());
    for setup in [&mut plan.a, &mut plan.b] {
        setup.env.push(("PAKT_LOG".into(), "warn,pakt_node=trace,pakt_protocol=trace,pakt_keys=trace".into()));
    }
    let mut pair = Pair::of(plan);
    let ports = listen(&mut pair);
    let words = plant(&pair);
    assert_eq!(words.len(), 200);
    for (node, port) in [(&pair.a, ports[0]), (&pair.b, ports[1])] {
        back_up(node);
        tell(node, port);
    }

    // While it runs, after a power cut, and after an orderly end.
    assert_clean(&pair, &words, "running");
    pair.a.kill();
    pair.b.kill();
    assert_clean(&pair, &words, "killed");
    pair.a.start();
    pair.b.start();
    pair.wait_online();
    pair.a.terminate();
    pair.b.terminate();
    assert_clean(&pair, &words, "ended");
}

/// What lies in the home of each node, outside its data: its log, its backup, and what it tells those who run it.
const BESIDE: [&str; 8] =
    ["run.log", "node.backup", "printed", "metrics", "status.json", "log.fhir", "log.syslog", "log.json"];

/// Both nodes listen for monitoring; their ports.
fn listen(pair: &mut Pair) -> [u16; 2] {
    let ports = [&mut pair.a, &mut pair.b].map(|node| {
        let port = listen_for_monitoring(node);
        node.terminate();
        node.start();
        port
    });
    pair.wait_online();
    ports
}

/// A backup beside the data of the node.
fn back_up(node: &TestNode) {
    node.cli(&["backup", "create", &text(&node.home().join("node.backup"))]).expect(0);
}

/// What an operator prints, a monitoring system reads and an auditor is handed lies beside the data, too.
fn tell(node: &TestNode, port: u16) {
    let write = |name: &str, text: &str| fs::write(node.home().join(name), text).unwrap();
    write("printed", &["status", "doctor"].map(|command| node.cli(&[command]).text()).concat());
    write("status.json", &node.json(&["status"]).to_string());
    let body = metrics(port).expect("it listens for monitoring");
    assert!(body.contains("pakt_log_entries"), "{body}");
    write("metrics", &body);
    for format in ["fhir", "syslog", "json"] {
        let out = text(&node.home().join(format!("log.{format}")));
        let exported = node.json(&["log", "export", "--format", format, "--out", &out]);
        assert!(exported["entries"].as_u64() >= Some(SUBJECTS as u64), "every message is in the log: {exported}");
    }
}

/// Sends messages full of canaries in both directions' stores and gives all the words.
fn plant(pair: &Pair) -> Vec<String> {
    let all = |kind: &str, count: usize| (0..count).map(|at| canary(kind, at)).collect::<Vec<_>>();
    let groups = all("Gruppe", GROUPS);
    for (at, group) in groups.iter().enumerate() {
        let node = if at % 2 == 0 { &pair.a } else { &pair.b };
        node.cli(&["group", "add", group]).expect(0);
        node.cli(&["group", "show", group, "--to", "all"]).expect(0);
    }
    let (of_a, of_b): (Vec<_>, Vec<_>) = groups.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    until(secs(20), "the groups are known", || {
        let peers = pair.a.json(&["peers"]).to_string();
        of_b.iter().all(|(_, group)| peers.contains(*group)).then_some(())
    });
    let (subjects, bodies) = (all("Emne", SUBJECTS), all("Tekst", BODIES));
    let (names, contents) = (all("Fil", FILE_NAMES), all("Innhold", FILE_BODIES));
    let mut sent = Vec::new();
    for at in 0..SUBJECTS {
        let folder = pair.path(&format!("m{at}"));
        fs::create_dir(&folder).unwrap();
        for (name, content) in names.iter().zip(contents.iter().cycle()).skip(at).step_by(SUBJECTS) {
            fs::write(folder.join(format!("{name}.dcm")), format!("..{content}..").repeat(20)).unwrap();
        }
        for content in contents.iter().skip(at).step_by(SUBJECTS) {
            fs::write(folder.join(format!("plain-{at}")), content).unwrap();
        }
        let body = pair.path(&format!("body-{at}"));
        fs::write(&body, format!("Hei {}, svar følger.", bodies[at])).unwrap();
        let to = format!("{}/{}", pair.b.number(), of_b[at % of_b.len()].1);
        let (from, body, folder) = (of_a[at % of_a.len()].1, text(&body), text(&folder));
        let args = ["send", "--from", from, "--to", &to, "--subject", &subjects[at], "--body-file", &body, &folder];
        sent.push(id_of(&pair.a.json(&args)["envelopes"][0]));
    }
    sent.iter().for_each(|envelope| drop(pair.wait_delivered(envelope, secs(60))));
    until(secs(10), "all are in the inbox", || {
        (pair.b.json(&["inbox", "list"]).as_array()?.len() >= SUBJECTS).then_some(())
    });
    let planted = [subjects, bodies, names, contents, groups].concat();
    // The scanner finds what lies open: every word that has been in a file of the sender's own.
    let open: Vec<PathBuf> = scan::hits(&[pair.desk.path()], &planted).into_iter().map(|(file, _)| file).collect();
    assert!(open.len() > BODIES + FILE_NAMES, "the scanner is blind");
    planted
}

#[track_caller]
fn assert_clean(pair: &Pair, words: &[String], when: &str) {
    let mut words = words.to_vec();
    words.extend(["correct horse battery", "passphrase kept elsewhere"].map(str::to_owned));
    let beside = [&pair.a, &pair.b].into_iter().flat_map(|node| BESIDE.map(|name| node.home().join(name)));
    let beside: Vec<PathBuf> = beside.collect();
    assert!(beside.iter().all(|path| fs::metadata(path).is_ok_and(|meta| meta.len() > 0)), "{beside:?}");
    let mut roots: Vec<&Path> = vec![pair.a.dir(), pair.b.dir()];
    roots.extend(beside.iter().map(PathBuf::as_path));
    let found = scan::hits(&roots, &words);
    let shown: Vec<String> =
        found.iter().take(20).map(|(file, word)| format!("{word} in {}", file.display())).collect();
    assert!(found.is_empty(), "{when}: {} hits\n{}", found.len(), shown.join("\n"));
}
