//! Encoding by a plan: once forward for tokens and bits, once backward for the states.

use super::plan::{self, Plan};
use super::predict::{self, PARTS, Row, Treatment};
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
        let mut bits = BitWriter::new(pairs.len());
        buffers.take(pairs, plan);
        buffers.begin(plan);
        let steps = predict::Steps::new(plan);
        symbols.clear();
        for row in 0..pairs.len().div_ceil(plan.stride) {
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
        out.extend_from_slice(bits.bytes());
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
            numbers: Vec::new(),
            counts: Box::new([[0; TOKENS]; CONTEXTS_MAX]),
        }
    }

    /// Takes the samples of a chunk, and shows them.
    pub(super) fn take(&mut self, pairs: &[[u8; 2]], plan: &Plan) -> &[i16] {
        let flip = plan.flip();
        self.samples.clear();
        self.samples.extend(pairs.iter().map(|pair| i16::from_le_bytes(*pair) ^ flip));
        &self.samples
    }

    /// Goes before the first row.
    pub(super) fn begin(&mut self, plan: &Plan) {
        self.stride = plan.stride;
        for row in &mut self.rows {
            row.reset(plan.stride);
        }
        let places = plan.stride.next_multiple_of(PARTS);
        self.activity.resize(places, 0);
        self.treatments.resize(places, 0);
        self.numbers.resize(places, 0);
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
        self.rows[slot].fill(&samples[..samples.len().min(self.stride)]);
    }

    /// The activities of the row and, where groups lack samples, of what fills them.
    pub(super) fn activity(&mut self) -> &[i16] {
        let [above_2, above, _] = &self.rows;
        predict::activity(above, above_2, &mut self.activity);
        &self.activity
    }

    /// Counts the tokens of some rows, those of what fills their last groups included.
    pub(super) fn count(&mut self, rows: impl Iterator<Item = usize>, plan: &Plan) -> &[rans::Counts] {
        *self.counts = [[0; TOKENS]; CONTEXTS_MAX];
        let steps = predict::Steps::new(plan);
        for row in rows {
            self.load(row);
            self.predict(&steps);
            for (number, treatment) in self.numbers.iter().zip(&self.treatments) {
                let count = &mut self.counts[predict::context(*treatment)][rans::token(*number).0 & (TOKENS - 1)];
                *count = count.wrapping_add(1);
            }
        }
        &self.counts[..plan.predictors.len()]
    }

    /// Finds the treatments and the numbers of the row.
    fn predict(&mut self, steps: &predict::Steps) {
        self.activity();
        steps.treatments(&self.activity, &mut self.treatments);
        let [_, above, row] = &self.rows;
        predict::residuals(above, row, &self.treatments, &mut self.numbers);
    }

    /// Appends the symbols of the row, and the bits that they leave open: group after group, of each only the lanes that
    /// hold samples.
    fn write_row(&mut self, symbols: &mut Vec<u16>, bits: &mut BitWriter) {
        let mut at = 0;
        for (groups, lanes) in predict::shape(self.stride, self.count) {
            let places = at..at + groups * PARTS;
            at = places.end;
            let (numbers, treatments) = (&self.numbers[places.clone()], &self.treatments[places]);
            let numbers = numbers.as_chunks::<PARTS>().0.iter();
            for (numbers, treatments) in numbers.zip(treatments.as_chunks::<PARTS>().0) {
                let mut found = [0; PARTS];
                if lanes == PARTS {
                    for half in [0, PARTS / 2] {
                        for lane in half..half + PARTS / 2 {
                            found[lane] = put(numbers[lane], treatments[lane], &mut self.counts, bits);
                        }
                        bits.flush();
                    }
                } else {
                    for lane in 0..lanes.min(PARTS) {
                        found[lane] = put(numbers[lane], treatments[lane], &mut self.counts, bits);
                        bits.flush();
                    }
                }
                symbols.extend_from_slice(&found[..lanes.min(PARTS)]);
            }
        }
    }
}

/// Counts a number's token and keeps the bits that it leaves open; gives context and token as one symbol.
#[inline(always)]
fn put(number: u16, treatment: Treatment, counts: &mut Counts, bits: &mut BitWriter) -> u16 {
    let (token, open) = rans::token(number);
    let (context, token) = (predict::context(treatment), token & (TOKENS - 1));
    counts[context][token] = counts[context][token].wrapping_add(1);
    bits.put(number & ((1u32 << open) - 1) as u16, open);
    (context << TOKEN_BITS | token) as u16
}

/// Bits, the first in the lowest place of the first byte.
struct BitWriter {
    bytes: Vec<u8>,
    at: usize,
    held: u64,
    held_bits: u32,
}

impl BitWriter {
    /// A writer of the bits of so many numbers.
    fn new(numbers: usize) -> Self {
        BitWriter { bytes: vec![0; 2 * numbers + 8], at: 0, held: 0, held_bits: 0 }
    }

    /// Keeps up to 12 bits; at most four times before [`BitWriter::flush`].
    #[inline(always)]
    fn put(&mut self, bits: u16, count: u32) {
        self.held |= u64::from(bits) << (self.held_bits & 63);
        self.held_bits = self.held_bits.wrapping_add(count);
    }

    #[inline(always)]
    fn flush(&mut self) {
        if let Some(target) = self.bytes.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut()) {
            *target = self.held.to_le_bytes();
        }
        self.at = self.at.wrapping_add((self.held_bits / 8) as usize);
        self.held >>= self.held_bits & 56;
        self.held_bits &= 7;
    }

    /// The bytes, zeros behind the last bit.
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.at + usize::from(self.held_bits > 0)]
    }
}
