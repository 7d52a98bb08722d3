//! Orders of a supervisor to free the doors for life safety: checked, obeyed at once, and kept so that a restart ends no release.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sallyport_domain::{GateId, Timestamp};
use sallyport_protocol::{
    RELEASE_ORDER_LIFETIME_MS, ReleaseAction, ReleaseOrder, SignedReleaseOrder,
};
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::life_safety::{Ongoing, ReleaseRequest};

/// The file in the state folder.
const FILE: &str = "release.order";
/// The server's clock may have been read a moment before the order was signed.
const EARLY_MS: i64 = 2_000;

/// Why an order is not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseOrderError {
    /// Not the server's.
    #[error("the order to free the doors is not signed by the server that this gate joined")]
    BadSignature,
    /// Not an order for this gate.
    #[error("the signed text is no order to free the doors of this gate")]
    NotAnOrder,
    /// Too late, or not yet.
    #[error("the order to free the doors is void by now; give it again")]
    Expired,
    /// The door key of the join answer is unusable.
    #[error("the server's key for doors is damaged; join the gate again")]
    BadKey,
}

/// What outlives a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The newest order that was taken.
    newest: Option<Timestamp>,
    /// The release that was ordered and not ended.
    standing: Option<ReleaseRequest>,
}

/// Takes orders; shared by threads.
#[derive(Debug)]
pub struct ReleaseOrders {
    gate: GateId,
    key: VerifyingKey,
    path: PathBuf,
    kept: Mutex<Kept>,
}

impl ReleaseOrders {
    /// Reads what stands. A damaged file is said and forgotten: the door itself knows whether it is free, and the next order mends it.
    ///
    /// # Errors
    /// The server's key is unusable.
    pub fn open(folder: &Path, gate: &GateId, door_key: &str) -> Result<Self, ReleaseOrderError> {
        let bytes: [u8; 32] = STANDARD
            .decode(door_key)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(ReleaseOrderError::BadKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| ReleaseOrderError::BadKey)?;
        let path = folder.join(FILE);
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| {
                tracing::error!(file = %path.display(), "what stood of a supervisor's release is damaged");
                Kept::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
            Err(error) => {
                tracing::error!(file = %path.display(), "what stood of a supervisor's release cannot be read: {error}");
                Kept::default()
            }
        };
        Ok(Self {
            gate: gate.clone(),
            key,
            path,
            kept: Mutex::new(kept),
        })
    }

    /// The release that was ordered and not ended.
    #[must_use]
    pub fn standing(&self) -> Option<ReleaseRequest> {
        self.lock().standing.clone()
    }

    /// Obeys an order; `false` when it, or a later one, was taken before. The doors come first, the disk after: what cannot be written
    /// stands until the agent ends, and the door itself remembers it beyond that.
    ///
    /// # Errors
    /// Why it is not obeyed.
    pub fn take(
        &self,
        signed: &SignedReleaseOrder,
        server_now: Timestamp,
        ongoing: &Ongoing,
    ) -> Result<bool, ReleaseOrderError> {
        let order = self.check(signed)?;
        let mut kept = self.lock();
        if kept.newest.is_some_and(|newest| order.issued_at <= newest) {
            return Ok(false);
        }
        if server_now > order.not_after || server_now < order.issued_at.plus_millis(-EARLY_MS) {
            return Err(ReleaseOrderError::Expired);
        }
        kept.newest = Some(order.issued_at);
        kept.standing = match order.action {
            ReleaseAction::Free => Some(ReleaseRequest {
                officer: order.officer,
                reason: order.reason,
            }),
            ReleaseAction::End => None,
        };
        ongoing.order(kept.standing.clone());
        let written = serde_json::to_vec(&*kept)
            .map_err(io::Error::from)
            .and_then(|bytes| durable::replace(&self.path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::error!(file = %self.path.display(), "a supervisor's order is obeyed and could not be written down: {error}");
        }
        Ok(true)
    }

    fn check(&self, signed: &SignedReleaseOrder) -> Result<ReleaseOrder, ReleaseOrderError> {
        let signature = STANDARD
            .decode(&signed.signature)
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .ok_or(ReleaseOrderError::BadSignature)?;
        self.key
            .verify_strict(signed.order.as_bytes(), &signature)
            .map_err(|_| ReleaseOrderError::BadSignature)?;
        let order: ReleaseOrder =
            serde_json::from_str(&signed.order).map_err(|_| ReleaseOrderError::NotAnOrder)?;
        let lifetime = order.not_after.millis_since(order.issued_at);
        if order.purpose != ReleaseOrder::PURPOSE
            || order.gate != self.gate
            || !(1..=RELEASE_ORDER_LIFETIME_MS).contains(&lifetime)
        {
            return Err(ReleaseOrderError::NotAnOrder);
        }
        Ok(order)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};
    use sallyport_domain::TransactionId;

    const NOW: i64 = 1_795_428_420_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(NOW).plus_millis(millis)
    }

