//! Score-level fusion of face, left and right iris, and who is recognised by it.
//!
//! Every comparison becomes a log-likelihood ratio through its calibration; those of one person are added. Deny by
//! default: evidence that speaks against a person can only take a recognition away, never add to one, neither for that
//! person nor, by ruling others out, for somebody else. What was not captured or not enrolled counts nothing.

use std::collections::BTreeMap;

use crate::{
    FaceSimilarity, FusionCalibration, GatePolicy, IrisComparison, LogLikelihoodRatio, Modality,
    ModalityPolicy, SubjectId,
};

/// How the accepted false positive identification rate is shared among the tests that can each recognise somebody
/// where any modality is enough: face, left iris, right iris, all together. The face has most, because its curve pays
/// most for a stricter threshold. Tests that the gallery cannot make leave their share to the others.
const SHARES: [f64; 4] = [0.7, 0.1, 0.1, 0.1];

/// The comparison of one captured person with one enrolled subject: the closest score of each modality. `None`: not
/// captured, not enrolled, or made by different models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubjectScores {
    /// Who is enrolled.
    pub subject: SubjectId,
    /// The face.
    pub face: Option<FaceSimilarity>,
    /// The left iris.
    pub left: Option<IrisComparison>,
    /// The right iris.
    pub right: Option<IrisComparison>,
}

impl SubjectScores {
    /// Nothing compared yet.
    #[must_use]
    pub const fn none(subject: SubjectId) -> Self {
        Self {
            subject,
            face: None,
            left: None,
            right: None,
        }
    }

    /// The raw score of a modality, if enough was there to compare.
    #[must_use]
    pub fn score(&self, modality: Modality) -> Option<f64> {
        let iris = |comparison: Option<IrisComparison>| {
            comparison?
                .dissimilarity()
                .map(|score| f64::from(score.value()))
        };
        match modality {
            Modality::Face => self.face.map(|score| f64::from(score.value())),
            Modality::IrisLeft => iris(self.left),
            Modality::IrisRight => iris(self.right),
        }
    }

    /// The sum of all evidence.
    #[must_use]
    pub fn fused(&self, calibration: &FusionCalibration) -> LogLikelihoodRatio {
        self.sum(calibration, |one| one)
    }

    /// The sum of all evidence that speaks for this subject, as if nothing spoke against.
    #[must_use]
    pub fn support(&self, calibration: &FusionCalibration) -> LogLikelihoodRatio {
        self.sum(calibration, |one| {
            if one > LogLikelihoodRatio::NEUTRAL {
                one
            } else {
                LogLikelihoodRatio::NEUTRAL
            }
        })
    }

    fn sum(
        &self,
        calibration: &FusionCalibration,
        count: impl Fn(LogLikelihoodRatio) -> LogLikelihoodRatio,
    ) -> LogLikelihoodRatio {
        Modality::ALL
            .into_iter()
            .filter_map(|modality| Some((modality, self.score(modality)?)))
            .map(|(modality, score)| count(calibration.of(modality).evidence(score)))
            .fold(LogLikelihoodRatio::NEUTRAL, |sum, one| sum + one)
    }

    /// Keeps the closer score of each modality.
    fn merge(&mut self, other: Self) {
        self.face = match (self.face, other.face) {
            (Some(a), Some(b)) if a >= b => Some(a),
            (a, b) => b.or(a),
        };
        self.left = closer(self.left, other.left);
        self.right = closer(self.right, other.right);
    }
}

fn closer(a: Option<IrisComparison>, b: Option<IrisComparison>) -> Option<IrisComparison> {
    match (a, b) {
        (Some(IrisComparison::Compared(a)), Some(IrisComparison::Compared(b))) => {
            Some(IrisComparison::Compared(a.min(b)))
        }
        (Some(IrisComparison::Compared(a)), _) | (_, Some(IrisComparison::Compared(a))) => {
            Some(IrisComparison::Compared(a))
        }
        (a, b) => a.or(b),
    }
}

/// What one modality says about one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModalityVerdict {
    /// Not captured, not enrolled, or too little of it to compare: says nothing.
    NotCompared,
    /// Compared, and clearly not this person: a failed check.
    Against,
    /// Compared, and neither.
    Undecided,
    /// Enough to confirm an identity that something else names (1:1).
    Confirms,
    /// Enough to find this person among all (1:N).
    Identifies,
}

impl ModalityVerdict {
    /// The stable name used in the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotCompared => "not_compared",
            Self::Against => "against",
            Self::Undecided => "undecided",
            Self::Confirms => "confirms",
            Self::Identifies => "identifies",
        }
    }
}

