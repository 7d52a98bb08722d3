//! A picture with what the pipeline saw, for people who set up a gate.

use opencv::core::{Mat, Point as CvPoint, Rect, Scalar};
use opencv::imgproc;

use crate::frame::encode;
use crate::{Frame, FrameAnalysis, VisionError};

const STAGE: &str = "annotation";

#[expect(clippy::cast_possible_truncation, reason = "pixel positions")]
fn pixel(value: f32) -> i32 {
    value.round() as i32
}

/// A PNG file of the frame with boxes, landmarks and defects. Green: usable; amber: not.
///
/// # Errors
/// OpenCV failed.
pub fn annotate(frame: &Frame, analysis: &FrameAnalysis) -> Result<Vec<u8>, VisionError> {
    let mut picture = frame.pixels.clone();
    let unit = (frame.width().max(frame.height()) / 640).max(1);
    for (index, face) in analysis.faces.iter().enumerate() {
        let colour = if face.defects.is_empty() {
            Scalar::new(90.0, 200.0, 60.0, 0.0)
        } else {
            Scalar::new(0.0, 165.0, 255.0, 0.0)
        };
        let at = face.face;
        let area = Rect::new(
            pixel(at.left),
            pixel(at.top),
            pixel(at.width()),
            pixel(at.height()),
        );
        imgproc::rectangle(&mut picture, area, colour, 2 * unit, imgproc::LINE_AA, 0)
            .map_err(VisionError::cv(STAGE))?;
        for point in face.landmarks.points() {
            dot(
                &mut picture,
                point.x,
                point.y,
                unit,
                Scalar::new(255.0, 255.0, 255.0, 0.0),
            )?;
        }
        for point in face.landmarks.five_points() {
            dot(
                &mut picture,
                point.x,
                point.y,
                2 * unit,
                Scalar::new(255.0, 80.0, 80.0, 0.0),
            )?;
        }
        let words = if face.defects.is_empty() {
            format!(
                "face {}: usable, quality {:.0}",
                index + 1,
                face.quality.score
            )
        } else {
            let codes: Vec<_> = face.defects.iter().map(|defect| defect.code()).collect();
            format!("face {}: {}", index + 1, codes.join(", "))
        };
        let place = CvPoint::new(
            pixel(at.left).max(2),
            (pixel(at.top) - 6 * unit).max(14 * unit),
        );
        for (shade, width) in [(Scalar::default(), 3 * unit), (colour, unit)] {
            imgproc::put_text(
                &mut picture,
                &words,
                place,
                imgproc::FONT_HERSHEY_SIMPLEX,
                0.45 * f64::from(unit),
                shade,
                width,
                imgproc::LINE_AA,
                false,
            )
            .map_err(VisionError::cv(STAGE))?;
        }
    }
    encode(&picture, ".png", &[])
}

fn dot(picture: &mut Mat, x: f32, y: f32, radius: i32, colour: Scalar) -> Result<(), VisionError> {
    imgproc::circle(
        picture,
        CvPoint::new(pixel(x), pixel(y)),
        radius,
        colour,
        imgproc::FILLED,
        imgproc::LINE_AA,
        0,
    )
    .map_err(VisionError::cv(STAGE))
}
