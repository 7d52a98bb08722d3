//! Templates, comparison scores, thresholds and candidate lists.

use std::fmt;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::SubjectId;

/// Length of a face template of the default model.
pub const FACE_TEMPLATE_DIMENSIONS: usize = 512;

/// Why a biometric value was refused. Carries no score and no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BiometricError {
    /// The template is not 512 numbers long.
    #[error("a face template has {FACE_TEMPLATE_DIMENSIONS} numbers, not {0}")]
    WrongLength(usize),
    /// A component is not finite, or the template is not of unit length.
    #[error("a face template must be finite and of unit length")]
    NotNormalised,
    /// A similarity outside [-1, 1].
    #[error("a face similarity lies between -1 and 1")]
    ScoreOutOfRange,
    /// Not 64 hexadecimal digits.
    #[error("a model digest is 64 hexadecimal digits")]
    BadModelDigest,
    /// A threshold or calibration with impossible numbers.
    #[error("calibration points must be ordered and lie between 0 and 1")]
    BadCalibration,
}

/// What a template describes. Left and right irises are separate identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Modality {
    /// The face, in visible light.
    Face,
    /// The subject's left iris.
    IrisLeft,
    /// The subject's right iris.
    IrisRight,
}

/// SHA-256 of the model file that made a template. References are compared only with probes of the
/// same model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelDigest([u8; 32]);

impl ModelDigest {
    /// Wraps a SHA-256 value.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The SHA-256 value.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelDigest({self})")
    }
}

impl From<ModelDigest> for String {
    fn from(digest: ModelDigest) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for ModelDigest {
    type Error = BiometricError;
    fn try_from(text: String) -> Result<Self, BiometricError> {
        text.parse()
    }
}

impl std::str::FromStr for ModelDigest {
    type Err = BiometricError;
    fn from_str(text: &str) -> Result<Self, BiometricError> {
        if text.len() != 64 || !text.is_ascii() {
            return Err(BiometricError::BadModelDigest);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| BiometricError::BadModelDigest)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| BiometricError::BadModelDigest)?;
        }
        Ok(Self(bytes))
    }
}

/// An L2-normalised face template: 512 finite numbers of unit length. `Debug` hides it, dropping zeroises it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BoundedNumbers", into = "Vec<f32>")]
pub struct FaceTemplate(Vec<f32>);

/// As many numbers as a template has, and one more to see that there are too many: a longer list is not read on.
struct BoundedNumbers(Vec<f32>);

impl<'de> Deserialize<'de> for BoundedNumbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;

        impl<'de> Visitor<'de> for Numbers {
            type Value = BoundedNumbers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{FACE_TEMPLATE_DIMENSIONS} numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut sequence: A,
            ) -> Result<Self::Value, A::Error> {
                let mut values = Vec::with_capacity(FACE_TEMPLATE_DIMENSIONS + 1);
                while let Some(value) = sequence.next_element()? {
                    values.push(value);
                    if values.len() > FACE_TEMPLATE_DIMENSIONS {
                        return Err(A::Error::custom(BiometricError::WrongLength(values.len())));
                    }
                }
                Ok(BoundedNumbers(values))
            }
        }

        deserializer.deserialize_seq(Numbers)
    }
}

impl FaceTemplate {
    /// Checks an already normalised template.
    ///
    /// # Errors
    /// Wrong length, not finite, or a length further than 1e-3 from one.
    pub fn new(values: Vec<f32>) -> Result<Self, BiometricError> {
        if values.len() != FACE_TEMPLATE_DIMENSIONS {
            return Err(BiometricError::WrongLength(values.len()));
        }
        let norm = norm(&values);
        if !norm.is_finite() || (norm - 1.0).abs() > 1e-3 {
            return Err(BiometricError::NotNormalised);
        }
        Ok(Self(values))
    }

    /// Normalises a model's raw output.
    ///
    /// # Errors
    /// Wrong length, not finite, or a length too near zero to have a direction.
    pub fn normalise(mut values: Vec<f32>) -> Result<Self, BiometricError> {
        if values.len() != FACE_TEMPLATE_DIMENSIONS {
            return Err(BiometricError::WrongLength(values.len()));
        }
        let norm = norm(&values);
        if !norm.is_finite() || norm < 1e-6 {
            return Err(BiometricError::NotNormalised);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "back to the template's own precision"
        )]
        values
            .iter_mut()
            .for_each(|value| *value = (f64::from(*value) / norm) as f32);
        Ok(Self(values))
    }

    /// The normalised mean of several templates of one person (template fusion over a track).
    ///
    /// # Errors
    /// No templates, or templates that cancel each other out.
    pub fn fuse(templates: &[FaceTemplate]) -> Result<Self, BiometricError> {
        let mut sum = vec![0.0_f32; FACE_TEMPLATE_DIMENSIONS];
        for template in templates {
            sum.iter_mut()
                .zip(&template.0)
                .for_each(|(total, value)| *total += value);
        }
        Self::normalise(sum)
    }

    /// The 512 numbers.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// Cosine similarity with another template.
    #[must_use]
    pub fn similarity(&self, other: &FaceTemplate) -> FaceSimilarity {
        let dot: f64 = self
            .0
            .iter()
            .zip(&other.0)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "scores are kept in single precision"
        )]
        FaceSimilarity(dot.clamp(-1.0, 1.0) as f32)
    }
}

