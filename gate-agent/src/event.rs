//! What the agent did, as a stream of events: for the lines that `run` prints, and for tests.
//! No event carries a score, a template, a picture or a key.

use std::sync::Arc;

use sallyport_domain::{QualityDefect, ReasonCode, Timestamp, TransactionId, Verdict};
use serde::Serialize;

/// Something that the agent did or saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum AgentEvent {
    /// A camera's health changed.
    Camera {
        /// Which.
        name: String,
        /// `ok` or what is wrong.
        health: String,
    },
    /// A sentence for the person at the gate.
    Shown {
        /// The sentence; empty when the display was cleared.
        sentence: String,
    },
    /// A person comes; with the defect that a cue was shown for.
    Cue {
        /// The defect.
        defect: QualityDefect,
    },
    /// A request was sent.
    Submitted {
        /// Which passage.
        transaction: TransactionId,
    },
    /// The server or an officer decided.
    Decided {
        /// Which passage.
        transaction: TransactionId,
        /// Grant, refuse or refer.
        verdict: Verdict,
        /// Why.
        reason: ReasonCode,
        /// Whether an officer decided it in a review.
        reviewed: bool,
        /// Index of the audit log entry.
        log_index: u64,
    },
    /// No decision could be had.
    Undecided {
        /// Which passage.
        transaction: TransactionId,
        /// Why, and what to do.
        problem: String,
    },
    /// The door was released.
    DoorReleased {
        /// For which passage.
        transaction: TransactionId,
    },
    /// While models change: the samples of a granted passage became references of the next models.
    Successors {
        /// The passage.
        transaction: TransactionId,
        /// How many.
        kept: u8,
    },
    /// The door stayed shut although an order came, or did not answer.
    DoorNotReleased {
        /// For which passage.
        transaction: TransactionId,
        /// Why.
        problem: String,
    },
    /// No usable picture could be made.
    FailedToAcquire {
        /// The record.
        transaction: TransactionId,
        /// Most frequent first.
        defects: Vec<QualityDefect>,
    },
    /// The server took a spooled report.
    Delivered {
        /// Its number in the spool.
        number: u64,
    },
    /// A heartbeat was answered.
    Heartbeat,
    /// The server does not answer heartbeats.
    HeartbeatFailed {
        /// Why, and what to do.
        problem: String,
    },
    /// The gate has a new certificate, or should have one.
    Certificate {
        /// End of the one in use.
        until: Timestamp,
        /// What is wrong and what to do; empty when it was just renewed.
        problem: String,
    },
    /// Doors were freed for life safety, or obey grants again.
    LifeSafety {
        /// Freed?
        released: bool,
        /// What the doors did not confirm.
        problem: Option<String>,
    },
    /// Nobody is at the gate any more.
    Idle,
    /// All replays have ended, every passage is answered and every report delivered.
    Finished,
    /// The agent cannot go on.
    Trouble {
        /// What happened and what to do.
        problem: String,
    },
}

/// Where events go.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(AgentEvent) + Send + Sync>);

impl EventSink {
    /// Calls `receive` for each event, on the thread where it happens; it must not block.
    #[must_use]
    pub fn new(receive: impl Fn(AgentEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Throws events away.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn send(&self, event: AgentEvent) {
        (self.0)(event);
    }
}
