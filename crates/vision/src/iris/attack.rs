//! Signs of a print, a screen or a textured lens in near-infrared pictures of one eye (issue of the iris, item 7).
//!
//! Each check is a vote with a reason in words; none needs secret data, and none is a certification. Limits were set on
//! rendered attacks and on real bona fide pictures; real attacks have not been measured (docs/accuracy-iris.md).

use std::f32::consts::TAU;

use opencv::core::{self, Mat, MatTraitConst, MatTraitConstManual};
use sallyport_domain::{PadAssessment, PadKind, PadVerdict, PadVote, Timestamp};

use super::geometry::{Circle, Segmentation};
use super::plane::{Grey, median, quantile};
use super::rubber_sheet::{STRIP_COLUMNS, Strip};
use crate::VisionError;

const STAGE: &str = "iris attack checks";
/// Side of the patch whose spectrum is looked at, pixels.
const PATCH: i32 = 128;
/// Periods of a halftone screen that a camera still resolves, pixels.
const HALFTONE_PERIODS: (f32, f32) = (2.6, 11.0);
/// A halftone's line stands out of the spectrum around it by more than this factor.
const HALFTONE_PEAK: f32 = 10.0;
/// Cycles around the iris at which lens prints repeat; natural texture has no line there.
const LENS_CYCLES: std::ops::Range<usize> = 30..120;
const LENS_PEAK: f32 = 9.0;
/// A screen gives no near-infrared light: nineteen of twenty pixels are darker than this.
const DARK: f32 = 60.0;
/// A lamp's reflection is at least this bright, and stands out from the iris by this much.
const GLINT_BRIGHT: f32 = 170.0;
const GLINT_ABOVE_IRIS: f32 = 60.0;
/// In the dark pupil it is enough to stand out by this much: small reflections are blurred.
const GLINT_ABOVE_PUPIL: f32 = 45.0;
/// How far from the middle a reflection is looked for, in iris and in pupil radii: further out lies a lid.
const GLINT_REACH: (f32, f32) = (0.75, 1.7);
/// Frames that the checks over time need.
const MIN_FRAMES: usize = 5;
/// Frames and microseconds that the pupil's unrest needs.
const MIN_PUPIL_FRAMES: usize = 15;
const MIN_PUPIL_MICROS: i64 = 2_000_000;
/// A living pupil is not this still: spread of the pupil's share of the iris.
const STILL_PUPIL: f32 = 0.0015;

/// What one picture says about an attack. `Debug` hides the numbers.
#[derive(Clone, Copy, PartialEq)]
pub struct IrisAttackSample {
    captured_at: Timestamp,
    brightness: f32,
    halftone: f32,
    lens: f32,
    glint: Option<(f32, f32)>,
    centre: (f32, f32),
    dilation: f32,
}

impl std::fmt::Debug for IrisAttackSample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IrisAttackSample([hidden])")
    }
}

/// Measures one picture.
pub(crate) fn sample(
    captured_at: Timestamp,
    grey: &Grey,
    segmentation: &Segmentation,
    strip: &Strip,
) -> Result<IrisAttackSample, VisionError> {
    let limbus = segmentation.limbus;
    Ok(IrisAttackSample {
        captured_at,
        brightness: f32::from(grey.percentile(0.95)),
        halftone: halftone(grey, limbus.x, limbus.y)?,
        lens: lens(strip),
        glint: glint(grey, segmentation, strip),
        centre: (limbus.x / limbus.radius, limbus.y / limbus.radius),
        dilation: segmentation.dilation(),
    })
}

