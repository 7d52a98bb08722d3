//! Which account signs in as whom at the state's identity provider, as the log tells it. There is no table: an entry binds an account to
//! one (issuer, subject) pair by a keyed hash, so that neither a hand in the database nor whoever reads the log learns or makes one.

use sallyport_domain::OfficerId;
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};

use super::{Account, Rights, alarm, same};
use crate::audit::{self, AuditError};
use crate::enrolments::ledger;
use crate::state::AppState;
use crate::store::StoreError;

/// The last act that bound or unbound an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Binding {
    /// Neither; or the account began anew since.
    #[default]
    Never,
    /// Bound by this entry, to what this content says.
    Bound { entry: u64, content: String },
    /// What this entry bound was unbound, if one of these is the server's.
    Unbound {
        entry: u64,
        bound: String,
        by: Vec<String>,
    },
}

impl Binding {
    pub(super) fn take(&mut self, index: u64, entry: &Entry) {
        let content = entry.content.clone().unwrap_or_default();
        *self = match (entry.kind.as_str(), std::mem::take(self)) {
            ("officer_oidc_bound", _) => Self::Bound {
                entry: index,
                content,
            },
            ("officer_oidc_unbound", Self::Bound { entry, content: of }) => Self::Unbound {
                entry,
                bound: of,
                by: vec![content],
            },
            (
                "officer_oidc_unbound",
                Self::Unbound {
                    entry,
                    bound,
                    mut by,
                },
            ) => {
                by.push(content);
                Self::Unbound { entry, bound, by }
            }
            (_, as_before) => as_before,
        };
    }
}

/// The sealed detail of an entry that binds an account.
#[derive(Serialize, Deserialize)]
pub(crate) struct BoundTo {
    pub(crate) issuer: String,
    pub(crate) subject: String,
}

/// What the log binds an account to a provider's subject by. It names its own place in the log, so that an older binding cannot be
/// written into it once more.
pub(crate) fn bound_content(state: &AppState, id: OfficerId, entry: u64, to: &BoundTo) -> String {
    let text = format!("{id}\0{entry}\0{}\0{}", to.issuer, to.subject);
    state.keys.site.lookup("officer.oidc", &text)
}

/// What the log ends that by.
pub(crate) fn unbound_content(state: &AppState, id: OfficerId, entry: u64) -> String {
    let text = format!("{id}\0{entry}");
    state.keys.site.lookup("officer.oidc_unbound", &text)
}

/// The entry by which this account is bound, and its content. An end that the server did not write is none.
fn standing<'a>(state: &AppState, id: OfficerId, account: &'a Account) -> Option<(u64, &'a str)> {
    match &account.binding {
        Binding::Never => None,
        Binding::Bound { entry, content } => Some((*entry, content)),
        Binding::Unbound { entry, bound, by } => {
            let right = unbound_content(state, id, *entry);
            let ended = by.iter().any(|content| same(content, &right));
            (!ended).then_some((*entry, bound))
        }
    }
}

impl Rights {
    fn bound(&self, state: &AppState, id: OfficerId) -> Option<u64> {
        let account = self.accounts.get(&id)?;
        standing(state, id, account).map(|(entry, _)| entry)
    }

    #[cfg(feature = "oidc")]
    fn bound_to(&self, state: &AppState, to: &BoundTo) -> Option<OfficerId> {
        let accounts = self.accounts.iter().filter(|(_, account)| !account.ended);
        let mut named = accounts.filter(|(id, account)| {
            standing(state, **id, account).is_some_and(|(entry, content)| {
                same(content, &bound_content(state, **id, entry, to))
            })
        });
        named.next().map(|(id, _)| *id)
    }

    #[cfg(feature = "oidc")]
    pub(crate) fn has_key(&self, id: OfficerId) -> bool {
        self.accounts
            .get(&id)
            .is_some_and(|account| !account.keys.is_empty())
    }
}

/// The entry by which this account is bound to a subject of the provider; it does not sign in by password then.
///
/// # Errors
/// The database failed.
pub(crate) async fn bound(state: &AppState, id: OfficerId) -> Result<Option<u64>, StoreError> {
    ledger::catch_up(state).await?;
    Ok(state.rights(|rights| rights.bound(state, id)))
}

/// Whose account is bound to this subject?
///
/// # Errors
/// The database failed.
#[cfg(feature = "oidc")]
pub(crate) async fn bound_to(
    state: &AppState,
    to: &BoundTo,
) -> Result<Option<OfficerId>, StoreError> {
    ledger::catch_up(state).await?;
    Ok(state.rights(|rights| rights.bound_to(state, to)))
}

/// Compares each binding with the sealed words of its entry, and raises an alarm for each that the server did not write. Returns how many.
///
/// # Errors
/// The database failed.
pub(super) async fn compare(state: &AppState) -> Result<usize, AuditError> {
    ledger::catch_up(state).await?;
    let all: Vec<(OfficerId, Binding)> = state.rights(|rights| {
        let accounts = rights.accounts.iter();
        accounts
            .filter(|(_, account)| !account.ended)
            .map(|(id, account)| (*id, account.binding.clone()))
            .collect()
    });
    let mut wrong = 0;
    for (id, binding) in all {
        let stands = match &binding {
            Binding::Never => true,
            Binding::Bound { entry, content } => is_ours(state, id, *entry, content).await?,
            Binding::Unbound { entry, by, .. } => {
                let right = unbound_content(state, id, *entry);
                by.iter().all(|content| same(content, &right))
            }
        };
        if !stands {
            wrong += 1;
            alarm(state, "sign-in binding of officer", &id.to_string()).await?;
        }
    }
    Ok(wrong)
}

async fn is_ours(
    state: &AppState,
    id: OfficerId,
    entry: u64,
    content: &str,
) -> Result<bool, AuditError> {
    let detail = match audit::detail(state, entry).await {
        Ok(detail) => detail,
        // It cannot be opened: the server did not seal it.
        Err(AuditError::Damaged(_)) => None,
        Err(error) => return Err(error),
    };
    let to = detail.and_then(|words| serde_json::from_slice::<BoundTo>(&words).ok());
    Ok(to.is_some_and(|to| same(content, &bound_content(state, id, entry, &to))))
}
