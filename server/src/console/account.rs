//! The officer's own account.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use sallyport_domain::Act;

use super::guard::Officer;
use super::view::{Page, html};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    page: Page,
    name: String,
    acts: Vec<&'static str>,
}

/// The page. It shows nobody else, so that looking at it is no entry.
pub(super) async fn page(State(state): State<AppState>, Officer(session): Officer) -> Response {
    let acts = Act::ALL
        .into_iter()
        .filter(|act| session.role.may(*act))
        .map(words)
        .collect();
    html(
        &state,
        &AccountPage {
            page: Page::new(&state, Some(&session), "account"),
            name: session.name.clone(),
            acts,
        },
    )
}

/// An act as officers call it.
const fn words(act: Act) -> &'static str {
    match act {
        Act::WatchGates => "See what happens at the gates now",
        Act::ReviewPassage => "Decide about a passage that was referred or refused",
        Act::ConsultSubject => "Look at a person's record, with a reason",
        Act::ProposeEnrolment => "Propose an enrolment",
        Act::DecideEnrolment => "Decide about an enrolment that somebody else proposed",
        Act::ProposeChange => "Propose a change of a person's status, a merge, a removal or a hold",
        Act::DecideChange => "Decide about such a proposal of somebody else",
        Act::ReadLog => "Read the audit log and its alarms",
        Act::Export => "Export the log, evidence and reports",
        Act::ManageGates => "Add gates, approve and revoke devices",
        Act::ManageOfficers => "Make, change and end officers' accounts",
        Act::Configure => "Change profile, policies and settings",
        Act::ManageKeys => "Rotate keys, make and restore backups",
        Act::ReviewBreakGlass => "Close the review of an emergency use",
    }
}
