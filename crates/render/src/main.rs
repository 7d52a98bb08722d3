//! `sallyport-render`: writes drawn near-infrared eyes for training and tests.
#![expect(
    clippy::print_stdout,
    reason = "a command line program talks to the person who runs it"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use rand::{Rng as _, SeedableRng as _};
use sallyport_render::{
    ChaCha8Rng, Identity, Look, RenderedEye, StripLook, Style, render, render_strip, texture,
};

/// Draws near-infrared eyes of people who do not exist, with exact labels.
///
///   sallyport-render eyes --out /tmp/eyes --count 20 --seed 1        pictures, label pictures, truth.jsonl
///   sallyport-render people --out /tmp/people --count 10 --seed 1    folders of captures for `sallyport-evaluate iris`
///   sallyport-render training --out /tmp/set.raw --count 2000 --seed 1    one raw file for models/train
///   sallyport-render strips --out /tmp/strips --count 4 --seed 1     face strips with both eyes
///
/// The same arguments give the same bytes. Drawn eyes must never set a threshold.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// As a cooperative person at a gate.
    Normal,
    /// 1.8 times the spread of dilation, gaze, roll, blur and noise.
    Hard,
    /// Far beyond what a gate meets.
    Training,
    /// As training, but dark irises under strong light.
    Dark,
}

impl Kind {
    const fn style(self) -> Style {
        match self {
            Self::Normal => Style::Gate { spread: 1.0 },
            Self::Hard => Style::Gate { spread: 1.8 },
            Self::Training => Style::Training,
            Self::Dark => Style::DarkEyes,
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Single eyes: NNNNN.png, NNNNN.labels.png (0 skin, 1 sclera, 2 iris, 3 pupil, 4 lash, 5 glint, 6 cover), truth.jsonl.
    Eyes {
        /// Folder to write to; made if it is not there.
        #[arg(long)]
        out: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = some())]
        count: u64,
        /// Seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How far captures vary.
        #[arg(long, value_enum, default_value = "normal")]
        kind: Kind,
        /// Size in pixels, WIDTHxHEIGHT.
        #[arg(long, default_value = "320x240", value_parser = size)]
        size: (usize, usize),
    },
    /// Several captures of each eye in a folder of its own.
    People {
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
        /// How many eyes.
        #[arg(long, default_value_t = 20, value_parser = some())]
        count: u64,
        /// Captures of each.
        #[arg(long, default_value_t = 4, value_parser = some())]
        captures: u64,
        /// Seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How far captures vary.
        #[arg(long, value_enum, default_value = "normal")]
        kind: Kind,
    },
    /// One raw file: for each eye 240x320 grey bytes, then 240x320 class bytes.
    Training {
        /// File to write; it appears when it is whole.
        #[arg(long)]
        out: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 2_000, value_parser = some())]
        count: u64,
        /// Seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How far captures vary.
        #[arg(long, value_enum, default_value = "training")]
        kind: Kind,
    },
    /// Face strips with both eyes, as a gate's iris camera sees them.
    Strips {
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 4, value_parser = some())]
        count: u64,
        /// Seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Nothing at all is a slip, and millions fill a disk.
fn some() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1_000_000)
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let parsed = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parsed {
        Some((w, h)) if (64..=4096).contains(&w) && (64..=4096).contains(&h) => Ok((w, h)),
        _ => Err(
            "write the size as WIDTHxHEIGHT, 64 to 4096 pixels each, for example 320x240"
                .to_owned(),
        ),
    }
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Eyes {
            out,
            count,
            seed,
            kind,
            size,
        } => eyes(&out, count, seed, kind, size),
        Command::People {
            out,
            count,
            captures,
            seed,
            kind,
        } => people(&out, count, captures, seed, kind),
        Command::Training {
            out,
            count,
            seed,
            kind,
        } => training(&out, count, seed, kind),
        Command::Strips { out, count, seed } => strips(&out, count, seed),
    }
}

fn folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// A generator of its own for each picture, so that pictures do not depend on each other.
fn generator(seed: u64, number: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number))
}

/// One drawn eye and how it was drawn.
struct Drawn {
    eye: RenderedEye,
    look: Look,
    identity: u64,
    mirrored: bool,
}

fn one(seed: u64, number: u64, kind: Kind, size: (usize, usize)) -> Drawn {
    let mut rng = generator(seed, number);
    let identity_seed = rng.random();
    let identity = match kind {
        Kind::Dark => Identity::dark_for_training(texture(identity_seed), &mut rng),
        Kind::Normal | Kind::Hard | Kind::Training => Identity::from_seed(identity_seed),
    };
    let mirrored = rng.random();
    let look = Look::draw(&identity, kind.style(), size, mirrored, &mut rng);
    let eye = render(&identity, &look, size, rng.random());
    Drawn {
        eye,
        look,
        identity: identity_seed,
        mirrored,
    }
}

