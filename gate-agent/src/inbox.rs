//! What reaches the gate's worker thread: the newest frame of each camera, and answers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sallyport_vision::Frame;

/// One slot per camera and a queue of notes.
pub(crate) struct Inbox<N> {
    inner: Mutex<Inner<N>>,
    changed: Condvar,
}

struct Inner<N> {
    /// The first so many cameras wake the worker; frames of others wait until it looks.
    waking: usize,
    /// One slot per camera. A newer frame replaces an older one that nobody took: frames are
    /// dropped, never queued, so latency does not grow when analysis is slower than the camera.
    frames: Vec<Option<Arc<Frame>>>,
    /// Answers to requests. Never dropped; bounded by the requests in flight, of which the capture
    /// machine has one at a time (late ones of earlier persons end by their own time-out).
    notes: VecDeque<N>,
}

impl<N> Inbox<N> {
    pub(crate) fn new(waking: usize, others: usize) -> Self {
        let cameras = waking.saturating_add(others);
        Self {
            inner: Mutex::new(Inner {
                waking,
                frames: (0..cameras).map(|_| None).collect(),
                notes: VecDeque::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Puts a camera's newest frame into its slot.
    pub(crate) fn put_frame(&self, camera: usize, frame: Arc<Frame>) {
        if let Some(slot) = self.lock().frames.get_mut(camera) {
            *slot = Some(frame);
        }
        self.changed.notify_all();
    }

    /// Empties a camera's slot, so that nothing of a dead camera is analysed later.
    pub(crate) fn clear_frame(&self, camera: usize) {
        if let Some(slot) = self.lock().frames.get_mut(camera) {
            *slot = None;
        }
    }

    pub(crate) fn put_note(&self, note: N) {
        self.lock().notes.push_back(note);
        self.changed.notify_all();
    }

    /// Waits (in real time) until something is there or the time is up.
    pub(crate) fn wait(&self, timeout: Duration) {
        let guard = self.lock();
        let _unused = self
            .changed
            .wait_timeout_while(guard, timeout, |inner| {
                inner.notes.is_empty()
                    && inner.frames.iter().take(inner.waking).all(Option::is_none)
            })
            .unwrap_or_else(PoisonError::into_inner);
    }

    pub(crate) fn take_notes(&self) -> Vec<N> {
        self.lock().notes.drain(..).collect()
    }

    pub(crate) fn has_notes(&self) -> bool {
        !self.lock().notes.is_empty()
    }

    pub(crate) fn take_frame(&self, camera: usize) -> Option<Arc<Frame>> {
        self.lock().frames.get_mut(camera).and_then(Option::take)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<N>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
