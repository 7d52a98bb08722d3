//! 68 landmarks (iBUG order) and the five points of alignment (biometrics.md F.2).

use crate::runtime::Model;
use crate::tensor::{grey, square_crop};
use crate::{BoundingBox, Frame, VisionError};
use opencv::core::{MatTraitConst, MatTraitConstManual};

const STAGE: &str = "landmarks";

/// A point in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Downwards.
    pub y: f32,
}

impl Point {
    /// Distance in pixels.
    #[must_use]
    pub fn distance(self, other: Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// Eye centres, nose tip and mouth corners; left and right as seen in the picture.
pub type FivePoints = [Point; 5];

/// The 68 landmarks of one face.
#[derive(Debug, Clone, PartialEq)]
pub struct Landmarks(Vec<Point>);

impl Landmarks {
    /// The 68 points in iBUG order.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.0
    }

    fn point(&self, index: usize) -> Point {
        self.0.get(index).copied().unwrap_or_default()
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful of points")]
    fn mean(&self, indices: &[usize]) -> Point {
        let count = indices.len() as f32;
        let sum =
            indices
                .iter()
                .map(|index| self.point(*index))
                .fold(Point::default(), |sum, point| Point {
                    x: sum.x + point.x,
                    y: sum.y + point.y,
                });
        Point {
            x: sum.x / count,
            y: sum.y / count,
        }
    }

    /// The five points that alignment uses.
    #[must_use]
    pub fn five_points(&self) -> FivePoints {
        [
            self.mean(&[37, 38, 40, 41]),
            self.mean(&[43, 44, 46, 47]),
            self.point(30),
            self.mean(&[48, 60]),
            self.mean(&[54, 64]),
        ]
    }

    /// Eye aspect ratio of the less open eye: lid distance over eye width (Soukupova and Cech, 2016).
    /// About 0.3 for open eyes and below 0.19 for closed ones, as these landmarks draw them.
    #[must_use]
    pub fn eye_aspect_ratio(&self) -> f32 {
        let ratio = |corner: usize| {
            let width = self
                .point(corner)
                .distance(self.point(corner + 3))
                .max(1e-3);
            let first = self.point(corner + 1).distance(self.point(corner + 5));
            let second = self.point(corner + 2).distance(self.point(corner + 4));
            (first + second) / (2.0 * width)
        };
        ratio(36).min(ratio(42))
    }

    /// Do the points stand as in a face: eyes above nose above mouth, left of right, in the face's own upright axes?
    #[must_use]
    pub fn plausible(&self) -> bool {
        let [left_eye, right_eye, nose, left_mouth, right_mouth] = self.five_points();
        let eyes = left_eye.distance(right_eye);
        if eyes < 4.0
            || self
                .0
                .iter()
                .any(|point| !point.x.is_finite() || !point.y.is_finite())
        {
            return false;
        }
        let (cos, sin) = (
            (right_eye.x - left_eye.x) / eyes,
            (right_eye.y - left_eye.y) / eyes,
        );
        let upright = |point: Point| {
            let (dx, dy) = (point.x - left_eye.x, point.y - left_eye.y);
            Point {
                x: (dx * cos + dy * sin) / eyes,
                y: (dy * cos - dx * sin) / eyes,
            }
        };
        let (nose, left_mouth, right_mouth) =
            (upright(nose), upright(left_mouth), upright(right_mouth));
        let mouth = f32::midpoint(left_mouth.y, right_mouth.y);
        (0.15..1.2).contains(&nose.y)
            && (0.5..2.0).contains(&mouth)
            && mouth > nose.y
            && (0.3..1.6).contains(&(right_mouth.x - left_mouth.x))
    }
}

/// The square around a box: side = box height, same centre; (left, top, side).
pub(crate) fn square(face: &BoundingBox) -> (f32, f32, f32) {
    let side = face.height();
    let (x, y) = face.centre();
    (x - side / 2.0, y - side / 2.0, side)
}

/// Finds the landmarks of one face.
pub(crate) fn landmarks(
    model: &mut Model,
    frame: &Frame,
    face: &BoundingBox,
) -> Result<Landmarks, VisionError> {
    let (left, top, side) = square(face);
    let crop = square_crop(&frame.pixels, left, top, side, 64, STAGE)?;
    let grey = grey(&crop, STAGE)?;
    let grey = if grey.is_continuous() {
        grey
    } else {
        grey.clone()
    };
    let bytes = grey.data_bytes().map_err(VisionError::cv(STAGE))?;
    let input: Vec<f32> = bytes
        .iter()
        .map(|value| f32::from(*value) / 256.0)
        .collect();
    let [output] = model.run(STAGE, [1, 1, 64, 64], &input, ["output"])?;
    if output.len() != 136 {
        return Err(VisionError::Contract { stage: STAGE });
    }
    let points = output
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [x, y] => Some(Point {
                x: x * side + left,
                y: y * side + top,
            }),
            _ => None,
        })
        .collect();
    Ok(Landmarks(points))
}
