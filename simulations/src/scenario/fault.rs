//! What befalls a mesh.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::text;

/// One fault at its time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// When it begins, since the start.
    #[serde(with = "text::duration")]
    pub at: Duration,
    /// For how long, if it ends by itself; key `for`.
    #[serde(rename = "for", with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub for_: Option<Duration>,
    /// What happens.
    #[serde(flatten)]
    pub what: FaultKind,
}

/// When and how long; what is left of the table says what.
#[derive(Deserialize)]
struct When {
    #[serde(with = "text::duration")]
    at: Duration,
    #[serde(default, rename = "for", with = "text::optional_duration")]
    for_: Option<Duration>,
}

// By hand, since serde forgets to refuse unknown keys beside a flattened field.
impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let when: toml::Table = ["at", "for"].iter().filter_map(|key| table.remove_entry(*key)).collect();
        let When { at, for_ } = when.try_into().map_err(D::Error::custom)?;
        let what = table.try_into().map_err(D::Error::custom)?;
        Ok(Self { at, for_, what })
    }
}

/// What happens. `a` and `b` are the two ends of a link, `node` is a node number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// A link becomes bad in both directions.
    Line {
        /// One end.
        a: usize,
        /// The other end.
        b: usize,
        /// Of all packets.
        #[serde(default)]
        loss_percent: f64,
        /// There and back again, on top of what the line has.
        #[serde(default, with = "text::duration")]
        delay: Duration,
        /// Of all packets: these arrive after later ones.
        #[serde(default)]
        reorder_percent: f64,
        /// Of all packets: these arrive twice.
        #[serde(default)]
        duplicate_percent: f64,
    },
    /// A link carries nothing, or nothing from `a` to `b`.
    Partition {
        /// One end.
        a: usize,
        /// The other end.
        b: usize,
        /// Only from `a` to `b`.
        #[serde(default)]
        one_way: bool,
    },
    /// A node is cut off from everybody.
    Isolate {
        /// Which.
        node: usize,
    },
    /// Swizzle-clog: the links of a node are stopped one by one in random order, and opened one by one in another.
    Clog {
        /// Which.
        node: usize,
    },
    /// A node dies, and starts again after `for` (at once without).
    Crash {
        /// Which.
        node: usize,
        /// What was written but not synced is gone.
        #[serde(default)]
        lose_unsynced: bool,
        /// The last write is there by half.
        #[serde(default)]
        torn: bool,
        /// Not at once, but within its n-th persist from then on, counted from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_persist: Option<u64>,
    },
    /// A node starts again from an old backup.
    Restore {
        /// Which.
        node: usize,
        /// How old.
        #[serde(with = "text::duration")]
        backup_age: Duration,
    },
    /// A node's disk takes no write.
    DiskFull {
        /// Which.
        node: usize,
    },
    /// A node's wall clock jumps.
    ClockStep {
        /// Which.
        node: usize,
        /// Forwards; backwards where negative.
        seconds: i64,
    },
    /// A node's clocks run fast.
    ClockSkew {
        /// Which.
        node: usize,
        /// Parts in a million; slow where negative.
        ppm: i64,
    },
    /// `a` suspends its agreement with `b`.
    Suspend {
        /// Who does it.
        a: usize,
        /// The counterpart.
        b: usize,
    },
    /// `a` resumes its agreement with `b`.
    Resume {
        /// Who does it.
        a: usize,
        /// The counterpart.
        b: usize,
    },
    /// `a` ends its agreement with `b`.
    End {
        /// Who does it.
        a: usize,
        /// The counterpart.
        b: usize,
    },
    /// The agreement of the two comes to the end of its validity.
    Expire {
        /// One party.
        a: usize,
        /// The other party.
        b: usize,
    },
    /// A node replaces its keys.
    RotateKeys {
        /// Which.
        node: usize,
    },
    /// A node turns on its counterparts.
    Hostile {
        /// Which.
        node: usize,
        /// What it does.
        kind: HostileKind,
    },
}

/// What a hostile counterpart does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostileKind {
    /// Sends bytes that mean nothing.
    Garbage,
    /// Sends again what it has sent before.
    Replay,
    /// Sends receipts, statements and envelopes that it may not sign.
    Forge,
    /// Sends more than was agreed.
    Flood,
    /// Acknowledges what it does not hold.
    Early,
    /// Accepts, and then falls silent.
    Silent,
}

/// The kinds of faults by their names in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is described at FaultKind")]
pub enum FaultName {
    Line,
    Partition,
    Isolate,
    Clog,
    Crash,
    Restore,
    DiskFull,
    ClockStep,
    ClockSkew,
    Suspend,
    Resume,
    End,
    Expire,
    RotateKeys,
    Hostile,
}

impl FaultKind {
    /// Which kind it is.
    pub fn name(&self) -> FaultName {
        match self {
            Self::Line { .. } => FaultName::Line,
            Self::Partition { .. } => FaultName::Partition,
            Self::Isolate { .. } => FaultName::Isolate,
            Self::Clog { .. } => FaultName::Clog,
            Self::Crash { .. } => FaultName::Crash,
            Self::Restore { .. } => FaultName::Restore,
            Self::DiskFull { .. } => FaultName::DiskFull,
            Self::ClockStep { .. } => FaultName::ClockStep,
            Self::ClockSkew { .. } => FaultName::ClockSkew,
            Self::Suspend { .. } => FaultName::Suspend,
            Self::Resume { .. } => FaultName::Resume,
            Self::End { .. } => FaultName::End,
            Self::Expire { .. } => FaultName::Expire,
            Self::RotateKeys { .. } => FaultName::RotateKeys,
            Self::Hostile { .. } => FaultName::Hostile,
        }
    }

    /// The one node that it befalls.
    pub fn node(&self) -> Option<usize> {
        match self {
            Self::Isolate { node }
            | Self::Clog { node }
            | Self::Crash { node, .. }
            | Self::Restore { node, .. }
            | Self::DiskFull { node }
            | Self::ClockStep { node, .. }
            | Self::ClockSkew { node, .. }
            | Self::RotateKeys { node }
            | Self::Hostile { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The two nodes between which it happens.
    pub fn pair(&self) -> Option<(usize, usize)> {
        match self {
            Self::Line { a, b, .. }
            | Self::Partition { a, b, .. }
            | Self::Suspend { a, b }
            | Self::Resume { a, b }
            | Self::End { a, b }
            | Self::Expire { a, b } => Some((*a, *b)),
            _ => None,
        }
    }

    /// Whether `for` says something: how long it lasts, or how long the node stays away.
    pub fn can_last(&self) -> bool {
        !matches!(
            self,
            Self::Resume { .. }
                | Self::End { .. }
                | Self::Expire { .. }
                | Self::ClockStep { .. }
                | Self::RotateKeys { .. }
        )
    }
}

impl fmt::Display for FaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Faults drawn from the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomFaults {
    /// Of these kinds.
    pub kinds: Vec<FaultName>,
    /// One in so long, on average over the whole mesh.
    #[serde(with = "text::duration")]
    pub mean_between: Duration,
    /// None begins after this, and those that last are ended.
    #[serde(with = "text::duration")]
    pub until: Duration,
}
