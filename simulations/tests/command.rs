//! The command line as people and `git bisect run` use it: what it prints, what it writes, what it ends with.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Two nodes and an hour of letters.
const QUIET: &str = "name = 'quiet'\nduration = '1h'\n[topology]\nshape = 'pair'\n\
    [[traffic]]\nkind = 'letter'\nper_node_and_hour = 20.0\n";

/// A line that comes back in the last second, and nobody waits until the next attempt to connect.
const IMPATIENT: &str = "name = 'impatient'\nduration = '10m'\nsettle = '1s'\n[topology]\nshape = 'pair'\n\
    [[faults]]\nat = '5m'\nfor = '5m'\nwhat = 'partition'\na = 0\nb = 1\n";

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pakt-simulations"));
    command.current_dir(dir).args(arguments).output().expect("the program runs")
}

fn folder_with(scenarios: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in scenarios {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(text.lines().count(), 1, "one object and nothing else: {text}");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn what_cannot_run_is_no_verdict() {
    let dir = folder_with(&[("quiet.toml", QUIET), ("wrong.toml", "name = 'x'\nduration = '1h'\ncolour = 1\n")]);
    let check = |arguments: &[&str], expected: &str| {
        let output = run(dir.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    };
    check(&["run", "no-such"], "shipped are pair");
    check(&["run", "wrong.toml"], "colour");
    check(&["run", "quiet.toml", "--seeds", "5..5"], "not two numbers");
    check(&["run", "quiet.toml", "--seeds", "0..2", "--seed", "1"], "cannot be used with");
    check(&["run", "quiet.toml", "--events", "no/such/folder"], "no/such/folder");
    check(&["run", "quiet.toml", "--html", "no/such/folder"], "no/such/folder");
    check(&["run", "quiet.toml", "--fast"], "--fast");
    check(&["run"], "SCENARIO");
    check(&["compare", "quiet.toml", "quiet.toml"], "not what `run --json` prints");
}

#[test]
fn a_run_passes_writes_everything_and_is_the_same_again() {
    let dir = folder_with(&[("quiet.toml", QUIET)]);
    let arguments = ["run", "quiet.toml", "--seed", "3", "--json", "--html", "page.html", "--events", "events.jsonl"];
    let output = run(dir.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let outcome = json(&output);
    assert_eq!((&outcome["verdict"], &outcome["seed"]), (&"pass".into(), &3.into()));
    let hash = outcome["event_hash"].as_str().unwrap();
    assert_eq!(hash.len(), 64);

    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert!(page.contains(hash) && page.contains("run quiet.toml --seed 3"));
    let events = fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let delivered =
        events.iter().filter(|event| event["record"]["record"] == "delivered" && event["node"] == event["to"]);
    assert_eq!(delivered.count() as u64, outcome["messages"]["delivered"].as_u64().unwrap());

    // Without details, as text: the same run.
    let again = run(dir.path(), &["run", "quiet.toml", "--seed", "3"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains(hash));
    fs::write(dir.path().join("one.json"), &output.stdout).unwrap();
    let compared = run(dir.path(), &["compare", "one.json", "one.json", "--html", "compared.html"]);
    assert!(String::from_utf8_lossy(&compared.stdout).contains("the same, event by event"));
    assert!(dir.path().join("compared.html").exists());
}

#[test]
fn the_seed_of_a_file_is_used_unless_another_is_given() {
    let dir = folder_with(&[("quiet.toml", &format!("seed = 11\n{QUIET}"))]);
    assert_eq!(json(&run(dir.path(), &["run", "quiet.toml", "--json"]))["seed"], 11);
    assert_eq!(json(&run(dir.path(), &["run", "quiet.toml", "--json", "--seed", "4"]))["seed"], 4);
}

#[test]
fn seeds_are_run_in_order_and_without_their_end() {
    let dir = folder_with(&[("quiet.toml", QUIET)]);
    let output = run(dir.path(), &["run", "quiet.toml", "--seeds", "4..9", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let summary = json(&output);
    let seeds: Vec<u64> = summary["runs"].as_array().unwrap().iter().map(|run| run["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [4, 5, 6, 7, 8]);
    assert_eq!((&summary["passed"], &summary["failed"], &summary["verdict"]), (&5.into(), &0.into(), &"pass".into()));
    // What one seed gives does not depend on those that ran beside it.
    let alone = json(&run(dir.path(), &["run", "quiet.toml", "--seed", "6", "--json"]));
    assert_eq!(summary["runs"][2]["event_hash"], alone["event_hash"]);

    let text = run(dir.path(), &["run", "quiet.toml", "--seeds", "4..6"]);
    let text = String::from_utf8(text.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("seed 4") && lines[1].starts_with("seed 5") && lines[2].contains("all 2 pass"),
        "{text}"
    );
}

#[test]
fn what_does_not_settle_in_time_is_stuck() {
    let dir = folder_with(&[("impatient.toml", IMPATIENT)]);
    let output = run(dir.path(), &["run", "impatient.toml", "--no-shrink", "--json"]);
    assert_eq!(output.status.code(), Some(12));
    let outcome = json(&output);
    assert_eq!(outcome["verdict"], "stuck");
    assert!(outcome["finding"]["rule"].is_string() && outcome["finding"]["nodes"].is_array());
    assert!(!dir.path().join("impatient-seed-1.toml").exists(), "--no-shrink");
    let several = run(dir.path(), &["run", "impatient.toml", "--no-shrink", "--seeds", "0..2"]);
    assert_eq!(several.status.code(), Some(12));
    assert!(String::from_utf8_lossy(&several.stdout).contains("0 pass, 2 fail, the first is 0"));
}

#[test]
fn what_fails_is_shrunk_to_a_file_that_fails_the_same_way() {
    let more = "[[faults]]\nat = '1m'\nfor = '1m'\nwhat = 'disk-full'\nnode = 0\n\
        [[traffic]]\nkind = 'letter'\nper_node_and_hour = 30.0\n";
    let dir = folder_with(&[("impatient.toml", &format!("{IMPATIENT}{more}"))]);
    let output = run(dir.path(), &["run", "impatient.toml", "--seed", "2", "--json"]);
    assert_eq!(output.status.code(), Some(12));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("impatient-seed-2.toml"), "{error}");
    let text = fs::read_to_string(dir.path().join("impatient-seed-2.toml")).unwrap();
    assert!(text.contains("partition") && !text.contains("disk-full") && !text.contains("[[traffic]]"), "{text}");
    assert_eq!(text.matches("[[messages]]").count(), 1, "one letter that waits is enough: {text}");

    // It names its seed, and fails by the same rule.
    let small = run(dir.path(), &["run", "impatient-seed-2.toml", "--no-shrink", "--json"]);
    assert_eq!(small.status.code(), Some(12));
    assert_eq!(json(&small)["finding"]["rule"], json(&output)["finding"]["rule"]);
    assert_eq!(json(&small)["seed"], 2);
}
