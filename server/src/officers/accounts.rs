//! Accounts as the administrator keeps them: list, end, renew, and the first one of an installation.

use sallyport_domain::{OfficerId, Role, Timestamp};

use super::{OfficerError, create_setup_link, link, name_key, open_name};
use crate::audit;
use crate::enrolments::ledger;
use crate::state::AppState;

/// An account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Who.
    pub id: OfficerId,
    /// Name as colleagues know it.
    pub name: String,
    /// What the officer is appointed to do; `None` when this version does not know the stored word, and then nobody can sign in.
    pub role: Option<Role>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was ended.
    pub disabled_at: Option<Timestamp>,
}

/// All accounts, oldest first.
///
/// # Errors
/// Database or sealing failed.
pub async fn list(state: &AppState) -> Result<Vec<Account>, OfficerError> {
    state
        .store
        .officers()
        .await?
        .into_iter()
        .map(|row| {
            Ok(Account {
                id: row.id,
                name: open_name(state, row.id, &row.name_sealed)?,
                role: Role::from_code(&row.role),
                created_at: row.created_at,
                disabled_at: row.disabled_at,
            })
        })
        .collect()
}

/// The account that goes on under this name.
///
/// # Errors
/// No such account; database or sealing failed.
pub async fn find(state: &AppState, name: &str) -> Result<Account, OfficerError> {
    let row = state.store.officer_by_name(&name_key(state, name)).await?;
    let id = row.ok_or(OfficerError::NoAccount)?.id;
    list(state)
        .await?
        .into_iter()
        .find(|account| account.id == id && account.disabled_at.is_none())
        .ok_or(OfficerError::NoAccount)
}

/// Ends an account: its sessions end with it, and open set-up links for it too.
///
/// # Errors
/// No such account; database or audit log failed.
pub async fn disable(state: &AppState, name: &str, actor: &str) -> Result<OfficerId, OfficerError> {
    let officer = find(state, name).await?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    if !write.officer_disable(officer.id, now).await? {
        return Err(OfficerError::NoAccount);
    }
    let mut entry = audit::entry("officer_disabled", now)?;
    entry.actor = Some(actor.to_owned());
    entry.about = Some(officer.id.to_string());
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    // From here on no hand in the database gives the account back.
    ledger::catch_up(state).await?;
    Ok(officer.id)
}

/// A set-up link at which an officer who lost password or second factor begins anew, in the same account and role.
///
/// # Errors
/// No such account; database or audit log failed.
pub async fn renewal_link(state: &AppState, name: &str) -> Result<String, OfficerError> {
    let officer = find(state, name).await?;
    let role = officer.role.ok_or(OfficerError::NoAccount)?;
    link(state, role, Some(officer.id)).await
}

/// While nobody has an account: a set-up link for the first administrator. There is no default password.
///
/// # Errors
/// Database or audit log failed.
pub async fn first_link(state: &AppState) -> Result<Option<String>, OfficerError> {
    if state.store.officers().await?.is_empty() {
        create_setup_link(state, Role::Administrator)
            .await
            .map(Some)
    } else {
        Ok(None)
    }
}
