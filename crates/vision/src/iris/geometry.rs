//! Circles, closed contours and what a segmentation is made of.

use std::f32::consts::{FRAC_PI_2, TAU};

use super::plane::Grey;
use crate::VisionError;

/// Angles at which contours are measured.
pub(crate) const CONTOUR_ANGLES: usize = 128;

/// A circle in pixels of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Circle {
    /// Centre, pixels from the left.
    pub x: f32,
    /// Centre, pixels from the top.
    pub y: f32,
    /// Radius, pixels.
    pub radius: f32,
}

impl Circle {
    /// Distance of the centres, pixels.
    #[must_use]
    pub fn centre_distance(&self, other: &Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    /// The furthest that the two outlines lie apart, pixels.
    #[must_use]
    pub fn apart(&self, other: &Self) -> f32 {
        self.centre_distance(other) + (self.radius - other.radius).abs()
    }

    pub(crate) fn contains(&self, x: f32, y: f32) -> bool {
        let (dx, dy) = (x - self.x, y - self.y);
        dx * dx + dy * dy <= self.radius * self.radius
    }

    pub(crate) fn scaled(&self, factor: f32) -> Self {
        Self {
            x: (self.x + 0.5) * factor - 0.5,
            y: (self.y + 0.5) * factor - 0.5,
            radius: self.radius * factor,
        }
    }
}

/// A closed outline around a centre: the radius as a Fourier series of the angle (0 to the right, growing downwards).
#[derive(Debug, Clone, PartialEq)]
pub struct Contour {
    /// Centre, pixels from the left.
    pub x: f32,
    /// Centre, pixels from the top.
    pub y: f32,
    mean: f32,
    harmonics: Vec<(f32, f32)>,
    /// Bounds of the radius: most points are decided by them, without an angle.
    bounds: (f32, f32),
}

impl Contour {
    pub(crate) fn circle(circle: &Circle) -> Self {
        Self {
            x: circle.x,
            y: circle.y,
            mean: circle.radius,
            harmonics: Vec::new(),
            bounds: (circle.radius, circle.radius),
        }
    }

    fn bounded(mut self) -> Self {
        let swing: f32 = self
            .harmonics
            .iter()
            .map(|(cosine, sine)| cosine.hypot(*sine))
            .sum();
        self.bounds = (self.mean - swing, self.mean + swing);
        self
    }

    /// Radius at an angle in radians.
    #[must_use]
    pub fn radius(&self, angle: f32) -> f32 {
        let mut radius = self.mean;
        for (order, (cosine, sine)) in self.harmonics.iter().enumerate() {
            let turned = (order + 1) as f32 * angle;
            radius += cosine * turned.cos() + sine * turned.sin();
        }
        radius
    }

    /// The point of the outline at an angle in radians.
    #[must_use]
    pub fn point(&self, angle: f32) -> (f32, f32) {
        let radius = self.radius(angle);
        (self.x + radius * angle.cos(), self.y + radius * angle.sin())
    }

    /// Radius averaged over all angles.
    #[must_use]
    pub fn mean_radius(&self) -> f32 {
        self.mean
    }

    /// The outline read as a circle that is seen aslant: the ratio of the short to the long axis (1 is round) and the
    /// direction of the short one in radians. From the second harmonic of the radius less `dead`, a share of the mean
    /// radius that lids and the fit's own uncertainty explain. To first order.
    pub(crate) fn slant(&self, dead: f32) -> (f32, f32) {
        let (cosine, sine) = self.harmonics.get(1).copied().unwrap_or_default();
        let swing = (cosine.hypot(sine) / self.mean.max(1e-3) - dead).max(0.0);
        let ratio = ((1.0 - swing) / (1.0 + swing)).clamp(0.5, 1.0);
        (ratio, 0.5 * sine.atan2(cosine) + FRAC_PI_2)
    }

