//! Simulated presentation attacks: a print, a screen, a textured contact lens. They show that a check does what it says;
//! they prove nothing about real attacks.
#![expect(
    clippy::indexing_slicing,
    reason = "pixel loops over buffers whose sizes are fixed a few lines above"
)]

use std::f32::consts::TAU;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{Identity, RenderedEye};

/// The eye printed on paper with a halftone screen of `pitch_px` pixels, turned by 45 degrees, and captured again.
#[must_use]
pub fn printed(eye: &RenderedEye, pitch_px: f32, seed: u64) -> RenderedEye {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (phase_x, phase_y) = (rng.random_range(0.0..TAU), rng.random_range(0.0..TAU));
    let step = TAU / pitch_px.max(2.0) * std::f32::consts::FRAC_1_SQRT_2;
    let mut printed = eye.clone();
    for y in 0..eye.height {
        for x in 0..eye.width {
            let at = y * eye.width + x;
            // Ink and paper: less range, no lamp brighter than paper.
            let tone = (f32::from(eye.grey[at]) / 255.0).clamp(0.05, 0.85);
            let (u, v) = (
                (x + y) as f32 * step + phase_x,
                (x as f32 - y as f32) * step + phase_y,
            );
            let dots = (u.cos() + v.cos()) * 0.25 + 0.5;
            let ink = 1.0 / (1.0 + (-(tone - dots) * 7.0).exp());
            let value = 40.0 + 165.0 * (0.45 * ink + 0.55 * tone) + rng.random_range(-3.0..3.0);
            printed.grey[at] = value.clamp(0.0, 255.0) as u8;
        }
    }
    printed
}

/// The eye on a screen: liquid crystals let near-infrared through evenly, so there is next to nothing to see.
#[must_use]
pub fn screen(eye: &RenderedEye, seed: u64) -> RenderedEye {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut shown = eye.clone();
    for value in &mut shown.grey {
        let dull = 14.0 + 0.02 * f32::from(*value) + rng.random_range(-2.0..2.0);
        *value = dull.clamp(0.0, 255.0) as u8;
    }
    shown
}

/// The same eye behind a lens with a printed dot pattern around the pupil.
#[must_use]
pub fn with_lens(identity: &Identity, seed: u64) -> Identity {
    use crate::{TEXTURE_COLUMNS, TEXTURE_ROWS};
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut worn = identity.clone();
    let (across, down) = (
        rng.random_range(48..80_usize),
        rng.random_range(7..11_usize),
    );
    for y in 0..TEXTURE_ROWS {
        // Lens prints leave the pupil's surroundings free and end in a hard ring.
        let row = y as f32 / TEXTURE_ROWS as f32;
        for x in 0..TEXTURE_COLUMNS {
            let value = &mut worn.texture[y * TEXTURE_COLUMNS + x];
            if row > 0.22 && row < 0.92 {
                let u = (x as f32 / TEXTURE_COLUMNS as f32 * across as f32 * TAU).cos();
                let v = (row * down as f32 * TAU).cos();
                let dot = if u + v > 0.2 { -2.4 } else { 0.9 };
                *value = 0.25 * *value + dot;
            }
        }
    }
    worn
}
