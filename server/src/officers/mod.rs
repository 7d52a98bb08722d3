//! Officers: set-up links, sign-in, sessions. Every success and every refusal is an entry of the audit log.

mod accounts;
mod password;

use sallyport_domain::{Act, OfficerId, Role, Timestamp};
use sha2::{Digest, Sha256};

use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::sealing::{self, Place};
use crate::state::AppState;
use crate::store::StoreError;

pub use accounts::{Account, disable, first_link, list, renewal_link};
pub use password::{PasswordProblem, check_new_password};

/// A set-up link works this long.
pub const SETUP_LIFETIME_MS: i64 = 15 * 60 * 1_000;
/// A session ends after this long without use.
pub const IDLE_LIMIT_MS: i64 = 15 * 60 * 1_000;
/// A session ends after a shift, whatever happens.
pub const ABSOLUTE_LIMIT_MS: i64 = 8 * 60 * 60 * 1_000;
/// Wrong passwords that cost no delay.
const FREE_FAILURES: i64 = 3;
/// The longest delay after wrong passwords.
const LONGEST_DELAY_MS: i64 = 15 * 60 * 1_000;

/// Why an officer's request failed.
#[derive(Debug, thiserror::Error)]
pub enum OfficerError {
    /// The set-up link is unknown, used or older than 15 minutes.
    #[error(
        "This link was used already or is older than 15 minutes. Ask for a new one: sallyport-server officer setup-link"
    )]
    SetupLink,
    /// No account goes on under this name.
    #[error("No account goes on under this name. See: sallyport-server officer list")]
    NoAccount,
    /// The officer's role may not do this.
    #[error("Your role may not do this. Whoever may is listed in docs/officers.md; ask them.")]
    Role(Act),
    /// The name is empty, too long or taken.
    #[error("Choose another name: it is empty, longer than 100 characters, or taken.")]
    Name,
    /// The password breaks a rule.
    #[error(transparent)]
    Password(#[from] PasswordProblem),
    /// Wrong name or password, or too soon after wrong ones. One text, so that nobody learns which names exist.
    #[error(
        "Name or password is wrong, or there were too many attempts. Wait a moment and try again."
    )]
    SignIn,
    /// The database failed.
    #[error("The database cannot be reached. Try again; if it lasts, call the administrator.")]
    Store(#[from] StoreError),
    /// The audit log failed, so nothing was done.
    #[error("The audit log cannot be written, so nothing was done. Call the administrator.")]
    Audit(#[from] AuditError),
    /// Sealing, hashing or randomness failed.
    #[error("The server cannot do this now. Call the administrator.")]
    Internal,
}

/// A signed-in officer.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who.
    pub officer: OfficerId,
    /// Name as colleagues know it.
    pub name: String,
    /// What the officer is appointed to do.
    pub role: Role,
    /// Token that forms carry.
    pub csrf: String,
    /// SHA-256 of the session token.
    pub token_sha256: String,
}

impl Session {
    /// Goes on only if the officer's role may do it. The console asks before every handler (`console::access`); whatever acts for an
    /// officer elsewhere asks here.
    ///
    /// # Errors
    /// [`OfficerError::Role`].
    pub const fn must(&self, act: Act) -> Result<(), OfficerError> {
        if self.role.may(act) {
            Ok(())
        } else {
            Err(OfficerError::Role(act))
        }
    }
}

fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn name_place<'a>(state: &'a AppState, row: &'a str) -> Place<'a> {
    Place::new(state.config.site.as_str(), "officer", "name_sealed", row)
}

fn name_key(state: &AppState, name: &str) -> String {
    state
        .keys
        .site
        .lookup("officer.name", &name.trim().to_lowercase())
}

fn token() -> Result<String, OfficerError> {
    random::<32>()
        .map(hex::encode)
        .map_err(|_| OfficerError::Internal)
}

/// A one-time link at which an officer chooses name and password.
///
/// # Errors
/// Database or audit log failed.
pub async fn create_setup_link(state: &AppState, role: Role) -> Result<String, OfficerError> {
    link(state, role, None).await
}

