//! The access decision: grant, refuse or refer, each with a reason.
//!
//! `decide` is total: every doubt ends in refer or refuse, and the only way to a grant is the last
//! line of the function.

use serde::{Deserialize, Serialize};

use crate::{
    Direction, Evidence, GatePolicy, LocalMoment, PadAssessment, PadPolicy, PadVerdict,
    Recognition, RecognitionDoubt, SubjectCategory, SubjectId, SubjectStatus, SubjectView,
    Timestamp, UnrecognisedPolicy,
};

/// Grant, refuse or refer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The door is ordered to open.
    Grant,
    /// The door stays shut; an officer can still review.
    Refuse,
    /// An officer decides.
    Refer,
}

impl Verdict {
    /// The stable name used in files and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Refuse => "refuse",
            Self::Refer => "refer",
        }
    }
}

/// Why a decision fell as it did. The names are stable: they stand in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Recognised, and a rule of the gate admits the person now.
    Authorised,
    /// An officer granted after review.
    OfficerGranted,
    /// An officer refused after review.
    OfficerRefused,
    /// The gate is locked down.
    LockedDown,
    /// The clock cannot be trusted, so schedules cannot be applied.
    ClockUntrusted,
    /// No usable sample could be made.
    FailureToAcquire,
    /// More than one person was in front of the camera.
    SeveralPeople,
    /// A presentation attack is suspected.
    PresentationAttackSuspected,
    /// The presentation attack check could not be made, and the gate requires it.
    PresentationAttackUnchecked,
    /// Nobody in the registry matches.
    NotRecognised,
    /// Two or more people match: look-alikes, or one person enrolled twice.
    AmbiguousIdentity,
    /// Modalities point at different people.
    ModalityConflict,
    /// A modality speaks against the person whom another one names, or does not confirm as the gate requires.
    ModalityMismatch,
    /// The gate requires a modality that was not captured well enough or is not enrolled.
    ModalityMissing,
    /// The probe does not match the claimed identity.
    ClaimMismatch,
    /// The search could not be made (no gallery, other model).
    SearchUnavailable,
    /// The person's record could not be read.
    RecordUnavailable,
    /// The person is suspended.
    Suspended,
    /// The person is banned.
    Banned,
    /// The person is recorded as released.
    AlreadyReleased,
    /// The person is recorded as dead.
    RecordedDeceased,
    /// The enrolment is too fresh for doors to open.
    CoolingOff,
    /// No rule admits the person's category at this gate.
    CategoryNotAdmitted,
    /// The person may not go this way at this gate.
    DirectionNotAdmitted,
    /// Not at this time.
    OutsideSchedule,
}