impl fmt::Debug for FaceTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaceTemplate([sealed])")
    }
}

impl TryFrom<BoundedNumbers> for FaceTemplate {
    type Error = BiometricError;
    fn try_from(values: BoundedNumbers) -> Result<Self, BiometricError> {
        Self::new(values.0)
    }
}

impl From<FaceTemplate> for Vec<f32> {
    fn from(mut template: FaceTemplate) -> Vec<f32> {
        std::mem::take(&mut template.0)
    }
}

impl Drop for FaceTemplate {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Cosine similarity of two face templates, in [-1, 1]. Larger is closer. `Debug` hides the number,
/// so that no log can carry a score by accident.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct FaceSimilarity(f32);

impl FaceSimilarity {
    /// Checks a similarity.
    ///
    /// # Errors
    /// Not finite or outside [-1, 1] by more than rounding.
    pub fn new(value: f32) -> Result<Self, BiometricError> {
        if value.is_finite() && value.abs() <= 1.0 + 1e-4 {
            Ok(Self(value.clamp(-1.0, 1.0)))
        } else {
            Err(BiometricError::ScoreOutOfRange)
        }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> f32 {
        self.0
    }
}

impl fmt::Debug for FaceSimilarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaceSimilarity([hidden])")
    }
}

/// Which error rate a threshold was chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "target")]
pub enum OperatingPoint {
    /// 1:1, false match rate per comparison.
    Fmr(f64),
    /// 1:N, false positive identification rate per search of the whole gallery.
    Fpir(f64),
}

/// A comparison threshold, named by its operating point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// What it was chosen for.
    pub operating_point: OperatingPoint,
    value: f32,
}

impl Threshold {
    /// The smallest similarity that is a match.
    #[must_use]
    pub const fn value(self) -> f32 {
        self.value
    }

    /// Comparison decision: does this similarity count as a match?
    #[must_use]
    pub fn is_match(self, similarity: FaceSimilarity) -> bool {
        similarity.0 >= self.value
    }
}

/// One measured point of a model's calibration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPoint {
    /// False match rate, in (0, 1).
    pub fmr: f64,
    /// The cosine similarity at that rate.
    pub similarity: f32,
}

/// Measured relation between false match rate and similarity for one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceCalibration {
    /// Data set and pair counts that the points come from, for decisions and reports to name.
    pub name: String,
    points: Vec<CalibrationPoint>,
}

impl FaceCalibration {
    /// Points must fall in rate and rise in similarity.
    ///
    /// # Errors
    /// Fewer than two points, or points out of order or range.
    pub fn new(name: String, points: Vec<CalibrationPoint>) -> Result<Self, BiometricError> {
        let in_range = points.iter().all(|point| {
            point.fmr > 0.0 && point.fmr < 1.0 && (-1.0..=1.0).contains(&point.similarity)
        });
        let ordered = points
            .iter()
            .zip(points.iter().skip(1))
            .all(|(a, b)| b.fmr < a.fmr && b.similarity > a.similarity);
        if points.len() < 2 || !in_range || !ordered {
            return Err(BiometricError::BadCalibration);
        }
        Ok(Self { name, points })
    }

    /// The default face model's calibration: LFW deep-funneled, 29.6 million non-mated pairs
    /// (biometrics.md F.6). Below FMR 1e-5 the data's label errors dominate, so the curve is
    /// extended only along its last slope.
    #[must_use]
    pub fn default_face() -> Self {
        let point = |fmr, similarity| CalibrationPoint { fmr, similarity };
        Self {
            name: "lfw-deepfunneled-29.6M-nonmated".to_owned(),
            points: vec![
                point(1e-2, 0.243),
                point(1e-3, 0.335),
                point(1e-4, 0.411),
                point(1e-5, 0.475),
            ],
        }
    }

    /// Threshold for verification (1:1) at a false match rate; log-linear between measured points,
    /// along the outermost slope beyond them.
    #[must_use]
    pub fn verification_threshold(&self, fmr: f64) -> Threshold {
        Threshold {
            operating_point: OperatingPoint::Fmr(fmr),
            value: self.similarity_at(fmr),
        }
    }

