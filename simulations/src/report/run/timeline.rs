//! How a run went over time: one drawing, so that what happened at the same time lies on one line.

use std::time::Duration;

use super::tables::fault_text;
use crate::outcome::{Outcome, Sample};
use crate::report::svg::{WIDTH, bytes_text, count_text, duration_text, escaped, moment_text, open, push};
use crate::scenario::{Fault, Scenario};

const LEFT: f64 = 66.0;
const RIGHT: f64 = WIDTH - 84.0;
const PANEL: f64 = 74.0;
const PITCH: f64 = PANEL + 36.0;
const FAULT_LANES: usize = 5;
const FAULT_LANE: f64 = 6.0;
/// More would only make everything grey.
const BANDS_MAX: usize = 60;

/// Time from the start to the end, from left to right.
pub(in crate::report) struct TimeAxis {
    until: f64,
    left: f64,
    right: f64,
}

impl TimeAxis {
    pub(in crate::report) fn new(until: Duration, left: f64, right: f64) -> Self {
        Self { until: until.as_secs_f64().max(1.0), left, right }
    }

    pub(in crate::report) fn across(&self, at: Duration) -> f64 {
        self.left + (at.as_secs_f64() / self.until).min(1.0) * (self.right - self.left)
    }

    /// Round moments and what they are called.
    fn ticks(&self) -> Vec<(Duration, String)> {
        const STEPS: [u64; 15] =
            [1, 5, 15, 60, 300, 900, 3_600, 7_200, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000];
        let step = STEPS.into_iter().find(|step| self.until / *step as f64 <= 9.0).unwrap_or(5_184_000);
        let moments = (0..).map(|number| number * step).take_while(|at| *at as f64 <= self.until);
        moments.map(|at| (Duration::from_secs(at), tick_text(at, step, self.until))).collect()
    }
}

fn tick_text(at: u64, step: u64, until: f64) -> String {
    let moment = moment_text(Duration::from_secs(at));
    match step {
        ..60 => duration_text(Duration::from_secs(at)),
        60..86_400 if !at.is_multiple_of(86_400) || until <= 86_400.0 => {
            moment[moment.len() - 8..moment.len() - 3].into()
        }
        60..172_800 if until <= 14.0 * 86_400.0 => moment[moment.len() - 12..moment.len() - 9].into(),
        _ => format!("day {}", at / 86_400 + 1),
    }
}

/// One curve over time.
struct Curve {
    name: &'static str,
    class: &'static str,
    value: fn(&Sample) -> f64,
}

/// Curves that share an axis.
struct Panel {
    title: &'static str,
    curves: Vec<Curve>,
    said: fn(f64) -> String,
    /// Whether the axis counts seconds, so that its steps are those of a clock.
    is_time: bool,
}

fn panels() -> Vec<Panel> {
    let one = |class, value| vec![Curve { name: "", class, value }];
    let count = |value: f64| count_text(value as u64);
    let panel = |title, curves, said| Panel { title, curves, said, is_time: false };
    vec![
        panel("Envelopes in flight", one("pakt", |sample| sample.in_flight as f64), count),
        Panel {
            title: "Age of the oldest in flight",
            curves: one("other", |sample| sample.queue_age_max.as_secs_f64()),
            said: |value| duration_text(Duration::from_secs_f64(value)),
            is_time: true,
        },
        panel(
            "Delivered and expired, in all",
            vec![
                Curve { name: "delivered", class: "pakt", value: |sample| sample.delivered as f64 },
                Curve { name: "expired", class: "other", value: |sample| sample.expired as f64 },
            ],
            count,
        ),
        panel("Links online", one("good", |sample| sample.online_links as f64), count),
        panel("Memory of the process", one("quiet-line", |sample| sample.memory_bytes as f64), |value| {
            bytes_text(value as u64)
        }),
    ]
}

