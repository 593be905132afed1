//! A steward and entities that have an agreement with it, and none with each other.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::mesh;
use crate::node::{Setup, TestNode};
use crate::pair::text;
use crate::wait::{secs, until};

/// A running steward and its members.
pub struct Network {
    /// The steward.
    pub steward: TestNode,
    /// The others.
    pub members: Vec<TestNode>,
    /// A folder of the test's own.
    pub desk: tempfile::TempDir,
}

/// How a network is made.
pub struct NetworkPlan {
    /// The members.
    pub members: Vec<Setup>,
    /// Whether the common partner keeps a directory.
    pub steward: bool,
}

impl NetworkPlan {
    /// So many members on free loopback ports, and a steward.
    pub fn of(count: usize) -> NetworkPlan {
        let member = |at: usize| Setup::new(&format!("Klinikk {at}"), &format!("NO:ORGNR:{}", 998_000_000 + at));
        NetworkPlan { members: (1..=count).map(member).collect(), steward: true }
    }
}

impl Network {
    /// Starts everybody and makes the agreements with the steward.
    ///
    /// # Panics
    /// When any step fails.
    #[track_caller]
    pub fn new(plan: NetworkPlan) -> Network {
        let mut steward = TestNode::init(Setup::new("Nettverket", "NO:ORGNR:999000199"));
        if plan.steward {
            set(&steward, "# steward = false", "steward = true");
        }
        steward.start();
        let desk = tempfile::tempdir().expect("a folder for the test");
        let mut network = Network { steward, members: Vec::new(), desk };
        for setup in plan.members {
            let mut member = TestNode::init(setup);
            member.start();
            mesh::agree(&network.steward, &member, network.desk.path(), "");
            network.members.push(member);
        }
        let online = |node: &TestNode| node.json(&["peers"])[0]["online"] == true;
        for member in &network.members {
            until(secs(60), "a member sees the steward", || online(member).then_some(()));
        }
        network
    }

    /// A path on the desk as text.
    pub fn at(&self, name: &str) -> String {
        text(&self.path(name))
    }

    /// A path on the desk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.desk.path().join(name)
    }

    /// Has a member listed, and waits until the steward has taken it.
    #[track_caller]
    pub fn list(&self, member: usize, town: &str, offers: &str) {
        let with = self.steward.number();
        let args = ["directory", "publish", "--with", with, "--town", town, "--offers", offers];
        until(secs(30), "the listing is taken", || {
            (self.members[member].json(&args)["state"] == "taken").then_some(())
        });
    }

    /// The names that a member is shown.
    #[track_caller]
    pub fn names(&self, member: usize) -> Vec<String> {
        let listed = self.members[member].json(&["directory", "list", "--with", self.steward.number()]);
        strings(&listed, "name")
    }
}

/// One field of every object of an array.
///
/// # Panics
/// When it is no array of such objects.
#[track_caller]
pub fn strings(array: &Value, field: &str) -> Vec<String> {
    let texts = array.as_array().expect("an array").iter().map(|one| one[field].as_str().map(str::to_owned));
    texts.collect::<Option<_>>().unwrap_or_else(|| panic!("no {field} somewhere: {array}"))
}

/// The first agreement of `node` in a state.
pub fn agreement_in(node: &TestNode, state: &str) -> Option<Value> {
    node.json(&["agreement", "list"]).as_array()?.iter().find(|one| one["state"] == state).cloned()
}

/// Changes one line of the configuration of a node that does not run.
///
/// # Panics
/// When there is no such line.
#[track_caller]
pub fn set(node: &TestNode, before: &str, after: &str) {
    let path = node.dir().join("config.toml");
    let config = fs::read_to_string(&path).expect("init has written it");
    assert!(config.contains(before), "no `{before}` in config.toml");
    fs::write(path, config.replacen(before, after, 1)).expect("the data directory can be written");
}
