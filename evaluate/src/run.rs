//! Runs the pipeline over all pictures and compares all pairs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sallyport_domain::{Eye, IrisRotation, IrisTemplate, PadVerdict, Timestamp, iris};
use sallyport_vision::{
    Contour, EyeObservation, EyePrior, Frame, IrisPipeline, IrisQuality, IrisStageTimes,
    RadiusRange, Segmentation, assess_iris,
};

use crate::labels::Label;
use crate::scores::Score;

/// A picture and whose eye it shows.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Below the folder.
    pub path: PathBuf,
    /// Whose.
    pub label: Label,
}

/// Where pupil and iris were found in a picture, so that another program can go on from the same outlines and mask.
#[derive(Debug, serde::Serialize)]
pub struct Outline {
    /// The pupil's outline, 128 points, pixels.
    pub pupil: Vec<(f32, f32)>,
    /// The limbus, 128 points, pixels.
    pub limbus: Vec<(f32, f32)>,
    /// Visible iris, as runs of pixels: start, row by row, and length.
    pub visible: Vec<(usize, usize)>,
}

impl Outline {
    fn new(found: &Segmentation) -> Self {
        let points = |contour: &Contour| {
            (0..128)
                .map(|at| contour.point(std::f32::consts::TAU * at as f32 / 128.0))
                .collect()
        };
        Self {
            pupil: points(&found.pupil_contour),
            limbus: points(&found.limbus_contour),
            visible: found.visible_runs(),
        }
    }
}

/// What the pipeline made of one picture.
#[derive(Debug)]
pub struct Sample {
    /// Which.
    pub picture: Picture,
    /// None: failure to acquire.
    pub template: Option<IrisTemplate>,
    /// Measures.
    pub quality: IrisQuality,
    /// Names of the defects; empty passes the gate.
    pub defects: Vec<String>,
    /// Presentation attack votes that suspect this picture alone.
    pub suspected: Vec<String>,
    /// Centre and radius of pupil and iris, pixels.
    pub circles: Option<[f32; 6]>,
    /// What was found, for other programs.
    pub outline: Option<Outline>,
    /// Stage times.
    pub times: IrisStageTimes,
    /// Encoding alone.
    pub encode: Duration,
}

/// Works through the pictures in as many threads as pipelines are given.
///
/// # Errors
/// A picture cannot be read at all, or the pipeline failed.
pub fn analyse_all(
    folder: &Path,
    pictures: &[Picture],
    pipelines: &mut [IrisPipeline],
    radius: RadiusRange,
) -> anyhow::Result<Vec<Sample>> {
    let next = AtomicUsize::new(0);
    let work = |pipeline: &mut IrisPipeline| -> anyhow::Result<Vec<(usize, Sample)>> {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(picture) = pictures.get(at) else {
                return Ok(done);
            };
            done.push((at, analyse(folder, picture, pipeline, radius)?));
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = pipelines
            .iter_mut()
            .map(|pipeline| scope.spawn(|| work(pipeline)))
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a worker thread ended early")))
            })
            .collect()
    });
    let mut samples = Vec::with_capacity(pictures.len());
    for result in results {
        samples.extend(result?);
    }
    samples.sort_by_key(|(at, _)| *at);
    Ok(samples.into_iter().map(|(_, sample)| sample).collect())
}

fn analyse(
    folder: &Path,
    picture: &Picture,
    pipeline: &mut IrisPipeline,
    radius: RadiusRange,
) -> anyhow::Result<Sample> {
    let observation = observe(&folder.join(&picture.path), pipeline, radius)?;
    let clock = Instant::now();
    let template = pipeline.encode_ungated(&[&observation])?.pop().flatten();
    let encode = clock.elapsed();
    Ok(Sample {
        picture: picture.clone(),
        template,
        quality: observation.quality,
        defects: observation
            .defects
            .iter()
            .map(|defect| format!("{defect:?}"))
            .collect(),
        suspected: assess_iris(observation.attack.as_slice())
            .votes
            .iter()
            .filter(|vote| vote.verdict == PadVerdict::AttackSuspected)
            .map(|vote| format!("{:?}", vote.kind))
            .collect(),
        circles: observation.segmentation.as_ref().map(|found| {
            [
                found.pupil.x,
                found.pupil.y,
                found.pupil.radius,
                found.limbus.x,
                found.limbus.y,
                found.limbus.radius,
            ]
        }),
        outline: observation.segmentation.as_ref().map(Outline::new),
        times: observation.times,
        encode,
    })
}

