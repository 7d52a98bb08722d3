//! Gates that fall silent and come back, and gates whose clocks are wrong: each begin and each end is an entry of the log.
//!
//! While a gate cannot reach the server its doors stay shut; from `gate_lost` to `gate_back` it passed nobody. What it noted meanwhile
//! (failures to acquire, door reports) arrives later, with its own times.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use sallyport_domain::{GateId, Timestamp};
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::state::AppState;

/// Six missed heartbeats.
pub const SILENT_MS: i64 = 30_000;
/// A gate's clock may differ from the server's by this much, message on its way included.
const SKEW_MS: i64 = 2_000;

/// Gates whose clocks differ.
#[derive(Debug, Default)]
pub struct WrongClocks(Mutex<BTreeSet<GateId>>);

impl WrongClocks {
    /// Notes whether the gate's clock is wrong; was it otherwise before?
    fn changed(&self, gate: &GateId, wrong: bool) -> bool {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong {
            gates.insert(gate.clone())
        } else {
            gates.remove(gate)
        }
    }
}

/// Logs every gate that fell silent. Of several servers on one database, one writes it.
///
/// # Errors
/// The database failed.
pub async fn look(state: &AppState) -> Result<(), AuditError> {
    let now = state.clock.now();
    let before = now.plus_millis(-SILENT_MS);
    for (gate, last_seen) in state.store.silent_gates(now, before).await? {
        let mut write = state.store.write().await?;
        if write.gate_absent(&gate, last_seen, before).await? {
            let entry = Entry {
                gate: Some(gate.to_string()),
                about: Some(format!("last heard of {}", last_seen.to_rfc3339())),
                ..audit::entry("gate_lost", now)?
            };
            audit::append(state, &mut write, entry, None).await?;
            write.commit().await?;
            state.logged_at(now);
            tracing::warn!(gate.id = %gate, "the gate is silent");
        }
    }
    Ok(())
}

/// A heartbeat came: ends the gate's absence, and compares its clock.
///
/// # Errors
/// The database failed.
pub async fn heard(
    state: &AppState,
    gate: &GateId,
    theirs: Timestamp,
    now: Timestamp,
) -> Result<(), AuditError> {
    if let Some(since) = state.store.gate_absence(gate).await? {
        let mut write = state.store.write().await?;
        if write.gate_present(gate).await? {
            let entry = Entry {
                gate: Some(gate.to_string()),
                about: Some(format!("silent since {}", since.to_rfc3339())),
                ..audit::entry("gate_back", now)?
            };
            audit::append(state, &mut write, entry, None).await?;
            write.commit().await?;
            state.logged_at(now);
        }
    }
    let wrong = now.millis_since(theirs).abs() > SKEW_MS;
    if state.wrong_clocks.changed(gate, wrong) {
        let reason = if wrong {
            "gate_clock_differs"
        } else {
            "gate_clock_right_again"
        };
        let entry = Entry {
            gate: Some(gate.to_string()),
            about: Some(format!("{} ms", theirs.millis_since(now))),
            reason: Some(reason.to_owned()),
            ..audit::entry("clock", now)?
        };
        audit::record(state, entry).await?;
    }
    Ok(())
}
