//! A supervisor frees a gate's doors for life safety through the console, or ends that.
//!
//! The order waits in memory for the gate's next heartbeat and no log, no disk and no database holds it up; the entry of who ordered it
//! is written after that, and retried until it is. What the gate did comes as the gate's own signed event. An order that the gate does not
//! fetch soon is void, so that no door opens by surprise later.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use sallyport_domain::{Act, GateId, Timestamp, TransactionId};
use sallyport_protocol::{
    RELEASE_ORDER_LIFETIME_MS, ReleaseAction, ReleaseOrder, SignedReleaseOrder,
};
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::officers::{OfficerError, Session};
use crate::state::AppState;
use crate::store::StoreError;

/// A gate sends heartbeats at least every five seconds; one that was silent for longer would not get the order.
const HEARD_WITHIN_MS: i64 = 12_000;
/// A reason has at most this many characters.
pub const REASON_CHARS: usize = 500;

/// Why no order went out, or what is wrong with one that did.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// No reason.
    #[error("Give a reason of up to {REASON_CHARS} characters. It is kept in the audit log.")]
    Reason,
    /// No such gate.
    #[error("There is no such gate.")]
    Unknown,
    /// The gate does not answer.
    #[error(
        "Gate {0} does not answer, so no order reaches it. NOTHING WAS FREED. Send somebody to its emergency release; at the gate's machine: sallyport-gate release"
    )]
    Silent(GateId),
    /// Not by this officer, or not now.
    #[error(transparent)]
    Officer(#[from] OfficerError),
    /// It went out; the log does not take the entry.
    #[error(
        "The order went out, but the audit log could not take it. It is retried; write down who ordered what and when, and call the administrator."
    )]
    Unlogged(#[source] AuditError),
    /// Nothing went out.
    #[error(
        "The server cannot do this now. NOTHING WAS FREED. Send somebody to the gate's emergency release."
    )]
    Failed(#[source] AuditError),
}

impl From<StoreError> for ReleaseError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// The newest order to a gate.
#[derive(Debug, Clone)]
pub struct Given {
    /// What was ordered.
    pub action: ReleaseAction,
    /// When.
    pub at: Timestamp,
    signed: SignedReleaseOrder,
}

#[derive(Debug, Default)]
struct Memory {
    given: BTreeMap<GateId, Given>,
    /// Entries that the log has not taken, with their reasons.
    unlogged: Vec<(Entry, String)>,
}

/// Orders of this process.
#[derive(Debug, Default)]
pub struct Orders(Mutex<Memory>);

impl Orders {
    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest order to each gate.
    #[must_use]
    pub fn given(&self) -> BTreeMap<GateId, Given> {
        self.lock().given.clone()
    }

    /// What a gate fetches with its heartbeat; the same order until it is void, because an answer may be lost.
    #[must_use]
    pub fn for_gate(&self, gate: &GateId, now: Timestamp) -> Option<SignedReleaseOrder> {
        self.lock()
            .given
            .get(gate)
            .filter(|given| is_alive(given, now))
            .map(|given| given.signed.clone())
    }
}

/// May the gate still fetch it?
#[must_use]
pub fn is_alive(given: &Given, now: Timestamp) -> bool {
    (0..=RELEASE_ORDER_LIFETIME_MS).contains(&now.millis_since(given.at))
}

/// Orders a release or its end.
///
/// # Errors
/// See [`ReleaseError`].
pub async fn order(
    state: &AppState,
    session: &Session,
    gate: &GateId,
    action: ReleaseAction,
    reason: &str,
) -> Result<(), ReleaseError> {
    let now = state.clock.now();
    session.must(Act::ReleaseDoors)?;
    session.fresh(now)?;
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS {
        return Err(ReleaseError::Reason);
    }
    let row = state.store.gate(gate).await?.ok_or(ReleaseError::Unknown)?;
    let mut entry = Entry {
        gate: Some(gate.to_string()),
        actor: Some(session.officer.to_string()),
        decision: Some(action.code().to_owned()),
        ..audit::entry("life_safety_order", now).map_err(ReleaseError::Failed)?
    };
    let heard = row.last_seen.map(|at| now.millis_since(at));
    if heard.is_none_or(|ago| ago > HEARD_WITHIN_MS) {
        entry.reason = Some("gate_silent".to_owned());
        log(state, entry, reason)
            .await
            .map_err(ReleaseError::Failed)?;
        return Err(ReleaseError::Silent(gate.clone()));
    }
    let id = TransactionId::new(
        now,
        random().map_err(|error| ReleaseError::Failed(audit::refused(error)))?,
    );
    {
        let mut memory = state.release_orders.lock();
        // Each order of a gate is later than the one before, also within one tick of the clock.
        let at = memory
            .given
            .get(gate)
            .map_or(now, |last| now.max(last.at.plus_millis(1)));
        let signed = sign(state, gate, id, action, session, reason, at)?;
        memory
            .given
            .insert(gate.clone(), Given { action, at, signed });
    }
    tracing::error!(gate.id = %gate, action = action.code(), "LIFE SAFETY: a supervisor's order goes to the gate");
    entry.about = Some(id.to_string());
    entry.reason = Some("sent".to_owned());
    if let Err(error) = log(state, entry.clone(), reason).await {
        let mut memory = state.release_orders.lock();
        memory.unlogged.push((entry, reason.to_owned()));
        return Err(ReleaseError::Unlogged(error));
    }
    Ok(())
}

async fn log(state: &AppState, entry: Entry, reason: &str) -> Result<(), AuditError> {
    let now = Timestamp::from_micros(entry.time);
    let mut write = state.store.write().await?;
    audit::append(state, &mut write, entry, Some(reason.as_bytes())).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(())
}

fn sign(
    state: &AppState,
    gate: &GateId,
    id: TransactionId,
    action: ReleaseAction,
    session: &Session,
    reason: &str,
    at: Timestamp,
) -> Result<SignedReleaseOrder, ReleaseError> {
    let order = ReleaseOrder {
        purpose: ReleaseOrder::PURPOSE.to_owned(),
        gate: gate.clone(),
        order: id,
        action,
        officer: session.officer.to_string(),
        reason: reason.to_owned(),
        issued_at: at,
        not_after: at.plus_millis(RELEASE_ORDER_LIFETIME_MS),
    };
    let order = serde_json::to_string(&order)
        .map_err(|error| ReleaseError::Failed(audit::refused(error)))?;
    let signature = STANDARD.encode(state.keys.door.sign(order.as_bytes()).to_bytes());
    Ok(SignedReleaseOrder { order, signature })
}

/// Tries again to log what the log did not take. The entry's own time is that of the writing; its reason says when the order went out.
pub async fn catch_up(state: &AppState) {
    loop {
        // Taken out while it is tried, so that nobody else writes it too.
        let mut unlogged = std::mem::take(&mut state.release_orders.lock().unlogged);
        if unlogged.is_empty() {
            return;
        }
        let (entry, reason) = unlogged.remove(0);
        let sent = Timestamp::from_micros(entry.time).to_rfc3339();
        let late = Entry {
            time: state.clock.now().as_micros(),
            reason: Some(format!("sent_at {sent}")),
            ..entry.clone()
        };
        let logged = log(state, late, &reason).await;
        let mut memory = state.release_orders.lock();
        if let Err(error) = logged {
            tracing::error!(%error, "a supervisor's order is not in the log yet");
            unlogged.insert(0, (entry, reason));
            unlogged.append(&mut memory.unlogged);
            memory.unlogged = unlogged;
            return;
        }
        unlogged.append(&mut memory.unlogged);
        memory.unlogged = unlogged;
    }
}
