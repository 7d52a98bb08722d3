//! The segmentation network (biometrics.md I.7): classes of pixels, and outlines fitted to their edges.
//!
//! The limbus is measured only where iris meets sclera and the pupil only where it meets iris: elsewhere the edge is a
//! lid's, and the fitted series closes the gap.

use std::f32::consts::TAU;
use std::path::Path;

use super::contours::{closed_limbus, robust_fit};
use super::geometry::{CONTOUR_ANGLES, Circle, Contour};
use super::plane::{Grey, components};
use crate::runtime::Model;
use crate::{ModelError, ModelManifest, ModelRole, Runtime, VisionError};

const STAGE: &str = "iris segmentation network";
const WIDTH: usize = 320;
const HEIGHT: usize = 240;
const CLASSES: usize = 4;
const SCLERA: usize = 1;
const IRIS: usize = 2;
const PUPIL: usize = 3;
/// The network saw irises of 40 to 130 pixels; smaller ones in the fitted picture are looked at again, enlarged.
const LEAST_RADIUS: f32 = 45.0;
/// Width of the enlarged window, iris radii.
const WINDOW_RADII: f32 = 5.0;
const MIN_PUPIL_PIXELS: i32 = 40;
/// Edge points that a circle needs.
const MIN_POINTS: usize = 12;

/// `models/iris_segment.onnx` in a session.
pub(crate) struct SegmentationNetwork {
    model: Model,
}

/// Which part of the picture the network sees, and how much it is scaled: `network = (picture - origin) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    x: f32,
    y: f32,
    scale: f32,
}

impl Window {
    /// The whole picture, its aspect kept.
    pub(crate) fn whole(grey: &Grey) -> Self {
        let scale = (WIDTH as f32 / grey.width() as f32).min(HEIGHT as f32 / grey.height() as f32);
        Self {
            x: (grey.width() as f32 - WIDTH as f32 / scale) / 2.0,
            y: (grey.height() as f32 - HEIGHT as f32 / scale) / 2.0,
            scale,
        }
    }

    /// Around an iris that the whole picture would show too small.
    pub(crate) fn closer(self, limbus: &Circle) -> Option<Self> {
        if limbus.radius * self.scale >= LEAST_RADIUS {
            return None;
        }
        let scale = WIDTH as f32 / (WINDOW_RADII * limbus.radius);
        Some(Self {
            x: limbus.x - WIDTH as f32 / scale / 2.0,
            y: limbus.y - HEIGHT as f32 / scale / 2.0,
            scale,
        })
    }
}

/// Probabilities of the classes, readable in pixels of the picture.
pub(crate) struct ClassMap {
    planes: Vec<Vec<f32>>,
    window: Window,
}

/// Outlines from the class edges.
#[derive(Debug, Clone)]
pub(crate) struct NetworkFit {
    pub(crate) pupil: Circle,
    pub(crate) limbus: Circle,
    pub(crate) pupil_contour: Contour,
    pub(crate) limbus_contour: Contour,
}

impl SegmentationNetwork {
    pub(crate) fn new(
        runtime: &Runtime,
        manifest: &ModelManifest,
        models: &Path,
    ) -> Result<Self, ModelError> {
        let entry = manifest.entry(ModelRole::IrisSegmentation)?;
        Ok(Self {
            model: runtime.session(&manifest.path(entry, models), &entry.sha256)?,
        })
    }

    /// Class probabilities of the window.
    pub(crate) fn classes(&mut self, grey: &Grey, window: Window) -> Result<ClassMap, VisionError> {
        // Shrinking by sampling alone would alias; a slight blur first keeps edges where they are.
        let blurred;
        let source = if window.scale < 0.75 {
            blurred = grey.blurred(f64::from(0.4 / window.scale), STAGE)?;
            &blurred
        } else {
            grey
        };
        let mut input = Vec::with_capacity(WIDTH * HEIGHT);
        for row in 0..HEIGHT {
            let y = window.y + (row as f32 + 0.5) / window.scale - 0.5;
            for column in 0..WIDTH {
                let x = window.x + (column as f32 + 0.5) / window.scale - 0.5;
                input.push(source.sample(x, y) / 255.0);
            }
        }
        let [logits] = self
            .model
            .run(STAGE, [1, 1, HEIGHT, WIDTH], &input, ["logits"])?;
        let area = WIDTH * HEIGHT;
        if logits.len() != CLASSES * area {
            return Err(VisionError::Contract { stage: STAGE });
        }
        let mut planes: Vec<Vec<f32>> = logits.chunks_exact(area).map(<[f32]>::to_vec).collect();
        let mut sums = vec![0.0_f32; area];
        for plane in &mut planes {
            for (value, sum) in plane.iter_mut().zip(&mut sums) {
                *value = value.clamp(-30.0, 30.0).exp();
                *sum += *value;
            }
        }
        for plane in &mut planes {
            for (value, sum) in plane.iter_mut().zip(&sums) {
                *value /= sum;
            }
        }
        Ok(ClassMap { planes, window })
    }
}

