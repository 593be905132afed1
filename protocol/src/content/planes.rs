//! Byte planes: the low and the high bytes of 16-bit samples, kept apart so that each compresses on
//! its own.
//!
//! A chunk is split by the parity of the byte's place, not by where the samples start: when a
//! header of odd length precedes them the planes merely change names, and nothing is lost. Layout:
//! all bytes at even places, then all at odd ones.
//!
//! **Invariant:** split and join are inverse for every length, odd ones included.

/// Samples per step: fixed so that the compiler turns the inner loops into vector instructions.
const SAMPLES: usize = 32;

/// Splits `plain` into `planes`, which afterwards holds exactly as many bytes.
pub(crate) fn split(plain: &[u8], planes: &mut Vec<u8>) {
    planes.resize(plain.len(), 0);
    let (even, odd) = planes.split_at_mut(plain.len().div_ceil(2));
    let (blocks, rest) = plain.as_chunks::<{ 2 * SAMPLES }>();
    let (even_blocks, even_rest) = even.split_at_mut(blocks.len() * SAMPLES);
    let (odd_blocks, odd_rest) = odd.split_at_mut(blocks.len() * SAMPLES);
    let targets = even_blocks.as_chunks_mut::<SAMPLES>().0.iter_mut().zip(odd_blocks.as_chunks_mut::<SAMPLES>().0);
    for (block, (even, odd)) in blocks.iter().zip(targets) {
        // Through 16-bit samples: this is the shape that compilers turn into vector shifts and packs on every target.
        let mut samples = [0u16; SAMPLES];
        for (sample, pair) in samples.iter_mut().zip(block.as_chunks::<2>().0) {
            *sample = u16::from_le_bytes(*pair);
        }
        *even = samples.map(|sample| sample as u8);
        *odd = samples.map(|sample| (sample >> 8) as u8);
    }
    for (place, byte) in rest.iter().enumerate() {
        let target = if place % 2 == 0 { &mut *even_rest } else { &mut *odd_rest };
        target[place / 2] = *byte;
    }
}

/// Joins `planes` into `plain`, which must have the same length.
pub(crate) fn join(planes: &[u8], plain: &mut [u8]) {
    debug_assert_eq!(planes.len(), plain.len());
    let (even, odd) = planes.split_at(planes.len().div_ceil(2));
    let (blocks, rest) = plain.as_chunks_mut::<{ 2 * SAMPLES }>();
    let done = blocks.len() * SAMPLES;
    let sources = even[..done].as_chunks::<SAMPLES>().0.iter().zip(odd[..done].as_chunks::<SAMPLES>().0);
    for (block, (even, odd)) in blocks.iter_mut().zip(sources) {
        for i in 0..SAMPLES {
            block[2 * i] = even[i];
            block[2 * i + 1] = odd[i];
        }
    }
    for (place, byte) in rest.iter_mut().enumerate() {
        let source = if place % 2 == 0 { even } else { odd };
        *byte = source[done + place / 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_undoes_split_for_every_length() {
        for bytes in (0..300).chain([4095, 4096, 4097, 65_535]) {
            let plain: Vec<u8> = (0..bytes).map(|i| (i * 7 + i / 256) as u8).collect();
            let mut planes = vec![9; 17];
            split(&plain, &mut planes);
            let mut back = vec![0; bytes];
            join(&planes, &mut back);
            assert_eq!(back, plain, "{bytes} bytes");
        }
    }

    #[test]
    fn planes_hold_even_places_first() {
        let mut planes = Vec::new();
        split(&[1, 2, 3, 4, 5], &mut planes);
        assert_eq!(planes, [1, 3, 5, 2, 4]);
    }
}
