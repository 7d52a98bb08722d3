//! Data leave when their purpose ends: what is due by the jurisdiction profile is deleted every night, each kind by itself, and a person
//! of whom nothing may be kept any more is erased with all keys. So are pictures of passages, whoever was recognised there.
//!
//! Terms are counted from what the log says happened: captures, granted passages, releases, ends of employment, requests. So nobody who
//! changes the database prolongs or shortens a term. A legal hold stops deletion of what was lawful to keep. Data that are still there a
//! day after they were due are an entry and an alarm.

use std::collections::BTreeSet;

use sallyport_domain::{
    DataKind, Due, LifeEvents, Modality, Profile, ReferenceId, SubjectId, Timestamp, TransactionId,
    UnrecognisedRule,
};
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};

use crate::audit::{self, AuditError, By};
use crate::clock::random;
use crate::enrolments::ledger;
use crate::profiles;
use crate::registry::{self, RegistryError};
use crate::replicas;
use crate::state::AppState;
use crate::store::{StoreError, Write};
use crate::witness;

/// Data that are still there this long after they were due are overdue.
const OVERDUE_AFTER_MS: i64 = 24 * 3_600_000;
/// A run follows the one before after this.
const RUN_EVERY_MS: i64 = 24 * 3_600_000;
/// Pictures of passages deleted with one entry, so that it stays small.
const PICTURES_AT_ONCE: usize = 100;
/// A reason has at most this many characters.
const MAX_REASON_CHARS: usize = 2_000;

/// One kind of data about one person, and when it must be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// About whom.
    pub subject: SubjectId,
    /// Which reference it belongs to; `None` for what belongs to the person.
    pub reference: Option<ReferenceId>,
    /// What.
    pub kind: DataKind,
    /// When it must be gone.
    pub due: Due,
    /// The clause that says so.
    pub source: String,
}

impl Item {
    /// Is it there for more than a day after it was due?
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        is_overdue(self.due, now)
    }
}

/// The sealed picture of a passage, and when it must be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Which passage.
    pub passage: TransactionId,
    /// When the picture must be gone. [`Due::Held`] where it is of a passage at which somebody was meant about whom a legal hold stands.
    pub due: Due,
}

impl Picture {
    /// Is it there for more than a day after it was due?
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        is_overdue(self.due, now)
    }
}

fn is_overdue(due: Due, now: Timestamp) -> bool {
    match due {
        Due::At(moment) => now.millis_since(moment) > OVERDUE_AFTER_MS,
        Due::Held | Due::NotBegun => false,
    }
}

/// Everything that is kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// About people who are registered.
    pub items: Vec<Item>,
    /// Pictures of passages.
    pub pictures: Vec<Picture>,
    /// People whose record could not be opened, so that nobody knows what is due.
    pub unreadable: usize,
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Run {
    /// Photographs, templates and document numbers deleted of people who stay.
    pub deleted: usize,
    /// Pictures of passages deleted.
    pub pictures: usize,
    /// People erased.
    pub erased: usize,
    /// Pieces that a legal hold keeps.
    pub held: usize,
    /// Pieces that were still there a day after they were due.
    pub overdue: usize,
    /// People whose record could not be opened, so that nobody knows what is due.
    pub unreadable: usize,
}

/// Why something was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// No reason.
    #[error(
        "give a reason of 1 to {MAX_REASON_CHARS} characters; it is kept sealed beside the log entry"
    )]
    NoReason,
    /// No such hold.
    #[error("no such legal hold stands about this person")]
    NoHold,
    /// In the future.
    #[error("this moment has not come yet; record it when it has")]
    Future,
    /// Registry, database or log.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<StoreError> for RetentionError {
    fn from(error: StoreError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<AuditError> for RetentionError {
    fn from(error: AuditError) -> Self {
        Self::Registry(error.into())
    }
}

/// Something from which terms are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Release from custody.
    Released,
    /// End of employment or contract.
    EmploymentEnded,
    /// The person asks for deletion.
    DeletionRequested,
    /// A visit that no gate saw.
    LastVisit,
}

impl Event {
    /// All events.
    pub const ALL: [Self; 4] = [
        Self::Released,
        Self::EmploymentEnded,
        Self::DeletionRequested,
        Self::LastVisit,
    ];

