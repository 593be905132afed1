//! How far a run is, on a terminal: simulated time, how fast it goes, events, and the time left.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::outcome::{Event, Watch};
use crate::report::svg::{count_text, figure, moment_text};
use crate::scenario::Scenario;

/// Looking at the clock at every event would be slower than the event.
const EVENTS_BETWEEN: u64 = 4_096;
const REFRESH: Duration = Duration::from_millis(200);

/// One line on stderr, if that is a terminal; its length is the simulated seconds of all seeds.
pub(super) struct Progress {
    bar: ProgressBar,
    each: u64,
    seeds: u64,
}

impl Progress {
    pub(super) fn new(scenario: &Scenario, seeds: u64, is_quiet: bool) -> Self {
        let each = (scenario.duration + scenario.settle).as_secs().max(1);
        let target = if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(each.saturating_mul(seeds)), target);
        let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, each, seeds }
    }

    /// Looks on at one seed.
    pub(super) fn watch(&self) -> Onlooker<'_> {
        Onlooker { progress: self, begun: Instant::now(), shown: Instant::now(), events: 0, seconds: 0 }
    }

    /// A line that stays: on stdout, or on stderr where that is for a result alone.
    pub(super) fn note(&self, line: &str, to_stdout: bool) -> io::Result<()> {
        self.bar.suspend(|| match to_stdout {
            true => writeln!(io::stdout(), "{line}"),
            false => writeln!(io::stderr(), "{line}"),
        })
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Tells the line how one seed goes.
pub(super) struct Onlooker<'a> {
    progress: &'a Progress,
    begun: Instant,
    shown: Instant,
    events: u64,
    /// Of simulated time, already shown.
    seconds: u64,
}

impl Onlooker<'_> {
    fn show(&mut self, simulated: Duration) {
        self.shown = Instant::now();
        let seconds = simulated.as_secs().min(self.progress.each);
        self.progress.bar.inc(seconds.saturating_sub(self.seconds));
        self.seconds = self.seconds.max(seconds);
        let speed = simulated.as_secs_f64() / self.begun.elapsed().as_secs_f64().max(1e-3);
        self.progress.bar.set_message(match self.progress.seeds {
            1 => {
                format!("{}  {} × real time  {} events", moment_text(simulated), figure(speed), count_text(self.events))
            }
            _ => format!("{} × real time in each of the runs", figure(speed)),
        });
    }
}

impl Watch for Onlooker<'_> {
    fn event(&mut self, event: &Event) {
        self.events += 1;
        if self.events.is_multiple_of(EVENTS_BETWEEN) {
            self.progress(event.at);
        }
    }

    fn progress(&mut self, simulated: Duration) {
        if self.shown.elapsed() >= REFRESH {
            self.show(simulated);
        }
    }
}

impl Drop for Onlooker<'_> {
    /// A seed that ends early, or a panic, has done its share of the line all the same.
    fn drop(&mut self) {
        self.progress.bar.inc(self.progress.each.saturating_sub(self.seconds));
    }
}
