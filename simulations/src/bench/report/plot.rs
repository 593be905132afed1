//! Plots as SVG, drawn by hand: bars with their range, and curves on logarithmic axes.
//!
//! Colours come from the page's style sheet by class, so that one plot serves light, dark and paper.
//!
//! **Invariant:** every value that is drawn is also written beside its mark.

use std::fmt::Write as _;

use super::{Curve, MemoryPeaks, PAKT, Point, Row, megabytes};

const WIDTH: f64 = 760.0;
/// Names stand left of the bars.
const LABELS: f64 = 270.0;
/// Values stand right of the longest bar.
const VALUES: f64 = 90.0;
const BAR: f64 = 18.0;
const PITCH: f64 = 28.0;

/// Text as it may stand in a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Seconds with as many digits as are worth reading.
pub(super) fn seconds_text(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

/// One bar for each row that ran: its median, with the range of its runs.
pub(super) fn bars(rows: &[Row]) -> String {
    let drawn: Vec<(&Row, f64)> = rows.iter().filter_map(|row| Some((row, row.at_least_seconds()?))).collect();
    let longest = |row: &Row, value: f64| row.seconds.iter().copied().fold(value, f64::max);
    let most = drawn.iter().map(|(row, value)| longest(row, *value)).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let height = PITCH * drawn.len() as f64 + 4.0;
    let x = |seconds: f64| LABELS + seconds / most * (WIDTH - LABELS - VALUES);
    let mut svg = open(height, "Seconds, shorter is better");
    for (index, (row, value)) in drawn.iter().enumerate() {
        let top = index as f64 * PITCH + 4.0;
        let middle = top + BAR / 2.0;
        let class = match row.gave_up_after {
            Some(_) => "bar given-up",
            None if row.name.starts_with(PAKT) => "bar pakt",
            None if row.name.starts_with("iperf3") => "bar bare",
            None => "bar",
        };
        push(
            &mut svg,
            format_args!(
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LABELS - 10.0,
                middle + 4.0,
                escaped(&row.name)
            ),
        );
        let width = (x(*value) - LABELS).max(1.0);
        push(
            &mut svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
            ),
        );
        let (least, longest) = (row.seconds.iter().copied().fold(*value, f64::min), longest(row, *value));
        if row.seconds.len() > 1 {
            let (from, to) = (x(least), x(longest));
            push(
                &mut svg,
                format_args!(
                    "<path class=\"range\" d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {0:.1}v8M{to:.1} {0:.1}v8\"/>",
                    middle - 4.0
                ),
            );
        }
        let said = match row.gave_up_after {
            Some(_) => format!("&gt; {}", seconds_text(*value)),
            None => seconds_text(*value),
        };
        push(
            &mut svg,
            format_args!("<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{said}</text>", x(longest) + 8.0, middle + 4.0),
        );
    }
    svg + "</svg>"
}

/// A line of a chart: what it is called, its class, its points.
struct Series<'a> {
    name: &'a str,
    class: &'a str,
    points: Vec<(f64, f64)>,
}

/// Seconds against what grows, both logarithmic.
pub(super) fn time_curve(curve: &Curve) -> String {
    let points = curve.points.iter().map(|point| (point.at as f64, point.seconds)).collect();
    let series = [Series { name: "seconds", class: "pakt", points }];
    chart(&series, &curve.along, "seconds", &seconds_text)
}

/// Memory of both sides against what grows, both logarithmic; none where it was not measured.
pub(super) fn memory_curve(curve: &Curve) -> Option<String> {
    let of = |kib: fn(&MemoryPeaks) -> u64| {
        let megabytes_at =
            |point: &Point| point.memory.as_ref().map(|memory| (point.at as f64, megabytes(kib(memory) * 1024)));
        curve.points.iter().filter_map(megabytes_at).collect::<Vec<_>>()
    };
    let sender = Series { name: "sender", class: "pakt", points: of(|memory| memory.sender_kib) };
    let receiver = Series { name: "receiver", class: "other", points: of(|memory| memory.receiver_kib) };
    let is_known = !sender.points.is_empty();
    is_known.then(|| chart(&[sender, receiver], &curve.along, "VmHWM, MB", &|value| format!("{value:.0} MB")))
}

/// The plot area of a chart.
struct Area {
    x: (f64, f64),
    y: (f64, f64),
}

impl Area {
    const LEFT: f64 = 62.0;
    const RIGHT: f64 = WIDTH - 110.0;
    const TOP: f64 = 22.0;
    const BOTTOM: f64 = 236.0;

    /// Whole decades around all points; at least one.
    fn around(series: &[Series<'_>]) -> Option<Self> {
        let all = || series.iter().flat_map(|series| &series.points);
        let decades = |values: Vec<f64>| {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min).max(1e-9).log10().floor();
            let most = values.iter().copied().fold(0.0, f64::max).max(1e-9).log10().ceil();
            (least, most.max(least + 1.0))
        };
        all().next()?;
        Some(Self {
            x: decades(all().map(|point| point.0).collect()),
            y: decades(all().map(|point| point.1).collect()),
        })
    }

