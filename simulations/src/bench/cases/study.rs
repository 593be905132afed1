//! The case `study`: one radiology study over lines of different kinds, against what people use today.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::bench::contest::{Bench, StudyOptions, begin};
use crate::bench::files;
use crate::bench::ground::Ground;
use crate::bench::peers::PeerName;
use crate::bench::report::CaseReport;
use crate::link::Line;

/// Everybody who can take part, Pakt first.
pub const EVERYBODY: [PeerName; 8] = [
    PeerName::Pakt,
    PeerName::Tar,
    PeerName::RsyncZ,
    PeerName::Rsync,
    PeerName::Scp,
    PeerName::Storescu,
    PeerName::Sendme,
    PeerName::Iperf3,
];

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct StudyCase {
    #[command(flatten)]
    study: StudyOptions,
    /// Only these lines
    #[arg(long, value_enum, value_delimiter = ',')]
    lines: Vec<LineName>,
}

/// The lines of the targets: rate in Mbit/s, congestion control where chance takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LineName {
    /// 100 Mbit/s, 20 ms
    #[value(name = "100")]
    Clean100,
    /// 25 Mbit/s, 30 ms, 0.1 % loss, BBR
    #[value(name = "25-bbr")]
    Lossy25Bbr,
    /// 25 Mbit/s, 30 ms, 0.1 % loss, CUBIC
    #[value(name = "25-cubic")]
    Lossy25Cubic,
    /// 20 Mbit/s, 100 ms, 1 % loss, BBR
    #[value(name = "20-bbr")]
    Lossy20Bbr,
    /// 20 Mbit/s, 100 ms, 1 % loss, CUBIC
    #[value(name = "20-cubic")]
    Lossy20Cubic,
    /// 300 Mbit/s, 5 ms
    #[value(name = "300")]
    Clean300,
}

/// A line, the congestion control if it is not the usual one, and what was promised on it.
struct Row {
    line: Line,
    congestion_control: Option<&'static str>,
    best_peer_at_most: f64,
    store_at_most: Option<f64>,
}

impl LineName {
    fn row(self) -> Row {
        let clean = |megabits, round_trip_ms, best_peer_at_most, store_at_most| Row {
            line: Line::new(megabits, round_trip_ms),
            congestion_control: None,
            best_peer_at_most,
            store_at_most,
        };
        let lossy = |megabits, round_trip_ms, loss, congestion_control, best_peer_at_most| Row {
            line: Line::new(megabits, round_trip_ms).with_loss(loss),
            congestion_control: Some(congestion_control),
            best_peer_at_most,
            store_at_most: None,
        };
        match self {
            Self::Clean100 => clean(100.0, 20.0, 0.78, Some(0.2)),
            Self::Lossy25Bbr => lossy(25.0, 30.0, 0.001, "bbr", 0.80),
            Self::Lossy25Cubic => lossy(25.0, 30.0, 0.001, "cubic", 0.80),
            Self::Lossy20Bbr => lossy(20.0, 100.0, 0.01, "bbr", 0.80),
            Self::Lossy20Cubic => lossy(20.0, 100.0, 0.01, "cubic", 0.33),
            Self::Clean300 => clean(300.0, 5.0, 0.60, None),
        }
    }
}

/// Runs the case on each line.
///
/// # Errors
/// If a peer fails, or this program may not emulate lines.
pub fn run(bench: &Bench, options: &StudyCase) -> Result<Vec<CaseReport>> {
    let all = LineName::value_variants();
    let chosen = all.iter().filter(|line| options.lines.is_empty() || options.lines.contains(line));
    chosen.map(|line| run_line(bench, options, *line)).collect()
}

fn run_line(bench: &Bench, options: &StudyCase, name: LineName) -> Result<CaseReport> {
    let row = name.row();
    let usual = bench.congestion_control()?;
    let congestion_control = row.congestion_control.unwrap_or(&usual);
    let title = format!("A study over {}, {congestion_control}", row.line);
    let start = begin(&title);
    let study = bench.study(&options.study)?;
    let ground = Ground::over(row.line, congestion_control, bench.options.seed)?;
    let value = name.to_possible_value();
    let case = format!("study {}", value.as_ref().map_or("", |value| value.get_name()));
    let mut report = CaseReport::new(&case, &title, &ground, "a synthetic MR study", files::size_of(&study)?);
    report.rows = bench.contest(&ground, &study, &EVERYBODY)?;
    report.promise_ratio(report.best_peer().cloned().as_ref(), row.best_peer_at_most);
    if let Some(limit) = row.store_at_most {
        report.promise_ratio(report.row("DICOM").cloned().as_ref(), limit);
    }
    if row.congestion_control.is_some() {
        report.notes.push("Pakt asks for BBR on its own connections, whatever the system's default is.".into());
    }
    report.spent_seconds = start.elapsed().as_secs_f64();
    Ok(report)
}
