//! The whole face pipeline over one frame.

use std::path::Path;
use std::time::{Duration, Instant};

use sallyport_domain::{FaceTemplate, ModelDigest, QualityDefect, QualityReport};

use crate::runtime::Model;
use crate::tensor::{Planes, planar};
use crate::{
    BoundingBox, Capture, Frame, Landmarks, LivenessSample, ModelError, ModelManifest, ModelRole,
    Pose, QualityPolicy, Runtime, VisionError, align, detect, landmarks, liveness, pose, quality,
};

/// A second face counts as a person at the gate when its box has at least this share of the largest one's height.
const NEAR_SHARE: f32 = 0.6;

/// One face in a frame.
#[derive(Debug, Clone)]
pub struct FaceObservation {
    /// Where.
    pub face: BoundingBox,
    /// 68 landmarks.
    pub landmarks: Landmarks,
    /// Head pose.
    pub pose: Pose,
    /// Measures of quality.
    pub quality: QualityReport,
    /// What speaks against using this sample; empty for a usable one.
    pub defects: Vec<QualityDefect>,
}

/// What one frame shows.
#[derive(Debug, Clone, Default)]
pub struct FrameAnalysis {
    /// Faces, largest first.
    pub faces: Vec<FaceObservation>,
    /// People near enough to be the one at the gate.
    pub people_in_view: u8,
    /// Time spent, by stage.
    pub times: StageTimes,
}

/// Time spent in each stage of one frame, wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageTimes {
    /// Detection.
    pub detect: Duration,
    /// Landmarks of all near faces.
    pub landmarks: Duration,
    /// Pose of all near faces.
    pub pose: Duration,
    /// Alignment and quality of all near faces.
    pub quality: Duration,
}

/// The models of one worker thread. Not shared: an inference session is owned by one thread.
pub struct FacePipeline {
    detection: Model,
    landmarks: Model,
    pose: Model,
    liveness: Model,
    recognition: Model,
    model_digest: ModelDigest,
    /// The recognition model that comes next, while models change.
    successor: Option<(Model, ModelDigest)>,
    policy: QualityPolicy,
}

impl std::fmt::Debug for FacePipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FacePipeline({})", self.model_digest)
    }
}

impl FacePipeline {
    /// Loads and verifies all models.
    ///
    /// # Errors
    /// A model is missing, changed, or not accepted; nothing is used instead.
    pub fn new(
        runtime: &Runtime,
        manifest: &ModelManifest,
        models: &Path,
        policy: QualityPolicy,
    ) -> Result<Self, ModelError> {
        let load = |role| -> Result<Model, ModelError> {
            let entry = manifest.entry(role)?;
            runtime.session(&manifest.path(entry, models), &entry.sha256)
        };
        let recognition = manifest.entry(ModelRole::Recognition)?;
        Ok(Self {
            detection: load(ModelRole::Detection)?,
            landmarks: load(ModelRole::Landmarks)?,
            pose: load(ModelRole::Pose)?,
            liveness: load(ModelRole::Liveness)?,
            recognition: load(ModelRole::Recognition)?,
            model_digest: recognition
                .sha256
                .parse()
                .map_err(|_| ModelError::WrongHash {
                    path: recognition.file.clone(),
                    expected: recognition.sha256.clone(),
                })?,
            successor: None,
            policy,
        })
    }

    /// Loads the recognition model of another manifest beside the own one, for a change of models. Where both manifests name the same
    /// file there is nothing to load.
    ///
    /// # Errors
    /// The model is missing, changed, or not accepted.
    pub fn with_successor(
        mut self,
        runtime: &Runtime,
        manifest: &ModelManifest,
        models: &Path,
    ) -> Result<Self, ModelError> {
        let entry = manifest.entry(ModelRole::Recognition)?;
        let path = manifest.path(entry, models);
        let digest: ModelDigest = entry.sha256.parse().map_err(|_| ModelError::WrongHash {
            path: path.clone(),
            expected: entry.sha256.clone(),
        })?;
        if digest != self.model_digest {
            self.successor = Some((runtime.session(&path, &entry.sha256)?, digest));
        }
        Ok(self)
    }

    /// SHA-256 of the recognition model that comes next, while models change.
    #[must_use]
    pub fn successor_digest(&self) -> Option<ModelDigest> {
        self.successor.as_ref().map(|(_, digest)| *digest)
    }

    /// SHA-256 of the recognition model; stands on every template.
    #[must_use]
    pub fn model_digest(&self) -> ModelDigest {
        self.model_digest
    }

