//! Officers: set-up links, sign-in, sessions. Every success and every refusal is an entry of the audit log.

mod accounts;
mod again;
mod binding;
mod factors;
mod guessing;
mod password;
#[cfg(feature = "oidc")]
mod provider;
mod sign_in;

use sallyport_domain::{Act, OfficerId, Role, Timestamp};
use sha2::{Digest, Sha256};

use crate::audit::{self, AuditError};
use crate::break_glass;
use crate::clock::random;
use crate::rights;
use crate::sealing::{self, Place};
use crate::state::AppState;
use crate::store::officers::{SessionRow, SetupRow};
use crate::store::{StoreError, Write};

pub use accounts::{Account, disable, find, first_link, list, renewal_link};
pub use again::{Proof, ask_again, change_password, confirm};
#[cfg(feature = "oidc")]
pub use binding::{Bound, bind, to_be_bound};
pub use binding::{is_bound, unbind};
pub use factors::{
    Factors, HardwareKey, NewCodes, add_key, confirm_codes, factors, new_codes, new_key,
    remove_key, waiting_codes,
};
pub use guessing::Guessing;
pub use password::{PasswordProblem, check_new_password};
#[cfg(feature = "oidc")]
pub use provider::{Answer, Arrived, Departure, arrived, begin, begin_again};
pub use sign_in::{
    Credentials, Second, SignedIn, ask_key, key_answered, outstanding_second, second_by_code,
    sign_in,
};

/// A set-up link works this long.
pub const SETUP_LIFETIME_MS: i64 = 15 * 60 * 1_000;
/// A session ends after this long without use.
pub const IDLE_LIMIT_MS: i64 = 15 * 60 * 1_000;
/// A session ends after a shift, whatever happens.
pub const ABSOLUTE_LIMIT_MS: i64 = 8 * 60 * 60 * 1_000;
/// Acts that need it are open this long after the officer proved to be there.
pub const FRESH_MS: i64 = 5 * 60 * 1_000;

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
    /// Typed twice, differently.
    #[error("The two passwords differ.")]
    Differ,
    /// A wrong or used one-time code.
    #[error("This code is wrong or was used already. Wait for the next one.")]
    Code,
    /// A hardware key's answer was not accepted.
    #[error(
        "The security key was not accepted. Use the key of this account, with its PIN, and try again."
    )]
    Key,
    /// A key that is copied to other devices.
    #[error("This passkey can be copied to other devices. Use a hardware key that keeps it.")]
    CopiedKey,
    /// The last key of an account, or none of it.
    #[error("A key can be removed only while the account has another one.")]
    LastKey,
    /// A key without a proper name.
    #[error("Give the key a name of up to 60 characters.")]
    Label,
    /// The question was asked too long ago, or was answered.
    #[error("That took longer than five minutes or was answered already. Begin again.")]
    Late,
    /// The account's rows are not what the log says.
    #[error(
        "This account in the database is not what the audit log says it is, so it is not used. An alarm is in the log; call the administrator."
    )]
    NotInLog,
    /// The act needs a fresh proof.
    #[error("Prove first that you are still there: on your account page.")]
    Stale,
    /// Host name of the configuration.
    #[error("Security keys need a host name in server.toml that is a name, not an address.")]
    NoKeys,
    /// The account signs in at the identity provider.
    #[error("This account signs in at the identity provider and has no password of its own here.")]
    Bound,
    /// The identity provider, or what it said, was not accepted. One text; the log has the code.
    #[error(
        "The sign-in at the identity provider did not succeed, so nothing was opened. Try again; if it lasts, the administrator finds the reason in the audit log."
    )]
    Provider,
    /// The identity provider cannot be asked.
    #[error(
        "The identity provider cannot be asked now. Accounts that sign in with a name and password here are not affected; for the others an administrator can unbind the account."
    )]
    ProviderAway,
    /// An account cannot be bound or unbound.
    #[error("{0}")]
    Binding(&'static str),
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
    /// What it was opened with.
    pub level: Level,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When the officer last proved to be there.
    pub fresh_at: Timestamp,
}

/// What a session was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A password alone.
    Password,
    /// Password and one-time code.
    Code,
    /// Password and hardware key.
    Key,
    /// The sealed emergency credential; never that of an account's session.
    Sealed,
}

impl Level {
    const fn number(self) -> i64 {
        match self {
            Self::Password => 1,
            Self::Code => 2,
            Self::Key => 3,
            Self::Sealed => 4,
        }
    }

    const fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Password),
            2 => Some(Self::Code),
            3 => Some(Self::Key),
            _ => None,
        }
    }

    /// The word in the log.
    const fn code(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Code => "password+code",
            Self::Key => "password+key",
            Self::Sealed => "sealed_credential",
        }
    }
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

    /// Goes on only within five minutes after the officer proved to be there. Emergency access has nothing to prove it with a second time,
    /// and lasts an hour in all.
    ///
    /// # Errors
    /// [`OfficerError::Stale`].
    pub fn fresh(&self, now: Timestamp) -> Result<(), OfficerError> {
        let proved = (0..=FRESH_MS).contains(&now.millis_since(self.fresh_at));
        if proved || self.is_emergency() {
            Ok(())
        } else {
            Err(OfficerError::Stale)
        }
    }

    /// Was it opened with what the role needs? If not, only the account page is open, to add a hardware key.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.level == Level::Key || !self.role.needs_hardware_key()
    }

    /// Was it opened with the sealed emergency credential?
    #[must_use]
    pub fn is_emergency(&self) -> bool {
        self.role == Role::BreakGlass
    }
}

