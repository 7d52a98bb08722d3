//! A camera frame, and decoding of picture files with limits.

use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Vector};
use opencv::imgcodecs;
use sallyport_domain::Timestamp;

use crate::VisionError;

/// The largest picture file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 32 * 1024 * 1024;
/// The largest picture that is decoded, in pixels.
pub const MAX_PIXELS: u64 = 40_000_000;

/// Why a file is not a usable picture. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file is too large to be a photograph.
    #[error(
        "the file has {0} bytes; pictures of up to {MAX_FILE_BYTES} bytes are accepted, so save it smaller"
    )]
    TooManyBytes(usize),
    /// The picture is too large to decode safely.
    #[error(
        "the picture is {width} x {height} pixels; up to {MAX_PIXELS} pixels in all are accepted, so scale it down"
    )]
    TooManyPixels {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// Neither JPEG nor PNG nor BMP.
    #[error("not a JPEG, PNG or BMP picture, whatever its name says")]
    UnknownFormat,
    /// The picture ends early or is damaged.
    #[error("the picture is damaged or ends early; copy it again from its source")]
    Damaged,
    /// The frame's numbers do not fit together.
    #[error("a frame of {width} x {height} pixels needs {expected} bytes, not {actual}")]
    WrongSize {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Bytes needed.
        expected: u64,
        /// Bytes given.
        actual: usize,
    },
    /// OpenCV failed in another way.
    #[error("the picture could not be decoded")]
    OpenCv(#[from] opencv::Error),
}

/// One frame: 8-bit BGR pixels of one camera at one moment. `Debug` shows no pixels.
pub struct Frame {
    /// Which camera.
    pub camera: String,
    /// When it was captured, by the agent's clock.
    pub captured_at: Timestamp,
    pub(crate) pixels: Mat,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Frame({}, {} x {})",
            self.camera,
            self.width(),
            self.height()
        )
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        Self {
            camera: self.camera.clone(),
            captured_at: self.captured_at,
            pixels: self.pixels.clone(),
        }
    }
}

impl Frame {
    /// Decodes a JPEG, PNG or BMP file to 8-bit BGR: grey, 16-bit, CMYK and EXIF rotation are handled.
    /// The header is read first, so that a giant picture cannot exhaust memory.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(camera: &str, captured_at: Timestamp, file: &[u8]) -> Result<Self, DecodeError> {
        if file.len() > MAX_FILE_BYTES {
            return Err(DecodeError::TooManyBytes(file.len()));
        }
        let (width, height) = header_size(file)?;
        if width == 0 || height == 0 {
            return Err(DecodeError::Damaged);
        }
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(DecodeError::TooManyPixels { width, height });
        }
        if ends_early(file) {
            return Err(DecodeError::Damaged);
        }
        let pixels = imgcodecs::imdecode(&Vector::<u8>::from_slice(file), imgcodecs::IMREAD_COLOR)?;
        if pixels.empty() {
            return Err(DecodeError::Damaged);
        }
        Ok(Self {
            camera: camera.to_owned(),
            captured_at,
            pixels,
        })
    }

    /// Takes raw 8-bit BGR pixels, row by row without padding.
    ///
    /// # Errors
    /// The byte count does not fit the size, or the frame is too large.
    pub fn from_bgr(
        camera: &str,
        captured_at: Timestamp,
        width: u32,
        height: u32,
        bytes: &[u8],
    ) -> Result<Self, DecodeError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > MAX_PIXELS {
            return Err(DecodeError::TooManyPixels { width, height });
        }
        let expected = pixels * 3;
        if expected == 0 || expected != bytes.len() as u64 {
            return Err(DecodeError::WrongSize {
                width,
                height,
                expected,
                actual: bytes.len(),
            });
        }
        let rows =
            i32::try_from(height).map_err(|_| DecodeError::TooManyPixels { width, height })?;
        let pixels = Mat::from_slice(bytes)?.reshape(3, rows)?.try_clone()?;
        Ok(Self {
            camera: camera.to_owned(),
            captured_at,
            pixels,
        })
    }

    pub(crate) fn from_mat(camera: &str, captured_at: Timestamp, pixels: Mat) -> Self {
        Self {
            camera: camera.to_owned(),
            captured_at,
            pixels,
        }
    }

    /// Pixels across.
    #[must_use]
    pub fn width(&self) -> i32 {
        self.pixels.cols()
    }

    /// Pixels down.
    #[must_use]
    pub fn height(&self) -> i32 {
        self.pixels.rows()
    }

    /// The raw 8-bit BGR pixels.
    ///
    /// # Errors
    /// OpenCV failed.
    pub fn bgr(&self) -> Result<Vec<u8>, VisionError> {
        let whole = self
            .pixels
            .try_clone()
            .map_err(VisionError::cv("reading pixels"))?;
        whole
            .data_bytes()
            .map(<[u8]>::to_vec)
            .map_err(VisionError::cv("reading pixels"))
    }

    /// A JPEG file of this frame; `quality` from 1 to 100.
    ///
    /// # Errors
    /// OpenCV failed.
    pub fn to_jpeg(&self, quality: i32) -> Result<Vec<u8>, VisionError> {
        encode(
            &self.pixels,
            ".jpg",
            &[imgcodecs::IMWRITE_JPEG_QUALITY, quality.clamp(1, 100)],
        )
    }
}

