//! Steps 2 and 3 of the classical path: where the pupil may be.
//!
//! Dark components at 14 thresholds and the largest discs inscribed in them are candidates; each is ranked by the step
//! across its edge, by how even and dark its inside is, and by its size. The limbus search decides among the best.

use std::f32::consts::TAU;
use std::sync::LazyLock;

use opencv::imgproc;

use super::geometry::Circle;
use super::glints::Prepared;
use super::plane::{Component, Grey, components, distances};
use super::prior::RadiusRange;
use crate::VisionError;

const STAGE: &str = "pupil";
const THRESHOLDS: usize = 14;
const DARKEST_SHARE: f32 = 0.005;
const BRIGHTEST_SHARE: f32 = 0.45;
const MIN_FILL: f32 = 0.62;
/// Pupil radius, in shares of the shortest and the longest expected iris radius.
const MIN_SHARE: f32 = 0.15;
const MAX_SHARE: f32 = 0.72;
/// The step across the edge counts up to this many grey levels.
const STEP_CAP: f32 = 22.0;
/// How many candidates go on to the limbus search.
pub(crate) const KEPT: usize = 8;
const SECTORS: usize = 8;
const ANGLES_PER_SECTOR: usize = 6;
/// Rings on which the inside of a disc is read.
const RINGS: usize = 5;

/// `count` directions around the circle: cosine and sine.
fn directions(count: usize) -> impl Iterator<Item = (f32, f32)> {
    (0..count).map(move |index| {
        let (sine, cosine) = (TAU * index as f32 / count as f32).sin_cos();
        (cosine, sine)
    })
}

/// Directions of the edge, sector by sector. These two tables are read some ten thousand times for one frame.
static EDGE: LazyLock<Vec<(f32, f32)>> =
    LazyLock::new(|| directions(SECTORS * ANGLES_PER_SECTOR).collect());
/// Places inside a disc, in shares of its radius.
static INSIDE: LazyLock<Vec<(f32, f32)>> = LazyLock::new(|| {
    (1..=RINGS)
        .flat_map(|ring| {
            let share = 0.17 * ring as f32;
            directions(6 * ring).map(move |(cosine, sine)| (share * cosine, share * sine))
        })
        .collect()
});

/// A candidate with its rank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) circle: Circle,
    pub(crate) score: f32,
    pub(crate) step: f32,
}

/// The best candidates, best first.
pub(crate) fn candidates(
    eye: &Prepared,
    range: RadiusRange,
    wanted: usize,
) -> Result<Vec<Candidate>, VisionError> {
    let least = MIN_SHARE * range.shortest();
    let most = MAX_SHARE * range.longest();
    let mut circles: Vec<Circle> = Vec::new();
    for threshold in thresholds(&eye.median) {
        for circle in dark_discs(&eye.median, threshold, least, most)? {
            let known = circles.iter().any(|other| other.apart(&circle) < 2.5);
            if !known {
                circles.push(circle);
            }
        }
    }
    let darkest = f32::from(eye.fine.percentile(0.01));
    let rank = |circle: Circle| rank(eye, circle, darkest, least);
    let mut ranked: Vec<Candidate> = circles.into_iter().filter_map(rank).collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in ranked {
        if kept.len() == wanted {
            break;
        }
        let same = |other: &Candidate| other.circle.apart(&candidate.circle) < 4.0;
        if !kept.iter().any(same) {
            kept.push(candidate);
        }
    }
    let mut refined: Vec<Candidate> = kept
        .into_iter()
        .map(|candidate| refine(eye, candidate, darkest, least, most))
        .collect();
    refined.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(refined)
}

/// The best pupil near one that was found in another way.
pub(crate) fn near(eye: &Prepared, circle: Circle, range: RadiusRange) -> Option<Candidate> {
    let darkest = f32::from(eye.fine.percentile(0.01));
    let (least, most) = (MIN_SHARE * range.shortest(), MAX_SHARE * range.longest());
    let start = rank(eye, circle, darkest, least)?;
    Some(refine(eye, start, darkest, least, most))
}

fn thresholds(median: &Grey) -> impl Iterator<Item = u8> + use<> {
    let first = f32::from(median.percentile(DARKEST_SHARE)) + 4.0;
    let last = f32::from(median.percentile(BRIGHTEST_SHARE)).max(first);
    (0..THRESHOLDS).map(move |step| {
        let share = step as f32 / (THRESHOLDS - 1) as f32;
        (first + (last - first) * share).clamp(1.0, 254.0) as u8
    })
}

/// Discs made of the pixels below one threshold.
fn dark_discs(
    median: &Grey,
    threshold: u8,
    least: f32,
    most: f32,
) -> Result<Vec<Circle>, VisionError> {
    let mut dark = Grey::filled(median.width(), median.height(), 0);
    for (pixel, value) in dark.pixels_mut().iter_mut().zip(median.pixels()) {
        *pixel = if *value <= threshold { 255 } else { 0 };
    }
    let dark = dark.morphology(imgproc::MORPH_OPEN, imgproc::MORPH_ELLIPSE, 5, 5, STAGE)?;
    let (labels, found) = components(&dark, STAGE)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let depth = distances(&dark, STAGE)?;
    let mut deepest = inscribed(&labels, &depth, &found, dark.width());
    let mut discs = Vec::new();
    for (component, disc) in found.iter().zip(&deepest) {
        let (wide, high) = (component.width as f32, component.height as f32);
        let radius = (component.area as f32 / std::f32::consts::PI).sqrt();
        let aspect = wide / high.max(1.0);
        let fill = component.area as f32 / (TAU / 8.0 * wide * high).max(1.0);
        let plausible = (least..=most).contains(&radius);
        if plausible && (0.5..=2.0).contains(&aspect) && fill >= MIN_FILL {
            discs.push(Circle {
                x: component.centroid.0,
                y: component.centroid.1,
                radius,
            });
            discs.push(*disc);
        }
    }
    deepest.sort_by(|a, b| b.radius.total_cmp(&a.radius));
    discs.extend(deepest.into_iter().take(3));
    discs.retain(|disc| (least..=most).contains(&disc.radius));
    Ok(discs)
}

