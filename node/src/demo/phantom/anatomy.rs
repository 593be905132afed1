//! A head made of formulas: which tissue lies at a point, in millimetres from the centre of the head.
//!
//! x runs to the patient's left, y to the back, z to the top, as in DICOM's patient coordinates. The shapes are loosely those of
//! an adult; they are meant to compress and to look like an MR image, not to teach anatomy.
//!
//! **Invariant:** only operations that IEEE 754 rounds exactly (no sine, no exponential), so that a seed gives the same study on
//! every platform.

use super::random::{Xoshiro, smooth_noise};

/// What a piece of the head is made of; the order is that of the columns in `contrast`.
#[derive(Clone, Copy)]
pub(super) enum Tissue {
    Air,
    Fat,
    Muscle,
    Bone,
    Fluid,
    Gray,
    White,
    Lesion,
}

/// How many kinds of tissue there are.
pub(super) const TISSUES: usize = 8;

/// The parts of each tissue in one voxel, in the order of [`Tissue`]; they sum to 1.
#[derive(Clone, Copy)]
pub(super) struct Mixture(pub(super) [f32; TISSUES]);

impl Mixture {
    fn air() -> Self {
        let mut parts = [0.0; TISSUES];
        parts[Tissue::Air as usize] = 1.0;
        Self(parts)
    }

    /// Lays `tissue` over what is there, where `depth_mm` is positive; the border is `blur_mm` wide (partial volume).
    fn paint(&mut self, tissue: Tissue, depth_mm: f32, blur_mm: f32) {
        let amount = (depth_mm / blur_mm + 0.5).clamp(0.0, 1.0);
        if amount > 0.0 {
            self.0.iter_mut().for_each(|part| *part *= 1.0 - amount);
            self.0[tissue as usize] += amount;
        }
    }
}

/// An ellipsoid: centre and half axes in millimetres.
struct Ellipsoid {
    centre: [f32; 3],
    half: [f32; 3],
}

impl Ellipsoid {
    const fn new(centre: [f32; 3], half: [f32; 3]) -> Self {
        Self { centre, half }
    }

    /// About how deep the point lies inside, in millimetres; negative outside.
    fn depth_mm(&self, at: [f32; 3]) -> f32 {
        let scaled: [f32; 3] = std::array::from_fn(|axis| (at[axis] - self.centre[axis]) / self.half[axis]);
        let smallest = self.half[0].min(self.half[1]).min(self.half[2]);
        (1.0 - length(scaled)) * smallest
    }
}

// Paired structures are given for one side; the point is mirrored with |x|.
const LATERAL_VENTRICLE: Ellipsoid = Ellipsoid::new([10.0, 2.0, 14.0], [6.5, 34.0, 11.0]);
const THIRD_VENTRICLE: Ellipsoid = Ellipsoid::new([0.0, 4.0, -6.0], [2.2, 13.0, 11.0]);
const THALAMUS: Ellipsoid = Ellipsoid::new([11.0, 9.0, -1.0], [8.0, 14.0, 9.0]);
const PUTAMEN: Ellipsoid = Ellipsoid::new([25.0, -6.0, 0.0], [6.0, 17.0, 11.0]);
const CEREBELLUM: Ellipsoid = Ellipsoid::new([0.0, 48.0, -46.0], [50.0, 31.0, 27.0]);
const BRAIN_STEM: Ellipsoid = Ellipsoid::new([0.0, 24.0, -64.0], [12.0, 11.0, 42.0]);
const EYE: Ellipsoid = Ellipsoid::new([32.0, -76.0, -42.0], [12.5, 12.5, 12.5]);
const NOSE: Ellipsoid = Ellipsoid::new([0.0, -70.0, -62.0], [15.0, 26.0, 24.0]);

/// The whole head of one seed.
pub(super) struct Head {
    seed: u64,
    lesions: Vec<Ellipsoid>,
}

