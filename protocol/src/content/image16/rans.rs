//! Entropy coding of tokens by interleaved rANS (Duda, arXiv:1311.2540; interleaving as by Giesen, arXiv:1402.3392), one
//! static table per context.
//!
//! **Invariant:** whatever bytes are decoded, nothing outside them is read, and a stream ends exactly where its last
//! state says.

use super::predict::{self, Treatment};

/// Bits of precision: frequencies of one context sum to `1 << FREQUENCY_BITS`.
pub(super) const FREQUENCY_BITS: u32 = 11;
const FREQUENCY_SUM: u32 = 1 << FREQUENCY_BITS;
/// Numbers below this are tokens of their own; above, a token stands for an eighth of an octave.
const DIRECT: u16 = 16;
const MANTISSA_BITS: u32 = 3;
/// Tokens fit into so many bits: there are 16, and 8 for each of 12 octaves, 112 in all.
pub(super) const TOKEN_BITS: u32 = 7;
/// Room for tokens.
pub(super) const TOKENS: usize = 1 << TOKEN_BITS;
/// The last token, of the numbers up to 65,535.
const TOKEN_MAX: usize = 111;
/// States that are coded in turn.
pub(super) const LANES: usize = 4;
/// States stay at or above this between symbols.
const STATE_MIN: u32 = 1 << 16;
/// Contexts that a table has room for.
pub(super) const CONTEXTS_MAX: usize = 16;

/// The token of a number, and how many of its low bits the token leaves open: they follow in the stream of bits.
#[inline(always)]
pub(super) fn token(number: u16) -> (usize, u32) {
    let open = 12 - (number | (DIRECT / 2)).leading_zeros();
    (((open << MANTISSA_BITS) + u32::from(number >> open)) as usize, open)
}

/// The smallest number of a token and how many low bits it leaves open.
const fn number(token: usize) -> (u16, u8) {
    if token < DIRECT as usize {
        return (token as u16, 0);
    }
    let octave = (token >> MANTISSA_BITS) as u32 + 2;
    let open = octave - MANTISSA_BITS;
    let mantissa = token as u32 & ((1 << MANTISSA_BITS) - 1);
    (((1 << MANTISSA_BITS | mantissa) << open) as u16, open as u8)
}

/// How often each token comes in one context.
pub(super) type Counts = [u32; TOKENS];

/// Frequencies of the tokens of one context: their sum is 2,048, and whatever comes has at least 1.
pub(super) fn frequencies(counts: &Counts) -> Counts {
    let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let mut found = [0; TOKENS];
    if total == 0 {
        found[0] = FREQUENCY_SUM;
        return found;
    }
    let mut sum = 0i64;
    for (frequency, count) in found.iter_mut().zip(counts) {
        if *count > 0 {
            *frequency = ((u64::from(*count) * u64::from(FREQUENCY_SUM) + total / 2) / total).max(1) as u32;
            sum += i64::from(*frequency);
        }
    }
    // What rounding has left or taken goes to where it matters least: the most frequent, one after the other.
    let mut excess = sum - i64::from(FREQUENCY_SUM);
    while excess != 0 {
        let Some(largest) = found.iter_mut().max() else { break };
        let step = excess.clamp(-i64::from(*largest), i64::from(*largest / 4).max(1));
        *largest = (i64::from(*largest) - step) as u32;
        excess -= step;
    }
    found
}

/// Appends frequencies: how many tokens, then each in one byte, or in two from 128 on.
pub(super) fn write_frequencies(frequencies: &Counts, out: &mut Vec<u8>) {
    let used = frequencies.iter().rposition(|frequency| *frequency > 0).map_or(0, |last| last + 1);
    out.push(used as u8);
    for frequency in &frequencies[..used] {
        if *frequency < 128 {
            out.push(*frequency as u8);
        } else {
            out.push((frequency >> 8) as u8 | 128);
            out.push(*frequency as u8);
        }
    }
}

/// Takes what [`write_frequencies`] wrote; none if it is not the one way of writing frequencies of that sum.
pub(super) fn read_frequencies(bytes: &mut &[u8]) -> Option<Counts> {
    let mut found = [0; TOKENS];
    let used = usize::from(*bytes.split_off_first()?);
    let mut sum = 0;
    for frequency in found.get_mut(..used.min(TOKENS))? {
        let first = u32::from(*bytes.split_off_first()?);
        *frequency = first;
        if first >= 128 {
            *frequency = (first & 127) << 8 | u32::from(*bytes.split_off_first()?);
            if *frequency < 128 {
                return None;
            }
        }
        sum += *frequency;
    }
    let ends = (1..=TOKEN_MAX + 1).contains(&used) && found[used - 1] > 0;
    (ends && sum == FREQUENCY_SUM).then_some(found)
}

