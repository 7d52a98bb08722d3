//! Do the samples of an enrolment belong together: one person, the eyes under their right names, nobody enrolled twice.
//!
//! Left and right are separate identities, and labels go wrong in practice (biometrics.md I.5). These rules find one eye
//! captured under both names, a stray sample, and a person who is there already. They never repair a label: an officer
//! captures again.

use crate::iris::compare_rings;
use crate::{
    Evidence, Eye, IrisComparison, IrisDissimilarity, IrisRotation, IrisTemplate, Modality,
    ModalityVerdict, SubjectId,
};

/// References kept of each eye.
pub const IRIS_REFERENCES_KEPT: usize = 3;

/// Samples of one eye that an enrolment may offer.
pub const IRIS_SAMPLES_MAXIMUM: usize = 8;

/// References of one eye are mutually at most this far apart (biometrics.md I.4).
pub const IRIS_REFERENCES_WITHIN: f32 = 0.28;

/// Two samples farther apart than this are not of one eye, and one of them does not belong here. Of mated pairs 1.2 %
/// lie beyond (biometrics.md I.3); at an enrolment such a sample is taken again.
pub const IRIS_SAMPLES_WITHIN: f32 = 0.36;

/// At most this far apart two irises may be the same one (biometrics.md I.5).
pub const SAME_IRIS_WITHIN: f32 = 0.32;

/// What is wrong with the iris samples of an enrolment. Numbers are places in the list of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrisEnrolmentDefect {
    /// A sample labelled left and one labelled right show the same iris: a mirrored camera, or one eye captured twice.
    SameEyeUnderBothNames {
        /// The sample labelled left.
        left: usize,
        /// The sample labelled right.
        right: usize,
    },
    /// Two samples of one eye are not of the same iris.
    Stray {
        /// Which eye.
        eye: Eye,
        /// The two samples.
        samples: (usize, usize),
    },
    /// Fewer samples of this eye than needed agree with each other.
    TooFewAgree {
        /// Which eye.
        eye: Eye,
        /// How many agree.
        agree: usize,
        /// How many are needed.
        needed: usize,
    },
    /// More samples of one eye than [`IRIS_SAMPLES_MAXIMUM`].
    TooMany {
        /// Which eye.
        eye: Eye,
    },
    /// The samples were made by different encoders.
    OtherEncoder {
        /// The first sample that differs from the first of all.
        sample: usize,
    },
}

impl IrisEnrolmentDefect {
    /// The stable name used in the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SameEyeUnderBothNames { .. } => "same_eye_under_both_names",
            Self::Stray { .. } => "stray_iris_sample",
            Self::TooFewAgree { .. } => "too_few_iris_samples_agree",
            Self::TooMany { .. } => "too_many_iris_samples",
            Self::OtherEncoder { .. } => "other_iris_encoder",
        }
    }

    /// What the officer should do, in plain words.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::SameEyeUnderBothNames { .. } => {
                "The left and the right iris are the same eye. Check which camera is which and whether its picture is mirrored, then capture both eyes again."
            }
            Self::Stray { .. } => {
                "The samples of one eye do not show the same iris. Capture this person's eyes again, with nobody else near the camera."
            }
            Self::TooFewAgree { .. } => {
                "Too few samples of one eye agree. Capture the eye again, wide open and looking into the camera."
            }
            Self::TooMany { .. } => "At most 8 samples of one eye can be offered.",
            Self::OtherEncoder { .. } => {
                "The iris samples were made by different encoders. Capture them all at one station."
            }
        }
    }
}

/// Checks the iris samples of one person and chooses the references to keep: of each eye that was offered up to
/// [`IRIS_REFERENCES_KEPT`] that are mutually within [`IRIS_REFERENCES_WITHIN`], the closest together, of the better
/// quality where that is equal. At least `needed` (1 to 3) must agree. Without samples there is nothing to keep.
///
/// # Errors
/// Everything that is wrong, see [`IrisEnrolmentDefect`]; then nothing may be kept.
pub fn choose_iris_references(
    samples: &[&IrisTemplate],
    needed: usize,
) -> Result<Vec<usize>, Vec<IrisEnrolmentDefect>> {
    let other_encoder = samples.first().and_then(|first| {
        samples
            .iter()
            .position(|sample| sample.encoder() != first.encoder())
    });
    if let Some(sample) = other_encoder {
        return Err(vec![IrisEnrolmentDefect::OtherEncoder { sample }]);
    }
    let of_eye = |eye| -> Vec<(usize, &IrisTemplate)> {
        let samples = samples.iter().copied().enumerate();
        samples.filter(|(_, sample)| sample.eye() == eye).collect()
    };
    let needed = needed.clamp(1, IRIS_REFERENCES_KEPT);
    let (mut kept, mut defects) = (Vec::new(), Vec::new());
    for eye in Eye::BOTH {
        match choose_of_eye(eye, &of_eye(eye), needed) {
            Ok(chosen) => kept.extend(chosen),
            Err(found) => defects.extend(found),
        }
    }
    let rights = of_eye(Eye::Right);
    for (left, a) in of_eye(Eye::Left) {
        let same = rights
            .iter()
            .find(|(_, b)| within(score(a, b), SAME_IRIS_WITHIN));
        if let Some((right, _)) = same {
            let right = *right;
            defects.push(IrisEnrolmentDefect::SameEyeUnderBothNames { left, right });
        }
    }
    if defects.is_empty() {
        kept.sort_unstable();
        Ok(kept)
    } else {
        Err(defects)
    }
}

