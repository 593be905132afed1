//! Terms in plain words: what each clause makes this node do, and what an amendment changes.
//!
//! **Invariant:** every clause has its sentence; what the node does not enforce is not said to be enforced.

use std::time::Duration;

use super::types::Terms;

/// One sentence per clause: what it makes this node do.
pub fn sentences(terms: &Terms) -> Vec<String> {
    clauses(terms).into_iter().map(|(_, sentence)| sentence).collect()
}

/// What another version changes: for each clause that differs, its name and what it said and says.
pub fn changes(before: &Terms, after: &Terms) -> Vec<String> {
    let pairs = clauses(before).into_iter().zip(clauses(after));
    let mut changes: Vec<String> = pairs
        // When an offer must be accepted is no part of what is agreed.
        .filter(|((name, old), (_, new))| *name != "accept by" && old != new)
        .map(|((name, old), (_, new))| format!("{name}: {new} (until now: {old})"))
        .collect();
    if changes.is_empty() {
        changes.push("nothing but the date by which it must be accepted".to_owned());
    }
    changes
}

type Clause = (&'static str, String);

fn clauses(terms: &Terms) -> Vec<Clause> {
    [scope(terms), limits(terms), duties(terms)].concat()
}

/// What is exchanged, why and when.
fn scope(terms: &Terms) -> Vec<Clause> {
    let list = terms.purposes.join(", ");
    let purposes = format!("it sends and takes only messages for one of these purposes: {list}");
    let basis = format!("both state that the exchange rests on: {}; the node does nothing with it", terms.legal_basis);
    let (from, until) = (day(&terms.valid_from), day(&terms.valid_until));
    vec![
        ("purposes", unless_empty(&list, purposes, "it sends and takes messages for any purpose")),
        ("legal basis", unless_empty(&terms.legal_basis, basis, "no legal basis is stated")),
        ("validity", format!("it sends and takes nothing before {from} and nothing from {until} on")),
        ("accept by", format!("after {} this can no longer be accepted", day(&terms.accept_by))),
    ]
}

/// How much, how often, and for how long it is tried.
fn limits(terms: &Terms) -> Vec<Clause> {
    let largest = grouped(terms.max_message_bytes);
    let hold = spaced(&humantime::format_duration(Duration::from_secs(terms.hold_s)).to_string());
    let rate = format!("it sends and takes at most {} messages", terms.rate);
    vec![
        ("largest message", format!("it refuses a message of more than {largest} bytes before it starts, both ways")),
        ("hold time", format!("it tries for {hold} to deliver a message, then the sending group gets a report")),
        ("rate", unless_empty(&terms.rate, rate, "there is no limit to the number of messages")),
    ]
}

/// What the receiver must do and have, and what is done for the counterpart.
fn duties(terms: &Terms) -> Vec<Clause> {
    let list = terms.controls.join(", ");
    let kept = format!("what it receives is kept for at least {}", spaced(&terms.retention));
    let kept_freely = "nothing is agreed about how long what it receives is kept";
    let controls = format!("whoever receives must have these controls: {list}");
    let call = format!("when something is urgent, people call {}", terms.urgent_contact);
    let relay = match terms.relay {
        true => "it forwards connections of the counterpart, which stay encrypted from end to end",
        false => "it forwards nothing for the counterpart",
    };
    vec![
        ("retention", unless_empty(&terms.retention, kept, kept_freely)),
        ("controls", unless_empty(&list, controls, "no controls are demanded of the receiver")),
        ("urgent contact", unless_empty(&terms.urgent_contact, call, "nobody is named for urgent calls")),
        ("relay", relay.to_owned()),
    ]
}

fn unless_empty(clause: &str, sentence: String, without: &str) -> String {
    if clause.is_empty() { without.to_owned() } else { sentence }
}

/// A time span as people write it: a space between number and unit.
fn spaced(span: &str) -> String {
    let mut text = String::with_capacity(span.len() + 4);
    for letter in span.chars() {
        let follows_digit = text.ends_with(|last: char| last.is_ascii_digit());
        if letter.is_alphabetic() && follows_digit {
            text.push(' ');
        }
        text.push(letter);
    }
    text
}

/// A time of the API without its fraction.
fn day(text: &str) -> String {
    text.split('.').next().unwrap_or(text).trim_end_matches('Z').replace('T', " ") + " UTC"
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let groups = digits.as_bytes()[head..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let first = (head > 0).then(|| digits[..head].to_owned());
    first.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            purposes: vec![],
            legal_basis: String::new(),
            valid_from: "2026-01-01T00:00:00Z".into(),
            valid_until: "2027-01-01T00:00:00.25Z".into(),
            accept_by: "2026-02-01T00:00:00Z".into(),
            max_message_bytes: 100_000_000_000,
            hold_s: 172_800,
            retention: String::new(),
            rate: String::new(),
            controls: vec![],
            urgent_contact: String::new(),
            relay: false,
        }
    }

    #[test]
    fn every_clause_has_its_sentence() {
        let sentences = sentences(&terms());
        assert_eq!(sentences.len(), 11);
        for says in ["any purpose", "2027-01-01 00:00:00 UTC", "100,000,000,000 bytes", "2 days", "no limit"] {
            assert!(sentences.iter().any(|sentence| sentence.contains(says)), "{says}: {sentences:?}");
        }
    }

    #[test]
    fn an_amendment_says_what_changes_and_nothing_else() {
        let before = terms();
        let check = |change: fn(&mut Terms), says: &str| {
            let mut after = before.clone();
            change(&mut after);
            let changes = changes(&before, &after);
            assert!(changes.len() == 1 && changes[0].contains(says), "{changes:?}");
        };
        check(|t| t.accept_by = "2026-03-01T00:00:00Z".into(), "nothing but the date");
        check(|t| t.max_message_bytes = 5, "more than 5 bytes before it starts, both ways (until now");
        check(|t| t.purposes = vec!["billing".into()], "purposes: ");
        check(|t| t.legal_basis = "x".into(), "legal basis: ");
        check(|t| t.valid_until = "2028-01-01T00:00:00Z".into(), "2028-01-01");
        check(|t| t.hold_s = 60, "1 m");
        check(|t| t.retention = "10 days".into(), "10 days");
        check(|t| t.rate = "5/h".into(), "5/h");
        check(|t| t.controls = vec!["malware-scan".into()], "malware-scan");
        check(|t| t.urgent_contact = "+47 1".into(), "+47 1");
        check(|t| t.relay = true, "forwards connections");
    }
}
