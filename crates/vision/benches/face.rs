//! Each stage and the whole 640 x 480 frame with one face on one thread, beside ONNX Runtime's own time for the same
//! models. Prints a table; asserts nothing, since machines differ.
//!
//! `cargo bench -p sallyport-vision`, after `deploy/setup`. Target (`performance.md`): at most 20 ms a frame.

use std::path::Path;
use std::time::{Duration, Instant};

use sallyport_domain::Timestamp;
use sallyport_vision::{
    FacePipeline, Frame, ModelManifest, Provider, QualityPolicy, Runtime, aligned_face, alone,
    border_around,
};

const WARM_UP: usize = 10;
const ROUNDS: usize = 60;

/// Median over many rounds.
fn median(mut work: impl FnMut() -> Duration) -> f64 {
    for _ in 0..WARM_UP {
        work();
    }
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| work().as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    times.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let clock = Instant::now();
    std::hint::black_box(work());
    clock.elapsed()
}

fn row(name: &str, ours: f64, onnx: Option<f64>) {
    match onnx {
        Some(onnx) => println!("{name:<34} {ours:>8.2} {onnx:>8.2} {:>7.2}", ours / onnx),
        None => println!("{name:<34} {ours:>8.2} {:>8} {:>7}", "-", "-"),
    }
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

    let onnx = onnx_alone(&runtime, &manifest, &models)?;
    let [detection, landmarks, pose, liveness, recognition] = onnx;
    println!("one thread, 640 x 480 frame with one face, median of {ROUNDS}, milliseconds");
    println!("{:<34} {:>8} {:>8} {:>7}", "stage", "ours", "ONNX", "ratio");
    let mut stage = |pick: fn(&sallyport_vision::StageTimes) -> Duration| {
        median(|| {
            pipeline
                .analyse(&frame)
                .map_or(Duration::MAX, |seen| pick(&seen.times))
        })
    };
    row("detection", stage(|times| times.detect), Some(detection));
    row("landmarks", stage(|times| times.landmarks), Some(landmarks));
    row("pose", stage(|times| times.pose), Some(pose));
    row("alignment and quality", stage(|times| times.quality), None);
    let aligned = median(|| timed(|| aligned_face(&frame, &face.landmarks.five_points())));
    row("  of that, alignment", aligned, None);
    row(
        "border",
        median(|| timed(|| border_around(&frame, &face.face))),
        None,
    );
    let attack = median(|| timed(|| pipeline.liveness(&frame, &face)));
    row("attack votes (texture and border)", attack, Some(liveness));
    row(
        "template",
        median(|| timed(|| pipeline.embed(&frame, &face))),
        Some(recognition),
    );
    let whole = median(|| {
        timed(|| -> Result<(), sallyport_vision::VisionError> {
            for seen in &pipeline.analyse(&frame)?.faces {
                pipeline.liveness(&frame, seen)?;
                pipeline.embed(&frame, seen)?;
            }
            Ok(())
        })
    });
    row("whole frame (target 20)", whole, Some(onnx.iter().sum()));
    let decoding = median(|| timed(|| Frame::decode("bench", Timestamp::from_micros(0), &jpeg)));
    row("JPEG decoding (not in the whole)", decoding, None);
    Ok(())
}

/// ONNX Runtime's own time for each model: nothing but its `run` on a ready input.
fn onnx_alone(
    runtime: &Runtime,
    manifest: &ModelManifest,
    models: &Path,
) -> Result<[f64; 5], Box<dyn std::error::Error>> {
    let shapes = [
        ("fr_detect.onnx", [1, 3, 240, 320]),
        ("fr_landmark.onnx", [1, 1, 64, 64]),
        ("fr_pose.onnx", [1, 3, 224, 224]),
        ("fr_liveness.onnx", [1, 3, 128, 128]),
        ("fr_feature.onnx", [1, 3, 112, 112]),
    ];
    let mut times = [0.0; 5];
    for (slot, (file, shape)) in times.iter_mut().zip(shapes) {
        let entry = manifest
            .model
            .iter()
            .find(|entry| entry.file == Path::new(file))
            .ok_or_else(|| format!("the manifest names no {file}"))?;
        let mut bare = runtime.bare_model(&models.join(file), &entry.sha256, shape)?;
        *slot = median(|| timed(|| bare.run()));
    }
    Ok(times)
}
