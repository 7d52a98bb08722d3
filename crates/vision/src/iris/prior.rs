//! What is known of an eye before its picture is looked at.

use sallyport_domain::Eye;

/// Iris radius per distance between the eyes' centres: 5.9 mm of 63 mm (biometrics.md I.0).
pub(crate) const RADIUS_PER_EYE_DISTANCE: f32 = 0.093;
/// How far a person may be from that.
const SPREAD: f32 = 0.20;

/// Expected iris radii, pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RadiusRange {
    shortest: f32,
    longest: f32,
}

impl RadiusRange {
    /// Anything that a template can be made of, and what lies just below, so that an iris that is too small is named.
    pub const ANY: Self = Self {
        shortest: 24.0,
        longest: 150.0,
    };

    /// Both ends in pixels; put in order and kept above 4 pixels.
    #[must_use]
    pub fn new(one: f32, other: f32) -> Self {
        let tidy = |value: f32| {
            if value.is_finite() {
                value.max(4.0)
            } else {
                4.0
            }
        };
        let (one, other) = (tidy(one), tidy(other));
        Self {
            shortest: one.min(other),
            longest: one.max(other),
        }
    }

    /// The shortest expected radius, pixels.
    #[must_use]
    pub const fn shortest(self) -> f32 {
        self.shortest
    }

    /// The longest expected radius, pixels.
    #[must_use]
    pub const fn longest(self) -> f32 {
        self.longest
    }

    pub(crate) fn scaled(self, factor: f32) -> Self {
        Self::new(self.shortest * factor, self.longest * factor)
    }
}

/// What is known of an eye before its picture is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EyePrior {
    /// Which eye of the subject.
    pub eye: Eye,
    /// Expected iris radius.
    pub radius: RadiusRange,
    /// The head's roll, degrees, clockwise positive in the picture; the strip is straightened by it.
    pub roll_deg: f32,
}

impl EyePrior {
    /// Nothing but which eye it is.
    #[must_use]
    pub fn unknown(eye: Eye) -> Self {
        Self {
            eye,
            radius: RadiusRange::ANY,
            roll_deg: 0.0,
        }
    }

    /// From a camera whose irises have radii in a known range.
    #[must_use]
    pub fn with_radius(eye: Eye, radius: RadiusRange) -> Self {
        Self {
            eye,
            radius,
            roll_deg: 0.0,
        }
    }

    /// From a face: the distance between the eyes' centres in pixels and the roll of the line between them.
    #[must_use]
    pub fn from_eye_distance(eye: Eye, distance_px: f32, roll_deg: f32) -> Self {
        let radius = RADIUS_PER_EYE_DISTANCE * distance_px;
        Self {
            eye,
            radius: RadiusRange::new(radius * (1.0 - SPREAD), radius * (1.0 + SPREAD)),
            roll_deg,
        }
    }
}
