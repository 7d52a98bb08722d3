//! How often the presentation attack votes say so on drawn attacks, and how often on drawn bona fide eyes.
//!
//! Everything here is drawn: people, captures and attack instruments. The rates say whether the checks see what they were
//! made for, never how a real print, screen or lens fares at a real camera. ISO/IEC 30107-3 counts attacks by instrument,
//! and so does this.

use std::collections::BTreeMap;
use std::f32::consts::TAU;

use rand::{Rng as _, SeedableRng as _};
use sallyport_domain::{Eye, PadVerdict, Share, Timestamp};
use sallyport_render::{ChaCha8Rng, Identity, Look, Style, render};
use sallyport_vision::{EyePrior, Frame, IrisAttackSample, IrisPipeline, RadiusRange, assess_iris};
use serde::Serialize;

const SIZE: (usize, usize) = (320, 240);
/// Pictures of one presentation, over three seconds: enough for the checks that need time.
const PICTURES: u64 = 16;
const STEP_MICROS: u64 = 200_000;

/// What is held in front of the camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Instrument {
    /// A living eye.
    BonaFide,
    /// Paper from a laser printer: a halftone screen of 3 to 8 pixels.
    HalftonePrint,
    /// Paper without a visible screen, moved a little by the hand.
    SmoothPrint,
    /// A telephone's or tablet's screen, dark in near infrared.
    Screen,
    /// A contact lens with a printed pattern.
    PrintedLens,
}

impl Instrument {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::BonaFide,
        Self::HalftonePrint,
        Self::SmoothPrint,
        Self::Screen,
        Self::PrintedLens,
    ];
}

/// Counts for one instrument.
#[derive(Debug, Clone, Serialize)]
pub struct Tally {
    /// What was presented.
    pub instrument: Instrument,
    /// Presentations.
    pub presentations: usize,
    /// Of these, no eye was found, so that there is nothing to pass.
    pub no_eye: usize,
    /// Any vote suspected an attack.
    pub suspected: usize,
    /// Which.
    pub by_vote: BTreeMap<String, usize>,
}

impl Tally {
    /// The exact 95 % interval (Clopper and Pearson 1934) of the share of suspected presentations among those with an eye.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        exact_interval(
            self.suspected,
            self.presentations.saturating_sub(self.no_eye),
        )
    }
}

/// The exact two-sided 95 % interval of a share of `hits` among `trials`.
#[must_use]
pub fn exact_interval(hits: usize, trials: usize) -> (f64, f64) {
    Share::new(hits as u64, trials as u64).map_or((0.0, 1.0), Share::interval95)
}

/// Presents every instrument by `people` drawn people.
///
/// # Errors
/// The pipeline failed.
pub fn present_all(pipeline: &mut IrisPipeline, people: u64) -> anyhow::Result<Vec<Tally>> {
    let mut tallies = Vec::new();
    for instrument in Instrument::ALL {
        let mut tally = Tally {
            instrument,
            presentations: 0,
            no_eye: 0,
            suspected: 0,
            by_vote: BTreeMap::new(),
        };
        for person in 0..people {
            let samples = present(pipeline, instrument, person)?;
            tally.presentations += 1;
            if samples.is_empty() {
                tally.no_eye += 1;
                continue;
            }
            let mut any = false;
            for vote in assess_iris(&samples).votes {
                if vote.verdict == PadVerdict::AttackSuspected {
                    any = true;
                    *tally.by_vote.entry(format!("{:?}", vote.kind)).or_default() += 1;
                }
            }
            tally.suspected += usize::from(any);
        }
        tallies.push(tally);
    }
    Ok(tallies)
}

/// One presentation: a burst of pictures through the pipeline.
fn present(
    pipeline: &mut IrisPipeline,
    instrument: Instrument,
    person: u64,
) -> anyhow::Result<Vec<IrisAttackSample>> {
    let mut rng = ChaCha8Rng::seed_from_u64(0x5eed_0000 + person);
    let identity = Identity::from_seed(0xa77a_0000 + person);
    let look = Look::draw(
        &identity,
        Style::Gate { spread: 1.0 },
        SIZE,
        false,
        &mut rng,
    );
    let prior = EyePrior::with_radius(
        Eye::Left,
        RadiusRange::new(look.radius_px * 0.8, look.radius_px * 1.25),
    );
    let period = rng.random_range(3.0..8.0_f32);
    let angle = rng.random_range(0.0..TAU);
    let spokes = rng.random_range(40..90_u32);
    let mut seen = Vec::new();
    let mut still = None;
    let mut motion = Motion::default();
    for at in 0..PICTURES {
        motion.step(&mut rng);
        let (grey, offset) = match instrument {
            // A print is one capture, moved and seen again with the camera's own noise.
            Instrument::HalftonePrint | Instrument::SmoothPrint => {
                let printed = still
                    .get_or_insert_with(|| render(&identity, &look, SIZE, person).grey)
                    .clone();
                (printed, motion.shift)
            }
            Instrument::BonaFide | Instrument::Screen | Instrument::PrintedLens => {
                let mut now = look.clone();
                now.dilation = (now.dilation * motion.pupil).clamp(0.15, 0.75);
                now.centre_px.0 += motion.shift.0;
                now.centre_px.1 += motion.shift.1;
                if instrument == Instrument::PrintedLens {
                    let eye = render(&identity, &now, SIZE, person * 100 + at);
                    (lens(&eye.grey, &now, spokes), (0.0, 0.0))
                } else {
                    (
                        render(&identity, &now, SIZE, person * 100 + at).grey,
                        (0.0, 0.0),
                    )
                }
            }
        };
        let grey = match instrument {
            Instrument::HalftonePrint => halftone(&grey, period, angle),
            Instrument::Screen => grey.iter().map(|value| value / 8).collect(),
            Instrument::BonaFide | Instrument::SmoothPrint | Instrument::PrintedLens => grey,
        };
        let moved = moved(&grey, offset, &mut rng);
        let bgr: Vec<u8> = moved.iter().flat_map(|value| [*value; 3]).collect();
        let captured = Timestamp::from_micros(i64::try_from(at * STEP_MICROS)?);
        let frame = Frame::from_bgr("drawn", captured, SIZE.0 as u32, SIZE.1 as u32, &bgr)?;
        seen.extend(pipeline.analyse(&frame, &prior)?.attack);
    }
    Ok(seen)
}