/// The strongest line of the patch's spectrum between the halftone periods, over the median of its surroundings.
fn halftone(grey: &Grey, cx: f32, cy: f32) -> Result<f32, VisionError> {
    let cv = |source| VisionError::OpenCv {
        stage: STAGE,
        source,
    };
    let (left, top) = (cx as i32 - PATCH / 2, cy as i32 - PATCH / 2);
    let mut patch = Vec::with_capacity((PATCH * PATCH) as usize);
    for row in 0..PATCH {
        for column in 0..PATCH {
            let window = |at: i32| 0.5 - 0.5 * (TAU * at as f32 / PATCH as f32).cos();
            // A high-pass keeps lids and pupil out of the spectrum; bright reflections are cut.
            let (x, y) = (left + column, top + row);
            let value = |x, y| f32::from(grey.at(x, y)).min(200.0);
            let around =
                0.25 * (value(x - 2, y) + value(x + 2, y) + value(x, y - 2) + value(x, y + 2));
            patch.push((value(x, y) - around) * window(row) * window(column));
        }
    }
    let flat = Mat::from_slice(&patch).map_err(cv)?;
    let square = flat.reshape(1, PATCH).map_err(cv)?;
    let mut spectrum = Mat::default();
    core::dft(&square, &mut spectrum, core::DFT_COMPLEX_OUTPUT, 0).map_err(cv)?;
    let values = spectrum.data_typed::<core::Vec2f>().map_err(cv)?;
    // Amplitudes in rings of equal frequency: a line is compared with its own ring.
    let mut rings: Vec<Vec<f32>> = vec![Vec::new(); PATCH as usize / 2];
    for (at, core::VecN([real, imaginary])) in values.iter().enumerate() {
        let fold = |at: i32| if at > PATCH / 2 { at - PATCH } else { at } as f32;
        let frequency = fold(at as i32 % PATCH).hypot(fold(at as i32 / PATCH));
        let period = PATCH as f32 / frequency.max(0.5);
        if !(HALFTONE_PERIODS.0..=HALFTONE_PERIODS.1).contains(&period) {
            continue;
        }
        if let Some(ring) = rings.get_mut(frequency as usize) {
            ring.push(real.hypot(*imaginary));
        }
    }
    let mut best = 0.0_f32;
    for ring in &mut rings {
        if ring.len() < 16 {
            continue;
        }
        let strongest = ring.iter().copied().fold(0.0, f32::max);
        best = best.max(strongest / median(ring).max(1.0));
    }
    Ok(best)
}

/// The strongest angular line of the outer iris over the median of its neighbours.
fn lens(strip: &Strip) -> f32 {
    let mut power = vec![0.0_f32; LENS_CYCLES.end];
    for (values, mask) in strip
        .values
        .chunks_exact(STRIP_COLUMNS)
        .zip(strip.mask.chunks_exact(STRIP_COLUMNS))
        .skip(20)
        .step_by(4)
        .take(9)
    {
        let shown: f32 = mask.iter().sum();
        if shown < 0.4 * STRIP_COLUMNS as f32 {
            continue;
        }
        let mean = values.iter().zip(mask).map(|(v, m)| v * m).sum::<f32>() / shown;
        for (cycles, cell) in power.iter_mut().enumerate().skip(LENS_CYCLES.start) {
            // A rotation instead of one sine for each column.
            let (step_sine, step_cosine) = (TAU * cycles as f32 / STRIP_COLUMNS as f32).sin_cos();
            let (mut cosine, mut sine) = (1.0_f32, 0.0_f32);
            let (mut real, mut imaginary) = (0.0, 0.0);
            for (value, shown) in values.iter().zip(mask) {
                let relative = (value - mean) * shown;
                real += relative * cosine;
                imaginary += relative * sine;
                (cosine, sine) = (
                    cosine * step_cosine - sine * step_sine,
                    cosine * step_sine + sine * step_cosine,
                );
            }
            *cell += (real * real + imaginary * imaginary) / shown;
        }
    }
    let lines = power.get(LENS_CYCLES).unwrap_or_default();
    let mut best = 0.0_f32;
    for window in lines.windows(25) {
        let Some(centre) = window.get(12) else {
            continue;
        };
        let mut around: Vec<f32> = window.to_vec();
        best = best.max(centre / quantile(&mut around, 0.5).max(1.0));
    }
    best
}

/// Where the brightest reflection on the eye lies, in iris radii from the iris' centre.
fn glint(grey: &Grey, segmentation: &Segmentation, strip: &Strip) -> Option<(f32, f32)> {
    let limbus = segmentation.limbus;
    let shown: f32 = strip.mask.iter().sum();
    let iris = strip
        .values
        .iter()
        .zip(&strip.mask)
        .map(|(v, m)| v * m)
        .sum::<f32>()
        / shown.max(1.0);
    let on_iris = GLINT_BRIGHT.max(iris + GLINT_ABOVE_IRIS);
    // The pupil's blurred edge is no reflection.
    let pupil = Circle {
        radius: 0.85 * segmentation.pupil.radius,
        ..segmentation.pupil
    };
    let on_pupil = pupil_level(grey, &pupil) + GLINT_ABOVE_PUPIL;
    let reach =
        (GLINT_REACH.0 * limbus.radius).min(GLINT_REACH.1 * segmentation.pupil.radius) as i32;
    let (mut x, mut y, mut weight) = (0.0, 0.0, 0.0_f32);
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let at = (limbus.x as i32 + dx, limbus.y as i32 + dy);
            let (px, py) = (at.0 as f32, at.1 as f32);
            let on_eye = segmentation
                .upper_lid
                .is_none_or(|lid| py > lid.y(px) + 3.0)
                && segmentation
                    .lower_lid
                    .is_none_or(|lid| py < lid.y(px) - 3.0)
                && dx * dx + dy * dy <= reach * reach;
            let value = f32::from(grey.at(at.0, at.1));
            let least = if pupil.contains(px, py) {
                on_pupil.min(on_iris)
            } else {
                on_iris
            };
            if on_eye && value >= least {
                x += px * value;
                y += py * value;
                weight += value;
            }
        }
    }
    (weight > 0.0).then(|| {
        (
            (x / weight - limbus.x) / limbus.radius,
            (y / weight - limbus.y) / limbus.radius,
        )
    })
}