pub(crate) fn encode(pixels: &Mat, ending: &str, options: &[i32]) -> Result<Vec<u8>, VisionError> {
    let mut file = Vector::<u8>::new();
    let done = imgcodecs::imencode(ending, pixels, &mut file, &Vector::from_slice(options))
        .map_err(VisionError::cv("encoding a picture"))?;
    if done {
        Ok(file.into())
    } else {
        Err(VisionError::Contract {
            stage: "encoding a picture",
        })
    }
}

/// Width and height from the file's header.
fn header_size(file: &[u8]) -> Result<(u32, u32), DecodeError> {
    if file.starts_with(&[0xff, 0xd8, 0xff]) {
        return jpeg_size(file).ok_or(DecodeError::Damaged);
    }
    let be32 = |at: usize| {
        file.get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_be_bytes)
            .ok_or(DecodeError::Damaged)
    };
    if file.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok((be32(16)?, be32(20)?));
    }
    if file.starts_with(b"BM") && file.len() > 26 {
        // Height is negative for top-down bitmaps.
        return Ok((
            be32(18)?.swap_bytes(),
            be32(22)?.swap_bytes().cast_signed().unsigned_abs(),
        ));
    }
    Err(DecodeError::UnknownFormat)
}

/// Walks the JPEG markers up to the frame header (ITU-T T.81 B.2.2).
fn jpeg_size(file: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    loop {
        if *file.get(at)? != 0xff {
            return None;
        }
        let marker = *file.get(at + 1)?;
        match marker {
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let height = u16::from_be_bytes([*file.get(at + 5)?, *file.get(at + 6)?]);
                let width = u16::from_be_bytes([*file.get(at + 7)?, *file.get(at + 8)?]);
                return Some((u32::from(width), u32::from(height)));
            }
            _ => {
                let length = u16::from_be_bytes([*file.get(at + 2)?, *file.get(at + 3)?]);
                at += 2 + usize::from(length.max(2));
            }
        }
    }
}

/// OpenCV fills the missing part of a truncated picture with grey and only prints a warning, so the end marker is
/// looked for here: EOI of a JPEG (also before trailing bytes that some cameras add), IEND of a PNG.
fn ends_early(file: &[u8]) -> bool {
    let tail = |length: usize| {
        file.get(file.len().saturating_sub(length)..)
            .unwrap_or(file)
    };
    if file.starts_with(&[0xff, 0xd8]) {
        !tail(64 * 1024).windows(2).any(|pair| pair == [0xff, 0xd9]) || last_scan_is_cut(file)
    } else if file.starts_with(b"\x89PNG") {
        !tail(64).windows(4).any(|word| word == b"IEND")
    } else {
        false
    }
}

/// An EOI inside an embedded thumbnail does not end the picture: after the frame header there must be another.
fn last_scan_is_cut(file: &[u8]) -> bool {
    let mut at = 2;
    // Skip marker segments (thumbnails live in APP segments) to the start of scan.
    while let (Some(0xff), Some(marker)) = (file.get(at), file.get(at + 1)) {
        if *marker == 0xda {
            return !file
                .get(at..)
                .unwrap_or_default()
                .windows(2)
                .any(|pair| pair == [0xff, 0xd9]);
        }
        let (Some(high), Some(low)) = (file.get(at + 2), file.get(at + 3)) else {
            return true;
        };
        at += 2 + usize::from(u16::from_be_bytes([*high, *low]).max(2));
    }
    true
}
