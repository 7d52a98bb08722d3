//! Between steps 8 and 9: what stands out of the unrolled iris is no iris.
//!
//! Single lashes and small reflections are thinner than the outline of any mask; they move the phase of a whole filter. A
//! pixel further from the mean of its surroundings than [`DEVIATIONS`] times the strip's own robust spread is left
//! out, with a rim. The figures are round numbers chosen on rendered eyes and the development sets of
//! `docs/accuracy-iris.md`, where the gain stands too.

use super::plane::median;
use super::rubber_sheet::{STRIP_COLUMNS, STRIP_ROWS, Strip};

/// Robust standard deviations between a pixel and the mean around it.
const DEVIATIONS: f32 = 4.0;
/// Half the window of that mean, columns and rows.
const WINDOW: (usize, usize) = (30, 4);
/// The rim that goes with an outlier, columns and rows to each side.
const RIM: (usize, usize) = (2, 1);
/// From the median of absolute values to a standard deviation, for a normal distribution.
const MEDIAN_TO_DEVIATION: f32 = 1.4826;
/// One grey value: the least spread a picture of whole grey values can show.
const LEAST_DEVIATION: f32 = 1.0;

/// The strip without the pixels that have a count.
fn masked_near(strip: &Strip, counts: &[f32]) -> Strip {
    let mask = strip
        .mask
        .iter()
        .zip(counts)
        .map(|(shown, near)| if *near > 0.5 { 0.0 } else { *shown })
        .collect();
    Strip {
        values: strip.values.clone(),
        mask,
    }
}

/// The strip with outliers masked.
pub(crate) fn without_outliers(strip: &Strip) -> Strip {
    let masked: Vec<f32> = strip
        .values
        .iter()
        .zip(&strip.mask)
        .map(|(value, shown)| value * shown)
        .collect();
    let (sums, counts) = (around(&masked, WINDOW), around(&strip.mask, WINDOW));
    let differences: Vec<f32> = strip
        .values
        .iter()
        .zip(&strip.mask)
        .zip(sums.iter().zip(&counts))
        .map(|((value, shown), (sum, count))| {
            if *shown > 0.5 {
                (value - sum / count.max(1.0)).abs()
            } else {
                0.0
            }
        })
        .collect();
    let mut shown: Vec<f32> = differences
        .iter()
        .zip(&strip.mask)
        .filter(|(_, shown)| **shown > 0.5)
        .map(|(difference, _)| *difference)
        .collect();
    let limit = DEVIATIONS * (MEDIAN_TO_DEVIATION * median(&mut shown)).max(LEAST_DEVIATION);
    let standing_out: Vec<f32> = differences
        .iter()
        .map(|difference| if *difference > limit { 1.0 } else { 0.0 })
        .collect();
    masked_near(strip, &around(&standing_out, RIM))
}

/// Sums of whole numbers over a window: the circle closes, rows beyond the strip don't exist. Whole numbers up to 2^24 are exact
/// in `f32`, so the order of summing is without effect where the inputs are whole.
fn around(values: &[f32], (columns, rows): (usize, usize)) -> Vec<f32> {
    let width = 2 * columns + 1;
    let mut across = Vec::with_capacity(values.len());
    for row in values.chunks_exact(STRIP_COLUMNS) {
        let padded: Vec<f64> = row
            .iter()
            .cycle()
            .skip(STRIP_COLUMNS - columns)
            .take(STRIP_COLUMNS + 2 * columns)
            .map(|value| f64::from(*value))
            .collect();
        let mut sum: f64 = padded.iter().take(width).sum();
        across.push(sum as f32);
        for (leaving, entering) in padded.iter().zip(padded.iter().skip(width)) {
            sum += entering - leaving;
            across.push(sum as f32);
        }
    }
    let mut both = vec![0.0; values.len()];
    for (at, target) in both.chunks_exact_mut(STRIP_COLUMNS).enumerate() {
        let first = at.saturating_sub(rows);
        let last = (at + rows).min(STRIP_ROWS - 1);
        for row in across
            .chunks_exact(STRIP_COLUMNS)
            .skip(first)
            .take(last + 1 - first)
        {
            for (cell, value) in target.iter_mut().zip(row) {
                *cell += value;
            }
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(value: impl Fn(usize, usize) -> f32) -> Strip {
        let cells =
            || (0..STRIP_ROWS).flat_map(|row| (0..STRIP_COLUMNS).map(move |column| (row, column)));
        Strip {
            values: cells().map(|(row, column)| value(row, column)).collect(),
            mask: vec![1.0; STRIP_ROWS * STRIP_COLUMNS],
        }
    }

    /// A texture of waves: grey 120, up to 12 more or less.
    fn texture(row: usize, column: usize) -> f32 {
        let phase = column as f32 * 0.17 + row as f32 * 0.31;
        (120.0 + 12.0 * phase.sin()).round()
    }

    fn left_out(strip: &Strip) -> usize {
        strip.mask.iter().filter(|shown| **shown < 0.5).count()
    }

    #[test]
    fn texture_stays() {
        assert_eq!(left_out(&without_outliers(&strip(texture))), 0);
        assert_eq!(left_out(&without_outliers(&strip(|_, _| 90.0))), 0);
    }

    #[test]
    fn a_lash_and_a_reflection_go_with_a_rim_also_across_the_end_of_the_circle() {
        let drawn = strip(|row, column| match column {
            0 | 511 if row > 20 => 20.0,
            300..303 if (30..33).contains(&row) => 255.0,
            _ => texture(row, column),
        });
        let clean = without_outliers(&drawn);
        let shown = |row: usize, column: usize| clean.mask[row * STRIP_COLUMNS + column] > 0.5;
        for row in 21..STRIP_ROWS {
            for column in [509, 510, 511, 0, 1, 2] {
                assert!(!shown(row, column), "{row} {column}");
            }
            assert!(shown(row, 503) && shown(row, 8), "{row}");
        }
        assert!(!shown(31, 301) && !shown(29, 299) && !shown(33, 304));
        assert!(shown(31, 290) && shown(40, 301));
        // 43 rows and a rim of 1 by 6 columns; 5 rows by 7 columns.
        assert_eq!(left_out(&clean), 44 * 6 + 5 * 7);
    }

    #[test]
    fn what_was_masked_stays_masked_and_has_no_say() {
        let mut drawn = strip(texture);
        for (at, (value, shown)) in drawn.values.iter_mut().zip(&mut drawn.mask).enumerate() {
            if at % STRIP_COLUMNS < 200 {
                *value = 255.0;
                *shown = 0.0;
            }
        }
        assert_eq!(without_outliers(&drawn).mask, drawn.mask);
    }

    #[test]
    fn nothing_shown_is_nothing_left() {
        let drawn = Strip {
            values: vec![0.0; STRIP_ROWS * STRIP_COLUMNS],
            mask: vec![0.0; STRIP_ROWS * STRIP_COLUMNS],
        };
        assert_eq!(without_outliers(&drawn).usable(), 0.0);
    }
}
