//! Fusion beside its parts on simulated scores: does it do better, and does it keep its promise about strangers?
//!
//! The scores follow the measured moments (biometrics.md F.6 and I.3), so this tests the rules and the arithmetic, not
//! cameras, models or people.

use super::tests::{person, policy, size};
use super::*;
use crate::IrisDissimilarity;

/// Enrolled people.
const PEOPLE: u8 = 250;
/// Passages of enrolled people, and as many of strangers.
const PASSAGES: usize = 400;

/// Normal numbers that depend on the seed only.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean and standard deviation (Box and Muller).
    fn draw(&mut self, mean: f64, deviation: f64) -> f64 {
        let radius = (-2.0 * self.uniform().max(1e-300).ln()).sqrt();
        mean + deviation * radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn scores(&mut self, n: u8, mated: bool) -> SubjectScores {
        let (face, iris) = if mated {
            ((0.678, 0.124), (0.17, 0.10))
        } else {
            ((0.005, 0.096), (0.447, 0.022))
        };
        let face = self.draw(face.0, face.1).clamp(-1.0, 1.0) as f32;
        let mut iris = || {
            let score = self.draw(iris.0, iris.1).clamp(0.0, 1.0) as f32;
            Some(IrisComparison::Compared(
                IrisDissimilarity::new(score).unwrap(),
            ))
        };
        SubjectScores {
            subject: person(n),
            left: iris(),
            right: iris(),
            face: Some(FaceSimilarity::new(face).unwrap()),
        }
    }
}

fn shown(one: &SubjectScores, face: bool, irises: u8) -> SubjectScores {
    SubjectScores {
        face: one.face.filter(|_| face),
        left: one.left.filter(|_| irises >= 1),
        right: one.right.filter(|_| irises >= 2),
        ..*one
    }
}

/// Enrolled people who were not recognised, enrolled people taken for somebody else, strangers who were recognised.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Errors {
    missed: usize,
    confused: usize,
    strangers: usize,
}

#[test]
fn fused_evidence_misses_fewer_people_than_its_best_part_and_lets_no_more_strangers_in() {
    let calibration = FusionCalibration::default_pair();
    let ways = [
        (ModalityPolicy::FaceOnly, true, 0),
        (ModalityPolicy::FaceOrIris, false, 1),
        (ModalityPolicy::FaceOrIris, true, 1),
        (ModalityPolicy::FaceOrIris, true, 2),
        (ModalityPolicy::FaceAndIris, true, 2),
        (ModalityPolicy::AnyTwoOfThree, true, 2),
    ];
    let mut errors = [Errors::default(); 6];
    let mut random = Normal(0x5eed);
    for passage in 0..2 * PASSAGES {
        let enrolled = passage < PASSAGES;
        let who = (passage % usize::from(PEOPLE)) as u8;
        let given: Vec<SubjectScores> = (0..PEOPLE)
            .map(|n| random.scores(n, enrolled && n == who))
            .collect();
        for ((modalities, face, irises), errors) in ways.iter().zip(&mut errors) {
            let gate = GatePolicy {
                fpir_target: 1e-3,
                ..policy(*modalities)
            };
            let points = OperatingPoints::new(&calibration, &gate, size(usize::from(PEOPLE)));
            let given = given.iter().map(|one| shown(one, *face, *irises)).collect();
            match Evidence::new(given, points).recognise() {
                Recognition::Recognised(_) if !enrolled => errors.strangers += 1,
                Recognition::Recognised(found) => {
                    errors.confused += usize::from(found != person(who));
                }
                Recognition::Nobody | Recognition::Doubtful(..) => {
                    errors.missed += usize::from(enrolled);
                }
            }
        }
    }
    let [face, iris, face_iris, all, both, two] = errors;
    let told = format!(
        "{PASSAGES} enrolled, {PASSAGES} strangers, N = {PEOPLE}: face {face:?}, one iris {iris:?}, face or one iris \
         {face_iris:?}, face or irises {all:?}, face and iris {both:?}, two of three {two:?}"
    );
    println!("{told}");
    let best = face.missed.min(iris.missed);
    assert!(face_iris.missed < best && all.missed < best, "{told}");
    assert!(both.missed < best && two.missed < best, "{told}");
    // 0.1 % of 400 strangers is fewer than one; three would be a chance of one in 120 (Poisson).
    for errors in errors {
        assert!(errors.confused == 0 && errors.strangers <= 2, "{told}");
    }
}
