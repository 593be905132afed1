//! Progress bars: on a terminal only, without colour.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::safe;
use crate::api::types::OutboxMessage;

const BYTES_STYLE: &str = "{msg}  {bar:30}  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
const REDRAWS_PER_SECOND: u8 = 10;

/// The bars of one command; draws nothing when stderr is no terminal.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    envelopes: HashMap<String, ProgressBar>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Bars on stderr, unless it is no terminal.
    pub fn new() -> Self {
        let target = if !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND)
        };
        Self { bars: MultiProgress::with_draw_target(target), envelopes: HashMap::new() }
    }

    /// A bar that counts bytes up to `total`.
    pub fn bytes(&self, total: u64, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(BYTES_STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.add(ProgressBar::new(total).with_style(style));
        bar.set_message(what.to_owned());
        bar
    }

    /// A bar that counts steps up to `total`.
    pub fn count(&self, total: u64, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg}  {bar:30}  {pos}/{len}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.add(ProgressBar::new(total).with_style(style));
        bar.set_message(what.to_owned());
        bar
    }

    /// Shows how much each receiver holds.
    pub fn show(&mut self, message: &OutboxMessage) {
        for envelope in &message.envelopes {
            if !self.envelopes.contains_key(&envelope.id) {
                let name = format!("{}/{}", safe(&envelope.name), safe(&envelope.group));
                let bar = self.bytes(envelope.bytes_total, &name);
                bar.enable_steady_tick(Duration::from_secs(1));
                // What arrived while it was still being read is no measure of the time that is left.
                bar.set_position(envelope.bytes_durable);
                bar.reset_eta();
                self.envelopes.insert(envelope.id.clone(), bar);
            }
            let Some(bar) = self.envelopes.get(&envelope.id) else { continue };
            bar.set_length(envelope.bytes_total);
            bar.set_position(envelope.bytes_durable);
            let name = format!("{}/{} {}", safe(&envelope.name), safe(&envelope.group), envelope.state.as_str());
            bar.set_message(name);
            if envelope.state.tier() > 0 || envelope.state.is_failure() {
                bar.abandon();
            }
        }
    }

    /// Removes all bars.
    pub fn clear(&self) {
        let _ = self.bars.clear();
    }
}