    /// Threshold for identification in a gallery of `gallery_size` references. Uses
    /// FPIR ~ N x FMR (biometrics.md F.6), at least as strict as N = 1.
    #[must_use]
    pub fn identification_threshold(&self, fpir: f64, gallery_size: usize) -> Threshold {
        #[expect(
            clippy::cast_precision_loss,
            reason = "gallery sizes are far below 2^52"
        )]
        let fmr = fpir / gallery_size.max(1) as f64;
        Threshold {
            operating_point: OperatingPoint::Fpir(fpir),
            value: self.similarity_at(fmr),
        }
    }

    fn similarity_at(&self, fmr: f64) -> f32 {
        let wanted = fmr.clamp(1e-12, 0.999).log10();
        let mut pairs = self.points.iter().zip(self.points.iter().skip(1));
        let last = self.points.len().saturating_sub(2);
        let segment = pairs
            .by_ref()
            .enumerate()
            .find(|(index, (_, b))| wanted >= b.fmr.log10() || *index == last)
            .map(|(_, pair)| pair);
        let Some((a, b)) = segment else { return 1.0 };
        let (xa, xb) = (a.fmr.log10(), b.fmr.log10());
        let (ya, yb) = (f64::from(a.similarity), f64::from(b.similarity));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "scores are kept in single precision"
        )]
        let value = (ya + (yb - ya) * (wanted - xa) / (xb - xa)) as f32;
        value.clamp(-1.0, 1.0)
    }
}

/// One result of a 1:N search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Whose reference it is.
    pub subject: SubjectId,
    /// The best similarity over that subject's references.
    pub similarity: FaceSimilarity,
}

/// Candidates, one per subject, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CandidateList(Vec<Candidate>);

impl CandidateList {
    /// Sorts by falling similarity, then by subject, and keeps each subject's best score.
    #[must_use]
    pub fn new(mut candidates: Vec<Candidate>) -> Self {
        candidates.sort_by(|a, b| {
            b.similarity
                .0
                .total_cmp(&a.similarity.0)
                .then_with(|| a.subject.cmp(&b.subject))
        });
        let mut seen = std::collections::BTreeSet::new();
        candidates.retain(|candidate| seen.insert(candidate.subject));
        Self(candidates)
    }

    /// The candidates, best first.
    #[must_use]
    pub fn as_slice(&self) -> &[Candidate] {
        &self.0
    }

    /// The best candidate.
    #[must_use]
    pub fn best(&self) -> Option<&Candidate> {
        self.0.first()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_meet_the_measured_points_and_rise_with_the_gallery() {
        let calibration = FaceCalibration::default_face();
        for (fmr, similarity) in [(1e-2, 0.243), (1e-3, 0.335), (1e-4, 0.411), (1e-5, 0.475)] {
            assert!((calibration.verification_threshold(fmr).value() - similarity).abs() < 1e-4);
        }
        let small = calibration.identification_threshold(1e-2, 10).value();
        let large = calibration.identification_threshold(1e-2, 10_000).value();
        assert!((small - 0.335).abs() < 1e-4);
        assert!(large > small && large <= 1.0);
        assert!(calibration.verification_threshold(1e-6).value() > 0.475);
        assert!(calibration.verification_threshold(0.1).value() < 0.243);
    }

    #[test]
    fn calibration_out_of_order_is_refused() {
        let points = vec![
            CalibrationPoint {
                fmr: 1e-3,
                similarity: 0.3,
            },
            CalibrationPoint {
                fmr: 1e-2,
                similarity: 0.4,
            },
        ];
        assert_eq!(
            FaceCalibration::new("x".into(), points),
            Err(BiometricError::BadCalibration)
        );
    }

    #[test]
    fn templates_must_be_whole_finite_and_of_unit_length() {
        assert_eq!(
            FaceTemplate::new(vec![1.0]),
            Err(BiometricError::WrongLength(1))
        );
        assert_eq!(
            FaceTemplate::new(vec![1.0; 512]),
            Err(BiometricError::NotNormalised)
        );
        assert_eq!(
            FaceTemplate::normalise(vec![f32::NAN; 512]),
            Err(BiometricError::NotNormalised)
        );
        assert_eq!(
            FaceTemplate::normalise(vec![0.0; 512]),
            Err(BiometricError::NotNormalised)
        );
        let template = FaceTemplate::normalise(vec![1.0; 512]).unwrap();
        assert!((template.similarity(&template).value() - 1.0).abs() < 1e-6);
        assert!(!format!("{template:?}").contains("0.0"));
    }

    #[test]
    fn a_candidate_list_names_each_person_once_best_first() {
        let person = |n: u8| SubjectId::from_uuid(uuid::Uuid::from_bytes([n; 16]));
        let candidate = |n, score| Candidate {
            subject: person(n),
            similarity: FaceSimilarity::new(score).unwrap(),
        };
        let list = CandidateList::new(vec![
            candidate(1, 0.2),
            candidate(2, 0.9),
            candidate(1, 0.5),
        ]);
        let order: Vec<_> = list
            .as_slice()
            .iter()
            .map(|c| (c.subject, c.similarity.value()))
            .collect();
        assert_eq!(order, vec![(person(2), 0.9), (person(1), 0.5)]);
    }
}
