//! What a replay needs to know of the gate, so that recorded people behave like present ones: they
//! stand there until they are answered, and the next one comes when the gate is free.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where the gate stands, as a replay sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Free, or still collecting samples.
    #[default]
    Open,
    /// A request is on its way or under review: the person stands still.
    Answering,
    /// An outcome is shown: the person leaves.
    Shown,
}

/// Shared between the gate's worker and replay cameras.
#[derive(Debug, Default)]
pub struct Stage {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone)]
struct Inner {
    /// The scene that the face camera's replay shows; `None` between scenes.
    scene: Option<String>,
    /// The face camera's replay is over.
    over: bool,
    phase: Phase,
    idle: bool,
    outcomes: u64,
    analysed: u64,
    trouble: u64,
}

impl Stage {
    /// The gate's worker says where it stands after each step.
    pub fn set(&self, phase: Phase, idle: bool, outcomes: u64) {
        let mut inner = self.lock();
        inner.phase = phase;
        inner.idle = idle;
        inner.outcomes = outcomes;
    }

    /// The face camera's replay says which scene it shows.
    pub fn show_scene(&self, scene: Option<&str>) {
        let mut inner = self.lock();
        if inner.scene.as_deref() != scene {
            inner.scene = scene.map(str::to_owned);
        }
    }

    /// The scene shown; `None` between scenes.
    #[must_use]
    pub fn scene(&self) -> Option<String> {
        self.lock().scene.clone()
    }

    /// The face camera's replay is over.
    pub fn end_scenes(&self) {
        self.lock().over = true;
    }

    /// Whether the face camera's replay is over.
    #[must_use]
    pub fn scenes_are_over(&self) -> bool {
        self.lock().over
    }

    /// A frame was analysed.
    pub fn frame_analysed(&self) {
        self.lock().analysed += 1;
        self.changed.notify_all();
    }

    /// A replay met something that it could not show.
    pub fn note_trouble(&self) {
        self.lock().trouble += 1;
    }

    /// Things that replays could not show.
    #[must_use]
    pub fn trouble(&self) -> u64 {
        self.lock().trouble
    }

    /// Where the gate stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Nobody is at the gate.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lock().idle
    }

    /// Outcomes shown so far.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        self.lock().outcomes
    }

    /// Frames analysed so far.
    #[must_use]
    pub fn analysed(&self) -> u64 {
        self.lock().analysed
    }

    /// Waits (in real time) until more than `seen` frames were analysed, at most `limit`.
    pub fn wait_analysed(&self, seen: u64, limit: Duration) {
        let guard = self.lock();
        let _unused = self
            .changed
            .wait_timeout_while(guard, limit, |inner| inner.analysed <= seen)
            .unwrap_or_else(PoisonError::into_inner);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
