//! What is said about an image before its samples, and how it is found by looking at some of the rows.

use super::encode::Buffers;
use super::predict::Predictor;
use super::rans::{self, CONTEXTS_MAX};
use super::{STRIDE_MAX, STRIDE_MIN, UNSIGNED, stride};

/// Rows looked at, spread over the chunk.
const ROWS_SAMPLED: usize = 32;
/// Activities from here on are alike to the choice of thresholds.
const ACTIVITY_BINS: usize = 4096;
/// So many samples are worth a context: its table of frequencies takes about 40 bytes.
const SAMPLES_PER_CONTEXT: usize = 1024;
/// Contexts that an encoder uses: more gain nothing.
const CONTEXTS: usize = 12;

/// What is said about a chunk before its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Plan {
    /// Samples in a row.
    pub(super) stride: usize,
    /// Whether samples are numbers without a sign.
    pub(super) unsigned: bool,
    /// The least activity of every context but the first, rising.
    pub(super) thresholds: Vec<i16>,
    /// One for each context.
    pub(super) predictors: Vec<Predictor>,
}

impl Plan {
    /// What samples are turned over with.
    pub(super) fn flip(&self) -> i16 {
        if self.unsigned { i16::MIN } else { 0 }
    }

    /// Appends it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.stride as u16).to_le_bytes());
        out.push(if self.unsigned { UNSIGNED } else { 0 });
        out.push(self.predictors.len() as u8);
        for threshold in &self.thresholds {
            out.extend_from_slice(&threshold.to_le_bytes());
        }
        out.extend(self.predictors.iter().map(|predictor| *predictor as u8));
    }

    /// Takes what [`Plan::write`] wrote.
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Plan> {
        let stride = usize::from(u16::from_le_bytes(take(bytes)?));
        let [flags, contexts] = take(bytes)?;
        let contexts = usize::from(contexts);
        let known = (STRIDE_MIN..=STRIDE_MAX).contains(&stride) && flags & !UNSIGNED == 0;
        if !known || !(1..=CONTEXTS_MAX).contains(&contexts) {
            return None;
        }
        let thresholds: Vec<i16> =
            (1..contexts).map(|_| Some(i16::from_le_bytes(take(bytes)?))).collect::<Option<_>>()?;
        let rising = thresholds.first().is_none_or(|first| *first > 0) && thresholds.is_sorted_by(|a, b| a < b);
        let predictors = (0..contexts).map(|_| Predictor::of(*bytes.split_off_first()?)).collect::<Option<_>>()?;
        rising.then_some(Plan { stride, unsigned: flags & UNSIGNED != 0, thresholds, predictors })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// Finds a plan, and about how many bytes the encoding by it takes; none for what is no image.
pub(super) fn find(plain: &[u8], buffers: &mut Buffers) -> Option<(Plan, usize)> {
    let (pairs, _) = plain.as_chunks::<2>();
    let unsigned = is_unsigned(pairs);
    let mut plan = Plan { stride: STRIDE_MIN, unsigned, thresholds: Vec::new(), predictors: Vec::new() };
    plan.stride = stride::find(buffers.take(pairs, &plan))?;
    let stride = plan.stride;
    buffers.begin(&plan);
    let rows = pairs.len() / stride;
    let step = (rows / ROWS_SAMPLED).max(1);
    let sampled = || (2..rows).step_by(step);
    let mut histogram = vec![0u32; ACTIVITY_BINS];
    for row in sampled() {
        buffers.load(row);
        for activity in buffers.activity() {
            let bin = usize::from(*activity as u16).min(ACTIVITY_BINS - 1);
            histogram[bin] = histogram[bin].wrapping_add(1);
        }
    }
    plan.thresholds = thresholds(&histogram, (pairs.len() / SAMPLES_PER_CONTEXT).clamp(1, CONTEXTS));
    let contexts = plan.thresholds.len() + 1;
    let mut found = vec![(f64::INFINITY, Predictor::Median); contexts];
    for predictor in Predictor::ALL {
        plan.predictors = vec![predictor; contexts];
        let counts = buffers.count(sampled(), &plan);
        for (best, counts) in found.iter_mut().zip(counts) {
            let cost = rans::cost(counts);
            if cost < best.0 {
                *best = (cost, predictor);
            }
        }
    }
    plan.predictors = found.iter().map(|(_, predictor)| *predictor).collect();
    let bits: f64 = found.iter().map(|(cost, _)| cost).sum();
    let share = pairs.len() as f64 / (sampled().count() * stride).max(1) as f64;
    Some((plan, (bits * share / 8.0) as usize + 40 * contexts))
}

/// Whether samples above 32,767 continue those below, rather than stand for negative numbers.
fn is_unsigned(pairs: &[[u8; 2]]) -> bool {
    let (mut middle, mut ends) = (0usize, 0usize);
    for pair in pairs.iter().step_by(61) {
        middle += usize::from((64..192).contains(&pair[1]));
        ends += usize::from(pair[1] < 32 || pair[1] >= 224);
    }
    middle > ends
}

/// Thresholds that share samples out evenly among so many contexts; fewer if activities repeat.
fn thresholds(histogram: &[u32], contexts: usize) -> Vec<i16> {
    let total: u64 = histogram.iter().map(|count| u64::from(*count)).sum();
    let mut found = Vec::new();
    let mut below = 0;
    for (activity, count) in (0..).zip(histogram) {
        let wanted = found.len() as u64 + 1;
        if wanted < contexts as u64 && activity > 0 && below * contexts as u64 >= total * wanted {
            found.push(activity);
        }
        below += u64::from(*count);
    }
    found
}
