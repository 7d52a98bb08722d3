//! Identification: everything captured of one person against everybody, fused over the whole gallery.

use sallyport_domain::iris::IRIS_MINIMUM_COMMON_BITS;
use sallyport_domain::{
    Eye, FaceSimilarity, FaceTemplate, FusionCalibration, GallerySize, IrisComparison,
    IrisDissimilarity, IrisRotation, IrisTemplate, Modality, ModelDigest, SubjectScores, Template,
};
use zeroize::Zeroize;

use crate::block::{Owner, scan};
use crate::popcount::{Kernel, ROW_WORDS, Row};
use crate::top::Top;
use crate::{Gallery, face_score};

/// What was captured of one person, at most one template per modality.
#[derive(Debug, Clone, Copy, Default)]
pub struct Captured<'a> {
    face: Option<(ModelDigest, &'a FaceTemplate)>,
    left: Option<&'a IrisTemplate>,
    right: Option<&'a IrisTemplate>,
}

impl<'a> Captured<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a template under the modality that it names itself; a second one of the same modality replaces the first.
    #[must_use]
    pub fn with(mut self, model: ModelDigest, template: &'a Template) -> Self {
        match template {
            Template::Face(face) => self.face = Some((model, face)),
            Template::Iris(iris) => match iris.eye() {
                Eye::Left => self.left = Some(iris),
                Eye::Right => self.right = Some(iris),
            },
        }
        self
    }

    /// Is there anything to compare?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.face.is_none() && self.left.is_none() && self.right.is_none()
    }

    const fn iris(&self, eye: Eye) -> Option<&'a IrisTemplate> {
        match eye {
            Eye::Left => self.left,
            Eye::Right => self.right,
        }
    }
}

/// What an identification brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Identification {
    /// The people who are best fused, best by what speaks for them, and best in each modality, with all their scores;
    /// everybody else is behind them in all of these.
    Found {
        /// In no particular order.
        scores: Vec<SubjectScores>,
        /// What was compared with.
        size: GallerySize,
    },
    /// There are references of this modality, but none of the probe's model: somebody must be re-enrolled.
    OtherModel(Modality),
}

/// No comparison was possible for a slot: no reference there.
const NOT_COMPARED: f32 = f32::NAN;
/// Compared, and too few bits were valid in both.
const TOO_FEW_BITS: f32 = f32::INFINITY;

impl Gallery {
    /// Compares all captured templates with all references of their models and returns the people who can matter for the
    /// decision: the `k` best of each of five rankings (fused, supported, face, left iris, right iris). Exact: the fused
    /// ranking is over everybody, not over a shortlist of one modality.
    #[must_use]
    pub fn identify(
        &self,
        captured: &Captured<'_>,
        calibration: &FusionCalibration,
        rotation: IrisRotation,
        k: usize,
    ) -> Identification {
        let mut size = GallerySize {
            subjects: self.people.count(),
            ..GallerySize::default()
        };
        let mut best = Best::new(self.people.slots.len());
        for modality in Modality::ALL {
            let (references, compared) = match modality.eye() {
                None => {
                    let all = self.faces.values().map(|block| block.len()).sum();
                    (all, self.compare_faces(captured, &mut best.face))
                }
                Some(eye) => {
                    let of_eye = self.irises.iter().filter(|((other, _), _)| *other == eye);
                    let all = of_eye.map(|(_, block)| block.len()).sum();
                    let slots = best.iris(eye);
                    (all, self.compare_irises(captured, eye, rotation, slots))
                }
            };
            let references = match compared {
                None => references,
                Some(0) if references > 0 => return Identification::OtherModel(modality),
                Some(compared) => compared,
            };
            match modality {
                Modality::Face => size.faces = references,
                Modality::IrisLeft => size.left_irises = references,
                Modality::IrisRight => size.right_irises = references,
            }
        }
        let scores = self.best_people(&best, calibration, k);
        Identification::Found { scores, size }
    }

    /// Best similarity of each slot; returns how many references were compared, `None` without a probe.
    fn compare_faces(&self, captured: &Captured<'_>, slots: &mut [f32]) -> Option<usize> {
        let (model, probe) = captured.face?;
        let Some(block) = self.faces.get(&model) else {
            return Some(0);
        };
        let scores = scan(block, self.threads, |row| face_score(probe, row));
        // `max` prefers a number to `NOT_COMPARED`.
        keep(slots, &scores, block.owners(), f32::max);
        Some(block.len())
    }

    /// Best dissimilarity of each slot, likewise.
    fn compare_irises(
        &self,
        captured: &Captured<'_>,
        eye: Eye,
        rotation: IrisRotation,
        slots: &mut [f32],
    ) -> Option<usize> {
        let probe = captured.iris(eye)?;
        let Some(block) = self.irises.get(&(eye, probe.encoder())) else {
            return Some(0);
        };
        let positions = Positions::new(probe, rotation);
        let scores = scan(block, self.threads, |row| positions.score(self.kernel, row));
        // `min` prefers any score to `TOO_FEW_BITS`, and that to `NOT_COMPARED`.
        keep(slots, &scores, block.owners(), f32::min);
        Some(block.len())
    }

