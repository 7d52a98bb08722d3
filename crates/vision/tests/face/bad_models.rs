//! A model whose bytes are not the pinned ones is never used.

use std::fs;

use sallyport_vision::{FacePipeline, ModelError, ModelManifest, Provider, QualityPolicy, Runtime};

use crate::common::{cache, manifest, root, runtime};

#[test]
fn one_changed_byte_in_any_model_refuses_the_pipeline() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let models = cache().join("models");
    for entry in fs::read_dir(&models).expect("run deploy/setup") {
        let entry = entry.expect("a readable folder");
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    let open = || {
        FacePipeline::new(
            &runtime(),
            &manifest(),
            folder.path(),
            QualityPolicy::gate(),
        )
    };
    open().expect("unchanged models are accepted");
    for name in [
        "fr_detect.onnx",
        "fr_landmark.onnx",
        "fr_pose.onnx",
        "fr_liveness.onnx",
        "fr_feature.onnx",
    ] {
        let path = folder.path().join(name);
        let good = fs::read(&path).expect("readable");
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, &bad).expect("writable");
        let refused = open().expect_err("a changed model is refused");
        assert!(
            matches!(refused, ModelError::WrongHash { .. }),
            "{name}: {refused}"
        );
        let text = refused.to_string();
        assert!(
            text.contains(name) && text.contains("run deploy/setup"),
            "{text}"
        );
        fs::remove_file(&path).expect("removable");
        let refused = open().expect_err("a missing model is refused");
        assert!(
            matches!(refused, ModelError::Read { .. }),
            "{name}: {refused}"
        );
        fs::write(&path, &good).expect("writable");
    }
}

#[test]
fn the_templates_digest_is_the_recognition_models() {
    let pipeline = crate::common::pipeline();
    assert_eq!(
        pipeline.model_digest().to_string(),
        "3ab568a4e2996c1e70883298c6607527385e722b1ef105e72120bb233208fb64"
    );
}

#[test]
fn manifests_with_mistakes_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = fs::read_to_string(root().join("models/manifest.toml")).expect("readable");
    let cases = [
        ("[[model", "not valid"),
        (
            &good.replacen("fr_detect.onnx", "../fr_detect.onnx", 1),
            "not a plain file name",
        ),
        (&good.replacen("6c0256cc", "xyz", 1), "64 hexadecimal"),
        (
            &good.replacen("role = \"pose\"", "role = \"posture\"", 1),
            "posture",
        ),
        (&good.replacen("licence =", "license =", 1), "license"),
    ];
    for (text, reason) in cases {
        let path = folder.path().join("manifest.toml");
        fs::write(&path, text).expect("writable");
        let refused = ModelManifest::load(&path).expect_err(reason).to_string();
        assert!(refused.contains(reason), "{refused} should name {reason}");
    }
    let refused = ModelManifest::load(&folder.path().join("absent.toml"))
        .expect_err("absent")
        .to_string();
    assert!(refused.contains("absent.toml"), "{refused}");
    let mut without = manifest();
    without.model.remove(0);
    let refused = FacePipeline::new(
        &runtime(),
        &without,
        &cache().join("models"),
        QualityPolicy::gate(),
    )
    .expect_err("no detector");
    assert!(refused.to_string().contains("Detection"), "{refused}");
}

#[test]
fn another_runtime_library_in_one_process_is_refused() {
    runtime();
    let refused = Runtime::load(&cache().join("lib/other.so"), Provider::Cpu, 1)
        .expect_err("one per process");
    assert!(matches!(refused, ModelError::LoadedTwice), "{refused}");
}

#[test]
fn a_missing_provider_falls_back_to_the_processor_and_still_works() {
    let runtime = Runtime::load(
        &cache().join("lib/libonnxruntime.so"),
        Provider::OpenVino,
        1,
    )
    .expect("the library is the same");
    let mut pipeline = FacePipeline::new(
        &runtime,
        &manifest(),
        &cache().join("models"),
        QualityPolicy::gate(),
    )
    .expect("falls back");
    let found = pipeline
        .analyse(&crate::common::picture("obama.jpg"))
        .expect("analysis works");
    assert_eq!(found.faces.len(), 1);
    for (text, provider) in [
        ("cpu", Provider::Cpu),
        ("cuda", Provider::Cuda),
        ("tensorrt", Provider::TensorRt),
        ("openvino", Provider::OpenVino),
    ] {
        assert_eq!(text.parse::<Provider>(), Ok(provider));
        assert_eq!(provider.name(), text);
    }
    assert!("gpu".parse::<Provider>().is_err());
}
