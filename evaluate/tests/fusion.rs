//! Fusion beside its parts on captures: the permitted face pictures with drawn irises, both worse than any gate accepts.
//!
//! Every face of the fixture pictures gets the drawn irises of one fictional person (a chimera). The probe is the same face
//! small, blurred and noisy, and both eyes drawn anew under hard conditions and blurred as well, so that each modality alone
//! errs. Only five of the faces have another picture of the same person, so most mated face pairs are one picture before and
//! after its degradation: the rates say whether adding evidence helps, never how accurate a gate is.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use rand::{Rng as _, SeedableRng as _};
use sallyport_domain::{
    Eye, FaceTemplate, FusionCalibration, IrisComparison, IrisRotation, IrisTemplate, Modality,
    SubjectId, SubjectScores, Timestamp, iris,
};
use sallyport_evaluate::scores::{ErrorRates, error_rates};
use sallyport_render::{ChaCha8Rng, Identity, Look, Style, render};
use sallyport_vision::{
    BoundingBox, EyePrior, FacePipeline, Frame, IrisPipeline, IrisQualityPolicy, ModelManifest,
    Provider, QualityPolicy, RadiusRange, Runtime, alone, blurred,
};

/// Probes of each person.
const PROBES: u64 = 3;
const EYE: (usize, usize) = (320, 240);
/// Two fixture faces at least this similar show the same person (biometrics.md F.9).
const SAME_PERSON: f32 = 0.55;
const PICTURES: [&str; 11] = [
    "obama.jpg",
    "obama2.jpg",
    "obama3.jpg",
    "biden.jpg",
    "astronaut.png",
    "sample1.jpg",
    "sample2.jpg",
    "sample3.jpg",
    "sample4.jpg",
    "sample5.jpg",
    "sample6.jpg",
];

struct Person {
    /// Faces of one number show the same person.
    number: usize,
    face: FaceTemplate,
    irises: [IrisTemplate; 2],
}

struct Probe {
    of: usize,
    face: Option<FaceTemplate>,
    irises: [Option<IrisTemplate>; 2],
}

