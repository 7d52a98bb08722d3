//! What gates are told of the jurisdiction profile: its text, and a proof that the log which they watch names it.
//!
//! A gate believes the proof, not the server, where a profile permits more than it knew. The text is no secret.

use sallyport_protocol::{ProfileEntry, ProfileQuery, ProfileWord};
use sallyport_transparency::{Hash, inclusion_proof, needed_for_inclusion};

use crate::audit::{self, AuditError};
use crate::state::AppState;

/// The word for a gate that knows this; `None` when it is the same.
///
/// # Errors
/// The database failed.
pub async fn word(
    state: &AppState,
    query: &ProfileQuery,
) -> Result<Option<ProfileWord>, AuditError> {
    let held = state.profile();
    if query.sha256.as_deref() == Some(&held.sha256) && query.index == held.set_by {
        return Ok(None);
    }
    let named_by = match held.set_by {
        Some(index) if index < query.size => proved(state, index, query.size).await?,
        Some(_) | None => None,
    };
    Ok(Some(ProfileWord {
        text: held.text.to_string(),
        named_by,
    }))
}

/// `None` for a size that this log does not have: the gate has an alarm then, or soon.
async fn proved(
    state: &AppState,
    index: u64,
    size: u64,
) -> Result<Option<ProfileEntry>, AuditError> {
    if size > state.store.log_size().await? {
        return Ok(None);
    }
    let rows = state.store.log_entries(index, 1).await?;
    let row = rows.into_iter().find(|(at, _)| *at == index);
    let Some(entry) = row.and_then(|(_, bytes)| String::from_utf8(bytes).ok()) else {
        return Ok(None);
    };
    let nodes = state
        .store
        .log_nodes(&needed_for_inclusion(index, size))
        .await?;
    let proof = inclusion_proof(index, size, &nodes).map_err(audit::refused)?;
    Ok(Some(ProfileEntry {
        index,
        entry,
        size,
        proof: proof.into_iter().map(Hash::to_base64).collect(),
    }))
}
