//! Round trips, and P15: whatever is decoded, nothing but the declared length comes out.

use super::*;

/// Numbers without structure, the same for the same seed.
fn noise(count: usize, seed: u64) -> Vec<u16> {
    let mut bytes = vec![0; 2 * count];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
}

/// A disc with noise on a background without.
fn disc(width: usize, height: usize) -> Vec<u8> {
    let noise = noise(width * height, 7);
    let mut out = Vec::new();
    for (place, noise) in noise.iter().enumerate() {
        let (x, y) = ((place % width) as i32, (place / width) as i32);
        let (dx, dy) = (x - width as i32 / 2, y - height as i32 / 2);
        let inside = dx * dx + dy * dy < (width.min(height) as i32 / 3).pow(2);
        let value = if inside { 900 + (dx * dx + dy * dy) / 16 + i32::from(noise % 29) } else { 12 };
        out.extend_from_slice(&(value as u16).to_le_bytes());
    }
    out
}

fn plan(stride: usize, unsigned: bool, contexts: &[(i16, Predictor)]) -> Plan {
    Plan {
        stride,
        unsigned,
        thresholds: contexts.iter().skip(1).map(|(threshold, _)| *threshold).collect(),
        predictors: contexts.iter().map(|(_, predictor)| *predictor).collect(),
    }
}

/// Encodes by a plan, expects the same back, and gives the encoded bytes.
fn round_trip(plain: &[u8], plan: &Plan) -> Vec<u8> {
    let mut encoded = vec![1, 2, 3];
    ImageEncoder::new().encode(plain, plan, &mut encoded);
    let mut out = vec![9; plain.len()];
    // What another image left in the decoder must not matter.
    let mut decoder = ImageDecoder::new();
    let mut other = Vec::new();
    let before = disc(40, 40);
    ImageEncoder::new().encode(&before, &self::plan(40, false, &[(0, Predictor::Mean)]), &mut other);
    decoder.decode(&other, &mut vec![0; before.len()]).unwrap();
    decoder.decode(&encoded, &mut out).unwrap_or_else(|| panic!("{} bytes, {plan:?}", plain.len()));
    assert!(out == plain, "changed {} bytes, {plan:?}", plain.len());
    encoded
}

#[test]
fn any_width_and_length_comes_back() {
    use Predictor::{Between, Mean, Median};
    let plain = disc(47, 60);
    let contexts = [(0, Median), (1, Between), (60, Mean), (32_767, Median)];
    for stride in (32..90).chain([1023, 2048, STRIDE_MAX]) {
        for length in [0, 1, 2, 3, 63, 64, 65, 2 * stride, 2 * stride + 17, plain.len() - 1, plain.len()] {
            round_trip(&plain[..length.min(plain.len())], &plan(stride, stride % 2 == 0, &contexts));
        }
    }
}

#[test]
fn the_largest_differences_come_back() {
    let row = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let ends: Vec<u16> = noise(9000, 3).iter().map(|value| [0, 65535, 32767, 32768][usize::from(value % 4)]).collect();
    let rows = [
        ("noise", row(&noise(9000, 1))),
        ("ends", row(&ends)),
        ("zeros", row(&[0; 9000])),
        ("ones", row(&[65535; 9000])),
        ("steps", row(&(0..9000).map(|place| if place / 100 % 2 == 0 { 0 } else { 65535 }).collect::<Vec<_>>())),
        ("ramp", row(&(0..9000).map(|place| (place as u16).wrapping_mul(7919)).collect::<Vec<_>>())),
    ];
    for (name, plain) in rows {
        for predictor in Predictor::ALL {
            for unsigned in [false, true] {
                let contexts: Vec<_> = (0..CONTEXTS_MAX as i16).map(|step| (step * 2000 + 1, predictor)).collect();
                let bytes = round_trip(&plain, &plan(100, unsigned, &contexts)).len();
                assert!(bytes < plain.len() + plain.len() / 8 + 2000, "{name}: {bytes}");
            }
        }
    }
}

#[test]
fn a_plan_is_found_behind_headers_and_for_the_widths_of_images() {
    let mut encoder = ImageEncoder::new();
    for width in [64, 100, 256, 512, 1000] {
        for header in [0, 2, 1330] {
            let plain = [vec![b'H'; header], disc(width, 400)].concat();
            let (plan, estimate) = encoder.plan(&plain).unwrap();
            assert_eq!(plan.stride, width, "header of {header}");
            let bytes = round_trip(&plain, &plan).len();
            assert!(bytes * 4 < plain.len() * 2, "{width}: {bytes} of {}", plain.len());
            assert!(estimate.abs_diff(bytes) < bytes / 5 + 200, "{width}: {estimate} estimated, {bytes} found");
        }
    }
    assert!(encoder.plan(&[]).is_none() && encoder.plan(&[0; 255]).is_none());
}

#[test]
fn encoding_depends_on_the_bytes_alone() {
    let (one, other) = (disc(200, 100), disc(333, 90));
    let fresh = |plain: &[u8]| {
        let mut encoder = ImageEncoder::new();
        let plan = encoder.plan(plain).unwrap().0;
        let mut out = Vec::new();
        encoder.encode(plain, &plan, &mut out);
        out
    };
    let mut used = ImageEncoder::new();
    for plain in [&one, &other, &one] {
        let plan = used.plan(plain).unwrap().0;
        let mut out = Vec::new();
        used.encode(plain, &plan, &mut out);
        assert!(out == fresh(plain));
    }
}

