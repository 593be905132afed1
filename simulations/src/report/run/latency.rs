//! How long delivery took, per priority, on a logarithmic axis.

use std::time::Duration;

use super::tables::priority_word;
use crate::outcome::{Outcome, Percentiles};
use crate::report::svg::{WIDTH, count_text, duration_text, open, push};

const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 30.0;
const PITCH: f64 = 34.0;
/// What people call round, in seconds, and what they call it.
const TICKS: [(f64, &str); 11] = [
    (0.001, "1 ms"),
    (0.01, "10 ms"),
    (0.1, "100 ms"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 min"),
    (600.0, "10 min"),
    (3_600.0, "1 h"),
    (36_000.0, "10 h"),
    (172_800.0, "2 d"),
    (1_728_000.0, "20 d"),
];

/// The plot and its table.
pub(super) fn section(outcome: &Outcome) -> String {
    let rows: Vec<(&str, &Percentiles)> = outcome
        .latency
        .iter()
        .filter(|(_, percentiles)| percentiles.count > 0)
        .map(|(priority, percentiles)| (priority_word(*priority), percentiles))
        .collect();
    if rows.is_empty() {
        return "<section><h2>Time to delivery</h2><p class=\"quiet\">Nothing was delivered.</p></section>".into();
    }
    let table: String = rows
        .iter()
        .map(|(name, of)| {
            let cells: String =
                marks(of).iter().map(|(_, value)| format!("<td>{}</td>", duration_text(*value))).collect();
            format!("<tr><td>{name}</td><td>{}</td>{cells}</tr>", count_text(of.count))
        })
        .collect();
    format!(
        "<section><h2>Time to delivery</h2><p class=\"quiet\">From submission to the receipt that says it is durable; the time \
         in which the recipient could not be reached is part of it.</p>{}<div class=\"wide\"><table><tr><th></th><th>delivered</th>\
         <th>half within</th><th>90 %</th><th>99 %</th><th>all</th></tr>{table}</table></div></section>",
        plot(&rows)
    )
}

fn marks(of: &Percentiles) -> [(&'static str, Duration); 4] {
    [("p50", of.p50), ("p90", of.p90), ("p99", of.p99), ("max", of.max)]
}

fn plot(rows: &[(&str, &Percentiles)]) -> String {
    let seconds = |duration: Duration| duration.as_secs_f64().max(0.001);
    let all = || rows.iter().flat_map(|(_, of)| marks(of)).map(|(_, value)| seconds(value));
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let first = TICKS.iter().rposition(|(tick, _)| *tick <= least).unwrap_or(0);
    let last = TICKS.iter().position(|(tick, _)| *tick >= most).unwrap_or(TICKS.len() - 1).max(first + 1);
    let last = last.min(TICKS.len() - 1);
    let (from, to) = (TICKS[first].0.log10(), TICKS[last].0.max(most).log10());
    let x = |value: f64| LEFT + (value.log10() - from) / (to - from) * (RIGHT - LEFT);
    let bottom = PITCH * rows.len() as f64 + 22.0;
    let mut svg = open(bottom + 22.0, "Time to delivery per priority");
    for (tick, name) in &TICKS[first..=last] {
        let x = x(*tick);
        push(&mut svg, format_args!("<path class=\"grid\" d=\"M{x:.1} 16V{bottom}\"/>"));
        push(&mut svg, format_args!("<text class=\"tick across\" x=\"{x:.1}\" y=\"{}\">{name}</text>", bottom + 16.0));
    }
    for (index, (name, of)) in rows.iter().enumerate() {
        let y = index as f64 * PITCH + 36.0;
        let [p50, p90, p99, max] = marks(of).map(|(_, value)| x(seconds(value)));
        push(&mut svg, format_args!("<text class=\"label\" x=\"{}\" y=\"{}\">{name}</text>", LEFT - 10.0, y + 4.0));
        push(&mut svg, format_args!("<path class=\"range\" d=\"M{p50:.1} {y}H{max:.1}M{max:.1} {}v8\"/>", y - 4.0));
        let width = (p90 - p50).max(1.0);
        push(
            &mut svg,
            format_args!(
                "<rect class=\"bar pakt\" x=\"{p50:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"8\"/>",
                y - 4.0
            ),
        );
        push(&mut svg, format_args!("<path class=\"range\" d=\"M{p99:.1} {}v12\"/>", y - 6.0));
        push(&mut svg, format_args!("<circle class=\"dot pakt\" cx=\"{p50:.1}\" cy=\"{y}\" r=\"5\"/>"));
        if index == 0 {
            push_legend(&mut svg, &[("half", p50), ("90 %", p90), ("99 %", p99), ("all", max)], y - 14.0);
        }
    }
    svg + "</svg>"
}

/// Names above the marks of the first row, left out where they would lie on each other.
fn push_legend(svg: &mut String, names: &[(&str, f64)], y: f64) {
    let mut free_from = f64::NEG_INFINITY;
    for (name, x) in names {
        if *x < free_from {
            continue;
        }
        free_from = x + 34.0;
        push(svg, format_args!("<text class=\"point\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>"));
    }
}
