//! USB cameras (V4L2) and network cameras (RTSP).

use std::sync::Arc;

use sallyport_vision::{Frame, VideoSource};

use super::{Camera, CameraError, CameraOpener};
use crate::clock::Clock;

/// An open stream of frames without end.
struct LiveCamera {
    source: VideoSource,
    clock: Arc<dyn Clock>,
}

impl Camera for LiveCamera {
    fn next_frame(&mut self) -> Result<Option<Frame>, CameraError> {
        match self.source.read(self.clock.wall()) {
            Ok(Some(frame)) => Ok(Some(frame)),
            // A live camera that ends was unplugged or switched off.
            Ok(None) => Err(CameraError("the camera gave no more frames".to_owned())),
            Err(error) => Err(CameraError(error.to_string())),
        }
    }
}

/// A USB camera.
pub struct V4l2Opener {
    name: String,
    device: i32,
    clock: Arc<dyn Clock>,
}

impl V4l2Opener {
    /// `device` is the number in `/dev/videoN`.
    #[must_use]
    pub fn new(name: &str, device: i32, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: name.to_owned(),
            device,
            clock,
        }
    }
}

impl CameraOpener for V4l2Opener {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        VideoSource::open_device(&self.name, self.device)
            .map(|source| -> Box<dyn Camera> {
                Box::new(LiveCamera {
                    source,
                    clock: self.clock.clone(),
                })
            })
            .map_err(|error| CameraError(error.to_string()))
    }
}

/// A network camera.
pub struct RtspOpener {
    name: String,
    url: String,
    timeout_ms: i32,
    clock: Arc<dyn Clock>,
}

impl RtspOpener {
    /// `url` may carry a password and is never printed.
    #[must_use]
    pub fn new(name: &str, url: &str, timeout_ms: i32, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            timeout_ms,
            clock,
        }
    }
}

impl CameraOpener for RtspOpener {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        VideoSource::open_url(&self.name, &self.url, self.timeout_ms)
            .map(|source| -> Box<dyn Camera> {
                Box::new(LiveCamera {
                    source,
                    clock: self.clock.clone(),
                })
            })
            .map_err(|error| CameraError(error.to_string()))
    }
}
