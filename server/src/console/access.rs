//! Who may use which route of the console. A route without a line here is refused to everybody.

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use sallyport_domain::{Act, Role};

use super::guard::current;
use super::local;
use super::pages::Trouble;
use crate::officers::Session;
use crate::refusals;
use crate::state::AppState;

/// What a route asks of whoever uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: before signing in.
    Nothing,
    /// Whoever is signed in, also with the sealed emergency credential.
    Officer,
    /// Any officer who is signed in with an account of the own.
    Account,
    /// An officer whose role may do one of these.
    Any(&'static [Act]),
}

impl Need {
    /// Does a signed-in officer of this role meet it?
    #[must_use]
    pub fn met_by(self, role: Role) -> bool {
        match self {
            Self::Nothing | Self::Officer => true,
            Self::Account => role.has_account(),
            Self::Any(acts) => acts.iter().any(|act| role.may(*act)),
        }
    }
}

/// `METHOD path`, and what it asks for. What a handler shows or does beyond that it asks `Session::must` for.
const ROUTES: &[(&str, Need)] = &[
    ("GET /assets/{name}", Need::Nothing),
    ("GET /sign-in", Need::Nothing),
    ("POST /sign-in", Need::Nothing),
    ("GET /sign-in/second", Need::Nothing),
    ("POST /sign-in/code", Need::Nothing),
    ("POST /sign-in/key/ask", Need::Nothing),
    ("POST /sign-in/key", Need::Nothing),
    #[cfg(feature = "oidc")]
    ("POST /sign-in/oidc", Need::Nothing),
    #[cfg(feature = "oidc")]
    ("GET /sign-in/oidc/callback", Need::Nothing),
    #[cfg(feature = "oidc")]
    ("POST /account/confirm/oidc", Need::Officer),
    ("GET /setup/{secret}", Need::Nothing),
    ("POST /setup/{secret}", Need::Nothing),
    // Only from the server's own machine, which the handlers see to.
    ("GET /break-glass", Need::Nothing),
    ("POST /break-glass", Need::Nothing),
    ("POST /sign-out", Need::Officer),
    ("GET /account", Need::Account),
    ("POST /account/confirm", Need::Account),
    ("POST /account/confirm/ask", Need::Account),
    ("POST /account/confirm/key", Need::Account),
    ("POST /account/password", Need::Account),
    ("POST /account/keys/ask", Need::Account),
    ("POST /account/keys", Need::Account),
    ("POST /account/keys/remove", Need::Account),
    ("POST /account/codes/new", Need::Account),
    ("POST /account/codes", Need::Account),
    ("GET /live/alarms", Need::Officer),
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
    ("GET /people", Need::Any(&[Act::ConsultSubject])),
    ("POST /people", Need::Any(&[Act::ConsultSubject])),
    ("GET /people/{id}", Need::Any(&[Act::ConsultSubject])),
    ("POST /people/{id}", Need::Any(&[Act::ConsultSubject])),
    (
        "GET /people/{id}/statement",
        Need::Any(&[Act::ConsultSubject]),
    ),
    (
        "POST /people/{id}/propose",
        Need::Any(&[Act::ProposeChange]),
    ),
    ("GET /consultations", Need::Any(&[Act::DecideChange])),
    ("POST /consultations/raise", Need::Any(&[Act::DecideChange])),
    (
        "GET /enrolments",
        Need::Any(&[Act::ProposeEnrolment, Act::DecideEnrolment]),
    ),
    ("POST /enrolments", Need::Any(&[Act::ProposeEnrolment])),
    ("GET /enrolments/{id}", Need::Any(&[Act::DecideEnrolment])),
    ("POST /enrolments/{id}", Need::Any(&[Act::DecideEnrolment])),
    (
        "GET /enrolments/{id}/pictures/{at}",
        Need::Any(&[Act::DecideEnrolment]),
    ),
    (
        "GET /enrolments/{id}/candidates/{subject}",
        Need::Any(&[Act::DecideEnrolment]),
    ),
    (
        "GET /enrolment-orders/{id}",
        Need::Any(&[Act::ProposeEnrolment, Act::DecideEnrolment]),
    ),
    (
        "POST /enrolment-orders/{id}",
        Need::Any(&[Act::DecideEnrolment]),
    ),
    (
        "POST /enrolment-orders/{id}/close",
        Need::Any(&[Act::ProposeEnrolment, Act::DecideEnrolment]),
    ),
    ("GET /approvals", Need::Any(&[Act::DecideChange])),
    ("GET /approvals/{request}", Need::Any(&[Act::DecideChange])),
    ("POST /approvals/{request}", Need::Any(&[Act::DecideChange])),
    (
        "GET /break-glass/uses",
        Need::Any(&[Act::DecideChange, Act::ReviewBreakGlass]),
    ),
    (
        "POST /break-glass/uses/{used}/end",
        Need::Any(&[Act::DecideChange]),
    ),
    (
        "POST /break-glass/uses/{used}/review",
        Need::Any(&[Act::ReviewBreakGlass]),
    ),
    ("GET /release", Need::Any(&[Act::ReleaseDoors])),
    ("POST /release/{gate}", Need::Any(&[Act::ReleaseDoors])),
    ("GET /log", Need::Any(&[Act::ReadLog])),
    ("GET /log/alarms", Need::Any(&[Act::ReadLog])),
    (
        "GET /gates",
        Need::Any(&[Act::WatchGates, Act::ManageGates]),
    ),
    ("POST /gates/approve", Need::Any(&[Act::ManageGates])),
];

