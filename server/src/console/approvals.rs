//! What waits for a second person. Supervisors decide here about what was asked for at the server or proposed in the console.

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use sallyport_domain::SubjectId;
use serde::Deserialize;

use super::guard::{Officer, check_csrf};
use super::pages::{Trouble, parsed};
use super::view::{Page, date_and_time, display_name, html};
use crate::approvals::{self, ApprovalError, Decided, Waiting};
use crate::consultations;
use crate::officers::{self, OfficerError, Session};
use crate::proposals::ProposalError;
use crate::refusals;
use crate::registry::RegistryError;
use crate::state::AppState;

struct RequestView {
    request: u64,
    kind: &'static str,
    asked: String,
    until: String,
    by: String,
    own: bool,
}

impl RequestView {
    async fn new(state: &AppState, waiting: &Waiting) -> Self {
        Self {
            request: waiting.request,
            kind: waiting.kind.words(),
            asked: date_and_time(state, waiting.at),
            until: date_and_time(state, waiting.at.plus_millis(approvals::ASKED_MS)),
            by: by_words(state, &waiting.by).await,
            own: waiting.own,
        }
    }
}

/// Who asked, as colleagues know the officer.
async fn by_words(state: &AppState, by: &str) -> String {
    if by == "server-console" {
        return "somebody at the server itself".to_owned();
    }
    let name = match by.parse() {
        Ok(officer) => officers::name(state, officer).await,
        Err(_) => Ok(None),
    };
    match name {
        Ok(Some(name)) => name,
        Ok(None) | Err(_) => by.to_owned(),
    }
}

#[derive(Template)]
#[template(path = "approvals.html")]
struct ListPage {
    page: Page,
    requests: Vec<RequestView>,
    /// The entry of what was done just now.
    done: Option<u64>,
}

#[derive(Template)]
#[template(path = "approval.html")]
struct RequestPage {
    page: Page,
    request: RequestView,
    subject: Option<String>,
    what: String,
    reason: String,
    content: String,
    fresh: bool,
    /// Name and status of the person, where the officer may see them.
    person: Option<String>,
    /// Is it done when it is approved?
    does: bool,
    /// Does it hold already?
    holds: bool,
    problem: Option<String>,
}

fn unavailable(state: &AppState, error: &dyn std::error::Error) -> Response {
    Trouble::server(state, error).into_response()
}

pub(super) async fn list(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Result<Response, Response> {
    listed(&state, &session, None).await
}

async fn listed(
    state: &AppState,
    session: &Session,
    done: Option<u64>,
) -> Result<Response, Response> {
    let waiting = approvals::waiting(state, session.officer)
        .await
        .map_err(|error| unavailable(state, &error))?;
    let mut requests = Vec::with_capacity(waiting.len());
    for one in &waiting {
        requests.push(RequestView::new(state, one).await);
    }
    let page = ListPage {
        page: Page::new(state, Some(session), "approvals"),
        requests,
        done,
    };
    Ok(html(state, &page))
}

/// Who it is about, for whoever decides; the look is in the log already. Of another wing's people only the pseudonym is shown.
async fn person(state: &AppState, session: &Session, subject: SubjectId) -> Option<String> {
    let outside = consultations::is_outside(state, session.officer, &[subject]).await;
    match outside {
        Ok(false) => Some(display_name(state, subject).await),
        Ok(true) | Err(_) => None,
    }
}

async fn shown(
    state: &AppState,
    session: &Session,
    request: u64,
    problem: Option<String>,
) -> Result<Response, Response> {
    match approvals::look(state, session, request).await {
        Ok(shown) => {
            let person = match shown.waiting.subject {
                Some(subject) => person(state, session, subject).await,
                None => None,
            };
            Ok(html(
                state,
                &RequestPage {
                    page: Page::new(state, Some(session), "approvals"),
                    request: RequestView::new(state, &shown.waiting).await,
                    subject: shown.waiting.subject.map(|id| id.to_string()),
                    what: shown.what,
                    reason: shown.reason,
                    content: shown.waiting.content,
                    fresh: session.fresh(state.clock.now()).is_ok(),
                    person,
                    does: shown.does,
                    holds: shown.holds,
                    problem,
                },
            ))
        }
        Err(ApprovalError::Unknown) => Err(Trouble::not_found(state).into_response()),
        Err(error) => Err(unavailable(state, &error)),
    }
}

pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(request): Path<String>,
) -> Result<Response, Response> {
    shown(&state, &session, parsed(&state, &request)?, None).await
}

#[derive(Deserialize)]
pub(super) struct DecisionForm {
    csrf: String,
    content: String,
    decision: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn decide(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(request): Path<String>,
    Form(form): Form<DecisionForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let request = parsed(&state, &request)?;
    // Anything else than these words is no approval.
    let approve = match form.decision.as_str() {
        "approve" => true,
        "decline" => false,
        _ => return Err(Trouble::not_found(&state).into_response()),
    };
    let decided = approvals::decide(
        &state,
        &session,
        request,
        &form.content,
        approve,
        &form.reason,
    )
    .await;
    let error = match decided {
        Ok(Decided { done: None, .. }) => return Ok(Redirect::to("/approvals").into_response()),
        Ok(Decided { done, .. }) => return listed(&state, &session, done).await,
        Err(error) => error,
    };
    let (status, code) = match &error {
        ApprovalError::Words | ApprovalError::NoReason => (StatusCode::BAD_REQUEST, "no_reason"),
        ApprovalError::Changed => (StatusCode::CONFLICT, "changed"),
        ApprovalError::Own => (StatusCode::FORBIDDEN, "own_request"),
        ApprovalError::NotDone(why) => match **why {
            ProposalError::Changed
            | ProposalError::Merge(_)
            | ProposalError::Retention(_)
            | ProposalError::Registry(
                RegistryError::Held
                | RegistryError::Unknown
                | RegistryError::Merged(_)
                | RegistryError::NotInLog,
            ) => (StatusCode::CONFLICT, "not_done"),
            ProposalError::Unclear
            | ProposalError::NoWords
            | ProposalError::NotOpen
            | ProposalError::OtherNotOpen
            | ProposalError::Same
            | ProposalError::NobodyDecides
            | ProposalError::Declined(_)
            | ProposalError::Officer(_)
            | ProposalError::Approval(_)
            | ProposalError::Consult(_)
            | ProposalError::Record(_)
            | ProposalError::Registry(_) => return Err(unavailable(&state, &error)),
        },
        ApprovalError::Officer(OfficerError::Stale) => (StatusCode::FORBIDDEN, "not_fresh"),
        ApprovalError::Officer(OfficerError::Role(_)) => (StatusCode::FORBIDDEN, "not_for_role"),
        ApprovalError::Unknown => {
            let refused = Trouble::not_found(&state).into_response();
            return Err(refusals::marked(refused, "no_request"));
        }
        ApprovalError::NoPerson | ApprovalError::Officer(_) | ApprovalError::Audit(_) => {
            return Err(unavailable(&state, &error));
        }
    };
    let mut page = shown(&state, &session, request, Some(error.to_string())).await?;
    *page.status_mut() = status;
    Ok(refusals::marked(page, code))
}
