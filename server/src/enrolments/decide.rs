//! The second officer: looks, which is logged, and then approves exactly what was looked at, or rejects it.

use sallyport_domain::{
    Enrolment, EnrolmentId, EnrolmentState, InvalidTransition, OfficerId, SubjectId, SubjectStatus,
};
use sallyport_transparency::Entry;
use zeroize::Zeroizing;

use super::content::{self, Content, Findings, Opened, Staged};
use super::{MAX_WORDS, is_doubtful, ledger};
use crate::audit::{self, AuditError};
use crate::keys::{self, Purpose};
use crate::passages::open_attachment;
use crate::registry::{self, Record, RegistryError};
use crate::replicas;
use crate::sealing::Key;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::enrolments::{EnrolmentRow, OrderRow};
use crate::store::registry::{ReferenceRow, SubjectRow};

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// No such enrolment.
    #[error(
        "there is no such enrolment; it may have been decided, or erased when its time was over"
    )]
    Unknown,
    /// The two-person rule, or the state.
    #[error(transparent)]
    Forbidden(#[from] InvalidTransition),
    /// The officer has not looked at it.
    #[error("look at it first: open its page, and in a batch the page of everybody who was drawn")]
    NotLooked,
    /// A reason is missing.
    #[error(
        "give a reason of 1 to 500 characters; approving somebody with a possible double needs one too"
    )]
    NoReason,
    /// The person named is not among those alike.
    #[error("choose one of the people shown as possibly the same person")]
    NotAlike,
    /// Stations may still submit.
    #[error(
        "the batch is still open; close it first, so that the server can draw whom you look at"
    )]
    StillOpen,
    /// Registry, database or log; nothing was stored.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<StoreError> for DecisionError {
    fn from(error: StoreError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<AuditError> for DecisionError {
    fn from(error: AuditError) -> Self {
        Self::Registry(error.into())
    }
}

/// What the second officer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new person.
    Approve,
    /// This person, who is enrolled already: the references become that person's.
    SamePerson(SubjectId),
    /// Nothing is kept.
    Reject,
}

/// An enrolment as the second officer sees it.
#[derive(Debug)]
pub struct Reviewed {
    /// The row.
    pub row: EnrolmentRow,
    /// The order.
    pub order: OrderRow,
    /// What would be committed.
    pub content: Content,
    /// What the checks found.
    pub findings: Findings,
    /// Photographs, by the place of their reference.
    pub pictures: Vec<usize>,
}

/// Looks up what is under review; whatever was changed in the database raises an alarm.
async fn opened(
    state: &AppState,
    id: EnrolmentId,
) -> Result<(EnrolmentRow, OrderRow, Opened), DecisionError> {
    let row = state.store.enrolment(id).await?;
    let row = row.ok_or(DecisionError::Unknown)?;
    if row.state != "under_review" {
        return Err(DecisionError::Unknown);
    }
    ledger::catch_up(state).await?;
    let found = async {
        if ledger::is_decided(state, &id.to_string()).await {
            return Err(RegistryError::NotInLog);
        }
        let order = state.store.order(row.order).await?;
        let order = order.ok_or(RegistryError::Changed)?;
        let opened = content::open(state, &row, &order).await?;
        Ok((order, opened))
    };
    match found.await {
        Ok((order, opened)) => Ok((row, order, opened)),
        Err(error) => {
            ledger::not_in_log(state, &error, "enrolment", &id.to_string()).await?;
            Err(error.into())
        }
    }
}

/// Writes the look into the log, and who looked beside the enrolment.
///
/// # Errors
/// Not logged; then nothing may be shown.
pub async fn look(
    state: &AppState,
    row: &EnrolmentRow,
    officer: OfficerId,
) -> Result<u64, AuditError> {
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let entry = Entry {
        actor: Some(officer.to_string()),
        subject: Some(row.subject.to_string()),
        about: Some(row.id.to_string()),
        decision: Some("enrolment_page".to_owned()),
        reason: Some("enrolment_review".to_owned()),
        ..audit::entry("consultation", now)?
    };
    let index = ledger::append(state, &mut write, entry, None).await?;
    write.look_insert(row.id, officer, index).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(index)
}

