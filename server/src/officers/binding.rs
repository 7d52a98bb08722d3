//! Accounts bound to a subject of the state's identity provider. An administrator binds and unbinds at the server; signing in never does.

#[cfg(feature = "oidc")]
use sallyport_domain::Role;
use sallyport_domain::{OfficerId, Timestamp};
use sallyport_transparency::Entry;

#[cfg(feature = "oidc")]
use super::Account;
use super::{OfficerError, find};
use crate::audit;
use crate::rights;
use crate::state::AppState;
use crate::store::Write;

/// Does this account sign in at the identity provider?
///
/// # Errors
/// The database failed.
pub async fn is_bound(state: &AppState, officer: OfficerId) -> Result<bool, OfficerError> {
    Ok(rights::bound(state, officer).await?.is_some())
}

fn entry(
    kind: &str,
    officer: OfficerId,
    content: String,
    actor: &str,
    now: Timestamp,
) -> Result<Entry, OfficerError> {
    Ok(Entry {
        actor: Some(actor.to_owned()),
        about: Some(officer.to_string()),
        content: Some(content),
        ..audit::entry(kind, now)?
    })
}

/// Ends what was opened in the way that holds no more, and writes the entry.
async fn finish(
    state: &AppState,
    mut write: Write<'_>,
    officer: OfficerId,
    entry: Entry,
    detail: Option<&[u8]>,
) -> Result<(), OfficerError> {
    write.sessions_end(officer).await?;
    audit::finish(state, write, entry, detail).await?;
    crate::enrolments::ledger::catch_up(state).await?;
    Ok(())
}

/// An account that may be bound, and what to.
#[cfg(feature = "oidc")]
#[derive(Debug, Clone)]
pub struct Bound {
    /// The account.
    pub account: Account,
    /// Its role.
    pub role: Role,
    /// The provider's issuer.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
}

/// Could the account of this name be bound to this subject now?
///
/// # Errors
/// No provider is configured, no such account, or something is in the way; the sentence says what.
#[cfg(feature = "oidc")]
pub async fn to_be_bound(
    state: &AppState,
    name: &str,
    subject: &str,
) -> Result<Bound, OfficerError> {
    let config = state.config.oidc.as_ref();
    let config = config.ok_or(OfficerError::Binding(
        "no identity provider is configured: write [oidc] into server.toml first",
    ))?;
    let good = !subject.is_empty() && subject.len() <= 255 && subject.is_ascii();
    if !good || subject.chars().any(|c| c.is_ascii_control()) {
        return Err(OfficerError::Binding(
            "a subject has 1 to 255 ASCII characters: take it from the provider's own list of users (claim sub), not from its names or mail addresses",
        ));
    }
    let account = find(state, name).await?;
    let role = account.role.ok_or(OfficerError::NoAccount)?;
    let wanted = Bound {
        role,
        account,
        issuer: config.issuer.clone(),
        subject: subject.to_owned(),
    };
    may_be_bound(state, &wanted).await?;
    Ok(wanted)
}

#[cfg(feature = "oidc")]
async fn may_be_bound(state: &AppState, wanted: &Bound) -> Result<(), OfficerError> {
    let id = wanted.account.id;
    if is_bound(state, id).await? {
        return Err(OfficerError::Binding(
            "this account is bound already; unbind it first: sallyport-server officer unbind-oidc",
        ));
    }
    if rights::bound_to(state, &wanted.to()).await?.is_some() {
        return Err(OfficerError::Binding(
            "another account that goes on is bound to this subject; one subject has one account",
        ));
    }
    // Otherwise whoever holds the provider signs in first and adds a key of their own.
    if wanted.role.needs_hardware_key() && !state.rights(|rights| rights.has_key(id)) {
        return Err(OfficerError::Binding(
            "this role needs a security key: the officer first signs in with a password and adds it on the account page",
        ));
    }
    Ok(())
}

#[cfg(feature = "oidc")]
impl Bound {
    fn to(&self) -> rights::BoundTo {
        rights::BoundTo {
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
        }
    }
}

/// Binds an account. From then on it signs in at the provider only; its sessions end.
///
/// # Errors
/// Something is in the way, as in [`to_be_bound`]; database or log failed.
#[cfg(feature = "oidc")]
pub async fn bind(state: &AppState, wanted: &Bound, actor: &str) -> Result<(), OfficerError> {
    let (id, to) = (wanted.account.id, wanted.to());
    // The writer's seat first: what the log says cannot change before the entry is in it.
    let mut write = state.store.write().await?;
    may_be_bound(state, wanted).await?;
    let index = write.log_size().await?;
    let content = rights::bound_content(state, id, index, &to);
    let detail = serde_json::to_vec(&to).map_err(|_| OfficerError::Internal)?;
    let now = state.clock.now();
    let entry = entry("officer_oidc_bound", id, content, actor, now)?;
    finish(state, write, id, entry, Some(&detail)).await
}

/// Unbinds an account: it signs in with its password again, and with its second factor. Its sessions end.
///
/// # Errors
/// No such account, not bound; database or log failed.
pub async fn unbind(state: &AppState, name: &str, actor: &str) -> Result<OfficerId, OfficerError> {
    let id = find(state, name).await?.id;
    let write = state.store.write().await?;
    let bound = rights::bound(state, id).await?;
    let bound = bound.ok_or(OfficerError::Binding(
        "this account is not bound to an identity provider",
    ))?;
    let content = rights::unbound_content(state, id, bound);
    let now = state.clock.now();
    let entry = entry("officer_oidc_unbound", id, content, actor, now)?;
    finish(state, write, id, entry, None).await?;
    Ok(id)
}
