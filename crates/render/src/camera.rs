//! What optics, sensor and codec do to the drawing.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _, ImageFormat};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::look::Camera;
use crate::noise::{Edges, Field, blur, normal};

/// Takes the picture: blur, uneven light, gain, gamma, noise and compression.
pub(crate) fn take(
    mut light: Vec<f32>,
    width: usize,
    camera: &Camera,
    rng: &mut ChaCha8Rng,
) -> Vec<u8> {
    let height = light.len() / width;
    blur(
        &mut light,
        width,
        camera.blur_px,
        camera.blur_px,
        Edges::Reflect,
    );
    blur(&mut light, width, camera.motion_px, 0.0, Edges::Reflect);
    let (w, h) = (width as f32, height as f32);
    let field = Field::new(rng, w, h, w * 0.5);
    let spot = (
        rng.random_range(0.0..w),
        rng.random_range(0.0..h),
        rng.random_range(30.0..160.0_f32),
    );
    for (y, row) in light.chunks_exact_mut(width).enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            let (fx, fy) = (x as f32, y as f32);
            let d2 = (fx / w * 2.0 - 1.0).powi(2) + (fy / h * 2.0 - 1.0).powi(2);
            let mut t = *value
                * (1.0 + camera.uneven * field.at(fx, fy))
                * (1.0 - camera.vignette * 0.5 * d2);
            if camera.hot_spot > 0.0 {
                let r2 = (fx - spot.0).powi(2) + (fy - spot.1).powi(2);
                t += camera.hot_spot * (-r2 / (2.0 * spot.2 * spot.2)).exp();
            }
            t = t * camera.gain + camera.offset;
            t = 255.0 * (t / 255.0).clamp(0.0, 1.3).powf(camera.gamma);
            *value = t + camera.noise * normal(rng);
        }
    }
    if camera.denoised {
        blur(&mut light, width, 0.6, 0.6, Edges::Reflect);
    }
    let grey: Vec<u8> = light
        .iter()
        .map(|value| value.clamp(0.0, 255.0) as u8)
        .collect();
    match camera
        .jpeg_quality
        .and_then(|quality| through_jpeg(&grey, width, height, quality))
    {
        Some(coded) => coded,
        None => grey,
    }
}

/// Compresses and decompresses; `None` when the codec refuses the size.
fn through_jpeg(grey: &[u8], width: usize, height: usize, quality: u8) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, quality)
        .write_image(
            grey,
            u32::try_from(width).ok()?,
            u32::try_from(height).ok()?,
            ExtendedColorType::L8,
        )
        .ok()?;
    let decoded = image::load_from_memory_with_format(&file, ImageFormat::Jpeg).ok()?;
    Some(decoded.to_luma8().into_raw())
}
