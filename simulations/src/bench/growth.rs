//! The case `growth`: time and memory against size, number of files, and counterparts served at once, over loopback.
//!
//! Each point starts from fresh data directories. A point for which there is no room, or no time left, is left out, and the curve
//! says so.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::contest::{Bench, begin};
use super::ground::{Ground, Site};
use super::pakt::{Node, Pair, Priority, agree};
use super::peers::MemoryPeaks;
use super::report::{Curve, Point};
use super::{files, process, settle};

const MB: u64 = 1_000_000;
/// A decade in steps that look even on a logarithmic scale.
const SIZES_MB: [u64; 10] = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 20_000];
const FILES: [u64; 6] = [1, 10, 100, 1000, 10_000, 100_000];
const FILE_BYTES: u64 = 10_000;
const PEERS: [u64; 6] = [1, 2, 5, 10, 20, 50];
const SIZE_MB_QUICK: u64 = 30;
const FILES_QUICK: u64 = 1000;
const PEERS_QUICK: u64 = 3;
/// Subject of what is sent.
const SUBJECT: &str = "growth";

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct GrowthCase {
    /// Only these curves
    #[arg(long, value_enum, value_delimiter = ',')]
    curves: Vec<CurveName>,
    /// The largest file, in MB
    #[arg(long, default_value_t = 20_000)]
    size_mb_max: u64,
    /// The most files of 10 KB in one message
    #[arg(long, default_value_t = 100_000)]
    files_max: u64,
    /// The most counterparts at once; each is a node of its own, with some 40 MB of memory
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=200))]
    peers_max: u64,
    /// What each counterpart sends or gets, in MB
    #[arg(long, default_value_t = 10)]
    peer_mb: u64,
    /// Minutes after which no further point is begun
    #[arg(long, default_value_t = 60)]
    minutes_max: u64,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CurveName {
    /// Size of one file
    Size,
    /// Number of files of 10 KB
    Files,
    /// Counterparts that send to one node at once
    Senders,
    /// Counterparts to which one node sends at once
    Receivers,
}

impl CurveName {
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Size => ("size", "One incompressible file", "bytes"),
            Self::Files => ("files", "Files of 10 KB in one message", "files"),
            Self::Senders => ("senders", "Counterparts that send to one node at once", "counterparts"),
            Self::Receivers => ("receivers", "Counterparts to which one node sends at once", "counterparts"),
        }
    }

    fn steps(self, bench: &Bench, options: &GrowthCase) -> Vec<u64> {
        let up_to =
            |steps: &[u64], most: u64| -> Vec<u64> { steps.iter().copied().filter(|step| *step <= most).collect() };
        match self {
            Self::Size => {
                let most = bench.options.sized(options.size_mb_max, SIZE_MB_QUICK);
                up_to(&SIZES_MB, most).into_iter().map(|size| size * MB).collect()
            }
            Self::Files => up_to(&FILES, bench.options.sized(options.files_max, FILES_QUICK)),
            Self::Senders | Self::Receivers => up_to(&PEERS, bench.options.sized(options.peers_max, PEERS_QUICK)),
        }
    }

    /// What is on disk at once for a point, before the copies that every node makes.
    fn bytes(self, at: u64, options: &GrowthCase) -> u64 {
        match self {
            Self::Size => at,
            Self::Files => at * FILE_BYTES,
            Self::Senders | Self::Receivers => at * options.peer_mb * MB,
        }
    }
}

/// Measures the curves.
///
/// # Errors
/// If a node fails.
pub fn run(bench: &Bench, options: &GrowthCase) -> Result<Vec<Curve>> {
    let end = Instant::now() + Duration::from_secs(options.minutes_max * 60);
    let all = CurveName::value_variants();
    let chosen = all.iter().filter(|curve| options.curves.is_empty() || options.curves.contains(curve));
    chosen.map(|curve| measure(bench, options, *curve, end)).collect()
}

