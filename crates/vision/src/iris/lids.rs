//! Step 6 of the classical path: the lid lines, as tilted parabolas on the vertical grey step.

use opencv::imgproc;

use super::geometry::{Circle, LidLine};
use super::glints::Prepared;
use super::plane::{Grey, robust};
use crate::VisionError;

const STAGE: &str = "lids";
const OFFSETS: usize = 60;
const CURVATURES: [f32; 6] = [0.0, 0.12, 0.24, 0.36, 0.48, 0.6];
const TILTS: [f32; 5] = [-0.3, -0.15, 0.0, 0.15, 0.3];
/// Points of a lid line nearer to the pupil than this many pupil radii say nothing about the lid.
const PUPIL_REACH: f32 = 1.45;
/// Share of the cut-off region that must look unlike the iris.
const MIN_DIFFERENT: f32 = 0.45;
const BRIGHTER: f32 = 1.5;
const DARKER: f32 = 2.5;

/// Which lid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lid {
    Upper,
    Lower,
}

/// Grey statistics of the iris: median and robust deviation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IrisTone {
    pub(crate) median: f32,
    pub(crate) deviation: f32,
}

/// Measured in the lateral and lower ring, where the iris is least covered.
pub(crate) fn iris_tone(picture: &Grey, pupil: &Circle, limbus: &Circle) -> IrisTone {
    let mut values = Vec::new();
    for degrees in (-20..=50).chain(130..=200) {
        let (sine, cosine) = (degrees as f32).to_radians().sin_cos();
        for step in 2..=8 {
            let share = step as f32 / 10.0;
            let radius = pupil.radius + (limbus.radius - pupil.radius) * share;
            values.push(picture.near(
                pupil.x + (limbus.x - pupil.x) * share + radius * cosine,
                pupil.y + (limbus.y - pupil.y) * share + radius * sine,
            ));
        }
    }
    let (median, deviation) = robust(&mut values);
    IrisTone {
        median,
        deviation: deviation.max(3.0),
    }
}

/// Upper and lower lid line, each only where it really covers the iris.
pub(crate) fn lid_lines(
    eye: &Prepared,
    pupil: &Circle,
    limbus: &Circle,
    tone: IrisTone,
) -> Result<[Option<LidLine>; 2], VisionError> {
    // Closing removes thin dark lashes and keeps the lid's edge.
    let closed = eye
        .fine
        .morphology(imgproc::MORPH_CLOSE, imgproc::MORPH_RECT, 9, 3, STAGE)?;
    Ok([
        find(&closed, &eye.fine, Lid::Upper, pupil, limbus, tone),
        find(&eye.fine, &eye.fine, Lid::Lower, pupil, limbus, tone),
    ])
}

fn find(
    picture: &Grey,
    plain: &Grey,
    lid: Lid,
    pupil: &Circle,
    limbus: &Circle,
    tone: IrisTone,
) -> Option<LidLine> {
    let sign = match lid {
        Lid::Upper => 1.0,
        Lid::Lower => -1.0,
    };
    let mut best: Option<(LidLine, f32)> = None;
    for offset in 0..OFFSETS {
        // From the limbus' top to a quarter radius below its centre (mirrored for the lower lid).
        let share = -1.0 + 1.25 * offset as f32 / (OFFSETS - 1) as f32;
        for curvature in CURVATURES {
            for tilt in TILTS {
                let line = LidLine {
                    centre_x: limbus.x,
                    height: limbus.y + sign * share * limbus.radius,
                    tilt,
                    curvature: sign * curvature / limbus.radius,
                };
                if let Some(step) = step_along(picture, &line, sign, pupil, limbus)
                    && best.is_none_or(|(_, known)| step > known)
                {
                    best = Some((line, step));
                }
            }
        }
    }
    let (line, _) = best?;
    differs(plain, &line, lid, pupil, limbus, tone).then_some(line)
}

/// Mean step from the iris towards the lid, weighted by how much of the line was seen.
fn step_along(
    picture: &Grey,
    line: &LidLine,
    sign: f32,
    pupil: &Circle,
    limbus: &Circle,
) -> Option<f32> {
    const COLUMNS: i8 = 16;
    let reach = (0.035 * limbus.radius).clamp(2.0, 4.0);
    let near_pupil = Circle {
        radius: PUPIL_REACH * pupil.radius,
        ..*pupil
    };
    // The pupil was seen, so no lid covers the half of it that is nearer to the other lid.
    if sign * (line.y(pupil.x) - pupil.y) > -0.3 * pupil.radius {
        return None;
    }
    let (mut sum, mut count) = (0.0, 0.0);
    for column in -COLUMNS..=COLUMNS {
        let x = limbus.x + limbus.radius * f32::from(column) / f32::from(COLUMNS);
        let y = line.y(x);
        if !limbus.contains(x, y) || near_pupil.contains(x, y) {
            continue;
        }
        sum += picture.near(x, y - sign * reach) - picture.near(x, y + sign * reach);
        count += 1.0;
    }
    (count >= 7.0).then(|| sum / count * f32::min(1.0, count / 14.0).sqrt())
}

/// Does the region that the line cuts off look unlike the iris?
fn differs(
    picture: &Grey,
    line: &LidLine,
    lid: Lid,
    pupil: &Circle,
    limbus: &Circle,
    tone: IrisTone,
) -> bool {
    let (mut all, mut unlike) = (0.0, 0.0);
    let reach = limbus.radius as i32;
    for dy in (-reach..=reach).step_by(2) {
        for dx in (-reach..=reach).step_by(2) {
            let (x, y) = (limbus.x + dx as f32, limbus.y + dy as f32);
            let beyond = match lid {
                Lid::Upper => y < line.y(x),
                Lid::Lower => y > line.y(x),
            };
            if !beyond || !limbus.contains(x, y) || pupil.contains(x, y) {
                continue;
            }
            all += 1.0;
            let value = picture.near(x, y);
            let brighter = value > tone.median + BRIGHTER * tone.deviation;
            let darker = lid == Lid::Upper && value < tone.median - DARKER * tone.deviation;
            if brighter || darker {
                unlike += 1.0;
            }
        }
    }
    all > 0.0 && unlike >= MIN_DIFFERENT * all
}