/// What encoding one token takes: `state' = state + bias + quotient * complement`.
#[derive(Clone, Copy, Default)]
struct Step {
    reciprocal: u64,
    bias: u32,
    complement: u16,
    frequency: u16,
}

/// Tables of an encoder.
pub(super) struct EncodeTable {
    steps: Vec<[Step; TOKENS]>,
}

impl EncodeTable {
    pub(super) fn new() -> Self {
        EncodeTable { steps: vec![[Step::default(); TOKENS]; CONTEXTS_MAX] }
    }

    pub(super) fn set(&mut self, context: usize, frequencies: &Counts) {
        let mut start = 0;
        for (step, &frequency) in self.steps[context].iter_mut().zip(frequencies) {
            if frequency > 0 {
                *step = Step {
                    // For 1 the true reciprocal has 65 bits; the bias makes good for the quotient that is 1 short.
                    reciprocal: if frequency == 1 { u64::MAX } else { u64::MAX / u64::from(frequency) + 1 },
                    bias: if frequency == 1 { start + FREQUENCY_SUM - 1 } else { start },
                    complement: (FREQUENCY_SUM - frequency) as u16,
                    frequency: frequency as u16,
                };
            }
            start += frequency;
        }
    }

    /// Encodes tokens, given as context * 128 + token in rows of `stride`, into `out`: the states, then words.
    pub(super) fn encode(&self, symbols: &[u16], stride: usize, words: &mut Vec<u16>, out: &mut Vec<u8>) {
        words.clear();
        words.resize(symbols.len() + 2 * LANES, 0);
        let mut at = words.len();
        let mut states = [STATE_MIN; LANES];
        let steps = self.steps.as_flattened();
        let steps: &[Step; TOKENS * CONTEXTS_MAX] = match steps.try_into() {
            Ok(steps) => steps,
            Err(_) => return,
        };
        let mut put = |state: &mut u32, symbol: u16, words: &mut [u16]| {
            let step = &steps[usize::from(symbol) & (TOKENS * CONTEXTS_MAX - 1)];
            let full = *state >> (32 - FREQUENCY_BITS) >= u32::from(step.frequency);
            words[at - 1] = *state as u16;
            at -= usize::from(full);
            let kept = if full { *state >> 16 } else { *state };
            let quotient = ((u128::from(kept) * u128::from(step.reciprocal)) >> 64) as u32;
            *state = kept.wrapping_add(step.bias).wrapping_add(quotient.wrapping_mul(u32::from(step.complement)));
        };
        for row in symbols.chunks(stride).rev() {
            let (groups, rest) = row.as_chunks::<LANES>();
            for (lane, symbol) in rest.iter().enumerate().rev() {
                put(&mut states[lane], *symbol, words);
            }
            for group in groups.iter().rev() {
                put(&mut states[3], group[3], words);
                put(&mut states[2], group[2], words);
                put(&mut states[1], group[1], words);
                put(&mut states[0], group[0], words);
            }
        }
        for state in states {
            out.extend_from_slice(&state.to_le_bytes());
        }
        for word in &words[at..] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
}

/// What decoding one slot takes: token in the low 7 bits, then 12 of frequency, then the place within the token's slots.
type Slot = u32;

/// Tables of a decoder.
pub(super) struct DecodeTable {
    slots: Vec<Slot>,
    /// By token: the smallest number, and in the high half how many bits it leaves open.
    numbers: [u32; TOKENS],
}

const SLOTS: usize = CONTEXTS_MAX << FREQUENCY_BITS;

impl DecodeTable {
    pub(super) fn new() -> Self {
        let numbers = std::array::from_fn(|index| {
            let (number, open) = number(index.min(TOKEN_MAX));
            u32::from(number) | u32::from(open) << 16
        });
        DecodeTable { slots: vec![0; SLOTS], numbers }
    }

    pub(super) fn set(&mut self, context: usize, frequencies: &Counts) {
        let mut slots = self.slots[context << FREQUENCY_BITS..][..1 << FREQUENCY_BITS].iter_mut();
        for (token, &frequency) in frequencies.iter().enumerate() {
            for (place, slot) in slots.by_ref().take(frequency as usize).enumerate() {
                *slot = token as u32 | frequency << 7 | (place as u32) << 19;
            }
        }
    }
}

/// The encoded numbers of a chunk, read row by row.
pub(super) struct Decoder<'a> {
    slots: &'a [Slot; SLOTS],
    numbers: &'a [u32; TOKENS],
    words: Reader<'a>,
    bits: Reader<'a>,
    states: [u32; LANES],
    /// Bits of the current byte of `bits` that are used up.
    bits_used: u32,
}

