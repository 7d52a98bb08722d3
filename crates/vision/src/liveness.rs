//! Presentation attack votes: the texture network (biometrics.md F.4 and F.7) and the border around the face.
//!
//! Votes, never a certification. The texture network lets many simulated prints pass (models/README.md), and the border
//! check finds only prints and screens whose four edges are in view.

use sallyport_domain::{PadAssessment, PadKind, PadVerdict, PadVote};

use crate::border::border_around;
use crate::landmarks::square;
use crate::runtime::Model;
use crate::tensor::{Planes, planar, softmax, square_crop};
use crate::{BoundingBox, Frame, VisionError};

const STAGE: &str = "liveness";
/// The crop is the face's box enlarged by this.
const CROP_SCALE: f32 = 2.7;
/// Fewer frames than this give no vote.
pub const MIN_FRAMES: usize = 5;
/// Median live probability from which on the vote is bona fide.
const BONA_FIDE_FROM: f32 = 0.8;
/// A border in at least this share of the frames, and in at least [`MIN_BORDER_FRAMES`], is no accident.
const BORDER_SHARE: f32 = 0.3;
/// See [`BORDER_SHARE`].
const MIN_BORDER_FRAMES: usize = 2;

/// What one frame says about an attack. `Debug` hides the score.
#[derive(Clone, Copy, PartialEq)]
pub struct LivenessSample {
    /// Whether the whole enlarged crop lay inside the frame.
    pub crop_fits: bool,
    /// Whether a rectangular border runs around the face.
    pub border_seen: bool,
    live: f32,
}

impl std::fmt::Debug for LivenessSample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "LivenessSample {{ crop_fits: {}, border_seen: {}, live: [hidden] }}",
            self.crop_fits, self.border_seen
        )
    }
}

impl LivenessSample {
    /// For tests and evaluation.
    #[must_use]
    pub fn new(crop_fits: bool, border_seen: bool, live: f32) -> Self {
        Self {
            crop_fits,
            border_seen,
            live,
        }
    }

    /// Probability that the presentation is bona fide, 0 to 1; for evaluation only, never for a log.
    #[must_use]
    pub fn live_probability(self) -> f32 {
        self.live
    }
}

pub(crate) fn liveness(
    model: &mut Model,
    frame: &Frame,
    face: &BoundingBox,
) -> Result<LivenessSample, VisionError> {
    let (_, _, side) = square(face);
    #[expect(clippy::cast_precision_loss, reason = "frame sides are far below 2^24")]
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let limit = ((width - 1.0) / side.max(1.0)).min((height - 1.0) / side.max(1.0));
    let extent = side * CROP_SCALE.min(limit);
    let (x, y) = face.centre();
    let left = (x - extent / 2.0).clamp(0.0, (width - 1.0 - extent).max(0.0));
    let top = (y - extent / 2.0).clamp(0.0, (height - 1.0 - extent).max(0.0));
    let wanted = side * CROP_SCALE / 2.0;
    // The crop may be shifted by a tenth of its side: the network still sees the surroundings on all sides.
    let slack = wanted * 0.2;
    let crop_fits = limit >= CROP_SCALE
        && x - wanted >= -slack
        && y - wanted >= -slack
        && x + wanted <= width + slack
        && y + wanted <= height + slack;
    let crop = square_crop(&frame.pixels, left, top, extent, 128, STAGE)?;
    let input = planar(&crop, Planes::Bgr, [0.0; 3], [1.0; 3], STAGE)?;
    let [logits] = model.run(STAGE, [1, 3, 128, 128], &input, ["output"])?;
    let live = softmax(&logits)
        .first()
        .copied()
        .ok_or(VisionError::Contract { stage: STAGE })?;
    let border_seen = border_around(frame, face)?.is_some();
    Ok(LivenessSample {
        crop_fits,
        border_seen,
        live,
    })
}

/// What the samples of one track add up to: one vote of each check.
#[must_use]
pub fn assess(samples: &[LivenessSample]) -> PadAssessment {
    let vote = |kind, (verdict, reason): (PadVerdict, &str)| PadVote {
        kind,
        verdict,
        reason: reason.to_owned(),
    };
    PadAssessment {
        votes: vec![
            vote(PadKind::FaceTexture, texture(samples)),
            vote(PadKind::Border, border(samples)),
        ],
    }
}

