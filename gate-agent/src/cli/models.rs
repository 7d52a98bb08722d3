//! Where the models and ONNX Runtime are.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use sallyport_vision::{
    FacePipeline, IrisPipeline, IrisQualityPolicy, ModelManifest, QualityPolicy, Runtime,
};

use crate::config::VisionConfig;

/// Flags for the models.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ModelFlags {
    /// Folder of the model files.
    #[arg(long, env = "SALLYPORT_MODELS")]
    models: Option<PathBuf>,
    /// Manifest of the models.
    #[arg(long, env = "SALLYPORT_MANIFEST")]
    manifest: Option<PathBuf>,
    /// While models change: manifest of the models that come next.
    #[arg(long, env = "SALLYPORT_SUCCESSOR")]
    pub(super) successor: Option<PathBuf>,
    /// The ONNX Runtime library.
    #[arg(long, env = "SALLYPORT_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
}

impl ModelFlags {
    /// Loads the face pipeline.
    pub(super) fn pipeline(
        &self,
        config: &VisionConfig,
        quality: QualityPolicy,
    ) -> anyhow::Result<FacePipeline> {
        self.open(config)?.face(quality)
    }

    /// Finds the models: flags win over the configuration, which wins over the usual places.
    pub(super) fn open(&self, config: &VisionConfig) -> anyhow::Result<Models> {
        let models = find(
            self.models.as_ref().or(config.models.as_ref()),
            &[".cache/models", "share/sallyport/models"],
            "the models folder",
            "--models",
        )?;
        let manifest = find(
            self.manifest.as_ref().or(config.manifest.as_ref()),
            &[
                "models/manifest.toml",
                "share/sallyport/models/manifest.toml",
            ],
            "the models' manifest",
            "--manifest",
        )?;
        let library = find(
            self.onnxruntime.as_ref().or(config.onnxruntime.as_ref()),
            &[
                ".cache/lib/libonnxruntime.so",
                "lib/sallyport/libonnxruntime.so",
            ],
            "the ONNX Runtime library",
            "--onnxruntime",
        )?;
        let successor = self.successor.as_ref().or(config.successor.as_ref());
        let runtime = Runtime::load(&library, config.provider, config.threads.max(1))?;
        let manifest = ModelManifest::load(&manifest)?;
        Ok(Models {
            runtime,
            manifest,
            successor: successor
                .map(|path| ModelManifest::load(path))
                .transpose()?,
            folder: models,
        })
    }
}

/// Where the models are, and what runs them.
pub(super) struct Models {
    runtime: Runtime,
    manifest: ModelManifest,
    /// The models that come next.
    successor: Option<ModelManifest>,
    folder: PathBuf,
}

impl Models {
    /// Loads the face pipeline.
    pub(super) fn face(&self, quality: QualityPolicy) -> anyhow::Result<FacePipeline> {
        let pipeline = FacePipeline::new(&self.runtime, &self.manifest, &self.folder, quality)?;
        Ok(match &self.successor {
            Some(next) => pipeline.with_successor(&self.runtime, next, &self.folder)?,
            None => pipeline,
        })
    }

    /// Loads the iris pipeline.
    pub(super) fn iris(&self) -> anyhow::Result<IrisPipeline> {
        let quality = IrisQualityPolicy::default();
        let pipeline = IrisPipeline::new(&self.runtime, &self.manifest, &self.folder, quality)?;
        Ok(match &self.successor {
            Some(next) => pipeline.with_successor(&self.runtime, next, &self.folder)?,
            None => pipeline,
        })
    }
}

/// The given path, or the first of the usual ones below the working folder or the installation.
fn find(
    given: Option<&PathBuf>,
    usual: &[&str],
    what: &str,
    flag: &str,
) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    let here = std::env::current_dir().context("the working folder is gone")?;
    let program = std::env::current_exe().unwrap_or_default();
    let roots = std::iter::once(here.as_path()).chain(program.ancestors().skip(1));
    for root in roots {
        if let Some(found) = usual
            .iter()
            .map(|path: &&str| root.join(Path::new(path)))
            .find(|path| path.exists())
        {
            return Ok(found);
        }
    }
    anyhow::bail!("{what} was not found; run deploy/setup, or say where it is with {flag}")
}
