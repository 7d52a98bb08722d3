//! Face detection: Ultra-Light RFB-320 (biometrics.md F.1).

use crate::runtime::Model;
use crate::tensor::{Planes, planar, resize};
use crate::{Frame, VisionError};

const STAGE: &str = "detection";
const WIDTH: i32 = 320;
const HEIGHT: i32 = 240;
/// Boxes below this face probability are dropped.
pub(crate) const MIN_SCORE: f32 = 0.7;
/// Boxes that overlap a better one by more than this are the same face.
const SAME_FACE_IOU: f32 = 0.4;

/// A face's box in pixels of the frame; may reach over its edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundingBox {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Right edge.
    pub right: f32,
    /// Lower edge.
    pub bottom: f32,
    /// Face probability, 0 to 1.
    pub score: f32,
}

impl BoundingBox {
    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> f32 {
        (self.right - self.left).max(0.0)
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> f32 {
        (self.bottom - self.top).max(0.0)
    }

    /// Area in square pixels.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Centre.
    #[must_use]
    pub fn centre(&self) -> (f32, f32) {
        (
            f32::midpoint(self.left, self.right),
            f32::midpoint(self.top, self.bottom),
        )
    }
}

/// Overlap of two boxes, 0 to 1.
#[must_use]
pub fn intersection_over_union(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let width = (a.right.min(b.right) - a.left.max(b.left)).max(0.0);
    let height = (a.bottom.min(b.bottom) - a.top.max(b.top)).max(0.0);
    let shared = width * height;
    let all = a.area() + b.area() - shared;
    if all > 0.0 { shared / all } else { 0.0 }
}

/// Finds faces, largest first.
pub(crate) fn detect(model: &mut Model, frame: &Frame) -> Result<Vec<BoundingBox>, VisionError> {
    let resized = resize(&frame.pixels, WIDTH, HEIGHT, STAGE)?;
    let input = planar(&resized, Planes::Rgb, [127.0; 3], [1.0 / 128.0; 3], STAGE)?;
    let [scores, boxes] = model.run(STAGE, [1, 3, 240, 320], &input, ["scores", "boxes"])?;
    if scores.len() * 2 != boxes.len() || scores.len() % 2 != 0 {
        return Err(VisionError::Contract { stage: STAGE });
    }
    #[expect(clippy::cast_precision_loss, reason = "frame sides are far below 2^24")]
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let mut found: Vec<BoundingBox> = scores
        .chunks_exact(2)
        .zip(boxes.chunks_exact(4))
        .filter_map(|(score, corners)| match (score, corners) {
            ([_, score], [left, top, right, bottom]) if *score > MIN_SCORE && score.is_finite() => {
                Some(BoundingBox {
                    left: left * width,
                    top: top * height,
                    right: right * width,
                    bottom: bottom * height,
                    score: *score,
                })
            }
            _ => None,
        })
        .collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<BoundingBox> = Vec::new();
    for candidate in found {
        if kept
            .iter()
            .all(|face| intersection_over_union(face, &candidate) <= SAME_FACE_IOU)
        {
            kept.push(candidate);
        }
    }
    kept.sort_by(|a, b| b.area().total_cmp(&a.area()));
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_of_equal_half_and_distant_boxes() {
        let at = |left: f32| BoundingBox {
            left,
            top: 0.0,
            right: left + 10.0,
            bottom: 10.0,
            score: 1.0,
        };
        assert!((intersection_over_union(&at(0.0), &at(0.0)) - 1.0).abs() < 1e-6);
        assert!((intersection_over_union(&at(0.0), &at(5.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert!(intersection_over_union(&at(0.0), &at(50.0)) < 1e-6);
    }
}