impl ClassMap {
    /// Probability of a class at a point of the picture, bilinear; 0 outside the window.
    fn at(&self, class: usize, x: f32, y: f32) -> f32 {
        let column = (x + 0.5 - self.window.x) * self.window.scale - 0.5;
        let row = (y + 0.5 - self.window.y) * self.window.scale - 0.5;
        if column < -0.5 || row < -0.5 || column > WIDTH as f32 - 0.5 || row > HEIGHT as f32 - 0.5 {
            return 0.0;
        }
        let (left, top) = (column.floor(), row.floor());
        let (fx, fy) = (column - left, row - top);
        let cell = |dx: i32, dy: i32| {
            let x = (left as i32 + dx).clamp(0, WIDTH as i32 - 1) as usize;
            let y = (top as i32 + dy).clamp(0, HEIGHT as i32 - 1) as usize;
            self.planes
                .get(class)
                .and_then(|plane| plane.get(y * WIDTH + x))
                .copied()
                .unwrap_or(0.0)
        };
        let upper = cell(0, 0) + (cell(1, 0) - cell(0, 0)) * fx;
        let lower = cell(0, 1) + (cell(1, 1) - cell(0, 1)) * fx;
        upper + (lower - upper) * fy
    }

    /// Centre and radius of the largest pupil blob, in pixels of the picture.
    fn pupil_blob(&self) -> Result<Option<Circle>, VisionError> {
        let mut blob = Grey::filled(WIDTH, HEIGHT, 0);
        let Some(plane) = self.planes.get(PUPIL) else {
            return Ok(None);
        };
        for (pixel, value) in blob.pixels_mut().iter_mut().zip(plane) {
            *pixel = if *value > 0.5 { 255 } else { 0 };
        }
        let (_, found) = components(&blob, STAGE)?;
        let largest = found
            .iter()
            .filter(|component| component.area >= MIN_PUPIL_PIXELS)
            .max_by_key(|component| component.area);
        Ok(largest.map(|component| Circle {
            x: self.window.x + (component.centroid.0 + 0.5) / self.window.scale - 0.5,
            y: self.window.y + (component.centroid.1 + 0.5) / self.window.scale - 0.5,
            radius: (component.area as f32 / std::f32::consts::PI).sqrt() / self.window.scale,
        }))
    }

    /// Outlines of pupil and iris; `None` when the classes show no eye.
    pub(crate) fn fit(&self) -> Result<Option<NetworkFit>, VisionError> {
        let Some(blob) = self.pupil_blob()? else {
            return Ok(None);
        };
        let step = 0.5 / self.window.scale;
        let mut pupil_points = Vec::new();
        let mut limbus_points = Vec::new();
        for index in 0..CONTOUR_ANGLES {
            let angle = TAU * index as f32 / CONTOUR_ANGLES as f32;
            let (sine, cosine) = angle.sin_cos();
            let value = |class, radius: f32| {
                self.at(class, blob.x + radius * cosine, blob.y + radius * sine)
            };
            let Some(inner) = crossing(|radius| value(PUPIL, radius), 0.0, 2.0 * blob.radius, step)
            else {
                continue;
            };
            let beyond = |class, radius: f32| {
                (2..=6)
                    .map(|ahead| value(class, radius + ahead as f32 * 2.0 * step))
                    .sum::<f32>()
                    / 5.0
            };
            if beyond(IRIS, inner) > 0.5 {
                pupil_points.push((angle, inner, 1.0));
            }
            // The iris may begin behind a lash or a glint: start where it is first seen.
            let Some(start) = first_above(
                |radius| value(IRIS, radius),
                inner,
                inner + 12.0 * step,
                step,
            ) else {
                continue;
            };
            let reach = 8.0 * blob.radius + 20.0 * step;
            if let Some(outer) = crossing(|radius| value(IRIS, radius), start, reach, step)
                && beyond(SCLERA, outer) > 0.5
            {
                limbus_points.push((blob.x + outer * cosine, blob.y + outer * sine));
            }
        }
        let Some(limbus) = circle_through(&limbus_points) else {
            return Ok(None);
        };
        let pupil_contour =
            robust_fit(&blob, pupil_points, 4, 0.01).unwrap_or_else(|| Contour::circle(&blob));
        let samples: Vec<_> = limbus_points
            .iter()
            .map(|(x, y)| {
                let (dx, dy) = (x - limbus.x, y - limbus.y);
                (dy.atan2(dx), dx.hypot(dy), 1.0)
            })
            .collect();
        let limbus_contour = closed_limbus(&limbus, samples);
        Ok(Some(NetworkFit {
            pupil: pupil_contour.as_circle(),
            limbus,
            pupil_contour,
            limbus_contour,
        }))
    }

