//! Identification: everything captured of one person against everybody, fused over the whole gallery.

use sallyport_domain::iris::IRIS_MINIMUM_COMMON_BITS;
use sallyport_domain::{
    Eye, FaceSimilarity, FaceTemplate, FusionCalibration, GallerySize, IrisComparison,
    IrisDissimilarity, IrisRotation, IrisTemplate, Modality, ModelDigest, SubjectId, SubjectScores,
    Template,
};
use zeroize::Zeroize;

use crate::Gallery;
use crate::block::{Owner, scan};
use crate::faces::{FaceProbe, Faces, Interval};
use crate::popcount::{Kernel, ROW_WORDS, Row};
use crate::top::Top;

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
        for modality in Modality::ALL {
            let Some(references) = self.comparable(captured, modality) else {
                return Identification::OtherModel(modality);
            };
            match modality {
                Modality::Face => size.faces = references,
                Modality::IrisLeft => size.left_irises = references,
                Modality::IrisRight => size.right_irises = references,
            }
        }
        let slots = self.people.slots.len();
        let face = captured.face.and_then(|(model, template)| {
            let faces = self.faces.get(&model)?;
            Some((model, faces, FaceProbe::new(template)))
        });
        let intervals = face.as_ref().and_then(|(_, faces, probe)| {
            let probe = std::slice::from_ref(probe);
            faces.intervals(probe, slots, self.threads).pop()
        });
        let best = Best {
            face: intervals.unwrap_or_else(|| vec![Interval::NONE; slots]),
            left: self.compare_irises(captured.left, rotation),
            right: self.compare_irises(captured.right, rotation),
        };
        let exact = |slot| {
            let face = face.as_ref();
            face.and_then(|(model, faces, probe)| self.similarity(faces, *model, probe, slot))
        };
        let scores = self.best_people(&best, exact, calibration, k);
        Identification::Found { scores, size }
    }

    /// How many references of a modality the captured template is compared with; of all models when none was captured,
    /// and `None` when there are references, but not of its model.
    fn comparable(&self, captured: &Captured<'_>, modality: Modality) -> Option<usize> {
        let (all, own) = match modality.eye() {
            None => {
                let all: usize = self.faces.values().map(Faces::len).sum();
                let own = captured
                    .face
                    .map(|(model, _)| self.faces.get(&model).map_or(0, Faces::len));
                (all, own)
            }
            Some(eye) => {
                let of_eye = self.irises.iter().filter(|((other, _), _)| *other == eye);
                let all = of_eye.map(|(_, block)| block.len()).sum();
                let own = captured.iris(eye).map(|iris| {
                    let block = self.irises.get(&(eye, iris.encoder()));
                    block.map_or(0, |block| block.len())
                });
                (all, own)
            }
        };
        match own {
            None => Some(all),
            Some(0) if all > 0 => None,
            Some(own) => Some(own),
        }
    }

    /// Best dissimilarity of each slot.
    fn compare_irises(&self, probe: Option<&IrisTemplate>, rotation: IrisRotation) -> Vec<f32> {
        let mut slots = vec![NOT_COMPARED; self.people.slots.len()];
        let block = probe.and_then(|probe| {
            let block = self.irises.get(&(probe.eye(), probe.encoder()))?;
            Some((block, Positions::new(probe, rotation)))
        });
        let Some((block, positions)) = block else {
            return slots;
        };
        let scores = scan(
            block,
            self.threads,
            (1, NOT_COMPARED),
            |_, row, score: &mut [f32]| {
                score.fill(positions.score(self.kernel, row));
            },
        );
        keep(&mut slots, &scores, block.owners());
        slots
    }

    /// The `k` best of each ranking. First by what each score is at least, then only whoever can still be among them, by
    /// what it is.
    fn best_people(
        &self,
        best: &Best,
        exact_face: impl Fn(usize) -> Option<FaceSimilarity>,
        calibration: &FusionCalibration,
        k: usize,
    ) -> Vec<SubjectScores> {
        let mut at_least = rankings(k);
        let slots = || {
            let slots = self.people.slots.iter().enumerate();
            slots.filter_map(|(slot, subject)| Some((slot, (*subject)?)))
        };
        for (slot, subject) in slots() {
            if let Some(scores) = best.scores(subject, slot, |face| face.least) {
                offer(&mut at_least, &scores, calibration, slot);
            }
        }
        let mut people = Vec::new();
        for (slot, subject) in slots() {
            let Some(at_most) = best.scores(subject, slot, |face| face.greatest) else {
                continue;
            };
            let possible = keys(&at_most, calibration)
                .into_iter()
                .zip(&at_least)
                .any(|(key, ranking)| key.is_some_and(|key| ranking.may_take(key)));
            if possible {
                people.push(SubjectScores {
                    face: at_most.face.and_then(|_| exact_face(slot)),
                    ..at_most
                });
            }
        }
        let mut exact = rankings(k);
        for (at, scores) in people.iter().enumerate() {
            offer(&mut exact, scores, calibration, at);
        }
        let chosen: std::collections::BTreeSet<usize> = exact.iter().flat_map(Top::slots).collect();
        chosen
            .into_iter()
            .filter_map(|at| people.get(at).copied())
            .collect()
    }
}

