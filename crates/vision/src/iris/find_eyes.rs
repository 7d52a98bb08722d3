//! Both eyes in one near-infrared frame, or in a high-resolution face frame, labelled left and right.
//!
//! 1. The frame is scaled down so that an iris has about 25 pixels of radius at most.
//! 2. Dark discs with a limbus around them are eye candidates.
//! 3. The best pair whose radii agree with each other and with the distance between them, nearly level, is taken.
//!
//! A lone eye has no label, so a frame with only one gives none.

use opencv::core::{Mat, MatTraitConst, Rect};
use sallyport_domain::Eye;

use super::geometry::Circle;
use super::glints::prepare;
use super::limbus::{self, Circles};
use super::plane::Grey;
use super::prior::{EyePrior, RADIUS_PER_EYE_DISTANCE, RadiusRange};
use super::pupil;
use crate::{Frame, Landmarks, VisionError};

const STAGE: &str = "finding eyes";
/// Width of the frame that the search works on, pixels.
const SEARCH_WIDTH: f32 = 400.0;
/// Distance between the eyes, as shares of the frame's width.
const LEAST_DISTANCE: f32 = 0.22;
const MOST_DISTANCE: f32 = 0.85;
const MOST_ROLL_DEG: f32 = 25.0;
/// An iris may differ from the radius that the distance gives by this much.
const RADIUS_TOLERANCE: f32 = 0.30;
/// Size of a crop in the longest expected iris radii, half of it each way: the lids with some room, and an iris of the
/// expected radius still large enough for the network that one look is enough.
const HALF_WIDTH: f32 = 2.6;
const HALF_HEIGHT: f32 = 1.95;

/// One eye of a frame.
#[derive(Debug)]
pub struct EyeRegion {
    /// Which eye of the subject.
    pub eye: Eye,
    /// The surroundings of the eye, in the frame's own resolution.
    pub frame: Frame,
    /// Where it was cut out: left and top, pixels of the whole frame.
    pub offset: (i32, i32),
    /// What the other eye and the distance say about this one.
    pub prior: EyePrior,
}

/// The two eyes of a near-infrared strip or face frame, left eye first; empty when no convincing pair is seen.
/// `mirrored` is true for cameras that deliver mirror images: it decides which eye is which.
///
/// # Errors
/// OpenCV failed.
pub fn find_eyes(frame: &Frame, mirrored: bool) -> Result<Vec<EyeRegion>, VisionError> {
    let grey = Grey::of(frame)?;
    let factor = (SEARCH_WIDTH / grey.width() as f32).min(1.0);
    let small = grey.resized(
        ((grey.width() as f32 * factor) as i32).max(1),
        ((grey.height() as f32 * factor) as i32).max(1),
        STAGE,
    )?;
    let width = small.width() as f32;
    let range = RadiusRange::new(
        RADIUS_PER_EYE_DISTANCE * (1.0 - RADIUS_TOLERANCE) * LEAST_DISTANCE * width,
        RADIUS_PER_EYE_DISTANCE * (1.0 + RADIUS_TOLERANCE) * MOST_DISTANCE * width,
    );
    let eye = prepare(small)?;
    let candidates: Vec<Circles> = pupil::candidates(&eye, range, 24)?
        .iter()
        .filter_map(|candidate| limbus::around(&eye, candidate, range))
        .collect();
    let mut best: Option<(f32, Circle, Circle)> = None;
    for (at, one) in candidates.iter().enumerate() {
        for other in candidates.iter().skip(at + 1) {
            let (left, right) = if one.limbus.x < other.limbus.x {
                (one, other)
            } else {
                (other, one)
            };
            if let Some(score) = pair_score(left, right, width)
                && best.is_none_or(|(known, ..)| score > known)
            {
                best = Some((score, left.limbus, right.limbus));
            }
        }
    }
    let Some((_, left, right)) = best else {
        return Ok(Vec::new());
    };
    regions(
        frame,
        &left.scaled(1.0 / factor),
        &right.scaled(1.0 / factor),
        mirrored,
    )
}

