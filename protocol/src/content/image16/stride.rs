//! Finding the width of an image in a chunk that may hold no header.

use super::{STRIDE_MAX, STRIDE_MIN};

/// Samples compared with those at every distance.
const PROBE: usize = 64;

/// The distance at which samples are most alike, if any is better than the others.
pub(super) fn find(samples: &[[u8; 2]]) -> Option<usize> {
    let limit = STRIDE_MAX.min(samples.len() / 4);
    if limit < STRIDE_MIN {
        return None;
    }
    let mut sums = vec![0u32; limit + 1];
    let all: Vec<i16> = samples.iter().map(|p| i16::from_le_bytes(*p)).collect();
    for probe in 0..16 {
        let at = limit + (all.len() - limit - PROBE) * probe / 16;
        let here: &[i16; PROBE] = all[at..at + PROBE].try_into().ok()?;
        for d in STRIDE_MIN..=limit {
            let there: &[i16; PROBE] = all[at - d..at - d + PROBE].try_into().ok()?;
            let mut sum = 0u32;
            for i in 0..PROBE {
                let x = (here[i].max(there[i]).saturating_sub(here[i].min(there[i]))).min(255) as u16;
                sum = sum.wrapping_add(u32::from(x));
            }
            sums[d] += sum;
        }
    }
    (STRIDE_MIN..=limit).min_by_key(|d| sums[*d])
}
