//! Measured error rates that hold for this installation: who measured them, with which models, on which data.
//!
//! A measurement is a note that somebody signed whose key stands in the data folder's `measurement-keys`. Loading one is an entry of the
//! log with its SHA-256, the key, the models and the counts of pairs; evidence and the monthly report carry what the log says held then.

use std::collections::BTreeMap;
use std::path::Path;

use sallyport_domain::Share;
use sallyport_transparency::{Entry, MeasuredPairs, Measurement, MeasurementError, VerifierKey};

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::store::StoreError;

/// Kind of the entries.
pub(crate) const KIND: &str = "error_rates";
/// File in the data folder with the keys of those who may measure, one in a line as `name+hash+key`; `#` begins a comment.
pub const KEYS_FILE: &str = "measurement-keys";

/// Why a measurement was not loaded or withdrawn.
#[derive(Debug, thiserror::Error)]
pub enum ErrorRatesError {
    /// No usable file of keys.
    #[error(
        "{path} must hold the public key of whoever measured, as `sallyport-evaluate key` printed it, one in a line: {why}"
    )]
    Keys {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The measurement itself.
    #[error(transparent)]
    Measurement(#[from] MeasurementError),
    /// Another model.
    #[error(
        "these error rates were measured with another {modality} model than this registry uses; measure with the model in use: {used}"
    )]
    OtherModel {
        /// `face` or `iris`.
        modality: String,
        /// SHA-256 of those in use.
        used: String,
    },
    /// Nobody is enrolled with this modality.
    #[error(
        "nobody is enrolled by {0} yet, so that no {0} model is in use; load the measurement after the first enrolment"
    )]
    Unused(String),
    /// Nothing to withdraw.
    #[error("no measurement of {0} is loaded, so there is nothing to withdraw")]
    NotLoaded(String),
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<StoreError> for ErrorRatesError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// The keys of those who may measure.
///
/// # Errors
/// [`ErrorRatesError::Keys`].
pub fn keys(data: &Path) -> Result<Vec<VerifierKey>, ErrorRatesError> {
    let path = data.join(KEYS_FILE);
    let wrong = |why: String| ErrorRatesError::Keys {
        path: path.display().to_string(),
        why,
    };
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = VerifierKey::parse(line)
            .ok()
            .filter(VerifierKey::is_log_key)
            .ok_or_else(|| wrong(format!("line {number} is no such key")))?;
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(wrong("there is none in it".to_owned()));
    }
    Ok(keys)
}

/// Loads a signed measurement; returns the log entry. It holds from now on, in place of an earlier one of the same modality.
///
/// # Errors
/// See [`ErrorRatesError`]; nothing was changed.
pub async fn set(
    state: &AppState,
    note: &str,
    reason: &str,
    actor: &str,
) -> Result<u64, ErrorRatesError> {
    let keys = keys(&state.data)?;
    let (measurement, key) = Measurement::open(note.as_bytes(), &keys)?;
    let modality = &measurement.modality;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let mut used = write.models_in_use(modality).await?;
    if used.is_empty() {
        return Err(ErrorRatesError::Unused(modality.clone()));
    }
    let all = used.join(" or ");
    used.retain(|model| measurement.models.values().any(|named| named == model));
    if used.is_empty() {
        return Err(ErrorRatesError::OtherModel {
            modality: modality.clone(),
            used: all,
        });
    }
    let digest = Measurement::digest(note.as_bytes());
    let pairs = measurement.pairs.first();
    let (mated, non_mated) =
        pairs.map_or((0, 0), |first| (first.mated_pairs, first.non_mated_pairs));
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some(format!(
            "{key} {}: {mated} mated and {non_mated} non-mated pairs",
            measurement.data_set
        )),
        decision: Some(modality.clone()),
        reason: Some("loaded".to_owned()),
        models: used,
        content: Some(digest.clone()),
        ..audit::entry(KIND, now)?
    };
    write.error_rates_insert(&digest, note).await?;
    let index = audit::append(state, &mut write, entry, detail(reason)).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(index)
}

fn detail(reason: &str) -> Option<&[u8]> {
    let reason = reason.trim();
    (!reason.is_empty()).then_some(reason.as_bytes())
}

/// From now on no measurement of this modality holds; returns the log entry.
///
/// # Errors
/// None is loaded, or database or log failed.
pub async fn withdraw(
    state: &AppState,
    modality: &str,
    reason: &str,
    actor: &str,
) -> Result<u64, ErrorRatesError> {
    let held = current(state).await?;
    let Some(last) = held.of.get(modality) else {
        return Err(ErrorRatesError::NotLoaded(modality.to_owned()));
    };
    let now = state.clock.now();
    let entry = Entry {
        actor: Some(actor.to_owned()),
        decision: Some(modality.to_owned()),
        reason: Some("withdrawn".to_owned()),
        content: last.entry.content.clone(),
        ..audit::entry(KIND, now)?
    };
    let mut write = state.store.write().await?;
    let index = audit::append(state, &mut write, entry, detail(reason)).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(index)
}