struct Models {
    faces: FacePipeline,
    eyes: IrisPipeline,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn models() -> Models {
    let cache = root().join(".cache");
    let runtime = Runtime::load(&cache.join("lib/libonnxruntime.so"), Provider::Cpu, 2).unwrap();
    let manifest = ModelManifest::load(&root().join("models/manifest.toml")).unwrap();
    let folder = cache.join("models");
    Models {
        faces: FacePipeline::new(&runtime, &manifest, &folder, QualityPolicy::gate()).unwrap(),
        eyes: IrisPipeline::new(&runtime, &manifest, &folder, IrisQualityPolicy::default())
            .unwrap(),
    }
}

/// The frame with uniform noise of the given standard deviation in grey values.
fn noisy(frame: &Frame, strength: f32, rng: &mut ChaCha8Rng) -> Frame {
    let mut bytes = frame.bgr().unwrap();
    for pixel in bytes.chunks_exact_mut(3) {
        let noise = strength * rng.random_range(-1.73..1.73_f32);
        for value in pixel {
            *value = (f32::from(*value) + noise).clamp(0.0, 255.0) as u8;
        }
    }
    let side = |length: i32| u32::try_from(length).unwrap();
    let (width, height) = (side(frame.width()), side(frame.height()));
    Frame::from_bgr("test", Timestamp::from_micros(0), width, height, &bytes).unwrap()
}

/// One eye of a fictional person, drawn; `spread` 1 is an ordinary capture.
fn eye(
    models: &mut Models,
    which: Eye,
    person: usize,
    spread: f32,
    blur_px: f64,
    rng: &mut ChaCha8Rng,
) -> Option<IrisTemplate> {
    let side = u64::from(which == Eye::Right);
    let identity = Identity::from_seed(0xf05e_0000 + 2 * person as u64 + side);
    let style = Style::Gate { spread };
    let look = Look::draw(&identity, style, EYE, false, rng);
    let drawn = render(&identity, &look, EYE, rng.random());
    let bgr: Vec<u8> = drawn.grey.iter().flat_map(|value| [*value; 3]).collect();
    let at = Timestamp::from_micros(0);
    let frame = Frame::from_bgr("test", at, EYE.0 as u32, EYE.1 as u32, &bgr).unwrap();
    let frame = if blur_px > 0.0 {
        noisy(&blurred(&frame, blur_px).unwrap(), 6.0, rng)
    } else {
        frame
    };
    let radius = RadiusRange::new(0.8 * look.radius_px, 1.25 * look.radius_px);
    let seen = models
        .eyes
        .analyse(&frame, &EyePrior::with_radius(which, radius))
        .unwrap();
    models.eyes.encode_ungated(&[&seen]).unwrap().remove(0)
}

fn captures(models: &mut Models) -> (Vec<Person>, Vec<Probe>) {
    let mut rng = ChaCha8Rng::seed_from_u64(0xf05e);
    let (mut people, mut probes): (Vec<Person>, Vec<Probe>) = (Vec::new(), Vec::new());
    for name in PICTURES {
        let file = std::fs::read(root().join(".cache/fixtures").join(name)).unwrap();
        let picture = Frame::decode("test", Timestamp::from_micros(0), &file).unwrap();
        let found = models.faces.analyse(&picture).unwrap().faces;
        let boxes: Vec<BoundingBox> = found.iter().map(|one| one.face).collect();
        for (index, seen) in found.iter().enumerate() {
            let face = models.faces.embed_for_enrolment(&picture, seen).unwrap();
            let known = people
                .iter()
                .find(|person| person.face.similarity(&face).value() > SAME_PERSON)
                .map(|person| person.number);
            let number = known.unwrap_or(people.len());
            // The irises of one person are enrolled once, with the first of the pictures.
            let first = people.iter().find(|person| person.number == number);
            let irises = first.map(|person| person.irises.clone());
            let irises = irises.unwrap_or_else(|| {
                [Eye::Left, Eye::Right].map(|which| {
                    eye(models, which, number, 1.0, 0.0, &mut rng).expect("an ordinary drawn eye")
                })
            });
            for _ in 0..PROBES {
                let small = alone(&picture, &boxes, index, (320, 240), 72.0).unwrap();
                let small = noisy(&blurred(&small, 1.1).unwrap(), 4.0, &mut rng);
                let seen = models.faces.analyse(&small).unwrap().faces;
                let probe = seen
                    .first()
                    .map(|one| models.faces.embed(&small, one).unwrap());
                let irises = [Eye::Left, Eye::Right]
                    .map(|which| eye(models, which, number, 3.0, 7.5, &mut rng));
                probes.push(Probe {
                    of: number,
                    face: probe,
                    irises,
                });
            }
            people.push(Person {
                number,
                face,
                irises,
            });
        }
    }
    (people, probes)
}

fn compared(probe: Option<&IrisTemplate>, reference: &IrisTemplate) -> Option<IrisComparison> {
    probe.map(|probe| iris::compare(probe, reference, IrisRotation::default()).unwrap())
}

/// Scores of one way to compare, as dissimilarities.
#[derive(Default)]
struct Scores {
    mated: Vec<Option<f32>>,
    other: Vec<Option<f32>>,
}

impl Scores {
    fn rates(&self) -> ErrorRates {
        error_rates(&self.mated, &self.other).unwrap()
    }
}

#[test]
fn face_and_irises_together_err_less_than_the_better_of_them() {
    let mut models = models();
    let (people, probes) = captures(&mut models);
    let calibration = FusionCalibration::default_pair();
    let subject = SubjectId::new(Timestamp::from_micros(0), [1; 10]);
    let mut ways: [Scores; 7] = Default::default();
    for probe in &probes {
        for person in &people {
            let [left, right] = &probe.irises;
            let scores = SubjectScores {
                face: probe
                    .face
                    .as_ref()
                    .map(|face| face.similarity(&person.face)),
                left: compared(left.as_ref(), &person.irises[0]),
                right: compared(right.as_ref(), &person.irises[1]),
                ..SubjectScores::none(subject)
            };
            let only = |face: bool, left: bool, right: bool| SubjectScores {
                face: scores.face.filter(|_| face),
                left: scores.left.filter(|_| left),
                right: scores.right.filter(|_| right),
                ..scores
            };
            // Likelihood ratios lie within some tens; any falling line makes dissimilarities of them.
            let fused = |scores: SubjectScores| {
                let shown = Modality::ALL.iter().any(|one| scores.score(*one).is_some());
                shown.then(|| 0.5 - scores.fused(&calibration).log10() as f32 / 200.0)
            };
            let iris = |which| scores.score(which).map(|score| score as f32);
            let all = [
                scores
                    .score(Modality::Face)
                    .map(|score| (1.0 - score as f32) / 2.0),
                iris(Modality::IrisLeft),
                iris(Modality::IrisRight),
                fused(only(false, true, true)),
                fused(only(true, true, false)),
                fused(only(true, false, true)),
                fused(scores),
            ];
            for (way, score) in ways.iter_mut().zip(all) {
                if person.number == probe.of {
                    way.mated.push(score);
                } else {
                    way.other.push(score);
                }
            }
        }
    }
    let rates: Vec<ErrorRates> = ways.iter().map(Scores::rates).collect();
    let names = [
        "face",
        "left iris",
        "right iris",
        "both irises",
        "face and left iris",
        "face and right iris",
        "face and both irises",
    ];
    for (name, rates) in names.iter().zip(&rates) {
        let at = &rates.points[0];
        println!(
            "{name}: EER {:.2} %, FNMR {:.2} % at FMR 1e-2; {} mated and {} non-mated pairs, {} and {} not compared",
            100.0 * rates.eer,
            100.0 * at.fnmr,
            rates.mated_pairs,
            rates.non_mated_pairs,
            rates.mated_not_compared,
            rates.non_mated_not_compared
        );
    }
    let [face, left, right, irises, with_left, with_right, all] = &rates[..] else {
        unreachable!()
    };
    assert!(all.mated_pairs >= 100 && all.non_mated_pairs >= 2_000);
    // Every part must err for the comparison to mean anything.
    assert!(face.eer > 0.02 && left.eer > 0.02 && right.eer > 0.02);
    let missed = |rates: &ErrorRates| rates.points[0].fnmr;
    for (fused, parts) in [
        (with_left, vec![face, left]),
        (with_right, vec![face, right]),
        (all, vec![face, left, right]),
    ] {
        for part in parts {
            assert!(fused.eer < part.eer && missed(fused) < missed(part));
        }
    }
    // Two eyes are hard to better; the face must not spoil them.
    assert!(all.eer < irises.eer + 0.01 && missed(all) < missed(irises) + 0.01);
}
