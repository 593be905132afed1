//! The report as text for a terminal.

use super::{CaseReport, Curve, Report, Row, Target, megabytes};

/// The whole report.
pub(super) fn text(report: &Report) -> String {
    let mut lines = vec![String::new(), report.at.clone(), report.machine.line()];
    if report.quick {
        lines.push("QUICK RUN: shows that it works, and measures nothing".into());
    }
    for case in &report.cases {
        push_case(&mut lines, case);
    }
    for curve in &report.curves {
        push_curve(&mut lines, curve);
    }
    lines.push(String::new());
    lines.extend(report.versions().into_iter().map(String::from));
    lines.join("\n") + "\n"
}

fn push_case(lines: &mut Vec<String>, case: &CaseReport) {
    lines.push(String::new());
    lines.push(format!("== {} ({})", case.title, case.case));
    lines.push(format!(
        "{}, {}; {}, {} files, {:.1} MB",
        case.line.as_deref().unwrap_or("loopback"),
        case.congestion_control,
        case.input,
        case.size.files,
        megabytes(case.size.bytes)
    ));
    lines.push(format!(
        "{:<40} {:>9} {:>9} {:>9} {:>12} {:>12} {:>10} {:>20}",
        "", "median s", "min s", "max s", "on wire MB", "on line MB", "line CPU", "VmHWM MB (from, to)"
    ));
    lines.extend(case.rows.iter().map(row_text));
    lines.extend(case.notes.iter().cloned());
    lines.extend(case.targets.iter().map(target_text));
}

fn push_curve(lines: &mut Vec<String>, curve: &Curve) {
    lines.push(String::new());
    lines.push(format!("== {} ({})", curve.title, curve.name));
    lines.push(format!("{:>15} {:>9} {:>9} {:>20}", curve.along, "s", "MB/s", "VmHWM MB (from, to)"));
    lines.extend(curve.points.iter().map(|point| {
        let rate = match point.bytes {
            0 => "-".into(),
            bytes => format!("{:.1}", megabytes(bytes) / point.seconds),
        };
        let memory = point.memory.map_or("-".into(), super::memory_text);
        format!("{:>15} {:>9} {rate:>9} {memory:>20}", point.at, seconds_text(point.seconds))
    }));
    lines.extend(curve.notes.iter().cloned());
}

/// Microseconds are not lost in it.
fn seconds_text(seconds: f64) -> String {
    if seconds < 0.01 { format!("{seconds:.7}") } else { format!("{seconds:.3}") }
}

fn row_text(row: &Row) -> String {
    if row.absent {
        return row.name.clone();
    }
    let seconds = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    let least = row.seconds.iter().copied().min_by(f64::total_cmp);
    let most = row.seconds.iter().copied().max_by(f64::total_cmp);
    let median = row.gave_up_after.map_or_else(|| seconds(row.median()), |after| format!("> {after:.0}"));
    let wire = |bytes: Option<u64>| bytes.map_or("-".into(), |bytes| format!("{:.1}", megabytes(bytes)));
    format!(
        "{:<40} {:>9} {:>9} {:>9} {:>12} {:>12} {:>10} {:>20}",
        row.name,
        median,
        seconds(least),
        seconds(most),
        wire(row.bytes_on_wire),
        wire(row.crossed.map(|crossed| crossed.bytes)),
        row.emulation_share.map_or("-".into(), |share| format!("{:.1} %", share * 100.0)),
        row.memory.map_or("-".into(), super::memory_text),
    )
}

fn target_text(target: &Target) -> String {
    let verdict = if target.reached { "reached" } else { "NOT reached" };
    let bound = match (target.at_most, target.at_least) {
        (Some(limit), _) => format!("at most {limit}"),
        (None, Some(limit)) => format!("at least {limit}"),
        (None, None) => "no bound".into(),
    };
    format!("-> {}: {:.3} ({bound}): {verdict}", target.what, target.measured)
}
