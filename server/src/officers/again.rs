//! Proving anew to be there, while signed in; and a new password, which needs that proof.

use std::net::IpAddr;

use sallyport_domain::Timestamp;
use serde_json::Value;

use super::guessing::Count;
use super::sign_in::{refused, stands};
use super::{OfficerError, Session, factors, name_key, password};
use crate::audit;
use crate::rights;
use crate::state::AppState;

/// What an officer shows to prove anew to be there.
pub enum Proof {
    /// Password, and a code where the account has one.
    Password(String, String),
    /// Answer of a hardware key.
    Key(Value),
}

/// A question for a key of the officer who is signed in.
///
/// # Errors
/// The site's name allows no keys; the database failed.
pub async fn ask_again(state: &AppState, session: &Session) -> Result<Value, OfficerError> {
    factors::ask_key(state, &session.token_sha256, Some(session.officer), "").await
}

/// Proves anew that the officer is there: with a hardware key where the account has one, otherwise with password and code. For five
/// minutes acts that need it are open then.
///
/// # Errors
/// Wrong proof; for passwords delayed like a sign-in.
pub async fn confirm(
    state: &AppState,
    session: &Session,
    proof: Proof,
    address: Option<IpAddr>,
) -> Result<(), OfficerError> {
    let now = state.clock.now();
    let has = factors::factors(state, session.officer).await?;
    match proof {
        Proof::Key(answer) => {
            let by = factors::key_answered(state, &session.token_sha256, answer).await;
            if !matches!(by, Ok(by) if by == session.officer) {
                refused(state, Some(session.officer), "key").await?;
                return Err(OfficerError::Key);
            }
        }
        Proof::Password(..) if !has.keys.is_empty() => return Err(OfficerError::Key),
        Proof::Password(..) if rights::bound(state, session.officer).await?.is_some() => {
            return Err(refused(state, Some(session.officer), "bound_to_oidc").await?);
        }
        Proof::Password(password, code) => {
            let officer = state
                .store
                .officer(session.officer)
                .await?
                .ok_or(OfficerError::SignIn)?;
            let by_code = has.codes && factors::code_is_right(state, officer.id, &code).await?;
            if has.codes && !by_code {
                refused(state, Some(officer.id), "code").await?;
                return Err(OfficerError::Code);
            }
            let key = name_key(state, &session.name);
            let stored = Count {
                failures: officer.failures,
                blocked_until: officer.blocked_until,
            };
            let attempt = if by_code {
                None
            } else {
                let attempt = state.guessing.attempt(&key, address, stored, now);
                Some(attempt.ok_or(OfficerError::SignIn)?)
            };
            state.guessing.note_check();
            let rules = state.config.officers;
            let hash = officer.password_hash.clone();
            let (right, _) = password::verify(password, hash, rules).await;
            if !right {
                return Err(refused(state, Some(officer.id), "password").await?);
            }
            stands(state, &officer).await?;
            if let Some(attempt) = attempt {
                state.guessing.right(&attempt, true, now);
            }
        }
    }
    proved_again(state, session, "again", now).await
}

/// The officer of this session is there.
pub(super) async fn proved_again(
    state: &AppState,
    session: &Session,
    how: &str,
    now: Timestamp,
) -> Result<(), OfficerError> {
    let mut write = state.store.write().await?;
    super::prove(state, &mut write, session, session.level, now).await?;
    let mut entry = audit::entry("sign_in", now)?;
    entry.actor = Some(session.officer.to_string());
    entry.decision = Some("grant".to_owned());
    entry.reason = Some(how.to_owned());
    audit::append(state, &mut write, entry, None).await?;
    Ok(write.commit().await?)
}

/// Gives the officer a new password; sessions elsewhere end. Eight characters are enough beside a second factor.
///
/// # Errors
/// Not proved lately, or a rule broken.
pub async fn change_password(
    state: &AppState,
    session: &Session,
    new: String,
) -> Result<(), OfficerError> {
    let now = state.clock.now();
    session.fresh(now)?;
    // It would count from the unbinding on, and whoever holds the provider could have chosen it.
    if rights::bound(state, session.officer).await?.is_some() {
        return Err(OfficerError::Bound);
    }
    let has = factors::factors(state, session.officer).await?;
    super::check_password(state, &new, &session.name, !has.is_empty())?;
    let hash = password::hash(new, state.config.officers)
        .await
        .ok_or(OfficerError::Internal)?;
    let mut write = state.store.write().await?;
    write.officer_rehash(session.officer, &hash).await?;
    write
        .sessions_end_others(session.officer, &session.token_sha256)
        .await?;
    let mut entry = audit::entry("officer_password", now)?;
    entry.actor = Some(session.officer.to_string());
    entry.content = Some(rights::account_content(
        state,
        session.officer,
        session.role.code(),
        &hash,
    ));
    audit::append(state, &mut write, entry, None).await?;
    Ok(write.commit().await?)
}
