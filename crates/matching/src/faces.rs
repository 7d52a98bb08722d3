//! The faces of one model: exact templates, and beside them a coarse copy in 8-bit numbers that is a quarter of the size.
//!
//! A search reads the coarse copy once and knows of every face the interval in which its true similarity lies. Only
//! faces whose interval reaches the best few are then compared exactly, so that the result is the one of comparing all
//! of them exactly: provably, not probably.
//!
//! With a template x = s q + r (scale s, whole numbers q, what is left over r) and a probe p = t u + v likewise,
//! p x = s t (u q) + (t u) r + v x, and by Cauchy and Schwarz the last two are at most |t u| |r| + |v| |x|.

use numkong::Dot;
use sallyport_domain::{FACE_TEMPLATE_DIMENSIONS, FaceTemplate, ReferenceId};
use zeroize::Zeroize;

use crate::block::{Block, Owner, scan};

const WIDTH: usize = FACE_TEMPLATE_DIMENSIONS;

/// Longest template that the domain takes for one of unit length (1e-3), with room.
const LONGEST: f64 = 1.002;

/// More than all rounding of single and double precision in a similarity: 512 products of at most one, summed.
const ROUNDING: f64 = 1e-4;

/// What the 8-bit numbers of a template leave out.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grain {
    /// Value of one step.
    scale: f32,
    /// Length of the remainder, rounded up.
    remainder: f32,
}

/// Rounds a template to 8-bit numbers.
fn quantise(values: &[f32], steps: &mut [i8; WIDTH]) -> Grain {
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
    let mut remainder = 0.0_f64;
    for (value, step) in values.iter().zip(steps) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "between -127 and 127 by the choice of the scale; a cast saturates anyway"
        )]
        let rounded = (value / scale).round() as i8;
        *step = rounded;
        remainder += (f64::from(*value) - f64::from(scale) * f64::from(rounded)).powi(2);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "single precision is enough for a bound that is rounded up"
    )]
    let remainder = (remainder.sqrt() * (1.0 + 1e-5)) as f32;
    Grain { scale, remainder }
}

/// A probe in both forms; the coarse one is zeroised when dropped.
pub(crate) struct FaceProbe<'a> {
    exact: &'a FaceTemplate,
    steps: [i8; WIDTH],
    grain: Grain,
    /// Length of the coarse form.
    length: f64,
}

impl<'a> FaceProbe<'a> {
    pub(crate) fn new(exact: &'a FaceTemplate) -> Self {
        let mut steps = [0; WIDTH];
        let grain = quantise(exact.as_slice(), &mut steps);
        let squares: f64 = steps.iter().map(|step| f64::from(*step).powi(2)).sum();
        Self {
            exact,
            steps,
            grain,
            length: squares.sqrt() * f64::from(grain.scale),
        }
    }

    /// The least and the greatest that the similarity with a template can be.
    fn interval(&self, steps: &[i8; WIDTH], grain: Grain) -> Interval {
        let product = <i8 as Dot>::dot(&self.steps, steps).map_or(0.0, f64::from);
        let about = product * f64::from(self.grain.scale) * f64::from(grain.scale);
        let error = self.length * f64::from(grain.remainder)
            + f64::from(self.grain.remainder) * LONGEST
            + ROUNDING;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the error has room for single precision"
        )]
        Interval {
            least: (about - error) as f32,
            greatest: (about + error) as f32,
        }
    }
}

impl Drop for FaceProbe<'_> {
    fn drop(&mut self) {
        self.steps.zeroize();
    }
}

/// Between these two lies a similarity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) least: f32,
    pub(crate) greatest: f32,
}

impl Interval {
    /// Nothing compared.
    pub(crate) const NONE: Self = Self {
        least: f32::NAN,
        greatest: f32::NAN,
    };

    /// The interval of the better of two similarities.
    fn better(self, other: Self) -> Self {
        // `max` prefers a number to `NONE`.
        Self {
            least: self.least.max(other.least),
            greatest: self.greatest.max(other.greatest),
        }
    }
}

/// The faces of one model.
#[derive(Default)]
pub(crate) struct Faces {
    exact: Block<f32, WIDTH>,
    coarse: Block<i8, WIDTH>,
    grains: Vec<Grain>,
}

