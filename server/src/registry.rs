//! The registry: enrolled people and their references, sealed at rest, templates in memory for the search.

use sallyport_domain::{
    FaceTemplate, GatePolicy, IrisTemplate, Modality, ModelDigest, ReferenceId, SubjectCategory,
    SubjectId, SubjectStatus, SubjectView, Template, Timestamp,
};
use sallyport_protocol::{
    EnrolmentOutcome, EnrolmentRefusal, EnrolmentSample, EnrolmentSubmission,
};
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::enrolment::{self, Checked};
use crate::keys::{self, KeyError, Purpose};
use crate::passages::{content_sha256, sealed_json};
use crate::replicas;
use crate::sealing::{self, Key, Place, SealError};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::gates::GateRow;
use crate::store::registry::{ReferenceRow, SubjectRow};
use crate::templates;

/// An enrolment is tried so often when other servers change the registry in between.
const ENROL_ATTEMPTS: u32 = 16;

/// Why the registry did not do what was asked. Carries no personal data.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The submission is not acceptable.
    #[error("{0}")]
    Invalid(&'static str),
    /// The subject exists with other content.
    #[error(
        "this subject is enrolled already with other content; remove it first or use another subject id"
    )]
    Conflict,
    /// There is no such subject.
    #[error("there is no such subject")]
    Unknown,
    /// Other servers keep enrolling.
    #[error("other servers are enrolling at the same moment; send it again")]
    Busy,
    /// A sealed value could not be opened.
    #[error("a record of the registry could not be opened: {0}")]
    Sealed(#[from] SealError),
    /// A subject's key could not be unwrapped.
    #[error("a key of the registry could not be opened: {0}")]
    Key(#[from] KeyError),
    /// Database or log failed; nothing was stored.
    #[error("the registry could not be changed or read: {0}")]
    Unavailable(#[source] AuditError),
}

impl From<AuditError> for RegistryError {
    fn from(error: AuditError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What is known of a subject beside references. `Debug` hides the name.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Why the person is known.
    pub category: SubjectCategory,
    /// May the person pass at all?
    pub status: SubjectStatus,
    /// From when on doors open.
    pub effective_from: Timestamp,
    /// Name to show to officers.
    pub name: String,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record([sealed])")
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.name.zeroize();
    }
}

/// A subject with the opened record.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Who.
    pub id: SubjectId,
    /// The record.
    pub record: Record,
}

impl Subject {
    /// The policy's view.
    #[must_use]
    pub fn view(&self) -> SubjectView {
        SubjectView {
            id: self.id,
            category: self.record.category,
            status: self.record.status,
            effective_from: self.record.effective_from,
        }
    }
}

pub(crate) fn subject_key(state: &AppState, row: &SubjectRow) -> Result<Key, KeyError> {
    let owner = row.id.to_string();
    state
        .keys
        .ring
        .unwrap(&owner, Purpose::Registry, row.key_version, &row.key_wrapped)
}

fn record_place<'a>(state: &'a AppState, id: &'a str) -> Place<'a> {
    Place {
        subject: id,
        ..Place::new(state.config.site.as_str(), "subject", "record_sealed", id)
    }
}

/// Opens a reference's template: its row, template secret, subject, modality and model are bound to it.
///
/// # Errors
/// Another row's, changed, or the wrong key.
pub fn open_template(
    state: &AppState,
    key: &Key,
    reference: &ReferenceRow,
) -> Result<Zeroizing<Vec<u8>>, RegistryError> {
    let (row, owner) = (template_row(reference), reference.subject.to_string());
    let place = template_place(state, reference, &row, &owner);
    Ok(sealing::open(key, 1, &place, &reference.template_sealed).map(Zeroizing::new)?)
}

/// Seals a template for its row.
pub(crate) fn seal_template_bytes(
    state: &AppState,
    key: &Key,
    reference: &ReferenceRow,
    template: &[u8],
) -> Result<Vec<u8>, SealError> {
    let (row, owner) = (template_row(reference), reference.subject.to_string());
    let place = template_place(state, reference, &row, &owner);
    sealing::seal(key, 1, &place, template)
}

/// The reference and the template secret's version: a template is bound to both.
fn template_row(reference: &ReferenceRow) -> String {
    match reference.secret_version {
        0 => reference.id.to_string(),
        version => format!("{}/{version}", reference.id),
    }
}

fn template_place<'a>(
    state: &'a AppState,
    reference: &'a ReferenceRow,
    row: &'a str,
    subject: &'a str,
) -> Place<'a> {
    Place {
        subject,
        modality: &reference.modality,
        model: &reference.model,
        ..Place::new(
            state.config.site.as_str(),
            "reference",
            "template_sealed",
            row,
        )
    }
}

