//! Second factors: hardware keys (WebAuthn) and one-time codes (RFC 6238). Questions to a browser wait sealed in the database for five
//! minutes, are answered once, and never leave the server with their state.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sallyport_domain::{OfficerId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use totp_rs::{Builder, Secret, Totp};
use webauthn_rs::prelude::{
    Credential, Passkey, PasskeyAuthentication, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Url, Webauthn, WebauthnBuilder, WebauthnError,
};
use zeroize::Zeroizing;

use super::{Level, OfficerError, Session, sha256_hex};
use crate::audit;
use crate::clock::random;
use crate::rights;
use crate::sealing::{self, Place};
use crate::state::AppState;
use crate::store::factors::KeyRow;

/// A question waits this long for its answer.
pub(super) const WAITS_MS: i64 = 5 * 60 * 1_000;
/// Bytes of a one-time code's secret, as RFC 4226 recommends.
const SECRET: usize = 20;
/// Seconds for which a code stands.
const STEP_S: u64 = 30;

/// A hardware key of an account.
#[derive(Debug, Clone)]
pub struct HardwareKey {
    /// SHA-256 of the credential's id.
    pub id: String,
    /// What the officer calls it.
    pub label: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// Last use.
    pub used_at: Option<Timestamp>,
}

/// What an account has beside its password.
#[derive(Debug, Clone, Default)]
pub struct Factors {
    /// Hardware keys.
    pub keys: Vec<HardwareKey>,
    /// One-time codes.
    pub codes: bool,
}

impl Factors {
    /// Nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.codes
    }
}

/// A new secret for one-time codes, to be shown once.
pub struct NewCodes {
    /// For typing.
    pub base32: String,
    /// For an app's camera.
    pub uri: String,
}

/// Second factors of an account.
///
/// # Errors
/// Database or sealing failed.
pub async fn factors(state: &AppState, officer: OfficerId) -> Result<Factors, OfficerError> {
    let mut keys = Vec::new();
    let (rows, codes) = rows(state, officer).await?;
    for row in rows {
        let label = open(
            state,
            "officer_key",
            "label_sealed",
            &row.id,
            &row.label_sealed,
        )?;
        keys.push(HardwareKey {
            id: row.id,
            label: String::from_utf8_lossy(&label).into_owned(),
            created_at: row.created_at,
            used_at: row.used_at,
        });
    }
    Ok(Factors { keys, codes })
}

/// The account's hardware keys, and whether it has one-time codes: only if they are those that the log says it has.
async fn rows(state: &AppState, officer: OfficerId) -> Result<(Vec<KeyRow>, bool), OfficerError> {
    for _ in 0..2 {
        let keys = state.store.officer_keys(officer).await?;
        let codes = state.store.officer_code(officer).await?.is_some();
        let ids = keys.iter().map(|row| row.id.clone());
        if rights::factors_stand(state, officer, ids, codes).await? {
            return Ok((keys, codes));
        }
        // Changed at another server between the two looks? Once more.
    }
    rights::alarm(state, "second factor of officer", &officer.to_string()).await?;
    Err(OfficerError::NotInLog)
}

fn seal(
    state: &AppState,
    table: &str,
    column: &str,
    row: &str,
    plain: &[u8],
) -> Result<Vec<u8>, OfficerError> {
    let place = Place::new(state.config.site.as_str(), table, column, row);
    sealing::seal(&state.keys.site, 1, &place, plain).map_err(|_| OfficerError::Internal)
}

fn open(
    state: &AppState,
    table: &str,
    column: &str,
    row: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OfficerError> {
    let place = Place::new(state.config.site.as_str(), table, column, row);
    sealing::open(&state.keys.site, 1, &place, sealed)
        .map(Zeroizing::new)
        .map_err(|_| OfficerError::Internal)
}

// Questions that wait.

/// What a waiting question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The password was right; a second factor is outstanding.
    Second,
    /// A hardware key shall answer this challenge.
    Key,
    /// A hardware key has answered before the password was looked at.
    First,
    /// A new hardware key shall be made.
    NewKey,
    /// New one-time codes shall be confirmed.
    NewCodes,
    /// The identity provider shall say who this is.
    #[cfg(feature = "oidc")]
    Provider,
}

