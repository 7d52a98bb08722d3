//! Gates: adding, join tokens, joining, renewal, revocation, heartbeat.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::Serializable as _;
use sallyport_domain::{
    AccessRule, Direction, GateId, GatePolicy, ModalityPolicy, PadPolicy, PolicyError, Purpose,
    SubjectCategory, Timestamp, UnrecognisedPolicy,
};
use sallyport_protocol::{
    Heartbeat, HeartbeatAnswer, JoinAnswer, JoinRequest, JoinToken, key_fingerprint,
};
use sallyport_transparency::Entry;
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError};
use crate::authority::AuthorityError;
use crate::clock::random;
use crate::enrolments::ledger;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::gates::GateRow;
use crate::{policies, presence, rights, witness};

/// Life of a join token.
pub const TOKEN_MINUTES: i64 = 15;

/// Why a gate was not added, joined or changed.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A gate of this name exists.
    #[error("a gate of this name exists already; see: sallyport-server gate list")]
    Exists,
    /// There is none.
    #[error("there is no gate of this name; see: sallyport-server gate list")]
    Unknown,
    /// One answer for unknown, used, expired and foreign tokens.
    #[error(
        "the join token is unknown, used up, expired or meant for another gate; ask for a new one: sallyport-server gate token GATE"
    )]
    BadToken,
    /// The key was revoked, or is another gate's.
    #[error(
        "this device's key was revoked or belongs to another gate; join with a new state folder"
    )]
    BadKey,
    /// No device waits with this fingerprint.
    #[error(
        "no device of this gate waits for approval with this fingerprint; compare it again with what sallyport-gate join or status showed on the gate itself, see: sallyport-server gate list"
    )]
    NotWaiting,
    /// The policy.
    #[error("the policy is not acceptable: {0}")]
    BadPolicy(#[from] PolicyError),
    /// The jurisdiction profile forbids the policy's purpose.
    #[error(
        "the jurisdiction profile does not permit this purpose; sallyport-server profile show lists those it permits"
    )]
    Purpose,
    /// The signing request.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Database or log.
    #[error("the gate could not be changed: {0}")]
    Unavailable(#[source] AuditError),
}

