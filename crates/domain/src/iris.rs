//! Iris templates and their comparison (1:1).
//!
//! A template holds 64 rings of 128 code bits and 128 mask bits. Ring `(scale * 2 + part) * 16 + row`: scale 0 is the
//! wavelength of 36 columns, 1 the one of 18; part 0 is the real half, 1 the imaginary one. Bit `c` of a ring, counted
//! from the least significant, is column `c`, so that turning the eye by one column rotates each ring by one bit.
//! Left and right are separate identities; nothing here compares one with the other by accident.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use crate::{Modality, ModelDigest};

/// Rings of a template: 2 scales x 2 parts x 16 rows.
pub const IRIS_RINGS: usize = 64;

/// Columns of a ring; one column is 2.8 degrees of the eye's rotation.
pub const IRIS_COLUMNS: u32 = 128;

/// Fewer bits that are valid in both templates than this are no comparison at all (biometrics.md I.4).
pub const IRIS_MINIMUM_COMMON_BITS: u32 = 1_500;

/// Length of [`IrisTemplate::to_bytes`].
pub const IRIS_TEMPLATE_BYTES: usize = HEADER_BYTES + 2 * IRIS_RINGS * RING_BYTES;

const MAGIC: [u8; 4] = *b"SPIT";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 42;
const RING_BYTES: usize = 16;

/// Common valid bits of a comparison that needs no correction: half of all (biometrics.md I.4).
const NOMINAL_COMMON_BITS: f64 = 4_096.0;

/// Why an iris template or comparison was refused. Carries no bit and no score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IrisError {
    /// The quality score is above 100.
    #[error("an iris quality score lies between 0 and 100")]
    QualityOutOfRange,
    /// The pupil is not smaller than the iris, or has no size.
    #[error("the pupil's share of the iris radius lies between 1 and 999 permille")]
    DilationOutOfRange,
    /// Hardly anything of the iris is visible; such a template could never be compared.
    #[error(
        "only {0} bits of the iris template are valid, and a comparison needs {IRIS_MINIMUM_COMMON_BITS}; capture the eye again, wide open"
    )]
    TooFewValidBits(u32),
    /// The bytes are not as many as a template has.
    #[error("an iris template has {IRIS_TEMPLATE_BYTES} bytes, not {0}")]
    WrongLength(usize),
    /// The bytes do not begin as an iris template does.
    #[error("these bytes are not an iris template")]
    NotAnIrisTemplate,
    /// Another layout than this program knows.
    #[error(
        "iris template version {0} is unknown; this program reads version 1, so update the older side"
    )]
    UnknownVersion(u8),
    /// The byte that names the eye is neither left nor right, or a reserved byte is used.
    #[error("the header of the iris template is damaged")]
    BadHeader,
    /// The text is not base64.
    #[error("an iris template is written as standard base64 with padding")]
    NotBase64,
    /// Left and right irises are different identities.
    #[error("a left iris cannot be compared with a right one; check the eye labels of the cameras")]
    OtherEye,
    /// The templates come from different encoders.
    #[error(
        "the iris templates come from different encoders; enrol the person again with the present one"
    )]
    OtherEncoder,
    /// A dissimilarity outside [0, 1].
    #[error("an iris dissimilarity lies between 0 and 1")]
    ScoreOutOfRange,
}

/// Which eye, from the subject's own point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eye {
    /// The subject's left eye.
    Left,
    /// The subject's right eye.
    Right,
}

impl Eye {
    /// Both eyes, left first.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    /// The modality of this eye's iris.
    #[must_use]
    pub const fn modality(self) -> Modality {
        match self {
            Self::Left => Modality::IrisLeft,
            Self::Right => Modality::IrisRight,
        }
    }

