//! Who may use which route of the console. A route without a line here is refused to everybody.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use sallyport_domain::{Act, Role};

use super::guard::current;
use super::pages::Trouble;
use crate::refusals;
use crate::state::AppState;

/// What a route asks of whoever uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: before signing in.
    Nothing,
    /// Any officer who is signed in.
    Officer,
    /// An officer whose role may do one of these.
    Any(&'static [Act]),
}

impl Need {
    /// Does a signed-in officer of this role meet it?
    #[must_use]
    pub fn met_by(self, role: Role) -> bool {
        match self {
            Self::Nothing | Self::Officer => true,
            Self::Any(acts) => acts.iter().any(|act| role.may(*act)),
        }
    }
}

/// `METHOD path`, and what it asks for. What a handler shows or does beyond that it asks `Session::must` for.
const ROUTES: &[(&str, Need)] = &[
    ("GET /assets/{name}", Need::Nothing),
    ("GET /sign-in", Need::Nothing),
    ("POST /sign-in", Need::Nothing),
    ("GET /setup/{secret}", Need::Nothing),
    ("POST /setup/{secret}", Need::Nothing),
    ("POST /sign-out", Need::Officer),
    ("GET /account", Need::Officer),
    ("GET /", Need::Any(&[Act::WatchGates])),
    ("GET /live/events", Need::Any(&[Act::WatchGates])),
    ("GET /passages/{id}", Need::Any(&[Act::ConsultSubject])),
    ("POST /passages/{id}", Need::Any(&[Act::ConsultSubject])),
    (
        "GET /passages/{id}/picture",
        Need::Any(&[Act::ConsultSubject]),
    ),
    ("GET /passages/{id}/slip", Need::Any(&[Act::WatchGates])),
    (
        "POST /passages/{id}/review",
        Need::Any(&[Act::ReviewPassage]),
    ),
    ("GET /log", Need::Any(&[Act::ReadLog])),
    ("GET /log/alarms", Need::Any(&[Act::ReadLog])),
    (
        "GET /gates",
        Need::Any(&[Act::WatchGates, Act::ManageGates]),
    ),
];

/// What a route asks for, by its method and path; `None` where the table has no line, and then it is closed.
#[must_use]
pub fn need(method: &str, path: &str) -> Option<Need> {
    ROUTES
        .iter()
        .find(|(route, _)| route.split_once(' ') == Some((method, path)))
        .map(|(_, need)| *need)
}

/// Pages of the navigation: path, its words, and its name in [`super::view::Page::current`].
const PAGES: [(&str, &str, &str); 4] = [
    ("/", "Live", "live"),
    ("/log", "Audit log", "log"),
    ("/gates", "Gates", "gates"),
    ("/account", "Account", "account"),
];

/// A link of the navigation.
pub(super) struct Link {
    pub(super) path: &'static str,
    pub(super) words: &'static str,
    pub(super) current: &'static str,
}

/// The pages that this role may open.
pub(super) fn pages(role: Role) -> Vec<Link> {
    PAGES
        .into_iter()
        .filter(|(path, _, _)| need("GET", path).is_some_and(|need| need.met_by(role)))
        .map(|(path, words, current)| Link {
            path,
            words,
            current,
        })
        .collect()
}

/// The page at which this role begins.
pub(super) fn home(role: Role) -> &'static str {
    pages(role).first().map_or("/account", |link| link.path)
}

/// Lets through only whom the table lets through; the handler finds the session among the request's extensions.
pub(super) async fn check(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        // No route: the fallback's page.
        return next.run(request).await;
    };
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    let Some(need) = need(method.as_str(), path.as_str()) else {
        let refused = Trouble::not_for_role(&state, None).into_response();
        return refusals::marked(refused, "closed_route");
    };
    if need == Need::Nothing {
        return next.run(request).await;
    }
    match current(request.headers(), &state).await {
        Ok(Some(session)) if need.met_by(session.role) => {
            request.extensions_mut().insert(session);
            next.run(request).await
        }
        Ok(Some(session)) => {
            let refused = Trouble::not_for_role(&state, Some(&session)).into_response();
            debug_assert_eq!(refused.status(), StatusCode::FORBIDDEN);
            refusals::marked(refused, "not_for_role")
        }
        Ok(None) => refusals::marked(Redirect::to("/sign-in").into_response(), "not_signed_in"),
        Err(trouble) => trouble,
    }
}