fn measure(bench: &Bench, options: &GrowthCase, name: CurveName, end: Instant) -> Result<Curve> {
    let (short, title, along) = name.words();
    begin(title);
    let mut curve =
        Curve { name: short.into(), title: title.into(), along: along.into(), points: Vec::new(), notes: Vec::new() };
    for at in name.steps(bench, options) {
        process::check_interrupted()?;
        if Instant::now() >= end {
            curve.notes.push(format!("No time was left from {at} {along} on."));
            break;
        }
        if let Err(error) = bench.check_room(name.bytes(at, options)) {
            curve.notes.push(format!("No room from {at} {along} on: {error:#}"));
            break;
        }
        let dir = bench.new_dir(short)?;
        let point = match name {
            CurveName::Size | CurveName::Files => send_one(bench, name, at, &dir),
            CurveName::Senders | CurveName::Receivers => send_many(bench, name, at, options.peer_mb * MB, &dir),
        };
        bench.remove(&dir)?;
        match point {
            Ok(point) => {
                eprintln!("  {at} {along}: {:.3} s", point.seconds);
                curve.points.push(point);
            }
            Err(error) => {
                process::check_interrupted()?;
                curve.notes.push(format!("{at} {along} did not work: {error:#}"));
                break;
            }
        }
    }
    Ok(curve)
}

/// One message between a fresh pair.
fn send_one(bench: &Bench, name: CurveName, at: u64, dir: &Path) -> Result<Point> {
    let source = dir.join("content");
    match name {
        CurveName::Files => files::write_many_incompressible(&source, at, FILE_BYTES, at)?,
        _ => files::write_incompressible(&source, at, at)?,
    }
    let ground = Ground::loopback()?;
    let pair = Pair::agree(&bench.program, &ground, dir)?;
    settle();
    let sent = pair.send(&ground, &source, SUBJECT, bench.options.deadline())?;
    let memory = pair.memory_peaks()?;
    pair.check_received(SUBJECT, &source, &dir.join("saved"))?;
    pair.stop()?;
    Ok(Point { at, seconds: sent.seconds, bytes: files::size_of(&source)?.bytes, memory: Some(memory) })
}

/// As many messages at once as there are counterparts, all from or to one hub.
fn send_many(bench: &Bench, name: CurveName, count: u64, bytes: u64, dir: &Path) -> Result<Point> {
    let site = Site::here();
    let mut hub = Node::start(&bench.program, &site, dir.join("hub"), "Bench Hub", "NO:ORGNR:999000101")?;
    let (mut ends, mut sources) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let (entity, registered) = (format!("Bench End {number}"), format!("NL:KVK:{}", 99_000_100 + number));
        let end = Node::start(&bench.program, &site, dir.join(format!("end-{number}")), &entity, &registered)?;
        agree(&hub, &end, dir)?;
        let source = dir.join(format!("content-{number}"));
        files::write_incompressible(&source, bytes, number)?;
        ends.push(end);
        sources.push(source);
    }
    hub.wait_online(ends.len())?;
    settle();
    let start = Instant::now();
    let deadline = bench.options.deadline();
    let mut sending = Vec::new();
    for (number, (end, source)) in ends.iter().zip(&sources).enumerate() {
        let (from, to) = if name == CurveName::Senders { (end, &hub) } else { (&hub, end) };
        sending.push(from.start_send(&to.address(), source, &subject(number), Priority::Normal, deadline)?);
    }
    // Each has its own clock; the last receipt is the one that counts.
    for one in sending {
        one.finish(deadline)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    for (number, (end, source)) in ends.iter().zip(&sources).enumerate() {
        let receiver = if name == CurveName::Senders { &hub } else { end };
        receiver.check_received(&subject(number), source, &dir.join(format!("saved-{number}")))?;
    }
    let hub_kib = hub.memory_peak_kib()?;
    let mut end_kib = 0;
    for end in &ends {
        end_kib = end_kib.max(end.memory_peak_kib()?);
    }
    let memory = match name {
        CurveName::Senders => MemoryPeaks { sender_kib: end_kib, receiver_kib: Some(hub_kib) },
        _ => MemoryPeaks { sender_kib: hub_kib, receiver_kib: Some(end_kib) },
    };
    for end in ends {
        end.stop()?;
    }
    hub.stop()?;
    Ok(Point { at: count, seconds, bytes: bytes * count, memory: Some(memory) })
}

fn subject(number: usize) -> String {
    format!("{SUBJECT}-{number}")
}
