//! The gate interface: messages of `sallyport-protocol` over HTTPS. Every route but joining needs a certificate of our authority
//! whose key is allowed now.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sallyport_domain::{GateId, TransactionId};
use sallyport_protocol::{
    DoorReport, EnrolmentSubmission, FailedAcquisition, Heartbeat, HeartbeatAnswer, JoinRequest,
    PROTOCOL_VERSION, PassageRequest, ProfileQuery, ProtocolError, ReencodingRequest,
    ReencodingResult, RenewRequest, SignedDoorReport, SignedGateEvent, SuccessorProbes, paths,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::door_reports;
use crate::enrolments;
use crate::gate_events::{self, GateEventError};
use crate::gates::{self, GateError};
use crate::model_change;
use crate::passages::{self, PassageError};
use crate::profile_word;
use crate::refusals;
use crate::registry::RegistryError;
use crate::reviews;
use crate::rights;
use crate::state::AppState;
use crate::store::gates::GateRow;
use crate::tls::PeerCertificate;

/// A signing request; anybody may send one.
const JOIN_LIMIT: usize = 16 * 1024;
/// A signed event: one line with an officer's reason.
const EVENT_LIMIT: usize = 32 * 1024;
/// A passage request: template and one picture.
const PASSAGE_LIMIT: usize = 2 * 1024 * 1024;
/// An enrolment: several pictures.
const ENROLMENT_LIMIT: usize = 16 * 1024 * 1024;
/// A request that takes longer is given up; its transaction, if any, is rolled back or found again by a retry.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// A long poll for a review ends after this.
const POLL: Duration = Duration::from_secs(25);

/// The routes of the gate interface.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route(
            paths::JOIN,
            post(join).layer(DefaultBodyLimit::max(JOIN_LIMIT)),
        )
        .route(
            paths::RENEW,
            post(renew).layer(DefaultBodyLimit::max(JOIN_LIMIT)),
        )
        .route(paths::PASSAGE, post(passage))
        .route(paths::DOOR_REPORT, post(door_report))
        .route(paths::FAILED_ACQUISITION, post(failed_acquisition))
        .route(
            paths::ENROLMENT,
            post(enrolment).layer(DefaultBodyLimit::max(ENROLMENT_LIMIT)),
        )
        .route(
            paths::GATE_EVENT,
            post(gate_event).layer(DefaultBodyLimit::max(EVENT_LIMIT)),
        )
        .route(paths::SUCCESSORS, post(successors))
        .route(paths::REENCODING, post(reencoding))
        .route(paths::REENCODED, post(reencoded))
        .route(paths::HEARTBEAT, get(alive).post(heartbeat))
        .route(paths::PROFILE, get(profile))
        .route(paths::REVIEW, get(review))
        .layer(DefaultBodyLimit::max(PASSAGE_LIMIT))
        .layer(middleware::from_fn(time_limit))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            refusals::of_gates,
        ))
        .with_state(state)
}

async fn time_limit(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "the server was too slow; try again with the same ids",
        )
        .into_response(),
    }
}

/// An error answer.
struct Refusal(StatusCode, ProtocolError);

impl Refusal {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self(
            status,
            ProtocolError {
                code: code.to_owned(),
                message: message.into(),
            },
        )
    }

    fn unavailable(error: &dyn std::error::Error) -> Self {
        let mut causes = String::new();
        let mut cause = error.source();
        while let Some(inner) = cause {
            causes = format!("{causes}: {inner}");
            cause = inner.source();
        }
        tracing::error!(error = %error, causes, "a gate's request could not be served");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            error.to_string(),
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.1.code.clone();
        let refused = self.0.is_client_error();
        let response = (self.0, axum::Json(self.1)).into_response();
        if refused {
            refusals::marked(response, code)
        } else {
            response
        }
    }
}

impl From<PassageError> for Refusal {
    fn from(error: PassageError) -> Self {
        let message = error.to_string();
        match error {
            PassageError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, "invalid", message),
            PassageError::Conflict => Self::new(StatusCode::CONFLICT, "conflict", message),
            PassageError::Unknown => Self::new(StatusCode::NOT_FOUND, "unknown", message),
            PassageError::NotInLog => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_in_log", message)
            }
            PassageError::PolicyChanged => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "policy_changed", message)
            }
            // Gates tell this apart from a server that fails otherwise.
            PassageError::Unavailable(_) => {
                let mut refusal = Self::unavailable(&error);
                refusal.1.code = "log_not_writable".to_owned();
                refusal
            }
        }
    }
}