    fn across(&self, value: f64) -> f64 {
        Self::LEFT + (value.log10() - self.x.0) / (self.x.1 - self.x.0) * (Self::RIGHT - Self::LEFT)
    }

    fn up(&self, value: f64) -> f64 {
        Self::BOTTOM - (value.max(1e-9).log10() - self.y.0) / (self.y.1 - self.y.0) * (Self::BOTTOM - Self::TOP)
    }
}

fn chart(series: &[Series<'_>], along: &str, upwards: &str, said: &dyn Fn(f64) -> String) -> String {
    let Some(area) = Area::around(series) else { return String::new() };
    let mut svg = open(Area::BOTTOM + 44.0, &format!("{upwards} against {along}"));
    push_axes(&mut svg, &area, along, upwards);
    for (index, series) in series.iter().enumerate() {
        let at: Vec<(f64, f64)> = series.points.iter().map(|(x, y)| (area.across(*x), area.up(*y))).collect();
        let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        push(&mut svg, format_args!("<path class=\"curve {}\" d=\"M{}\"/>", series.class, path.join("L")));
        // Two series may lie close to each other: the first is labelled above its points, the second below.
        let beside = if index == 0 { -9.0 } else { 17.0 };
        for ((x, y), (_, value)) in at.iter().zip(&series.points) {
            push(
                &mut svg,
                format_args!("<circle class=\"dot {}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>", series.class),
            );
            let (y, said) = (y + beside, said(*value));
            push(&mut svg, format_args!("<text class=\"point\" x=\"{x:.1}\" y=\"{y:.1}\">{said}</text>"));
        }
        if let Some((x, y)) = at.last() {
            let (x, y, name) = (x + 34.0, y + beside, series.name);
            push(
                &mut svg,
                format_args!("<text class=\"name {}\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>", series.class),
            );
        }
    }
    svg + "</svg>"
}

fn push_axes(svg: &mut String, area: &Area, along: &str, upwards: &str) {
    let (left, right, top, bottom) = (Area::LEFT, Area::RIGHT, Area::TOP, Area::BOTTOM);
    for decade in area.x.0 as i32..=area.x.1 as i32 {
        let x = area.across(10f64.powi(decade));
        push(svg, format_args!("<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>"));
        let (y, said) = (bottom + 18.0, decade_text(decade));
        push(svg, format_args!("<text class=\"tick across\" x=\"{x:.1}\" y=\"{y}\">{said}</text>"));
    }
    for decade in area.y.0 as i32..=area.y.1 as i32 {
        let y = area.up(10f64.powi(decade));
        push(svg, format_args!("<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>"));
        let (x, y, said) = (left - 8.0, y + 4.0, decade_text(decade));
        push(svg, format_args!("<text class=\"tick\" x=\"{x}\" y=\"{y:.1}\">{said}</text>"));
    }
    let (x, y) = ((left + right) / 2.0, bottom + 38.0);
    push(svg, format_args!("<text class=\"tick across\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(along)));
    push(svg, format_args!("<text class=\"axis\" x=\"{left}\" y=\"12\">{}</text>", escaped(upwards)));
}

/// A number with its digits in groups of three.
pub(super) fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|three| str::from_utf8(three).ok()).collect();
    grouped.join(",")
}

/// A power of ten as people write it: 0.01, 1, 100, 10 k, 1 M, 1 G.
fn decade_text(decade: i32) -> String {
    match decade {
        ..0 => format!("{:.*}", decade.unsigned_abs() as usize, 10f64.powi(decade)),
        0..3 => format!("{}", 10f64.powi(decade)),
        3..6 => format!("{} k", 10f64.powi(decade - 3)),
        6..9 => format!("{} M", 10f64.powi(decade - 6)),
        _ => format!("{} G", 10f64.powi(decade - 9)),
    }
}

fn open(height: f64, description: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escaped(description))
}

fn push(svg: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = svg.write_fmt(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decades_as_people_write_them() {
        let check = |decade: i32, expected: &str| assert_eq!(decade_text(decade), expected);
        check(-2, "0.01");
        check(0, "1");
        check(2, "100");
        check(4, "10 k");
        check(6, "1 M");
        check(10, "10 G");
    }

    #[test]
    fn digits_are_grouped() {
        let check = |count: u64, expected: &str| assert_eq!(count_text(count), expected);
        check(7, "7");
        check(1000, "1,000");
        check(20_000_000_000, "20,000,000,000");
    }

    #[test]
    fn charts_hold_what_they_show() {
        let series = [Series { name: "one", class: "pakt", points: vec![(1.0, 0.5), (1000.0, 20.0)] }];
        let area = Area::around(&series).unwrap();
        assert_eq!((area.x, area.y), ((0.0, 3.0), (-1.0, 2.0)));
        assert_eq!((area.across(1.0), area.across(1000.0)), (Area::LEFT, Area::RIGHT));
        assert!(area.up(20.0) > Area::TOP && area.up(0.5) < Area::BOTTOM);
        assert!(Area::around(&[]).is_none());
    }
}
