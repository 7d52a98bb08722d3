//! What goes into the capture machine and what comes out of it.

use std::time::Duration;

use sallyport_domain::{QualityDefect, ReasonCode, Timestamp, TransactionId};

use crate::clock::Mono;
use crate::door::ReleasePermit;
use crate::eyes::EyesSeen;

/// Time-outs and limits of capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapturePolicy {
    /// Good samples that make a request at once.
    pub samples_wanted: u8,
    /// After this long a request is made from what there is, or the attempt fails.
    pub acquire_timeout: Duration,
    /// After this long without the server's answer an officer is called.
    pub decide_timeout: Duration,
    /// How long a referred person waits for an officer before being told to call one.
    pub review_wait: Duration,
    /// How long the outcome stays shown at least.
    pub show: Duration,
    /// A person not seen for this long has left.
    pub leave_after: Duration,
    /// The same while an officer looks at the request: people turn around when they wait.
    pub review_leave_after: Duration,
    /// A cue stays at least this long before another replaces it.
    pub cue_interval: Duration,
    /// Once the face is complete, the eyes get at most this long more.
    pub iris_wait: Duration,
}

impl Default for CapturePolicy {
    fn default() -> Self {
        Self {
            samples_wanted: 5,
            acquire_timeout: Duration::from_secs(8),
            decide_timeout: Duration::from_secs(5),
            review_wait: Duration::from_secs(120),
            show: Duration::from_secs(3),
            leave_after: Duration::from_secs(2),
            review_leave_after: Duration::from_secs(8),
            cue_interval: Duration::from_secs(1),
            iris_wait: Duration::from_millis(1_500),
        }
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For durations.
    pub mono: Mono,
    /// For records.
    pub wall: Timestamp,
}

/// What one analysed frame showed.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// The person followed; the same number means the same person over frames.
    pub track: Option<u64>,
    /// People near enough to be the one at the gate.
    pub people: u8,
    /// Usable samples collected of this track.
    pub samples: u8,
    /// What is wrong with this frame; empty when it gave a sample.
    pub defects: Vec<QualityDefect>,
    /// How far the eyes are, and what is wrong with them.
    pub eyes: EyesSeen,
    /// A fresh id, used if this frame completes a capture.
    pub fresh: TransactionId,
}

/// What came of a request.
#[derive(Debug)]
pub enum Answer {
    /// Granted, and the guard admitted the order.
    Granted(ReleasePermit),
    /// Refused by server or officer.
    Refused(ReasonCode),
    /// An officer must look.
    Referred(ReasonCode),
    /// No usable answer: network, server, order not obeyed, capture failed.
    Failed,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A frame was analysed.
    Seen(Sighting),
    /// A request or review was answered.
    Answered {
        /// Of which passage.
        transaction: TransactionId,
        /// How.
        answer: Answer,
    },
    /// The door was told to open.
    Door {
        /// For which passage.
        transaction: TransactionId,
        /// Whether it did.
        released: bool,
    },
    /// Time passed.
    Tick,
}

/// What the person sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// How to stand.
    Cue(QualityDefect),
    /// The request is on its way.
    Wait,
    /// The door is open.
    Granted,
    /// The door stays shut.
    Refused(ReasonCode),
    /// An officer looks at it.
    Referred(ReasonCode),
    /// Nothing works: an officer must be called.
    CallOfficer,
    /// No usable picture; with the cue that would have helped.
    NotAcquired(Option<QualityDefect>),
    /// Nobody is there.
    Clear,
}

impl Message {
    /// The sentence shown. It names no person and no score, and to the person in front of the gate
    /// a refusal says no more than that.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Cue(defect) => defect.cue(),
            Self::Wait => "Thank you. One moment, please.",
            Self::Granted => "Please go through.",
            Self::Refused(_) => "Access is not possible. Please speak to an officer.",
            Self::Referred(_) => "An officer is looking at your request. Please wait.",
            Self::CallOfficer => "The gate cannot decide. Please call an officer.",
            Self::NotAcquired(Some(defect)) => defect.cue(),
            Self::NotAcquired(None) => "No picture could be taken. Please call an officer.",
            Self::Clear => "",
        }
    }
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Show this.
    Show(Message),
    /// Make a request from the track's samples and send it.
    Submit {
        /// Its id.
        transaction: TransactionId,
        /// Whose samples.
        track: u64,
        /// People seen during the last moments.
        people: u8,
        /// Defects of samples passed over, most frequent first.
        defects: Vec<QualityDefect>,
    },
    /// Record that no usable sample could be made.
    ReportFailure {
        /// A fresh id.
        transaction: TransactionId,
        /// When the person came.
        began_at: Timestamp,
        /// Now.
        ended_at: Timestamp,
        /// Most frequent first.
        defects: Vec<QualityDefect>,
    },
    /// Ask the server for the officer's answer until cancelled.
    AwaitReview {
        /// Of which passage.
        transaction: TransactionId,
    },
    /// Stop asking.
    CancelReview {
        /// Of which passage.
        transaction: TransactionId,
    },
    /// Release the door; answered with [`Event::Door`].
    OpenDoor(ReleasePermit),
    /// A permit came for a person who is not there any more, or for another passage: record that
    /// the order was not obeyed.
    DiscardOrder {
        /// Of which passage.
        transaction: TransactionId,
    },
    /// Forget samples and track: the next person begins afresh.
    Reset,
}
