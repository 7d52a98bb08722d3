//! `sallyport-evaluate iris FOLDER`: error rates, failures to acquire and stage times on a folder of eye pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use sallyport_domain::IrisRotation;
use sallyport_evaluate::attacks::present_all;
use sallyport_evaluate::labels::{Label, Pattern, from_folders};
use sallyport_evaluate::report::{Report, times};
use sallyport_evaluate::run::{
    Pairs, Picture, Sample, analyse_all, compare_all, compare_both_eyes,
};
use sallyport_evaluate::scores::{ErrorRates, error_rates};
use sallyport_evaluate::signed;
use sallyport_transparency::{MeasuredPairs, Measurement};
use sallyport_vision::{
    IrisPipeline, IrisQualityPolicy, IrisSegmenter, ModelManifest, ModelRole, Provider,
    RadiusRange, Runtime,
};

/// Measures accuracy on pictures you are permitted to use.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All pairs of a folder of near-infrared eye pictures.
    Iris(Box<IrisArguments>),
    /// Drawn presentation attacks and drawn living eyes: what each vote says of them, with exact 95 % intervals.
    Attacks(AttackArguments),
    /// Makes a key that signs measurements, and prints its public half for a site's `measurement-keys`.
    Key {
        /// A name of yours, such as lab.example/eyes.
        name: String,
        /// A new file for the private half.
        file: PathBuf,
    },
    /// Signs counts that another program made, such as those of faces: JSON of the form that `iris --sign` writes.
    Sign {
        /// The counts.
        file: PathBuf,
        /// The key, made by `key`.
        #[arg(long)]
        key: PathBuf,
        /// Where to write the signed measurement.
        #[arg(long)]
        into: PathBuf,
    },
}

/// A signed measurement for `sallyport-server error-rates set`.
#[derive(Debug, clap::Args)]
struct Signed {
    /// Also write the measurement signed by this key, which `key` made.
    #[arg(long, value_name = "KEY", requires_all = ["into", "data_set", "conditions", "measured"])]
    sign: Option<PathBuf>,
    /// Where to write the signed measurement.
    #[arg(long, value_name = "FILE", requires = "sign")]
    into: Option<PathBuf>,
    /// Name of the data.
    #[arg(long, requires = "sign")]
    data_set: Option<String>,
    /// Whose pictures these are and how they were taken, so that a reader can judge whether they are like the site's.
    #[arg(long, requires = "sign")]
    conditions: Option<String>,
    /// The day, such as 2026-11-24.
    #[arg(long, requires = "sign")]
    measured: Option<String>,
    /// File with lines of subject,group: also count pairs within each group, at the thresholds of everybody.
    #[arg(long, value_name = "FILE", requires = "sign")]
    groups: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct AttackArguments {
    /// Drawn people; each presents every instrument once.
    #[arg(long, default_value_t = 60)]
    people: u64,
    #[command(flatten)]
    set_up: SetUp,
}

/// Where models and runtime are.
#[derive(Debug, clap::Args)]
struct SetUp {
    /// The manifest of the models.
    #[arg(
        long,
        env = "SALLYPORT_MANIFEST",
        default_value = "models/manifest.toml"
    )]
    manifest: PathBuf,
    /// The folder of the fetched models.
    #[arg(long, env = "SALLYPORT_MODELS", default_value = ".cache/models")]
    models: PathBuf,
    /// The ONNX Runtime library.
    #[arg(
        long,
        env = "SALLYPORT_ONNXRUNTIME",
        default_value = ".cache/lib/libonnxruntime.so"
    )]
    onnxruntime: PathBuf,
}

