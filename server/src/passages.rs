//! Passages: search, decide, log and only then answer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, OpModeR};
use sallyport_domain::{
    CandidateEvidence, Decision, DecisionInput, Direction, Evidence, GateCondition, GateId,
    GatePolicy, IrisRotation, LocalMoment, Modality, ModalityPolicy, ModalityVerdict, ModelDigest,
    OperatingPoints, PadAssessment, ReasonCode, SearchOutcome, SubjectId, SubjectView, Timestamp,
    TransactionId, Verdict, decide,
};
use sallyport_matching::{Captured, Identification};
use sallyport_protocol::{
    DOOR_ORDER_LIFETIME_MS, DoorOrder, FailedAcquisition, PassageDecision, PassageRequest, Probe,
    Sealed, SignedDoorOrder,
};
use sallyport_transparency::Entry;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::audit::{self, AuditError};
use crate::gates;
use crate::policies;
use crate::promises;
use crate::registry::{self, RegistryError};
use crate::rights;
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::gates::GateRow;
pub use crate::store::passages::{Finding, PassageRow, ReviewRow};

/// Candidates kept per search; more than one is enough to see that somebody is ambiguous.
const CANDIDATES: usize = 8;

/// Why a request was not answered with a decision. Nothing was granted.
#[derive(Debug, thiserror::Error)]
pub enum PassageError {
    /// The request contradicts itself or the gate's set-up.
    #[error("{0}")]
    Invalid(&'static str),
    /// The transaction id was used for other content.
    #[error(
        "this transaction id was used before with other content; use a new id for every passage"
    )]
    Conflict,
    /// There is no such passage.
    #[error("there is no such passage at this gate")]
    Unknown,
    /// The gate's row is not the log's.
    #[error(
        "this gate's direction or policy in the database is not what the audit log says, so nothing is decided; an officer decides, and the administrator must look at the alarm"
    )]
    NotInLog,
    /// A new policy came while this passage was being decided.
    #[error(
        "the gate's policy was changed at this moment, so nothing was granted; try again with the same transaction id"
    )]
    PolicyChanged,
    /// Database or log failed before anything was durable.
    #[error(
        "the server could not record the passage, so nothing was granted; try again with the same transaction id"
    )]
    Unavailable(#[source] AuditError),
}

impl From<AuditError> for PassageError {
    fn from(error: AuditError) -> Self {
        Self::Unavailable(error)
    }
}

