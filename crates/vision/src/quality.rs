//! Sample quality: measures, named defects, and the policies that turn one into the other.

use opencv::core::{CV_32F, Mat, MatTraitConst, Scalar, no_array};
use opencv::imgproc;
use sallyport_domain::{QualityDefect, QualityReport};

use crate::tensor::grey;
use crate::{BoundingBox, Frame, Landmarks, Pose, VisionError};

const STAGE: &str = "quality";

/// What a sample must reach. Gates take a passing person; enrolment takes the time for a good picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QualityPolicy {
    /// Least distance between the eyes, pixels of the frame. Recognition holds down to about 45 (biometrics.md F.6).
    pub min_eye_distance_px: f32,
    /// Least face probability of the detector. Below 0.95 it was a torso or a profile as often as a face.
    pub min_detection_score: f32,
    /// Least variance of the Laplacian of the aligned grey face. On the fixture pictures sharp faces have 96 to 1986,
    /// and 2 to 37 when blurred by 1.5 pixels of the aligned face.
    pub min_sharpness: f32,
    /// Least sharpness for the face's contrast: variance of the Laplacian over variance of the grey value. Sharp faces
    /// have 0.043 and more, blurred ones 0.021 and less; a blurred pattern of strong contrast passes only the other test.
    pub min_relative_sharpness: f32,
    /// Least and largest mean grey value of the aligned face.
    pub brightness: (f32, f32),
    /// Least standard deviation of the aligned face's grey value.
    pub min_contrast: f32,
    /// Largest yaw to either side, degrees.
    pub max_yaw_deg: f32,
    /// Largest pitch up or down, degrees.
    pub max_pitch_deg: f32,
    /// Largest roll to either side, degrees. Recognition holds up to 35 (biometrics.md F.6).
    pub max_roll_deg: f32,
    /// Least eye aspect ratio. On the fixture pictures open eyes have 0.21 to 0.35, lowered or closed ones 0.17 to 0.18.
    pub min_eye_aspect_ratio: f32,
}

impl QualityPolicy {
    /// For probes at a gate.
    #[must_use]
    pub const fn gate() -> Self {
        Self {
            min_eye_distance_px: 40.0,
            min_detection_score: 0.95,
            min_sharpness: 60.0,
            min_relative_sharpness: 0.03,
            brightness: (45.0, 215.0),
            min_contrast: 18.0,
            max_yaw_deg: 35.0,
            max_pitch_deg: 30.0,
            max_roll_deg: 30.0,
            min_eye_aspect_ratio: 0.19,
        }
    }

    /// For references.
    #[must_use]
    pub const fn enrolment() -> Self {
        Self {
            min_eye_distance_px: 45.0,
            min_detection_score: 0.97,
            min_sharpness: 80.0,
            min_relative_sharpness: 0.035,
            brightness: (55.0, 205.0),
            min_contrast: 22.0,
            max_yaw_deg: 25.0,
            max_pitch_deg: 25.0,
            max_roll_deg: 20.0,
            min_eye_aspect_ratio: 0.20,
        }
    }

    /// The defects of a sample, most telling first; empty for a usable one.
    #[must_use]
    pub fn defects(&self, report: &QualityReport) -> Vec<QualityDefect> {
        let relative_sharpness = report.sharpness / report.contrast.powi(2);
        let outside = |value: f32, least: f32, most: f32| !(least..=most).contains(&value);
        let (dark, bright) = self.brightness;
        let (yaw, pitch, roll) = (self.max_yaw_deg, self.max_pitch_deg, self.max_roll_deg);
        // Each rule asks whether the measure is not within bounds, so that "not a number" is a defect too.
        let rules = [
            (
                outside(report.eye_distance_px, self.min_eye_distance_px, f32::MAX),
                QualityDefect::TooSmall,
            ),
            (
                outside(report.brightness, dark, f32::MAX),
                QualityDefect::TooDark,
            ),
            (
                outside(report.brightness, f32::MIN, bright),
                QualityDefect::TooBright,
            ),
            (
                outside(report.contrast, self.min_contrast, f32::MAX),
                QualityDefect::LowContrast,
            ),
            (
                outside(report.yaw_deg, -yaw, yaw),
                QualityDefect::TurnedAway,
            ),
            (
                outside(report.pitch_deg, -pitch, pitch),
                QualityDefect::Tilted,
            ),
            (outside(report.roll_deg, -roll, roll), QualityDefect::Rolled),
            (
                outside(report.sharpness, self.min_sharpness, f32::MAX)
                    || outside(relative_sharpness, self.min_relative_sharpness, f32::MAX),
                QualityDefect::Blurred,
            ),
            (
                outside(report.eyes_open, self.min_eye_aspect_ratio, f32::MAX),
                QualityDefect::EyesClosed,
            ),
        ];
        rules
            .into_iter()
            .filter(|(broken, _)| *broken)
            .map(|(_, defect)| defect)
            .collect()
    }
}

