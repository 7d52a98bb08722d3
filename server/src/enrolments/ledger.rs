//! What the audit log says was enrolled. A subject, reference or enrolment that somebody wrote into the database by hand, or
//! brought back after it was removed, has no such entry: it is not loaded, and an alarm is raised.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sallyport_domain::{ReasonCode, ReferenceId, SubjectId, Template, Timestamp, TransactionId};
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::log_codes;
use crate::registry::{self, RegistryError};
use crate::rights;
use crate::state::AppState;
use crate::store::registry::ReferenceRow;
use crate::store::{StoreError, Write};
use crate::witness;

/// Entries read at once.
const PAGE: u32 = 1_024;

/// The kind comes within this many bytes of an entry.
const HEAD: usize = 96;

/// What an entry `subject_merged` says that moves references. It is about the person who goes on; that of the other one says "into".
pub(crate) const MERGED: &str = "merged";
/// The same for an entry `subject_unmerged`. It is about the person who gets them back.
pub(crate) const UNMERGED: &str = "unmerged";

/// What an entry `retention_deleted` calls the pictures of passages, which it lists.
pub(crate) const PASSAGE_PICTURES: &str = "passage_pictures";
/// The same of one passage, in entries of before.
const PASSAGE_PICTURE: &str = "passage_picture";

/// Kinds that matter here, as they stand in an entry.
const KINDS: [&[u8]; 16] = [
    b"\"kind\":\"passage\"",
    b"\"kind\":\"review\"",
    b"\"kind\":\"profile_change\"",
    b"\"kind\":\"subject_status\"",
    b"\"kind\":\"subject_event\"",
    b"\"kind\":\"subject_details\"",
    b"\"kind\":\"legal_hold\"",
    b"\"kind\":\"retention_deleted\"",
    b"\"kind\":\"retention_run\"",
    b"\"kind\":\"enrolment\"",
    b"\"kind\":\"reference_renewed\"",
    b"\"kind\":\"reference_retired\"",
    b"\"kind\":\"subject_merged\"",
    b"\"kind\":\"subject_unmerged\"",
    b"\"kind\":\"subject_removed\"",
    b"\"kind\":\"subject_erased\"",
];

/// What the log says of one subject.
#[derive(Debug, Default)]
struct Known {
    /// Enrolled before entries named references.
    before_references: bool,
    /// Version of the template secret and SHA-256 of the template, by reference.
    references: HashMap<ReferenceId, (u32, String)>,
    /// When the person was enrolled, and when each later reference was made; microseconds.
    enrolled: i64,
    captured: HashMap<ReferenceId, i64>,
    /// What happened to the person.
    life: Life,
    /// Keyed hash of legal basis, custody and visits.
    details: Option<String>,
    /// What made each reference.
    made: HashMap<ReferenceId, Made>,
    /// Changes of the record, oldest first.
    changes: Vec<Change>,
    /// Whose references this person's became.
    merged_into: Option<(SubjectId, Timestamp)>,
    /// Whose references became this person's, and which.
    merged: BTreeMap<SubjectId, BTreeSet<ReferenceId>>,
}

/// What made a reference.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    /// The enrolment.
    pub(crate) enrolment: Option<String>,
    /// The gate, where it was none.
    pub(crate) gate: Option<String>,
    /// It was made of samples of a granted passage.
    pub(crate) at_passage: bool,
}

/// A change of a person's record, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The entry.
    pub log_index: u64,
    /// When.
    pub at: Timestamp,
    /// Its kind, such as `subject_status`.
    pub kind: String,
    /// What to, or which.
    pub decision: String,
}

impl Change {
    fn of(index: u64, entry: &Entry) -> Self {
        Self {
            log_index: index,
            at: Timestamp::from_micros(entry.time),
            kind: entry.kind.clone(),
            decision: entry.decision.clone().unwrap_or_default(),
        }
    }
}

/// What the log says of a person's life, as far as terms are counted from it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Life {
    /// The newest granted passage.
    pub(crate) last_visit: Option<Timestamp>,
    /// Release from custody.
    pub(crate) released: Option<Timestamp>,
    /// End of employment or contract.
    pub(crate) employment_ended: Option<Timestamp>,
    /// The person asked for deletion.
    pub(crate) deletion_requested: Option<Timestamp>,
    /// Legal holds that stand, by name.
    pub(crate) holds: BTreeSet<String>,
}

