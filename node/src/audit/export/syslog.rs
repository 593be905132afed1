//! An entry as a line of syslog (RFC 5424), facility 13 (log audit).
//!
//! ```text
//! <110>1 2026-11-22T21:00:00.5Z - pakt - received [pakt@32473 log="ent1…" number="7" kind="receive" entity="ent1…" …]
//! ```
//! No host name stands in it: the log is named by its entity.

use std::fmt::Write as _;

use pakt_keys::EntityId;
use pakt_protocol::audit::{Entry, Outcome};

use crate::api::types::time_text;

const FACILITY: u8 = 13;
/// The enterprise number that RFC 5612 keeps for examples: Pakt has none of its own.
const SD_ID: &str = "pakt@32473";

pub(super) fn line(own: &EntityId, number: u64, entry: &Entry) -> String {
    let class = entry.event.class();
    let priority = FACILITY * 8 + severity(class.outcome);
    let (at, kind, action) = (time_text(entry.at), class.kind, class.action);
    let mut line = format!("<{priority}>1 {at} - pakt - {action} [{SD_ID}");
    let own = [("log", own.to_string()), ("number", number.to_string()), ("kind", kind.to_string())];
    for (what, id) in own.into_iter().chain(entry.event.ids()) {
        let _ = write!(line, " {what}=\"{}\"", escaped(&id));
    }
    line.push(']');
    line
}

/// Informational, warning or alert.
fn severity(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Fine => 6,
        Outcome::Failed => 4,
        Outcome::Alarm => 1,
    }
}

/// A parameter's value: three characters are escaped (RFC 5424, 6.3.3).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '"' | '\\' | ']') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