/// Bytes of which eight can be looked at anywhere: behind their end stand zeros.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    #[inline(always)]
    fn peek(&self) -> u64 {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            Some(eight) => u64::from_le_bytes(*eight),
            None => self.peek_end(),
        }
    }

    #[cold]
    fn peek_end(&self) -> u64 {
        let mut eight = [0; 8];
        for (target, byte) in eight.iter_mut().zip(self.bytes.get(self.at..).unwrap_or_default()) {
            *target = *byte;
        }
        u64::from_le_bytes(eight)
    }
}

impl<'a> Decoder<'a> {
    /// A decoder of states and words, and of bits.
    pub(super) fn new(table: &'a DecodeTable, states_and_words: &'a [u8], bits: &'a [u8]) -> Option<Self> {
        let (states, words) = states_and_words.split_at_checked(4 * LANES)?;
        let mut found = [0; LANES];
        for (state, bytes) in found.iter_mut().zip(states.as_chunks::<4>().0) {
            *state = u32::from_le_bytes(*bytes);
            if *state < STATE_MIN {
                return None;
            }
        }
        Some(Decoder {
            slots: table.slots.as_slice().try_into().ok()?,
            numbers: &table.numbers,
            words: Reader { bytes: words, at: 0 },
            bits: Reader { bytes: bits, at: 0 },
            states: found,
            bits_used: 0,
        })
    }

    /// Reads one number for each treatment, the first from the first state; their count is a multiple of the states'.
    pub(super) fn read(&mut self, treatments: &[Treatment], out: &mut [u16]) {
        let (groups, out_groups) = (treatments.as_chunks::<LANES>().0, out.as_chunks_mut::<LANES>().0);
        let mut states = self.states;
        for (group, out) in groups.iter().zip(out_groups) {
            let mut words = self.words.peek();
            // Four numbers leave at most 48 bits open, and seven may be used up.
            let mut bits = self.bits.peek() >> self.bits_used;
            let (mut taken, mut used) = (0, 0);
            for lane in 0..LANES {
                let (token, state) = step(self.slots, states[lane], group[lane]);
                let hungry = u32::from(state < STATE_MIN);
                states[lane] = if hungry == 1 { state << 16 | (words as u32 & 0xffff) } else { state };
                words >>= 16 * hungry;
                taken += 2 * hungry;
                let number = self.numbers[token];
                let open = number >> 16;
                out[lane] = (number as u16).wrapping_add(bits as u16 & ((1u32 << open) - 1) as u16);
                bits >>= open;
                used += open;
            }
            self.words.at = self.words.at.wrapping_add(taken as usize);
            self.advance(used);
        }
        self.states = states;
    }

    /// Reads one number from the state of a lane.
    pub(super) fn read_one(&mut self, lane: usize, treatment: Treatment) -> u16 {
        let (token, state) = step(self.slots, self.states[lane], treatment);
        let hungry = state < STATE_MIN;
        self.states[lane] = if hungry { state << 16 | (self.words.peek() as u32 & 0xffff) } else { state };
        self.words.at += 2 * usize::from(hungry);
        let (number, open) = (self.numbers[token] as u16, self.numbers[token] >> 16);
        let bits = self.bits.peek() >> self.bits_used & ((1 << open) - 1);
        self.advance(open);
        number.wrapping_add(bits as u16)
    }

    /// Uses up bits.
    #[inline(always)]
    fn advance(&mut self, bits: u32) {
        let bits = self.bits_used.wrapping_add(bits);
        self.bits.at = self.bits.at.wrapping_add((bits / 8) as usize);
        self.bits_used = bits % 8;
    }

    /// Whether everything was read, the last bits are zeros, and the states are where an encoder begins.
    pub(super) fn is_finished(&self) -> bool {
        let bits_bytes = self.bits.at + usize::from(self.bits_used > 0);
        let padding = if self.bits_used > 0 { self.bits.peek() as u8 >> self.bits_used } else { 0 };
        self.words.at == self.words.bytes.len()
            && bits_bytes == self.bits.bytes.len()
            && padding == 0
            && self.states.iter().all(|state| *state == STATE_MIN)
    }
}

/// One symbol of a context: its token, and the state behind it, which may be below [`STATE_MIN`].
#[inline(always)]
fn step(slots: &[Slot; SLOTS], state: u32, treatment: Treatment) -> (usize, u32) {
    let place = predict::context(treatment) << FREQUENCY_BITS | (state & (FREQUENCY_SUM - 1)) as usize;
    let slot = slots[place];
    let next = (slot >> 7 & 0xfff).wrapping_mul(state >> FREQUENCY_BITS).wrapping_add(slot >> 19);
    ((slot & 127) as usize, next)
}

/// About how many bits the counted tokens of a context take.
pub(super) fn cost(counts: &Counts) -> f64 {
    let total: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0)
        .map(|(token, count)| {
            let count = f64::from(*count);
            count * ((total / count).log2() + f64::from(number(token).1))
        })
        .sum()
}
