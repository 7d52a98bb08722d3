//! Calibration: what a comparison score is worth as evidence.
//!
//! A calibration is an artefact: measured points of one comparison's error curve, with their source, from which the
//! rest is derived. Derived are thresholds (score at a false match rate) and log-likelihood ratios (how much likelier
//! the score is for two samples of one person than for samples of two people). Nothing here is tuned by hand, and an
//! operator who measured the own cameras replaces the artefact, not the code.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BiometricError, CalibrationPoint, FaceCalibration, Modality};

/// Why a calibration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalibrationError {
    /// Fewer than two points.
    #[error("a calibration needs at least two measured points")]
    TooFewPoints,
    /// Points are not ordered from permissive to strict, or a rate is not within (0, 1).
    #[error(
        "calibration points must go from permissive to strict: falling false match rate, rising false non-match rate, both within 0 and 1, and scores in the same order"
    )]
    OutOfOrder,
    /// The likelihood ratio would fall where the score gets closer.
    #[error(
        "between calibration points {0} and {1} closer scores would be weaker evidence; measure on more pairs or leave a point out"
    )]
    NotConcave(usize, usize),
    /// A rate that the number of pairs cannot show.
    #[error(
        "a calibration point states a false match rate below one in its number of non-mated pairs"
    )]
    BeyondData,
    /// The limits make no sense.
    #[error(
        "the limit of the log-likelihood ratio must be positive, and its full value must be reached beyond the last point"
    )]
    BadLimits,
}

/// Base-10 logarithm of a likelihood ratio. Positive speaks for one person, negative for two, zero says nothing.
/// `Debug` hides the number.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct LogLikelihoodRatio(f64);

impl LogLikelihoodRatio {
    /// Says nothing.
    pub const NEUTRAL: Self = Self(0.0);

    /// Wraps a base-10 logarithm.
    #[must_use]
    pub const fn new(log10: f64) -> Self {
        Self(log10)
    }

    /// The base-10 logarithm.
    #[must_use]
    pub const fn log10(self) -> f64 {
        self.0
    }
}

impl std::ops::Add for LogLikelihoodRatio {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl fmt::Debug for LogLikelihoodRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLikelihoodRatio([hidden])")
    }
}

/// Whether a larger or a smaller score is closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreKind {
    /// Larger is closer.
    Similarity,
    /// Smaller is closer.
    Dissimilarity,
}

impl ScoreKind {
    /// The score on a scale on which larger is closer.
    pub(crate) fn closeness(self, score: f64) -> f64 {
        match self {
            Self::Similarity => score,
            Self::Dissimilarity => -score,
        }
    }
}

/// One measured point of the error curve: both rates when this score is the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorPoint {
    /// The score used as threshold.
    pub score: f64,
    /// False match rate, in (0, 1).
    pub fmr: f64,
    /// False non-match rate, in (0, 1).
    pub fnmr: f64,
}

/// What was measured, as it stands in the artefact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Where the numbers come from.
    pub source: String,
    /// Direction of the score.
    pub kind: ScoreKind,
    /// Mated pairs behind the points.
    pub mated_pairs: u64,
    /// Non-mated pairs behind the points.
    pub nonmated_pairs: u64,
    /// From permissive to strict. Scores worse than the first point speak against a match.
    pub points: Vec<ErrorPoint>,
    /// The score at which the strongest evidence is reached, beyond the last point.
    pub strongest_at: f64,
    /// No score is worth more than this in either direction (log10): what the data can support.
    pub limit: f64,
}

/// The calibration of one kind of comparison.
///
/// The likelihood ratio of a whole stretch between two measured points is (mated share) / (non-mated share) of that
/// stretch. The ratio of a score is read from straight lines through these, each placed at the *closer* end of its
/// stretch, so that no score is ever worth more than its stretch as a whole: averaged over non-mated comparisons the
/// ratio is at most one, hence at most one non-mated comparison in 10^t reaches a log-likelihood ratio of t, alone
/// or in a sum of independent ones (Markov's inequality). `fusion` builds its operating point on that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Measured", into = "Measured")]
pub struct ScoreCalibration {
    measured: Measured,
    /// Closeness and log-likelihood ratio, both rising.
    knots: Vec<(f64, f64)>,
}

impl TryFrom<Measured> for ScoreCalibration {
    type Error = CalibrationError;
    fn try_from(measured: Measured) -> Result<Self, CalibrationError> {
        Self::new(measured)
    }
}

impl From<ScoreCalibration> for Measured {
    fn from(calibration: ScoreCalibration) -> Measured {
        calibration.measured
    }
}

impl ScoreCalibration {
    /// Derives the calibration from measured points.
    ///
    /// # Errors
    /// See [`CalibrationError`].
    pub fn new(measured: Measured) -> Result<Self, CalibrationError> {
        let knots = knots(&measured)?;
        Ok(Self { measured, knots })
    }