    /// The stable name.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::EmploymentEnded => "employment_ended",
            Self::DeletionRequested => "deletion_requested",
            Self::LastVisit => "last_visit",
        }
    }
}

fn checked(reason: &str) -> Result<&str, RetentionError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS {
        return Err(RetentionError::NoReason);
    }
    Ok(reason)
}

/// An entry about a person who is in the registry, with its reason sealed beside it.
async fn about_person(
    state: &AppState,
    write: &mut Write<'_>,
    subject: SubjectId,
    entry: Entry,
    reason: &str,
) -> Result<u64, RetentionError> {
    let entry = Entry {
        subject: Some(subject.to_string()),
        ..entry
    };
    if write.subject(subject).await?.is_none() {
        return Err(RegistryError::Unknown.into());
    }
    Ok(audit::append(state, write, entry, Some(reason.as_bytes())).await?)
}

async fn commit(state: &AppState, write: Write<'_>) -> Result<(), RetentionError> {
    write.commit().await?;
    state.logged_at(state.clock.now());
    Ok(())
}

/// Records something from which terms are counted; returns the log entry.
///
/// # Errors
/// See [`RetentionError`]; nothing was recorded.
pub async fn record(
    state: &AppState,
    subject: SubjectId,
    event: Event,
    at: Timestamp,
    reason: &str,
    actor: &str,
) -> Result<u64, RetentionError> {
    let mut write = state.store.write().await?;
    let by = By::one(actor);
    let index = record_in(state, &mut write, subject, (event, at), reason, by).await?;
    commit(state, write).await?;
    Ok(index)
}

/// The same inside a transaction of the caller's.
pub(crate) async fn record_in(
    state: &AppState,
    write: &mut Write<'_>,
    subject: SubjectId,
    (event, at): (Event, Timestamp),
    reason: &str,
    by: By<'_>,
) -> Result<u64, RetentionError> {
    let reason = checked(reason)?;
    let now = state.clock.now();
    if at > now {
        return Err(RetentionError::Future);
    }
    let entry = Entry {
        decision: Some(event.code().to_owned()),
        reason: Some(at.to_rfc3339_seconds()),
        ..by.sign(audit::entry("subject_event", now)?)
    };
    about_person(state, write, subject, entry, reason).await
}

/// Places a legal hold: nothing lawful to keep is deleted while it stands. Returns its name.
///
/// # Errors
/// See [`RetentionError`]; none was placed.
pub async fn hold(
    state: &AppState,
    subject: SubjectId,
    reason: &str,
    actor: &str,
) -> Result<String, RetentionError> {
    let mut write = state.store.write().await?;
    let (name, _) = hold_in(state, &mut write, subject, reason, By::one(actor)).await?;
    commit(state, write).await?;
    Ok(name)
}

/// The same inside a transaction of the caller's; returns the log entry, too.
pub(crate) async fn hold_in(
    state: &AppState,
    write: &mut Write<'_>,
    subject: SubjectId,
    reason: &str,
    by: By<'_>,
) -> Result<(String, u64), RetentionError> {
    let reason = checked(reason)?;
    let now = state.clock.now();
    let name = TransactionId::new(now, random().map_err(|_| AuditError::Random)?).to_string();
    let entry = Entry {
        about: Some(name.clone()),
        decision: Some("placed".to_owned()),
        ..by.sign(audit::entry("legal_hold", now)?)
    };
    let index = about_person(state, write, subject, entry, reason).await?;
    Ok((name, index))
}

/// Lifts a legal hold.
///
/// # Errors
/// See [`RetentionError`]; it stands as before.
pub async fn lift(
    state: &AppState,
    subject: SubjectId,
    name: &str,
    reason: &str,
    actor: &str,
) -> Result<u64, RetentionError> {
    let mut write = state.store.write().await?;
    let by = By::one(actor);
    let index = lift_in(state, &mut write, subject, name, reason, by).await?;
    commit(state, write).await?;
    Ok(index)
}

