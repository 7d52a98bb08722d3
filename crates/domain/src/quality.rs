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
