//! Two nodes with an agreement, made as two operators make it: with files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::node::{Setup, TestNode};
use crate::tree;
use crate::wait::{secs, until};
use crate::wire::{Side, Wire};

/// States in which the recipient holds the message durably.
pub const DELIVERED: [&str; 3] = ["delivered", "released", "taken"];

/// How a pair is made.
pub struct Plan {
    /// The node that proposes.
    pub a: Setup,
    /// The node that accepts.
    pub b: Setup,
    /// A line between them.
    pub wired: bool,
    /// Terms (TOML), if not the default ones.
    pub terms: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            a: Setup::new("Fjordbyen sykehus", "NO:ORGNR:999000101"),
            b: Setup::new("Kliniek De Vaart", "NL:KVK:99000102"),
            wired: false,
            terms: None,
        }
    }
}

/// Two running nodes that have an active agreement and see each other.
pub struct Pair {
    /// The proposer.
    pub a: TestNode,
    /// The acceptor.
    pub b: TestNode,
    /// The line, when there is one; dropped after the nodes.
    pub wire: Option<Wire>,
    /// The agreement's id.
    pub agreement: String,
    /// A folder of the test's own.
    pub desk: tempfile::TempDir,
}

impl Pair {
    /// A pair by the default plan.
    #[track_caller]
    pub fn new() -> Pair {
        Pair::of(Plan::default())
    }

    /// A pair with a line between.
    #[track_caller]
    pub fn wired() -> Pair {
        Pair::of(Plan { wired: true, ..Plan::default() })
    }

    /// A pair by `plan`.
    ///
    /// # Panics
    /// When any step on the way fails.
    #[track_caller]
    pub fn of(plan: Plan) -> Pair {
        let mut pair = Pair::strangers(plan);
        pair.agree();
        pair.wait_online();
        pair
    }

    /// Two running nodes without an agreement; `plan.terms` lies on the desk.
    #[track_caller]
    pub fn strangers(mut plan: Plan) -> Pair {
        let wire = plan.wired.then(Wire::new);
        if let Some(wire) = &wire {
            plan.a.advertise = vec![wire.door(Side::A).to_string()];
            plan.b.advertise = vec![wire.door(Side::B).to_string()];
        }
        let mut a = TestNode::init(plan.a);
        let mut b = TestNode::init(plan.b);
        a.start();
        b.start();
        if let Some(wire) = &wire {
            wire.lead(Side::A, a.listen());
            wire.lead(Side::B, b.listen());
        }
        let desk = tempfile::tempdir().expect("a folder for the test");
        if let Some(terms) = &plan.terms {
            std::fs::write(desk.path().join("terms.toml"), terms).expect("the desk can be written");
        }
        Pair { a, b, wire, agreement: String::new(), desk }
    }

