//! Terms as an operator writes them: a commented TOML template, the defaults, and strict reading.
//!
//! **Invariant:** an unknown key is an error, never ignored: a mistyped limit must not become the default.

use std::time::Duration;

use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};
use pakt_protocol::time::Time;
use serde::Deserialize;

use super::types::{ErrorCode, ServiceError};
use crate::config::toml_error;

/// The longest hold time: 48 hours.
pub const HOLD_MAX: Duration = Duration::from_secs(48 * 3600);
/// The shortest hold time: one minute.
pub const HOLD_MIN: Duration = Duration::from_secs(60);

/// The template of `pakt agreement terms`: every key at its default, explained.
pub const TEMPLATE: &str = r#"# Terms of an agreement between two entities. Both roots sign exactly what is written here.
# Leave a line out and its default holds.

# What messages may be for. An empty list allows every purpose.
# For example: purposes = ["billing", "second-opinion", "treatment"]
purposes = []

# The legal basis of the exchange, in your own words.
legal_basis = ""

# From when until when: a date (2027-01-31), a time (2027-01-31T12:00:00Z), or a time span from now ("365d"), back
# with a minus ("-30d"). It begins in the past by default: a counterpart whose clock is behind must not have to wait.
valid_from = "-30d"
valid_until = "365d"

# The other side must accept before this: a date, a time, or a time span from now.
accept_by = "30d"

# The largest message, all its files together.
max_message = "100GB"

# How long a message that cannot be delivered is held before the sending group gets a report: 1m to 48h.
hold = "48h"

# How long the receiver keeps a message at least, such as "3650d". Empty: nothing is agreed.
retention = ""

# How many messages may go in each direction, such as "200/h". Empty: no limit.
rate = ""

# Controls that the receiver must have.
controls = []

# Whom to call when it is urgent.
urgent_contact = ""

# true: each node forwards connections of the other to counterparts of its own that it cannot reach directly. What is
# forwarded stays encrypted from end to end. How much is forwarded, each operator sets in config.toml.
relay = false
"#;

