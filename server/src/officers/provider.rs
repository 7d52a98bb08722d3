//! Signing in at the state's identity provider (OpenID Connect), for accounts that are bound to a subject there. The provider's word
//! stands in for the password and for nothing else: whoever has a second factor here shows it here, and roles never come from it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sallyport_domain::{OfficerId, Role, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::Url;

use super::again::proved_again;
use super::factors::{self, Asked, ask, take};
use super::sign_in::{First, SignedIn, ask_second, open, refused, second, stands};
use super::{Level, OfficerError, Session, session_of, sha256_hex, token};
use crate::clock::random;
use crate::config::Oidc;
use crate::oidc::{self, Expected, Refusal};
use crate::refusals;
use crate::rights::{self, BoundTo};
use crate::state::AppState;

/// What waits sealed while a browser is at the provider.
#[derive(Serialize, Deserialize)]
struct Waiting {
    state: String,
    nonce: String,
    verifier: String,
    asked_at: i64,
    /// The session whose officer shall prove to be there; a sign-in otherwise.
    session: Option<String>,
}

/// A browser on its way to the provider.
pub struct Departure {
    /// Token of the cookie that binds the answer to this browser.
    pub step: String,
    /// Where to.
    pub url: String,
}

/// What the provider sends back through the browser.
#[derive(Debug, Default, Deserialize)]
pub struct Answer {
    code: Option<String>,
    state: Option<String>,
    /// Who answers (RFC 9207).
    iss: Option<String>,
    error: Option<String>,
}

/// What follows.
pub enum Arrived {
    /// A sign-in.
    SignedIn(SignedIn),
    /// The officer of a session has proved to be there.
    Again,
}

/// Begins a sign-in.
///
/// # Errors
/// No provider is configured or it cannot be asked; too many attempts from one address.
pub async fn begin(state: &AppState, address: Option<IpAddr>) -> Result<Departure, OfficerError> {
    depart(state, None, address).await
}

/// Begins a proof that the officer of this session is there, for accounts without a security key; with a code where the account has one.
///
/// # Errors
/// As [`begin`]; the account is not bound, has a key, or the code is wrong.
pub async fn begin_again(
    state: &AppState,
    session: &Session,
    code: &str,
    address: Option<IpAddr>,
) -> Result<Departure, OfficerError> {
    let has = factors::factors(state, session.officer).await?;
    if !has.keys.is_empty() {
        return Err(OfficerError::Key);
    }
    if rights::bound(state, session.officer).await?.is_none() {
        return Err(OfficerError::Provider);
    }
    if has.codes && !factors::code_is_right(state, session.officer, code).await? {
        refused(state, Some(session.officer), "code").await?;
        return Err(OfficerError::Code);
    }
    depart(state, Some(session), address).await
}

async fn depart(
    state: &AppState,
    session: Option<&Session>,
    address: Option<IpAddr>,
) -> Result<Departure, OfficerError> {
    let now = state.clock.now();
    let actor = session.map(|session| session.officer.to_string());
    let Some(config) = &state.config.oidc else {
        refusals::of_provider(state, actor, "oidc_off").await;
        return Err(OfficerError::ProviderAway);
    };
    if !state.guessing.question(address, now) {
        refusals::of_provider(state, actor, "too_many_questions").await;
        return Err(OfficerError::SignIn);
    }
    let known = match oidc::known(state, config).await {
        Ok(known) => known,
        Err(refusal) => {
            tracing::warn!(error = %refusal, "the identity provider cannot be asked");
            refusals::of_provider(state, actor, refusal.code()).await;
            return Err(OfficerError::ProviderAway);
        }
    };
    let verifier: [u8; 32] = random().map_err(|_| OfficerError::Internal)?;
    let waiting = Waiting {
        state: token()?,
        nonce: token()?,
        verifier: URL_SAFE_NO_PAD.encode(verifier),
        asked_at: now.as_micros(),
        session: session.map(|session| session.token_sha256.clone()),
    };
    let url = address_of_question(state, config, &known.authorization_endpoint, &waiting)?;
    let step = token()?;
    let owner = session.map(|session| session.officer);
    ask(state, Asked::Provider, &sha256_hex(&step), owner, &waiting).await?;
    Ok(Departure { step, url })
}

fn address_of_question(
    state: &AppState,
    config: &Oidc,
    endpoint: &str,
    waiting: &Waiting,
) -> Result<String, OfficerError> {
    let mut url = Url::parse(endpoint).map_err(|_| OfficerError::ProviderAway)?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&waiting.verifier));
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("scope", "openid")
        .append_pair("client_id", &config.client_id)
        .append_pair("redirect_uri", &oidc::redirect_uri(state, config))
        .append_pair("state", &waiting.state)
        .append_pair("nonce", &waiting.nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        // Machines at a gate are shared: a session at the provider that a colleague left open must not open one here.
        .append_pair("prompt", "login")
        .append_pair("max_age", "0");
    if !config.acr.is_empty() {
        url.query_pairs_mut()
            .append_pair("acr_values", &config.acr.join(" "));
    }
    Ok(url.into())
}