impl Asked {
    const fn code(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Key => "key",
            Self::First => "first",
            Self::NewKey => "new_key",
            Self::NewCodes => "new_codes",
            #[cfg(feature = "oidc")]
            Self::Provider => "provider",
        }
    }

    pub(super) fn id(self, token_sha256: &str) -> String {
        format!("{}:{token_sha256}", self.code())
    }
}

pub(super) async fn ask(
    state: &AppState,
    asked: Asked,
    token_sha256: &str,
    officer: Option<OfficerId>,
    question: &impl Serialize,
) -> Result<(), OfficerError> {
    let id = asked.id(token_sha256);
    let plain = Zeroizing::new(serde_json::to_vec(question).map_err(|_| OfficerError::Internal)?);
    let sealed = seal(state, "ceremony", "state_sealed", &id, &plain)?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    write
        .ceremony_put(
            &id,
            asked.code(),
            officer,
            sealed,
            now,
            now.plus_millis(WAITS_MS),
        )
        .await?;
    Ok(write.commit().await?)
}

/// Takes a question away with its state; only its first answer counts.
pub(super) async fn take<T: DeserializeOwned>(
    state: &AppState,
    asked: Asked,
    token_sha256: &str,
) -> Result<(Option<OfficerId>, T), OfficerError> {
    let id = asked.id(token_sha256);
    let mut write = state.store.write().await?;
    let row = write.ceremony_take(&id, state.clock.now()).await?;
    write.commit().await?;
    let row = row.ok_or(OfficerError::Late)?;
    let plain = open(state, "ceremony", "state_sealed", &id, &row.state_sealed)?;
    let question = serde_json::from_slice(&plain).map_err(|_| OfficerError::Internal)?;
    Ok((row.officer, question))
}

/// Whom a waiting question is about.
pub(super) async fn asked(
    state: &AppState,
    asked: Asked,
    token_sha256: &str,
) -> Result<Option<OfficerId>, OfficerError> {
    let row = state
        .store
        .ceremony(&asked.id(token_sha256), state.clock.now())
        .await?;
    Ok(row.and_then(|row| row.officer))
}

// Hardware keys.

/// The relying party is the first host name of the configuration; browsers allow names only, and `localhost`.
fn relying_party(state: &AppState) -> Result<Webauthn, OfficerError> {
    let host = state.config.hostnames.first().ok_or(OfficerError::NoKeys)?;
    let port = state.config.console_listen.port();
    let origin = Url::parse(&format!("https://{host}:{port}")).map_err(|_| OfficerError::NoKeys)?;
    if !matches!(origin.host(), Some(url::Host::Domain(_))) {
        return Err(OfficerError::NoKeys);
    }
    WebauthnBuilder::new(host, &origin)
        .and_then(|builder| {
            builder
                // A proxy or container may show another port.
                .allow_any_port(true)
                .rp_name("Sallyport")
                .timeout(Duration::from_millis(WAITS_MS.unsigned_abs()))
                .build()
        })
        .map_err(|_| OfficerError::NoKeys)
}

fn passkey(state: &AppState, row: &KeyRow) -> Result<Passkey, OfficerError> {
    let plain = open(state, "officer_key", "key_sealed", &row.id, &row.key_sealed)?;
    serde_json::from_slice(&plain).map_err(|_| OfficerError::Internal)
}

fn key_id(credential: &[u8]) -> String {
    sha256_hex(&URL_SAFE_NO_PAD.encode(credential))
}

