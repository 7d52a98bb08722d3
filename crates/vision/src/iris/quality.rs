//! Iris quality and the defects that it names (biometrics.md I.5).

use std::f32::consts::TAU;

use sallyport_domain::QualityDefect;

use super::geometry::{CONTOUR_ANGLES, Circle, Segmentation};
use super::plane::Grey;
use super::rubber_sheet::Strip;
use crate::{Frame, VisionError};

/// Share of the limbus that may lie outside the picture.
const MAX_CUT_OFF: f32 = 0.08;
/// How many pixels are asked for their colour.
const COLOUR_SAMPLES: usize = 10_000;
/// Mean difference of the largest and the smallest channel from which a picture counts as coloured.
const MAX_COLOUR: u64 = 12;

/// Measures of one eye picture.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct IrisQuality {
    /// Share of the unrolled iris that shows, 0 to 1.
    pub usable: f32,
    /// Pupil radius per iris radius.
    pub dilation: f32,
    /// Distance of pupil and iris centre per iris radius.
    pub centre_offset: f32,
    /// Short per long axis of the iris' outline: the cosine of the angle between gaze and camera axis, roughly.
    pub roundness: f32,
    /// Grey step across the pupil's edge.
    pub pupil_step: f32,
    /// Grey step across the limbus.
    pub limbus_step: f32,
    /// Iris radius in the frame's own pixels.
    pub radius_px: f32,
    /// Share of saturated pixels (254 and more) between the outlines.
    pub saturated: f32,
    /// Mean absolute Laplacian of the shown iris per its grey deviation: how fine the detail is.
    pub sharpness: f32,
    /// All of it as one number, 0 (unusable) to 100.
    pub score: u8,
}

/// Limits of the gate. The defaults are those measured in biometrics.md I.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IrisQualityPolicy {
    /// Least usable share.
    pub min_usable: f32,
    /// Narrowest pupil.
    pub min_dilation: f32,
    /// Widest pupil.
    pub max_dilation: f32,
    /// Largest centre offset.
    pub max_centre_offset: f32,
    /// Least roundness. The outline's fit is not sure by some 0.03; 0.84 is a gaze of 33 degrees.
    pub min_roundness: f32,
    /// Least step across the pupil's edge.
    pub min_pupil_step: f32,
    /// Least step across the limbus.
    pub min_limbus_step: f32,
    /// Least iris radius, pixels.
    pub min_radius_px: f32,
    /// Most saturated pixels.
    pub max_saturated: f32,
    /// Least sharpness; depends on the camera, so 0 (off) until it is calibrated.
    pub min_sharpness: f32,
}

impl Default for IrisQualityPolicy {
    fn default() -> Self {
        Self {
            min_usable: 0.65,
            min_dilation: 0.20,
            max_dilation: 0.60,
            max_centre_offset: 0.10,
            min_roundness: 0.84,
            min_pupil_step: 15.0,
            min_limbus_step: 12.0,
            min_radius_px: 50.0,
            max_saturated: 0.02,
            min_sharpness: 0.0,
        }
    }
}

/// Measures everything but the score.
pub(crate) fn measure(
    grey: &Grey,
    segmentation: &Segmentation,
    strip: &Strip,
    frame_scale: f32,
) -> IrisQuality {
    let mut quality = IrisQuality {
        usable: strip.usable(),
        dilation: segmentation.dilation(),
        centre_offset: segmentation.centre_offset(),
        roundness: segmentation.limbus_contour.slant(0.0).0,
        pupil_step: segmentation.pupil_step,
        limbus_step: segmentation.limbus_step,
        radius_px: segmentation.limbus.radius / frame_scale.max(0.01),
        saturated: saturated(strip),
        sharpness: sharpness(grey, segmentation),
        score: 0,
    };
    quality.score = score(&quality);
    quality
}

/// Whether so much of the limbus lies outside the picture that it is no lid's doing but the frame's edge.
pub(crate) fn cut_off(grey: &Grey, limbus: &Circle) -> bool {
    let outside = (0..CONTOUR_ANGLES)
        .filter(|index| {
            let (sine, cosine) = (TAU * *index as f32 / CONTOUR_ANGLES as f32).sin_cos();
            !grey.contains(
                limbus.x + limbus.radius * cosine,
                limbus.y + limbus.radius * sine,
            )
        })
        .count();
    outside as f32 > MAX_CUT_OFF * CONTOUR_ANGLES as f32
}

