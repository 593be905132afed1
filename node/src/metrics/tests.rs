//! What is exported is what the samples in `docs/monitoring` use, and labels hold words only.

use std::collections::BTreeSet;

use pakt_protocol::message::offer::Refusal;

use super::counted::Counted;
use super::{Lanes, Measured, render};

const ALERTS: &str = include_str!("../../docs/monitoring/alerts.yml");
const DASHBOARD: &str = include_str!("../../docs/monitoring/dashboard.json");
const OPERATING: &str = include_str!("../../docs/operating.md");

/// With at least one row of every family.
fn text() -> String {
    let counted = Counted::default();
    counted.refused(Refusal::NoSpace);
    for (family, label, word) in [
        (&counted.reached, "state", "delivered"),
        (&counted.retries, "reason", "unreachable"),
        (&counted.refused_there, "reason", "busy"),
    ] {
        family.get_or_create(&vec![(label, word)]).inc();
    }
    let measured = Measured {
        ready: true,
        queued: 7,
        lanes: Lanes { control: 1, urgent: 0, bulk: 4, relay: 0 },
        log_fault: true,
        ..Measured::default()
    };
    render(&counted, &measured)
}

/// Names of what is exported.
fn exported() -> BTreeSet<String> {
    let text = text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
}

/// Names of metrics that a text speaks of.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("pakt_")).map(str::to_owned).collect()
}

#[test]
fn the_text_is_that_of_openmetrics() {
    let text = text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "pakt_queue_envelopes 7",
        "pakt_ready 1",
        "pakt_log_fault 1",
        "pakt_lanes{kind=\"bulk\"} 4",
        "pakt_envelopes_total{state=\"delivered\"} 1",
        "pakt_refusals_here_total{reason=\"no_space\"} 1",
        "# TYPE pakt_retries counter",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn samples_speak_of_what_is_exported() {
    let exported = exported();
    for (file, text) in [("alerts.yml", ALERTS), ("dashboard.json", DASHBOARD)] {
        let named = named(text);
        assert!(named.len() > 8, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} names what is not exported: {unknown:?}");
    }
    let told = named(OPERATING);
    let untold: Vec<_> = exported.difference(&told).collect();
    assert!(untold.is_empty(), "operating.md does not explain {untold:?}");
}

#[test]
fn the_dashboard_is_json_and_asks_in_every_panel() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 8);
    for panel in panels {
        let asked = panel["targets"][0]["expr"].as_str().unwrap_or_default();
        assert!(asked.contains("pakt_"), "{}", panel["title"]);
    }
}

#[test]
fn alerts_have_a_name_a_condition_and_words() {
    let count =
        |key: &str| ALERTS.lines().filter(|line| line.trim_start().trim_start_matches("- ").starts_with(key)).count();
    let alerts = count("alert:");
    assert!(alerts >= 8);
    assert_eq!((count("expr:"), count("summary:"), count("severity:")), (alerts, alerts, alerts));
}

/// P22 for metrics: whatever a counterpart or user chooses cannot reach a label, as labels are words of this program.
#[test]
fn p22_labels_hold_words_of_this_program() {
    for line in text().lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else { continue };
        let value = labels.split('"').nth(1).unwrap();
        assert!(value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
    }
}