/// Asks the browser to make a credential on a hardware key; the answer goes to [`add_key`].
///
/// # Errors
/// Not proved lately, or the site's name allows no keys.
pub async fn new_key(state: &AppState, session: &Session) -> Result<Value, OfficerError> {
    session.fresh(state.clock.now())?;
    let mut known = Vec::new();
    for row in rows(state, session.officer).await?.0 {
        known.push(passkey(state, &row)?.cred_id().clone());
    }
    let (question, waiting) = relying_party(state)?
        .start_passkey_registration(
            session.officer.as_uuid(),
            &session.name,
            &session.name,
            Some(known),
        )
        .map_err(|error| refused(&error))?;
    ask(
        state,
        Asked::NewKey,
        &session.token_sha256,
        Some(session.officer),
        &waiting,
    )
    .await?;
    serde_json::to_value(question).map_err(|_| OfficerError::Internal)
}

/// The library's words name what was wrong with the answer, and no secret.
fn refused(error: &WebauthnError) -> OfficerError {
    tracing::info!(error = %error, "a hardware key's answer was not accepted");
    OfficerError::Key
}

/// Adds the hardware key that answered; sessions that were opened without it end.
///
/// # Errors
/// Not proved lately, wrong or late answer, a key that can be copied.
pub async fn add_key(
    state: &AppState,
    session: &Session,
    label: &str,
    answer: Value,
) -> Result<(), OfficerError> {
    let now = state.clock.now();
    session.fresh(now)?;
    let label = label.trim();
    if label.is_empty() || label.chars().count() > 60 || label.chars().any(char::is_control) {
        return Err(OfficerError::Label);
    }
    let (_, waiting): (_, PasskeyRegistration) =
        take(state, Asked::NewKey, &session.token_sha256).await?;
    let answer: RegisterPublicKeyCredential =
        serde_json::from_value(answer).map_err(|_| OfficerError::Key)?;
    let key = relying_party(state)?
        .finish_passkey_registration(&answer, &waiting)
        .map_err(|error| refused(&error))?;
    if Credential::from(key.clone()).backup_eligible {
        return Err(OfficerError::CopiedKey);
    }
    let id = key_id(key.cred_id());
    let plain = Zeroizing::new(serde_json::to_vec(&key).map_err(|_| OfficerError::Internal)?);
    let row = KeyRow {
        key_sealed: seal(state, "officer_key", "key_sealed", &id, &plain)?,
        label_sealed: seal(state, "officer_key", "label_sealed", &id, label.as_bytes())?,
        id,
        created_at: now,
        used_at: None,
    };
    let mut write = state.store.write().await?;
    if !write.officer_key_insert(session.officer, &row).await? {
        return Err(OfficerError::Key);
    }
    write
        .sessions_end_others(session.officer, &session.token_sha256)
        .await?;
    super::prove(state, &mut write, session, Level::Key, now).await?;
    let mut entry = audit::entry("officer_key_added", now)?;
    entry.actor = Some(session.officer.to_string());
    entry.about = Some(row.id);
    audit::append(state, &mut write, entry, None).await?;
    Ok(write.commit().await?)
}

/// Removes a hardware key while another one stays.
///
/// # Errors
/// Not proved lately, not there, or the last one.
pub async fn remove_key(state: &AppState, session: &Session, id: &str) -> Result<(), OfficerError> {
    let now = state.clock.now();
    session.fresh(now)?;
    let mut write = state.store.write().await?;
    if !write.officer_key_delete(session.officer, id).await? {
        return Err(OfficerError::LastKey);
    }
    let mut entry = audit::entry("officer_key_removed", now)?;
    entry.actor = Some(session.officer.to_string());
    entry.about = Some(id.to_owned());
    audit::append(state, &mut write, entry, None).await?;
    Ok(write.commit().await?)
}

