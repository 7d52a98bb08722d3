//! The classical segmentation, steps 1 to 7 (biometrics.md I.2), as one function.

use super::geometry::{Circle, Segmentation};
use super::glints::Prepared;
use super::prior::RadiusRange;
use super::{contours, lids, limbus, occlusion, pupil};
use crate::VisionError;

/// Iris radii that are asked for around a known one, in shares of it.
const NEAR: (f32, f32) = (0.75, 1.33);

/// Pupil and limbus; `None` when nothing looks like an eye.
pub(crate) fn circles(
    eye: &Prepared,
    range: RadiusRange,
) -> Result<Option<limbus::Circles>, VisionError> {
    let candidates = pupil::candidates(eye, range, pupil::KEPT)?;
    Ok(limbus::best_circles(eye, &candidates, range))
}

/// What the same steps find around circles that are roughly known: a check at a fraction of the search's cost.
pub(crate) fn circles_near(
    eye: &Prepared,
    pupil: Circle,
    limbus: &Circle,
    range: RadiusRange,
) -> Option<limbus::Circles> {
    let pupil = pupil::near(eye, pupil, range)?;
    let around = RadiusRange::new(
        range.shortest().max(NEAR.0 * limbus.radius),
        range.longest().min(NEAR.1 * limbus.radius),
    );
    limbus::around(eye, &pupil, around)
}

/// Outlines, lids and mask around circles that are known.
pub(crate) fn complete(
    eye: &Prepared,
    circles: limbus::Circles,
) -> Result<Segmentation, VisionError> {
    let pupil_contour = contours::pupil_contour(&eye.fine, &circles.pupil);
    let limbus_contour = contours::limbus_contour(&eye.smooth, &circles.limbus);
    let pupil = pupil_contour.as_circle();
    let limbus = limbus_contour.as_circle();
    let tone = lids::iris_tone(&eye.fine, &pupil, &limbus);
    let [upper_lid, lower_lid] = lids::lid_lines(eye, &pupil, &limbus, tone)?;
    let visible = occlusion::visible_iris(
        eye,
        &occlusion::Bounds {
            pupil: &pupil,
            limbus: &limbus,
            pupil_contour: &pupil_contour,
            limbus_contour: &limbus_contour,
            upper_lid,
            lower_lid,
        },
        tone,
    )?;
    Ok(Segmentation {
        pupil,
        limbus,
        pupil_contour,
        limbus_contour,
        upper_lid,
        lower_lid,
        pupil_step: circles.pupil_step,
        limbus_step: circles.limbus_step,
        visible,
    })
}
