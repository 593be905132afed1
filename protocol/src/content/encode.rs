//! Making chunks smaller: `raw`, `zstd`, byte planes and zstd, or as an image, chosen per chunk by
//! trying samples of it.
//!
//! Encoding is a pure function that any thread may run; what is costly to set up lies in a scratch
//! that its thread keeps. Decoding reads what a counterpart wrote.
//!
//! **Invariant:** [`decode`] never holds more than the declared length, and takes exactly one way
//! of writing a chunk: one zstd frame that states its length, with a window of at most 8 MiB, no
//! dictionary, nothing before or after it; or one image (`image16`) that ends where the
//! encoded bytes end.

use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::image16::{ImageDecoder, ImageEncoder, Plan};
use super::planes;
use crate::limits::{CHUNK_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};

/// Bytes of one sample; at most [`SAMPLES`] of them are tried, so that the choice costs a few per
/// cent of the encoding.
const SAMPLE_BYTES: usize = 4 << 10;
/// Samples tried per chunk, evenly spread over it.
const SAMPLES: usize = 5;
/// Less gain than this share of the plain bytes, in per cent, is not worth the decoding.
const GAIN_PERCENT_MIN: usize = 2;
/// Planes are chosen if a sample comes out under this share of its size without them, in per cent:
/// level 3 gains about as much over the level 1 of the trial, and takes four times as long.
const PLANES_PERCENT_MAX: usize = 95;
/// The image codec is chosen if its estimate comes out under this share of the best trial, in per
/// cent: so much the estimates of both may be wrong.
const IMAGE_PERCENT_MAX: usize = 97;

/// How a chunk is written inside its object; the byte in the chunk table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// The bytes at even places, then those at odd ones, in one zstd frame: for 16-bit samples.
    Planes16 = 2,
    /// 16-bit samples in rows, predicted from their neighbours and entropy-coded.
    Image16 = 3,
}

impl From<Codec> for u8 {
    fn from(codec: Codec) -> u8 {
        codec as u8
    }
}

impl TryFrom<u8> for Codec {
    type Error = DecodeError;

    fn try_from(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            0 => Ok(Codec::Raw),
            1 => Ok(Codec::Zstd),
            2 => Ok(Codec::Planes16),
            3 => Ok(Codec::Image16),
            byte => Err(DecodeError::UnknownCodec { byte }),
        }
    }
}

/// Why encoded bytes are not the chunk that they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer peer may know this codec.
    #[error("the content uses codec {byte}, which this version does not know: upgrade this node")]
    UnknownCodec {
        /// The byte found.
        byte: u8,
    },
    /// The declared length is zero or above [`CHUNK_BYTES_MAX`].
    #[error("a chunk of {bytes} bytes is outside the limits")]
    Length {
        /// The declared plain length.
        bytes: u64,
    },
    /// The content does not have the declared length.
    #[error("the content does not have the length that its sender declared")]
    WrongLength,
    /// Not exactly one plain zstd frame within the limits.
    #[error("the content is not one compressed frame within the limits")]
    Frame,
    /// Not exactly one image of the declared length.
    #[error("the content is not one encoded image of the declared length")]
    Image,
}

/// How hard to try.
///
/// Measured per core (Intel Xeon virtual, 2.3 GHz, 2026-11-22, while other builds ran): `image16`
/// encodes about 200 MB/s, planes with zstd 1 400 to 970 MB/s at 1.1 to 2.1 times the size, planes
/// with zstd 6 90 to 180 MB/s, zstd 3 140 to 680 MB/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// The zstd level after the split into planes.
    pub planes_level: i32,
    /// The zstd level of plain zstd.
    pub zstd_level: i32,
    /// Whether to look for images.
    pub images: bool,
}

