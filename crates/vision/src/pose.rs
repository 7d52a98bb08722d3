//! Head pose in degrees (biometrics.md F.5).

use crate::landmarks::square;
use crate::runtime::Model;
use crate::tensor::{Planes, planar, softmax, square_crop};
use crate::{BoundingBox, Frame, VisionError};

const STAGE: &str = "pose";

/// Head pose. Yaw is positive with the nose towards the picture's left, roll is positive clockwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Turned sideways, degrees.
    pub yaw_deg: f32,
    /// Raised or lowered, degrees.
    pub pitch_deg: f32,
    /// Leaning to a shoulder, degrees.
    pub roll_deg: f32,
}

pub(crate) fn pose(
    model: &mut Model,
    frame: &Frame,
    face: &BoundingBox,
) -> Result<Pose, VisionError> {
    let (left, top, side) = square(face);
    let crop = square_crop(
        &frame.pixels,
        left - side * 0.25,
        top - side * 0.25,
        side * 1.5,
        224,
        STAGE,
    )?;
    let input = planar(
        &crop,
        Planes::Rgb,
        [0.485 * 255.0, 0.456 * 255.0, 0.406 * 255.0],
        [
            1.0 / (0.229 * 255.0),
            1.0 / (0.224 * 255.0),
            1.0 / (0.225 * 255.0),
        ],
        STAGE,
    )?;
    let [yaw, pitch, roll] =
        model.run(STAGE, [1, 3, 224, 224], &input, ["output", "617", "618"])?;
    Ok(Pose {
        yaw_deg: angle(&yaw)?,
        pitch_deg: angle(&pitch)?,
        roll_deg: angle(&roll)?,
    })
}

fn angle(logits: &[f32]) -> Result<f32, VisionError> {
    if logits.len() != 66 {
        return Err(VisionError::Contract { stage: STAGE });
    }
    #[expect(clippy::cast_precision_loss, reason = "66 bins")]
    let mean: f32 = softmax(logits)
        .iter()
        .enumerate()
        .map(|(bin, share)| bin as f32 * share)
        .sum();
    Ok(mean * 3.0 - 99.0)
}