/// What a search compared with: the sizes that thresholds must grow with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GallerySize {
    /// Enrolled people.
    pub subjects: usize,
    /// Face references of the probe's model; of all models when no face was captured.
    pub faces: usize,
    /// Left iris references, likewise.
    pub left_irises: usize,
    /// Right iris references, likewise.
    pub right_irises: usize,
}

impl GallerySize {
    /// References of one modality.
    #[must_use]
    pub const fn references(&self, modality: Modality) -> usize {
        match modality {
            Modality::Face => self.faces,
            Modality::IrisLeft => self.left_irises,
            Modality::IrisRight => self.right_irises,
        }
    }
}

/// The thresholds of one search: from calibration, policy and gallery size, never from what the person shows.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatingPoints {
    calibration: FusionCalibration,
    policy: ModalityPolicy,
    /// Closeness from which a modality identifies (1:N), in the order of [`Modality::ALL`].
    identifies: [f64; 3],
    /// Closeness from which a modality confirms (1:1).
    confirms: [f64; 3],
    /// Fused log-likelihood ratio from which all together identify.
    fused: f64,
}

impl OperatingPoints {
    /// The thresholds for a gate's policy and a gallery of this size.
    ///
    /// One modality alone: the false match rate is the accepted false positive identification rate, or its share, over
    /// the number of references (biometrics.md F.6). All together: at most one non-mated person in 10^t reaches a fused
    /// log-likelihood ratio of t, see [`crate::ScoreCalibration`], and a person with several references per modality
    /// counts once for each combination.
    #[must_use]
    pub fn new(calibration: &FusionCalibration, policy: &GatePolicy, size: GallerySize) -> Self {
        let shares = shares(policy.modalities, size);
        let share = |at: usize| shares.get(at).copied().unwrap_or(f64::NAN);
        let index = |modality| match modality {
            Modality::Face => 0,
            Modality::IrisLeft => 1,
            Modality::IrisRight => 2,
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "gallery sizes are far below 2^52"
        )]
        let count = |references: usize| references.max(1) as f64;
        let people = count(size.subjects);
        let combinations: f64 = Modality::ALL
            .into_iter()
            .map(|modality| (count(size.references(modality)) / people).ceil().max(1.0))
            .product();
        Self {
            policy: policy.modalities,
            identifies: Modality::ALL.map(|modality| {
                let rate = policy.fpir_target * share(index(modality));
                calibration
                    .of(modality)
                    .closeness_at(rate / count(size.references(modality)))
            }),
            confirms: Modality::ALL
                .map(|modality| calibration.of(modality).closeness_at(policy.fmr_target)),
            fused: (people * combinations / (policy.fpir_target * share(3))).log10(),
            calibration: calibration.clone(),
        }
    }

    /// The calibration behind the thresholds.
    #[must_use]
    pub const fn calibration(&self) -> &FusionCalibration {
        &self.calibration
    }

    /// The score from which a modality alone identifies; for the sealed part of the audit log.
    #[must_use]
    pub fn identifies_at(&self, modality: Modality) -> f64 {
        self.calibration
            .of(modality)
            .closeness(of(&self.identifies, modality))
    }

    /// The fused log-likelihood ratio from which all together identify; for the sealed part of the audit log.
    #[must_use]
    pub const fn fused_at(&self) -> LogLikelihoodRatio {
        LogLikelihoodRatio::new(self.fused)
    }

    fn verdict(&self, scores: &SubjectScores, modality: Modality) -> ModalityVerdict {
        let Some(score) = scores.score(modality) else {
            return ModalityVerdict::NotCompared;
        };
        let calibration = self.calibration.of(modality);
        let closeness = calibration.closeness(score);
        // A careless policy may ask for so little that an ordinary stranger passes; evidence that speaks against a
        // person, or says nothing, never confirms.
        let speaks_for = calibration.evidence(score) > LogLikelihoodRatio::NEUTRAL;
        if calibration.speaks_against(score) {
            ModalityVerdict::Against
        } else if speaks_for && closeness >= of(&self.identifies, modality) {
            ModalityVerdict::Identifies
        } else if speaks_for && closeness >= of(&self.confirms, modality) {
            ModalityVerdict::Confirms
        } else {
            ModalityVerdict::Undecided
        }
    }
}

fn of<T: Copy>(all: &[T; 3], modality: Modality) -> T {
    let [face, left, right] = *all;
    match modality {
        Modality::Face => face,
        Modality::IrisLeft => left,
        Modality::IrisRight => right,
    }
}