/// A passage whose picture the log doesn't say to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pictured {
    /// Which.
    pub(crate) passage: TransactionId,
    /// When it was decided first.
    pub(crate) passed: Timestamp,
    /// What ended it: the server's decision or an officer's review. `None` while a review is awaited.
    pub(crate) closed: Option<Timestamp>,
    /// Who was recognised, suspected or meant first.
    pub(crate) meant: Option<SubjectId>,
    /// Does the log say who stood there?
    pub(crate) recognised: bool,
}

/// What the log says, up to an entry.
#[derive(Debug, Default)]
pub struct Ledger {
    next: u64,
    subjects: HashMap<SubjectId, Known>,
    /// Enrolments that were decided, and about whom: another person's pseudonym where it was found to be somebody known.
    decided: HashMap<String, Option<SubjectId>>,
    /// Entry and SHA-256 of the profile that holds.
    profile: Option<(u64, String)>,
    /// The newest run of the retention.
    retention_run: Option<Timestamp>,
    /// Entries without the server's code that no alarm has told of yet.
    forged: Vec<u64>,
    /// Passages that may have a picture.
    pictured: HashMap<TransactionId, Pictured>,
}

impl Ledger {
    fn take(&mut self, index: u64, entry: Entry) {
        match entry.kind.as_str() {
            "profile_change" => self.profile = entry.content.map(|sha256| (index, sha256)),
            "retention_run" => self.retention_run = Some(Timestamp::from_micros(entry.time)),
            kind => {
                if matches!(kind, "passage" | "review" | "retention_deleted") {
                    self.take_of_picture(&entry);
                }
                self.take_of_person(index, entry);
            }
        }
    }

    fn take_of_picture(&mut self, entry: &Entry) {
        if entry.decision.as_deref() == Some(PASSAGE_PICTURES) {
            for id in entry.references.iter().filter_map(|id| id.parse().ok()) {
                self.pictured.remove(&id);
            }
            return;
        }
        let Some(passage) = entry.about.as_deref().and_then(|id| id.parse().ok()) else {
            return;
        };
        let at = Timestamp::from_micros(entry.time);
        let meant: Option<SubjectId> = entry.subject.as_deref().and_then(|id| id.parse().ok());
        let reason = entry.reason.clone().map(serde_json::Value::String);
        let reason = reason.and_then(|code| serde_json::from_value::<ReasonCode>(code).ok());
        // Of somebody whom the log doesn't name nobody can be recognised.
        let recognised = meant.is_some() && reason.is_some_and(ReasonCode::names_the_person);
        match (entry.kind.as_str(), entry.decision.as_deref()) {
            ("passage", decision) => {
                let closed = (decision != Some("refer")).then_some(at);
                let one = Pictured {
                    passage,
                    passed: at,
                    closed,
                    meant,
                    recognised,
                };
                self.pictured.insert(passage, one);
            }
            ("review", _) => {
                if let Some(one) = self.pictured.get_mut(&passage) {
                    one.closed = Some(at);
                    if recognised {
                        one.meant = meant;
                        one.recognised = true;
                    }
                }
            }
            ("retention_deleted", Some(PASSAGE_PICTURE)) => {
                self.pictured.remove(&passage);
            }
            _ => {}
        }
    }

