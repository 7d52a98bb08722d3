//! Replay of pictures or a video file as if people came to the gate.
//!
//! A folder with sub-folders is a series of scenes: each sub-folder is one person who comes, stands
//! there, and leaves an empty gate behind. A folder of pictures is one scene. Names give the order.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sallyport_vision::{Frame, VideoSource};

use super::stage::{Phase, Stage};
use super::{Camera, CameraError, CameraOpener};
use crate::clock::{Clock, Stop};

/// How a replay runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaySettings {
    /// Folder of pictures, folder of scenes, or video file.
    pub path: PathBuf,
    /// Frames a second.
    pub rate_fps: f64,
    /// Start over at the end.
    pub repeat: bool,
    /// Frames for which each picture stays.
    pub hold_frames: u32,
    /// Frames of an empty gate after each scene, at least.
    pub gap_frames: u32,
    /// The person of a scene stays until answered, its pictures starting over as needed, and the
    /// next scene waits until the gate is free. Otherwise each picture is shown once.
    pub until_answered: bool,
    /// A scene that brings no outcome ends after this many frames.
    pub scene_limit_frames: u32,
}

/// Opens a replay.
pub struct ReplayOpener {
    name: String,
    settings: ReplaySettings,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    stop: Stop,
}

impl ReplayOpener {
    /// `stage` is the gate's, `stop` ends a replay that waits for its next frame.
    #[must_use]
    pub fn new(
        name: &str,
        settings: ReplaySettings,
        stage: Arc<Stage>,
        clock: Arc<dyn Clock>,
        stop: Stop,
    ) -> Self {
        Self {
            name: name.to_owned(),
            settings,
            stage,
            clock,
            stop,
        }
    }
}

