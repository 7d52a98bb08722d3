use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{IrisDissimilarity, PadPolicy, Purpose, UnrecognisedPolicy};

pub(super) fn person(n: u8) -> SubjectId {
    SubjectId::from_uuid(Uuid::from_bytes([n; 16]))
}

pub(super) fn policy(modalities: ModalityPolicy) -> GatePolicy {
    GatePolicy {
        version: "test-1".into(),
        purpose: Purpose::Access,
        fpir_target: 1e-2,
        fmr_target: 1e-4,
        pad: PadPolicy::Required,
        modalities,
        unrecognised: UnrecognisedPolicy::Refer,
        rules: Vec::new(),
    }
}

pub(super) fn size(people: usize) -> GallerySize {
    GallerySize {
        subjects: people,
        faces: people,
        left_irises: people,
        right_irises: people,
    }
}

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

fn evidence_of(
    modalities: ModalityPolicy,
    people: usize,
    given: impl IntoIterator<Item = SubjectScores>,
) -> Evidence {
    let calibration = FusionCalibration::default_pair();
    let points = OperatingPoints::new(&calibration, &policy(modalities), size(people));
    Evidence::new(given.into_iter().collect(), points)
}

fn recognise(modalities: ModalityPolicy, given: &[SubjectScores]) -> Recognition {
    evidence_of(modalities, 1_000, given.iter().copied()).recognise()
}

use ModalityPolicy::{AnyTwoOfThree, FaceAndIris, FaceOnly, FaceOrIris};
use RecognitionDoubt::{Ambiguous, Conflict, Mismatch, Missing};

#[test]
fn each_policy_demands_what_it_says() {
    let found = Recognition::Recognised(person(1));
    let doubt = |doubt| Recognition::Doubtful(doubt, vec![person(1)]);
    let all = scores(1, Some(0.7), Some(0.15), Some(0.2));
    let face = scores(1, Some(0.7), None, None);
    let irises = scores(1, None, Some(0.15), Some(0.2));
    let left = scores(1, None, Some(0.15), None);
    let weak_face = scores(1, Some(0.3), Some(0.15), Some(0.2));
    for (given, policy, expected) in [
        (all, FaceOnly, found.clone()),
        (all, FaceOrIris, found.clone()),
        (all, FaceAndIris, found.clone()),
        (all, AnyTwoOfThree, found.clone()),
        (face, FaceOnly, found.clone()),
        (face, FaceOrIris, found.clone()),
        (face, FaceAndIris, doubt(Missing)),
        (face, AnyTwoOfThree, doubt(Missing)),
        (irises, FaceOnly, doubt(Missing)),
        (irises, FaceOrIris, found.clone()),
        (irises, FaceAndIris, doubt(Missing)),
        (irises, AnyTwoOfThree, found.clone()),
        (left, FaceOrIris, found.clone()),
        (left, AnyTwoOfThree, doubt(Missing)),
        // The face neither confirms nor speaks against.
        (weak_face, FaceOnly, doubt(Mismatch)),
        (weak_face, FaceOrIris, found.clone()),
        (weak_face, FaceAndIris, doubt(Mismatch)),
        (weak_face, AnyTwoOfThree, found),
    ] {
        assert_eq!(recognise(policy, &[given]), expected, "{policy:?}");
    }
}

#[test]
fn a_failed_check_is_never_outvoted() {
    for failed in [
        scores(1, Some(0.1), Some(0.05), Some(0.05)),
        scores(1, Some(0.9), Some(0.46), Some(0.05)),
        scores(1, Some(0.9), Some(0.05), Some(0.46)),
    ] {
        for policy in ModalityPolicy::ALL {
            assert_eq!(
                recognise(policy, &[failed]),
                Recognition::Doubtful(Mismatch, vec![person(1)]),
                "{policy:?}"
            );
        }
    }
}

#[test]
fn modalities_of_two_people_are_a_conflict() {
    let found = recognise(
        FaceOrIris,
        &[
            scores(1, Some(0.7), Some(0.33), None),
            scores(2, Some(0.3), Some(0.1), None),
        ],
    );
    assert_eq!(
        found,
        Recognition::Doubtful(Conflict, vec![person(1), person(2)])
    );
}

