//! Signing in: password, then the second factor that the account has. Whoever shows the second factor first is never delayed by the
//! attempts of others, so that guessing at a name locks nobody out.

use std::net::IpAddr;

use sallyport_domain::{OfficerId, Role, Timestamp};
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::factors::{self, Asked, ask};
use super::guessing::Count;
use super::{Level, OfficerError, name_key, open_name, password, sha256_hex, token};
use crate::audit;
use crate::refusals;
use crate::rights;
use crate::state::AppState;
use crate::store::officers::{OfficerRow, SessionRow};

/// Wrong codes after which the password is asked for again.
const WRONG_CODES: i64 = 5;

/// What somebody shows at the sign-in page.
pub struct Credentials {
    /// Name of the account.
    pub name: String,
    /// Password.
    pub password: String,
    /// One-time code, where it was given at once.
    pub code: Option<String>,
    /// Token of a browser whose key has answered already.
    pub step: Option<String>,
    /// Where the attempt comes from.
    pub address: Option<IpAddr>,
}

/// What follows.
pub enum SignedIn {
    /// A session: its token for the cookie.
    Session(String),
    /// A second factor is asked for: a token for its cookie.
    Second(String),
}

/// What can be shown as second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Second {
    /// A hardware key.
    pub key: bool,
    /// A one-time code.
    pub code: bool,
}

/// What was shown before the second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum First {
    /// The account's password.
    Password,
    /// The word of the identity provider to which the account is bound.
    Provider,
    /// The same, and it said that whoever signed in there showed two factors.
    ProviderTwice,
}

impl First {
    /// How a session was opened, as the log says it.
    const fn how(self, level: Level) -> &'static str {
        match (self, level) {
            // No sign-in opens a sealed credential's session.
            (Self::Password, level) | (Self::Provider, level @ Level::Sealed) => level.code(),
            (Self::ProviderTwice, _) => "oidc+amr",
            (Self::Provider, Level::Password) => "oidc",
            (Self::Provider, Level::Code) => "oidc+code",
            (Self::Provider, Level::Key) => "oidc+key",
        }
    }
}

pub(super) async fn refused(
    state: &AppState,
    officer: Option<OfficerId>,
    reason: &str,
) -> Result<OfficerError, OfficerError> {
    audit::record(state, refusal(state, officer, reason)?).await?;
    Ok(OfficerError::SignIn)
}

fn refusal(
    state: &AppState,
    officer: Option<OfficerId>,
    reason: &str,
) -> Result<Entry, OfficerError> {
    let mut entry = audit::entry("sign_in", state.clock.now())?;
    entry.actor = officer.map(|id| id.to_string());
    entry.decision = Some("refuse".to_owned());
    entry.reason = Some(reason.to_owned());
    Ok(entry)
}

/// Checks a password and opens a session, or asks for the second factor.
///
/// # Errors
/// [`OfficerError::SignIn`] for anything wrong with name or password, and for attempts that come too soon.
pub async fn sign_in(state: &AppState, shown: Credentials) -> Result<SignedIn, OfficerError> {
    let now = state.clock.now();
    let rules = state.config.officers;
    let key = name_key(state, &shown.name);
    let officer = state
        .store
        .officer_by_name(&key)
        .await?
        .filter(|officer| !officer.disabled);
    let proved = proved_first(state, officer.as_ref(), &shown).await?;
    let stored = officer.as_ref().map_or(Count::NONE, |officer| Count {
        failures: officer.failures,
        blocked_until: officer.blocked_until,
    });
    let attempt = match proved {
        Some(_) => None,
        None => {
            let attempt = state.guessing.attempt(&key, shown.address, stored, now);
            if attempt.is_none() {
                let who = officer.map(|officer| officer.id.to_string());
                refusals::of_attempt(state, who, "too_many_attempts").await;
                return Err(OfficerError::SignIn);
            }
            attempt
        }
    };
    state.guessing.note_check();
    let Some(officer) = officer else {
        // The same work as for a known name, so that time does not tell which names exist.
        password::verify_nobody(shown.password, rules).await;
        return Err(refused(state, None, "password").await?);
    };
    let (mut right, rehash) =
        password::verify(shown.password, officer.password_hash.clone(), rules).await;
    let mut why = "password";
    if right && rights::bound(state, officer.id).await?.is_some() {
        // The account signs in at the identity provider. Whoever guessed the password learns nothing.
        (right, why) = (false, "bound_to_oidc");
    }
    if !right {
        let mut write = state.store.write().await?;
        if let Some(attempt) = attempt {
            write
                .officer_checked(
                    officer.id,
                    attempt.count.failures,
                    attempt.count.blocked_until,
                )
                .await?;
        }
        // In the entry's own transaction: one more durable write would tell by its time that the name exists.
        let entry = refusal(state, Some(officer.id), why)?;
        audit::append(state, &mut write, entry, None).await?;
        write.commit().await?;
        return Err(OfficerError::SignIn);
    }
    stands(state, &officer).await?;
    if let Some(hash) = rehash {
        let mut write = state.store.write().await?;
        write.officer_rehash(officer.id, &hash).await?;
        let mut entry = audit::entry("officer_password", now)?;
        entry.actor = Some(officer.id.to_string());
        entry.reason = Some("stronger_hash".to_owned());
        entry.content = Some(rights::account_content(
            state,
            officer.id,
            &officer.role,
            &hash,
        ));
        audit::append(state, &mut write, entry, None).await?;
        write.commit().await?;
    }
    let second = second(state, &officer).await?;
    let level = match proved {
        Some(Level::Key) => Some(Level::Key),
        Some(Level::Code) if second.code => Some(Level::Code),
        _ if !second.key && !second.code => Some(Level::Password),
        _ => None,
    };
    if let Some(attempt) = attempt {
        state.guessing.right(&attempt, level.is_some(), now);
    }
    match level {
        Some(level) => {
            let token = open(state, &officer, First::Password, level, now).await?;
            Ok(SignedIn::Session(token))
        }
        None => ask_second(state, &officer, First::Password).await,
    }
}

