//! Step 5 of the classical path: outlines of pupil and iris as Fourier series around the circles.

use std::f32::consts::TAU;

use super::geometry::{CONTOUR_ANGLES, Circle, Contour};
use super::plane::{Grey, robust};

const ROUNDS: usize = 4;
const OUTLIER: f32 = 2.5;
const PUPIL_HARMONICS: usize = 4;
const LIMBUS_HARMONICS: usize = 2;
/// Where lids may hide the limbus, the circle is trusted with this weight.
const CIRCLE_WEIGHT: f32 = 0.35;

/// The pupil's outline: strongest outward steps within 0.8 to 1.25 radii.
pub(crate) fn pupil_contour(picture: &Grey, circle: &Circle) -> Contour {
    let samples = edge_samples(picture, circle, 0.82, 1.2, 1.5, |_| true);
    robust_fit(circle, samples, PUPIL_HARMONICS, 0.01).unwrap_or_else(|| Contour::circle(circle))
}

/// The iris' outline: measured in the lateral sectors only, the circle elsewhere.
pub(crate) fn limbus_contour(picture: &Grey, circle: &Circle) -> Contour {
    let samples = edge_samples(picture, circle, 0.9, 1.1, 3.0, lateral);
    closed_limbus(circle, samples)
}

/// Measured radii around a circle, which stands in wherever nothing was measured.
pub(crate) fn closed_limbus(circle: &Circle, mut samples: Vec<(f32, f32, f32)>) -> Contour {
    if samples.len() < CONTOUR_ANGLES / 8 {
        return Contour::circle(circle);
    }
    let mut measured = [false; CONTOUR_ANGLES];
    for (angle, ..) in &samples {
        let index = (angle.rem_euclid(TAU) / TAU * CONTOUR_ANGLES as f32) as usize;
        if let Some(flag) = measured.get_mut(index % CONTOUR_ANGLES) {
            *flag = true;
        }
    }
    for (index, measured) in measured.iter().enumerate() {
        if !measured {
            let angle = TAU * (index as f32 + 0.5) / CONTOUR_ANGLES as f32;
            samples.push((angle, circle.radius, CIRCLE_WEIGHT));
        }
    }
    robust_fit(circle, samples, LIMBUS_HARMONICS, 0.002).unwrap_or_else(|| Contour::circle(circle))
}

/// From 25 degrees above to 50 degrees below the horizontal, both sides.
fn lateral(angle: f32) -> bool {
    let below = angle.sin().atan2(angle.cos().abs()).to_degrees();
    (-25.0..=50.0).contains(&below)
}

fn edge_samples(
    picture: &Grey,
    circle: &Circle,
    from: f32,
    to: f32,
    reach: f32,
    wanted: impl Fn(f32) -> bool,
) -> Vec<(f32, f32, f32)> {
    let mut samples = Vec::with_capacity(CONTOUR_ANGLES);
    for index in 0..CONTOUR_ANGLES {
        let angle = TAU * index as f32 / CONTOUR_ANGLES as f32;
        if !wanted(angle) {
            continue;
        }
        let (sine, cosine) = angle.sin_cos();
        let value =
            |radius: f32| picture.sample(circle.x + radius * cosine, circle.y + radius * sine);
        let mut best = (0.0_f32, 0.0_f32);
        let mut radius = from * circle.radius;
        while radius <= to * circle.radius {
            let inside = picture.contains(
                circle.x + (radius + reach) * cosine,
                circle.y + (radius + reach) * sine,
            );
            let step = value(radius + reach) - value(radius - reach);
            // An edge near the circle is preferred: lashes and lids next to the pupil are strong edges too.
            let apart = (radius / circle.radius - 1.0) / (to - from);
            let step = step * (1.0 - apart * apart * 2.0);
            if inside && step > best.1 {
                best = (radius, step);
            }
            radius += 0.5;
        }
        if best.1 > 2.0 {
            samples.push((angle, best.0, 1.0));
        }
    }
    samples
}

/// A Fourier series through measured radii, outliers left out in rounds.
pub(crate) fn robust_fit(
    circle: &Circle,
    mut samples: Vec<(f32, f32, f32)>,
    harmonics: usize,
    ridge: f32,
) -> Option<Contour> {
    let centre = (circle.x, circle.y);
    let mut contour = Contour::fit(centre, &samples, harmonics.min(1), ridge)?;
    for round in 0..ROUNDS {
        let mut residuals: Vec<f32> = samples
            .iter()
            .map(|(angle, radius, _)| radius - contour.radius(*angle))
            .collect();
        let (middle, deviation) = robust(&mut residuals);
        let limit = OUTLIER * deviation.max(0.4);
        samples
            .retain(|(angle, radius, _)| (radius - contour.radius(*angle) - middle).abs() <= limit);
        let orders = if round == 0 {
            harmonics.min(2)
        } else {
            harmonics
        };
        contour = Contour::fit(centre, &samples, orders, ridge)?;
    }
    (samples.len() >= CONTOUR_ANGLES / 8
        && (0.75..=1.3).contains(&(contour.mean_radius() / circle.radius)))
    .then_some(contour)
}
