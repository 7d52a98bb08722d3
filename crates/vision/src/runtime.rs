//! ONNX Runtime: loading the library, verified models and execution providers.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::ep;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::TensorRef;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::VisionError;

/// Why models cannot be used. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The shared library is missing or not loadable.
    #[error("ONNX Runtime could not be loaded from {}; run deploy/setup or name the library with --onnxruntime", path.display())]
    Library {
        /// Where it was looked for.
        path: PathBuf,
        /// The loader's error.
        #[source]
        source: ort::LoadDynamicError,
    },
    /// Another library was loaded earlier in this process.
    #[error("ONNX Runtime was already loaded from another file in this process")]
    LoadedTwice,
    /// A file could not be read.
    #[error("{} could not be read; run deploy/setup or name the folder with --models", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is not valid.
    #[error("the model manifest {} is not valid: {detail}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The file's bytes are not the pinned ones.
    #[error(
        "{} does not have the SHA-256 {expected} of the manifest, so it is not used; run deploy/setup, and find out who changed it",
        path.display()
    )]
    WrongHash {
        /// Which file.
        path: PathBuf,
        /// The manifest's SHA-256.
        expected: String,
    },
    /// ONNX Runtime does not accept the model.
    #[error("ONNX Runtime does not accept {model}")]
    Session {
        /// Which model.
        model: String,
        /// Why.
        #[source]
        source: ort::Error,
    },
}

/// Where inference runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor; always there.
    #[default]
    Cpu,
    /// NVIDIA CUDA.
    Cuda,
    /// NVIDIA TensorRT.
    TensorRt,
    /// Intel OpenVINO.
    OpenVino,
}

impl std::str::FromStr for Provider {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "tensorrt" => Ok(Self::TensorRt),
            "openvino" => Ok(Self::OpenVino),
            _ => Err("one of cpu, cuda, tensorrt, openvino".to_owned()),
        }
    }
}

impl Provider {
    /// The name used in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
        }
    }
}

/// The loaded ONNX Runtime library. One per process.
#[derive(Debug, Clone)]
pub struct Runtime {
    provider: Provider,
    threads: usize,
}

/// ONNX Runtime allows one environment per process.
static LIBRARY: OnceLock<(PathBuf, Environment)> = OnceLock::new();

impl Runtime {
    /// Loads the library once per process; `threads` is what each session may use.
    ///
    /// # Errors
    /// The library is missing, does not fit, or another one was loaded before.
    pub fn load(library: &Path, provider: Provider, threads: usize) -> Result<Self, ModelError> {
        if LIBRARY.get().is_none() {
            let environment = ort::init_from(library)
                .map_err(|source| ModelError::Library {
                    path: library.to_owned(),
                    source,
                })?
                .with_name("sallyport")
                .build()
                .map_err(|source| ModelError::Session {
                    model: "ONNX Runtime's environment".to_owned(),
                    source,
                })?;
            // Another thread may have been first; then its environment stays and the paths are compared below.
            let _ = LIBRARY.set((library.to_owned(), environment));
        }
        if LIBRARY.get().is_none_or(|(loaded, _)| loaded != library) {
            return Err(ModelError::LoadedTwice);
        }
        Ok(Self {
            provider,
            threads: threads.max(1),
        })
    }

