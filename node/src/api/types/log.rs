//! The audit log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Verify the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct LogVerifyRequest {
    /// Armoured heads that counterparts hold of this log, and receipts that this node gave.
    #[serde(default)]
    pub held: Vec<String>,
}

/// Entries of the log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogPage {
    /// The entries, oldest first.
    pub entries: Vec<LogEntry>,
    /// Entries of the whole log.
    pub size: u64,
    /// The number that the next page begins with; absent at the end.
    pub next: Option<u64>,
}

/// One entry: what was done, when, and to what. It names nobody and nothing but by id.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    /// Its place in the log, from 0 on.
    pub number: u64,
    /// When, by the node's wall clock.
    pub at: String,
    /// The sort of step: `send`, `receive`, `read`, `agreement`, …
    pub kind: String,
    /// The step: `sent`, `received`, …
    pub action: String,
    /// Ids and numbers by what they are: `entity` (the counterpart), `agreement`, `envelope`, `message`, …
    pub ids: BTreeMap<String, String>,
}

/// Which entries are to be handed out, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
pub struct LogExport {
    /// `fhir` (FHIR R4 AuditEvent, one per line), `syslog` (RFC 5424) or `json`.
    pub format: String,
    /// The first entry; 0 without it.
    pub from: Option<u64>,
    /// The last entry; the newest without it.
    pub to: Option<u64>,
    /// Only entries since then: RFC 3339, a date in UTC, or how long ago (`7d`).
    pub since: Option<String>,
}

/// How the audit log of this node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogStatus {
    /// Entries.
    pub entries: u64,
    /// When all of them were read last; absent right after a start.
    pub verified_at: Option<String>,
    /// What is wrong with it, if it is not what it was.
    pub fault: Option<String>,
    /// Why the last look could not read it to its end, if it could not.
    #[serde(default)]
    pub unread: Option<String>,
}

impl LogStatus {
    /// Whether the last looks do not say that it is whole: it was changed, or could not be read.
    pub fn is_faulty(&self) -> bool {
        self.fault.is_some() || self.unread.is_some()
    }
}

/// A log that is what it was.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogVerified {
    /// Entries.
    pub entries: u64,
    /// The root over them, hex.
    pub root: String,
    /// Heads and receipts that it was compared with, own ones included.
    pub compared: u64,
}
