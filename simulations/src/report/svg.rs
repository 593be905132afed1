//! What every plot is made of: a drawing, text that may stand in it, and numbers as people write them.
//!
//! Colours come from the page's style sheet by class, so that one plot serves light, dark and paper.
//!
//! **Invariant:** text that comes from outside goes through [`escaped`].

use std::fmt::Write as _;
use std::time::Duration;

/// Of every plot, in its own units; the page scales it.
pub(crate) const WIDTH: f64 = 760.0;

/// Text as it may stand in a page.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The beginning of a drawing; its end is `</svg>`.
pub(crate) fn open(height: f64, description: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escaped(description))
}

/// Adds a part to a drawing.
pub(crate) fn push(svg: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = svg.write_fmt(part);
}

/// A number with its digits in groups of three.
pub(crate) fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|three| str::from_utf8(three).ok()).collect();
    grouped.join(",")
}

/// A power of ten as people write it: 0.01, 1, 100, 10 k, 1 M, 1 G.
pub(crate) fn decade_text(decade: i32) -> String {
    match decade {
        ..0 => format!("{:.*}", decade.unsigned_abs() as usize, 10f64.powi(decade)),
        0..3 => format!("{}", 10f64.powi(decade)),
        3..6 => format!("{} k", 10f64.powi(decade - 3)),
        6..9 => format!("{} M", 10f64.powi(decade - 6)),
        _ => format!("{} G", 10f64.powi(decade - 9)),
    }
}

/// Three digits that count, without a unit.
pub(crate) fn figure(value: f64) -> String {
    match value {
        v if !v.is_finite() => "none".into(),
        v if v >= 1000.0 => count_text(v.round() as u64),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.01 || v == 0.0 => format!("{v:.2}"),
        v => format!("{v:.1e}"),
    }
}

/// A time as people say it: 12 µs, 340 ms, 12.3 s, 15 min, 3 h 20 min, 2 d 4 h.
pub(crate) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    // What is left of a larger unit, where it is not none.
    let two = |large: f64, large_name: &str, small: f64, small_name: &str| {
        let whole = (seconds / large).floor();
        let rest = ((seconds - whole * large) / small).floor();
        if rest > 0.0 { format!("{whole} {large_name} {rest} {small_name}") } else { format!("{whole} {large_name}") }
    };
    match seconds {
        0.0 => "0 s".into(),
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3_600.0 => two(60.0, "min", 1.0, "s"),
        s if s < 86_400.0 => two(3_600.0, "h", 60.0, "min"),
        _ => two(86_400.0, "d", 3_600.0, "h"),
    }
}

/// Bytes as people say it: 12 kB, 1.5 MB, 4.5 TB.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match UNITS.iter().find(|(_, unit)| bytes as f64 >= *unit) {
        Some((name, unit)) if bytes as f64 / unit >= 100.0 => format!("{:.0} {name}", bytes as f64 / unit),
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} B"),
    }
}

/// A moment of a run, which began on a Monday, 00:00: `Tue 14:05:30`, and the week from the second one on.
pub(crate) fn moment_text(at: Duration) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let seconds = at.as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let week = if days >= 7 { format!("week {}, ", days / 7 + 1) } else { String::new() };
    let clock = format!("{:02}:{:02}:{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{week}{} {clock}", DAYS[(days % 7) as usize])
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
    fn times_as_people_say_them() {
        let check = |seconds: f64, expected: &str| {
            assert_eq!(duration_text(Duration::from_secs_f64(seconds)), expected);
        };
        check(0.0, "0 s");
        check(0.000_012, "12 µs");
        check(0.34, "340 ms");
        check(9.5, "9.50 s");
        check(900.0, "15 min");
        check(12_000.0, "3 h 20 min");
        check(187_200.0, "2 d 4 h");
    }

    #[test]
    fn bytes_as_people_say_them() {
        let check = |bytes: u64, expected: &str| assert_eq!(bytes_text(bytes), expected);
        check(999, "999 B");
        check(12_000, "12.0 kB");
        check(1_500_000, "1.5 MB");
        check(150_000_000, "150 MB");
        check(4_500_000_000_000, "4.5 TB");
    }

    #[test]
    fn moments_of_a_week() {
        let check = |seconds: u64, expected: &str| {
            assert_eq!(moment_text(Duration::from_secs(seconds)), expected);
        };
        check(0, "Mon 00:00:00");
        check(86_400 + 14 * 3600 + 330, "Tue 14:05:30");
        check(9 * 86_400, "week 2, Wed 00:00:00");
    }
}
