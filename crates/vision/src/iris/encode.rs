//! Steps 9 and 10: the strip's phase as 8,192 code bits and 8,192 mask bits.
//!
//! The product runs `models/iris_encode.onnx`, which `models/train/make_iris_encoder.py` writes; the tests compare it with the plain Rust
//! of `reference.rs`, where the same parameters stand.

use std::path::Path;

use sallyport_domain::{IrisTemplate, ModelDigest};

use super::pipeline::EyeObservation;
use super::rubber_sheet::{STRIP_COLUMNS, STRIP_ROWS, Strip};
use crate::runtime::Model;
use crate::{ModelError, ModelManifest, ModelRole, Runtime, VisionError};

const STAGE: &str = "iris encoding";

/// Columns that are encoded.
pub(crate) const CODE_COLUMNS: usize = 128;

/// Code and mask rings as [`sallyport_domain::IrisTemplate`] takes them.
pub(crate) type Rings = ([u128; 64], [u128; 64]);

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
mod reference;
#[cfg(test)]
mod tests;
