//! The officer's own account: proof of presence, password, hardware keys, one-time codes.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Form, Json};
use sallyport_domain::Act;
use serde::Deserialize;
use serde_json::json;

use super::guard::{Officer, check_csrf};
use super::pages::{Trouble, refused};
use super::second::{From, KeyMessage, address, problem};
use super::slip;
use super::view::{Page, date_and_time, html};
use crate::officers::{self, OfficerError, Proof, Session};
use crate::state::AppState;

struct KeyView {
    id: String,
    label: String,
    added: String,
    used: String,
}

/// New one-time codes that wait for their confirmation.
struct CodesView {
    base32: String,
    modules: String,
    width: usize,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    page: Page,
    name: String,
    acts: Vec<&'static str>,
    problem: Option<String>,
    /// Was the officer's presence proved in the last five minutes?
    fresh: bool,
    /// Has the session what its role needs?
    whole: bool,
    needs_key: bool,
    keys: Vec<KeyView>,
    codes: bool,
    new_codes: Option<CodesView>,
    shortest: u8,
    /// Does the account sign in at the identity provider?
    bound: bool,
    /// What the provider is called.
    provider: String,
}

pub(super) async fn shown(
    state: &AppState,
    session: &Session,
    problem: Option<&OfficerError>,
) -> Result<Response, OfficerError> {
    let has = officers::factors(state, session.officer).await?;
    let new_codes = match officers::waiting_codes(state, session).await? {
        Some(new) => {
            let (modules, width) = slip::matrix(&new.uri).map_err(|_| OfficerError::Internal)?;
            Some(CodesView {
                base32: new.base32,
                modules,
                width,
            })
        }
        None => None,
    };
    let page = AccountPage {
        page: Page::new(state, Some(session), "account"),
        name: session.name.clone(),
        acts: Act::ALL
            .into_iter()
            .filter(|act| session.role.may(*act))
            .map(words)
            .collect(),
        problem: problem.map(ToString::to_string),
        fresh: session.fresh(state.clock.now()).is_ok(),
        whole: session.is_whole(),
        needs_key: session.role.needs_hardware_key(),
        shortest: if has.is_empty() { 15 } else { 8 },
        keys: has
            .keys
            .into_iter()
            .map(|key| KeyView {
                id: key.id,
                label: key.label,
                added: date_and_time(state, key.created_at),
                used: key
                    .used_at
                    .map_or_else(|| "Never".to_owned(), |at| date_and_time(state, at)),
            })
            .collect(),
        codes: has.codes,
        new_codes,
        bound: officers::is_bound(state, session.officer).await?,
        provider: state.config.oidc.as_ref().map_or_else(
            || "the identity provider".to_owned(),
            |oidc| oidc.name.clone(),
        ),
    };
    let page = html(state, &page);
    Ok(match problem {
        Some(error) => refused(error, page),
        None => page,
    })
}

async fn answered(
    state: &AppState,
    session: &Session,
    done: Result<(), OfficerError>,
) -> Result<Response, Response> {
    let trouble = |error: OfficerError| Trouble::server(state, &error).into_response();
    match done {
        Ok(()) => Ok(Redirect::to("/account").into_response()),
        Err(error) => shown(state, session, Some(&error)).await.map_err(trouble),
    }
}

/// The page. It shows nobody else, so that looking at it is no entry.
pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Result<Response, Response> {
    shown(&state, &session, None)
        .await
        .map_err(|error| Trouble::server(&state, &error).into_response())
}

#[derive(Deserialize)]
pub(super) struct AccountForm {
    csrf: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    again: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    key: String,
}

/// Proves anew to be there, by password.
pub(super) async fn confirm(
    State(state): State<AppState>,
    from: From,
    Officer(session): Officer,
    Form(form): Form<AccountForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let proof = Proof::Password(form.password, form.code);
    let done = officers::confirm(&state, &session, proof, address(from)).await;
    answered(&state, &session, done).await
}

pub(super) async fn password(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<AccountForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let done = if form.password == form.again {
        officers::change_password(&state, &session, form.password).await
    } else {
        Err(OfficerError::Differ)
    };
    answered(&state, &session, done).await
}

pub(super) async fn remove_key(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<AccountForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let done = officers::remove_key(&state, &session, &form.key).await;
    answered(&state, &session, done).await
}

pub(super) async fn new_codes(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<AccountForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let done = officers::new_codes(&state, &session).await;
    answered(&state, &session, done).await
}

pub(super) async fn confirm_codes(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<AccountForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let done = officers::confirm_codes(&state, &session, &form.code).await;
    answered(&state, &session, done).await
}

/// The question to a hardware key that shall be added.
pub(super) async fn ask_new_key(
    State(state): State<AppState>,
    Officer(session): Officer,
    Json(message): Json<KeyMessage>,
) -> Result<Response, Response> {
    check_csrf(&session, &message.csrf)?;
    match officers::new_key(&state, &session).await {
        Ok(question) => Ok(Json(question).into_response()),
        Err(error) => Err(problem(&error)),
    }
}

pub(super) async fn add_key(
    State(state): State<AppState>,
    Officer(session): Officer,
    Json(message): Json<KeyMessage>,
) -> Result<Response, Response> {
    check_csrf(&session, &message.csrf)?;
    let done = officers::add_key(&state, &session, &message.label, message.answer).await;
    next(done)
}

/// The question to a hardware key of this account.
pub(super) async fn ask_again(
    State(state): State<AppState>,
    Officer(session): Officer,
    Json(message): Json<KeyMessage>,
) -> Result<Response, Response> {
    check_csrf(&session, &message.csrf)?;
    match officers::ask_again(&state, &session).await {
        Ok(question) => Ok(Json(question).into_response()),
        Err(error) => Err(problem(&error)),
    }
}

pub(super) async fn confirm_by_key(
    State(state): State<AppState>,
    from: From,
    Officer(session): Officer,
    Json(message): Json<KeyMessage>,
) -> Result<Response, Response> {
    check_csrf(&session, &message.csrf)?;
    let proof = Proof::Key(message.answer);
    next(officers::confirm(&state, &session, proof, address(from)).await)
}

fn next(done: Result<(), OfficerError>) -> Result<Response, Response> {
    match done {
        Ok(()) => Ok((StatusCode::OK, Json(json!({ "next": "/account" }))).into_response()),
        Err(error) => Err(problem(&error)),
    }
}

/// An act as officers call it.
const fn words(act: Act) -> &'static str {
    match act {
        Act::WatchGates => "See what happens at the gates now",
        Act::ReviewPassage => "Decide about a passage that was referred or refused",
        Act::ConsultSubject => "Look at a person's record, with a reason",
        Act::ProposeEnrolment => "Propose an enrolment",
        Act::DecideEnrolment => "Decide about an enrolment that somebody else proposed",
        Act::ProposeChange => "Propose a change of a person's status, a merge, a removal or a hold",
        Act::DecideChange => "Decide about such a proposal of somebody else",
        Act::ReadLog => "Read the audit log and its alarms",
        Act::Export => "Export the log, evidence and reports",
        Act::ManageGates => "Add gates, approve and revoke devices",
        Act::ManageOfficers => "Make, change and end officers' accounts",
        Act::Configure => "Change profile, policies and settings",
        Act::ManageKeys => "Rotate keys, make and restore backups",
        Act::ReleaseDoors => "Free a gate's doors for life safety, and end that",
        Act::ReviewBreakGlass => "Close the review of an emergency use",
    }
}