impl ReasonCode {
    /// The stable name used in files and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Authorised => "authorised",
            Self::OfficerGranted => "officer_granted",
            Self::OfficerRefused => "officer_refused",
            Self::LockedDown => "locked_down",
            Self::ClockUntrusted => "clock_untrusted",
            Self::FailureToAcquire => "failure_to_acquire",
            Self::SeveralPeople => "several_people",
            Self::PresentationAttackSuspected => "presentation_attack_suspected",
            Self::PresentationAttackUnchecked => "presentation_attack_unchecked",
            Self::NotRecognised => "not_recognised",
            Self::AmbiguousIdentity => "ambiguous_identity",
            Self::ModalityConflict => "modality_conflict",
            Self::ModalityMismatch => "modality_mismatch",
            Self::ModalityMissing => "modality_missing",
            Self::ClaimMismatch => "claim_mismatch",
            Self::SearchUnavailable => "search_unavailable",
            Self::RecordUnavailable => "record_unavailable",
            Self::Suspended => "suspended",
            Self::Banned => "banned",
            Self::AlreadyReleased => "already_released",
            Self::RecordedDeceased => "recorded_deceased",
            Self::CoolingOff => "cooling_off",
            Self::CategoryNotAdmitted => "category_not_admitted",
            Self::DirectionNotAdmitted => "direction_not_admitted",
            Self::OutsideSchedule => "outside_schedule",
        }
    }

    /// Whether a decision for this reason says who stood there. Where it doesn't, a named person is only meant or suspected.
    #[must_use]
    pub const fn names_the_person(self) -> bool {
        match self {
            Self::Authorised
            | Self::OfficerGranted
            | Self::Suspended
            | Self::Banned
            | Self::AlreadyReleased
            | Self::RecordedDeceased
            | Self::CoolingOff
            | Self::CategoryNotAdmitted
            | Self::DirectionNotAdmitted
            | Self::OutsideSchedule => true,
            Self::OfficerRefused
            | Self::LockedDown
            | Self::ClockUntrusted
            | Self::FailureToAcquire
            | Self::SeveralPeople
            | Self::PresentationAttackSuspected
            | Self::PresentationAttackUnchecked
            | Self::NotRecognised
            | Self::AmbiguousIdentity
            | Self::ModalityConflict
            | Self::ModalityMismatch
            | Self::ModalityMissing
            | Self::ClaimMismatch
            | Self::SearchUnavailable
            | Self::RecordUnavailable => false,
        }
    }

    /// A sentence for the officer.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Authorised => "Recognised, and the gate's policy admits this person now.",
            Self::OfficerGranted => "Granted by an officer after review.",
            Self::OfficerRefused => "Refused by an officer after review.",
            Self::LockedDown => "The gate is locked down.",
            Self::ClockUntrusted => "The clock cannot be trusted, so an officer must decide.",
            Self::FailureToAcquire => "The camera could not get a usable picture.",
            Self::SeveralPeople => "More than one person stood in front of the camera.",
            Self::PresentationAttackSuspected => {
                "The picture may show a print, a screen or a mask instead of a person."
            }
            Self::PresentationAttackUnchecked => {
                "It could not be checked whether a real person stood at the gate."
            }
            Self::NotRecognised => "Nobody in the registry was recognised.",
            Self::AmbiguousIdentity => "More than one enrolled person looks alike enough.",
            Self::ModalityConflict => "Face and irises point at different people.",
            Self::ModalityMismatch => {
                "Face and irises do not all confirm the person who was recognised."
            }
            Self::ModalityMissing => {
                "This gate needs face and iris together, and one of them was not captured well enough or is not enrolled."
            }
            Self::ClaimMismatch => "The person does not match the identity that was claimed.",
            Self::SearchUnavailable => "The registry could not be searched.",
            Self::RecordUnavailable => "The person's record could not be read.",
            Self::Suspended => "Access is suspended.",
            Self::Banned => "The person is banned.",
            Self::AlreadyReleased => "The person is recorded as released.",
            Self::RecordedDeceased => "The person is recorded as dead.",
            Self::CoolingOff => "The enrolment is too recent for doors to open.",
            Self::CategoryNotAdmitted => "This gate does not admit this category of person.",
            Self::DirectionNotAdmitted => "The person may not go this way at this gate.",
            Self::OutsideSchedule => "The person may not pass at this time.",
        }
    }
}

impl From<RecognitionDoubt> for ReasonCode {
    fn from(doubt: RecognitionDoubt) -> Self {
        match doubt {
            RecognitionDoubt::Conflict => Self::ModalityConflict,
            RecognitionDoubt::Mismatch => Self::ModalityMismatch,
            RecognitionDoubt::Ambiguous => Self::AmbiguousIdentity,
            RecognitionDoubt::Missing => Self::ModalityMissing,
        }
    }
}

/// What the 1:N search or the 1:1 comparison brought.
#[derive(Debug, Clone, PartialEq)]
pub enum SearchOutcome {
    /// Somebody was compared with everybody; who is recognised follows from the evidence.
    Searched {
        /// Candidates, best first, with the thresholds that count for this gallery.
        evidence: Box<Evidence>,
    },
    /// The search failed, or no reference was made by the probe's model.
    Unavailable,
}

/// State of the gate and the server at the moment of decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateCondition {
    /// An officer locked the gate down.
    pub locked_down: bool,
    /// The server trusts its own clock.
    pub clock_trusted: bool,
    /// People near enough to be the one at the gate.
    pub people_in_view: u8,
}

/// Everything a decision depends on.
#[derive(Debug, Clone)]
pub struct DecisionInput<'a> {
    /// The gate's policy.
    pub policy: &'a GatePolicy,
    /// Which way.
    pub direction: Direction,
    /// Who the person says to be, by card or booking.
    pub claim: Option<SubjectId>,
    /// Presentation attack votes.
    pub pad: &'a PadAssessment,
    /// Search result.
    pub search: &'a SearchOutcome,
    /// Record of the best candidate, read by the caller; `None` when it could not be read.
    pub subject: Option<SubjectView>,
    /// State of gate and clock.
    pub condition: GateCondition,
    /// Now.
    pub now: Timestamp,
    /// Now at the site.
    pub local: LocalMoment,
}

/// An access decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Open for this person.
    Grant {
        /// Who was recognised.
        subject: SubjectId,
    },
    /// Do not open.
    Refuse {
        /// Why.
        reason: ReasonCode,
        /// Who was recognised, if anybody.
        subject: Option<SubjectId>,
    },
    /// Ask an officer.
    Refer {
        /// Why.
        reason: ReasonCode,
        /// Who may be meant, best first; empty when nobody matches.
        candidates: Vec<SubjectId>,
    },
}