/// Everything over time, with the faults above it.
pub(super) fn section(scenario: &Scenario, outcome: &Outcome) -> String {
    if outcome.samples.len() < 2 {
        return String::new();
    }
    let axis = TimeAxis::new(outcome.simulated, LEFT, RIGHT);
    let lanes = lanes(&outcome.faults, &axis);
    let strip = if lanes.is_empty() { 0.0 } else { FAULT_LANES as f64 * FAULT_LANE + 22.0 };
    let panels = panels();
    let bottom = strip + panels.len() as f64 * PITCH;
    let mut svg = open(bottom + 24.0, "The run over time");
    push_faults(&mut svg, &lanes, &axis, bottom);
    push_days(&mut svg, &axis, strip, bottom);
    for (index, panel) in panels.iter().enumerate() {
        push_panel(&mut svg, panel, &outcome.samples, &axis, strip + index as f64 * PITCH + 24.0);
    }
    let settles = axis.across(scenario.duration);
    if settles < RIGHT - 1.0 {
        push(
            &mut svg,
            format_args!(
                "<path class=\"settling\" d=\"M{settles:.1} {strip}V{bottom}\"><title>the last submission; from here on all must settle</title></path>"
            ),
        );
    }
    push(
        &mut svg,
        format_args!(
            "<path class=\"cursor\" data-left=\"{LEFT}\" data-right=\"{RIGHT}\" d=\"M0 {strip}V{bottom}\" transform=\"translate(-99 0)\"/></svg>"
        ),
    );
    format!(
        "<section><h2>Over time</h2><p class=\"quiet\">Time begins on a Monday, 00:00. {}{}</p>{svg}</section>",
        if lanes.is_empty() { "There were no faults." } else { "Faults are marked above, and shaded below." },
        if settles < RIGHT - 1.0 { " The broken line is the last submission." } else { "" },
    )
}

fn push_days(svg: &mut String, axis: &TimeAxis, top: f64, bottom: f64) {
    for (at, name) in axis.ticks() {
        let x = axis.across(at);
        push(svg, format_args!("<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>"));
        push(svg, format_args!("<text class=\"tick across\" x=\"{x:.1}\" y=\"{}\">{name}</text>", bottom + 16.0));
    }
}

fn push_panel(svg: &mut String, panel: &Panel, samples: &[Sample], axis: &TimeAxis, top: f64) {
    let floor = top + PANEL;
    let values = panel.curves.iter().flat_map(|curve| samples.iter().map(curve.value));
    let most = values.fold(0.0, f64::max);
    let step = step(most, panel.is_time);
    let height = (most / step).ceil().max(1.0) * step;
    let up = |value: f64| floor - value / height * PANEL;
    push(svg, format_args!("<text class=\"axis\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>", top - 8.0, panel.title));
    for line in 0..=(height / step).round() as u32 {
        let value = f64::from(line) * step;
        let (y, said) = (up(value), (panel.said)(value));
        push(svg, format_args!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"));
        push(svg, format_args!("<text class=\"tick\" x=\"{}\" y=\"{:.1}\">{said}</text>", LEFT - 8.0, y + 4.0));
    }
    let mut taken: Option<f64> = None;
    for curve in &panel.curves {
        let points: Vec<String> = samples
            .iter()
            .map(|sample| format!("{:.1} {:.1}", axis.across(sample.at), up((curve.value)(sample))))
            .collect();
        push(svg, format_args!("<path class=\"curve thin {}\" d=\"M{}\"/>", curve.class, points.join("L")));
        let last = samples.last().map_or(0.0, curve.value);
        // Two names at the end of two curves that end together stand above each other.
        let y = taken.map_or(up(last), |taken| if (taken - up(last)).abs() < 24.0 { taken + 26.0 } else { up(last) });
        taken = Some(y);
        push(
            svg,
            format_args!(
                "<text class=\"end {}\" x=\"{}\" y=\"{:.1}\">{}</text>",
                curve.class,
                RIGHT + 8.0,
                y + 4.0,
                (panel.said)(last)
            ),
        );
        if !curve.name.is_empty() {
            push(
                svg,
                format_args!(
                    "<text class=\"end {}\" x=\"{}\" y=\"{:.1}\">{}</text>",
                    curve.class,
                    RIGHT + 8.0,
                    y - 8.0,
                    curve.name
                ),
            );
        }
    }
}

/// Between two lines of the grid: two or three of them below the highest value.
fn step(most: f64, is_time: bool) -> f64 {
    const CLOCK: [f64; 15] = [
        1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 172_800.0,
        604_800.0,
    ];
    if is_time {
        return CLOCK.into_iter().find(|step| most / step <= 3.0).unwrap_or(2_592_000.0);
    }
    let decade = 10f64.powi((most.max(1.0) / 3.0).log10().floor() as i32);
    let steps = [1.0, 2.0, 5.0, 10.0].map(|digit| (digit * decade).max(1.0));
    steps.into_iter().find(|step| most / step <= 3.0).unwrap_or(10.0 * decade)
}

/// A fault where it is drawn: from, to, in which lane.
struct Laid<'a> {
    fault: &'a Fault,
    from: f64,
    to: f64,
    lane: usize,
}