    /// The stable name used in files and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    /// The subject's other eye.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// How far the probe is turned against the reference while looking for the closest position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum IrisRotation {
    /// Up to 4 columns (11 degrees) each way: the default, for pictures that are upright or straightened by the face.
    #[default]
    Normal,
    /// Up to 6 columns (17 degrees) each way, where nothing else tells the head's roll.
    Wide,
}

impl IrisRotation {
    /// Columns each way.
    #[must_use]
    pub const fn columns(self) -> u32 {
        match self {
            Self::Normal => 4,
            Self::Wide => 6,
        }
    }

    /// Left rotations to try, in columns modulo 128; the unturned position is first.
    pub fn shifts(self) -> impl Iterator<Item = u32> {
        let columns = self.columns();
        (0..=columns).chain(IRIS_COLUMNS - columns..IRIS_COLUMNS)
    }
}

/// Code and mask, boxed so that moving a template does not leave copies of it behind on the stack.
#[derive(Clone, PartialEq, Eq)]
struct Rings {
    code: [u128; IRIS_RINGS],
    mask: [u128; IRIS_RINGS],
}

impl Drop for Rings {
    fn drop(&mut self) {
        self.code.zeroize();
        self.mask.zeroize();
    }
}

/// The encoded iris of one eye. `Debug` hides it, dropping zeroises it.
#[derive(Clone, PartialEq, Eq)]
pub struct IrisTemplate {
    encoder: ModelDigest,
    eye: Eye,
    quality: u8,
    dilation_permille: u16,
    rings: Box<Rings>,
}

impl IrisTemplate {
    /// Checks and wraps an encoder's output. Code bits outside the mask are cleared: they mean nothing, and equal
    /// templates have equal bytes.
    ///
    /// `quality` is 0 to 100, `dilation_permille` the pupil's radius per iris radius, 1 to 999.
    ///
    /// # Errors
    /// A value out of range, or fewer than [`IRIS_MINIMUM_COMMON_BITS`] valid bits.
    pub fn new(
        encoder: ModelDigest,
        eye: Eye,
        quality: u8,
        dilation_permille: u16,
        code: [u128; IRIS_RINGS],
        mask: [u128; IRIS_RINGS],
    ) -> Result<Self, IrisError> {
        let mut rings = Box::new(Rings { code, mask });
        if quality > 100 {
            return Err(IrisError::QualityOutOfRange);
        }
        if !(1..=999).contains(&dilation_permille) {
            return Err(IrisError::DilationOutOfRange);
        }
        let Rings { code, mask } = &mut *rings;
        code.iter_mut()
            .zip(&*mask)
            .for_each(|(code, mask)| *code &= mask);
        let valid: u32 = mask.iter().map(|ring| ring.count_ones()).sum();
        if valid < IRIS_MINIMUM_COMMON_BITS {
            return Err(IrisError::TooFewValidBits(valid));
        }
        Ok(Self {
            encoder,
            eye,
            quality,
            dilation_permille,
            rings,
        })
    }

    /// SHA-256 of the encoder that made it.
    #[must_use]
    pub const fn encoder(&self) -> ModelDigest {
        self.encoder
    }

    /// Which eye.
    #[must_use]
    pub const fn eye(&self) -> Eye {
        self.eye
    }

    /// Quality score, 0 (unusable) to 100.
    #[must_use]
    pub const fn quality(&self) -> u8 {
        self.quality
    }

    /// Pupil radius per iris radius, in permille.
    #[must_use]
    pub const fn dilation_permille(&self) -> u16 {
        self.dilation_permille
    }

    /// Code rings; bits outside the mask are zero.
    #[must_use]
    pub fn code(&self) -> &[u128; IRIS_RINGS] {
        &self.rings.code
    }

    /// Mask rings; a set bit is valid.
    #[must_use]
    pub fn mask(&self) -> &[u128; IRIS_RINGS] {
        &self.rings.mask
    }

    /// How many bits are valid, at least [`IRIS_MINIMUM_COMMON_BITS`].
    #[must_use]
    pub fn valid_bits(&self) -> u32 {
        self.mask().iter().map(|ring| ring.count_ones()).sum()
    }