/// An enrolment for its page, after the look was logged.
///
/// # Errors
/// See [`DecisionError`]; nothing may be shown.
pub async fn review(
    state: &AppState,
    id: EnrolmentId,
    officer: OfficerId,
) -> Result<Reviewed, DecisionError> {
    let (row, order, opened) = opened(state, id).await?;
    look(state, &row, officer).await?;
    let pictures = opened
        .references
        .iter()
        .enumerate()
        .filter(|(_, one)| one.photograph.is_some())
        .map(|(at, _)| at)
        .collect();
    Ok(Reviewed {
        row,
        order,
        content: opened.content,
        findings: opened.findings,
        pictures,
    })
}

/// A picture for an officer's browser; the bytes are never decoded here.
pub type Picture = Vec<u8>;

/// The photograph of one reference under review, after the look was logged.
///
/// # Errors
/// See [`DecisionError`].
pub async fn picture(
    state: &AppState,
    id: EnrolmentId,
    at: usize,
    officer: OfficerId,
) -> Result<Picture, DecisionError> {
    let (row, _, opened) = opened(state, id).await?;
    let staged = opened.references.get(at);
    let sealed = staged.and_then(|one| one.photograph.as_deref());
    let sealed = sealed.ok_or(DecisionError::Unknown)?;
    looked_at(state, &row, row.subject, "enrolment_picture", officer).await?;
    Ok(open_attachment(state, sealed, &row.subject.to_string())?)
}

/// The photograph of somebody whom the checks found alike: enrolled, or under review as well.
///
/// # Errors
/// See [`DecisionError`].
pub async fn candidate_picture(
    state: &AppState,
    id: EnrolmentId,
    candidate: SubjectId,
    officer: OfficerId,
) -> Result<Picture, DecisionError> {
    let (row, _, found) = opened(state, id).await?;
    if !found.findings.alike.contains(&candidate) {
        return Err(DecisionError::NotAlike);
    }
    looked_at(state, &row, candidate, "candidate_picture", officer).await?;
    if let Some(subject) = state.store.subject(candidate).await? {
        let key = registry::subject_key(state, &subject).map_err(RegistryError::from)?;
        for reference in state.store.references(candidate).await? {
            let sealed =
                registry::photograph(state, &key, &reference).map_err(RegistryError::from)?;
            if let Some(sealed) = sealed {
                let whose = reference.origin.unwrap_or(candidate).to_string();
                return Ok(open_attachment(state, &sealed, &whose)?);
            }
        }
        return Err(DecisionError::Unknown);
    }
    for other in state.store.enrolments_of_subject(candidate).await? {
        if other.state == "under_review" {
            let (_, _, other) = opened(state, other.id).await?;
            let sealed = other.references.into_iter().find_map(|one| one.photograph);
            let sealed = sealed.ok_or(DecisionError::Unknown)?;
            return Ok(open_attachment(state, &sealed, &candidate.to_string())?);
        }
    }
    Err(DecisionError::Unknown)
}

async fn looked_at(
    state: &AppState,
    row: &EnrolmentRow,
    subject: SubjectId,
    what: &str,
    officer: OfficerId,
) -> Result<(), AuditError> {
    let entry = Entry {
        actor: Some(officer.to_string()),
        subject: Some(subject.to_string()),
        about: Some(row.id.to_string()),
        decision: Some(what.to_owned()),
        reason: Some("enrolment_review".to_owned()),
        ..audit::entry("consultation", state.clock.now())?
    };
    audit::record(state, entry).await.map(drop)
}

/// Has this officer looked? The log says so, not only the table.
async fn has_looked(
    state: &AppState,
    id: EnrolmentId,
    officer: OfficerId,
) -> Result<bool, StoreError> {
    let Some(index) = state.store.look(id, officer).await? else {
        return Ok(false);
    };
    let entry = ledger::entry_of(state, index, "consultation").await?;
    Ok(entry.is_some_and(|entry| {
        entry.about.as_deref() == Some(&id.to_string())
            && entry.actor.as_deref() == Some(&officer.to_string())
            && entry.decision.as_deref() == Some("enrolment_page")
    }))
}

