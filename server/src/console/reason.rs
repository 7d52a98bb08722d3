//! The question for a reason, which stands before every record and every past passage.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::view::{Page, html};
use crate::consultations::{ConsultError, Given};
use crate::officers::{OfficerError, Session};
use crate::refusals;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "reason.html")]
struct ReasonPage {
    page: Page,
    action: String,
    because: &'static str,
    problem: Option<String>,
}

/// What an officer says.
#[derive(Deserialize)]
pub(super) struct ReasonForm {
    pub(super) csrf: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    case: String,
    #[serde(default)]
    words: String,
}

impl ReasonForm {
    pub(super) fn given(&self) -> Result<Given, ConsultError> {
        Given::parse(&self.reason, &self.case, &self.words)
    }
}

/// The question, again with what was wrong. `action` is where the answer goes, `because` why it is asked.
pub(super) fn ask(
    state: &AppState,
    session: &Session,
    action: String,
    because: &'static str,
    problem: Option<&ConsultError>,
) -> Response {
    let page = ReasonPage {
        page: Page::new(state, Some(session), ""),
        action,
        because,
        problem: problem.map(ToString::to_string),
    };
    let page = html(state, &page);
    match problem {
        None => page,
        Some(error) => refused(error, page),
    }
}

/// What was wrong with a consultation, as status of the page and for the log.
pub(super) fn refused(error: &ConsultError, mut page: Response) -> Response {
    let (status, code) = match error {
        ConsultError::Reason | ConsultError::Case | ConsultError::Words => {
            (StatusCode::BAD_REQUEST, "no_reason")
        }
        ConsultError::WingName => (StatusCode::BAD_REQUEST, "wing_name"),
        ConsultError::Wing => (StatusCode::FORBIDDEN, "other_wing"),
        ConsultError::Quota => (StatusCode::TOO_MANY_REQUESTS, "quota"),
        ConsultError::Own => (StatusCode::FORBIDDEN, "own_quota"),
        ConsultError::Officer(OfficerError::Role(_)) => (StatusCode::FORBIDDEN, "not_for_role"),
        ConsultError::Officer(OfficerError::Stale) => (StatusCode::FORBIDDEN, "not_fresh"),
        ConsultError::Officer(OfficerError::NoAccount) => (StatusCode::BAD_REQUEST, "no_account"),
        ConsultError::Officer(_) | ConsultError::Audit(_) => {
            tracing::error!(error = %error, "a consultation failed");
            *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return page;
        }
    };
    *page.status_mut() = status;
    refusals::marked(page, code)
}