/// A measurement that holds, as the log says.
#[derive(Debug, Clone)]
pub(crate) struct HeldRates {
    /// Its entry's index.
    pub(crate) index: u64,
    /// The entry.
    pub(crate) entry: Entry,
    /// Its exact bytes.
    pub(crate) bytes: Vec<u8>,
}

/// What holds after some entries of the log, by modality.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) of: BTreeMap<String, HeldRates>,
}

impl Held {
    /// Takes the next entry.
    pub(crate) fn take(&mut self, index: u64, entry: &Entry, bytes: &[u8]) {
        let Some(modality) = entry.decision.clone().filter(|_| entry.kind == KIND) else {
            return;
        };
        if entry.reason.as_deref() == Some("loaded") {
            let held = HeldRates {
                index,
                entry: entry.clone(),
                bytes: bytes.to_vec(),
            };
            self.of.insert(modality, held);
        } else {
            self.of.remove(&modality);
        }
    }

    /// In lines for people.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn list(&self, state: &AppState) -> Result<Vec<String>, AuditError> {
        if self.of.is_empty() {
            return Ok(vec!["No measurement is loaded.".to_owned()]);
        }
        let mut text = Vec::new();
        for rates in self.of.values() {
            text.extend(rates.lines(state).await?);
        }
        Ok(text)
    }
}

impl HeldRates {
    /// The signed note and what it says; `None` when the database does not hold what the entry names.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn text(
        &self,
        state: &AppState,
    ) -> Result<Option<(String, Measurement)>, AuditError> {
        let Some(digest) = self.entry.content.as_deref() else {
            return Ok(None);
        };
        let stored = state.store.error_rates(digest).await?;
        // The key is the one that the log says was trusted then, whatever stands in the file today.
        let key = self.entry.about.as_deref().and_then(|about| {
            let (key, _) = about.split_once(' ')?;
            VerifierKey::parse(key).ok()
        });
        Ok(stored.zip(key).and_then(|(note, key)| {
            let same = Measurement::digest(note.as_bytes()) == digest;
            let (read, _) = Measurement::open(note.as_bytes(), &[key])
                .ok()
                .filter(|_| same)?;
            Some((note, read))
        }))
    }

    /// The measurement in lines for people.
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn lines(&self, state: &AppState) -> Result<Vec<String>, AuditError> {
        Ok(match self.text(state).await? {
            Some((_, measurement)) => lines(self.index, &measurement),
            None => vec![format!(
                "Entry {} names a measurement whose text is not in this database any more, or was changed.",
                self.index
            )],
        })
    }
}

/// What holds now.
///
/// # Errors
/// The database failed.
pub(crate) async fn current(state: &AppState) -> Result<Held, AuditError> {
    let mut held = Held::default();
    let size = state.store.log_size().await?;
    crate::evidence::scan(state, size, |index, entry, bytes| {
        held.take(index, entry, bytes)
    })
    .await?;
    Ok(held)
}

/// What holds now, in lines for people.
///
/// # Errors
/// The database failed.
pub async fn list(state: &AppState) -> Result<Vec<String>, AuditError> {
    current(state).await?.list(state).await
}

/// A measurement in lines for people.
fn lines(index: u64, measurement: &Measurement) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, measured {} on {} ({}) with {}; log entry {index}: {} of {} samples gave no template.",
        measurement.modality,
        measurement.measured,
        measurement.data_set,
        measurement.conditions,
        measurement.program,
        measurement.failures_to_acquire,
        measurement.samples
    )];
    for pairs in &measurement.pairs {
        lines.extend(points(&pairs.name, pairs));
    }
    for group in &measurement.groups {
        lines.extend(points(&format!("group {}", group.name), group));
    }
    lines
}

fn points(name: &str, pairs: &MeasuredPairs) -> Vec<String> {
    let one = |hits, trials| {
        let share = Share::new(hits, trials).unwrap_or_default();
        let (low, high) = share.interval95();
        let rate = share
            .value()
            .map_or_else(|| "-".to_owned(), |rate| format!("{:.4}", 100.0 * rate));
        format!(
            "{rate} % ({hits} of {trials}; 95 % interval {:.4} to {:.4} %)",
            100.0 * low,
            100.0 * high
        )
    };
    pairs
        .points
        .iter()
        .map(|point| {
            format!(
                "  {name}, at {:.4}: false match rate {}, false non-match rate {}",
                point.threshold,
                one(point.false_matches, pairs.non_mated_pairs),
                one(point.false_non_matches, pairs.mated_pairs)
            )
        })
        .collect()
}