impl Head {
    /// The head that belongs to `seed`: its folds, its asymmetry and its few lesions.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Xoshiro::new(seed, 1);
        let lesions = (0..5)
            .map(|_| {
                let mut between = |low: f32, high: f32| low + (high - low) * random.unit();
                let side = if between(0.0, 1.0) < 0.5 { -1.0 } else { 1.0 };
                let centre = [side * between(18.0, 34.0), between(-35.0, 40.0), between(10.0, 38.0)];
                Ellipsoid::new(centre, [between(2.0, 6.0), between(2.0, 7.0), between(2.5, 6.0)])
            })
            .collect();
        Self { seed, lesions }
    }

    /// What lies at a point, in millimetres from the centre of the head.
    pub(super) fn mixture(&self, at: [f32; 3]) -> Mixture {
        let mut mixture = Mixture::air();
        // Nothing lies outside this box: most of the image is settled without any noise.
        if at[0].abs() > 86.0 || at[1].abs() > 104.0 || at[2] > 90.0 {
            return mixture;
        }
        let shape = self.noise(1, at, 46.0);
        let depth = skin_depth_mm(at) + 2.2 * shape;
        if depth < -1.0 {
            return mixture;
        }
        mixture.paint(Tissue::Muscle, depth, 0.7);
        mixture.paint(Tissue::Fat, depth - 1.6, 0.7);
        self.paint_skull(&mut mixture, at, depth - 5.5 + 1.2 * shape);
        // The skull base: high over the face, low behind, with a slope between.
        let floor = -34.0 - (2.0 * at[1]).clamp(0.0, 44.0) + 3.0 * shape;
        let above_floor = at[2] - floor;
        let inside = (depth - 12.5 + 0.8 * shape).min(above_floor);
        if inside > -1.0 {
            self.paint_brain(&mut mixture, at, inside);
        } else if above_floor < -1.0 {
            self.paint_face(&mut mixture, at, depth);
        }
        mixture
    }

    fn noise(&self, layer: u64, at: [f32; 3], cell_mm: f32) -> f32 {
        smooth_noise(self.seed.wrapping_add(layer), at.map(|v| v / cell_mm))
    }

    /// Two tables of dense bone with marrow between them.
    fn paint_skull(&self, mixture: &mut Mixture, at: [f32; 3], depth: f32) {
        if depth < -1.0 {
            return;
        }
        mixture.paint(Tissue::Bone, depth, 0.8);
        let marrow = 1.6 - (depth - 3.2).abs() + 0.7 * self.noise(2, at, 9.0);
        mixture.paint(Tissue::Fat, marrow, 2.4);
        mixture.paint(Tissue::Fluid, depth - 6.2, 0.8);
    }

    /// Muscle, fat, the nose with its air, and the eyes: what lies below and before the brain.
    fn paint_face(&self, mixture: &mut Mixture, at: [f32; 3], depth: f32) {
        mixture.paint(Tissue::Muscle, depth - 7.0, 1.0);
        let fat = (4.0 * self.noise(3, at, 11.0) - 1.0).min(depth - 6.0);
        mixture.paint(Tissue::Fat, fat, 2.0);
        let bone = (5.0 * self.noise(4, at, 15.0) - 2.2).min(depth - 6.0);
        mixture.paint(Tissue::Bone, bone, 1.2);
        let mirrored = mirror(at);
        let eye = EYE.depth_mm(mirrored);
        mixture.paint(Tissue::Fat, eye + 4.0, 1.5);
        mixture.paint(Tissue::Fluid, eye, 0.7);
        let nose = NOSE.depth_mm(at).min(4.0 * self.noise(5, at, 7.0) + 1.5);
        mixture.paint(Tissue::Air, nose, 0.8);
    }

    fn paint_brain(&self, mixture: &mut Mixture, at: [f32; 3], inside: f32) {
        mixture.paint(Tissue::Fluid, inside, 0.8);
        let mirrored = mirror(at);
        let cerebellum = CEREBELLUM.depth_mm(at);
        let stem = BRAIN_STEM.depth_mm(at);
        if cerebellum.max(stem) > -1.5 {
            // Folia: thin leaves that lie nearly flat.
            let leaves = self.noise(6, [at[0] * 0.25, at[1] * 0.35, at[2]], 3.4).abs() * 3.0;
            let folded = (leaves + 0.12 * cerebellum).min(cerebellum);
            mixture.paint(Tissue::Gray, folded, 0.9);
            mixture.paint(Tissue::White, (cerebellum - 9.0).min(2.2 * leaves - 1.0), 1.5);
            mixture.paint(Tissue::White, stem, 1.0);
            return;
        }
        let ribbon = self.ribbon_mm(at, inside);
        mixture.paint(Tissue::Gray, ribbon, 0.9);
        mixture.paint(Tissue::White, ribbon - 2.8, 1.1);
        mixture.paint(Tissue::Gray, THALAMUS.depth_mm(mirrored).max(PUTAMEN.depth_mm(mirrored)), 1.8);
        let wobble = 1.2 * self.noise(7, at, 12.0);
        mixture.paint(Tissue::Fluid, LATERAL_VENTRICLE.depth_mm(mirrored) + wobble, 0.9);
        mixture.paint(Tissue::Fluid, THIRD_VENTRICLE.depth_mm(at), 0.9);
        for lesion in &self.lesions {
            let depth = lesion.depth_mm(at);
            if depth > -3.0 {
                mixture.paint(Tissue::Lesion, depth + wobble, 2.0);
            }
        }
    }

    /// Distance into the folded cortical ribbon, in millimetres: negative in a sulcus, above 3 in white matter.
    fn ribbon_mm(&self, at: [f32; 3], inside: f32) -> f32 {
        // Bending the space first turns plain noise into a maze of winding folds.
        let bend = [self.noise(8, at, 21.0), self.noise(9, at, 21.0), self.noise(10, at, 21.0)];
        let bent: [f32; 3] = std::array::from_fn(|axis| at[axis] + 7.0 * bend[axis]);
        let fold = self.noise(11, bent, 11.0).abs() * 13.0;
        // Sulci reach about 20 mm deep and close gradually.
        let sulcus = fold - 0.9 + 0.9 * (inside - 16.0).max(0.0);
        let reach = (20.0 - at[2]).min(42.0 - at[1].abs()).max(0.0);
        let fissure = at[0].abs() - 0.8 + 0.5 * bend[0] + 0.6 * reach;
        (inside - 1.2).min(sulcus).min(fissure)
    }

    /// Fine structure inside a tissue, around 0: no real tissue is perfectly even.
    pub(super) fn texture(&self, at: [f32; 3]) -> f32 {
        0.6 * self.noise(12, at, 2.2) + 0.4 * self.noise(13, at, 6.5)
    }
}

