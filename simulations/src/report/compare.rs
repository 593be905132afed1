//! Two runs or more beside each other: a table, and plots where the runs are of meshes of different sizes.

use super::loglog::{Series, chart};
use super::page::whole;
use super::run::{priority_word, speed, word};
use super::svg::{bytes_text, count_text, duration_text, escaped, figure};
use crate::outcome::{Outcome, Percentiles};
use crate::scenario::Priority;

/// One measure of every run.
struct Line {
    name: String,
    cells: Vec<Cell>,
}

/// What one run has of it: how it is written, and the number, where it is one.
struct Cell {
    text: String,
    number: Option<f64>,
}

impl Line {
    /// Whether there is anything to see.
    fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| cell.text.is_empty() || cell.number == Some(0.0))
    }

    /// From the first run to the second, where there are two.
    fn change(&self) -> String {
        match self.cells.as_slice() {
            [Cell { number: Some(one), .. }, Cell { number: Some(other), .. }] if one == other => "=".into(),
            [Cell { number: Some(one), .. }, Cell { number: Some(other), .. }] if *one > 0.0 => {
                let percent = (other / one - 1.0) * 100.0;
                if percent.abs() < 1000.0 { format!("{percent:+.1} %") } else { format!("× {}", figure(other / one)) }
            }
            [Cell { number: None, text }, Cell { number: None, text: other }] if text == other => "=".into(),
            [_, _] => "differs".into(),
            _ => String::new(),
        }
    }
}

fn lines(runs: &[Outcome]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |name: &str, cell: &dyn Fn(&Outcome) -> Cell| {
        lines.push(Line { name: name.into(), cells: runs.iter().map(cell).collect() });
    };
    let text = |text: String| Cell { text, number: None };
    let count = |count: u64| Cell { text: count_text(count), number: Some(count as f64) };
    let bytes = |bytes: u64| Cell { text: bytes_text(bytes), number: Some(bytes as f64) };
    add("scenario", &|run| text(run.scenario.clone()));
    add("engine, suite", &|run| text(format!("{:?}, {:?}", run.engine, run.suite).to_lowercase()));
    add("version", &|run| text(run.version.clone()));
    add("seed", &|run| text(run.seed.to_string()));
    add("event hash", &|run| text(run.event_hash.chars().take(16).collect()));
    add("verdict", &|run| text(word(run.verdict).into()));
    add("finding", &|run| text(run.finding.as_ref().map_or(String::new(), |finding| finding.rule.clone())));
    add("nodes", &|run| count(run.nodes as u64));
    add("agreements", &|run| count(run.links as u64));
    add("events", &|run| count(run.events));
    add("bytes on the lines", &|run| bytes(run.bytes));
    add("simulated", &|run| time(run.simulated));
    add("real time", &|run| time(run.wall));
    add("simulated per real time", &|run| Cell {
        text: format!("{} ×", figure(speed(run))), number: Some(speed(run))
    });
    add("memory per node", &|run| bytes(run.memory_per_node));
    add("memory, most", &|run| bytes(run.samples.iter().map(|sample| sample.memory_bytes).max().unwrap_or(0)));
    add("in flight, most", &|run| count(run.samples.iter().map(|sample| sample.in_flight).max().unwrap_or(0)));
    add("submitted", &|run| count(run.messages.submitted));
    add("delivered", &|run| count(run.messages.delivered));
    add("released", &|run| count(run.messages.released));
    add("taken", &|run| count(run.messages.taken));
    add("refused", &|run| count(run.messages.refused));
    add("expired", &|run| count(run.messages.expired));
    add("recalled", &|run| count(run.messages.recalled));
    add("not confirmed", &|run| count(run.messages.unconfirmed));
    add("reports", &|run| count(run.messages.reports));
    for priority in [Priority::Urgent, Priority::Normal, Priority::Bulk] {
        let word = priority_word(priority);
        let of = |run: &Outcome, part: fn(&Percentiles) -> std::time::Duration| {
            let found = run.latency.iter().find(|(known, of)| *known == priority && of.count > 0);
            found.map_or(Cell { text: String::new(), number: None }, |(_, percentiles)| time(part(percentiles)))
        };
        add(&format!("{word}: half within"), &|run| of(run, |percentiles| percentiles.p50));
        add(&format!("{word}: 99 % within"), &|run| of(run, |percentiles| percentiles.p99));
        add(&format!("{word}: all within"), &|run| of(run, |percentiles| percentiles.max));
    }
    lines.retain(|line| !line.is_empty());
    lines
}

