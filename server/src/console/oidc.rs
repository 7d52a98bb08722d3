//! The console's side of signing in at the identity provider.
//!
//! The browser leaves by a page that goes on by itself, not by the answer to a form: our policy lets forms go to this server only, and
//! stays as strict as it is. It comes back by a navigation from elsewhere, which carries no `Strict` cookie; so the answer is bound to the
//! browser by a cookie of its own, and a page of ours leads on from there, with which all cookies come along again.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Form, extract::rejection::QueryRejection};
use serde::Deserialize;

use super::account::shown;
use super::guard::{
    Officer, check_csrf, clear_provider_step, provider_step, set_cookie, set_provider_step,
    set_step,
};
use super::pages::Trouble;
use super::second::{From, address, sign_in_form};
use super::view::{Page, html};
use crate::officers::{self, Answer, Arrived, Departure, OfficerError, SignedIn};
use crate::refusals;
use crate::state::AppState;

/// Adds the routes.
pub(super) fn routes(router: Router<AppState>) -> Router<AppState> {
    router
        .route("/sign-in/oidc", post(begin))
        .route("/sign-in/oidc/callback", get(callback))
        .route("/account/confirm/oidc", post(confirm))
}

/// A page that leads on by itself.
#[derive(Template)]
#[template(path = "hop.html")]
struct HopPage {
    page: Page,
    heading: &'static str,
    what: &'static str,
    to: String,
}

fn leave(state: &AppState, departure: Departure) -> Response {
    let page = HopPage {
        page: Page::new(state, None, ""),
        heading: "To the identity provider",
        what: "This page goes on by itself.",
        to: departure.url,
    };
    let cookie = set_provider_step(&departure.step);
    ([(header::SET_COOKIE, cookie)], html(state, &page)).into_response()
}

/// Begins a sign-in.
async fn begin(State(state): State<AppState>, from: From) -> Response {
    match officers::begin(&state, address(from)).await {
        Ok(departure) => leave(&state, departure),
        Err(error) => sign_in_form(&state, Some(&error)),
    }
}

#[derive(Deserialize)]
struct ConfirmForm {
    csrf: String,
    #[serde(default)]
    code: String,
}

/// Begins a proof of presence.
async fn confirm(
    State(state): State<AppState>,
    from: From,
    Officer(session): Officer,
    Form(form): Form<ConfirmForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    match officers::begin_again(&state, &session, &form.code, address(from)).await {
        Ok(departure) => Ok(leave(&state, departure)),
        Err(error) => shown(&state, &session, Some(&error))
            .await
            .map_err(|error| Trouble::server(&state, &error).into_response()),
    }
}

/// The provider sends the browser back.
async fn callback(
    State(state): State<AppState>,
    headers: HeaderMap,
    answer: Result<Query<Answer>, QueryRejection>,
) -> Response {
    // Something that cannot be read is an answer too, and the question ends with it.
    let answer = answer.map(|Query(answer)| answer).unwrap_or_default();
    let step = provider_step(&headers);
    let arrived = officers::arrived(&state, step.as_deref(), answer).await;
    let (to, cookie) = match arrived {
        Ok(Arrived::SignedIn(SignedIn::Session(token))) => ("/sign-in", Some(set_cookie(&token))),
        Ok(Arrived::SignedIn(SignedIn::Second(token))) => {
            ("/sign-in/second", Some(set_step(&token)))
        }
        Ok(Arrived::Again) => ("/account", None),
        Err(error) => {
            let page = sign_in_form(&state, Some(&error));
            let page = ([(header::SET_COOKIE, clear_provider_step())], page).into_response();
            return if matches!(error, OfficerError::Late) {
                refusals::marked(page, "oidc_not_asked")
            } else {
                page
            };
        }
    };
    let page = HopPage {
        page: Page::new(&state, None, ""),
        heading: "The identity provider knows you",
        what: "This page goes on by itself.",
        to: to.to_owned(),
    };
    let cookies = cookie
        .into_iter()
        .chain([clear_provider_step()])
        .map(|cookie| (header::SET_COOKIE, cookie));
    (
        AppendHeaders(cookies.collect::<Vec<_>>()),
        html(&state, &page),
    )
        .into_response()
}