/// A head or hand that is not held still, and a pupil in its natural unrest.
struct Motion {
    shift: (f32, f32),
    pupil: f32,
}

impl Default for Motion {
    fn default() -> Self {
        Self {
            shift: (0.0, 0.0),
            pupil: 1.0,
        }
    }
}

impl Motion {
    fn step(&mut self, rng: &mut ChaCha8Rng) {
        let step = |value: f32, rng: &mut ChaCha8Rng| {
            (value + rng.random_range(-4.0..4.0_f32)).clamp(-14.0, 14.0)
        };
        self.shift = (step(self.shift.0, rng), step(self.shift.1, rng));
        self.pupil = (self.pupil + rng.random_range(-0.02..0.02_f32)).clamp(0.92, 1.08);
    }
}

/// The picture shifted, with noise of two grey values.
fn moved(grey: &[u8], offset: (f32, f32), rng: &mut ChaCha8Rng) -> Vec<u8> {
    let (width, height) = (SIZE.0 as i32, SIZE.1 as i32);
    let (dx, dy) = (offset.0.round() as i32, offset.1.round() as i32);
    let mut result = Vec::with_capacity(grey.len());
    for y in 0..height {
        for x in 0..width {
            let from =
                ((y - dy).clamp(0, height - 1) * width + (x - dx).clamp(0, width - 1)) as usize;
            let value = f32::from(grey.get(from).copied().unwrap_or(0));
            let noise = rng.random_range(-2.0..2.0_f32);
            result.push((value + noise).clamp(0.0, 255.0) as u8);
        }
    }
    result
}

/// A clustered-dot screen as a laser printer makes, softened by the lens of the camera.
fn halftone(grey: &[u8], period: f32, angle: f32) -> Vec<u8> {
    let (sin, cos) = angle.sin_cos();
    let printed: Vec<f32> = grey
        .iter()
        .enumerate()
        .map(|(at, value)| {
            let (x, y) = ((at % SIZE.0) as f32, (at / SIZE.0) as f32);
            let wave = |along: f32| (TAU * along / period).cos();
            let screen = 0.25 * (wave(x * cos + y * sin) + wave(y * cos - x * sin)) + 0.5;
            let ink = if f32::from(*value) / 255.0 > screen {
                215.0
            } else {
                35.0
            };
            0.65 * ink + 0.35 * f32::from(*value)
        })
        .collect();
    let at = |x: usize, y: usize| {
        let (x, y) = (x.min(SIZE.0 - 1), y.min(SIZE.1 - 1));
        printed.get(y * SIZE.0 + x).copied().unwrap_or(0.0)
    };
    (0..grey.len())
        .map(|index| {
            let (x, y) = (index % SIZE.0, index / SIZE.0);
            let mut sum = 0.0;
            for down in 0..3_usize {
                for right in 0..3_usize {
                    let weight = [0.25_f32, 0.5, 0.25];
                    let share = weight.get(down).copied().unwrap_or(0.0)
                        * weight.get(right).copied().unwrap_or(0.0);
                    sum += share * at((x + right).saturating_sub(1), (y + down).saturating_sub(1));
                }
            }
            sum as u8
        })
        .collect()
}

/// Dark spokes on the iris, repeated around it, as lens prints have them.
fn lens(grey: &[u8], look: &Look, spokes: u32) -> Vec<u8> {
    grey.iter()
        .enumerate()
        .map(|(at, value)| {
            let (x, y) = ((at % SIZE.0) as f32, (at / SIZE.0) as f32);
            let (dx, dy) = (x - look.centre_px.0, y - look.centre_px.1);
            let share = dx.hypot(dy) / look.radius_px;
            let on_lens = share > look.dilation + 0.08 && share < 0.95 && *value < 200;
            let spoke = (dy.atan2(dx) * spokes as f32).cos();
            if on_lens && spoke > 0.3 {
                (f32::from(*value) * 0.7) as u8
            } else {
                *value
            }
        })
        .collect()
}
