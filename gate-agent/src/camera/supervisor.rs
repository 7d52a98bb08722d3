//! Keeps one camera alive: opens it, watches it, and opens it again after growing pauses.
//!
//! Reading happens in a thread of its own, because a stalled network camera can block for as long
//! as it likes; a reader that does not come back is abandoned and its late frames are thrown away.
//! Each camera has its own supervisor, so one dead camera never stops another.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Backoff, CameraError, CameraOpener, Fault, Watchdog, WatchdogPolicy};
use crate::clock::{Clock, Stop};
use crate::event::{AgentEvent, EventSink};
use crate::inbox::Inbox;

/// How a camera is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupervisorPolicy {
    /// When it counts as dead.
    pub watchdog: WatchdogPolicy,
    /// First pause before it is opened again.
    pub backoff_first: Duration,
    /// Longest pause.
    pub backoff_longest: Duration,
    /// How often the supervisor looks.
    pub look_every: Duration,
    /// Readers that hang in the driver at most; beyond that nothing more is opened.
    pub hanging_readers: usize,
}

impl Default for SupervisorPolicy {
    fn default() -> Self {
        Self {
            watchdog: WatchdogPolicy {
                stalled_after: Duration::from_secs(4),
                frozen_after: Some(Duration::from_secs(10)),
            },
            backoff_first: Duration::from_millis(500),
            backoff_longest: Duration::from_secs(30),
            look_every: Duration::from_millis(50),
            hanging_readers: 3,
        }
    }
}

/// How a camera is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraHealth {
    /// Being opened, no frame yet.
    Opening,
    /// Frames come.
    Ok,
    /// Failed; will be opened again.
    Failed(CameraError),
    /// No frames come although it is open; will be opened again.
    Stalled,
    /// The same frame comes over and over; will be opened again.
    Frozen,
    /// Too many readers hang in the driver.
    Stuck,
    /// A replay has ended.
    Finished,
}

impl CameraHealth {
    /// The text for heartbeats and `status`: `ok`, or what is wrong.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::Opening => "being opened".to_owned(),
            Self::Failed(error) => error.to_string(),
            Self::Stalled => "no frames come; the camera is opened again".to_owned(),
            Self::Frozen => {
                "the same picture comes over and over; the camera is opened again".to_owned()
            }
            Self::Stuck => {
                "the camera's driver hangs; unplug the camera and restart the agent".to_owned()
            }
            Self::Finished => "the replay has ended".to_owned(),
        }
    }
}

/// Health of all cameras, in configured order.
#[derive(Debug)]
pub struct HealthBoard(Mutex<Vec<(String, CameraHealth)>>);

impl HealthBoard {
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        Self(Mutex::new(
            names.map(|name| (name, CameraHealth::Opening)).collect(),
        ))
    }

    /// Name and health of each camera.
    #[must_use]
    pub fn all(&self) -> Vec<(String, CameraHealth)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The first of the first `among` cameras that works: the one that is looked through.
    #[must_use]
    pub fn first_working(&self, among: usize) -> Option<usize> {
        self.all()
            .iter()
            .take(among)
            .position(|(_, health)| *health == CameraHealth::Ok)
    }

    /// Whether frames of a camera can be hoped for.
    #[must_use]
    pub fn may_give_frames(&self, camera: usize) -> bool {
        matches!(
            self.all().get(camera),
            Some((_, CameraHealth::Ok | CameraHealth::Opening))
        )
    }

    /// Sets a camera's health; says whether it changed.
    fn set(&self, camera: usize, health: CameraHealth) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(camera) {
            Some((_, old)) if *old != health => {
                *old = health;
                true
            }
            Some(_) | None => false,
        }
    }
}

/// What one supervisor needs.
pub(crate) struct Supervised<N> {
    pub(crate) index: usize,
    pub(crate) opener: Arc<dyn CameraOpener>,
    pub(crate) policy: SupervisorPolicy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) inbox: Arc<Inbox<N>>,
    pub(crate) board: Arc<HealthBoard>,
    pub(crate) events: EventSink,
    pub(crate) stop: Stop,
}

/// What reader and supervisor share.
struct Reading {
    dog: Watchdog,
    ended: Option<Result<(), CameraError>>,
    frames: u64,
    /// Set when the supervisor gave the reader up: nothing of it counts any more.
    abandoned: bool,
}

enum End {
    Finished,
    Fault(CameraHealth),
    Stopped,
}

