//! Proof of absence: what shall happen in a window of time is promised before, and what did not happen is an entry by clock when the
//! window closes. Kept after that it is late, for ever.
//!
//! An officer's round is proved by the officer's own granted passage at the point. Counts, reviews and deletions are reported by hand.

use sallyport_domain::{GateId, SubjectId, Timestamp, TransactionId};
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::state::AppState;
use crate::store::promises::PromiseRow;
use crate::store::{StoreError, Write};

/// What can be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person passes a point.
    Round,
    /// People are counted.
    Count,
    /// A case is looked at again.
    Review,
    /// Data is deleted.
    Deletion,
}

impl Kind {
    /// The word for the log and the database.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Count => "count",
            Self::Review => "review",
            Self::Deletion => "deletion",
        }
    }

    /// From its word.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Round, Self::Count, Self::Review, Self::Deletion]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// Why a promise was not made or kept.
#[derive(Debug, thiserror::Error)]
pub enum PromiseError {
    /// The window.
    #[error("a window must close after it opens, and not lie in the past")]
    Window,
    /// A round without person or place.
    #[error("a round needs a gate and a person: their passage there proves it")]
    Round,
    /// There is no such gate.
    #[error("there is no gate of this name; see: sallyport-server gate list")]
    NoGate,
    /// There is no such promise.
    #[error("there is no promise with this id; see: sallyport-server promise list")]
    Unknown,
    /// It was kept already.
    #[error("this promise was kept already")]
    Kept,
    /// Too early.
    #[error("the window of this promise has not opened yet")]
    Early,
    /// A round by hand.
    #[error("a round is proved by the passage at its gate, and cannot be reported by hand")]
    ByHand,
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<StoreError> for PromiseError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

fn entry(kind: &str, promise: &PromiseRow, now: Timestamp) -> Result<Entry, AuditError> {
    Ok(Entry {
        gate: promise.gate.as_ref().map(ToString::to_string),
        subject: promise.subject.map(|subject| subject.to_string()),
        about: Some(promise.id.clone()),
        reason: Some(format!(
            "{} {} to {}",
            promise.kind,
            promise.opens_at.to_rfc3339(),
            promise.closes_at.to_rfc3339()
        )),
        ..audit::entry(kind, now)?
    })
}

/// Makes a promise; returns its id.
///
/// # Errors
/// See [`PromiseError`].
pub async fn make(
    state: &AppState,
    kind: Kind,
    gate: Option<GateId>,
    subject: Option<SubjectId>,
    (opens_at, closes_at): (Timestamp, Timestamp),
    actor: &str,
) -> Result<String, PromiseError> {
    let now = state.clock.now();
    if closes_at <= opens_at || closes_at <= now {
        return Err(PromiseError::Window);
    }
    if kind == Kind::Round && (gate.is_none() || subject.is_none()) {
        return Err(PromiseError::Round);
    }
    if let Some(gate) = &gate
        && state.store.gate(gate).await?.is_none()
    {
        return Err(PromiseError::NoGate);
    }
    let id = TransactionId::new(now, random().map_err(|_| AuditError::Random)?).to_string();
    let promise = PromiseRow {
        id: id.clone(),
        kind: kind.code().to_owned(),
        gate,
        subject,
        opens_at,
        closes_at,
        missed: false,
        kept_at: None,
    };
    let made = Entry {
        actor: Some(actor.to_owned()),
        ..entry("promise_made", &promise, now)?
    };
    let mut write = state.store.write().await?;
    write.promise_insert(&promise).await?;
    audit::append(state, &mut write, made, None).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(id)
}

/// Reports by hand that a count, review or deletion was done.
///
/// # Errors
/// See [`PromiseError`].
pub async fn keep(state: &AppState, id: &str, actor: &str) -> Result<bool, PromiseError> {
    let promise = state
        .store
        .promise(id)
        .await?
        .ok_or(PromiseError::Unknown)?;
    let now = state.clock.now();
    if promise.kind == Kind::Round.code() {
        return Err(PromiseError::ByHand);
    }
    if now < promise.opens_at {
        return Err(PromiseError::Early);
    }
    let mut write = state.store.write().await?;
    let late = note_kept(state, &mut write, &promise, now, Some(actor))
        .await?
        .ok_or(PromiseError::Kept)?;
    write.commit().await?;
    state.logged_at(now);
    Ok(late)
}

/// In the transaction of a granted passage: it keeps the person's rounds at this gate.
pub(crate) async fn passed(
    state: &AppState,
    write: &mut Write<'_>,
    gate: &GateId,
    subject: SubjectId,
    at: Timestamp,
) -> Result<(), AuditError> {
    for promise in write.promises_of(gate, subject, at).await? {
        note_kept(state, write, &promise, at, None).await?;
    }
    Ok(())
}

/// Was it late? `None` when it was kept already. Late is what is kept after the window, whether or not the clock's entry came first.
async fn note_kept(
    state: &AppState,
    write: &mut Write<'_>,
    promise: &PromiseRow,
    at: Timestamp,
    actor: Option<&str>,
) -> Result<Option<bool>, AuditError> {
    let late = promise.missed || at > promise.closes_at;
    if late && write.promise_missed(&promise.id).await? {
        let missed = entry("promise_missed", promise, at)?;
        audit::append(state, write, missed, None).await?;
    }
    if !write.promise_kept(&promise.id, at).await? {
        return Ok(None);
    }
    let kind = if late { "promise_late" } else { "promise_kept" };
    let kept = Entry {
        actor: actor.map(str::to_owned),
        ..entry(kind, promise, at)?
    };
    audit::append(state, write, kept, None).await?;
    Ok(Some(late))
}

/// Notes every promise whose window closed; called every second. Of several servers, one writes it.
///
/// # Errors
/// Database or log; it is tried again.
pub async fn look(state: &AppState) -> Result<(), AuditError> {
    let now = state.clock.now();
    for promise in state.store.promises_due(now).await? {
        let mut write = state.store.write().await?;
        if write.promise_missed(&promise.id).await? {
            let missed = entry("promise_missed", &promise, now)?;
            audit::append(state, &mut write, missed, None).await?;
            write.commit().await?;
            state.logged_at(now);
            tracing::warn!(
                promise = promise.id,
                kind = promise.kind,
                "a promise was missed"
            );
        }
    }
    Ok(())
}
