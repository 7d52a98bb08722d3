//! One eye picture to one template.

use std::path::Path;
use std::time::{Duration, Instant};

use sallyport_domain::{Eye, IrisTemplate, ModelDigest, QualityDefect};

use super::attack::{self, IrisAttackSample};
use super::encode::Encoder;
use super::geometry::Segmentation;
use super::glints::prepare;
use super::network::{ClassMap, NetworkFit, SegmentationNetwork, Window};
use super::outliers::without_outliers;
use super::plane::Grey;
use super::prior::EyePrior;
use super::quality::{self, IrisQuality, IrisQualityPolicy, measure};
use super::rubber_sheet::{Strip, unroll};
use super::{classical, combine};
use crate::{Frame, ModelError, ModelManifest, Runtime, VisionError};

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
    /// Signs of an attack.
    pub attack: Duration,
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
    /// What the picture says about an attack; for [`assess_iris`](crate::assess_iris) over several pictures.
    pub attack: Option<IrisAttackSample>,
    /// Time spent.
    pub times: IrisStageTimes,
}

/// Which segmentation is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IrisSegmenter {
    /// The classical path alone: for measuring.
    Classical,
    /// The network alone: for measuring.
    Network,
    /// The network, with the classical path's search of the whole picture as a check.
    Both,
    /// The network, with the classical path's search around the network's circles as a check. Where the network sees
    /// no eye, the classical path alone, which is never enough for a template.
    #[default]
    Checked,
}

/// The models of one worker thread. Not shared: an inference session is owned by one thread.
pub struct IrisPipeline {
    encoder: Encoder,
    /// The encoder that comes next, while models change.
    successor: Option<Encoder>,
    network: SegmentationNetwork,
    segmenter: IrisSegmenter,
    policy: IrisQualityPolicy,
}

impl std::fmt::Debug for IrisPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IrisPipeline({})", self.encoder.digest())
    }
}