    fn take_of_person(&mut self, index: u64, entry: Entry) {
        if let Some(about) = &entry.about
            && entry.kind == "enrolment"
        {
            let subject = entry.subject.as_deref().and_then(|id| id.parse().ok());
            self.decided.insert(about.clone(), subject);
        }
        let Some(subject) = entry.subject.as_deref().and_then(|id| id.parse().ok()) else {
            return;
        };
        if let Some(known) = self.subjects.get_mut(&subject)
            && !matches!(entry.kind.as_str(), "passage" | "review")
        {
            known.changes.push(Change::of(index, &entry));
        }
        match (entry.kind.as_str(), entry.decision.as_deref()) {
            ("subject_details", _) => {
                if let Some(known) = self.subjects.get_mut(&subject) {
                    known.details = entry.content;
                }
            }
            ("passage" | "review" | "subject_status" | "subject_event" | "legal_hold", _) => {
                if let Some(known) = self.subjects.get_mut(&subject) {
                    known.life.take(&entry);
                }
            }
            ("retention_deleted", _) => {
                if let Some(known) = self.subjects.get_mut(&subject) {
                    for id in entry.references.iter().filter_map(|line| line.parse().ok()) {
                        known.references.remove(&id);
                    }
                }
            }
            // Only whoever was enrolled can get references of another model.
            ("reference_renewed", how) => {
                if let Some(known) = self.subjects.get_mut(&subject) {
                    let at_passage = how == Some("at_passage");
                    let source = entry.about.as_deref().and_then(|id| id.parse().ok());
                    for (id, named) in entry.references.iter().filter_map(|line| named(line)) {
                        known.references.insert(id, named);
                        known.captured.insert(id, entry.time);
                        let made = Made {
                            enrolment: None,
                            gate: entry.gate.clone(),
                            at_passage,
                        };
                        known.made.insert(id, made);
                        // Made of the photograph of a reference that came with another person: it goes back with it.
                        if let Some(source) = source.filter(|_| !at_passage) {
                            for came in known.merged.values_mut() {
                                if came.contains(&source) {
                                    came.insert(id);
                                }
                            }
                        }
                    }
                }
            }
            ("subject_merged", Some(MERGED)) => self.take_merger(subject, &entry),
            ("subject_unmerged", Some(UNMERGED)) => self.take_back(subject, &entry),
            ("reference_retired", _) => {
                if let Some(known) = self.subjects.get_mut(&subject) {
                    for id in entry.references.iter().filter_map(|line| line.parse().ok()) {
                        known.references.remove(&id);
                    }
                }
            }
            ("enrolment", Some("enrolled" | "merged")) => {
                let known: &mut Known = self.subjects.entry(subject).or_default();
                // The first of a person's changes; later ones stand there already.
                if known.changes.is_empty() {
                    known.changes.push(Change::of(index, &entry));
                }
                known.before_references |= entry.references.is_empty();
                known.enrolled = known.enrolled.max(entry.time);
                for (id, named) in entry.references.iter().filter_map(|line| named(line)) {
                    known.references.insert(id, named);
                    known.captured.insert(id, entry.time);
                    let made = Made {
                        enrolment: entry.about.clone(),
                        gate: None,
                        at_passage: false,
                    };
                    known.made.insert(id, made);
                }
            }
            ("subject_removed" | "subject_erased", _) => {
                self.subjects.remove(&subject);
            }
            _ => {}
        }
        if entry.kind == "legal_hold" && entry.decision.as_deref() == Some("lifted") {
            self.lift_of_merged(subject, entry.about.as_deref().unwrap_or_default());
        }
    }

    /// The references of whom the entry is about are `into`'s from now on.
    fn take_merger(&mut self, into: SubjectId, entry: &Entry) {
        let Some(from) = entry.about.as_deref().and_then(|id| id.parse().ok()) else {
            return;
        };
        let came = self.move_references(from, into, entry);
        if let Some(from) = self.subjects.get_mut(&from) {
            from.merged_into = Some((into, Timestamp::from_micros(entry.time)));
        }
        if let Some(into) = self.subjects.get_mut(&into) {
            into.merged.insert(from, came);
        }
    }

    /// They are `subject`'s own again.
    fn take_back(&mut self, subject: SubjectId, entry: &Entry) {
        let Some(known) = self.subjects.get_mut(&subject) else {
            return;
        };
        let Some((from, _)) = known.merged_into.take() else {
            return;
        };
        if let Some(from) = self.subjects.get_mut(&from) {
            from.merged.remove(&subject);
        }
        self.move_references(from, subject, entry);
    }

    /// Whatever the entry names goes from one person to the other; returns which.
    fn move_references(
        &mut self,
        from: SubjectId,
        into: SubjectId,
        entry: &Entry,
    ) -> BTreeSet<ReferenceId> {
        let mut moved = Vec::new();
        let Some(from) = self.subjects.get_mut(&from) else {
            return BTreeSet::new();
        };
        for (id, named) in entry.references.iter().filter_map(|line| named(line)) {
            let at = from.captured.remove(&id).unwrap_or(from.enrolled);
            let made = from.made.remove(&id).unwrap_or_default();
            from.references.remove(&id);
            moved.push((id, named, at, made));
        }
        let Some(into) = self.subjects.get_mut(&into) else {
            return BTreeSet::new();
        };
        let came = moved.iter().map(|(id, ..)| *id).collect();
        for (id, named, at, made) in moved {
            into.references.insert(id, named);
            into.captured.insert(id, at);
            into.made.insert(id, made);
        }
        came
    }