impl Effort {
    /// For lines much slower than a core encodes: what it saves on the line is worth more than what it costs.
    pub const THIN: Effort = Effort { planes_level: 6, zstd_level: 9, images: true };
    /// For lines between entities: measured best on 100 Mbit/s and less.
    pub const LINE: Effort = Effort { planes_level: 1, zstd_level: 3, images: true };
    /// For lines faster than the encoder.
    pub const FAST: Effort = Effort { planes_level: 1, zstd_level: 1, images: false };

    /// Up to this many bytes per second a core is mostly idle even at [`Effort::THIN`].
    const THIN_MAX: u64 = 4_000_000;
    /// From here on the line takes more than two cores encode: they make 200 MB/s of 400 MB/s.
    const FAST_MIN: u64 = 250_000_000;

    /// The effort for a line that carries so many bytes per second; for one that is not known, [`Effort::LINE`].
    pub fn for_line(bytes_per_second: Option<u64>) -> Effort {
        match bytes_per_second {
            Some(rate) if rate <= Effort::THIN_MAX => Effort::THIN,
            Some(rate) if rate >= Effort::FAST_MIN => Effort::FAST,
            _ => Effort::LINE,
        }
    }
}

impl Default for Effort {
    fn default() -> Self {
        Effort::LINE
    }
}

/// What one encoding thread keeps between chunks: contexts and buffers, about 5 MiB.
pub struct EncodeScratch {
    compressor: Option<Compressor<'static>>,
    planes: Vec<u8>,
    sample: Vec<u8>,
    encoded: Vec<u8>,
    image: ImageEncoder,
}

impl EncodeScratch {
    /// An empty scratch; it grows on first use.
    pub fn new() -> Self {
        EncodeScratch {
            compressor: Compressor::new(1).ok(),
            planes: Vec::new(),
            sample: Vec::new(),
            encoded: Vec::new(),
            image: ImageEncoder::new(),
        }
    }

    /// Compresses `source` into `self.encoded`; false if it does not get smaller than `bytes_max`.
    fn compress(&mut self, source: Source<'_>, level: i32, bytes_max: usize) -> bool {
        let EncodeScratch { compressor, planes, sample, encoded, .. } = self;
        let source = match source {
            Source::Plain(bytes) => bytes,
            Source::Sample => sample,
            Source::Planes => planes,
        };
        encoded.clear();
        encoded.reserve(zstd_safe::compress_bound(source.len()));
        // Without a context (no memory for it) content travels raw, which is always right.
        let Some(compressor) = compressor else {
            return false;
        };
        if compressor.set_compression_level(level).is_err() {
            return false;
        }
        compressor.compress_to_buffer(source, encoded).is_ok_and(|bytes| bytes <= bytes_max)
    }

    /// Compressed size of the sample, or of its planes.
    fn trial(&mut self, source: Source<'_>) -> usize {
        if self.compress(source, 1, usize::MAX) { self.encoded.len() } else { usize::MAX }
    }
}

impl Default for EncodeScratch {
    fn default() -> Self {
        EncodeScratch::new()
    }
}

/// What to compress: the caller's bytes or one of the scratch's own buffers.
enum Source<'a> {
    Plain(&'a [u8]),
    Sample,
    Planes,
}

/// Encodes a chunk; the result borrows `plain` when it stays raw, else the scratch.
pub fn encode<'a>(plain: &'a [u8], effort: Effort, scratch: &'a mut EncodeScratch) -> (Codec, &'a [u8]) {
    let (codec, plan) = choose(plain, effort, scratch);
    if encode_into(plain, codec, plan, effort, scratch) { (codec, &scratch.encoded) } else { (Codec::Raw, plain) }
}

/// Encodes a chunk by one codec, whether that is wise or not: for benches. None where it gains nothing.
pub fn encode_as<'a>(
    plain: &'a [u8],
    codec: Codec,
    effort: Effort,
    scratch: &'a mut EncodeScratch,
) -> Option<&'a [u8]> {
    let plan = (codec == Codec::Image16).then(|| scratch.image.plan(plain)).flatten().map(|(plan, _)| plan);
    encode_into(plain, codec, plan, effort, scratch).then_some(&scratch.encoded)
}

