//! The network's outlines and the classical path's circles together.
//!
//! Each is a check on the other: circles too far apart are a reason to capture again, since a wrong circle that nobody
//! notices is what most false non-matches are made of.

use super::geometry::Segmentation;
use super::glints::Prepared;
use super::limbus::{self, Circles};
use super::network::{ClassMap, NetworkFit};
use super::pupil;

/// Pupils further apart than this contradict each other, pixels (biometrics.md I.7).
const PUPIL_APART_PX: f32 = 6.0;
/// The same for the limbus, whose edge is soft and wide: 6 pixels, but at least this share of the iris radius (measured:
/// docs/accuracy-iris.md).
const LIMBUS_APART_PX: f32 = 6.0;
const LIMBUS_APART_SHARE: f32 = 0.08;
/// A limbus counts as clearly better from this ratio of the steps across the edges.
const CLEARLY_BETTER: f32 = 1.25;

/// Whether the classical path's circles contradict the network's; finding none does. A limbus elsewhere does only where the
/// classical path finds it clearly better than the network's: an iris seen from the side is no circle, and then no circle
/// is the right one.
pub(crate) fn contradicted(eye: &Prepared, fit: &NetworkFit, classical: Option<Circles>) -> bool {
    let limbus_apart = LIMBUS_APART_PX.max(LIMBUS_APART_SHARE * fit.limbus.radius);
    classical.is_none_or(|circles| {
        circles.pupil.apart(&fit.pupil) > PUPIL_APART_PX
            || circles.limbus.apart(&fit.limbus) > limbus_apart
                && limbus::worth(eye, &circles.pupil, &circles.limbus)
                    > CLEARLY_BETTER * limbus::worth(eye, &fit.pupil, &fit.limbus)
    })
}

/// The network's outlines with what it sees between them.
pub(crate) fn complete(eye: &Prepared, fit: NetworkFit, map: &ClassMap) -> Segmentation {
    Segmentation {
        pupil: fit.pupil,
        limbus: fit.limbus,
        pupil_step: pupil::edge_step(&eye.fine, &fit.pupil).unwrap_or(0.0),
        limbus_step: limbus::edge_step(&eye.smooth, &fit.limbus).unwrap_or(0.0),
        visible: map.visible(&eye.grey, &fit.pupil_contour, &fit.limbus_contour),
        pupil_contour: fit.pupil_contour,
        limbus_contour: fit.limbus_contour,
        upper_lid: None,
        lower_lid: None,
    }
}
