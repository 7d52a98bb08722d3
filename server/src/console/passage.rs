//! One passage: its page, its picture, and an officer's review.

use std::collections::HashSet;
use std::sync::PoisonError;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use sallyport_domain::{Act, Modality, TransactionId, Verdict};
use serde::Deserialize;

use super::guard::{Officer, check_csrf};
use super::pages::Trouble;
use super::reason::{self, ReasonForm};
use super::view::{Page, Row, date_and_time, display_name, html, is_fresh, row, word};
use crate::audit;
use crate::consultations::{self, ConsultError};
use crate::officers::{self, Session};
use crate::passages;
use crate::refusals;
use crate::reviews;
use crate::state::AppState;
use crate::store::passages::{Finding, PassageRow};

struct ReviewView {
    officer: String,
    word: String,
    time: String,
    reason: String,
    log_index: u64,
}

/// Somebody whom the passage names.
struct Candidate {
    id: String,
    name: String,
}

/// One captured modality, in words.
struct FindingView {
    name: &'static str,
    word: &'static str,
    model: String,
}

fn finding(found: &Finding) -> FindingView {
    FindingView {
        name: match found.modality {
            Modality::Face => "Face",
            Modality::IrisLeft => "Left iris",
            Modality::IrisRight => "Right iris",
        },
        word: match found.verdict.as_str() {
            "identifies" => "clearly this person",
            "confirms" => "agrees with this person",
            "undecided" => "not clear enough",
            "against" => "speaks against this person",
            _ => "nothing to compare with",
        },
        model: found
            .model
            .get(..12)
            .map_or_else(|| found.model.clone(), |start| format!("{start}…")),
    }
}

#[derive(Template)]
#[template(path = "passage.html")]
struct PassagePage {
    page: Page,
    row: Row,
    problem: Option<String>,
    picture: Option<String>,
    pad: Vec<String>,
    cues: Vec<&'static str>,
    candidates: Vec<Candidate>,
    review: Option<ReviewView>,
    reviewable: bool,
    captured: String,
    decided: String,
    door: String,
    policy: String,
    findings: Vec<FindingView>,
    log_index: u64,
    looked_because: String,
    fresh: bool,
}

/// The question for a reason, again with what was wrong.
fn ask_reason(
    state: &AppState,
    session: &Session,
    passage: &PassageRow,
    problem: Option<&ConsultError>,
) -> Response {
    let action = format!("/passages/{}", passage.transaction);
    let because = "This passage is not gate duty any more.";
    reason::ask(state, session, action, because, problem)
}

pub(super) async fn find(state: &AppState, id: &str) -> Result<PassageRow, Response> {
    let not_found = || Trouble::not_found(state).into_response();
    let id: TransactionId = id.parse().map_err(|_| not_found())?;
    match passages::get(state, id).await {
        Ok(Some(passage)) => Ok(passage),
        Ok(None) => Err(not_found()),
        Err(error) => Err(Trouble::server(state, &error).into_response()),
    }
}

/// Writes a look that is gate duty into the log; nothing is shown before that succeeded.
async fn consulted(
    state: &AppState,
    session: &Session,
    passage: &PassageRow,
    what: &str,
    reason: &str,
) -> Result<(), Response> {
    let logged = async {
        let mut entry = audit::entry("consultation", state.clock.now())?;
        entry.actor = Some(session.officer.to_string());
        entry.subject = passage.candidates.first().map(ToString::to_string);
        entry.about = Some(passage.transaction.to_string());
        entry.decision = Some(what.to_owned());
        entry.reason = Some(reason.to_owned());
        audit::record(state, entry).await
    };
    logged
        .await
        .map(drop)
        .map_err(|error| Trouble::server(state, &error).into_response())
}

/// The page of a fresh passage, or the question for a reason.
pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let passage = find(&state, &id).await?;
    if !is_duty(&state, &session, &passage) {
        return Ok(ask_reason(&state, &session, &passage, None));
    }
    consulted(&state, &session, &passage, "passage_page", "gate_duty").await?;
    show(&state, &session, &passage, "gate_duty", None).await
}

/// The page of an older passage, after a reason was given.
pub(super) async fn page_with_reason(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
    Form(form): Form<ReasonForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let passage = find(&state, &id).await?;
    let opened = async {
        let given = form.given()?;
        let about = passage.transaction.to_string();
        let people = &passage.candidates;
        consultations::consult(&state, &session, &about, people, "passage_page", &given).await?;
        Ok::<_, ConsultError>(given.text())
    };
    match opened.await {
        Ok(reason) => show(&state, &session, &passage, &reason, None).await,
        Err(error) => Ok(ask_reason(&state, &session, &passage, Some(&error))),
    }
}

/// May this officer see the passage now: as gate duty, or because it was opened with a reason a moment ago?
async fn is_open(
    state: &AppState,
    session: &Session,
    passage: &PassageRow,
) -> Result<bool, Response> {
    if is_duty(state, session, passage) {
        return Ok(true);
    }
    consultations::is_open(state, session, &passage.transaction.to_string())
        .await
        .map_err(|error| Trouble::server(state, &error).into_response())
}

/// Is looking at this passage gate duty of this officer? Otherwise it needs a reason.
fn is_duty(state: &AppState, session: &Session, passage: &PassageRow) -> bool {
    session.role.may(Act::WatchGates) && is_fresh(state, passage)
}

