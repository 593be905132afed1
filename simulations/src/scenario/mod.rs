//! What a mesh is, what its people send and what befalls it: a [`Scenario`], read from a TOML file.
//!
//! A scenario says nothing about an engine: the virtual mesh and the real one run the same file. Everything that it leaves to
//! chance (who knows whom, who sends when) is drawn from the seed of the run, so that a seed and a file say it all.
//!
//! **Invariant:** the same file and seed give the same links and the same submissions, on every machine.
//! **Invariant:** an unknown key is an error, never ignored: a misspelt fault must not make a quiet run that passes.
//!
//! Start reading at [`Scenario`].

mod check;
pub mod fault;
mod file;
pub mod text;
pub mod topology;
pub mod traffic;

use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

pub use check::{LINKS_MAX, NODES_MAX, SUBMISSIONS_MAX};
pub use fault::{Fault, FaultKind, FaultName, HostileKind, RandomFaults};
pub use file::{SHIPPED, ScenarioError};
pub use pakt_protocol::record::envelope::Priority;
pub use topology::{Link, Topology};
pub use traffic::{Curve, Kind, Message, Submission, Submissions, Traffic};

/// One mesh, its traffic and its faults. Time counts from a Monday, 00:00.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called: the name of its file.
    pub name: String,
    /// What it shows, in a sentence or two.
    #[serde(default)]
    pub about: String,
    /// For how long people submit messages and faults may befall the mesh.
    #[serde(with = "text::duration")]
    pub duration: Duration,
    /// How long after the last fault and submission everything must have come to its final state.
    #[serde(with = "text::duration", default = "settle_default")]
    pub settle: Duration,
    /// What chance is drawn from, unless the run says otherwise; the shrinker writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Whether messages are really sealed and opened.
    #[serde(default)]
    pub suite: Suite,
    /// Who has an agreement with whom.
    pub topology: Topology,
    /// What every link between two nodes carries.
    #[serde(default)]
    pub line: Line,
    /// What every agreement says.
    #[serde(default)]
    pub terms: Terms,
    /// Who sends what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// Messages at times of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// Faults at times of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Faults drawn from the seed, besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_faults: Option<RandomFaults>,
}

fn settle_default() -> Duration {
    Duration::from_secs(15 * 60)
}

impl Scenario {
    /// A mesh where nobody sends and nothing happens, to be filled.
    pub fn new(name: &str, topology: Topology, duration: Duration) -> Self {
        Self {
            name: name.into(),
            about: String::new(),
            duration,
            settle: settle_default(),
            seed: None,
            suite: Suite::default(),
            topology,
            line: Line::default(),
            terms: Terms::default(),
            traffic: Vec::new(),
            messages: Vec::new(),
            faults: Vec::new(),
            random_faults: None,
        }
    }

    /// All submissions of a run in order of time, drawn one by one. `links` are those of the topology and the same seed.
    pub fn submissions(&self, links: &[Link], seed: u64) -> Submissions {
        Submissions::new(self, links, seed)
    }

    /// Which cryptography a run of it uses: never [`Suite::Auto`].
    pub fn suite_chosen(&self) -> Suite {
        match self.suite {
            Suite::Auto if self.topology.nodes() > SUITE_FULL_NODES_MAX => Suite::Model,
            Suite::Auto => Suite::Full,
            chosen => chosen,
        }
    }
}

/// Above so many nodes, [`Suite::Auto`] is the model: the arithmetic of so many would take most of the time.
const SUITE_FULL_NODES_MAX: usize = 1_000;

/// The chance of one part of a run: parts do not disturb each other.
fn chance(seed: u64, part: &str, numbers: &[u64]) -> Rng {
    let mut hasher = blake3::Hasher::new_derive_key("pakt simulation chance v1");
    hasher.update(&seed.to_le_bytes()).update(part.as_bytes());
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    let mut seed = [0; 8];
    hasher.finalize_xof().fill(&mut seed);
    Rng::with_seed(u64::from_le_bytes(seed))
}

/// Which cryptography a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// That of the node.
    Full,
    /// The same sizes without the arithmetic.
    Model,
    /// The model above 1,000 nodes, the full one up to there.
    #[default]
    Auto,
}

/// What a link between two nodes carries, each way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Line {
    /// Megabits in a second, in each direction for itself.
    pub rate_mbit: f64,
    /// There and back again.
    #[serde(with = "text::duration")]
    pub delay: Duration,
    /// Of all packets, in either direction.
    pub loss_percent: f64,
}

impl Default for Line {
    fn default() -> Self {
        Self { rate_mbit: 100.0, delay: Duration::from_millis(20), loss_percent: 0.0 }
    }
}

/// What every agreement of the mesh says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// How long a message may wait for its recipient before it expires.
    #[serde(with = "text::duration")]
    pub hold: Duration,
    /// Whether the receiver looks for malware before it releases.
    pub scan: bool,
    /// Whether the two exchange daily reconciliations.
    pub reconcile: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { hold: Duration::from_secs(48 * 3600), scan: false, reconcile: true }
    }
}
