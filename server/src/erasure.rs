//! The proof that somebody was erased: what the log says of the erasure, what the database holds now, and whether backups still hold it.
//!
//! The answer is a text whose hash stands in an entry of its own, so that the signed and witnessed log vouches for it, in an evidence
//! bundle that `sallyport-audit verify-evidence` checks offline. It says nothing about copies that were made past the server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sallyport_domain::{SubjectId, Timestamp};
use sallyport_transparency::{Artefact, Entry, Evidence};
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError};
use crate::enrolments::ledger;
use crate::evidence::{scan, scan_from, selected};
use crate::state::AppState;
use crate::store::{Engine, StoreError};
use crate::{export, witness};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The person is there.
    #[error(
        "this person is in the registry and was not erased; to remove the person: sallyport-server registry remove"
    )]
    Registered,
    /// Nobody was erased under this pseudonym.
    #[error("the log knows of nobody who was erased under this pseudonym")]
    Unknown,
    /// Words that would stay in the log.
    #[error(
        "give a case number of up to 60 letters, digits, '-', '/' and '.', and no name: it stays in the log for ever"
    )]
    Case,
    /// Rows are there that should not be.
    #[error(
        "the log says that this person was erased, but the database holds: {0}. Somebody put it back or kept it from being deleted; an alarm is in the log. Keep the database for the investigation"
    )]
    Remains(String),
    /// Database or log.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl From<StoreError> for ErasureError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// What was found, and its entry.
#[derive(Debug)]
pub struct Checked {
    /// About whom.
    pub subject: SubjectId,
    /// The entry that names the text's hash.
    pub log_index: u64,
    /// The text.
    pub text: String,
    /// Backups still open with key versions that exist.
    pub in_backups: bool,
    /// Entries that the text speaks of.
    entries: BTreeSet<u64>,
}

/// What the log tells about one person's data and the keys over them.
#[derive(Default)]
struct Told {
    submitted: Option<u64>,
    /// Entry, time and kind of the newest erasure.
    erased: Option<(u64, Timestamp, Entry)>,
    backups: Vec<(u64, Timestamp)>,
    /// Into whose record this one was merged, from which entry on, and until which.
    mergers: Vec<Merger>,
    /// The least version that could wrap when the data came.
    least: u32,
    /// The newest version when they went.
    newest: u32,
    destroyed: BTreeMap<u32, (u64, Timestamp)>,
    /// The newest version that everything was wrapped under, and that was made, up to the entry at hand.
    minimum_now: u32,
    newest_now: u32,
}

/// A time in which the person's references lay under another record's key.
struct Merger {
    into: SubjectId,
    from: u64,
    until: Option<u64>,
}

impl Merger {
    /// Is an entry of this number from that time?
    fn covers(&self, index: u64) -> bool {
        index > self.from && self.until.is_none_or(|until| index < until)
    }
}

impl Told {
    fn new() -> Self {
        Self {
            minimum_now: 1,
            newest_now: 1,
            ..Self::default()
        }
    }