#[test]
fn irises_tell_look_alikes_apart_and_a_missing_iris_does_not() {
    let twins = |left: [Option<f32>; 2]| {
        recognise(
            FaceOrIris,
            &[
                scores(1, Some(0.70), left[0], None),
                scores(2, Some(0.72), left[1], None),
            ],
        )
    };
    assert_eq!(
        twins([None, None]),
        Recognition::Doubtful(Ambiguous, vec![person(2), person(1)])
    );
    assert_eq!(
        twins([Some(0.1), Some(0.45)]),
        Recognition::Recognised(person(1))
    );
    // Ruling the second out does not recognise the first.
    assert_eq!(
        twins([Some(0.37), Some(0.45)]),
        Recognition::Doubtful(Ambiguous, vec![person(1), person(2)])
    );
    assert_eq!(
        twins([None, Some(0.45)]),
        Recognition::Doubtful(Ambiguous, vec![person(1), person(2)])
    );
}

#[test]
fn whoever_has_more_for_them_is_a_rival_even_below_every_threshold() {
    let near = scores(1, Some(0.35), None, None);
    let behind = |n| scores(n, Some(0.34), Some(0.352), Some(0.352));
    let among_ten =
        |given: &[SubjectScores]| evidence_of(FaceOrIris, 10, given.iter().copied()).recognise();
    assert_eq!(among_ten(&[near]), Recognition::Recognised(person(1)));
    assert_eq!(among_ten(&[behind(2)]), Recognition::Nobody);
    assert_eq!(
        among_ten(&[near, behind(2)]),
        Recognition::Doubtful(Ambiguous, vec![person(1), person(2)])
    );
}

#[test]
fn a_failed_check_of_one_person_does_not_clear_the_way_for_another() {
    let one = scores(1, Some(0.6), None, None);
    // Face and left iris together would identify; the right iris speaks against, and nothing of it speaks for the other.
    let other = |right| scores(2, Some(0.465), Some(0.288), right);
    let ambiguous = |first, second| Recognition::Doubtful(Ambiguous, vec![first, second]);
    assert_eq!(
        recognise(FaceOrIris, &[one, other(Some(0.46))]),
        ambiguous(person(1), person(2))
    );
    assert!(matches!(
        recognise(FaceOrIris, &[one, other(None)]),
        Recognition::Doubtful(..)
    ));
}

#[test]
fn together_they_recognise_whom_none_does_alone() {
    // Each below its own threshold among a thousand people.
    let one = scores(1, Some(0.45), Some(0.335), Some(0.335));
    let evidence = evidence_of(FaceAndIris, 1_000, [one]);
    assert!(
        evidence.candidates()[0]
            .verdicts
            .iter()
            .all(|verdict| *verdict == ModalityVerdict::Confirms)
    );
    assert_eq!(evidence.recognise(), Recognition::Recognised(person(1)));
    assert_eq!(
        recognise(FaceOrIris, &[scores(1, Some(0.45), None, None)]),
        Recognition::Nobody
    );
}

#[test]
fn too_few_common_bits_say_nothing() {
    let mut one = scores(1, Some(0.7), None, None);
    one.left = Some(IrisComparison::TooFewBits);
    let evidence = evidence_of(FaceAndIris, 1_000, [one]);
    let said = evidence.candidates()[0].verdicts;
    assert_eq!(said[1], ModalityVerdict::NotCompared);
    assert_eq!(
        evidence.recognise(),
        Recognition::Doubtful(Missing, vec![person(1)])
    );
    assert_eq!(
        recognise(FaceOrIris, &[one]),
        Recognition::Recognised(person(1))
    );
}

#[test]
fn several_references_keep_the_closest_score() {
    let mut few = scores(1, None, None, None);
    few.left = Some(IrisComparison::TooFewBits);
    let evidence = evidence_of(
        FaceOrIris,
        10,
        [
            scores(1, Some(0.2), Some(0.4), None),
            few,
            scores(1, Some(0.6), Some(0.2), None),
            scores(1, Some(0.5), Some(0.3), Some(0.1)),
        ],
    );
    let [one] = evidence.candidates() else {
        panic!("one person")
    };
    assert_eq!(one.scores, scores(1, Some(0.6), Some(0.2), Some(0.1)));
}

