//! The demographic group that a person stated, where a site records it at all: for referral rates by group, and for nothing else.
//!
//! It is sealed under the person's own key and goes with the person. No decision reads it, no page shows it, and the log says only
//! that it was recorded or removed, never which.

use std::collections::BTreeMap;

use sallyport_domain::{Group, GroupList, SubjectId};
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::registry::{self, RegistryError};
use crate::sealing::{self, Place};
use crate::state::AppState;
use crate::store::registry::SubjectRow;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Not in the list.
    #[error(
        "{code:?} is no group of the list that holds; use one of these codes: {known} (profile {profile})"
    )]
    Code {
        /// What was given.
        code: String,
        /// Those that would do.
        known: String,
        /// The profile with the list.
        profile: String,
    },
    /// There is no list.
    #[error(
        "the jurisdiction profile {profile} lists no groups, so none can be recorded; set a profile that does, with the list of your country's statistical standard"
    )]
    NoList {
        /// The profile.
        profile: String,
    },
    /// No reason.
    #[error("give a reason, such as how the person stated it")]
    Reason,
    /// No such person, or the record cannot be opened.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<AuditError> for GroupError {
    fn from(error: AuditError) -> Self {
        Self::Registry(error.into())
    }
}

impl From<crate::store::StoreError> for GroupError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Registry(error.into())
    }
}

fn place<'a>(state: &'a AppState, id: &'a str) -> Place<'a> {
    Place {
        subject: id,
        ..Place::new(
            state.config.site.as_str(),
            "subject_group",
            "group_sealed",
            id,
        )
    }
}

/// The group of this code in the list that holds.
///
/// # Errors
/// There is none, or no list.
pub fn listed(state: &AppState, code: &str) -> Result<Group, GroupError> {
    let held = state.profile();
    let list = held.profile.groups();
    let profile = format!("{} version {}", held.profile.name(), held.profile.version());
    if list.groups.is_empty() {
        return Err(GroupError::NoList { profile });
    }
    list.of_code(code).cloned().ok_or_else(|| {
        let known: Vec<&str> = list.groups.iter().map(|one| one.code.as_str()).collect();
        GroupError::Code {
            code: code.to_owned(),
            known: known.join(", "),
            profile,
        }
    })
}

/// What reports call recorded words: those of the group that they mean in the list that holds, or that they are others.
#[must_use]
pub fn shown(list: &GroupList, recorded: &str) -> String {
    let group = list.of_words(recorded);
    group
        .map_or(GroupList::OTHER_WORDS, |group| &group.words)
        .to_owned()
}

/// Records the group that a person stated, by its code in the list that holds, or (`None`) removes it; returns the log entry.
///
/// # Errors
/// See [`GroupError`]; nothing was changed.
pub async fn record(
    state: &AppState,
    subject: SubjectId,
    group: Option<&str>,
    reason: &str,
    actor: &str,
) -> Result<u64, GroupError> {
    let reason = reason.trim();
    if reason.is_empty() {
        return Err(GroupError::Reason);
    }
    let group = group.map(|code| listed(state, code)).transpose()?;
    let mut write = state.store.write().await?;
    let row = write
        .subject(subject)
        .await?
        .ok_or(RegistryError::Unknown)?;
    let key = registry::subject_key(state, &row).map_err(RegistryError::from)?;
    let id = subject.to_string();
    let sealed = group
        .as_ref()
        .map(|group| sealing::seal(&key, 1, &place(state, &id), group.code.as_bytes()))
        .transpose()
        .map_err(RegistryError::from)?;
    let now = state.clock.now();
    let entry = Entry {
        actor: Some(actor.to_owned()),
        subject: Some(id.clone()),
        decision: Some(
            if sealed.is_some() {
                "recorded"
            } else {
                "removed"
            }
            .to_owned(),
        ),
        ..audit::entry("subject_group", now)?
    };
    write.subject_group_set(subject, sealed).await?;
    let index = audit::append(state, &mut write, entry, Some(reason.as_bytes())).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(index)
}

/// What was recorded, a code of a list or free words of before; `None` without one, or when the person is gone.
///
/// # Errors
/// Database or sealing.
pub async fn group(state: &AppState, subject: SubjectId) -> Result<Option<String>, RegistryError> {
    let Some(row) = state.store.subject(subject).await? else {
        return Ok(None);
    };
    let Some(sealed) = state.store.subject_group(subject).await? else {
        return Ok(None);
    };
    open(state, &row, &sealed).map(Some)
}

fn open(state: &AppState, row: &SubjectRow, sealed: &[u8]) -> Result<String, RegistryError> {
    state.note_opened();
    let key = registry::subject_key(state, row)?;
    let id = row.id.to_string();
    let bytes = sealing::open(&key, 1, &place(state, &id), sealed)?;
    String::from_utf8(bytes)
        .map_err(|_| crate::store::StoreError::Corrupt("subject_group.group_sealed").into())
}

/// The groups of these people in the words of the list that holds, and how many could not be opened: those count as not recorded, and the report says so.
///
/// # Errors
/// The database failed.
pub(crate) async fn groups<'a>(
    state: &AppState,
    people: impl Iterator<Item = &'a str>,
) -> Result<(BTreeMap<String, String>, u64), AuditError> {
    let (mut groups, mut unreadable) = (BTreeMap::new(), 0);
    let held = state.profile();
    for person in people {
        let Ok(subject) = person.parse() else {
            continue;
        };
        match group(state, subject).await {
            Ok(Some(group)) => {
                let words = shown(held.profile.groups(), &group);
                groups.insert(person.to_owned(), words);
            }
            Ok(None) => {}
            Err(RegistryError::Unavailable(error)) => return Err(error),
            Err(error) => {
                tracing::error!(%subject, %error, "a person's recorded group cannot be opened");
                unreadable += 1;
            }
        }
    }
    Ok((groups, unreadable))
}
