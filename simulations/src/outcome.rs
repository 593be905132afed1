//! What a run says, of either engine: the verdict, what was measured, and the events on the way.
//!
//! **Invariant:** nothing here names a message's content or a person; nodes and messages are numbers.
//! **Invariant:** an [`Event`] holds nothing that differs between two runs of the same seed: no wall clock, no address.
//!
//! Start reading at [`Outcome`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenario::{Fault, Priority, Suite, text};

/// One run of one scenario with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Name of the scenario.
    pub scenario: String,
    /// What ran it.
    pub engine: Engine,
    /// Which cryptography: never `auto`.
    pub suite: Suite,
    /// What chance was drawn from.
    pub seed: u64,
    /// BLAKE3 of all events in order, hex.
    pub event_hash: String,
    /// In a word.
    pub verdict: Verdict,
    /// What broke which rule, if one was broken.
    pub finding: Option<Finding>,
    /// Simulated time.
    #[serde(rename = "simulated_seconds", with = "text::seconds")]
    pub simulated: Duration,
    /// Time that it took.
    #[serde(rename = "wall_seconds", with = "text::seconds")]
    pub wall: Duration,
    /// How many nodes.
    pub nodes: usize,
    /// How many agreements.
    pub links: usize,
    /// How many events.
    pub events: u64,
    /// What became of the envelopes.
    pub messages: Counts,
    /// All bytes that crossed the lines.
    pub bytes: u64,
    /// From submission to `delivered`, per priority.
    #[serde(with = "latency")]
    pub latency: Vec<(Priority, Percentiles)>,
    /// How it went over time: at most [`SAMPLES_MAX`].
    pub samples: Vec<Sample>,
    /// What each link carried.
    pub link_bytes: Vec<LinkUse>,
    /// The states of all links over time: at most [`FRAMES_MAX`], none above [`FRAMES_NODES_MAX`] nodes.
    pub frames: Vec<Frame>,
    /// Bytes of memory for each node, at the end.
    pub memory_per_node: u64,
    /// Of this program.
    pub version: String,
    /// What else was noticed, for people.
    pub found: Vec<String>,
    /// The faults that befell this run, scripted and drawn, in order of time.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// A plot cannot show more points.
pub const SAMPLES_MAX: usize = 1_000;
/// Steps of the picture of the mesh.
pub const FRAMES_MAX: usize = 200;
/// Larger meshes are drawn without states of their links: the page would be too heavy.
pub const FRAMES_NODES_MAX: usize = 1_000;

/// What ran a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The protocol machines under a virtual clock.
    Virtual,
    /// Complete nodes in one process.
    Real,
}

/// A run in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No rule was broken, and everything settled.
    Pass,
    /// A machine panicked or failed.
    Crash,
    /// A rule was broken.
    Wrong,
    /// Something did not settle in time.
    Stuck,
}

impl Verdict {
    /// What the program ends with.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Crash => 10,
            Self::Wrong => 11,
            Self::Stuck => 12,
        }
    }
}

/// What broke a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the rule.
    pub rule: String,
    /// When, in simulated time.
    #[serde(rename = "at_seconds", with = "text::seconds")]
    pub at: Duration,
    /// What was seen.
    pub what: String,
    /// Who took part.
    pub nodes: Vec<usize>,
}

/// Envelopes (one for each recipient) by what became of them. The tiers are counted each for itself: what was taken was released
/// and delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Handed to a node.
    pub submitted: u64,
    /// Durable at the recipient, with a receipt at the sender.
    pub delivered: u64,
    /// Visible in the recipient's mailbox.
    pub released: u64,
    /// Somebody took responsibility.
    pub taken: u64,
    /// Refused by the recipient, or no agreement allowed it.
    pub refused: u64,
    /// Not delivered within the hold time.
    pub expired: u64,
    /// Called back by the sender.
    pub recalled: u64,
    /// May have been delivered: no receipt came.
    pub unconfirmed: u64,
    /// Reports to sending groups.
    pub reports: u64,
}

/// How long it took, over all messages of a sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// Of how many.
    pub count: u64,
    /// Half of them took no longer.
    #[serde(with = "text::seconds")]
    pub p50: Duration,
    /// Nine of ten.
    #[serde(with = "text::seconds")]
    pub p90: Duration,
    /// Ninety-nine of a hundred.
    #[serde(with = "text::seconds")]
    pub p99: Duration,
    /// All.
    #[serde(with = "text::seconds")]
    pub max: Duration,
}

