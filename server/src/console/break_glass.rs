//! Emergency access: the page at the server's own machine at which the sealed credential is typed, and the list at which supervisors end
//! a use and auditors review it.

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use sallyport_domain::Act;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::guard::{Officer, check_csrf, set_cookie};
use super::local::Here;
use super::pages::{Trouble, parsed};
use super::view::{Page, date_and_time, html, time_of_day};
use crate::break_glass::{self, BreakGlassError, End, Shown};
use crate::officers::{OfficerError, Session};
use crate::refusals;
use crate::state::AppState;

/// Uses on the page.
const SHOWN: usize = 20;

#[derive(Template)]
#[template(path = "break_glass.html")]
struct OpenPage {
    page: Page,
    problem: Option<String>,
    name: String,
    reason: String,
}

pub(super) async fn page(State(state): State<AppState>, _: Here) -> Response {
    let page = OpenPage {
        page: Page::new(&state, None, ""),
        problem: None,
        name: String::new(),
        reason: String::new(),
    };
    html(&state, &page)
}

#[derive(Deserialize)]
pub(super) struct OpenForm {
    credential: Zeroizing<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn open(
    State(state): State<AppState>,
    _: Here,
    Form(form): Form<OpenForm>,
) -> Response {
    let opened = break_glass::open(&state, &form.credential, &form.name, &form.reason).await;
    let error = match opened {
        Ok(token) => {
            let cookie = [(header::SET_COOKIE, set_cookie(&token))];
            return (cookie, Redirect::to("/sign-in")).into_response();
        }
        Err(error) => error,
    };
    let page = OpenPage {
        page: Page::new(&state, None, ""),
        problem: Some(error.to_string()),
        name: form.name,
        reason: form.reason,
    };
    refused(&error, html(&state, &page))
}

/// What was wrong, as status of the page and for the log.
fn refused(error: &BreakGlassError, mut page: Response) -> Response {
    let (status, code) = match error {
        BreakGlassError::Mistyped(_) => (StatusCode::BAD_REQUEST, "mistyped_credential"),
        BreakGlassError::Wrong => (StatusCode::UNAUTHORIZED, "wrong_credential"),
        BreakGlassError::Words | BreakGlassError::Finding => (StatusCode::BAD_REQUEST, "no_reason"),
        BreakGlassError::NotOpen => (StatusCode::CONFLICT, "not_open"),
        BreakGlassError::StillOpen => (StatusCode::CONFLICT, "still_open"),
        BreakGlassError::NothingToReview => (StatusCode::CONFLICT, "nothing_to_review"),
        BreakGlassError::Own => (StatusCode::FORBIDDEN, "own_use"),
        BreakGlassError::Officer(OfficerError::Stale) => (StatusCode::FORBIDDEN, "not_fresh"),
        BreakGlassError::Officer(OfficerError::Role(_)) => (StatusCode::FORBIDDEN, "not_for_role"),
        BreakGlassError::Officer(_) | BreakGlassError::Audit(_) => {
            tracing::error!(%error, "emergency access");
            *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return page;
        }
    };
    *page.status_mut() = status;
    refusals::marked(page, code)
}

struct StepView {
    entry: u64,
    time: String,
    kind: String,
    about: String,
    decision: String,
}

struct ReviewView {
    by: String,
    at: String,
    finding: String,
}

struct UseView {
    entry: u64,
    name: String,
    reason: String,
    opened: String,
    /// While it is open: until when at the latest.
    until: Option<String>,
    ended: String,
    due: String,
    late: bool,
    steps: Vec<StepView>,
    more: bool,
    review: Option<ReviewView>,
}

impl UseView {
    fn new(state: &AppState, shown: Shown) -> Self {
        let used = shown.used;
        Self {
            entry: used.entry,
            name: shown.name,
            reason: shown.reason,
            opened: date_and_time(state, used.at),
            until: used.open_until.map(|at| date_and_time(state, at)),
            ended: used.ended.map_or_else(
                || "By itself, after 60 minutes".to_owned(),
                |at| date_and_time(state, at),
            ),
            due: date_and_time(state, used.due),
            late: used.is_late(state.clock.now()),
            steps: shown
                .steps
                .into_iter()
                .map(|step| StepView {
                    entry: step.entry,
                    time: time_of_day(state, step.at),
                    kind: step.kind,
                    about: step.about,
                    decision: step.decision,
                })
                .collect(),
            more: shown.more,
            review: shown.review.map(|(by, at, finding)| ReviewView {
                by,
                at: date_and_time(state, at),
                finding,
            }),
        }
    }
}

#[derive(Template)]
#[template(path = "break_glass_uses.html")]
struct UsesPage {
    page: Page,
    problem: Option<String>,
    uses: Vec<UseView>,
    ends: bool,
    reviews: bool,
    fresh: bool,
}

fn unavailable(state: &AppState, error: &dyn std::error::Error) -> Response {
    Trouble::server(state, error).into_response()
}

async fn shown(
    state: &AppState,
    session: &Session,
    problem: Option<&BreakGlassError>,
) -> Result<Response, Response> {
    let uses = break_glass::shown(state, session, SHOWN)
        .await
        .map_err(|error| unavailable(state, &error))?;
    let page = UsesPage {
        page: Page::new(state, Some(session), "emergency"),
        problem: problem.map(ToString::to_string),
        uses: uses
            .into_iter()
            .map(|one| UseView::new(state, one))
            .collect(),
        ends: session.role.may(Act::DecideChange),
        reviews: session.role.may(Act::ReviewBreakGlass),
        fresh: session.fresh(state.clock.now()).is_ok(),
    };
    Ok(html(state, &page))
}

/// Names, reasons and acts; the look is logged.
pub(super) async fn uses(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Result<Response, Response> {
    shown(&state, &session, None).await
}

async fn answered(
    state: &AppState,
    session: &Session,
    done: Result<u64, BreakGlassError>,
) -> Result<Response, Response> {
    match done {
        Ok(_) => Ok(Redirect::to("/break-glass/uses").into_response()),
        Err(error) => {
            let page = shown(state, session, Some(&error)).await?;
            Ok(refused(&error, page))
        }
    }
}

#[derive(Deserialize)]
pub(super) struct UseForm {
    csrf: String,
    #[serde(default)]
    finding: String,
}

/// A supervisor ends it. That is the safe direction and asks for no fresh proof.
pub(super) async fn end(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(used): Path<String>,
    Form(form): Form<UseForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let used = parsed(&state, &used)?;
    let by = session.officer.to_string();
    let done = break_glass::end(&state, used, &by, End::Supervisor).await;
    answered(&state, &session, done).await
}

/// An auditor closes its review.
pub(super) async fn review(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(used): Path<String>,
    Form(form): Form<UseForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let used = parsed(&state, &used)?;
    let done = break_glass::review(&state, &session, used, &form.finding).await;
    answered(&state, &session, done).await
}
