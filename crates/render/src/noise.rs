//! Random numbers, Gaussian blur and smooth random fields.
#![expect(
    clippy::indexing_slicing,
    reason = "pixel loops over buffers whose sizes are fixed a few lines above"
)]

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// A normal deviate (Box and Muller), mean 0, standard deviation 1.
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let u: f32 = rng.random::<f32>().max(1e-7);
    let v: f32 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// The logistic function.
pub(crate) fn smooth(edge: f32) -> f32 {
    1.0 / (1.0 + (-edge).exp())
}

/// How a blur continues beyond the left and right edges; above and below it always reflects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edges {
    Wrap,
    Reflect,
}

/// Separable Gaussian blur in place, standard deviations in pixels.
pub(crate) fn blur(data: &mut [f32], columns: usize, sigma_x: f32, sigma_y: f32, edges: Edges) {
    let rows = data.len() / columns;
    if sigma_x > 0.05 {
        let weights = kernel(sigma_x);
        let half = weights.len() / 2;
        let mut padded = vec![0.0; columns + 2 * half];
        for row in data.chunks_exact_mut(columns) {
            for (i, value) in padded.iter_mut().enumerate() {
                *value = row[beyond(i, half, columns, edges)];
            }
            for (x, out) in row.iter_mut().enumerate() {
                *out = padded[x..]
                    .iter()
                    .zip(&weights)
                    .map(|(value, weight)| value * weight)
                    .sum();
            }
        }
    }
    if sigma_y > 0.05 {
        let weights = kernel(sigma_y);
        let half = weights.len() / 2;
        let source = data.to_vec();
        for (y, out) in data.chunks_exact_mut(columns).enumerate() {
            out.fill(0.0);
            for (i, weight) in weights.iter().enumerate() {
                let from = beyond(y + i, half, rows, Edges::Reflect) * columns;
                for (o, s) in out.iter_mut().zip(&source[from..from + columns]) {
                    *o += weight * s;
                }
            }
        }
    }
}

fn kernel(sigma: f32) -> Vec<f32> {
    let half = (sigma * 3.0).ceil() as i32;
    let mut weights: Vec<f32> = (-half..=half)
        .map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp())
        .collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// Place `at - half` of a line of `n`, continued over its ends.
fn beyond(at: usize, half: usize, n: usize, edges: Edges) -> usize {
    let (at, n) = (at as i64 - half as i64, n as i64);
    let inside = match edges {
        Edges::Wrap => at.rem_euclid(n),
        Edges::Reflect => {
            let at = at.rem_euclid(2 * n);
            if at < n { at } else { 2 * n - 1 - at }
        }
    };
    inside as usize
}

/// Shifts and scales to mean 0 and standard deviation 1.
pub(crate) fn standardise(data: &mut [f32]) {
    let n = data.len() as f32;
    let mean = data.iter().sum::<f32>() / n;
    let variance = data.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
    let sd = variance.sqrt().max(1e-6);
    data.iter_mut().for_each(|v| *v = (*v - mean) / sd);
}

/// A smooth random field of about unit deviation: a coarse grid, interpolated.
pub(crate) struct Field {
    cells: Vec<f32>,
    columns: usize,
    rows: usize,
    step: f32,
}

impl Field {
    /// `step` is the size of a cell in pixels.
    pub(crate) fn new(rng: &mut ChaCha8Rng, width: f32, height: f32, step: f32) -> Self {
        let (columns, rows) = ((width / step) as usize + 3, (height / step) as usize + 3);
        Self {
            cells: (0..columns * rows).map(|_| normal(rng)).collect(),
            columns,
            rows,
            step,
        }
    }

    pub(crate) fn at(&self, x: f32, y: f32) -> f32 {
        let u = (x / self.step).clamp(0.0, self.columns as f32 - 2.01);
        let v = (y / self.step).clamp(0.0, self.rows as f32 - 2.01);
        let (i, j) = (u as usize, v as usize);
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (a, b) = (ease(u.fract()), ease(v.fract()));
        let at = j * self.columns + i;
        let below = at + self.columns;
        (self.cells[at] * (1.0 - a) + self.cells[at + 1] * a) * (1.0 - b)
            + (self.cells[below] * (1.0 - a) + self.cells[below + 1] * a) * b
    }
}
