//! What was refused, in the log: a request without a right certificate or session, a form from elsewhere, a message that is not as the
//! protocol says. The first of a kind is an entry at once; more of the same kind within a minute are counted and become one entry, so
//! that somebody who is refused again and again cannot fill the log.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use sallyport_domain::Timestamp;
use sallyport_transparency::Entry;

use crate::audit::{self, AuditError};
use crate::state::AppState;
use crate::tls::PeerCertificate;

/// Refusals of one kind are counted for this long.
const WINDOW_MS: i64 = 60_000;
/// Kinds at once; beyond it everything further counts as one kind.
const KINDS: usize = 1_024;

/// Put on a response by whoever refuses: a stable code.
#[derive(Debug, Clone)]
pub(crate) struct RefusedAs(pub(crate) Cow<'static, str>);

/// Marks a response as a refusal.
pub(crate) fn marked(mut response: Response, code: impl Into<Cow<'static, str>>) -> Response {
    response.extensions_mut().insert(RefusedAs(code.into()));
    response
}

/// Who was refused what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    gate: Option<String>,
    actor: Option<String>,
    route: String,
    code: String,
}

/// Refusals that are being counted.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Kind, (Timestamp, u64)>>);

impl Refusals {
    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Kind, (Timestamp, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is this the first of its kind? Otherwise it was counted.
    fn is_first(&self, kind: &mut Kind, now: Timestamp) -> bool {
        let mut open = self.locked();
        if open.len() >= KINDS && !open.contains_key(kind) {
            *kind = Kind {
                gate: None,
                actor: None,
                route: "any".to_owned(),
                code: "many_kinds".to_owned(),
            };
        }
        match open.get_mut(kind) {
            Some((_, more)) => {
                *more += 1;
                false
            }
            None => {
                open.insert(kind.clone(), (now, 0));
                true
            }
        }
    }

    /// Kinds whose minute is over, with how many more there were.
    fn ended(&self, now: Timestamp) -> Vec<(Kind, u64)> {
        let mut ended = Vec::new();
        self.locked().retain(|kind, (since, more)| {
            let open = (0..WINDOW_MS).contains(&now.millis_since(*since));
            if !open && *more > 0 {
                ended.push((kind.clone(), *more));
            }
            open
        });
        ended
    }
}

fn entry(kind: &Kind, about: String, now: Timestamp) -> Result<Entry, AuditError> {
    Ok(Entry {
        gate: kind.gate.clone(),
        actor: kind.actor.clone(),
        about: Some(about),
        decision: Some("refuse".to_owned()),
        reason: Some(kind.code.clone()),
        ..audit::entry("refused", now)?
    })
}

/// Notes a refusal. It stands even when the log cannot take it; then the operator's log says so.
async fn note(state: &AppState, mut kind: Kind) {
    let now = state.clock.now();
    if !state.refusals.is_first(&mut kind, now) {
        return;
    }
    let logged = async {
        let entry = entry(&kind, kind.route.clone(), now)?;
        audit::record(state, entry).await
    };
    if let Err(error) = logged.await {
        tracing::error!(error = %error, refused = kind.code, "a refusal could not be written to the log");
    }
}

/// Writes the counts of refusals whose minute is over; called every second.
///
/// # Errors
/// The log refuses.
pub async fn flush(state: &AppState) -> Result<(), AuditError> {
    let now = state.clock.now();
    for (kind, more) in state.refusals.ended(now) {
        let about = format!("{} ({more} more within a minute)", kind.route);
        audit::record(state, entry(&kind, about, now)?).await?;
    }
    Ok(())
}

fn route(request: &Request) -> Option<String> {
    let matched = request.extensions().get::<MatchedPath>()?;
    Some(format!("{} {}", request.method(), matched.as_str()))
}

fn code(response: &Response) -> Option<String> {
    let refused = response.extensions().get::<RefusedAs>();
    let status = response.status();
    match refused {
        Some(RefusedAs(code)) => Some(code.clone().into_owned()),
        // A wrong password is an entry of its own, and a page that is not there is no refusal.
        None if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) => None,
        None if status.is_client_error() => Some(format!("status_{}", status.as_u16())),
        None => None,
    }
}

/// For the gates' routes.
pub(crate) async fn of_gates(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let route = route(&request);
    let peer = request.extensions().get::<PeerCertificate>().cloned();
    let response = next.run(request).await;
    if let (Some(route), Some(code)) = (route, code(&response)) {
        // The name in a certificate of ours, also when its key is not allowed any more.
        let gate = peer
            .and_then(|peer| peer.0)
            .and_then(|certificate| state.authority.peer(&certificate))
            .map(|(_, gate)| gate.to_string());
        let kind = Kind {
            gate,
            actor: None,
            route,
            code,
        };
        note(&state, kind).await;
    }
    response
}

/// An attempt to sign in that was not even looked at.
pub(crate) async fn of_attempt(state: &AppState, actor: Option<String>, code: &str) {
    let kind = Kind {
        gate: None,
        actor,
        route: "POST /sign-in".to_owned(),
        code: code.to_owned(),
    };
    note(state, kind).await;
}

/// An attempt to sign in at the identity provider that did not get there.
#[cfg(feature = "oidc")]
pub(crate) async fn of_provider(state: &AppState, actor: Option<String>, code: &str) {
    let kind = Kind {
        gate: None,
        actor,
        route: "POST /sign-in/oidc".to_owned(),
        code: code.to_owned(),
    };
    note(state, kind).await;
}

/// For the console's routes; `officer` finds who is signed in.
pub(crate) async fn of_console(state: &AppState, request: Request, next: Next) -> Response {
    let route = route(&request);
    let headers = request.headers().clone();
    let response = next.run(request).await;
    if let (Some(route), Some(code)) = (route, code(&response)) {
        let session = crate::console::current(&headers, state).await;
        let actor = session
            .ok()
            .flatten()
            .map(|session| session.officer.to_string());
        let kind = Kind {
            gate: None,
            actor,
            route,
            code,
        };
        note(state, kind).await;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart_for_a_minute_and_never_grow_without_end() {
        let refusals = Refusals::default();
        let kind = |number: usize| Kind {
            gate: None,
            actor: None,
            route: format!("POST /{number}"),
            code: "bad".to_owned(),
        };
        let at = |ms: i64| Timestamp::from_micros(1_000_000).plus_millis(ms);
        assert!(refusals.is_first(&mut kind(1), at(0)));
        assert!(refusals.is_first(&mut kind(2), at(0)));
        for _ in 0..5 {
            assert!(!refusals.is_first(&mut kind(1), at(10)));
        }
        assert_eq!(refusals.ended(at(WINDOW_MS - 1)), []);
        assert_eq!(refusals.ended(at(WINDOW_MS)), [(kind(1), 5)]);
        assert!(refusals.is_first(&mut kind(1), at(WINDOW_MS)));
        // A clock that stepped back does not keep a window open for ever.
        assert_eq!(refusals.ended(at(0)), []);
        let first = (0..10 * KINDS)
            .filter(|number| refusals.is_first(&mut kind(*number), at(0)))
            .count();
        assert_eq!(first, KINDS + 1);
        assert!(refusals.locked().len() <= KINDS + 1);
    }
}
