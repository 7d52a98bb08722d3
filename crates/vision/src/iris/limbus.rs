//! Step 4 of the classical path: the iris' outer edge, searched around each pupil candidate.
//!
//! Only the lateral sectors are asked, where lids seldom cover the edge; the worst sector is dropped.

use std::sync::LazyLock;

use super::geometry::Circle;
use super::glints::Prepared;
use super::plane::Grey;
use super::prior::RadiusRange;
use super::pupil::Candidate;

/// Sectors in degrees below the horizontal, mirrored for the other side.
const SECTORS: [(f32, f32); 3] = [(-25.0, 5.0), (5.0, 30.0), (30.0, 50.0)];
const ANGLES_PER_SECTOR: usize = 7;
/// Cosine and sine of every angle of every sector of the right side. Asked some ten thousand times for one frame.
static DIRECTIONS: LazyLock<[[(f32, f32); ANGLES_PER_SECTOR]; SECTORS.len()]> =
    LazyLock::new(|| {
        SECTORS.map(|(from, to)| {
            std::array::from_fn(|part| {
                let share = (part as f32 + 0.5) / ANGLES_PER_SECTOR as f32;
                let (sine, cosine) = (from + (to - from) * share).to_radians().sin_cos();
                (cosine, sine)
            })
        })
    });
/// One sector's step counts up to this many grey levels, so that skin cannot outbid the sclera.
const SECTOR_CAP: f32 = 24.0;
/// A centre this share of the iris radius away from the pupil's costs one grey level of step, twice as far four.
const OFFSET_DEVIATION: f32 = 0.04;
/// The limbus step counts up to this many grey levels in the joint score.
const STEP_CAP: f32 = 20.0;
const STEP_WEIGHT: f32 = 1.6;
/// A pupil wider than this share of the iris is rare, and more often a circle between lids.
const WIDE_PUPIL: f32 = 0.5;
const WIDE_COST: f32 = 45.0;
/// Below this ratio to the pupil the ring found may be the collarette.
const COLLARETTE_RATIO: f32 = 1.8;

/// Pupil and limbus together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circles {
    pub(crate) pupil: Circle,
    pub(crate) limbus: Circle,
    pub(crate) pupil_step: f32,
    pub(crate) limbus_step: f32,
    pub(crate) score: f32,
}

/// The best pair over all pupil candidates.
pub(crate) fn best_circles(
    eye: &Prepared,
    candidates: &[Candidate],
    range: RadiusRange,
) -> Option<Circles> {
    candidates
        .iter()
        .filter_map(|candidate| around(eye, candidate, range))
        .max_by(|a, b| a.score.total_cmp(&b.score))
}

/// The limbus around one pupil candidate.
pub(crate) fn around(eye: &Prepared, candidate: &Candidate, range: RadiusRange) -> Option<Circles> {
    let pupil = candidate.circle;
    let least = range.shortest().max(1.25 * pupil.radius);
    let (mut limbus, rated) = search(&eye.smooth, &pupil, least, range.longest())?;
    if limbus.radius < COLLARETTE_RATIO * pupil.radius {
        let outer = search(
            &eye.smooth,
            &pupil,
            (1.22 * limbus.radius).max(least),
            (2.4 * limbus.radius).min(range.longest()),
        );
        if let Some((outer, outer_rated)) = outer
            && outer_rated >= 0.6 * rated
        {
            limbus = outer;
        }
    }
    let (limbus, step) = fine_search(&eye.smooth, &pupil, limbus, least, range.longest());
    Some(Circles {
        pupil,
        limbus,
        pupil_step: candidate.step,
        limbus_step: step,
        score: candidate.score + STEP_WEIGHT * step.min(STEP_CAP)
            - WIDE_COST * (pupil.radius / limbus.radius - WIDE_PUPIL).max(0.0),
    })
}

/// How convincing a limbus is around a pupil; the search maximises this.
pub(crate) fn worth(eye: &Prepared, pupil: &Circle, limbus: &Circle) -> f32 {
    rate(&eye.smooth, pupil, limbus).map_or(f32::NEG_INFINITY, |(rated, _)| rated)
}

/// The edge's step less a penalty for a centre far from the pupil's: eyes are built nearly concentric.
fn rate(picture: &Grey, pupil: &Circle, circle: &Circle) -> Option<(f32, f32)> {
    let step = edge_step(picture, circle)?;
    let offset = circle.centre_distance(pupil) / circle.radius / OFFSET_DEVIATION;
    Some((step - offset * offset, step))
}

fn search(picture: &Grey, pupil: &Circle, least: f32, most: f32) -> Option<(Circle, f32)> {
    let mut best: Option<(Circle, f32)> = None;
    let mut radius = least;
    while radius <= most {
        let reach = (0.10 * radius).min(0.25 * pupil.radius + 3.0);
        for dy in -1..=1_i8 {
            for dx in -2..=2_i8 {
                let circle = Circle {
                    x: pupil.x + reach * f32::from(dx) / 2.0,
                    y: pupil.y + reach * f32::from(dy) / 2.0,
                    radius,
                };
                if let Some((rated, _)) = rate(picture, pupil, &circle)
                    && best.is_none_or(|(_, known)| rated > known)
                {
                    best = Some((circle, rated));
                }
            }
        }
        radius += 2.0;
    }
    best
}

fn fine_search(
    picture: &Grey,
    pupil: &Circle,
    start: Circle,
    least: f32,
    most: f32,
) -> (Circle, f32) {
    let (mut best, mut best_rate, mut best_step) = (start, f32::NEG_INFINITY, 0.0);
    // As far as the coarse search may be off: half its stride, which grows with the iris.
    let span = (0.05 * start.radius).ceil().clamp(1.0, 3.0) as i8;
    for dr in -span..=span {
        for dy in -span..=span {
            for dx in -span..=span {
                let circle = Circle {
                    x: start.x + f32::from(dx),
                    y: start.y + f32::from(dy),
                    radius: (start.radius + f32::from(dr)).clamp(least, most),
                };
                if let Some((rated, step)) = rate(picture, pupil, &circle)
                    && rated > best_rate
                {
                    (best, best_rate, best_step) = (circle, rated, step);
                }
            }
        }
    }
    (best, best_step)
}

/// Mean over the lateral sectors, the worst dropped, of the grey step outwards across the circle.
pub(crate) fn edge_step(picture: &Grey, circle: &Circle) -> Option<f32> {
    let reach = (0.045 * circle.radius).clamp(2.0, 5.0);
    let (outer, inner) = (circle.radius + reach, circle.radius - reach);
    let mut steps = [0.0_f32; 2 * SECTORS.len()];
    let mut seen = 0;
    for side in [-1.0_f32, 1.0] {
        for sector in &*DIRECTIONS {
            let mut sum = 0.0;
            let mut inside = true;
            for (cosine, sine) in sector {
                let cosine = side * cosine;
                let (x, y) = (circle.x + outer * cosine, circle.y + outer * sine);
                inside &= picture.contains(x, y);
                sum += picture.near(x, y)
                    - picture.near(circle.x + inner * cosine, circle.y + inner * sine);
            }
            if inside && let Some(step) = steps.get_mut(seen) {
                *step = (sum / ANGLES_PER_SECTOR as f32).min(SECTOR_CAP);
                seen += 1;
            }
        }
    }
    let steps = steps.get_mut(..seen).filter(|steps| steps.len() >= 4)?;
    steps.sort_by(f32::total_cmp);
    let best = steps.get(1..)?;
    Some(best.iter().sum::<f32>() / best.len() as f32)
}