    fn best_people(
        &self,
        best: &Best,
        calibration: &FusionCalibration,
        k: usize,
    ) -> Vec<SubjectScores> {
        let mut tops: [Top; 5] = std::array::from_fn(|_| Top::new(k));
        let [fused, support, face, left, right] = &mut tops;
        for slot in 0..self.people.slots.len() {
            let Some(scores) = self.scores(best, slot) else {
                continue;
            };
            let closeness = |modality| {
                let score = scores.score(modality)?;
                Some(match modality {
                    Modality::Face => score,
                    Modality::IrisLeft | Modality::IrisRight => -score,
                })
            };
            let together: f64 = Modality::ALL.into_iter().filter_map(closeness).sum();
            fused.offer((scores.fused(calibration).log10(), together), slot);
            support.offer((scores.support(calibration).log10(), together), slot);
            for (top, modality) in [&mut *face, &mut *left, &mut *right]
                .into_iter()
                .zip(Modality::ALL)
            {
                if let Some(closeness) = closeness(modality) {
                    top.offer((closeness, together), slot);
                }
            }
        }
        let slots: std::collections::BTreeSet<usize> = tops.iter().flat_map(Top::slots).collect();
        slots
            .into_iter()
            .filter_map(|slot| self.scores(best, slot))
            .collect()
    }

    /// The scores of a slot; `None` when nothing was compared.
    fn scores(&self, best: &Best, slot: usize) -> Option<SubjectScores> {
        let subject = self.people.slots.get(slot).copied().flatten()?;
        let iris = |scores: &[f32]| {
            let score = *scores.get(slot)?;
            if score == TOO_FEW_BITS {
                return Some(IrisComparison::TooFewBits);
            }
            IrisDissimilarity::new(score)
                .ok()
                .map(IrisComparison::Compared)
        };
        let scores = SubjectScores {
            subject,
            face: best
                .face
                .get(slot)
                .and_then(|score| FaceSimilarity::new(*score).ok()),
            left: iris(&best.left),
            right: iris(&best.right),
        };
        (scores != SubjectScores::none(subject)).then_some(scores)
    }
}

/// Best scores by slot.
struct Best {
    face: Vec<f32>,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Best {
    fn new(slots: usize) -> Self {
        let empty = || vec![NOT_COMPARED; slots];
        Self {
            face: empty(),
            left: empty(),
            right: empty(),
        }
    }

    fn iris(&mut self, eye: Eye) -> &mut [f32] {
        match eye {
            Eye::Left => &mut self.left,
            Eye::Right => &mut self.right,
        }
    }
}

fn keep(slots: &mut [f32], scores: &[f32], owners: &[Owner], closer: impl Fn(f32, f32) -> f32) {
    for (score, owner) in scores.iter().zip(owners) {
        if let Some(best) = slots.get_mut(owner.slot as usize) {
            *best = closer(*best, *score);
        }
    }
}

/// Writes a template's code and mask, turned by `shift` columns, as the words of a row.
pub(crate) fn write_row(template: &IrisTemplate, shift: u32, row: &mut Row) {
    let (pairs, _) = row.as_chunks_mut::<2>();
    for (pair, ring) in pairs
        .iter_mut()
        .zip(template.code().iter().chain(template.mask()))
    {
        let ring = ring.rotate_left(shift);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a ring")]
        let halves = [ring as u64, (ring >> 64) as u64];
        *pair = halves;
    }
}

/// A probe in all positions in which it is compared; zeroised when dropped.
struct Positions(Vec<Row>);

impl Positions {
    fn new(probe: &IrisTemplate, rotation: IrisRotation) -> Self {
        let shifts = rotation.shifts();
        // All at once, so that growing leaves no copy behind.
        let mut rows = vec![[0; ROW_WORDS]; shifts.size_hint().0];
        rows.iter_mut()
            .zip(shifts)
            .for_each(|(row, shift)| write_row(probe, shift, row));
        Self(rows)
    }

    /// As [`sallyport_domain::iris::compare`], with the formula worked out for the closest position only.
    fn score(&self, kernel: Kernel, reference: &Row) -> f32 {
        self.0
            .iter()
            .map(|position| kernel.count(position, reference))
            .filter(|counts| counts.common >= IRIS_MINIMUM_COMMON_BITS)
            .reduce(|best, one| if one.closer_than(best) { one } else { best })
            .and_then(|best| IrisDissimilarity::from_counts(best.disagreeing, best.common))
            .map_or(TOO_FEW_BITS, IrisDissimilarity::value)
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|row| row.zeroize());
    }
}

#[cfg(test)]
mod tests;