/// Terms as written, with every default filled in and every time made absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsInput {
    /// What messages may be for, sorted; empty for any purpose.
    pub purposes: Vec<String>,
    /// The legal basis.
    pub legal_basis: String,
    /// Start.
    pub valid_from: Time,
    /// End.
    pub valid_until: Time,
    /// The proposal dies here.
    pub accept_by: Time,
    /// The largest message, in bytes.
    pub max_message_bytes: u64,
    /// How long an undelivered message is held.
    pub hold: Duration,
    /// How long the receiver keeps a message at least.
    pub retention: Option<Duration>,
    /// Messages per hour in each direction, at most.
    pub messages_per_hour: Option<u32>,
    /// Controls that the receiver must have, sorted.
    pub controls: Vec<String>,
    /// Whom to call when it is urgent.
    pub urgent_contact: String,
    /// Whether each node forwards connections for the other.
    pub relay: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    purposes: Vec<String>,
    legal_basis: String,
    valid_from: TomlTime,
    valid_until: TomlTime,
    accept_by: TomlTime,
    max_message: TomlSize,
    hold: String,
    retention: String,
    rate: String,
    controls: Vec<String>,
    urgent_contact: String,
    relay: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            purposes: Vec::new(),
            legal_basis: String::new(),
            valid_from: TomlTime::Text("-30d".into()),
            valid_until: TomlTime::Text("365d".into()),
            accept_by: TomlTime::Text("30d".into()),
            max_message: TomlSize::Text("100GB".into()),
            hold: "48h".into(),
            retention: String::new(),
            rate: String::new(),
            controls: Vec::new(),
            urgent_contact: String::new(),
            relay: false,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TomlTime {
    Native(toml::value::Datetime),
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TomlSize {
    Bytes(u64),
    Text(String),
}

impl TermsInput {
    /// The terms of a proposal without a terms file.
    pub fn defaults(now: Time) -> TermsInput {
        Self::from_written(Written::default(), now).expect("the defaults are a row of constants, tested below")
    }

    /// Reads terms; time spans count from `now`.
    ///
    /// # Errors
    /// `usage` with the key and what it takes.
    pub fn parse(text: &str, now: Time) -> Result<TermsInput, ServiceError> {
        let written: Written = toml::from_str(text).map_err(|e| wrong(&toml_error(text, &e)))?;
        Self::from_written(written, now)
    }

    fn from_written(written: Written, now: Time) -> Result<TermsInput, ServiceError> {
        let terms = TermsInput {
            purposes: sorted(written.purposes),
            legal_basis: written.legal_basis,
            valid_from: point("valid_from", &written.valid_from, now)?,
            valid_until: point("valid_until", &written.valid_until, now)?,
            accept_by: point("accept_by", &written.accept_by, now)?,
            max_message_bytes: size("max_message", &written.max_message)?,
            hold: humantime::parse_duration(&written.hold)
                .map_err(|_| wrong("`hold` is a time span such as \"48h\""))?,
            retention: span("retention", &written.retention)?,
            messages_per_hour: rate(&written.rate)?,
            controls: sorted(written.controls),
            urgent_contact: written.urgent_contact,
            relay: written.relay,
        };
        terms.check(now)?;
        Ok(terms)
    }

    fn check(&self, now: Time) -> Result<(), ServiceError> {
        if !(HOLD_MIN..=HOLD_MAX).contains(&self.hold) {
            return Err(wrong("`hold` is at least 1m and at most 48h"));
        }
        if self.valid_until <= self.valid_from || self.valid_until <= now {
            return Err(wrong("`valid_until` must lie after `valid_from` and in the future"));
        }
        if self.accept_by <= now {
            return Err(wrong("`accept_by` must lie in the future"));
        }
        if self.max_message_bytes == 0 {
            return Err(wrong("`max_message` is 0: such an agreement would allow nothing"));
        }
        Ok(())
    }
}

fn wrong(what: &str) -> ServiceError {
    ServiceError::new(ErrorCode::Usage, format!("the terms cannot be used: {what}"), "see `pakt agreement terms`")
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list.dedup();
    list
}

fn span(key: &str, text: &str) -> Result<Option<Duration>, ServiceError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    match humantime::parse_duration(text.trim()) {
        Ok(span) if !span.is_zero() => Ok(Some(span)),
        _ => Err(wrong(&format!("`{key}` is a time span such as \"30d\""))),
    }
}

/// Reads `200/h` or `5000/d` as whole messages per hour.
fn rate(text: &str) -> Result<Option<u32>, ServiceError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let per_hour = text.split_once('/').and_then(|(count, unit)| {
        let count: u32 = count.trim().parse().ok()?;
        match unit.trim() {
            "h" | "hour" => Some(count),
            "d" | "day" => Some(count / 24),
            "m" | "min" | "minute" => count.checked_mul(60),
            _ => None,
        }
    });
    match per_hour {
        Some(per_hour) if per_hour > 0 => Ok(Some(per_hour)),
        _ => Err(wrong("`rate` is messages per time such as \"200/h\", at least one per hour")),
    }
}

fn point(key: &str, written: &TomlTime, now: Time) -> Result<Time, ServiceError> {
    let text = match written {
        TomlTime::Native(datetime) => datetime.to_string(),
        TomlTime::Text(text) => text.trim().to_owned(),
    };
    if let Ok(span) = humantime::parse_duration(&text) {
        return Ok(now + span);
    }
    if let Some(Ok(span)) = text.strip_prefix('-').map(humantime::parse_duration) {
        return Ok(now - span);
    }
    let timestamp = text.parse::<Timestamp>().ok().or_else(|| {
        // A day without a time: its end, so that "until the 31st" includes the 31st; a start begins the day.
        let date: Date = text.parse().ok()?;
        let date = if key == "valid_from" { date } else { date.checked_add(Span::new().days(1)).ok()? };
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    });
    timestamp
        .and_then(|timestamp| u64::try_from(timestamp.as_microsecond()).ok())
        .map(Time)
        .ok_or_else(|| wrong(&format!("`{key}` is a date, a time with zone, or a time span such as \"30d\"")))
}

fn size(key: &str, written: &TomlSize) -> Result<u64, ServiceError> {
    match written {
        TomlSize::Bytes(bytes) => Ok(*bytes),
        TomlSize::Text(text) => {
            parse_size(text).ok_or_else(|| wrong(&format!("`{key}` is a size such as \"100GB\" or \"512MiB\"")))
        }
    }
}

