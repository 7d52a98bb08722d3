//! Pixels to network input.

use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Size};
use opencv::imgproc;

use crate::VisionError;

/// Order of the colour planes in the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planes {
    Bgr,
    Rgb,
}

/// Resizes with bilinear interpolation, aspect not kept.
pub(crate) fn resize(
    pixels: &Mat,
    width: i32,
    height: i32,
    stage: &'static str,
) -> Result<Mat, VisionError> {
    let mut resized = Mat::default();
    imgproc::resize(
        pixels,
        &mut resized,
        Size::new(width, height),
        0.0,
        0.0,
        imgproc::INTER_LINEAR,
    )
    .map_err(VisionError::cv(stage))?;
    Ok(resized)
}

/// 8-bit BGR pixels to planar floats, `(p - mean[c]) * scale[c]`, channels in the order of `planes`.
pub(crate) fn planar(
    pixels: &Mat,
    planes: Planes,
    mean: [f32; 3],
    scale: [f32; 3],
    stage: &'static str,
) -> Result<Vec<f32>, VisionError> {
    let continuous;
    let source = if pixels.is_continuous() {
        pixels
    } else {
        continuous = pixels.try_clone().map_err(VisionError::cv(stage))?;
        &continuous
    };
    let bytes = source.data_bytes().map_err(VisionError::cv(stage))?;
    let area = bytes.len() / 3;
    let mut values = Vec::with_capacity(area * 3);
    for plane in 0..3 {
        let channel = match planes {
            Planes::Bgr => plane,
            Planes::Rgb => 2 - plane,
        };
        let (Some(mean), Some(scale)) = (mean.get(plane), scale.get(plane)) else {
            continue;
        };
        values.extend(
            bytes
                .chunks_exact(3)
                .filter_map(|pixel| pixel.get(channel))
                .map(|value| (f32::from(*value) - mean) * scale),
        );
    }
    Ok(values)
}

/// Grey version of BGR pixels.
pub(crate) fn grey(pixels: &Mat, stage: &'static str) -> Result<Mat, VisionError> {
    let mut grey = Mat::default();
    imgproc::cvt_color_def(pixels, &mut grey, imgproc::COLOR_BGR2GRAY)
        .map_err(VisionError::cv(stage))?;
    Ok(grey)
}

/// A square crop, resized to `side` pixels; outside the frame is black. One affine warp, so crop and resize sample the
/// frame once, bilinearly, as the models' contracts say.
pub(crate) fn square_crop(
    pixels: &Mat,
    left: f32,
    top: f32,
    extent: f32,
    side: i32,
    stage: &'static str,
) -> Result<Mat, VisionError> {
    #[expect(clippy::cast_precision_loss, reason = "sides are small")]
    let scale = f64::from(side as f32 / extent.max(1.0));
    // Pixel centres: destination centre (0.5, 0.5) comes from source left + 0.5 / scale.
    let shift = |start: f32| -f64::from(start) * scale + 0.5 * scale - 0.5;
    let matrix = Mat::from_slice_2d(&[[scale, 0.0, shift(left)], [0.0, scale, shift(top)]])
        .map_err(VisionError::cv(stage))?;
    let mut crop = Mat::default();
    imgproc::warp_affine(
        pixels,
        &mut crop,
        &matrix,
        Size::new(side, side),
        imgproc::INTER_LINEAR,
        opencv::core::BORDER_CONSTANT,
        opencv::core::Scalar::default(),
    )
    .map_err(VisionError::cv(stage))?;
    Ok(crop)
}

/// Softmax of a few logits.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let total: f32 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}