    /// Makes a session of exactly the bytes whose SHA-256 is `sha256`.
    pub(crate) fn session(&self, path: &Path, sha256: &str) -> Result<Model, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        let actual = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        if actual != sha256 {
            return Err(ModelError::WrongHash {
                path: path.to_owned(),
                expected: sha256.to_owned(),
            });
        }
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let failed = |source| ModelError::Session {
            model: name.clone(),
            source,
        };
        let builder = self.builder().map_err(failed)?;
        let session = match self.with_provider(builder) {
            Ok(mut builder) => builder.commit_from_memory(&bytes),
            Err(error) => Err(error),
        };
        let session = match (session, self.provider) {
            (Ok(session), _) => session,
            (Err(source), Provider::Cpu) => return Err(failed(source)),
            (Err(error), provider) => {
                tracing::warn!(
                    provider = provider.name(),
                    model = name,
                    error = %error,
                    "this execution provider cannot be used here; running on the CPU instead. Install its libraries or set provider = \"cpu\""
                );
                self.builder()
                    .and_then(|mut builder| builder.commit_from_memory(&bytes))
                    .map_err(failed)?
            }
        };
        Ok(Model { session })
    }

    /// A verified model alone with noise as its input (the same for each of two): what the benchmark compares our stages with. (A constant input
    /// would flatter it: `PRelu` is several times faster where no sign changes.)
    ///
    /// # Errors
    /// As for the pipeline.
    pub fn bare_model(
        &self,
        path: &Path,
        sha256: &str,
        shape: [usize; 4],
    ) -> Result<BareModel, ModelError> {
        Ok(BareModel {
            model: self.session(path, sha256)?,
            shape,
            input: noise(shape.iter().product()),
        })
    }

    fn builder(&self) -> Result<SessionBuilder, ort::Error> {
        let (_, environment) = LIBRARY
            .get()
            .expect("a Runtime exists only after the library was loaded");
        Ok(Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.threads)?
            .with_intra_op_spinning(false)?)
    }

    fn with_provider(&self, builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        let provider = match self.provider {
            Provider::Cpu => return Ok(builder),
            Provider::Cuda => ep::CUDA::default().build(),
            Provider::TensorRt => ep::TensorRT::default().build(),
            Provider::OpenVino => ep::OpenVINO::default().build(),
        };
        Ok(builder.with_execution_providers([provider.error_on_failure()])?)
    }
}

/// Uniform in -1 to 1, always the same (Knuth's MMIX generator).
fn noise(length: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let top = u16::try_from(state >> 48).unwrap_or_default();
        f32::from(top) / 32_768.0 - 1.0
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// See [`Runtime::bare_model`].
pub struct BareModel {
    model: Model,
    shape: [usize; 4],
    input: Vec<f32>,
}

impl std::fmt::Debug for BareModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BareModel({:?})", self.shape)
    }
}

impl BareModel {
    /// Runs once and drops the result.
    ///
    /// # Errors
    /// ONNX Runtime failed.
    pub fn run(&mut self) -> Result<(), VisionError> {
        let input = (self.shape, self.input.as_slice());
        let ran = match self.model.session.inputs().len() {
            2 => self.model.run_all("bare model", [input, input], []),
            _ => self.model.run_all("bare model", [input], []),
        };
        ran.map(|[]| ())
    }
}

/// One verified model with its session.
pub(crate) struct Model {
    session: Session,
}

impl Model {
    /// Runs on one input of the given shape; returns the named outputs as flat floats.
    pub(crate) fn run<const N: usize>(
        &mut self,
        stage: &'static str,
        shape: [usize; 4],
        input: &[f32],
        outputs: [&str; N],
    ) -> Result<[Vec<f32>; N], VisionError> {
        self.run_all(stage, [(shape, input)], outputs)
    }

    /// As [`Self::run`], with several inputs in the order of the graph's.
    pub(crate) fn run_all<const I: usize, const N: usize>(
        &mut self,
        stage: &'static str,
        inputs: [([usize; 4], &[f32]); I],
        outputs: [&str; N],
    ) -> Result<[Vec<f32>; N], VisionError> {
        let mut tensors = Vec::with_capacity(I);
        for (shape, input) in inputs {
            let tensor =
                TensorRef::from_array_view((shape, input)).map_err(VisionError::onnx(stage))?;
            tensors.push(SessionInputValue::from(tensor));
        }
        let tensors: [SessionInputValue<'_>; I] = tensors
            .try_into()
            .map_err(|_| VisionError::Contract { stage })?;
        let answer = self
            .session
            .run(tensors)
            .map_err(VisionError::onnx(stage))?;
        let mut values = std::array::from_fn(|_| Vec::new());
        for (slot, name) in values.iter_mut().zip(outputs) {
            let value = answer.get(name).ok_or(VisionError::Contract { stage })?;
            let (_, floats) = value
                .try_extract_tensor::<f32>()
                .map_err(VisionError::onnx(stage))?;
            *slot = floats.to_vec();
        }
        Ok(values)
    }
}