/// The mesh at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    #[serde(with = "text::seconds")]
    pub at: Duration,
    /// Envelopes without a final state.
    pub in_flight: u64,
    /// How long the oldest of them has waited.
    #[serde(with = "text::seconds")]
    pub queue_age_max: Duration,
    /// Links whose control lane is up.
    pub online_links: u64,
    /// Delivered so far.
    pub delivered: u64,
    /// Expired so far.
    pub expired: u64,
    /// Of the whole process.
    pub memory_bytes: u64,
}

/// What one link carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkUse {
    /// One end.
    pub a: usize,
    /// The other end.
    pub b: usize,
    /// In both directions.
    pub bytes: u64,
    /// Envelopes delivered, in both directions.
    pub messages: u64,
}

/// The states of all links at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// When.
    #[serde(with = "text::seconds")]
    pub at: Duration,
    /// One [`LinkState`] each, in the order of `Topology::links`.
    pub link_states: Vec<u8>,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum LinkState {
    /// The agreement is ended or expired.
    Ended = 0,
    /// The agreement is suspended, or not confirmed after a restore.
    Suspended = 1,
    /// Not connected.
    Offline = 2,
    /// Connected, and nothing to do.
    Online = 3,
    /// Messages are under way.
    Busy = 4,
    /// Not connected, and messages wait.
    Waiting = 5,
}

/// Something that happened in a mesh: one line each with `--events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in simulated time.
    #[serde(with = "text::seconds")]
    pub at: Duration,
    /// At which node.
    pub node: usize,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// An envelope reached a state at this node.
    Record {
        /// Number of the submission.
        submission: u64,
        /// The sender.
        from: usize,
        /// The recipient.
        to: usize,
        /// What became of it.
        record: Record,
    },
    /// The control lane to a counterpart came up, or went.
    Lane {
        /// The counterpart.
        peer: usize,
        /// It is up now.
        up: bool,
    },
    /// A frame left for a counterpart.
    Sent {
        /// The counterpart.
        peer: usize,
        /// On which kind of lane.
        lane: String,
        /// Its name in the protocol.
        frame: String,
        /// Its length.
        bytes: u64,
    },
    /// The node wrote something that must survive.
    Persisted {
        /// Which one of this node, counted from 1.
        number: u64,
        /// What.
        what: String,
    },
    /// The node runs, from now on.
    Started,
    /// The node does not run, from now on.
    Stopped,
    /// A fault began.
    FaultBegan {
        /// Which.
        fault: Fault,
    },
    /// A fault that lasts ended.
    FaultEnded {
        /// Which.
        fault: Fault,
    },
    /// The node warns its operator.
    Alarm {
        /// Of what.
        what: String,
    },
}

/// What became of one envelope, seen by one of its parties: the sequence of these is the same in both engines for a scripted
/// scenario.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "record", content = "reason", rename_all = "kebab-case")]
pub enum Record {
    /// The sender's node holds it.
    Submitted,
    /// It was offered.
    Offered,
    /// The recipient wants it.
    Accepted,
    /// Durable at the recipient.
    Delivered,
    /// Visible in the mailbox.
    Released,
    /// Somebody took responsibility.
    Taken,
    /// It will not be taken, and why.
    Refused(String),
    /// Not delivered within the hold time.
    Expired,
    /// Called back.
    Recalled,
    /// The sending group was told something, and what.
    Report(String),
}

/// Who looks on while a mesh runs.
pub trait Watch {
    /// Something happened.
    fn event(&mut self, event: &Event);
    /// Simulated time went on; called now and then.
    fn progress(&mut self, simulated: Duration);
}

/// Nobody.
impl Watch for () {
    fn event(&mut self, _: &Event) {}
    fn progress(&mut self, _: Duration) {}
}

/// Latencies as one object with a key for each priority.
mod latency {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{SerializeMap, Serializer};

    use super::{Percentiles, Priority};
    use crate::scenario::text::PriorityName;

    pub(super) fn serialize<S: Serializer>(
        latency: &[(Priority, Percentiles)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(latency.len()))?;
        for (priority, percentiles) in latency {
            map.serialize_entry(&PriorityName::from(*priority), percentiles)?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Priority, Percentiles)>, D::Error> {
        let map = std::collections::BTreeMap::<PriorityName, Percentiles>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(name, percentiles)| (name.into(), percentiles)).collect())
    }
}
