//! Prediction of samples from those to the left and above, a row at a time.
//!
//! All arithmetic is on 16-bit two's complement numbers that wrap, so every function here is total and exact on every
//! machine, and compilers turn the loops into vector instructions.
//!
//! **Invariant:** [`residuals`] and [`restore`] are inverse for any rows, contexts and predictors.

use super::plan::Plan;

/// Parts of a row that are restored side by side: a sample needs its left neighbour, so one part alone would wait for
/// itself.
pub(super) const PARTS: usize = 4;

/// How the samples of a context are predicted from left, above, above left and above right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Predictor {
    /// The median of left, above, and left + above - above left (LOCO-I): follows edges.
    Median = 0,
    /// The mean of the other two.
    Between = 1,
    /// The mean of the four neighbours: averages noise away.
    Mean = 2,
}

impl Predictor {
    pub(super) const ALL: [Predictor; 3] = [Predictor::Median, Predictor::Between, Predictor::Mean];

    /// The predictor of a byte, if there is one.
    pub(super) fn of(byte: u8) -> Option<Predictor> {
        Predictor::ALL.get(usize::from(byte)).copied()
    }
}

/// A row of samples with one more on each side: what lies beyond the border repeats the sample at it.
#[derive(Debug, Default, Clone)]
pub(super) struct Row(Vec<i16>);

impl Row {
    /// Makes it a row of `samples` zeros.
    pub(super) fn reset(&mut self, samples: usize) {
        self.0.clear();
        self.0.resize(samples + 2, 0);
    }

    /// The samples.
    pub(super) fn samples(&self) -> &[i16] {
        &self.0[1..self.0.len() - 1]
    }

    /// The samples, to be written; [`Row::close`] must follow.
    pub(super) fn samples_mut(&mut self) -> &mut [i16] {
        let end = self.0.len() - 1;
        &mut self.0[1..end]
    }

    /// Repeats the first and the last of `stride` samples beyond the border.
    pub(super) fn close(&mut self, stride: usize) {
        self.0[0] = self.0[1];
        self.0[stride + 1] = self.0[stride];
    }

    fn left(&self, samples: usize) -> &[i16] {
        &self.0[..samples]
    }

    fn here(&self, samples: usize) -> &[i16] {
        &self.0[1..=samples]
    }

    fn right(&self, samples: usize) -> &[i16] {
        &self.0[2..samples + 2]
    }
}

/// The mean of two numbers, rounded down, without overflow.
#[inline(always)]
fn mean(a: i16, b: i16) -> i16 {
    (a & b).wrapping_add((a ^ b) >> 1)
}

#[inline(always)]
fn median(west: i16, north: i16, north_west: i16) -> i16 {
    let (low, high) = (west.min(north), west.max(north));
    west.wrapping_add(north).wrapping_sub(north_west).max(low).min(high)
}

#[inline(always)]
fn distance(a: i16, b: i16) -> i16 {
    a.max(b).saturating_sub(a.min(b))
}

/// How restless the two rows above are around each sample, 0 to 32,767.
pub(super) fn activity(above: &Row, above_2: &Row, out: &mut [i16]) {
    let count = out.len();
    let (north_west, north, north_east) = (above.left(count), above.here(count), above.right(count));
    let (far_west, far, far_east) = (above_2.left(count), above_2.here(count), above_2.right(count));
    for c in 0..count {
        let across = distance(north[c], north_west[c]).saturating_add(distance(north[c], north_east[c]));
        let along = distance(north[c], far[c]).saturating_add(distance(north_west[c], far_west[c]));
        out[c] = across.saturating_add(along).saturating_add(distance(north_east[c], far_east[c]));
    }
}

/// What is done with a sample: its context in the low 4 bits, its predictor in the high two.
pub(super) type Treatment = i16;

/// The treatment of the samples of `context`.
fn treatment(context: usize, predictor: Predictor) -> Treatment {
    let parts = match predictor {
        Predictor::Median => 0,
        Predictor::Between => 1 << 15,
        Predictor::Mean => 3 << 14,
    };
    (context as u16 & 15 | parts) as i16
}

/// The context of a treatment.
#[inline(always)]
pub(super) fn context(treatment: Treatment) -> usize {
    usize::from(treatment as u16 & 15)
}

/// The way from activities to treatments: from one context to the next by exclusive or, because that needs no look-up
/// and so is done for many samples at once.
pub(super) struct Steps {
    first: Treatment,
    steps: Vec<(i16, Treatment)>,
}

