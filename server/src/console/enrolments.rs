//! Enrolments: opening them, and the second officer's review. Every look at somebody is logged before anything is shown.

use std::collections::BTreeMap;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use sallyport_domain::{Act, EnrolmentId, Modality, OfficerId, SubjectId};
use serde::Deserialize;

use super::guard::{Officer, check_csrf};
use super::pages::{Trouble, parsed};
use super::view::{Page, date_and_time, display_name, html};
use crate::enrolments::{self, DecisionError, Outcome};
use crate::officers::{self, Session};
use crate::refusals;
use crate::registry::RegistryError;
use crate::state::AppState;
use crate::store::enrolments::{EnrolmentRow, OrderRow};

struct OrderView {
    id: String,
    batch: bool,
    station: String,
    officer: String,
    opened: String,
    until: String,
    open: bool,
    captured: bool,
    pending: Vec<PendingView>,
    doubtful: usize,
}

struct PendingView {
    id: String,
    at: String,
    doubtful: bool,
    drawn: bool,
    unseen: bool,
}

#[derive(Template)]
#[template(path = "enrolments.html")]
struct EnrolmentsPage {
    page: Page,
    problem: Option<String>,
    orders: Vec<OrderView>,
    stations: Vec<String>,
    proposes: bool,
    decides: bool,
}

#[derive(Template)]
#[template(path = "enrolment_code.html")]
struct CodePage {
    page: Page,
    code: String,
    station: String,
    batch: bool,
}

#[derive(Template)]
#[template(path = "enrolment_batch.html")]
struct BatchPage {
    page: Page,
    problem: Option<String>,
    order: OrderView,
    reason: String,
    document: String,
    certain: Vec<PendingView>,
    doubtful: Vec<PendingView>,
    unseen: usize,
    content: String,
    own: bool,
    fresh: bool,
}

struct AlikeView {
    id: String,
    name: String,
    enrolled: bool,
}

#[derive(Template)]
#[template(path = "enrolment.html")]
struct EnrolmentPage {
    page: Page,
    problem: Option<String>,
    id: String,
    order: OrderView,
    name: String,
    category: &'static str,
    document: String,
    reason: String,
    samples: Vec<String>,
    offered: usize,
    pictures: Vec<String>,
    alike: Vec<AlikeView>,
    content: String,
    own: bool,
    fresh: bool,
}

fn trouble(state: &AppState, error: &dyn std::error::Error) -> Response {
    Trouble::server(state, error).into_response()
}

async fn officer_name(state: &AppState, id: OfficerId) -> String {
    match officers::name(state, id).await {
        Ok(Some(name)) => name,
        Ok(None) | Err(_) => "an officer".to_owned(),
    }
}

async fn order_view(
    state: &AppState,
    order: &OrderRow,
    pending: &[(EnrolmentRow, bool)],
) -> OrderView {
    OrderView {
        id: order.id.to_string(),
        batch: order.batch,
        station: order.gate.to_string(),
        officer: officer_name(state, order.opened_by).await,
        opened: date_and_time(state, order.opened_at),
        until: date_and_time(state, order.expires_at),
        open: order.closed_at.is_none(),
        captured: order.capturing_at.is_some(),
        pending: pending
            .iter()
            .map(|(row, doubtful)| pending_view(state, row, *doubtful))
            .collect(),
        doubtful: pending.iter().filter(|(_, doubtful)| *doubtful).count(),
    }
}

fn pending_view(state: &AppState, row: &EnrolmentRow, doubtful: bool) -> PendingView {
    PendingView {
        id: row.id.to_string(),
        at: date_and_time(state, row.submitted_at),
        doubtful,
        drawn: row.sampled,
        unseen: false,
    }
}

