//! What a bench has found: medians, ratios, memory, and whether a target was reached, as a table and as JSON.
//!
//! **Invariant:** a report names the machine, the versions and the time; a figure without them says nothing.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Measured, MemoryPeaks};

/// Pakt may need at most this much of what rsync over ssh needs, over loopback.
const RSYNC_RATIO_MAX: f64 = 1.5;
/// No node may hold more memory than this.
const NODE_MEMORY_BYTES_MAX: u64 = 256_000_000;

/// All runs of one peer.
#[derive(Debug, Serialize)]
pub struct PeerRuns {
    name: &'static str,
    version: String,
    seconds: Vec<f64>,
    median_seconds: f64,
    bytes_on_wire: Option<u64>,
    memory: Option<MemoryPeaks>,
}

impl PeerRuns {
    /// No run yet.
    pub fn new(name: &'static str, version: &str) -> Self {
        let version = version.into();
        Self { name, version, seconds: Vec::new(), median_seconds: 0.0, bytes_on_wire: None, memory: None }
    }

    /// Adds one run: times are kept all, bytes and memory at their worst.
    pub fn add(&mut self, run: Measured) {
        self.seconds.push(run.seconds);
        self.median_seconds = median(&self.seconds);
        self.bytes_on_wire = self.bytes_on_wire.max(run.bytes_on_wire);
        self.memory = match (self.memory, run.memory) {
            (Some(worst), Some(peaks)) => Some(worst.max(peaks)),
            (worst, peaks) => worst.or(peaks),
        };
    }

    /// The first word of the name, for a directory.
    pub fn slug(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or(self.name)
    }
}

/// Two large files sent at once.
#[derive(Debug, Serialize)]
pub struct LargeFiles {
    /// How many were under way at once.
    pub files: u64,
    /// Size of each.
    pub bytes_each: u64,
    /// From each command to its durable receipt.
    pub seconds: Vec<f64>,
    /// The most memory that either node held.
    pub memory: MemoryPeaks,
}

/// Where the figures come from.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    congestion_control: String,
    file_system: String,
    optimised: bool,
}

/// A figure that the project has promised.
#[derive(Debug, Serialize)]
struct Target {
    what: &'static str,
    at_most: f64,
    measured: f64,
    reached: bool,
}

impl Target {
    fn new(what: &'static str, at_most: f64, measured: f64) -> Self {
        Self { what, at_most, measured, reached: measured <= at_most }
    }
}

/// The whole report of one case.
#[derive(Debug, Serialize)]
pub struct Report {
    case: &'static str,
    at: String,
    machine: Machine,
    files: u32,
    bytes: u64,
    peers: Vec<PeerRuns>,
    /// The second part of the case, if it was run.
    pub large: Option<LargeFiles>,
}

impl Report {
    /// The report on `files` files of `bytes` in all, measured in `dir`.
    ///
    /// # Errors
    /// If the kernel does not describe the machine.
    pub fn new(case: &'static str, dir: &Path, files: u32, bytes: u64, peers: Vec<PeerRuns>) -> Result<Self> {
        let at = jiff::Timestamp::now().to_string();
        Ok(Self { case, at, machine: Machine::here(dir)?, files, bytes, peers, large: None })
    }

