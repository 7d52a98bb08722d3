//! Steps 9 and 10: the strip's phase as 8,192 code bits and 8,192 mask bits.
//!
//! The product runs `models/iris_encode.onnx`; the plain Rust below is the reference that it is tested against.
//! Parameters stand here and in `models/train/make_iris_encoder.py`, which writes the graph.

use std::f32::consts::TAU;

use super::rubber_sheet::{STRIP_COLUMNS, STRIP_ROWS, Strip};

/// Rows that are encoded.
pub(crate) const CODE_ROWS: usize = 16;
/// Columns that are encoded.
pub(crate) const CODE_COLUMNS: usize = 128;
/// Wavelengths, strip columns.
pub(crate) const WAVELENGTHS: [usize; 2] = [36, 18];
/// Radial smoothing, strip rows.
pub(crate) const RADIAL_SIGMA: f32 = 3.0;
/// Width of the Gabor envelope per wavelength.
pub(crate) const ENVELOPE: f32 = 0.28;
/// A bit needs this share of the columns within a quarter wavelength to show iris.
pub(crate) const MIN_SHOWN: f32 = 0.6;
/// Bits whose component is among the weakest of their scale and part are left out.
pub(crate) const FRAGILE_SHARE: f32 = 0.2;

/// Responses of one strip: per scale and part 16 x 128 values, and the shown share per scale.
#[derive(Debug, Clone)]
pub(crate) struct Responses {
    /// `[(scale * 2 + part) * 16 + row][column]`.
    pub(crate) components: Vec<Vec<f32>>,
    /// `[scale * 16 + row][column]`.
    pub(crate) shown: Vec<Vec<f32>>,
}

/// Code and mask rings as [`sallyport_domain::IrisTemplate`] takes them.
pub(crate) type Rings = ([u128; 64], [u128; 64]);

/// Weights of the strip's rows for one code row.
fn radial_weights(row: usize) -> Vec<f32> {
    let step = STRIP_ROWS as f32 / CODE_ROWS as f32;
    let centre = (row as f32 + 0.5) * step - 0.5;
    let raw: Vec<f32> = (0..STRIP_ROWS)
        .map(|at| (-0.5 * ((at as f32 - centre) / RADIAL_SIGMA).powi(2)).exp())
        .collect();
    let sum: f32 = raw.iter().sum();
    raw.into_iter().map(|weight| weight / sum).collect()
}

/// Real and imaginary taps of one wavelength, from `-reach` to `reach`.
pub(crate) fn gabor(wavelength: usize) -> Vec<(f32, f32)> {
    let reach = wavelength as i32;
    let sigma = ENVELOPE * wavelength as f32;
    let envelope = |at: i32| (-0.5 * (at as f32 / sigma).powi(2)).exp();
    let total: f32 = (-reach..=reach).map(envelope).sum();
    let carrier = |at: i32| TAU * at as f32 / wavelength as f32;
    let offset: f32 = (-reach..=reach)
        .map(|at| envelope(at) * carrier(at).cos())
        .sum::<f32>()
        / total;
    (-reach..=reach)
        .map(|at| {
            let envelope = envelope(at) / total;
            (
                envelope * (carrier(at).cos() - offset),
                envelope * carrier(at).sin(),
            )
        })
        .collect()
}

/// Filters one strip.
pub(crate) fn responses(strip: &Strip) -> Responses {
    let filled = fill(strip);
    let mut rows = Vec::with_capacity(CODE_ROWS);
    let mut shown_rows = Vec::with_capacity(CODE_ROWS);
    for row in 0..CODE_ROWS {
        let weights = radial_weights(row);
        rows.push(weighted(&filled, &weights));
        shown_rows.push(weighted(&strip.mask, &weights));
    }
    let mut components = Vec::with_capacity(64);
    let mut shown = Vec::with_capacity(32);
    for wavelength in WAVELENGTHS {
        let taps = gabor(wavelength);
        for part in 0..2 {
            for row in &rows {
                let kernel: Vec<f32> = taps
                    .iter()
                    .map(|tap| if part == 0 { tap.0 } else { tap.1 })
                    .collect();
                components.push(circular(row, &kernel));
            }
        }
        let reach = wavelength / 4;
        let flat = vec![1.0 / (2 * reach + 1) as f32; 2 * reach + 1];
        for row in &shown_rows {
            shown.push(circular(row, &flat));
        }
    }
    Responses { components, shown }
}

/// Masked pixels take the mean of the shown ones of their row, or of the strip.
fn fill(strip: &Strip) -> Vec<f32> {
    let mean = |values: &[f32], mask: &[f32]| {
        let shown: f32 = mask.iter().sum();
        let sum: f32 = values.iter().zip(mask).map(|(v, m)| v * m).sum();
        (shown > 0.5).then(|| sum / shown)
    };
    let whole = mean(&strip.values, &strip.mask).unwrap_or(0.0);
    let mut filled = Vec::with_capacity(strip.values.len());
    for (values, mask) in strip
        .values
        .chunks_exact(STRIP_COLUMNS)
        .zip(strip.mask.chunks_exact(STRIP_COLUMNS))
    {
        let row = mean(values, mask).unwrap_or(whole);
        filled.extend(
            values
                .iter()
                .zip(mask)
                .map(|(value, mask)| if *mask > 0.5 { *value } else { row }),
        );
    }
    filled
}

fn weighted(strip: &[f32], weights: &[f32]) -> Vec<f32> {
    let mut line = vec![0.0; STRIP_COLUMNS];
    for (row, weight) in strip.chunks_exact(STRIP_COLUMNS).zip(weights) {
        for (cell, value) in line.iter_mut().zip(row) {
            *cell += weight * value;
        }
    }
    line
}

/// Correlates around the circle and keeps every fourth column.
fn circular(line: &[f32], kernel: &[f32]) -> Vec<f32> {
    let reach = kernel.len() / 2;
    let padded: Vec<f32> = line
        .iter()
        .cycle()
        .skip(line.len() - reach)
        .take(line.len() + 2 * reach)
        .copied()
        .collect();
    padded
        .windows(kernel.len())
        .step_by(STRIP_COLUMNS / CODE_COLUMNS)
        .map(|window| window.iter().zip(kernel).map(|(v, k)| v * k).sum())
        .collect()
}

/// Bits of filtered strips.
pub(crate) fn bits(responses: &Responses) -> Rings {
    let mut code = [0_u128; 64];
    let mut mask = [0_u128; 64];
    for (group, ((components, codes), masks)) in responses
        .components
        .chunks_exact(CODE_ROWS)
        .zip(code.chunks_exact_mut(CODE_ROWS))
        .zip(mask.chunks_exact_mut(CODE_ROWS))
        .enumerate()
    {
        let shown = responses
            .shown
            .chunks_exact(CODE_ROWS)
            .nth(group / 2)
            .unwrap_or_default();
        let mut sizes: Vec<f32> = components
            .iter()
            .zip(shown)
            .flat_map(|(row, shown)| row.iter().zip(shown))
            .filter(|(_, shown)| **shown > MIN_SHOWN)
            .map(|(value, _)| value.abs())
            .collect();
        let fragile = super::plane::quantile(&mut sizes, FRAGILE_SHARE);
        for (((row, shown), code), mask) in components.iter().zip(shown).zip(codes).zip(masks) {
            for (column, (value, shown)) in row.iter().zip(shown).enumerate() {
                if *value > 0.0 {
                    *code |= 1 << column;
                }
                if *shown > MIN_SHOWN && value.abs() > fragile {
                    *mask |= 1 << column;
                }
            }
        }
    }
    (code, mask)
}