fn hash(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    // Anything else than a hash is none that was reviewed.
    if hex::decode_to_slice(text, &mut bytes).is_err() {
        bytes = [0; 32];
    }
    bytes
}

fn as_domain(row: &EnrolmentRow, opened_by: OfficerId) -> Enrolment {
    Enrolment {
        id: row.id,
        subject: row.subject,
        opened_by,
        state: EnrolmentState::UnderReview {
            content: hash(&row.content_sha256),
        },
    }
}

fn checked_reason(reason: &str) -> Result<&str, DecisionError> {
    let reason = reason.trim();
    if reason.chars().count() > MAX_WORDS || reason.chars().any(|c| c.is_control() && c != '\n') {
        return Err(DecisionError::NoReason);
    }
    Ok(reason)
}

/// Decides one enrolment. `content` is the hash of what the officer saw; the caller has checked that the officer's role may decide.
/// Returns the log entry.
///
/// # Errors
/// See [`DecisionError`]; nothing was decided.
pub async fn decide(
    state: &AppState,
    id: EnrolmentId,
    officer: OfficerId,
    outcome: Outcome,
    content: &str,
    reason: &str,
) -> Result<u64, DecisionError> {
    let reason = checked_reason(reason)?;
    let (row, order, opened) = opened(state, id).await?;
    let enrolment = as_domain(&row, opened.opened_by);
    match outcome {
        Outcome::Approve | Outcome::SamePerson(_) => enrolment.approve(officer, hash(content))?,
        Outcome::Reject => enrolment.reject(officer, hash(content))?,
    };
    if !has_looked(state, id, officer).await? {
        return Err(DecisionError::NotLooked);
    }
    let needs_reason = opened.doubtful || outcome == Outcome::Reject;
    if needs_reason && reason.is_empty() {
        return Err(DecisionError::NoReason);
    }
    match outcome {
        Outcome::Approve => commit(state, &row, &order, opened, officer, reason, None).await,
        Outcome::SamePerson(target) => {
            if !opened.findings.alike.contains(&target) {
                return Err(DecisionError::NotAlike);
            }
            commit(state, &row, &order, opened, officer, reason, Some(target)).await
        }
        Outcome::Reject => {
            let entry = Entry {
                gate: Some(order.gate.to_string()),
                actor: Some(opened.opened_by.to_string()),
                actor2: Some(officer.to_string()),
                content: Some(row.content_sha256.clone()),
                ..audit::entry("enrolment", state.clock.now())?
            };
            let ended = erase(state, &row, "rejected", entry, reason).await?;
            ended.ok_or(DecisionError::Unknown)
        }
    }
}

/// Ends an enrolment with nothing kept of it: content, references and keys go, with a log entry. `None` when it had ended.
///
/// # Errors
/// Database or log; nothing was changed.
pub(super) async fn erase(
    state: &AppState,
    row: &EnrolmentRow,
    how: &str,
    entry: Entry,
    reason: &str,
) -> Result<Option<u64>, RegistryError> {
    let mut write = state.store.write().await?;
    if !write.enrolment_end(row.id, how).await? {
        return Ok(None);
    }
    // Nobody else's: a subject has one pending enrolment, and none while it is in the registry.
    if write.subject(row.subject).await?.is_none() {
        write.data_keys_delete(&row.subject.to_string()).await?;
    }
    let time = sallyport_domain::Timestamp::from_micros(entry.time);
    let entry = Entry {
        subject: Some(row.subject.to_string()),
        about: Some(row.id.to_string()),
        decision: Some(how.to_owned()),
        ..entry
    };
    let index = ledger::append(state, &mut write, entry, Some(reason)).await?;
    let seq = write.registry_changed(row.subject).await?;
    write.commit().await?;
    state.logged_at(time);
    if let Ok(mut pending) = state.pending.write() {
        pending.remove_subject(row.subject);
    }
    replicas::own_change(state, seq).await;
    Ok(Some(index))
}