/// The browser is back with the provider's answer, which counts once.
///
/// # Errors
/// Nothing waits for this browser ([`OfficerError::Late`]), or anything about the answer was not right: an entry says what.
pub async fn arrived(
    state: &AppState,
    step: Option<&str>,
    answer: Answer,
) -> Result<Arrived, OfficerError> {
    let (Some(config), Some(step)) = (&state.config.oidc, step) else {
        return Err(OfficerError::Late);
    };
    let (owner, waiting): (_, Waiting) = take(state, Asked::Provider, &sha256_hex(step)).await?;
    let named = match identity(state, config, &waiting, answer).await {
        Ok(named) => named,
        Err(refusal) => return Err(refuse(state, owner, &refusal).await?),
    };
    match &waiting.session {
        None => sign_in(state, config, &named).await.map(Arrived::SignedIn),
        Some(token_sha256) => {
            let session = session_of(state, token_sha256.clone()).await?;
            let session = session.ok_or(OfficerError::Late)?;
            if whose(state, config, &named).await? != Some(session.officer) {
                return Err(refuse(state, owner, &Refusal::Another).await?);
            }
            let now = state.clock.now();
            proved_again(state, &session, "again_oidc", now).await?;
            Ok(Arrived::Again)
        }
    }
}

async fn refuse(
    state: &AppState,
    officer: Option<OfficerId>,
    refusal: &Refusal,
) -> Result<OfficerError, OfficerError> {
    tracing::info!(error = %refusal, "a sign-in at the identity provider was refused");
    refused(state, officer, refusal.code()).await?;
    Ok(OfficerError::Provider)
}

async fn identity(
    state: &AppState,
    config: &Oidc,
    waiting: &Waiting,
    answer: Answer,
) -> Result<oidc::Identity, Refusal> {
    let said = answer.state.unwrap_or_default();
    if !bool::from(said.as_bytes().ct_eq(waiting.state.as_bytes())) {
        return Err(Refusal::State);
    }
    // A mixed-up provider is found out before the code goes anywhere.
    let known = oidc::known(state, config).await?;
    let right = match &answer.iss {
        Some(issuer) => *issuer == config.issuer,
        None => !known.names_itself,
    };
    if !right {
        return Err(Refusal::AnswerIssuer);
    }
    let code = match (answer.error, answer.code) {
        (None, Some(code)) if !code.is_empty() => code,
        (Some(_), _) | (None, _) => return Err(Refusal::Declined),
    };
    let expected = Expected {
        issuer: &config.issuer,
        client_id: &config.client_id,
        nonce: &waiting.nonce,
        asked_at: Timestamp::from_micros(waiting.asked_at),
        acr: &config.acr,
        amr: &config.amr,
    };
    oidc::redeem(state, config, &code, &waiting.verifier, &expected).await
}

async fn whose(
    state: &AppState,
    config: &Oidc,
    named: &oidc::Identity,
) -> Result<Option<OfficerId>, OfficerError> {
    let to = BoundTo {
        issuer: config.issuer.clone(),
        subject: named.subject.clone(),
    };
    Ok(rights::bound_to(state, &to).await?)
}

/// Opens a session for whoever is named, or asks for the second factor that the account has here.
async fn sign_in(
    state: &AppState,
    config: &Oidc,
    named: &oidc::Identity,
) -> Result<SignedIn, OfficerError> {
    let officer = match whose(state, config, named).await? {
        Some(id) => state.store.officer(id).await?,
        None => None,
    };
    let Some(officer) = officer.filter(|officer| !officer.disabled) else {
        return Err(refuse(state, None, &Refusal::NotBound).await?);
    };
    stands(state, &officer).await?;
    let second = second(state, &officer).await?;
    let needs_key = Role::from_code(&officer.role).is_none_or(Role::needs_hardware_key);
    if needs_key && !second.key {
        return Err(refuse(state, Some(officer.id), &Refusal::NoKey).await?);
    }
    let twice = named
        .amr
        .iter()
        .any(|method| config.amr_for_code.contains(method));
    let (first, level) = match (second.key, second.code, twice) {
        (false, _, true) => (First::ProviderTwice, Level::Code),
        (false, false, false) => (First::Provider, Level::Password),
        (true, _, _) | (false, true, false) => {
            return ask_second(state, &officer, First::Provider).await;
        }
    };
    let now = state.clock.now();
    let token = open(state, &officer, first, level, now).await?;
    Ok(SignedIn::Session(token))
}
