//! `gate.toml`. Unknown keys are refused, so that a misspelt one is not silently ignored.

mod fire;
mod iris;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sallyport_vision::Provider;
use serde::Deserialize;

use crate::camera::{ReplaySettings, SupervisorPolicy, WatchdogPolicy};
use crate::capture::CapturePolicy;
pub use fire::FireInputConfig;
pub use iris::{IrisCameraConfig, Profile};

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; see deploy/gate.example.toml for an example")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or an unknown or missing key.
    #[error("{path} is not a usable configuration: {detail}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Line, key and reason.
        detail: String,
    },
    /// A value is impossible.
    #[error("{path}: {detail}")]
    Value {
        /// Which.
        path: PathBuf,
        /// Which key and what it may be.
        detail: String,
    },
}

/// The configuration. Relative paths start at the folder of the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// State folder of the joined gate.
    pub state: PathBuf,
    /// Seconds between heartbeats, at most 5: a changed audit log must be noticed within 10 seconds.
    #[serde(default = "five")]
    pub heartbeat_s: f64,
    /// Cameras, the preferred one first.
    #[serde(default, rename = "camera")]
    pub cameras: Vec<CameraConfig>,
    /// The near-infrared camera for irises, where the gate has one.
    #[serde(default)]
    pub iris_camera: Option<IrisCameraConfig>,
    /// The jurisdiction's profile.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// The door.
    pub door: DoorConfig,
    /// The line from the fire alarm system, where the gate machine has one.
    #[serde(default)]
    pub fire_input: Option<FireInputConfig>,
    /// Time-outs of capture.
    #[serde(default)]
    pub capture: CaptureConfig,
    /// Inference.
    #[serde(default)]
    pub vision: VisionConfig,
}

const fn five() -> f64 {
    5.0
}

/// One camera.
#[derive(Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CameraConfig {
    /// Pictures or a video file.
    Replay(ReplayConfig),
    /// A USB camera.
    V4l2(V4l2Config),
    /// A network camera.
    Rtsp(RtspConfig),
}

/// A USB camera.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct V4l2Config {
    /// Name in health and logs; unique.
    pub name: String,
    /// Number in `/dev/videoN`.
    pub device: i32,
    /// Seconds of the very same picture after which the camera counts as frozen.
    #[serde(default = "ten")]
    pub frozen_after_s: f64,
}

/// A network camera. `Debug` hides the address.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtspConfig {
    /// Name in health and logs; unique.
    pub name: String,
    /// Address; may carry a password, so the file should have mode 0600.
    pub url: String,
    /// Seconds without a frame after which it is given up.
    #[serde(default = "five")]
    pub timeout_s: f64,
    /// Seconds of the very same picture after which the camera counts as frozen.
    #[serde(default = "ten")]
    pub frozen_after_s: f64,
}

const fn ten() -> f64 {
    10.0
}

impl std::fmt::Debug for CameraConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Replay(config) => config.fmt(f),
            Self::V4l2(config) => config.fmt(f),
            Self::Rtsp(config) => write!(f, "RtspConfig({}, [sealed])", config.name),
        }
    }
}

/// A replay.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayConfig {
    /// Name in health and logs; unique.
    pub name: String,
    /// Folder of pictures, folder of scenes (one sub-folder a person), or video file.
    pub path: PathBuf,
    /// Frames a second.
    #[serde(default = "ten")]
    pub rate_fps: f64,
    /// Start over at the end.
    #[serde(default)]
    pub repeat: bool,
    /// Frames for which each picture stays.
    #[serde(default = "eight")]
    pub hold_frames: u32,
    /// Frames of an empty gate after each scene, at least.
    #[serde(default = "eight")]
    pub gap_frames: u32,
    /// Each person stays until answered.
    #[serde(default = "yes")]
    pub until_answered: bool,
    /// Frames after which a scene that brings no outcome ends.
    #[serde(default = "three_hundred")]
    pub scene_limit_frames: u32,
}

const fn eight() -> u32 {
    8
}
const fn yes() -> bool {
    true
}
const fn three_hundred() -> u32 {
    300
}

