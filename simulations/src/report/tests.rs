//! Pages of runs that are made up: what they hold, that they are whole, and that nothing in them can break out of its place.

use std::time::Duration;

use super::{comparison_page, comparison_text, run_page, summary};
use crate::outcome::*;
use crate::scenario::{Fault, FaultKind, Priority, Scenario, Suite, Topology, Traffic};

/// An outcome as an engine would write it: of the real links and submissions, with figures that are made up.
pub(crate) fn made_up(scenario: &Scenario, seed: u64) -> Outcome {
    let links = scenario.topology.links(seed);
    let total = scenario.duration + scenario.settle;
    let submitted: Vec<Duration> = scenario.submissions(&links, seed).map(|submission| submission.at).collect();
    let before = |at: Duration| submitted.partition_point(|submitted| *submitted <= at) as u64;
    let samples = (0..=400_u32).map(|index| {
        let at = total * index / 400;
        made_up_sample(at, index, links.len() as u64, (before(at), before(at.saturating_sub(total / 40))))
    });
    let frames = (0..120_u32).map(|index| Frame {
        at: total * index / 120,
        link_states: (0..links.len()).map(|link| made_up_state(link, index)).collect(),
    });
    let percentiles = |scale: u64| Percentiles {
        count: submitted.len() as u64,
        p50: Duration::from_millis(90 * scale),
        p90: Duration::from_millis(800 * scale),
        p99: Duration::from_secs(70 * scale),
        max: Duration::from_secs(9_000 * scale),
    };
    let envelopes = submitted.len() as u64;
    Outcome {
        scenario: scenario.name.clone(),
        engine: Engine::Virtual,
        suite: scenario.suite_chosen(),
        seed,
        event_hash: blake3::hash(&seed.to_le_bytes()).to_string(),
        verdict: Verdict::Pass,
        finding: None,
        simulated: total,
        wall: Duration::from_secs(12),
        nodes: scenario.topology.nodes(),
        links: links.len(),
        events: 1_234_567,
        messages: Counts {
            submitted: envelopes,
            delivered: envelopes - envelopes / 50,
            released: envelopes - envelopes / 50,
            expired: envelopes / 50,
            reports: envelopes / 50,
            ..Counts::default()
        },
        bytes: 45_000_000_000,
        latency: vec![
            (Priority::Urgent, percentiles(1)),
            (Priority::Normal, percentiles(8)),
            (Priority::Bulk, percentiles(15)),
        ],
        samples: samples.collect(),
        link_bytes: links
            .iter()
            .enumerate()
            .map(|(index, (a, b))| LinkUse {
                a: *a,
                b: *b,
                bytes: (index as u64 % 91).pow(5),
                messages: index as u64 % 91,
            })
            .collect(),
        frames: if scenario.topology.nodes() <= FRAMES_NODES_MAX { frames.collect() } else { Vec::new() },
        memory_per_node: 123_456,
        version: "0.1.0".into(),
        found: Vec::new(),
        faults: scenario.faults.clone(),
    }
}

fn made_up_sample(at: Duration, index: u32, links: u64, (submitted, delivered): (u64, u64)) -> Sample {
    Sample {
        at,
        in_flight: submitted - delivered,
        queue_age_max: Duration::from_secs(u64::from(index % 37) * 60),
        online_links: links - u64::from(index % 7).min(links),
        delivered: delivered - delivered / 50,
        expired: delivered / 50,
        memory_bytes: 40_000_000 + u64::from(index) * 20_000,
    }
}

fn made_up_state(link: usize, index: u32) -> u8 {
    let turn = (link * 7919 + index as usize * 31) % 100;
    match turn {
        0..3 => LinkState::Waiting as u8,
        3..6 => LinkState::Offline as u8,
        6..8 => LinkState::Suspended as u8,
        8..10 => LinkState::Ended as u8,
        10..40 => LinkState::Busy as u8,
        _ => LinkState::Online as u8,
    }
}

/// Every element that is opened is closed, in order; the text between has no stray brackets.
fn check_whole(page: &str) {
    const VOID: [&str; 5] = ["meta", "br", "input", "link", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        assert!(
            !rest[..at].contains('>') || open.last().is_some_and(|tag| ["script", "style"].contains(tag)),
            "{}",
            &rest[..at]
        );
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closes what was opened last");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
            if name == "script" || name == "style" {
                // What is in there is no HTML, up to its end.
                rest = &rest[rest.find(&format!("</{name}")).expect("it ends")..];
            }
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
    }
    assert!(open.is_empty(), "left open: {open:?}");
    for not in ["http://", "https://", "NaN", ">inf", "@import", "src="] {
        assert!(!page.contains(not), "{not} in the page");
    }
}

