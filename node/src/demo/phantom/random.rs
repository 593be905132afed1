//! The phantom's own random numbers: SplitMix64 for mixing, xoshiro256++ for streams (Blackman and Vigna, public domain).
//!
//! **Invariant:** a seed gives the same numbers on every platform; nothing here may ever touch a key.

/// Mixes any 64 bits into 64 well spread ones (one step of SplitMix64).
pub(super) fn split_mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A xoshiro256++ stream.
pub(super) struct Xoshiro {
    state: [u64; 4],
}

impl Xoshiro {
    /// A stream that belongs to `seed` and `stream`; different pairs give unrelated streams.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut word = split_mix(seed) ^ split_mix(!stream);
        let state = std::array::from_fn(|_| {
            word = split_mix(word);
            word
        });
        Self { state }
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// The next number in 0..1.
    pub(super) fn unit(&mut self) -> f32 {
        // 24 bits fill the mantissa exactly, so the conversion never rounds up to 1.
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }
}

const GAUSSIAN_BITS: u32 = 12;

/// Normally distributed numbers of deviation 1, drawn from a table: five per random word.
pub(super) struct Gaussian {
    table: Vec<f32>,
}

impl Gaussian {
    /// Fills the table with sums of twelve uniform numbers, which need no logarithm and so round alike everywhere.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Xoshiro::new(seed, u64::MAX);
        let table = (0..1usize << GAUSSIAN_BITS).map(|_| (0..12).map(|_| random.unit()).sum::<f32>() - 6.0).collect();
        Self { table }
    }

    /// Two independent pairs, from one random word.
    pub(super) fn pairs(&self, random: &mut Xoshiro) -> [(f32, f32); 2] {
        let word = random.next();
        let draw = |slot: u32| {
            let index = (word >> (slot * GAUSSIAN_BITS)) as usize & (self.table.len() - 1);
            self.table[index]
        };
        [(draw(0), draw(1)), (draw(2), draw(3))]
    }
}

/// Smooth noise in -1..1 over space (value noise on a unit lattice), the same everywhere for the same seed.
pub(super) fn smooth_noise(seed: u64, at: [f32; 3]) -> f32 {
    let cell = at.map(f32::floor);
    // Hermite weights make the noise smooth across cell borders.
    let weight: [f32; 3] = std::array::from_fn(|axis| {
        let t = at[axis] - cell[axis];
        t * t * (3.0 - 2.0 * t)
    });
    let [x, y, z] = cell.map(|v| v as i32);
    let corner = |dx: i32, dy: i32, dz: i32| lattice(seed, x + dx, y + dy, z + dz);
    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
    let edge = |dy, dz| mix(corner(0, dy, dz), corner(1, dy, dz), weight[0]);
    let face = |dz| mix(edge(0, dz), edge(1, dz), weight[1]);
    mix(face(0), face(1), weight[2])
}

fn lattice(seed: u64, x: i32, y: i32, z: i32) -> f32 {
    // 21 bits for each axis: a million cells either way, far more than a head has.
    let bits = |v: i32| u64::from(v as u32 & 0x1f_ffff);
    let place = bits(x) | bits(y) << 21 | bits(z) << 42;
    let mut mixed = (place ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^= mixed >> 32;
    (mixed >> 40) as f32 / (1u32 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussian_numbers_have_mean_zero_and_deviation_one() {
        let gaussian = Gaussian::new(7);
        let mut random = Xoshiro::new(7, 1);
        let mut values = Vec::new();
        for _ in 0..20_000 {
            values.extend(gaussian.pairs(&mut random).iter().flat_map(|(a, b)| [*a, *b]));
        }
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.05, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.1, "variance {variance}");
    }

    #[test]
    fn smooth_noise_stays_in_range_and_is_continuous() {
        for step in 0..20_000i32 {
            let along = step as f32 * 0.013 - 130.0;
            let here = smooth_noise(3, [along, 0.3 * along, 7.0]);
            let near = smooth_noise(3, [along + 0.001, 0.3 * along, 7.0]);
            assert!((-1.0..=1.0).contains(&here));
            assert!((here - near).abs() < 0.02, "jump at {along}: {here} {near}");
        }
    }
}
