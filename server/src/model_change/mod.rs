//! A change of models in which nobody is lost.
//!
//! While it goes on, gates run both models. The old one decides; the new one's templates become references in two ways: from the
//! samples of a passage that the old one granted, and from photographs that may be kept, which a station encodes again. Templates of
//! two models are never compared. A report says who is left; only then is the change ended and the old references are retired.

mod keep;

use std::collections::{BTreeMap, BTreeSet};

use sallyport_domain::{GateId, ModelDigest, ReferenceId, SubjectId, TransactionId};
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::enrolments::ledger;
use crate::registry::{self, RegistryError};
use crate::replicas;
use crate::state::AppState;
use crate::store::StoreError;
pub use crate::store::model_changes::ChangeRow;
use crate::store::model_changes::TouchedRow;
pub use keep::{next_photograph, reencoded, successors};

/// Kind of the entries about a change itself.
const KIND: &str = "model_change";

/// A reason has at most this many characters.
const MAX_REASON_CHARS: usize = 2_000;

/// Why a change was not begun or ended.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Both are one.
    #[error(
        "name two different models by the SHA-256 of their files, as the models' manifest.toml says"
    )]
    SameModel,
    /// No reason.
    #[error(
        "give a reason of 1 to {MAX_REASON_CHARS} characters; it is kept sealed beside the log entry"
    )]
    NoReason,
    /// Nobody has a reference of the old model.
    #[error("nobody has a reference of the model that is to be left; check its SHA-256")]
    NobodyHasIt,
    /// One at a time.
    #[error("a change from or to one of these models goes on already; end it first")]
    GoesOn,
    /// No such station.
    #[error("there is no such gate or station")]
    NoStation,
    /// No such change.
    #[error("no such change goes on; `sallyport-server model-change report` lists them")]
    Unknown,
    /// People would be lost.
    #[error(
        "{left} people have no reference of the new model yet; wait for their next passage, enrol them again, or leave exactly so many behind with --leave {left}"
    )]
    PeopleLeft {
        /// How many.
        left: usize,
    },
    /// Registry, database or log.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<AuditError> for ChangeError {
    fn from(error: AuditError) -> Self {
        Self::Registry(error.into())
    }
}

/// A change to be begun.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The model that is left.
    pub from: ModelDigest,
    /// The model that comes.
    pub to: ModelDigest,
    /// The station that may encode photographs again; without one, references come from passages only.
    pub station: Option<GateId>,
    /// Why.
    pub reason: String,
}

/// Begins a change; returns its name.
///
/// # Errors
/// See [`ChangeError`]; nothing was changed.
pub async fn begin(state: &AppState, plan: &Plan, actor: &str) -> Result<String, ChangeError> {
    if plan.from == plan.to {
        return Err(ChangeError::SameModel);
    }
    let reason = plan.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS {
        return Err(ChangeError::NoReason);
    }
    if let Some(station) = &plan.station
        && state.store.gate(station).await?.is_none()
    {
        return Err(ChangeError::NoStation);
    }
    let now = state.clock.now();
    let id = TransactionId::new(now, random().map_err(|_| AuditError::Random)?).to_string();
    let mut change = ChangeRow {
        id: id.clone(),
        from: plan.from,
        to: plan.to,
        station: plan.station.clone(),
        begun_at: now,
        ended_at: None,
        log_index: 0,
    };
    let touched = state.store.references_of_change(&change).await?;
    let old = plan.from.to_string();
    if !touched.iter().any(|row| row.model == old) {
        return Err(ChangeError::NobodyHasIt);
    }
    let mut write = state.store.write().await?;
    let models = [plan.from, plan.to];
    let goes_on = write.model_changes().await?.into_iter().any(|other| {
        other.ended_at.is_none() && (models.contains(&other.from) || models.contains(&other.to))
    });
    if goes_on {
        return Err(ChangeError::GoesOn);
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        gate: plan.station.as_ref().map(ToString::to_string),
        decision: Some("begun".to_owned()),
        ..about(&change, now)?
    };
    change.log_index = audit::append(state, &mut write, entry, Some(reason.as_bytes())).await?;
    write.model_change_insert(&change).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(id)
}

