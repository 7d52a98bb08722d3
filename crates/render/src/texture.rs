//! The iris texture of one identity, after the recipe of `biometrics.md` I.6, step 1.
#![expect(
    clippy::indexing_slicing,
    reason = "pixel loops over buffers whose sizes are fixed a few lines above"
)]

use std::f32::consts::{PI, TAU};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::noise::{Edges, blur, normal, standardise};

/// Rows of a texture, from the pupil to the limbus.
pub const TEXTURE_ROWS: usize = 64;
/// Columns of a texture, around the pupil.
pub const TEXTURE_COLUMNS: usize = 512;
const ROWS: usize = TEXTURE_ROWS;
const COLUMNS: usize = TEXTURE_COLUMNS;

/// Standard deviations across and along, and weight, of the noise layers.
const LAYERS: [(f32, f32, f32); 6] = [
    (1.6, 14.0, 1.0),
    (3.2, 18.0, 0.9),
    (6.5, 14.0, 0.8),
    (13.0, 12.0, 0.6),
    (3.0, 3.0, 0.45),
    (6.0, 6.0, 0.45),
];

/// The texture of a seed: 64 x 512, row by row, mean 0 and standard deviation 1.
#[must_use]
pub fn texture(seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7e37);
    let mut sum = vec![0.0_f32; ROWS * COLUMNS];
    for (sigma_x, sigma_y, weight) in LAYERS {
        let mut layer: Vec<f32> = (0..ROWS * COLUMNS).map(|_| normal(&mut rng)).collect();
        blur(&mut layer, COLUMNS, sigma_x, sigma_y, Edges::Wrap);
        standardise(&mut layer);
        let weight = weight * rng.random_range(0.6..1.5);
        sum.iter_mut()
            .zip(&layer)
            .for_each(|(total, value)| *total += weight * value);
    }
    let mut out = wander(&sum, &mut rng);
    standardise(&mut out);
    collarette(&mut out, &mut rng);
    crypts(&mut out, &mut rng);
    furrows(&mut out, &mut rng);
    standardise(&mut out);
    out
}

/// Fibres wander: rows shift by a smoothed random walk.
fn wander(texture: &[f32], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut walk = vec![0.0_f32; ROWS];
    for i in 1..ROWS {
        walk[i] = walk[i - 1] + normal(rng) * 0.9;
    }
    blur(&mut walk, ROWS, 5.0, 0.0, Edges::Reflect);
    let mut out = vec![0.0; ROWS * COLUMNS];
    for (y, shift) in walk.iter().enumerate() {
        for x in 0..COLUMNS {
            let at = (x as f32 + shift).rem_euclid(COLUMNS as f32);
            let (a, f) = (at as usize % COLUMNS, at.fract());
            out[y * COLUMNS + x] =
                texture[y * COLUMNS + a] * (1.0 - f) + texture[y * COLUMNS + (a + 1) % COLUMNS] * f;
        }
    }
    out
}

fn collarette(texture: &mut [f32], rng: &mut ChaCha8Rng) {
    let base = rng.random_range(0.22..0.40) * ROWS as f32;
    let harmonics: Vec<(f32, f32)> = (1..=7)
        .map(|k| (normal(rng) * 2.2 / k as f32, rng.random_range(0.0..TAU)))
        .collect();
    let ridge = rng.random_range(0.2..1.4);
    for x in 0..COLUMNS {
        let angle = x as f32 / COLUMNS as f32 * TAU;
        let centre = base
            + harmonics
                .iter()
                .zip(1_u8..)
                .map(|((amplitude, phase), k)| amplitude * (f32::from(k) * angle + phase).sin())
                .sum::<f32>();
        for y in 0..ROWS {
            let distance = y as f32 - centre;
            let value = &mut texture[y * COLUMNS + x];
            *value *= if distance < 0.0 { 1.15 } else { 0.85 };
            *value += ridge * (-0.5 * (distance / 2.2).powi(2)).exp();
        }
    }
}

fn crypts(texture: &mut [f32], rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(2..16) {
        let column = rng.random_range(0..COLUMNS as i32);
        let row = rng.random_range(8.0..56.0);
        let (across, along) = (rng.random_range(5.0..18.0), rng.random_range(2.5..8.0));
        let depth = rng.random_range(0.8..2.2);
        for y in 0..ROWS {
            for dx in -60_i32..=60 {
                let d = ((dx as f32 / across).powi(2) + ((y as f32 - row) / along).powi(2)).powi(2);
                if d < 9.0 {
                    let x = (column + dx).rem_euclid(COLUMNS as i32) as usize;
                    texture[y * COLUMNS + x] -= depth * (-0.7 * d).exp();
                }
            }
        }
    }
}

fn furrows(texture: &mut [f32], rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(0..4) {
        let row = rng.random_range(28.0..60.0);
        let (start, length) = (
            rng.random_range(0..COLUMNS),
            rng.random_range(60..240_usize),
        );
        let (bend, depth) = (rng.random_range(-4.0..4.0), rng.random_range(0.5..1.6));
        for i in 0..length {
            let arch = (i as f32 / length as f32 * PI).sin();
            let x = (start + i) % COLUMNS;
            for y in 0..ROWS {
                let distance = y as f32 - row - bend * arch;
                texture[y * COLUMNS + x] -= depth * arch * (-0.5 * (distance / 1.2).powi(2)).exp();
            }
        }
    }
}

/// Bilinear reading; `row` in 0..=63, `column` in 0..512 and wrapped.
pub(crate) fn sample(texture: &[f32], row: f32, column: f32) -> f32 {
    let row = row.clamp(0.0, ROWS as f32 - 1.01);
    let (i, j) = (row as usize, column as usize % COLUMNS);
    let (a, b) = (row.fract(), column.fract());
    let k = (j + 1) % COLUMNS;
    let (above, below) = (i * COLUMNS, (i + 1) * COLUMNS);
    (texture[above + j] * (1.0 - b) + texture[above + k] * b) * (1.0 - a)
        + (texture[below + j] * (1.0 - b) + texture[below + k] * b) * a
}
