//! Round trips, the choice of codec, and P15: bombs stay within the declared length.

use proptest::prelude::*;

use super::*;

/// Bytes without structure, the same for the same seed.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// 12-bit samples of a smooth image with noise, after a header of `header` bytes.
fn image(samples: usize, header: usize) -> Vec<u8> {
    let noise = noise(samples, 7);
    let mut out = vec![b'H'; header];
    for (place, noise) in noise.iter().enumerate() {
        let wave = ((place % 512) as f64 / 40.0).sin() * 600.0 + ((place / 512) as f64 / 30.0).cos() * 600.0;
        let value = (1800.0 + wave) as u16 + u16::from(noise & 31);
        out.extend_from_slice(&value.to_le_bytes());
    }
    out
}

fn text(bytes: usize) -> Vec<u8> {
    let words = ["patient", "study", "left", "right", "thorax", "normal", "finding", "without", "contrast", "series"];
    let mut out = String::new();
    for byte in noise(bytes, 3) {
        out.push_str(words[usize::from(byte) % words.len()]);
        out.push(' ');
        if out.len() > bytes {
            break;
        }
    }
    out.truncate(bytes);
    out.into_bytes()
}

fn round_trip(plain: &[u8]) -> (Codec, usize) {
    let mut scratch = EncodeScratch::new();
    let (codec, encoded) = encode(plain, Effort::LINE, &mut scratch);
    let mut out = vec![1, 2, 3];
    decode(codec, encoded, plain.len() as u32, &mut DecodeScratch::new(), &mut out).unwrap();
    assert!(out == plain, "{codec:?} changed {} bytes", plain.len());
    (codec, encoded.len())
}

#[test]
fn the_choice_fits_the_content() {
    let rows: [(&str, Vec<u8>, Codec); 9] = [
        ("image", image(260_000, 0), Codec::Image16),
        ("image after an odd header", image(260_000, 1_337), Codec::Planes16),
        ("small image", image(8_000, 700), Codec::Image16),
        ("text", text(300_000), Codec::Zstd),
        ("short text", text(900), Codec::Zstd),
        ("noise", noise(1 << 20, 1), Codec::Raw),
        ("zeros", vec![0; 1 << 20], Codec::Zstd),
        ("a few bytes", vec![0; 20], Codec::Raw),
        ("nothing to gain", noise(70, 2), Codec::Raw),
    ];
    for (name, plain, expected) in rows {
        let (codec, bytes) = round_trip(&plain);
        assert_eq!(codec, expected, "{name}");
        assert!(codec == Codec::Raw || bytes * 100 <= plain.len() * 98, "{name}: {bytes} of {}", plain.len());
    }
}

#[test]
fn half_noise_half_text_is_worth_it() {
    let plain = [noise(500_000, 5), text(500_000)].concat();
    let (codec, bytes) = round_trip(&plain);
    assert!(codec == Codec::Zstd && bytes < 800_000, "{codec:?} {bytes}");
}

fn frame(plain: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(plain, level).unwrap()
}

fn skippable(bytes: usize) -> Vec<u8> {
    let mut out = vec![0x50, 0x2a, 0x4d, 0x18];
    out.extend_from_slice(&(bytes as u32).to_le_bytes());
    out.resize(out.len() + bytes, 0);
    out
}

