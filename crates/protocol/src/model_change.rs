//! A change of models: while two models are in use, references of the second one come from passages that the first one granted and
//! from photographs that may be kept.

use serde::{Deserialize, Serialize};

use sallyport_domain::{GateId, ModelDigest, ReferenceId, TransactionId};

use crate::{Probe, probe};

/// After a grant: the samples of that passage, made into templates by the models that come next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessorProbes {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// The passage that was granted.
    pub transaction: TransactionId,
    /// Which gate; must equal the gate of the client certificate.
    pub gate: GateId,
    /// Probes, at most one per modality.
    #[serde(deserialize_with = "probe::one_per_modality")]
    pub probes: Vec<Probe>,
}

/// The answer: how many of the probes became references. None is no fault: the person has them already, or no change goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuccessorsKept {
    /// New references.
    pub kept: u8,
}

/// A station asks for the next photograph to be encoded by a new model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReencodingRequest {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Which station; must equal the client certificate's.
    pub station: GateId,
    /// The model that the station would encode with.
    pub model: ModelDigest,
}

/// One photograph to be encoded. `Debug` hides the picture.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReencodingTask {
    /// The reference that was made from it.
    pub reference: ReferenceId,
    /// The model that made that reference.
    pub from: ModelDigest,
    /// The photograph's file, base64.
    pub photograph: String,
    /// Photographs that wait, with this one.
    pub waiting: u64,
}

impl std::fmt::Debug for ReencodingTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReencodingTask({})", self.reference)
    }
}

/// What came of a photograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", deny_unknown_fields)]
pub enum Reencoded {
    /// Both models' templates of the same picture. The first shows that it is the picture of that reference.
    Encoded {
        /// By the model that made the reference.
        old: Box<Probe>,
        /// By the model that comes next.
        new: Box<Probe>,
    },
    /// The picture shows no face that can be used any more; the person gets a reference at the next passage.
    Unusable,
}

/// A station's answer to a [`ReencodingTask`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReencodingResult {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Which station.
    pub station: GateId,
    /// Which reference.
    pub reference: ReferenceId,
    /// What came of it.
    pub result: Reencoded,
}

/// The server's answer to a [`ReencodingResult`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReencodingOutcome {
    /// There is a reference of the new model now.
    Kept,
    /// The picture gave nothing that could be kept; the person gets a reference at the next passage.
    NotKept,
}