/// The largest disc inside each component.
fn inscribed(labels: &[i32], depth: &[f32], found: &[Component], width: usize) -> Vec<Circle> {
    let mut discs = vec![
        Circle {
            x: 0.0,
            y: 0.0,
            radius: 0.0
        };
        found.len()
    ];
    for (at, (label, depth)) in labels.iter().zip(depth).enumerate() {
        let Some(disc) = usize::try_from(*label)
            .ok()
            .and_then(|label| label.checked_sub(1))
            .and_then(|index| discs.get_mut(index))
        else {
            continue;
        };
        if *depth > disc.radius {
            *disc = Circle {
                x: (at % width) as f32,
                y: (at / width) as f32,
                radius: *depth,
            };
        }
    }
    discs
}

fn rank(eye: &Prepared, circle: Circle, darkest: f32, least: f32) -> Option<Candidate> {
    let step = edge_step(&eye.fine, &circle)?;
    let (mean, deviation) = interior(&eye.fine, &circle);
    let score = step.min(STEP_CAP) - 0.8 * deviation.min(30.0) - 0.35 * (mean - darkest)
        + 5.0 * (circle.radius.min(35.0) / least.max(1.0)).max(0.1).ln();
    Some(Candidate {
        circle,
        score,
        step,
    })
}

/// Mean over eight sectors, the worst dropped, of the grey step outwards across the circle.
pub(crate) fn edge_step(picture: &Grey, circle: &Circle) -> Option<f32> {
    let reach = (0.08 * circle.radius).clamp(1.5, 4.0);
    let mut steps = [0.0_f32; SECTORS];
    let mut inside = 0;
    let (outer, inner) = (circle.radius + reach, circle.radius - reach);
    for (step, sector) in steps.iter_mut().zip(EDGE.chunks(ANGLES_PER_SECTOR)) {
        for (cosine, sine) in sector {
            let (x, y) = (circle.x + outer * cosine, circle.y + outer * sine);
            inside += usize::from(picture.contains(x, y));
            *step += picture.sample(x, y)
                - picture.sample(circle.x + inner * cosine, circle.y + inner * sine);
        }
        *step /= ANGLES_PER_SECTOR as f32;
    }
    if inside * 10 < SECTORS * ANGLES_PER_SECTOR * 9 {
        return None;
    }
    steps.sort_by(f32::total_cmp);
    let best = steps.get(1..)?;
    Some(best.iter().sum::<f32>() / best.len() as f32)
}

fn interior(picture: &Grey, circle: &Circle) -> (f32, f32) {
    let (mut sum, mut squares) = (0.0, 0.0);
    let count = INSIDE.len() as f32;
    for (x, y) in &*INSIDE {
        let value = picture.near(circle.x + circle.radius * x, circle.y + circle.radius * y);
        sum += value;
        squares += value * value;
    }
    let mean: f32 = sum / count;
    let variance: f32 = squares / count - mean * mean;
    (mean, variance.max(0.0).sqrt())
}

/// Climbs in steps of 1.5 and then 0.5 pixels.
fn refine(eye: &Prepared, mut best: Candidate, darkest: f32, least: f32, most: f32) -> Candidate {
    for stride in [1.5, 0.5] {
        for _ in 0..12 {
            let before = best.score;
            let centre = best.circle;
            for (dx, dy, dr) in [
                (1.0, 0.0, 0.0),
                (-1.0, 0.0, 0.0),
                (0.0, 1.0, 0.0),
                (0.0, -1.0, 0.0),
                (0.0, 0.0, 1.0),
                (0.0, 0.0, -1.0),
                (0.0, 1.0, 1.0),
                (0.0, -1.0, -1.0),
                (0.0, -1.0, 1.0),
                (0.0, 1.0, -1.0),
                (1.0, 0.0, 1.0),
                (-1.0, 0.0, 1.0),
            ] {
                let circle = Circle {
                    x: centre.x + stride * dx,
                    y: centre.y + stride * dy,
                    radius: centre.radius + stride * dr,
                };
                if !(least..=most).contains(&circle.radius) {
                    continue;
                }
                // Uncapped here: the cap is for comparing candidates, not for finding the edge.
                let Some(mut tried) = rank(eye, circle, darkest, least) else {
                    continue;
                };
                tried.score += tried.step - tried.step.min(STEP_CAP);
                if tried.score > best.score {
                    best = tried;
                }
            }
            if best.score <= before {
                break;
            }
        }
    }
    rank(eye, best.circle, darkest, least).unwrap_or(best)
}
