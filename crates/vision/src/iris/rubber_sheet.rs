//! Step 8: the iris unrolled between its outlines, 64 rows from pupil to limbus, 512 columns around.

use std::f32::consts::TAU;

use super::geometry::Segmentation;
use super::plane::Grey;

/// Rows of the strip, from the pupil outwards.
pub const STRIP_ROWS: usize = 64;
/// Columns of the strip, from the subject's horizontal axis clockwise in the picture.
pub const STRIP_COLUMNS: usize = 512;
/// The first and the last row, as shares of the way from the pupil's outline to the iris'.
const FIRST_ROW: f32 = 0.02;
const LAST_ROW: f32 = 0.96;
/// A strip pixel is usable when at least this much of it shows iris.
const VISIBLE: f32 = 200.0;

/// Lids hide where the outline is most telling, so that much of its second harmonic is not taken for a gaze. Measured on
/// the development sets: without it the correction adds noise to eyes that look straight.
const UNCERTAIN_SLANT: f32 = 0.02;

/// The unrolled iris: grey values 0 to 255 and a mask of 1 where they show iris, row by row.
#[derive(Clone)]
pub struct Strip {
    pub(crate) values: Vec<f32>,
    pub(crate) mask: Vec<f32>,
}

impl std::fmt::Debug for Strip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Strip([sealed])")
    }
}

impl Strip {
    /// Grey values and mask (1 shows iris), row by row: biometric data, never to be stored where it is not allowed.
    #[must_use]
    pub fn parts(&self) -> (&[f32], &[f32]) {
        (&self.values, &self.mask)
    }

    /// Share of the strip that shows iris, 0 to 1.
    #[must_use]
    pub fn usable(&self) -> f32 {
        self.mask.iter().sum::<f32>() / self.mask.len().max(1) as f32
    }
}

/// Samples the picture between the outlines; `roll_deg` turns the strip back to the upright head.
///
/// The outlines undo the shortening of a circle that is seen aslant. Its angles are pressed together as well, towards the
/// long axis: a column is a direction in the plane of the iris, and is looked for where it comes to lie in the picture. At
/// 25 degrees off the axis that is up to 3 degrees, a whole column of the code.
pub(crate) fn unroll(grey: &Grey, segmentation: &Segmentation, roll_deg: f32) -> Strip {
    let mut values = vec![0.0; STRIP_ROWS * STRIP_COLUMNS];
    let mut mask = vec![0.0; STRIP_ROWS * STRIP_COLUMNS];
    let roll = roll_deg.to_radians();
    let (ratio, short_axis) = segmentation.limbus_contour.slant(UNCERTAIN_SLANT);
    let rays: Vec<_> = (0..STRIP_COLUMNS)
        .map(|column| {
            let plane = TAU * column as f32 / STRIP_COLUMNS as f32 + roll;
            let (sine, cosine) = (plane - short_axis).sin_cos();
            let angle = short_axis + sine.atan2(ratio * cosine);
            (
                segmentation.pupil_contour.point(angle),
                segmentation.limbus_contour.point(angle),
            )
        })
        .collect();
    for (row, (value_row, mask_row)) in values
        .chunks_exact_mut(STRIP_COLUMNS)
        .zip(mask.chunks_exact_mut(STRIP_COLUMNS))
        .enumerate()
    {
        let share = FIRST_ROW + (LAST_ROW - FIRST_ROW) * row as f32 / (STRIP_ROWS - 1) as f32;
        for ((value, usable), (inner, outer)) in value_row.iter_mut().zip(mask_row).zip(&rays) {
            let x = inner.0 + (outer.0 - inner.0) * share;
            let y = inner.1 + (outer.1 - inner.1) * share;
            *value = grey.sample(x, y);
            let shown = grey.contains(x, y) && segmentation.visible.sample(x, y) >= VISIBLE;
            *usable = if shown { 1.0 } else { 0.0 };
        }
    }
    Strip { values, mask }
}
