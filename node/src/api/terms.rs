//! Terms as an operator writes them: a commented TOML template, the defaults, and strict reading.
//!
//! **Invariant:** an unknown key is an error, never ignored: a mistyped limit must not become the default.

use std::time::Duration;

use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};
use pakt_protocol::controls::Control;
use pakt_protocol::record::agreement::AgreementTerms;
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

# Controls that the receiver must have; nothing is sent to it before it has attested each as on. There are:
#   malware-scan   content is scanned before anybody sees it
#   journal        what arrives is taken into the journal by a routine
#   retention      what arrives is kept as long as `retention` says
# A node attests only what it really does. Ask the other side before you write one here.
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

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Written {
    purposes: Option<Vec<String>>,
    legal_basis: Option<String>,
    valid_from: Option<TomlTime>,
    valid_until: Option<TomlTime>,
    accept_by: Option<TomlTime>,
    max_message: Option<TomlSize>,
    hold: Option<String>,
    retention: Option<String>,
    rate: Option<String>,
    controls: Option<Vec<String>>,
    urgent_contact: Option<String>,
    relay: Option<bool>,
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

const DAY: Duration = Duration::from_secs(86_400);

impl TermsInput {
    /// The terms of a proposal without a terms file.
    pub fn defaults(now: Time) -> TermsInput {
        TermsInput {
            purposes: Vec::new(),
            legal_basis: String::new(),
            valid_from: now - 30 * DAY,
            valid_until: now + 365 * DAY,
            accept_by: now + 30 * DAY,
            max_message_bytes: 100_000_000_000,
            hold: HOLD_MAX,
            retention: None,
            messages_per_hour: None,
            controls: Vec::new(),
            urgent_contact: String::new(),
            relay: false,
        }
    }

    /// What is agreed now, as what an amendment begins from; it must be accepted within 30 days.
    pub fn agreed(terms: &AgreementTerms, now: Time) -> TermsInput {
        TermsInput {
            purposes: terms.purposes.clone(),
            legal_basis: terms.legal_basis.clone(),
            valid_from: terms.valid_from,
            valid_until: terms.valid_until,
            accept_by: now + 30 * DAY,
            max_message_bytes: terms.message_bytes_max,
            hold: Duration::from_secs(terms.hold_seconds.into()),
            retention: terms.retention_seconds.map(Duration::from_secs),
            messages_per_hour: terms.messages_per_hour,
            controls: terms.controls.clone(),
            urgent_contact: terms.urgent_contact.clone(),
            relay: terms.relay,
        }
    }

    /// Reads terms; time spans count from `now`, and what is left out has its default.
    ///
    /// # Errors
    /// `usage` with the key and what it takes.
    pub fn parse(text: &str, now: Time) -> Result<TermsInput, ServiceError> {
        TermsInput::defaults(now).changed_by(text, now)
    }

    /// Reads terms of which whatever is left out stays as it is here.
    ///
    /// # Errors
    /// Those of [`TermsInput::parse`].
    pub fn changed_by(self, text: &str, now: Time) -> Result<TermsInput, ServiceError> {
        let written: Written = toml::from_str(text).map_err(|e| wrong(&toml_error(text, &e)))?;
        let at = |key: &str, written: Option<TomlTime>, otherwise: Time| {
            written.map_or(Ok(otherwise), |written| point(key, &written, now))
        };
        let hold =
            |text: String| humantime::parse_duration(&text).map_err(|_| wrong("`hold` is a time span such as \"48h\""));
        let terms = TermsInput {
            purposes: written.purposes.map_or(self.purposes, sorted),
            legal_basis: written.legal_basis.unwrap_or(self.legal_basis),
            valid_from: at("valid_from", written.valid_from, self.valid_from)?,
            valid_until: at("valid_until", written.valid_until, self.valid_until)?,
            accept_by: at("accept_by", written.accept_by, self.accept_by)?,
            max_message_bytes: written
                .max_message
                .map_or(Ok(self.max_message_bytes), |max| size("max_message", &max))?,
            hold: written.hold.map_or(Ok(self.hold), hold)?,
            retention: written.retention.map_or(Ok(self.retention), |text| span("retention", &text))?,
            messages_per_hour: written.rate.map_or(Ok(self.messages_per_hour), |text| rate(&text))?,
            controls: written.controls.map_or(self.controls, sorted),
            urgent_contact: written.urgent_contact.unwrap_or(self.urgent_contact),
            relay: written.relay.unwrap_or(self.relay),
        };
        terms.check(now)?;
        Ok(terms)
    }

    /// The same terms until another time: a date, a time with zone, or a time span from `now`.
    ///
    /// # Errors
    /// `usage` for anything else, or for a time that has passed.
    pub fn until(self, text: &str, now: Time) -> Result<TermsInput, ServiceError> {
        let valid_until = point("valid_until", &TomlTime::Text(text.to_owned()), now)?;
        let terms = TermsInput { valid_until, ..self };
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
        if let Some(word) = self.controls.iter().find(|word| Control::named(word).is_none()) {
            let known = Control::ALL.map(Control::as_str).join(", ");
            return Err(wrong(&format!("`controls`: nobody can attest {word:?}; there are {known}")));
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
        check("controls = [\"guard-dog\"]", "malware-scan, journal, retention");
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