/// Asks for the second factor: a token for its cookie.
pub(super) async fn ask_second(
    state: &AppState,
    officer: &OfficerRow,
    first: First,
) -> Result<SignedIn, OfficerError> {
    let secret = token()?;
    let id = sha256_hex(&secret);
    ask(state, Asked::Second, &id, Some(officer.id), &first).await?;
    Ok(SignedIn::Second(secret))
}

/// Goes on only with an account that is what the log says.
pub(super) async fn stands(state: &AppState, officer: &OfficerRow) -> Result<(), OfficerError> {
    if rights::account_stands(state, officer).await? {
        return Ok(());
    }
    // Changed at another server between the two looks?
    if let Some(again) = state.store.officer(officer.id).await?
        && !again.disabled
        && !rights::account_stands(state, &again).await?
    {
        rights::alarm(state, "officer's account", &officer.id.to_string()).await?;
    }
    Err(OfficerError::NotInLog)
}

/// The second factor that was shown before the password, used up by it.
async fn proved_first(
    state: &AppState,
    officer: Option<&OfficerRow>,
    shown: &Credentials,
) -> Result<Option<Level>, OfficerError> {
    if let Some(step) = &shown.step {
        let id = sha256_hex(step);
        let by_key = factors::asked(state, Asked::First, &id).await?;
        if let (Some(owner), Some(officer)) = (by_key, officer)
            && owner == officer.id
        {
            let mut write = state.store.write().await?;
            let taken = write
                .ceremony_take(&Asked::First.id(&id), state.clock.now())
                .await?;
            write.commit().await?;
            return Ok(taken.map(|_| Level::Key));
        }
    }
    if let (Some(code), Some(officer)) = (&shown.code, officer)
        && factors::code_is_right(state, officer.id, code).await?
    {
        return Ok(Some(Level::Code));
    }
    Ok(None)
}

/// The second factors that this account must show one of. Where the role needs a hardware key and there is one, a code is not enough.
pub(super) async fn second(state: &AppState, officer: &OfficerRow) -> Result<Second, OfficerError> {
    let has = factors::factors(state, officer.id).await?;
    let key = !has.keys.is_empty();
    let role = Role::from_code(&officer.role);
    let only_key = key && role.is_none_or(Role::needs_hardware_key);
    Ok(Second {
        key,
        code: has.codes && !only_key,
    })
}

/// Opens a session with a new token.
pub(super) async fn open(
    state: &AppState,
    officer: &OfficerRow,
    first: First,
    level: Level,
    now: Timestamp,
) -> Result<String, OfficerError> {
    let secret = token()?;
    let mut write = state.store.write().await?;
    // Bound or unbound since the first factor was shown? Nobody can be between here and the commit.
    let bound = rights::bound(state, officer.id).await?.is_some();
    if bound == (first == First::Password) {
        return Err(OfficerError::Late);
    }
    write
        .officer_checked(officer.id, 0, Timestamp::from_micros(0))
        .await?;
    let sha256 = sha256_hex(&secret);
    let mut session = SessionRow {
        officer: officer.id,
        name_sealed: Vec::new(),
        role: String::new(),
        csrf: token()?,
        level: level.number(),
        fresh_at: now,
        created_at: now,
        last_seen: now,
        code: String::new(),
    };
    session.code = rights::session_code(state, &sha256, &session);
    write.session_insert(&sha256, &session).await?;
    let mut entry = audit::entry("sign_in", now)?;
    entry.actor = Some(officer.id.to_string());
    entry.decision = Some("grant".to_owned());
    entry.reason = Some(first.how(level).to_owned());
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    let name = open_name(state, officer.id, &officer.name_sealed)?;
    state.guessing.forget(&name_key(state, &name));
    Ok(secret)
}

