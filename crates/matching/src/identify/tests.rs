use proptest::prelude::*;
use sallyport_domain::iris::{IRIS_RINGS, compare};
use sallyport_domain::{Evidence, GatePolicy, ModalityPolicy, OperatingPoints, Recognition};
use sallyport_domain::{PadPolicy, Purpose, ReferenceId, SubjectId, UnrecognisedPolicy};
use uuid::Uuid;

use super::*;

const FACE_MODEL: ModelDigest = ModelDigest::from_bytes([1; 32]);
const ENCODER: ModelDigest = ModelDigest::from_bytes([2; 32]);

/// Numbers that depend on the seed only (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In [-0.5, 0.5).
    fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    }

    fn ring(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

/// A face of this person: a fixed direction and, by `noise`, one's own.
fn face(person: u64, sample: u64, noise: f32) -> Template {
    let (mut own, mut other) = (
        Random::new(person),
        Random::new(person * 1_000 + sample + 7),
    );
    let values = (0..512)
        .map(|_| own.number() + noise * other.number())
        .collect();
    FaceTemplate::normalise(values).unwrap().into()
}

/// An iris of this person's eye, with one bit in `2^flips` turned over and part of the mask gone.
fn iris(person: u64, eye: Eye, sample: u64, flips: u32, encoder: ModelDigest) -> IrisTemplate {
    let side = if eye == Eye::Left { 0 } else { 1 << 40 };
    let mut own = Random::new(person + side + 1);
    let mut other = Random::new(person * 1_000 + sample + side + 11);
    let mut code = [0; IRIS_RINGS];
    let mut mask = [0; IRIS_RINGS];
    for (code, mask) in code.iter_mut().zip(&mut mask) {
        let noise = (0..flips).fold(u128::MAX, |noise, _| noise & other.ring());
        *code = own.ring() ^ noise;
        *mask = other.ring() | other.ring();
    }
    IrisTemplate::new(encoder, eye, 80, 400, code, mask).unwrap()
}

fn subject(n: u64) -> SubjectId {
    SubjectId::from_uuid(Uuid::from_u128(u128::from(n)))
}

/// What is enrolled, beside the gallery, for comparing by brute force.
#[derive(Default)]
struct Enrolled {
    gallery: Gallery,
    rows: Vec<(ReferenceId, u64, Template)>,
}

impl Enrolled {
    fn with_threads(threads: usize) -> Self {
        Self {
            gallery: Gallery::with_threads(threads),
            rows: Vec::new(),
        }
    }

    fn add(&mut self, person: u64, template: Template) {
        let number = self.rows.len() as u128 + 1;
        let reference = ReferenceId::from_uuid(Uuid::from_u128(number << 64));
        let _ = self
            .gallery
            .insert(FACE_MODEL, reference, subject(person), &template);
        self.rows.push((reference, person, template));
    }

    fn add_person(&mut self, person: u64, samples: u64) {
        for sample in 0..samples {
            self.add(person, face(person, sample, 0.5));
            for eye in Eye::BOTH {
                self.add(person, iris(person, eye, sample, 4, ENCODER).into());
            }
        }
    }

    fn remove(&mut self, at: usize) {
        let (reference, ..) = self.rows.remove(at);
        assert!(self.gallery.remove(reference));
    }

    /// Every score by the plain functions of the domain.
    fn brute(&self, probes: &[Template], rotation: IrisRotation) -> Vec<SubjectScores> {
        let mut all = Vec::new();
        for (_, person, reference) in &self.rows {
            for probe in probes {
                let mut one = SubjectScores::none(subject(*person));
                match (probe, reference) {
                    (Template::Face(a), Template::Face(b)) => one.face = Some(a.similarity(b)),
                    (Template::Iris(a), Template::Iris(b)) => {
                        let Ok(compared) = compare(a, b, rotation) else {
                            continue;
                        };
                        match a.eye() {
                            Eye::Left => one.left = Some(compared),
                            Eye::Right => one.right = Some(compared),
                        }
                    }
                    (Template::Face(_), Template::Iris(_))
                    | (Template::Iris(_), Template::Face(_)) => continue,
                }
                all.push(one);
            }
        }
        all
    }
}

fn captured(probes: &[Template]) -> Captured<'_> {
    probes
        .iter()
        .fold(Captured::new(), |all, one| all.with(FACE_MODEL, one))
}

fn points(size: GallerySize) -> OperatingPoints {
    let policy = GatePolicy {
        version: "test".into(),
        purpose: Purpose::Access,
        fpir_target: 1e-2,
        fmr_target: 1e-4,
        pad: PadPolicy::Required,
        modalities: ModalityPolicy::FaceOrIris,
        unrecognised: UnrecognisedPolicy::Refer,
        rules: Vec::new(),
    };
    OperatingPoints::new(&FusionCalibration::default_pair(), &policy, size)
}

