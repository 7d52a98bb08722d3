//! Presentation attack detection (ISO/IEC 30107-1): explainable votes and what they add up to.

use serde::{Deserialize, Serialize};

/// Which check voted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadKind {
    /// The texture network on the 2.7x face crop, median over the track's frames.
    FaceTexture,
    /// Motion of the face against its surroundings over the track.
    Motion,
    /// Screen or paper border around the face.
    Border,
    /// Halftone or flat spectrum of a printed iris, in near-infrared.
    IrisPrint,
    /// Reflections on the eye that do not move as they do on a wet, round cornea.
    IrisSpecular,
    /// The pupil's response over frames: its unrest, and its answer to light.
    IrisPupilMotion,
    /// Ring statistics of a textured contact lens.
    IrisLens,
    /// A screen, which is black in near-infrared.
    IrisScreen,
}

/// The outcome of one check, or of all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadVerdict {
    /// Nothing speaks against a bona fide presentation.
    BonaFide,
    /// The check could not be made (too few frames, crop outside the frame).
    Inconclusive,
    /// A presentation attack is suspected.
    AttackSuspected,
}

/// One check's vote with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PadVote {
    /// Which check.
    pub kind: PadKind,
    /// How it voted.
    pub verdict: PadVerdict,
    /// Why, in words for the officer; no score.
    pub reason: String,
}

/// All votes of one track.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PadAssessment {
    /// The votes; empty means that nothing was checked.
    pub votes: Vec<PadVote>,
}

impl PadAssessment {
    /// Deny by default: one suspicion outweighs everything, and bona fide needs at least one vote
    /// for it.
    #[must_use]
    pub fn verdict(&self) -> PadVerdict {
        if self
            .votes
            .iter()
            .any(|vote| vote.verdict == PadVerdict::AttackSuspected)
        {
            PadVerdict::AttackSuspected
        } else if self
            .votes
            .iter()
            .any(|vote| vote.verdict == PadVerdict::BonaFide)
        {
            PadVerdict::BonaFide
        } else {
            PadVerdict::Inconclusive
        }
    }
}
