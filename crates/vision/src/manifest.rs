//! `models/manifest.toml`: which model files are used, and their SHA-256.

use std::path::{Path, PathBuf};

use sallyport_domain::ModelDigest;
use serde::Deserialize;

use crate::ModelError;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelRole {
    /// Face detection.
    Detection,
    /// 68 landmarks.
    Landmarks,
    /// Head pose.
    Pose,
    /// Presentation attack texture vote.
    Liveness,
    /// Open or closed eyes.
    Eye,
    /// Face template.
    Recognition,
    /// Classes of the pixels of an eye picture.
    IrisSegmentation,
    /// Iris template.
    IrisEncoder,
}

/// One model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// What it is for.
    pub role: ModelRole,
    /// File name inside the models folder, or beside the manifest when it is committed.
    pub file: PathBuf,
    /// One of our own models, kept beside the manifest; the others are fetched by deploy/setup.
    #[serde(default)]
    pub committed: bool,
    /// SHA-256 of the prepared file (deploy/prepare_model.py), hexadecimal.
    pub sha256: String,
    /// SHA-256 of the file as its package ships it.
    pub original_sha256: String,
    /// Package and version.
    pub source: String,
    /// Licence as stated by the package.
    pub licence: String,
    /// What is known and unknown of its origin.
    pub provenance: String,
    /// Input and output tensors.
    pub contract: String,
}

/// All models of the pipeline.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// The models.
    pub model: Vec<ModelEntry>,
    /// Where the manifest and the committed models lie.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl ModelManifest {
    /// Reads and checks the manifest.
    ///
    /// # Errors
    /// Unreadable, not valid TOML, unknown fields, or a path that leaves the models folder.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(|source| ModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        let wrong = |detail: String| ModelError::Manifest {
            path: path.to_owned(),
            detail,
        };
        let mut manifest: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        manifest.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        for entry in &manifest.model {
            if entry.file.components().count() != 1 || entry.file.file_name().is_none() {
                return Err(wrong(format!(
                    "{} is not a plain file name",
                    entry.file.display()
                )));
            }
            if entry.sha256.parse::<ModelDigest>().is_err() {
                return Err(wrong(format!(
                    "the SHA-256 of {} is not 64 hexadecimal digits",
                    entry.file.display()
                )));
            }
        }
        Ok(manifest)
    }

    /// Where an entry's file lies, given the folder of the fetched models.
    #[must_use]
    pub fn path(&self, entry: &ModelEntry, models: &Path) -> PathBuf {
        if entry.committed {
            self.folder.join(&entry.file)
        } else {
            models.join(&entry.file)
        }
    }

    pub(crate) fn entry(&self, role: ModelRole) -> Result<&ModelEntry, ModelError> {
        self.model
            .iter()
            .find(|entry| entry.role == role)
            .ok_or_else(|| ModelError::Manifest {
                path: PathBuf::from("manifest.toml"),
                detail: format!("it names no model for {role:?}"),
            })
    }
}
