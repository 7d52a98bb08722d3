//! Camera frame to face template.
//!
//! The only member that knows OpenCV and ONNX Runtime. Each stage is one file with one function or type; the contracts
//! of the models are those of `biometrics.md` F.1 to F.5. Nothing here talks to the network or decides about access.

mod align;
mod annotate;
mod border;
mod detect;
mod frame;
mod iris;
mod iris_record;
mod landmarks;
mod liveness;
mod manifest;
mod pipeline;
mod pose;
mod quality;
mod runtime;
mod scene;
mod tensor;
mod track;
mod video;

pub use align::{ALIGNED_SIDE_PX, aligned_face};
pub use annotate::annotate;
pub use border::border_around;
pub use detect::{BoundingBox, intersection_over_union};
pub use frame::{DecodeError, Frame, MAX_FILE_BYTES, MAX_PIXELS};
pub use iris::{
    BURST_FRAMES, Circle, Contour, EyeObservation, EyePrior, EyeRegion, IrisAttackSample,
    IrisPipeline, IrisQuality, IrisQualityPolicy, IrisSegmenter, IrisStageTimes, LidLine,
    RadiusRange, STRIP_COLUMNS, STRIP_ROWS, Segmentation, Strip, annotate_iris, assess_iris,
    best_of_burst, eyes_of_face, find_eyes, least_defective, strip_picture,
};
pub use iris_record::{IrisRecordImage, RecordError, read_iris_record, write_iris_record};
pub use landmarks::{FivePoints, Landmarks, Point};
pub use liveness::{LivenessSample, MIN_FRAMES as PAD_MIN_FRAMES, assess as assess_liveness};
pub use manifest::{ModelEntry, ModelManifest, ModelRole};
pub use pipeline::{FaceObservation, FacePipeline, FrameAnalysis, StageTimes};
pub use pose::Pose;
pub use quality::QualityPolicy;
pub use runtime::{BareModel, ModelError, Provider, Runtime};
pub use scene::{
    alone, blurred, jittered, on_larger_canvas, picture_of_picture, side_by_side, turned,
};
pub use track::{Capture, Track, Tracker};
pub use video::{VideoError, VideoSource};

/// A stage failed inside OpenCV or ONNX Runtime. The text names the stage, never the data.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// OpenCV reported an error.
    #[error("{stage}: OpenCV failed")]
    OpenCv {
        /// Which stage.
        stage: &'static str,
        /// The library's error.
        #[source]
        source: opencv::Error,
    },
    /// ONNX Runtime reported an error.
    #[error("{stage}: ONNX Runtime failed")]
    Onnx {
        /// Which stage.
        stage: &'static str,
        /// The library's error.
        #[source]
        source: ort::Error,
    },
    /// A model's output does not have the shape of its contract.
    #[error("{stage}: the model's output does not have the expected shape")]
    Contract {
        /// Which stage.
        stage: &'static str,
    },
    /// The model's output is no template.
    #[error("the face model's output is no template")]
    Template(#[source] sallyport_domain::BiometricError),
}

impl VisionError {
    pub(crate) fn cv(stage: &'static str) -> impl FnOnce(opencv::Error) -> Self {
        move |source| Self::OpenCv { stage, source }
    }

    pub(crate) fn onnx(stage: &'static str) -> impl FnOnce(ort::Error) -> Self {
        move |source| Self::Onnx { stage, source }
    }
}