/// The median over at least [`MIN_FRAMES`] frames.
fn texture(samples: &[LivenessSample]) -> (PadVerdict, &'static str) {
    const SUSPECTED: (PadVerdict, &str) = (
        PadVerdict::AttackSuspected,
        "the texture around the face looks like a print or a screen",
    );
    if samples.len() < MIN_FRAMES {
        return (
            PadVerdict::Inconclusive,
            "too few frames for the texture check",
        );
    }
    let median = |mut values: Vec<f32>| {
        values.sort_by(f32::total_cmp);
        // The lower of the two middle values: when in doubt, the suspicious one.
        let middle = (values.len().max(1) - 1) / 2;
        values.get(middle).copied().unwrap_or(0.0)
    };
    let fitting: Vec<f32> = samples
        .iter()
        .filter(|sample| sample.crop_fits)
        .map(|sample| sample.live)
        .collect();
    if fitting.len() < MIN_FRAMES {
        // Seen only in part, a good picture cannot vouch for itself, but a bad one can still give itself away.
        return if median(samples.iter().map(|sample| sample.live).collect()) < 1.0 - BONA_FIDE_FROM
        {
            SUSPECTED
        } else {
            (
                PadVerdict::Inconclusive,
                "the surroundings of the face were not in the picture",
            )
        };
    }
    if median(fitting) >= BONA_FIDE_FROM {
        (
            PadVerdict::BonaFide,
            "the texture around the face looks like a person",
        )
    } else {
        SUSPECTED
    }
}

/// A border can only raise suspicion; its absence vouches for nothing.
fn border(samples: &[LivenessSample]) -> (PadVerdict, &'static str) {
    let seen = samples.iter().filter(|sample| sample.border_seen).count();
    #[expect(clippy::cast_precision_loss, reason = "a few dozen frames")]
    let share = seen as f32 / samples.len().max(1) as f32;
    if seen >= MIN_BORDER_FRAMES && share >= BORDER_SHARE {
        (
            PadVerdict::AttackSuspected,
            "a rectangular border runs around the face, as of a print or a screen",
        )
    } else {
        (
            PadVerdict::Inconclusive,
            "no border of a print or screen was seen, which proves nothing",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(crop_fits: bool, border_seen: bool, values: &[f32]) -> PadVerdict {
        let samples: Vec<_> = values
            .iter()
            .map(|live| LivenessSample::new(crop_fits, border_seen, *live))
            .collect();
        assess(&samples).verdict()
    }

    #[test]
    fn the_texture_vote_needs_enough_whole_frames_and_takes_the_median() {
        let texture = |fits, values: &[f32]| verdict(fits, false, values);
        assert_eq!(texture(true, &[]), PadVerdict::Inconclusive);
        assert_eq!(texture(true, &[0.9; 4]), PadVerdict::Inconclusive);
        assert_eq!(
            texture(true, &[0.9, 0.9, 0.9, 0.1, 0.1]),
            PadVerdict::BonaFide
        );
        assert_eq!(
            texture(true, &[0.9, 0.9, 0.1, 0.1, 0.1]),
            PadVerdict::AttackSuspected
        );
        assert_eq!(
            texture(true, &[0.9, 0.9, 0.9, 0.1, 0.1, 0.1]),
            PadVerdict::AttackSuspected
        );
        assert_eq!(texture(true, &[0.79; 9]), PadVerdict::AttackSuspected);
        assert_eq!(texture(false, &[0.9; 9]), PadVerdict::Inconclusive);
        assert_eq!(texture(false, &[0.1; 9]), PadVerdict::AttackSuspected);
        assert_eq!(texture(true, &[f32::NAN; 9]), PadVerdict::AttackSuspected);
    }

    #[test]
    fn a_border_outweighs_a_good_texture_but_one_frame_does_not() {
        assert_eq!(verdict(true, true, &[0.99; 9]), PadVerdict::AttackSuspected);
        assert_eq!(verdict(true, true, &[0.99; 2]), PadVerdict::AttackSuspected);
        assert_eq!(verdict(true, true, &[0.99]), PadVerdict::Inconclusive);
        let mut samples = vec![LivenessSample::new(true, false, 0.99); 9];
        samples[0].border_seen = true;
        assert_eq!(assess(&samples).verdict(), PadVerdict::BonaFide);
    }

    #[test]
    fn debug_hides_the_score() {
        let shown = format!("{:?}", LivenessSample::new(true, false, 0.123));
        assert!(!shown.contains("0.123"), "{shown}");
    }
}