    /// Prints the table.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn print(&self) -> Result<()> {
        io::stdout().lock().write_all(self.table().as_bytes())?;
        Ok(())
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_json(&self, file: &Path) -> Result<()> {
        let mut value = serde_json::to_value(self)?;
        value["targets"] = serde_json::to_value(self.targets())?;
        value["ratio"] = serde_json::to_value(self.ratio())?;
        let text = serde_json::to_string_pretty(&value)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn peer(&self, slug: &str) -> Option<&PeerRuns> {
        self.peers.iter().find(|peer| peer.slug() == slug)
    }

    /// Pakt's median over rsync's.
    fn ratio(&self) -> Option<f64> {
        Some(self.peer("pakt")?.median_seconds / self.peer("rsync")?.median_seconds)
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        if let Some(ratio) = self.ratio() {
            targets.push(Target::new("seconds, pakt / rsync", RSYNC_RATIO_MAX, ratio));
        }
        let mut memory = |what, peaks: Option<MemoryPeaks>| {
            let Some(peaks) = peaks else { return };
            let worst = peaks.sender_kib.max(peaks.receiver_kib);
            targets.push(Target::new(what, megabytes(NODE_MEMORY_BYTES_MAX), megabytes(worst * 1024)));
        };
        memory("VmHWM in MB, study", self.peer("pakt").and_then(|peer| peer.memory));
        memory("VmHWM in MB, two large files at once", self.large.as_ref().map(|large| large.memory));
        targets
    }

    fn table(&self) -> String {
        let machine = &self.machine;
        let mut lines = vec![
            String::new(),
            format!("{}, {}", self.case, self.at),
            format!(
                "{}, {} cores, Linux {}, {}, {}{}",
                machine.processor,
                machine.cores,
                machine.kernel,
                machine.congestion_control,
                machine.file_system,
                if machine.optimised { "" } else { ", DEBUG BUILD" }
            ),
            format!("{} files, {:.1} MB", self.files, megabytes(self.bytes)),
            String::new(),
            format!(
                "{:<28} {:>9} {:>9} {:>9} {:>9} {:>12} {:>22}",
                "peer", "median s", "min s", "max s", "MB/s", "on wire MB", "VmHWM MB (from, to)"
            ),
        ];
        lines.extend(self.peers.iter().map(|peer| self.row(peer)));
        if let Some(large) = &self.large {
            lines.push(String::new());
            lines.push(format!(
                "{} incompressible files of {:.0} MB at once: {} s, VmHWM {} MB",
                large.files,
                megabytes(large.bytes_each),
                large.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect::<Vec<_>>().join(" and "),
                memory_text(Some(large.memory)),
            ));
        }
        lines.push(String::new());
        for target in self.targets() {
            let verdict = if target.reached { "reached" } else { "NOT reached" };
            lines.push(format!("{}: {:.2} (at most {}): {verdict}", target.what, target.measured, target.at_most));
        }
        lines.extend(self.peers.iter().map(|peer| format!("{}: {}", peer.name, peer.version)));
        lines.join("\n") + "\n"
    }

    fn row(&self, peer: &PeerRuns) -> String {
        let least = peer.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = peer.seconds.iter().copied().fold(0.0, f64::max);
        let wire = peer.bytes_on_wire.map_or("-".into(), |bytes| format!("{:.1}", megabytes(bytes)));
        format!(
            "{:<28} {:>9.3} {:>9.3} {:>9.3} {:>9.0} {:>12} {:>22}",
            peer.name,
            peer.median_seconds,
            least,
            most,
            megabytes(self.bytes) / peer.median_seconds,
            wire,
            memory_text(peer.memory),
        )
    }
}

impl Machine {
    fn here(dir: &Path) -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let named = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Ok(Self {
            processor: named.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into()),
            cores: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into(),
            congestion_control: fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?.trim().into(),
            file_system: file_system(&fs::read_to_string("/proc/self/mounts")?, &dir.canonicalize()?),
            optimised: !cfg!(debug_assertions),
        })
    }
}

/// The type of the file system that holds `dir`: that of the longest mount point above it, the last one where several are stacked.
fn file_system(mounts: &str, dir: &Path) -> String {
    let rows = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = rows.filter(|(point, _)| dir.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map_or_else(String::new, |(_, kind)| kind.into())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn memory_text(peaks: Option<MemoryPeaks>) -> String {
    peaks.map_or("-".into(), |peaks| {
        format!("{:.0}, {:.0}", megabytes(peaks.sender_kib * 1024), megabytes(peaks.receiver_kib * 1024))
    })
}

/// The middle value, or the mean of both middle ones; 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], expected: f64| assert_eq!(median(values), expected, "{values:?}");
        check(&[], 0.0);
        check(&[3.0], 3.0);
        check(&[9.0, 1.0, 2.0], 2.0);
        check(&[4.0, 1.0, 2.0, 9.0], 3.0);
    }

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/deep xfs rw 0 0\n";
        let check = |dir: &str, expected: &str| assert_eq!(file_system(mounts, Path::new(dir)), expected, "{dir}");
        check("/home/x", "ext4");
        check("/tmp/bench", "tmpfs");
        check("/tmp/deeper", "tmpfs");
        check("/tmp/deep/bench", "xfs");
    }

    #[test]
    fn a_report_compares_medians_and_says_what_was_missed() {
        let mut rsync = PeerRuns::new("rsync -a over ssh", "rsync 3");
        let mut pakt = PeerRuns::new("pakt send --wait delivered", "pakt 1");
        let peaks = |sender_kib, receiver_kib| Some(MemoryPeaks { sender_kib, receiver_kib });
        for seconds in [1.0, 1.2, 0.9] {
            rsync.add(Measured { seconds, ..Measured::default() });
        }
        pakt.add(Measured { seconds: 2.0, bytes_on_wire: Some(7_000_000), memory: peaks(90_000, 10) });
        pakt.add(Measured { seconds: 1.0, bytes_on_wire: Some(8_000_000), memory: peaks(10, 300_000) });
        assert_eq!(pakt.memory, peaks(90_000, 300_000));
        let report = Report::new("loopback", Path::new("/"), 3, 10_000_000, vec![rsync, pakt]).unwrap();
        assert_eq!(report.ratio(), Some(1.5));
        let reached: Vec<bool> = report.targets().iter().map(|target| target.reached).collect();
        assert_eq!(reached, [true, false]);
        let table = report.table();
        for part in ["1.000", "8.0", "92, 307", "NOT reached"] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        let dir = tempfile::tempdir().unwrap();
        report.write_json(&dir.path().join("report.json")).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join("report.json")).unwrap()).unwrap();
        assert_eq!(json["ratio"], 1.5);
        assert_eq!(json["peers"][0]["median_seconds"], 1.0);
    }
}