/// How bright the pupil is where no lamp is mirrored: the middle of its values.
fn pupil_level(grey: &Grey, pupil: &Circle) -> f32 {
    let reach = pupil.radius as i32;
    let mut values = Vec::new();
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            if dx * dx + dy * dy <= reach * reach {
                let at = (pupil.x as i32 + dx, pupil.y as i32 + dy);
                values.push(f32::from(grey.at(at.0, at.1)));
            }
        }
    }
    median(&mut values)
}

/// The votes over all pictures of one eye.
#[must_use]
pub fn assess_iris(samples: &[IrisAttackSample]) -> PadAssessment {
    PadAssessment {
        votes: [
            (PadKind::IrisScreen, screen(samples)),
            (PadKind::IrisPrint, print(samples)),
            (PadKind::IrisLens, lens_vote(samples)),
            (PadKind::IrisSpecular, specular(samples)),
            (PadKind::IrisPupilMotion, pupil_motion(samples)),
        ]
        .into_iter()
        .map(|(kind, (verdict, reason))| PadVote {
            kind,
            verdict,
            reason: reason.to_owned(),
        })
        .collect(),
    }
}

type Vote = (PadVerdict, &'static str);

const NOTHING: Vote = (PadVerdict::Inconclusive, "there was no picture of the eye");

fn middle(samples: &[IrisAttackSample], of: fn(&IrisAttackSample) -> f32) -> f32 {
    let mut values: Vec<f32> = samples.iter().map(of).collect();
    median(&mut values)
}

fn screen(samples: &[IrisAttackSample]) -> Vote {
    if samples.is_empty() {
        return NOTHING;
    }
    if middle(samples, |sample| sample.brightness) < DARK {
        return (
            PadVerdict::AttackSuspected,
            "the eye region is dark in near-infrared light, as a screen is",
        );
    }
    (
        PadVerdict::BonaFide,
        "skin and eye reflect near-infrared light",
    )
}

fn print(samples: &[IrisAttackSample]) -> Vote {
    if samples.is_empty() {
        return NOTHING;
    }
    let halftone = middle(samples, |sample| sample.halftone);
    // A value that is no number must not pass.
    if halftone.is_nan() || halftone >= HALFTONE_PEAK {
        return (
            PadVerdict::AttackSuspected,
            "a regular dot pattern lies over the eye, as of a print",
        );
    }
    (PadVerdict::BonaFide, "no dot pattern of a print was found")
}

fn lens_vote(samples: &[IrisAttackSample]) -> Vote {
    if samples.is_empty() {
        return NOTHING;
    }
    let lens = middle(samples, |sample| sample.lens);
    if lens.is_nan() || lens >= LENS_PEAK {
        return (
            PadVerdict::AttackSuspected,
            "the iris shows a pattern that repeats around it, as of a printed contact lens",
        );
    }
    (PadVerdict::BonaFide, "the iris shows no repeating pattern")
}

fn specular(samples: &[IrisAttackSample]) -> Vote {
    if samples.len() < MIN_FRAMES {
        return (
            PadVerdict::Inconclusive,
            "too few pictures to follow the lamp's reflection on the eye",
        );
    }
    let seen: Vec<_> = samples
        .iter()
        .filter_map(|sample| Some((sample.glint?, sample.centre)))
        .collect();
    if seen.len() * 2 < samples.len() {
        return (
            PadVerdict::AttackSuspected,
            "no reflection of the lamp was seen on the eye, as a cornea shows",
        );
    }
    let spread = |values: Vec<(f32, f32)>| {
        let axis = |part: fn(&(f32, f32)) -> f32| {
            let mut values: Vec<f32> = values.iter().map(part).collect();
            quantile(&mut values, 0.9) - quantile(&mut values, 0.1)
        };
        axis(|value| value.0).hypot(axis(|value| value.1))
    };
    let eye_moved = spread(seen.iter().map(|(_, centre)| *centre).collect());
    let reflection_moved = spread(seen.iter().map(|(glint, _)| *glint).collect());
    if eye_moved < 0.08 {
        return (
            PadVerdict::Inconclusive,
            "the eye hardly moved, so its reflection says nothing",
        );
    }
    // On paper the reflection is printed and stays with the iris; on a cornea it stays with the lamp.
    if reflection_moved < 0.04 * eye_moved {
        return (
            PadVerdict::AttackSuspected,
            "the reflection on the eye moves with the iris, as if printed",
        );
    }
    (
        PadVerdict::BonaFide,
        "the lamp's reflection moves over the eye as on a cornea",
    )
}

fn pupil_motion(samples: &[IrisAttackSample]) -> Vote {
    let times = || samples.iter().map(|sample| sample.captured_at.as_micros());
    let lasted = times().max().unwrap_or(0) - times().min().unwrap_or(0);
    if samples.len() < MIN_PUPIL_FRAMES || lasted < MIN_PUPIL_MICROS {
        return (
            PadVerdict::Inconclusive,
            "too few pictures to see the pupil's unrest",
        );
    }
    let mut dilations: Vec<f32> = samples.iter().map(|sample| sample.dilation).collect();
    let spread = quantile(&mut dilations, 0.9) - quantile(&mut dilations, 0.1);
    if spread.is_nan() || spread < STILL_PUPIL {
        return (
            PadVerdict::AttackSuspected,
            "the pupil did not change at all, as a living one does",
        );
    }
    (PadVerdict::BonaFide, "the pupil changes as a living one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(count: usize) -> Vec<IrisAttackSample> {
        (0..count)
            .map(|at| IrisAttackSample {
                captured_at: Timestamp::from_micros(at as i64 * 200_000),
                brightness: 180.0,
                halftone: 3.0,
                lens: 3.0,
                glint: Some((0.1 + at as f32 * 0.01, 0.0)),
                centre: (1.5 + at as f32 * 0.02, 1.0),
                dilation: 0.4 + at as f32 * 0.001,
            })
            .collect()
    }

    fn verdict(samples: &[IrisAttackSample], kind: PadKind) -> PadVerdict {
        assess_iris(samples)
            .votes
            .into_iter()
            .find(|vote| vote.kind == kind)
            .expect("every check votes")
            .verdict
    }

    #[test]
    fn a_living_eye_passes_and_nothing_at_all_does_not() {
        let samples = still(20);
        assert!(
            assess_iris(&samples)
                .votes
                .iter()
                .all(|vote| vote.verdict == PadVerdict::BonaFide)
        );
        assert!(
            assess_iris(&[])
                .votes
                .iter()
                .all(|vote| vote.verdict == PadVerdict::Inconclusive)
        );
    }

    #[test]
    fn each_sign_of_an_attack_raises_its_own_vote() {
        let changed = |change: fn(&mut IrisAttackSample)| {
            let mut samples = still(20);
            samples.iter_mut().for_each(change);
            samples
        };
        for (kind, samples) in [
            (
                PadKind::IrisScreen,
                changed(|sample| sample.brightness = 30.0),
            ),
            (PadKind::IrisPrint, changed(|sample| sample.halftone = 40.0)),
            (
                PadKind::IrisPrint,
                changed(|sample| sample.halftone = f32::NAN),
            ),
            (PadKind::IrisLens, changed(|sample| sample.lens = 40.0)),
            (PadKind::IrisSpecular, changed(|sample| sample.glint = None)),
            (
                PadKind::IrisSpecular,
                changed(|sample| sample.glint = Some((0.1, 0.2))),
            ),
            (
                PadKind::IrisPupilMotion,
                changed(|sample| sample.dilation = 0.4),
            ),
        ] {
            assert_eq!(
                verdict(&samples, kind),
                PadVerdict::AttackSuspected,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn checks_over_time_say_when_they_saw_too_little() {
        assert_eq!(
            verdict(&still(4), PadKind::IrisSpecular),
            PadVerdict::Inconclusive
        );
        assert_eq!(
            verdict(&still(9), PadKind::IrisPupilMotion),
            PadVerdict::Inconclusive
        );
        let mut at_once = still(20);
        for sample in &mut at_once {
            sample.captured_at = Timestamp::from_micros(0);
            sample.centre = (1.0, 1.0);
        }
        assert_eq!(
            verdict(&at_once, PadKind::IrisPupilMotion),
            PadVerdict::Inconclusive
        );
        assert_eq!(
            verdict(&at_once, PadKind::IrisSpecular),
            PadVerdict::Inconclusive
        );
    }
}
