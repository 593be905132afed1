//! What a bench has found: medians, ratios, memory, and whether a target was reached; as a table, as JSON and as a page.
//!
//! **Invariant:** a report names the machine, the versions and the time; a figure without them says nothing.

mod html;
mod machine;
mod plot;
mod table;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::files::Size;
use super::ground::{Crossed, Ground};
use super::peers::{Measured, MemoryPeaks};
pub use machine::Machine;

/// The first word of Pakt's rows.
pub const PAKT: &str = "pakt";
/// The first word of the row that says what the line carries.
const BARE_LINE: &str = "iperf3";

/// All runs of one peer in one case.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What ran.
    pub name: String,
    /// Program and version.
    pub version: String,
    /// Each run.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median_seconds: Option<f64>,
    /// It was too slow, and not run again.
    pub gave_up_after: Option<f64>,
    /// It did not take part.
    pub absent: bool,
    /// TCP payload in both directions, as the program counts it; the worst run.
    pub bytes_on_wire: Option<u64>,
    /// What the emulated line has carried; the run with the most bytes.
    pub crossed: Option<Crossed>,
    /// Share of one processor that the emulation took.
    pub emulation_share: Option<f64>,
    /// The most memory of all runs.
    pub memory: Option<MemoryPeaks>,
}

impl Row {
    /// No run yet.
    pub fn new(name: &str, version: &str) -> Self {
        Self { name: name.into(), version: version.into(), ..Self::default() }
    }

    /// A peer that is not installed.
    pub fn absent(missing: &str) -> Self {
        Self { name: missing.into(), absent: true, ..Self::default() }
    }

    /// Adds one run: times are kept all, bytes and memory at their worst.
    pub fn add(&mut self, run: Measured) {
        self.seconds.push(run.seconds);
        self.median_seconds = median(&self.seconds);
        self.bytes_on_wire = self.bytes_on_wire.max(run.bytes_on_wire);
        if let Some(crossed) = run.crossed {
            let share = crossed.emulation_seconds / run.seconds;
            self.emulation_share = Some(self.emulation_share.unwrap_or(0.0).max(share));
            if self.crossed.is_none_or(|most| most.bytes < crossed.bytes) {
                self.crossed = Some(crossed);
            }
        }
        self.memory = match (self.memory, run.memory) {
            (Some(worst), Some(peaks)) => Some(worst.max(peaks)),
            (worst, peaks) => worst.or(peaks),
        };
    }

    /// Notes that a run was ended because it took too long.
    pub fn give_up(&mut self, after: Duration) {
        self.gave_up_after = Some(after.as_secs_f64());
    }

    /// Whether it is installed and was not given up.
    pub fn takes_part(&self) -> bool {
        !self.absent && self.gave_up_after.is_none()
    }

    /// Median of its runs; `None` before the first, and when it was given up.
    pub fn median(&self) -> Option<f64> {
        self.median_seconds.filter(|_| self.takes_part())
    }

    /// At least as many seconds as it takes: the median, or when it was given up.
    pub fn at_least_seconds(&self) -> Option<f64> {
        self.gave_up_after.or(self.median_seconds)
    }
}

/// A figure that the project has promised.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What is compared with what.
    pub what: String,
    /// The promise, if it is an upper bound.
    pub at_most: Option<f64>,
    /// The promise, if it is a lower bound.
    pub at_least: Option<f64>,
    /// What was found.
    pub measured: f64,
    /// Whether the promise is kept.
    pub reached: bool,
}

impl Target {
    /// `measured` may be no more than `limit`.
    pub fn at_most(what: impl Into<String>, limit: f64, measured: f64) -> Self {
        Self { what: what.into(), at_most: Some(limit), at_least: None, measured, reached: measured <= limit }
    }

    /// `measured` may be no less than `limit`.
    pub fn at_least(what: impl Into<String>, limit: f64, measured: f64) -> Self {
        Self { what: what.into(), at_most: None, at_least: Some(limit), measured, reached: measured >= limit }
    }
}

/// The report of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// As on the command line.
    pub case: String,
    /// For people.
    pub title: String,
    /// What lies between both sides.
    pub line: Option<String>,
    /// Of connections that do not choose their own.
    pub congestion_control: String,
    /// What was sent.
    pub input: String,
    /// How much that is.
    pub size: Size,
    /// Who took how long.
    pub rows: Vec<Row>,
    /// What was promised.
    pub targets: Vec<Target>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// How long the case took, preparations included.
    pub spent_seconds: f64,
}