/// One picture through the pipeline. Every picture counts as a left eye here: identities come from the labels, and
/// all are compared with all.
///
/// # Errors
/// The picture cannot be read, or the pipeline failed.
pub fn observe(
    path: &Path,
    pipeline: &mut IrisPipeline,
    radius: RadiusRange,
) -> anyhow::Result<EyeObservation> {
    use anyhow::Context as _;
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let frame = Frame::decode("evaluation", Timestamp::from_micros(0), &bytes)
        .with_context(|| path.display().to_string())?;
    Ok(pipeline.analyse(&frame, &EyePrior::with_radius(Eye::Left, radius))?)
}

/// The scores of one kind of pairs.
#[derive(Debug, Default)]
pub struct Pairs {
    /// Same eye.
    pub mated: Vec<Score>,
    /// Same eye: which samples.
    pub mated_of: Vec<(usize, usize)>,
    /// Different eyes.
    pub non_mated: Vec<Score>,
}

/// Compares every sample with every later one.
#[must_use]
pub fn compare_all(samples: &[&Sample], rotation: IrisRotation, threads: usize) -> Pairs {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut pairs = Pairs::default();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((probe, rest)) = samples.get(at..).and_then(<[_]>::split_first) else {
                return pairs;
            };
            for (offset, reference) in rest.iter().enumerate() {
                let score = score(probe, reference, rotation);
                if same_eye(&probe.picture.label, &reference.picture.label) {
                    pairs.mated.push(score);
                    pairs.mated_of.push((at, at + 1 + offset));
                } else {
                    pairs.non_mated.push(score);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut all = Pairs::default();
        for worker in workers {
            if let Ok(pairs) = worker.join() {
                all.mated.extend(pairs.mated);
                all.mated_of.extend(pairs.mated_of);
                all.non_mated.extend(pairs.non_mated);
            }
        }
        all
    })
}

fn same_eye(one: &Label, other: &Label) -> bool {
    one.subject == other.subject && one.eye == other.eye
}

/// None when either was not acquired or too few bits are common.
#[must_use]
pub fn score(one: &Sample, other: &Sample, rotation: IrisRotation) -> Score {
    let (one, other) = (one.template.as_ref()?, other.template.as_ref()?);
    iris::compare(one, other, rotation)
        .ok()?
        .dissimilarity()
        .map(sallyport_domain::IrisDissimilarity::value)
}

/// Mean of both eyes of each person's n-th captures, compared with all others.
#[must_use]
pub fn compare_both_eyes(samples: &[&Sample], rotation: IrisRotation) -> Pairs {
    let mut people = Vec::new();
    for left in samples {
        if left.picture.label.eye != Some(Eye::Left) {
            continue;
        }
        let right = samples.iter().find(|right| {
            right.picture.label.eye == Some(Eye::Right)
                && right.picture.label.subject == left.picture.label.subject
                && right.picture.label.sample == left.picture.label.sample
        });
        if let Some(right) = right {
            people.push((*left, *right));
        }
    }
    let mut pairs = Pairs::default();
    for (at, (left, right)) in people.iter().enumerate() {
        for (offset, (other_left, other_right)) in people.iter().skip(at + 1).enumerate() {
            let scores = [
                score(left, other_left, rotation),
                score(right, other_right, rotation),
            ];
            // One eye alone is not both eyes.
            let mean = match scores {
                [Some(left), Some(right)] => Some(f32::midpoint(left, right)),
                _ => None,
            };
            if left.picture.label.subject == other_left.picture.label.subject {
                pairs.mated.push(mean);
                pairs.mated_of.push((at, at + 1 + offset));
            } else {
                pairs.non_mated.push(mean);
            }
        }
    }
    pairs
}
