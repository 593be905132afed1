//! How the bytes spread over the links.

use crate::outcome::{LinkUse, Outcome};
use crate::report::svg::{WIDTH, bytes_text, count_text, open, push};

/// Up to so many links have a bar each.
const EACH_MAX: usize = 15;
const LABELS: f64 = 110.0;
const VALUES: f64 = 190.0;

/// The plot with what it says in words.
pub(super) fn section(outcome: &Outcome) -> String {
    if outcome.link_bytes.is_empty() {
        return String::new();
    }
    let mut sorted = outcome.link_bytes.clone();
    sorted.sort_by(|one, other| other.bytes.cmp(&one.bytes).then((one.a, one.b).cmp(&(other.a, other.b))));
    let plot = if sorted.len() <= EACH_MAX { each(&sorted) } else { histogram(&sorted) };
    format!("<section><h2>Bytes per link</h2><p class=\"quiet\">{}</p>{plot}</section>", in_words(&sorted))
}

fn in_words(sorted: &[LinkUse]) -> String {
    let all: u64 = sorted.iter().map(|link| link.bytes).sum();
    let [first, ..] = sorted else { return String::new() };
    let median = sorted[sorted.len() / 2].bytes;
    let busiest = format!(
        "The busiest, {} – {}, carried {}; the median is {}.",
        first.a,
        first.b,
        bytes_text(first.bytes),
        bytes_text(median)
    );
    if sorted.len() <= EACH_MAX || all == 0 {
        return busiest;
    }
    let tenth: u64 = sorted[..sorted.len().div_ceil(10)].iter().map(|link| link.bytes).sum();
    format!("{busiest} A tenth of the links carried {:.0} % of all bytes.", tenth as f64 / all as f64 * 100.0)
}

fn each(sorted: &[LinkUse]) -> String {
    const PITCH: f64 = 26.0;
    let most = sorted[0].bytes.max(1) as f64;
    let mut svg = open(PITCH * sorted.len() as f64 + 4.0, "Bytes of each link");
    for (index, link) in sorted.iter().enumerate() {
        let y = index as f64 * PITCH + 4.0;
        let width = (link.bytes as f64 / most * (WIDTH - LABELS - VALUES)).max(1.0);
        push(
            &mut svg,
            format_args!(
                "<text class=\"label\" x=\"{}\" y=\"{}\">{} – {}</text>",
                LABELS - 10.0,
                y + 13.0,
                link.a,
                link.b
            ),
        );
        push(
            &mut svg,
            format_args!(
                "<rect class=\"bar pakt\" x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"17\" rx=\"2\"/>"
            ),
        );
        let (bytes, messages) = (bytes_text(link.bytes), count_text(link.messages));
        push(
            &mut svg,
            format_args!(
                "<text class=\"value\" x=\"{:.1}\" y=\"{}\">{bytes} <tspan class=\"tick\" text-anchor=\"start\">{messages} delivered</tspan></text>",
                LABELS + width + 8.0,
                y + 13.0
            ),
        );
    }
    svg + "</svg>"
}

/// Which column of the histogram: 0 for nothing, then 1, 2, 5, 10 ... bytes and more.
fn column(bytes: u64) -> usize {
    (0..).take_while(|index| border(*index) <= bytes as f64).count()
}

/// Where a column begins.
fn border(index: usize) -> f64 {
    [1.0, 2.0, 5.0][index % 3] * 10f64.powi((index / 3) as i32)
}

const HEIGHT: f64 = 150.0;
const LEFT: f64 = 40.0;

fn histogram(sorted: &[LinkUse]) -> String {
    let (least, most) = (sorted[sorted.len() - 1].bytes, sorted[0].bytes);
    // Links that carried nothing stand alone at the left; between them and the others are no empty columns.
    let least_used = sorted.iter().rev().find(|link| link.bytes > 0).map_or(0, |link| column(link.bytes));
    let idle = (least == 0).then_some(0);
    let columns: Vec<usize> = idle.into_iter().chain(least_used.max(1)..=column(most)).collect();
    let count = |index: usize| sorted.iter().filter(|link| column(link.bytes) == index).count();
    let highest = columns.iter().map(|index| count(*index)).max().unwrap_or(1).max(1) as f64;
    let pitch = ((WIDTH - LEFT - 10.0) / columns.len() as f64).min(90.0);
    let mut svg = open(HEIGHT + 62.0, "How many links carried how many bytes");
    for (place, index) in columns.iter().enumerate() {
        let x = LEFT + place as f64 * pitch;
        push_column(&mut svg, (x, pitch - 2.0), count(*index), highest);
        push_mark(&mut svg, (x, pitch), *index);
    }
    let (floor, right) = (HEIGHT + 20.0, LEFT + columns.len() as f64 * pitch);
    push(&mut svg, format_args!("<path class=\"range\" d=\"M{LEFT} {floor}H{right:.1}\"/>"));
    let said = "how many links carried from as many bytes as the mark says up to the next one";
    push(&mut svg, format_args!("<text class=\"axis\" x=\"{LEFT}\" y=\"{}\">{said}</text>", HEIGHT + 58.0));
    svg + "</svg>"
}

fn push_column(svg: &mut String, (x, width): (f64, f64), count: usize, highest: f64) {
    let height = count as f64 / highest * HEIGHT;
    let (y, middle) = (20.0 + HEIGHT - height, x + width / 2.0);
    let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
    push(svg, format_args!("<rect class=\"bar pakt\" {place}/>"));
    if count > 0 {
        let (y, count) = (y - 5.0, count_text(count as u64));
        push(svg, format_args!("<text class=\"point\" x=\"{middle:.1}\" y=\"{y:.1}\">{count}</text>"));
    }
}

/// Where a column begins; where they are narrow, only powers of ten are written.
fn push_mark(svg: &mut String, (x, pitch): (f64, f64), index: usize) {
    let (name, x) = match index {
        0 => ("none".into(), x + pitch / 2.0),
        _ if pitch < 44.0 && !(index - 1).is_multiple_of(3) => return,
        _ => (round_bytes(border(index - 1)), x),
    };
    push(svg, format_args!("<text class=\"tick across\" x=\"{x:.1}\" y=\"{}\">{name}</text>", HEIGHT + 36.0));
}

/// 1, 2 or 5 of something, without a fraction.
fn round_bytes(bytes: f64) -> String {
    let text = bytes_text(bytes as u64);
    text.replace(".0 ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_begin_at_one_two_and_five() {
        let check = |bytes: u64, expected: usize| assert_eq!(column(bytes), expected, "{bytes}");
        check(0, 0);
        check(1, 1);
        check(2, 2);
        check(4, 2);
        check(5, 3);
        check(10, 4);
        check(99, 6);
        check(1_000_000, 19);
    }
}