impl CaseReport {
    /// A case on `ground`, without rows.
    pub fn new(case: &str, title: &str, ground: &Ground, input: &str, size: Size) -> Self {
        let line = ground.link.as_ref().map(|link| link.line().to_string());
        Self::over(case, title, (line, &ground.congestion_control), input, size)
    }

    /// A case over a line under a congestion control, without rows.
    pub fn over(case: &str, title: &str, line: (Option<String>, &str), input: &str, size: Size) -> Self {
        Self {
            case: case.into(),
            title: title.into(),
            line: line.0,
            congestion_control: line.1.into(),
            input: input.into(),
            size,
            rows: Vec::new(),
            targets: Vec::new(),
            notes: Vec::new(),
            spent_seconds: 0.0,
        }
    }

    /// A case that did not come to its end.
    pub fn failed(case: &str, why: &str) -> Self {
        let mut report = Self::over(case, "failed", (None, ""), "", Size::default());
        report.notes.push(format!("FAILED: {why}"));
        report
    }

    /// The row whose name begins with `start`.
    pub fn row(&self, start: &str) -> Option<&Row> {
        self.rows.iter().find(|row| !row.absent && row.name.starts_with(start))
    }

    /// The fastest row that is neither Pakt nor the bare line.
    pub fn best_peer(&self) -> Option<&Row> {
        let others = self.rows.iter().filter(|row| !row.name.starts_with(PAKT) && !row.name.starts_with(BARE_LINE));
        let timed = others.filter_map(|row| Some((row, row.at_least_seconds()?)));
        timed.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(row, _)| row)
    }

    /// Adds the promise that Pakt takes at most `limit` of what `peer` takes, if both ran.
    pub fn promise_ratio(&mut self, peer: Option<&Row>, limit: f64) {
        let (Some(pakt), Some(peer)) = (self.row(PAKT), peer) else { return };
        let Some(peer_seconds) = peer.at_least_seconds() else { return };
        let ratio = pakt.median().map_or(f64::INFINITY, |seconds| seconds / peer_seconds);
        let given_up = if peer.gave_up_after.is_some() { " (given up, so this is an upper bound)" } else { "" };
        self.targets.push(Target::at_most(format!("seconds, pakt / {}{given_up}", peer.name), limit, ratio));
    }
}

/// One measurement of a growth curve.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// What grows: bytes, files, peers or agreements.
    pub at: u64,
    /// What is measured: mostly from the first command to the last receipt.
    pub seconds: f64,
    /// Content that was moved in that time.
    pub bytes: u64,
    /// VmHWM of the sender (the most of them) and of the receiver, or of the hub as what it is.
    pub memory: Option<MemoryPeaks>,
}

/// Megabytes of each side that was measured.
fn memory_text(peaks: MemoryPeaks) -> String {
    let sides = [Some(peaks.sender_kib), peaks.receiver_kib];
    let texts: Vec<String> = sides.into_iter().flatten().map(|kib| format!("{:.0}", megabytes(kib * 1024))).collect();
    texts.join(", ")
}

/// How time and memory grow with one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// As on the command line.
    pub name: String,
    /// For people.
    pub title: String,
    /// What grows, with its unit.
    pub along: String,
    /// Each measurement, from the smallest.
    pub points: Vec<Point>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// What a call has found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Cases with their rows and targets.
    pub cases: Vec<CaseReport>,
    /// Growth.
    pub curves: Vec<Curve>,
}

impl From<Curve> for Findings {
    fn from(curve: Curve) -> Self {
        Self { cases: Vec::new(), curves: vec![curve] }
    }
}

/// The whole report of one call.
#[derive(Debug, Serialize)]
pub struct Report {
    /// When it was finished.
    pub at: String,
    /// Where.
    pub machine: Machine,
    /// A quick run measures nothing.
    pub quick: bool,
    /// Cases with their rows and targets.
    pub cases: Vec<CaseReport>,
    /// Growth.
    pub curves: Vec<Curve>,
}

impl Report {
    /// The report on what was found in `dir`.
    ///
    /// # Errors
    /// If the kernel does not describe the machine.
    pub fn new(dir: &Path, quick: bool, found: Findings) -> Result<Self> {
        let at = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
        Ok(Self { at, machine: Machine::here(dir)?, quick, cases: found.cases, curves: found.curves })
    }

