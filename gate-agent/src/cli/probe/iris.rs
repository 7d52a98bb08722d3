//! `probe --iris`: what the iris pipeline sees in one picture that the operator names. The only
//! place of this program that writes a picture of an eye, and only where the gate's rules permit it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use sallyport_domain::{Eye, IrisTemplate, QualityDefect};
use sallyport_vision::{
    EyeObservation, EyePrior, Frame, IrisPipeline, IrisRecordImage, annotate_iris, find_eyes,
    strip_picture, write_iris_record,
};

use super::{ProbeArgs, read_picture, rules};
use crate::cli::say;
use crate::config::VisionConfig;
use crate::deps::Deps;

/// Quality of the JPEG files written, 0 to 100.
const JPEG_QUALITY: i32 = 95;

/// One eye: its picture, what was seen in it, and its template if it gave one.
struct Seen {
    frame: Frame,
    eye: EyeObservation,
    template: Option<IrisTemplate>,
}

pub(super) fn probe(args: &ProbeArgs, deps: &Deps) -> anyhow::Result<ExitCode> {
    let rules = rules(args)?;
    let keeps = args.out.is_some() || args.record.is_some();
    if keeps && !args.development && !rules.in_force().iris_image(None) {
        anyhow::bail!(
            "a picture of an eye may not be kept here ({}; nsw-2014: clause 321), so none is written; leave --out and --record away, or add --development if the picture shows nobody under a law",
            rules.sentence()
        );
    }
    let bytes = read_picture(&args.picture)?;
    let frame = Frame::decode("probe", deps.clock.wall(), &bytes)
        .with_context(|| format!("{} cannot be used", args.picture.display()))?;
    let mut pipeline = args.models.open(&VisionConfig::default())?.iris()?;
    let seen = look(&mut pipeline, frame, args.eye)?;
    if let Some(out) = &args.out {
        write(&seen, out)?;
    }
    if let Some(record) = &args.record {
        write_record(&seen, record)?;
    }
    if args.json {
        say(&json(&seen).to_string())?;
    } else {
        sentences(&seen, args)?;
    }
    let usable = !seen.is_empty() && seen.iter().all(|one| one.template.is_some());
    Ok(if usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// With `eye` the whole picture is that eye; without, both eyes are looked for, and a picture in
/// which no pair is seen is taken for a left eye, which for looking at it makes no difference.
fn look(pipeline: &mut IrisPipeline, frame: Frame, eye: Option<Eye>) -> anyhow::Result<Vec<Seen>> {
    let mut found = Vec::new();
    if eye.is_none() {
        for region in find_eyes(&frame, false)? {
            let observed = pipeline.analyse(&region.frame, &region.prior)?;
            found.push((region.frame, observed));
        }
    }
    if found.is_empty() {
        let prior = EyePrior::unknown(eye.unwrap_or(Eye::Left));
        let observed = pipeline.analyse(&frame, &prior)?;
        found.push((frame, observed));
    }
    let observations: Vec<&EyeObservation> = found.iter().map(|(_, eye)| eye).collect();
    let templates = pipeline.encode(&observations)?;
    Ok(found
        .into_iter()
        .zip(templates)
        .map(|((frame, eye), template)| Seen {
            frame,
            eye,
            template,
        })
        .collect())
}

fn write(seen: &[Seen], out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for one in seen {
        let name = name(one.eye.eye);
        let overlay = annotate_iris(&one.frame, &one.eye)?;
        put(&overlay, &out.join(format!("{name}-overlay.jpg")))?;
        if let Some(strip) = &one.eye.strip {
            let picture = strip_picture(&one.frame.camera, one.frame.captured_at, strip)?;
            put(&picture, &out.join(format!("{name}-strip.jpg")))?;
        }
    }
    Ok(())
}

/// The eyes that gave a template, as one record. The other eye's surroundings are not part of a picture.
fn write_record(seen: &[Seen], path: &Path) -> anyhow::Result<()> {
    let images = seen
        .iter()
        .filter(|one| one.template.is_some())
        .map(|one| IrisRecordImage {
            eye: Some(one.eye.eye),
            frame: one.frame.clone(),
        })
        .collect::<Vec<_>>();
    if images.is_empty() {
        anyhow::bail!(
            "no eye of this picture is usable, so {} was not written; run without --record to see what is wrong",
            path.display()
        );
    }
    std::fs::write(path, write_iris_record(&images)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn put(frame: &Frame, path: &Path) -> anyhow::Result<()> {
    std::fs::write(path, frame.to_jpeg(JPEG_QUALITY)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

const fn name(eye: Eye) -> &'static str {
    match eye {
        Eye::Left => "left",
        Eye::Right => "right",
    }
}

/// What keeps an eye from being used. Too few usable bits show only when it is encoded.
fn defects(one: &Seen) -> Vec<QualityDefect> {
    if one.eye.defects.is_empty() && one.template.is_none() {
        return vec![QualityDefect::IrisOccluded];
    }
    one.eye.defects.clone()
}

fn sentences(seen: &[Seen], args: &ProbeArgs) -> anyhow::Result<()> {
    for one in seen {
        let quality = &one.eye.quality;
        let label = if args.eye.is_some() || seen.len() == 2 {
            format!("{} eye", name(one.eye.eye))
        } else {
            "one eye".to_owned()
        };
        say(&format!(
            "{label}, {} x {} pixels",
            one.frame.width(),
            one.frame.height()
        ))?;
        if let Some(found) = &one.eye.segmentation {
            say(&format!(
                "  pupil at {:.1}, {:.1} with radius {:.1}; limbus at {:.1}, {:.1} with radius {:.1} px",
                found.pupil.x,
                found.pupil.y,
                found.pupil.radius,
                found.limbus.x,
                found.limbus.y,
                found.limbus.radius,
            ))?;
            say(&format!(
                "  usable {:.0} %, dilation {:.2}, centre offset {:.2}, roundness {:.2}, pupil step {:.0}, limbus step {:.0}, saturated {:.1} %, sharpness {:.0}, quality {} of 100",
                quality.usable * 100.0,
                quality.dilation,
                quality.centre_offset,
                quality.roundness,
                quality.pupil_step,
                quality.limbus_step,
                quality.saturated * 100.0,
                quality.sharpness,
                quality.score,
            ))?;
        }
        let defects = defects(one);
        if defects.is_empty() {
            say("  usable: a template can be made")?;
        }
        for defect in defects {
            say(&format!("  {}: {}", defect.code(), defect.cue()))?;
        }
    }
    match &args.out {
        Some(out) => say(&format!("overlay and strip are in {}", out.display())),
        None => say("add --out DIR to get the overlay and the unrolled iris with its mask"),
    }
}

fn json(seen: &[Seen]) -> serde_json::Value {
    let eyes: Vec<serde_json::Value> = seen
        .iter()
        .map(|one| {
            let quality = &one.eye.quality;
            let circle = |circle: &sallyport_vision::Circle| {
                serde_json::json!({ "x": circle.x, "y": circle.y, "radius": circle.radius })
            };
            let defects = defects(one);
            serde_json::json!({
                "eye": one.eye.eye,
                "width": one.frame.width(),
                "height": one.frame.height(),
                "pupil": one.eye.segmentation.as_ref().map(|found| circle(&found.pupil)),
                "limbus": one.eye.segmentation.as_ref().map(|found| circle(&found.limbus)),
                "quality": {
                    "usable": quality.usable,
                    "dilation": quality.dilation,
                    "centre_offset": quality.centre_offset,
                    "roundness": quality.roundness,
                    "pupil_step": quality.pupil_step,
                    "limbus_step": quality.limbus_step,
                    "saturated": quality.saturated,
                    "sharpness": quality.sharpness,
                    "score": quality.score,
                },
                "usable": defects.is_empty(),
                "cues": defects.iter().map(|defect| defect.cue()).collect::<Vec<_>>(),
                "defects": defects,
            })
        })
        .collect();
    serde_json::json!({ "eyes": eyes })
}