/// What a route asks for, by its method and path; `None` where the table has no line, and then it is closed.
#[must_use]
pub fn need(method: &str, path: &str) -> Option<Need> {
    ROUTES
        .iter()
        .find(|(route, _)| route.split_once(' ') == Some((method, path)))
        .map(|(_, need)| *need)
}

/// Pages of the navigation; the officer's own account is behind the name. Path, its words, and its name in [`super::view::Page::current`].
const PAGES: [(&str, &str, &str); 9] = [
    ("/", "Live", "live"),
    ("/enrolments", "Enrolments", "enrolments"),
    ("/people", "People", "people"),
    ("/log", "Audit log", "log"),
    ("/gates", "Gates", "gates"),
    ("/consultations", "Consultations", "consultations"),
    ("/approvals", "Approvals", "approvals"),
    ("/release", "Release", "release"),
    ("/break-glass/uses", "Emergency", "emergency"),
];

/// A link of the navigation.
pub(super) struct Link {
    pub(super) path: &'static str,
    pub(super) words: &'static str,
    pub(super) current: &'static str,
}

/// May this session use a route of this need? Without the hardware key that its role needs, only the officer's own account.
fn lets_through(need: Need, session: &Session) -> bool {
    need.met_by(session.role)
        && (session.is_whole() || matches!(need, Need::Nothing | Need::Officer | Need::Account))
}

/// The pages that this officer may open.
pub(super) fn pages(session: &Session) -> Vec<Link> {
    PAGES
        .into_iter()
        .filter(|(path, _, _)| need("GET", path).is_some_and(|need| lets_through(need, session)))
        // Supervisors come there from the alarm and from the log: their bar is full.
        .filter(|(_, _, name)| *name != "emergency" || session.role.may(Act::ReviewBreakGlass))
        .map(|(path, words, current)| Link {
            path,
            words,
            current,
        })
        .collect()
}

/// The page at which this officer begins.
pub(super) fn home(session: &Session) -> &'static str {
    pages(session).first().map_or("/account", |link| link.path)
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
        // The cookie works nowhere else: neither carried to another machine nor through a proxy.
        Ok(Some(session)) if session.is_emergency() && !local::is_here(&request) => {
            local::refused(&state)
        }
        Ok(Some(session)) if lets_through(need, &session) => {
            request.extensions_mut().insert(session);
            next.run(request).await
        }
        Ok(Some(session)) if need.met_by(session.role) => {
            let refused = Trouble::needs_key(&state, &session).into_response();
            refusals::marked(refused, "needs_key")
        }
        Ok(Some(session)) => {
            let refused = Trouble::not_for_role(&state, Some(&session)).into_response();
            refusals::marked(refused, "not_for_role")
        }
        Ok(None) => refusals::marked(Redirect::to("/sign-in").into_response(), "not_signed_in"),
        Err(trouble) => trouble,
    }
}
