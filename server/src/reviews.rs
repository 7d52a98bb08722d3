//! An officer decides a passage that was referred or refused, and the gate fetches the answer.

use sallyport_domain::{OfficerId, ReasonCode, TransactionId, Verdict};
use sallyport_protocol::PassageDecision;
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::keys::{self, Purpose};
use crate::passages::door_order;
use crate::sealing::{self, Place};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::passages::{PassageRow, ReviewRow};

/// A granted review opens the door only when the gate fetches it this soon; later the person has gone.
pub const FETCH_WITHIN_MS: i64 = 60_000;
/// A reason has at most this many characters.
pub const MAX_REASON_CHARS: usize = 2_000;

/// Why a review was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// There is no such passage.
    #[error("there is no such passage")]
    Unknown,
    /// Granted passages need no review.
    #[error("this passage was granted; there is nothing to review")]
    NotReviewable,
    /// Somebody was faster.
    #[error("another officer has decided this passage already")]
    AlreadyDecided,
    /// A review ends in grant or refuse.
    #[error("a review grants or refuses")]
    BadVerdict,
    /// A reason is needed.
    #[error("give a reason of 1 to {MAX_REASON_CHARS} characters")]
    BadReason,
    /// Nothing was recorded.
    #[error("the decision could not be recorded, so nothing was granted; try again")]
    Unavailable(#[source] AuditError),
}

impl From<AuditError> for ReviewError {
    fn from(error: AuditError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<StoreError> for ReviewError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Records an officer's decision; returns the index of its log entry. The gate that waits is woken.
///
/// # Errors
/// See [`ReviewError`]; nothing was granted.
pub async fn decide(
    state: &AppState,
    transaction: TransactionId,
    officer: OfficerId,
    verdict: Verdict,
    reason: &str,
) -> Result<u64, ReviewError> {
    let code = match verdict {
        Verdict::Grant => ReasonCode::OfficerGranted,
        Verdict::Refuse => ReasonCode::OfficerRefused,
        Verdict::Refer => return Err(ReviewError::BadVerdict),
    };
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS {
        return Err(ReviewError::BadReason);
    }
    let mut write = state.store.write().await?;
    let passage = write
        .passage(transaction)
        .await?
        .ok_or(ReviewError::Unknown)?;
    if passage.verdict == Verdict::Grant {
        return Err(ReviewError::NotReviewable);
    }
    if passage.review.is_some() {
        return Err(ReviewError::AlreadyDecided);
    }
    let now = state.clock.now();
    let subject = passage.candidates.first().map(ToString::to_string);
    let entry = Entry {
        gate: Some(passage.gate.to_string()),
        actor: Some(officer.to_string()),
        subject: subject.clone(),
        about: Some(transaction.to_string()),
        decision: Some(verdict.code().to_owned()),
        reason: Some(code.code().to_owned()),
        policy: Some(passage.policy.clone()),
        ..audit::entry("review", now)?
    };
    let log_index = audit::append(state, &mut write, entry, Some(reason.as_bytes())).await?;
    let row = transaction.to_string();
    let place = Place::new(state.config.site.as_str(), "review", "reason_sealed", &row);
    let key = keys::audit_key(state, &mut write, subject.as_deref())
        .await
        .map_err(AuditError::from)?;
    let reason_sealed =
        sealing::seal(&key, 1, &place, reason.as_bytes()).map_err(|_| AuditError::Random)?;
    let review = ReviewRow {
        officer,
        verdict,
        reason_sealed,
        decided_at: now,
        log_index,
        fetched_at: None,
    };
    write.review_insert(transaction, &review).await?;
    write.commit().await?;
    state.logged_at(now);
    state.announce(transaction);
    state.reviewed.notify_waiters();
    Ok(log_index)
}

/// The reason of a review in words; `None` when it was changed or moved in the database, or when the person was erased.
pub async fn reason_text(state: &AppState, passage: &PassageRow) -> Option<String> {
    let review = passage.review.as_ref()?;
    let row = passage.transaction.to_string();
    let place = Place::new(state.config.site.as_str(), "review", "reason_sealed", &row);
    let mut keys = vec![state.keys.site_audit.clone()];
    if let Some(subject) = passage.candidates.first()
        && let Ok(Some(key)) = keys::subject_key(state, *subject, Purpose::Audit).await
    {
        keys.insert(0, key);
    }
    let plain = keys
        .iter()
        .find_map(|key| sealing::open(key, 1, &place, &review.reason_sealed).ok())?;
    String::from_utf8(plain).ok()
}

/// What a gate that waits for a review may know now. The first fetch within [`FETCH_WITHIN_MS`] of a grant issues the only door
/// order; fetching again gives the same order with the same end of life.
///
/// # Errors
/// Database or log failed.
pub async fn fetch(
    state: &AppState,
    passage: &PassageRow,
) -> Result<Option<PassageDecision>, AuditError> {
    let Some(review) = &passage.review else {
        return Ok(None);
    };
    let (reason, door_order) = match review.verdict {
        Verdict::Refuse | Verdict::Refer => (ReasonCode::OfficerRefused, None),
        Verdict::Grant => {
            // A failure to acquire brought no nonce: the officer's grant is recorded, but no door order can be bound to it.
            if passage.door_nonce.is_empty() {
                return Ok(None);
            }
            let issued_at = issue(state, passage, review).await?;
            let order = door_order(
                state,
                &passage.gate,
                passage.transaction,
                &passage.door_nonce,
                issued_at,
            )?;
            (ReasonCode::OfficerGranted, Some(order))
        }
    };
    Ok(Some(PassageDecision {
        transaction: passage.transaction,
        verdict: review.verdict,
        reason,
        log_index: review.log_index,
        door_order,
    }))
}

/// The moment at which the review's only door order was issued; it is void when nobody fetched it in time.
async fn issue(
    state: &AppState,
    passage: &PassageRow,
    review: &ReviewRow,
) -> Result<sallyport_domain::Timestamp, AuditError> {
    if let Some(fetched) = review.fetched_at {
        return Ok(fetched);
    }
    let now = state.clock.now();
    let age = now.millis_since(review.decided_at);
    let issued = if (0..=FETCH_WITHIN_MS).contains(&age) {
        now
    } else {
        review.decided_at
    };
    let mut write = state.store.write().await?;
    if write.review_fetch(passage.transaction, issued).await? {
        write.commit().await?;
        return Ok(issued);
    }
    let stored = write
        .passage(passage.transaction)
        .await?
        .and_then(|passage| passage.review?.fetched_at);
    // Whoever was faster issued it; without a stored moment the order is void from the start.
    Ok(stored.unwrap_or(review.decided_at))
}