    fn order(action: ReleaseAction, issued: i64) -> ReleaseOrder {
        ReleaseOrder {
            purpose: ReleaseOrder::PURPOSE.to_owned(),
            gate: "front-in".parse().unwrap(),
            order: TransactionId::new(at(issued), [1; 10]),
            action,
            officer: "0192f0c4-7b3a-7c1d-9f00-000000000001".to_owned(),
            reason: "smoke".to_owned(),
            issued_at: at(issued),
            not_after: at(issued + RELEASE_ORDER_LIFETIME_MS),
        }
    }

    fn signed(order: &ReleaseOrder, seed: u8) -> SignedReleaseOrder {
        let order = serde_json::to_string(order).unwrap();
        let key = SigningKey::from_bytes(&[seed; 32]);
        SignedReleaseOrder {
            signature: STANDARD.encode(key.sign(order.as_bytes()).to_bytes()),
            order,
        }
    }

    fn open(folder: &Path) -> ReleaseOrders {
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let key = STANDARD.encode(key.as_bytes());
        ReleaseOrders::open(folder, &"front-in".parse().unwrap(), &key).unwrap()
    }

    #[test]
    fn an_order_is_obeyed_once_and_stands_over_restarts_until_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let ongoing = Ongoing::default();
        let orders = open(folder.path());
        let free = signed(&order(ReleaseAction::Free, 0), 1);
        assert!(orders.take(&free, at(5), &ongoing).unwrap());
        assert!(!orders.take(&free, at(2_000), &ongoing).unwrap());
        assert_eq!(ongoing.ordered().unwrap().reason, "smoke");
        let again = open(folder.path());
        assert_eq!(again.standing(), ongoing.ordered());
        let end = signed(&order(ReleaseAction::End, 9_000), 1);
        assert!(again.take(&end, at(9_001), &ongoing).unwrap());
        assert_eq!(ongoing.ordered(), None);
        // The first order again, although it is not void yet.
        let third = open(folder.path());
        assert!(!third.take(&free, at(9_002), &ongoing).unwrap());
        assert_eq!((third.standing(), ongoing.ordered()), (None, None));
    }

    #[test]
    fn what_the_server_did_not_sign_for_this_gate_and_this_time_frees_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ongoing = Ongoing::default();
        let orders = open(folder.path());
        let good = order(ReleaseAction::Free, 0);
        let with = |change: fn(&mut ReleaseOrder)| {
            let mut order = good.clone();
            change(&mut order);
            signed(&order, 1)
        };
        let mut altered = signed(&order(ReleaseAction::End, 0), 1);
        altered.order = altered.order.replace("\"end\"", "\"free\"");
        let cases = [
            (signed(&good, 2), 5),
            (altered, 5),
            (
                with(|order| order.purpose = "sallyport/door-order/1".to_owned()),
                5,
            ),
            (with(|order| order.gate = "front-out".parse().unwrap()), 5),
            (
                with(|order| order.not_after = order.issued_at.plus_millis(60_000)),
                5,
            ),
            (with(|_| ()), RELEASE_ORDER_LIFETIME_MS + 1),
            (with(|_| ()), -60_000),
        ];
        for (order, now) in cases {
            orders.take(&order, at(now), &ongoing).unwrap_err();
        }
        assert_eq!((orders.standing(), ongoing.ordered()), (None, None));
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn a_disk_that_fails_keeps_no_door_shut() {
        let folder = tempfile::tempdir().unwrap();
        let ongoing = Ongoing::default();
        let orders = open(&folder.path().join("gone"));
        let free = signed(&order(ReleaseAction::Free, 0), 1);
        assert!(orders.take(&free, at(5), &ongoing).unwrap());
        assert!(ongoing.ordered().is_some());
    }
}
