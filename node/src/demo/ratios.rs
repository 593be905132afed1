//! How the generated study compresses, with the two codecs that matter for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pakt_protocol::limits::CHUNK_BYTES_MAX;
use serde::Serialize;
use walkdir::WalkDir;

/// Level of zstd behind the byte planes.
const PLANES_LEVEL: i32 = 1;
/// Level of plain zstd that the planes are measured against.
const PLAIN_LEVEL: i32 = 3;

/// Plain bytes to encoded bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Ratios {
    /// Low and high bytes apart, then zstd.
    pub(super) planes16_zstd: f64,
    /// Plain zstd at level 3.
    pub(super) zstd_3: f64,
}

#[derive(Clone, Copy, Default)]
struct Sizes {
    plain: usize,
    planes: usize,
    zstd: usize,
}

impl Ratios {
    /// Measures every chunk of every file below `study`, on all cores.
    pub(super) fn of(study: &Path) -> io::Result<Ratios> {
        let mut files = Vec::new();
        for entry in WalkDir::new(study) {
            let entry = entry?;
            if entry.file_type().is_file() {
                files.push(entry.into_path());
            }
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = files.len().div_ceil(threads).max(1);
        let total = std::thread::scope(|scope| {
            let work: Vec<_> = files.chunks(share).map(|part| scope.spawn(|| measure(part))).collect();
            work.into_iter().try_fold(Sizes::default(), |sum, part| {
                let part = part.join().map_err(|_| io::Error::other("a thread was lost"))??;
                Ok::<_, io::Error>(sum.plus(part))
            })
        })?;
        let ratio = |encoded: usize| total.plain as f64 / encoded.max(1) as f64;
        Ok(Ratios { planes16_zstd: ratio(total.planes), zstd_3: ratio(total.zstd) })
    }
}

impl Sizes {
    fn plus(self, other: Sizes) -> Sizes {
        Sizes { plain: self.plain + other.plain, planes: self.planes + other.planes, zstd: self.zstd + other.zstd }
    }
}

fn measure(files: &[PathBuf]) -> io::Result<Sizes> {
    let mut sizes = Sizes::default();
    let mut planes = Vec::new();
    for file in files {
        for chunk in fs::read(file)?.chunks(CHUNK_BYTES_MAX) {
            planes.clear();
            planes.extend(chunk.iter().step_by(2));
            planes.extend(chunk.iter().skip(1).step_by(2));
            sizes = sizes.plus(Sizes {
                plain: chunk.len(),
                planes: zstd::bulk::compress(&planes, PLANES_LEVEL)?.len(),
                zstd: zstd::bulk::compress(chunk, PLAIN_LEVEL)?.len(),
            });
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_samples_gain_by_planes() {
        let dir = tempfile::tempdir().unwrap();
        let mut noise = vec![0; 200_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let samples: Vec<u8> = noise.iter().flat_map(|&n| (1000 + u16::from(n)).to_le_bytes()).collect();
        fs::write(dir.path().join("image"), samples).unwrap();
        let ratios = Ratios::of(dir.path()).unwrap();
        assert!(ratios.planes16_zstd > ratios.zstd_3, "{ratios:?}");
    }
}