/// A link for a new account, or one that gives an account a new password.
async fn link(
    state: &AppState,
    role: Role,
    officer: Option<OfficerId>,
) -> Result<String, OfficerError> {
    let secret = token()?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    write
        .setup_token_insert(
            &sha256_hex(&secret),
            role.code(),
            officer,
            now.plus_millis(SETUP_LIFETIME_MS),
        )
        .await?;
    let mut entry = audit::entry("officer_setup_link", now)?;
    entry.about = officer.map(|id| id.to_string());
    entry.decision = Some(role.code().to_owned());
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    let host = state
        .config
        .hostnames
        .first()
        .map_or("localhost", String::as_str);
    Ok(format!(
        "https://{host}:{}/setup/{secret}",
        state.config.console_listen.port()
    ))
}

/// What an open set-up link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// A new account.
    New,
    /// A new password for the account of this name.
    Renewal(String),
}

/// What this set-up link leads to; `None` when it is unknown, used or too old.
///
/// # Errors
/// The database failed.
pub async fn setup(state: &AppState, secret: &str) -> Result<Option<Setup>, OfficerError> {
    let row = state
        .store
        .setup_token(&sha256_hex(secret), state.clock.now())
        .await?;
    match row.map(|row| row.officer) {
        None => Ok(None),
        Some(None) => Ok(Some(Setup::New)),
        Some(Some(officer)) => Ok(name(state, officer).await?.map(Setup::Renewal)),
    }
}

/// Creates the account that a set-up link stands for, or gives an account its new password and ends its sessions.
///
/// # Errors
/// Link, name or password not acceptable; the link stays usable then.
pub async fn redeem_setup_link(
    state: &AppState,
    secret: &str,
    name: &str,
    password: String,
) -> Result<OfficerId, OfficerError> {
    let setup = setup(state, secret).await?.ok_or(OfficerError::SetupLink)?;
    let name = match &setup {
        Setup::New => name.trim(),
        Setup::Renewal(name) => name.as_str(),
    };
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(OfficerError::Name);
    }
    check_new_password(&password, name)?;
    let hash = password::hash(password)
        .await
        .ok_or(OfficerError::Internal)?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let token = write
        .setup_token_use(&sha256_hex(secret), now)
        .await?
        .ok_or(OfficerError::SetupLink)?;
    let (id, kind) = match token.officer {
        Some(id) => {
            if !write.officer_renew(id, &hash).await? {
                return Err(OfficerError::SetupLink);
            }
            (id, "officer_renewed")
        }
        None => {
            let id = OfficerId::new(now, random().map_err(|_| OfficerError::Internal)?);
            let row = id.to_string();
            let sealed = sealing::seal(
                &state.keys.site,
                1,
                &name_place(state, &row),
                name.as_bytes(),
            )
            .map_err(|_| OfficerError::Internal)?;
            let key = name_key(state, name);
            if !write
                .officer_insert(id, &key, sealed, &token.role, &hash, now)
                .await?
            {
                return Err(OfficerError::Name);
            }
            (id, "officer_created")
        }
    };
    let mut entry = audit::entry(kind, now)?;
    entry.actor = Some(id.to_string());
    entry.decision = Some(token.role);
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    Ok(id)
}