    /// Finds faces and measures the quality of those near enough to matter.
    ///
    /// # Errors
    /// OpenCV or ONNX Runtime failed.
    pub fn analyse(&mut self, frame: &Frame) -> Result<FrameAnalysis, VisionError> {
        let mut times = StageTimes::default();
        let clock = Instant::now();
        let boxes = detect::detect(&mut self.detection, frame)?;
        times.detect = clock.elapsed();
        let largest = boxes.first().map_or(0.0, BoundingBox::height);
        let near: Vec<_> = boxes
            .into_iter()
            .filter(|face| face.height() >= largest * NEAR_SHARE)
            .take(8)
            .collect();
        let mut faces = Vec::with_capacity(near.len());
        for face in near {
            let clock = Instant::now();
            let landmarks = landmarks::landmarks(&mut self.landmarks, frame, &face)?;
            times.landmarks += clock.elapsed();
            let clock = Instant::now();
            let pose = pose::pose(&mut self.pose, frame, &face)?;
            times.pose += clock.elapsed();
            let clock = Instant::now();
            let aligned = align::aligned_face(frame, &landmarks.five_points())?;
            let quality = quality::measure(&aligned, &landmarks, pose)?;
            times.quality += clock.elapsed();
            let mut defects = Vec::new();
            if !landmarks.plausible() || face.score < self.policy.min_detection_score {
                defects.push(QualityDefect::Implausible);
            }
            if quality::cut_off(frame, &face) {
                defects.push(QualityDefect::TooClose);
            }
            defects.extend(self.policy.defects(&quality));
            faces.push(FaceObservation {
                face,
                landmarks,
                pose,
                quality,
                defects,
            });
        }
        let people_in_view = u8::try_from(faces.len()).unwrap_or(u8::MAX);
        Ok(FrameAnalysis {
            faces,
            people_in_view,
            times,
        })
    }

    /// The template of one face.
    ///
    /// # Errors
    /// OpenCV or ONNX Runtime failed, or the output is no template.
    pub fn embed(
        &mut self,
        frame: &Frame,
        face: &FaceObservation,
    ) -> Result<FaceTemplate, VisionError> {
        let aligned = align::aligned_face(frame, &face.landmarks.five_points())?;
        self.embed_aligned(&aligned)
    }

    /// The face of a sample as the recognition models take it, 112 x 112 pixels.
    pub(crate) fn aligned(frame: &Frame, face: &FaceObservation) -> Result<Frame, VisionError> {
        align::aligned_face(frame, &face.landmarks.five_points())
    }

    /// The template that the next model makes of a capture's samples; `None` without such a model.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn embed_by_successor(
        &mut self,
        capture: &Capture,
    ) -> Result<Option<FaceTemplate>, VisionError> {
        let Some((model, _)) = &mut self.successor else {
            return Ok(None);
        };
        let mut templates = Vec::with_capacity(capture.aligned.len());
        for aligned in &capture.aligned {
            templates.push(recognise(model, aligned)?);
        }
        if templates.is_empty() {
            return Ok(None);
        }
        FaceTemplate::fuse(&templates)
            .map(Some)
            .map_err(VisionError::Template)
    }

    /// The mean template of a face and its mirror image: for enrolment, where it buys accuracy (biometrics.md F.6).
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn embed_for_enrolment(
        &mut self,
        frame: &Frame,
        face: &FaceObservation,
    ) -> Result<FaceTemplate, VisionError> {
        with_mirror_image(&mut self.recognition, frame, face)
    }

    /// The same by the next model; `None` without such a model.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn embed_for_enrolment_by_successor(
        &mut self,
        frame: &Frame,
        face: &FaceObservation,
    ) -> Result<Option<FaceTemplate>, VisionError> {
        self.successor
            .as_mut()
            .map(|(model, _)| with_mirror_image(model, frame, face))
            .transpose()
    }

    pub(crate) fn embed_aligned(&mut self, aligned: &Frame) -> Result<FaceTemplate, VisionError> {
        recognise(&mut self.recognition, aligned)
    }

    /// The texture network's answer for one face of one frame.
    ///
    /// # Errors
    /// OpenCV or ONNX Runtime failed.
    pub fn liveness(
        &mut self,
        frame: &Frame,
        face: &FaceObservation,
    ) -> Result<LivenessSample, VisionError> {
        liveness::liveness(&mut self.liveness, frame, &face.face)
    }
}

fn with_mirror_image(
    model: &mut Model,
    frame: &Frame,
    face: &FaceObservation,
) -> Result<FaceTemplate, VisionError> {
    let aligned = align::aligned_face(frame, &face.landmarks.five_points())?;
    let mut mirrored = opencv::core::Mat::default();
    opencv::core::flip(&aligned.pixels, &mut mirrored, 1).map_err(VisionError::cv("mirroring"))?;
    let mirrored = Frame::from_mat(&frame.camera, frame.captured_at, mirrored);
    let both = [recognise(model, &aligned)?, recognise(model, &mirrored)?];
    FaceTemplate::fuse(&both).map_err(VisionError::Template)
}

/// Both models take the same input and have the same output (biometrics.md F.2).
fn recognise(model: &mut Model, aligned: &Frame) -> Result<FaceTemplate, VisionError> {
    const STAGE: &str = "recognition";
    let input = planar(
        &aligned.pixels,
        Planes::Bgr,
        [127.0; 3],
        [1.0 / 128.0; 3],
        STAGE,
    )?;
    let [output] = model.run(STAGE, [1, 3, 112, 112], &input, ["output"])?;
    FaceTemplate::normalise(output).map_err(VisionError::Template)
}