impl From<StoreError> for PassageError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// SHA-256 of a message, independent of white space in how it was sent.
pub(crate) fn content_sha256<T: Serialize>(message: &T) -> Result<String, AuditError> {
    let bytes =
        serde_json::to_vec(message).map_err(|error| AuditError::Refused(error.to_string()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

/// Decides one passage. A retry gets the stored answer; its door order is the first one again, with the first one's life.
///
/// # Errors
/// See [`PassageError`]; nothing was granted.
pub async fn request(
    state: &AppState,
    gate: &GateRow,
    request: PassageRequest,
) -> Result<PassageDecision, PassageError> {
    validate(&request)?;
    same_direction(gate, request.direction)?;
    let request_sha256 = content_sha256(&request)?;
    if let Some(stored) = state.store.passage(request.transaction).await? {
        return repeat(state, &stored, &request_sha256);
    }
    let policy = policies::in_force(state, gate).await?;
    let (policy, policy_text) = policy.ok_or(PassageError::NotInLog)?;
    let now = state.clock.now();
    let trusted = state.is_trusted(now);
    if !trusted {
        alarm_clock(state, now).await?;
    }
    // What the profile does not permit is not processed at all, and an officer decides.
    let probes = if state.profile().profile.permits(policy.purpose) {
        usable_probes(&policy, request.probes)
    } else {
        tracing::error!(gate = %gate.id, "the jurisdiction profile does not permit this gate's purpose; the passage is referred");
        Vec::new()
    };
    let captured: Vec<(Modality, ModelDigest)> = probes
        .iter()
        .map(|probe| (probe.modality, probe.model))
        .collect();
    let search = search(state, probes, &policy).await;
    let subject = best_match(state, &search).await;
    let decision = decide(&DecisionInput {
        policy: &policy,
        direction: request.direction,
        claim: request.claim,
        pad: &request.pad,
        search: &search,
        subject,
        condition: GateCondition {
            locked_down: gate.locked_down,
            clock_trusted: trusted,
            people_in_view: request.people_in_view,
        },
        now,
        local: LocalMoment::at_offset(now, state.config.utc_offset_minutes),
    });
    let attachment = sealed_json(request.attachment.as_ref())?;
    let row = PassageRow {
        transaction: request.transaction,
        gate: gate.id.clone(),
        direction: request.direction,
        captured_at: request.captured_at,
        decided_at: now,
        verdict: decision.verdict(),
        reason: decision.reason(),
        candidates: people(&decision),
        pad: request.pad,
        defects: request.defects,
        policy: policy.version,
        model: captured
            .first()
            .map(|(_, model)| model.to_string())
            .unwrap_or_default(),
        findings: findings(&captured, &search, &decision),
        request_sha256,
        door_nonce: request.door_nonce,
        has_picture: attachment.is_some(),
        log_index: 0,
        door_outcome: None,
        door_at: None,
        review: None,
    };
    store(state, row, &policy_text, attachment, scores(&search)).await
}

/// Longest reason of a presentation attack vote.
const MAX_VOTE_BYTES: usize = 500;

/// A gate leads one way; a message about the other way is a mistake or a misuse.
fn same_direction(gate: &GateRow, direction: Direction) -> Result<(), PassageError> {
    if gates::direction(gate)? == direction {
        Ok(())
    } else {
        Err(PassageError::Invalid(
            "the message names another direction than the gate was added with",
        ))
    }
}

fn validate(request: &PassageRequest) -> Result<(), PassageError> {
    let nonce = &request.door_nonce;
    if nonce.len() != 32
        || !nonce
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(PassageError::Invalid(
            "door_nonce must be 16 random bytes in lower-case hexadecimal",
        ));
    }
    let wordy = |vote: &sallyport_domain::PadVote| vote.reason.len() > MAX_VOTE_BYTES;
    if request.pad.votes.iter().any(wordy) {
        return Err(PassageError::Invalid(
            "the reason of a presentation attack vote has at most 500 bytes",
        ));
    }
    if request.pad.votes.len() > 16 || request.defects.len() > 64 {
        return Err(PassageError::Invalid(
            "too many presentation attack votes or defects",
        ));
    }
    Ok(())
}

/// What the gate's policy allows to be compared: a gate for faces only does not use irises, even when it gets them.
fn usable_probes(policy: &GatePolicy, probes: Vec<Probe>) -> Vec<Probe> {
    let face_only = policy.modalities == ModalityPolicy::FaceOnly;
    probes
        .into_iter()
        .filter(|probe| !face_only || probe.modality == Modality::Face)
        .collect()
}

/// What each captured modality said about the person whom the decision names first.
fn findings(
    captured: &[(Modality, ModelDigest)],
    search: &SearchOutcome,
    decision: &Decision,
) -> Vec<Finding> {
    let candidate = match search {
        SearchOutcome::Searched { evidence } => decision.subject().and_then(|subject| {
            evidence
                .candidates()
                .iter()
                .find(|candidate| candidate.subject() == subject)
        }),
        SearchOutcome::Unavailable => None,
    };
    let verdict =
        |modality| candidate.map_or(ModalityVerdict::NotCompared, |one| one.verdict(modality));
    captured
        .iter()
        .map(|(modality, model)| Finding {
            modality: *modality,
            model: model.to_string(),
            verdict: verdict(*modality).code().to_owned(),
        })
        .collect()
}

pub(crate) fn sealed_json(sealed: Option<&Sealed>) -> Result<Option<Vec<u8>>, AuditError> {
    sealed
        .map(|sealed| {
            serde_json::to_vec(sealed).map_err(|error| AuditError::Refused(error.to_string()))
        })
        .transpose()
}

/// Search on a thread of its own; whatever fails makes the search unavailable, which is referred.
async fn search(state: &AppState, probes: Vec<Probe>, policy: &GatePolicy) -> SearchOutcome {
    if probes.is_empty() {
        return SearchOutcome::Unavailable;
    }
    let (state, policy) = (state.clone(), policy.clone());
    let found = tokio::task::spawn_blocking(move || {
        let templates = probes
            .iter()
            .map(|probe| {
                Some((
                    probe.model,
                    state.keys.templates.enter(&probe.template).ok()?,
                ))
            })
            .collect::<Option<Vec<_>>>()?;
        let gallery = state.gallery.read().ok()?;
        let calibration = &state.fusion;
        let captured = templates
            .iter()
            .fold(Captured::new(), |captured, (model, template)| {
                captured.with(*model, template)
            });
        match gallery.identify(&captured, calibration, IrisRotation::Normal, CANDIDATES) {
            Identification::Found { scores, size } => {
                let points = OperatingPoints::new(calibration, &policy, size);
                let evidence = Box::new(Evidence::new(scores, points));
                Some(SearchOutcome::Searched { evidence })
            }
            Identification::OtherModel(_) => None,
        }
    });
    match found.await {
        Ok(Some(outcome)) => outcome,
        Ok(None) | Err(_) => {
            tracing::error!(
                "the gallery could not be searched with the gate's model; the passage is referred"
            );
            SearchOutcome::Unavailable
        }
    }
}

/// The record of the best candidate above the threshold; an unreadable record is `None`, which is referred.
async fn best_match(state: &AppState, search: &SearchOutcome) -> Option<SubjectView> {
    let SearchOutcome::Searched { evidence } = search else {
        return None;
    };
    let best = evidence.recognise().subjects().first().copied()?;
    match standing(state, best).await {
        Ok(view) => view,
        Err(error) => {
            tracing::error!(subject = %best, %error, "the record could not be read; the passage is referred");
            None
        }
    }
}

/// The person's record, if its status is the one that the log says; an older record that somebody put back is none.
async fn standing(
    state: &AppState,
    person: SubjectId,
) -> Result<Option<SubjectView>, RegistryError> {
    // Twice: the status may change between the two looks.
    for _ in 0..2 {
        let Some(subject) = registry::subject(state, person).await? else {
            return Ok(None);
        };
        if rights::status_stands(state, person, subject.record.status).await? {
            return Ok(Some(subject.view()));
        }
    }
    rights::alarm(state, "status of subject", &person.to_string()).await?;
    Err(RegistryError::NotInLog)
}

fn people(decision: &Decision) -> Vec<SubjectId> {
    match decision {
        Decision::Refer { candidates, .. } => candidates.clone(),
        Decision::Grant { .. } | Decision::Refuse { .. } => {
            decision.subject().into_iter().collect()
        }
    }
}

/// What the log keeps sealed: the calibration, the thresholds, and each candidate's scores with what they say.
fn scores(search: &SearchOutcome) -> Option<Vec<u8>> {
    #[derive(Serialize)]
    struct Scores<'a> {
        calibration: &'a str,
        calibration_version: u32,
        identifies: BTreeMap<&'static str, f64>,
        fused: f64,
        candidates: Vec<Scored>,
    }
    #[derive(Serialize)]
    struct Scored {
        subject: SubjectId,
        fused: f64,
        scores: BTreeMap<&'static str, f64>,
        verdicts: BTreeMap<&'static str, &'static str>,
    }
    let SearchOutcome::Searched { evidence } = search else {
        return None;
    };
    let points = evidence.points();
    let scored = |one: &CandidateEvidence| Scored {
        subject: one.subject(),
        fused: one.fused.log10(),
        scores: Modality::ALL
            .into_iter()
            .filter_map(|modality| Some((modality.code(), one.scores.score(modality)?)))
            .collect(),
        verdicts: Modality::ALL
            .into_iter()
            .map(|modality| (modality.code(), one.verdict(modality).code()))
            .collect(),
    };
    let scores = Scores {
        calibration: &points.calibration().name,
        calibration_version: points.calibration().version,
        identifies: Modality::ALL
            .into_iter()
            .map(|modality| (modality.code(), points.identifies_at(modality)))
            .collect(),
        fused: points.fused_at().log10(),
        candidates: evidence.candidates().iter().map(scored).collect(),
    };
    serde_json::to_vec(&scores).ok()
}

async fn alarm_clock(state: &AppState, now: Timestamp) -> Result<(), AuditError> {
    use std::sync::atomic::Ordering;
    if state.clock_alarm.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    tracing::error!(
        "the clock is behind the newest log entry; decisions are referred until it is right again"
    );
    let mut entry = audit::entry("clock", now)?;
    entry.reason = Some("stepped_back".to_owned());
    let logged = audit::record(state, entry).await;
    if logged.is_err() {
        state.clock_alarm.store(false, Ordering::SeqCst);
    }
    logged.map(drop)
}

/// The end of the trouble is an entry, too. The passage stands whether or not the log takes it now.
async fn clock_is_right(state: &AppState, now: Timestamp) {
    use std::sync::atomic::Ordering;
    if !state.clock_alarm.swap(false, Ordering::SeqCst) {
        return;
    }
    let logged = async {
        let mut entry = audit::entry("clock", now)?;
        entry.reason = Some("right_again".to_owned());
        audit::record(state, entry).await
    };
    if let Err(error) = logged.await {
        state.clock_alarm.store(true, Ordering::SeqCst);
        tracing::error!(error = %error, "the end of the clock's trouble could not be logged");
    }
}

/// Passage row, log entry and tree nodes in one transaction. Somebody who came first with the same id wins. `policy` is the text by
/// which it was decided: after the entry of a new policy no passage of the gate names an older one.
async fn store(
    state: &AppState,
    mut row: PassageRow,
    policy: &str,
    attachment: Option<Vec<u8>>,
    detail: Option<Vec<u8>>,
) -> Result<PassageDecision, PassageError> {
    let mut write = state.store.write().await?;
    if let Some(stored) = write.passage(row.transaction).await? {
        return repeat(state, &stored, &row.request_sha256);
    }
    // The order's life begins when it can be answered, not while the passage waited for its turn.
    let now = state.clock.now();
    if now > row.decided_at {
        row.decided_at = now;
    }
    let entry = Entry {
        gate: Some(row.gate.to_string()),
        subject: row.candidates.first().map(ToString::to_string),
        about: Some(row.transaction.to_string()),
        decision: Some(row.verdict.code().to_owned()),
        reason: Some(row.reason.code().to_owned()),
        policy: Some(row.policy.clone()),
        models: models(&row.findings),
        calibration: (!row.findings.is_empty()).then(|| state.fusion_id.clone()),
        findings: row
            .findings
            .iter()
            .map(|found| format!("{}:{}", found.modality.code(), found.verdict))
            .collect(),
        ..audit::entry("passage", row.decided_at)?
    };
    row.log_index = audit::append(state, &mut write, entry, detail.as_deref()).await?;
    if let (Verdict::Grant, Some(subject)) = (row.verdict, row.candidates.first()) {
        promises::passed(state, &mut write, &row.gate, *subject, row.decided_at).await?;
    }
    if !write.passage_insert(&row, policy, attachment).await? {
        return Err(PassageError::PolicyChanged);
    }
    write.commit().await?;
    state.logged_at(row.decided_at);
    if state.is_trusted(row.decided_at) {
        clock_is_right(state, row.decided_at).await;
    }
    state.announce(row.transaction);
    answer(state, &row)
}

/// Each model once, in the order of the findings.
fn models(findings: &[Finding]) -> Vec<String> {
    let mut models: Vec<String> = Vec::new();
    for found in findings {
        if !models.contains(&found.model) {
            models.push(found.model.clone());
        }
    }
    models
}

fn repeat(
    state: &AppState,
    stored: &PassageRow,
    request_sha256: &str,
) -> Result<PassageDecision, PassageError> {
    if stored.request_sha256 == request_sha256 {
        answer(state, stored)
    } else {
        Err(PassageError::Conflict)
    }
}

fn answer(state: &AppState, row: &PassageRow) -> Result<PassageDecision, PassageError> {
    let door_order = match row.verdict {
        Verdict::Grant => Some(door_order(
            state,
            &row.gate,
            row.transaction,
            &row.door_nonce,
            row.decided_at,
        )?),
        Verdict::Refuse | Verdict::Refer => None,
    };
    Ok(PassageDecision {
        transaction: row.transaction,
        verdict: row.verdict,
        reason: row.reason,
        log_index: row.log_index,
        door_order,
    })
}

/// Signs an order. The same arguments give the same bytes, so that a repeated answer is never a fresh order.
pub(crate) fn door_order(
    state: &AppState,
    gate: &GateId,
    transaction: TransactionId,
    nonce: &str,
    issued_at: Timestamp,
) -> Result<SignedDoorOrder, AuditError> {
    let order = DoorOrder {
        purpose: DoorOrder::PURPOSE.to_owned(),
        gate: gate.clone(),
        transaction,
        nonce: nonce.to_owned(),
        issued_at,
        not_after: issued_at.plus_millis(DOOR_ORDER_LIFETIME_MS),
    };
    let order =
        serde_json::to_string(&order).map_err(|error| AuditError::Refused(error.to_string()))?;
    let signature = STANDARD.encode(state.keys.door.sign(order.as_bytes()).to_bytes());
    Ok(SignedDoorOrder { order, signature })
}

/// Records that nobody could be acquired. Idempotent by transaction.
///
/// # Errors
/// See [`PassageError`].
pub async fn failed_acquisition(
    state: &AppState,
    gate: &GateRow,
    report: FailedAcquisition,
) -> Result<PassageDecision, PassageError> {
    if report.defects.len() > 64 {
        return Err(PassageError::Invalid("too many defects"));
    }
    same_direction(gate, report.direction)?;
    let request_sha256 = content_sha256(&report)?;
    let policy = policies::in_force(state, gate).await?;
    let (policy, policy_text) = policy.ok_or(PassageError::NotInLog)?;
    let attachment = sealed_json(report.attachment.as_ref())?;
    let row = PassageRow {
        transaction: report.transaction,
        gate: gate.id.clone(),
        direction: report.direction,
        captured_at: report.ended_at,
        decided_at: state.clock.now(),
        verdict: Verdict::Refuse,
        reason: ReasonCode::FailureToAcquire,
        candidates: Vec::new(),
        pad: PadAssessment::default(),
        defects: report.defects,
        policy: policy.version,
        model: String::new(),
        findings: Vec::new(),
        request_sha256,
        door_nonce: String::new(),
        has_picture: attachment.is_some(),
        log_index: 0,
        door_outcome: None,
        door_at: None,
        review: None,
    };
    store(state, row, &policy_text, attachment, None).await
}

/// Passages with a log index below `before`, newest first.
///
/// # Errors
/// The database failed.
pub async fn recent(
    state: &AppState,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<PassageRow>, StoreError> {
    state.store.passages(before, limit).await
}

/// One passage.
///
/// # Errors
/// The database failed.
pub async fn get(
    state: &AppState,
    transaction: TransactionId,
) -> Result<Option<PassageRow>, StoreError> {
    state.store.passage(transaction).await
}

/// Opens a passage's picture for an officer's browser; the bytes are what the agent sealed and are never decoded here. `None` when
/// there is none.
///
/// # Errors
/// The database failed, or the picture was changed or belongs to another passage.
pub async fn open_picture(
    state: &AppState,
    transaction: TransactionId,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(bytes) = state.store.passage_picture(transaction).await? else {
        return Ok(None);
    };
    open_attachment(state, &bytes, &transaction.to_string()).map(Some)
}

/// Opens a picture that an agent sealed for this passage or subject.
///
/// # Errors
/// The picture was changed or belongs to another.
pub(crate) fn open_attachment(
    state: &AppState,
    bytes: &[u8],
    about: &str,
) -> Result<Vec<u8>, StoreError> {
    let damaged = || StoreError::Corrupt("a sealed picture");
    let sealed: Sealed = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    let enc = STANDARD.decode(&sealed.enc).map_err(|_| damaged())?;
    let ciphertext = STANDARD.decode(&sealed.ciphertext).map_err(|_| damaged())?;
    let enc =
        <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&enc).map_err(|_| damaged())?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &state.keys.picture,
        &enc,
        b"sallyport/attachment/1",
        &ciphertext,
        about.as_bytes(),
    )
    .map_err(|_| damaged())
}