#[test]
fn pages_of_every_shipped_scenario_are_whole_and_hold_what_they_must() {
    for name in ["pair", "bad-week", "revocation-storm", "national-10000"] {
        let mut scenario = Scenario::named(name).unwrap();
        if name == "national-10000" {
            scenario.duration = Duration::from_secs(3 * 3600);
        }
        let outcome = made_up(&scenario, 7);
        let page = run_page(&scenario, &outcome, "run it --seed 7");
        check_whole(&page);
        for part in [
            &*outcome.event_hash,
            "run it --seed 7",
            "Time to delivery",
            "Over time",
            "Bytes per link",
            "urgent",
            "pass",
        ] {
            assert!(page.contains(part), "{name}: {part}");
        }
        assert_eq!(page.contains("A sample: "), name == "national-10000", "{name} says whether all nodes are drawn");
        assert_eq!(page.contains("Model suite"), outcome.suite == Suite::Model, "{name} says which suite");
        assert_eq!(page.contains("type=\"range\""), !outcome.frames.is_empty(), "{name} can be stepped through time");
        assert_eq!(page.contains("class=\"fault\""), !outcome.faults.is_empty(), "{name} marks its faults");
    }
}

#[test]
fn text_from_outside_stays_text() {
    let hostile = "</script><img src=x onerror=alert(1)>\"&";
    let mut scenario = Scenario::named("pair").unwrap();
    scenario.about = hostile.into();
    let mut outcome = made_up(&scenario, 1);
    outcome.verdict = Verdict::Wrong;
    outcome.scenario = hostile.into();
    outcome.version = hostile.into();
    outcome.event_hash = hostile.into();
    outcome.found = vec![hostile.into()];
    outcome.finding =
        Some(Finding { rule: hostile.into(), at: Duration::from_secs(1), what: hostile.into(), nodes: vec![0] });
    for page in [run_page(&scenario, &outcome, hostile), comparison_page(&[outcome.clone(), outcome.clone()])] {
        assert!(!page.contains("<img"), "{page}");
        check_whole(&page.replace("src=", ""));
    }
}

#[test]
fn a_run_in_which_nothing_happened_has_a_page_too() {
    let scenario = Scenario::new("still", Topology::Star { nodes: 3 }, Duration::from_secs(60));
    let mut outcome = made_up(&scenario, 1);
    (outcome.samples, outcome.frames, outcome.link_bytes, outcome.latency) = Default::default();
    (outcome.simulated, outcome.wall) = Default::default();
    check_whole(&run_page(&scenario, &outcome, "again"));
    assert!(summary(&outcome).contains("0 submitted: nothing"));
}

#[test]
fn every_fault_has_words() {
    let mut scenario = Scenario::named("bad-week").unwrap();
    scenario.traffic.truncate(1);
    let ever = Fault { at: Duration::MAX, for_: Some(Duration::MAX), what: FaultKind::Isolate { node: 1 } };
    scenario.faults.push(ever);
    let page = run_page(&scenario, &made_up(&scenario, 1), "again");
    check_whole(&page);
    for part in ["partition 0 – 3, one way", "within persist 3", "backup 9 h old", "clock-skew of node 6 by 200 ppm"]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn comparisons_say_what_changed() {
    let mut scenario = Scenario::named("pair").unwrap();
    let one = made_up(&scenario, 1);
    assert!(comparison_text(&[one.clone(), one.clone()]).contains("the same, event by event"));

    let mut other = one.clone();
    other.event_hash = "0".repeat(64);
    other.events *= 2;
    let text = comparison_text(&[one.clone(), other]);
    assert!(text.contains("+100.0 %") && text.contains("the events differ"), "{text}");

    scenario.topology = Topology::Star { nodes: 100 };
    scenario.traffic = vec![Traffic::of(crate::scenario::Kind::Letter, 1.0)];
    let page = comparison_page(&[made_up(&scenario, 1), one]);
    check_whole(&page);
    assert!(page.contains("Against the number of nodes"), "meshes of different sizes are plotted");
}

#[test]
fn outcomes_come_back_from_json() {
    let outcome = made_up(&Scenario::named("bad-week").unwrap(), 3);
    let text = serde_json::to_string(&outcome).unwrap();
    let back: Outcome = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["verdict"], &json["seed"]), (&"pass".into(), &3.into()));
    assert!(json["latency"]["urgent"]["p50"].is_number() && json["event_hash"].is_string());
}
