//! Replay of an iris camera beside the replay of a face camera: while that one shows a scene, this
//! one shows the pictures of the sub-folder of the same name, over and over. A scene without such a
//! folder, and the time between scenes, show the dark front of an empty gate.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sallyport_vision::Frame;

use super::replay::sorted;
use super::stage::Stage;
use super::{Camera, CameraError, CameraOpener};
use crate::clock::{Clock, Stop};

/// Opens it.
pub struct FollowOpener {
    name: String,
    folder: PathBuf,
    rate_fps: f64,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    stop: Stop,
}

impl FollowOpener {
    /// `folder` holds one sub-folder of pictures a scene; `rate_fps` lies between 0 and 240.
    #[must_use]
    pub fn new(
        name: &str,
        folder: PathBuf,
        rate_fps: f64,
        stage: Arc<Stage>,
        clock: Arc<dyn Clock>,
        stop: Stop,
    ) -> Self {
        Self {
            name: name.to_owned(),
            folder,
            rate_fps,
            stage,
            clock,
            stop,
        }
    }
}

impl CameraOpener for FollowOpener {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        if !self.folder.is_dir() {
            return Err(CameraError(format!(
                "{} is not a folder; it must hold one sub-folder of pictures for each scene of the face camera",
                self.folder.display()
            )));
        }
        let pause = Duration::try_from_secs_f64(1.0 / self.rate_fps)
            .map_err(|_| CameraError("rate_fps must lie between 0 and 240".to_owned()))?;
        Ok(Box::new(Follow {
            name: self.name.clone(),
            folder: self.folder.clone(),
            pause,
            stage: self.stage.clone(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            scene: None,
            pictures: Vec::new(),
            next: 0,
        }))
    }
}

struct Follow {
    name: String,
    folder: PathBuf,
    pause: Duration,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    stop: Stop,
    scene: Option<String>,
    /// Decoded pictures of the scene.
    pictures: Vec<Frame>,
    next: usize,
}

impl Camera for Follow {
    fn next_frame(&mut self) -> Result<Option<Frame>, CameraError> {
        if !self.clock.wait(&self.stop, self.pause) || self.stage.scenes_are_over() {
            return Ok(None);
        }
        let scene = self.stage.scene();
        if scene != self.scene {
            self.pictures = match &scene {
                Some(scene) => self.load(scene),
                None => Vec::new(),
            };
            self.scene = scene;
            self.next = 0;
        }
        let now = self.clock.wall();
        let place = self.next.checked_rem(self.pictures.len()).unwrap_or(0);
        self.next = self.next.wrapping_add(1);
        match self.pictures.get(place) {
            Some(frame) => {
                let mut frame = frame.clone();
                frame.captured_at = now;
                Ok(Some(frame))
            }
            None => Frame::from_bgr(&self.name, now, 640, 240, &[20; 640 * 240 * 3])
                .map(Some)
                .map_err(|error| CameraError(error.to_string())),
        }
    }
}

impl Follow {
    fn load(&self, scene: &str) -> Vec<Frame> {
        let folder = self.folder.join(scene);
        if !folder.is_dir() {
            return Vec::new();
        }
        let paths = sorted(&folder).unwrap_or_default();
        let mut frames = Vec::with_capacity(paths.len());
        for path in paths {
            let decoded = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| {
                    Frame::decode(&self.name, self.clock.wall(), &bytes)
                        .map_err(|error| error.to_string())
                });
            match decoded {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    tracing::warn!(picture = %path.display(), "left out of the replay: {error}");
                }
            }
        }
        if frames.is_empty() {
            tracing::error!(scene, "no picture of this scene's eyes could be read");
            self.stage.note_trouble();
        }
        frames
    }
}

#[cfg(test)]
#[path = "follow/tests.rs"]
mod tests;
