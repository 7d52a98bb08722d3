//! Doors freed for life safety by a supervisor, and the end of that.

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use sallyport_domain::GateId;
use sallyport_protocol::ReleaseAction;
use serde::Deserialize;

use super::guard::{Officer, check_csrf};
use super::live::source_words;
use super::pages::Trouble;
use super::view::{Page, html, time_of_day};
use crate::officers::{OfficerError, Session};
use crate::refusals;
use crate::release_orders::{self, Given, ReleaseError};
use crate::state::AppState;
use crate::store::StoreError;
use crate::store::gate_events::ReleaseRow;

struct GateView {
    id: String,
    direction: String,
    /// What frees the doors now, and since when.
    free: Option<(&'static str, String)>,
    /// What became of the newest order, while that matters.
    order: Option<String>,
    /// The order was not obeyed.
    failed: bool,
}

#[derive(Template)]
#[template(path = "release.html")]
struct ReleasePage {
    page: Page,
    problem: Option<String>,
    fresh: bool,
    gates: Vec<GateView>,
}

/// The gate's own word about the newest order, or that there is none.
fn outcome(state: &AppState, given: &Given, free: Option<&ReleaseRow>) -> Option<(String, bool)> {
    let done = match given.action {
        ReleaseAction::Free => free.is_some(),
        ReleaseAction::End => free.is_none(),
    };
    if done {
        return None;
    }
    let at = time_of_day(state, given.at);
    let still_free = given.action == ReleaseAction::End;
    Some(if release_orders::is_alive(given, state.clock.now()) {
        let what = if still_free {
            "The end was"
        } else {
            "A release was"
        };
        (
            format!(
                "{what} ordered at {at}; the gate has not confirmed it yet. Look again in a moment."
            ),
            false,
        )
    } else if still_free {
        (
            format!(
                "The end was ordered at {at}, and the doors are still free: the fire alarm or an officer at the gate keeps them so, or the gate did not get the order."
            ),
            true,
        )
    } else {
        (
            format!(
                "The release ordered at {at} was NOT confirmed by the gate and is void now. Send somebody to its emergency release, or order it again."
            ),
            true,
        )
    })
}

async fn shown(
    state: &AppState,
    session: &Session,
    problem: Option<&ReleaseError>,
) -> Result<Response, StoreError> {
    let given = state.release_orders.given();
    let releases = state.releases();
    let gates = state.store.gates().await?.into_iter().map(|gate| {
        let free = releases
            .iter()
            .find(|row| row.ended_at.is_none() && row.gate == gate.id.as_str());
        let order = given
            .get(&gate.id)
            .and_then(|given| outcome(state, given, free));
        GateView {
            id: gate.id.to_string(),
            direction: gate.direction,
            free: free.map(|row| (source_words(&row.source), time_of_day(state, row.began_at))),
            failed: order.as_ref().is_some_and(|(_, failed)| *failed),
            order: order.map(|(words, _)| words),
        }
    });
    let page = ReleasePage {
        page: Page::new(state, Some(session), "release"),
        problem: problem.map(ToString::to_string),
        fresh: session.fresh(state.clock.now()).is_ok(),
        gates: gates.collect(),
    };
    Ok(html(state, &page))
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
pub(super) struct OrderForm {
    csrf: String,
    action: ReleaseAction,
    #[serde(default)]
    reason: String,
}

pub(super) async fn order(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(gate): Path<String>,
    Form(form): Form<OrderForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let ordered = match gate.parse::<GateId>() {
        Ok(gate) => release_orders::order(&state, &session, &gate, form.action, &form.reason).await,
        Err(_) => Err(ReleaseError::Unknown),
    };
    let Err(error) = ordered else {
        return Ok(Redirect::to("/release").into_response());
    };
    let mut page = shown(&state, &session, Some(&error))
        .await
        .map_err(|error| Trouble::server(&state, &error).into_response())?;
    let (status, code) = match &error {
        ReleaseError::Reason => (StatusCode::BAD_REQUEST, "no_reason"),
        ReleaseError::Unknown => (StatusCode::NOT_FOUND, "no_gate"),
        ReleaseError::Officer(OfficerError::Stale) => (StatusCode::FORBIDDEN, "not_fresh"),
        ReleaseError::Officer(OfficerError::Role(_)) => (StatusCode::FORBIDDEN, "not_for_role"),
        // It is in the log already.
        ReleaseError::Silent(_) => {
            *page.status_mut() = StatusCode::CONFLICT;
            return Ok(page);
        }
        ReleaseError::Officer(_) | ReleaseError::Unlogged(_) | ReleaseError::Failed(_) => {
            tracing::error!(%error, "an order to free doors");
            *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Ok(page);
        }
    };
    *page.status_mut() = status;
    Ok(refusals::marked(page, code))
}
