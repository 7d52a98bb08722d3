use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::iris::IRIS_RINGS;
use crate::{
    FaceSimilarity, FusionCalibration, GallerySize, GatePolicy, ModalityPolicy, ModelDigest,
    OperatingPoints, PadPolicy, Purpose, SubjectScores, UnrecognisedPolicy,
};

const ENCODER: ModelDigest = ModelDigest::from_bytes([5; 32]);

/// Numbers that depend on the seed only (xorshift).
fn random(seed: u64) -> impl FnMut() -> u128 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut word = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u128::from(state.wrapping_mul(0x2545_f491_4f6c_dd1d))
    };
    move || word() << 64 | word()
}

/// The first 4,096 bits of an iris, of which so many are turned over: each adds 1 / 4,096 to the score.
fn sample(iris: u64, eye: Eye, flipped: u32, quality: u8) -> IrisTemplate {
    let mut bits = random(iris);
    let mut code: [u128; IRIS_RINGS] = std::array::from_fn(|_| bits());
    let mask = std::array::from_fn(|ring| if ring < 32 { u128::MAX } else { 0 });
    for bit in 0..flipped {
        code[bit as usize / 128] ^= 1 << (bit % 128);
    }
    IrisTemplate::new(ENCODER, eye, quality, 400, code, mask).unwrap()
}

/// A sample at this score from the unchanged one.
fn at(score: f64, iris: u64, eye: Eye) -> IrisTemplate {
    sample(iris, eye, (score * 4_096.0).round() as u32, 80)
}

fn choose(samples: &[IrisTemplate], needed: usize) -> Result<Vec<usize>, Vec<IrisEnrolmentDefect>> {
    choose_iris_references(&samples.iter().collect::<Vec<_>>(), needed)
}

#[test]
fn three_that_are_closest_together_are_kept_of_each_eye() {
    use Eye::{Left, Right};
    let samples = [
        at(0.27, 1, Left),
        at(0.0, 2, Right),
        at(0.10, 1, Left),
        at(0.0, 1, Left),
        at(0.05, 1, Left),
        at(0.1, 2, Right),
        at(0.2, 2, Right),
    ];
    assert_eq!(choose(&samples, 3), Ok(vec![1, 2, 3, 4, 5, 6]));
    // One eye alone may be enrolled, and nothing at all is nothing.
    assert_eq!(choose(&samples[2..5], 3), Ok(vec![0, 1, 2]));
    assert_eq!(choose(&[], 3), Ok(vec![]));
}

#[test]
fn of_equals_the_better_quality_is_kept() {
    let equal: Vec<_> = [50, 90, 70, 80]
        .into_iter()
        .map(|quality| sample(1, Eye::Left, 0, quality))
        .collect();
    assert_eq!(choose(&equal, 3), Ok(vec![1, 2, 3]));
}

#[test]
fn a_sample_of_another_eye_is_a_stray() {
    let samples = [
        at(0.0, 1, Eye::Left),
        at(0.05, 1, Eye::Left),
        at(0.1, 1, Eye::Left),
        at(0.0, 7, Eye::Left),
    ];
    let defects = choose(&samples, 1).unwrap_err();
    let stray = |a| IrisEnrolmentDefect::Stray {
        eye: Eye::Left,
        samples: (a, 3),
    };
    assert_eq!(defects, [stray(0), stray(1), stray(2)]);
}

#[test]
fn samples_that_barely_agree_are_too_few() {
    // Each is within 0.36 of the other, and not within 0.28.
    let samples = [at(0.0, 1, Eye::Right), at(0.3, 1, Eye::Right)];
    let few = |needed| {
        Err(vec![IrisEnrolmentDefect::TooFewAgree {
            eye: Eye::Right,
            agree: 1,
            needed,
        }])
    };
    assert_eq!(choose(&samples, 3), few(3));
    assert_eq!(choose(&samples, 2), few(2));
    assert_eq!(
        choose(&samples, 1).map(|kept| kept.len()),
        Ok(1),
        "an import of single pictures"
    );
    let nine: Vec<_> = (0..9).map(|_| at(0.0, 1, Eye::Left)).collect();
    assert_eq!(
        choose(&nine, 1),
        Err(vec![IrisEnrolmentDefect::TooMany { eye: Eye::Left }])
    );
}