/// References sealed for their places in the registry.
fn for_registry(
    state: &AppState,
    key: &Key,
    subject: SubjectId,
    staged: &[Staged],
) -> Result<Vec<ReferenceRow>, RegistryError> {
    let mut rows = Vec::with_capacity(staged.len());
    for one in staged {
        let mut row = ReferenceRow {
            subject,
            origin: (one.row.subject != subject).then_some(one.row.subject),
            photograph_sealed: None,
            ..one.row.clone()
        };
        let bytes = registry::template_bytes(&one.template);
        row.template_sealed = registry::seal_template_bytes(state, key, &row, &bytes)?;
        row.photograph_sealed = one
            .photograph
            .as_deref()
            .map(|photograph| registry::seal_photograph(state, key, &row, photograph))
            .transpose()?;
        rows.push(row);
    }
    Ok(rows)
}

/// Brings what was approved into the registry, in one transaction with its log entry, which names each template by its hash. The
/// cool-off begins now. `target`: the person whose references these become.
async fn commit(
    state: &AppState,
    row: &EnrolmentRow,
    order: &OrderRow,
    mut opened: Opened,
    officer: OfficerId,
    reason: &str,
    target: Option<SubjectId>,
) -> Result<u64, DecisionError> {
    let now = state.clock.now();
    let subject = target.unwrap_or(row.subject);
    let key = match target {
        None => None,
        Some(target) => Some(
            keys::subject_key(state, target, Purpose::Registry)
                .await
                .map_err(AuditError::from)?
                .ok_or(DecisionError::NotAlike)?,
        ),
    };
    if let Some(target) = target {
        // The same picture may have been enrolled before.
        let there = state.store.references(target).await?;
        opened.references.retain(|one| {
            !there.iter().any(|row| {
                row.source_sha256 == one.row.source_sha256
                    && row.modality == one.row.modality
                    && row.model == one.row.model
            })
        });
    }
    let key = key.as_ref().unwrap_or(&opened.key);
    let rows = for_registry(state, key, subject, &opened.references)?;
    let mut write = state.store.write().await?;
    if !write.enrolment_end(row.id, "approved").await? {
        return Err(DecisionError::Unknown);
    }
    let there = write.subject(subject).await?.is_some();
    if target.is_some() {
        // Merged into somebody else since this was shown.
        registry::not_merged(state, subject).await?;
    }
    if there != target.is_some() {
        return Err(DecisionError::Registry(RegistryError::Conflict));
    }
    let references = opened.references.iter().zip(&rows);
    let entry = Entry {
        gate: Some(order.gate.to_string()),
        actor: Some(opened.opened_by.to_string()),
        actor2: Some(officer.to_string()),
        subject: Some(subject.to_string()),
        about: Some(row.id.to_string()),
        decision: Some(if there { "merged" } else { "enrolled" }.to_owned()),
        reason: opened.doubtful.then(|| "possible_duplicate".to_owned()),
        models: opened.models.clone(),
        content: Some(row.content_sha256.clone()),
        references: references
            .map(|(one, row)| ledger::name(row, &one.template))
            .collect(),
        ..audit::entry("enrolment", now)?
    };
    let log_index = ledger::append(state, &mut write, entry, Some(reason)).await?;
    let quality = opened.findings.of_references.iter();
    let quality = quality.filter(|(id, _)| rows.iter().any(|row| row.id == **id));
    let quality = quality.map(|(id, quality)| (*id, *quality));
    if there {
        write.data_keys_delete(&row.subject.to_string()).await?;
        registry::note_quality(state, &mut write, subject, quality).await?;
    } else {
        let record = Record {
            category: opened.content.category,
            status: SubjectStatus::Active,
            effective_from: now.plus_millis(i64::from(state.config.cool_off_seconds) * 1_000),
            name: opened.content.name.clone(),
            details: crate::records::Details::default(),
            quality: quality.collect(),
        };
        let stored = SubjectRow {
            id: subject,
            key_version: 0,
            key_wrapped: Vec::new(),
            record_sealed: registry::seal_record(state, key, subject, &record)?,
            submission_sha256: row.submission_sha256.clone(),
            log_index,
        };
        write.subject_insert(&stored, now).await?;
    }
    for row in &rows {
        write.reference_insert(row, now).await?;
    }
    let mut seq = write.registry_changed(subject).await?;
    if there {
        // Other servers drop what was under review.
        seq = write.registry_changed(row.subject).await?;
    }
    write.commit().await?;
    state.logged_at(now);
    if there {
        replicas::catch_up(state).await?;
    } else {
        in_memory(state, row, &opened).await?;
        replicas::own_change(state, seq).await;
    }
    Ok(log_index)
}