#[test]
fn thresholds_grow_with_the_gallery_and_shares_never_exceed_the_whole() {
    let calibration = FusionCalibration::default_pair();
    let points =
        |size| OperatingPoints::new(&calibration, &policy(ModalityPolicy::FaceOrIris), size);
    let (small, large) = (points(size(100)), points(size(100_000)));
    assert!(large.identifies_at(Modality::Face) > small.identifies_at(Modality::Face));
    assert!(large.identifies_at(Modality::IrisLeft) < small.identifies_at(Modality::IrisLeft));
    // log10(100 people / (1 % x one tenth)).
    assert!((small.fused_at().log10() - 5.0).abs() < 1e-9);
    assert!((large.fused_at().log10() - 8.0).abs() < 1e-9);
    // A registry of faces only is searched as before there were irises.
    let faces = GallerySize {
        subjects: 1_559,
        faces: 1_559,
        ..GallerySize::default()
    };
    let old = crate::FaceCalibration::default_face().identification_threshold(1e-2, 1_559);
    let new = points(faces);
    assert!((new.identifies_at(Modality::Face) - f64::from(old.value())).abs() < 2e-3);
    assert!(new.fused_at().log10().is_infinite());
    // Two references of everything: eight combinations a person.
    let twice = GallerySize {
        subjects: 100,
        faces: 200,
        left_irises: 200,
        right_irises: 200,
    };
    assert!((points(twice).fused_at().log10() - (5.0 + 8_f64.log10())).abs() < 1e-9);
    for policy in ModalityPolicy::ALL {
        for size in [faces, size(0), size(10)] {
            let [face, left, right, fused] = shares(policy, size);
            let total = match policy {
                FaceOrIris => face + left + right + fused,
                FaceOnly => face,
                FaceAndIris | AnyTwoOfThree => fused,
            };
            assert!(total <= 1.0 + 1e-9 || size == GallerySize::default());
        }
    }
}

#[test]
fn a_nonsensical_policy_recognises_nobody_or_asks_for_real_evidence() {
    let calibration = FusionCalibration::default_pair();
    let with = |fpir_target: f64, fmr_target: f64, one: SubjectScores| {
        let policy = GatePolicy {
            fpir_target,
            fmr_target,
            ..policy(ModalityPolicy::FaceOrIris)
        };
        let points = OperatingPoints::new(&calibration, &policy, size(10));
        Evidence::new(vec![one], points).recognise()
    };
    let mate = scores(1, Some(0.8), Some(0.1), Some(0.1));
    let stranger = scores(1, Some(0.1), Some(0.45), Some(0.45));
    let nothing = scores(1, None, None, None);
    for rate in [f64::NAN, -1.0, 0.0] {
        assert!(!matches!(
            with(rate, rate, stranger),
            Recognition::Recognised(_)
        ));
    }
    assert_eq!(with(f64::NAN, 1e-4, mate), Recognition::Nobody);
    for rate in [1.0, 1e9, f64::INFINITY] {
        assert_eq!(with(rate, rate, nothing), Recognition::Nobody);
        assert!(!matches!(
            with(rate, rate, stranger),
            Recognition::Recognised(_)
        ));
    }
}

#[test]
fn policies_from_before_the_iris_still_read() {
    let old = r#"{"version":"1","purpose":"access","fpir_target":0.01,"fmr_target":0.0001,
        "pad":"advisory","unrecognised":"refer","rules":[]}"#;
    let policy: GatePolicy = serde_json::from_str(old).unwrap();
    assert_eq!(policy.modalities, ModalityPolicy::FaceOrIris);
    for policy in ModalityPolicy::ALL {
        assert_eq!(ModalityPolicy::from_code(policy.code()), Some(policy));
        assert_eq!(
            serde_json::to_string(&policy).unwrap(),
            format!("\"{}\"", policy.code())
        );
    }
}

#[test]
fn debug_output_shows_no_score() {
    let evidence = evidence_of(
        FaceOrIris,
        10,
        [scores(1, Some(0.7123), Some(0.1357), None)],
    );
    let shown = format!("{:?}", evidence.candidates()[0].scores);
    assert!(!shown.contains("0.7") && !shown.contains("0.13"), "{shown}");
    let shown = format!("{evidence:?}");
    assert!(
        !shown.contains("0.7123") && !shown.contains("0.1357"),
        "{shown}"
    );
}

prop_compose! {
    fn any_face()(score in -0.2_f32..1.0) -> f32 { score }
}

prop_compose! {
    fn any_iris()(score in 0.0_f32..0.5) -> f32 { score }
}

prop_compose! {
    /// Up to four people with any scores, complete or not.
    fn any_people()(
        people in proptest::collection::vec(
            (proptest::option::of(any_face()), proptest::option::of(any_iris()), proptest::option::of(any_iris())), 1..5,
        ),
        mates in proptest::collection::vec((0.26_f32..0.9, 0.0_f32..0.40, 0.0_f32..0.40), 0..2),
    ) -> Vec<SubjectScores> {
        let mates = mates.into_iter().map(|(face, left, right)| (Some(face), Some(left), Some(right)));
        mates.chain(people)
            .enumerate()
            .map(|(n, (face, left, right))| scores(u8::try_from(n).unwrap(), face, left, right))
            .collect()
    }
}

fn any_policy() -> impl Strategy<Value = ModalityPolicy> {
    proptest::sample::select(ModalityPolicy::ALL.to_vec())
}

