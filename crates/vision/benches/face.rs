//! Each stage and the whole 640 x 480 frame with one face on one thread, beside ONNX Runtime's own time for the same
//! models. Prints a table; asserts nothing, since machines differ.
//!
//! `cargo bench -p sallyport-vision`, after `deploy/setup`. Target (`performance.md`): at most 20 ms a frame.

use std::path::Path;
use std::time::{Duration, Instant};

use sallyport_domain::Timestamp;
use sallyport_vision::{
    BareModel, FacePipeline, Frame, ModelManifest, Provider, QualityPolicy, Runtime, StageTimes,
    VisionError, aligned_face, alone, border_around,
};

const WARM_UP: usize = 10;
const ROUNDS: usize = 60;

/// Medians of two pieces of work, run alternately so that other load on the machine hits both alike.
fn medians(mut ours: impl FnMut() -> Duration, mut peer: impl FnMut() -> Duration) -> (f64, f64) {
    for _ in 0..WARM_UP {
        ours();
        peer();
    }
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mine.push(ours().as_secs_f64() * 1e3);
        theirs.push(peer().as_secs_f64() * 1e3);
    }
    (middle(mine), middle(theirs))
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let clock = Instant::now();
    std::hint::black_box(work());
    clock.elapsed()
}

/// A stage beside ONNX Runtime's own time for the same models.
fn beside(name: &str, ours: impl FnMut() -> Duration, onnx: &mut [&mut BareModel]) {
    let peer = || timed(|| onnx.iter_mut().try_for_each(|model| model.run()));
    let (ours, onnx) = medians(ours, peer);
    println!("{name:<34} {ours:>8.2} {onnx:>8.2} {:>7.2}", ours / onnx);
}

/// A stage without a model.
fn alone_row(name: &str, ours: impl FnMut() -> Duration) {
    let (ours, _) = medians(ours, || Duration::ZERO);
    println!("{name:<34} {ours:>8.2} {:>8} {:>7}", "-", "-");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = root.join(".cache");
    let picture = std::fs::read(cache.join("fixtures/obama.jpg"))
        .map_err(|error| format!("fixture pictures: {error}; run deploy/setup"))?;
    let runtime = Runtime::load(&cache.join("lib/libonnxruntime.so"), Provider::Cpu, 1)?;
    let manifest = ModelManifest::load(&root.join("models/manifest.toml"))?;
    let models = cache.join("models");
    let mut pipeline = FacePipeline::new(&runtime, &manifest, &models, QualityPolicy::gate())?;
    let large = Frame::decode("bench", Timestamp::from_micros(0), &picture)?;
    let found = pipeline
        .analyse(&large)?
        .faces
        .into_iter()
        .map(|seen| seen.face);
    let frame = alone(&large, &found.collect::<Vec<_>>(), 0, (640, 480), 170.0)?;
    let face = pipeline
        .analyse(&frame)?
        .faces
        .into_iter()
        .next()
        .ok_or("no face in the frame")?;
    let jpeg = frame.to_jpeg(90)?;

    let [
        mut detection,
        mut landmarks,
        mut pose,
        mut liveness,
        mut recognition,
    ] = bare_models(&runtime, &manifest, &models)?;
    println!("one thread, 640 x 480 frame with one face, median of {ROUNDS}, milliseconds");
    println!("{:<34} {:>8} {:>8} {:>7}", "stage", "ours", "ONNX", "ratio");
    let mut stage = |pick: fn(&StageTimes) -> Duration| -> Duration {
        pipeline
            .analyse(&frame)
            .map_or(Duration::MAX, |seen| pick(&seen.times))
    };
    beside(
        "detection",
        || stage(|times| times.detect),
        &mut [&mut detection],
    );
    beside(
        "landmarks",
        || stage(|times| times.landmarks),
        &mut [&mut landmarks],
    );
    beside("pose", || stage(|times| times.pose), &mut [&mut pose]);
    alone_row("alignment and quality", || stage(|times| times.quality));
    let five_points = face.landmarks.five_points();
    alone_row("  of that, alignment", || {
        timed(|| aligned_face(&frame, &five_points))
    });
    let votes = || timed(|| pipeline.liveness(&frame, &face));
    beside(
        "attack votes (texture and border)",
        votes,
        &mut [&mut liveness],
    );
    alone_row("  of that, border", || {
        timed(|| border_around(&frame, &face.face))
    });
    let template = || timed(|| pipeline.embed(&frame, &face));
    beside("template", template, &mut [&mut recognition]);
    let whole = || {
        timed(|| -> Result<(), VisionError> {
            for seen in &pipeline.analyse(&frame)?.faces {
                pipeline.liveness(&frame, seen)?;
                pipeline.embed(&frame, seen)?;
            }
            Ok(())
        })
    };
    beside(
        "whole frame (target 20)",
        whole,
        &mut [
            &mut detection,
            &mut landmarks,
            &mut pose,
            &mut liveness,
            &mut recognition,
        ],
    );
    alone_row("JPEG decoding (not in the whole)", || {
        timed(|| Frame::decode("bench", Timestamp::from_micros(0), &jpeg))
    });
    Ok(())
}

/// Each model alone: nothing but ONNX Runtime's `run` on a ready input.
fn bare_models(
    runtime: &Runtime,
    manifest: &ModelManifest,
    models: &Path,
) -> Result<[BareModel; 5], Box<dyn std::error::Error>> {
    let bare = |file: &str, shape| -> Result<BareModel, Box<dyn std::error::Error>> {
        let entry = manifest
            .model
            .iter()
            .find(|entry| entry.file == Path::new(file))
            .ok_or_else(|| format!("the manifest names no {file}"))?;
        Ok(runtime.bare_model(&models.join(file), &entry.sha256, shape)?)
    };
    Ok([
        bare("fr_detect.onnx", [1, 3, 240, 320])?,
        bare("fr_landmark.onnx", [1, 1, 64, 64])?,
        bare("fr_pose.onnx", [1, 3, 224, 224])?,
        bare("fr_liveness.onnx", [1, 3, 128, 128])?,
        bare("fr_feature.onnx", [1, 3, 112, 112])?,
    ])
}
