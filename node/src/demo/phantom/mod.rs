//! A DICOM MR study of a head that never lived: real files, real size, nobody's data.
//!
//! 240 slices make 126 MB in four series of one study. Images are 12 bits in 16 with the noise of a magnitude image, so that they
//! compress like those of a scanner. Start reading at [`write_study`]; `anatomy` is the head, `contrast` the four series, `part10`
//! the file format.
//!
//! **Invariant:** the same seed and number of slices give the same bytes, on every platform.

mod anatomy;
mod contrast;
mod part10;
mod random;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anatomy::Head;
use contrast::{SERIES, Slice};
use part10::Image;
use random::Gaussian;

/// The part of the head that the slices cover, from its lowest to its highest, in millimetres.
const HEIGHTS_MM: Range<f32> = -66.0..84.0;
/// More threads than this only wait for the disk.
const THREADS_MAX: usize = 4;

/// What [`write_study`] wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StudySummary {
    /// How many files there are.
    pub files: u32,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

/// Writes a study of `slices` files into `dir`, one folder for each series; `progress` hears the number of files written so far.
///
/// The content depends on `seed` and `slices` only. Existing files of the same names are replaced.
///
/// # Errors
/// Those of the file system; what was written until then stays.
pub fn write_study(dir: &Path, slices: u32, seed: u64, progress: &mut dyn FnMut(u32)) -> io::Result<StudySummary> {
    let study = Study::new(slices, seed);
    for series in SERIES.iter().take(slices as usize) {
        fs::create_dir_all(dir.join(series.folder))?;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let cancelled = AtomicBool::new(false);
    let (written, results) = mpsc::channel();
    let mut summary = StudySummary::default();
    let mut outcome = Ok(());
    std::thread::scope(|scope| {
        for first in 0..threads as u32 {
            let (written, study, cancelled) = (written.clone(), &study, &cancelled);
            scope.spawn(move || {
                let positions = (first..study.positions).step_by(threads);
                for position in positions.take_while(|_| !cancelled.load(Ordering::Relaxed)) {
                    study.write_position(dir, position, &mut |result| {
                        // Nobody listens any more only after an error, and then the rest is not wanted.
                        let _ = written.send(result);
                    });
                }
            });
        }
        drop(written);
        for result in results {
            match result {
                Ok(bytes) => {
                    summary.files += 1;
                    summary.bytes += bytes;
                    progress(summary.files);
                }
                Err(error) => {
                    cancelled.store(true, Ordering::Relaxed);
                    outcome = Err(error);
                }
            }
        }
    });
    outcome.map(|()| summary)
}

/// What all threads share.
struct Study {
    head: Head,
    gaussian: Gaussian,
    seed: u64,
    slices: u32,
    /// Slice positions in the longest series.
    positions: u32,
}

impl Study {
    fn new(slices: u32, seed: u64) -> Self {
        Self {
            head: Head::new(seed),
            gaussian: Gaussian::new(seed),
            seed,
            slices,
            positions: slices.div_ceil(SERIES.len() as u32),
        }
    }

    fn spacing_mm(&self) -> f32 {
        (HEIGHTS_MM.end - HEIGHTS_MM.start) / self.positions as f32
    }

    /// Writes the images of one slice position in every series that reaches it; the anatomy is worked out once.
    fn write_position(&self, dir: &Path, position: u32, report: &mut dyn FnMut(io::Result<u64>)) {
        let height_mm = HEIGHTS_MM.start + (position as f32 + 0.5) * self.spacing_mm();
        let slice = Slice::cut(&self.head, height_mm, position);
        for (index, series) in SERIES.iter().enumerate() {
            // Slices are dealt to the series in turn, so the first ones may be one longer.
            if position * SERIES.len() as u32 + index as u32 >= self.slices {
                break;
            }
            let image = Image {
                seed: self.seed,
                series,
                series_number: index as u32 + 1,
                number: position + 1,
                height_mm,
                spacing_mm: self.spacing_mm(),
                pixels: slice.image(index, &self.gaussian, self.seed),
            };
            let path = dir.join(series.folder).join(format!("IM{:04}.dcm", position + 1));
            let written = image.encode().and_then(|bytes| fs::write(path, &bytes).map(|()| bytes.len() as u64));
            report(written);
        }
    }
}

#[cfg(test)]
mod tests;
