//! What people send, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Priority, text};

/// What sort of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A discharge letter with its attachment.
    Letter,
    /// A laboratory result.
    LabResult,
    /// An MR study.
    Mr,
    /// A CT study.
    Ct,
    /// What is handed over when an archive moves.
    Archive,
}

impl Kind {
    /// Bytes of one message unless the scenario says otherwise.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Letter => 80_000,
            Self::LabResult => 12_000,
            Self::Mr => 126_000_000,
            Self::Ct => 260_000_000,
            Self::Archive => 2_000_000_000,
        }
    }

    /// Files of one message.
    pub fn files(self) -> u32 {
        match self {
            Self::Letter => 2,
            Self::LabResult => 1,
            Self::Mr => 240,
            Self::Ct => 500,
            Self::Archive => 4_000,
        }
    }

    /// How urgent unless the scenario says otherwise.
    pub fn priority(self) -> Priority {
        match self {
            Self::LabResult => Priority::Urgent,
            Self::Letter | Self::Mr | Self::Ct => Priority::Normal,
            Self::Archive => Priority::Bulk,
        }
    }
}

/// How a week goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Curve {
    /// The same at every hour.
    #[default]
    Flat,
    /// Busy mornings, quiet nights and week-ends; over a week the same mean.
    Office,
}

/// One stream of messages that every node sends to counterparts of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// What sort of message.
    pub kind: Kind,
    /// How many each node submits in an hour, on average over a week.
    pub per_node_and_hour: f64,
    /// How they spread over the week.
    #[serde(default)]
    pub curve: Curve,
    /// Bytes of each, instead of those of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How urgent, instead of what the kind is.
    #[serde(default, with = "text::optional_priority", skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// To how many counterparts each goes; fewer where the sender has fewer.
    #[serde(default = "one")]
    pub recipients: usize,
    /// How many of a hundred are recalled afterwards.
    #[serde(default)]
    pub recall_percent: f64,
}

fn one() -> usize {
    1
}

/// One message that a person hands to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// When, since the start.
    #[serde(with = "text::seconds")]
    pub at: Duration,
    /// The node that sends.
    pub from: usize,
    /// The nodes that are to have it, each once.
    pub to: Vec<usize>,
    /// What sort of message.
    pub kind: Kind,
    /// How urgent.
    #[serde(with = "text::priority")]
    pub priority: Priority,
    /// Of all its files.
    pub bytes: u64,
    /// How many files.
    pub files: u32,
    /// How long afterwards the sender recalls it.
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub recall_after: Option<Duration>,
    /// Which one of this run, from 0.
    pub number: u64,
}
