//! Scenes made of permitted pictures: what a gate's camera would have seen, for tests and the demo.
//!
//! Deterministic: the same input gives the same pixels.

use opencv::core::{
    BORDER_CONSTANT, BORDER_REPLICATE, Mat, MatTraitConst, Rect, Scalar, Size, Vector,
};
use opencv::imgproc;

use crate::{BoundingBox, Frame, VisionError};

const STAGE: &str = "making a scene";

fn cv<T>(result: opencv::Result<T>) -> Result<T, VisionError> {
    result.map_err(VisionError::cv(STAGE))
}

fn like(frame: &Frame, pixels: Mat) -> Frame {
    Frame::from_mat(&frame.camera, frame.captured_at, pixels)
}

/// Gaussian blur with the given standard deviation in pixels.
///
/// # Errors
/// OpenCV failed.
pub fn blurred(frame: &Frame, sigma_px: f64) -> Result<Frame, VisionError> {
    let mut out = Mat::default();
    cv(imgproc::gaussian_blur_def(
        &frame.pixels,
        &mut out,
        Size::new(0, 0),
        sigma_px,
    ))?;
    Ok(like(frame, out))
}

/// The frame moved, turned and brightened a little, as a standing person does between frames; `step` picks which.
///
/// # Errors
/// OpenCV failed.
pub fn jittered(frame: &Frame, step: u32) -> Result<Frame, VisionError> {
    let phase = f64::from(step);
    let (angle, scale) = ((phase * 1.7).sin() * 0.9, 1.0 + (phase * 0.9).sin() * 0.006);
    let unit = f64::from(frame.width()) / 640.0;
    let (dx, dy) = (
        (phase * 1.3).sin() * 2.5 * unit,
        (phase * 2.1).cos() * 1.8 * unit,
    );
    let moved = warped(frame, angle, scale, (dx, dy))?;
    let mut lit = Mat::default();
    cv(moved
        .pixels
        .convert_to(&mut lit, -1, 1.0 + (phase * 0.7).sin() * 0.02, 0.0))?;
    Ok(like(frame, lit))
}

/// The frame turned about its middle, counter-clockwise positive.
///
/// # Errors
/// OpenCV failed.
pub fn turned(frame: &Frame, angle_deg: f64) -> Result<Frame, VisionError> {
    warped(frame, angle_deg, 1.0, (0.0, 0.0))
}

fn warped(
    frame: &Frame,
    angle_deg: f64,
    scale: f64,
    (dx, dy): (f64, f64),
) -> Result<Frame, VisionError> {
    let centre =
        opencv::core::Point2f::new(frame.width() as f32 / 2.0, frame.height() as f32 / 2.0);
    let matrix = cv(imgproc::get_rotation_matrix_2d(centre, angle_deg, scale))?;
    let value = |row, column| cv(matrix.at_2d::<f64>(row, column)).copied();
    let matrix = cv(Mat::from_slice_2d(&[
        [value(0, 0)?, value(0, 1)?, value(0, 2)? + dx],
        [value(1, 0)?, value(1, 1)?, value(1, 2)? + dy],
    ]))?;
    let mut moved = Mat::default();
    let size = cv(frame.pixels.size())?;
    cv(imgproc::warp_affine(
        &frame.pixels,
        &mut moved,
        &matrix,
        size,
        imgproc::INTER_LINEAR,
        BORDER_REPLICATE,
        Scalar::default(),
    ))?;
    Ok(like(frame, moved))
}

/// The frame scaled to `share` of a canvas of `width` x `height` pixels and continued to its edges by a strongly
/// blurred enlargement of itself, so that the surroundings of the face are in the picture without a visible border.
///
/// # Errors
/// OpenCV failed.
pub fn on_larger_canvas(
    frame: &Frame,
    width: i32,
    height: i32,
    share: f64,
) -> Result<Frame, VisionError> {
    let factor = (f64::from(width) / f64::from(frame.width()))
        .min(f64::from(height) / f64::from(frame.height()))
        * share;
    let inner = frame.scaled(factor)?;
    let left = (width - inner.width()) / 2;
    let top = (height - inner.height()) / 2;
    continued(&inner, width, height, left, top)
}