pub(crate) fn open_record(state: &AppState, row: &SubjectRow) -> Result<Subject, RegistryError> {
    state.note_opened();
    let key = subject_key(state, row)?;
    let id = row.id.to_string();
    let plain = Zeroizing::new(sealing::open(
        &key,
        1,
        &record_place(state, &id),
        &row.record_sealed,
    )?);
    let record =
        serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt("subject.record_sealed"))?;
    Ok(Subject { id: row.id, record })
}

fn seal_record(
    state: &AppState,
    key: &Key,
    id: SubjectId,
    record: &Record,
) -> Result<Vec<u8>, RegistryError> {
    let plain = Zeroizing::new(
        serde_json::to_vec(record).map_err(|_| StoreError::Corrupt("subject.record_sealed"))?,
    );
    Ok(sealing::seal(
        key,
        1,
        &record_place(state, &id.to_string()),
        &plain,
    )?)
}

/// One subject, opened; `None` when there is none.
///
/// # Errors
/// Database or sealing.
pub async fn subject(state: &AppState, id: SubjectId) -> Result<Option<Subject>, RegistryError> {
    state
        .store
        .subject(id)
        .await?
        .map(|row| open_record(state, &row))
        .transpose()
}

/// The name to show to officers; `None` when the subject is gone.
///
/// # Errors
/// Database or sealing.
pub async fn display_name(
    state: &AppState,
    id: SubjectId,
) -> Result<Option<String>, RegistryError> {
    Ok(subject(state, id)
        .await?
        .map(|subject| subject.record.name.clone()))
}

/// All subjects; each that cannot be opened is an error of its own.
///
/// # Errors
/// Database.
pub async fn list(state: &AppState) -> Result<Vec<Result<Subject, RegistryError>>, RegistryError> {
    Ok(state
        .store
        .subjects()
        .await?
        .iter()
        .map(|row| open_record(state, row))
        .collect())
}

/// All room is asked for at once: a list that grows leaves copies of itself behind in memory.
pub(crate) fn template_bytes(template: &Template) -> Zeroizing<Vec<u8>> {
    match template {
        Template::Face(face) => {
            let values = face.as_slice();
            let mut bytes = Zeroizing::new(Vec::with_capacity(size_of_val(values)));
            for value in values {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            bytes
        }
        Template::Iris(iris) => iris.to_bytes(),
    }
}

/// The template of a reference; `None` when the bytes are none of this modality and model.
fn template_from(modality: Modality, model: ModelDigest, bytes: &[u8]) -> Option<Template> {
    if modality == Modality::Face {
        let (values, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return None;
        }
        let mut face = Vec::with_capacity(values.len());
        face.extend(values.iter().map(|value| f32::from_le_bytes(*value)));
        return FaceTemplate::new(face).ok().map(Template::Face);
    }
    IrisTemplate::from_bytes(bytes)
        .ok()
        .filter(|iris| iris.encoder() == model && iris.eye().modality() == modality)
        .map(Template::Iris)
}

fn model_of(reference: &ReferenceRow) -> Result<ModelDigest, StoreError> {
    reference
        .model
        .parse()
        .map_err(|_| StoreError::Corrupt("reference.model"))
}

/// A reference's template as it is stored, under the template secret that the row names.
pub(crate) fn opened(
    state: &AppState,
    key: &Key,
    reference: &ReferenceRow,
) -> Result<Template, RegistryError> {
    let modality = Modality::from_code(&reference.modality)
        .ok_or(StoreError::Corrupt("reference.modality"))?;
    let plain = open_template(state, key, reference)?;
    Ok(template_from(modality, model_of(reference)?, &plain)
        .ok_or(StoreError::Corrupt("reference.template_sealed"))?)
}

/// What the gallery holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// References loaded.
    pub references: usize,
    /// Subjects that could not be loaded; gates will not recognise them.
    pub failed: usize,
    /// Last change of the registry that is included.
    pub seq: i64,
}

