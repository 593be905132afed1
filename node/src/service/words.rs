//! Amounts in words for people.

use std::time::Duration;

use pakt_protocol::time::Time;

use crate::api::types::time_text;

/// A size in decimal units, as disks and terms are measured.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0 && value.fract() >= 0.05);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A time span in its two largest units: `3 days 4 hours`.
pub(super) fn span(span: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
    let mut rest = span.as_secs();
    let mut parts = Vec::new();
    for (name, seconds) in UNITS {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "less than a second".into() } else { parts.join(" ") }
}

/// A point in time to the second.
pub(super) fn moment(at: Time) -> String {
    time_text(Time::from_seconds(at.seconds()))
}

/// A number of things: `1 message waits`, `3 messages wait`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Several words as one list.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let check = |bytes: u64, text: &str| assert_eq!(size(bytes), text);
        check(0, "0 B");
        check(999, "999 B");
        check(1_000_000, "1 MB");
        check(1_500_000, "1.5 MB");
        check(12_345_678, "12 MB");
        check(100_000_000_000, "100 GB");
    }

    #[test]
    fn spans_have_two_units() {
        let check = |seconds: u64, text: &str| assert_eq!(span(Duration::from_secs(seconds)), text);
        check(0, "less than a second");
        check(1, "1 second");
        check(61, "1 minute 1 second");
        check(3_600, "1 hour");
        check(93_600, "1 day 2 hours");
        check(259_200, "3 days");
        check(259_259, "3 days");
    }
}
