//! The encoder in plain Rust, for the tests: what the graph must give.

use std::f32::consts::TAU;

use super::{CODE_COLUMNS, Rings};
use crate::iris::plane;
use crate::iris::rubber_sheet::{STRIP_COLUMNS, STRIP_ROWS, Strip};

/// Rows that are encoded.
pub(super) const CODE_ROWS: usize = 16;
/// Wavelengths, strip columns.
pub(super) const WAVELENGTHS: [usize; 2] = [36, 18];
/// Radial smoothing, strip rows.
pub(super) const RADIAL_SIGMA: f32 = 3.0;
/// Width of the Gabor envelope per wavelength.
pub(super) const ENVELOPE: f32 = 0.28;
/// A bit needs this share of the columns within a quarter wavelength to show iris.
pub(super) const MIN_SHOWN: f32 = 0.9;
/// Below this share of shown pixels, weighted by radius, a column of a code row has no value of its own.
pub(super) const MIN_RADIAL_SHOWN: f32 = 0.05;
/// Bits whose component is among the weakest of their scale and part are left out.
pub(super) const FRAGILE_SHARE: f32 = 0.2;

/// Responses of one strip: per scale and part 16 x 128 values, and the shown share per scale.
#[derive(Debug, Clone)]
pub(super) struct Responses {
    /// `[(scale * 2 + part) * 16 + row][column]`.
    pub(super) components: Vec<Vec<f32>>,
    /// `[scale * 16 + row][column]`.
    pub(super) shown: Vec<Vec<f32>>,
}

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
pub(super) fn gabor(wavelength: usize) -> Vec<(f32, f32)> {
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
pub(super) fn responses(strip: &Strip) -> Responses {
    let relative = relative(strip);
    let mut rows = Vec::with_capacity(CODE_ROWS);
    let mut shown_rows = Vec::with_capacity(CODE_ROWS);
    for row in 0..CODE_ROWS {
        let weights = radial_weights(row);
        let sums = weighted(&relative, &weights);
        let shares = weighted(&strip.mask, &weights);
        // Normalised convolution: a masked pixel has no say, instead of a value that somebody made up.
        rows.push(
            sums.iter()
                .zip(&shares)
                .map(|(sum, share)| {
                    if *share > MIN_RADIAL_SHOWN {
                        sum / share
                    } else {
                        0.0
                    }
                })
                .collect::<Vec<f32>>(),
        );
        shown_rows.push(shares);
    }
    let mut components = Vec::with_capacity(64);
    let mut shown = Vec::with_capacity(32);
    for wavelength in WAVELENGTHS {
        let taps = gabor(wavelength);
        for part in 0..2 {
            let kernel: Vec<f32> = taps
                .iter()
                .map(|tap| if part == 0 { tap.0 } else { tap.1 })
                .collect();
            for row in &rows {
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

/// Grey values less the mean of the shown ones of their row; zero where masked.
fn relative(strip: &Strip) -> Vec<f32> {
    let mut relative = Vec::with_capacity(strip.values.len());
    for (values, mask) in strip
        .values
        .chunks_exact(STRIP_COLUMNS)
        .zip(strip.mask.chunks_exact(STRIP_COLUMNS))
    {
        let shown: f32 = mask.iter().sum();
        let sum: f32 = values.iter().zip(mask).map(|(v, m)| v * m).sum();
        let mean = sum / shown.max(1.0);
        relative.extend(values.iter().zip(mask).map(|(v, m)| (v - mean) * m));
    }
    relative
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
pub(super) fn bits(responses: &Responses) -> Rings {
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
        let fragile = plane::quantile(&mut sizes, FRAGILE_SHARE);
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