    /// The measured points and their source.
    #[must_use]
    pub const fn measured(&self) -> &Measured {
        &self.measured
    }

    pub(crate) fn closeness(&self, score: f64) -> f64 {
        self.measured.kind.closeness(score)
    }

    /// What a score is worth as evidence. Never falls as the score gets closer.
    #[must_use]
    pub fn evidence(&self, score: f64) -> LogLikelihoodRatio {
        let closeness = self.closeness(score);
        let (Some(first), Some(last)) = (self.knots.first(), self.knots.last()) else {
            return LogLikelihoodRatio::NEUTRAL;
        };
        // Nearly every non-mated comparison ends here, which makes the search over everybody cheap. A score that is no
        // number is worth as little as the worst one.
        if closeness <= first.0 || closeness.is_nan() {
            return LogLikelihoodRatio(first.1);
        }
        if closeness >= last.0 {
            return LogLikelihoodRatio(last.1);
        }
        let value = self
            .knots
            .iter()
            .zip(self.knots.iter().skip(1))
            .find(|(_, upper)| closeness <= upper.0)
            .map_or(first.1, |(lower, upper)| {
                lower.1 + (upper.1 - lower.1) * (closeness - lower.0) / (upper.0 - lower.0)
            });
        LogLikelihoodRatio(value)
    }

    /// Does the score speak against one person: is it worse than the most permissive measured point? Fewer mated
    /// comparisons than that point's false non-match rate do.
    #[must_use]
    pub fn speaks_against(&self, score: f64) -> bool {
        let worst = self.knots.first().map(|knot| knot.0);
        worst.is_none_or(|worst| self.closeness(score) < worst || score.is_nan())
    }

    /// The score at a false match rate: log-linear between measured points, along the outermost slope beyond them.
    #[must_use]
    pub fn score_at(&self, fmr: f64) -> f64 {
        self.closeness(self.closeness_at(fmr))
    }

    /// As [`ScoreCalibration::score_at`], larger is closer. Not a number when the rate is none, which no score reaches.
    pub(crate) fn closeness_at(&self, fmr: f64) -> f64 {
        let wanted = fmr.clamp(1e-12, 0.999).log10();
        let points = &self.measured.points;
        let last = points.len().saturating_sub(2);
        let segment = points
            .iter()
            .zip(points.iter().skip(1))
            .enumerate()
            .find(|(index, (_, b))| wanted >= b.fmr.log10() || *index == last)
            .map(|(_, pair)| pair);
        segment.map_or(f64::NAN, |(a, b)| {
            let (xa, xb) = (a.fmr.log10(), b.fmr.log10());
            let (ya, yb) = (self.closeness(a.score), self.closeness(b.score));
            ya + (yb - ya) * (wanted - xa) / (xb - xa)
        })
    }
}

fn knots(measured: &Measured) -> Result<Vec<(f64, f64)>, CalibrationError> {
    let Measured {
        kind,
        nonmated_pairs,
        points,
        strongest_at,
        limit,
        ..
    } = measured;
    let [first, .., last] = points.as_slice() else {
        return Err(CalibrationError::TooFewPoints);
    };
    let within = |rate: f64| rate > 0.0 && rate < 1.0;
    let pairs = || points.iter().zip(points.iter().skip(1));
    let ordered = pairs().all(|(a, b)| {
        b.fmr < a.fmr && b.fnmr > a.fnmr && kind.closeness(b.score) > kind.closeness(a.score)
    });
    let possible = points
        .iter()
        .all(|point| within(point.fmr) && within(point.fnmr) && point.score.is_finite());
    if !ordered || !possible {
        return Err(CalibrationError::OutOfOrder);
    }
    #[expect(clippy::cast_precision_loss, reason = "pair counts are far below 2^52")]
    if last.fmr * (*nonmated_pairs as f64) < 1.0 - 1e-6 {
        return Err(CalibrationError::BeyondData);
    }
    let strongest_at = kind.closeness(*strongest_at);
    let beyond = strongest_at.is_finite() && strongest_at > kind.closeness(last.score);
    if !(beyond && limit.is_finite() && *limit > 0.0) {
        return Err(CalibrationError::BadLimits);
    }
    let worth = |mated: f64, nonmated: f64| (mated / nonmated).log10().clamp(-limit, *limit);
    let mut knots = vec![(
        kind.closeness(first.score),
        worth(first.fnmr, 1.0 - first.fmr),
    )];
    knots.extend(pairs().map(|(a, b)| {
        (
            kind.closeness(b.score),
            worth(b.fnmr - a.fnmr, a.fmr - b.fmr),
        )
    }));
    knots.push((strongest_at, worth(1.0 - last.fnmr, last.fmr)));
    let falls = |a: &(f64, f64), b: &(f64, f64)| b.1 < a.1;
    if let Some(at) = knots
        .iter()
        .zip(knots.iter().skip(1))
        .position(|(a, b)| falls(a, b))
    {
        return Err(CalibrationError::NotConcave(at, at + 1));
    }
    let speaks_both_ways = knots.first().is_some_and(|knot| knot.1 < 0.0)
        && knots.last().is_some_and(|knot| knot.1 > 0.0);
    if speaks_both_ways {
        Ok(knots)
    } else {
        Err(CalibrationError::BadLimits)
    }
}