/// The account whose second factor is outstanding for this token.
async fn outstanding(state: &AppState, step: &str) -> Result<OfficerRow, OfficerError> {
    let id = sha256_hex(step);
    let officer = factors::asked(state, Asked::Second, &id)
        .await?
        .ok_or(OfficerError::Late)?;
    state
        .store
        .officer(officer)
        .await?
        .filter(|officer| !officer.disabled)
        .ok_or(OfficerError::Late)
}

/// What the browser with this token may show as second factor now; `None` when nothing is outstanding.
///
/// # Errors
/// The database failed.
pub async fn outstanding_second(
    state: &AppState,
    step: &str,
) -> Result<Option<Second>, OfficerError> {
    match outstanding(state, step).await {
        Ok(officer) => second(state, &officer).await.map(Some),
        Err(OfficerError::Late) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn finish(
    state: &AppState,
    step: &str,
    officer: &OfficerRow,
    level: Level,
) -> Result<String, OfficerError> {
    let (_, first): (_, Option<First>) =
        factors::take(state, Asked::Second, &sha256_hex(step)).await?;
    let first = first.unwrap_or(First::Password);
    let now = state.clock.now();
    open(state, officer, first, level, now).await
}

/// Completes a sign-in by a one-time code; returns the session's token.
///
/// # Errors
/// Wrong or used code; after five the password is asked for again.
pub async fn second_by_code(
    state: &AppState,
    step: &str,
    code: &str,
) -> Result<String, OfficerError> {
    let officer = outstanding(state, step).await?;
    let may = second(state, &officer).await?.code;
    if may && factors::code_is_right(state, officer.id, code).await? {
        return finish(state, step, &officer, Level::Code).await;
    }
    let mut write = state.store.write().await?;
    write
        .ceremony_failed(&Asked::Second.id(&sha256_hex(step)), WRONG_CODES)
        .await?;
    write.commit().await?;
    refused(state, Some(officer.id), "code").await?;
    Err(OfficerError::Code)
}

/// A question for a hardware key, and the token of a cookie where the browser has none: after the password for the account that is
/// outstanding, before it for the account of this name.
///
/// # Errors
/// The site's name allows no keys; the database failed.
pub async fn ask_key(
    state: &AppState,
    step: Option<&str>,
    name: &str,
    address: Option<IpAddr>,
) -> Result<(Value, String), OfficerError> {
    if let Some(step) = step
        && let Ok(officer) = outstanding(state, step).await
    {
        let id = sha256_hex(step);
        let question = factors::ask_key(state, &id, Some(officer.id), "").await?;
        return Ok((question, step.to_owned()));
    }
    if !state.guessing.question(address, state.clock.now()) {
        refusals::of_attempt(state, None, "too_many_questions").await;
        return Err(OfficerError::SignIn);
    }
    let key = name_key(state, name);
    let officer = state
        .store
        .officer_by_name(&key)
        .await?
        .filter(|officer| !officer.disabled);
    let secret = token()?;
    let owner = officer.map(|officer| officer.id);
    let question = factors::ask_key(state, &sha256_hex(&secret), owner, &key).await?;
    Ok((question, secret))
}

/// A hardware key's answer: completes the sign-in (the session's token) or, before the password, is remembered (`None`).
///
/// # Errors
/// Wrong or late answer.
pub async fn key_answered(
    state: &AppState,
    step: &str,
    answer: Value,
) -> Result<Option<String>, OfficerError> {
    let id = sha256_hex(step);
    let by = match factors::key_answered(state, &id, answer).await {
        Ok(by) => by,
        Err(error @ (OfficerError::Key | OfficerError::Late)) => {
            let about = factors::asked(state, Asked::Second, &id).await?;
            refusals::of_attempt(state, about.map(|id| id.to_string()), "key").await;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    match outstanding(state, step).await {
        Ok(officer) if officer.id == by => {
            finish(state, step, &officer, Level::Key).await.map(Some)
        }
        Ok(_) => Err(OfficerError::Key),
        Err(OfficerError::Late) => {
            ask(state, Asked::First, &id, Some(by), &Value::Null).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