    /// A hold about somebody whose references became this person's is lifted here, where it shows.
    fn lift_of_merged(&mut self, subject: SubjectId, hold: &str) {
        let merged = self.subjects.get(&subject).map(|known| &known.merged);
        let merged: Vec<SubjectId> = merged.into_iter().flatten().map(|(id, _)| *id).collect();
        for one in merged {
            if let Some(known) = self.subjects.get_mut(&one) {
                known.life.holds.remove(hold);
            }
        }
    }

    /// What happened to a person, and to whomever else the person was enrolled as.
    fn life(&self, subject: SubjectId) -> Option<Life> {
        let known = self.subjects.get(&subject)?;
        let mut life = known.life.clone();
        for other in known.merged.keys().filter_map(|id| self.subjects.get(id)) {
            life.join(&other.life);
        }
        Some(life)
    }

    fn knows(&self, subject: SubjectId, reference: ReferenceId) -> Option<Option<&(u32, String)>> {
        let known = self.subjects.get(&subject)?;
        match known.references.get(&reference) {
            Some(named) => Some(Some(named)),
            None if known.before_references => Some(None),
            None => None,
        }
    }
}

impl Life {
    /// Of the same person under another pseudonym: the later visit, every hold, the first request. Release and end of employment are
    /// those of the record that goes on.
    fn join(&mut self, other: &Self) {
        self.last_visit = self.last_visit.max(other.last_visit);
        self.deletion_requested = match (self.deletion_requested, other.deletion_requested) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
        self.holds.extend(other.holds.iter().cloned());
    }

    fn take(&mut self, entry: &Entry) {
        let at = Timestamp::from_micros(entry.time);
        let decision = entry.decision.as_deref().unwrap_or_default();
        match (entry.kind.as_str(), decision) {
            ("passage" | "review", "grant") => self.last_visit = Some(at),
            ("subject_status", "released") => self.released = Some(at),
            // Held or admitted again.
            ("subject_status", "active") => self.released = None,
            ("subject_event", kind) => {
                let when = entry
                    .reason
                    .as_deref()
                    .and_then(Timestamp::from_rfc3339_utc);
                let when = Some(when.unwrap_or(at));
                match kind {
                    "released" => self.released = when,
                    "employment_ended" => self.employment_ended = when,
                    "deletion_requested" => self.deletion_requested = when,
                    "last_visit" => self.last_visit = self.last_visit.max(when),
                    _ => {}
                }
            }
            ("legal_hold", "placed") => {
                self.holds.extend(entry.about.clone());
            }
            ("legal_hold", "lifted") => {
                if let Some(name) = &entry.about {
                    self.holds.remove(name);
                }
            }
            _ => {}
        }
    }
}

/// Takes out the entries without the server's code that were found since the last time.
pub(crate) async fn forged(state: &AppState) -> Vec<u64> {
    std::mem::take(&mut state.ledger.lock().await.forged)
}

/// The entry and SHA-256 of the profile that the log says holds.
pub(crate) async fn profile(state: &AppState) -> Option<(u64, String)> {
    state.ledger.lock().await.profile.clone()
}

/// When the retention ran last.
pub(crate) async fn retention_run(state: &AppState) -> Option<Timestamp> {
    state.ledger.lock().await.retention_run
}

/// Passages whose picture may be there, oldest first.
pub(crate) async fn pictured(state: &AppState) -> Vec<Pictured> {
    let ledger = state.ledger.lock().await;
    let mut all: Vec<Pictured> = ledger.pictured.values().copied().collect();
    all.sort_by_key(|one| (one.passed, one.passage));
    all
}

/// One of them; `None` where the log says that its picture is gone.
pub(crate) async fn pictured_at(state: &AppState, passage: TransactionId) -> Option<Pictured> {
    let ledger = state.ledger.lock().await;
    ledger.pictured.get(&passage).copied()
}

/// These passages have no picture. One comes with its passage or never, so they need not be looked at again.
pub(crate) async fn without_picture(state: &AppState, passages: &[TransactionId]) {
    let mut ledger = state.ledger.lock().await;
    for passage in passages {
        ledger.pictured.remove(passage);
    }
}

/// What the log says of a person's life; `None` of somebody whom it does not know.
pub(crate) async fn life(state: &AppState, subject: SubjectId) -> Option<Life> {
    state.ledger.lock().await.life(subject)
}

/// Whose references this person's became, and when, if a merger stands. The ledger has caught up.
pub(crate) async fn merged_into(
    state: &AppState,
    subject: SubjectId,
) -> Option<(SubjectId, Timestamp)> {
    let ledger = state.ledger.lock().await;
    ledger.subjects.get(&subject)?.merged_into
}

