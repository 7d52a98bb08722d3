//! When a camera counts as dead, and how long to wait before it is opened again. Pure.

use std::time::Duration;

use crate::clock::Mono;

/// Limits of the watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogPolicy {
    /// No frame for this long: stalled.
    pub stalled_after: Duration,
    /// The very same picture for this long: frozen. `None` for replays of still pictures. A live
    /// sensor's noise never repeats a frame exactly.
    pub frozen_after: Option<Duration>,
}

/// What is wrong with a camera that seems open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No frames come.
    Stalled,
    /// The same frame comes over and over.
    Frozen,
}

/// Watches one open camera.
#[derive(Debug, Clone)]
pub struct Watchdog {
    policy: WatchdogPolicy,
    last_frame: Mono,
    content: Option<(u64, Mono)>,
}

impl Watchdog {
    /// The camera is being opened now.
    #[must_use]
    pub const fn new(policy: WatchdogPolicy, now: Mono) -> Self {
        Self {
            policy,
            last_frame: now,
            content: None,
        }
    }

    /// Whether content must be hashed at all.
    #[must_use]
    pub const fn wants_content(&self) -> bool {
        self.policy.frozen_after.is_some()
    }

    /// A frame came; `content` is a hash of its pixels.
    pub fn frame(&mut self, content: u64, now: Mono) {
        self.last_frame = now;
        match self.content {
            Some((same, _)) if same == content => {}
            Some(_) | None => self.content = Some((content, now)),
        }
    }

    /// What is wrong now, if anything.
    #[must_use]
    pub fn fault(&self, now: Mono) -> Option<Fault> {
        if now.since(self.last_frame) > self.policy.stalled_after {
            return Some(Fault::Stalled);
        }
        match (self.policy.frozen_after, self.content) {
            (Some(limit), Some((_, since))) if now.since(since) > limit => Some(Fault::Frozen),
            (Some(_) | None, _) => None,
        }
    }
}

/// Exponential back-off between attempts to open a camera.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`, doubles up to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait now.
    #[must_use]
    pub fn wait(&mut self) -> Duration {
        let now = self.next;
        self.next = self.next.saturating_mul(2).min(self.longest);
        now
    }

    /// A frame came: the camera works.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: WatchdogPolicy = WatchdogPolicy {
        stalled_after: Duration::from_secs(3),
        frozen_after: Some(Duration::from_secs(5)),
    };

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_silent_camera_is_stalled_and_a_repeating_one_frozen() {
        let mut dog = Watchdog::new(POLICY, at(0));
        assert_eq!(dog.fault(at(3)), None);
        assert_eq!(dog.fault(at(4)), Some(Fault::Stalled));
        for second in 4..=9 {
            dog.frame(7, at(second));
            assert_eq!(dog.fault(at(second)), None);
        }
        dog.frame(7, at(10));
        assert_eq!(dog.fault(at(10)), Some(Fault::Frozen));
        dog.frame(8, at(11));
        assert_eq!(dog.fault(at(11)), None);
    }

    #[test]
    fn stills_are_no_frozen_camera_when_the_policy_says_so() {
        let mut dog = Watchdog::new(
            WatchdogPolicy {
                frozen_after: None,
                ..POLICY
            },
            at(0),
        );
        for second in 0..100 {
            dog.frame(7, at(second));
            assert_eq!(dog.fault(at(second)), None);
        }
    }

    #[test]
    fn back_off_doubles_to_its_limit_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(3));
        let waits: Vec<u128> = (0..5).map(|_| backoff.wait().as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 3_000, 3_000]);
        backoff.reset();
        assert_eq!(backoff.wait(), Duration::from_millis(500));
    }
}
