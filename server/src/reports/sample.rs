//! The weekly sample of consultations for the auditor. The rule is the transparency crate's, which the auditor's own program has, too.

use sallyport_transparency::{Sample, SampleError, SampleReader, Week};

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::{evidence, export, witness};

/// Why there is no sample.
#[derive(Debug, thiserror::Error)]
pub enum WeeklySampleError {
    /// Nothing can be drawn.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Draws from what is signed and, where the site's policy asks for it, witnessed.
///
/// # Errors
/// See [`WeeklySampleError`].
pub async fn weekly(
    state: &AppState,
    week: Week,
    size: usize,
    word: &str,
) -> Result<Sample, WeeklySampleError> {
    audit::publish(state).await?;
    let policy = witness::policy(state).await?;
    let (_, signed) = export::chosen(state, &policy, true).await?;
    let mut reader = SampleReader::new(week);
    evidence::scan(state, signed, |index, _, bytes| reader.take(index, bytes)).await?;
    Ok(reader.draw(&state.config.log_origin(), size, word)?)
}