impl IrisPipeline {
    /// Loads and verifies the iris models; `models` is the folder of the fetched ones, as for the face.
    ///
    /// # Errors
    /// A model is missing, changed, or not accepted; nothing is used instead.
    pub fn new(
        runtime: &Runtime,
        manifest: &ModelManifest,
        models: &Path,
        policy: IrisQualityPolicy,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            encoder: Encoder::new(runtime, manifest, models)?,
            successor: None,
            network: SegmentationNetwork::new(runtime, manifest, models)?,
            segmenter: IrisSegmenter::default(),
            policy,
        })
    }

    /// Loads the encoder of another manifest beside the own one, for a change of models. The outlines stay this pipeline's. Where both
    /// manifests name the same file there is nothing to load.
    ///
    /// # Errors
    /// The model is missing, changed, or not accepted.
    pub fn with_successor(
        mut self,
        runtime: &Runtime,
        manifest: &ModelManifest,
        models: &Path,
    ) -> Result<Self, ModelError> {
        let next = Encoder::new(runtime, manifest, models)?;
        if next.digest() != self.encoder.digest() {
            self.successor = Some(next);
        }
        Ok(self)
    }

    /// SHA-256 of the encoder that comes next, while models change.
    #[must_use]
    pub fn successor_digest(&self) -> Option<ModelDigest> {
        self.successor.as_ref().map(Encoder::digest)
    }

    /// As [`Self::encode`] by the next encoder; none without such an encoder.
    ///
    /// # Errors
    /// ONNX Runtime failed.
    pub fn encode_by_successor(
        &mut self,
        eyes: &[&EyeObservation],
    ) -> Result<Vec<Option<IrisTemplate>>, VisionError> {
        let Some(encoder) = &mut self.successor else {
            return Ok(vec![None; eyes.len()]);
        };
        let templates = encoder.templates(eyes)?;
        Ok(without_defects(eyes, templates))
    }

    /// With one segmentation only: for measuring, since nothing then notices a wrong circle.
    #[must_use]
    pub fn with_segmenter(mut self, segmenter: IrisSegmenter) -> Self {
        self.segmenter = segmenter;
        self
    }

    /// SHA-256 of the encoder; stands on every template.
    #[must_use]
    pub fn encoder_digest(&self) -> ModelDigest {
        self.encoder.digest()
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
        let nothing = |defect, times| EyeObservation {
            eye: prior.eye,
            segmentation: None,
            strip: None,
            quality: IrisQuality::default(),
            defects: vec![defect],
            attack: None,
            times,
        };
        if quality::shows_colours(frame)? {
            return Ok(nothing(QualityDefect::NotInfrared, times));
        }
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
        let (found, disagree) = self.segment(&grey, prior, factor, &mut times)?;
        let Some(segmentation) = found else {
            return Ok(nothing(QualityDefect::NoEye, times));
        };
        let clock = Instant::now();
        let strip = unroll(&grey, &segmentation, prior.roll_deg);
        times.unroll = clock.elapsed();
        let clock = Instant::now();
        let quality = measure(&grey, &segmentation, &strip, factor);
        let mut defects = self.policy.defects(&quality);
        if quality::cut_off(&grey, &segmentation.limbus) {
            defects.push(QualityDefect::EyeCutOff);
        }
        if disagree {
            defects.push(QualityDefect::SegmentersDisagree);
        }
        times.quality = clock.elapsed();
        let clock = Instant::now();
        let attack = attack::sample(frame.captured_at, &grey, &segmentation, &strip)?;
        times.attack = clock.elapsed();
        // Quality and attack measures see what the segmentation calls iris; the template sees less.
        let clock = Instant::now();
        let strip = without_outliers(&strip);
        times.unroll += clock.elapsed();
        let segmentation = if factor < 1.0 {
            segmentation.scaled(
                1.0 / factor,
                usize::try_from(frame.width()).unwrap_or(0),
                usize::try_from(frame.height()).unwrap_or(0),
            )?
        } else {
            segmentation
        };
        Ok(EyeObservation {
            eye: prior.eye,
            segmentation: Some(segmentation),
            strip: Some(strip),
            quality,
            defects,
            attack: Some(attack),
            times,
        })
    }

    /// The segmentation, and whether network and classical path contradict each other.
    fn segment(
        &mut self,
        grey: &Grey,
        prior: &EyePrior,
        factor: f32,
        times: &mut IrisStageTimes,
    ) -> Result<(Option<Segmentation>, bool), VisionError> {
        let range = prior.radius.scaled(factor);
        let clock = Instant::now();
        let eye = prepare(grey.clone())?;
        times.classical = clock.elapsed();
        let fitted = match self.segmenter {
            IrisSegmenter::Classical => None,
            IrisSegmenter::Checked | IrisSegmenter::Both | IrisSegmenter::Network => {
                let clock = Instant::now();
                let fitted = self.fit(grey)?;
                times.network = clock.elapsed();
                fitted
            }
        };
        let clock = Instant::now();
        let found = match (fitted, self.segmenter) {
            (Some((fit, map)), segmenter) => {
                let contradicted = match segmenter {
                    IrisSegmenter::Checked => combine::contradicted(
                        &eye,
                        &fit,
                        classical::circles_near(&eye, fit.pupil, &fit.limbus, range),
                    ),
                    IrisSegmenter::Both => {
                        combine::contradicted(&eye, &fit, classical::circles(&eye, range)?)
                    }
                    IrisSegmenter::Network | IrisSegmenter::Classical => false,
                };
                (Some(combine::complete(&eye, fit, &map)), contradicted)
            }
            (None, IrisSegmenter::Network) => (None, false),
            (None, segmenter) => {
                let found = classical::circles(&eye, range)?
                    .map(|circles| classical::complete(&eye, circles))
                    .transpose()?;
                // Where the network sees no eye, what the classical path finds is a guess.
                (found, segmenter != IrisSegmenter::Classical)
            }
        };
        times.classical += clock.elapsed();
        Ok(found)
    }

    /// The network's outlines; looks again from nearer by where the iris is small.
    fn fit(&mut self, grey: &Grey) -> Result<Option<(NetworkFit, ClassMap)>, VisionError> {
        let whole = Window::whole(grey);
        let map = self.network.classes(grey, whole)?;
        let Some(fit) = map.fit()? else {
            return Ok(None);
        };
        let Some(closer) = whole.closer(&fit.limbus) else {
            return Ok(Some((fit, map)));
        };
        let map = self.network.classes(grey, closer)?;
        Ok(map.fit()?.map(|fit| (fit, map)))
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
        self.encoder.templates(eyes)
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
        Ok(without_defects(eyes, templates))
    }
}

fn without_defects(
    eyes: &[&EyeObservation],
    templates: Vec<Option<IrisTemplate>>,
) -> Vec<Option<IrisTemplate>> {
    eyes.iter()
        .zip(templates)
        .map(|(eye, template)| template.filter(|_| eye.defects.is_empty()))
        .collect()
}
