//! How many records officers opened lately, for supervisors, who may raise a quota.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::guard::{Officer, check_csrf};
use super::pages::Trouble;
use super::reason;
use super::view::{Page, date_and_time, html};
use crate::audit;
use crate::consultations::{self, ConsultError};
use crate::officers::Session;
use crate::state::AppState;

struct UseView {
    officer: String,
    name: String,
    hour: u64,
    day: u64,
    raised: Option<String>,
    own: bool,
}

#[derive(Template)]
#[template(path = "consultations.html")]
struct UsesPage {
    page: Page,
    problem: Option<String>,
    per_hour: u32,
    per_day: u32,
    fresh: bool,
    uses: Vec<UseView>,
}

async fn shown(
    state: &AppState,
    session: &Session,
    problem: Option<&ConsultError>,
) -> Result<Response, ConsultError> {
    // What colleagues looked at is personal too.
    let mut entry = audit::entry("consultation", state.clock.now())?;
    entry.actor = Some(session.officer.to_string());
    entry.about = Some("consultations".to_owned());
    audit::record(state, entry).await?;
    let uses = consultations::uses(state).await?;
    let page = UsesPage {
        page: Page::new(state, Some(session), "consultations"),
        problem: problem.map(ToString::to_string),
        per_hour: state.config.officers.consultations_per_hour,
        per_day: state.config.officers.consultations_per_day,
        fresh: session.fresh(state.clock.now()).is_ok(),
        uses: uses
            .into_iter()
            .map(|used| UseView {
                officer: used.officer.to_string(),
                name: used.name,
                hour: used.hour,
                day: used.day,
                raised: used.raised_until.map(|at| date_and_time(state, at)),
                own: used.officer == session.officer,
            })
            .collect(),
    };
    let page = html(state, &page);
    Ok(match problem {
        Some(error) => reason::refused(error, page),
        None => page,
    })
}

pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Result<Response, Response> {
    shown(&state, &session, None)
        .await
        .map_err(|error| Trouble::server(&state, &error).into_response())
}

#[derive(Deserialize)]
pub(super) struct RaiseForm {
    csrf: String,
    #[serde(default)]
    officer: String,
}

pub(super) async fn raise(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<RaiseForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let Ok(officer) = form.officer.parse() else {
        return Err(Trouble::not_found(&state).into_response());
    };
    match consultations::raise_quota(&state, &session, officer).await {
        Ok(()) => Ok(Redirect::to("/consultations").into_response()),
        Err(error) => shown(&state, &session, Some(&error))
            .await
            .map_err(|error| Trouble::server(&state, &error).into_response()),
    }
}
