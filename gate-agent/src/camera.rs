//! Cameras: where frames come from, how their health is judged, and how they are kept alive.

mod follow;
mod live;
mod replay;
mod stage;
mod supervisor;
mod watchdog;

pub use follow::FollowOpener;
pub use live::{RtspOpener, V4l2Opener};
pub use replay::{ReplayOpener, ReplaySettings};
pub use stage::{Phase, Stage};
pub use supervisor::{CameraHealth, HealthBoard, SupervisorPolicy};
pub(crate) use supervisor::{Supervised, supervise};
pub use watchdog::{Backoff, Fault, Watchdog, WatchdogPolicy};

use sallyport_vision::Frame;

/// Why a camera gives no frames. The texts carry no address: addresses can hold passwords.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CameraError(pub String);

/// An open camera.
pub trait Camera: Send {
    /// Blocks until the next frame; `None` when a replay has ended.
    ///
    /// # Errors
    /// The camera is gone or gave nothing; it will be closed and opened again.
    fn next_frame(&mut self) -> Result<Option<Frame>, CameraError>;
}

/// Opens a camera, again and again.
pub trait CameraOpener: Send + Sync {
    /// The camera's name in health, logs and frames.
    fn name(&self) -> &str;

    /// Opens it.
    ///
    /// # Errors
    /// Not there, in use, or not reachable.
    fn open(&self) -> Result<Box<dyn Camera>, CameraError>;
}
