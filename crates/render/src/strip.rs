//! A near-infrared strip of a face with both eyes, as a gate's iris camera sees it.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::noise::{Field, normal};
use crate::{EyeTruth, Identity, Look, Style, grey_png, render};

/// How a strip is captured. Lengths in pixels.
#[derive(Debug, Clone, Copy)]
pub struct StripLook {
    /// Pixels across, at least 640.
    pub width: usize,
    /// Pixels down, at least 240.
    pub height: usize,
    /// Distance between the pupils; the iris radius is 0.093 of it.
    pub eye_distance_px: f32,
    /// Spread of the captures, 1 is normal and 1.8 hard.
    pub spread: f32,
    /// The picture is mirrored, as some cameras deliver it.
    pub mirrored: bool,
    /// Seed of this capture.
    pub seed: u64,
}

impl StripLook {
    /// 1280 x 480 pixels, 800 pixels between the eyes, normal spread.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            width: 1280,
            height: 480,
            eye_distance_px: 800.0,
            spread: 1.0,
            mirrored: false,
            seed,
        }
    }
}

/// A drawn strip. `Debug` shows no pixels.
#[derive(Clone)]
pub struct RenderedStrip {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Grey values, row by row.
    pub grey: Vec<u8>,
    /// The subject's own left eye, in pixels of the strip (before mirroring).
    pub left: Option<EyeTruth>,
    /// The subject's own right eye.
    pub right: Option<EyeTruth>,
}

impl std::fmt::Debug for RenderedStrip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RenderedStrip({} x {})", self.width, self.height)
    }
}

impl RenderedStrip {
    /// The picture as a grey PNG file.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn to_png(&self) -> Result<Vec<u8>, image::ImageError> {
        grey_png(&self.grey, self.width, self.height)
    }
}

/// Draws both eyes of a person. In an unmirrored picture the subject's right eye is on the left side. `change` may alter
/// each eye's look, for example close the lids.
#[must_use]
pub fn render_strip(
    left: &Identity,
    right: &Identity,
    look: &StripLook,
    change: impl Fn(Look) -> Look,
) -> RenderedStrip {
    let mut rng = ChaCha8Rng::seed_from_u64(look.seed);
    let (width, height) = (look.width.max(640), look.height.max(240));
    let radius = 0.093 * look.eye_distance_px;
    let roll = 0.03 * look.spread * normal(&mut rng);
    let centre = (
        width as f32 / 2.0 + 10.0 * normal(&mut rng).clamp(-2.0, 2.0),
        height as f32 / 2.0 + 8.0 * normal(&mut rng).clamp(-2.0, 2.0),
    );
    let dilation = 0.03 * normal(&mut rng);
    let half = width / 2;
    let mut eye = |identity: &Identity, side: f32, nose_on_left: bool| {
        let place = (
            centre.0 + side * look.eye_distance_px / 2.0 * roll.cos(),
            centre.1 + side * look.eye_distance_px / 2.0 * roll.sin(),
        );
        let identity = identity.clone().with_radius(radius);
        let style = Style::Gate {
            spread: look.spread,
        };
        let mut drawn = Look::draw(&identity, style, (half, height), nose_on_left, &mut rng);
        let offset = if side < 0.0 { 0.0 } else { half as f32 };
        drawn.centre_px = (place.0 - offset, place.1);
        drawn.roll = roll;
        // Both pupils answer the same light.
        drawn.dilation = (identity.anatomy.dilation + dilation).clamp(0.25, 0.62);
        let seed = look
            .seed
            .wrapping_mul(31)
            .wrapping_add(if side < 0.0 { 1 } else { 2 });
        let drawn = change(drawn);
        let mut picture = render(&identity, &drawn, (half, height), seed);
        if let Some(truth) = &mut picture.truth {
            truth.limbus.x += offset;
            truth.pupil.x += offset;
        }
        picture
    };
    // The subject's right eye: on the left of the picture, its nose side to the right.
    let one = eye(right, -1.0, false);
    let other = eye(left, 1.0, true);
    let bridge = Field::new(&mut rng, width as f32, height as f32, 60.0);
    let mut grey = Vec::with_capacity(width * height);
    for (y, (a, b)) in one
        .grey
        .chunks_exact(half)
        .zip(other.grey.chunks_exact(half))
        .enumerate()
    {
        let seam = (f32::from(a.last().copied().unwrap_or(0))
            + f32::from(b.first().copied().unwrap_or(0)))
            / 2.0;
        for x in 0..half * 2 {
            let value = if x < half { a.get(x) } else { b.get(x - half) };
            let value = f32::from(value.copied().unwrap_or(0));
            // The bridge of the nose: brighter, and both halves run into it.
            let distance = (x as f32 - half as f32).abs() / (look.eye_distance_px * 0.11);
            let share = (-distance * distance).exp();
            let nose = seam + 14.0 + 3.0 * bridge.at(x as f32, y as f32);
            grey.push((value * (1.0 - share) + nose * share).clamp(0.0, 255.0) as u8);
        }
    }
    let width = half * 2;
    if look.mirrored {
        grey.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    RenderedStrip {
        width,
        height,
        grey,
        left: other.truth,
        right: one.truth,
    }
}
