//! Requests to the server: blocking HTTPS with mutual TLS, one method per route, time-outs on all.
//!
//! A retry carries the same transaction id, so the server answers it with the stored decision.

mod connector;
mod server_time;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use sallyport_domain::TransactionId;
use sallyport_protocol::{
    DegradedCause, EnrolmentOutcome, EnrolmentSubmission, Heartbeat, HeartbeatAnswer, JoinAnswer,
    JoinRequest, PassageDecision, PassageRequest, ProfileQuery, ProfileWord, ProtocolError,
    ReencodingOutcome, ReencodingRequest, ReencodingResult, ReencodingTask, RenewRequest,
    SuccessorProbes, SuccessorsKept, paths,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::unversioned::resolver::DefaultResolver;

use crate::clock::{Clock, Mono, Stop};
pub use server_time::ServerTime;

/// An answer longer than this is refused.
const ANSWER_LIMIT_BYTES: u64 = 1 << 20;
/// A photograph of at most 1 MB in base64.
const PHOTOGRAPH_LIMIT_BYTES: u64 = 4 << 20;
/// The server holds a review request for up to 25 s.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(35);
/// Enrolments carry several pictures and wait for a duplicate search.
const ENROLMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The server's code for an audit log that takes no entry.
const LOG_NOT_WRITABLE: &str = "log_not_writable";

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// No connection, TLS refused, or no answer in time.
    #[error(
        "the server cannot be reached: {0}; check the network, the server and the gate's certificate"
    )]
    Unreachable(String),
    /// The server answered with an error.
    #[error("the server refused the request (status {status}, {code}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable code.
        code: String,
        /// Sentence of the server.
        message: String,
    },
    /// The answer is not what the protocol says.
    #[error(
        "the server's answer to {0} is not understood; agent and server may be of different versions"
    )]
    BadAnswer(&'static str),
}

impl UplinkError {
    /// Whether the same request may be answered later. A refusal with a 4xx status stays one.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429 || *status == 408,
            Self::BadAnswer(_) => false,
        }
    }
}

impl UplinkError {
    /// What is missing, where the fault is not this one request's.
    #[must_use]
    pub fn cause(&self) -> Option<DegradedCause> {
        match self {
            Self::Unreachable(_) => Some(DegradedCause::Network),
            Self::Refused { code, .. } if code == LOG_NOT_WRITABLE => {
                Some(DegradedCause::LogNotWritable)
            }
            Self::Refused { .. } if self.is_passing() => Some(DegradedCause::Server),
            Self::Refused { .. } => None,
            Self::BadAnswer(_) => Some(DegradedCause::Server),
        }
    }
}

/// The connection to one server.
pub struct Uplink {
    /// Replaced as a whole when the gate has a new certificate; requests under way keep theirs.
    agent: Mutex<ureq::Agent>,
    base: String,
    clock: Arc<dyn Clock>,
    server_time: Mutex<Option<ServerTime>>,
}

impl Uplink {
    /// `server` is `HOST:PORT`. Nothing is sent yet.
    #[must_use]
    pub fn new(server: &str, tls: Arc<ClientConfig>, clock: Arc<dyn Clock>) -> Self {
        Self {
            agent: Mutex::new(agent(tls)),
            base: format!("https://{server}"),
            clock,
            server_time: Mutex::new(None),
        }
    }

    /// From now on requests show the certificate of this configuration.
    pub(crate) fn use_tls(&self, tls: Arc<ClientConfig>) {
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = agent(tls);
    }