fn eyes(out: &Path, count: u64, seed: u64, kind: Kind, size: (usize, usize)) -> anyhow::Result<()> {
    folder(out)?;
    let progress = ProgressBar::new(count);
    let mut lines = Vec::new();
    for number in 0..count {
        let Drawn {
            eye,
            look,
            identity,
            mirrored,
        } = one(seed, number, kind, size);
        write(&out.join(format!("{number:05}.png")), &eye.to_png()?)?;
        let labels = RenderedEye {
            grey: eye.parts.clone(),
            ..eye.clone()
        };
        write(
            &out.join(format!("{number:05}.labels.png")),
            &labels.to_png()?,
        )?;
        serde_json::to_writer(
            &mut lines,
            // The identity is text: as a number it would lose digits in most readers.
            &serde_json::json!({
                "picture": format!("{number:05}.png"),
                "labels": format!("{number:05}.labels.png"),
                "identity": identity.to_string(),
                "nose_on_the_left": mirrored,
                "dilation": look.dilation,
                "gaze_degrees": look.gaze.to_degrees(),
                "roll_degrees": look.roll.to_degrees(),
                "truth": eye.truth,
            }),
        )?;
        lines.push(b'\n');
        progress.inc(1);
    }
    write(&out.join("truth.jsonl"), &lines)?;
    println!("{count} eyes in {}", out.display());
    Ok(())
}

fn people(out: &Path, count: u64, captures: u64, seed: u64, kind: Kind) -> anyhow::Result<()> {
    if matches!(kind, Kind::Training | Kind::Dark) {
        bail!("people need captures of one identity; choose --kind normal or hard");
    }
    folder(out)?;
    let progress = ProgressBar::new(count * captures);
    for number in 0..count {
        let mut rng = generator(seed, number);
        let identity = Identity::from_seed(rng.random());
        let home = out.join(format!("{number:04}"));
        folder(&home)?;
        let mirrored = rng.random();
        for capture in 0..captures {
            let look = Look::draw(&identity, kind.style(), (320, 240), mirrored, &mut rng);
            let eye = render(&identity, &look, (320, 240), rng.random());
            write(&home.join(format!("{capture}.png")), &eye.to_png()?)?;
            progress.inc(1);
        }
    }
    println!(
        "{count} eyes with {captures} captures each in {}",
        out.display()
    );
    Ok(())
}

/// Textures are costly and the network does not learn them, so training pictures share this many.
const TRAINING_TEXTURES: u64 = 300;

fn training(out: &Path, count: u64, seed: u64, kind: Kind) -> anyhow::Result<()> {
    let textures: Vec<Vec<f32>> = (0..TRAINING_TEXTURES.min(count))
        .map(|number| texture(seed.wrapping_mul(7_919).wrapping_add(number)))
        .collect();
    let part = out.with_extension("part");
    let file =
        std::fs::File::create(&part).with_context(|| format!("cannot make {}", part.display()))?;
    let state = Mutex::new((
        std::io::BufWriter::new(file),
        0_u64,
        std::collections::BTreeMap::<u64, Vec<u8>>::new(),
    ));
    let next = AtomicU64::new(0);
    let progress = ProgressBar::new(count);
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let mut rng = generator(seed, number);
            let texture = textures
                .get(rng.random_range(0..textures.len()))
                .cloned()
                .unwrap_or_default();
            let eye = match kind {
                Kind::Training | Kind::Dark => {
                    let identity = if matches!(kind, Kind::Dark) {
                        Identity::dark_for_training(texture, &mut rng)
                    } else {
                        Identity::for_training(texture, &mut rng)
                    };
                    let look =
                        Look::draw(&identity, kind.style(), (320, 240), rng.random(), &mut rng);
                    render(&identity, &look, (320, 240), rng.random())
                }
                Kind::Normal | Kind::Hard => one(seed, number, kind, (320, 240)).eye,
            };
            let mut bytes = eye.grey.clone();
            bytes.extend(eye.classes());
            let mut state = state
                .lock()
                .map_err(|_| anyhow::anyhow!("another thread failed"))?;
            state.2.insert(number, bytes);
            // Threads finish in any order; the file does not show it.
            loop {
                let wanted = state.1;
                let Some(bytes) = state.2.remove(&wanted) else {
                    break;
                };
                state
                    .0
                    .write_all(&bytes)
                    .with_context(|| format!("cannot write {}", part.display()))?;
                state.1 += 1;
            }
            progress.inc(1);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a drawing thread failed"))?
        })
    })?;
    let mut state = state
        .into_inner()
        .map_err(|_| anyhow::anyhow!("another thread failed"))?;
    state.0.flush()?;
    std::fs::rename(&part, out).with_context(|| format!("cannot make {}", out.display()))?;
    println!("{count} eyes in {}", out.display());
    Ok(())
}

fn strips(out: &Path, count: u64, seed: u64) -> anyhow::Result<()> {
    folder(out)?;
    for number in 0..count {
        let mut rng = generator(seed, number);
        let (left, right) = (
            Identity::from_seed(rng.random()),
            Identity::from_seed(rng.random()),
        );
        let strip = render_strip(&left, &right, &StripLook::new(rng.random()), |look| look);
        write(&out.join(format!("{number:05}.png")), &strip.to_png()?)?;
    }
    println!("{count} strips in {}", out.display());
    Ok(())
}