    /// The template of the same eye turned by `columns` (towards higher columns), as a tilted head shows it.
    #[must_use]
    pub fn rotated(&self, columns: u32) -> Self {
        let mut turned = self.clone();
        let Rings { code, mask } = &mut *turned.rings;
        code.iter_mut()
            .chain(mask)
            .for_each(|ring| *ring = ring.rotate_left(columns % IRIS_COLUMNS));
        turned
    }

    /// The same bits under the other eye's name: only to search for a person who was enrolled with the eyes swapped. Such
    /// a template must never be stored.
    #[must_use]
    pub fn under_other_name(&self) -> Self {
        Self {
            eye: self.eye.other(),
            ..self.clone()
        }
    }

    /// The stable byte form, [`IRIS_TEMPLATE_BYTES`] long: `SPIT`, version 1, eye (0 left, 1 right), quality, 0,
    /// dilation (big-endian), encoder digest, 64 code rings and 64 mask rings (each little-endian).
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(IRIS_TEMPLATE_BYTES));
        bytes.extend_from_slice(&MAGIC);
        let eye = match self.eye {
            Eye::Left => 0,
            Eye::Right => 1,
        };
        bytes.extend_from_slice(&[VERSION, eye, self.quality, 0]);
        bytes.extend_from_slice(&self.dilation_permille.to_be_bytes());
        bytes.extend_from_slice(self.encoder.as_bytes());
        for ring in self.code().iter().chain(self.mask()) {
            bytes.extend_from_slice(&ring.to_le_bytes());
        }
        bytes
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// Wrong length, other magic or version, a damaged header, or values that [`IrisTemplate::new`] refuses.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IrisError> {
        if bytes.len() != IRIS_TEMPLATE_BYTES {
            return Err(IrisError::WrongLength(bytes.len()));
        }
        let Some(bytes) = bytes.strip_prefix(&MAGIC) else {
            return Err(IrisError::NotAnIrisTemplate);
        };
        let (&[version, eye, quality, reserved, high, low], bytes) = bytes
            .split_first_chunk::<6>()
            .ok_or(IrisError::WrongLength(bytes.len()))?;
        if version != VERSION {
            return Err(IrisError::UnknownVersion(version));
        }
        let eye = match (eye, reserved) {
            (0, 0) => Eye::Left,
            (1, 0) => Eye::Right,
            _ => return Err(IrisError::BadHeader),
        };
        let (encoder, rings) = bytes
            .split_first_chunk::<32>()
            .ok_or(IrisError::WrongLength(bytes.len()))?;
        let mut both = [[0; IRIS_RINGS]; 2];
        let (chunks, _) = rings.as_chunks::<RING_BYTES>();
        both.as_flattened_mut()
            .iter_mut()
            .zip(chunks)
            .for_each(|(ring, bytes)| *ring = u128::from_le_bytes(*bytes));
        let [code, mask] = both;
        let template = Self::new(
            ModelDigest::from_bytes(*encoder),
            eye,
            quality,
            u16::from_be_bytes([high, low]),
            code,
            mask,
        );
        both.as_flattened_mut().zeroize();
        template
    }
}

impl fmt::Debug for IrisTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IrisTemplate([sealed])")
    }
}

impl Serialize for IrisTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(self.to_bytes()));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for IrisTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // Without this a long text would first be decoded and only then refused.
        let longest = IRIS_TEMPLATE_BYTES.div_ceil(3) * 4;
        if text.len() > longest {
            return Err(serde::de::Error::custom(IrisError::WrongLength(
                text.len() / 4 * 3,
            )));
        }
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| serde::de::Error::custom(IrisError::NotBase64))?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// Normalised fractional Hamming distance of two irises, in [0, 1]. Smaller is closer; unrelated irises lie near 0.45.
/// `Debug` hides the number.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct IrisDissimilarity(f32);