/// Whose references became this person's, and which of them the log knows. The ledger has caught up.
pub(crate) async fn merged(
    state: &AppState,
    subject: SubjectId,
) -> BTreeMap<SubjectId, BTreeSet<ReferenceId>> {
    let ledger = state.ledger.lock().await;
    let known = ledger.subjects.get(&subject);
    known.map(|known| known.merged.clone()).unwrap_or_default()
}

/// The newest keyed hash of a person's legal basis, custody and visits; `None` where none was ever recorded.
pub(crate) async fn details(state: &AppState, subject: SubjectId) -> Option<String> {
    let ledger = state.ledger.lock().await;
    ledger.subjects.get(&subject)?.details.clone()
}

/// What made a reference, as far as the log says.
pub(crate) async fn made(state: &AppState, subject: SubjectId, reference: ReferenceId) -> Made {
    let ledger = state.ledger.lock().await;
    let known = ledger.subjects.get(&subject);
    let made = known.and_then(|known| known.made.get(&reference));
    made.cloned().unwrap_or_default()
}

/// Changes of a person's record, oldest first.
pub(crate) async fn changes(state: &AppState, subject: SubjectId) -> Vec<Change> {
    let ledger = state.ledger.lock().await;
    let known = ledger.subjects.get(&subject);
    known.map_or_else(Vec::new, |known| known.changes.clone())
}

/// When a reference of a known person was captured, by the log.
pub(crate) async fn captured(
    state: &AppState,
    subject: SubjectId,
    reference: Option<ReferenceId>,
) -> Option<Timestamp> {
    let ledger = state.ledger.lock().await;
    let known = ledger.subjects.get(&subject)?;
    let of_reference = reference.and_then(|id| known.captured.get(&id));
    let micros = of_reference.copied().unwrap_or(known.enrolled);
    Some(Timestamp::from_micros(micros))
}

/// How an entry names a reference.
pub(crate) fn name(reference: &ReferenceRow, template: &Template) -> String {
    format!(
        "{}:{}:{}",
        reference.id,
        reference.secret_version,
        registry::template_sha256(template)
    )
}

fn named(line: &str) -> Option<(ReferenceId, (u32, String))> {
    let mut parts = line.split(':');
    let id = parts.next()?.parse().ok()?;
    let version = parts.next()?.parse().ok()?;
    Some((id, (version, parts.next()?.to_owned())))
}

/// Reads what was logged since the last time.
///
/// # Errors
/// The database failed.
pub(crate) async fn catch_up(state: &AppState) -> Result<(), StoreError> {
    let mut ledger = state.ledger.lock().await;
    loop {
        let rows = state.store.log_rows(ledger.next, PAGE).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        let next = last.index + 1;
        for row in &rows {
            let (index, bytes) = (&row.index, &row.bytes);
            let head = bytes.get(..HEAD).unwrap_or(bytes);
            let is_of = |kinds: &[&[u8]]| {
                kinds
                    .iter()
                    .any(|kind| head.windows(kind.len()).any(|window| window == *kind))
            };
            let (of_rights, of_people) = (is_of(&rights::KINDS), is_of(&KINDS));
            if !of_rights && !of_people {
                continue;
            }
            if !log_codes::is_ours(state, *index, bytes, row.code.as_deref()) {
                ledger.forged.push(*index);
                continue;
            }
            if let Ok(entry) = Entry::from_bytes(bytes) {
                if of_rights {
                    state.note_rights(|rights| rights.take(*index, &entry));
                    if matches!(entry.kind.as_str(), "gate_revoked" | "gate_key_ended") {
                        state.keys_ended.send_modify(|count| *count += 1);
                    }
                }
                if of_people {
                    ledger.take(*index, entry);
                }
            }
        }
        ledger.next = next;
    }
}

/// Does the log say that this reference was enrolled, with this template?
///
/// A renewal of all templates changes their bytes; then the reference's own sealed place, which no hand without keys can fill,
/// stands for its content, and the log for its being there.
///
/// # Errors
/// [`RegistryError::NotInLog`].
pub(crate) async fn stands(
    state: &AppState,
    reference: &ReferenceRow,
    template: &Template,
) -> Result<(), RegistryError> {
    let ledger = state.ledger.lock().await;
    match ledger.knows(reference.subject, reference.id) {
        Some(Some((version, sha256)))
            if *version != reference.secret_version
                || *sha256 == registry::template_sha256(template) =>
        {
            Ok(())
        }
        Some(None) => Ok(()),
        Some(Some(_)) | None => Err(RegistryError::NotInLog),
    }
}