impl Decision {
    /// Grant, refuse or refer.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Grant { .. } => Verdict::Grant,
            Self::Refuse { .. } => Verdict::Refuse,
            Self::Refer { .. } => Verdict::Refer,
        }
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        match self {
            Self::Grant { .. } => ReasonCode::Authorised,
            Self::Refuse { reason, .. } | Self::Refer { reason, .. } => *reason,
        }
    }

    /// Whom the decision is about: recognised, or first among the candidates.
    #[must_use]
    pub fn subject(&self) -> Option<SubjectId> {
        match self {
            Self::Grant { subject } => Some(*subject),
            Self::Refuse { subject, .. } => *subject,
            Self::Refer { candidates, .. } => candidates.first().copied(),
        }
    }
}

/// Decides one passage.
#[must_use]
pub fn decide(input: &DecisionInput<'_>) -> Decision {
    let refuse = |reason, subject| Decision::Refuse { reason, subject };
    let refer = |reason, candidates| Decision::Refer { reason, candidates };

    if input.condition.locked_down {
        return refuse(ReasonCode::LockedDown, None);
    }
    let recognition = match input.search {
        SearchOutcome::Searched { evidence } => evidence.recognise(),
        SearchOutcome::Unavailable => return refer(ReasonCode::SearchUnavailable, Vec::new()),
    };
    let matches = recognition.subjects();

    // A suspicion comes before recognition: a good copy of a face is recognised very well.
    match (input.pad.verdict(), input.policy.pad) {
        (PadVerdict::AttackSuspected, PadPolicy::Required) => {
            return refuse(
                ReasonCode::PresentationAttackSuspected,
                matches.first().copied(),
            );
        }
        (PadVerdict::AttackSuspected, PadPolicy::Advisory) => {
            return refer(ReasonCode::PresentationAttackSuspected, matches);
        }
        (PadVerdict::Inconclusive, PadPolicy::Required) => {
            return refer(ReasonCode::PresentationAttackUnchecked, matches);
        }
        (PadVerdict::Inconclusive, PadPolicy::Advisory) | (PadVerdict::BonaFide, _) => {}
    }
    if input.condition.people_in_view > 1 {
        return refer(ReasonCode::SeveralPeople, matches);
    }
    let best = match recognition {
        Recognition::Recognised(subject) => subject,
        Recognition::Doubtful(doubt, subjects) => return refer(doubt.into(), subjects),
        Recognition::Nobody if input.claim.is_some() => {
            return refer(ReasonCode::ClaimMismatch, Vec::new());
        }
        Recognition::Nobody => {
            return match input.policy.unrecognised {
                UnrecognisedPolicy::Refer => refer(ReasonCode::NotRecognised, Vec::new()),
                UnrecognisedPolicy::Refuse => refuse(ReasonCode::NotRecognised, None),
            };
        }
    };
    if input.claim.is_some_and(|claim| claim != best) {
        return refer(ReasonCode::ClaimMismatch, matches);
    }
    let Some(subject) = input.subject.filter(|subject| subject.id == best) else {
        return refer(ReasonCode::RecordUnavailable, matches);
    };
    match subject.status {
        SubjectStatus::Active => {}
        SubjectStatus::Suspended => return refuse(ReasonCode::Suspended, Some(best)),
        SubjectStatus::Banned => return refuse(ReasonCode::Banned, Some(best)),
        SubjectStatus::Released => return refer(ReasonCode::AlreadyReleased, matches),
        SubjectStatus::Deceased => return refer(ReasonCode::RecordedDeceased, matches),
    }
    if !input.condition.clock_trusted {
        return refer(ReasonCode::ClockUntrusted, matches);
    }
    if input.now < subject.effective_from {
        return refer(ReasonCode::CoolingOff, matches);
    }
    match admission(input.policy, subject.category, input.direction, input.local) {
        Ok(()) => Decision::Grant { subject: best },
        Err(reason) => refuse(reason, Some(best)),
    }
}

/// Is there a rule that admits this category, this way, now? Otherwise the most specific reason.
fn admission(
    policy: &GatePolicy,
    category: SubjectCategory,
    direction: Direction,
    local: LocalMoment,
) -> Result<(), ReasonCode> {
    let mut reason = ReasonCode::CategoryNotAdmitted;
    for rule in policy
        .rules
        .iter()
        .filter(|rule| rule.categories.contains(&category))
    {
        if !rule.directions.contains(&direction) {
            if reason == ReasonCode::CategoryNotAdmitted {
                reason = ReasonCode::DirectionNotAdmitted;
            }
        } else if rule.windows.is_empty() || rule.windows.iter().any(|w| w.contains(local)) {
            return Ok(());
        } else {
            reason = ReasonCode::OutsideSchedule;
        }
    }
    Err(reason)
}

#[cfg(test)]
#[path = "decision/tests.rs"]
mod tests;
