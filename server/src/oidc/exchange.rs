//! What is asked of the provider itself: its configuration, its keys, and the exchange of a code for a token. Over TLS to whom the one
//! named authority vouches for, no redirect, a limit for time and size; kept for an hour.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::Scheme;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use sallyport_domain::Timestamp;
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::keys::KeySet;
use super::token::{self, Expected, Identity};
use super::{Refusal, redirect_uri};
use crate::config::Oidc;
use crate::post;
use crate::state::AppState;

/// What the provider publishes is asked for anew after this long.
const LIFE_MS: i64 = 60 * 60 * 1_000;
/// Keys are asked for at most this often because of a key id that is not known.
const KEYS_AGAIN_MS: i64 = 60 * 1_000;

/// How this server shows its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Basic,
    Post,
}

/// What the provider says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    shows: Shows,
    /// It says in its answers who it is (RFC 9207).
    pub(crate) names_itself: bool,
    keys: Arc<KeySet>,
    asked_at: Timestamp,
    keys_asked_at: Timestamp,
}

/// What is known of the provider; forgotten with the process.
#[derive(Debug, Default)]
pub(crate) struct Provider(Mutex<Option<Known>>);

impl Provider {
    fn get(&self) -> Option<Known> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    fn set(&self, known: Known) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    /// May keys be asked for again now? They count as asked for then, whatever comes of it.
    fn may_ask_for_keys(&self, now: Timestamp) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_mut().is_some_and(|known| {
            let lately = (0..KEYS_AGAIN_MS).contains(&now.millis_since(known.keys_asked_at));
            if !lately {
                known.keys_asked_at = now;
            }
            !lately
        })
    }

    fn set_keys(&self, keys: Arc<KeySet>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.as_mut() {
            known.keys = keys;
        }
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

fn patience(config: &Oidc) -> Duration {
    Duration::from_secs(config.patience_seconds.into())
}

fn is_https(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else {
        return false;
    };
    uri.scheme() == Some(&Scheme::HTTPS) && uri.host().is_some() && !address.contains(['@', '#'])
}

fn file(path: PathBuf, why: impl std::fmt::Display) -> Refusal {
    Refusal::File {
        path,
        why: why.to_string(),
    }
}

fn roots(data: &Path, config: &Oidc) -> Result<Vec<CertificateDer<'static>>, Refusal> {
    let path = data.join(&config.authority);
    post::authorities(&path).map_err(|error| file(path, error))
}