/// How convincing two circles are as the eyes of one face.
fn pair_score(left: &Circles, right: &Circles, width: f32) -> Option<f32> {
    let (dx, dy) = (
        right.limbus.x - left.limbus.x,
        right.limbus.y - left.limbus.y,
    );
    let distance = dx.hypot(dy);
    if !(LEAST_DISTANCE * width..=MOST_DISTANCE * width).contains(&distance)
        || dy.atan2(dx).to_degrees().abs() > MOST_ROLL_DEG
    {
        return None;
    }
    let expected = RADIUS_PER_EYE_DISTANCE * distance;
    let misfit = |circle: &Circle| (circle.radius / expected - 1.0).abs();
    let worst = misfit(&left.limbus).max(misfit(&right.limbus));
    let unequal = (left.limbus.radius - right.limbus.radius).abs()
        / left.limbus.radius.max(right.limbus.radius);
    if worst > RADIUS_TOLERANCE || unequal > 0.25 || left.score.min(right.score) < 12.0 {
        return None;
    }
    Some(left.score + right.score - 20.0 * worst - 40.0 * unequal)
}

/// The two eyes of a face whose landmarks are known; `mirrored` as in [`find_eyes`].
///
/// # Errors
/// OpenCV failed.
pub fn eyes_of_face(
    frame: &Frame,
    landmarks: &Landmarks,
    mirrored: bool,
) -> Result<Vec<EyeRegion>, VisionError> {
    let [left, right, ..] = landmarks.five_points();
    let radius = RADIUS_PER_EYE_DISTANCE * left.distance(right);
    let circle = |x, y| Circle { x, y, radius };
    regions(
        frame,
        &circle(left.x, left.y),
        &circle(right.x, right.y),
        mirrored,
    )
}

/// Cuts out both eyes. In a picture that is not mirrored the subject's right eye is on the left.
fn regions(
    frame: &Frame,
    left: &Circle,
    right: &Circle,
    mirrored: bool,
) -> Result<Vec<EyeRegion>, VisionError> {
    let (dx, dy) = (right.x - left.x, right.y - left.y);
    let distance = dx.hypot(dy);
    let roll = dy.atan2(dx).to_degrees();
    let (on_left, on_right) = if mirrored {
        (Eye::Left, Eye::Right)
    } else {
        (Eye::Right, Eye::Left)
    };
    let mut found = Vec::with_capacity(2);
    for (eye, circle) in [(on_left, left), (on_right, right)] {
        let prior = EyePrior::from_eye_distance(eye, distance, roll);
        let radius = prior.radius.longest();
        let half = (HALF_WIDTH * radius, HALF_HEIGHT * radius);
        let from = |centre: f32, half: f32, size: i32| ((centre - half) as i32).clamp(0, size);
        let to = |centre: f32, half: f32, size: i32| ((centre + half) as i32).clamp(0, size);
        let (x0, x1) = (
            from(circle.x, half.0, frame.width()),
            to(circle.x, half.0, frame.width()),
        );
        let (y0, y1) = (
            from(circle.y, half.1, frame.height()),
            to(circle.y, half.1, frame.height()),
        );
        if x1 - x0 < 16 || y1 - y0 < 16 {
            return Ok(Vec::new());
        }
        let part = Mat::roi(&frame.pixels, Rect::new(x0, y0, x1 - x0, y1 - y0))
            .and_then(|part| part.try_clone())
            .map_err(VisionError::cv(STAGE))?;
        found.push(EyeRegion {
            eye,
            frame: Frame::from_mat(&frame.camera, frame.captured_at, part),
            offset: (x0, y0),
            prior,
        });
    }
    found.sort_by_key(|region| region.eye);
    Ok(found)
}