    /// Prints the tables.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn print(&self) -> Result<()> {
        io::stdout().lock().write_all(table::text(self).as_bytes())?;
        Ok(())
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_json(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Report {
    /// Programs and versions that took part, each once.
    fn versions(&self) -> Vec<&str> {
        let said = self.cases.iter().flat_map(|case| &case.rows).map(|row| row.version.as_str());
        let mut versions: Vec<&str> = said.filter(|version| !version.is_empty()).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    /// Writes the report as one page.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_html(&self, file: &Path) -> Result<()> {
        fs::write(file, html::page(self)).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// In millions.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The middle value, or the mean of both middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[count / 2]),
        count => Some((sorted[count / 2 - 1] + sorted[count / 2]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], expected: Option<f64>| assert_eq!(median(values), expected, "{values:?}");
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 2.0, 9.0], Some(3.0));
    }

    fn row(name: &str, seconds: &[f64]) -> Row {
        let mut row = Row::new(name, "1");
        for &seconds in seconds {
            row.add(Measured { seconds, ..Measured::default() });
        }
        row
    }

    #[test]
    fn a_row_keeps_its_worst() {
        let peaks = |sender_kib, receiver_kib| Some(MemoryPeaks { sender_kib, receiver_kib: Some(receiver_kib) });
        let mut row = row("pakt send", &[]);
        row.add(Measured { seconds: 2.0, bytes_on_wire: Some(7), memory: peaks(90, 10), ..Measured::default() });
        row.add(Measured { seconds: 1.0, bytes_on_wire: Some(8), memory: peaks(10, 300), ..Measured::default() });
        assert_eq!((row.memory, row.bytes_on_wire, row.median()), (peaks(90, 300), Some(8), Some(1.5)));
    }

    #[test]
    fn promises_compare_with_the_best_peer_and_slow_ones_count_as_their_limit() {
        let ground = Ground::loopback().unwrap();
        let mut slow = row("rsync -a", &[]);
        slow.give_up(Duration::from_secs(600));
        let check = |rows: Vec<Row>, expected: Option<(f64, bool)>| {
            let mut case = CaseReport::new("study", "Study", &ground, "files", Size::default());
            case.rows = rows;
            case.promise_ratio(case.best_peer().cloned().as_ref(), 0.8);
            assert_eq!(case.targets.first().map(|target| (target.measured, target.reached)), expected);
        };
        let pakt = row("pakt send", &[3.0, 4.0, 2.0]);
        check(vec![pakt.clone(), row("scp", &[5.0]), row("rsync", &[4.0]), row("iperf3", &[1.0])], Some((0.75, true)));
        check(vec![pakt.clone(), row("rsync", &[3.0])], Some((1.0, false)));
        check(vec![pakt.clone(), slow.clone()], Some((0.005, true)));
        check(vec![pakt.clone(), Row::absent("sendme")], None);
        let mut given_up = pakt;
        given_up.give_up(Duration::from_secs(600));
        check(vec![given_up, slow], Some((f64::INFINITY, false)));
    }

    #[test]
    fn a_report_is_written_as_a_table_and_as_json() {
        let ground = Ground::loopback().unwrap();
        let mut case = CaseReport::new("study", "The study", &ground, "files", Size { files: 3, bytes: 10_000_000 });
        case.rows = vec![row("pakt send", &[1.5]), row("rsync -a", &[1.0]), Row::absent("sendme: not installed")];
        case.promise_ratio(case.best_peer().cloned().as_ref(), 0.6);
        let memory = MemoryPeaks { sender_kib: 50_000, receiver_kib: Some(30_000) };
        let points = [(1_000_000, 0.25), (1_000_000_000, 20.0)];
        let points = points.map(|(at, seconds)| Point { at, seconds, bytes: at, memory: Some(memory) }).to_vec();
        let (name, title, along) = ("size".into(), "Growth & more".into(), "bytes".into());
        let curve = Curve { name, title, along, points, notes: Vec::new() };
        let report = Report::new(Path::new("/"), false, Findings { cases: vec![case], curves: vec![curve] }).unwrap();
        let table = table::text(&report);
        for part in ["The study", "1.500", "NOT reached", "sendme: not installed", "Growth & more", "20.000"] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        let page = html::page(&report);
        for part in ["The study", "1.50 s", "not reached", "sendme: not installed", "Growth &amp; more", "<svg"] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        // Self-contained: nothing is fetched from anywhere.
        assert!(
            !page.contains("http://") && !page.contains("https://") && !page.contains("NaN") && !page.contains("inf")
        );
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        let dir = tempfile::tempdir().unwrap();
        report.write_json(&dir.path().join("report.json")).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join("report.json")).unwrap()).unwrap();
        assert_eq!(json["cases"][0]["targets"][0]["measured"], 1.5);
        assert_eq!(json["cases"][0]["rows"][1]["median_seconds"], 1.0);
    }
}