fn about(change: &ChangeRow, now: sallyport_domain::Timestamp) -> Result<Entry, AuditError> {
    Ok(Entry {
        about: Some(change.id.clone()),
        models: vec![change.from.to_string(), change.to.to_string()],
        ..audit::entry(KIND, now)?
    })
}

/// The changes that go on and that the log knows. A row that somebody wrote by hand is no change.
///
/// # Errors
/// The database failed.
pub(crate) async fn going_on(state: &AppState) -> Result<Vec<ChangeRow>, RegistryError> {
    let mut known = Vec::new();
    for change in state.store.model_changes().await? {
        if change.ended_at.is_some() {
            continue;
        }
        let entry = ledger::entry_of(state, change.log_index, KIND).await?;
        let models = [change.from.to_string(), change.to.to_string()];
        let station = change.station.as_ref().map(ToString::to_string);
        let stands = entry.is_some_and(|entry| {
            entry.about.as_deref() == Some(&change.id)
                && entry.decision.as_deref() == Some("begun")
                && entry.models == models
                && entry.gate == station
        });
        if stands {
            known.push(change);
        } else {
            let what = "model change";
            ledger::alarm(state, what, &change.id, "the log knows of no such change").await?;
        }
    }
    Ok(known)
}

/// Why somebody has no reference of the new model yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// A photograph waits for the station.
    Photograph,
    /// The next passage at a gate that runs both models brings it.
    Passage,
}

/// How far a change is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The change.
    pub change: ChangeRow,
    /// People who have references of the old model or of the new one.
    pub people: usize,
    /// Who is left, and what that person waits for.
    pub left: BTreeMap<SubjectId, Waits>,
    /// Photographs that wait for the station.
    pub photographs: usize,
    /// Photographs that gave nothing.
    pub unusable: usize,
}

impl Progress {
    fn new(change: ChangeRow, touched: &[TouchedRow]) -> Self {
        let old = change.from.to_string();
        let mut people = BTreeSet::new();
        let mut missing: BTreeMap<SubjectId, BTreeSet<&str>> = BTreeMap::new();
        for row in touched {
            people.insert(row.subject);
            if row.model == old {
                let modalities = missing.entry(row.subject).or_default();
                modalities.insert(row.modality.as_str());
            }
        }
        for row in touched.iter().filter(|row| row.model != old) {
            if let Some(modalities) = missing.get_mut(&row.subject) {
                modalities.remove(row.modality.as_str());
            }
        }
        let waiting = waiting(&change, touched);
        let has_photograph: BTreeSet<SubjectId> = waiting.iter().map(|row| row.subject).collect();
        let left = missing
            .into_iter()
            .filter(|(_, modalities)| !modalities.is_empty())
            .map(|(subject, _)| {
                let waits = if has_photograph.contains(&subject) {
                    Waits::Photograph
                } else {
                    Waits::Passage
                };
                (subject, waits)
            })
            .collect();
        Self {
            people: people.len(),
            left,
            photographs: waiting.len(),
            unusable: touched.iter().filter(|row| row.unusable).count(),
            change,
        }
    }
}

/// Old references whose photograph the station should encode: kept, not tried in vain, and not encoded yet. None without a station.
fn waiting<'a>(change: &ChangeRow, touched: &'a [TouchedRow]) -> Vec<&'a TouchedRow> {
    if change.station.is_none() {
        return Vec::new();
    }
    let (old, new) = (change.from.to_string(), change.to.to_string());
    let done: BTreeSet<(SubjectId, &str)> = touched
        .iter()
        .filter(|row| row.model == new)
        .map(|row| (row.subject, row.source_sha256.as_str()))
        .collect();
    touched
        .iter()
        .filter(|row| row.model == old && row.has_photograph && !row.unusable)
        .filter(|row| !done.contains(&(row.subject, row.source_sha256.as_str())))
        .collect()
}