/// Loads all references. A subject that cannot be opened is left out, loudly: gates then refer or refuse the person.
///
/// # Errors
/// The database failed.
pub async fn load(state: &AppState) -> Result<Loaded, RegistryError> {
    // Taken first: a change during the load is then applied once more, which does no harm.
    let mut followed = state.followed.lock().await;
    let seq = state.store.registry_seq().await?;
    let mut loaded = Loaded {
        references: 0,
        failed: 0,
        seq,
    };
    for row in state.store.subjects().await? {
        match load_subject(state, &row, false).await {
            Ok(count) => loaded.references += count,
            Err(RegistryError::Unavailable(AuditError::Store(error @ StoreError::Database(_)))) => {
                return Err(error.into());
            }
            Err(error) => {
                loaded.failed += 1;
                tracing::error!(subject = %row.id, %error, "this subject was not loaded; gates will not recognise the person");
            }
        }
    }
    *followed = seq;
    state.caught_up.send_replace(seq);
    Ok(loaded)
}

async fn load_subject(
    state: &AppState,
    row: &SubjectRow,
    replace: bool,
) -> Result<usize, RegistryError> {
    open_record(state, row)?;
    let key = subject_key(state, row)?;
    let mut loaded = Vec::new();
    for reference in state.store.references(row.id).await? {
        let model = model_of(&reference)?;
        let template = opened(state, &key, &reference)?;
        let version = reference.secret_version;
        let template = state
            .keys
            .templates
            .taken_out(state, version, template)
            .await?;
        loaded.push((model, reference.id, template));
    }
    let count = loaded.len();
    let mut gallery = state
        .gallery
        .write()
        .map_err(|_| StoreError::Corrupt("the gallery in memory"))?;
    // In one turn: no search sees the person without references meanwhile.
    if replace {
        gallery.remove_subject(row.id);
    }
    for (model, reference, template) in &loaded {
        state.note_protection(gallery.insert(*model, *reference, row.id, template));
    }
    Ok(count)
}

/// Takes one subject from the database into the gallery as it is now: loads it anew or drops it.
///
/// # Errors
/// The database failed.
pub(crate) async fn reload(state: &AppState, id: SubjectId) -> Result<(), RegistryError> {
    if let Some(row) = state.store.subject(id).await? {
        match load_subject(state, &row, true).await {
            Ok(_) => return Ok(()),
            Err(RegistryError::Unavailable(AuditError::Store(error @ StoreError::Database(_)))) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::error!(subject = %id, %error, "this subject was not loaded; gates will not recognise the person");
            }
        }
    }
    if let Ok(mut gallery) = state.gallery.write() {
        gallery.remove_subject(id);
    }
    Ok(())
}

/// Enrols one person: consistency of the samples, search for duplicates, then sealed and stored with a log entry.
///
/// # Errors
/// See [`RegistryError`]; nothing was stored.
pub async fn enrol(
    state: &AppState,
    station: &GateRow,
    submission: EnrolmentSubmission,
) -> Result<EnrolmentOutcome, RegistryError> {
    let models = enrolment::validate(&submission)?;
    let submission_sha256 = content_sha256(&submission)?;
    let submission = entered(state, submission)?;
    // Enrolments come one after the other: two submissions of one person must see each other as duplicates.
    let _turn = state.enrolling.lock().await;
    let policy: GatePolicy =
        serde_json::from_str(&station.policy).map_err(|_| StoreError::Corrupt("gate.policy"))?;
    for _ in 0..ENROL_ATTEMPTS {
        // Another server may enrol the same person at this moment: the search for duplicates must have seen everything that is
        // committed before this enrolment is.
        let seen = replicas::catch_up(state).await?;
        if let Some(row) = state.store.subject(submission.subject).await? {
            return enrolled_already(state, &row, &submission_sha256).await;
        }
        let keep = match enrolment::check(state, &policy, &submission).await? {
            Checked::Keep(keep) => keep,
            Checked::Doubt(reason) => return refuse(state, &submission, &models, reason).await,
        };
        let outcome = commit(state, &submission, &keep, &models, &submission_sha256, seen).await?;
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
    }
    Err(RegistryError::Busy)
}

