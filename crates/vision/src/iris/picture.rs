//! Pictures of what the iris pipeline saw, for officers and developers.

use opencv::core::{Mat, MatTrait, MatTraitConst, Point as CvPoint, Scalar, Vec3b};
use opencv::imgproc;
use std::f32::consts::TAU;

use super::pipeline::EyeObservation;
use super::rubber_sheet::{STRIP_COLUMNS, STRIP_ROWS, Strip};
use crate::{Frame, VisionError};

const STAGE: &str = "drawing an iris";

/// The eye with outlines of pupil (yellow) and iris (green), lids (blue), and what is masked tinted red.
///
/// # Errors
/// OpenCV failed.
pub fn annotate_iris(frame: &Frame, eye: &EyeObservation) -> Result<Frame, VisionError> {
    let cv = |source| VisionError::OpenCv {
        stage: STAGE,
        source,
    };
    let mut picture = frame.pixels.try_clone().map_err(cv)?;
    if let Some(found) = &eye.segmentation {
        let limbus = &found.limbus_contour;
        for y in 0..picture.rows() {
            for x in 0..picture.cols() {
                let (px, py) = (x as f32, y as f32);
                if limbus.contains(px, py)
                    && !found.pupil_contour.contains(px, py)
                    && found.visible.at(x, y) == 0
                {
                    let pixel = picture.at_2d_mut::<Vec3b>(y, x).map_err(cv)?;
                    pixel.0[2] = pixel.0[2].saturating_add(90);
                }
            }
        }
        for (contour, colour) in [
            (&found.pupil_contour, Scalar::new(0.0, 220.0, 255.0, 0.0)),
            (limbus, Scalar::new(0.0, 230.0, 0.0, 0.0)),
        ] {
            for step in 0..360 {
                let (x, y) = contour.point(TAU * step as f32 / 360.0);
                dot(&mut picture, x, y, colour)?;
            }
        }
        for line in [found.upper_lid, found.lower_lid].into_iter().flatten() {
            let reach = found.limbus.radius as i32;
            for dx in -reach..=reach {
                let x = found.limbus.x + dx as f32;
                dot(
                    &mut picture,
                    x,
                    line.y(x),
                    Scalar::new(255.0, 120.0, 0.0, 0.0),
                )?;
            }
        }
    }
    Ok(Frame::from_mat(&frame.camera, frame.captured_at, picture))
}

fn dot(picture: &mut Mat, x: f32, y: f32, colour: Scalar) -> Result<(), VisionError> {
    imgproc::circle(
        picture,
        CvPoint::new((x + 0.5) as i32, (y + 0.5) as i32),
        0,
        colour,
        imgproc::FILLED,
        imgproc::LINE_8,
        0,
    )
    .map_err(VisionError::cv(STAGE))
}

/// The unrolled iris, and below it the same with what is masked in red.
///
/// # Errors
/// OpenCV failed.
pub fn strip_picture(
    camera: &str,
    captured_at: sallyport_domain::Timestamp,
    strip: &Strip,
) -> Result<Frame, VisionError> {
    let mut bytes = Vec::with_capacity(2 * 3 * STRIP_ROWS * STRIP_COLUMNS);
    for value in &strip.values {
        let grey = value.clamp(0.0, 255.0) as u8;
        bytes.extend_from_slice(&[grey; 3]);
    }
    for (value, mask) in strip.values.iter().zip(&strip.mask) {
        let grey = value.clamp(0.0, 255.0) as u8;
        if *mask > 0.5 {
            bytes.extend_from_slice(&[grey; 3]);
        } else {
            bytes.extend_from_slice(&[grey / 3, grey / 3, 200]);
        }
    }
    Frame::from_bgr(
        camera,
        captured_at,
        STRIP_COLUMNS as u32,
        2 * STRIP_ROWS as u32,
        &bytes,
    )
    .map_err(|_| VisionError::Contract { stage: STAGE })
}
