//! A partner gone bad: every behaviour of `tests/src/bin/hostile_partner` against one real node, one after the other.
//!
//! Each must meet exactly the refusal that its row names, and after each the node is the same process, an honest
//! neighbour's message still arrives, and no log and no answer holds what it should not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use pakt_tests::binary::workspace;
use pakt_tests::mesh;
use pakt_tests::node::{Setup, TestNode};
use pakt_tests::pair::text;
use pakt_tests::wait::{secs, until, within};
use pakt_tests::{scan, tools, turn};
use serde_json::Value;

/// Behaviours that the table holds at the least.
const ROWS_MIN: usize = 40;
/// After so many behaviours an honest message is sent.
const HONEST_EVERY: usize = 4;
/// After so many that are not as they should be, what follows tells little.
const WRONG_MAX: usize = 4;
/// The most memory that the victim may have used in the end.
const MEMORY_MAX: u64 = 400 << 20;
/// The log is written beside what is said on the wire.
const LOGGED_WITHIN: Duration = Duration::from_secs(12);

/// What the victim agrees on with everybody.
const TERMS: &str = "relay = true\n";

const HIDDEN: &str = "KanariSkjult-4471";
const SHOWN: &str = "KanariVist-4472";
const SUBJECT: &str = "KanariEmne-4473";
const BODY: &str = "KanariTekst-4474";
const FILE: &str = "KanariFil-4475";
/// How the names of behaviours begin that need a question of the victim's.
const ASKED: &str = "directory answer";
/// What the victim says at level error when it finds a partner out.
const FOUND_OUT: [&str; 5] = [
    "audit log was tampered with",
    "certificates contradict each other",
    "does not prove its audit log",
    "a reconciliation shows a gap",
    "a reconciliation shows gaps for which there is no place on record",
];
/// What the program calls its own files and subjects.
const OF_THE_PARTNER: &str = "KanariPartner";

/// The victim, its bad partners and an honest one.
struct Scene {
    victim: TestNode,
    /// The one that tries everything, its accomplice, and one for each slow behaviour.
    bad: Vec<TestNode>,
    honest: TestNode,
    desk: tempfile::TempDir,
}

#[test]
fn whatever_a_partner_tries_it_meets_the_refusal_that_the_table_names() {
    let _turn = turn::alone();
    let (table, slow) = (table("--list"), table("--list-slow"));
    assert!(table.len() + slow.len() >= ROWS_MIN, "{} behaviours", table.len() + slow.len());
    let scene = Scene::set(slow.len());
    let pid = scene.victim.pid();
    let wrong = std::thread::scope(|scope| {
        let beside: Vec<_> = slow
            .iter()
            .zip(1..)
            .map(|(row, number)| {
                let mut program = Program::start(&scene, [number + 1, 0]);
                let scene = &scene;
                scope.spawn(move || scene.try_row(&mut program, row))
            })
            .collect();
        let mut program = Program::start(&scene, [0, 1]);
        let mut wrong = Vec::new();
        for (at, row) in table.iter().enumerate() {
            if wrong.len() >= WRONG_MAX {
                break;
            }
            wrong.extend(scene.try_row(&mut program, row));
            assert_eq!(scene.victim.pid(), pid);
            if at % HONEST_EVERY == 0 {
                scene.assert_honest_arrives(&row.name);
            }
        }
        wrong.extend(beside.into_iter().flat_map(|row| row.join().expect("a slow behaviour ends")));
        wrong
    });
    assert!(wrong.is_empty(), "{} behaviours met something else\n{}", wrong.len(), wrong.join("\n"));
    scene.assert_honest_arrives("all of them");
    scene.assert_clean();
}

#[test]
fn the_table_in_the_documentation_is_the_one_that_is_tried() {
    let page = fs::read_to_string(workspace().join("node/docs/security.md")).unwrap();
    let table = program(&["--table"]);
    assert!(page.contains(&table), "node/docs/security.md does not hold the output of `hostile_partner --table`");
    let names: BTreeSet<&str> = table.lines().filter_map(|line| line.split('|').nth(1)).collect();
    assert_eq!(names.len(), table.lines().count(), "two behaviours have one name");
}

