//! The demographic group that a person stated, where a site records it at all: for referral rates by group, and for nothing else.
//!
//! It is sealed under the person's own key and goes with the person. No decision reads it, no page shows it, and the log says only
//! that it was recorded or removed, never which.

use std::collections::BTreeMap;

use sallyport_domain::SubjectId;
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::registry::{self, RegistryError};
use crate::sealing::{self, Place};
use crate::state::AppState;
use crate::store::registry::SubjectRow;

/// A group's name has at most this many characters.
pub const NAME_CHARS: usize = 60;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// Not a name.
    #[error(
        "name the group in up to {NAME_CHARS} letters, digits, spaces and hyphens, always in the same words"
    )]
    Name,
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

/// One spelling of a group, so that a different capital letter is no other group.
fn checked(name: &str) -> Result<String, GroupError> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = name.to_lowercase();
    let good = (1..=NAME_CHARS).contains(&name.chars().count())
        && name != crate::reports::groups::NOT_RECORDED
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || c == '-' || c == ' ');
    good.then_some(name).ok_or(GroupError::Name)
}

/// Records the group that a person stated, or (`None`) removes it; returns the log entry.
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
    let group = group.map(checked).transpose()?;
    let mut write = state.store.write().await?;
    let row = write
        .subject(subject)
        .await?
        .ok_or(RegistryError::Unknown)?;
    let key = registry::subject_key(state, &row).map_err(RegistryError::from)?;
    let id = subject.to_string();
    let sealed = group
        .as_ref()
        .map(|group| sealing::seal(&key, 1, &place(state, &id), group.as_bytes()))
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

/// The group that was recorded; `None` without one, or when the person is gone.
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

/// The groups of these people, and how many could not be opened: those count as not recorded, and the report says so.
///
/// # Errors
/// The database failed.
pub(crate) async fn groups<'a>(
    state: &AppState,
    people: impl Iterator<Item = &'a str>,
) -> Result<(BTreeMap<String, String>, u64), AuditError> {
    let (mut groups, mut unreadable) = (BTreeMap::new(), 0);
    for person in people {
        let Ok(subject) = person.parse() else {
            continue;
        };
        match group(state, subject).await {
            Ok(Some(group)) => {
                groups.insert(person.to_owned(), group);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_spelling() {
        assert_eq!(checked("  Group  A ").unwrap(), "group a");
        let long = "x".repeat(NAME_CHARS + 1);
        for bad in ["", "  ", "a+b", "a,b", "Not Recorded", &long] {
            checked(bad).unwrap_err();
        }
    }
}
