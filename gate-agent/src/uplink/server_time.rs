//! What the server's clock shows, from a heartbeat's answer and our monotonic clock alone.

use std::time::Duration;

use sallyport_domain::Timestamp;

use crate::clock::Mono;

/// An estimate older than this is not used: clocks drift.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The server's time as an interval: it read its clock somewhere between our sending the heartbeat
/// and our receiving the answer. Our own wall clock plays no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTime {
    server: Timestamp,
    sent: Mono,
    received: Mono,
}

impl ServerTime {
    /// The server said `server` in answer to a request sent and received at these moments.
    #[must_use]
    pub const fn new(server: Timestamp, sent: Mono, received: Mono) -> Self {
        Self {
            server,
            sent,
            received,
        }
    }

    /// Earliest and latest time that the server's clock can show now; `None` when the estimate is
    /// too old.
    #[must_use]
    pub fn at(&self, now: Mono) -> Option<(Timestamp, Timestamp)> {
        if now.since(self.received) > MAX_AGE {
            return None;
        }
        let plus = |since: Duration| {
            let millis = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            self.server.plus_millis(millis)
        };
        // Rounding up by a millisecond keeps the latest bound on the safe side.
        Some((
            plus(now.since(self.received)),
            plus(now.since(self.sent)).plus_millis(1),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_covers_the_round_trip_and_grows_old() {
        let at = |ms| Mono::from_origin(Duration::from_millis(ms));
        let time = ServerTime::new(Timestamp::from_micros(5_000_000), at(100), at(300));
        let (earliest, latest) = time.at(at(1_300)).unwrap();
        assert_eq!(earliest, Timestamp::from_micros(6_000_000));
        assert_eq!(latest, Timestamp::from_micros(6_201_000));
        assert!(time.at(at(61_000)).is_none());
    }
}
