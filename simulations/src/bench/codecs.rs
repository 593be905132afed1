//! How small and how fast each codec of chunks makes real files, on one core.
//!
//! Every file is cut as a sender cuts large ones; every codec has to take every chunk, whether the choice would fall on it or not, so
//! that the columns can be compared; the last column is what a sender chooses. Time is processor time of the one thread that works, the
//! best of some runs. Where `dcmcjpls` (DCMTK) is installed, its JPEG-LS shows what an image codec without our limits reaches.
//!
//! **Invariant:** what was encoded is decoded and compared before a figure counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use pakt_node::demo::phantom;
use pakt_protocol::content::encode::{Codec, DecodeScratch, Effort, EncodeScratch, decode, encode, encode_as};
use pakt_protocol::limits::CHUNK_BYTES_MAX;
use rustix::time::{ClockId, clock_gettime};

use super::{files, process};

/// Images of the phantom that are encoded: every series, from the neck to the top of the head.
const PHANTOM_SLICES: u32 = 48;
const PHANTOM_SEED: u64 = 1;

/// How to run the case.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// A file, a folder of files, or `phantom` for the study that Pakt generates
    what: PathBuf,
}

/// The columns: name, codec (none: the sender's choice), effort.
const COLUMNS: [(&str, Option<Codec>, Effort); 5] = [
    ("zstd 3", Some(Codec::Zstd), Effort::LINE),
    ("planes, zstd 1", Some(Codec::Planes16), Effort::LINE),
    ("planes, zstd 6", Some(Codec::Planes16), Effort::THIN),
    ("image16", Some(Codec::Image16), Effort::LINE),
    ("chosen", None, Effort::LINE),
];

/// What one codec made of some bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    encoded_bytes: u64,
    encode_seconds: f64,
    decode_seconds: f64,
}

/// Prints a table: a row for each file, or for each folder of the phantom; of `runs` over each chunk the best counts.
///
/// # Errors
/// If a file cannot be read, or what was encoded does not come back.
pub fn run(options: &Options, runs: u32) -> Result<()> {
    if options.what.as_os_str() != "phantom" {
        return table(&options.what, runs, &|path| path.to_path_buf());
    }
    let dir = tempfile::tempdir()?;
    phantom::write_study(dir.path(), PHANTOM_SLICES, PHANTOM_SEED, &mut |_| ())?;
    table(dir.path(), runs, &|path| path.parent().map(Path::to_path_buf).unwrap_or_default())
}

fn table(root: &Path, runs: u32, class: &dyn Fn(&Path) -> PathBuf) -> Result<()> {
    let mut classes: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for (name, path) in files::files_under(root)? {
        classes.entry(class(&name)).or_default().push(path);
    }
    let columns: Vec<_> = COLUMNS.iter().map(|(name, ..)| format!("{name}: ratio, encode, decode MB/s |")).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "| what | bytes | {} JPEG-LS ratio |", columns.join(" "))?;
    writeln!(out, "|---|---|{}---|", "---|".repeat(COLUMNS.len()))?;
    for (class, paths) in classes {
        let mut plain_bytes = 0;
        let mut figures = [Figures::default(); COLUMNS.len()];
        let mut jpeg_ls = Some(0);
        for path in &paths {
            process::check_interrupted()?;
            let plain = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            plain_bytes += plain.len() as u64;
            for ((name, codec, effort), figures) in COLUMNS.iter().zip(&mut figures) {
                measure(&plain, *codec, *effort, runs, figures)
                    .with_context(|| format!("{} by {name}", path.display()))?;
            }
            jpeg_ls = jpeg_ls.zip(jpeg_ls_bytes(path)).map(|(sum, bytes)| sum + bytes);
        }
        let cells: Vec<_> = figures.iter().map(|figures| cell(plain_bytes, figures)).collect();
        let jpeg_ls = jpeg_ls.map_or("-".into(), |bytes| format!("{:.3}", plain_bytes as f64 / bytes as f64));
        writeln!(out, "| {} | {plain_bytes} | {} | {jpeg_ls} |", class.display(), cells.join(" | "))?;
    }
    Ok(())
}

fn cell(plain_bytes: u64, figures: &Figures) -> String {
    let rate = |seconds: f64| plain_bytes as f64 / 1e6 / seconds.max(1e-9);
    let ratio = plain_bytes as f64 / figures.encoded_bytes.max(1) as f64;
    format!("{ratio:.3}, {:.0}, {:.0}", rate(figures.encode_seconds), rate(figures.decode_seconds))
}

/// Encodes and decodes every chunk of a file some times; the best time of each chunk counts.
fn measure(plain: &[u8], codec: Option<Codec>, effort: Effort, runs: u32, figures: &mut Figures) -> Result<()> {
    let (mut encoder, mut decoder) = (EncodeScratch::new(), DecodeScratch::new());
    for chunk in plain.chunks(CHUNK_BYTES_MAX) {
        let (mut encode_best, mut decode_best) = (f64::INFINITY, f64::INFINITY);
        let mut encoded = (Codec::Raw, Vec::new());
        let mut out = Vec::new();
        for _ in 0..runs {
            let begin = processor_seconds();
            let found = match codec {
                Some(codec) => {
                    encode_as(chunk, codec, effort, &mut encoder).map_or((Codec::Raw, chunk), |b| (codec, b))
                }
                None => encode(chunk, effort, &mut encoder),
            };
            encode_best = encode_best.min(processor_seconds() - begin);
            encoded = (found.0, found.1.to_vec());
            let begin = processor_seconds();
            decode(encoded.0, &encoded.1, chunk.len() as u32, &mut decoder, &mut out)?;
            decode_best = decode_best.min(processor_seconds() - begin);
            ensure!(out == chunk, "it came back changed");
        }
        figures.encoded_bytes += encoded.1.len() as u64;
        figures.encode_seconds += encode_best;
        figures.decode_seconds += decode_best;
    }
    Ok(())
}

/// Processor time of this thread: what else runs on the machine does not count as much as it would by the clock.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The size of a DICOM file after DCMTK has made JPEG-LS of it; none if that is not installed or refuses the file.
fn jpeg_ls_bytes(path: &Path) -> Option<u64> {
    let target = tempfile::NamedTempFile::new().ok()?;
    let mut command = Command::new("dcmcjpls");
    command.arg(path).arg(target.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let done = command.status().is_ok_and(|status| status.success());
    done.then(|| fs::metadata(target.path()).ok()).flatten().map(|found| found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_gives_back_what_it_got() {
        let plain: Vec<u8> = (0..1_100_000u32).map(|at| (at / 700 + at % 700) as u8 & 63).collect();
        for (name, codec, effort) in COLUMNS {
            let mut figures = Figures::default();
            measure(&plain, codec, effort, 1, &mut figures).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!((1..=plain.len() as u64).contains(&figures.encoded_bytes), "{name}: {figures:?}");
        }
    }
}