/// One person of a picture, alone in a frame of `width` x `height` pixels, the face `face_px` high and a little above the
/// middle, as a gate's camera sees them. Neighbours are cut away; what the picture does not show is continued from its
/// edge and blurred.
///
/// # Errors
/// OpenCV failed.
pub fn alone(
    frame: &Frame,
    faces: &[BoundingBox],
    index: usize,
    (width, height): (i32, i32),
    face_px: f32,
) -> Result<Frame, VisionError> {
    let face = faces
        .get(index)
        .ok_or(VisionError::Contract { stage: STAGE })?;
    let margin = face.width() * 0.1;
    let (mut left, mut right) = (0.0_f32, frame.width() as f32);
    let others = faces
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != index);
    for (_, other) in others {
        if other.centre().0 < face.centre().0 {
            left = left.max(other.right.min(face.left - margin) + margin);
        } else {
            right = right.min(other.left.max(face.right + margin) - margin);
        }
    }
    let part = frame.part(left as i32, 0, (right - left) as i32, frame.height())?;
    let factor = face_px / face.height();
    let part = part.scaled(f64::from(factor))?;
    let (x, y) = (
        (face.centre().0 - left.floor()) * factor,
        face.centre().1 * factor,
    );
    // Where the part's corner comes to lie in the new frame.
    let at_x = width / 2 - x as i32;
    let at_y = height * 45 / 100 - y as i32;
    let visible = part.part(
        (-at_x).max(0),
        (-at_y).max(0),
        width - at_x.max(0),
        height - at_y.max(0),
    )?;
    continued(&visible, width, height, at_x.max(0), at_y.max(0))
}

/// Puts the frame at (`left`, `top`) of a larger one and continues its edges, blurred.
fn continued(
    frame: &Frame,
    width: i32,
    height: i32,
    left: i32,
    top: i32,
) -> Result<Frame, VisionError> {
    let inner = &frame.pixels;
    let mut whole = Mat::default();
    cv(opencv::core::copy_make_border(
        inner,
        &mut whole,
        top,
        (height - inner.rows() - top).max(0),
        left,
        (width - inner.cols() - left).max(0),
        BORDER_REPLICATE,
        Scalar::default(),
    ))?;
    // Soften the streaks that replicating makes, but keep the picture itself.
    let mut soft = Mat::default();
    cv(imgproc::gaussian_blur_def(
        &whole,
        &mut soft,
        Size::new(0, 0),
        9.0,
    ))?;
    let mut area = cv(Mat::roi_mut(
        &mut soft,
        Rect::new(left, top, inner.cols(), inner.rows()),
    ))?;
    cv(inner.copy_to(&mut area))?;
    drop(area);
    Ok(like(frame, soft))
}