/// Moves the templates from those under review into the gallery.
async fn in_memory(
    state: &AppState,
    row: &EnrolmentRow,
    opened: &Opened,
) -> Result<(), RegistryError> {
    let mut templates = Vec::new();
    for one in &opened.references {
        let taken =
            state
                .keys
                .templates
                .taken_out(state, one.row.secret_version, one.template.clone());
        templates.push((registry::model_of(&one.row)?, one.row.id, taken.await?));
    }
    if let Ok(mut gallery) = state.gallery.write() {
        for (model, reference, template) in &templates {
            state.note_protection(gallery.insert(*model, *reference, row.subject, template));
        }
    }
    if let Ok(mut pending) = state.pending.write() {
        pending.remove_subject(row.subject);
    }
    Ok(())
}

/// A batch as the second officer sees it.
#[derive(Debug)]
pub struct Batch {
    /// The order.
    pub order: OrderRow,
    /// What one approval would commit: nobody doubtful.
    pub certain: Vec<EnrolmentRow>,
    /// Who must be looked at one by one.
    pub doubtful: Vec<EnrolmentRow>,
    /// Of those drawn, whom this officer has not looked at yet.
    pub unseen: Vec<EnrolmentId>,
    /// SHA-256 over the contents of all who are certain.
    pub content_sha256: String,
}