/// Faults in lanes, so that those that overlap lie above each other; where all are taken, in the last one.
fn lanes<'a>(faults: &'a [Fault], axis: &TimeAxis) -> Vec<Laid<'a>> {
    let mut free_from = [f64::NEG_INFINITY; FAULT_LANES];
    let mut sorted: Vec<&Fault> = faults.iter().collect();
    sorted.sort_by_key(|fault| fault.at);
    let laid = sorted.into_iter().map(|fault| {
        let from = axis.across(fault.at);
        let end = fault.for_.map_or(fault.at, |length| fault.at.saturating_add(length));
        let to = axis.across(end).max(from + 2.5);
        let lane = free_from.iter().position(|free| *free <= from).unwrap_or(FAULT_LANES - 1);
        free_from[lane] = to + 1.5;
        Laid { fault, from, to, lane }
    });
    laid.collect()
}

fn push_faults(svg: &mut String, laid: &[Laid<'_>], axis: &TimeAxis, bottom: f64) {
    if laid.is_empty() {
        return;
    }
    let top = FAULT_LANES as f64 * FAULT_LANE + 12.0;
    let left = axis.left;
    push(svg, format_args!("<text class=\"tick\" x=\"{}\" y=\"{:.1}\">faults</text>", left - 8.0, top / 2.0 + 4.0));
    if laid.len() <= BANDS_MAX {
        for Laid { from, to, .. } in laid {
            let (width, height) = (to - from, bottom - top);
            push(
                svg,
                format_args!(
                    "<rect class=\"band\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
                ),
            );
        }
    }
    push_bars(svg, laid, 6.0);
}

fn push_bars(svg: &mut String, laid: &[Laid<'_>], top: f64) {
    for Laid { fault, from, to, lane } in laid {
        let y = top + *lane as f64 * FAULT_LANE;
        let (width, height) = (to - from, FAULT_LANE - 1.5);
        push(
            svg,
            format_args!(
                "<rect class=\"fault\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"><title>{}: {}</title></rect>",
                moment_text(fault.at),
                escaped(&fault_text(fault))
            ),
        );
    }
}

/// The faults alone, to stand below something that follows the same axis; nothing where there are none.
pub(in crate::report) fn faults_strip(faults: &[Fault], axis: &TimeAxis) -> String {
    let laid = lanes(faults, axis);
    if laid.is_empty() {
        return String::new();
    }
    let mut svg = open(FAULT_LANES as f64 * FAULT_LANE + 2.0, "Faults over time");
    push_bars(&mut svg, &laid, 1.0);
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_an_axis_are_round() {
        let check = |most: f64, is_time: bool, expected: f64| {
            let found = step(most, is_time);
            assert!((found - expected).abs() < 1e-9, "{most}: {found}");
        };
        check(0.0, false, 1.0);
        check(3.0, false, 1.0);
        check(7.0, false, 5.0);
        check(5_200.0, false, 2_000.0);
        check(100.0, true, 60.0);
        check(172_800.0, true, 86_400.0);
    }

    #[test]
    fn moments_on_the_axis_are_round() {
        let check = |until: u64, expected: &[&str]| {
            let ticks = TimeAxis::new(Duration::from_secs(until), 0.0, 1.0).ticks();
            let names: Vec<&str> = ticks.iter().map(|(_, name)| name.as_str()).collect();
            assert_eq!(names, expected, "{until}");
        };
        check(3_600, &["00:00", "00:15", "00:30", "00:45", "01:00"]);
        check(86_400, &["00:00", "06:00", "12:00", "18:00", "00:00"]);
        check(3 * 86_400, &["Mon", "12:00", "Tue", "12:00", "Wed", "12:00", "Thu"]);
        check(7 * 86_400, &["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"]);
        check(30 * 86_400, &["day 1", "day 8", "day 15", "day 22", "day 29"]);
    }
}