impl CameraOpener for ReplayOpener {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> Result<Box<dyn Camera>, CameraError> {
        let path = &self.settings.path;
        let content = if path.is_dir() {
            Content::Scenes(scenes(path)?)
        } else {
            let text = path
                .to_str()
                .ok_or_else(|| CameraError("the video file's name is not UTF-8".to_owned()))?;
            Content::Video(
                VideoSource::open_file(&self.name, text)
                    .map_err(|error| CameraError(format!("{}: {error}", path.display())))?,
            )
        };
        if !(self.settings.rate_fps > 0.0 && self.settings.rate_fps <= 240.0) {
            return Err(CameraError(
                "rate_fps must lie between 0 and 240".to_owned(),
            ));
        }
        Ok(Box::new(Replay {
            name: self.name.clone(),
            pause: Duration::from_secs_f64(1.0 / self.settings.rate_fps),
            settings: self.settings.clone(),
            stage: self.stage.clone(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            content,
            place: Place::Start(0),
            analysed: None,
            picture: None,
        }))
    }
}

/// The scenes of a folder, each a list of pictures in name order.
fn scenes(folder: &Path) -> Result<Vec<Vec<PathBuf>>, CameraError> {
    let mut folders = Vec::new();
    let mut pictures = Vec::new();
    for path in sorted(folder)? {
        if path.is_dir() {
            let inside: Vec<PathBuf> = sorted(&path)?.into_iter().filter(|p| p.is_file()).collect();
            if !inside.is_empty() {
                folders.push(inside);
            }
        } else {
            pictures.push(path);
        }
    }
    if !pictures.is_empty() {
        folders.insert(0, pictures);
    }
    if folders.is_empty() {
        return Err(CameraError(format!(
            "{} holds no pictures; put JPEG or PNG files into it, or into one sub-folder a person",
            folder.display()
        )));
    }
    Ok(folders)
}

pub(super) fn sorted(folder: &Path) -> Result<Vec<PathBuf>, CameraError> {
    let failed = |error: std::io::Error| {
        CameraError(format!("{} cannot be read: {error}", folder.display()))
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

enum Content {
    Scenes(Vec<Vec<PathBuf>>),
    Video(VideoSource),
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Before a scene.
    Start(usize),
    /// In a scene.
    Scene {
        scene: usize,
        picture: usize,
        held: u32,
        frames: u32,
        outcomes: u64,
    },
    /// The gate is empty after a scene.
    Gap { scene: usize, frames: u32 },
}

struct Replay {
    name: String,
    pause: Duration,
    settings: ReplaySettings,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    stop: Stop,
    content: Content,
    place: Place,
    analysed: Option<u64>,
    picture: Option<(PathBuf, Option<Frame>)>,
}

impl Camera for Replay {
    fn next_frame(&mut self) -> Result<Option<Frame>, CameraError> {
        if !self.clock.wait(&self.stop, self.pause) {
            return Ok(None);
        }
        if self.settings.until_answered
            && let Some(seen) = self.analysed
        {
            // A recorded person must not change while a frame of theirs is being analysed.
            self.stage.wait_analysed(seen, Duration::from_secs(2));
        }
        self.analysed = Some(self.stage.analysed());
        if let Content::Video(source) = &mut self.content {
            let frame = source
                .read(self.clock.wall())
                .map_err(|error| CameraError(error.to_string()))?;
            if frame.is_none() {
                self.stage.end_scenes();
            }
            return Ok(frame);
        }
        let frame = self.next_picture()?;
        match self.place {
            Place::Scene { scene, picture, .. } => {
                let path = self.path(scene, picture);
                let name = path.as_deref().and_then(scene_name);
                self.stage.show_scene(name.as_deref());
            }
            Place::Start(_) | Place::Gap { .. } => self.stage.show_scene(None),
        }
        if frame.is_none() {
            self.stage.end_scenes();
        }
        Ok(frame)
    }
}

/// The name of the folder that a picture lies in.
fn scene_name(picture: &Path) -> Option<String> {
    let folder = picture.parent()?.file_name()?;
    Some(folder.to_string_lossy().into_owned())
}

impl Replay {
    fn next_picture(&mut self) -> Result<Option<Frame>, CameraError> {
        loop {
            match self.place {
                Place::Start(scene) => {
                    let Some(scene) = self.existing(scene) else {
                        return Ok(None);
                    };
                    self.place = Place::Scene {
                        scene,
                        picture: 0,
                        held: 0,
                        frames: 0,
                        outcomes: self.stage.outcomes(),
                    };
                }
                Place::Scene {
                    scene,
                    picture,
                    held,
                    frames,
                    outcomes,
                } => {
                    let Some(path) = self.path(scene, picture) else {
                        if self.settings.until_answered && frames > 0 {
                            self.place = Place::Scene {
                                scene,
                                picture: 0,
                                held: 0,
                                frames,
                                outcomes,
                            };
                            continue;
                        }
                        if self.settings.until_answered {
                            tracing::error!(
                                scene = scene + 1,
                                "no picture of this scene could be read; it is left out"
                            );
                            self.stage.note_trouble();
                        }
                        self.place = Place::Gap { scene, frames: 0 };
                        continue;
                    };
                    let answered = self.stage.outcomes() > outcomes;
                    let too_long = frames >= self.settings.scene_limit_frames
                        && self.stage.phase() != Phase::Answering;
                    if self.settings.until_answered && (answered || too_long) {
                        if !answered {
                            tracing::warn!(scene = scene + 1, "nobody was noticed in this scene");
                            self.stage.note_trouble();
                        }
                        self.place = Place::Gap { scene, frames: 0 };
                        continue;
                    }
                    // While the answer is awaited the person stands still.
                    let still =
                        self.settings.until_answered && self.stage.phase() == Phase::Answering;
                    if held >= self.settings.hold_frames.max(1) && !still {
                        self.place = Place::Scene {
                            scene,
                            picture: picture + 1,
                            held: 0,
                            frames,
                            outcomes,
                        };
                        continue;
                    }
                    let Some(frame) = self.load(&path) else {
                        self.place = Place::Scene {
                            scene,
                            picture: picture + 1,
                            held: 0,
                            frames,
                            outcomes,
                        };
                        continue;
                    };
                    self.place = Place::Scene {
                        scene,
                        picture,
                        held: held.saturating_add(1),
                        frames: frames.saturating_add(1),
                        outcomes,
                    };
                    return Ok(Some(frame));
                }
                Place::Gap { scene, frames } => {
                    let long_enough = frames >= self.settings.gap_frames;
                    if long_enough && (!self.settings.until_answered || self.stage.is_idle()) {
                        self.place = Place::Start(scene + 1);
                        continue;
                    }
                    self.place = Place::Gap {
                        scene,
                        frames: frames.saturating_add(1),
                    };
                    return self.empty_gate().map(Some);
                }
            }
        }
    }

    /// The scene's index, starting over where that is wanted.
    fn existing(&self, scene: usize) -> Option<usize> {
        let Content::Scenes(scenes) = &self.content else {
            return None;
        };
        if scene < scenes.len() {
            Some(scene)
        } else {
            (self.settings.repeat && !scenes.is_empty()).then_some(0)
        }
    }

    fn path(&self, scene: usize, picture: usize) -> Option<PathBuf> {
        match &self.content {
            Content::Scenes(scenes) => scenes.get(scene)?.get(picture).cloned(),
            Content::Video(_) => None,
        }
    }

    /// The picture, stamped now; `None` when it cannot be decoded, which is logged once.
    fn load(&mut self, path: &Path) -> Option<Frame> {
        let now = self.clock.wall();
        if self
            .picture
            .as_ref()
            .is_none_or(|(loaded, _)| loaded != path)
        {
            let decoded = fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| {
                    Frame::decode(&self.name, now, &bytes).map_err(|error| error.to_string())
                });
            let frame = match decoded {
                Ok(frame) => Some(frame),
                Err(error) => {
                    tracing::warn!(picture = %path.display(), "left out of the replay: {error}");
                    None
                }
            };
            self.picture = Some((path.to_owned(), frame));
        }
        let mut frame = self.picture.as_ref()?.1.clone()?;
        frame.captured_at = now;
        Some(frame)
    }

    fn empty_gate(&self) -> Result<Frame, CameraError> {
        Frame::from_bgr(
            &self.name,
            self.clock.wall(),
            640,
            480,
            &[96; 640 * 480 * 3],
        )
        .map_err(|error| CameraError(error.to_string()))
    }
}

#[cfg(test)]
#[path = "replay/tests.rs"]
mod tests;
