//! The best of several pictures of one eye.

use super::pipeline::EyeObservation;

/// At most this many pictures of one eye are asked for before giving up.
pub const BURST_FRAMES: usize = 5;

/// Which picture to use: the one of the best score among those without defects. `None` when all have defects; then the
/// defects of the best of them say what the person should change.
#[must_use]
pub fn best_of_burst(eyes: &[EyeObservation]) -> Option<usize> {
    eyes.iter()
        .enumerate()
        .take(BURST_FRAMES)
        .filter(|(_, eye)| eye.defects.is_empty() && eye.strip.is_some())
        .max_by_key(|(_, eye)| eye.quality.score)
        .map(|(at, _)| at)
}

/// The picture with the fewest defects, for its cues.
#[must_use]
pub fn least_defective(eyes: &[EyeObservation]) -> Option<usize> {
    eyes.iter()
        .enumerate()
        .min_by_key(|(_, eye)| (eye.defects.len(), std::cmp::Reverse(eye.quality.score)))
        .map(|(at, _)| at)
}
