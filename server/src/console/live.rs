//! The live page: passages as they happen, by server-sent events that miss nobody.

use std::convert::Infallible;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use sallyport_domain::Act;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::guard::{Officer, current};
use super::pages::Trouble;
use super::view::{Page, RowTemplate, date_and_time, html, is_open, row};
use crate::audit::{self, AuditError};
use crate::officers::Session;
use crate::passages;
use crate::state::{AppState, LiveEvent};
use crate::store::passages::PassageRow;

/// Passages on the page.
const SHOWN: u32 = 40;
/// Passages replayed after a gap; more and the page loads anew.
const REPLAYED: u32 = 200;

#[derive(Template)]
#[template(path = "live.html")]
struct LivePage {
    page: Page,
    rows: Vec<String>,
    releases: Vec<Release>,
    after: u64,
}

/// A release for life safety, ongoing or lately.
struct Release {
    gate: String,
    began: String,
    ended: Option<String>,
    source: &'static str,
    index: u64,
}

fn releases(state: &AppState) -> Vec<Release> {
    let releases = state.releases().into_iter();
    releases
        .map(|row| Release {
            gate: row.gate,
            began: date_and_time(state, row.began_at),
            ended: row.ended_at.map(|at| date_and_time(state, at)),
            source: source_words(&row.source),
            index: row.began_index,
        })
        .collect()
}

/// What frees doors, in words.
pub(super) fn source_words(code: &str) -> &'static str {
    match code {
        "fire_input" => "fire alarm",
        "fire_input_fault" => "fire alarm's line broken",
        "officer" => "officer at the gate",
        "console" => "supervisor through the console",
        _ => "unknown cause",
    }
}

/// The page. Seeing it is the officer's duty at the gate, and one entry of the log says so.
pub(super) async fn page(State(state): State<AppState>, Officer(session): Officer) -> Response {
    if let Err(error) = looked(&state, &session, "live_page").await {
        return Trouble::server(&state, &error).into_response();
    }
    let mut recent = match passages::recent(&state, None, SHOWN).await {
        Ok(recent) => recent,
        Err(error) => return Trouble::server(&state, &error).into_response(),
    };
    let after = recent
        .iter()
        .map(|passage| passage.log_index)
        .max()
        .map_or(0, |index| index + 1);
    // Open referrals first: somebody is waiting at a gate.
    recent.sort_by_key(|passage| !is_open(passage));
    let mut rows = Vec::with_capacity(recent.len());
    for passage in &recent {
        rows.push(rendered(&state, passage).await);
    }
    html(
        &state,
        &LivePage {
            page: Page::new(&state, Some(&session), "live"),
            rows,
            releases: releases(&state),
            after,
        },
    )
}

async fn looked(state: &AppState, session: &Session, what: &str) -> Result<(), AuditError> {
    let mut entry = audit::entry("consultation", state.clock.now())?;
    entry.actor = Some(session.officer.to_string());
    entry.about = Some(what.to_owned());
    entry.reason = Some("gate_duty".to_owned());
    audit::record(state, entry).await.map(drop)
}

async fn rendered(state: &AppState, passage: &PassageRow) -> String {
    RowTemplate {
        row: &row(state, passage).await,
    }
    .render()
    .unwrap_or_default()
}

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u64>,
}

/// Server-sent events. `Last-Event-ID` (or `after` at first) is the next log index that the page has not seen.
pub(super) async fn events(
    State(state): State<AppState>,
    Officer(session): Officer,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> Response {
    // The stream can be opened without the page, and shows the same people.
    if let Err(error) = looked(&state, &session, "live_events").await {
        return Trouble::server(&state, &error).into_response();
    }
    // Listen before reading what happened, so that nothing falls between.
    let receiver = state.live.subscribe();
    let next = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
        .or(query.after)
        .unwrap_or(0);
    let newest = match passages::recent(&state, None, REPLAYED).await {
        Ok(newest) => newest,
        Err(error) => return Trouble::server(&state, &error).into_response(),
    };
    let missed: Vec<_> = newest
        .iter()
        .rev()
        .filter(|passage| passage.log_index >= next)
        .collect();
    let mut replay = Vec::with_capacity(missed.len());
    if missed.len() >= REPLAYED as usize {
        // More happened than is kept at hand: the page must load anew.
        replay.push(Ok(Event::default().event("reload").data(".")));
    }
    for passage in missed {
        replay.push(Ok(event(&state, passage).await));
    }
    let ongoing = ongoing(state, headers, receiver);
    let all = futures_util::StreamExt::chain(stream::iter(replay), ongoing);
    Sse::new(all)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// Only that there is an alarm, for the pages that show no passages: any officer's.
pub(super) async fn alarms(
    State(state): State<AppState>,
    Officer(_): Officer,
    headers: HeaderMap,
) -> Response {
    let receiver = state.live.subscribe();
    // The first says up to which one the page should know.
    let first = stream::iter([alarm(&state)]);
    let ongoing = stream::unfold(
        (state, headers, receiver),
        |(state, headers, mut receiver)| async move {
            loop {
                match receiver.recv().await {
                    Ok(LiveEvent::Passage(_)) => {}
                    Ok(LiveEvent::LogAlarm) | Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return None,
                }
            }
            match current(&headers, &state).await {
                Ok(Some(_)) => Some((alarm(&state), (state, headers, receiver))),
                Ok(None) | Err(_) => None,
            }
        },
    );
    let all = futures_util::StreamExt::chain(first, ongoing);
    Sse::new(all)
        .keep_alive(KeepAlive::default())
        .into_response()
}

fn alarm(state: &AppState) -> Result<Event, Infallible> {
    let number = state.alarms_told().to_string();
    Ok(Event::default().event("alarm").data(number))
}

async fn event(state: &AppState, passage: &PassageRow) -> Event {
    let text = rendered(state, passage).await.replace('\n', "");
    Event::default()
        .event("passage")
        .id((passage.log_index + 1).to_string())
        .data(text)
}

/// New events until the session ends; a listener that fell behind is told to load the page again.
fn ongoing(
    state: AppState,
    headers: HeaderMap,
    receiver: tokio::sync::broadcast::Receiver<LiveEvent>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(
        (state, headers, receiver),
        |(state, headers, mut receiver)| async move {
            loop {
                let received = receiver.recv().await;
                match current(&headers, &state).await {
                    Ok(Some(session))
                        if session.is_whole() && session.role.may(Act::WatchGates) => {}
                    Ok(Some(_) | None) | Err(_) => return None,
                }
                let event = match received {
                    Ok(LiveEvent::Passage(transaction)) => {
                        match passages::get(&state, transaction).await {
                            Ok(Some(passage)) => event(&state, &passage).await,
                            Ok(None) => continue,
                            Err(_) => Event::default().event("reload").data("."),
                        }
                    }
                    Ok(LiveEvent::LogAlarm) | Err(RecvError::Lagged(_)) => {
                        Event::default().event("reload").data(".")
                    }
                    Err(RecvError::Closed) => return None,
                };
                return Some((Ok(event), (state, headers, receiver)));
            }
        },
    )
}