impl From<GateEventError> for Refusal {
    fn from(error: GateEventError) -> Self {
        let message = error.to_string();
        match error {
            GateEventError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, "invalid", message),
            GateEventError::Conflict => Self::new(StatusCode::CONFLICT, "conflict", message),
            GateEventError::Unavailable(_) => Self::unavailable(&error),
        }
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, "invalid", message),
            RegistryError::Conflict | RegistryError::Merged(_) => {
                Self::new(StatusCode::CONFLICT, "conflict", message)
            }
            RegistryError::Unknown => Self::new(StatusCode::NOT_FOUND, "unknown", message),
            RegistryError::NoOrder => Self::new(StatusCode::FORBIDDEN, "no_enrolment", message),
            RegistryError::Forbidden { .. } => {
                Self::new(StatusCode::FORBIDDEN, "profile_forbids", message)
            }
            RegistryError::Busy
            | RegistryError::ProfileChanged
            | RegistryError::Held
            | RegistryError::UnderReview
            | RegistryError::NotInLog
            | RegistryError::Changed
            | RegistryError::Key(_)
            | RegistryError::Sealed(_)
            | RegistryError::Unavailable(_) => Self::unavailable(&error),
        }
    }
}

impl From<GateError> for Refusal {
    fn from(error: GateError) -> Self {
        let message = error.to_string();
        match error {
            GateError::Exists => Self::new(StatusCode::CONFLICT, "exists", message),
            GateError::Unknown | GateError::NotWaiting => {
                Self::new(StatusCode::NOT_FOUND, "unknown", message)
            }
            GateError::BadToken => Self::new(StatusCode::FORBIDDEN, "bad_token", message),
            GateError::BadKey => Self::new(StatusCode::FORBIDDEN, "bad_key", message),
            GateError::Authority(_) | GateError::BadPolicy(_) | GateError::Purpose => {
                Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
            }
            GateError::Unavailable(_) => Self::unavailable(&error),
        }
    }
}

/// The gate whose allowed key this connection proved.
struct Gate(GateRow);

impl FromRequestParts<AppState> for Gate {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refusal> {
        let refused = not_a_gate;
        let certificate = parts
            .extensions
            .get::<PeerCertificate>()
            .and_then(|peer| peer.0.as_ref())
            .ok_or_else(refused)?;
        let (spki_sha256, named) = state.authority.peer(certificate).ok_or_else(refused)?;
        let now = state.clock.now();
        let allowed = state
            .store
            .gate_of_key(&spki_sha256, now)
            .await
            .map_err(|error| Refusal::unavailable(&error))?;
        if allowed.as_ref() != Some(&named) {
            return Err(refused());
        }
        if !rights::key_stands(state, &named, &spki_sha256)
            .await
            .map_err(|error| Refusal::unavailable(&error))?
        {
            if rights::key_waits(state, &named, &spki_sha256) {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "not_approved",
                    "this device joined and waits for an officer: compare the fingerprint of its key (sallyport-gate status) with the one on the console's page Gates, and approve it there",
                ));
            }
            rights::alarm(state, "allowed key of gate", named.as_str())
                .await
                .map_err(|error| Refusal::unavailable(&error))?;
            return Err(refused());
        }
        let gate = state
            .store
            .gate(&named)
            .await
            .map_err(|error| Refusal::unavailable(&error))?
            .ok_or_else(refused)?;
        if !rights::gate_stands(state, &gate)
            .await
            .map_err(|error| Refusal::unavailable(&error))?
        {
            rights::alarm(state, "gate", named.as_str())
                .await
                .map_err(|error| Refusal::unavailable(&error))?;
            return Err(PassageError::NotInLog.into());
        }
        Ok(Self(gate))
    }
}

/// SHA-256 of the public key that this connection proved; whose it is, [`Gate`] says.
struct DeviceKey(String);

impl FromRequestParts<AppState> for DeviceKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Refusal> {
        parts
            .extensions
            .get::<PeerCertificate>()
            .and_then(|peer| peer.0.as_ref())
            .and_then(|certificate| state.authority.peer(certificate))
            .map(|(spki_sha256, _)| Self(spki_sha256))
            .ok_or_else(not_a_gate)
    }
}

fn not_a_gate() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "not_a_gate",
        "this connection has no certificate that is allowed now; join the gate, or ask whether it was revoked",
    )
}

/// A message's bytes, within the route's limit.
struct Content(Bytes);

impl FromRequest<AppState> for Content {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Refusal> {
        Bytes::from_request(request, state)
            .await
            .map(Self)
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too_large",
                    "the message is larger than this route accepts; send a smaller picture",
                ),
                _ => Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "incomplete",
                    "the message did not arrive whole; send it again",
                ),
            })
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u16,
}

/// Reads a message. The parser's words could quote the content, so only the place of the fault is said.
fn message<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    let bad = |error: &serde_json::Error| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            format!(
                "the message is not as the protocol says; fault at line {}, column {}",
                error.line(),
                error.column()
            ),
        )
    };
    let Versioned { version } = serde_json::from_slice(body).map_err(|error| bad(&error))?;
    if version != PROTOCOL_VERSION {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unsupported_version",
            format!(
                "this server speaks version {PROTOCOL_VERSION} of the gate protocol; update the older side"
            ),
        ));
    }
    serde_json::from_slice(body).map_err(|error| bad(&error))
}

fn same_gate(gate: &GateRow, named: &GateId) -> Result<(), Refusal> {
    if gate.id == *named {
        Ok(())
    } else {
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "gate_mismatch",
            "the message names another gate than the certificate",
        ))
    }
}

fn answer<T: Serialize>(value: T) -> Response {
    axum::Json(value).into_response()
}