/// The same inside a transaction of the caller's.
pub(crate) async fn lift_in(
    state: &AppState,
    write: &mut Write<'_>,
    subject: SubjectId,
    name: &str,
    reason: &str,
    by: By<'_>,
) -> Result<u64, RetentionError> {
    let reason = checked(reason)?;
    ledger::catch_up(state).await?;
    let life = ledger::life(state, subject).await.unwrap_or_default();
    if !life.holds.contains(name) {
        return Err(RetentionError::NoHold);
    }
    let entry = Entry {
        about: Some(name.to_owned()),
        decision: Some("lifted".to_owned()),
        ..by.sign(audit::entry("legal_hold", state.clock.now())?)
    };
    about_person(state, write, subject, entry, reason).await
}

/// Everything kept about one person, by the profile. An error of this person stops nobody else's.
async fn items_of(
    state: &AppState,
    profile: &Profile,
    subject: SubjectId,
    documents: &BTreeSet<SubjectId>,
) -> Result<Vec<Item>, RegistryError> {
    let Some(record) = registry::subject(state, subject).await? else {
        return Ok(Vec::new());
    };
    let category = record.record.category;
    let life = ledger::life(state, subject)
        .await
        .ok_or(RegistryError::NotInLog)?;
    let mut kinds: Vec<(SubjectId, Option<ReferenceId>, DataKind)> = Vec::new();
    for reference in state.store.references(subject).await? {
        let modality = Modality::from_code(&reference.modality)
            .ok_or(StoreError::Corrupt("reference.modality"))?;
        kinds.push((subject, Some(reference.id), profiles::kind_of(modality)));
        if reference.photograph_sealed.is_some() {
            kinds.push((subject, Some(reference.id), DataKind::Photograph));
        }
    }
    // Documents that were shown under another pseudonym stay beside that one, and go by this person's terms.
    let merged = ledger::merged(state, subject).await.into_keys();
    let whose = std::iter::once(subject).chain(merged);
    for one in whose.filter(|one| documents.contains(one)) {
        kinds.push((one, None, DataKind::DocumentNumber));
    }
    if kinds.is_empty() {
        // A record is left, with a name: it goes as notes do.
        kinds.push((subject, None, DataKind::Notes));
    }
    let mut items = Vec::with_capacity(kinds.len());
    for (whose, reference, kind) in kinds {
        let captured = ledger::captured(state, whose, reference)
            .await
            .ok_or(RegistryError::NotInLog)?;
        let events = LifeEvents {
            captured,
            last_visit: life.last_visit,
            released: life.released,
            employment_ended: life.employment_ended,
            deletion_requested: life.deletion_requested,
            held: !life.holds.is_empty(),
        };
        items.push(Item {
            subject: whose,
            reference,
            kind,
            due: profile.due(kind, category, &events),
            source: profile.rule(kind, category).source.clone(),
        });
    }
    Ok(items)
}

/// Everything kept about one person, with what is due and why. The caller has written an entry of the log.
///
/// # Errors
/// Database, log or profile.
pub(crate) async fn of_person(
    state: &AppState,
    subject: SubjectId,
) -> Result<Vec<Item>, RegistryError> {
    ledger::catch_up(state).await?;
    profiles::load(state).await?;
    let held = state.profile();
    items_of(state, &held.profile, subject, &documents(state).await?).await
}

/// Of whom a document's number or a note is kept.
async fn documents(state: &AppState) -> Result<BTreeSet<SubjectId>, StoreError> {
    let all = state.store.subjects_with_documents().await?;
    Ok(all.into_iter().collect())
}

/// Everything kept about everybody, by person, and how many people's records could not be opened.
async fn all(
    state: &AppState,
    documents: &BTreeSet<SubjectId>,
) -> Result<(Vec<(SubjectId, Vec<Item>)>, usize), RegistryError> {
    ledger::catch_up(state).await?;
    profiles::load(state).await?;
    let held = state.profile();
    let (mut people, mut unreadable) = (Vec::new(), 0);
    for row in state.store.subjects().await? {
        // Whoever was merged goes with the other one.
        if ledger::merged_into(state, row.id).await.is_some() {
            continue;
        }
        match items_of(state, &held.profile, row.id, documents).await {
            Ok(items) => people.push((row.id, items)),
            Err(RegistryError::Unavailable(AuditError::Store(error @ StoreError::Database(_)))) => {
                return Err(error.into());
            }
            Err(error) => {
                unreadable += 1;
                tracing::error!(subject = %row.id, %error, "nobody knows what is due for deletion of this person");
            }
        }
    }
    Ok((people, unreadable))
}

