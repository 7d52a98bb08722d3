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

#[derive(Debug, Default, Clone, Copy)]
struct Inner {
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