/// A frame of `blocks` run-length blocks of 128 KiB zeros, that states `stated` bytes and window
/// byte `window`.
fn bomb(blocks: usize, stated: u64, window: u8) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xc0, window];
    out.extend_from_slice(&stated.to_le_bytes());
    for block in 1..=blocks {
        let header = (128u32 << 10 << 3) | 2 | u32::from(block == blocks);
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// Name, frame, declared length, outcome.
type Row = (&'static str, Vec<u8>, u32, Result<(), DecodeError>);

#[test]
fn p15_bombs_and_odd_frames_are_refused_within_the_declared_length() {
    let plain = text(100_000);
    let good = frame(&plain, 3);
    let mut unstated = Vec::new();
    zstd::stream::copy_encode(&plain[..], &mut unstated, 3).unwrap();
    let window_8_mib = 13 << 3;
    let megabyte = CHUNK_BYTES_MAX as u64;
    let rows: Vec<Row> = vec![
        ("good", good.clone(), 100_000, Ok(())),
        ("window of 8 MiB", bomb(8, megabyte, window_8_mib), 1 << 20, Ok(())),
        ("declared shorter", good.clone(), 99_999, Err(DecodeError::WrongLength)),
        ("declared longer", good.clone(), 100_001, Err(DecodeError::WrongLength)),
        ("declared nothing", good.clone(), 0, Err(DecodeError::Length { bytes: 0 })),
        ("declared 4 GiB", good.clone(), u32::MAX, Err(DecodeError::Length { bytes: u64::from(u32::MAX) })),
        ("1000:1, honest", frame(&vec![0; 1 << 27], 1), 1 << 20, Err(DecodeError::WrongLength)),
        ("30,000:1, says 1 MiB", bomb(80_000, megabyte, window_8_mib), 1 << 20, Err(DecodeError::Frame)),
        ("10^6:1, says so", bomb(8, 1 << 40, window_8_mib), 1 << 20, Err(DecodeError::WrongLength)),
        ("10^6:1 over the length field", bomb(8, u64::MAX, window_8_mib), 1 << 20, Err(DecodeError::WrongLength)),
        ("shorter than stated", bomb(4, megabyte, window_8_mib), 1 << 20, Err(DecodeError::Frame)),
        ("window of 16 MiB", bomb(8, megabyte, 14 << 3), 1 << 20, Err(DecodeError::Frame)),
        ("window of 3.75 TiB", bomb(8, megabyte, 0xff), 1 << 20, Err(DecodeError::Frame)),
        (
            "two frames",
            [frame(&plain[..50_000], 3), frame(&plain[50_000..], 3)].concat(),
            100_000,
            Err(DecodeError::Frame),
        ),
        ("empty frame behind", [good.clone(), frame(&[], 3)].concat(), 100_000, Err(DecodeError::Frame)),
        ("skippable before", [skippable(64), good.clone()].concat(), 100_000, Err(DecodeError::Frame)),
        ("skippable behind", [good.clone(), skippable(64)].concat(), 100_000, Err(DecodeError::Frame)),
        ("only skippable", skippable(1000), 100_000, Err(DecodeError::Frame)),
        ("trailing byte", [good.clone(), vec![0]].concat(), 100_000, Err(DecodeError::Frame)),
        ("length not stated", unstated, 100_000, Err(DecodeError::Frame)),
        ("cut", good[..good.len() - 1].to_vec(), 100_000, Err(DecodeError::Frame)),
        ("empty", Vec::new(), 100_000, Err(DecodeError::Frame)),
    ];
    let mut scratch = DecodeScratch::new();
    for (name, encoded, plain_bytes, expected) in rows {
        for codec in [Codec::Zstd, Codec::Planes16] {
            let mut out = Vec::new();
            assert_eq!(decode(codec, &encoded, plain_bytes, &mut scratch, &mut out), expected, "{name}");
            assert!(out.capacity() <= CHUNK_BYTES_MAX && scratch.planes.capacity() <= CHUNK_BYTES_MAX, "{name}");
            assert_eq!(out.len(), if expected.is_ok() { plain_bytes as usize } else { 0 }, "{name}");
        }
    }
}

#[test]
fn p15_raw_has_exactly_the_declared_length() {
    let mut out = Vec::new();
    for (encoded, declared) in [(vec![1; 10], 9), (vec![1; 10], 11), (vec![], 1)] {
        assert_eq!(
            decode(Codec::Raw, &encoded, declared, &mut DecodeScratch::new(), &mut out),
            Err(DecodeError::WrongLength)
        );
    }
    assert_eq!(Codec::try_from(4), Err(DecodeError::UnknownCodec { byte: 4 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_come_back(plain in proptest::collection::vec(0u8..4, 1..6000), odd in any::<bool>()) {
        let plain = if odd { [vec![9], plain].concat() } else { plain };
        round_trip(&plain);
    }

    #[test]
    fn p15_damaged_frames_never_exceed_the_declared_length(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut encoded = frame(&text(20_000), 3);
        for (place, value) in flips {
            let place = place.index(encoded.len());
            encoded[place] = value;
        }
        let mut out = Vec::new();
        let result = decode(Codec::Zstd, &encoded, 20_000, &mut DecodeScratch::new(), &mut out);
        prop_assert_eq!(out.len(), if result.is_ok() { 20_000 } else { 0 });
    }

    #[test]
    fn p15_random_bytes_are_only_errors(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
        let bytes = if magic { [vec![0x28, 0xb5, 0x2f, 0xfd], bytes].concat() } else { bytes };
        let mut out = Vec::new();
        if decode(Codec::Zstd, &bytes, 5_000, &mut DecodeScratch::new(), &mut out).is_ok() {
            prop_assert_eq!(out.len(), 5_000);
        }
    }
}

#[test]
fn a_thin_line_gets_more_effort_and_a_fast_one_less() {
    let rows = [
        (None, Effort::LINE),
        (Some(0), Effort::THIN),
        (Some(1_250_000), Effort::THIN),
        (Some(12_500_000), Effort::LINE),
        (Some(125_000_000), Effort::LINE),
        (Some(u64::MAX), Effort::FAST),
    ];
    for (rate, effort) in rows {
        assert_eq!(Effort::for_line(rate), effort, "{rate:?}");
    }
    let bytes = |plain: &[u8], effort| encode(plain, effort, &mut EncodeScratch::new()).1.len();
    let (image, text) = (image(260_000, 0), text(300_000));
    assert!(bytes(&text, Effort::THIN) < bytes(&text, Effort::LINE));
    assert!(bytes(&image, Effort::LINE) < bytes(&image, Effort::FAST));
}

#[test]
fn what_is_no_image_does_not_get_worse() {
    let eight_bit: Vec<u8> = (0..600_000).map(|at| ((at % 700) / 4 + (at / 700) / 8) as u8 ^ (at % 3) as u8).collect();
    let floats: Vec<u8> = (0..100_000).flat_map(|at| (at as f32 * 0.37).sin().to_le_bytes()).collect();
    let big_endian: Vec<u8> = image(260_000, 0).as_chunks::<2>().0.iter().flat_map(|pair| [pair[1], pair[0]]).collect();
    let table: Vec<u8> = (0u64..60_000).flat_map(|at| (at * at).to_le_bytes()).collect();
    for (name, plain) in [("8 bits", eight_bit), ("floats", floats), ("big endian", big_endian), ("table", table)] {
        let mut scratch = EncodeScratch::new();
        let found = encode(&plain, Effort::LINE, &mut scratch).1.len();
        let before = encode(&plain, Effort { images: false, ..Effort::LINE }, &mut scratch).1.len();
        assert!(found <= before + before / 20, "{name}: {found}, {before} without images");
    }
}