/// Everything that is kept, with what is due and why. Its entry of the log says who asked.
///
/// # Errors
/// Database, log or profile.
pub async fn list(state: &AppState, actor: &str) -> Result<Kept, RegistryError> {
    let (people, unreadable) = all(state, &documents(state).await?).await?;
    let pictures = pictures(state, |_| true).await?;
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: Some("retention".to_owned()),
        ..audit::entry("consultation", state.clock.now())?
    };
    audit::record(state, entry).await?;
    Ok(Kept {
        items: people.into_iter().flat_map(|(_, items)| items).collect(),
        pictures,
        unreadable,
    })
}

/// Pictures that are kept of passages, oldest first, where this is true of when they are due. Terms are
/// counted from what the log says, so nobody who changes the passage's row prolongs one. The ledger has caught up and the profile is loaded.
async fn pictures(
    state: &AppState,
    wanted: impl Fn(Due) -> bool,
) -> Result<Vec<Picture>, RegistryError> {
    let held = state.profile();
    let rule = held.profile.unrecognised();
    let (mut kept, mut without) = (Vec::new(), Vec::new());
    for one in ledger::pictured(state).await {
        let due = picture_due(state, rule, &one).await;
        if !wanted(due) {
            continue;
        }
        let passage = one.passage;
        if state.store.has_passage_picture(passage).await? {
            kept.push(Picture { passage, due });
        } else {
            without.push(passage);
        }
    }
    ledger::without_picture(state, &without).await;
    Ok(kept)
}

/// When a passage's picture must be gone: whoever was meant there may be somebody else's record by now, and held under that.
async fn picture_due(state: &AppState, rule: &UnrecognisedRule, one: &ledger::Pictured) -> Due {
    if let Some(meant) = one.meant {
        let into = ledger::merged_into(state, meant).await;
        let whose = into.map_or(meant, |(into, _)| into);
        let life = ledger::life(state, whose).await;
        if life.is_some_and(|life| !life.holds.is_empty()) {
            return Due::Held;
        }
    }
    Due::At(rule.due(one.passed, one.closed))
}

/// Deletes pictures of passages, with one entry that lists those that were there; returns how many.
async fn delete_pictures(
    state: &AppState,
    passages: &[TransactionId],
    actor: &str,
) -> Result<usize, RegistryError> {
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    // A hold may have come since they were found.
    ledger::catch_up(state).await?;
    let held = state.profile();
    let rule = held.profile.unrecognised();
    let mut due = Vec::with_capacity(passages.len());
    for passage in passages {
        if let Some(one) = ledger::pictured_at(state, *passage).await
            && picture_due(state, rule, &one).await.has_come(now)
        {
            due.push(*passage);
        }
    }
    let deleted = note_deleted(state, &mut write, &due, None, By::one(actor)).await?;
    if deleted > 0 {
        write.commit().await?;
        state.logged_at(state.clock.now());
    }
    Ok(deleted)
}

/// The same in somebody else's transaction; `of` is who goes with all pictures.
async fn note_deleted(
    state: &AppState,
    write: &mut Write<'_>,
    passages: &[TransactionId],
    of: Option<SubjectId>,
    by: By<'_>,
) -> Result<usize, RegistryError> {
    let mut deleted = Vec::new();
    for passage in passages {
        if write.passage_picture_delete(*passage).await? {
            deleted.push(passage.to_string());
        }
    }
    if deleted.is_empty() {
        return Ok(0);
    }
    let count = deleted.len();
    let source = match of {
        Some(_) => "the person's data are erased".to_owned(),
        None => state.profile().profile.unrecognised().source.clone(),
    };
    let entry = Entry {
        subject: of.map(|id| id.to_string()),
        decision: Some(ledger::PASSAGE_PICTURES.to_owned()),
        reason: Some(source),
        policy: Some(label(state)),
        references: deleted,
        ..by.sign(audit::entry("retention_deleted", state.clock.now())?)
    };
    audit::append(state, write, entry, None).await?;
    Ok(count)
}

