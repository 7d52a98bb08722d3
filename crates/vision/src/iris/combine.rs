//! The classical segmentation and the network's together.
//!
//! Each is a check on the other: circles more than 6 pixels apart are a reason to capture again, since a wrong circle
//! that nobody notices is what most false non-matches are made of.

use super::classical;
use super::geometry::Segmentation;
use super::glints::Prepared;
use super::limbus::{self, Circles};
use super::network::{ClassMap, NetworkFit};
use super::prior::RadiusRange;
use super::pupil;
use crate::VisionError;

/// Outlines further apart than this contradict each other, pixels.
const DISAGREEMENT_PX: f32 = 6.0;

/// The segmentation to use, and whether the two contradict each other.
pub(crate) fn combine(
    eye: &Prepared,
    range: RadiusRange,
    classical: Option<Circles>,
    fit: Option<NetworkFit>,
    map: &ClassMap,
    only_network: bool,
) -> Result<(Option<Segmentation>, bool), VisionError> {
    let _ = range;
    let Some(fit) = fit else {
        if only_network {
            return Ok((None, false));
        }
        let found = classical
            .map(|circles| classical::complete(eye, circles))
            .transpose()?;
        return Ok((found, true));
    };
    let disagree = !only_network
        && classical.is_none_or(|circles| {
            circles.pupil.apart(&fit.pupil) > DISAGREEMENT_PX
                || circles.limbus.apart(&fit.limbus) > DISAGREEMENT_PX
        });
    let visible = map.visible(&eye.grey, &fit.pupil_contour, &fit.limbus_contour);
    Ok((
        Some(Segmentation {
            pupil: fit.pupil,
            limbus: fit.limbus,
            pupil_step: pupil::edge_step(&eye.fine, &fit.pupil).unwrap_or(0.0),
            limbus_step: limbus::edge_step(&eye.smooth, &fit.limbus).unwrap_or(0.0),
            pupil_contour: fit.pupil_contour,
            limbus_contour: fit.limbus_contour,
            upper_lid: None,
            lower_lid: None,
            visible,
        }),
        disagree,
    ))
}