    /// Weighted least squares of measured radii, `harmonics` orders, a small ridge on each so that gaps stay round.
    pub(crate) fn fit(
        centre: (f32, f32),
        samples: &[(f32, f32, f32)],
        harmonics: usize,
        ridge: f32,
    ) -> Option<Self> {
        let size = 1 + 2 * harmonics;
        let mut normal = vec![vec![0.0_f64; size + 1]; size];
        let mut row = vec![0.0_f64; size];
        let mut total = 0.0;
        for (angle, radius, weight) in samples {
            basis(&mut row, f64::from(*angle));
            let weight = f64::from(*weight);
            total += weight;
            for (line, left) in normal.iter_mut().zip(&row) {
                for (cell, right) in line.iter_mut().zip(&row) {
                    *cell += weight * left * right;
                }
                if let Some(cell) = line.last_mut() {
                    *cell += weight * left * f64::from(*radius);
                }
            }
        }
        if total <= 0.0 {
            return None;
        }
        for (index, line) in normal.iter_mut().enumerate().skip(1) {
            if let Some(cell) = line.get_mut(index) {
                let order = index.div_ceil(2) as f64;
                *cell += f64::from(ridge) * total * order * order;
            }
        }
        let solution = solve(normal)?;
        let (mean, rest) = solution.split_first()?;
        if !mean.is_finite() || *mean <= 0.0 {
            return None;
        }
        let fitted = Self {
            x: centre.0,
            y: centre.1,
            mean: *mean as f32,
            harmonics: rest
                .chunks_exact(2)
                .filter_map(|pair| Some((*pair.first()? as f32, *pair.get(1)? as f32)))
                .collect(),
            bounds: (0.0, 0.0),
        };
        Some(fitted.bounded())
    }

    /// The circle of the same mean radius about the outline's centroid.
    #[must_use]
    pub fn as_circle(&self) -> Circle {
        let (mut x, mut y) = (0.0, 0.0);
        let steps = CONTOUR_ANGLES;
        for step in 0..steps {
            let (px, py) = self.point(TAU * step as f32 / steps as f32);
            x += px;
            y += py;
        }
        Circle {
            x: x / steps as f32,
            y: y / steps as f32,
            radius: self.mean,
        }
    }

    pub(crate) fn contains(&self, x: f32, y: f32) -> bool {
        let (dx, dy) = (x - self.x, y - self.y);
        let distance = (dx * dx + dy * dy).sqrt();
        if distance < self.bounds.0 {
            true
        } else if distance > self.bounds.1 {
            false
        } else {
            distance <= self.radius(dy.atan2(dx))
        }
    }

    pub(crate) fn scaled(&self, factor: f32) -> Self {
        Self {
            x: (self.x + 0.5) * factor - 0.5,
            y: (self.y + 0.5) * factor - 0.5,
            mean: self.mean * factor,
            harmonics: self
                .harmonics
                .iter()
                .map(|(cosine, sine)| (cosine * factor, sine * factor))
                .collect(),
            bounds: (self.bounds.0 * factor, self.bounds.1 * factor),
        }
    }
}

fn basis(row: &mut [f64], angle: f64) {
    for (index, cell) in row.iter_mut().enumerate() {
        let order = index.div_ceil(2) as f64;
        *cell = if index == 0 {
            1.0
        } else if index % 2 == 1 {
            (order * angle).cos()
        } else {
            (order * angle).sin()
        };
    }
}

/// Gaussian elimination with partial pivoting of an augmented square system.
fn solve(mut system: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = system.len();
    for column in 0..size {
        let pivot = (column..size).max_by(|a, b| {
            let size_of = |row: &usize| {
                system
                    .get(*row)
                    .and_then(|line| line.get(column))
                    .map_or(0.0, |cell| cell.abs())
            };
            size_of(a).total_cmp(&size_of(b))
        })?;
        system.swap(column, pivot);
        let (upper, lower) = system.split_at_mut(column + 1);
        let line = upper.last()?;
        let lead = *line.get(column)?;
        if lead.abs() < 1e-12 {
            return None;
        }
        for other in lower {
            let factor = *other.get(column)? / lead;
            for (cell, value) in other.iter_mut().zip(line) {
                *cell -= factor * value;
            }
        }
    }
    let mut solution = vec![0.0; size];
    for column in (0..size).rev() {
        let line = system.get(column)?;
        let known: f64 = line
            .iter()
            .zip(&solution)
            .skip(column + 1)
            .map(|(cell, value)| cell * value)
            .sum();
        let value = (line.last()? - known) / line.get(column)?;
        *solution.get_mut(column)? = value;
    }
    Some(solution)
}

/// A lid line `y = height + tilt * dx + curvature * dx^2 / reach` around the iris centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LidLine {
    pub(crate) centre_x: f32,
    pub(crate) height: f32,
    pub(crate) tilt: f32,
    pub(crate) curvature: f32,
}