/// People other than `own` who may be the same person as the one being enrolled: whoever a modality alone or all
/// together identify, and whoever has an iris within [`SAME_IRIS_WITHIN`], whatever else speaks against. For an officer
/// to review. Search with the templates as they are and again with [`IrisTemplate::under_other_name`].
#[must_use]
pub fn possible_duplicates(evidence: &Evidence, own: SubjectId) -> Vec<SubjectId> {
    let near: std::collections::BTreeSet<SubjectId> =
        evidence.recognise().subjects().into_iter().collect();
    let same_iris = |score: Option<f64>| score.is_some_and(|s| s <= f64::from(SAME_IRIS_WITHIN));
    evidence
        .candidates()
        .iter()
        .filter(|one| {
            near.contains(&one.subject())
                || one.verdicts.contains(&ModalityVerdict::Identifies)
                || same_iris(one.scores.score(Modality::IrisLeft))
                || same_iris(one.scores.score(Modality::IrisRight))
        })
        .map(crate::CandidateEvidence::subject)
        .filter(|subject| *subject != own)
        .collect()
}

fn score(a: &IrisTemplate, b: &IrisTemplate) -> Option<IrisDissimilarity> {
    match compare_rings(a, b, IrisRotation::Wide) {
        IrisComparison::Compared(score) => Some(score),
        IrisComparison::TooFewBits => None,
    }
}

fn within(score: Option<IrisDissimilarity>, limit: f32) -> bool {
    score.is_some_and(|score| score.value() <= limit)
}

fn choose_of_eye(
    eye: Eye,
    samples: &[(usize, &IrisTemplate)],
    needed: usize,
) -> Result<Vec<usize>, Vec<IrisEnrolmentDefect>> {
    if samples.is_empty() {
        return Ok(Vec::new());
    }
    if samples.len() > IRIS_SAMPLES_MAXIMUM {
        return Err(vec![IrisEnrolmentDefect::TooMany { eye }]);
    }
    let mut strays = Vec::new();
    for (at, (first, a)) in samples.iter().enumerate() {
        for (second, b) in samples.iter().skip(at + 1) {
            let apart = score(a, b).is_some_and(|score| score.value() > IRIS_SAMPLES_WITHIN);
            if apart {
                strays.push(IrisEnrolmentDefect::Stray {
                    eye,
                    samples: (*first, *second),
                });
            }
        }
    }
    if !strays.is_empty() {
        return Err(strays);
    }
    let chosen = (1_u32..1 << samples.len())
        .filter(|set| set.count_ones() as usize <= IRIS_REFERENCES_KEPT)
        .filter_map(|set| agreeing(samples, set))
        .max_by(|a, b| a.better_than(b));
    match chosen {
        Some(chosen) if chosen.samples.len() >= needed => Ok(chosen.samples),
        other => Err(vec![IrisEnrolmentDefect::TooFewAgree {
            eye,
            agree: other.map_or(0, |chosen| chosen.samples.len()),
            needed,
        }]),
    }
}

/// Samples that agree with each other.
struct Agreeing {
    samples: Vec<usize>,
    /// The farthest two.
    spread: f32,
    /// Sum of the quality scores.
    quality: u32,
}

impl Agreeing {
    fn better_than(&self, other: &Self) -> std::cmp::Ordering {
        (self.samples.len().cmp(&other.samples.len()))
            .then_with(|| other.spread.total_cmp(&self.spread))
            .then_with(|| self.quality.cmp(&other.quality))
            // The first offered, so that the choice never depends on chance.
            .then_with(|| other.samples.cmp(&self.samples))
    }
}

fn agreeing(samples: &[(usize, &IrisTemplate)], set: u32) -> Option<Agreeing> {
    let members: Vec<_> = samples
        .iter()
        .enumerate()
        .filter(|(at, _)| set & (1 << at) != 0)
        .map(|(_, sample)| *sample)
        .collect();
    let mut spread = 0.0_f32;
    for (at, (_, a)) in members.iter().enumerate() {
        for (_, b) in members.iter().skip(at + 1) {
            let score = score(a, b).filter(|score| score.value() <= IRIS_REFERENCES_WITHIN)?;
            spread = spread.max(score.value());
        }
    }
    Some(Agreeing {
        samples: members.iter().map(|(at, _)| *at).collect(),
        spread,
        quality: members
            .iter()
            .map(|(_, sample)| u32::from(sample.quality()))
            .sum(),
    })
}

#[cfg(test)]
mod tests;