async fn join(State(state): State<AppState>, Content(body): Content) -> Result<Response, Refusal> {
    let request: JoinRequest = message(&body)?;
    Ok(answer(gates::join(&state, &request).await?))
}

async fn renew(
    State(state): State<AppState>,
    Gate(gate): Gate,
    DeviceKey(key): DeviceKey,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let request: RenewRequest = message(&body)?;
    same_gate(&gate, &request.gate)?;
    Ok(answer(
        gates::renew(&state, &gate.id, &key, &request.csr_pem).await?,
    ))
}

async fn passage(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let request: PassageRequest = message(&body)?;
    same_gate(&gate, &request.gate)?;
    Ok(answer(passages::request(&state, &gate, request).await?))
}

async fn door_report(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    // Gates of before do not sign.
    if let Ok(report) = message::<DoorReport>(&body) {
        same_gate(&gate, &report.gate)?;
        door_reports::receive(&state, &gate.id, &report, None).await?;
    } else {
        let signed: SignedDoorReport = message(&body)?;
        same_gate(&gate, &signed.gate)?;
        let (report, signature) = door_reports::open(&gate.id, &signed)?;
        door_reports::receive(&state, &gate.id, &report, Some(&signature)).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn failed_acquisition(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let report: FailedAcquisition = message(&body)?;
    same_gate(&gate, &report.gate)?;
    Ok(answer(
        passages::failed_acquisition(&state, &gate, report).await?,
    ))
}

async fn enrolment(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let submission: EnrolmentSubmission = message(&body)?;
    same_gate(&gate, &submission.station)?;
    Ok(answer(enrolments::submit(&state, &gate, submission).await?))
}

async fn successors(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let probes: SuccessorProbes = message(&body)?;
    same_gate(&gate, &probes.gate)?;
    Ok(answer(
        model_change::successors(&state, &gate, probes).await?,
    ))
}

async fn reencoding(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let request: ReencodingRequest = message(&body)?;
    same_gate(&gate, &request.station)?;
    Ok(
        match model_change::next_photograph(&state, &gate, &request).await? {
            Some(task) => answer(task),
            None => StatusCode::NO_CONTENT.into_response(),
        },
    )
}

async fn reencoded(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let result: ReencodingResult = message(&body)?;
    same_gate(&gate, &result.station)?;
    Ok(answer(
        model_change::reencoded(&state, &gate, result).await?,
    ))
}

async fn gate_event(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let signed: SignedGateEvent = message(&body)?;
    same_gate(&gate, &signed.gate)?;
    gate_events::receive(&state, &gate.id, &signed).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// May this device speak for its gate? Asked by whoever tries a certificate; nothing is noted.
async fn alive(Gate(_): Gate) -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn heartbeat(
    State(state): State<AppState>,
    Gate(gate): Gate,
    DeviceKey(key): DeviceKey,
    Content(body): Content,
) -> Result<Response, Refusal> {
    let beat: Heartbeat = message(&body)?;
    same_gate(&gate, &beat.gate)?;
    gates::alive_with(&state, &gate.id, &key).await?;
    match gates::heartbeat(&state, &gate, &beat).await {
        Ok(done) => Ok(answer(done)),
        Err(error) => {
            // Whatever the log or the database says: an order to free doors gets through.
            let now = state.clock.now();
            let Some(release) = state.release_orders.for_gate(&gate.id, now) else {
                return Err(error.into());
            };
            tracing::error!(gate.id = %gate.id, %error, "a heartbeat could not be recorded; the gate gets the order for life safety all the same");
            Ok(answer(HeartbeatAnswer {
                now,
                checkpoint: None,
                proof: Vec::new(),
                log_fault: None,
                release: Some(release),
            }))
        }
    }
}

/// The jurisdiction profile, for gates that write nothing which it forbids.
async fn profile(
    State(state): State<AppState>,
    Gate(_): Gate,
    Query(query): Query<ProfileQuery>,
) -> Result<Response, Refusal> {
    let word = profile_word::word(&state, &query)
        .await
        .map_err(|error| Refusal::unavailable(&error))?;
    Ok(match word {
        Some(word) => answer(word),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

#[derive(Deserialize)]
struct ReviewQuery {
    transaction: String,
}

/// Waits for the officer's answer to a referred passage.
async fn review(
    State(state): State<AppState>,
    Gate(gate): Gate,
    Query(query): Query<ReviewQuery>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal::from(PassageError::Unknown);
    let transaction: TransactionId = query.transaction.parse().map_err(|_| unknown())?;
    let deadline = tokio::time::Instant::now() + POLL;
    loop {
        // Listen before looking, so that a decision in between wakes us.
        let woken = state.reviewed.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let passage = passages::get(&state, transaction)
            .await
            .map_err(|error| Refusal::unavailable(&error))?
            .filter(|passage| passage.gate == gate.id)
            .ok_or_else(unknown)?;
        if let Some(decision) = reviews::fetch(&state, &passage)
            .await
            .map_err(|error| Refusal::unavailable(&error))?
        {
            return Ok(answer(decision));
        }
        if tokio::time::timeout_at(deadline, woken).await.is_err() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
}