/// Checks a password and opens a session; returns the session token for the cookie.
///
/// # Errors
/// [`OfficerError::SignIn`] for anything wrong with name or password.
pub async fn sign_in(
    state: &AppState,
    name: &str,
    password: String,
) -> Result<String, OfficerError> {
    let now = state.clock.now();
    let officer = state.store.officer_by_name(&name_key(state, name)).await?;
    let refused = |about: Option<OfficerId>| async move {
        let mut entry = audit::entry("sign_in", now)?;
        entry.actor = about.map(|id| id.to_string());
        entry.decision = Some("refuse".to_owned());
        audit::record(state, entry).await?;
        Err(OfficerError::SignIn)
    };
    let Some(officer) = officer.filter(|officer| !officer.disabled) else {
        // The same work as for a known name, so that time does not tell which names exist.
        password::verify_nobody(password).await;
        return refused(None).await;
    };
    if now < officer.blocked_until {
        return refused(Some(officer.id)).await;
    }
    let (right, rehash) = password::verify(password, officer.password_hash).await;
    if !right {
        let failures = officer.failures.saturating_add(1);
        let mut write = state.store.write().await?;
        write
            .officer_checked(officer.id, failures, now.plus_millis(delay_ms(failures)))
            .await?;
        write.commit().await?;
        return refused(Some(officer.id)).await;
    }
    let secret = token()?;
    let mut write = state.store.write().await?;
    write
        .officer_checked(officer.id, 0, Timestamp::from_micros(0))
        .await?;
    if let Some(hash) = rehash {
        write.officer_rehash(officer.id, &hash).await?;
    }
    write
        .session_insert(&sha256_hex(&secret), officer.id, &token()?, now)
        .await?;
    let mut entry = audit::entry("sign_in", now)?;
    entry.actor = Some(officer.id.to_string());
    entry.decision = Some("grant".to_owned());
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    Ok(secret)
}

/// Delay after this many wrong passwords in a row: none at first, then 1 s, 2 s, 4 s … 15 min.
fn delay_ms(failures: i64) -> i64 {
    let beyond = failures - FREE_FAILURES;
    if beyond <= 0 {
        0
    } else {
        (1_000_i64 << (beyond - 1).min(20)).min(LONGEST_DELAY_MS)
    }
}

/// The session of a cookie's token, if it is alive; notes its use.
///
/// # Errors
/// The database failed.
pub async fn session(state: &AppState, secret: &str) -> Result<Option<Session>, OfficerError> {
    let token_sha256 = sha256_hex(secret);
    let Some(row) = state.store.session(&token_sha256).await? else {
        return Ok(None);
    };
    let now = state.clock.now();
    let idle = now.millis_since(row.last_seen);
    if idle > IDLE_LIMIT_MS || now.millis_since(row.created_at) > ABSOLUTE_LIMIT_MS {
        return Ok(None);
    }
    if idle > 30_000 {
        state.store.session_seen(&token_sha256, now).await?;
    }
    let Some(role) = Role::from_code(&row.role) else {
        tracing::error!(officer = %row.officer, "the officer's role is not one of this version; no session");
        return Ok(None);
    };
    let name = open_name(state, row.officer, &row.name_sealed)?;
    Ok(Some(Session {
        officer: row.officer,
        name,
        role,
        csrf: row.csrf,
        token_sha256,
    }))
}

pub(crate) fn open_name(
    state: &AppState,
    officer: OfficerId,
    sealed: &[u8],
) -> Result<String, OfficerError> {
    let row = officer.to_string();
    let bytes = sealing::open(&state.keys.site, 1, &name_place(state, &row), sealed)
        .map_err(|_| OfficerError::Internal)?;
    String::from_utf8(bytes).map_err(|_| OfficerError::Internal)
}

/// An officer's name, for colleagues.
///
/// # Errors
/// Database or sealing failed.
pub async fn name(state: &AppState, officer: OfficerId) -> Result<Option<String>, OfficerError> {
    match state.store.officer_name(officer).await? {
        Some(sealed) => open_name(state, officer, &sealed).map(Some),
        None => Ok(None),
    }
}

/// Ends a session.
///
/// # Errors
/// Database or audit log failed.
pub async fn sign_out(state: &AppState, session: &Session) -> Result<(), OfficerError> {
    let mut entry = audit::entry("sign_out", state.clock.now())?;
    entry.actor = Some(session.officer.to_string());
    let mut write = state.store.write().await?;
    write.session_delete(&session.token_sha256).await?;
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::delay_ms;

    #[test]
    fn delays_grow_from_nothing_to_fifteen_minutes() {
        let delays: Vec<_> = (0..20).map(delay_ms).collect();
        assert_eq!(delays[..6], [0, 0, 0, 0, 1_000, 2_000]);
        assert!(delays.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(delay_ms(i64::MAX), 900_000);
    }
}