/// The five rankings: fused, supported, face, left iris, right iris.
fn rankings(k: usize) -> [Top; 5] {
    std::array::from_fn(|_| Top::new(k))
}

/// What a person is ranked by in each. Rises with every score.
fn keys(scores: &SubjectScores, calibration: &FusionCalibration) -> [Option<(f64, f64)>; 5] {
    let closeness = |modality| {
        let score = scores.score(modality)?;
        Some(match modality {
            Modality::Face => score,
            Modality::IrisLeft | Modality::IrisRight => -score,
        })
    };
    let [face, left, right] = Modality::ALL.map(closeness);
    let together: f64 = [face, left, right].into_iter().flatten().sum();
    let by = |key: f64| (key, together);
    [
        Some(by(scores.fused(calibration).log10())),
        Some(by(scores.support(calibration).log10())),
        face.map(by),
        left.map(by),
        right.map(by),
    ]
}

fn offer(
    rankings: &mut [Top; 5],
    scores: &SubjectScores,
    calibration: &FusionCalibration,
    slot: usize,
) {
    for (ranking, key) in rankings.iter_mut().zip(keys(scores, calibration)) {
        if let Some(key) = key {
            ranking.offer(key, slot);
        }
    }
}

/// Best scores by slot.
struct Best {
    face: Vec<Interval>,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Best {
    /// The scores of a slot, the face at one end of its interval; `None` when nothing was compared.
    fn scores(
        &self,
        subject: SubjectId,
        slot: usize,
        end: impl Fn(&Interval) -> f32,
    ) -> Option<SubjectScores> {
        let iris = |scores: &[f32]| {
            let score = *scores.get(slot)?;
            if score == TOO_FEW_BITS {
                return Some(IrisComparison::TooFewBits);
            }
            IrisDissimilarity::new(score)
                .ok()
                .map(IrisComparison::Compared)
        };
        let face = self.face.get(slot).map(end);
        let scores = SubjectScores {
            subject,
            // What is not compared is no number, and stays none when clamped.
            face: face.and_then(|face| FaceSimilarity::new(face.clamp(-1.0, 1.0)).ok()),
            left: iris(&self.left),
            right: iris(&self.right),
        };
        (scores != SubjectScores::none(subject)).then_some(scores)
    }
}

/// Keeps the closest score of each slot.
fn keep(slots: &mut [f32], scores: &[f32], owners: &[Owner]) {
    for (score, owner) in scores.iter().zip(owners) {
        if let Some(best) = slots.get_mut(owner.slot as usize) {
            // `min` prefers any score to `TOO_FEW_BITS`, and that to `NOT_COMPARED`.
            *best = best.min(*score);
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
