//! A supervisor's order, through the console, to free a gate's doors for life safety, or to end that.

use serde::{Deserialize, Serialize};

use sallyport_domain::{GateId, Timestamp, TransactionId};

/// An order that the gate has not got this many milliseconds after it was given is void: nobody may be surprised by a late one.
pub const RELEASE_ORDER_LIFETIME_MS: i64 = 30_000;

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseAction {
    /// Free the doors until somebody ends it.
    Free,
    /// Let the doors obey grants again, unless something else keeps them free.
    End,
}

impl ReleaseAction {
    /// The stable name used in forms and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::End => "end",
        }
    }
}

/// The order. Signed as JSON text in [`SignedReleaseOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOrder {
    /// Always [`Self::PURPOSE`], so that no other signed text can be taken for one.
    pub purpose: String,
    /// Which gate.
    pub gate: GateId,
    /// Names the order.
    pub order: TransactionId,
    /// What is ordered.
    pub action: ReleaseAction,
    /// The officer's id.
    pub officer: String,
    /// The officer's reason.
    pub reason: String,
    /// When it was given; each order of a gate is later than the one before.
    pub issued_at: Timestamp,
    /// After this moment it is void; at most [`RELEASE_ORDER_LIFETIME_MS`] after `issued_at`.
    pub not_after: Timestamp,
}

impl ReleaseOrder {
    /// The fixed value of `purpose`.
    pub const PURPOSE: &'static str = "sallyport/release-order/1";
}

/// The exact JSON text of a [`ReleaseOrder`], and the signature by the key that signs door orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReleaseOrder {
    /// JSON text.
    pub order: String,
    /// Ed25519 signature, base64.
    pub signature: String,
}
