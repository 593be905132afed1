//! Entries in the forms that others read: FHIR R4 AuditEvent, syslog (RFC 5424), and plain JSON with the leaf itself.
//!
//! Each entry is one line, so that an export of any length is a stream.
//!
//! **Invariant:** a line holds what the entry holds: ids, numbers and times, and nothing looked up elsewhere.

mod fhir;
mod json;
mod syslog;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use pakt_keys::EntityId;
use pakt_protocol::audit::Entry;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// FHIR R4 AuditEvent, one resource per line.
    Fhir,
    /// RFC 5424.
    Syslog,
    /// JSON with the leaf, from which the Merkle tree can be made again.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 3] = [Format::Fhir, Format::Syslog, Format::Json];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Fhir => "fhir",
            Format::Syslog => "syslog",
            Format::Json => "json",
        }
    }

    /// What the lines are, for HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Fhir => "application/fhir+ndjson",
            Format::Syslog => "text/plain; charset=us-ascii",
            Format::Json => "application/x-ndjson",
        }
    }

    /// Entry `number` of the log of `own`, without a line end.
    pub fn line(self, own: &EntityId, number: u64, entry: &Entry) -> String {
        match self {
            Format::Fhir => fhir::event(own, number, entry).to_string(),
            Format::Syslog => syslog::line(own, number, entry),
            Format::Json => json::line(own, number, entry).to_string(),
        }
    }
}

/// A word that names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the formats are fhir, syslog and json")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Format, UnknownFormat> {
        Format::ALL.into_iter().find(|format| format.as_str() == word).ok_or(UnknownFormat)
    }
}