/// An encoding of two contexts that has everything: words, bits, a last byte.
fn sample() -> (Vec<u8>, Vec<u8>) {
    let plain = [disc(47, 40), vec![77]].concat();
    let contexts = plan(47, false, &[(0, Predictor::Median), (40, Predictor::Mean)]);
    let encoded = round_trip(&plain, &contexts);
    (plain, encoded)
}

/// Decodes hostile bytes: nothing is expected but an answer.
fn decodes(encoded: &[u8], bytes: usize, decoder: &mut ImageDecoder) -> bool {
    decoder.decode(encoded, &mut vec![0; bytes]).is_some()
}

#[test]
fn p15_other_lengths_are_refused() {
    let (plain, encoded) = sample();
    let mut decoder = ImageDecoder::new();
    assert!(decodes(&encoded, plain.len(), &mut decoder));
    for bytes in [1, 2, plain.len() - 2, plain.len() - 1, plain.len() + 1, plain.len() + 2, 1 << 20] {
        assert!(!decodes(&encoded, bytes, &mut decoder), "{bytes}");
    }
    for cut in 0..encoded.len() {
        assert!(!decodes(&encoded[..cut], plain.len(), &mut decoder), "cut at {cut}");
    }
    for more in [&[0][..], &[1], &[0, 0], &[0; 16]] {
        assert!(!decodes(&[&encoded, more].concat(), plain.len(), &mut decoder), "{more:?}");
    }
}

#[test]
fn p15_flipped_bits_give_an_answer() {
    let (plain, encoded) = sample();
    let mut decoder = ImageDecoder::new();
    for place in 0..encoded.len() {
        for bit in 0..8 {
            let mut flipped = encoded.clone();
            flipped[place] ^= 1 << bit;
            let mut out = vec![0; plain.len()];
            // A flip in the open bits, the flags or the last byte makes another image; it never makes the same one.
            assert!(decoder.decode(&flipped, &mut out).is_none() || out != plain, "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn p15_random_bytes_give_an_answer() {
    let (plain, encoded) = sample();
    let mut decoder = ImageDecoder::new();
    for seed in 0..3000 {
        let random: Vec<u8> = noise(200, seed).iter().flat_map(|value| value.to_le_bytes()).collect();
        let kept = seed as usize % 120;
        let bytes = [&encoded[..kept], &random].concat();
        assert!(!decodes(&bytes, 1 + (seed as usize * 37) % 5000, &mut decoder), "{seed}");
        assert!(!decodes(&random, plain.len(), &mut decoder), "{seed}");
    }
}

#[test]
fn p15_lying_headers_and_tables_are_refused() {
    // Stride 32, no flags, one context, median, one token that is always 0, no words: zeros, however many.
    let good = [vec![32, 0, 0, 1, 0, 1, 136, 0, 16, 0, 0, 0], [0, 0, 1, 0].repeat(4)].concat();
    let mut decoder = ImageDecoder::new();
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = good.clone();
        for (place, value) in changes {
            bytes[*place] = *value;
        }
        bytes
    };
    assert!(decodes(&good, 2, &mut decoder) && decodes(&good, 1 << 20, &mut decoder));
    let rows: [(&str, Vec<u8>); 14] = [
        ("stride of 31", with(&[(0, 31)])),
        ("stride of 8193", with(&[(0, 1), (1, 32)])),
        ("unknown flag", with(&[(2, 2)])),
        ("no context", with(&[(3, 0)])),
        ("17 contexts", with(&[(3, 17)])),
        ("unknown predictor", with(&[(4, 3)])),
        ("no tokens", with(&[(5, 0)])),
        ("113 tokens", with(&[(5, 113)])),
        ("sum above", with(&[(7, 1)])),
        ("sum below", with(&[(6, 135), (7, 255)])),
        ("length above", with(&[(8, 17)])),
        ("length below", with(&[(8, 15)])),
        ("length of 4 GiB", with(&[(8, 255), (9, 255), (10, 255), (11, 255)])),
        ("state below", with(&[(14, 0), (12, 255), (13, 255)])),
    ];
    for (name, bytes) in rows {
        assert!(!decodes(&bytes, 640, &mut decoder), "{name}");
    }
    let two_contexts = |low: i16, high: i16| {
        let [low, high] = [low.to_le_bytes(), high.to_le_bytes()];
        [&[32, 0, 0, 3][..], &low, &high, &[0, 1, 2], &[1, 136, 0].repeat(3), &good[8..]].concat()
    };
    for (low, high, sound) in
        [(1, 2, true), (1, 32767, true), (0, 1, false), (2, 2, false), (3, 2, false), (-5, 2, false)]
    {
        assert_eq!(decodes(&two_contexts(low, high), 640, &mut decoder), sound, "{low} {high}");
    }
    // A frequency below 128 in two bytes: tokens 0 and 1 of 127 and 1921.
    let table = |first: &[u8]| [&[32, 0, 0, 1, 0, 2][..], first, &[135, 129], &good[8..]].concat();
    assert!(!decodes(&table(&[128, 127]), 640, &mut decoder), "a frequency in two bytes that one holds");
    // A last token of frequency 0.
    let trailing = [&[32, 0, 0, 1, 0, 2, 136, 0, 0][..], &good[8..]].concat();
    assert!(!decodes(&trailing, 640, &mut decoder), "a last token that never comes");
}
