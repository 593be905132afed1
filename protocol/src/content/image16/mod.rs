//! Images of 16-bit samples: predicted from their neighbours, and what prediction leaves, entropy-coded.
//!
//! A chunk is taken as one image of unknown height: little-endian samples in rows of a stride that the encoder finds.
//! Headers in between cost a little and break nothing. Each sample has a context, found from the two rows above: how
//! restless they are there. A context has its own predictor and its own table of frequencies. So all contexts of a row
//! are known before its first number is read, and reading need not wait for restoring.
//!
//! `plan` looks for what to say about a chunk, `encode` says it, this file reads it; `predict` is the arithmetic of both
//! sides, `rans` the entropy coding.
//!
//! **Invariant:** [`ImageDecoder::decode`] fills exactly the bytes asked for, and takes exactly the bytes that belong to
//! them: not one more, and none is left.

mod encode;
mod plan;
mod predict;
mod rans;
mod stride;
#[cfg(test)]
mod tests;

pub(super) use encode::ImageEncoder;
pub(super) use plan::Plan;

use predict::{PARTS, Row, Treatment};
use rans::{DecodeTable, Decoder};
#[cfg(test)]
use {predict::Predictor, rans::CONTEXTS_MAX};

/// Samples in the narrowest row: less has hardly a second dimension.
const STRIDE_MIN: usize = 32;
/// Samples in the widest row that decoders accept.
const STRIDE_MAX: usize = 8192;
/// The flag of samples whose highest bit is turned over before and after: numbers without a sign.
const UNSIGNED: u8 = 1;

/// What decoding keeps between chunks.
pub(super) struct ImageDecoder {
    rows: [Row; 3],
    activity: Vec<i16>,
    treatments: Vec<Treatment>,
    numbers: Vec<u16>,
    table: DecodeTable,
}

impl ImageDecoder {
    /// An empty one; it grows on first use.
    pub(super) fn new() -> Self {
        ImageDecoder {
            rows: Default::default(),
            activity: Vec::new(),
            treatments: Vec::new(),
            numbers: Vec::new(),
            table: DecodeTable::new(),
        }
    }

    /// Decodes into `out`, all of it; none, and anything in `out`, if the bytes are not the encoding of so many.
    pub(super) fn decode(&mut self, mut encoded: &[u8], out: &mut [u8]) -> Option<()> {
        let (pairs, last) = out.as_chunks_mut::<2>();
        let plan = Plan::read(&mut encoded)?;
        for context in 0..plan.predictors.len() {
            self.table.set(context, &rans::read_frequencies(&mut encoded)?);
        }
        let (length, rest) = encoded.split_first_chunk::<4>()?;
        let (words, bits) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (bits, ending) = bits.split_at_checked(bits.len().checked_sub(last.len())?)?;
        last.copy_from_slice(ending);
        let mut decoder = Decoder::new(&self.table, words, bits)?;
        for row in &mut self.rows {
            row.reset(plan.stride);
        }
        let places = plan.stride.next_multiple_of(PARTS);
        self.activity.resize(places, 0);
        self.treatments.resize(places, 0);
        self.numbers.resize(places, 0);
        let steps = predict::Steps::new(&plan);
        for target in pairs.chunks_mut(plan.stride) {
            self.rows.rotate_left(1);
            let [above_2, above, row] = &mut self.rows;
            predict::activity(above, above_2, &mut self.activity);
            steps.treatments(&self.activity, &mut self.treatments);
            let shape = predict::shape(plan.stride, target.len());
            read_row(&mut decoder, shape, &self.treatments, &mut self.numbers);
            predict::restore(above, &self.treatments, &self.numbers, row);
            row.copy_to(target, plan.flip());
        }
        decoder.is_finished().then_some(())
    }
}

/// Reads the numbers of a row: group after group, of each only the lanes that hold samples.
fn read_row(decoder: &mut Decoder<'_>, shape: [(usize, usize); 2], treatments: &[Treatment], numbers: &mut [u16]) {
    let (treatments, numbers) = (treatments.as_chunks::<PARTS>().0, numbers.as_chunks_mut::<PARTS>().0);
    let mut lane = 0;
    let mut at = 0;
    for (groups, lanes) in shape {
        let (treatments, numbers) = (&treatments[at..at + groups], &mut numbers[at..at + groups]);
        at += groups;
        if lanes == PARTS {
            decoder.read(treatments.as_flattened(), numbers.as_flattened_mut());
            continue;
        }
        for (treatments, numbers) in treatments.iter().zip(numbers) {
            for (treatment, number) in treatments[..lanes].iter().zip(numbers) {
                *number = decoder.read_one(lane, *treatment);
                lane = (lane + 1) % rans::LANES;
            }
        }
    }
}
