//! Near-infrared eye picture to iris template (biometrics.md I.0 to I.5).
//!
//! One stage is one file. Nothing here decides about access, and a picture with a defect never becomes a template
//! through [`IrisPipeline::encode`].

mod attack;
mod burst;
mod classical;
mod combine;
mod contours;
mod encode;
mod find_eyes;
mod geometry;
mod glints;
mod lids;
mod limbus;
mod network;
mod occlusion;
mod outliers;
mod picture;
mod pipeline;
mod plane;
mod prior;
mod pupil;
mod quality;
mod rubber_sheet;

pub use attack::{IrisAttackSample, assess_iris};
pub use burst::{BURST_FRAMES, best_of_burst, least_defective};
pub use find_eyes::{EyeRegion, eyes_of_face, find_eyes};
pub use geometry::{Circle, Contour, LidLine, Segmentation};
pub use picture::{annotate_iris, strip_picture};
pub use pipeline::{EyeObservation, IrisPipeline, IrisSegmenter, IrisStageTimes};
pub use prior::{EyePrior, RadiusRange};
pub use quality::{IrisQuality, IrisQualityPolicy};
pub use rubber_sheet::{STRIP_COLUMNS, STRIP_ROWS, Strip};