/// Deletes the pictures of the passages at which this person was recognised, in the transaction that erases the person. Those at which
/// somebody else may have stood keep their own term. The ledger has caught up.
///
/// # Errors
/// Database or log; the transaction must be dropped.
pub(crate) async fn pictures_of(
    state: &AppState,
    write: &mut Write<'_>,
    id: SubjectId,
    by: By<'_>,
) -> Result<(), RegistryError> {
    let passages: Vec<TransactionId> = ledger::pictured(state)
        .await
        .into_iter()
        .filter(|one| one.recognised && one.meant == Some(id))
        .map(|one| one.passage)
        .collect();
    for some in passages.chunks(PICTURES_AT_ONCE) {
        note_deleted(state, write, some, Some(id), by).await?;
    }
    Ok(())
}

/// Deletes what is due. Each deletion is one transaction with its entry, so a run that was killed is simply run again.
///
/// # Errors
/// Database, log or profile; what was deleted stays deleted.
pub async fn run(state: &AppState, actor: &str) -> Result<Run, RegistryError> {
    let now = state.clock.now();
    if !state.is_trusted(now) {
        // A clock that went wrong must not delete anybody.
        return Err(RegistryError::Invalid(
            "the clock is behind the newest log entry; nothing is deleted until it is right again",
        ));
    }
    let documents = documents(state).await?;
    let (people, unreadable) = all(state, &documents).await?;
    let mut done = Run {
        unreadable,
        ..Run::default()
    };
    for (subject, items) in people {
        done.overdue += items.iter().filter(|item| item.is_overdue(now)).count();
        done.held += items.iter().filter(|item| item.due == Due::Held).count();
        // Nothing is left that may be kept.
        if items.iter().all(|item| item.due.has_come(now))
            && let Some(first) = items.first()
        {
            done.erased += usize::from(erase(state, subject, first, &documents, actor).await?);
            continue;
        }
        for item in items.iter().filter(|item| item.due.has_come(now)) {
            done.deleted += usize::from(delete(state, subject, item, &documents, actor).await?);
        }
    }
    let mut due = Vec::new();
    for picture in pictures(state, |due| due == Due::Held || due.has_come(now)).await? {
        done.overdue += usize::from(picture.is_overdue(now));
        if picture.due == Due::Held {
            done.held += 1;
        } else {
            due.push(picture.passage);
        }
    }
    for some in due.chunks(PICTURES_AT_ONCE) {
        done.pictures += delete_pictures(state, some, actor).await?;
    }
    let overdue = done.overdue + done.unreadable;
    if overdue > 0 {
        let entry = Entry {
            reason: Some(format!(
                "{} pieces, {} people unreadable",
                done.overdue, done.unreadable
            )),
            ..audit::entry("retention_overdue", now)?
        };
        audit::record(state, entry).await?;
        let what = format!(
            "retention: {} pieces of personal data were kept longer than the law allows, {} people's records could not be opened to see; found {}",
            done.overdue,
            done.unreadable,
            now.to_rfc3339_seconds()
        );
        witness::raise(state, witness::SERVER, &what, None, None).await?;
    }
    let entry = Entry {
        actor: Some(actor.to_owned()),
        policy: Some(label(state)),
        reason: Some(format!(
            "{} pieces deleted, {} people erased, {} pictures of passages deleted, {} held, {} overdue",
            done.deleted, done.erased, done.pictures, done.held, done.overdue
        )),
        ..audit::entry("retention_run", now)?
    };
    audit::record(state, entry).await?;
    Ok(done)
}

/// Name and version of the profile, as entries name it.
fn label(state: &AppState) -> String {
    let held = state.profile();
    format!("{}@{}", held.profile.name(), held.profile.version())
}

fn entry_of(state: &AppState, item: &Item, kind: &str, actor: &str) -> Result<Entry, AuditError> {
    Ok(Entry {
        actor: Some(actor.to_owned()),
        subject: Some(item.subject.to_string()),
        about: item.reference.map(|id| id.to_string()),
        reason: Some(item.source.clone()),
        policy: Some(label(state)),
        ..audit::entry(kind, state.clock.now())?
    })
}