/// Asks for an assertion of one of this officer's keys. For nobody, or an officer without keys, the question looks the same and has no
/// right answer.
pub(super) async fn ask_key(
    state: &AppState,
    token_sha256: &str,
    officer: Option<OfficerId>,
    name_key: &str,
) -> Result<Value, OfficerError> {
    let party = relying_party(state)?;
    let mut keys = Vec::new();
    if let Some(officer) = officer {
        let rows = match rows(state, officer).await {
            Ok((rows, _)) => rows,
            // Whoever asks without a password does not learn more than of a name that does not exist.
            Err(OfficerError::NotInLog) => Vec::new(),
            Err(error) => return Err(error),
        };
        for row in rows {
            keys.push(passkey(state, &row)?);
        }
    }
    if keys.is_empty() {
        // Of the length that most hardware keys give, and the same at each attempt.
        let half = |label: &str| state.keys.site.lookup(label, name_key);
        let seed = hex::decode(half("officer.no_key")).map_err(|_| OfficerError::Internal)?;
        let challenge: [u8; 32] = random().map_err(|_| OfficerError::Internal)?;
        ask(state, Asked::Key, token_sha256, None, &Value::Null).await?;
        return Ok(json!({ "publicKey": {
            "challenge": URL_SAFE_NO_PAD.encode(challenge),
            "timeout": WAITS_MS,
            "rpId": state.config.hostnames.first(),
            "allowCredentials": [{ "type": "public-key", "id": URL_SAFE_NO_PAD.encode(seed) }],
            "userVerification": "required",
        }}));
    }
    let (question, waiting) = party
        .start_passkey_authentication(&keys)
        .map_err(|error| refused(&error))?;
    ask(state, Asked::Key, token_sha256, officer, &waiting).await?;
    serde_json::to_value(question).map_err(|_| OfficerError::Internal)
}

/// Whose key gave the right answer to the question that waits for this token.
pub(super) async fn key_answered(
    state: &AppState,
    token_sha256: &str,
    answer: Value,
) -> Result<OfficerId, OfficerError> {
    let (officer, waiting): (_, Value) = take(state, Asked::Key, token_sha256).await?;
    let officer = officer.ok_or(OfficerError::Key)?;
    let waiting: PasskeyAuthentication =
        serde_json::from_value(waiting).map_err(|_| OfficerError::Internal)?;
    let answer: PublicKeyCredential =
        serde_json::from_value(answer).map_err(|_| OfficerError::Key)?;
    let result = relying_party(state)?
        .finish_passkey_authentication(&answer, &waiting)
        .map_err(|error| refused(&error))?;
    let id = key_id(result.cred_id());
    // Removed meanwhile?
    let (rows, _) = rows(state, officer).await?;
    let row = rows
        .iter()
        .find(|row| row.id == id)
        .ok_or(OfficerError::Key)?;
    let mut key = passkey(state, row)?;
    key.update_credential(&result).ok_or(OfficerError::Key)?;
    let plain = Zeroizing::new(serde_json::to_vec(&key).map_err(|_| OfficerError::Internal)?);
    let sealed = seal(state, "officer_key", "key_sealed", &id, &plain)?;
    let mut write = state.store.write().await?;
    write
        .officer_key_used(&id, sealed, state.clock.now())
        .await?;
    write.commit().await?;
    Ok(officer)
}

// One-time codes.

fn totp(secret: &[u8]) -> Result<Totp, OfficerError> {
    Builder::new()
        .with_step_duration(STEP_S)
        .with_secret(Secret::new(secret.into()))
        .build()
        .map_err(|_| OfficerError::Internal)
}

fn seconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_micros() / 1_000_000).unwrap_or_default()
}

/// The step whose code this is: the present one, the one before or the next.
fn step(secret: &[u8], code: &str, now: Timestamp) -> Result<Option<i64>, OfficerError> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let step = totp(secret)?.check(&code, seconds(now));
    Ok(step.and_then(|step| i64::try_from(step).ok()))
}

/// Makes a secret for one-time codes, which counts only after [`confirm_codes`].
///
/// # Errors
/// Not proved lately; database failed.
pub async fn new_codes(state: &AppState, session: &Session) -> Result<(), OfficerError> {
    session.fresh(state.clock.now())?;
    let secret: Zeroizing<[u8; SECRET]> =
        Zeroizing::new(random().map_err(|_| OfficerError::Internal)?);
    ask(
        state,
        Asked::NewCodes,
        &session.token_sha256,
        Some(session.officer),
        &secret.as_slice(),
    )
    .await
}

