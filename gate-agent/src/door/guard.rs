//! Which door orders are obeyed.
//!
//! An order must be signed by the joined server over exactly this text, be meant for this gate and
//! this transaction, carry the nonce of this agent's own request, be unused, and be alive.
//!
//! Whether it is alive is judged without this machine's wall clock. The server's time is bounded
//! from heartbeats and the monotonic clock. When its earliest possible value has passed
//! `not_after`, the order is dead. Otherwise one proof of life is needed: the request was first
//! sent no longer ago than an order lives (no order for it can be older), or even the latest
//! possible server time has not passed `not_after` (needed after a review, which may take
//! minutes). With neither, the door stays shut.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sallyport_domain::{GateId, TransactionId};
use sallyport_protocol::{DOOR_ORDER_LIFETIME_MS, DoorOrder, SignedDoorOrder};
use std::time::Duration;

use super::nonces::{NonceError, UsedNonces};
use crate::clock::Mono;
use crate::uplink::ServerTime;

/// The server's clock may run ahead of its own heartbeat answer by this much (rounding, drift).
const FUTURE_TOLERANCE_MS: i64 = 1_000;

/// The order that the agent waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The passage in progress.
    pub transaction: TransactionId,
    /// The nonce of its request.
    pub nonce: String,
    /// When the request was sent for the first time.
    pub first_sent: Mono,
}

/// Why an order was not obeyed. Stable codes for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderRejection {
    /// The signature is not the server's.
    #[error("the order is not signed by the server that this gate joined")]
    BadSignature,
    /// Not the JSON of a door order.
    #[error("the signed text is not a door order")]
    NotAnOrder,
    /// For another gate.
    #[error("the order is meant for another gate")]
    OtherGate,
    /// For another passage.
    #[error("the order is meant for another passage")]
    OtherTransaction,
    /// Nonce of another request.
    #[error("the order does not answer this gate's request")]
    OtherNonce,
    /// Lifetime longer than the protocol allows, or negative.
    #[error("the order's lifetime is impossible")]
    BadLifetime,
    /// Too late.
    #[error("the order came too late")]
    Expired,
    /// Neither proof of freshness can be made.
    #[error("it cannot be told whether the order is still alive, for want of heartbeats")]
    AgeUnknown,
    /// Used before.
    #[error("the order was used before")]
    Replayed,
    /// That it is used now could not be written down.
    #[error("the use of the order could not be recorded")]
    NotRecorded,
}

/// The guard cannot work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The key from the server is damaged.
    #[error("the server's door key is damaged; join the gate again with a new token")]
    BadKey,
    /// The used nonces cannot be read.
    #[error(transparent)]
    Nonces(#[from] NonceError),
}

/// Proof that one order for one transaction was checked and its nonce burnt. Not `Clone`.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not used is an order that was not obeyed"]
pub struct ReleasePermit {
    transaction: TransactionId,
}

impl ReleasePermit {
    /// For which passage.
    #[must_use]
    pub const fn transaction(&self) -> TransactionId {
        self.transaction
    }

    #[cfg(test)]
    pub(crate) const fn for_test(transaction: TransactionId) -> Self {
        Self { transaction }
    }
}

/// Checks door orders for one gate.
pub struct DoorGuard {
    gate: GateId,
    key: VerifyingKey,
    used: UsedNonces,
}

impl DoorGuard {
    /// `door_key` is the base64 text of the join answer.
    ///
    /// # Errors
    /// Not a usable Ed25519 public key.
    pub fn new(gate: GateId, door_key: &str, used: UsedNonces) -> Result<Self, GuardError> {
        let bytes: [u8; 32] = STANDARD
            .decode(door_key)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(GuardError::BadKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| GuardError::BadKey)?;
        if key.is_weak() {
            return Err(GuardError::BadKey);
        }
        Ok(Self { gate, key, used })
    }

    /// Checks one order and, when all is well, burns its nonce durably before it returns.
    ///
    /// # Errors
    /// Why the order is not obeyed.
    pub fn admit(
        &mut self,
        signed: &SignedDoorOrder,
        expected: &Expected,
        now: Mono,
        server_time: Option<ServerTime>,
    ) -> Result<ReleasePermit, OrderRejection> {
        let order = self.check(signed, expected, now, server_time)?;
        if self.used.contains(&order.nonce) {
            return Err(OrderRejection::Replayed);
        }
        self.used
            .burn(&order.nonce)
            .map_err(|_| OrderRejection::NotRecorded)?;
        Ok(ReleasePermit {
            transaction: order.transaction,
        })
    }

    /// Everything but the nonce's use: pure.
    fn check(
        &self,
        signed: &SignedDoorOrder,
        expected: &Expected,
        now: Mono,
        server_time: Option<ServerTime>,
    ) -> Result<DoorOrder, OrderRejection> {
        let signature = STANDARD
            .decode(&signed.signature)
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .ok_or(OrderRejection::BadSignature)?;
        self.key
            .verify_strict(signed.order.as_bytes(), &signature)
            .map_err(|_| OrderRejection::BadSignature)?;
        let order: DoorOrder =
            serde_json::from_str(&signed.order).map_err(|_| OrderRejection::NotAnOrder)?;
        if order.purpose != DoorOrder::PURPOSE {
            return Err(OrderRejection::NotAnOrder);
        }
        if order.gate != self.gate {
            return Err(OrderRejection::OtherGate);
        }
        if order.transaction != expected.transaction {
            return Err(OrderRejection::OtherTransaction);
        }
        if order.nonce != expected.nonce {
            return Err(OrderRejection::OtherNonce);
        }
        let lifetime_micros = order
            .not_after
            .as_micros()
            .saturating_sub(order.issued_at.as_micros());
        if !(1..=DOOR_ORDER_LIFETIME_MS * 1_000).contains(&lifetime_micros) {
            return Err(OrderRejection::BadLifetime);
        }
        alive(&order, expected, now, server_time, lifetime_micros)?;
        Ok(order)
    }
}

fn alive(
    order: &DoorOrder,
    expected: &Expected,
    now: Mono,
    server_time: Option<ServerTime>,
    lifetime_micros: i64,
) -> Result<(), OrderRejection> {
    let lifetime = Duration::from_micros(u64::try_from(lifetime_micros).unwrap_or(0));
    let bounds = server_time.and_then(|time| time.at(now));
    if bounds.is_some_and(|(earliest, _)| earliest > order.not_after) {
        return Err(OrderRejection::Expired);
    }
    if now.since(expected.first_sent) <= lifetime {
        return Ok(());
    }
    let Some((_, latest)) = bounds else {
        return Err(OrderRejection::AgeUnknown);
    };
    if latest > order.not_after {
        return Err(OrderRejection::Expired);
    }
    if order.issued_at > latest.plus_millis(FUTURE_TOLERANCE_MS) {
        // The server's clock jumped since the last heartbeat: wait for the next one.
        return Err(OrderRejection::AgeUnknown);
    }
    Ok(())
}

#[cfg(test)]
#[path = "guard/tests.rs"]
mod tests;
