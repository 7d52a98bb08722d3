//! Sign-in, set-up, audit log, and pages for trouble.

use std::str::FromStr;

use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use sallyport_transparency::Entry;
use serde::Deserialize;

use super::guard::{Officer, check_csrf, clear_cookie};
use super::view::{Page, html};
use crate::audit;
use crate::officers::{self, OfficerError, Session, Setup};
use crate::state::AppState;

/// A page that says what went wrong and what to do.
pub(super) struct Trouble {
    status: StatusCode,
    body: String,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage {
    page: Page,
    heading: &'static str,
    what: &'static str,
}

impl Trouble {
    fn new(
        state: &AppState,
        status: StatusCode,
        heading: &'static str,
        what: &'static str,
    ) -> Self {
        Self::shown_to(state, None, status, heading, what)
    }

    fn shown_to(
        state: &AppState,
        session: Option<&Session>,
        status: StatusCode,
        heading: &'static str,
        what: &'static str,
    ) -> Self {
        let page = MessagePage {
            page: Page::new(state, session, ""),
            heading,
            what,
        };
        Self {
            status,
            body: page
                .render()
                .unwrap_or_else(|_| format!("{heading}\n{what}\n")),
        }
    }

    /// The server failed; the log of the server says how, the page does not.
    pub(super) fn server(state: &AppState, error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %error, "a console page failed");
        Self::new(
            state,
            StatusCode::SERVICE_UNAVAILABLE,
            "This cannot be done now",
            "The server could not read or write what this page needs, and nothing was changed. Gates refer people to you until it is well again. Try again; if it lasts, call the administrator.",
        )
    }

    /// The officer's role may not do this.
    pub(super) fn not_for_role(state: &AppState, session: Option<&Session>) -> Self {
        Self::shown_to(
            state,
            session,
            StatusCode::FORBIDDEN,
            "Not for your role",
            "Your role may not do this, so nothing was done and nothing is shown. That you tried stands in the audit log. Your account page lists what your role may do; for anything else ask an officer of the role that may.",
        )
    }

    /// The role needs a hardware key, and this session was opened without.
    pub(super) fn needs_key(state: &AppState, session: &Session) -> Self {
        Self::shown_to(
            state,
            Some(session),
            StatusCode::FORBIDDEN,
            "Add your security key first",
            "Your role works only with a security key, and this session was opened without one, so nothing was done and nothing is shown. Add a key on your account page; if the account has one already, sign out and sign in with it.",
        )
    }

    /// Something for the server's own machine was asked for from elsewhere.
    pub(super) fn not_here(state: &AppState) -> Self {
        Self::new(
            state,
            StatusCode::FORBIDDEN,
            "Only at the server itself",
            "Emergency access works only in a browser of the server's own machine, at https://localhost with this port, and through no proxy. Nothing was done and nothing is shown. That it was tried from elsewhere stands in the audit log.",
        )
    }

    /// What the database holds about a person is not what the log says.
    pub(super) fn not_in_log(state: &AppState, session: &Session) -> Self {
        Self::shown_to(
            state,
            Some(session),
            StatusCode::CONFLICT,
            "This record is not what the log says",
            "Somebody changed it in the database by hand, so it is not shown and nothing is done with it. An alarm stands in the audit log. Call the administrator, and keep the database as it is for the investigation.",
        )
    }

    /// No such page or record.
    pub(super) fn not_found(state: &AppState) -> Self {
        Self::new(
            state,
            StatusCode::NOT_FOUND,
            "Nothing here",
            "There is no such page or record. It may have been deleted when its purpose ended.",
        )
    }
}

/// A name or number out of a path; what is none is no page.
pub(super) fn parsed<T: FromStr>(state: &AppState, text: &str) -> Result<T, Response> {
    text.parse()
        .map_err(|_| Trouble::not_found(state).into_response())
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        (self.status, axum::response::Html(self.body)).into_response()
    }
}

pub(super) async fn not_found(State(state): State<AppState>) -> Trouble {
    Trouble::not_found(&state)
}

