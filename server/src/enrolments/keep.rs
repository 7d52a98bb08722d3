//! By the clock: orders end, what nobody decided is erased, and the decision about a batch is carried out to its end.

use super::{PENDING_LIFETIME_MS, close, decide, ledger};
use crate::audit;
use crate::registry::RegistryError;
use crate::state::AppState;
use crate::witness;
use sallyport_transparency::Entry;

/// What a turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Orders whose time was over.
    pub closed: usize,
    /// Enrolments that nobody decided in time.
    pub erased: usize,
    /// People of a decided batch.
    pub carried_out: usize,
}

/// One turn. What fails is tried again at the next.
///
/// # Errors
/// Database or log.
pub async fn house(state: &AppState) -> Result<Kept, RegistryError> {
    let mut kept = Kept::default();
    for order in state.store.orders_live().await? {
        if order.closed_at.is_none() && order.expires_at <= state.clock.now() {
            close(state, order.id, witness::SERVER).await?;
            kept.closed += 1;
        }
        if order.decided_index.is_some() {
            match decide::carry_out(state, order.id).await {
                Ok(done) => kept.carried_out += done,
                Err(decide::DecisionError::Registry(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(order = %order.id, %error, "the decision about this batch could not be carried out");
                }
            }
        }
    }
    for row in state.store.enrolments_under_review().await? {
        if state.clock.now().millis_since(row.submitted_at) < PENDING_LIFETIME_MS {
            continue;
        }
        let entry = Entry {
            reason: Some("not_decided_in_time".to_owned()),
            content: Some(row.content_sha256.clone()),
            ..audit::entry("enrolment", state.clock.now())?
        };
        if decide::erase(state, &row, "abandoned", entry, "")
            .await?
            .is_some()
        {
            kept.erased += 1;
        }
    }
    ledger::catch_up(state).await?;
    Ok(kept)
}
