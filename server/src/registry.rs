//! The registry: enrolled people and their references, sealed at rest, templates in memory for the search.

use std::collections::BTreeMap;

use sallyport_domain::{
    FaceTemplate, IrisTemplate, Modality, ModelDigest, ReferenceId, SubjectCategory, SubjectId,
    SubjectStatus, SubjectView, Template, Timestamp,
};
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::audit::{self, AuditError, By};
use crate::enrolments::{self, ledger};
use crate::keys::{KeyError, Purpose};
use crate::records::Details;
use crate::retention;
use crate::sealing::{self, Key, Place, SealError};
use crate::state::AppState;
use crate::store::registry::{ReferenceRow, SubjectRow};
use crate::store::{StoreError, Write};

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
    /// It is another one now.
    #[error(
        "this person was merged into {0}; do it there, or take the merger back first (registry unmerge)"
    )]
    Merged(SubjectId),
    /// The station has no right to submit.
    #[error(
        "no enrolment is open under this code for this station: it is unknown, used up, closed or too old. Ask an enroller to open one in the console, or on the server: sallyport-server enrolment open"
    )]
    NoOrder,
    /// The log does not know it.
    #[error(
        "the audit log knows of no approval of this; somebody changed the database by hand. Keep the database as it is for the investigation"
    )]
    NotInLog,
    /// What is under review is not what was submitted.
    #[error(
        "what is under review was changed in the database after the station submitted it, so it cannot be decided; an alarm is in the log. Keep the database as it is for the investigation"
    )]
    Changed,
    /// The profile forbids to keep it.
    #[error(
        "the jurisdiction profile {profile} forbids keeping this person's {what} ({clause}); nothing was stored"
    )]
    Forbidden {
        /// Name of the profile.
        profile: String,
        /// The kind of data.
        what: &'static str,
        /// The clause.
        clause: String,
    },
    /// The profile in the database is not the one that the log names.
    #[error(
        "the jurisdiction profile in the database is not the one that the log names; somebody changed the database by hand. Keep it for the investigation, and set the right profile: sallyport-server profile set"
    )]
    ProfileChanged,
    /// A legal hold stands.
    #[error(
        "a legal hold stands about this person, so nothing is removed; it must be lifted first, which needs a second person too"
    )]
    Held,
    /// Enrolments wait for an officer.
    #[error("enrolments are under review; have them decided first, then run it again")]
    UnderReview,
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
    /// Legal basis, custody and visits.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
    /// Quality (0 to 100) of the sample of each reference, where it was kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<ReferenceId, f32>,
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

/// The same bytes of a template as they are sealed: what the log's hash of a reference is over.
pub(crate) fn template_sha256(template: &Template) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(&*template_bytes(template)))
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

pub(crate) fn seal_record(
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

fn photograph_place<'a>(state: &'a AppState, row: &'a str, subject: &'a str) -> Place<'a> {
    Place {
        subject,
        ..Place::new(
            state.config.site.as_str(),
            "reference",
            "photograph_sealed",
            row,
        )
    }
}

/// Seals a photograph, which the agent sealed before, under its subject's data key, so that it goes with the subject.
pub(crate) fn seal_photograph(
    state: &AppState,
    key: &Key,
    reference: &ReferenceRow,
    photograph: &[u8],
) -> Result<Vec<u8>, SealError> {
    let (row, subject) = (reference.id.to_string(), reference.subject.to_string());
    let place = photograph_place(state, &row, &subject);
    sealing::seal(key, 1, &place, photograph)
}

/// A reference's photograph as the agent sealed it; `None` where none is kept.
///
/// # Errors
/// Another row's, changed, or the wrong key.
pub(crate) fn photograph(
    state: &AppState,
    key: &Key,
    reference: &ReferenceRow,
) -> Result<Option<Vec<u8>>, SealError> {
    let (row, subject) = (reference.id.to_string(), reference.subject.to_string());
    let place = photograph_place(state, &row, &subject);
    reference
        .photograph_sealed
        .as_deref()
        .map(|sealed| sealing::open(key, 1, &place, sealed))
        .transpose()
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

pub(crate) fn model_of(reference: &ReferenceRow) -> Result<ModelDigest, StoreError> {
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
    let plain = open_template(state, key, reference)?;
    template_of(reference, &plain)
}

/// The template that these bytes are, by its row.
pub(crate) fn template_of(
    reference: &ReferenceRow,
    plain: &[u8],
) -> Result<Template, RegistryError> {
    let modality = Modality::from_code(&reference.modality)
        .ok_or(StoreError::Corrupt("reference.modality"))?;
    Ok(template_from(modality, model_of(reference)?, plain)
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
    ledger::catch_up(state).await?;
    crate::profiles::load(state).await?;
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
                ledger::not_in_log(state, &error, "subject", &row.id.to_string()).await?;
            }
        }
    }
    enrolments::load(state).await?;
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
        ledger::stands(state, &reference, &template).await?;
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
    ledger::catch_up(state).await?;
    enrolments::reload(state, id).await?;
    if let Some(row) = state.store.subject(id).await? {
        match load_subject(state, &row, true).await {
            Ok(_) => return Ok(()),
            Err(RegistryError::Unavailable(AuditError::Store(error @ StoreError::Database(_)))) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::error!(subject = %id, %error, "this subject was not loaded; gates will not recognise the person");
                ledger::not_in_log(state, &error, "subject", &id.to_string()).await?;
            }
        }
    }
    if let Ok(mut gallery) = state.gallery.write() {
        gallery.remove_subject(id);
    }
    Ok(())
}

