//! A picture with what the pipeline saw, for people who set up a gate.

use opencv::core::{Mat, MatTraitConst, Point as CvPoint, Rect, Scalar};
use opencv::imgproc;

use crate::frame::encode;
use crate::{BoundingBox, FaceObservation, Frame, FrameAnalysis, VisionError};

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
    for (index, face) in analysis.faces.iter().enumerate() {
        let (colour, lines) = words(index + 1, face);
        let at = face.face;
        let area = Rect::new(
            pixel(at.left),
            pixel(at.top),
            pixel(at.width()),
            pixel(at.height()),
        );
        let thick = pixel(at.height() / 90.0).max(1);
        imgproc::rectangle(&mut picture, area, colour, thick, imgproc::LINE_AA, 0)
            .map_err(VisionError::cv(STAGE))?;
        let radius = pixel(at.height() / 130.0).max(1);
        let white = Scalar::new(255.0, 255.0, 255.0, 0.0);
        for point in face.landmarks.points() {
            dot(&mut picture, point.x, point.y, radius, white)?;
        }
        let blue = Scalar::new(255.0, 80.0, 80.0, 0.0);
        for point in face.landmarks.five_points() {
            dot(&mut picture, point.x, point.y, radius + 1, blue)?;
        }
        label(&mut picture, &at, &lines, colour)?;
    }
    encode(&picture, ".png", &[])
}

fn words(number: usize, face: &FaceObservation) -> (Scalar, Vec<String>) {
    if face.defects.is_empty() {
        let green = Scalar::new(90.0, 200.0, 60.0, 0.0);
        return (green, vec![format!("{number} usable")]);
    }
    let amber = Scalar::new(0.0, 165.0, 255.0, 0.0);
    let lines = face.defects.iter().enumerate().map(|(line, defect)| {
        if line == 0 {
            format!("{number} {}", defect.code())
        } else {
            defect.code().to_owned()
        }
    });
    (amber, lines.collect())
}

/// Lines of text below the box on a strip of the box's colour, as wide as the box and inside the picture.
fn label(
    picture: &mut Mat,
    at: &BoundingBox,
    lines: &[String],
    colour: Scalar,
) -> Result<(), VisionError> {
    const FONT: i32 = imgproc::FONT_HERSHEY_SIMPLEX;
    let mut baseline = 0;
    let wanted = (at.width() * 0.94).max(60.0);
    // All labels use the size at which a word of twelve letters fills the box.
    let sample = imgproc::get_text_size("1 twelve_letter", FONT, 1.0, 1, &mut baseline)
        .map_err(VisionError::cv(STAGE))?;
    #[expect(clippy::cast_precision_loss, reason = "text is far below 2^24 pixels")]
    let size = wanted / sample.width.max(1) as f32;
    #[expect(clippy::cast_precision_loss, reason = "text is far below 2^24 pixels")]
    let line_px = pixel(size * sample.height as f32 * 1.7).max(6);
    let height = line_px * i32::try_from(lines.len()).unwrap_or(1);
    let width = pixel(wanted / 0.94);
    let left = pixel(at.left).min(picture.cols() - width).max(0);
    let top = pixel(at.bottom).min(picture.rows() - height).max(0);
    let strip = Rect::new(left, top, width, height);
    imgproc::rectangle(picture, strip, colour, imgproc::FILLED, imgproc::LINE_8, 0)
        .map_err(VisionError::cv(STAGE))?;
    for (line, words) in (1..).zip(lines) {
        let place = CvPoint::new(left + line_px / 4, top + line_px * line - line_px / 4);
        imgproc::put_text(
            picture,
            words,
            place,
            FONT,
            f64::from(size),
            Scalar::default(),
            pixel(size * 2.0).max(1),
            imgproc::LINE_AA,
            false,
        )
        .map_err(VisionError::cv(STAGE))?;
    }
    Ok(())
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