/// The submission with all templates under the secret in which this server works.
fn entered(
    state: &AppState,
    mut submission: EnrolmentSubmission,
) -> Result<EnrolmentSubmission, RegistryError> {
    for sample in &mut submission.samples {
        let entered = state.keys.templates.enter(&sample.probe.template);
        sample.probe.template =
            entered.map_err(|_| RegistryError::Invalid("a sample's template is none"))?;
    }
    Ok(submission)
}

async fn enrolled_already(
    state: &AppState,
    row: &SubjectRow,
    submission_sha256: &str,
) -> Result<EnrolmentOutcome, RegistryError> {
    if row.submission_sha256 != submission_sha256 {
        return Err(RegistryError::Conflict);
    }
    let references = state
        .store
        .references(row.id)
        .await?
        .into_iter()
        .map(|reference| reference.id)
        .collect();
    Ok(EnrolmentOutcome::Enrolled {
        subject: row.id,
        references,
        log_index: row.log_index,
    })
}

fn enrolment_entry(
    submission: &EnrolmentSubmission,
    models: &[ModelDigest],
    decision: &str,
    now: Timestamp,
) -> Result<Entry, AuditError> {
    Ok(Entry {
        gate: Some(submission.station.to_string()),
        subject: Some(submission.subject.to_string()),
        decision: Some(decision.to_owned()),
        models: models.iter().map(ToString::to_string).collect(),
        ..audit::entry("enrolment", now)?
    })
}

async fn refuse(
    state: &AppState,
    submission: &EnrolmentSubmission,
    models: &[ModelDigest],
    reason: EnrolmentRefusal,
) -> Result<EnrolmentOutcome, RegistryError> {
    let entry = Entry {
        reason: Some(enrolment::refusal_code(reason).to_owned()),
        ..enrolment_entry(submission, models, "refused", state.clock.now())?
    };
    let log_index = audit::record(state, entry).await?;
    Ok(EnrolmentOutcome::Refused { reason, log_index })
}

/// Seals and stores; `None` when the registry changed after `seen`, up to which duplicates were searched.
async fn commit(
    state: &AppState,
    submission: &EnrolmentSubmission,
    keep: &[usize],
    models: &[ModelDigest],
    submission_sha256: &str,
    seen: i64,
) -> Result<Option<EnrolmentOutcome>, RegistryError> {
    let now = state.clock.now();
    let id = submission.subject;
    let (key, key_rows) = keys::new_subject_keys(&state.keys.ring, id)?;
    let record = Record {
        category: submission.category,
        status: SubjectStatus::Active,
        effective_from: now.plus_millis(i64::from(state.config.cool_off_seconds) * 1_000),
        name: submission.display_name.trim().to_owned(),
    };
    let record_sealed = seal_record(state, &key, id, &record)?;
    let mut rows = Vec::new();
    let secret = templates::newest(&state.store.template_secrets().await?);
    let samples: Vec<&EnrolmentSample> = keep
        .iter()
        .filter_map(|at| submission.samples.get(*at))
        .collect();
    for sample in &samples {
        rows.push(reference(state, &key, id, sample, secret, now).await?);
    }
    let mut write = state.store.write().await?;
    // Keys that were wrapped just before a rotation would stay behind, and so would templates under a secret just replaced.
    let newest = state.keys.ring.newest()?;
    if write.registry_seq().await? != seen
        || key_rows.iter().any(|row| row.version != newest)
        || templates::newest(&write.template_secrets().await?) != secret
    {
        return Ok(None);
    }
    let entry = enrolment_entry(submission, models, "enrolled", now)?;
    let log_index = audit::append(state, &mut write, entry, None).await?;
    let row = SubjectRow {
        id,
        key_version: newest,
        key_wrapped: Vec::new(),
        record_sealed,
        submission_sha256: submission_sha256.to_owned(),
        log_index,
    };
    write.subject_insert(&row, now).await?;
    for row in &key_rows {
        write.data_key_insert(row).await?;
    }
    for row in &rows {
        write.reference_insert(row, now).await?;
    }
    let seq = write.registry_changed(id).await?;
    write.commit().await?;
    state.logged_at(now);
    if let Ok(mut gallery) = state.gallery.write() {
        for (row, sample) in rows.iter().zip(&samples) {
            let (model, template) = (sample.probe.model, &sample.probe.template);
            state.note_protection(gallery.insert(model, row.id, id, template));
        }
    }
    replicas::own_change(state, seq).await;
    // In the store's order, as a retry will be answered.
    let mut references: Vec<ReferenceId> = rows.iter().map(|row| row.id).collect();
    references.sort();
    Ok(Some(EnrolmentOutcome::Enrolled {
        subject: id,
        references,
        log_index,
    }))
}

