//! The page of one run.

mod latency;
mod links;
mod tables;
mod timeline;

use crate::outcome::{Outcome, Verdict};
use crate::report::mesh;
use crate::report::page::whole;
use crate::report::svg::{bytes_text, count_text, duration_text, escaped, figure, moment_text};
use crate::scenario::{Scenario, Suite};

pub(super) use tables::priority_word;
pub use tables::summary;
pub(super) use timeline::{TimeAxis, faults_strip};

/// The page of one run, as HTML. `how` is the command that runs it again.
pub fn run_page(scenario: &Scenario, outcome: &Outcome, how: &str) -> String {
    let mut body = head(scenario, outcome, how);
    body += &mesh::section(scenario, outcome);
    body += &tables::envelopes(outcome);
    body += &latency::section(outcome);
    body += &timeline::section(scenario, outcome);
    body += &links::section(outcome);
    body += &tables::faults(outcome);
    body += &tables::notes(outcome);
    whole(&format!("{}, seed {}: {}", outcome.scenario, outcome.seed, word(outcome.verdict)), &body)
}

/// A verdict as it is printed.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Crash => "crash",
        Verdict::Wrong => "wrong",
        Verdict::Stuck => "stuck",
    }
}

/// The verdict, what was found, what it is about and how to see it again.
fn head(scenario: &Scenario, outcome: &Outcome, how: &str) -> String {
    let class = if outcome.verdict == Verdict::Pass { "good" } else { "bad" };
    let suite = match outcome.suite {
        Suite::Model => {
            "<p class=\"note\">Model suite: all sizes and decisions are those of the node, sealing and signing are not computed.</p>"
        }
        Suite::Full | Suite::Auto => "",
    };
    format!(
        "<header><h1>{name} <span class=\"verdict {class}\">{verdict}</span></h1><p>{about}</p>{finding}\
         <dl class=\"run\"><div><dt>Again</dt><dd><code>{how}</code></dd></div>\
         <div><dt>Event hash</dt><dd><code>{hash}</code></dd></div></dl>{tiles}{suite}</header>",
        name = escaped(&outcome.scenario),
        verdict = word(outcome.verdict),
        about = escaped(&scenario.about),
        finding = finding(outcome),
        how = escaped(how),
        hash = escaped(&outcome.event_hash),
        tiles = tiles(outcome),
    )
}

fn finding(outcome: &Outcome) -> String {
    let Some(finding) = &outcome.finding else { return String::new() };
    let nodes: Vec<String> = finding.nodes.iter().map(ToString::to_string).collect();
    format!(
        "<p class=\"finding\"><b>{}</b> at {} ({}), {}: {}</p>",
        escaped(&finding.rule),
        moment_text(finding.at),
        duration_text(finding.at),
        if nodes.is_empty() { "no node named".into() } else { format!("nodes {}", nodes.join(", ")) },
        escaped(&finding.what),
    )
}

/// How many simulated seconds a second was worth.
pub(super) fn speed(outcome: &Outcome) -> f64 {
    outcome.simulated.as_secs_f64() / outcome.wall.as_secs_f64().max(1e-6)
}

/// The figures that everybody asks for first.
fn tiles(outcome: &Outcome) -> String {
    let engine = match outcome.engine {
        crate::outcome::Engine::Virtual => "virtual",
        crate::outcome::Engine::Real => "real",
    };
    let tile = |value: String, what: &str| format!("<div><b>{value}</b><span>{what}</span></div>");
    let tiles = [
        tile(count_text(outcome.nodes as u64), "nodes"),
        tile(count_text(outcome.links as u64), "agreements"),
        tile(count_text(outcome.messages.submitted), "envelopes submitted"),
        tile(bytes_text(outcome.bytes), "on the lines"),
        tile(duration_text(outcome.simulated), "simulated"),
        tile(format!("{} ×", figure(speed(outcome))), &format!("real time ({})", duration_text(outcome.wall))),
        tile(count_text(outcome.events), "events"),
        tile(bytes_text(outcome.memory_per_node), "memory per node"),
    ];
    format!(
        "<div class=\"tiles\">{}</div><p class=\"quiet\">Engine {engine}, seed {}, version {}. Time begins on a Monday, 00:00.</p>",
        tiles.concat(),
        outcome.seed,
        escaped(&outcome.version),
    )
}