pub(super) fn refused(error: &OfficerError, mut page: Response) -> Response {
    *page.status_mut() = match error {
        OfficerError::SignIn | OfficerError::Provider => StatusCode::UNAUTHORIZED,
        OfficerError::ProviderAway => StatusCode::BAD_GATEWAY,
        OfficerError::SetupLink | OfficerError::Late => StatusCode::GONE,
        OfficerError::Name
        | OfficerError::NoAccount
        | OfficerError::Label
        | OfficerError::Differ
        | OfficerError::LastKey
        | OfficerError::CopiedKey
        | OfficerError::NoKeys
        | OfficerError::Bound
        | OfficerError::Binding(_)
        | OfficerError::Password(_) => StatusCode::BAD_REQUEST,
        OfficerError::Code | OfficerError::Key => StatusCode::UNAUTHORIZED,
        OfficerError::Role(_) | OfficerError::Stale | OfficerError::NotInLog => {
            StatusCode::FORBIDDEN
        }
        OfficerError::Store(_) | OfficerError::Audit(_) | OfficerError::Internal => {
            tracing::error!(error = %error, "an account request failed");
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    page
}

#[derive(Deserialize)]
pub(super) struct CsrfForm {
    csrf: String,
}

pub(super) async fn sign_out(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<CsrfForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    officers::sign_out(&state, &session)
        .await
        .map_err(|error| Trouble::server(&state, &error).into_response())?;
    Ok((
        [(header::SET_COOKIE, clear_cookie())],
        Redirect::to("/sign-in"),
    )
        .into_response())
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    page: Page,
    name: String,
    /// For an account that exists: its name stands fast.
    renewal: bool,
    problem: Option<String>,
}

pub(super) async fn setup_page(
    State(state): State<AppState>,
    Path(secret): Path<String>,
) -> Result<Response, Response> {
    let setup = open_setup(&state, &secret).await?;
    Ok(html(&state, &SetupPage::of(&state, setup, "", None)))
}

async fn open_setup(state: &AppState, secret: &str) -> Result<Setup, Response> {
    match officers::setup(state, secret).await {
        Ok(Some(setup)) => Ok(setup),
        Ok(None) => Err(Trouble::new(
            state,
            StatusCode::GONE,
            "This link has ended",
            "It was used already or is older than 15 minutes. On the server, make a new one: sallyport-server officer setup-link",
        )
        .into_response()),
        Err(error) => Err(Trouble::server(state, &error).into_response()),
    }
}

impl SetupPage {
    fn of(state: &AppState, setup: Setup, name: &str, problem: Option<String>) -> Self {
        let (name, renewal) = match setup {
            Setup::New => (name.to_owned(), false),
            Setup::Renewal(name) => (name, true),
        };
        Self {
            page: Page::new(state, None, ""),
            name,
            renewal,
            problem,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct SetupForm {
    #[serde(default)]
    name: String,
    password: String,
    again: String,
}

pub(super) async fn setup(
    State(state): State<AppState>,
    Path(secret): Path<String>,
    Form(form): Form<SetupForm>,
) -> Result<Response, Response> {
    let setup = open_setup(&state, &secret).await?;
    let again = |problem: String| {
        let page = SetupPage::of(&state, setup.clone(), &form.name, Some(problem));
        html(&state, &page)
    };
    if form.password != form.again {
        let mut page = again("The two passwords differ.".to_owned());
        *page.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(page);
    }
    match officers::redeem_setup_link(&state, &secret, &form.name, form.password.clone()).await {
        Ok(_) => Ok(Redirect::to("/sign-in").into_response()),
        Err(error) => Ok(refused(&error, again(error.to_string()))),
    }
}

struct EntryView {
    index: u64,
    time: String,
    kind: String,
    gate: String,
    decision: String,
    reason: String,
    actor: String,
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    page: Page,
    checkpoint: Option<String>,
    entries: Vec<EntryView>,
    older: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct From {
    from: Option<u64>,
}

const LOG_PAGE: u32 = 50;

pub(super) async fn log(
    State(state): State<AppState>,
    Officer(session): Officer,
    Query(query): Query<From>,
) -> Result<Response, Response> {
    let failed = |error: &dyn std::error::Error| Trouble::server(&state, error).into_response();
    let mut entry =
        audit::entry("consultation", state.clock.now()).map_err(|error| failed(&error))?;
    entry.actor = Some(session.officer.to_string());
    entry.about = Some("audit_log".to_owned());
    audit::record(&state, entry)
        .await
        .map_err(|error| failed(&error))?;
    let size = state
        .store
        .log_size()
        .await
        .map_err(|error| failed(&error))?;
    let newest = query.from.unwrap_or(u64::MAX).min(size.saturating_sub(1));
    let start = (newest + 1).saturating_sub(u64::from(LOG_PAGE));
    let rows = state
        .store
        .log_entries(start, LOG_PAGE)
        .await
        .map_err(|error| failed(&error))?;
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut entries: Vec<EntryView> = rows
        .into_iter()
        .filter(|(index, _)| *index <= newest)
        .filter_map(|(index, bytes)| Entry::from_bytes(&bytes).ok().map(|entry| (index, entry)))
        .map(|(index, entry)| EntryView {
            index,
            time: sallyport_domain::Timestamp::from_micros(entry.time)
                .to_rfc3339()
                .get(..19)
                .unwrap_or_default()
                .replace('T', " "),
            kind: entry.kind,
            gate: text(entry.gate),
            decision: text(entry.decision),
            reason: text(entry.reason),
            actor: entry
                .actor
                .and_then(|actor| actor.get(..13).map(|start| format!("{start}…")))
                .unwrap_or_default(),
        })
        .collect();
    entries.reverse();
    let checkpoint = state
        .store
        .checkpoint()
        .await
        .map_err(|error| failed(&error))?;
    let page = LogPage {
        page: Page::new(&state, Some(&session), "log"),
        checkpoint,
        entries,
        older: start.checked_sub(1),
    };
    Ok(html(&state, &page))
}