fn without(modality: Modality, people: &[SubjectScores]) -> Vec<SubjectScores> {
    people
        .iter()
        .map(|one| {
            let mut one = *one;
            match modality {
                Modality::Face => one.face = None,
                Modality::IrisLeft => one.left = None,
                Modality::IrisRight => one.right = None,
            }
            one
        })
        .collect()
}

fn worth(one: &SubjectScores, modality: Modality) -> f64 {
    let calibration = FusionCalibration::default_pair();
    one.score(modality).map_or(0.0, |score| {
        calibration.of(modality).evidence(score).log10()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Adding a check that does not speak for a person never gets that person recognised, neither by weighing nor by
    /// ruling others out.
    #[test]
    fn a_failing_check_never_helps(
        people in any_people(),
        modality in proptest::sample::select(Modality::ALL.to_vec()),
        modalities in any_policy(),
    ) {
        if let Recognition::Recognised(who) = recognise(modalities, &people) {
            let one = people.iter().find(|one| one.subject == who).unwrap();
            let evidence = evidence_of(modalities, 1_000, people.iter().copied());
            let said = evidence.candidates().iter().find(|one| one.subject() == who).unwrap();
            prop_assert!(said.verdict(modality) != ModalityVerdict::Against);
            if worth(one, modality) <= 0.0 {
                prop_assert_eq!(
                    recognise(modalities, &without(modality, &people)),
                    Recognition::Recognised(who),
                    "the check was not needed"
                );
            }
        }
    }

    /// Leaving out a check that speaks only for the recognised person never gets anybody else recognised, and showing it
    /// again never takes the recognition away: hiding a good modality is of no use.
    #[test]
    fn a_missing_modality_never_helps(
        people in any_people(),
        modality in proptest::sample::select(Modality::ALL.to_vec()),
        modalities in any_policy(),
    ) {
        let fewer = without(modality, &people);
        if let Recognition::Recognised(who) = recognise(modalities, &fewer) {
            let one = people.iter().find(|one| one.subject == who).unwrap();
            let only = people
                .iter()
                .filter(|other| other.subject != who)
                .all(|other| worth(other, modality) <= 0.0);
            if only && worth(one, modality) > 0.0 {
                prop_assert_eq!(recognise(modalities, &people), Recognition::Recognised(who));
            }
            let before = one.fused(&FusionCalibration::default_pair()).log10();
            let after = fewer
                .iter()
                .find(|one| one.subject == who)
                .unwrap()
                .fused(&FusionCalibration::default_pair())
                .log10();
            prop_assert!((before - after - worth(one, modality)).abs() < 1e-9, "missing is worth nothing");
        }
    }

    /// A closer score in one modality never lowers a person's rank.
    #[test]
    fn the_rank_follows_every_score(
        people in any_people(),
        which in any::<prop::sample::Index>(),
        face in any_face(),
        iris in any_iris(),
        modality in proptest::sample::select(Modality::ALL.to_vec()),
    ) {
        let mut closer = people.clone();
        let at = which.index(people.len());
        let one = &mut closer[at];
        let iris = |old: Option<IrisComparison>| {
            old.map(|old| {
                let old = old.dissimilarity().unwrap();
                IrisComparison::Compared(old.min(IrisDissimilarity::new(iris).unwrap()))
            })
        };
        match modality {
            Modality::Face => {
                if let Some(old) = one.face {
                    one.face = Some(FaceSimilarity::new(old.value().max(face)).unwrap());
                }
            }
            Modality::IrisLeft => one.left = iris(one.left),
            Modality::IrisRight => one.right = iris(one.right),
        }
        let who = people[at].subject;
        let rank = |people: &[SubjectScores]| {
            let evidence = evidence_of(FaceOrIris, 10, people.iter().copied());
            evidence.candidates().iter().position(|one| one.subject() == who)
        };
        prop_assert!(rank(&closer) <= rank(&people));
    }

    /// The order in which candidates arrive changes nothing.
    #[test]
    fn the_order_does_not_matter(people in any_people(), modalities in any_policy()) {
        let mut reversed = people.clone();
        reversed.reverse();
        prop_assert_eq!(recognise(modalities, &people), recognise(modalities, &reversed));
    }

    /// A stranger added to the candidates never gets anybody recognised.
    #[test]
    fn more_candidates_never_help(people in any_people(), modalities in any_policy()) {
        let fewer = &people[..people.len() - 1];
        if let Recognition::Recognised(who) = recognise(modalities, &people)
            && fewer.iter().any(|one| one.subject == who)
        {
            prop_assert_eq!(recognise(modalities, fewer), Recognition::Recognised(who));
        }
    }
}