#[test]
fn one_eye_under_both_names_is_found() {
    let limit = f64::from(SAME_IRIS_WITHIN);
    let pair = |score| [at(0.0, 1, Eye::Left), at(score, 1, Eye::Right)];
    let same = Err(vec![IrisEnrolmentDefect::SameEyeUnderBothNames {
        left: 0,
        right: 1,
    }]);
    assert_eq!(choose(&pair(0.0), 1), same);
    assert_eq!(choose(&pair(limit - 0.005), 1), same);
    assert_eq!(choose(&pair(limit + 0.005), 1), Ok(vec![0, 1]));
    // Turned as a tilted head does.
    let mut turned = pair(0.05);
    turned[1] = turned[1].rotated(5);
    assert_eq!(choose(&turned, 1), same);
}

#[test]
fn other_encoders_are_refused() {
    let a = at(0.0, 1, Eye::Left);
    let other = ModelDigest::from_bytes([6; 32]);
    let b = IrisTemplate::new(other, Eye::Left, 80, 400, *a.code(), *a.mask()).unwrap();
    assert_eq!(
        choose(&[a, b], 1),
        Err(vec![IrisEnrolmentDefect::OtherEncoder { sample: 1 }])
    );
}

#[test]
fn the_other_name_is_only_another_name() {
    let left = at(0.0, 1, Eye::Left);
    let right = left.under_other_name();
    assert_eq!(right.eye(), Eye::Right);
    assert_eq!(
        (right.code(), right.mask(), right.quality()),
        (left.code(), left.mask(), left.quality())
    );
    assert_eq!(right.under_other_name(), left);
}

#[test]
fn whoever_may_be_the_same_person_is_named() {
    let person = |n: u8| SubjectId::from_uuid(Uuid::from_bytes([n; 16]));
    let scores = |n, face: f32, left: f32| SubjectScores {
        face: Some(FaceSimilarity::new(face).unwrap()),
        left: Some(IrisComparison::Compared(
            IrisDissimilarity::new(left).unwrap(),
        )),
        ..SubjectScores::none(person(n))
    };
    let policy = GatePolicy {
        version: "test".into(),
        purpose: Purpose::Access,
        fpir_target: 1e-4,
        fmr_target: 1e-4,
        pad: PadPolicy::Required,
        modalities: ModalityPolicy::FaceOrIris,
        unrecognised: UnrecognisedPolicy::Refer,
        rules: Vec::new(),
    };
    let size = GallerySize {
        subjects: 1_000,
        faces: 1_000,
        left_irises: 1_000,
        right_irises: 0,
    };
    let points = OperatingPoints::new(&FusionCalibration::default_pair(), &policy, size);
    let evidence = Evidence::new(
        vec![
            scores(1, 0.9, 0.05),
            // The face alone, the iris against: a double of the face, for a person to look at.
            scores(2, 0.8, 0.45),
            // An iris that no gate would accept among a thousand, the face against.
            scores(3, 0.0, 0.315),
            scores(4, 0.2, 0.33),
            scores(9, 0.95, 0.0),
        ],
        points,
    );
    let mut named = possible_duplicates(&evidence, person(9));
    named.sort();
    assert_eq!(named, [person(1), person(2), person(3)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is kept agrees and is at most three of each eye; whether anything is does not depend on the order.
    #[test]
    fn what_is_kept_agrees(
        offered in proptest::collection::vec((0.0_f64..0.5, any::<bool>(), 1_u8..100), 0..8),
        needed in 0_usize..5,
    ) {
        let samples: Vec<_> = offered
            .iter()
            .map(|(score, right, quality)| {
                let (iris, eye) = if *right { (3, Eye::Right) } else { (1, Eye::Left) };
                sample(iris, eye, (score * 4_096.0) as u32, *quality)
            })
            .collect();
        let chosen = choose(&samples, needed);
        if let Ok(kept) = &chosen {
            for eye in Eye::BOTH {
                let of_eye: Vec<_> = kept.iter().map(|at| &samples[*at]).filter(|one| one.eye() == eye).collect();
                prop_assert!(of_eye.len() <= IRIS_REFERENCES_KEPT);
                let any = samples.iter().any(|one| one.eye() == eye);
                prop_assert!(!any || of_eye.len() >= needed.clamp(1, 3));
                for a in &of_eye {
                    for b in &of_eye {
                        prop_assert!(within(score(a, b), IRIS_REFERENCES_WITHIN) || a == b);
                    }
                }
            }
        }
        let mut reversed = samples.clone();
        reversed.reverse();
        prop_assert_eq!(chosen.is_ok(), choose(&reversed, needed).is_ok());
    }
}