/// Encodes into `scratch.encoded`; false where that gains too little.
fn encode_into(plain: &[u8], codec: Codec, plan: Option<Plan>, effort: Effort, scratch: &mut EncodeScratch) -> bool {
    let bytes_max = plain.len() - plain.len().div_ceil(100 / GAIN_PERCENT_MIN).min(plain.len());
    match (codec, plan) {
        (Codec::Zstd, _) => scratch.compress(Source::Plain(plain), effort.zstd_level, bytes_max),
        (Codec::Planes16, _) => {
            planes::split(plain, &mut scratch.planes);
            scratch.compress(Source::Planes, effort.planes_level, bytes_max)
        }
        (Codec::Image16, Some(plan)) => {
            scratch.image.encode(plain, &plan, &mut scratch.encoded);
            scratch.encoded.len() <= bytes_max
        }
        (Codec::Raw | Codec::Image16, _) => false,
    }
}

/// Picks the codec from samples of the chunk; with a plan where it is an image.
fn choose(plain: &[u8], effort: Effort, scratch: &mut EncodeScratch) -> (Codec, Option<Plan>) {
    if plain.len() < 64 {
        return (Codec::Raw, None);
    }
    take_samples(plain, &mut scratch.sample);
    planes::split(&scratch.sample, &mut scratch.planes);
    let sample_bytes = scratch.sample.len();
    let zstd = scratch.trial(Source::Sample);
    let split = scratch.trial(Source::Planes);
    let worth = sample_bytes - sample_bytes * GAIN_PERCENT_MIN / 100;
    let best = zstd.min(split).min(sample_bytes);
    // What hardly takes any room is not worth a closer look, and a sample says little about it.
    if best * 50 < sample_bytes {
        return (if split < zstd { Codec::Planes16 } else { Codec::Zstd }, None);
    }
    // Both as a share of what they were tried on.
    let image_bytes_max = (plain.len() as u64 * best as u64 / sample_bytes as u64) as usize / 100 * IMAGE_PERCENT_MAX;
    let plan = effort.images.then(|| scratch.image.plan(plain)).flatten();
    if let Some((plan, _)) = plan.filter(|(_, bytes)| *bytes < image_bytes_max) {
        return (Codec::Image16, Some(plan));
    }
    let codec = if zstd.min(split) > worth {
        Codec::Raw
    } else if split.saturating_mul(100) < zstd.saturating_mul(PLANES_PERCENT_MAX) {
        Codec::Planes16
    } else {
        Codec::Zstd
    };
    (codec, None)
}

