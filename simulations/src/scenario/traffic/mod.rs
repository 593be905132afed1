//! What people send, and when.
//!
//! **Invariant:** each stream of each node draws from a chance of its own, so that taking one stream out of a scenario changes no
//! other.

mod submissions;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Priority, text};

pub use submissions::Submissions;

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

impl Traffic {
    /// The plainest stream of a kind: at every hour the same, to one counterpart each.
    pub fn of(kind: Kind, per_node_and_hour: f64) -> Self {
        Self {
            kind,
            per_node_and_hour,
            curve: Curve::Flat,
            bytes: None,
            priority: None,
            recipients: 1,
            recall_percent: 0.0,
        }
    }
}

impl Curve {
    /// How busy it is at a time since Monday, 00:00, against the mean of a week.
    pub fn at(self, since_start: Duration) -> f64 {
        match self {
            Self::Flat => 1.0,
            Self::Office => {
                let hour = since_start.as_secs() / 3600;
                let weights = if (hour / 24) % 7 < 5 { &WORKDAY } else { &WEEKEND };
                f64::from(weights[(hour % 24) as usize]) * (7.0 * 24.0) / OFFICE_WEEK
            }
        }
    }

    /// The busiest hour against the mean of a week.
    fn peak(self) -> f64 {
        match self {
            Self::Flat => 1.0,
            Self::Office => 20.0 * (7.0 * 24.0) / OFFICE_WEEK,
        }
    }
}

/// What is sent in each hour of a working day: rounds at eight, reports before noon, the second wave after lunch.
const WORKDAY: [u8; 24] = [1, 1, 1, 1, 1, 1, 3, 8, 16, 20, 20, 18, 13, 16, 18, 15, 10, 6, 4, 3, 2, 2, 1, 1];
/// Emergencies, and who is on duty.
const WEEKEND: [u8; 24] = [1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1];
/// The sum of a week.
const OFFICE_WEEK: f64 = 5.0 * 182.0 + 2.0 * 48.0;

/// One message at a time of its own, beside what the streams send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// When, since the start.
    #[serde(with = "text::duration")]
    pub at: Duration,
    /// The node that sends.
    pub from: usize,
    /// Its counterparts that are to have it.
    pub to: Vec<usize>,
    /// What sort of message.
    pub kind: Kind,
    /// How urgent, instead of what the kind is.
    #[serde(default, with = "text::optional_priority", skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Bytes, instead of those of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How long afterwards the sender recalls it.
    #[serde(default, with = "text::optional_duration", skip_serializing_if = "Option::is_none")]
    pub recall_after: Option<Duration>,
}

impl From<&Submission> for Message {
    fn from(submission: &Submission) -> Self {
        Self {
            at: submission.at,
            from: submission.from,
            to: submission.to.clone(),
            kind: submission.kind,
            priority: (submission.priority != submission.kind.priority()).then_some(submission.priority),
            bytes: (submission.bytes != submission.kind.bytes()).then_some(submission.bytes),
            recall_after: submission.recall_after,
        }
    }
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