impl ReplayConfig {
    /// For the camera.
    #[must_use]
    pub fn settings(&self) -> ReplaySettings {
        ReplaySettings {
            path: self.path.clone(),
            rate_fps: self.rate_fps,
            repeat: self.repeat,
            hold_frames: self.hold_frames,
            gap_frames: self.gap_frames,
            until_answered: self.until_answered,
            scene_limit_frames: self.scene_limit_frames,
        }
    }
}

impl RtspConfig {
    /// For the library, which wants whole milliseconds.
    #[must_use]
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(seconds(self.timeout_s).as_millis()).unwrap_or(i32::MAX)
    }
}

impl CameraConfig {
    /// Name in health and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Replay(config) => &config.name,
            Self::V4l2(config) => &config.name,
            Self::Rtsp(config) => &config.name,
        }
    }

    /// How this camera is kept alive.
    #[must_use]
    pub fn supervision(&self) -> SupervisorPolicy {
        let usual = SupervisorPolicy::default();
        let stalled_after = usual.watchdog.stalled_after;
        let watchdog = match self {
            // Stills repeat by their nature; a replay may also wait for the gate.
            Self::Replay(_) => WatchdogPolicy {
                stalled_after: Duration::from_secs(30),
                frozen_after: None,
            },
            Self::V4l2(config) => WatchdogPolicy {
                stalled_after,
                frozen_after: Some(seconds(config.frozen_after_s)),
            },
            Self::Rtsp(config) => WatchdogPolicy {
                // A little later than the library's own time-out, which is the orderly way.
                stalled_after: seconds(config.timeout_s + 1.0),
                frozen_after: Some(seconds(config.frozen_after_s)),
            },
        };
        SupervisorPolicy { watchdog, ..usual }
    }
}

/// The door.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DoorConfig {
    /// Writes `door.log` and `door.state`.
    Simulated {
        /// Folder for them.
        folder: PathBuf,
        /// Ring the terminal's bell.
        #[serde(default)]
        bell: bool,
    },
}

/// Time-outs of capture, in seconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    missing_docs,
    reason = "explained at CapturePolicy and in the example file"
)]
pub struct CaptureConfig {
    pub samples_wanted: u8,
    pub acquire_timeout_s: f64,
    pub decide_timeout_s: f64,
    pub review_wait_s: f64,
    pub show_s: f64,
    pub leave_after_s: f64,
    pub review_leave_after_s: f64,
    pub cue_interval_s: f64,
    pub iris_wait_s: f64,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        let policy = CapturePolicy::default();
        Self {
            samples_wanted: policy.samples_wanted,
            acquire_timeout_s: policy.acquire_timeout.as_secs_f64(),
            decide_timeout_s: policy.decide_timeout.as_secs_f64(),
            review_wait_s: policy.review_wait.as_secs_f64(),
            show_s: policy.show.as_secs_f64(),
            leave_after_s: policy.leave_after.as_secs_f64(),
            review_leave_after_s: policy.review_leave_after.as_secs_f64(),
            cue_interval_s: policy.cue_interval.as_secs_f64(),
            iris_wait_s: policy.iris_wait.as_secs_f64(),
        }
    }
}

impl CaptureConfig {
    /// For the capture machine; values were checked when the file was read.
    #[must_use]
    pub fn policy(&self) -> CapturePolicy {
        CapturePolicy {
            samples_wanted: self.samples_wanted,
            acquire_timeout: seconds(self.acquire_timeout_s),
            decide_timeout: seconds(self.decide_timeout_s),
            review_wait: seconds(self.review_wait_s),
            show: seconds(self.show_s),
            leave_after: seconds(self.leave_after_s),
            review_leave_after: seconds(self.review_leave_after_s),
            cue_interval: seconds(self.cue_interval_s),
            iris_wait: seconds(self.iris_wait_s),
        }
    }
}

/// Values were checked when the file was read; an impossible one is no time at all.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

