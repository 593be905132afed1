//! What became of the envelopes, which faults there were, and the same for a terminal.

use super::{speed, word};
use crate::outcome::{Counts, Outcome};
use crate::report::svg::{bytes_text, count_text, duration_text, escaped, figure, moment_text};
use crate::scenario::text::PriorityName;
use crate::scenario::{Fault, FaultKind, Priority};

/// More rows than anybody reads.
const FAULT_ROWS_MAX: usize = 200;

/// Every envelope in its final state: name, class, how many.
fn final_states(counts: &Counts) -> [(&'static str, &'static str, u64); 6] {
    let settled = counts.delivered + counts.refused + counts.expired + counts.recalled + counts.unconfirmed;
    [
        ("delivered", "delivered", counts.delivered),
        ("recalled", "recalled", counts.recalled),
        ("refused", "refused", counts.refused),
        ("expired", "expired", counts.expired),
        ("not confirmed", "unconfirmed", counts.unconfirmed),
        ("open", "open", counts.submitted.saturating_sub(settled)),
    ]
}

/// A bar and a table.
pub(super) fn envelopes(outcome: &Outcome) -> String {
    let counts = &outcome.messages;
    let all = counts.submitted.max(1) as f64;
    let shares = final_states(counts).map(|(name, class, count)| (name, class, count, count as f64 / all * 100.0));
    let bar: String = shares
        .iter()
        .filter(|(_, _, count, _)| *count > 0)
        .map(|(name, class, count, share)| {
            format!("<i class=\"{class}\" style=\"flex-grow:{share:.4}\" title=\"{name}: {}\"></i>", count_text(*count))
        })
        .collect();
    let rows: String = shares
        .iter()
        .map(|(name, class, count, share)| {
            format!(
                "<tr><td><i class=\"key {class}\"></i>{name}</td><td>{}</td><td>{share:.2} %</td></tr>",
                count_text(*count)
            )
        })
        .collect();
    format!(
        "<section><h2>What became of {} envelopes</h2><p class=\"quiet\">One for each message and recipient; {} of those delivered \
         were released to a mailbox, {} taken by a person or system. {} reports went to sending groups.</p>\
         <div class=\"stack\">{bar}</div><table class=\"narrow\">{rows}</table></section>",
        count_text(counts.submitted),
        count_text(counts.released),
        count_text(counts.taken),
        count_text(counts.reports),
    )
}

/// Which faults there were; nothing where there were none.
pub(super) fn faults(outcome: &Outcome) -> String {
    if outcome.faults.is_empty() {
        return String::new();
    }
    let shown = outcome.faults.iter().take(FAULT_ROWS_MAX);
    let rows: String = shown
        .map(|fault| {
            let length = fault.for_.map_or(String::new(), duration_text);
            let (at, what) = (moment_text(fault.at), escaped(&fault_text(fault)));
            format!("<tr><td>{at}</td><td>{length}</td><td class=\"words\">{what}</td></tr>")
        })
        .collect();
    let more = match outcome.faults.len().saturating_sub(FAULT_ROWS_MAX) {
        0 => String::new(),
        more => format!("<p class=\"quiet\">And {} more.</p>", count_text(more as u64)),
    };
    format!(
        "<section><h2>{} faults</h2><details{}><summary>When and what</summary><div class=\"wide\"><table>\
         <tr><th>when</th><th>for</th><th class=\"words\">what</th></tr>{rows}</table></div>{more}</details></section>",
        outcome.faults.len(),
        if outcome.faults.len() <= 12 { " open" } else { "" },
    )
}

/// A fault in a few words.
pub(in crate::report) fn fault_text(fault: &Fault) -> String {
    let name = fault.what.name();
    let more = match &fault.what {
        FaultKind::Line { loss_percent, delay, reorder_percent, duplicate_percent, .. } => format!(
            ", {loss_percent} % lost, {} later, {reorder_percent} % reordered, {duplicate_percent} % twice",
            duration_text(*delay)
        ),
        FaultKind::Partition { one_way: true, .. } => ", one way".into(),
        FaultKind::Crash { lose_unsynced, torn, at_persist, .. } => {
            let unsynced = if *lose_unsynced { ", unsynced writes lost" } else { "" };
            let torn = if *torn { ", last write torn" } else { "" };
            let persist = at_persist.map_or(String::new(), |persist| format!(", within persist {persist}"));
            format!("{persist}{unsynced}{torn}")
        }
        FaultKind::Restore { backup_age, .. } => format!(", backup {} old", duration_text(*backup_age)),
        FaultKind::ClockStep { seconds, .. } => format!(" by {seconds} s"),
        FaultKind::ClockSkew { ppm, .. } => format!(" by {ppm} ppm"),
        FaultKind::Hostile { kind, .. } => format!(", {kind:?}").to_lowercase(),
        _ => String::new(),
    };
    let place = match (fault.what.node(), fault.what.pair()) {
        (Some(node), _) => format!(" of node {node}"),
        (None, Some((a, b))) => format!(" {a} – {b}"),
        (None, None) => String::new(),
    };
    format!("{name}{place}{more}")
}

/// What else was noticed; nothing where nothing was.
pub(super) fn notes(outcome: &Outcome) -> String {
    if outcome.found.is_empty() {
        return String::new();
    }
    let notes: String = outcome.found.iter().map(|note| format!("<p class=\"note\">{}</p>", escaped(note))).collect();
    format!("<section><h2>Also noticed</h2>{notes}</section>")
}

/// The name of a priority.
pub(in crate::report) fn priority_word(priority: Priority) -> &'static str {
    match PriorityName::from(priority) {
        PriorityName::Urgent => "urgent",
        PriorityName::Normal => "normal",
        PriorityName::Bulk => "bulk",
    }
}

/// One run for a terminal: a few lines of text.
pub fn summary(outcome: &Outcome) -> String {
    let mut lines = vec![
        format!("{}, seed {}: {}", outcome.scenario, outcome.seed, word(outcome.verdict)),
        format!("event hash    {}", outcome.event_hash),
        format!(
            "mesh          {} nodes, {} agreements; {} simulated in {}, {} times real time; {} events; {} per node",
            count_text(outcome.nodes as u64),
            count_text(outcome.links as u64),
            duration_text(outcome.simulated),
            duration_text(outcome.wall),
            figure(speed(outcome)),
            count_text(outcome.events),
            bytes_text(outcome.memory_per_node),
        ),
    ];
    let states = final_states(&outcome.messages);
    let states =
        states.iter().filter(|state| state.2 > 0).map(|(name, _, count)| format!("{} {name}", count_text(*count)));
    let states: Vec<String> = states.collect();
    lines.push(format!(
        "envelopes     {} submitted: {}; {} on the lines",
        count_text(outcome.messages.submitted),
        if states.is_empty() { "nothing".into() } else { states.join(", ") },
        bytes_text(outcome.bytes)
    ));
    for (priority, percentiles) in outcome.latency.iter().filter(|(_, percentiles)| percentiles.count > 0) {
        let [p50, p90, p99, max] =
            [percentiles.p50, percentiles.p90, percentiles.p99, percentiles.max].map(duration_text);
        lines.push(format!("{:<13} median {p50}, 90 % {p90}, 99 % {p99}, most {max}", priority_word(*priority)));
    }
    if let Some(finding) = &outcome.finding {
        lines.push(format!("finding       {} at {}: {}", finding.rule, moment_text(finding.at), finding.what));
    }
    lines.extend(outcome.found.iter().map(|note| format!("noticed       {note}")));
    lines.join("\n") + "\n"
}
