//! The plots of the benches: bars with their range, and curves on logarithmic axes.
//!
//! **Invariant:** every value that is drawn is also written beside its mark.

use super::{Curve, MemoryPeaks, PAKT, Point, Row, megabytes};
use crate::report::loglog::{Series, chart};
use crate::report::svg::{WIDTH, escaped, open, push};

/// Names stand left of the bars.
const LABELS: f64 = 270.0;
/// Values stand right of the longest bar.
const VALUES: f64 = 90.0;
const BAR: f64 = 18.0;
const PITCH: f64 = 28.0;

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

/// Seconds against what grows, both logarithmic.
pub(super) fn time_curve(curve: &Curve) -> String {
    let points = curve.points.iter().map(|point| (point.at as f64, point.seconds)).collect();
    let series = [Series { name: "seconds".into(), class: "pakt", points }];
    chart(&series, &curve.along, "seconds", &seconds_text)
}

/// Memory of both sides against what grows, both logarithmic; none where it was not measured.
pub(super) fn memory_curve(curve: &Curve) -> Option<String> {
    let of = |kib: fn(&MemoryPeaks) -> Option<u64>| {
        let megabytes_at = |point: &Point| Some((point.at as f64, megabytes(kib(&point.memory?)? * 1024)));
        curve.points.iter().filter_map(megabytes_at).collect::<Vec<_>>()
    };
    let (sender, receiver) = (of(|memory| Some(memory.sender_kib)), of(|memory| memory.receiver_kib));
    let series = match (sender.is_empty(), receiver.is_empty()) {
        (true, _) => return None,
        (false, true) => vec![Series { name: "memory".into(), class: "pakt", points: sender }],
        (false, false) => vec![
            Series { name: "sender".into(), class: "pakt", points: sender },
            Series { name: "receiver".into(), class: "other", points: receiver },
        ],
    };
    Some(chart(&series, &curve.along, "the most memory, MB", &|value| format!("{value:.0} MB")))
}