/// Calibration of all modalities: a named, versioned artefact. Its SHA-256 (over its JSON) stands beside every
/// decision that it was used for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionCalibration {
    /// Name of the artefact.
    pub name: String,
    /// Rises with every change.
    pub version: u32,
    /// Cosine similarity of faces.
    pub face: ScoreCalibration,
    /// Normalised dissimilarity of irises, the same for both eyes.
    pub iris: ScoreCalibration,
}

impl FusionCalibration {
    /// The calibration of a modality's comparison.
    #[must_use]
    pub const fn of(&self, modality: Modality) -> &ScoreCalibration {
        match modality {
            Modality::Face => &self.face,
            Modality::IrisLeft | Modality::IrisRight => &self.iris,
        }
    }

    /// The face part in the form that enrolment uses.
    ///
    /// # Errors
    /// Points that are no similarities.
    pub fn face_calibration(&self) -> Result<FaceCalibration, BiometricError> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "scores are kept in single precision"
        )]
        let point = |point: &ErrorPoint| CalibrationPoint {
            fmr: point.fmr,
            similarity: point.score as f32,
        };
        let measured = self.face.measured();
        FaceCalibration::new(
            measured.source.clone(),
            measured.points.iter().map(point).collect(),
        )
    }

    /// The calibration of the default face model and of the own iris encoder.
    ///
    /// Face (biometrics.md F.6; LFW deep-funneled, 29.6 million non-mated and 8,101 mated pairs): equal error rate
    /// 0.62 %; true match rate 98.74, 97.52 and 94.14 % at false match rates 1e-3, 1e-4, 1e-5, at the similarities 0.335,
    /// 0.411, 0.475. The similarity of the equal error rate lies on the log-linear line from (1e-2, 0.243) to (1e-3,
    /// 0.335). Label errors forbid anything below 1e-5, so the limit is what lies above the last point, 0.9414 / 1e-5. It
    /// is reached at 0.56, where the mated density (0.678 +- 0.124) over the non-mated tail, continued along its last
    /// slope, first reaches it.
    ///
    /// Iris (biometrics.md I.3; the four development sets pooled after the quality gate: 5,681 mated and 1,405,050
    /// non-mated pairs): false matches 332, 62, 7, 3 and 1 at 0.36, 0.34, 0.32, 0.30 and 0.28, false non-match rates
    /// weighted by mated pairs. The first point is the pooled equal error rate of 0.58 %, at the score where the non-mated
    /// distribution (0.447 +- 0.022, taken as normal there) leaves that share. The pooled sets include two with irises of
    /// 58 px; a camera that meets ISO/IEC 29794-6 does better, and the operator should measure it. The limit is what the
    /// last count of one supports at 95 % confidence (at most 4.74 in 1,405,050), reached half-way to the mated mean.
    #[must_use]
    pub fn default_pair() -> Self {
        let points = |points: &[(f64, f64, f64)]| {
            points
                .iter()
                .map(|&(score, fmr, fnmr)| ErrorPoint { score, fmr, fnmr })
                .collect()
        };
        let face = Measured {
            source: "lfw-deepfunneled-29.6M-nonmated".to_owned(),
            kind: ScoreKind::Similarity,
            mated_pairs: 8_101,
            nonmated_pairs: 29_600_000,
            points: points(&[
                (0.2621, 6.2e-3, 6.2e-3),
                (0.335, 1e-3, 1.26e-2),
                (0.411, 1e-4, 2.48e-2),
                (0.475, 1e-5, 5.86e-2),
            ]),
            strongest_at: 0.56,
            limit: 4.97,
        };
        let pairs = 1_405_050_u64;
        let share = |count: u32| f64::from(count) / 1_405_050.0;
        let iris = Measured {
            source: "casia1+iitd+mmu2+mmu1-gated-1.4M-nonmated".to_owned(),
            kind: ScoreKind::Dissimilarity,
            mated_pairs: 5_681,
            nonmated_pairs: pairs,
            points: points(&[
                (0.3915, 5.84e-3, 5.84e-3),
                (0.36, share(332), 1.22e-2),
                (0.34, share(62), 1.88e-2),
                (0.32, share(7), 2.57e-2),
                (0.30, share(3), 3.46e-2),
                (0.28, share(1), 4.96e-2),
            ]),
            strongest_at: 0.225,
            limit: 5.45,
        };
        Self {
            name: "sallyport-default".to_owned(),
            version: 1,
            face: ScoreCalibration::new(face).expect("the points above are in order"),
            iris: ScoreCalibration::new(iris).expect("the points above are in order"),
        }
    }
}

#[cfg(test)]
mod tests;
