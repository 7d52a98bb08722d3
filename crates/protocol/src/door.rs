//! Door orders and what became of them.

use serde::{Deserialize, Serialize};

use sallyport_domain::{GateId, Timestamp, TransactionId};

/// A door order dies this many milliseconds after it was issued.
pub const DOOR_ORDER_LIFETIME_MS: i64 = 2_000;

/// An order to release a door once. Signed as JSON text in [`SignedDoorOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorOrder {
    /// Always `sallyport/door-order/1`, so that no other signed text can be taken for an order.
    pub purpose: String,
    /// Which gate.
    pub gate: GateId,
    /// Which passage.
    pub transaction: TransactionId,
    /// The agent's nonce from the request.
    pub nonce: String,
    /// When the server issued it.
    pub issued_at: Timestamp,
    /// After this moment the order is void; at most [`DOOR_ORDER_LIFETIME_MS`] after issue.
    pub not_after: Timestamp,
}

impl DoorOrder {
    /// The fixed value of `purpose`.
    pub const PURPOSE: &'static str = "sallyport/door-order/1";
}

/// The exact JSON text of a [`DoorOrder`] and the server's Ed25519 signature over its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDoorOrder {
    /// JSON text.
    pub order: String,
    /// Ed25519 signature, base64.
    pub signature: String,
}

/// What the door did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorOutcome {
    /// Released; somebody may have passed.
    Released,
    /// The order came too late, was replayed, or was not meant for this gate.
    OrderRejected,
    /// The relay did not answer.
    Fault,
}

impl DoorOutcome {
    /// The stable name used in files and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::OrderRejected => "order_rejected",
            Self::Fault => "fault",
        }
    }
}

/// The agent reports what the door did; spooled until the server has logged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DoorReport {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Which passage.
    pub transaction: TransactionId,
    /// Which gate.
    pub gate: GateId,
    /// What the door did.
    pub outcome: DoorOutcome,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// Increases by one per report of this agent, across restarts.
    pub sequence: u64,
}

/// A door report as the exact text that the gate signed, by the key that signs its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDoorReport {
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u16,
    /// Which gate.
    pub gate: GateId,
    /// The key, as in signed notes; its name is [`crate::GateEvent::key_name`].
    pub key: String,
    /// Signed note of two lines: [`Self::PURPOSE`], and a [`DoorReport`] as JSON.
    pub note: String,
}

impl SignedDoorReport {
    /// The first line, so that no other signed text can be taken for a door report.
    pub const PURPOSE: &'static str = "sallyport/door-report/1";

    /// The text to be signed, of a [`DoorReport`] as JSON in one line.
    #[must_use]
    pub fn text(json: &str) -> String {
        format!("{}\n{json}\n", Self::PURPOSE)
    }
}