#[derive(Debug, clap::Args)]
struct IrisArguments {
    /// Folder with JPEG, PNG or BMP pictures of one eye each.
    folder: PathBuf,
    /// How file names tell the eye, e.g. '{subject}{eye:2}{sample:2}' or '{subject}/{eye}/{sample}'; without it the
    /// folder is the subject, and folders or lone letters L and R name the eye.
    #[arg(long)]
    labels: Option<Pattern>,
    /// Which segmentation.
    #[arg(long, value_enum, default_value_t = Segmenter::Checked)]
    segmenter: Segmenter,
    /// Expected iris radius in pixels, e.g. 80-130; without it, measured on 60 pictures first.
    #[arg(long, value_parser = radius)]
    radius: Option<RadiusRange>,
    /// Turn pictures up to 6 columns (17 degrees) instead of 4.
    #[arg(long)]
    wide_rotation: bool,
    /// Also write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also write the paths and scores of the mated pairs, worst first.
    #[arg(long)]
    pairs: Option<PathBuf>,
    /// Also write where pupil and iris were found in each picture, as JSON Lines; evaluate/open_iris.py goes on from there.
    #[arg(long)]
    outlines: Option<PathBuf>,
    #[command(flatten)]
    signed: Signed,
    #[command(flatten)]
    set_up: SetUp,
    /// Worker threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Segmenter {
    /// The classical path alone.
    Classical,
    /// The network alone.
    Network,
    /// The network, with the classical path's search of the whole picture as a check.
    Both,
    /// The network, with the classical path's search around its circles as a check: what the product runs.
    Checked,
}

fn radius(text: &str) -> Result<RadiusRange, String> {
    let wrong = || "two radii in pixels, as in 80-130".to_owned();
    let (low, high) = text.split_once('-').ok_or_else(wrong)?;
    match (low.trim().parse::<f32>(), high.trim().parse::<f32>()) {
        (Ok(low), Ok(high)) if low >= 4.0 && high > low && high <= 2000.0 => {
            Ok(RadiusRange::new(low, high))
        }
        _ => Err(wrong()),
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Iris(arguments) => iris(&arguments),
        Command::Attacks(arguments) => attacks(&arguments),
        Command::Key { name, file } => key(&name, &file),
        Command::Sign { file, key, into } => sign_counts(&file, &key, &into),
    }
}

#[expect(clippy::print_stdout, reason = "the public key is to be handed on")]
fn key(name: &str, file: &Path) -> anyhow::Result<()> {
    println!("{}", signed::new_key(name, file)?);
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]
fn iris(arguments: &IrisArguments) -> anyhow::Result<()> {
    let (pictures, unlabelled) = pictures(&arguments.folder, arguments.labels.as_ref())?;
    anyhow::ensure!(
        !pictures.is_empty(),
        "{} holds no picture with a label; {unlabelled} have none. Say how the names tell the eye with --labels",
        arguments.folder.display()
    );
    let manifest = ModelManifest::load(&arguments.set_up.manifest)?;
    let mut pipelines = pipelines(arguments, &manifest)?;
    let radius = match arguments.radius {
        Some(radius) => radius,
        None => measured_radius(&arguments.folder, &pictures, &mut pipelines)?,
    };
    let samples = analyse_all(&arguments.folder, &pictures, &mut pipelines, radius)?;
    let rotation = if arguments.wide_rotation {
        IrisRotation::Wide
    } else {
        IrisRotation::Normal
    };
    let every: Vec<&Sample> = samples.iter().collect();
    let passed: Vec<&Sample> = samples
        .iter()
        .filter(|sample| sample.defects.is_empty() && sample.template.is_some())
        .collect();
    let pairs = compare_all(&every, rotation, arguments.threads);
    if let Some(path) = &arguments.pairs {
        write_pairs(path, &every, &pairs)?;
    }
    if let Some(path) = &arguments.outlines {
        write_outlines(path, &samples)?;
    }
    let mut defects: BTreeMap<String, usize> = BTreeMap::new();
    for defect in samples.iter().flat_map(|sample| &sample.defects) {
        *defects.entry(defect.clone()).or_default() += 1;
    }
    let mut suspected: BTreeMap<String, usize> = BTreeMap::new();
    for vote in samples.iter().flat_map(|sample| &sample.suspected) {
        *suspected.entry(vote.clone()).or_default() += 1;
    }
    let eyes: BTreeSet<_> = pictures
        .iter()
        .map(|picture| (&picture.label.subject, picture.label.eye))
        .collect();
    let rates =
        |pairs: &Pairs| -> Option<ErrorRates> { error_rates(&pairs.mated, &pairs.non_mated) };
    let report = Report {
        segmenter: format!("{:?}", arguments.segmenter).to_lowercase(),
        models: manifest
            .model
            .iter()
            .filter(|entry| {
                matches!(
                    entry.role,
                    ModelRole::IrisEncoder | ModelRole::IrisSegmentation
                )
            })
            .map(|entry| (format!("{:?}", entry.role), entry.sha256.clone()))
            .collect(),
        pictures: pictures.len(),
        unlabelled,
        eyes: eyes.len(),
        radius_px: [radius.shortest(), radius.longest()],
        failures_to_acquire: samples
            .iter()
            .filter(|sample| sample.template.is_none())
            .count(),
        passed_gate: passed.len(),
        defects,
        suspected,
        every_picture: rates(&pairs),
        gated: rates(&compare_all(&passed, rotation, arguments.threads)),
        both_eyes: rates(&compare_both_eyes(&every, rotation)),
        both_eyes_gated: rates(&compare_both_eyes(&passed, rotation)),
        times_ms: times(&samples),
    };
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    sign(arguments, &report, &every, &passed, rotation)
}