impl IrisDissimilarity {
    /// Checks a dissimilarity.
    ///
    /// # Errors
    /// Not finite or outside [0, 1].
    pub fn new(value: f32) -> Result<Self, IrisError> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(IrisError::ScoreOutOfRange)
        }
    }

    /// The dissimilarity of `disagreeing` among `common` valid bits at one position; `None` when the common bits are
    /// too few. `s = 0.5 - (0.5 - HD) sqrt(n / 4096)` (biometrics.md I.4) makes few bits speak less: a small overlap
    /// moves the score towards 0.5 from either side. Clamped to [0, 1].
    #[must_use]
    pub fn from_counts(disagreeing: u32, common: u32) -> Option<Self> {
        if common < IRIS_MINIMUM_COMMON_BITS || disagreeing > common {
            return None;
        }
        let (disagreeing, common) = (f64::from(disagreeing), f64::from(common));
        let raw = disagreeing / common;
        let normalised = 0.5 - (0.5 - raw) * (common / NOMINAL_COMMON_BITS).sqrt();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "scores are kept in single precision"
        )]
        Some(Self(normalised.clamp(0.0, 1.0) as f32))
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> f32 {
        self.0
    }

    /// The closer of two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

impl fmt::Debug for IrisDissimilarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IrisDissimilarity([hidden])")
    }
}

/// What a comparison of two irises brought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IrisComparison {
    /// The closest position over all rotations that had enough common bits.
    Compared(IrisDissimilarity),
    /// Too few bits are valid in both templates: neither a match nor a non-match.
    TooFewBits,
}

impl IrisComparison {
    /// The score, if there was enough to compare.
    #[must_use]
    pub const fn dissimilarity(self) -> Option<IrisDissimilarity> {
        match self {
            Self::Compared(dissimilarity) => Some(dissimilarity),
            Self::TooFewBits => None,
        }
    }
}

/// Compares two templates of the same eye, the probe turned both ways as far as `rotation` says.
///
/// # Errors
/// [`IrisError::OtherEye`] or [`IrisError::OtherEncoder`]: such templates have no common meaning.
pub fn compare(
    probe: &IrisTemplate,
    reference: &IrisTemplate,
    rotation: IrisRotation,
) -> Result<IrisComparison, IrisError> {
    if probe.encoder != reference.encoder {
        return Err(IrisError::OtherEncoder);
    }
    if probe.eye != reference.eye {
        return Err(IrisError::OtherEye);
    }
    Ok(compare_rings(probe, reference, rotation))
}

/// The comparison itself, for the enrolment rule that looks for one eye stored under both names.
pub(crate) fn compare_rings(
    probe: &IrisTemplate,
    reference: &IrisTemplate,
    rotation: IrisRotation,
) -> IrisComparison {
    rotation
        .shifts()
        .filter_map(|shift| {
            let (disagreeing, common) = counts(probe, reference, shift);
            IrisDissimilarity::from_counts(disagreeing, common)
        })
        .reduce(IrisDissimilarity::min)
        .map_or(IrisComparison::TooFewBits, IrisComparison::Compared)
}

/// Disagreeing and common valid bits with the probe rotated by `shift` columns.
fn counts(probe: &IrisTemplate, reference: &IrisTemplate, shift: u32) -> (u32, u32) {
    let probe_rings = probe.code().iter().zip(probe.mask());
    let reference_rings = reference.code().iter().zip(reference.mask());
    probe_rings.zip(reference_rings).fold(
        (0, 0),
        |(disagreeing, common), ((code, mask), (other_code, other_mask))| {
            let both = mask.rotate_left(shift) & other_mask;
            let differing = (code.rotate_left(shift) ^ other_code) & both;
            (
                disagreeing + differing.count_ones(),
                common + both.count_ones(),
            )
        },
    )
}

#[cfg(test)]
mod tests;