/// Inference. Paths given on the command line win.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VisionConfig {
    /// Folder of the model files.
    pub models: Option<PathBuf>,
    /// Their manifest.
    pub manifest: Option<PathBuf>,
    /// While models change: manifest of the models that come next. Their files lie beside it, or in the models folder.
    pub successor: Option<PathBuf>,
    /// The ONNX Runtime library.
    pub onnxruntime: Option<PathBuf>,
    /// `cpu`, `cuda`, `tensorrt` or `openvino`.
    pub provider: Provider,
    /// Threads of one inference session; 0 means 1.
    pub threads: usize,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
        config.check().map_err(|detail| ConfigError::Value {
            path: path.to_owned(),
            detail,
        })?;
        config.anchor(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// The cameras, the iris camera last.
    pub fn all_cameras(&self) -> impl Iterator<Item = &CameraConfig> {
        let iris = self.iris_camera.iter().map(|iris| &iris.camera);
        self.cameras.iter().chain(iris)
    }

    fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if value.is_finite() && (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} must lie between {low} and {high} seconds"))
            }
        };
        within("heartbeat_s", self.heartbeat_s, 0.05, 5.0)?;
        let capture = &self.capture;
        within(
            "capture.acquire_timeout_s",
            capture.acquire_timeout_s,
            0.5,
            120.0,
        )?;
        within(
            "capture.decide_timeout_s",
            capture.decide_timeout_s,
            0.5,
            60.0,
        )?;
        within("capture.review_wait_s", capture.review_wait_s, 0.0, 3_600.0)?;
        within("capture.show_s", capture.show_s, 0.0, 60.0)?;
        within("capture.leave_after_s", capture.leave_after_s, 0.1, 30.0)?;
        within(
            "capture.review_leave_after_s",
            capture.review_leave_after_s,
            0.1,
            60.0,
        )?;
        within("capture.cue_interval_s", capture.cue_interval_s, 0.0, 10.0)?;
        within("capture.iris_wait_s", capture.iris_wait_s, 0.0, 10.0)?;
        if !(1..=5).contains(&capture.samples_wanted) {
            return Err("capture.samples_wanted must lie between 1 and 5".to_owned());
        }
        if let Some(fire_input) = &self.fire_input {
            fire_input.check()?;
        }
        if self.cameras.is_empty() {
            return Err("there is no [[camera]]; add at least one".to_owned());
        }
        let all: Vec<&CameraConfig> = self.all_cameras().collect();
        for (index, camera) in all.iter().enumerate() {
            if all
                .iter()
                .skip(index + 1)
                .any(|other| other.name() == camera.name())
            {
                return Err(format!(
                    "two cameras are called {:?}; names must differ",
                    camera.name()
                ));
            }
            match camera {
                CameraConfig::Replay(replay) => {
                    if !(replay.rate_fps > 0.0 && replay.rate_fps <= 240.0) {
                        return Err("rate_fps must lie between 0 and 240".to_owned());
                    }
                }
                CameraConfig::V4l2(config) => {
                    within("frozen_after_s", config.frozen_after_s, 1.0, 600.0)?;
                }
                CameraConfig::Rtsp(config) => {
                    within("timeout_s", config.timeout_s, 0.5, 60.0)?;
                    within("frozen_after_s", config.frozen_after_s, 1.0, 600.0)?;
                }
            }
        }
        Ok(())
    }

    fn anchor(&mut self, folder: &Path) {
        let anchor = |path: &mut PathBuf| *path = folder.join(&*path);
        anchor(&mut self.state);
        let DoorConfig::Simulated { folder: door, .. } = &mut self.door;
        anchor(door);
        if let Some(fire_input) = &mut self.fire_input {
            anchor(&mut fire_input.path);
        }
        let iris = self.iris_camera.iter_mut().map(|iris| &mut iris.camera);
        for camera in self.cameras.iter_mut().chain(iris) {
            if let CameraConfig::Replay(replay) = camera {
                anchor(&mut replay.path);
            }
        }
        let vision = &mut self.vision;
        [
            &mut vision.models,
            &mut vision.manifest,
            &mut vision.successor,
            &mut vision.onnxruntime,
        ]
        .into_iter()
        .flatten()
        .for_each(anchor);
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
