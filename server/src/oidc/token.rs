//! An ID token (OpenID Connect Core 1.0, 3.1.3.7): checked in full before anything in it is believed. Takes values and returns values.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sallyport_domain::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use subtle::ConstantTimeEq as _;

use super::keys::{Algorithm, KeySet};
use super::{Refusal, SKEW_S};

/// Larger tokens are refused.
const MOST_BYTES: usize = 16 * 1024;
/// Longest subject, as the standard says.
const SUBJECT: usize = 255;

/// What the token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who signs.
    pub issuer: &'a str,
    /// For whom.
    pub client_id: &'a str,
    /// What was sent along.
    pub nonce: &'a str,
    /// When the provider was asked. Whoever it names signed in after that.
    pub asked_at: Timestamp,
    /// One of these, where there are any.
    pub acr: &'a [String],
    /// All of these.
    pub amr: &'a [String],
}

/// Whom the provider names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Claim `sub`.
    pub subject: String,
    /// How it was proved.
    pub amr: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Extensions that must be understood. None is.
    #[serde(default, deserialize_with = "there")]
    crit: bool,
}

/// A member is there, whatever it holds.
fn there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    auth_time: Option<i64>,
    nonce: Option<String>,
    acr: Option<String>,
    amr: Option<Vec<String>>,
}

const MALFORMED: Refusal = Refusal::Malformed("token");

fn part<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MALFORMED)?;
    serde_json::from_slice(&bytes).map_err(|_| MALFORMED)
}

/// Checks a token; signature first, so that nothing unsigned is looked at.
///
/// # Errors
/// Anything is not as expected; what, for the log.
pub fn check(
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Identity, Refusal> {
    if token.len() > MOST_BYTES {
        return Err(MALFORMED);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
    let header: Header = part(header)?;
    let algorithm = Algorithm::from_name(&header.alg).ok_or(Refusal::Algorithm)?;
    let plain = header
        .typ
        .is_none_or(|word| word.eq_ignore_ascii_case("jwt"));
    if header.crit || !plain {
        return Err(Refusal::Algorithm);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
    keys.verify(
        algorithm,
        header.kid.as_deref(),
        signed.as_bytes(),
        &signature,
    )?;
    says(part(claims)?, expected, now)
}

fn says(claims: Claims, expected: &Expected<'_>, now: Timestamp) -> Result<Identity, Refusal> {
    if claims.iss != expected.issuer {
        return Err(Refusal::Issuer);
    }
    // We trust no other audience, so there must be none.
    let for_us = match &claims.aud {
        Audience::One(one) => one == expected.client_id,
        Audience::Many(all) => matches!(all.as_slice(), [one] if one == expected.client_id),
    };
    let by_us = claims.azp.is_none_or(|party| party == expected.client_id);
    if !for_us || !by_us {
        return Err(Refusal::Audience);
    }
    let nonce = claims.nonce.unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(Refusal::Nonce);
    }
    let (now, asked) = (seconds(now), seconds(expected.asked_at));
    if claims.exp.saturating_add(SKEW_S) <= now || claims.exp <= claims.iat {
        return Err(Refusal::Expired);
    }
    let since_asked =
        |time: i64| time >= asked.saturating_sub(SKEW_S) && time <= now.saturating_add(SKEW_S);
    let begun = claims.nbf.is_none_or(|time| time <= now + SKEW_S);
    if !since_asked(claims.iat) || !begun {
        return Err(Refusal::Time);
    }
    // A session at the provider that a colleague left open on this machine is nobody's proof.
    if !claims.auth_time.is_some_and(since_asked) {
        return Err(Refusal::NotAnew);
    }
    let amr = claims.amr.unwrap_or_default();
    let acr_holds =
        expected.acr.is_empty() || claims.acr.is_some_and(|acr| expected.acr.contains(&acr));
    if !acr_holds || !expected.amr.iter().all(|method| amr.contains(method)) {
        return Err(Refusal::Weak);
    }
    if claims.sub.is_empty() || claims.sub.len() > SUBJECT {
        return Err(MALFORMED);
    }
    Ok(Identity {
        subject: claims.sub,
        amr,
    })
}

fn seconds(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1_000_000)
}