/// How far each change is that goes on. Its entry of the log says who asked.
///
/// # Errors
/// Database or log.
pub async fn report(state: &AppState, actor: &str) -> Result<Vec<Progress>, ChangeError> {
    let mut all = Vec::new();
    for change in going_on(state).await? {
        let touched = state.store.references_of_change(&change).await?;
        all.push(Progress::new(change, &touched));
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some("model changes".to_owned()),
        ..audit::entry("consultation", state.clock.now())?
    };
    audit::record(state, entry).await?;
    Ok(all)
}

/// What the end of a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// People whose old references are gone.
    pub people: usize,
    /// Old references that are gone.
    pub references: usize,
    /// People who keep their old references only; no gate finds them by these once the old model is gone.
    pub left: usize,
}

/// Ends a change: everybody who has references of the new model loses those of the old one, a person at a time, each with an entry.
/// After an interruption it is run again. Whoever is left behind keeps the old references, and `leave` must say how many these are.
///
/// # Errors
/// See [`ChangeError`].
pub async fn end(
    state: &AppState,
    id: &str,
    leave: usize,
    actor: &str,
) -> Result<Ended, ChangeError> {
    let change = going_on(state).await?.into_iter().find(|one| one.id == id);
    let change = change.ok_or(ChangeError::Unknown)?;
    let touched = state.store.references_of_change(&change).await?;
    let progress = Progress::new(change.clone(), &touched);
    if progress.left.len() != leave {
        return Err(ChangeError::PeopleLeft {
            left: progress.left.len(),
        });
    }
    let old = change.from.to_string();
    let mut retired: BTreeMap<SubjectId, Vec<ReferenceId>> = BTreeMap::new();
    for row in touched.iter().filter(|row| row.model == old) {
        if !progress.left.contains_key(&row.subject) {
            retired.entry(row.subject).or_default().push(row.id);
        }
    }
    let mut ended = Ended {
        people: 0,
        references: 0,
        left: leave,
    };
    for (subject, references) in retired {
        ended.references += retire(state, &change, subject, &references, actor).await?;
        ended.people += 1;
    }
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    if !write.model_change_end(&change.id, now).await? {
        return Err(ChangeError::Unknown);
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        decision: Some("ended".to_owned()),
        reason: Some(format!(
            "{} people changed, {leave} left behind",
            ended.people
        )),
        ..about(&change, now)?
    };
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(ended)
}

/// Deletes a person's old references, if there still is one of the new model for each modality.
async fn retire(
    state: &AppState,
    change: &ChangeRow,
    subject: SubjectId,
    references: &[ReferenceId],
    actor: &str,
) -> Result<usize, ChangeError> {
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let mut gone = Vec::new();
    for modality in sallyport_domain::Modality::ALL.map(|modality| modality.code()) {
        let old = write.references_of(subject, modality, change.from).await?;
        if old.is_empty() {
            continue;
        }
        let new = write.references_of(subject, modality, change.to).await?;
        if new.is_empty() {
            // Erased or changed since the report; the person is found by the old ones as before.
            return Ok(0);
        }
        for (id, _) in old {
            if references.contains(&id) && write.reference_delete(id).await? {
                gone.push(id);
            }
        }
    }
    if gone.is_empty() {
        return Ok(0);
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        subject: Some(subject.to_string()),
        references: gone.iter().map(ToString::to_string).collect(),
        ..about(change, now)?
    };
    let entry = Entry {
        kind: "reference_retired".to_owned(),
        ..entry
    };
    audit::append(state, &mut write, entry, None).await?;
    let seq = write.registry_changed(subject).await?;
    write.commit().await?;
    state.logged_at(now);
    if let Ok(mut gallery) = state.gallery.write() {
        for id in &gone {
            gallery.remove(*id);
        }
    }
    replicas::own_change(state, seq).await;
    Ok(gone.len())
}

/// The person's key and whether the person is there at all.
async fn key_of(
    state: &AppState,
    subject: SubjectId,
) -> Result<crate::sealing::Key, RegistryError> {
    let row = state.store.subject(subject).await?;
    let row = row.ok_or(RegistryError::Unknown)?;
    Ok(registry::subject_key(state, &row)?)
}

#[cfg(test)]
mod tests;
