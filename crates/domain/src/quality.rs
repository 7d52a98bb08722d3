//! Quality of a captured sample (ISO/IEC 29794): named defects, each with a cue for the person.

use serde::{Deserialize, Serialize};

/// Why a sample cannot be used. Each has a sentence that the gate shows to the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityDefect {
    /// No face found.
    NoFace,
    /// More than one face is near enough to be the one at the gate.
    SeveralFaces,
    /// The face is too small.
    TooSmall,
    /// The face is too large or cut off by the frame's edge.
    TooClose,
    /// The sample is blurred.
    Blurred,
    /// Too dark.
    TooDark,
    /// Too bright or burnt out.
    TooBright,
    /// Too little contrast between face and light.
    LowContrast,
    /// The head is turned sideways.
    TurnedAway,
    /// The head is raised or lowered.
    Tilted,
    /// The head leans to a shoulder.
    Rolled,
    /// The eyes are closed or covered.
    EyesClosed,
    /// Landmarks do not look like a face.
    Implausible,
    /// No eye found in the near-infrared picture.
    NoEye,
    /// The eye is cut off by the picture's edge.
    EyeCutOff,
    /// A near-infrared picture was expected, and this one shows colours.
    NotInfrared,
    /// The iris is too small in the picture.
    IrisTooSmall,
    /// Lids, lashes or reflections hide too much of the iris.
    IrisOccluded,
    /// The pupil leaves too little of the iris.
    PupilTooWide,
    /// The pupil is too narrow.
    PupilTooNarrow,
    /// The eye looks elsewhere.
    GazeAverted,
    /// The iris is blurred.
    IrisBlurred,
    /// Too much of the iris is burnt out.
    IrisSaturated,
    /// The two ways of finding the iris found different circles.
    SegmentersDisagree,
    /// The edge of pupil or iris is not clear enough.
    UnsteadyBoundary,
    /// The other eye than the one that was asked for.
    WrongEye,
}

impl QualityDefect {
    /// What the person at the gate should do, in plain words.
    #[must_use]
    pub const fn cue(self) -> &'static str {
        match self {
            Self::NoFace => "Please stand in front of the camera.",
            Self::SeveralFaces => "One person at a time, please.",
            Self::TooSmall => "Please come closer.",
            Self::TooClose => "Please step back a little.",
            Self::Blurred => "Please hold still for a moment.",
            Self::TooDark => "It is too dark. Please step into the light.",
            Self::TooBright => "It is too bright. Please turn away from the strong light.",
            Self::LowContrast => "Please face the light.",
            Self::TurnedAway => "Please look straight at the camera.",
            Self::Tilted => "Please hold your head level.",
            Self::Rolled => "Please hold your head upright.",
            Self::EyesClosed => "Please open your eyes and take off dark glasses.",
            Self::Implausible => "Please uncover your face.",
            Self::NoEye => "Please look into the iris camera.",
            Self::EyeCutOff => "Please look straight into the iris camera.",
            Self::NotInfrared => "The iris camera shows a colour picture. Please call an officer.",
            Self::IrisTooSmall => "Please come closer to the iris camera.",
            Self::IrisOccluded => "Please open your eyes wide and take off your glasses.",
            Self::PupilTooWide => "Please look into the light for a moment.",
            Self::PupilTooNarrow => "Please turn away from the strong light for a moment.",
            Self::GazeAverted => "Please look straight into the iris camera.",
            Self::IrisBlurred => "Please hold your head still and look into the iris camera.",
            Self::IrisSaturated => "Please move your head a little away from the light.",
            Self::SegmentersDisagree => "Please look into the iris camera once more.",
            Self::UnsteadyBoundary => "Please look into the iris camera once more.",
            Self::WrongEye => "Please show the other eye.",
        }
    }

    /// The stable name used in logs, reports and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoFace => "no_face",
            Self::SeveralFaces => "several_faces",
            Self::TooSmall => "too_small",
            Self::TooClose => "too_close",
            Self::Blurred => "blurred",
            Self::TooDark => "too_dark",
            Self::TooBright => "too_bright",
            Self::LowContrast => "low_contrast",
            Self::TurnedAway => "turned_away",
            Self::Tilted => "tilted",
            Self::Rolled => "rolled",
            Self::EyesClosed => "eyes_closed",
            Self::Implausible => "implausible",
            Self::NoEye => "no_eye",
            Self::EyeCutOff => "eye_cut_off",
            Self::NotInfrared => "not_infrared",
            Self::IrisTooSmall => "iris_too_small",
            Self::IrisOccluded => "iris_occluded",
            Self::PupilTooWide => "pupil_too_wide",
            Self::PupilTooNarrow => "pupil_too_narrow",
            Self::GazeAverted => "gaze_averted",
            Self::IrisBlurred => "iris_blurred",
            Self::IrisSaturated => "iris_saturated",
            Self::SegmentersDisagree => "segmenters_disagree",
            Self::UnsteadyBoundary => "unsteady_boundary",
            Self::WrongEye => "wrong_eye",
        }
    }
}

/// What quality assessment measured on a usable sample. Units are stated per field.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QualityReport {
    /// Distance between the eye centres, in pixels of the frame.
    pub eye_distance_px: f32,
    /// Variance of the Laplacian on the aligned 112 x 112 grey face. Larger is sharper.
    pub sharpness: f32,
    /// Mean grey value of the aligned face, 0 to 255.
    pub brightness: f32,
    /// Standard deviation of the grey value of the aligned face.
    pub contrast: f32,
    /// Yaw in degrees; positive when the nose points to the image's left.
    pub yaw_deg: f32,
    /// Pitch in degrees.
    pub pitch_deg: f32,
    /// Roll in degrees, clockwise positive.
    pub roll_deg: f32,
    /// How open the less open eye is, 0 to 1.
    pub eyes_open: f32,
    /// Combined quality score, 0 (unusable) to 100, for choosing a track's best samples.
    pub score: f32,
}
