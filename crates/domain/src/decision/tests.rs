use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    AccessRule, FaceSimilarity, FusionCalibration, GallerySize, IrisComparison, IrisDissimilarity,
    ModalityPolicy, ModalityVerdict, OperatingPoints, PadKind, PadVote, Purpose, SubjectScores,
    Weekday, WeeklyWindow,
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
        modalities: ModalityPolicy::FaceOrIris,
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
    searched_for(
        ModalityPolicy::FaceOrIris,
        scores
            .iter()
            .map(|(n, score)| {
                let mut one = SubjectScores::none(person(*n));
                one.face = Some(FaceSimilarity::new(*score).unwrap());
                one
            })
            .collect(),
        0,
    )
}

/// Ten people with a face each, and so many irises.
fn searched_for(
    modalities: ModalityPolicy,
    scores: Vec<SubjectScores>,
    irises: usize,
) -> SearchOutcome {
    let size = GallerySize {
        subjects: 10,
        faces: 10,
        left_irises: irises,
        right_irises: irises,
    };
    let policy = GatePolicy {
        modalities,
        ..policy(PadPolicy::Required)
    };
    let points = OperatingPoints::new(&FusionCalibration::default_pair(), &policy, size);
    SearchOutcome::Searched {
        evidence: Box::new(Evidence::new(scores, points)),
    }
}

/// Scores of one person; irises as dissimilarities.
fn scores(n: u8, face: Option<f32>, left: Option<f32>, right: Option<f32>) -> SubjectScores {
    let iris = |score: Option<f32>| {
        score.map(|score| IrisComparison::Compared(IrisDissimilarity::new(score).unwrap()))
    };
    SubjectScores {
        subject: person(n),
        face: face.map(|score| FaceSimilarity::new(score).unwrap()),
        left: iris(left),
        right: iris(right),
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
                // The face is the first person's, the irises are the second's.
                search: searched_for(
                    ModalityPolicy::FaceOrIris,
                    vec![
                        scores(1, Some(0.8), Some(0.45), Some(0.44)),
                        scores(2, Some(0.1), Some(0.1), Some(0.12)),
                    ],
                    10,
                ),
                ..d()
            },
            (Refer, ModalityConflict),
        ),
        (
            Case {
                search: searched_for(
                    ModalityPolicy::FaceOrIris,
                    vec![scores(1, Some(0.8), Some(0.1), Some(0.46))],
                    10,
                ),
                ..d()
            },
            (Refer, ModalityMismatch),
        ),
        (
            Case {
                search: searched_for(
                    ModalityPolicy::FaceAndIris,
                    vec![scores(1, Some(0.8), None, None)],
                    10,
                ),
                ..d()
            },
            (Refer, ModalityMissing),
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

fn verdicts() -> impl Strategy<Value = PadVerdict> {
    prop_oneof![
        Just(PadVerdict::BonaFide),
        Just(PadVerdict::Inconclusive),
        Just(PadVerdict::AttackSuspected)
    ]
}

prop_compose! {
    /// Any scores of up to three people, with everything that a person may show or hide.
    fn any_scores()(
        people in proptest::collection::vec((
            1_u8..4,
            proptest::option::of(-0.2_f32..1.0),
            proptest::option::of(0.0_f32..0.5),
            proptest::option::of(0.0_f32..0.5),
        ), 0..5),
    ) -> Vec<SubjectScores> {
        people.into_iter().map(|(n, face, left, right)| scores(n, face, left, right)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever the scores: no grant against a suspicion, a failed check, another person's modality, or without what the
    /// policy requires.
    #[test]
    fn fused_evidence_is_never_outvoted(
        mut given in any_scores(),
        mate in proptest::option::of((0.3_f32..0.9, 0.0_f32..0.45, 0.0_f32..0.45)),
        modalities in proptest::sample::select(ModalityPolicy::ALL.to_vec()),
        pad in verdicts(),
        required in any::<bool>(),
    ) {
        if let Some((face, left, right)) = mate {
            given.retain(|one| one.subject != person(1));
            given.push(scores(1, Some(face), Some(left), Some(right)));
        }
        let search = searched_for(modalities, given, 10);
        let case = Case {
            policy: GatePolicy {
                modalities,
                ..policy(if required { PadPolicy::Required } else { PadPolicy::Advisory })
            },
            pad: votes(pad),
            search: search.clone(),
            ..Case::default()
        };
        if let Decision::Grant { subject } = case.decide() {
            let SearchOutcome::Searched { evidence } = search else { unreachable!() };
            let granted = evidence.candidates().iter().find(|one| one.subject() == subject).unwrap();
            let said = granted.verdicts;
            prop_assert!(pad != PadVerdict::AttackSuspected);
            prop_assert!(!required || pad == PadVerdict::BonaFide);
            prop_assert!(!said.contains(&ModalityVerdict::Against));
            let [face, left, right] = said.map(|one| one >= ModalityVerdict::Confirms);
            let demanded = match modalities {
                ModalityPolicy::FaceOnly => said[0] == ModalityVerdict::Identifies,
                ModalityPolicy::FaceOrIris => face || left || right,
                ModalityPolicy::FaceAndIris => face && (left || right),
                ModalityPolicy::AnyTwoOfThree => [face, left, right].iter().filter(|one| **one).count() >= 2,
            };
            prop_assert!(demanded);
            for other in evidence.candidates().iter().filter(|one| one.subject() != subject) {
                for (own, theirs) in said.iter().zip(other.verdicts) {
                    prop_assert!(theirs != ModalityVerdict::Identifies || *own >= ModalityVerdict::Confirms);
                }
            }
        }
    }
}