/// Depth under the skin of a smooth head that goes on downwards into a neck.
fn skin_depth_mm(at: [f32; 3]) -> f32 {
    let height = if at[2] > 0.0 { 87.0 } else { 138.0 };
    let scaled = [at[0] / 77.0, at[1] / 95.0, at[2] / height];
    (1.0 - length(scaled)) * 80.0
}

fn mirror(at: [f32; 3]) -> [f32; 3] {
    [at[0].abs(), at[1], at[2]]
}

fn length(v: [f32; 3]) -> f32 {
    (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tissues_lie_where_a_head_has_them() {
        let head = Head::new(1);
        let check = |at: [f32; 3], tissue: Tissue, part: f32| {
            let mixture = head.mixture(at).0;
            assert!((mixture.iter().sum::<f32>() - 1.0).abs() < 1e-4, "parts at {at:?}: {mixture:?}");
            let found = mixture[tissue as usize];
            assert!(found >= part, "tissue {} at {at:?}: {mixture:?}", tissue as usize);
        };
        check([110.0, 0.0, 0.0], Tissue::Air, 1.0);
        check([0.0, 0.0, 120.0], Tissue::Air, 1.0);
        check([10.0, 0.0, 14.0], Tissue::Fluid, 0.9);
        check([25.0, -6.0, 0.0], Tissue::Gray, 0.9);
        check([32.0, -74.0, -42.0], Tissue::Fluid, 0.9);
        check([0.0, 24.0, -45.0], Tissue::White, 0.9);
    }
}
