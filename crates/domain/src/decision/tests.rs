use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    AccessRule, Candidate, FaceCalibration, FaceSimilarity, PadKind, PadVote, Purpose, Weekday,
    WeeklyWindow,
};

fn person(n: u8) -> SubjectId {
    SubjectId::from_uuid(Uuid::from_bytes([n; 16]))
}

fn policy(pad: PadPolicy) -> GatePolicy {
    GatePolicy {
        version: "test-1".into(),
        purpose: Purpose::Access,
        fpir_target: 1e-2,
        fmr_target: 1e-4,
        pad,
        unrecognised: UnrecognisedPolicy::Refer,
        rules: vec![AccessRule {
            categories: vec![SubjectCategory::Visitor],
            directions: vec![Direction::Entry],
            windows: vec![WeeklyWindow {
                days: vec![Weekday::Monday],
                from_minute: 540,
                until_minute: 1020,
            }],
        }],
    }
}

fn votes(verdict: PadVerdict) -> PadAssessment {
    PadAssessment {
        votes: vec![PadVote {
            kind: PadKind::FaceTexture,
            verdict,
            reason: String::new(),
        }],
    }
}

fn searched(scores: &[(u8, f32)]) -> SearchOutcome {
    SearchOutcome::Searched {
        candidates: CandidateList::new(
            scores
                .iter()
                .map(|(n, score)| Candidate {
                    subject: person(*n),
                    similarity: FaceSimilarity::new(*score).unwrap(),
                })
                .collect(),
        ),
        threshold: FaceCalibration::default_face().identification_threshold(1e-2, 10),
    }
}

struct Case {
    policy: GatePolicy,
    pad: PadAssessment,
    search: SearchOutcome,
    direction: Direction,
    claim: Option<SubjectId>,
    category: SubjectCategory,
    status: SubjectStatus,
    condition: GateCondition,
    minute: u16,
    effective_from: i64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            policy: policy(PadPolicy::Required),
            pad: votes(PadVerdict::BonaFide),
            search: searched(&[(1, 0.8), (2, 0.1)]),
            direction: Direction::Entry,
            claim: None,
            category: SubjectCategory::Visitor,
            status: SubjectStatus::Active,
            condition: GateCondition {
                locked_down: false,
                clock_trusted: true,
                people_in_view: 1,
            },
            minute: 600,
            effective_from: 0,
        }
    }
}

impl Case {
    fn decide(&self) -> Decision {
        decide(&DecisionInput {
            policy: &self.policy,
            direction: self.direction,
            claim: self.claim,
            pad: &self.pad,
            search: &self.search,
            subject: Some(SubjectView {
                id: person(1),
                category: self.category,
                status: self.status,
                effective_from: Timestamp::from_micros(self.effective_from),
            }),
            condition: self.condition,
            now: Timestamp::from_micros(1_000),
            local: LocalMoment {
                weekday: Weekday::Monday,
                minute_of_day: self.minute,
            },
        })
    }

    fn outcome(&self) -> (Verdict, ReasonCode) {
        let decision = self.decide();
        (decision.verdict(), decision.reason())
    }
}

#[test]
fn a_recognised_admitted_visitor_is_granted() {
    assert_eq!(
        Case::default().decide(),
        Decision::Grant { subject: person(1) }
    );
}

