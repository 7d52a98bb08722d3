//! Similarity alignment to the recognition model's 112 x 112 template (biometrics.md F.3).

use opencv::core::{BORDER_CONSTANT, Mat, Scalar, Size};
use opencv::imgproc;

use crate::landmarks::{FivePoints, Point};
use crate::{Frame, VisionError};

const STAGE: &str = "alignment";
/// Side of the aligned face in pixels.
pub const ALIGNED_SIDE_PX: i32 = 112;

const TEMPLATE: [(f32, f32); 5] = [
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
];

/// Least-squares similarity (scale, rotation, translation; no reflection) from the five points to the template:
/// `[[a, -b, tx], [b, a, ty]]` (Umeyama 1991, two-dimensional closed form).
fn similarity(points: &FivePoints) -> [[f64; 3]; 2] {
    let count = 5.0;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count;
    let (mx, my) = (
        mean(&mut points.iter().map(|p| f64::from(p.x))),
        mean(&mut points.iter().map(|p| f64::from(p.y))),
    );
    let (ux, uy) = (
        mean(&mut TEMPLATE.iter().map(|p| f64::from(p.0))),
        mean(&mut TEMPLATE.iter().map(|p| f64::from(p.1))),
    );
    let (mut dot, mut cross, mut spread) = (0.0, 0.0, 0.0);
    for (Point { x, y }, (u, v)) in points.iter().zip(TEMPLATE) {
        let (x, y) = (f64::from(*x) - mx, f64::from(*y) - my);
        let (u, v) = (f64::from(u) - ux, f64::from(v) - uy);
        dot += x * u + y * v;
        cross += x * v - y * u;
        spread += x * x + y * y;
    }
    let spread = spread.max(1e-9);
    let (a, b) = (dot / spread, cross / spread);
    [[a, -b, ux - a * mx + b * my], [b, a, uy - b * mx - a * my]]
}

/// Warps the face to the template; outside the frame is black.
///
/// # Errors
/// OpenCV failed.
pub fn aligned_face(frame: &Frame, points: &FivePoints) -> Result<Frame, VisionError> {
    let matrix = Mat::from_slice_2d(&similarity(points)).map_err(VisionError::cv(STAGE))?;
    let mut face = Mat::default();
    imgproc::warp_affine(
        &frame.pixels,
        &mut face,
        &matrix,
        Size::new(ALIGNED_SIDE_PX, ALIGNED_SIDE_PX),
        imgproc::INTER_LINEAR,
        BORDER_CONSTANT,
        Scalar::default(),
    )
    .map_err(VisionError::cv(STAGE))?;
    Ok(Frame::from_mat(&frame.camera, frame.captured_at, face))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_scaled_and_shifted_template_maps_back() {
        let (scale, angle) = (2.5_f32, 0.4_f32);
        let points = TEMPLATE.map(|(x, y)| Point {
            x: scale * (x * angle.cos() - y * angle.sin()) + 31.0,
            y: scale * (x * angle.sin() + y * angle.cos()) - 7.0,
        });
        let [[a, b, tx], [c, d, ty]] = similarity(&points);
        for (point, (u, v)) in points.iter().zip(TEMPLATE) {
            let (x, y) = (f64::from(point.x), f64::from(point.y));
            assert!((a * x + b * y + tx - f64::from(u)).abs() < 1e-3);
            assert!((c * x + d * y + ty - f64::from(v)).abs() < 1e-3);
        }
    }
}