/// A print or screen of the frame held in front of a grey scene: white paper border, slight perspective, loss of
/// contrast, halftone grain.
///
/// # Errors
/// OpenCV failed.
pub fn picture_of_picture(frame: &Frame, width: i32, height: i32) -> Result<Frame, VisionError> {
    let factor = (f64::from(width) * 0.46 / f64::from(frame.width()))
        .min(f64::from(height) * 0.62 / f64::from(frame.height()));
    let inner = scaled(&frame.pixels, factor)?;
    let mut faded = Mat::default();
    cv(inner.convert_to(&mut faded, -1, 0.72, 46.0))?;
    let border = (inner.cols() / 14).max(6);
    let mut sheet = Mat::default();
    let white = Scalar::new(232.0, 238.0, 240.0, 0.0);
    cv(opencv::core::copy_make_border(
        &faded,
        &mut sheet,
        border,
        border,
        border,
        border,
        BORDER_CONSTANT,
        white,
    ))?;
    let (w, h) = (sheet.cols() as f32, sheet.rows() as f32);
    let (x, y) = ((width as f32 - w) / 2.0, (height as f32 - h) / 2.0);
    let point = opencv::core::Point2f::new;
    let from = Vector::<opencv::core::Point2f>::from_slice(&[
        point(0.0, 0.0),
        point(w, 0.0),
        point(w, h),
        point(0.0, h),
    ]);
    let to = Vector::<opencv::core::Point2f>::from_slice(&[
        point(x + 4.0, y),
        point(x + w, y + h * 0.025),
        point(x + w - 3.0, y + h),
        point(x, y + h * 0.985),
    ]);
    let matrix = cv(imgproc::get_perspective_transform_def(&from, &to))?;
    let mut scene = cv(Mat::new_rows_cols_with_default(
        height,
        width,
        opencv::core::CV_8UC3,
        Scalar::new(92.0, 96.0, 104.0, 0.0),
    ))?;
    cv(imgproc::warp_perspective(
        &sheet,
        &mut scene,
        &matrix,
        Size::new(width, height),
        imgproc::INTER_LINEAR,
        opencv::core::BORDER_TRANSPARENT,
        Scalar::default(),
    ))?;
    let mut soft = Mat::default();
    cv(imgproc::gaussian_blur_def(
        &scene,
        &mut soft,
        Size::new(0, 0),
        0.8,
    ))?;
    Ok(like(frame, soft))
}

/// Two frames side by side at the same height: two people in view.
///
/// # Errors
/// OpenCV failed.
pub fn side_by_side(left: &Frame, right: &Frame) -> Result<Frame, VisionError> {
    let factor = f64::from(left.height()) / f64::from(right.height());
    let right_scaled = scaled(&right.pixels, factor)?;
    let mut fitted = Mat::default();
    cv(imgproc::resize(
        &right_scaled,
        &mut fitted,
        Size::new(right_scaled.cols(), left.height()),
        0.0,
        0.0,
        imgproc::INTER_LINEAR,
    ))?;
    let mut both = Mat::default();
    cv(opencv::core::hconcat2(&left.pixels, &fitted, &mut both))?;
    Ok(like(left, both))
}

impl Frame {
    /// A part of the frame; clipped to its edges.
    ///
    /// # Errors
    /// Nothing of the frame is left.
    pub fn part(&self, left: i32, top: i32, width: i32, height: i32) -> Result<Frame, VisionError> {
        let (right, bottom) = (
            (left + width).min(self.width()),
            (top + height).min(self.height()),
        );
        let (left, top) = (left.max(0), top.max(0));
        if right <= left || bottom <= top {
            return Err(VisionError::Contract { stage: STAGE });
        }
        let area = cv(Mat::roi(
            &self.pixels,
            Rect::new(left, top, right - left, bottom - top),
        ))?;
        Ok(like(self, cv(area.try_clone())?))
    }

    /// The frame scaled by a factor.
    ///
    /// # Errors
    /// OpenCV failed.
    pub fn scaled(&self, factor: f64) -> Result<Frame, VisionError> {
        Ok(like(self, scaled(&self.pixels, factor)?))
    }

    /// Brightness and contrast changed: `p * gain + offset`.
    ///
    /// # Errors
    /// OpenCV failed.
    pub fn relit(&self, gain: f64, offset: f64) -> Result<Frame, VisionError> {
        let mut out = Mat::default();
        cv(self.pixels.convert_to(&mut out, -1, gain, offset))?;
        Ok(like(self, out))
    }
}

fn scaled(pixels: &Mat, factor: f64) -> Result<Mat, VisionError> {
    let mut out = Mat::default();
    let method = if factor < 1.0 {
        imgproc::INTER_AREA
    } else {
        imgproc::INTER_LINEAR
    };
    cv(imgproc::resize(
        pixels,
        &mut out,
        Size::new(0, 0),
        factor,
        factor,
        method,
    ))?;
    Ok(out)
}