/// A batch, for its page.
///
/// # Errors
/// No such batch, or database.
pub async fn batch(
    state: &AppState,
    id: EnrolmentId,
    officer: OfficerId,
) -> Result<Batch, DecisionError> {
    let order = state.store.order(id).await?;
    let order = order
        .filter(|order| order.batch)
        .ok_or(DecisionError::Unknown)?;
    let (mut certain, mut doubtful, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
    for row in state.store.enrolments_of(id).await? {
        if row.state != "under_review" {
            continue;
        }
        if is_doubtful(state, &row).await? {
            doubtful.push(row);
            continue;
        }
        if row.sampled && !has_looked(state, row.id, officer).await? {
            unseen.push(row.id);
        }
        certain.push(row);
    }
    let content_sha256 = batch_sha256(&certain);
    Ok(Batch {
        order,
        certain,
        doubtful,
        unseen,
        content_sha256,
    })
}

fn batch_sha256(certain: &[EnrolmentRow]) -> String {
    let mut contents: Vec<&str> = certain
        .iter()
        .map(|row| row.content_sha256.as_str())
        .collect();
    contents.sort_unstable();
    content::sha256(contents.join("\n").as_bytes())
}

/// Decides a batch: all who are certain at once. Whoever is doubtful waits for a decision of their own. Returns how many were
/// enrolled or erased.
///
/// # Errors
/// See [`DecisionError`]. Once the batch is approved, what could not be committed now is committed by the server's chores.
pub async fn decide_batch(
    state: &AppState,
    id: EnrolmentId,
    officer: OfficerId,
    approve: bool,
    content: &str,
    reason: &str,
) -> Result<usize, DecisionError> {
    let reason = checked_reason(reason)?;
    let found = batch(state, id, officer).await?;
    if found.order.closed_at.is_none() {
        return Err(DecisionError::StillOpen);
    }
    let opened = ledger::entry_of(state, found.order.log_index, "enrolment_opened").await?;
    let opened_by = opened.and_then(|entry| entry.actor);
    if opened_by.as_deref() != Some(&found.order.opened_by.to_string()) {
        ledger::not_in_log(state, &RegistryError::Changed, "batch", &id.to_string()).await?;
        return Err(RegistryError::Changed.into());
    }
    // The same rule as for one person, over the hash of all.
    let all = Enrolment {
        id,
        subject: SubjectId::from_uuid(id.as_uuid()),
        opened_by: found.order.opened_by,
        state: EnrolmentState::UnderReview {
            content: hash(&found.content_sha256),
        },
    };
    if approve {
        all.approve(officer, hash(content))?;
        if !found.unseen.is_empty() || !drawn_enough(&found) {
            return Err(DecisionError::NotLooked);
        }
    } else {
        all.reject(officer, hash(content))?;
        if reason.is_empty() {
            return Err(DecisionError::NoReason);
        }
    }
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let decision = if approve { "approved" } else { "rejected" };
    let entry = Entry {
        gate: Some(found.order.gate.to_string()),
        actor: Some(found.order.opened_by.to_string()),
        actor2: Some(officer.to_string()),
        about: Some(id.to_string()),
        decision: Some(decision.to_owned()),
        content: Some(found.content_sha256.clone()),
        reason: Some(format!(
            "{} people, {} for single review",
            found.certain.len(),
            found.doubtful.len()
        )),
        ..audit::entry("enrolment_batch", now)?
    };
    let detail = BatchDetail {
        reason: reason.to_owned(),
        contents: found
            .certain
            .iter()
            .map(|row| row.content_sha256.clone())
            .collect(),
    };
    let detail = Zeroizing::new(content::json(&detail)?);
    let index = audit::append(state, &mut write, entry, Some(&detail)).await?;
    if !write.order_decide(id, decision, officer, index).await? {
        return Err(DecisionError::Unknown);
    }
    write.commit().await?;
    state.logged_at(now);
    carry_out(state, id).await
}

/// Were so many drawn as the rule says? Somebody might have changed the table; whoever of those drawn was decided alone counts no more.
fn drawn_enough(batch: &Batch) -> bool {
    let drawn = batch.certain.iter().filter(|row| row.sampled).count();
    drawn >= super::sample_size(batch.certain.len())
}

/// What a batch's decision is bound to, sealed beside its log entry.
#[derive(serde::Serialize, serde::Deserialize)]
struct BatchDetail {
    reason: String,
    contents: Vec<String>,
}

/// Carries out a batch's decision, as far as that was not done yet: everybody in a transaction of their own, so that gates never
/// wait for a whole batch. After a crash the server's chores go on here.
///
/// # Errors
/// Database or log; what was done stays.
pub(super) async fn carry_out(state: &AppState, id: EnrolmentId) -> Result<usize, DecisionError> {
    let order = state.store.order(id).await?.ok_or(DecisionError::Unknown)?;
    let Some(index) = order.decided_index else {
        return Ok(0);
    };
    let entry = ledger::entry_of(state, index, "enrolment_batch")
        .await?
        .filter(|entry| entry.about.as_deref() == Some(&id.to_string()));
    let detail = audit::detail(state, index).await?;
    let (Some(entry), Some(detail)) = (entry, detail) else {
        ledger::not_in_log(state, &RegistryError::NotInLog, "batch", &id.to_string()).await?;
        return Err(RegistryError::NotInLog.into());
    };
    let detail: BatchDetail =
        serde_json::from_slice(&detail).map_err(|_| RegistryError::Changed)?;
    let officer = entry.actor2.as_deref().and_then(|id| id.parse().ok());
    let officer: OfficerId = officer.ok_or(RegistryError::Changed)?;
    let approved = entry.decision.as_deref() == Some("approved");
    let mut done = 0;
    for row in state.store.enrolments_of(id).await? {
        if row.state != "under_review" || !detail.contents.contains(&row.content_sha256) {
            continue;
        }
        let (row, order, found) = match opened(state, row.id).await {
            Ok(found) => found,
            // The alarm is raised; the others are not held up.
            Err(DecisionError::Registry(RegistryError::Changed | RegistryError::NotInLog)) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if approved {
            as_domain(&row, found.opened_by).approve(officer, hash(&row.content_sha256))?;
            commit(state, &row, &order, found, officer, "", None).await?;
        } else {
            let rejected = Entry {
                gate: Some(order.gate.to_string()),
                actor: Some(found.opened_by.to_string()),
                actor2: Some(officer.to_string()),
                content: Some(row.content_sha256.clone()),
                ..audit::entry("enrolment", state.clock.now())?
            };
            erase(state, &row, "rejected", rejected, "").await?;
        }
        done += 1;
    }
    Ok(done)
}
