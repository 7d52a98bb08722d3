//! Step 1 of the classical path: bright reflections are filled, and the smoothed pictures are made that later steps read.

use opencv::imgproc;

use super::plane::Grey;
use crate::VisionError;

const STAGE: &str = "glints";
/// A reflection stands out from the opened picture by more than this.
const TOP_HAT: u8 = 45;
/// A reflection is at least this bright.
const BRIGHT: u8 = 120;
/// The structuring ellipse, as a share of the picture's short side.
const ELLIPSE_SHARE: f32 = 0.055;

/// One eye picture and what is derived from it once.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// As captured.
    pub(crate) grey: Grey,
    /// Reflections filled, Gaussian sigma 1.
    pub(crate) fine: Grey,
    /// Reflections filled, Gaussian sigma 2.
    pub(crate) smooth: Grey,
    /// Reflections filled, median of 5 x 5.
    pub(crate) median: Grey,
    /// Reflections filled.
    pub(crate) filled: Grey,
}

/// Fills small bright reflections with the picture opened by an ellipse.
pub(crate) fn prepare(grey: Grey) -> Result<Prepared, VisionError> {
    let short = grey.width().min(grey.height()) as f32;
    let side = ((short * ELLIPSE_SHARE) as i32).clamp(5, 25) | 1;
    let opened = grey.morphology(
        imgproc::MORPH_OPEN,
        imgproc::MORPH_ELLIPSE,
        side,
        side,
        STAGE,
    )?;
    let mut spots = Grey::filled(grey.width(), grey.height(), 0);
    for ((spot, value), ground) in spots
        .pixels_mut()
        .iter_mut()
        .zip(grey.pixels())
        .zip(opened.pixels())
    {
        if *value > BRIGHT && value.saturating_sub(*ground) > TOP_HAT {
            *spot = 255;
        }
    }
    let glints = spots.morphology(imgproc::MORPH_DILATE, imgproc::MORPH_RECT, 5, 5, STAGE)?;
    let mut filled = grey.clone();
    for ((value, spot), ground) in filled
        .pixels_mut()
        .iter_mut()
        .zip(glints.pixels())
        .zip(opened.pixels())
    {
        if *spot > 0 {
            *value = *ground;
        }
    }
    Ok(Prepared {
        fine: filled.blurred(1.0, STAGE)?,
        smooth: filled.blurred(2.0, STAGE)?,
        median: filled.median(5, STAGE)?,
        grey,
        filled,
    })
}
