//! Signing in: name and password, then the second factor of the account.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::home;
use super::guard::{current, set_cookie, set_step, step};
use super::pages::{Trouble, refused};
use super::view::{Page, html};
use crate::officers::{self, Credentials, OfficerError, Second, SignedIn};
use crate::state::AppState;
use crate::tls::PeerAddress;

/// Where a request comes from; not known in tests that call the router without a network.
pub(super) type From = Option<Extension<PeerAddress>>;

pub(super) fn address(from: From) -> Option<std::net::IpAddr> {
    from.map(|Extension(PeerAddress(address))| address)
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    page: Page,
    problem: Option<String>,
    /// What the identity provider is called, where there is one.
    provider: Option<String>,
}

/// The sign-in page.
pub(super) fn sign_in_form(state: &AppState, problem: Option<&OfficerError>) -> Response {
    let page = SignInPage {
        page: Page::new(state, None, ""),
        problem: problem.map(ToString::to_string),
        provider: state.config.oidc.as_ref().map(|oidc| oidc.name.clone()),
    };
    let page = html(state, &page);
    match problem {
        Some(error) => refused(error, page),
        None => page,
    }
}

pub(super) async fn sign_in_page(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    if let Some(session) = current(&headers, &state).await? {
        return Ok(Redirect::to(home(&session)).into_response());
    }
    Ok(sign_in_form(&state, None))
}

#[derive(Deserialize)]
pub(super) struct SignInForm {
    name: String,
    password: String,
    #[serde(default)]
    code: String,
}

pub(super) async fn sign_in(
    State(state): State<AppState>,
    from: From,
    headers: HeaderMap,
    Form(form): Form<SignInForm>,
) -> Response {
    let shown = Credentials {
        name: form.name,
        password: form.password,
        code: Some(form.code).filter(|code| !code.trim().is_empty()),
        step: step(&headers),
        address: address(from),
    };
    match officers::sign_in(&state, shown).await {
        Ok(SignedIn::Session(token)) => (
            [(header::SET_COOKIE, set_cookie(&token))],
            Redirect::to("/sign-in"),
        )
            .into_response(),
        Ok(SignedIn::Second(token)) => (
            [(header::SET_COOKIE, set_step(&token))],
            Redirect::to("/sign-in/second"),
        )
            .into_response(),
        Err(error) => sign_in_form(&state, Some(&error)),
    }
}

#[derive(Template)]
#[template(path = "second.html")]
struct SecondPage {
    page: Page,
    second: Second,
    problem: Option<String>,
}

async fn outstanding(
    state: &AppState,
    headers: &HeaderMap,
) -> Result<Option<(String, Second)>, Response> {
    let Some(step) = step(headers) else {
        return Ok(None);
    };
    let second = officers::outstanding_second(state, &step)
        .await
        .map_err(|error| Trouble::server(state, &error).into_response())?;
    Ok(second.map(|second| (step, second)))
}

/// The page that asks for the second factor.
pub(super) async fn second_page(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let Some((_, second)) = outstanding(&state, &headers).await? else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    Ok(html(
        &state,
        &SecondPage {
            page: Page::new(&state, None, ""),
            second,
            problem: None,
        },
    ))
}

#[derive(Deserialize)]
pub(super) struct CodeForm {
    code: String,
}

pub(super) async fn by_code(
    State(state): State<AppState>,
    headers: HeaderMap,
    Form(form): Form<CodeForm>,
) -> Result<Response, Response> {
    let Some((step, second)) = outstanding(&state, &headers).await? else {
        return Ok(Redirect::to("/sign-in").into_response());
    };
    match officers::second_by_code(&state, &step, &form.code).await {
        Ok(token) => Ok((
            [(header::SET_COOKIE, set_cookie(&token))],
            Redirect::to("/sign-in"),
        )
            .into_response()),
        Err(error) => {
            let page = SecondPage {
                page: Page::new(&state, None, ""),
                second,
                problem: Some(error.to_string()),
            };
            Ok(refused(&error, html(&state, &page)))
        }
    }
}

/// What the script sends; each route reads what it needs.
#[derive(Deserialize)]
pub(super) struct KeyMessage {
    #[serde(default)]
    pub(super) csrf: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) label: String,
    #[serde(default)]
    pub(super) answer: Value,
}

/// An error for the script.
pub(super) fn problem(error: &OfficerError) -> Response {
    refused(
        error,
        Json(json!({ "problem": error.to_string() })).into_response(),
    )
}

pub(super) async fn ask_key(
    State(state): State<AppState>,
    from: From,
    headers: HeaderMap,
    Json(message): Json<KeyMessage>,
) -> Response {
    let step = step(&headers);
    match officers::ask_key(&state, step.as_deref(), &message.name, address(from)).await {
        Ok((question, token)) => {
            ([(header::SET_COOKIE, set_step(&token))], Json(question)).into_response()
        }
        Err(error) => problem(&error),
    }
}

pub(super) async fn key_answered(
    State(state): State<AppState>,
    headers: HeaderMap,
    Json(message): Json<KeyMessage>,
) -> Response {
    let Some(step) = step(&headers) else {
        return problem(&OfficerError::Late);
    };
    match officers::key_answered(&state, &step, message.answer).await {
        Ok(Some(token)) => (
            StatusCode::OK,
            [(header::SET_COOKIE, set_cookie(&token))],
            Json(json!({ "next": "/sign-in" })),
        )
            .into_response(),
        Ok(None) => {
            let say =
                "The key is the right one. Now sign in with your password, within five minutes.";
            Json(json!({ "say": say })).into_response()
        }
        Err(error) => problem(&error),
    }
}