/// Changes a subject's status, with a log entry; a reason is sealed beside it.
///
/// # Errors
/// See [`RegistryError`]; nothing was changed.
pub async fn set_status(
    state: &AppState,
    id: SubjectId,
    status: SubjectStatus,
    actor: &str,
    reason: &str,
) -> Result<u64, RegistryError> {
    let mut write = state.store.write().await?;
    let index = set_status_in(state, &mut write, id, status, By::one(actor), reason).await?;
    write.commit().await?;
    state.logged_at(state.clock.now());
    // From here on an older record that somebody puts back is worth nothing.
    ledger::catch_up(state).await?;
    Ok(index)
}

/// The same inside a transaction of the caller's.
pub(crate) async fn set_status_in(
    state: &AppState,
    write: &mut Write<'_>,
    id: SubjectId,
    status: SubjectStatus,
    by: By<'_>,
    reason: &str,
) -> Result<u64, RegistryError> {
    let row = write.subject(id).await?.ok_or(RegistryError::Unknown)?;
    not_merged(state, id).await?;
    let key = subject_key(state, &row)?;
    let mut record = open_record(state, &row)?.record;
    record.status = status;
    let sealed = seal_record(state, &key, id, &record)?;
    let entry = Entry {
        subject: Some(id.to_string()),
        decision: Some(status.code().to_owned()),
        ..by.sign(audit::entry("subject_status", state.clock.now())?)
    };
    let index = ledger::append(state, write, entry, Some(reason.trim())).await?;
    write.subject_update(id, sealed).await?;
    Ok(index)
}

/// Notes the quality of new references' samples in the sealed record, in the transaction that adds them.
pub(crate) async fn note_quality(
    state: &AppState,
    write: &mut Write<'_>,
    id: SubjectId,
    quality: impl Iterator<Item = (ReferenceId, f32)>,
) -> Result<(), RegistryError> {
    let row = write.subject(id).await?.ok_or(RegistryError::Unknown)?;
    let mut record = open_record(state, &row)?.record;
    record.quality.extend(quality);
    let sealed = seal_record(state, &subject_key(state, &row)?, id, &record)?;
    write.subject_update(id, sealed).await?;
    Ok(())
}

/// Goes on only where the person's references are still the person's own.
pub(crate) async fn not_merged(state: &AppState, id: SubjectId) -> Result<(), RegistryError> {
    ledger::catch_up(state).await?;
    match ledger::merged_into(state, id).await {
        Some((into, _)) => Err(RegistryError::Merged(into)),
        None => Ok(()),
    }
}

/// Deletes a person with keys, references, documents and pictures of passages, and with everybody who was merged into this one: it is
/// the same person. Each gets an entry such as this one. Returns the first entry, and the change of the registry; `None` when there was
/// nobody.
pub(crate) async fn take_away(
    state: &AppState,
    write: &mut Write<'_>,
    id: SubjectId,
    by: By<'_>,
    entry: impl Fn() -> Result<Entry, AuditError>,
) -> Result<Option<(u64, i64)>, RegistryError> {
    not_merged(state, id).await?;
    let merged = ledger::merged(state, id).await.into_keys();
    let mut gone = Vec::new();
    for one in std::iter::once(id).chain(merged) {
        if write.subject_delete(one).await? {
            write.documents_delete(one).await?;
            retention::pictures_of(state, write, one, by).await?;
            gone.push(one);
        }
    }
    let mut done = None;
    for one in gone {
        let entry = Entry {
            subject: Some(one.to_string()),
            about: (one != id).then(|| id.to_string()),
            ..entry()?
        };
        let index = audit::append(state, write, entry, None).await?;
        let seq = write.registry_changed(one).await?;
        done = Some((done.map_or(index, |(first, _)| first), seq));
    }
    Ok(done)
}

/// Removes a subject with data key and references, with a log entry. Running servers drop the person within a second.
///
/// # Errors
/// See [`RegistryError`]; nothing was removed.
pub async fn remove(state: &AppState, id: SubjectId, actor: &str) -> Result<u64, RegistryError> {
    let mut write = state.store.write().await?;
    let index = remove_in(state, &mut write, id, By::one(actor)).await?;
    write.commit().await?;
    state.logged_at(state.clock.now());
    forget(state, id);
    Ok(index)
}

/// The same inside a transaction of the caller's, who calls [`forget`] after it. A legal hold keeps the person: it is lifted first.
pub(crate) async fn remove_in(
    state: &AppState,
    write: &mut Write<'_>,
    id: SubjectId,
    by: By<'_>,
) -> Result<u64, RegistryError> {
    ledger::catch_up(state).await?;
    if ledger::life(state, id)
        .await
        .is_some_and(|life| !life.holds.is_empty())
    {
        return Err(RegistryError::Held);
    }
    let entry = || {
        Ok(Entry {
            decision: Some("removed".to_owned()),
            ..by.sign(audit::entry("subject_removed", state.clock.now())?)
        })
    };
    let gone = take_away(state, write, id, by, entry).await?;
    gone.map(|(first, _)| first).ok_or(RegistryError::Unknown)
}

/// Takes a removed person's templates out of this server's memory; others follow the registry's changes.
pub(crate) fn forget(state: &AppState, id: SubjectId) {
    if let Ok(mut gallery) = state.gallery.write() {
        gallery.remove_subject(id);
    }
}
