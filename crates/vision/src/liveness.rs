//! The presentation attack vote of the texture network (biometrics.md F.4 and F.7).
//!
//! One vote among others, never a certification: much of what it sees is the border of a print or screen.

use sallyport_domain::{PadAssessment, PadKind, PadVerdict, PadVote};

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

/// The network's answer for one frame. `Debug` hides the score.
#[derive(Clone, Copy, PartialEq)]
pub struct LivenessSample {
    /// Whether the whole enlarged crop lay inside the frame.
    pub crop_fits: bool,
    pub(crate) live: f32,
}

impl std::fmt::Debug for LivenessSample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "LivenessSample {{ crop_fits: {}, live: [hidden] }}",
            self.crop_fits
        )
    }
}

impl LivenessSample {
    /// For tests and evaluation.
    #[must_use]
    pub fn new(crop_fits: bool, live: f32) -> Self {
        Self { crop_fits, live }
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
    // A tenth of the crop may reach over the edge: the network still sees the surroundings on all sides.
    let slack = wanted * 0.2;
    let crop_fits = limit >= CROP_SCALE * 0.9
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
    Ok(LivenessSample { crop_fits, live })
}

/// What the samples of one track add up to: the median over at least [`MIN_FRAMES`] frames.
#[must_use]
pub fn assess(samples: &[LivenessSample]) -> PadAssessment {
    let vote = |verdict, reason: &str| PadAssessment {
        votes: vec![PadVote {
            kind: PadKind::FaceTexture,
            verdict,
            reason: reason.to_owned(),
        }],
    };
    if samples.len() < MIN_FRAMES {
        return vote(
            PadVerdict::Inconclusive,
            "too few frames for the texture check",
        );
    }
    let median = |values: &mut Vec<f32>| {
        values.sort_by(f32::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let mut fitting: Vec<f32> = samples
        .iter()
        .filter(|sample| sample.crop_fits)
        .map(|sample| sample.live)
        .collect();
    if fitting.len() < MIN_FRAMES {
        // Seen only in part, a good picture cannot vouch for itself, but a bad one can still give itself away.
        let mut all: Vec<f32> = samples.iter().map(|sample| sample.live).collect();
        return if median(&mut all) < 1.0 - BONA_FIDE_FROM {
            vote(
                PadVerdict::AttackSuspected,
                "the texture around the face looks like a print or a screen",
            )
        } else {
            vote(
                PadVerdict::Inconclusive,
                "the surroundings of the face were not in the picture",
            )
        };
    }
    if median(&mut fitting) >= BONA_FIDE_FROM {
        vote(
            PadVerdict::BonaFide,
            "the texture around the face looks like a person",
        )
    } else {
        vote(
            PadVerdict::AttackSuspected,
            "the texture around the face looks like a print or a screen",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vote_needs_enough_whole_frames_and_takes_the_median() {
        let samples = |fits: bool, values: &[f32]| -> PadVerdict {
            assess(
                &values
                    .iter()
                    .map(|v| LivenessSample::new(fits, *v))
                    .collect::<Vec<_>>(),
            )
            .verdict()
        };
        assert_eq!(samples(true, &[0.9; 4]), PadVerdict::Inconclusive);
        assert_eq!(
            samples(true, &[0.9, 0.9, 0.9, 0.1, 0.1]),
            PadVerdict::BonaFide
        );
        assert_eq!(
            samples(true, &[0.9, 0.9, 0.1, 0.1, 0.1]),
            PadVerdict::AttackSuspected
        );
        assert_eq!(samples(true, &[0.79; 9]), PadVerdict::AttackSuspected);
        assert_eq!(samples(false, &[0.9; 9]), PadVerdict::Inconclusive);
        assert_eq!(samples(false, &[0.1; 9]), PadVerdict::AttackSuspected);
        assert_eq!(samples(true, &[f32::NAN; 9]), PadVerdict::AttackSuspected);
    }
}