/// Runs until stopped or until a replay has ended.
pub(crate) fn supervise<N: Send + 'static>(this: &Supervised<N>) {
    let mut backoff = Backoff::new(this.policy.backoff_first, this.policy.backoff_longest);
    let hanging = Arc::new(AtomicUsize::new(0));
    loop {
        if hanging.load(Ordering::SeqCst) >= this.policy.hanging_readers {
            this.health(CameraHealth::Stuck);
        } else {
            match this.run_once(&hanging, &mut backoff) {
                End::Finished => {
                    this.health(CameraHealth::Finished);
                    return;
                }
                End::Stopped => return,
                End::Fault(health) => {
                    this.inbox.clear_frame(this.index);
                    this.health(health);
                }
            }
        }
        if !this.clock.wait(&this.stop, backoff.wait()) {
            return;
        }
    }
}

impl<N: Send + 'static> Supervised<N> {
    /// Opens the camera once and watches it until it ends.
    fn run_once(&self, hanging: &Arc<AtomicUsize>, backoff: &mut Backoff) -> End {
        let reading = Arc::new(Mutex::new(Reading {
            dog: Watchdog::new(self.policy.watchdog, self.clock.mono()),
            ended: None,
            frames: 0,
            abandoned: false,
        }));
        hanging.fetch_add(1, Ordering::SeqCst);
        let started = self.start_reader(reading.clone(), hanging.clone());
        if let Err(error) = started {
            hanging.fetch_sub(1, Ordering::SeqCst);
            return End::Fault(CameraHealth::Failed(CameraError(error.to_string())));
        }
        loop {
            let going = self.clock.wait(&self.stop, self.policy.look_every);
            let now = self.clock.mono();
            let mut state = reading.lock().unwrap_or_else(PoisonError::into_inner);
            if !going {
                state.abandoned = true;
                return End::Stopped;
            }
            if state.frames > 0 {
                backoff.reset();
            }
            let fault = match (&state.ended, state.dog.fault(now)) {
                (Some(Ok(())), _) => return End::Finished,
                (Some(Err(error)), _) => CameraHealth::Failed(error.clone()),
                (None, Some(Fault::Stalled)) => CameraHealth::Stalled,
                (None, Some(Fault::Frozen)) => CameraHealth::Frozen,
                (None, None) => {
                    let working = state.frames > 0;
                    drop(state);
                    self.health(if working {
                        CameraHealth::Ok
                    } else {
                        CameraHealth::Opening
                    });
                    continue;
                }
            };
            state.abandoned = true;
            return End::Fault(fault);
        }
    }

    fn start_reader(
        &self,
        reading: Arc<Mutex<Reading>>,
        hanging: Arc<AtomicUsize>,
    ) -> std::io::Result<()> {
        let opener = self.opener.clone();
        let clock = self.clock.clone();
        let inbox = self.inbox.clone();
        let index = self.index;
        thread::Builder::new()
            .name(format!("camera-{}", opener.name()))
            .spawn(move || {
                let ended = read(&*opener, &*clock, &reading, |frame| {
                    inbox.put_frame(index, Arc::new(frame));
                });
                reading.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(ended);
                hanging.fetch_sub(1, Ordering::SeqCst);
            })
            .map(drop)
    }

    fn health(&self, health: CameraHealth) {
        if self.board.set(self.index, health.clone()) {
            let name = self.opener.name();
            if matches!(
                health,
                CameraHealth::Ok | CameraHealth::Opening | CameraHealth::Finished
            ) {
                tracing::info!(camera = name, "camera: {}", health.text());
            } else {
                tracing::warn!(camera = name, "camera: {}", health.text());
            }
            self.events.send(AgentEvent::Camera {
                name: name.to_owned(),
                health: health.text(),
            });
        }
    }
}

fn read(
    opener: &dyn CameraOpener,
    clock: &dyn Clock,
    reading: &Mutex<Reading>,
    put: impl Fn(sallyport_vision::Frame),
) -> Result<(), CameraError> {
    let mut camera = opener.open()?;
    while let Some(frame) = camera.next_frame()? {
        let wants = reading
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .dog
            .wants_content();
        let content = if wants { content_hash(&frame)? } else { 0 };
        let mut state = reading.lock().unwrap_or_else(PoisonError::into_inner);
        if state.abandoned {
            return Ok(());
        }
        let now = clock.mono();
        state.dog.frame(content, now);
        state.frames += 1;
        // A frozen camera's frames are not looked at, whatever they show.
        if state.dog.fault(now).is_none() {
            put(frame);
        }
    }
    Ok(())
}

/// A hash of the pixels, to notice repetition; not for security.
fn content_hash(frame: &sallyport_vision::Frame) -> Result<u64, CameraError> {
    let pixels = frame
        .bgr()
        .map_err(|error| CameraError(error.to_string()))?;
    let mut hasher = DefaultHasher::new();
    pixels.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
#[path = "supervisor/tests.rs"]
mod tests;