/// Copies evenly spread samples, each from an even place so that planes stay planes.
fn take_samples(plain: &[u8], sample: &mut Vec<u8>) {
    sample.clear();
    if plain.len() <= SAMPLES * SAMPLE_BYTES {
        sample.extend_from_slice(plain);
        return;
    }
    let stride = (plain.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    for index in 0..SAMPLES {
        let start = (index * stride) & !1;
        sample.extend_from_slice(&plain[start..start + SAMPLE_BYTES]);
    }
}

/// What one decoding thread keeps between chunks.
pub struct DecodeScratch {
    decompressor: Option<Decompressor<'static>>,
    planes: Vec<u8>,
    image: ImageDecoder,
    /// Lent to whoever opens an object before decoding it.
    pub(super) encoded: Vec<u8>,
}

impl DecodeScratch {
    /// An empty scratch; it grows on first use.
    pub fn new() -> Self {
        DecodeScratch {
            decompressor: Decompressor::new().ok(),
            planes: Vec::new(),
            image: ImageDecoder::new(),
            encoded: Vec::new(),
        }
    }
}

impl Default for DecodeScratch {
    fn default() -> Self {
        DecodeScratch::new()
    }
}

/// Decodes a chunk into `out`, which afterwards holds exactly `plain_bytes` bytes, or none after an
/// error.
///
/// # Errors
/// Anything but the one way of writing a chunk of that length.
pub fn decode(
    codec: Codec,
    encoded: &[u8],
    plain_bytes: u32,
    scratch: &mut DecodeScratch,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let result = decode_within(codec, encoded, plain_bytes as usize, scratch, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn decode_within(
    codec: Codec,
    encoded: &[u8],
    plain_bytes: usize,
    scratch: &mut DecodeScratch,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    if plain_bytes == 0 || plain_bytes > CHUNK_BYTES_MAX {
        return Err(DecodeError::Length { bytes: plain_bytes as u64 });
    }
    if codec == Codec::Raw {
        if encoded.len() != plain_bytes {
            return Err(DecodeError::WrongLength);
        }
        out.clear();
        out.extend_from_slice(encoded);
        return Ok(());
    }
    let DecodeScratch { decompressor, planes, image, .. } = scratch;
    if codec == Codec::Image16 {
        out.resize(plain_bytes, 0);
        return image.decode(encoded, out).ok_or(DecodeError::Image);
    }
    check_frame(encoded, plain_bytes)?;
    out.resize(plain_bytes, 0);
    if codec == Codec::Zstd {
        return decompress(decompressor, encoded, out);
    }
    planes.resize(plain_bytes, 0);
    decompress(decompressor, encoded, planes)?;
    planes::join(planes, out);
    Ok(())
}

/// Fills `target` exactly. It is a slice: the decoder has nowhere to write more.
fn decompress(
    decompressor: &mut Option<Decompressor<'static>>,
    encoded: &[u8],
    target: &mut [u8],
) -> Result<(), DecodeError> {
    let decompressor = decompressor.as_mut().ok_or(DecodeError::Frame)?;
    match decompressor.decompress_to_buffer(encoded, target) {
        Ok(bytes) if bytes == target.len() => Ok(()),
        Ok(_) => Err(DecodeError::WrongLength),
        Err(_) => Err(DecodeError::Frame),
    }
}

/// Reads the frame header (RFC 8878, 3.1.1.1) before the decoder sees it.
fn check_frame(encoded: &[u8], plain_bytes: usize) -> Result<(), DecodeError> {
    let header = FrameHeader::parse(encoded).ok_or(DecodeError::Frame)?;
    let one_frame = zstd_safe::find_frame_compressed_size(encoded).is_ok_and(|bytes| bytes == encoded.len());
    if !one_frame || header.window_bytes > 1 << ZSTD_WINDOW_LOG_MAX {
        return Err(DecodeError::Frame);
    }
    if header.content_bytes != plain_bytes as u64 {
        return Err(DecodeError::WrongLength);
    }
    Ok(())
}

/// The parts of a zstd frame header that bound what decoding costs.
struct FrameHeader {
    window_bytes: u64,
    content_bytes: u64,
}

impl FrameHeader {
    /// None for skippable frames, dictionaries, reserved bits, and frames that do not state their
    /// length.
    fn parse(bytes: &[u8]) -> Option<FrameHeader> {
        let rest = bytes.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
        let (&descriptor, rest) = rest.split_first()?;
        let single_segment = descriptor & 0x20 != 0;
        let unusual = descriptor & 0x1b != 0; // unused and reserved bit, dictionary id
        let length_bytes = match (descriptor >> 6, single_segment) {
            (0, false) => return None,
            (0, true) => 1,
            (1, _) => 2,
            (2, _) => 4,
            _ => 8,
        };
        if unusual {
            return None;
        }
        let (window, rest) = if single_segment { (None, rest) } else { (Some(*rest.first()?), rest.get(1..)?) };
        let mut length = [0; 8];
        length[..length_bytes].copy_from_slice(rest.get(..length_bytes)?);
        let content_bytes = u64::from_le_bytes(length) + if length_bytes == 2 { 256 } else { 0 };
        let window_bytes = window.map_or(content_bytes, |byte| {
            let base = 1u64 << (10 + (byte >> 3));
            base + base / 8 * u64::from(byte & 7)
        });
        Some(FrameHeader { window_bytes, content_bytes })
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