/// Measures one face. `aligned` is the 112 x 112 face.
pub(crate) fn measure(
    aligned: &Frame,
    landmarks: &Landmarks,
    pose: Pose,
) -> Result<QualityReport, VisionError> {
    let grey = grey(&aligned.pixels, STAGE)?;
    let (brightness, contrast) = mean_and_deviation(&grey)?;
    let mut laplacian = Mat::default();
    imgproc::laplacian(
        &grey,
        &mut laplacian,
        CV_32F,
        1,
        1.0,
        0.0,
        opencv::core::BORDER_REFLECT_101,
    )
    .map_err(VisionError::cv(STAGE))?;
    let (_, edge_deviation) = mean_and_deviation(&laplacian)?;
    let [left_eye, right_eye, ..] = landmarks.five_points();
    let eye_distance_px = left_eye.distance(right_eye);
    let sharpness = edge_deviation * edge_deviation;
    let eyes_open = landmarks.eye_aspect_ratio();
    // Each part is 1 where more no longer helps; the product falls quickly with any weak part.
    let part = |value: f32, enough: f32| (value / enough).clamp(0.0, 1.0);
    let frontal = 1.0 - part(pose.yaw_deg.abs(), 60.0).max(part(pose.pitch_deg.abs(), 60.0));
    let lit = 1.0 - ((brightness - 125.0).abs() / 125.0).clamp(0.0, 1.0).powi(2);
    let score = 100.0
        * part(eye_distance_px, 90.0).sqrt()
        * part(sharpness, 400.0).sqrt()
        * part(contrast, 45.0).sqrt()
        * part(eyes_open, 0.2)
        * frontal
        * lit;
    Ok(QualityReport {
        eye_distance_px,
        sharpness,
        brightness,
        contrast,
        yaw_deg: pose.yaw_deg,
        pitch_deg: pose.pitch_deg,
        roll_deg: pose.roll_deg,
        eyes_open,
        score,
    })
}

/// Is the face cut off by the frame's edge? A tenth of the box may be outside.
pub(crate) fn cut_off(frame: &Frame, face: &BoundingBox) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "frame sides are far below 2^24")]
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    let (slack_x, slack_y) = (face.width() * 0.1, face.height() * 0.1);
    face.left < -slack_x
        || face.top < -slack_y
        || face.right > width + slack_x
        || face.bottom > height + slack_y
}

fn mean_and_deviation(pixels: &Mat) -> Result<(f32, f32), VisionError> {
    let (mut mean, mut deviation) = (Scalar::default(), Scalar::default());
    debug_assert!(pixels.channels() == 1);
    opencv::core::mean_std_dev(pixels, &mut mean, &mut deviation, &no_array())
        .map_err(VisionError::cv(STAGE))?;
    let first = |scalar: Scalar| scalar.0.first().copied().unwrap_or(0.0);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "statistics of 8-bit pixels"
    )]
    let both = (first(mean) as f32, first(deviation) as f32);
    Ok(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_that_is_no_number_is_a_defect() {
        let good = QualityReport {
            eye_distance_px: 90.0,
            sharpness: 300.0,
            brightness: 120.0,
            contrast: 50.0,
            yaw_deg: 0.0,
            pitch_deg: 0.0,
            roll_deg: 0.0,
            eyes_open: 0.3,
            score: 90.0,
        };
        let policy = QualityPolicy::gate();
        assert_eq!(policy.defects(&good), []);
        let bad = f32::NAN;
        for broken in [
            QualityReport {
                eye_distance_px: bad,
                ..good
            },
            QualityReport {
                sharpness: bad,
                ..good
            },
            QualityReport {
                brightness: bad,
                ..good
            },
            QualityReport {
                contrast: bad,
                ..good
            },
            QualityReport {
                yaw_deg: bad,
                ..good
            },
            QualityReport {
                pitch_deg: bad,
                ..good
            },
            QualityReport {
                roll_deg: bad,
                ..good
            },
            QualityReport {
                eyes_open: bad,
                ..good
            },
        ] {
            assert!(!policy.defects(&broken).is_empty(), "{broken:?}");
        }
    }
}