/// Whether a frame shows colours, as no near-infrared camera's does. JPEG's own colour noise is far smaller.
///
/// # Errors
/// The frame's pixels are not readable.
pub(crate) fn shows_colours(frame: &Frame) -> Result<bool, VisionError> {
    let bytes = frame.bgr()?;
    let (pixels, _) = bytes.as_chunks::<3>();
    let step = (pixels.len() / COLOUR_SAMPLES).max(1);
    let (mut sum, mut count) = (0_u64, 0_u64);
    for [blue, green, red] in pixels.iter().step_by(step) {
        let least = blue.min(green).min(red);
        let most = blue.max(green).max(red);
        sum += u64::from(most - least);
        count += 1;
    }
    Ok(sum > MAX_COLOUR * count)
}

fn saturated(strip: &Strip) -> f32 {
    let bright = strip.values.iter().filter(|value| **value >= 254.0).count();
    bright as f32 / strip.values.len().max(1) as f32
}

fn sharpness(grey: &Grey, segmentation: &Segmentation) -> f32 {
    let reach = segmentation.limbus.radius as i32;
    let (cx, cy) = (segmentation.limbus.x as i32, segmentation.limbus.y as i32);
    let (mut laplacian, mut sum, mut squares, mut count) = (0.0, 0.0, 0.0, 0.0_f32);
    for y in cy - reach..=cy + reach {
        for x in cx - reach..=cx + reach {
            if segmentation.visible.at(x, y) == 0 {
                continue;
            }
            let value = f32::from(grey.at(x, y));
            let around = f32::from(grey.at(x - 1, y))
                + f32::from(grey.at(x + 1, y))
                + f32::from(grey.at(x, y - 1))
                + f32::from(grey.at(x, y + 1));
            laplacian += (around - 4.0 * value).abs();
            sum += value;
            squares += value * value;
            count += 1.0;
        }
    }
    if count < 100.0 {
        return 0.0;
    }
    let mean = sum / count;
    let deviation = (squares / count - mean * mean).max(0.0).sqrt();
    laplacian / count / deviation.max(2.0)
}

/// 0 to 100: the product of how well each measure stands, so that one bad one is enough for a bad score.
fn score(quality: &IrisQuality) -> u8 {
    let ramp = |value: f32, from: f32, to: f32| ((value - from) / (to - from)).clamp(0.0, 1.0);
    let whole = ramp(quality.usable, 0.2, 0.9)
        * ramp(quality.pupil_step, 2.0, 25.0).sqrt()
        * ramp(quality.limbus_step, 2.0, 20.0).sqrt()
        * (1.0 - ramp(quality.centre_offset, 0.05, 0.25))
        * ramp(quality.radius_px, 20.0, 80.0).sqrt()
        * (1.0 - ramp((quality.dilation - 0.4).abs(), 0.12, 0.4));
    (100.0 * whole) as u8
}

impl IrisQualityPolicy {
    /// What speaks against using the picture.
    pub(crate) fn defects(&self, quality: &IrisQuality) -> Vec<QualityDefect> {
        let mut defects = Vec::new();
        let mut check = |bad: bool, defect| {
            if bad {
                defects.push(defect);
            }
        };
        check(
            quality.radius_px < self.min_radius_px,
            QualityDefect::IrisTooSmall,
        );
        check(
            quality.usable < self.min_usable,
            QualityDefect::IrisOccluded,
        );
        check(
            quality.dilation < self.min_dilation,
            QualityDefect::PupilTooNarrow,
        );
        check(
            quality.dilation > self.max_dilation,
            QualityDefect::PupilTooWide,
        );
        check(
            quality.roundness < self.min_roundness,
            QualityDefect::GazeAverted,
        );
        check(
            quality.centre_offset > self.max_centre_offset
                || quality.pupil_step < self.min_pupil_step
                || quality.limbus_step < self.min_limbus_step,
            QualityDefect::UnsteadyBoundary,
        );
        check(
            quality.saturated > self.max_saturated,
            QualityDefect::IrisSaturated,
        );
        check(
            quality.sharpness < self.min_sharpness,
            QualityDefect::IrisBlurred,
        );
        defects
    }
}