    fn take(&mut self, id: &str, index: u64, entry: &Entry) {
        let at = Timestamp::from_micros(entry.time);
        let its = entry.subject.as_deref() == Some(id);
        match (entry.kind.as_str(), entry.decision.as_deref()) {
            // Entries of before the second officer begin with the enrolment itself.
            ("enrolment_submitted" | "enrolment", _)
                if its && (self.submitted.is_none() || self.erased.is_some()) =>
            {
                self.submitted = Some(index);
                self.least = self.minimum_now;
                self.backups.clear();
                self.mergers.clear();
                self.erased = None;
            }
            ("subject_removed" | "subject_erased", _) if its => {
                self.newest = self.newest_now;
                self.erased = Some((index, at, entry.clone()));
            }
            // About the record that goes on; the one that is closed is named beside it.
            ("subject_merged", Some(ledger::MERGED)) if entry.about.as_deref() == Some(id) => {
                let into = entry.subject.as_deref().and_then(|id| id.parse().ok());
                self.mergers.extend(into.map(|into| Merger {
                    into,
                    from: index,
                    until: None,
                }));
            }
            ("subject_unmerged", Some(ledger::UNMERGED)) if its => {
                if let Some(merger) = self.mergers.last_mut() {
                    merger.until = Some(index);
                }
            }
            ("backup", _) if self.submitted.is_some() && self.erased.is_none() => {
                self.backups.push((index, at));
            }
            ("keys_rotated", Some(what)) => {
                let version = entry.about.as_deref();
                let version = version.and_then(|about| about.strip_prefix("key version "));
                let Some(version) = version.and_then(|number| number.parse().ok()) else {
                    return;
                };
                match what {
                    "made" => self.newest_now = self.newest_now.max(version),
                    "rewrapped" => {
                        self.newest_now = self.newest_now.max(version);
                        self.minimum_now = self.minimum_now.max(version);
                    }
                    "destroyed" => {
                        self.destroyed.insert(version, (index, at));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Versions that may have wrapped the person's keys, and where each was destroyed.
    fn versions(&self) -> Vec<(u32, Option<(u64, Timestamp)>)> {
        (self.least..=self.newest)
            .map(|version| (version, self.destroyed.get(&version).copied()))
            .collect()
    }

    /// Records of whom backups hold this person's references, as long as these records' keys are there.
    fn lent(&self) -> BTreeMap<SubjectId, usize> {
        let mut lent = BTreeMap::new();
        for merger in &self.mergers {
            let backups = self.backups.iter();
            let count = backups.filter(|(index, _)| merger.covers(*index)).count();
            if count > 0 && merger.until.is_some() {
                *lent.entry(merger.into).or_default() += count;
            }
        }
        lent
    }

    fn text(
        &self,
        subject: SubjectId,
        now: Timestamp,
        pictures: usize,
        engine: Engine,
    ) -> Result<(String, bool), std::fmt::Error> {
        let mut text = String::new();
        writeln!(text, "Erasure of {subject}")?;
        if let Some((index, at, entry)) = &self.erased {
            let why = entry.reason.as_deref();
            let why = why.or(entry.decision.as_deref()).unwrap_or_default();
            let at = at.to_rfc3339_seconds();
            writeln!(
                text,
                "Erased at {at} by entry {index} ({}: {why}).",
                entry.kind
            )?;
        }
        writeln!(
            text,
            "Looked at {}: the database holds no record, no reference, no photograph, no data key, no document number, no wing and no \
             demographic group of this person. What the log has sealed under the person's key cannot be opened any more; the log itself keeps the pseudonym.",
            now.to_rfc3339_seconds()
        )?;
        writeln!(
            text,
            "Pictures of passages at which somebody may have stood who was taken for this person: {pictures}; they go by their own term."
        )?;
        if engine == Engine::Postgres {
            writeln!(
                text,
                "PostgreSQL keeps deleted rows on its disk, sealed, until it vacuums; the keys' rows among them open with the key versions below."
            )?;
        }
        let versions = self.versions();
        for (version, destroyed) in &versions {
            match destroyed {
                Some((index, at)) => writeln!(
                    text,
                    "Key version {version}, which may have wrapped the person's keys: destroyed at {} by entry {index}.",
                    at.to_rfc3339_seconds()
                )?,
                None => writeln!(
                    text,
                    "Key version {version}, which may have wrapped the person's keys: not destroyed."
                )?,
            }
        }
        let stand = versions.iter().any(|(_, destroyed)| destroyed.is_none());
        let last = self.backups.last();
        match last {
            None => writeln!(
                text,
                "Backups by this server between enrolment and erasure: none."
            )?,
            Some((_, at)) => writeln!(
                text,
                "Backups by this server between enrolment and erasure: {}, the last at {}.",
                self.backups.len(),
                at.to_rfc3339_seconds()
            )?,
        }
        let lent = self.lent();
        for (into, backups) in &lent {
            writeln!(
                text,
                "{backups} of these backups are of a time in which this record was merged into {into}: in them the references lie under that record's key, and open until that record is erased too and its key versions are destroyed."
            )?;
        }
        let in_backups = (stand && last.is_some()) || !lent.is_empty();
        if in_backups {
            writeln!(
                text,
                "BACKUPS STILL HOLD THE PERSON: until the last of them is destroyed, or the key versions above are (registry rewrap, then registry retire-key)."
            )?;
        } else if stand {
            writeln!(
                text,
                "Copies made another way (of the disk, of the database, by replication) hold the person until the key versions above are destroyed."
            )?;
        } else {
            let since = versions.iter().filter_map(|(_, destroyed)| *destroyed);
            if let Some((_, at)) = since.max_by_key(|(_, at)| *at) {
                writeln!(
                    text,
                    "No backup of the database opens for this person any more, since {}.",
                    at.to_rfc3339_seconds()
                )?;
            }
        }
        writeln!(
            text,
            "The server does not know: copies of registry.key from before the destruction, exports with sealed details that were handed out, and what was printed."
        )?;
        Ok((text, in_backups))
    }
}

/// The case number of whoever asked, as it may stand in the log in clear.
fn case_number(reason: &str) -> Result<String, ErasureError> {
    let case = reason.trim();
    let fits = (1..=60).contains(&case.chars().count())
        && case
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-/. ".contains(c));
    let numbered = case.chars().any(|c| c.is_ascii_digit());
    (fits && numbered)
        .then(|| case.to_owned())
        .ok_or(ErasureError::Case)
}

/// Looks whether everything about an erased person is gone, and writes what was found into the log.
///
/// # Errors
/// See [`ErasureError`]; there is no proof then.
pub async fn check(
    state: &AppState,
    subject: SubjectId,
    reason: &str,
    actor: &str,
) -> Result<Checked, ErasureError> {
    let id = subject.to_string();
    let case = case_number(reason)?;
    // What is there already is read before the writer's seat is taken, so that no door waits for it.
    ledger::catch_up(state).await?;
    let read = state.store.log_size().await?;
    let mut told = Told::new();
    scan(state, read, |index, entry, _| told.take(&id, index, entry)).await?;
    // In the seat: what is looked up and what is logged are one moment.
    let mut write = state.store.write().await?;
    ledger::catch_up(state).await?;
    let size = write.log_size().await?;
    scan_from(state, read, size, |index, entry, _| {
        told.take(&id, index, entry);
    })
    .await?;
    let Some((erased, ..)) = told.erased else {
        let there = write.subject(subject).await?.is_some();
        return Err(if there {
            ErasureError::Registered
        } else {
            ErasureError::Unknown
        });
    };
    let held = write.held_about(subject).await?;
    let remains: Vec<String> = held
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    if !remains.is_empty() {
        drop(write);
        ledger::alarm(state, "subject", &id, "the log says it was erased").await?;
        return Err(ErasureError::Remains(remains.join(", ")));
    }
    let pictured = ledger::pictured(state).await;
    let mut pictures = 0;
    for one in pictured.iter().filter(|one| one.meant == Some(subject)) {
        pictures += usize::from(state.store.has_passage_picture(one.passage).await?);
    }
    let now = state.clock.now();
    let (text, in_backups) = told
        .text(subject, now, pictures, state.store.engine())
        .map_err(audit::refused)?;
    let entry = Entry {
        actor: Some(actor.to_owned()),
        subject: Some(id),
        about: Some(erased.to_string()),
        decision: Some(
            if in_backups {
                "gone_but_in_backups"
            } else {
                "gone"
            }
            .to_owned(),
        ),
        reason: Some(case),
        content: Some(hex::encode(Sha256::digest(&text))),
        ..audit::entry("erasure_checked", now)?
    };
    let log_index = audit::finish(state, write, entry, None).await?;
    let mut entries: BTreeSet<u64> = told.backups.iter().map(|(index, _)| *index).collect();
    entries.extend(told.submitted);
    entries.extend([erased, log_index]);
    entries.extend(
        told.versions()
            .into_iter()
            .filter_map(|(_, at)| Some(at?.0)),
    );
    Ok(Checked {
        subject,
        log_index,
        text,
        in_backups,
        entries,
    })
}

/// The bundle about it, once a checkpoint covers its entry; `None` until then. `witnessed`: only a checkpoint with enough cosignatures.
///
/// # Errors
/// Database or log.
pub async fn bundle(
    state: &AppState,
    checked: &Checked,
    witnessed: bool,
) -> Result<Option<Evidence>, AuditError> {
    audit::publish(state).await?;
    let policy = witness::policy(state).await?;
    let (note, size) = export::chosen(state, &policy, witnessed).await?;
    let enough = !witnessed || !policy.asks_for_witnesses() || policy.open(note.as_bytes()).is_ok();
    if size <= checked.log_index || !enough {
        return Ok(None);
    }
    let mut evidence = Evidence::new(&format!("erasure of {}", checked.subject));
    for index in &checked.entries {
        let rows = state.store.log_entries(*index, 1).await?;
        let bytes = rows.into_iter().find(|(at, _)| at == index);
        let (_, bytes) =
            bytes.ok_or_else(|| AuditError::Damaged(format!("entry {index} is missing")))?;
        evidence
            .entries
            .push(selected(state, *index, bytes, size).await?);
    }
    evidence.log = state.keys.log.verifier().to_string();
    evidence.policy = policy.to_text();
    evidence.checkpoint = note;
    evidence.artefacts.push(Artefact {
        name: "what the server found".to_owned(),
        named_by: checked.log_index,
        text: checked.text.clone(),
    });
    Ok(Some(evidence))
}