/// Shares of face, left iris, right iris and all together in the accepted rate.
fn shares(policy: ModalityPolicy, size: GallerySize) -> [f64; 4] {
    match policy {
        // Only one test can grant, so nothing is shared.
        ModalityPolicy::FaceOnly | ModalityPolicy::FaceAndIris | ModalityPolicy::AnyTwoOfThree => {
            [1.0; 4]
        }
        ModalityPolicy::FaceOrIris => {
            let [face, left, right, fused] = SHARES;
            let there = |modality| size.references(modality) > 0;
            let possible = Modality::ALL
                .map(&there)
                .into_iter()
                .filter(|there| *there)
                .count();
            let mut open = [
                (face, there(Modality::Face)),
                (left, there(Modality::IrisLeft)),
                (right, there(Modality::IrisRight)),
                // The sum of one modality is that modality, and its own curve is the better test: an infinite threshold.
                (fused, possible > 1),
            ]
            .map(|(share, possible)| if possible { share } else { 0.0 });
            let total: f64 = open.iter().sum();
            if total <= 0.0 {
                return [1.0; 4];
            }
            open.iter_mut().for_each(|share| *share /= total);
            open
        }
    }
}

/// One candidate with all that speaks for and against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CandidateEvidence {
    /// The scores.
    pub scores: SubjectScores,
    /// Their sum as evidence.
    pub fused: LogLikelihoodRatio,
    /// What face, left iris and right iris say, in the order of [`Modality::ALL`].
    pub verdicts: [ModalityVerdict; 3],
    support: LogLikelihoodRatio,
    closeness: f64,
}

impl CandidateEvidence {
    /// Who.
    #[must_use]
    pub const fn subject(&self) -> SubjectId {
        self.scores.subject
    }

    /// What one modality says.
    #[must_use]
    pub fn verdict(&self, modality: Modality) -> ModalityVerdict {
        of(&self.verdicts, modality)
    }

    fn any(&self, verdict: ModalityVerdict) -> bool {
        self.verdicts.contains(&verdict)
    }

    fn confirms(&self, modality: Modality) -> bool {
        self.verdict(modality) >= ModalityVerdict::Confirms
    }
}

/// Who was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recognition {
    /// Nobody comes near enough.
    Nobody,
    /// Exactly this person, as the policy demands.
    Recognised(SubjectId),
    /// Somebody comes near enough, and something stands in the way. Best first, never empty.
    Doubtful(RecognitionDoubt, Vec<SubjectId>),
}

impl Recognition {
    /// Everybody who comes near enough, best first.
    #[must_use]
    pub fn subjects(&self) -> Vec<SubjectId> {
        match self {
            Self::Nobody => Vec::new(),
            Self::Recognised(subject) => vec![*subject],
            Self::Doubtful(_, subjects) => subjects.clone(),
        }
    }
}

/// Why somebody who comes near enough is not recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecognitionDoubt {
    /// A modality points at another person.
    Conflict,
    /// A modality speaks against the person, or does not confirm what the policy wants confirmed.
    Mismatch,
    /// Several people come near enough.
    Ambiguous,
    /// The policy demands a modality that could not be compared.
    Missing,
}

/// The fused result of a search: candidates best first, and the thresholds that count for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    candidates: Vec<CandidateEvidence>,
    points: OperatingPoints,
}

impl Evidence {
    /// Fuses and ranks. Must hold the candidates that are best fused, best by [`SubjectScores::support`] and best in
    /// each modality over the whole gallery, each with all its scores.
    #[must_use]
    pub fn new(scores: Vec<SubjectScores>, points: OperatingPoints) -> Self {
        let mut people: BTreeMap<SubjectId, SubjectScores> = BTreeMap::new();
        for one in scores {
            people
                .entry(one.subject)
                .and_modify(|known| known.merge(one))
                .or_insert(one);
        }
        let mut candidates: Vec<_> = people
            .into_values()
            .map(|scores| candidate(scores, &points))
            .collect();
        candidates.sort_by(|a, b| {
            (b.fused.log10().total_cmp(&a.fused.log10()))
                .then_with(|| b.closeness.total_cmp(&a.closeness))
                .then_with(|| a.subject().cmp(&b.subject()))
        });
        Self { candidates, points }
    }

    /// Candidates, best first.
    #[must_use]
    pub fn candidates(&self) -> &[CandidateEvidence] {
        &self.candidates
    }

    /// The thresholds that count.
    #[must_use]
    pub const fn points(&self) -> &OperatingPoints {
        &self.points
    }

