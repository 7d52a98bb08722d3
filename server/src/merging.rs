//! Two records that turned out to be one person: the references of one become the other's, and can be given back.
//!
//! Nobody's face gets onto somebody else's record this way: the references must look alike by the same rule that finds duplicates at an
//! enrolment, no matter who approves. The record that is merged stays, closed, so that the merger can be undone; it goes with the
//! person. Which references moved is worked out of the log alone.

use std::collections::{BTreeMap, BTreeSet};

use sallyport_domain::{
    DataKind, ModelDigest, ReferenceId, SubjectCategory, SubjectId, SubjectStatus, Template,
    Timestamp,
};
use sallyport_matching::Gallery;
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError, By};
use crate::consultations::{self, ConsultError};
use crate::enrolment;
use crate::enrolments::ledger;
use crate::gates;
use crate::profiles;
use crate::registry::{self, RegistryError, Subject};
use crate::replicas;
use crate::sealing::{Key, SealError};
use crate::state::AppState;
use crate::store::registry::{ReferenceRow, SubjectRow};
use crate::store::{StoreError, Write};

/// A reason has at most this many characters.
const MAX_REASON_CHARS: usize = 500;

/// Why nothing was merged or given back.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// No reason.
    #[error(
        "give a reason of 1 to {MAX_REASON_CHARS} characters; it is kept sealed beside the log entry"
    )]
    NoReason,
    /// One and the same.
    #[error("name two different people")]
    Same,
    /// One of them is part of a merger.
    #[error("{0} was merged with somebody else already; take that merger back first")]
    Chain(SubjectId),
    /// Not merged.
    #[error("{0} is not merged into anybody")]
    NotMerged(SubjectId),
    /// No references to compare.
    #[error("{0} has no references, so nothing shows that the two are one person")]
    NoReferences(SubjectId),
    /// Models differ.
    #[error(
        "the references of the two were made by different models and cannot be compared; wait until both have references of one model"
    )]
    OtherModel,
    /// Not alike.
    #[error(
        "the references of the two do not look alike, so nothing is merged, whoever approves it. If they are one person, enrol that person anew and remove the wrong record"
    )]
    NotAlike,
    /// A legal hold stands.
    #[error(
        "a legal hold stands about {0}, and separating the records would delete or release what it keeps; lift it first"
    )]
    Held(SubjectId),
    /// They live in two wings.
    #[error(
        "the two belong to different wings, so whoever may look at one would see the other; give both the same wing first (registry wing)"
    )]
    Wings,
    /// Their statuses differ.
    #[error(
        "one of the two is {from}, the other {into}: decide which holds, and give both this status first (registry status)"
    )]
    Status {
        /// Of whose references move.
        from: &'static str,
        /// Of who goes on.
        into: &'static str,
    },
    /// Something changed since it was approved.
    #[error(
        "references or records of the two changed since this was looked at; nothing was done. Give the command again"
    )]
    Changed,
    /// The wing.
    #[error(transparent)]
    Wing(#[from] ConsultError),
    /// Registry, database or log.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<StoreError> for MergeError {
    fn from(error: StoreError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<AuditError> for MergeError {
    fn from(error: AuditError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<SealError> for MergeError {
    fn from(error: SealError) -> Self {
        Self::Registry(error.into())
    }
}

/// What exactly is going to be done; a second person approves it by its words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose references move.
    pub from: SubjectId,
    /// Who gets them.
    pub into: SubjectId,
    /// How many move.
    pub moving: usize,
    /// Of a merger taken back: how many are deleted, because they were captured at gates while nobody could say whose they are.
    pub deleted: usize,
    /// The act in a sentence, with everything that it depends on.
    pub what: String,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The entry.
    pub log_index: u64,
    /// References that moved.
    pub moved: usize,
    /// References that were deleted.
    pub deleted: usize,
}

fn checked(reason: &str) -> Result<&str, MergeError> {
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON_CHARS {
        return Err(MergeError::NoReason);
    }
    Ok(reason)
}

/// One person with key, record, and references opened.
struct Side {
    row: SubjectRow,
    key: Key,
    subject: Subject,
    references: Vec<(ReferenceRow, Template)>,
}

impl Side {
    async fn read(
        state: &AppState,
        write: &mut Write<'_>,
        id: SubjectId,
    ) -> Result<Self, MergeError> {
        let row = write.subject(id).await?.ok_or(RegistryError::Unknown)?;
        let key = registry::subject_key(state, &row).map_err(RegistryError::from)?;
        let subject = registry::open_record(state, &row)?;
        // A status that somebody wrote by hand must not become true here.
        if !crate::rights::status_stands(state, id, subject.record.status).await? {
            return Err(RegistryError::NotInLog.into());
        }
        let mut references = Vec::new();
        for reference in write.references(id).await? {
            let template = registry::opened(state, &key, &reference)?;
            ledger::stands(state, &reference, &template).await?;
            references.push((reference, template));
        }
        Ok(Self {
            row,
            key,
            subject,
            references,
        })
    }

    async fn seal(&self, state: &AppState, write: &mut Write<'_>) -> Result<(), MergeError> {
        let sealed = registry::seal_record(state, &self.key, self.id(), &self.subject.record)?;
        write.subject_update(self.id(), sealed).await?;
        Ok(())
    }

    const fn id(&self) -> SubjectId {
        self.row.id
    }

    const fn category(&self) -> SubjectCategory {
        self.subject.record.category
    }

    const fn status(&self) -> SubjectStatus {
        self.subject.record.status
    }

    /// Templates as they are compared.
    async fn templates(
        &self,
        state: &AppState,
    ) -> Result<Vec<(ModelDigest, ReferenceId, Template)>, MergeError> {
        let mut templates = Vec::new();
        for (row, template) in &self.references {
            let secrets = &state.keys.templates;
            let taken = secrets.taken_out(state, row.secret_version, template.clone());
            templates.push((registry::model_of(row)?, row.id, taken.await?));
        }
        Ok(templates)
    }
}

/// What the two consist of, as one hash: references with their templates, status and category.
fn fingerprint(sides: [&Side; 2]) -> String {
    let mut hash = Sha256::new();
    for side in sides {
        let mut names: Vec<String> = side
            .references
            .iter()
            .map(|(row, template)| ledger::name(row, template))
            .collect();
        names.sort_unstable();
        let head = format!(
            "{} {} {} {}\n",
            side.id(),
            side.category().code(),
            side.status().code(),
            names.len()
        );
        hash.update(head);
        for name in names {
            hash.update(name);
            hash.update("\n");
        }
    }
    hex::encode(hash.finalize())
}

/// Does the duplicate search find one when it looks for the other?
async fn alike(state: &AppState, from: &Side, into: &Side) -> Result<(), MergeError> {
    let (one, other) = (from.templates(state).await?, into.templates(state).await?);
    let (own, wanted) = (from.id(), into.id());
    let (calibration, held) = (state.fusion.clone(), state.clone());
    let found = tokio::task::spawn_blocking(move || {
        let mut gallery = Gallery::new();
        for (model, reference, template) in &other {
            held.note_protection(gallery.insert(*model, *reference, wanted, template));
        }
        // While models change one of the two may have references of both, the other of one.
        let common: BTreeSet<ModelDigest> = other.iter().map(|(model, ..)| *model).collect();
        let samples: Vec<(ModelDigest, Template)> = one
            .into_iter()
            .filter(|(model, ..)| common.contains(model))
            .map(|(model, _, template)| (model, template))
            .collect();
        if samples.is_empty() {
            return None;
        }
        enrolment::alike(
            &gallery,
            &samples,
            &calibration,
            &gates::default_policy(),
            own,
        )
    });
    match found.await {
        Ok(Some(alike)) if alike.contains(&wanted) => Ok(()),
        Ok(Some(_)) | Err(_) => Err(MergeError::NotAlike),
        Ok(None) => Err(MergeError::OtherModel),
    }
}

/// All checks of a merger, in the transaction that will do it or only to look.
async fn checked_sides(
    state: &AppState,
    write: &mut Write<'_>,
    from: SubjectId,
    into: SubjectId,
) -> Result<(Side, Side), MergeError> {
    if from == into {
        return Err(MergeError::Same);
    }
    ledger::catch_up(state).await?;
    profiles::load(state).await?;
    for one in [from, into] {
        if ledger::merged_into(state, one).await.is_some() {
            return Err(MergeError::Chain(one));
        }
    }
    // The one that goes on may have taken up others before.
    if !ledger::merged(state, from).await.is_empty() {
        return Err(MergeError::Chain(from));
    }
    let from = Side::read(state, write, from).await?;
    let into = Side::read(state, write, into).await?;
    for side in [&from, &into] {
        if side.references.is_empty() {
            return Err(MergeError::NoReferences(side.id()));
        }
    }
    if from.status() != into.status() {
        return Err(MergeError::Status {
            from: from.status().code(),
            into: into.status().code(),
        });
    }
    let wings = [from.id(), into.id()].map(|id| consultations::wing(state, id));
    let [one, other] = wings;
    if let (Some(one), Some(other)) = (one.await?, other.await?)
        && one != other
    {
        return Err(MergeError::Wings);
    }
    let profile = state.profile();
    for (row, _) in &from.references {
        profiles::check_template(&profile.profile, &row.modality, into.category())?;
    }
    alike(state, &from, &into).await?;
    Ok((from, into))
}

fn merger_of(from: &Side, into: &Side) -> Plan {
    let moving = from.references.len();
    let what = format!(
        "Merge {} ({}) into {} ({}): {moving} references of the first become the second's, who has {} and stays {}. \
         Their references look alike. The first record stays closed until the second is removed. State {}.",
        from.id(),
        from.category().code(),
        into.id(),
        into.category().code(),
        into.references.len(),
        into.status().code(),
        fingerprint([from, into]),
    );
    Plan {
        from: from.id(),
        into: into.id(),
        moving,
        deleted: 0,
        what,
    }
}

/// What merging `from` into `into` would do. Changes nothing and writes no entry; it shows no more than that the two look alike.
///
/// # Errors
/// See [`MergeError`].
pub async fn plan(state: &AppState, from: SubjectId, into: SubjectId) -> Result<Plan, MergeError> {
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    let (from, into) = checked_sides(state, &mut write, from, into).await?;
    Ok(merger_of(&from, &into))
}

/// A reference sealed for its place with another person; without its photograph, where none may be kept there.
fn resealed(
    state: &AppState,
    old: &ReferenceRow,
    template: &Template,
    (from, to): (&Key, &Side),
    origin: Option<SubjectId>,
) -> Result<ReferenceRow, SealError> {
    let mut fresh = ReferenceRow {
        subject: to.id(),
        origin,
        photograph_sealed: None,
        ..old.clone()
    };
    let bytes = registry::template_bytes(template);
    fresh.template_sealed = registry::seal_template_bytes(state, &to.key, &fresh, &bytes)?;
    let (kind, category) = (DataKind::Photograph, to.category());
    if profiles::may_keep(&state.profile().profile, kind, category) {
        fresh.photograph_sealed = registry::photograph(state, from, old)?
            .map(|photograph| registry::seal_photograph(state, &to.key, &fresh, &photograph))
            .transpose()?;
    }
    Ok(fresh)
}

/// Gives references to another person, with this origin each; returns how the log names them there.
async fn move_all<'a>(
    state: &AppState,
    write: &mut Write<'_>,
    references: impl Iterator<Item = &'a (ReferenceRow, Template)>,
    (from, to): (&Side, &Side),
    origin: impl Fn(&ReferenceRow) -> Option<SubjectId>,
) -> Result<Vec<String>, MergeError> {
    let mut names = Vec::new();
    for (old, template) in references {
        let fresh = resealed(state, old, template, (&from.key, to), origin(old))?;
        names.push(ledger::name(&fresh, template));
        if !write.reference_move(old, &fresh).await? {
            return Err(MergeError::Changed);
        }
    }
    Ok(names)
}

/// Merges, if everything is still as in the plan.
///
/// # Errors
/// See [`MergeError`]; nothing was changed.
pub async fn merge(
    state: &AppState,
    plan: &Plan,
    reason: &str,
    actor: &str,
) -> Result<Done, MergeError> {
    // A command's own process reads the log before it takes the writer's seat, so that no door waits for that.
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    let done = merge_in(state, &mut write, plan, reason, By::one(actor)).await?;
    write.commit().await?;
    committed(state).await;
    Ok(done)
}

/// The same inside a transaction of the caller's, who calls [`committed`] after it.
pub(crate) async fn merge_in(
    state: &AppState,
    write: &mut Write<'_>,
    plan: &Plan,
    reason: &str,
    by: By<'_>,
) -> Result<Done, MergeError> {
    let reason = checked(reason)?;
    let now = state.clock.now();
    let (mut from, mut into) = checked_sides(state, write, plan.from, plan.into).await?;
    if merger_of(&from, &into) != *plan {
        return Err(MergeError::Changed);
    }
    let names = move_all(
        state,
        write,
        from.references.iter(),
        (&from, &into),
        |old| old.origin.or(Some(from.id())),
    )
    .await?;
    // A cool-off that has not ended for one has not ended for the person.
    let (one, person) = (&mut from.subject.record, &mut into.subject.record);
    person.effective_from = person.effective_from.max(one.effective_from);
    person.quality.append(&mut one.quality);
    from.seal(state, write).await?;
    into.seal(state, write).await?;
    // Whoever may not look at one of the two must not get to see it as the other.
    consultations::keep_wing(state, write, from.id(), into.id(), by).await?;
    let entry = |subject: SubjectId, about: SubjectId, decision: &str| {
        entry_of("subject_merged", subject, about, decision, by, now)
    };
    let moved = Entry {
        references: names,
        ..entry(into.id(), from.id(), ledger::MERGED)?
    };
    // The words go under the key of the record that is closed: with it, they go.
    let detail = Some(reason.as_bytes());
    let log_index = audit::append(state, write, moved, None).await?;
    let closed = entry(from.id(), into.id(), "into")?;
    audit::append(state, write, closed, detail).await?;
    changed(write, [from.id(), into.id()]).await?;
    Ok(Done {
        log_index,
        moved: plan.moving,
        deleted: 0,
    })
}

fn entry_of(
    kind: &str,
    subject: SubjectId,
    about: SubjectId,
    decision: &str,
    by: By<'_>,
    now: Timestamp,
) -> Result<Entry, AuditError> {
    Ok(Entry {
        subject: Some(subject.to_string()),
        about: Some(about.to_string()),
        decision: Some(decision.to_owned()),
        ..by.sign(audit::entry(kind, now)?)
    })
}

/// Every server loads both people anew.
async fn changed(write: &mut Write<'_>, people: [SubjectId; 2]) -> Result<(), StoreError> {
    for one in people {
        write.registry_changed(one).await?;
    }
    Ok(())
}

/// Takes both people into the gallery as they are now.
pub(crate) async fn committed(state: &AppState) {
    state.logged_at(state.clock.now());
    if let Err(error) = replicas::catch_up(state).await {
        // It is done and in the log; this server follows the registry's changes by itself.
        tracing::warn!(%error, "the gallery has not taken up a merger or separation yet");
    }
}

/// A merger that is going to be taken back.
struct Separation {
    from: Side,
    into: Side,
    /// Places among `into`'s references.
    moving: Vec<usize>,
    deleted: Vec<usize>,
}

impl Separation {
    async fn read(
        state: &AppState,
        write: &mut Write<'_>,
        from: SubjectId,
    ) -> Result<Self, MergeError> {
        ledger::catch_up(state).await?;
        if write.subject(from).await?.is_none() {
            return Err(RegistryError::Unknown.into());
        }
        let into = ledger::merged_into(state, from).await;
        let (into, since) = into.ok_or(MergeError::NotMerged(from))?;
        let life = ledger::life(state, into).await;
        if life.is_some_and(|life| !life.holds.is_empty()) {
            return Err(MergeError::Held(into));
        }
        let mut merged: BTreeMap<SubjectId, BTreeSet<ReferenceId>> =
            ledger::merged(state, into).await;
        let came = merged.remove(&from).unwrap_or_default();
        let from = Side::read(state, write, from).await?;
        let into = Side::read(state, write, into).await?;
        let (mut moving, mut deleted) = (Vec::new(), Vec::new());
        for (at, (row, _)) in into.references.iter().enumerate() {
            if came.contains(&row.id) {
                moving.push(at);
                continue;
            }
            let made = ledger::made(state, into.id(), row.id).await;
            let captured = ledger::captured(state, into.id(), Some(row.id)).await;
            if made.at_passage && captured.is_none_or(|at| at >= since) {
                deleted.push(at);
            }
        }
        Ok(Self {
            from,
            into,
            moving,
            deleted,
        })
    }

    /// What the first is from then on: a door that was shut to the person meanwhile is shut to both.
    const fn status(&self) -> SubjectStatus {
        match self.into.status() {
            SubjectStatus::Active => self.from.status(),
            shut @ (SubjectStatus::Suspended
            | SubjectStatus::Banned
            | SubjectStatus::Released
            | SubjectStatus::Deceased) => shut,
        }
    }

    /// What is known of the samples goes with their references.
    fn return_quality(&mut self) {
        let from = &mut self.from.subject.record.quality;
        let into = &mut self.into.subject.record.quality;
        let of = |at: &usize| self.into.references.get(*at).map(|(row, _)| row.id);
        for id in self.moving.iter().filter_map(of) {
            from.extend(into.remove(&id).map(|quality| (id, quality)));
        }
        for id in self.deleted.iter().filter_map(of) {
            into.remove(&id);
        }
    }

    fn plan(&self) -> Plan {
        let (moving, deleted) = (self.moving.len(), self.deleted.len());
        let what = format!(
            "Take back the merger of {} into {}: {moving} references become the first's again, who is {} from then on; the second stays {}. \
             {deleted} references that gates captured since are deleted, because nobody can say whose they are. State {}.",
            self.from.id(),
            self.into.id(),
            self.status().code(),
            self.into.status().code(),
            fingerprint([&self.from, &self.into]),
        );
        Plan {
            from: self.from.id(),
            into: self.into.id(),
            moving,
            deleted,
            what,
        }
    }
}

/// What taking back the merger of `from` would do. Changes nothing.
///
/// # Errors
/// See [`MergeError`].
pub async fn plan_back(state: &AppState, from: SubjectId) -> Result<Plan, MergeError> {
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    Ok(Separation::read(state, &mut write, from).await?.plan())
}

/// Takes a merger back, if everything is still as in the plan.
///
/// # Errors
/// See [`MergeError`]; nothing was changed.
pub async fn unmerge(
    state: &AppState,
    plan: &Plan,
    reason: &str,
    actor: &str,
) -> Result<Done, MergeError> {
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    let done = unmerge_in(state, &mut write, plan, reason, By::one(actor)).await?;
    write.commit().await?;
    committed(state).await;
    Ok(done)
}

/// The same inside a transaction of the caller's, who calls [`committed`] after it.
pub(crate) async fn unmerge_in(
    state: &AppState,
    write: &mut Write<'_>,
    plan: &Plan,
    reason: &str,
    by: By<'_>,
) -> Result<Done, MergeError> {
    let reason = checked(reason)?;
    let now = state.clock.now();
    let mut found = Separation::read(state, write, plan.from).await?;
    if found.plan() != *plan {
        return Err(MergeError::Changed);
    }
    found.return_quality();
    let status = found.status();
    if status != found.from.status() {
        found.from.subject.record.status = status;
        let entry = Entry {
            subject: Some(plan.from.to_string()),
            decision: Some(status.code().to_owned()),
            ..by.sign(audit::entry("subject_status", now)?)
        };
        audit::append(state, write, entry, Some(reason.as_bytes())).await?;
    }
    found.from.seal(state, write).await?;
    found.into.seal(state, write).await?;
    let (from, into) = (&found.from, &found.into);
    let of = |places: &[usize]| -> Vec<&(ReferenceRow, Template)> {
        let places = places.iter();
        places.filter_map(|at| into.references.get(*at)).collect()
    };
    let names = move_all(
        state,
        write,
        of(&found.moving).into_iter(),
        (into, from),
        |old| old.origin.filter(|origin| *origin != from.id()),
    )
    .await?;
    let mut gone = Vec::new();
    for (row, _) in of(&found.deleted) {
        write.reference_delete(row.id).await?;
        gone.push(row.id.to_string());
    }
    let entry = |subject: SubjectId, about: SubjectId, decision: &str| {
        entry_of("subject_unmerged", subject, about, decision, by, now)
    };
    let back = Entry {
        references: names,
        ..entry(from.id(), into.id(), ledger::UNMERGED)?
    };
    let detail = Some(reason.as_bytes());
    let log_index = audit::append(state, write, back, detail).await?;
    let other = entry(into.id(), from.id(), "from")?;
    audit::append(state, write, other, None).await?;
    if !gone.is_empty() {
        let retired = Entry {
            kind: "reference_retired".to_owned(),
            references: gone,
            ..entry(into.id(), from.id(), ledger::UNMERGED)?
        };
        audit::append(state, write, retired, None).await?;
    }
    changed(write, [from.id(), into.id()]).await?;
    Ok(Done {
        log_index,
        moved: plan.moving,
        deleted: plan.deleted,
    })
}
