//! The case `mailbox`: one node that keeps very many messages. Half were received, half sent; at each step the node is stopped,
//! filled up, started, and asked what people and gateways ask.
//!
//! Filling goes through the node's own mailroom, commit by commit, but not over the network; see `fill`. What is timed is
//! asked over the API's socket of the running program, `send` and `receive` with a second node beside it.

mod ask;
mod fill;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::contest::{Bench, begin};
use super::ground::Site;
use super::pakt::{Node, agree};
use super::peers::MemoryPeaks;
use super::report::{Curve, Point};
use super::{process, settle};
use ask::Asked;

/// Messages at each step, up to what was asked for.
const STEPS: [u64; 7] = [1_000, 10_000, 30_000, 100_000, 300_000, 600_000, 1_000_000];
const MESSAGES_QUICK: u64 = 2_000;
const ROUNDS_QUICK: usize = 10;
/// Records of one message on the disk, at most.
const MESSAGE_BYTES: u64 = 8_000;
/// The node that is filled is promised to answer within this at 99 of 100, in seconds.
const ANSWER_SECONDS: f64 = 0.1;
/// And to start within this.
const START_SECONDS: f64 = 5.0;
/// The number of messages for which both are promised.
const PROMISED: u64 = 100_000;
const NUMBERS: [&str; 2] = ["NO:ORGNR:999000101", "NL:KVK:99000102"];

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct MailboxCase {
    /// Messages that the node keeps at the last step
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=2_000_000))]
    messages: u64,
    /// How often each question is asked at each step
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    rounds: u32,
}

/// Measures one curve for the start and one for each question.
///
/// # Errors
/// If a node fails or an answer is wrong.
pub fn run(bench: &Bench, options: &MailboxCase) -> Result<Vec<Curve>> {
    begin("A node with very many messages");
    let most = bench.options.sized(options.messages, MESSAGES_QUICK);
    let rounds = if bench.options.quick { ROUNDS_QUICK } else { options.rounds as usize };
    bench.check_free(most * MESSAGE_BYTES)?;
    let dir = bench.new_dir("mailbox")?;
    let curves = measure(bench, most, rounds, &dir);
    bench.remove(&dir)?;
    curves
}

/// The node that is filled, and the other one.
struct Both {
    full: Node,
    other: Node,
}

fn measure(bench: &Bench, most: u64, rounds: usize, dir: &Path) -> Result<Vec<Curve>> {
    let site = Site::here();
    let full = Node::start(&bench.program, &site, dir.join("full"), "Bench Archive", NUMBERS[0])?;
    let other = Node::start(&bench.program, &site, dir.join("other"), "Bench Sender", NUMBERS[1])?;
    agree(&full, &other, dir)?;
    let mut both = Both { full, other };
    both.full.wait_online(1)?;
    let steps: Vec<u64> = STEPS.into_iter().filter(|step| *step < most).chain([most]).collect();
    let (mut curves, mut filled) = (Curves::default(), 0);
    for at in steps {
        process::check_interrupted()?;
        both.full.stop()?;
        let begun = Instant::now();
        fill::fill(&dir.join("full"), filled..at)?;
        filled = at;
        eprintln!("  filled to {at} in {:.0} s", begun.elapsed().as_secs_f64());
        settle();
        let start = Instant::now();
        both.full = Node::resume(&bench.program, &site, dir.join("full"), NUMBERS[0])?;
        curves.add("start", at, start.elapsed().as_secs_f64(), None);
        both.full.wait_online(1)?;
        both.other.wait_online(1)?;
        both.step(&mut curves, at, rounds)?;
    }
    both.full.stop()?;
    both.other.stop()?;
    Ok(curves.finish(most))
}

impl Both {
    /// Asks everything, each question often.
    fn step(&mut self, curves: &mut Curves, at: u64, rounds: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = runtime.block_on(ask::ask(self.full.dir(), self.other.dir(), at, rounds, NUMBERS))?;
        let memory =
            MemoryPeaks { sender_kib: self.full.memory_peak_kib()?, receiver_kib: Some(self.other.memory_peak_kib()?) };
        for Asked { what, mut seconds } in asked {
            seconds.sort_by(f64::total_cmp);
            if seconds.is_empty() {
                bail!("{what} was never asked");
            }
            let of = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
            eprintln!("  {at} {what}: median {:.1} ms, p99 {:.1} ms", of(0.5) * 1e3, of(0.99) * 1e3);
            curves.add(what, at, of(0.99), Some(memory));
        }
        eprintln!("  {at} memory: {:.0} MB", memory.sender_kib as f64 * 1024.0 / 1e6);
        Ok(())
    }
}

/// One curve for each question.
#[derive(Default)]
struct Curves(Vec<Curve>);

impl Curves {
    fn add(&mut self, what: &str, at: u64, seconds: f64, memory: Option<MemoryPeaks>) {
        if what == "start" {
            eprintln!("  {at} start: {seconds:.2} s");
        }
        let point = Point { at, seconds, bytes: 0, memory };
        match self.0.iter_mut().find(|curve| curve.name == what) {
            Some(curve) => curve.points.push(point),
            None => self.0.push(Curve {
                name: what.into(),
                title: if what == "start" {
                    "From the command to the first answer".into()
                } else {
                    format!("{what}, p99")
                },
                along: "messages".into(),
                points: vec![point],
                notes: vec![
                    "Half of the messages were received, half sent; all carry the same file, so that the \
                             objects on disk do not grow with them."
                        .into(),
                ],
            }),
        }
    }

    /// Says of each whether what is promised holds at the step for which it is.
    fn finish(mut self, most: u64) -> Vec<Curve> {
        let promised = PROMISED.min(most);
        for curve in &mut self.0 {
            let limit = if curve.name == "start" { START_SECONDS } else { ANSWER_SECONDS };
            let Some(point) = curve.points.iter().find(|point| point.at == promised) else { continue };
            let verdict = if point.seconds <= limit { "reached" } else { "NOT reached" };
            curve.notes.push(format!("{:.3} s at {promised} messages (at most {limit} s): {verdict}", point.seconds));
        }
        self.0
    }
}

/// The text form of the data directory's name in errors.
fn in_dir(dir: &Path) -> impl Fn() -> String {
    let dir = dir.display().to_string();
    move || format!("the node in {dir}")
}

/// Fails with what is missing.
fn some<T>(value: Option<T>, what: &'static str) -> Result<T> {
    value.context(what)
}