async fn reference(
    state: &AppState,
    key: &Key,
    subject: SubjectId,
    sample: &EnrolmentSample,
    secret_version: u32,
    now: Timestamp,
) -> Result<ReferenceRow, RegistryError> {
    let template = &sample.probe.template;
    // Of an eye no picture is kept, whatever a station sends: templates only (NSW Regulation 2014, cl 321).
    let photograph = sample
        .photograph
        .as_ref()
        .filter(|_| template.face().is_some());
    let mut row = ReferenceRow {
        id: ReferenceId::new(now, random().map_err(|_| AuditError::Random)?),
        subject,
        modality: template.modality().code().to_owned(),
        model: sample.probe.model.to_string(),
        secret_version,
        template_sealed: Vec::new(),
        source_sha256: sample.source_sha256.clone(),
        photograph_sealed: sealed_json(photograph)?,
    };
    let stored = state
        .keys
        .templates
        .put_away(state, secret_version, template.clone())
        .await?;
    row.template_sealed = seal_template_bytes(state, key, &row, &template_bytes(&stored))?;
    Ok(row)
}

/// Changes a subject's status, with a log entry.
///
/// # Errors
/// See [`RegistryError`]; nothing was changed.
pub async fn set_status(
    state: &AppState,
    id: SubjectId,
    status: SubjectStatus,
    actor: &str,
) -> Result<u64, RegistryError> {
    let mut write = state.store.write().await?;
    let row = write.subject(id).await?.ok_or(RegistryError::Unknown)?;
    let key = subject_key(state, &row)?;
    let mut record = open_record(state, &row)?.record;
    record.status = status;
    let sealed = seal_record(state, &key, id, &record)?;
    let now = state.clock.now();
    let entry = Entry {
        actor: Some(actor.to_owned()),
        subject: Some(id.to_string()),
        decision: Some(status.code().to_owned()),
        ..audit::entry("subject_status", now)?
    };
    let index = audit::append(state, &mut write, entry, None).await?;
    write.subject_update(id, sealed).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(index)
}

/// Removes a subject with data key and references, with a log entry. Running servers drop the person within a second.
///
/// # Errors
/// See [`RegistryError`]; nothing was removed.
pub async fn remove(state: &AppState, id: SubjectId, actor: &str) -> Result<u64, RegistryError> {
    let mut write = state.store.write().await?;
    if !write.subject_delete(id).await? {
        return Err(RegistryError::Unknown);
    }
    let now = state.clock.now();
    let entry = Entry {
        actor: Some(actor.to_owned()),
        subject: Some(id.to_string()),
        decision: Some("removed".to_owned()),
        ..audit::entry("subject_removed", now)?
    };
    let index = audit::append(state, &mut write, entry, None).await?;
    write.registry_changed(id).await?;
    write.commit().await?;
    state.logged_at(now);
    if let Ok(mut gallery) = state.gallery.write() {
        gallery.remove_subject(id);
    }
    Ok(index)
}