/// Reads `512`, `100GB`, `1.5 TB` or `64MiB` as bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "k" => 1_000,
        "mb" | "m" => 1_000_000,
        "gb" | "g" => 1_000_000_000,
        "tb" | "t" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let fraction_bytes = match fraction {
        "" => 0,
        digits if digits.len() > 6 => return None,
        digits => digits.parse::<u64>().ok()?.checked_mul(factor)? / 10_u64.pow(u32::try_from(digits.len()).ok()?),
    };
    whole.checked_mul(factor)?.checked_add(fraction_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_790_000_000_000_000);

    #[test]
    fn the_template_says_the_defaults() {
        assert_eq!(TermsInput::parse(TEMPLATE, NOW).unwrap(), TermsInput::defaults(NOW));
        assert_eq!(TermsInput::parse("", NOW).unwrap(), TermsInput::defaults(NOW));
        let defaults = TermsInput::defaults(NOW);
        assert_eq!(defaults.max_message_bytes, 100_000_000_000);
        assert_eq!(defaults.accept_by, NOW + Duration::from_secs(30 * 86400));
        assert_eq!(defaults.valid_from, NOW - Duration::from_secs(30 * 86400));
    }

    #[test]
    fn times_are_dates_times_or_spans() {
        let check = |text: &str, expected: &str| {
            let terms = TermsInput::parse(text, NOW).unwrap();
            assert_eq!(super::super::types::time_text(terms.valid_until), expected);
        };
        check("valid_until = 2027-01-31", "2027-02-01T00:00:00Z");
        check("valid_until = \"2027-01-31\"", "2027-02-01T00:00:00Z");
        check("valid_until = 2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z");
        check("valid_until = \"1d\"", "2026-09-22T14:13:20Z");
        let starts = |text: &str, expected: &str| {
            let terms = TermsInput::parse(text, NOW).unwrap();
            assert_eq!(super::super::types::time_text(terms.valid_from), expected);
        };
        starts("valid_from = 2027-01-31", "2027-01-31T00:00:00Z");
        starts("valid_from = \"0s\"", "2026-09-21T14:13:20Z");
        starts("valid_from = \"-1d\"", "2026-09-20T14:13:20Z");
    }

    #[test]
    fn lists_are_sorted_and_words_become_numbers() {
        let text = "purposes = [\"b\", \"a\", \"b\"]\nrate = \"4800/d\"\nretention = \"10d\"";
        let terms = TermsInput::parse(text, NOW).unwrap();
        assert_eq!(terms.purposes, ["a", "b"]);
        assert_eq!(terms.messages_per_hour, Some(200));
        assert_eq!(terms.retention, Some(Duration::from_secs(864_000)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let check = |text: &str, says: &str| {
            let error = TermsInput::parse(text, NOW).unwrap_err();
            assert_eq!(error.code, ErrorCode::Usage);
            assert!(error.message.contains(says), "{}", error.message);
        };
        check("retention = \"long\"", "retention");
        check("rate = \"0/h\"", "rate");
        check("rate = \"many\"", "rate");
        check("hold = \"59s\"", "hold");
        check("hold = \"49h\"", "hold");
        check("hold = \"soon\"", "hold");
        check("max_message = \"many\"", "max_message");
        check("max_message = 0", "max_message");
        check("max_mesage = \"1GB\"", "max_mesage");
        check("valid_until = 2020-01-01", "valid_until");
        check("accept_by = \"0s\"", "accept_by");
        check("accept_by = \"-1d\"", "accept_by");
        check("valid_until = \"-1d\"", "valid_until");
        check("valid_from = \"--1d\"", "valid_from");
        check("valid_until = \"tomorrow\"", "valid_until");
        check("= 3", "cannot be used");
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(parse_size(text), bytes, "{text}");
        check("100GB", Some(100_000_000_000));
        check("1.5 TB", Some(1_500_000_000_000));
        check("64MiB", Some(64 << 20));
        check("512", Some(512));
        check("0.5kb", Some(500));
        check("GB", None);
        check("-1GB", None);
        check("1.2.3GB", None);
        check("99999999999999TB", None);
    }
}