/// Was this enrolment decided?
pub(crate) async fn is_decided(state: &AppState, enrolment: &str) -> bool {
    state.ledger.lock().await.decided.contains_key(enrolment)
}

/// Did this enrolment's references become somebody else's, who is still registered?
pub(crate) async fn became_another(state: &AppState, enrolment: &str, subject: SubjectId) -> bool {
    let ledger = state.ledger.lock().await;
    let whose = ledger.decided.get(enrolment).copied().flatten();
    whose.is_some_and(|whose| whose != subject && ledger.subjects.contains_key(&whose))
}

/// Raises an alarm when this is what was found; about anything else others speak.
///
/// # Errors
/// The alarm could not be stored.
pub(crate) async fn not_in_log(
    state: &AppState,
    error: &RegistryError,
    what: &str,
    id: &str,
) -> Result<(), AuditError> {
    match error {
        RegistryError::NotInLog => alarm(state, what, id, "the log knows of no approval").await,
        RegistryError::Changed => {
            alarm(state, what, id, "it differs from what was submitted").await
        }
        RegistryError::Invalid(_)
        | RegistryError::Conflict
        | RegistryError::Unknown
        | RegistryError::Merged(_)
        | RegistryError::NoOrder
        | RegistryError::Forbidden { .. }
        | RegistryError::ProfileChanged
        | RegistryError::Held
        | RegistryError::UnderReview
        | RegistryError::Busy
        | RegistryError::Sealed(_)
        | RegistryError::Key(_)
        | RegistryError::Unavailable(_) => Ok(()),
    }
}

/// An alarm about the registry, on every page of the console and in the log.
///
/// # Errors
/// The alarm could not be stored.
pub(crate) async fn alarm(
    state: &AppState,
    what: &str,
    id: &str,
    wrong: &str,
) -> Result<(), AuditError> {
    let what = format!(
        "registry: {what} {id} in the database: {wrong}; it is not used. Somebody changed the database by hand"
    );
    witness::raise(state, witness::SERVER, &what, None, None).await
}

/// Compares every reference's row with the log, as often as the server's chores say; rows that are not in the log are named in an
/// alarm, and leave the gallery if they ever got there.
///
/// # Errors
/// The database failed.
pub async fn compare(state: &AppState) -> Result<usize, RegistryError> {
    // Rows first: whoever is enrolled in between is in the log before being among the rows.
    let rows = state.store.reference_ids().await?;
    catch_up(state).await?;
    let mut wrong = Vec::new();
    {
        let ledger = state.ledger.lock().await;
        for (subject, reference) in rows {
            if ledger.knows(subject, reference).is_none() {
                wrong.push((subject, reference));
            }
        }
    }
    for (subject, reference) in &wrong {
        // Removed in the meantime, or really wrong?
        let there = state.store.references(*subject).await?;
        if !there.iter().any(|row| row.id == *reference) {
            continue;
        }
        if let Ok(mut gallery) = state.gallery.write() {
            gallery.remove(*reference);
        }
        let id = format!("{reference} of subject {subject}");
        alarm(state, "reference", &id, "the log knows of no approval").await?;
    }
    Ok(wrong.len())
}

/// The log entry of this number, if it is of this kind.
pub(crate) async fn entry_of(
    state: &AppState,
    index: u64,
    kind: &str,
) -> Result<Option<Entry>, StoreError> {
    let rows = state.store.log_rows(index, 1).await?;
    Ok(rows
        .into_iter()
        .find(|row| row.index == index)
        .filter(|row| log_codes::is_ours(state, index, &row.bytes, row.code.as_deref()))
        .and_then(|row| Entry::from_bytes(&row.bytes).ok())
        .filter(|entry| entry.kind == kind))
}

/// Appends an entry in the transaction of what it records.
///
/// # Errors
/// Not logged; the transaction must be dropped.
pub(crate) async fn append(
    state: &AppState,
    write: &mut Write<'_>,
    entry: Entry,
    detail: Option<&str>,
) -> Result<u64, AuditError> {
    let detail = detail.filter(|text| !text.is_empty()).map(str::as_bytes);
    audit::append(state, write, entry, detail).await
}