fn sign_counts(file: &Path, key: &Path, into: &Path) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let measurement: Measurement = serde_json::from_str(&text)
        .with_context(|| format!("{} does not hold such counts", file.display()))?;
    std::fs::write(into, measurement.sign(&signed::read_key(key)?)?)
        .with_context(|| format!("writing {}", into.display()))
}

/// Writes the signed measurement where one is asked for.
fn sign(
    arguments: &IrisArguments,
    report: &Report,
    every: &[&Sample],
    passed: &[&Sample],
    rotation: IrisRotation,
) -> anyhow::Result<()> {
    let signed = &arguments.signed;
    let (Some(key), Some(into)) = (&signed.sign, &signed.into) else {
        return Ok(());
    };
    let signer = signed::read_key(key)?;
    let everybody = report
        .every_picture
        .as_ref()
        .context("there are no mated and non-mated pairs, so there is nothing to sign")?;
    let mut pairs: Vec<MeasuredPairs> = vec![signed::counted(
        "every picture",
        signed::eyes(every),
        everybody,
    )];
    if let Some(gated) = &report.gated {
        let name = "pictures that passed the quality gate";
        pairs.push(signed::counted(name, signed::eyes(passed), gated));
    }
    let groups = match &signed.groups {
        Some(file) => signed::by_group(
            every,
            &signed::groups(file)?,
            everybody,
            rotation,
            arguments.threads,
        ),
        None => Vec::new(),
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let measurement = Measurement {
        format: Measurement::format(),
        modality: "iris".to_owned(),
        models: report.models.clone(),
        program: format!(
            "sallyport-evaluate {} (segmenter {})",
            env!("CARGO_PKG_VERSION"),
            report.segmenter
        ),
        data_set: text(&signed.data_set),
        conditions: text(&signed.conditions),
        measured: text(&signed.measured),
        samples: report.pictures as u64,
        failures_to_acquire: report.failures_to_acquire as u64,
        pairs,
        groups,
    };
    std::fs::write(into, measurement.sign(&signer)?)
        .with_context(|| format!("writing {}", into.display()))
}

/// Pictures below the folder with their labels, in the order of their paths, and how many have none.
fn pictures(folder: &Path, pattern: Option<&Pattern>) -> anyhow::Result<(Vec<Picture>, usize)> {
    let mut found = Vec::new();
    let mut unlabelled = 0;
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let path = entry.path();
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        if !entry.file_type().is_file() || !["jpg", "jpeg", "png", "bmp"].contains(&ending.as_str())
        {
            continue;
        }
        let below = path.strip_prefix(folder).unwrap_or(path);
        let label: Option<Label> = match pattern {
            Some(pattern) => pattern.label(below),
            None => from_folders(below),
        };
        match label {
            Some(label) => found.push(Picture {
                path: below.to_owned(),
                label,
            }),
            None => unlabelled += 1,
        }
    }
    Ok((found, unlabelled))
}

