//! The newcomer's first command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use pakt_tests::binary::pakt;
use pakt_tests::output::Output;
use pakt_tests::pair::text;
use pakt_tests::wait::{secs, until};
use pakt_tests::{tree, turn};

fn demo(args: &[&str]) -> Output {
    Output::of(Command::new(pakt()).env_remove("PAKT_DIR").arg("demo").args(args))
}

/// Running processes of the `pakt` under test: (process id, command line).
fn running() -> Vec<(u32, Vec<String>)> {
    let Ok(items) = fs::read_dir("/proc") else { return Vec::new() };
    items
        .flatten()
        .filter_map(|item| Some((item.file_name().to_str()?.parse().ok()?, item.path())))
        .filter(|(_, path): &(u32, PathBuf)| fs::read_link(path.join("exe")).is_ok_and(|exe| exe == pakt()))
        .map(|(pid, path)| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).split('\0').map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn the_demo_sends_a_folder_and_leaves_nothing_behind() {
    let _turn = turn::alone();
    let desk = tempfile::tempdir().unwrap();
    let study = desk.path().join("min studie");
    tree::make_strange(&study, 50, 2_000_000);
    let before = tree::read(&study);
    let told = demo(&[&text(&study)]).expect(0);
    let all = format!("{}{}", told.text(), told.stderr).to_lowercase();
    for word in ["receipt", "vmhwm", "ratio"] {
        assert!(all.contains(word), "`{word}` is not told\n{told}");
    }
    assert_eq!(tree::read(&study), before);
    assert_eq!(running(), [], "nodes are left behind");

    let gone = demo(&[&text(&desk.path().join("gone"))]);
    assert_eq!(gone.code, 1, "{gone}");
    assert_eq!(running(), []);
}

#[test]
fn the_demo_can_leave_both_nodes_running() {
    let _turn = turn::alone();
    let desk = tempfile::tempdir().unwrap();
    fs::write(desk.path().join("one.txt"), "one").unwrap();
    let told = demo(&["--keep", &text(desk.path())]).expect(0);
    let nodes = running();
    let dirs: Vec<PathBuf> = nodes.iter().filter_map(|(_, line)| dir_of(line)).collect();
    for (pid, _) in &nodes {
        let status = dir_of_pid(&nodes, *pid)
            .map(|dir| Output::of(Command::new(pakt()).args(["status", "--dir", &text(&dir), "--json"])).code);
        let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).output();
        assert_eq!(status, Some(0), "a kept node does not answer");
    }
    until(secs(15), "the kept nodes end", || running().is_empty().then_some(()));
    assert_eq!(nodes.len(), 2, "{told}");
    let said = format!("{}{}", told.text(), told.stderr);
    for dir in &dirs {
        assert!(said.contains(&text(dir)), "it does not say how to talk to {dir:?}\n{told}");
        let _ = fs::remove_dir_all(dir.parent().unwrap_or(dir));
    }
}

fn dir_of(line: &[String]) -> Option<PathBuf> {
    let at = line.iter().position(|word| word == "--dir")?;
    line.get(at + 1).map(PathBuf::from)
}

fn dir_of_pid(nodes: &[(u32, Vec<String>)], pid: u32) -> Option<PathBuf> {
    nodes.iter().find(|(of, _)| *of == pid).and_then(|(_, line)| dir_of(line))
}

#[test]
fn the_demo_makes_its_own_study() {
    let _turn = turn::alone();
    demo(&[]).expect(0);
    assert_eq!(running(), []);
}
