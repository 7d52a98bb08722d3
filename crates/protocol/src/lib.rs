//! Versioned messages between gate agent and server: JSON over HTTPS with mutual TLS.
//!
//! This crate only describes messages. Binary values travel as standard base64 with padding.
//! Signed payloads travel as the exact text that was signed, so no canonical form is needed.

mod door;
mod enrolment;
mod gate_event;
mod joining;
mod model_change;
mod passage;
mod probe;
mod profile;
mod release;

pub use door::{
    DOOR_ORDER_LIFETIME_MS, DoorOrder, DoorOutcome, DoorReport, SignedDoorOrder, SignedDoorReport,
};
pub use enrolment::{
    EnrolmentOutcome, EnrolmentRefusal, EnrolmentSample, EnrolmentSubmission, FailedAcquisition,
};
pub use gate_event::{
    DegradedCause, GateEvent, GateEventBody, LifeSafetySource, SignedGateEvent, SpotDecision,
};
pub use joining::{
    Heartbeat, HeartbeatAnswer, JoinAnswer, JoinRequest, JoinToken, JoinTokenError, LogAlarm,
    LogSeen, RenewRequest, key_fingerprint,
};
pub use model_change::{
    Reencoded, ReencodingOutcome, ReencodingRequest, ReencodingResult, ReencodingTask,
    SuccessorProbes, SuccessorsKept,
};
pub use passage::{PassageDecision, PassageRequest, ProtocolError, Sealed};
pub use probe::{Probe, ProbeError};
pub use profile::{ProfileEntry, ProfileQuery, ProfileWord};
pub use release::{RELEASE_ORDER_LIFETIME_MS, ReleaseAction, ReleaseOrder, SignedReleaseOrder};

/// Version of these messages; the server refuses others with status 400 and says which it speaks.
///
/// Version 2 carries templates of several modalities; version 1 knew faces only.
pub const PROTOCOL_VERSION: u16 = 2;

/// Paths of the gate interface.
pub mod paths {
    /// POST [`crate::JoinRequest`], no client certificate needed.
    pub const JOIN: &str = "/gate/v1/join";
    /// POST [`crate::RenewRequest`], answered with [`crate::JoinAnswer`]; before the certificate ends, best at half its life.
    pub const RENEW: &str = "/gate/v1/renew";
    /// POST [`crate::PassageRequest`], answered with [`crate::PassageDecision`].
    pub const PASSAGE: &str = "/gate/v1/passage";
    /// POST [`crate::SignedDoorReport`], or [`crate::DoorReport`] from gates that do not sign; idempotent by transaction.
    pub const DOOR_REPORT: &str = "/gate/v1/door-report";
    /// POST [`crate::FailedAcquisition`]; idempotent by transaction.
    pub const FAILED_ACQUISITION: &str = "/gate/v1/failed-acquisition";
    /// POST [`crate::SignedGateEvent`]; idempotent by gate, key and sequence.
    pub const GATE_EVENT: &str = "/gate/v1/event";
    /// POST [`crate::EnrolmentSubmission`], answered with [`crate::EnrolmentOutcome`].
    pub const ENROLMENT: &str = "/gate/v1/enrolment";
    /// POST [`crate::SuccessorProbes`] after a grant, answered with [`crate::SuccessorsKept`]; a second time it keeps nothing more.
    pub const SUCCESSORS: &str = "/gate/v1/successors";
    /// POST [`crate::ReencodingRequest`], answered with [`crate::ReencodingTask`], or 204 when no photograph waits.
    pub const REENCODING: &str = "/gate/v1/reencoding";
    /// POST [`crate::ReencodingResult`], answered with [`crate::ReencodingOutcome`].
    pub const REENCODED: &str = "/gate/v1/reencoded";
    /// POST [`crate::Heartbeat`], answered with [`crate::HeartbeatAnswer`].
    pub const HEARTBEAT: &str = "/gate/v1/heartbeat";
    /// GET with the fields of [`crate::ProfileQuery`], answered with [`crate::ProfileWord`], or 204 when that is what the gate knows. A
    /// server of before does not have it.
    pub const PROFILE: &str = "/gate/v1/profile";
    /// GET `?transaction=ID`: long poll (up to 25 s) for the officer's answer to a referred
    /// passage; 204 when there is none yet, else [`crate::PassageDecision`].
    pub const REVIEW: &str = "/gate/v1/review";
}
