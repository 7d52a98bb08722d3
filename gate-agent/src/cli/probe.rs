//! `probe`: what the face pipeline sees in one picture. No comparison, so no comparison score.

mod iris;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sallyport_domain::Eye;
use sallyport_vision::{Frame, FrameAnalysis, QualityPolicy, annotate};

use super::{ModelFlags, say};
use crate::config::{Config, Profile, VisionConfig};
use crate::deps::Deps;
use crate::rules::Rules;
use crate::state::StateFolder;

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// JPEG, PNG or BMP file.
    picture: PathBuf,
    /// Face: write the picture with boxes and landmarks to this PNG file. Iris: folder for the overlay and the unrolled iris.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The picture is near-infrared: look at the irises.
    #[arg(long)]
    iris: bool,
    /// Write the usable eyes as an iris image record (ISO/IEC 19794-6:2011), which `import` here and other systems read.
    #[arg(long, requires = "iris", value_name = "FILE")]
    record: Option<PathBuf>,
    /// The picture shows this eye of the subject and nothing else; without it both eyes are looked for.
    #[arg(long, requires = "iris", value_parser = eye)]
    eye: Option<Eye>,
    /// Configuration of the gate whose rules hold.
    #[arg(long)]
    config: Option<PathBuf>,
    /// State folder of the gate whose rules hold.
    #[arg(long, conflicts_with = "config")]
    state: Option<PathBuf>,
    /// Profile that holds beside the gate's, such as nsw-2014.
    #[arg(long, env = "SALLYPORT_PROFILE")]
    profile: Option<Profile>,
    /// The picture is a development picture, to which no profile applies. Without this, and without a gate's rules that permit it, no
    /// picture is written.
    #[arg(long)]
    development: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    models: ModelFlags,
}

fn eye(text: &str) -> Result<Eye, String> {
    match text {
        "left" => Ok(Eye::Left),
        "right" => Ok(Eye::Right),
        _ => Err("use left or right, as the subject says it".to_owned()),
    }
}

/// The rules of the gate that is named; none is named, nothing is known.
fn rules(args: &ProbeArgs) -> anyhow::Result<Rules> {
    let config = args.config.as_deref().map(Config::load).transpose()?;
    let own = args
        .profile
        .or(config.as_ref().and_then(|config| config.profile));
    let state = config.map(|config| config.state).or(args.state.clone());
    let state = state.map(|state| StateFolder::existing(&state));
    Ok(Rules::open(state.as_ref(), own))
}

pub(super) fn probe(args: &ProbeArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    if args.iris {
        return iris::probe(args, deps);
    }
    let rules = rules(args)?;
    if args.out.is_some() && !args.development && !rules.in_force().photograph(None) {
        anyhow::bail!(
            "no picture of a person may be written here ({}); leave --out away, name the gate whose rules permit it with --state or --config, or add --development if nobody under a law is seen",
            rules.sentence()
        );
    }
    let bytes = read_picture(&args.picture)?;
    let frame = Frame::decode("probe", deps.clock.wall(), &bytes)
        .with_context(|| format!("{} cannot be used", args.picture.display()))?;
    let mut pipeline = args
        .models
        .pipeline(&VisionConfig::default(), QualityPolicy::gate())?;
    // The first run pays for memory and caches; the times shown are those of a running gate.
    pipeline.analyse(&frame)?;
    let analysis = pipeline.analyse(&frame)?;
    if let Some(out) = &args.out {
        let picture = annotate(&frame, &analysis)?;
        std::fs::write(out, picture).with_context(|| format!("cannot write {}", out.display()))?;
    }
    if args.json {
        say(&json(&frame, &analysis).to_string())?;
    } else {
        sentences(&frame, &analysis)?;
    }
    let usable = analysis.people_in_view == 1
        && analysis
            .faces
            .first()
            .is_some_and(|face| face.defects.is_empty());
    Ok(if usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn read_picture(path: &Path) -> anyhow::Result<Vec<u8>> {
    let length = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    if length > sallyport_vision::MAX_FILE_BYTES as u64 {
        anyhow::bail!(
            "{} has {length} bytes; pictures of up to {} bytes are accepted, so save it smaller",
            path.display(),
            sallyport_vision::MAX_FILE_BYTES
        );
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn sentences(frame: &Frame, analysis: &FrameAnalysis) -> anyhow::Result<()> {
    say(&format!(
        "{} x {} pixels, {} face(s) near enough",
        frame.width(),
        frame.height(),
        analysis.faces.len()
    ))?;
    if analysis.faces.is_empty() {
        say(sallyport_domain::QualityDefect::NoFace.cue())?;
    }
    for (index, face) in analysis.faces.iter().enumerate() {
        let quality = &face.quality;
        say(&format!(
            "face {}: eyes {:.0} px apart, sharpness {:.0}, brightness {:.0}, contrast {:.0}, yaw {:.0}, pitch {:.0}, roll {:.0} degrees, eyes open {:.2}, quality {:.0} of 100",
            index + 1,
            quality.eye_distance_px,
            quality.sharpness,
            quality.brightness,
            quality.contrast,
            quality.yaw_deg,
            quality.pitch_deg,
            quality.roll_deg,
            quality.eyes_open,
            quality.score,
        ))?;
        if face.defects.is_empty() {
            say("  usable")?;
        }
        for defect in &face.defects {
            say(&format!("  {}: {}", defect.code(), defect.cue()))?;
        }
    }
    let times = &analysis.times;
    say(&format!(
        "time: detection {:.1} ms, landmarks {:.1} ms, pose {:.1} ms, alignment and quality {:.1} ms",
        times.detect.as_secs_f64() * 1e3,
        times.landmarks.as_secs_f64() * 1e3,
        times.pose.as_secs_f64() * 1e3,
        times.quality.as_secs_f64() * 1e3,
    ))
}

fn json(frame: &Frame, analysis: &FrameAnalysis) -> serde_json::Value {
    let faces: Vec<serde_json::Value> = analysis
        .faces
        .iter()
        .map(|face| {
            serde_json::json!({
                "box": {
                    "left": face.face.left, "top": face.face.top,
                    "width": face.face.width(), "height": face.face.height(),
                },
                "quality": face.quality,
                "defects": face.defects,
                "cues": face.defects.iter().map(|defect| defect.cue()).collect::<Vec<_>>(),
                "usable": face.defects.is_empty(),
            })
        })
        .collect();
    serde_json::json!({
        "width": frame.width(),
        "height": frame.height(),
        "people_in_view": analysis.people_in_view,
        "faces": faces,
    })
}