impl LidLine {
    /// The line's height at a column, pixels from the top.
    #[must_use]
    pub fn y(&self, x: f32) -> f32 {
        let dx = x - self.centre_x;
        self.height + self.tilt * dx + self.curvature * dx * dx
    }

    fn scaled(&self, factor: f32) -> Self {
        Self {
            centre_x: (self.centre_x + 0.5) * factor - 0.5,
            height: (self.height + 0.5) * factor - 0.5,
            tilt: self.tilt,
            curvature: self.curvature / factor,
        }
    }
}

/// Where pupil and iris are, and which pixels show the iris.
#[derive(Debug, Clone)]
pub struct Segmentation {
    /// The pupil.
    pub pupil: Circle,
    /// The iris' outer edge.
    pub limbus: Circle,
    /// The pupil's outline.
    pub pupil_contour: Contour,
    /// The iris' outline.
    pub limbus_contour: Contour,
    /// Upper lid, where it covers the iris.
    pub upper_lid: Option<LidLine>,
    /// Lower lid, where it covers the iris.
    pub lower_lid: Option<LidLine>,
    /// Grey step across the pupil's edge.
    pub pupil_step: f32,
    /// Grey step across the limbus.
    pub limbus_step: f32,
    /// 255 where the pixel shows unobstructed iris.
    pub(crate) visible: Grey,
}

impl Segmentation {
    /// The pixels that show unobstructed iris, as runs: where each begins, row by row from the top left, and how long it is.
    #[must_use]
    pub fn visible_runs(&self) -> Vec<(usize, usize)> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (at, pixel) in self.visible.pixels().iter().enumerate() {
            if *pixel == 0 {
                continue;
            }
            match runs.last_mut() {
                Some((start, length)) if *start + *length == at => *length += 1,
                _ => runs.push((at, 1)),
            }
        }
        runs
    }

    /// The same in a picture that is `factor` times as large, of the given size.
    pub(crate) fn scaled(
        &self,
        factor: f32,
        width: usize,
        height: usize,
    ) -> Result<Self, VisionError> {
        let size = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        Ok(Self {
            pupil: self.pupil.scaled(factor),
            limbus: self.limbus.scaled(factor),
            pupil_contour: self.pupil_contour.scaled(factor),
            limbus_contour: self.limbus_contour.scaled(factor),
            upper_lid: self.upper_lid.map(|lid| lid.scaled(factor)),
            lower_lid: self.lower_lid.map(|lid| lid.scaled(factor)),
            pupil_step: self.pupil_step,
            limbus_step: self.limbus_step,
            visible: self
                .visible
                .resized(size(width), size(height), "scaling a mask")?,
        })
    }

    /// Pupil radius per iris radius.
    #[must_use]
    pub fn dilation(&self) -> f32 {
        self.pupil.radius / self.limbus.radius.max(1.0)
    }

    /// Distance of the two centres per iris radius.
    #[must_use]
    pub fn centre_offset(&self) -> f32 {
        self.pupil.centre_distance(&self.limbus) / self.limbus.radius.max(1.0)
    }
}