    /// The present agent; cheap to copy, and the copy outlives a change.
    fn agent(&self) -> ureq::Agent {
        self.agent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What the server's clock must show, from the last heartbeat.
    #[must_use]
    pub fn server_time(&self) -> Option<ServerTime> {
        *self
            .server_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a certificate.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn join(&self, request: &JoinRequest) -> Result<JoinAnswer, UplinkError> {
        self.post(paths::JOIN, request, Duration::from_secs(15))
    }

    /// Asks for a new certificate, showing the present one.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn renew(&self, request: &RenewRequest) -> Result<JoinAnswer, UplinkError> {
        self.post(paths::RENEW, request, Duration::from_secs(15))
    }

    /// Sends one passage once.
    ///
    /// # Errors
    /// See [`UplinkError`]; an answer about another transaction is a bad answer.
    pub fn passage(
        &self,
        request: &PassageRequest,
        timeout: Duration,
    ) -> Result<PassageDecision, UplinkError> {
        let decision: PassageDecision = self.post(paths::PASSAGE, request, timeout)?;
        own(decision, request.transaction, paths::PASSAGE)
    }

    /// Sends one passage, again and again with the same transaction id until it is answered,
    /// refused for good, or `deadline` has passed.
    ///
    /// # Errors
    /// The last error.
    pub fn passage_until(
        &self,
        request: &PassageRequest,
        deadline: Mono,
        stop: &Stop,
    ) -> Result<PassageDecision, UplinkError> {
        let mut pause = Duration::from_millis(100);
        loop {
            // Each attempt gets the time that is left, so that the whole never outlasts the
            // deadline by more than one connection set-up.
            let left = deadline
                .since(self.clock.mono())
                .max(Duration::from_millis(100));
            match self.passage(request, left) {
                Ok(decision) => return Ok(decision),
                Err(error) => {
                    let again = error.is_passing()
                        && self.clock.mono().plus(pause) < deadline
                        && self.clock.wait(stop, pause);
                    if !again {
                        return Err(error);
                    }
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    /// Waits up to 25 s for an officer's answer to a referred passage.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn review(
        &self,
        transaction: TransactionId,
    ) -> Result<Option<PassageDecision>, UplinkError> {
        let url = format!("{}{}?transaction={transaction}", self.base, paths::REVIEW);
        let response = self
            .agent()
            .get(&url)
            .config()
            .timeout_global(Some(REVIEW_TIMEOUT))
            .build()
            .call()
            .map_err(unreachable)?;
        if response.status().as_u16() == 204 {
            return Ok(None);
        }
        own(answer(response, paths::REVIEW)?, transaction, paths::REVIEW).map(Some)
    }

    /// Delivers a spooled report as it was written.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn report(&self, path: &'static str, json: &[u8]) -> Result<(), UplinkError> {
        let response = self
            .agent()
            .post(format!("{}{path}", self.base))
            .content_type("application/json")
            .send(json)
            .map_err(unreachable)?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(refusal(response))
        }
    }

    /// Says that the gate is alive, and learns the server's time.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, UplinkError> {
        let sent = self.clock.mono();
        let answer: HeartbeatAnswer =
            self.post(paths::HEARTBEAT, heartbeat, Duration::from_secs(5))?;
        let time = ServerTime::new(answer.now, sent, self.clock.mono());
        *self
            .server_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(time);
        Ok(answer)
    }

    /// Asks for the jurisdiction profile; `None` when it is what the gate knows.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn profile(&self, query: &ProfileQuery) -> Result<Option<ProfileWord>, UplinkError> {
        let mut request = self
            .agent()
            .get(format!("{}{}", self.base, paths::PROFILE))
            .query("size", query.size.to_string());
        if let Some(sha256) = &query.sha256 {
            request = request.query("sha256", sha256);
        }
        if let Some(index) = query.index {
            request = request.query("index", index.to_string());
        }
        // Asked beside the heartbeat, which carries orders to free doors and must not wait long for this.
        let response = request
            .config()
            .timeout_global(Some(Duration::from_secs(3)))
            .build()
            .call()
            .map_err(unreachable)?;
        if response.status().as_u16() == 204 {
            return Ok(None);
        }
        answer(response, paths::PROFILE).map(Some)
    }

    /// Asks whether the server accepts this gate at all, without telling it anything: a GET on a
    /// route that only takes POST.
    ///
    /// # Errors
    /// Not reachable, or the gate's certificate is not accepted.
    pub fn ping(&self) -> Result<(), UplinkError> {
        let response = self
            .agent()
            .get(format!("{}{}", self.base, paths::HEARTBEAT))
            .call()
            .map_err(unreachable)?;
        match response.status().as_u16() {
            401 | 403 | 500.. => Err(refusal(response)),
            _ => Ok(()),
        }
    }

