//! Enrolment from a station or from existing pictures, and failures to acquire.

use serde::{Deserialize, Serialize};

use sallyport_domain::{
    Direction, EnrolmentId, GateId, QualityDefect, ReferenceId, SubjectCategory, SubjectId,
    Timestamp, TransactionId,
};

use crate::{Probe, Sealed};

/// One sample of an enrolment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentSample {
    /// The template that becomes a reference.
    pub probe: Probe,
    /// SHA-256 of the source picture's bytes, hexadecimal, so that an import can resume.
    pub source_sha256: String,
    /// The sealed photograph, where the jurisdiction lets it be kept.
    pub photograph: Option<Sealed>,
}

/// A station submits one person.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentSubmission {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// The one-time code of the enrolment or batch that an officer opened for this station.
    pub enrolment: String,
    /// Made by the agent from the import batch and the person, so that a retry is recognised.
    pub subject: SubjectId,
    /// Which station; must equal the client certificate's.
    pub station: GateId,
    /// Category.
    pub category: SubjectCategory,
    /// Name to show to officers; sealed by the server before it is stored.
    pub display_name: String,
    /// Samples, at least one.
    pub samples: Vec<EnrolmentSample>,
}

impl std::fmt::Debug for EnrolmentSubmission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "EnrolmentSubmission({}, {} samples)",
            self.subject,
            self.samples.len()
        )
    }
}

/// Why the server refused a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnrolmentRefusal {
    /// The samples do not look like one person.
    InconsistentSamples,
    /// The left and the right iris are the same eye: a mirrored camera, or one eye captured twice.
    SameEyeUnderBothNames,
    /// Somebody enrolled already looks alike: a duplicate or a double, for an officer to review.
    PossibleDuplicate,
    /// The second officer rejected this submission.
    Rejected,
}

/// The server's answer to an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum EnrolmentOutcome {
    /// Put aside, sealed, until a second officer has decided; no door opens for this person yet.
    UnderReview {
        /// Which enrolment.
        enrolment: EnrolmentId,
        /// What the officer must look at with special care.
        doubt: Option<EnrolmentRefusal>,
        /// Audit log entry.
        log_index: u64,
    },
    /// Approved by a second officer earlier: stored and searchable.
    Enrolled {
        /// Whom.
        subject: SubjectId,
        /// The stored references.
        references: Vec<ReferenceId>,
        /// Audit log entry.
        log_index: u64,
    },
    /// Refused; nothing stored but the log entry.
    Refused {
        /// Why.
        reason: EnrolmentRefusal,
        /// Audit log entry.
        log_index: u64,
    },
}

/// Nobody could be acquired: a person came and left without a usable sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedAcquisition {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Made by the agent.
    pub transaction: TransactionId,
    /// Which gate.
    pub gate: GateId,
    /// Which way.
    pub direction: Direction,
    /// When the attempt began.
    pub began_at: Timestamp,
    /// When it was given up.
    pub ended_at: Timestamp,
    /// Defects seen, most frequent first.
    pub defects: Vec<QualityDefect>,
    /// The sealed picture for the officer.
    pub attachment: Option<Sealed>,
}
