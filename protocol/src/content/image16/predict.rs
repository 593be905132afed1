//! Prediction of samples from those to the left and above, a row at a time.
//!
//! All arithmetic is on 16-bit two's complement numbers that wrap, so every function here is total and exact on every
//! machine, and compilers turn the loops into vector instructions.
//!
//! **Invariant:** [`residuals`] and [`restore`] are inverse for any rows, contexts and predictors.

use super::plan::Plan;

/// Parts of a row that are restored side by side: a sample needs its left neighbour, so one part alone would wait for
/// itself, and so many fit into one vector register.
pub(super) const PARTS: usize = 8;

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

/// A row of samples, cut into [`PARTS`] parts of one length (the last ones may lack samples), as groups of what stands at
/// the same place of each part; with one more group on each side, of each part's neighbours.
#[derive(Debug, Default, Clone)]
pub(super) struct Row {
    groups: Vec<[i16; PARTS]>,
    samples: usize,
}

impl Row {
    /// Makes it a row of zeros.
    pub(super) fn reset(&mut self, samples: usize) {
        self.groups.clear();
        self.groups.resize(samples.div_ceil(PARTS) + 2, [0; PARTS]);
        self.samples = samples;
    }

    /// Takes the first samples of the row, or all.
    pub(super) fn fill(&mut self, samples: &[i16]) {
        let length = self.groups.len() - 2;
        for (index, part) in samples.chunks(length).enumerate().take(PARTS) {
            for (group, sample) in self.groups[1..].iter_mut().zip(part) {
                group[index] = *sample;
            }
        }
        self.close();
    }

    /// Gives the first samples of the row, or all.
    pub(super) fn copy_to(&self, pairs: &mut [[u8; 2]], flip: i16) {
        let length = self.groups.len() - 2;
        for (index, part) in pairs.chunks_mut(length).enumerate().take(PARTS) {
            for (pair, group) in part.iter_mut().zip(&self.groups[1..]) {
                *pair = (group[index] ^ flip).to_le_bytes();
            }
        }
    }

    /// Writes the neighbours of the parts: what lies beyond the border repeats the sample at it.
    fn close(&mut self) {
        let length = self.groups.len() - 2;
        let (first, last) = (self.groups[1], self.groups[length]);
        self.groups[0][0] = first[0];
        self.groups[0][1..].copy_from_slice(&last[..PARTS - 1]);
        self.groups[length + 1][..PARTS - 1].copy_from_slice(&first[1..]);
        let at_border = self.groups[(self.samples - 1) % length + 1][(self.samples - 1) / length];
        if let Some(beyond) = self.groups.get_mut(self.samples % length + 1).filter(|_| self.samples < length * PARTS) {
            beyond[self.samples / length] = at_border;
            // The first of a part is also the neighbour of the part before.
            if self.samples.is_multiple_of(length) {
                self.groups[length + 1][self.samples / length - 1] = at_border;
            }
        } else {
            self.groups[length + 1][PARTS - 1] = at_border;
        }
    }

    fn left(&self) -> &[[i16; PARTS]] {
        &self.groups[..self.groups.len() - 2]
    }

    fn here(&self) -> &[[i16; PARTS]] {
        &self.groups[1..self.groups.len() - 1]
    }

    fn right(&self) -> &[[i16; PARTS]] {
        &self.groups[2..]
    }
}

/// In how many groups, of how many lanes each, the first `count` samples of a row of `stride` stand: first those with
/// one more.
pub(super) fn shape(stride: usize, count: usize) -> [(usize, usize); 2] {
    let length = stride.div_ceil(PARTS);
    let (lanes, more) = (count / length, count % length);
    [(more, lanes + 1), (length - more, lanes)]
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
    let (north_west, north, north_east) =
        (above.left().as_flattened(), above.here().as_flattened(), above.right().as_flattened());
    let (far_west, far, far_east) =
        (above_2.left().as_flattened(), above_2.here().as_flattened(), above_2.right().as_flattened());
    let above = north_west.iter().zip(north).zip(north_east);
    let above_2 = far_west.iter().zip(far).zip(far_east);
    for ((((nw, n), ne), ((fw, f), fe)), out) in above.zip(above_2).zip(out) {
        let across = distance(*n, *nw).saturating_add(distance(*n, *ne));
        let along = distance(*n, *f).saturating_add(distance(*nw, *fw));
        *out = across.saturating_add(along).saturating_add(distance(*ne, *fe));
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

/// The residuals of a row as numbers without a sign, small ones first.
pub(super) fn residuals(above: &Row, row: &Row, treatments: &[Treatment], out: &mut [u16]) {
    let (north_west, north, north_east) =
        (above.left().as_flattened(), above.here().as_flattened(), above.right().as_flattened());
    let here = row.here().as_flattened();
    let (first, rest) = (0..PARTS, PARTS..here.len());
    // Parts begin without a left neighbour: the one above stands in for it.
    for (places, west) in [(first, north), (rest, here)] {
        let around = north_west[places.clone()].iter().zip(&north[places.clone()]).zip(&north_east[places.clone()]);
        let told = here[places.clone()].iter().zip(&treatments[places.clone()]);
        for (((((nw, n), ne), (here, treatment)), west), out) in around.zip(told).zip(west).zip(&mut out[places]) {
            let predicted = predict(*west, *n, *nw, mean(*nw, *ne), *treatment);
            *out = zigzag(here.wrapping_sub(predicted));
        }
    }
}

/// Writes the row that has these residuals.
pub(super) fn restore(above: &Row, treatments: &[Treatment], residuals: &[u16], row: &mut Row) {
    let Some(mut west) = above.here().first().copied() else { return };
    let neighbours = above.left().iter().zip(above.here()).zip(above.right());
    let told = treatments.as_chunks::<PARTS>().0.iter().zip(residuals.as_chunks::<PARTS>().0);
    for ((((north_west, north), north_east), (treatments, residuals)), out) in
        neighbours.zip(told).zip(&mut row.groups[1..])
    {
        for lane in 0..PARTS {
            let half = mean(north_west[lane], north_east[lane]);
            let predicted = predict(west[lane], north[lane], north_west[lane], half, treatments[lane]);
            west[lane] = predicted.wrapping_add(unzigzag(residuals[lane]));
        }
        *out = west;
    }
    row.close();
}

#[inline(always)]
fn zigzag(residual: i16) -> u16 {
    ((residual << 1) ^ (residual >> 15)) as u16
}

#[inline(always)]
fn unzigzag(symbol: u16) -> i16 {
    ((symbol >> 1) as i16) ^ (symbol as i16 & 1).wrapping_neg()
}