    /// Submits one person for enrolment.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn enrol(&self, submission: &EnrolmentSubmission) -> Result<EnrolmentOutcome, UplinkError> {
        self.post(paths::ENROLMENT, submission, ENROLMENT_TIMEOUT)
    }

    /// Sends what the next models made of a passage's samples.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn successors(&self, probes: &SuccessorProbes) -> Result<SuccessorsKept, UplinkError> {
        self.post(paths::SUCCESSORS, probes, Duration::from_secs(10))
    }

    /// Asks for the next photograph to be encoded by a new model; `None` when none waits.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn next_photograph(
        &self,
        request: &ReencodingRequest,
    ) -> Result<Option<ReencodingTask>, UplinkError> {
        let response = self
            .agent()
            .post(format!("{}{}", self.base, paths::REENCODING))
            .config()
            .timeout_global(Some(ENROLMENT_TIMEOUT))
            .build()
            .send_json(request)
            .map_err(unreachable)?;
        if response.status().as_u16() == 204 {
            return Ok(None);
        }
        limited_answer(response, paths::REENCODING, PHOTOGRAPH_LIMIT_BYTES).map(Some)
    }

    /// Sends what came of a photograph.
    ///
    /// # Errors
    /// See [`UplinkError`].
    pub fn reencoded(&self, result: &ReencodingResult) -> Result<ReencodingOutcome, UplinkError> {
        self.post(paths::REENCODED, result, ENROLMENT_TIMEOUT)
    }

    fn post<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &'static str,
        body: &Q,
        timeout: Duration,
    ) -> Result<A, UplinkError> {
        let response = self
            .agent()
            .post(format!("{}{path}", self.base))
            .config()
            .timeout_global(Some(timeout))
            .build()
            .send_json(body)
            .map_err(unreachable)?;
        answer(response, path)
    }
}

/// HTTPS with these certificates and nothing else.
fn agent(tls: Arc<ClientConfig>) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .https_only(true)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_global(Some(Duration::from_secs(10)))
        .user_agent(concat!("sallyport-gate/", env!("CARGO_PKG_VERSION")))
        .build();
    ureq::Agent::with_parts(
        config,
        connector::TlsConnector::new(tls),
        DefaultResolver::default(),
    )
}

/// The error kinds of `ureq` carry addresses and causes, never bodies or keys.
fn unreachable(error: ureq::Error) -> UplinkError {
    UplinkError::Unreachable(error.to_string())
}

fn own(
    decision: PassageDecision,
    transaction: TransactionId,
    path: &'static str,
) -> Result<PassageDecision, UplinkError> {
    if decision.transaction == transaction {
        Ok(decision)
    } else {
        Err(UplinkError::BadAnswer(path))
    }
}

fn answer<A: DeserializeOwned>(
    response: ureq::http::Response<ureq::Body>,
    path: &'static str,
) -> Result<A, UplinkError> {
    limited_answer(response, path, ANSWER_LIMIT_BYTES)
}

fn limited_answer<A: DeserializeOwned>(
    mut response: ureq::http::Response<ureq::Body>,
    path: &'static str,
    limit: u64,
) -> Result<A, UplinkError> {
    if !response.status().is_success() {
        return Err(refusal(response));
    }
    let bytes = response
        .body_mut()
        .with_config()
        .limit(limit)
        .read_to_vec()
        .map_err(unreachable)?;
    serde_json::from_slice(&bytes).map_err(|_| UplinkError::BadAnswer(path))
}

fn refusal(mut response: ureq::http::Response<ureq::Body>) -> UplinkError {
    let status = response.status().as_u16();
    let said: Option<ProtocolError> = response
        .body_mut()
        .with_config()
        .limit(ANSWER_LIMIT_BYTES)
        .read_to_vec()
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let said = said.unwrap_or_else(|| ProtocolError {
        code: "no_code".to_owned(),
        message: "no explanation was given".to_owned(),
    });
    UplinkError::Refused {
        status,
        code: said.code,
        message: said.message,
    }
}
