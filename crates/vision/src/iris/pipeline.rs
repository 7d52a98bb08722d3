//! One eye picture to one template.

use std::time::{Duration, Instant};

use sallyport_domain::{Eye, IrisTemplate, ModelDigest, QualityDefect};

use super::geometry::Segmentation;
use super::plane::Grey;
use super::prior::EyePrior;
use super::quality::{IrisQuality, IrisQualityPolicy, measure};
use super::rubber_sheet::{Strip, unroll};
use super::{classical, encode};
use crate::{Frame, VisionError};

/// The longest expected iris radius that is worked on, pixels; larger pictures are scaled down.
const LARGEST_RADIUS: f32 = 150.0;

/// Time spent in each stage of one eye, wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct IrisStageTimes {
    /// The classical segmentation.
    pub classical: Duration,
    /// The segmentation network and the fits to its classes.
    pub network: Duration,
    /// Unrolling.
    pub unroll: Duration,
    /// Quality.
    pub quality: Duration,
}

/// What one eye picture shows.
#[derive(Debug, Clone)]
pub struct EyeObservation {
    /// Which eye.
    pub eye: Eye,
    /// Pupil, iris and lids, in pixels of the frame; none when no eye was found.
    pub segmentation: Option<Segmentation>,
    /// The unrolled iris.
    pub strip: Option<Strip>,
    /// Measures of quality.
    pub quality: IrisQuality,
    /// What speaks against using this picture; empty for a usable one.
    pub defects: Vec<QualityDefect>,
    /// Time spent.
    pub times: IrisStageTimes,
}

/// The models of one worker thread.
#[derive(Debug)]
pub struct IrisPipeline {
    policy: IrisQualityPolicy,
}

impl IrisPipeline {
    /// Without models: the classical path and the reference encoder.
    #[must_use]
    pub fn classical_only(policy: IrisQualityPolicy) -> Self {
        Self { policy }
    }

    /// Finds the iris in a picture of one eye and measures its quality. Bad pictures are defects, not errors.
    ///
    /// # Errors
    /// OpenCV or ONNX Runtime failed.
    pub fn analyse(
        &mut self,
        frame: &Frame,
        prior: &EyePrior,
    ) -> Result<EyeObservation, VisionError> {
        let mut times = IrisStageTimes::default();
        let clock = Instant::now();
        let grey = Grey::of(frame)?;
        let factor = (LARGEST_RADIUS / prior.radius.longest()).min(1.0);
        let grey = if factor < 1.0 {
            grey.resized(
                ((grey.width() as f32 * factor) as i32).max(1),
                ((grey.height() as f32 * factor) as i32).max(1),
                "scaling an eye",
            )?
        } else {
            grey
        };
        let found = classical::segment(&grey, prior.radius.scaled(factor))?;
        times.classical = clock.elapsed();
        let Some(segmentation) = found else {
            return Ok(EyeObservation {
                eye: prior.eye,
                segmentation: None,
                strip: None,
                quality: IrisQuality::default(),
                defects: vec![QualityDefect::NoEye],
                times,
            });
        };
        let clock = Instant::now();
        let strip = unroll(&grey, &segmentation, prior.roll_deg);
        times.unroll = clock.elapsed();
        let clock = Instant::now();
        let quality = measure(&grey, &segmentation, &strip, factor);
        let defects = self.policy.defects(&quality);
        times.quality = clock.elapsed();
        Ok(EyeObservation {
            eye: prior.eye,
            segmentation: Some(segmentation),
            strip: Some(strip),
            quality,
            defects,
            times,
        })
    }

    /// Templates of the observations that have a strip, whatever their defects: for measuring only, never for
    /// enrolment or recognition.
    ///
    /// # Errors
    /// ONNX Runtime failed.
    pub fn encode_ungated(
        &mut self,
        eyes: &[&EyeObservation],
    ) -> Result<Vec<Option<IrisTemplate>>, VisionError> {
        Ok(eyes
            .iter()
            .map(|eye| {
                let strip = eye.strip.as_ref()?;
                let (code, mask) = encode::bits(&encode::responses(strip));
                let dilation = (eye.quality.dilation * 1000.0).clamp(1.0, 999.0) as u16;
                IrisTemplate::new(
                    ModelDigest::from_bytes([0; 32]),
                    eye.eye,
                    eye.quality.score.min(100),
                    dilation,
                    code,
                    mask,
                )
                .ok()
            })
            .collect())
    }

    /// Templates of the observations without defects; none for the others.
    ///
    /// # Errors
    /// ONNX Runtime failed.
    pub fn encode(
        &mut self,
        eyes: &[&EyeObservation],
    ) -> Result<Vec<Option<IrisTemplate>>, VisionError> {
        let templates = self.encode_ungated(eyes)?;
        Ok(eyes
            .iter()
            .zip(templates)
            .map(|(eye, template)| template.filter(|_| eye.defects.is_empty()))
            .collect())
    }
}