    /// A path on the desk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.desk.path().join(name)
    }

    /// A path on the desk as text.
    pub fn at(&self, name: &str) -> String {
        text(&self.path(name))
    }

    /// Writes both cards to the desk: `a.card` and `b.card`.
    #[track_caller]
    pub fn exchange_cards(&self) {
        self.a.cli(&["card", "--out", &self.at("a.card")]).expect(0);
        self.b.cli(&["card", "--out", &self.at("b.card")]).expect(0);
    }

    /// Writes the proposal of A to B to the desk: `proposal.pakt`.
    #[track_caller]
    pub fn propose(&self) {
        let (card, out) = (self.at("b.card"), self.at("proposal.pakt"));
        let mut args = vec!["agreement", "propose", "--with", &card, "--out", &out];
        let terms = self.at("terms.toml");
        if self.path("terms.toml").exists() {
            args.extend(["--terms", &terms]);
        }
        self.a.cli(&args).expect(0);
    }

    /// Cards, proposal, acceptance; the agreement lies on the desk as `agreement.pakt`.
    #[track_caller]
    pub fn agree(&mut self) {
        self.exchange_cards();
        self.propose();
        let (proposal, out) = (self.at("proposal.pakt"), self.at("agreement.pakt"));
        self.b.cli(&["agreement", "accept", &proposal, "--out", &out]).expect(0);
        self.agreement = until(secs(20), "an active agreement on both sides", || {
            let ids = [&self.a, &self.b].map(active_agreement);
            let [Some(a), Some(b)] = ids else { return None };
            (a == b).then_some(a)
        });
    }

    /// Waits until each sees the other.
    #[track_caller]
    pub fn wait_online(&self) {
        until(secs(30), "both see each other", || (online(&self.a) && online(&self.b)).then_some(()));
    }

    /// The line.
    ///
    /// # Panics
    /// When the pair was planned without one.
    pub fn wire(&self) -> &Wire {
        self.wire.as_ref().expect("a wired pair")
    }

    /// `number/Reception` of B, as `--to` takes it.
    pub fn to_b(&self) -> String {
        format!("{}/Reception", self.b.number())
    }

    /// Sends `paths` from A to B's reception and gives the one envelope, as `send` told.
    #[track_caller]
    pub fn send(&self, subject: &str, paths: &[&Path]) -> Value {
        let to = self.to_b();
        let paths: Vec<String> = paths.iter().map(|path| text(path)).collect();
        let mut args = vec!["send", "--to", &to, "--subject", subject];
        args.extend(paths.iter().map(String::as_str));
        let told = self.a.json(&args);
        assert_eq!(told["envelopes"].as_array().map(Vec::len), Some(1), "{told}");
        told["envelopes"][0].clone()
    }

    /// Waits until A holds the receipt for `envelope`, and gives what `outbox show` tells then.
    #[track_caller]
    pub fn wait_delivered(&self, envelope: &str, limit: Duration) -> Value {
        until(limit, "delivery", || {
            let shown = outbox(&self.a, envelope)?;
            let state = shown["state"].as_str().unwrap_or_default().to_owned();
            assert!(!["refused", "expired", "recalled"].contains(&&*state), "{shown}");
            DELIVERED.contains(&&*state).then_some(shown)
        })
    }

    /// Waits until what arrived is visible at B and A knows it: no receipt replaces the newest one after that by itself.
    #[track_caller]
    pub fn wait_released(&self, envelope: &str, limit: Duration) {
        until(limit, "the release", || (outbox(&self.a, envelope)?["state"] == "released").then_some(()));
    }

    /// Asserts that B holds exactly one message with `subject`, saves it and compares it with `paths`.
    #[track_caller]
    pub fn assert_received_once(&self, subject: &str, paths: &[&Path]) {
        let items = inbox(&self.b, subject);
        assert_eq!(items.len(), 1, "messages with this subject: {items:?}");
        let to = tempfile::tempdir_in(self.desk.path()).expect("the desk can be written");
        let saved = to.path().join("saved");
        let id = id_of(&items[0]);
        self.b.cli(&["inbox", "save", &id, "--to", &text(&saved)]).expect(0);
        tree::assert_same(&tree::read_sent(paths), &tree::read(&saved));
    }
}

impl Default for Pair {
    fn default() -> Self {
        Pair::new()
    }
}

/// A path as the command line takes it.
///
/// # Panics
/// When it is not UTF-8, which no path of a test is.
pub fn text(path: &Path) -> String {
    path.to_str().expect("the tests' own paths are UTF-8").to_owned()
}

/// The id of the one active agreement of `node`.
pub fn active_agreement(node: &TestNode) -> Option<String> {
    let list = node.json(&["agreement", "list"]);
    let active = list.as_array()?.iter().find(|row| row["state"] == "active")?;
    active["id"].as_str().map(str::to_owned)
}

/// Whether `node` sees its first counterpart.
pub fn online(node: &TestNode) -> bool {
    let out = node.cli_json(&["peers"]);
    out.code == 0 && out.json()[0]["online"] == true
}

/// `outbox show`, when the node answers.
pub fn outbox(node: &TestNode, envelope: &str) -> Option<Value> {
    let out = node.cli_json(&["outbox", "show", envelope]);
    (out.code == 0).then(|| out.json())
}

/// Items of `inbox list` with `subject`.
#[track_caller]
pub fn inbox(node: &TestNode, subject: &str) -> Vec<Value> {
    let list = node.json(&["inbox", "list"]);
    let items = list.as_array().expect("inbox list is an array");
    items.iter().filter(|item| item["subject"] == subject).cloned().collect()
}

/// The `id` of a JSON object.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn id_of(object: &Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("no id: {object}")).to_owned()
}
