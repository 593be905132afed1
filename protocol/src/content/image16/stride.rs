//! Finding the width of an image in a chunk that may hold no header.

use super::{STRIDE_MAX, STRIDE_MIN};

/// Samples compared with those at every distance, at each of the places.
const PROBE: usize = 32;
/// Differences above count as this: an edge shall not outweigh a whole probe. The sum of a probe fits 16 bits.
const DIFFERENCE_MAX: i16 = 2047;
/// Places that are tried for every distance.
const PROBES: usize = 16;
/// Places that each probe chooses from: the most restless is taken, because flat ones are alike at any distance.
const CHOICES: usize = 8;
/// Distances that are looked at again, at [`PROBES_AGAIN`] places: noise makes neighbours of the width as good by chance.
const CANDIDATES: usize = 8;
const PROBES_AGAIN: usize = 256;

/// The distance at which samples are most alike.
pub(super) fn find(samples: &[i16]) -> Option<usize> {
    let limit = STRIDE_MAX.min(samples.len() / 4);
    if limit < STRIDE_MIN {
        return None;
    }
    let mut sums = vec![0u32; limit + 1];
    let places = samples.len() - limit - PROBE;
    for probe in 0..PROBES {
        let choices = (0..CHOICES).map(|choice| limit + scattered(probe * CHOICES + choice, places));
        let at = choices.max_by_key(|at| restlessness(&samples[*at..*at + PROBE]))?;
        let here = samples.get(at..)?.first_chunk()?;
        for (distance, sum) in sums.iter_mut().enumerate().skip(STRIDE_MIN) {
            *sum = sum.wrapping_add(difference(here, samples.get(at - distance..)?.first_chunk()?));
        }
    }
    let mut candidates: Vec<usize> = (STRIDE_MIN..=limit).collect();
    let last = CANDIDATES.min(candidates.len() - 1);
    candidates.select_nth_unstable_by_key(last, |distance| (sums[*distance], *distance));
    candidates.truncate(last + 1);
    // Two rows are about as much alike as neighbours are, so a multiple of the width comes out as well.
    for parts in 2..=8 {
        let divided =
            candidates[..=last].iter().filter(|distance| *distance % parts == 0).map(|distance| distance / parts);
        let divided: Vec<_> = divided.filter(|distance| *distance >= STRIDE_MIN).collect();
        candidates.extend(divided);
    }
    let again = |distance: usize| {
        let at = (0..PROBES_AGAIN).map(|probe| limit + scattered(probe, places));
        let differences = at.filter_map(|at| {
            Some(difference(samples.get(at..)?.first_chunk()?, samples.get(at - distance..)?.first_chunk()?))
        });
        differences.fold(0u32, u32::wrapping_add)
    };
    let scored: Vec<_> = candidates.iter().map(|distance| (again(*distance), *distance)).collect();
    let (least, best) = *scored.iter().min()?;
    let divides = |(sum, distance): &&(u32, usize)| best % distance == 0 && *sum <= least + least / 16;
    scored.iter().filter(divides).map(|(_, distance)| *distance).min()
}

/// The `index`-th of places that fill `0..below` evenly (multiples of the golden ratio), and not in step with any width.
fn scattered(index: usize, below: usize) -> usize {
    let share = (index as u32).wrapping_mul(0x9e37_79b1);
    ((u64::from(share) * below as u64) >> 32) as usize
}

/// How different so many samples are.
#[inline(always)]
fn difference(here: &[i16; PROBE], there: &[i16; PROBE]) -> u32 {
    let mut sum = 0u16;
    for (a, b) in here.iter().zip(there) {
        sum = sum.wrapping_add(a.max(b).saturating_sub(*a.min(b)).min(DIFFERENCE_MAX) as u16);
    }
    u32::from(sum)
}

/// How much neighbours differ; noise beyond every image counts as none.
fn restlessness(samples: &[i16]) -> u32 {
    let differences = samples.windows(2).map(|pair| u32::from(pair[0].abs_diff(pair[1])));
    let sum = differences.fold(0u32, u32::wrapping_add);
    if sum > PROBE as u32 * u32::from(DIFFERENCE_MAX.unsigned_abs()) { 0 } else { sum }
}
