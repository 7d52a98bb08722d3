//! Step 7 of the classical path: which pixels between the outlines show the iris.
//!
//! Lids cut off their side; dark strands that hang from the upper lid are lashes; what is bright and far from the
//! horizontal is skin; what is very bright is a reflection.

use opencv::imgproc;

use super::geometry::{Circle, Contour, LidLine};
use super::glints::Prepared;
use super::lids::IrisTone;
use super::plane::{Grey, components};
use crate::VisionError;

const STAGE: &str = "occlusion";
const LASH: f32 = 2.2;
/// This many lash pixels in a column make everything above them lid.
const LASH_COLUMN: usize = 3;

/// Outlines and lids that bound the visible iris.
#[derive(Debug)]
pub(crate) struct Bounds<'a> {
    pub(crate) pupil: &'a Circle,
    pub(crate) limbus: &'a Circle,
    pub(crate) pupil_contour: &'a Contour,
    pub(crate) limbus_contour: &'a Contour,
    pub(crate) upper_lid: Option<LidLine>,
    pub(crate) lower_lid: Option<LidLine>,
}

/// 255 where the iris shows.
pub(crate) fn visible_iris(
    eye: &Prepared,
    bounds: &Bounds<'_>,
    tone: IrisTone,
) -> Result<Grey, VisionError> {
    let mut visible = inside(eye, bounds);
    let lashes = lashes(eye, bounds, tone)?;
    let skin = skin(eye, bounds, tone)?;
    let very_bright = (tone.median + 4.0 * tone.deviation).clamp(225.0, 254.0);
    let mut bright = Grey::filled(visible.width(), visible.height(), 0);
    for (spot, value) in bright.pixels_mut().iter_mut().zip(eye.grey.pixels()) {
        if f32::from(*value) >= very_bright {
            *spot = 255;
        }
    }
    let bright = bright.morphology(imgproc::MORPH_DILATE, imgproc::MORPH_RECT, 5, 5, STAGE)?;
    for (((pixel, lash), skin), bright) in visible
        .pixels_mut()
        .iter_mut()
        .zip(lashes.pixels())
        .zip(skin.pixels())
        .zip(bright.pixels())
    {
        if *lash > 0 || *skin > 0 || *bright > 0 {
            *pixel = 0;
        }
    }
    Ok(visible)
}

/// Every pixel of the box around the limbus.
fn around(bounds: &Bounds<'_>, picture: &Grey) -> impl Iterator<Item = (i32, i32)> + use<> {
    let reach = bounds.limbus_contour.mean_radius() * 1.15 + 2.0;
    let (cx, cy) = (bounds.limbus.x, bounds.limbus.y);
    let left = (cx - reach).max(0.0) as i32;
    let right = ((cx + reach) as i32).min(picture.width() as i32 - 1);
    let top = (cy - reach).max(0.0) as i32;
    let bottom = ((cy + reach) as i32).min(picture.height() as i32 - 1);
    (top..=bottom).flat_map(move |y| (left..=right).map(move |x| (x, y)))
}

fn inside(eye: &Prepared, bounds: &Bounds<'_>) -> Grey {
    let mut visible = Grey::filled(eye.grey.width(), eye.grey.height(), 0);
    for (column, row) in around(bounds, &eye.grey) {
        let (x, y) = (column as f32, row as f32);
        let within = bounds.limbus_contour.contains(x, y) && !bounds.pupil_contour.contains(x, y);
        let covered = bounds.upper_lid.is_some_and(|line| y < line.y(x) + 1.0)
            || bounds.lower_lid.is_some_and(|line| y > line.y(x) - 1.0);
        if within && !covered {
            visible.set(column, row, 255);
        }
    }
    visible
}

/// Dark strands that touch the upper lid's line or the upper limbus, and everything above them in their columns.
fn lashes(eye: &Prepared, bounds: &Bounds<'_>, tone: IrisTone) -> Result<Grey, VisionError> {
    let mut dark = Grey::filled(eye.grey.width(), eye.grey.height(), 0);
    let limit = tone.median - LASH * tone.deviation;
    let lowest = bounds.pupil.y + 0.3 * bounds.pupil.radius;
    let near_pupil = Circle {
        radius: bounds.pupil_contour.mean_radius() * 1.08 + 2.0,
        ..*bounds.pupil
    };
    for (column, row) in around(bounds, &eye.grey) {
        let (x, y) = (column as f32, row as f32);
        if y < lowest
            && f32::from(eye.fine.at(column, row)) < limit
            && !near_pupil.contains(x, y)
            && bounds.limbus_contour.contains(x, y)
        {
            dark.set(column, row, 255);
        }
    }
    let (labels, found) = components(&dark, STAGE)?;
    let mut hanging = vec![false; found.len() + 1];
    let width = dark.width();
    for (at, label) in labels.iter().enumerate() {
        if *label == 0 {
            continue;
        }
        let (x, y) = ((at % width) as f32, (at / width) as f32);
        let at_lid = bounds.upper_lid.is_some_and(|line| y <= line.y(x) + 4.0);
        let (dx, dy) = (x - bounds.limbus.x, y - bounds.limbus.y);
        let at_limbus = dy < -0.35 * bounds.limbus.radius
            && dx.hypot(dy) >= bounds.limbus_contour.radius(dy.atan2(dx)) - 4.0;
        if (at_lid || at_limbus)
            && let Some(flag) = hanging.get_mut(*label as usize)
        {
            *flag = true;
        }
    }
    let mut strands = Grey::filled(width, dark.height(), 0);
    for (pixel, label) in strands.pixels_mut().iter_mut().zip(&labels) {
        if hanging.get(*label as usize).copied().unwrap_or(false) {
            *pixel = 255;
        }
    }
    let solid = strands.morphology(imgproc::MORPH_OPEN, imgproc::MORPH_RECT, 3, 3, STAGE)?;
    let mut covered =
        strands.morphology(imgproc::MORPH_DILATE, imgproc::MORPH_RECT, 3, 3, STAGE)?;
    for column in 0..width as i32 {
        let mut seen = 0;
        for row in (0..solid.height() as i32).rev() {
            if solid.at(column, row) > 0 {
                seen += 1;
            }
            if seen >= LASH_COLUMN {
                covered.set(column, row, 255);
            }
        }
    }
    Ok(covered)
}

/// What stays bright after smoothing, away from the horizontal axis.
fn skin(eye: &Prepared, bounds: &Bounds<'_>, tone: IrisTone) -> Result<Grey, VisionError> {
    let smooth = eye.filled.blurred(2.5, STAGE)?;
    let limit = tone.median + (3.0 * tone.deviation).max(22.0);
    let mut skin = Grey::filled(eye.grey.width(), eye.grey.height(), 0);
    for (column, row) in around(bounds, &eye.grey) {
        let away = (row as f32 - bounds.limbus.y).abs() > 0.35 * bounds.limbus.radius;
        if away && f32::from(smooth.at(column, row)) > limit {
            skin.set(column, row, 255);
        }
    }
    Ok(skin)
}
