//! One passage: request and decision.

use serde::{Deserialize, Serialize};

use sallyport_domain::{
    Direction, GateId, PadAssessment, QualityDefect, ReasonCode, SubjectId, Timestamp,
    TransactionId, Verdict,
};

use crate::{Probe, SignedDoorOrder, probe};

/// A picture sealed by the agent for the registry's public key (HPKE, RFC 9180: DHKEM X25519,
/// HKDF-SHA256, AES-256-GCM, base mode). The associated data is the transaction or subject id as
/// lower-case text. The server stores it as it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Media type of the sealed picture, `image/jpeg`.
    pub media_type: String,
    /// Encapsulated key, base64.
    pub enc: String,
    /// Ciphertext with tag, base64.
    pub ciphertext: String,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Sealed({}, {} characters)",
            self.media_type,
            self.ciphertext.len()
        )
    }
}

/// A person at the gate asks to pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageRequest {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Made by the agent; a retry carries the same.
    pub transaction: TransactionId,
    /// Which gate; must equal the gate of the client certificate.
    pub gate: GateId,
    /// Which way.
    pub direction: Direction,
    /// When the best sample was captured, by the agent's clock.
    pub captured_at: Timestamp,
    /// Claimed identity, by card or booking.
    pub claim: Option<SubjectId>,
    /// Probes, at most one per modality.
    #[serde(deserialize_with = "probe::one_per_modality")]
    pub probes: Vec<Probe>,
    /// Presentation attack votes.
    pub pad: PadAssessment,
    /// People near enough to be the one at the gate.
    pub people_in_view: u8,
    /// Defects of samples that were passed over before good ones came.
    pub defects: Vec<QualityDefect>,
    /// Random 16 bytes in hexadecimal; comes back in the door order, which opens once.
    pub door_nonce: String,
    /// The sealed picture for the officer.
    pub attachment: Option<Sealed>,
}

/// The server's decision. It carries no score and no name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassageDecision {
    /// Which passage.
    pub transaction: TransactionId,
    /// Grant, refuse or refer.
    pub verdict: Verdict,
    /// Why.
    pub reason: ReasonCode,
    /// Who decided the passage: index of the audit log entry that records this decision.
    pub log_index: u64,
    /// The door order; present on a grant and only then.
    pub door_order: Option<SignedDoorOrder>,
}

/// An error answer: a stable code and a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolError {
    /// Stable code, such as `gate_mismatch`.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}