#[expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]
fn attacks(arguments: &AttackArguments) -> anyhow::Result<()> {
    let set_up = &arguments.set_up;
    let manifest = ModelManifest::load(&set_up.manifest)?;
    let runtime = Runtime::load(&set_up.onnxruntime, Provider::Cpu, 1)?;
    let mut pipeline = IrisPipeline::new(
        &runtime,
        &manifest,
        &set_up.models,
        IrisQualityPolicy::default(),
    )?;
    println!(
        "drawn people and drawn attacks, {} of each: whether the checks see what they were made for, not how real ones fare",
        arguments.people
    );
    for tally in present_all(&mut pipeline, arguments.people)? {
        let (low, high) = tally.interval();
        let seen = tally.presentations - tally.no_eye;
        println!(
            "{:?}: {} of {seen} suspected ({:.1} %, 95 % interval {:.1} to {:.1}); {} without an eye; by vote {:?}",
            tally.instrument,
            tally.suspected,
            100.0 * tally.suspected as f64 / seen.max(1) as f64,
            100.0 * low,
            100.0 * high,
            tally.no_eye,
            tally.by_vote
        );
    }
    Ok(())
}

fn pipelines(
    arguments: &IrisArguments,
    manifest: &ModelManifest,
) -> anyhow::Result<Vec<IrisPipeline>> {
    let runtime = Runtime::load(&arguments.set_up.onnxruntime, Provider::Cpu, 1)?;
    let segmenter = match arguments.segmenter {
        Segmenter::Classical => IrisSegmenter::Classical,
        Segmenter::Network => IrisSegmenter::Network,
        Segmenter::Both => IrisSegmenter::Both,
        Segmenter::Checked => IrisSegmenter::Checked,
    };
    (0..arguments.threads.clamp(1, 64))
        .map(|_| {
            let pipeline = IrisPipeline::new(
                &runtime,
                manifest,
                &arguments.set_up.models,
                IrisQualityPolicy::default(),
            )?;
            Ok(pipeline.with_segmenter(segmenter))
        })
        .collect()
}

/// A camera of fixed focus shows irises of one size: the median of 60 pictures, as the face gives it at a gate.
fn measured_radius(
    folder: &Path,
    pictures: &[Picture],
    pipelines: &mut [IrisPipeline],
) -> anyhow::Result<RadiusRange> {
    let every = pictures.len().div_ceil(60).max(1);
    let some: Vec<Picture> = pictures.iter().step_by(every).cloned().collect();
    let samples = analyse_all(folder, &some, pipelines, RadiusRange::ANY)?;
    let mut radii: Vec<f32> = samples
        .iter()
        .filter(|sample| sample.circles.is_some())
        .map(|sample| sample.quality.radius_px)
        .collect();
    radii.sort_by(f32::total_cmp);
    let median = radii
        .get(radii.len() / 2)
        .copied()
        .context("no eye was found in the first pictures; give the iris radius with --radius")?;
    Ok(RadiusRange::new(0.62 * median, 1.35 * median))
}

fn write_outlines(path: &Path, samples: &[Sample]) -> anyhow::Result<()> {
    let mut text = String::new();
    for sample in samples {
        let line = serde_json::json!({
            "picture": sample.picture.path,
            "subject": sample.picture.label.subject,
            "eye": format!("{:?}", sample.picture.label.eye),
            "passed": sample.defects.is_empty() && sample.template.is_some(),
            "outline": sample.outline,
        });
        text += &format!("{line}\n");
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn write_pairs(path: &Path, samples: &[&Sample], pairs: &Pairs) -> anyhow::Result<()> {
    let mut worst: Vec<_> = pairs.mated.iter().zip(&pairs.mated_of).collect();
    worst.sort_by(|a, b| {
        let value = |score: &Option<f32>| score.unwrap_or(1.0);
        value(b.0).total_cmp(&value(a.0))
    });
    let mut text = String::new();
    for (score, (one, other)) in worst {
        let name = |at: usize| {
            samples.get(at).map_or_else(String::new, |sample| {
                sample.picture.path.display().to_string()
            })
        };
        let score = score.map_or_else(|| "none".to_owned(), |score| format!("{score:.4}"));
        text += &format!("{score}\t{}\t{}\n", name(*one), name(*other));
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
