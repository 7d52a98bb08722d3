//! The set-up's files, opened for a test. A missing file fails the test; it is never skipped.

use std::path::{Path, PathBuf};

use sallyport_domain::Timestamp;
use sallyport_vision::{
    FaceObservation, FacePipeline, Frame, ModelManifest, Provider, QualityPolicy, Runtime,
};

/// The moment at which all test frames are captured.
pub(crate) const AT: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn cache() -> PathBuf {
    let cache = root().join(".cache");
    assert!(
        cache.join("lib/libonnxruntime.so").is_file() && cache.join("fixtures/biden.jpg").is_file(),
        "models, runtime library or fixture pictures are missing in {}; run deploy/setup, then test again",
        cache.display()
    );
    cache
}

pub(crate) fn runtime() -> Runtime {
    Runtime::load(&cache().join("lib/libonnxruntime.so"), Provider::Cpu, 1)
        .expect("ONNX Runtime loads; run deploy/setup")
}

pub(crate) fn manifest() -> ModelManifest {
    ModelManifest::load(&root().join("models/manifest.toml")).expect("the manifest is valid")
}

pub(crate) fn pipeline_with(policy: QualityPolicy) -> FacePipeline {
    FacePipeline::new(&runtime(), &manifest(), &cache().join("models"), policy)
        .expect("the models load; run deploy/setup")
}

pub(crate) fn pipeline() -> FacePipeline {
    pipeline_with(QualityPolicy::gate())
}

pub(crate) fn picture(name: &str) -> Frame {
    let path = cache().join("fixtures").join(name);
    let file = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run deploy/setup", path.display()));
    Frame::decode("test", AT, &file).expect("a fixture picture decodes")
}

/// The faces of a picture from left to right.
pub(crate) fn faces(pipeline: &mut FacePipeline, frame: &Frame) -> Vec<FaceObservation> {
    let mut faces = pipeline.analyse(frame).expect("analysis works").faces;
    faces.sort_by(|a, b| a.face.left.total_cmp(&b.face.left));
    faces
}
