//! Alarms about the audit log with their evidence, and who watches it.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::guard::Officer;
use super::pages::Trouble;
use super::view::{Page, date_and_time, html};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "alarms.html")]
struct AlarmsPage {
    page: Page,
    alarms: Vec<AlarmView>,
    witnesses: Vec<WitnessView>,
}

struct AlarmView {
    what: String,
    by: String,
    at: String,
    kept: String,
    shown: String,
}

struct WitnessView {
    name: String,
    size: u64,
    at: String,
    vkey: String,
}

/// The page. It names no person, so that looking at it needs no reason.
pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Result<Response, Response> {
    let trouble = |error| Trouble::server(&state, &error).into_response();
    let alarms = state.store.alarms().await.map_err(trouble)?;
    let trouble = |error| Trouble::server(&state, &error).into_response();
    let witnesses = state.store.witnesses().await.map_err(trouble)?;
    let text = |note: Option<String>| note.unwrap_or_else(|| "None".to_owned());
    Ok(html(
        &state,
        &AlarmsPage {
            page: Page::new(&state, Some(&session), "log"),
            alarms: alarms
                .into_iter()
                .map(|alarm| AlarmView {
                    what: alarm.what,
                    by: alarm.raised_by,
                    at: date_and_time(&state, alarm.at),
                    kept: text(alarm.kept),
                    shown: text(alarm.shown),
                })
                .collect(),
            witnesses: witnesses
                .into_iter()
                .map(|witness| WitnessView {
                    name: witness.name,
                    size: witness.size,
                    at: date_and_time(&state, witness.seen_at),
                    vkey: witness.vkey,
                })
                .collect(),
        },
    ))
}