/// Orders that are open or wait for a decision. No name stands here.
pub(super) async fn list(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Result<Response, Response> {
    listed(&state, &session, None).await
}

async fn listed(
    state: &AppState,
    session: &Session,
    problem: Option<String>,
) -> Result<Response, Response> {
    let found = enrolments::list(state).await;
    let found = found.map_err(|error| trouble(state, &error))?;
    let mut orders = Vec::with_capacity(found.len());
    for one in &found {
        orders.push(order_view(state, &one.order, &one.pending).await);
    }
    let gates = state.store.gates().await;
    let gates = gates.map_err(|error| trouble(state, &error))?;
    let status = if problem.is_some() {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    let mut response = html(
        state,
        &EnrolmentsPage {
            page: Page::new(state, Some(session), "enrolments"),
            problem,
            orders,
            stations: gates.into_iter().map(|gate| gate.id.to_string()).collect(),
            proposes: session.role.may(Act::ProposeEnrolment),
            decides: session.role.may(Act::DecideEnrolment),
        },
    );
    if status != StatusCode::OK {
        *response.status_mut() = status;
    }
    Ok(response)
}

#[derive(Deserialize)]
pub(super) struct OpenForm {
    csrf: String,
    station: String,
    kind: String,
    reason: String,
    document: String,
}

/// Opens an enrolment or a batch; the code is on this answer and nowhere else.
pub(super) async fn open(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<OpenForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let batch = form.kind == "batch";
    let detail = enrolments::OrderDetail {
        reason: form.reason.trim().to_owned(),
        document: form.document.trim().to_owned(),
    };
    let Ok(station) = form.station.parse() else {
        return listed(&state, &session, Some("Choose a station.".to_owned())).await;
    };
    match enrolments::open(&state, session.officer, &station, batch, detail, None).await {
        Ok(order) => Ok(html(
            &state,
            &CodePage {
                page: Page::new(&state, Some(&session), "enrolments"),
                code: order.code,
                station: station.to_string(),
                batch,
            },
        )),
        Err(RegistryError::Invalid(what)) => {
            listed(
                &state,
                &session,
                Some(format!("Nothing was opened: {what}.")),
            )
            .await
        }
        Err(error) => Err(trouble(&state, &error)),
    }
}

#[derive(Deserialize)]
pub(super) struct CloseForm {
    csrf: String,
}

/// Ends submission under an order.
pub(super) async fn close(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
    Form(form): Form<CloseForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let id = parsed(&state, &id)?;
    match enrolments::close(&state, id, &session.officer.to_string()).await {
        Ok(()) => Ok(Redirect::to("/enrolments").into_response()),
        Err(RegistryError::Unknown) => Err(Trouble::not_found(&state).into_response()),
        Err(error) => Err(trouble(&state, &error)),
    }
}

/// A batch: whom to look at, who is doubtful, and the one approval.
pub(super) async fn batch(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    show_batch(&state, &session, parsed(&state, &id)?, None).await
}

async fn show_batch(
    state: &AppState,
    session: &Session,
    id: EnrolmentId,
    problem: Option<String>,
) -> Result<Response, Response> {
    let found = enrolments::batch(state, id, session.officer).await;
    let found = found.map_err(|error| refused(state, &error))?;
    let detail = enrolments::detail(state, &found.order);
    let detail = detail.map_err(|error| trouble(state, &error))?;
    let view = |row: &EnrolmentRow, doubtful| PendingView {
        unseen: found.unseen.contains(&row.id),
        ..pending_view(state, row, doubtful)
    };
    let failed = problem.is_some();
    let mut response = html(
        state,
        &BatchPage {
            page: Page::new(state, Some(session), "enrolments"),
            problem,
            order: order_view(state, &found.order, &[]).await,
            reason: detail.reason.clone(),
            document: detail.document.clone(),
            certain: found.certain.iter().map(|row| view(row, false)).collect(),
            doubtful: found.doubtful.iter().map(|row| view(row, true)).collect(),
            unseen: found.unseen.len(),
            content: found.content_sha256.clone(),
            own: found.order.opened_by == session.officer,
            fresh: session.fresh(state.clock.now()).is_ok(),
        },
    );
    if failed {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

fn refused(state: &AppState, error: &DecisionError) -> Response {
    match error {
        DecisionError::Unknown => Trouble::not_found(state).into_response(),
        DecisionError::Registry(RegistryError::Changed | RegistryError::NotInLog) => {
            (StatusCode::CONFLICT, format!("{error}\n")).into_response()
        }
        DecisionError::Forbidden(_)
        | DecisionError::NotLooked
        | DecisionError::NoReason
        | DecisionError::NotAlike
        | DecisionError::StillOpen => {
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
        DecisionError::Registry(inner) => trouble(state, inner),
    }
}

/// Nothing was decided, because the officer's presence was proved too long ago.
fn stale(mut page: Response) -> Response {
    *page.status_mut() = StatusCode::FORBIDDEN;
    refusals::marked(page, "not_fresh")
}

#[derive(Deserialize)]
pub(super) struct BatchForm {
    csrf: String,
    content: String,
    #[serde(default)]
    decision: String,
    #[serde(default)]
    reason: String,
}

/// The second officer's decision about a batch.
pub(super) async fn decide_batch(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
    Form(form): Form<BatchForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let id = parsed(&state, &id)?;
    if let Err(error) = session.fresh(state.clock.now()) {
        let page = show_batch(&state, &session, id, Some(error.to_string())).await?;
        return Ok(stale(page));
    }
    let approve = match form.decision.as_str() {
        "approve" => true,
        "reject" => false,
        _ => {
            let problem = Some("Choose a decision.".to_owned());
            return show_batch(&state, &session, id, problem).await;
        }
    };
    let officer = session.officer;
    let done =
        enrolments::decide_batch(&state, id, officer, approve, &form.content, &form.reason).await;
    match done {
        Ok(_) => Ok(Redirect::to("/enrolments").into_response()),
        Err(error) => match said(&error) {
            Some(problem) => show_batch(&state, &session, id, Some(problem)).await,
            None => Err(refused(&state, &error)),
        },
    }
}

/// A sentence for the page, where the officer can do something about it.
fn said(error: &DecisionError) -> Option<String> {
    match error {
        DecisionError::Forbidden(_)
        | DecisionError::NotLooked
        | DecisionError::NoReason
        | DecisionError::NotAlike
        | DecisionError::StillOpen => Some(format!("Nothing was decided: {error}.")),
        DecisionError::Unknown | DecisionError::Registry(_) => None,
    }
}

const fn modality(modality: Modality) -> &'static str {
    match modality {
        Modality::Face => "Face",
        Modality::IrisLeft => "Left iris",
        Modality::IrisRight => "Right iris",
    }
}

/// How good the samples are, in words: numbers would be trusted too much.
fn samples(quality: &[(Modality, f32)]) -> Vec<String> {
    let mut by: BTreeMap<&'static str, Vec<f32>> = BTreeMap::new();
    for (kind, quality) in quality {
        by.entry(modality(*kind)).or_default().push(*quality);
    }
    by.into_iter()
        .map(|(name, values)| {
            let worst = values.iter().copied().fold(f32::INFINITY, f32::min);
            let word = if worst >= 70.0 {
                "good"
            } else if worst >= 40.0 {
                "fair"
            } else {
                "poor: look twice"
            };
            let many = if values.len() == 1 {
                "sample"
            } else {
                "samples"
            };
            format!("{name}: {} {many}, the worst is {word}", values.len())
        })
        .collect()
}

/// One enrolment for the second officer. Opening it is the look that the decision needs.
pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    show(&state, &session, parsed(&state, &id)?, None).await
}

async fn show(
    state: &AppState,
    session: &Session,
    id: EnrolmentId,
    problem: Option<String>,
) -> Result<Response, Response> {
    let found = enrolments::review(state, id, session.officer).await;
    let found = found.map_err(|error| refused(state, &error))?;
    let detail = enrolments::detail(state, &found.order);
    let detail = detail.map_err(|error| trouble(state, &error))?;
    let mut alike = Vec::new();
    for subject in &found.findings.alike {
        let enrolled = state.store.subject(*subject).await;
        let enrolled = enrolled.map_err(|error| trouble(state, &error))?.is_some();
        alike.push(AlikeView {
            id: subject.to_string(),
            name: if enrolled {
                display_name(state, *subject).await
            } else {
                "Somebody who is under review as well".to_owned()
            },
            enrolled,
        });
    }
    let failed = problem.is_some();
    let mut response = html(
        state,
        &EnrolmentPage {
            page: Page::new(state, Some(session), "enrolments"),
            problem,
            id: id.to_string(),
            order: order_view(state, &found.order, &[]).await,
            name: found.content.name.clone(),
            category: found.content.category.code(),
            document: found.content.document.clone(),
            reason: detail.reason.clone(),
            samples: samples(&found.findings.quality),
            offered: found.findings.offered,
            pictures: found
                .pictures
                .iter()
                .map(|at| format!("/enrolments/{id}/pictures/{at}"))
                .collect(),
            alike,
            content: found.row.content_sha256.clone(),
            own: found.order.opened_by == session.officer,
            fresh: session.fresh(state.clock.now()).is_ok(),
        },
    );
    if failed {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

fn jpeg(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response()
}

/// A photograph under review, opened for this officer's browser only.
pub(super) async fn picture(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path((id, at)): Path<(String, usize)>,
) -> Result<Response, Response> {
    let id = parsed(&state, &id)?;
    enrolments::picture(&state, id, at, session.officer)
        .await
        .map(jpeg)
        .map_err(|error| refused(&state, &error))
}

/// The photograph of somebody who may be the same person.
pub(super) async fn candidate(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path((id, subject)): Path<(String, String)>,
) -> Result<Response, Response> {
    let id = parsed(&state, &id)?;
    let subject: SubjectId = parsed(&state, &subject)?;
    enrolments::candidate_picture(&state, id, subject, session.officer)
        .await
        .map(jpeg)
        .map_err(|error| refused(&state, &error))
}

#[derive(Deserialize)]
pub(super) struct DecisionForm {
    csrf: String,
    content: String,
    #[serde(default)]
    decision: String,
    #[serde(default)]
    reason: String,
}

/// The second officer's decision about one enrolment: `approve`, `reject`, or `same:SUBJECT`.
pub(super) async fn decide(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
    Form(form): Form<DecisionForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let id = parsed(&state, &id)?;
    if let Err(error) = session.fresh(state.clock.now()) {
        let page = show(&state, &session, id, Some(error.to_string())).await?;
        return Ok(stale(page));
    }
    let outcome = match form.decision.split_once(':') {
        Some(("same", subject)) => subject.parse().ok().map(Outcome::SamePerson),
        Some(_) => None,
        None => match form.decision.as_str() {
            "approve" => Some(Outcome::Approve),
            "reject" => Some(Outcome::Reject),
            _ => None,
        },
    };
    let Some(outcome) = outcome else {
        let problem = Some("Choose a decision.".to_owned());
        return show(&state, &session, id, problem).await;
    };
    let officer = session.officer;
    match enrolments::decide(&state, id, officer, outcome, &form.content, &form.reason).await {
        Ok(_) => Ok(Redirect::to("/enrolments").into_response()),
        Err(error) => match said(&error) {
            Some(problem) => show(&state, &session, id, Some(problem)).await,
            None => Err(refused(&state, &error)),
        },
    }
}
