//! The report as one page that needs nothing else: style and plots are inside.

use super::plot::{self, seconds_text};
use super::{CaseReport, Curve, Report, Row, Target, megabytes};
use crate::report::page::whole;
use crate::report::svg::{count_text, escaped};

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut body = head(report);
    if report.cases.iter().any(|case| !case.targets.is_empty()) {
        body += &targets(report);
    }
    for case in &report.cases {
        body += &section(case);
    }
    for curve in &report.curves {
        body += &growth(curve);
    }
    let versions = report.versions().into_iter().map(escaped).collect::<Vec<_>>().join("<br>");
    body += &format!("<section><h2>Programs</h2><footer>{versions}</footer></section>");
    whole(&format!("Pakt bench, {}", report.at), &body)
}

fn head(report: &Report) -> String {
    let quick = match report.quick {
        true => "<p class=\"quick\">A quick run: it shows that the bench works, and measures nothing.</p>",
        false => "",
    };
    format!(
        "<header><h1>Pakt beside the tools of today</h1><p>{}</p><p class=\"quiet\">{}</p>{quick}\
         <p class=\"quiet\">Both ends run on this one machine. Runs of all tools are interleaved; bars are medians, whiskers the \
         lowest and highest run. The clock runs from the command to its end, for Pakt to the durable, signed receipt. Rates are \
         for IP packets in each direction, delays are round trips, losses meet both directions.</p></header>",
        escaped(&report.at),
        escaped(&report.machine.line()),
    )
}

/// Every promise with what was found.
fn targets(report: &Report) -> String {
    let rows = report.cases.iter().flat_map(|case| case.targets.iter().map(move |target| (case, target)));
    let rows: String = rows
        .map(|(case, target)| {
            format!(
                "<tr><td>{}<br><span class=\"quiet\">{}</span></td>{}</tr>",
                escaped(&target.what),
                escaped(&case.title),
                verdict(target)
            )
        })
        .collect();
    format!(
        "<section><h2>Targets</h2><div class=\"wide\"><table><tr><th></th><th>target</th><th>measured</th><th></th></tr>{rows}\
         </table></div></section>"
    )
}

fn verdict(target: &Target) -> String {
    let bound = match (target.at_most, target.at_least) {
        (Some(limit), _) => format!("≤ {}", figure(limit)),
        (None, Some(limit)) => format!("≥ {}", figure(limit)),
        (None, None) => String::new(),
    };
    let (class, word) = if target.reached { ("reached", "reached") } else { ("missed", "not reached") };
    format!("<td>{bound}</td><td>{}</td><td class=\"{class}\">{word}</td>", figure(target.measured))
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value {
        v if !v.is_finite() => "none".into(),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 || v == 0.0 => format!("{v:.2}"),
        v if v >= 0.001 => format!("{v:.4}"),
        v => format!("{:.1} µs", v * 1e6),
    }
}

fn section(case: &CaseReport) -> String {
    let between = case.line.as_deref().unwrap_or("loopback");
    let rows: String = case.rows.iter().map(table_row).collect();
    let notes: String = case.notes.iter().map(|note| format!("<p class=\"note\">{}</p>", escaped(note))).collect();
    let targets: String = case
        .targets
        .iter()
        .map(|target| format!("<tr><td>{}</td>{}</tr>", escaped(&target.what), verdict(target)))
        .collect();
    let targets = match targets.is_empty() {
        true => String::new(),
        false => format!("<table><tr><th>ratio</th><th>target</th><th>measured</th><th></th></tr>{targets}</table>"),
    };
    format!(
        "<section><h2>{title}</h2><p class=\"quiet\">{between}, {cc}. {input}: {files} files, {bytes:.1} MB. \
         Took {spent:.0} s.</p>{plot}<div class=\"wide\"><table><tr><th></th><th>median</th><th>lowest</th><th>highest</th>\
         <th>MB on the wire</th><th>MB on the line</th><th>VmHWM MB</th></tr>{rows}</table></div>{notes}{targets}</section>",
        title = escaped(&case.title),
        between = escaped(between),
        cc = escaped(&case.congestion_control),
        input = escaped(&case.input),
        files = case.size.files,
        bytes = megabytes(case.size.bytes),
        spent = case.spent_seconds,
        plot = plot::bars(&case.rows),
    )
}

fn table_row(row: &Row) -> String {
    if row.absent {
        return format!(
            "<tr><td class=\"quiet\">{}</td><td></td><td></td><td></td><td></td><td></td><td></td></tr>",
            escaped(&row.name)
        );
    }
    let optional = |value: Option<String>| value.unwrap_or_default();
    let median = match row.gave_up_after {
        Some(after) => format!("&gt; {}", seconds_text(after)),
        None => optional(row.median().map(seconds_text)),
    };
    let least = row.seconds.iter().copied().min_by(f64::total_cmp).map(seconds_text);
    let most = row.seconds.iter().copied().max_by(f64::total_cmp).map(seconds_text);
    format!(
        "<tr><td>{}</td><td>{median}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        escaped(&row.name),
        optional(least),
        optional(most),
        optional(row.bytes_on_wire.map(|bytes| format!("{:.1}", megabytes(bytes)))),
        optional(row.crossed.map(|crossed| format!("{:.1}", megabytes(crossed.bytes)))),
        optional(row.memory.map(super::memory_text)),
    )
}

fn growth(curve: &Curve) -> String {
    let rows: String = curve
        .points
        .iter()
        .map(|point| {
            let rate = match point.bytes {
                0 => String::new(),
                bytes => format!("{:.1}", megabytes(bytes) / point.seconds),
            };
            format!(
                "<tr><td>{}</td><td>{}</td><td>{rate}</td><td>{}</td></tr>",
                count_text(point.at),
                seconds_text(point.seconds),
                point.memory.map(super::memory_text).unwrap_or_default()
            )
        })
        .collect();
    let notes: String = curve.notes.iter().map(|note| format!("<p class=\"note\">{}</p>", escaped(note))).collect();
    format!(
        "<section><h2>{}</h2><p class=\"quiet\">Growth, over loopback; both axes logarithmic.</p>{}{}<div class=\"wide\">\
         <table><tr><th>{}</th><th>time</th><th>MB/s</th><th>VmHWM MB (sender, receiver)</th></tr>{rows}</table></div>{notes}\
         </section>",
        escaped(&curve.title),
        plot::time_curve(curve),
        plot::memory_curve(curve).unwrap_or_default(),
        escaped(&curve.along),
    )
}
