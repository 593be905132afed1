//! Encoding by a plan: once forward for tokens and bits, once backward for the states.

use super::plan::{self, Plan};
use super::predict::{self, Row, Treatment};
use super::rans::{self, CONTEXTS_MAX, EncodeTable, TOKEN_BITS, TOKENS};

/// What encoding keeps between chunks.
pub(in super::super) struct ImageEncoder {
    buffers: Buffers,
    symbols: Vec<u16>,
    words: Vec<u16>,
    table: EncodeTable,
}

impl ImageEncoder {
    /// An empty one; it grows on first use.
    pub(in super::super) fn new() -> Self {
        ImageEncoder { buffers: Buffers::new(), symbols: Vec::new(), words: Vec::new(), table: EncodeTable::new() }
    }

    /// How a chunk would be encoded, and about how many bytes that takes; none for what is no image.
    pub(in super::super) fn plan(&mut self, plain: &[u8]) -> Option<(Plan, usize)> {
        plan::find(plain, &mut self.buffers)
    }

    /// Encodes a chunk by a plan that was made for it.
    pub(in super::super) fn encode(&mut self, plain: &[u8], plan: &Plan, out: &mut Vec<u8>) {
        let ImageEncoder { buffers, symbols, words, table } = self;
        let (pairs, last) = plain.as_chunks::<2>();
        let mut bits = BitWriter::new();
        buffers.begin(pairs, plan);
        let steps = predict::Steps::new(plan);
        symbols.clear();
        symbols.resize(pairs.len(), 0);
        for (row, symbols) in symbols.chunks_mut(plan.stride).enumerate() {
            buffers.load(row);
            buffers.predict(&steps);
            buffers.write_row(symbols, &mut bits);
        }
        out.clear();
        plan.write(out);
        for (context, counts) in buffers.counts[..plan.predictors.len()].iter().enumerate() {
            let frequencies = rans::frequencies(counts);
            rans::write_frequencies(&frequencies, out);
            table.set(context, &frequencies);
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        table.encode(symbols, plan.stride, words, out);
        let bytes = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(bits.finish());
        out.extend_from_slice(last);
    }
}

/// How often each token came in each context.
type Counts = [rans::Counts; CONTEXTS_MAX];

/// Rows on their way from samples to numbers.
pub(super) struct Buffers {
    samples: Vec<i16>,
    stride: usize,
    /// Two above, one above, and the row itself.
    rows: [Row; 3],
    /// The number of the row, and how many samples it has.
    row: usize,
    count: usize,
    activity: Vec<i16>,
    treatments: Vec<Treatment>,
    west: Vec<i16>,
    numbers: Vec<u16>,
    counts: Box<Counts>,
}

impl Buffers {
    fn new() -> Self {
        Buffers {
            samples: Vec::new(),
            stride: 1,
            rows: Default::default(),
            row: 0,
            count: 0,
            activity: Vec::new(),
            treatments: Vec::new(),
            west: Vec::new(),
            numbers: Vec::new(),
            counts: Box::new([[0; TOKENS]; CONTEXTS_MAX]),
        }
    }

    /// Takes the samples of a chunk.
    pub(super) fn begin(&mut self, pairs: &[[u8; 2]], plan: &Plan) {
        let flip = plan.flip();
        self.samples.clear();
        self.samples.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair) ^ flip));
        self.stride = plan.stride;
        for row in &mut self.rows {
            row.reset(plan.stride);
        }
        for values in [&mut self.activity, &mut self.treatments, &mut self.west] {
            values.resize(plan.stride, 0);
        }
        self.numbers.resize(plan.stride, 0);
        *self.counts = [[0; TOKENS]; CONTEXTS_MAX];
        self.row = usize::MAX;
    }

    /// Loads a row and the two above it.
    pub(super) fn load(&mut self, row: usize) {
        if row == self.row.wrapping_add(1) {
            self.rows.rotate_left(1);
            self.copy(row, 2);
        } else {
            for (back, slot) in [(2, 0), (1, 1), (0, 2)] {
                self.copy(row - back, slot);
            }
        }
        self.row = row;
        self.count = self.stride.min(self.samples.len() - row * self.stride);
    }

    fn copy(&mut self, row: usize, slot: usize) {
        let samples = &self.samples[row * self.stride..];
        let samples = &samples[..samples.len().min(self.stride)];
        let target = &mut self.rows[slot];
        target.samples_mut()[..samples.len()].copy_from_slice(samples);
        target.close(self.stride);
    }

    /// The activities of the row.
    pub(super) fn activity(&mut self) -> &[i16] {
        let [above_2, above, _] = &self.rows;
        predict::activity(above, above_2, &mut self.activity[..self.count]);
        &self.activity[..self.count]
    }

    /// Counts the tokens of some rows.
    pub(super) fn count(&mut self, rows: impl Iterator<Item = usize>, plan: &Plan) -> &[rans::Counts] {
        *self.counts = [[0; TOKENS]; CONTEXTS_MAX];
        let steps = predict::Steps::new(plan);
        for row in rows {
            self.load(row);
            self.predict(&steps);
            for (number, treatment) in self.numbers[..self.count].iter().zip(&self.treatments) {
                let count = &mut self.counts[predict::context(*treatment)][rans::token(*number).0 & (TOKENS - 1)];
                *count = count.wrapping_add(1);
            }
        }
        &self.counts[..plan.predictors.len()]
    }

    /// Finds the treatments and the numbers of the row.
    fn predict(&mut self, steps: &predict::Steps) {
        self.activity();
        let [_, above, row] = &self.rows;
        let treatments = &mut self.treatments[..self.count];
        steps.treatments(&self.activity[..self.count], treatments);
        predict::residuals(above, row, self.stride, treatments, &mut self.west, &mut self.numbers[..self.count]);
    }

    /// Writes the symbols of the row, and the bits that they leave open.
    fn write_row(&mut self, symbols: &mut [u16], bits: &mut BitWriter) {
        let counts = self.counts.as_flattened_mut();
        for ((symbol, number), treatment) in symbols.iter_mut().zip(&self.numbers).zip(&self.treatments) {
            let (token, open) = rans::token(*number);
            let found = predict::context(*treatment) << TOKEN_BITS | token & (TOKENS - 1);
            if let Some(count) = counts.get_mut(found) {
                *count = count.wrapping_add(1);
            }
            *symbol = found as u16;
            bits.put(u64::from(*number) & ((1 << open) - 1), open);
        }
    }
}

/// Bits, the first in the lowest place of the first byte.
struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    held_bits: u32,
}

impl BitWriter {
    fn new() -> Self {
        BitWriter { bytes: Vec::new(), held: 0, held_bits: 0 }
    }

    #[inline(always)]
    fn put(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.held_bits;
        self.held_bits = self.held_bits.wrapping_add(count);
        if self.held_bits >= 32 {
            self.bytes.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.held_bits -= 32;
        }
    }

    fn finish(&mut self) -> &[u8] {
        let rest = self.held.to_le_bytes();
        self.bytes.extend_from_slice(&rest[..self.held_bits.div_ceil(8) as usize]);
        &self.bytes
    }
}
