//! Steps 9 and 10: the strip's phase as 8,192 code bits and 8,192 mask bits.
//!
//! The product runs `models/iris_encode.onnx`; the plain Rust below is the reference that it is tested against.
//! Parameters stand here and in `models/train/make_iris_encoder.py`, which writes the graph.

use std::f32::consts::TAU;
use std::path::Path;

use sallyport_domain::{IrisTemplate, ModelDigest};

use super::pipeline::EyeObservation;
use super::rubber_sheet::{STRIP_COLUMNS, STRIP_ROWS, Strip};
use crate::runtime::Model;
use crate::{ModelError, ModelManifest, ModelRole, Runtime, VisionError};

const STAGE: &str = "iris encoding";

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
/// Below this share of shown pixels, weighted by radius, a column of a code row has no value of its own.
pub(crate) const MIN_RADIAL_SHOWN: f32 = 0.05;
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

/// `models/iris_encode.onnx` in a session.
pub(crate) struct Encoder {
    model: Model,
    digest: ModelDigest,
}

impl Encoder {
    pub(crate) fn new(
        runtime: &Runtime,
        manifest: &ModelManifest,
        models: &Path,
    ) -> Result<Self, ModelError> {
        let entry = manifest.entry(ModelRole::IrisEncoder)?;
        let path = manifest.path(entry, models);
        Ok(Self {
            model: runtime.session(&path, &entry.sha256)?,
            digest: entry.sha256.parse().map_err(|_| ModelError::WrongHash {
                path,
                expected: entry.sha256.clone(),
            })?,
        })
    }

    pub(crate) fn digest(&self) -> ModelDigest {
        self.digest
    }

    /// Rings of a batch of strips.
    pub(crate) fn rings(&mut self, strips: &[&Strip]) -> Result<Vec<Rings>, VisionError> {
        if strips.is_empty() {
            return Ok(Vec::new());
        }
        let join = |part: fn(&Strip) -> &Vec<f32>| -> Vec<f32> {
            strips
                .iter()
                .flat_map(|strip| part(strip))
                .copied()
                .collect()
        };
        let (values, mask) = (join(|strip| &strip.values), join(|strip| &strip.mask));
        let shape = [strips.len(), 1, STRIP_ROWS, STRIP_COLUMNS];
        let [code, valid] =
            self.model
                .run_all(STAGE, [(shape, &values), (shape, &mask)], ["code", "valid"])?;
        let bits = 64 * CODE_COLUMNS;
        if code.len() != bits * strips.len() || valid.len() != code.len() {
            return Err(VisionError::Contract { stage: STAGE });
        }
        Ok(code
            .chunks_exact(bits)
            .zip(valid.chunks_exact(bits))
            .map(|(code, valid)| (packed(code), packed(valid)))
            .collect())
    }

    /// Templates of the observations that have a strip with enough valid bits.
    pub(crate) fn templates(
        &mut self,
        eyes: &[&EyeObservation],
    ) -> Result<Vec<Option<IrisTemplate>>, VisionError> {
        let strips: Vec<&Strip> = eyes.iter().filter_map(|eye| eye.strip.as_ref()).collect();
        let mut rings = self.rings(&strips)?.into_iter();
        Ok(eyes
            .iter()
            .map(|eye| {
                eye.strip.as_ref()?;
                let (code, mask) = rings.next()?;
                let dilation = (eye.quality.dilation * 1000.0).clamp(1.0, 999.0) as u16;
                let quality = eye.quality.score.min(100);
                IrisTemplate::new(self.digest, eye.eye, quality, dilation, code, mask).ok()
            })
            .collect())
    }
}

/// 0 and 1 in rows of 128 to rings; the least significant bit is column 0.
fn packed(bits: &[f32]) -> [u128; 64] {
    let mut rings = [0_u128; 64];
    for (ring, row) in rings.iter_mut().zip(bits.chunks_exact(CODE_COLUMNS)) {
        for (column, bit) in row.iter().enumerate() {
            if *bit > 0.5 {
                *ring |= 1 << column;
            }
        }
    }
    rings
}

#[cfg(test)]
mod tests;