    /// 255 where the network sees iris between the given outlines.
    pub(crate) fn visible(&self, grey: &Grey, pupil: &Contour, limbus: &Contour) -> Grey {
        let mut visible = Grey::filled(grey.width(), grey.height(), 0);
        let reach = limbus.mean_radius() * 1.15 + 2.0;
        for row in (limbus.y - reach) as i32..=(limbus.y + reach) as i32 {
            for column in (limbus.x - reach) as i32..=(limbus.x + reach) as i32 {
                let (x, y) = (column as f32, row as f32);
                if limbus.contains(x, y) && !pupil.contains(x, y) && self.at(IRIS, x, y) > 0.5 {
                    visible.set(column, row, 255);
                }
            }
        }
        visible
    }
}

/// Where a probability that starts above one half falls below it for good (two pixels), interpolated.
fn crossing(value: impl Fn(f32) -> f32, from: f32, to: f32, step: f32) -> Option<f32> {
    let mut radius = from;
    let mut known = value(from);
    while radius < to {
        let next = value(radius + step);
        if known >= 0.5
            && next < 0.5
            && (2..=4).all(|ahead| value(radius + ahead as f32 * step) < 0.5)
        {
            return Some(radius + step * (known - 0.5) / (known - next).max(1e-6));
        }
        known = next;
        radius += step;
    }
    None
}

fn first_above(value: impl Fn(f32) -> f32, from: f32, to: f32, step: f32) -> Option<f32> {
    let mut radius = from;
    while radius <= to {
        if value(radius) >= 0.5 {
            return Some(radius);
        }
        radius += step;
    }
    None
}

/// A circle through points of which some are wrong: least squares, the worst left out again and again.
fn circle_through(points: &[(f32, f32)]) -> Option<Circle> {
    if points.len() < MIN_POINTS {
        return None;
    }
    let count = points.len() as f32;
    let mut circle = Circle {
        x: points.iter().map(|point| point.0).sum::<f32>() / count,
        y: points.iter().map(|point| point.1).sum::<f32>() / count,
        radius: 0.0,
    };
    let mut kept = points.to_vec();
    for _ in 0..8 {
        // Around the present centre the radius is nearly mean + cosine + sine; the first order moves the centre.
        for _ in 0..3 {
            let samples: Vec<_> = kept
                .iter()
                .map(|(x, y)| {
                    let (dx, dy) = (x - circle.x, y - circle.y);
                    (dy.atan2(dx), dx.hypot(dy), 1.0)
                })
                .collect();
            let fitted = Contour::fit((circle.x, circle.y), &samples, 1, 0.0005)?;
            circle = fitted.as_circle();
        }
        let mut residuals: Vec<f32> = kept
            .iter()
            .map(|(x, y)| ((x - circle.x).hypot(y - circle.y) - circle.radius).abs())
            .collect();
        let limit = 2.5 * 1.4826 * super::plane::median(&mut residuals).max(0.3);
        let before = kept.len();
        kept.retain(|(x, y)| ((x - circle.x).hypot(y - circle.y) - circle.radius).abs() <= limit);
        if kept.len() < MIN_POINTS {
            return None;
        }
        if kept.len() == before {
            break;
        }
    }
    Some(circle)
}