pub(crate) fn sha256_hex(text: &str) -> String {
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
    let (sha256, until) = (sha256_hex(&secret), now.plus_millis(SETUP_LIFETIME_MS));
    let code = rights::link_code(state, &sha256, role.code(), officer, until);
    let mut write = state.store.write().await?;
    write
        .setup_token_insert(&sha256, role.code(), officer, until, &code)
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

/// Checks a new password against the rules, with what a guesser knows about officer and site.
fn check_password(
    state: &AppState,
    password: &str,
    name: &str,
    second_factor: bool,
) -> Result<(), PasswordProblem> {
    let mut context = vec![name, state.config.site.as_str()];
    context.extend(state.config.hostnames.iter().map(String::as_str));
    check_new_password(password, &context, second_factor)
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
    let sha256 = sha256_hex(secret);
    let row = state.store.setup_token(&sha256, state.clock.now()).await?;
    if let Some(row) = &row
        && !is_our_link(state, &sha256, row)
    {
        rights::alarm(state, "set-up link for role", &row.role).await?;
        return Ok(None);
    }
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
    // The second factors of a renewed account go, so its password stands alone.
    check_password(state, &password, name, false)?;
    let hash = password::hash(password, state.config.officers)
        .await
        .ok_or(OfficerError::Internal)?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let token = write
        .setup_token_use(&sha256_hex(secret), now)
        .await?
        .filter(|row| is_our_link(state, &sha256_hex(secret), row))
        .ok_or(OfficerError::SetupLink)?;
    let (id, kind) = match token.officer {
        Some(id) => {
            if !write.officer_renew(id, &hash).await? {
                return Err(OfficerError::SetupLink);
            }
            write.officer_factors_delete(id).await?;
            state.guessing.forget(&name_key(state, name));
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
    entry.content = Some(rights::account_content(state, id, &token.role, &hash));
    entry.decision = Some(token.role);
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    Ok(id)
}

/// Was this link's row written by the server, or by a hand in the database?
fn is_our_link(state: &AppState, sha256: &str, row: &SetupRow) -> bool {
    let code = rights::link_code(state, sha256, &row.role, row.officer, row.expires_at);
    rights::same(&row.code, &code)
}

/// The session of a cookie's token, if it is alive; notes its use.
///
/// # Errors
/// The database failed.
pub async fn session(state: &AppState, secret: &str) -> Result<Option<Session>, OfficerError> {
    if secret.starts_with(break_glass::TOKEN) {
        return break_glass::session(state, secret).await;
    }
    session_of(state, sha256_hex(secret)).await
}

/// The session of a token's SHA-256.
async fn session_of(
    state: &AppState,
    token_sha256: String,
) -> Result<Option<Session>, OfficerError> {
    let Some(row) = state.store.session(&token_sha256).await? else {
        return Ok(None);
    };
    if !rights::same(&row.code, &rights::session_code(state, &token_sha256, &row)) {
        let whose = row.officer.to_string();
        rights::alarm(state, "session of officer", &whose).await?;
        return Ok(None);
    }
    if !rights::in_office(state, row.officer, &row.role).await? {
        // Ended, or given another role, at another server just now?
        if state
            .store
            .session(&token_sha256)
            .await?
            .is_some_and(|again| again.role == row.role)
        {
            let whose = row.officer.to_string();
            rights::alarm(state, "officer's account", &whose).await?;
        }
        return Ok(None);
    }
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
    let Some(level) = Level::from_number(row.level) else {
        return Ok(None);
    };
    let name = open_name(state, row.officer, &row.name_sealed)?;
    Ok(Some(Session {
        officer: row.officer,
        name,
        role,
        csrf: row.csrf,
        token_sha256,
        level,
        opened_at: row.created_at,
        fresh_at: row.fresh_at,
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
        None => break_glass::name(state, officer).await,
    }
}

/// The officer of this session has just proved to be there, with this.
async fn prove(
    state: &AppState,
    write: &mut Write<'_>,
    session: &Session,
    level: Level,
    now: Timestamp,
) -> Result<(), OfficerError> {
    let row = SessionRow {
        officer: session.officer,
        name_sealed: Vec::new(),
        role: String::new(),
        csrf: session.csrf.clone(),
        level: level.number(),
        fresh_at: now,
        created_at: session.opened_at,
        last_seen: now,
        code: String::new(),
    };
    let code = rights::session_code(state, &session.token_sha256, &row);
    Ok(write
        .session_proved(&session.token_sha256, level.number(), now, &code)
        .await?)
}

/// Ends a session.
///
/// # Errors
/// Database or audit log failed.
pub async fn sign_out(state: &AppState, session: &Session) -> Result<(), OfficerError> {
    if session.is_emergency() {
        return Ok(break_glass::sign_out(state, session).await?);
    }
    let mut entry = audit::entry("sign_out", state.clock.now())?;
    entry.actor = Some(session.officer.to_string());
    let mut write = state.store.write().await?;
    write.session_delete(&session.token_sha256).await?;
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    Ok(())
}