#[test]
fn every_doubt_has_its_own_reason() {
    use ReasonCode::*;
    use Verdict::{Refer, Refuse};
    let ok = GateCondition {
        locked_down: false,
        clock_trusted: true,
        people_in_view: 1,
    };
    let advisory = || policy(PadPolicy::Advisory);
    let attack = || votes(PadVerdict::AttackSuspected);
    let d = Case::default;
    let cases = [
        (
            Case {
                search: searched(&[(1, 0.2)]),
                ..d()
            },
            (Refer, NotRecognised),
        ),
        (
            Case {
                search: searched(&[]),
                ..d()
            },
            (Refer, NotRecognised),
        ),
        (
            Case {
                search: searched(&[(1, 0.8), (2, 0.7)]),
                ..d()
            },
            (Refer, AmbiguousIdentity),
        ),
        (
            Case {
                search: SearchOutcome::Unavailable,
                ..d()
            },
            (Refer, SearchUnavailable),
        ),
        (
            Case {
                search: SearchOutcome::Conflict,
                ..d()
            },
            (Refer, ModalityConflict),
        ),
        (
            Case {
                search: searched(&[(2, 0.8)]),
                ..d()
            },
            (Refer, RecordUnavailable),
        ),
        (
            Case {
                claim: Some(person(2)),
                ..d()
            },
            (Refer, ClaimMismatch),
        ),
        (
            Case {
                pad: attack(),
                ..d()
            },
            (Refuse, PresentationAttackSuspected),
        ),
        (
            Case {
                pad: attack(),
                policy: advisory(),
                ..d()
            },
            (Refer, PresentationAttackSuspected),
        ),
        (
            Case {
                pad: PadAssessment::default(),
                ..d()
            },
            (Refer, PresentationAttackUnchecked),
        ),
        (
            Case {
                status: SubjectStatus::Banned,
                ..d()
            },
            (Refuse, Banned),
        ),
        (
            Case {
                status: SubjectStatus::Suspended,
                ..d()
            },
            (Refuse, Suspended),
        ),
        (
            Case {
                status: SubjectStatus::Released,
                ..d()
            },
            (Refer, AlreadyReleased),
        ),
        (
            Case {
                status: SubjectStatus::Deceased,
                ..d()
            },
            (Refer, RecordedDeceased),
        ),
        (
            Case {
                effective_from: 1_001,
                ..d()
            },
            (Refer, CoolingOff),
        ),
        (
            Case {
                category: SubjectCategory::Prisoner,
                ..d()
            },
            (Refuse, CategoryNotAdmitted),
        ),
        (
            Case {
                direction: Direction::Exit,
                ..d()
            },
            (Refuse, DirectionNotAdmitted),
        ),
        (Case { minute: 539, ..d() }, (Refuse, OutsideSchedule)),
        (
            Case {
                minute: 1020,
                ..d()
            },
            (Refuse, OutsideSchedule),
        ),
        (
            Case {
                condition: GateCondition {
                    locked_down: true,
                    ..ok
                },
                ..d()
            },
            (Refuse, LockedDown),
        ),
        (
            Case {
                condition: GateCondition {
                    clock_trusted: false,
                    ..ok
                },
                ..d()
            },
            (Refer, ClockUntrusted),
        ),
        (
            Case {
                condition: GateCondition {
                    people_in_view: 2,
                    ..ok
                },
                ..d()
            },
            (Refer, SeveralPeople),
        ),
    ];
    for (case, expected) in cases {
        assert_eq!(case.outcome(), expected);
    }
    let unrecognised = GatePolicy {
        unrecognised: UnrecognisedPolicy::Refuse,
        ..advisory()
    };
    let stranger = Case {
        policy: unrecognised,
        search: searched(&[]),
        ..d()
    };
    assert_eq!(stranger.outcome(), (Refuse, NotRecognised));
    let unchecked = Case {
        policy: advisory(),
        pad: PadAssessment::default(),
        ..d()
    };
    assert_eq!(unchecked.decide().verdict(), Verdict::Grant);
}

proptest! {
    /// Whatever else holds, these doubts never end in a grant.
    #[test]
    fn no_doubt_is_ever_granted(
        scores in proptest::collection::vec((1_u8..5, -1.0_f32..1.0), 0..6),
        verdict in prop_oneof![
            Just(PadVerdict::BonaFide), Just(PadVerdict::Inconclusive), Just(PadVerdict::AttackSuspected)
        ],
        required in any::<bool>(),
        locked_down in any::<bool>(),
        clock_trusted in any::<bool>(),
        people_in_view in 0_u8..4,
        status in proptest::sample::select(SubjectStatus::ALL.to_vec()),
        category in proptest::sample::select(SubjectCategory::ALL.to_vec()),
        claim in proptest::option::of(1_u8..5),
        minute in 0_u16..1440,
        exit in any::<bool>(),
    ) {
        let case = Case {
            policy: policy(if required { PadPolicy::Required } else { PadPolicy::Advisory }),
            pad: votes(verdict),
            search: searched(&scores),
            direction: if exit { Direction::Exit } else { Direction::Entry },
            claim: claim.map(person),
            category,
            status,
            condition: GateCondition { locked_down, clock_trusted, people_in_view },
            minute,
            effective_from: 0,
        };
        if let Decision::Grant { subject } = case.decide() {
            prop_assert_eq!(subject, person(1));
            prop_assert!(verdict != PadVerdict::AttackSuspected);
            prop_assert!(!required || verdict == PadVerdict::BonaFide);
            prop_assert!(!locked_down && clock_trusted && people_in_view <= 1 && !exit);
            prop_assert!(status == SubjectStatus::Active && category == SubjectCategory::Visitor);
            prop_assert!((540..1020).contains(&minute));
            prop_assert!(claim.is_none_or(|claim| claim == 1));
            let best = scores.iter().filter(|(n, _)| *n == 1).map(|(_, s)| *s).fold(-1.0, f32::max);
            prop_assert!(best >= 0.335);
        }
    }
}