/// The page, after its entry was written.
async fn show(
    state: &AppState,
    session: &Session,
    passage: &PassageRow,
    reason: &str,
    problem: Option<String>,
) -> Result<Response, Response> {
    let mut candidates = Vec::new();
    for subject in &passage.candidates {
        candidates.push(Candidate {
            id: subject.to_string(),
            name: display_name(state, *subject).await,
        });
    }
    let review = match &passage.review {
        Some(review) => Some(ReviewView {
            officer: match officers::name(state, review.officer).await {
                Ok(Some(name)) => name,
                Ok(None) | Err(_) => "An officer".to_owned(),
            },
            word: word(review.verdict).0.to_owned(),
            time: date_and_time(state, review.decided_at),
            reason: reviews::reason_text(state, passage)
                .await
                .unwrap_or_else(|| "(cannot be read)".to_owned()),
            log_index: review.log_index,
        }),
        None => None,
    };
    let page = PassagePage {
        page: Page::new(state, Some(session), ""),
        row: row(state, passage).await,
        problem,
        picture: passage
            .has_picture
            .then(|| format!("/passages/{}/picture", passage.transaction)),
        pad: passage
            .pad
            .votes
            .iter()
            .map(|vote| vote.reason.clone())
            .collect(),
        cues: passage.defects.iter().map(|defect| defect.cue()).collect(),
        candidates,
        reviewable: review.is_none()
            && passage.verdict != Verdict::Grant
            && session.role.may(Act::ReviewPassage),
        review,
        captured: date_and_time(state, passage.captured_at),
        decided: date_and_time(state, passage.decided_at),
        door: match passage.door_outcome.as_deref() {
            Some("released") => "Released".to_owned(),
            Some("order_rejected") => {
                "The gate rejected the order; the door stayed shut".to_owned()
            }
            Some("fault") => "Fault: the door did not answer".to_owned(),
            Some(other) => other.to_owned(),
            None => "No report yet".to_owned(),
        },
        policy: passage.policy.clone(),
        findings: passage.findings.iter().map(finding).collect(),
        log_index: passage.log_index,
        looked_because: reason.to_owned(),
        fresh: is_duty(state, session, passage),
    };
    Ok(html(state, &page))
}

/// Officer and passage pairs that are remembered; beyond it a second look is an entry again.
const LOOKS: usize = 10_000;

/// While fresh, the first look of each officer at each picture is logged as gate duty.
async fn looked(state: &AppState, session: &Session, passage: &PassageRow) -> Result<(), Response> {
    let look = (session.officer, passage.transaction);
    let known = |looks: &mut HashSet<_>| looks.contains(&look);
    if known(&mut state.looks.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Ok(());
    }
    consulted(state, session, passage, "picture", "gate_duty").await?;
    let mut looks = state.looks.lock().unwrap_or_else(PoisonError::into_inner);
    if looks.len() >= LOOKS {
        looks.clear();
    }
    looks.insert(look);
    Ok(())
}

/// The sealed picture, opened for this officer's browser only, after the look was logged: as gate duty while it is fresh, later only of a
/// passage that the officer opened with a reason a moment ago.
pub(super) async fn picture(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let passage = find(&state, &id).await?;
    if is_duty(&state, &session, &passage) {
        looked(&state, &session, &passage).await?;
    } else if is_open(&state, &session, &passage).await? {
        consulted(&state, &session, &passage, "picture", "of_open_record").await?;
    } else {
        let refused = (
            StatusCode::BAD_REQUEST,
            "An older picture is shown only with a reason; open its record.\n",
        );
        return Err(refusals::marked(refused.into_response(), "no_reason"));
    }
    match passages::open_picture(&state, passage.transaction).await {
        Ok(Some(jpeg)) => Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response()),
        Ok(None) => Err(Trouble::not_found(&state).into_response()),
        Err(error) => Err(Trouble::server(&state, &error).into_response()),
    }
}

#[derive(Deserialize)]
pub(super) struct ReviewForm {
    csrf: String,
    verdict: String,
    preset: String,
    #[serde(default)]
    words: String,
    #[serde(default)]
    sure: String,
}

/// An officer's decision on a referred or refused passage.
pub(super) async fn review(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
    Form(form): Form<ReviewForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let passage = find(&state, &id).await?;
    if !is_open(&state, &session, &passage).await? {
        return Ok(ask_reason(
            &state,
            &session,
            &passage,
            Some(&ConsultError::Reason),
        ));
    }
    let words = form.words.trim();
    let verdict = match form.verdict.as_str() {
        "grant" => Some(Verdict::Grant),
        "refuse" => Some(Verdict::Refuse),
        _ => None,
    };
    let preset = form.preset.trim();
    let reason = match (preset, words) {
        ("" | "other", "") => None,
        ("other", words) => Some(words.to_owned()),
        (preset, "") => Some(preset.to_owned()),
        (preset, words) => Some(format!("{preset}: {words}")),
    }
    .filter(|reason| reason.chars().count() <= 600 && !preset.is_empty());
    let problem = match (verdict, reason) {
        (Some(verdict), Some(reason)) if form.sure == "yes" => {
            match reviews::decide(
                &state,
                passage.transaction,
                session.officer,
                verdict,
                &reason,
            )
            .await
            {
                Ok(_) => {
                    let page = format!("/passages/{}", passage.transaction);
                    return Ok(Redirect::to(&page).into_response());
                }
                Err(error) => error.to_string(),
            }
        }
        _ => "Choose a decision and a reason, and confirm that you have looked.".to_owned(),
    };
    consulted(&state, &session, &passage, "passage_page", "review").await?;
    let mut response = show(&state, &session, &passage, "review", Some(problem)).await?;
    *response.status_mut() = StatusCode::BAD_REQUEST;
    Ok(response)
}