/// What is kept about a person at this moment; nothing of somebody who was merged into another one since. The caller has the writer's
/// seat, so a hold, an event or a merger that came after the run began counts.
///
/// Who has documents is known from the run's begin: none come to somebody who is enrolled, and those that went are deleted already.
async fn still_kept(
    state: &AppState,
    id: SubjectId,
    documents: &BTreeSet<SubjectId>,
) -> Result<Vec<Item>, RegistryError> {
    ledger::catch_up(state).await?;
    if ledger::merged_into(state, id).await.is_some() {
        return Ok(Vec::new());
    }
    let held = state.profile();
    items_of(state, &held.profile, id, documents).await
}

/// Erases a person: keys, references, document and what the log has sealed; `false` when the person was gone or something may be kept.
async fn erase(
    state: &AppState,
    id: SubjectId,
    item: &Item,
    documents: &BTreeSet<SubjectId>,
    actor: &str,
) -> Result<bool, RegistryError> {
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let items = still_kept(state, id, documents).await?;
    if items.is_empty() || !items.iter().all(|item| item.due.has_come(now)) {
        return Ok(false);
    }
    let entry = || {
        Ok(Entry {
            decision: Some("retention".to_owned()),
            ..entry_of(state, item, "subject_erased", actor)?
        })
    };
    let gone = registry::take_away(state, &mut write, id, By::one(actor), entry).await?;
    let Some((_, seq)) = gone else {
        return Ok(false);
    };
    write.commit().await?;
    state.logged_at(now);
    if let Ok(mut gallery) = state.gallery.write() {
        gallery.remove_subject(id);
    }
    replicas::own_change(state, seq).await;
    Ok(true)
}

/// Deletes one piece; `false` when it was gone.
async fn delete(
    state: &AppState,
    whose: SubjectId,
    item: &Item,
    documents: &BTreeSet<SubjectId>,
    actor: &str,
) -> Result<bool, RegistryError> {
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let there = still_kept(state, whose, documents).await?;
    let same = |one: &&Item| {
        (one.subject, one.reference, one.kind) == (item.subject, item.reference, item.kind)
    };
    if !there
        .iter()
        .find(same)
        .is_some_and(|one| one.due.has_come(now))
    {
        return Ok(false);
    }
    let mut template = None;
    let there = match (item.kind, item.reference) {
        (DataKind::FaceTemplate | DataKind::IrisTemplate, Some(id)) => {
            template = Some(id);
            write.reference_delete(id).await?
        }
        (DataKind::Photograph, Some(id)) => write.photograph_delete(id).await?,
        (DataKind::DocumentNumber, None) => write.documents_delete(item.subject).await?,
        // Kept nowhere.
        (_, Some(_) | None) => false,
    };
    if !there {
        return Ok(false);
    }
    let entry = Entry {
        decision: Some(profiles::name(item.kind).replace(' ', "_")),
        references: template.iter().map(ToString::to_string).collect(),
        ..entry_of(state, item, "retention_deleted", actor)?
    };
    audit::append(state, &mut write, entry, None).await?;
    let seq = write.registry_changed(item.subject).await?;
    write.commit().await?;
    state.logged_at(now);
    if let (Some(id), Ok(mut gallery)) = (template, state.gallery.write()) {
        gallery.remove(id);
    }
    replicas::own_change(state, seq).await;
    Ok(true)
}

/// Runs the retention when the newest run is a day ago, or there was none. Called by the server's chores.
///
/// # Errors
/// As [`run`].
pub async fn nightly(state: &AppState) -> Result<Option<Run>, RegistryError> {
    ledger::catch_up(state).await?;
    let now = state.clock.now();
    let last = ledger::retention_run(state).await;
    if last.is_some_and(|last| now.millis_since(last) < RUN_EVERY_MS) {
        return Ok(None);
    }
    if state.store.subjects().await?.is_empty() && ledger::pictured(state).await.is_empty() {
        return Ok(None);
    }
    run(state, "retention").await.map(Some)
}
