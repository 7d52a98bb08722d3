//! A fictional person's eye: what stays the same from capture to capture.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::texture::texture;

/// Grey values of one eye in near-infrared, 0 to 255.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tones {
    pub(crate) iris: f32,
    pub(crate) gain: f32,
    pub(crate) sclera: f32,
    pub(crate) skin: f32,
}

/// Shape of one eye; lengths in iris radii unless named otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anatomy {
    pub(crate) radius_px: f32,
    pub(crate) dilation: f32,
    pub(crate) lid_height: f32,
    pub(crate) lower_lid: f32,
    pub(crate) limbal_ring: f32,
    pub(crate) lashes: usize,
    pub(crate) lash_droop: f32,
}

/// One eye of one fictional person. Left and right eyes of a person are two identities.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(crate) texture: Vec<f32>,
    pub(crate) tones: Tones,
    pub(crate) anatomy: Anatomy,
}

impl Identity {
    /// The same seed gives the same eye, on every machine.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            texture: texture(seed),
            tones: Tones {
                iris: rng.random_range(85.0..130.0),
                gain: rng.random_range(9.0..18.0),
                sclera: rng.random_range(165.0..200.0),
                skin: rng.random_range(150.0..200.0),
            },
            anatomy: anatomy(&mut rng),
        }
    }

    /// For training: tones far beyond real ones, with a texture that is given.
    #[must_use]
    pub fn for_training(texture: Vec<f32>, rng: &mut ChaCha8Rng) -> Self {
        let iris = rng.random_range(55.0..150.0);
        Self {
            texture,
            tones: Tones {
                iris,
                gain: rng.random_range(5.0..20.0),
                sclera: (iris + rng.random_range(8.0..95.0_f32)).min(225.0),
                skin: rng.random_range(90.0..268.0),
            },
            anatomy: anatomy(rng),
        }
    }

    /// For [`crate::Style::DarkEyes`]: a dark iris with little texture, with a texture that is given.
    #[must_use]
    pub fn dark_for_training(texture: Vec<f32>, rng: &mut ChaCha8Rng) -> Self {
        let iris = rng.random_range(38.0..85.0);
        Self {
            texture,
            tones: Tones {
                iris,
                gain: rng.random_range(2.0..9.0),
                sclera: (iris + rng.random_range(12.0..110.0_f32)).min(190.0),
                skin: rng.random_range(190.0..290.0),
            },
            anatomy: anatomy(rng),
        }
    }

    /// The same eye at another size, iris radius in pixels.
    #[must_use]
    pub fn with_radius(mut self, radius_px: f32) -> Self {
        self.anatomy.radius_px = radius_px;
        self
    }
}

fn anatomy(rng: &mut ChaCha8Rng) -> Anatomy {
    Anatomy {
        radius_px: rng.random_range(78.0..96.0),
        dilation: rng.random_range(0.34..0.46),
        lid_height: rng.random_range(0.62..0.92),
        lower_lid: rng.random_range(0.85..1.05),
        limbal_ring: rng.random_range(2.0..14.0),
        lashes: rng.random_range(25..70),
        lash_droop: rng.random_range(-0.5..0.2),
    }
}