/// What the program prints.
fn program(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hostile_partner")).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

struct Row {
    name: String,
    meets: String,
    says: String,
}

fn table(which: &str) -> Vec<Row> {
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| row[name].as_str().unwrap().to_owned();
        Row { name: field("name"), meets: field("meets"), says: field("says") }
    };
    program(&[which]).lines().map(row).collect()
}

impl Scene {
    fn set(slow: usize) -> Scene {
        let mut victim = TestNode::init(Setup::new("Fjordbyen sykehus", "NO:ORGNR:999000101"));
        victim.set_env("PAKT_LOG", "warn,pakt_node=debug,pakt_protocol=debug");
        let honest = TestNode::init(Setup::new("Radiologi Vest", "NO:ORGNR:999000102"));
        let bad = |number| TestNode::init(Setup::new(&format!("Kliniek {number}"), &format!("NL:KVK:9900020{number}")));
        let bad = (0..2 + slow).map(bad).collect();
        let desk = tempfile::tempdir().unwrap();
        let mut scene = Scene { victim, bad, honest, desk };
        let config = scene.victim.dir().join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains("# steward = false"), "{text}");
        fs::write(&config, text.replace("# steward = false", "steward = true")).unwrap();
        scene.victim.start();
        scene.honest.start();
        scene.agree(&scene.honest, "honest");
        for number in 0..scene.bad.len() {
            scene.bad[number].start();
            scene.agree(&scene.bad[number], &format!("bad-{number}"));
        }
        scene.amend(1);
        scene.plant();
        for node in &mut scene.bad {
            node.terminate();
        }
        scene.queue_mail();
        scene
    }

    /// Has the program do what the row says; tells what is not as it should be.
    fn try_row(&self, program: &mut Program, row: &Row) -> Option<String> {
        let before = self.victim.log().len();
        let started = Instant::now();
        let met =
            if row.name.starts_with(ASKED) { self.asking(|| program.act(&row.name)) } else { program.act(&row.name) };
        let said = row.says.is_empty() || self.victim_says(before, &row.says);
        tools::tell(&format!("{:>6} ms  {}: {met}", started.elapsed().as_millis(), row.name));
        let Row { name, meets, says } = row;
        let log = || self.victim.log()[before..].to_owned();
        (met != *meets || !said).then(|| format!("{name}\n  met {met}, not {meets}; `{says}` said: {said}\n{}", log()))
    }

    fn at(&self, name: &str) -> String {
        text(&self.desk.path().join(name))
    }

    /// An agreement between the victim and a partner; the partner's file lies on the desk under its name.
    fn agree(&self, partner: &TestNode, name: &str) {
        let [card, proposal, file] = ["card", "proposal", "agreement"].map(|kind| self.at(&format!("{name}.{kind}")));
        partner.cli(&["card", "--out", &card]).expect(0);
        let terms = self.at("terms.toml");
        fs::write(&terms, TERMS).unwrap();
        self.victim.cli(&["agreement", "propose", "--with", &card, "--terms", &terms, "--out", &proposal]).expect(0);
        partner.cli(&["agreement", "accept", &proposal, "--out", &file]).expect(0);
        mesh::wait_sees(&self.victim, partner, 30);
    }

    /// Signs a second version with a bad partner, whose file on the desk stays the first.
    fn amend(&self, number: usize) {
        let partner = &self.bad[number];
        let terms = self.at("second.toml");
        fs::write(&terms, format!("{TERMS}max_message = \"50GB\"\n")).unwrap();
        let list = partner.json(&["agreement", "list"]);
        let id = list[0]["id"].as_str().unwrap().to_owned();
        self.victim.cli(&["agreement", "amend", &id, "--terms", &terms]).expect(0);
        until(secs(20), "the amendment is countersigned", || {
            (partner.cli(&["agreement", "accept", &id]).code == 0).then_some(())
        });
        until(secs(20), "the victim holds the second version", || {
            let list = self.victim.json(&["agreement", "list"]);
            list.as_array()?.iter().any(|row| row["id"] == id && row["version"] == 2).then_some(())
        });
    }

    /// Groups that only the accomplice or nobody sees.
    fn plant(&self) {
        for group in [HIDDEN, SHOWN] {
            self.victim.cli(&["group", "add", group]).expect(0);
        }
        self.victim.cli(&["group", "show", SHOWN, "--to", self.bad[1].number()]).expect(0);
    }

    /// Messages of the victim for its bad partners, who are asked to take them in the course of the table.
    fn queue_mail(&self) {
        let (file, body) = (self.desk.path().join(FILE), self.desk.path().join("body"));
        fs::write(&file, format!("{BODY} {}", "content ".repeat(2_000))).unwrap();
        fs::write(&body, BODY).unwrap();
        for partner in &self.bad[..2] {
            let to = format!("{}/Reception", partner.number());
            let (file, body) = (text(&file), text(&body));
            self.victim
                .cli(&["send", "--from", "Reception", "--to", &to, "--subject", SUBJECT, "--body-file", &body, &file])
                .expect(0);
        }
    }

    /// Does `work` while the victim's operator asks for the first partner's directory.
    fn asking<T>(&self, work: impl FnOnce() -> T) -> T {
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(SeqCst) {
                    // Whatever comes of it: the victim's log tells.
                    self.victim.cli(&["directory", "list", "--with", self.bad[0].number()]);
                }
            });
            let done = work();
            is_done.store(true, SeqCst);
            done
        })
    }

    fn victim_says(&self, from: usize, what: &str) -> bool {
        within(LOGGED_WITHIN, || self.victim.log()[from..].contains(what).then_some(())).is_some()
    }

    fn assert_honest_arrives(&self, after: &str) {
        let file = self.desk.path().join("honest.txt");
        fs::write(&file, after).unwrap();
        let to = format!("{}/Reception", self.victim.number());
        let sent = self.honest.cli_json(&[
            "send",
            "--to",
            &to,
            "--subject",
            "After",
            "--wait",
            "delivered",
            "--timeout",
            "30s",
            &text(&file),
        ]);
        assert_eq!(sent.code, 0, "after `{after}` the honest neighbour is not heard\n{sent}\n{}", self.victim.log());
    }

    /// Nothing that was planted lies in a log or was said to the wrong one; the victim has not panicked and not grown.
    fn assert_clean(&self) {
        let words = [HIDDEN, SHOWN, SUBJECT, BODY, FILE, OF_THE_PARTNER].map(str::to_owned);
        let log = self.victim.log_path();
        assert_eq!(scan::hits(&[&log], &words), [], "the victim's log");
        let heard = self.desk.path().join("heard-0");
        let unseen = [HIDDEN, SHOWN].map(str::to_owned);
        assert_eq!(scan::hits(&[&heard], &unseen), [], "what the first partner heard");
        assert!(fs::metadata(&heard).unwrap().len() > 10_000, "it heard something");
        let log = self.victim.log();
        assert!(!log.contains("panicked"), "{log}");
        let faults = log.lines().filter(|line| line.contains("ERROR"));
        let faults: Vec<_> = faults.filter(|line| !FOUND_OUT.iter().any(|known| line.contains(known))).collect();
        assert!(faults.is_empty(), "{faults:?}");
        let peak = self.victim.memory_peak_bytes();
        tools::tell(&format!("the victim's memory: {} MiB at the most", peak >> 20));
        assert!(peak < MEMORY_MAX, "{peak} bytes");
    }
}

/// The program of the hostile partner.
struct Program {
    child: Child,
    ask: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts it with the identities of these bad partners.
    fn start(scene: &Scene, [first, second]: [usize; 2]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile_partner"));
        command.args(["--victim", &scene.victim.listen().to_string()]);
        for (role, number) in [("--first", first), ("--second", second)] {
            command.arg(role).arg(scene.bad[number].dir()).arg(scene.at(&format!("bad-{number}.agreement")));
        }
        command.args(["--heard", &scene.at(&format!("heard-{first}"))]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (ask, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()).lines());
        Program { child, ask, answers }
    }

    /// Has it do something and tells what it met.
    fn act(&mut self, name: &str) -> String {
        let ask = self.ask.as_mut().unwrap();
        writeln!(ask, "{name}").unwrap();
        let line = self.answers.next().unwrap_or_else(|| panic!("the program ended at `{name}`")).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["name"], name);
        answer["met"].as_str().unwrap().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.ask.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
