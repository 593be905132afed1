//! The series of the study and how each of them shows a tissue.
//!
//! **Invariant:** every pixel fits into 12 bits.

use super::anatomy::{Head, Mixture, TISSUES};
use super::random::{Gaussian, Xoshiro};

/// Rows and columns of every image.
pub(super) const EDGE_PIXELS: usize = 512;
/// Distance between pixel centres: a field of view of 240 mm.
pub(super) const PIXEL_SPACING_MM: f32 = 0.46875;
/// The largest value of 12 bits.
pub(super) const PIXEL_MAX: f32 = 4095.0;

/// One series: what a scanner would call it, how it was "measured", and how bright each tissue is.
pub(super) struct Series {
    /// Folder name, which is also sorted by a person's eye.
    pub(super) folder: &'static str,
    pub(super) description: &'static str,
    /// DICOM PS3.3 C.8.3.1: ScanningSequence and SequenceVariant.
    pub(super) scanning_sequence: &'static str,
    pub(super) sequence_variant: &'static str,
    pub(super) repetition_time_ms: &'static str,
    pub(super) echo_time_ms: &'static str,
    /// Only for inversion recovery.
    pub(super) inversion_time_ms: Option<&'static str>,
    pub(super) echo_train_length: &'static str,
    /// Air, fat, muscle, bone, fluid, gray, white, lesion.
    brightness: [f32; TISSUES],
    noise: f32,
    pub(super) window: (&'static str, &'static str),
}

/// The study: four contrasts of the same head.
pub(super) const SERIES: [Series; 4] = [
    Series {
        folder: "01_T1_SE_AXIAL",
        description: "T1 SE axial",
        scanning_sequence: "SE",
        sequence_variant: "SP",
        repetition_time_ms: "500",
        echo_time_ms: "12",
        inversion_time_ms: None,
        echo_train_length: "1",
        brightness: [0.0, 2300.0, 950.0, 120.0, 420.0, 1050.0, 1450.0, 800.0],
        noise: 34.0,
        window: ("1000", "2000"),
    },
    Series {
        folder: "02_T2_TSE_AXIAL",
        description: "T2 TSE axial",
        scanning_sequence: "SE",
        sequence_variant: "SK",
        repetition_time_ms: "4500",
        echo_time_ms: "98",
        inversion_time_ms: None,
        echo_train_length: "15",
        brightness: [0.0, 1900.0, 520.0, 110.0, 2900.0, 1400.0, 1000.0, 2300.0],
        noise: 38.0,
        window: ("1300", "2600"),
    },
    Series {
        folder: "03_FLAIR_AXIAL",
        description: "T2 FLAIR axial",
        scanning_sequence: "SE\\IR",
        sequence_variant: "SK\\MP",
        repetition_time_ms: "9000",
        echo_time_ms: "110",
        inversion_time_ms: Some("2500"),
        echo_train_length: "17",
        brightness: [0.0, 1700.0, 560.0, 90.0, 210.0, 1250.0, 930.0, 2500.0],
        noise: 32.0,
        window: ("900", "1900"),
    },
    Series {
        folder: "04_DWI_B1000_AXIAL",
        description: "DWI b1000 axial",
        scanning_sequence: "EP",
        sequence_variant: "SK",
        repetition_time_ms: "6200",
        echo_time_ms: "89",
        inversion_time_ms: None,
        echo_train_length: "96",
        brightness: [0.0, 130.0, 210.0, 30.0, 170.0, 900.0, 760.0, 2600.0],
        noise: 36.0,
        window: ("700", "1500"),
    },
];

/// The anatomy of one slice position, worked out once for all series.
pub(super) struct Slice {
    mixtures: Vec<Mixture>,
    texture: Vec<f32>,
    /// Sensitivity of the receive coils: a smooth field around 1.
    bias: Vec<f32>,
    position: u32,
}

impl Slice {
    /// Cuts the head at `height_mm`; `position` numbers the slice within its series.
    pub(super) fn cut(head: &Head, height_mm: f32, position: u32) -> Self {
        let count = EDGE_PIXELS * EDGE_PIXELS;
        let mut slice = Self {
            mixtures: Vec::with_capacity(count),
            texture: Vec::with_capacity(count),
            bias: Vec::with_capacity(count),
            position,
        };
        for row in 0..EDGE_PIXELS {
            for column in 0..EDGE_PIXELS {
                let at = [millimetres(column), millimetres(row), height_mm];
                let mixture = head.mixture(at);
                let texture = if mixture.0[0] < 1.0 { head.texture(at) } else { 0.0 };
                slice.mixtures.push(mixture);
                slice.texture.push(texture);
                slice.bias.push(bias(at));
            }
        }
        slice
    }

    /// The image that `series` shows of this slice: brightness, coil field and the Rician noise of a magnitude image.
    pub(super) fn image(&self, series: usize, gaussian: &Gaussian, seed: u64) -> Vec<u16> {
        let Series { brightness, noise, .. } = &SERIES[series];
        let mut random = Xoshiro::new(seed, (series as u64) << 32 | u64::from(self.position));
        let mut pixels = Vec::with_capacity(self.mixtures.len());
        let mut spare = None;
        for ((mixture, texture), bias) in self.mixtures.iter().zip(&self.texture).zip(&self.bias) {
            let signal: f32 = mixture.0.iter().zip(brightness).map(|(part, value)| part * value).sum();
            let signal = signal * (1.0 + 0.05 * texture) * bias;
            let (real, imaginary) = match spare.take() {
                Some(pair) => pair,
                None => {
                    let [first, second] = gaussian.pairs(&mut random);
                    spare = Some(second);
                    first
                }
            };
            let in_phase = signal + noise * real;
            let quadrature = noise * imaginary;
            let magnitude = (in_phase * in_phase + quadrature * quadrature).sqrt();
            pixels.push((magnitude + 0.5).min(PIXEL_MAX) as u16);
        }
        pixels
    }
}

/// The place of a row or column, in millimetres from the centre of the image.
pub(super) fn millimetres(index: usize) -> f32 {
    (index as f32 - (EDGE_PIXELS as f32 - 1.0) / 2.0) * PIXEL_SPACING_MM
}

fn bias(at: [f32; 3]) -> f32 {
    let [x, y, z] = at.map(|v| v / 120.0);
    1.0 + 0.10 * (x * x + y * y) - 0.07 * x + 0.05 * y - 0.06 * z
}