fn found(identification: Identification) -> (Vec<SubjectScores>, GallerySize) {
    match identification {
        Identification::Found { scores, size } => (scores, size),
        Identification::OtherModel(modality) => panic!("{modality:?} has references"),
    }
}

fn identify(enrolled: &Enrolled, probes: &[Template], k: usize) -> (Evidence, GallerySize) {
    let calibration = FusionCalibration::default_pair();
    let (scores, size) = found(enrolled.gallery.identify(
        &captured(probes),
        &calibration,
        IrisRotation::Normal,
        k,
    ));
    (Evidence::new(scores, points(size)), size)
}

/// Ranks and scores are those of comparing with everybody by hand, as far as `k` goes.
fn same_as_brute_force(enrolled: &Enrolled, probes: &[Template], k: usize) {
    let (evidence, size) = identify(enrolled, probes, k);
    let brute = Evidence::new(enrolled.brute(probes, IrisRotation::Normal), points(size));
    for (got, expected) in evidence.candidates().iter().zip(brute.candidates()).take(k) {
        assert_eq!(got.subject(), expected.subject());
        assert_eq!(
            (got.scores.left, got.scores.right),
            (expected.scores.left, expected.scores.right),
            "to the last bit"
        );
        let near = |a: Option<FaceSimilarity>, b: Option<FaceSimilarity>| match (a, b) {
            (Some(a), Some(b)) => (a.value() - b.value()).abs() < 1e-5,
            (a, b) => a == b,
        };
        assert!(near(got.scores.face, expected.scores.face));
        assert!((got.fused.log10() - expected.fused.log10()).abs() < 1e-3);
    }
    let wanted = k.min(brute.candidates().len());
    assert!(evidence.candidates().len() >= wanted);
    // The best of each modality are there too.
    for modality in Modality::ALL {
        let best = |evidence: &Evidence| {
            let scores = evidence.candidates().iter();
            let closeness = scores.filter_map(|one| {
                let score = one.scores.score(modality)?;
                Some(if modality == Modality::Face {
                    score
                } else {
                    -score
                })
            });
            closeness.fold(f64::NEG_INFINITY, f64::max)
        };
        let (got, expected) = (best(&evidence), best(&brute));
        assert!(got == expected || (got - expected).abs() < 1e-5);
    }
}

fn probes_of(person: u64, flips: u32, noise: f32) -> Vec<Template> {
    vec![
        face(person, 500, noise),
        iris(person, Eye::Left, 500, flips, ENCODER)
            .rotated(3)
            .into(),
        iris(person, Eye::Right, 500, flips, ENCODER)
            .rotated(125)
            .into(),
    ]
}

#[test]
fn a_planted_mate_is_found_among_many_on_any_number_of_threads() {
    for threads in [1, 3] {
        let mut enrolled = Enrolled::with_threads(threads);
        for person in 0..700 {
            enrolled.add_person(person, 1);
        }
        enrolled.add_person(700, 3);
        for person in [0, 350, 700] {
            let probes = probes_of(person, 3, 0.6);
            let (evidence, size) = identify(&enrolled, &probes, 4);
            assert_eq!(
                evidence.recognise(),
                Recognition::Recognised(subject(person))
            );
            assert_eq!(
                size,
                GallerySize {
                    subjects: 701,
                    faces: 703,
                    left_irises: 703,
                    right_irises: 703
                }
            );
            same_as_brute_force(&enrolled, &probes, 4);
        }
        let (stranger, _) = identify(&enrolled, &probes_of(9_999, 3, 0.6), 4);
        assert_eq!(stranger.recognise(), Recognition::Nobody);
    }
}

/// Fused ranking is over everybody: whoever is first in nothing alone is found.
#[test]
fn nobody_is_missed_by_a_shortlist() {
    let mut enrolled = Enrolled::default();
    enrolled.add_person(1, 1);
    // A hundred doubles of the face and a hundred of each iris, all closer than the person in that one modality.
    for double in 0..100_u64 {
        enrolled.add(1_000 + double, face(1, double, 0.2));
        for (at, eye) in Eye::BOTH.into_iter().enumerate() {
            let other = 2_000 + 1_000 * at as u64 + double;
            let mut near = iris(1, eye, double, 6, ENCODER);
            near = near.rotated(0);
            enrolled.add(other, near.into());
        }
    }
    let probes = probes_of(1, 4, 0.5);
    let (evidence, _) = identify(&enrolled, &probes, 5);
    assert_eq!(evidence.candidates()[0].subject(), subject(1));
    same_as_brute_force(&enrolled, &probes, 5);
}

