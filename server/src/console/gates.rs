//! Gates: how they are, and devices that wait for an officer's approval.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use sallyport_domain::{Act, GateId};
use sallyport_protocol::key_fingerprint;
use serde::Deserialize;

use super::guard::{Officer, check_csrf};
use super::pages::Trouble;
use super::view::{Page, date_and_time, html};
use crate::gates::{self, GateError};
use crate::officers::Session;
use crate::rights;
use crate::state::AppState;

struct GateView {
    id: String,
    direction: String,
    last_seen: String,
    health: String,
}

/// A device that joined. Two groups of its fingerprint are not shown: whoever approves it reads them at the gate.
struct DeviceView {
    gate: String,
    shown: String,
}

#[derive(Template)]
#[template(path = "gates.html")]
struct GatesPage {
    page: Page,
    gates: Vec<GateView>,
    devices: Vec<DeviceView>,
    may_approve: bool,
    fresh: bool,
    problem: Option<String>,
}

/// Digits of a fingerprint that the page shows, with spaces: six groups of four.
const SHOWN: usize = 29;

fn shown(key: &str) -> String {
    key_fingerprint(key).chars().take(SHOWN).collect()
}

async fn gates_page(
    state: &AppState,
    session: &Session,
    problem: Option<String>,
) -> Result<Response, Response> {
    let trouble = |error: &dyn std::error::Error| Trouble::server(state, error).into_response();
    let rows = state.store.gates().await.map_err(|error| trouble(&error))?;
    let waiting = rights::waiting(state)
        .await
        .map_err(|error| trouble(&error))?;
    let gates = rows
        .into_iter()
        .map(|gate| GateView {
            id: gate.id.to_string(),
            direction: gate.direction,
            last_seen: gate
                .last_seen
                .map_or_else(|| "Never".to_owned(), |at| date_and_time(state, at)),
            health: gate
                .health
                .as_deref()
                .map_or_else(|| "Unknown".to_owned(), cameras),
        })
        .collect();
    let devices = waiting
        .into_iter()
        .map(|(gate, key)| DeviceView {
            gate: gate.to_string(),
            shown: shown(&key),
        })
        .collect();
    Ok(html(
        state,
        &GatesPage {
            page: Page::new(state, Some(session), "gates"),
            gates,
            devices,
            may_approve: session.must(Act::ManageGates).is_ok(),
            fresh: session.fresh(state.clock.now()).is_ok(),
            problem,
        },
    ))
}

pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Result<Response, Response> {
    gates_page(&state, &session, None).await
}

#[derive(Deserialize)]
pub(super) struct ApproveForm {
    csrf: String,
    #[serde(default)]
    gate: String,
    #[serde(default)]
    shown: String,
    #[serde(default)]
    rest: String,
}

pub(super) async fn approve(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<ApproveForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    if let Err(error) = session.fresh(state.clock.now()) {
        let mut page = gates_page(&state, &session, Some(error.to_string())).await?;
        *page.status_mut() = StatusCode::FORBIDDEN;
        return Ok(page);
    }
    let done = match form.gate.parse::<GateId>() {
        Ok(gate) => {
            let fingerprint = form.shown + &form.rest;
            gates::approve(&state, &gate, &fingerprint, &session.officer.to_string()).await
        }
        Err(_) => Err(GateError::Unknown),
    };
    match done {
        Ok(()) => Ok(Redirect::to("/gates").into_response()),
        Err(GateError::Unavailable(error)) => Err(Trouble::server(&state, &error).into_response()),
        Err(_) => {
            let problem = "These are not the last two groups of a device that waits. Read them at the gate itself: sallyport-gate status. If they differ there too, another device took the join token: revoke the gate and ask how.";
            let mut page = gates_page(&state, &session, Some(problem.to_owned())).await?;
            *page.status_mut() = StatusCode::BAD_REQUEST;
            Ok(page)
        }
    }
}

/// Camera names with their states, from the stored JSON pairs.
fn cameras(json: &str) -> String {
    let pairs: Vec<(String, String)> = serde_json::from_str(json).unwrap_or_default();
    if pairs.is_empty() {
        return "None reported".to_owned();
    }
    pairs
        .into_iter()
        .map(|(name, state)| format!("{name}: {state}"))
        .collect::<Vec<_>>()
        .join("; ")
}
