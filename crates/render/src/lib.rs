//! Near-infrared eyes drawn from parameters, with exact labels and outlines.
//!
//! No real eye is in them: they train the segmentation network, stand for fictional people in tests and in the demo, and
//! must never set a threshold (`biometrics.md` I.6: their non-mated spread is wider than that of real eyes). The same seed
//! gives the same bytes. Nothing here reads a clock, a file or the machine's randomness; only the program writes files.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "pixel arithmetic far inside the ranges of f32 and usize"
)]

mod attack;
mod camera;
mod draw;
mod identity;
mod look;
mod noise;
mod strip;
mod stroke;
mod texture;

pub(crate) use draw::Canvas;

pub use attack::{printed, screen, with_lens};
pub use draw::render;
pub use identity::Identity;
pub use look::{Look, Style};
pub use rand_chacha::ChaCha8Rng;
pub use strip::{RenderedStrip, StripLook, render_strip};
pub use texture::{TEXTURE_COLUMNS, TEXTURE_ROWS, texture};

/// What a pixel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// Skin, lid, brow, background.
    Skin = 0,
    /// The white of the eye.
    Sclera = 1,
    /// Iris that is seen.
    Iris = 2,
    /// Pupil, with the glints in it.
    Pupil = 3,
    /// Lash or hair over the eye.
    Lash = 4,
    /// Mirrored lamp on the iris.
    Glint = 5,
    /// Spectacle frame or glare.
    Cover = 6,
}

impl Part {
    /// How many parts there are.
    pub const COUNT: usize = 7;

    /// The class that the segmentation network learns: 0 background, 1 sclera, 2 visible iris, 3 pupil.
    #[must_use]
    pub const fn class(part: u8) -> u8 {
        if part <= Self::Pupil as u8 { part } else { 0 }
    }
}

/// A circle in pixels; pixel centres lie at halves.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Circle {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
    /// Radius.
    pub radius: f32,
}

/// The exact outlines of a drawn eye.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct EyeTruth {
    /// Outer edge of the iris as seen from its own axis; shortened along `axis` by `foreshortening`.
    pub limbus: Circle,
    /// The pupil, likewise.
    pub pupil: Circle,
    /// Cosine of the gaze angle; 1 is straight.
    pub foreshortening: f32,
    /// Direction of the gaze in the picture, in radians.
    pub axis: f32,
    /// Visible iris as a share of the whole ring; 0 when closed.
    pub visible_share: f32,
}

/// A drawn picture. `Debug` shows no pixels.
#[derive(Clone)]
pub struct RenderedEye {
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
    /// Grey values, row by row.
    pub grey: Vec<u8>,
    /// [`Part`] of each pixel, row by row.
    pub parts: Vec<u8>,
    /// Outlines; `None` when there is no eye.
    pub truth: Option<EyeTruth>,
}

impl std::fmt::Debug for RenderedEye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RenderedEye({} x {})", self.width, self.height)
    }
}

impl RenderedEye {
    /// Classes for the network, row by row: 0 background, 1 sclera, 2 visible iris, 3 pupil.
    #[must_use]
    pub fn classes(&self) -> Vec<u8> {
        self.parts.iter().map(|part| Part::class(*part)).collect()
    }

    /// The picture as a grey PNG file.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn to_png(&self) -> Result<Vec<u8>, image::ImageError> {
        grey_png(&self.grey, self.width, self.height)
    }
}

pub(crate) fn grey_png(
    grey: &[u8],
    width: usize,
    height: usize,
) -> Result<Vec<u8>, image::ImageError> {
    use image::ImageEncoder as _;
    let mut file = Vec::new();
    image::codecs::png::PngEncoder::new(&mut file).write_image(
        grey,
        width as u32,
        height as u32,
        image::ExtendedColorType::L8,
    )?;
    Ok(file)
}