impl Steps {
    /// For the contexts of a plan.
    pub(super) fn new(plan: &Plan) -> Self {
        let table: Vec<_> = (0..).zip(&plan.predictors).map(|(at, predictor)| treatment(at, *predictor)).collect();
        let steps =
            plan.thresholds.iter().zip(table.windows(2)).map(|(from, pair)| (*from, pair[0] ^ pair[1])).collect();
        Steps { first: table.first().copied().unwrap_or_default(), steps }
    }

    /// The treatment of each activity: that of the context whose number is how many of the thresholds it reaches.
    pub(super) fn treatments(&self, activity: &[i16], out: &mut [Treatment]) {
        out.fill(self.first);
        // Two steps in each pass save half of the loads.
        let (pairs, last) = self.steps.as_chunks::<2>();
        for [(low, low_step), (high, high_step)] in pairs {
            for (found, activity) in out.iter_mut().zip(activity) {
                *found ^= reached(*activity, *low) & low_step ^ reached(*activity, *high) & high_step;
            }
        }
        for (threshold, step) in last {
            for (found, activity) in out.iter_mut().zip(activity) {
                *found ^= reached(*activity, *threshold) & step;
            }
        }
    }
}

/// All bits set if `activity` is at least `threshold`, which is at least 1.
#[inline(always)]
fn reached(activity: i16, threshold: i16) -> i16 {
    i16::from(activity > threshold.wrapping_sub(1)).wrapping_neg()
}

/// The prediction, where `half` is the mean of what lies above left and above right.
#[inline(always)]
fn predict(west: i16, north: i16, north_west: i16, half: i16, treatment: Treatment) -> i16 {
    let edge = median(west, north, north_west);
    let differs = edge ^ mean(mean(west, north), half);
    mean(edge ^ (differs & (treatment >> 15)), edge ^ (differs & ((treatment << 1) >> 15)))
}

/// Columns of a row of `stride` samples at which a part begins.
fn part_starts(stride: usize) -> [usize; PARTS] {
    let part = stride.div_ceil(PARTS);
    std::array::from_fn(|index| index * part)
}

/// The residuals of a row as unsigned numbers, small ones first.
pub(super) fn residuals(
    above: &Row,
    row: &Row,
    stride: usize,
    treatments: &[Treatment],
    west: &mut [i16],
    out: &mut [u16],
) {
    let count = out.len();
    let (north_west, north, north_east) = (above.left(count), above.here(count), above.right(count));
    let (here, west, treatments) = (row.here(count), &mut west[..count], &treatments[..count]);
    west.copy_from_slice(row.left(count));
    for start in part_starts(stride) {
        if start < count {
            west[start] = north[start];
        }
    }
    for c in 0..count {
        let half = mean(north_west[c], north_east[c]);
        let predicted = predict(west[c], north[c], north_west[c], half, treatments[c]);
        out[c] = zigzag(here[c].wrapping_sub(predicted));
    }
}

/// Writes the row that has these residuals; `treatments` and `residuals` have [`padded`] places.
pub(super) fn restore(above: &Row, treatments: &[Treatment], residuals: &[u16], row: &mut Row) {
    let part = treatments.len() / PARTS;
    let count = part * PARTS;
    let (north_west, north, north_east) = (above.left(count), above.here(count), above.right(count));
    let mut west: [i16; PARTS] = std::array::from_fn(|index| north[index * part]);
    let out = &mut row.samples_mut()[..count];
    let (o0, rest) = out.split_at_mut(part);
    let (o1, rest) = rest.split_at_mut(part);
    let (o2, o3) = rest.split_at_mut(part);
    for c in 0..part {
        let mut one = |index: usize| {
            let at = index * part + c;
            let half = mean(north_west[at], north_east[at]);
            let predicted = predict(west[index], north[at], north_west[at], half, treatments[at]);
            west[index] = predicted.wrapping_add(unzigzag(residuals[at]));
            west[index]
        };
        o0[c] = one(0);
        o1[c] = one(1);
        o2[c] = one(2);
        o3[c] = one(3);
    }
}

/// Places of a row of `stride` samples that is restored in parts of one length.
pub(super) fn padded(stride: usize) -> usize {
    stride.div_ceil(PARTS) * PARTS
}

#[inline(always)]
fn zigzag(residual: i16) -> u16 {
    ((residual << 1) ^ (residual >> 15)) as u16
}

#[inline(always)]
fn unzigzag(symbol: u16) -> i16 {
    ((symbol >> 1) as i16) ^ (symbol as i16 & 1).wrapping_neg()
}