/// The secret that waits for its confirmation.
///
/// # Errors
/// Database failed.
pub async fn waiting_codes(
    state: &AppState,
    session: &Session,
) -> Result<Option<NewCodes>, OfficerError> {
    let id = Asked::NewCodes.id(&session.token_sha256);
    let Some(row) = state.store.ceremony(&id, state.clock.now()).await? else {
        return Ok(None);
    };
    let plain = open(state, "ceremony", "state_sealed", &id, &row.state_sealed)?;
    let secret: Vec<u8> = serde_json::from_slice(&plain).map_err(|_| OfficerError::Internal)?;
    let base32 = totp(&secret)?.secret().to_base32();
    // Percent-encodes the officer's name.
    let mut uri = Url::parse("otpauth://totp/").map_err(|_| OfficerError::Internal)?;
    uri.set_path(&format!(
        "/Sallyport {}:{}",
        state.config.site, session.name
    ));
    uri.query_pairs_mut()
        .append_pair("secret", &base32)
        .append_pair("issuer", &format!("Sallyport {}", state.config.site));
    Ok(Some(NewCodes {
        base32,
        uri: uri.to_string().replace('+', "%20"),
    }))
}

/// Confirms new one-time codes by the first of them; sessions elsewhere end.
///
/// # Errors
/// Not proved lately, wrong code, or asked for too long ago.
pub async fn confirm_codes(
    state: &AppState,
    session: &Session,
    code: &str,
) -> Result<(), OfficerError> {
    let now = state.clock.now();
    session.fresh(now)?;
    let id = Asked::NewCodes.id(&session.token_sha256);
    let row = state.store.ceremony(&id, now).await?;
    let row = row.ok_or(OfficerError::Late)?;
    let plain = open(state, "ceremony", "state_sealed", &id, &row.state_sealed)?;
    let secret: Zeroizing<Vec<u8>> =
        Zeroizing::new(serde_json::from_slice(&plain).map_err(|_| OfficerError::Internal)?);
    let step = step(&secret, code, now)?.ok_or(OfficerError::Code)?;
    let owner = session.officer.to_string();
    let sealed = seal(state, "officer_code", "secret_sealed", &owner, &secret)?;
    let mut write = state.store.write().await?;
    write
        .ceremony_take(&id, now)
        .await?
        .ok_or(OfficerError::Late)?;
    write
        .officer_code_set(session.officer, sealed, step, now)
        .await?;
    write
        .sessions_end_others(session.officer, &session.token_sha256)
        .await?;
    let level = session.level.max(Level::Code);
    super::prove(state, &mut write, session, level, now).await?;
    let mut entry = audit::entry("officer_codes_added", now)?;
    entry.actor = Some(owner);
    audit::append(state, &mut write, entry, None).await?;
    Ok(write.commit().await?)
}

/// Is this the account's code, not used before? It is used up then.
pub(super) async fn code_is_right(
    state: &AppState,
    officer: OfficerId,
    code: &str,
) -> Result<bool, OfficerError> {
    rows(state, officer).await?;
    let Some(sealed) = state.store.officer_code(officer).await? else {
        return Ok(false);
    };
    let owner = officer.to_string();
    let secret = open(state, "officer_code", "secret_sealed", &owner, &sealed)?;
    let Some(step) = step(&secret, code, state.clock.now())? else {
        return Ok(false);
    };
    let mut write = state.store.write().await?;
    let first = write.officer_code_use(officer, step).await?;
    write.commit().await?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B; of its eight digits an app shows the last six.
        let secret = b"12345678901234567890";
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(step(secret, code, at(time)).unwrap(), Some(time / 30));
            // A telephone's clock may differ by one step, not by two.
            assert_eq!(step(secret, code, at(time + 30)).unwrap(), Some(time / 30));
            assert_eq!(step(secret, code, at(time + 60)).unwrap(), None);
        }
        for wrong in [
            "",
            "28708",
            "2870822",
            "28708x",
            "\u{661}\u{661}\u{661}",
            "-28708",
        ] {
            assert_eq!(step(secret, wrong, at(59)).unwrap(), None, "{wrong}");
        }
        assert_eq!(step(secret, " 287 082 ", at(59)).unwrap(), Some(1));
    }
}