impl From<AuditError> for GateError {
    fn from(error: AuditError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<StoreError> for GateError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// The policy of a gate that was added without one: staff, officials and expected visitors in both directions at any time;
/// whoever is not recognised is referred.
#[must_use]
pub fn default_policy() -> GatePolicy {
    GatePolicy {
        version: "default-1".to_owned(),
        purpose: Purpose::Access,
        fpir_target: 1e-4,
        fmr_target: 1e-4,
        pad: PadPolicy::Advisory,
        modalities: ModalityPolicy::FaceOrIris,
        unrecognised: UnrecognisedPolicy::Refer,
        rules: vec![AccessRule {
            categories: vec![
                SubjectCategory::Visitor,
                SubjectCategory::LegalRepresentative,
                SubjectCategory::Contractor,
                SubjectCategory::Staff,
                SubjectCategory::Official,
            ],
            directions: vec![Direction::Entry, Direction::Exit],
            windows: Vec::new(),
        }],
    }
}

fn gate_entry(
    kind: &str,
    gate: &GateId,
    actor: Option<&str>,
    now: Timestamp,
) -> Result<Entry, AuditError> {
    Ok(Entry {
        gate: Some(gate.to_string()),
        actor: actor.map(str::to_owned),
        ..audit::entry(kind, now)?
    })
}

/// Adds a gate.
///
/// # Errors
/// See [`GateError`].
pub async fn add(
    state: &AppState,
    gate: &GateId,
    direction: Direction,
    policy: &GatePolicy,
    actor: &str,
) -> Result<(), GateError> {
    policy.check()?;
    if !state.profile().profile.permits(policy.purpose) {
        return Err(GateError::Purpose);
    }
    let now = state.clock.now();
    let text = policies::text_of(policy)?;
    // Most of the log before others have to wait for this.
    ledger::catch_up(state).await?;
    let mut write = state.store.write().await?;
    // A gate whose row a hand took away is not added anew: its policies would begin from the first one again.
    ledger::catch_up(state).await?;
    if state.rights(|rights| rights.policy_of(gate).is_some()) {
        return Err(GateError::Exists);
    }
    if !write
        .gate_insert(gate, direction.code(), &text, now)
        .await?
    {
        return Err(GateError::Exists);
    }
    let entry = Entry {
        policy: Some(policy.version.clone()),
        content: Some(rights::gate_content(direction.code(), &text)),
        ..gate_entry("gate_added", gate, Some(actor), now)?
    };
    audit::append(state, &mut write, entry, Some(text.as_bytes())).await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(())
}

/// Makes a one-time join token. Only its hash is kept.
///
/// # Errors
/// See [`GateError`].
pub async fn token(state: &AppState, gate: &GateId, actor: &str) -> Result<JoinToken, GateError> {
    if state.store.gate(gate).await?.is_none() {
        return Err(GateError::Unknown);
    }
    let now = state.clock.now();
    let secret = hex::encode(random::<32>().map_err(|_| AuditError::Random)?);
    let (sha256, until) = (
        secret_sha256(&secret),
        now.plus_millis(TOKEN_MINUTES * 60_000),
    );
    let code = rights::join_code(state, &sha256, gate, until);
    let mut write = state.store.write().await?;
    write.join_token_insert(&sha256, gate, until, &code).await?;
    audit::append(
        state,
        &mut write,
        gate_entry("gate_token", gate, Some(actor), now)?,
        None,
    )
    .await?;
    write.commit().await?;
    state.logged_at(now);
    Ok(JoinToken {
        gate: gate.clone(),
        secret,
        ca_sha256: state.authority.sha256(),
    })
}

fn secret_sha256(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// A gate joins with its token: token used up, key allowed, certificate signed and log entry written, or nothing at all.
///
/// # Errors
/// See [`GateError`].
pub async fn join(state: &AppState, request: &JoinRequest) -> Result<JoinAnswer, GateError> {
    let now = state.clock.now();
    let secret = secret_sha256(&request.secret);
    // Looked at before the writer's seat is taken: strangers must not make gates wait.
    let (until, code) = state
        .store
        .join_token_valid(&secret, &request.gate, now)
        .await?
        .ok_or(GateError::BadToken)?;
    // Written by this server, or by a hand in the database?
    if !rights::same(
        &code,
        &rights::join_code(state, &secret, &request.gate, until),
    ) {
        rights::alarm(state, "join token for gate", request.gate.as_str()).await?;
        return Err(GateError::BadToken);
    }
    let mut write = state.store.write().await?;
    if !write.join_token_use(&secret, &request.gate, now).await? {
        return Err(GateError::BadToken);
    }
    let certificate = state
        .authority
        .gate_certificate(&request.gate, &request.csr_pem, now)?;
    if !write
        .gate_key_allow(
            &certificate.spki_sha256,
            &request.gate,
            now,
            certificate.not_after,
            None,
        )
        .await?
    {
        return Err(GateError::BadKey);
    }
    let entry = Entry {
        about: Some(certificate.spki_sha256.clone()),
        decision: Some(rights::WAITS.to_owned()),
        ..gate_entry("gate_joined", &request.gate, None, now)?
    };
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    join_answer(state, &request.gate, certificate.pem).await
}

async fn join_answer(
    state: &AppState,
    gate: &GateId,
    certificate_pem: String,
) -> Result<JoinAnswer, GateError> {
    let row = state.store.gate(gate).await?.ok_or(GateError::Unknown)?;
    Ok(JoinAnswer {
        certificate_pem,
        ca_pem: state.authority.pem().to_owned(),
        door_key: STANDARD.encode(state.keys.door.verifying_key().as_bytes()),
        sealing_key: STANDARD.encode(state.keys.picture_public.to_bytes()),
        log_vkey: state.keys.log.verifier().to_string(),
        direction: direction(&row)?,
    })
}

/// A joined gate asks for a new certificate for the key that it has, or for a new key, which its present one (SHA-256 of the public key
/// `present`) vouches for.
///
/// # Errors
/// See [`GateError`].
pub async fn renew(
    state: &AppState,
    gate: &GateId,
    present: &str,
    csr_pem: &str,
) -> Result<JoinAnswer, GateError> {
    let now = state.clock.now();
    let certificate = state.authority.gate_certificate(gate, csr_pem, now)?;
    let mut write = state.store.write().await?;
    if !write
        .gate_key_allow(
            &certificate.spki_sha256,
            gate,
            now,
            certificate.not_after,
            (certificate.spki_sha256 != present).then_some(present),
        )
        .await?
    {
        return Err(GateError::BadKey);
    }
    let entry = Entry {
        about: Some(certificate.spki_sha256.clone()),
        ..gate_entry("gate_renewed", gate, None, now)?
    };
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    join_answer(state, gate, certificate.pem).await
}

/// An officer has compared the fingerprint of a device that joined, as the device shows it, and lets it speak for the gate from now on.
/// `fingerprint` is what [`sallyport_protocol::key_fingerprint`] makes, with or without the spaces.
///
/// # Errors
/// No device of this gate waits with this fingerprint.
pub async fn approve(
    state: &AppState,
    gate: &GateId,
    fingerprint: &str,
    actor: &str,
) -> Result<(), GateError> {
    let digits = |text: &str| -> String {
        let text = text.to_lowercase();
        text.chars().filter(char::is_ascii_alphanumeric).collect()
    };
    let wanted = digits(fingerprint);
    let waiting = rights::waiting(state).await?;
    let (_, key) = waiting
        .into_iter()
        .find(|(of, key)| of == gate && digits(&key_fingerprint(key)) == wanted)
        .ok_or(GateError::NotWaiting)?;
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let entry = Entry {
        about: Some(key),
        ..gate_entry("gate_approved", gate, Some(actor), now)?
    };
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    state.logged_at(now);
    ledger::catch_up(state).await?;
    Ok(())
}

/// Which way a gate leads.
///
/// # Errors
/// The stored value is damaged.
pub fn direction(gate: &GateRow) -> Result<Direction, StoreError> {
    match gate.direction.as_str() {
        "entry" => Ok(Direction::Entry),
        "exit" => Ok(Direction::Exit),
        _ => Err(StoreError::Corrupt("gate.direction")),
    }
}

/// Revokes all keys of a gate; its next request is refused, also on an open connection. Returns how many keys.
///
/// # Errors
/// See [`GateError`].
pub async fn revoke(state: &AppState, gate: &GateId, actor: &str) -> Result<u64, GateError> {
    if state.store.gate(gate).await?.is_none() {
        return Err(GateError::Unknown);
    }
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    let keys = write.gate_revoke(gate, now).await?;
    audit::append(
        state,
        &mut write,
        gate_entry("gate_revoked", gate, Some(actor), now)?,
        None,
    )
    .await?;
    write.commit().await?;
    state.logged_at(now);
    // From here on no hand in the database gives the keys back.
    ledger::catch_up(state).await?;
    Ok(keys)
}

/// A gate is alive with this key: one that it has followed ends now, so that a copy of it is worth nothing.
///
/// # Errors
/// See [`GateError`].
pub async fn alive_with(state: &AppState, gate: &GateId, key: &str) -> Result<(), GateError> {
    let Some(old) = state.store.gate_key_before(key).await? else {
        return Ok(());
    };
    let now = state.clock.now();
    let mut write = state.store.write().await?;
    // Another server may have been faster.
    if write.gate_key_end(&old, now).await? {
        let entry = Entry {
            about: Some(old),
            ..gate_entry("gate_key_ended", gate, None, now)?
        };
        audit::append(state, &mut write, entry, None).await?;
        write.commit().await?;
        state.logged_at(now);
        ledger::catch_up(state).await?;
    }
    Ok(())
}

/// All gates.
///
/// # Errors
/// The database failed.
pub async fn list(state: &AppState) -> Result<Vec<GateRow>, StoreError> {
    state.store.gates().await
}

/// Notes a heartbeat. A change of camera health is logged; the beat itself is not, it would only fill the log.
///
/// # Errors
/// See [`GateError`].
pub async fn heartbeat(
    state: &AppState,
    gate: &GateRow,
    beat: &Heartbeat,
) -> Result<HeartbeatAnswer, GateError> {
    let health: Vec<(String, String)> = beat
        .cameras
        .iter()
        .take(16)
        .map(|(name, health)| (shortened(name), shortened(health)))
        .collect();
    let health =
        serde_json::to_string(&health).map_err(|error| AuditError::Refused(error.to_string()))?;
    let now = state.clock.now();
    if gate.health.as_deref() != Some(&health) {
        let mut write = state.store.write().await?;
        let entry = gate_entry("gate_health", &gate.id, None, now)?;
        audit::append(state, &mut write, entry, Some(health.as_bytes())).await?;
        write.commit().await?;
        state.logged_at(now);
    }
    state.store.gate_seen(&gate.id, now, &health).await?;
    presence::heard(state, &gate.id, beat.now, now).await?;
    let log = witness::heartbeat(state, &gate.id, beat.log.as_ref()).await?;
    Ok(HeartbeatAnswer {
        now,
        checkpoint: log.checkpoint,
        proof: log.proof,
        log_fault: log.fault,
        release: state.release_orders.for_gate(&gate.id, now),
    })
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