fn time(duration: std::time::Duration) -> Cell {
    Cell { text: duration_text(duration), number: Some(duration.as_secs_f64()) }
}

/// What the event hashes of two runs say; nothing of more.
fn sameness(runs: &[Outcome]) -> Option<&'static str> {
    let [one, other] = runs else { return None };
    let is_same_run = one.scenario == other.scenario && one.seed == other.seed && one.engine == other.engine;
    match (one.event_hash == other.event_hash, is_same_run) {
        (true, _) => Some("The two runs are the same, event by event."),
        (false, true) => {
            Some("The same scenario and seed, but the events differ: the code or the scenario has changed.")
        }
        (false, false) => None,
    }
}

/// The table for a terminal.
pub fn comparison_text(runs: &[Outcome]) -> String {
    let lines = lines(runs);
    let widths: Vec<usize> = (0..runs.len())
        .map(|run| lines.iter().map(|line| line.cells[run].text.chars().count()).max().unwrap_or(0))
        .collect();
    let names = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for line in &lines {
        let cells: String =
            line.cells.iter().zip(&widths).map(|(cell, width)| format!("  {:>width$}", cell.text)).collect();
        let row = format!("{:<names$}{cells}  {:>10}", line.name, line.change());
        text += row.trim_end();
        text.push('\n');
    }
    if let Some(said) = sameness(runs) {
        text += &format!("\n{said}\n");
    }
    text
}

/// The table as a page, with plots against the number of nodes where that differs.
pub fn comparison_page(runs: &[Outcome]) -> String {
    let heads: String =
        runs.iter().map(|run| format!("<th>{}, seed {}</th>", escaped(&run.scenario), run.seed)).collect();
    let is_pair = runs.len() == 2;
    let rows: String = lines(runs)
        .iter()
        .map(|line| {
            let cells: String = line.cells.iter().map(|cell| format!("<td>{}</td>", escaped(&cell.text))).collect();
            let change = if is_pair { format!("<td class=\"quiet\">{}</td>", line.change()) } else { String::new() };
            format!("<tr><td>{}</td>{cells}{change}</tr>", escaped(&line.name))
        })
        .collect();
    let change = if is_pair { "<th>change</th>" } else { "" };
    let said = sameness(runs).map_or(String::new(), |said| format!("<p class=\"note\">{said}</p>"));
    let body = format!(
        "<header><h1>{} runs compared</h1>{said}</header>{}<section><h2>All figures</h2><div class=\"wide\"><table><tr><th></th>\
         {heads}{change}</tr>{rows}</table></div></section>",
        runs.len(),
        growth(runs)
    );
    whole(&format!("{} runs compared", runs.len()), &body)
}

/// Speed and memory against the number of nodes; nothing where all have the same.
fn growth(runs: &[Outcome]) -> String {
    let mut sorted: Vec<&Outcome> = runs.iter().collect();
    sorted.sort_by_key(|run| run.nodes);
    if sorted.first().map(|run| run.nodes) == sorted.last().map(|run| run.nodes) {
        return String::new();
    }
    let along = |value: &dyn Fn(&Outcome) -> f64| sorted.iter().map(|run| (run.nodes as f64, value(run))).collect();
    let speeds = [Series { name: String::new(), class: "pakt", points: along(&speed) }];
    let memory = [Series { name: String::new(), class: "other", points: along(&|run| run.memory_per_node as f64) }];
    format!(
        "<section><h2>Against the number of nodes</h2><p class=\"quiet\">Both axes logarithmic.</p>{}{}</section>",
        chart(&speeds, "nodes", "simulated seconds in a second", &figure),
        chart(&memory, "nodes", "bytes of memory per node", &|bytes| bytes_text(bytes as u64)),
    )
}