#[test]
fn references_of_other_models_are_never_compared() {
    let mut enrolled = Enrolled::default();
    enrolled.add_person(1, 1);
    let calibration = FusionCalibration::default_pair();
    let ask = |captured: &Captured<'_>| {
        enrolled
            .gallery
            .identify(captured, &calibration, IrisRotation::Normal, 3)
    };
    let other = ModelDigest::from_bytes([9; 32]);
    let face = face(1, 0, 0.0);
    assert_eq!(
        ask(&Captured::new().with(other, &face)),
        Identification::OtherModel(Modality::Face)
    );
    for eye in Eye::BOTH {
        let foreign: Template = iris(1, eye, 0, 9, other).into();
        assert_eq!(
            ask(&Captured::new()
                .with(FACE_MODEL, &face)
                .with(other, &foreign)),
            Identification::OtherModel(eye.modality())
        );
    }
    let (scores, size) = found(ask(&Captured::new()));
    assert!(scores.is_empty());
    assert_eq!(
        (size.subjects, size.faces, size.left_irises),
        (1, 1, 1),
        "what was not captured still counts for the thresholds"
    );
}

#[test]
fn a_modality_that_nobody_enrolled_is_not_compared() {
    let mut enrolled = Enrolled::default();
    enrolled.add(1, face(1, 0, 0.3));
    let (evidence, size) = identify(&enrolled, &probes_of(1, 3, 0.3), 3);
    assert_eq!(evidence.recognise(), Recognition::Recognised(subject(1)));
    assert_eq!((size.left_irises, size.right_irises), (0, 0));
    let empty = Enrolled::default();
    let (evidence, size) = identify(&empty, &probes_of(1, 3, 0.3), 3);
    assert_eq!(
        (evidence.recognise(), size),
        (Recognition::Nobody, GallerySize::default())
    );
}

#[test]
fn too_few_common_bits_are_said_and_another_reference_may_have_enough() {
    let half = |upper: bool| {
        let template = iris(1, Eye::Left, 0, 9, ENCODER);
        let mask = std::array::from_fn(|ring| if (ring < 32) == upper { u128::MAX } else { 0 });
        IrisTemplate::new(ENCODER, Eye::Left, 80, 400, *template.code(), mask).unwrap()
    };
    let mut enrolled = Enrolled::default();
    enrolled.add(1, half(false).into());
    let probes = [half(true).into()];
    let (evidence, _) = identify(&enrolled, &probes, 3);
    assert_eq!(
        evidence.candidates()[0].scores.left,
        Some(IrisComparison::TooFewBits)
    );
    assert_eq!(evidence.recognise(), Recognition::Nobody);
    enrolled.add(1, half(true).into());
    let (evidence, _) = identify(&enrolled, &probes, 3);
    assert!(matches!(
        evidence.candidates()[0].scores.left,
        Some(IrisComparison::Compared(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any enrolments, removals and captures: the same as comparing with everybody by hand.
    #[test]
    fn identification_is_exact(
        rows in proptest::collection::vec((0_u64..9, 0_u8..3, 0_u64..4), 1..40),
        removed in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        person in 0_u64..12,
        shown in 1_u8..8,
        k in 1_usize..6,
    ) {
        let mut enrolled = Enrolled::default();
        for (person, what, sample) in rows {
            enrolled.add(person, match what {
                0 => face(person, sample, 0.7),
                1 => iris(person, Eye::Left, sample, 2, ENCODER).into(),
                _ => iris(person, Eye::Right, sample, 2, ENCODER).into(),
            });
        }
        // One reference of each modality stays, so that no model disappears.
        for what in [face(20, 0, 0.7), iris(20, Eye::Left, 0, 2, ENCODER).into(), iris(20, Eye::Right, 0, 2, ENCODER).into()] {
            enrolled.add(20, what);
        }
        for at in removed {
            let removable = enrolled.rows.len() - 3;
            if removable > 0 {
                enrolled.remove(at.index(removable));
            }
        }
        let probes: Vec<_> = probes_of(person, 2, 0.8)
            .into_iter()
            .enumerate()
            .filter(|(at, _)| shown & (1 << at) != 0)
            .map(|(_, probe)| probe)
            .collect();
        same_as_brute_force(&enrolled, &probes, k);
        let people: std::collections::BTreeSet<_> = enrolled.rows.iter().map(|row| row.1).collect();
        prop_assert_eq!(enrolled.gallery.people(), people.len());
        prop_assert_eq!(enrolled.gallery.len(), enrolled.rows.len());
        for person in people {
            let count = enrolled.rows.iter().filter(|row| row.1 == person).count();
            prop_assert_eq!(enrolled.gallery.remove_subject(subject(person)), count);
        }
        prop_assert!(enrolled.gallery.is_empty() && enrolled.gallery.people() == 0);
    }
}