impl Faces {
    pub(crate) fn len(&self) -> usize {
        self.exact.len()
    }

    pub(crate) fn owners(&self) -> &[Owner] {
        self.exact.owners()
    }

    pub(crate) const fn unprotected_bytes(&self) -> usize {
        self.exact.unprotected_bytes() + self.coarse.unprotected_bytes()
    }

    /// Makes room for one template more.
    pub(crate) fn reserve(&mut self) {
        self.exact.reserve();
        self.coarse.reserve();
    }

    /// Appends a template; returns its place.
    pub(crate) fn push(&mut self, owner: Owner, template: &FaceTemplate) -> usize {
        let grains = &mut self.grains;
        self.coarse.push(owner, |row| {
            grains.push(quantise(template.as_slice(), row));
        });
        self.exact.push(owner, |row| {
            row.iter_mut()
                .zip(template.as_slice())
                .for_each(|(to, from)| *to = *from);
        })
    }

    /// As [`Block::swap_remove`].
    pub(crate) fn swap_remove(&mut self, at: usize) -> Option<ReferenceId> {
        if at < self.grains.len() {
            self.grains.swap_remove(at);
            self.coarse.swap_remove(at);
        }
        self.exact.swap_remove(at)
    }

    /// The intervals of each probe's best similarity with the owner of each slot, from one pass over the coarse copy.
    pub(crate) fn intervals(
        &self,
        probes: &[FaceProbe<'_>],
        slots: usize,
        threads: usize,
    ) -> Vec<Vec<Interval>> {
        let found = scan(
            &self.coarse,
            threads,
            (probes.len(), Interval::NONE),
            |at, row, found| {
                let Some(grain) = self.grains.get(at) else {
                    return;
                };
                for (probe, interval) in probes.iter().zip(found) {
                    *interval = probe.interval(row, *grain);
                }
            },
        );
        let mut best = vec![vec![Interval::NONE; slots]; probes.len()];
        for (found, owner) in found.chunks_exact(probes.len().max(1)).zip(self.owners()) {
            for (interval, best) in found.iter().zip(&mut best) {
                if let Some(best) = best.get_mut(owner.slot as usize) {
                    *best = best.better(*interval);
                }
            }
        }
        best
    }

    /// The similarity with the template at a place, in single precision, clamped to [-1, 1]: rounding may carry a
    /// template's comparison with itself a little over one.
    pub(crate) fn similarity(&self, probe: &FaceProbe<'_>, at: usize) -> Option<f32> {
        let row = self.exact.row(at)?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "scores are kept in single precision"
        )]
        let score = <f32 as Dot>::dot(probe.exact.as_slice(), row)? as f32;
        Some(score.clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn template(values: Vec<f32>) -> Option<FaceTemplate> {
        FaceTemplate::normalise(values).ok()
    }

    fn any_template() -> impl Strategy<Value = FaceTemplate> {
        // A few large components are what 8-bit numbers bear worst.
        let component = prop_oneof![4 => -1.0_f32..1.0, 1 => -30.0_f32..30.0, 1 => Just(0.0)];
        proptest::collection::vec(component, WIDTH)
            .prop_filter_map("a direction is needed", template)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// The bound holds, and is tight enough to be of use.
        #[test]
        fn the_similarity_lies_in_its_interval(a in any_template(), b in any_template(), near in 0.0_f32..1.0) {
            let mixed = a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| near * a + (1.0 - near) * b);
            let Some(mixed) = template(mixed.collect()) else { return Ok(()) };
            let owner = Owner { reference: ReferenceId::from_uuid(Uuid::nil()), slot: 0 };
            let mut faces = Faces::default();
            for face in [&a, &b, &mixed] {
                faces.push(owner, face);
            }
            let probe = FaceProbe::new(&a);
            for (at, row) in faces.coarse.rows(0, 3).enumerate() {
                let interval = probe.interval(row, faces.grains[at]);
                let true_score = faces.similarity(&probe, at).unwrap();
                prop_assert!((interval.least..=interval.greatest).contains(&true_score));
                prop_assert!(interval.greatest - interval.least < 0.35);
            }
        }
    }
}