/// Read each time, so that a new secret needs no restart.
fn secret(data: &Path, config: &Oidc) -> Result<Zeroizing<String>, Refusal> {
    let path = data.join(&config.client_secret_file);
    let read = || {
        let mode = std::fs::metadata(&path)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(std::io::Error::other(
                "others may read it; chmod 600 makes it its owner's",
            ));
        }
        std::fs::read_to_string(&path)
    };
    let text = Zeroizing::new(read().map_err(|error| file(path.clone(), error))?);
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(file(path, "it is empty"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

/// Are the files that the configuration names there and right? Asked when the server starts.
pub(crate) fn check_files(data: &Path, config: &Oidc) -> Result<(), Refusal> {
    roots(data, config)?;
    secret(data, config).map(drop)
}

async fn fetch(
    url: &str,
    roots: &[CertificateDer<'static>],
    config: &Oidc,
    what: &'static str,
) -> Result<Vec<u8>, Refusal> {
    match post::get(url, roots, patience(config)).await? {
        (200, body) => Ok(body),
        (status, _) => Err(Refusal::Status { what, status }),
    }
}

/// What the provider says of itself, asked for when it is not known or an hour old.
pub(crate) async fn known(state: &AppState, config: &Oidc) -> Result<Known, Refusal> {
    let now = state.clock.now();
    if let Some(known) = state.provider.get()
        && (0..LIFE_MS).contains(&now.millis_since(known.asked_at))
    {
        return Ok(known);
    }
    let roots = roots(&state.data, config)?;
    let issuer = config.issuer.trim_end_matches('/');
    let url = format!("{issuer}/.well-known/openid-configuration");
    let body = fetch(&url, &roots, config, "the question for its configuration").await?;
    let said: Discovery =
        serde_json::from_slice(&body).map_err(|_| Refusal::Malformed("configuration"))?;
    let addresses = [
        &said.authorization_endpoint,
        &said.token_endpoint,
        &said.jwks_uri,
    ];
    if said.issuer != config.issuer || !addresses.into_iter().all(|address| is_https(address)) {
        return Err(Refusal::Discovery);
    }
    // Not every provider that has PKCE says so; one that names other methods only has not the one that is needed.
    if said
        .code_challenge_methods_supported
        .is_some_and(|methods| !methods.iter().any(|method| method == "S256"))
    {
        return Err(Refusal::Unsupported);
    }
    let shows = match &said.token_endpoint_auth_methods_supported {
        None => Shows::Basic,
        Some(methods) if methods.iter().any(|word| word == "client_secret_basic") => Shows::Basic,
        Some(methods) if methods.iter().any(|word| word == "client_secret_post") => Shows::Post,
        Some(_) => return Err(Refusal::Unsupported),
    };
    let body = fetch(&said.jwks_uri, &roots, config, "the question for its keys").await?;
    let known = Known {
        authorization_endpoint: said.authorization_endpoint,
        token_endpoint: said.token_endpoint,
        jwks_uri: said.jwks_uri,
        shows,
        names_itself: said.authorization_response_iss_parameter_supported,
        keys: Arc::new(KeySet::parse(&body)?),
        asked_at: now,
        keys_asked_at: now,
    };
    state.provider.set(known.clone());
    Ok(known)
}

/// The provider may have new keys: asked for again, but not more often than once a minute whatever tokens say.
async fn keys_again(
    state: &AppState,
    config: &Oidc,
    known: &Known,
) -> Result<Arc<KeySet>, Refusal> {
    if !state.provider.may_ask_for_keys(state.clock.now()) {
        return Err(Refusal::UnknownKey);
    }
    let roots = roots(&state.data, config)?;
    let body = fetch(&known.jwks_uri, &roots, config, "the question for its keys").await?;
    let keys = Arc::new(KeySet::parse(&body)?);
    state.provider.set_keys(keys.clone());
    Ok(keys)
}

/// Both are encoded as in a form first: RFC 6749, 2.3.1.
fn basic(client_id: &str, secret: &str) -> String {
    let encoded =
        |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = Zeroizing::new(format!("{}:{}", encoded(client_id), encoded(secret)));
    format!("Basic {}", STANDARD.encode(pair.as_bytes()))
}

/// Redeems a code, once, and checks the token that comes back.
pub(crate) async fn redeem(
    state: &AppState,
    config: &Oidc,
    code: &str,
    verifier: &str,
    expected: &Expected<'_>,
) -> Result<Identity, Refusal> {
    let known = known(state, config).await?;
    let secret = secret(&state.data, config)?;
    let redirect = redirect_uri(state, config);
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &redirect),
        ("code_verifier", verifier),
    ];
    let mut headers = vec![
        (
            "content-type",
            "application/x-www-form-urlencoded".to_owned(),
        ),
        ("accept", "application/json".to_owned()),
    ];
    match known.shows {
        Shows::Basic => headers.push(("authorization", basic(&config.client_id, &secret))),
        Shows::Post => fields.extend([
            ("client_id", config.client_id.as_str()),
            ("client_secret", secret.as_str()),
        ]),
    }
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let roots = roots(&state.data, config)?;
    let sent = post::post(
        &known.token_endpoint,
        &roots,
        &headers,
        body,
        patience(config),
    );
    let body = match sent.await? {
        (200, body) => Zeroizing::new(body),
        (status, _) => {
            let what = "the code";
            return Err(Refusal::Status { what, status });
        }
    };
    let answer: TokenAnswer =
        serde_json::from_slice(&body).map_err(|_| Refusal::Malformed("answer to the code"))?;
    let now = state.clock.now();
    match token::check(&answer.id_token, &known.keys, expected, now) {
        Err(Refusal::UnknownKey) => {
            let keys = keys_again(state, config, &known).await?;
            token::check(&answer.id_token, &keys, expected, now)
        }
        checked => checked,
    }
}
