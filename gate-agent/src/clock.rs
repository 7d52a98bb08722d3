//! Time as the agent sees it: a wall clock for records, a monotonic clock for every duration.
//!
//! Nothing in the agent decides by the wall clock, so setting it back or forth neither opens a door
//! nor keeps one shut.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use sallyport_domain::Timestamp;

/// Time since an arbitrary origin that never steps; comparable only within one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(Duration);

impl Mono {
    /// A moment this long after the origin.
    #[must_use]
    pub const fn from_origin(since: Duration) -> Self {
        Self(since)
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment plus a duration.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Source of time; the real one is made in `main`, tests use [`ManualClock`].
pub trait Clock: Send + Sync {
    /// Wall clock, for records only.
    fn wall(&self) -> Timestamp;
    /// Monotonic clock, for durations.
    fn mono(&self) -> Mono;
    /// Waits for a duration, or less when `stop` is set. Says whether to go on.
    fn wait(&self, stop: &Stop, duration: Duration) -> bool;
}

/// A request to end, shared by all threads of one agent.
#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Asks everybody to end.
    pub fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether the end was asked for.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in real time, or less when set. Says whether to go on.
    pub fn wait_real(&self, duration: Duration) -> bool {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) = self
            .0
            .1
            .wait_timeout_while(guard, duration, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        !*stopped
    }
}

/// The machine's clocks. Where the wall time comes from is said by `main`.
pub struct SystemClock {
    origin: std::time::Instant,
    wall: fn() -> Timestamp,
}

impl SystemClock {
    /// `wall` reads the wall clock.
    #[must_use]
    pub fn new(wall: fn() -> Timestamp) -> Self {
        Self {
            origin: std::time::Instant::now(),
            wall,
        }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    fn mono(&self) -> Mono {
        Mono(self.origin.elapsed())
    }

    fn wait(&self, stop: &Stop, duration: Duration) -> bool {
        stop.wait_real(duration)
    }
}

/// A clock that stands still until it is told to move; for tests.
#[derive(Default)]
pub struct ManualClock {
    now: Mutex<(Mono, i64)>,
    moved: Condvar,
}

impl ManualClock {
    /// Stands at the given wall time.
    #[must_use]
    pub fn starting_at(wall: Timestamp) -> Self {
        Self {
            now: Mutex::new((Mono::default(), wall.as_micros())),
            moved: Condvar::new(),
        }
    }

    /// Lets both clocks go on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.0 = now.0.plus(by);
        now.1 = now
            .1
            .saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
        self.moved.notify_all();
    }

    /// Sets the wall clock only, as an administrator or a broken battery would.
    pub fn set_wall(&self, wall: Timestamp) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).1 = wall.as_micros();
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(self.now.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    fn mono(&self) -> Mono {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn wait(&self, stop: &Stop, duration: Duration) -> bool {
        let until = self.mono().plus(duration);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        while now.0 < until && !stop.is_set() {
            // The short real time-out only serves to notice `stop`.
            now = self
                .moved
                .wait_timeout(now, Duration::from_millis(5))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(now);
        !stop.is_set()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_set_back_leaves_durations_alone() {
        let clock = ManualClock::starting_at(Timestamp::from_micros(1_000_000));
        let start = clock.mono();
        clock.advance(Duration::from_secs(3));
        clock.set_wall(Timestamp::from_micros(0));
        assert_eq!(clock.mono().since(start), Duration::from_secs(3));
        assert_eq!(clock.wall(), Timestamp::from_micros(0));
        assert_eq!(start.since(clock.mono()), Duration::ZERO);
    }

    #[test]
    fn a_stopped_wait_ends_at_once_and_says_so() {
        let clock = ManualClock::default();
        let stop = Stop::default();
        stop.set();
        assert!(!clock.wait(&stop, Duration::from_secs(3_600)));
        assert!(!stop.wait_real(Duration::from_secs(3_600)));
    }
}
