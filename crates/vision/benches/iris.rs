//! Each stage of one eye on one thread beside ONNX Runtime's own time for the same models, and both eyes and the face of
//! one person on two. The eyes are drawn. Prints a table; asserts nothing, since machines differ.
//!
//! `cargo bench -p sallyport-vision --bench iris`, after `deploy/setup`. Targets (`performance.md`): one eye at most 40 ms on
//! one core, both eyes and the face at most 120 ms on two.

use std::path::Path;
use std::time::{Duration, Instant};

use sallyport_domain::{Eye, Timestamp};
use sallyport_render::{ChaCha8Rng, Identity, Look, StripLook, Style, render, render_strip};
use sallyport_vision::{
    BareModel, EyePrior, FacePipeline, Frame, IrisPipeline, IrisQualityPolicy, IrisStageTimes,
    ModelManifest, Provider, QualityPolicy, RadiusRange, Runtime, VisionError, alone, find_eyes,
};

const WARM_UP: usize = 10;
const ROUNDS: usize = 100;
const AT: Timestamp = Timestamp::from_micros(0);

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn timed(work: impl FnOnce() -> Result<(), VisionError>) -> Result<f64, VisionError> {
    let clock = Instant::now();
    work()?;
    Ok(milliseconds(clock.elapsed()))
}

fn frame(width: usize, height: usize, grey: &[u8]) -> Result<Frame, sallyport_vision::DecodeError> {
    let bgr: Vec<u8> = grey.iter().flat_map(|value| [*value; 3]).collect();
    let side = |length| u32::try_from(length).unwrap_or(u32::MAX);
    Frame::from_bgr("bench", AT, side(width), side(height), &bgr)
}

fn row(name: &str, ours: f64, onnx: Option<f64>) {
    match onnx {
        Some(onnx) => println!("{name:<46} {ours:>8.2} {onnx:>8.2} {:>7.2}", ours / onnx),
        None => println!("{name:<46} {ours:>8.2} {:>8} {:>7}", "-", "-"),
    }
}

fn main() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (cache, models) = (root.join(".cache"), root.join(".cache/models"));
    let runtime = Runtime::load(&cache.join("lib/libonnxruntime.so"), Provider::Cpu, 1)?;
    let manifest = ModelManifest::load(&root.join("models/manifest.toml"))?;
    let policy = IrisQualityPolicy::default();
    let mut eyes = IrisPipeline::new(&runtime, &manifest, &models, policy)?;
    let bare = |file: &str, shape| -> Result<BareModel, Box<dyn std::error::Error + Send + Sync>> {
        let entry = manifest
            .model
            .iter()
            .find(|entry| entry.file == Path::new(file))
            .ok_or_else(|| format!("the manifest names no {file}"))?;
        Ok(runtime.bare_model(&manifest.path(entry, &models), &entry.sha256, shape)?)
    };
    let mut network = bare("iris_segment.onnx", [1, 1, 240, 320])?;
    let mut encoder = bare("iris_encode.onnx", [1, 1, 64, 512])?;

    let identity = Identity::from_seed(7);
    let style = Style::Gate { spread: 1.0 };
    let mut drawing = <ChaCha8Rng as rand::SeedableRng>::seed_from_u64(7);
    let look = Look::draw(&identity, style, (320, 240), false, &mut drawing);
    let eye = render(&identity, &look, (320, 240), 7);
    let picture = frame(eye.width, eye.height, &eye.grey)?;
    let prior = EyePrior::with_radius(Eye::Left, RadiusRange::new(60.0, 120.0));

    let mut stages: [Vec<f64>; 7] = Default::default();
    let (mut whole, mut onnx) = (Vec::new(), [Vec::new(), Vec::new()]);
    for round in 0..WARM_UP + ROUNDS {
        let clock = Instant::now();
        let seen = eyes.analyse(&picture, &prior)?;
        let analysed = clock.elapsed();
        eyes.encode(&[&seen])?;
        let all = clock.elapsed();
        let theirs = (timed(|| network.run())?, timed(|| encoder.run())?);
        if round < WARM_UP {
            continue;
        }
        let IrisStageTimes {
            classical,
            network,
            unroll,
            quality,
            attack,
            ..
        } = seen.times;
        let named = [
            classical,
            network,
            unroll,
            quality,
            attack,
            all.saturating_sub(analysed),
            all,
        ];
        for (times, time) in stages.iter_mut().zip(named) {
            times.push(milliseconds(time));
        }
        whole.push(milliseconds(all));
        onnx[0].push(theirs.0);
        onnx[1].push(theirs.1);
    }
    let [network_alone, encoder_alone] = onnx.map(middle);
    println!("one eye, 320 x 240, one thread, median of {ROUNDS}, milliseconds");
    println!("{:<46} {:>8} {:>8} {:>7}", "stage", "ours", "ONNX", "ratio");
    let names = [
        ("classical check", None),
        ("network, outlines of its classes", Some(network_alone)),
        ("unrolling and masks", None),
        ("quality", None),
        ("attack checks", None),
        ("encoding", Some(encoder_alone)),
        ("one eye (target 40)", Some(network_alone + encoder_alone)),
    ];
    for ((name, onnx), times) in names.into_iter().zip(stages) {
        row(name, middle(times), onnx);
    }
    one_person(&root, &runtime, &manifest, eyes)
}