    /// Who is recognised.
    ///
    /// Somebody *comes near enough* by a modality that identifies, or by the fused evidence. Such a person is recognised
    /// when no modality speaks against, none points at somebody else, no rival is left and the policy's demand is met.
    /// At most one person can be: two would be each other's rivals.
    #[must_use]
    pub fn recognise(&self) -> Recognition {
        let near: Vec<&CandidateEvidence> = self
            .candidates
            .iter()
            .filter(|one| self.near_enough(one))
            .collect();
        let Some(best) = near.first().copied() else {
            return Recognition::Nobody;
        };
        if let Some(one) = near.iter().find(|one| self.doubt(one).is_none()) {
            return Recognition::Recognised(one.subject());
        }
        let doubt = self.doubt(best).unwrap_or(RecognitionDoubt::Ambiguous);
        let mut subjects: Vec<SubjectId> = near.iter().map(|one| one.subject()).collect();
        // Rivals who do not come near enough by themselves are named too.
        let rivals = self
            .candidates
            .iter()
            .filter(|one| !self.near_enough(one) && self.is_rival(one, best));
        subjects.extend(rivals.map(CandidateEvidence::subject));
        Recognition::Doubtful(doubt, subjects)
    }

    fn near_enough(&self, one: &CandidateEvidence) -> bool {
        one.any(ModalityVerdict::Identifies) || self.fused_identifies(one)
    }

    fn fused_identifies(&self, one: &CandidateEvidence) -> bool {
        // A careless policy may ask for less than nothing; what says nothing never identifies.
        one.fused > LogLikelihoodRatio::NEUTRAL && one.fused.log10() >= self.points.fused
    }

    fn doubt(&self, one: &CandidateEvidence) -> Option<RecognitionDoubt> {
        if self.points_elsewhere(one) {
            Some(RecognitionDoubt::Conflict)
        } else if one.any(ModalityVerdict::Against) {
            Some(RecognitionDoubt::Mismatch)
        } else if self
            .candidates
            .iter()
            .any(|other| self.is_rival(other, one))
        {
            Some(RecognitionDoubt::Ambiguous)
        } else {
            self.unmet_demand(one)
        }
    }

    /// Does a modality identify somebody else, and better than this person? On the plateau of the strongest evidence,
    /// where look-alikes can both be, it points at nobody in particular.
    fn points_elsewhere(&self, one: &CandidateEvidence) -> bool {
        let worth = |scores: &SubjectScores, modality| {
            let score = scores.score(modality)?;
            Some(self.points.calibration.of(modality).evidence(score))
        };
        Modality::ALL.into_iter().any(|modality| {
            let own = worth(&one.scores, modality);
            self.candidates.iter().any(|other| {
                other.subject() != one.subject()
                    && other.verdict(modality) == ModalityVerdict::Identifies
                    && worth(&other.scores, modality) > own
            })
        })
    }

    /// Could `other` be the person as well? What speaks against `other` counts only where the same modality confirms
    /// `one`: ruling somebody out never recognises somebody else.
    fn is_rival(&self, other: &CandidateEvidence, one: &CandidateEvidence) -> bool {
        let ruled_out = Modality::ALL.into_iter().any(|modality| {
            one.confirms(modality) && other.verdict(modality) == ModalityVerdict::Against
        });
        let support = other.support.log10();
        other.subject() != one.subject()
            && !ruled_out
            && (other.any(ModalityVerdict::Identifies)
                || support >= self.points.fused
                || support > one.fused.log10())
    }

    fn unmet_demand(&self, one: &CandidateEvidence) -> Option<RecognitionDoubt> {
        use Modality::{Face, IrisLeft, IrisRight};
        let compared = |modality| one.verdict(modality) != ModalityVerdict::NotCompared;
        let confirmed = |modality| one.confirms(modality);
        let fused = self.fused_identifies(one);
        let (possible, met) = match self.points.policy {
            ModalityPolicy::FaceOnly => (
                compared(Face),
                one.verdict(Face) == ModalityVerdict::Identifies,
            ),
            ModalityPolicy::FaceOrIris => (true, true),
            ModalityPolicy::FaceAndIris => (
                compared(Face) && (compared(IrisLeft) || compared(IrisRight)),
                confirmed(Face) && (confirmed(IrisLeft) || confirmed(IrisRight)) && fused,
            ),
            ModalityPolicy::AnyTwoOfThree => {
                let count = |holds: &dyn Fn(Modality) -> bool| {
                    Modality::ALL.into_iter().filter(|one| holds(*one)).count()
                };
                (count(&compared) >= 2, count(&confirmed) >= 2 && fused)
            }
        };
        if !possible {
            Some(RecognitionDoubt::Missing)
        } else if !met {
            Some(RecognitionDoubt::Mismatch)
        } else {
            None
        }
    }
}

fn candidate(scores: SubjectScores, points: &OperatingPoints) -> CandidateEvidence {
    let calibration = &points.calibration;
    let closeness = |modality| {
        let score = scores.score(modality)?;
        Some(calibration.of(modality).closeness(score))
    };
    CandidateEvidence {
        fused: scores.fused(calibration),
        support: scores.support(calibration),
        verdicts: Modality::ALL.map(|modality| points.verdict(&scores, modality)),
        closeness: Modality::ALL.into_iter().filter_map(closeness).sum(),
        scores,
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod simulation;
