//! The case `urgent`: 1 MB that is urgent while a bulk message fills the line, over 100 Mbit/s, 20 ms.
//!
//! The same pair of nodes sends urgent messages over the idle line first, and then while 2 GB are under way; both clocks run from
//! the command to the durable receipt. The bulk message is not waited for.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::bench::contest::{Bench, begin, or_too_slow};
use crate::bench::files::{self, Size};
use crate::bench::ground::Ground;
use crate::bench::pakt::{Pair, PaktPeer, Priority};
use crate::bench::peers::{Measured, Peer};
use crate::bench::report::{CaseReport, PAKT, Row, Target};
use crate::bench::{process, settle};
use crate::link::Line;

const URGENT_BYTES: u64 = 1_000_000;
/// Beside the time over the idle line, twice.
const URGENT_EXTRA_SECONDS: f64 = 0.3;
const BULK_BYTES_QUICK: u64 = 300_000_000;
/// The line counts as full from this share of its rate on.
const FULL_SHARE: f64 = 0.75;
/// How long the rate is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long filling may take: preparing 2 GB goes before it.
const FILL_DEADLINE: Duration = Duration::from_secs(120);
/// The line stays full for this long before an urgent message comes, so that queues are full too.
const FULL_FOR: Duration = Duration::from_secs(2);

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct UrgentCase {
    /// Size of the bulk message in MB
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=100_000))]
    bulk_mb: u64,
}

/// Runs the case.
///
/// # Errors
/// If the nodes fail, or this program may not emulate lines.
pub fn run(bench: &Bench, options: &UrgentCase) -> Result<Vec<CaseReport>> {
    let line = Line::new(100.0, 20.0);
    let bulk_bytes = bench.options.sized(options.bulk_mb * 1_000_000, BULK_BYTES_QUICK);
    let title = format!("1 MB urgent beside {} MB bulk, over {line}", bulk_bytes / 1_000_000);
    let start = begin(&title);
    let dir = bench.new_dir("urgent")?;
    let bulk = bench.incompressible(&dir, "bulk.bin", bulk_bytes, 100)?;
    let ground = bench.clean_line(line)?;
    let pair = Pair::agree(&bench.program, &ground, &dir)?;
    let size = Size { files: 1, bytes: URGENT_BYTES };
    let mut report = CaseReport::new("urgent", &title, &ground, "an urgent file", size);
    let version = PaktPeer::new(&bench.program)?.version().to_string();
    let mut idle = Row::new(&format!("{PAKT}: 1 MB urgent, idle line"), &version);
    let mut busy = Row::new(&format!("{PAKT}: 1 MB urgent, full line"), &version);
    for round in 1..=bench.options.rounds() {
        send_urgent(bench, &pair, &ground, &dir, &format!("idle-{round}"), &mut idle)?;
    }
    settle();
    let deadline = Duration::from_secs(86_400);
    let sending = pair.sender.start_send(&pair.receiver.address(), &bulk, "bulk", Priority::Bulk, deadline)?;
    for round in 1..=bench.options.rounds() {
        wait_full(&ground, line)?;
        send_urgent(bench, &pair, &ground, &dir, &format!("busy-{round}"), &mut busy)?;
    }
    let still_full = is_full(&ground, line)?;
    drop(sending);
    if !still_full {
        report.notes.push("The bulk message had ended before the last urgent one: choose a larger --bulk-mb.".into());
    }
    if let (Some(idle), Some(busy)) = (idle.median(), busy.at_least_seconds()) {
        let limit = 2.0 * idle + URGENT_EXTRA_SECONDS;
        report.targets.push(Target::at_most("seconds to the receipt of the urgent message", limit, busy));
    }
    report.rows = vec![idle, busy];
    pair.stop()?;
    report.spent_seconds = start.elapsed().as_secs_f64();
    bench.remove(&dir)?;
    Ok(vec![report])
}

/// Sends content that was never sent before, and compares it.
fn send_urgent(bench: &Bench, pair: &Pair, ground: &Ground, dir: &Path, name: &str, row: &mut Row) -> Result<()> {
    process::check_interrupted()?;
    let seed = u64::from_be_bytes(blake3::hash(name.as_bytes()).as_bytes()[..8].try_into()?);
    let file = dir.join(name);
    files::write_incompressible(&file, URGENT_BYTES, seed)?;
    let meter = ground.meter();
    let to = pair.receiver.address();
    let sending = pair.sender.start_send(&to, &file, name, Priority::Urgent, bench.options.deadline())?;
    match or_too_slow(sending.finish(bench.options.deadline()))? {
        Ok(delivered) => {
            eprintln!("  {name}: {:.3} s", delivered.seconds);
            row.add(Measured {
                seconds: delivered.seconds,
                bytes_on_wire: Some(delivered.bytes_on_wire),
                crossed: meter.read(),
                memory: Some(pair.memory_peaks()?),
            });
            pair.check_received(name, &file, &dir.join(format!("saved-{name}")))
        }
        Err(after) => {
            row.give_up(after);
            Ok(())
        }
    }
}

fn is_full(ground: &Ground, line: Line) -> Result<bool> {
    let meter = ground.meter();
    let start = Instant::now();
    process::sleep(LOOK)?;
    let bits = meter.read().map_or(0, |crossed| crossed.bytes * 8) as f64 / start.elapsed().as_secs_f64();
    Ok(line.bits_per_second.is_some_and(|rate| bits >= FULL_SHARE * rate as f64))
}

/// Waits until the line has been full for a while.
fn wait_full(ground: &Ground, line: Line) -> Result<()> {
    let mut since = None;
    process::wait_for("the line to fill", FILL_DEADLINE, || {
        if !is_full(ground, line)? {
            since = None;
            return Ok(None);
        }
        let since = *since.get_or_insert_with(Instant::now);
        Ok((since.elapsed() >= FULL_FOR).then_some(()))
    })
}