/// The face of one frame on one thread, both eyes of a near-infrared frame on another.
fn one_person(
    root: &Path,
    runtime: &Runtime,
    manifest: &ModelManifest,
    mut eyes: IrisPipeline,
) -> Outcome {
    let cache = root.join(".cache");
    let picture = std::fs::read(cache.join("fixtures/obama.jpg"))
        .map_err(|error| format!("fixture pictures: {error}; run deploy/setup"))?;
    let mut faces = FacePipeline::new(
        runtime,
        manifest,
        &cache.join("models"),
        QualityPolicy::gate(),
    )?;
    let large = Frame::decode("bench", AT, &picture)?;
    let found = faces
        .analyse(&large)?
        .faces
        .into_iter()
        .map(|seen| seen.face);
    let colour = alone(&large, &found.collect::<Vec<_>>(), 0, (640, 480), 170.0)?;
    let strip = render_strip(
        &Identity::from_seed(1),
        &Identity::from_seed(2),
        &StripLook::new(3),
        |look| look,
    );
    let infrared = frame(strip.width, strip.height, &strip.grey)?;
    let mut face = || -> Result<(), VisionError> {
        for seen in &faces.analyse(&colour)?.faces {
            faces.liveness(&colour, seen)?;
            faces.embed(&colour, seen)?;
        }
        Ok(())
    };
    let mut both = || -> Result<(), VisionError> {
        let mut seen = Vec::new();
        for region in find_eyes(&infrared, false)? {
            seen.push(eyes.analyse(&region.frame, &region.prior)?);
        }
        eyes.encode(&seen.iter().collect::<Vec<_>>())?;
        Ok(())
    };
    let (mut alone_face, mut alone_eyes, mut together) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let one = timed(&mut face)?;
        let two = timed(&mut both)?;
        let clock = Instant::now();
        std::thread::scope(|scope| {
            let beside = scope.spawn(&mut both);
            let here = face();
            let there = beside
                .join()
                .map_err(|_| VisionError::Contract { stage: "bench" });
            here.and(there.and_then(|result| result))
        })?;
        let all = milliseconds(clock.elapsed());
        if round >= WARM_UP {
            alone_face.push(one);
            alone_eyes.push(two);
            together.push(all);
        }
    }
    println!(
        "one person: 640 x 480 in colour and {} x {} in near infrared",
        strip.width, strip.height
    );
    row("face, one thread", middle(alone_face), None);
    row(
        "both eyes found and encoded, one thread",
        middle(alone_eyes),
        None,
    );
    row(
        "face and both eyes, two threads (target 120)",
        middle(together),
        None,
    );
    Ok(())
}
