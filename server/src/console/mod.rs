//! The officers' web console: server-rendered pages, no inline script, every look at a record logged, every route open only to the
//! roles that may use it.

mod access;
mod account;
mod alarms;
mod approvals;
mod assets;
mod break_glass;
mod enrolments;
mod gates;
mod guard;
mod live;
mod local;
#[cfg(feature = "oidc")]
mod oidc;
mod pages;
mod passage;
mod people;
mod quotas;
mod reason;
mod release;
mod second;
mod slip;
mod view;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use crate::state::AppState;

pub use access::{Need, need};
pub(crate) use guard::current;

/// The console's routes.
pub fn router(state: AppState) -> Router {
    let router = Router::new();
    #[cfg(feature = "oidc")]
    let router = oidc::routes(router);
    router
        .route("/", get(live::page))
        .route("/live/events", get(live::events))
        .route("/live/alarms", get(live::alarms))
        .route(
            "/passages/{id}",
            get(passage::page).post(passage::page_with_reason),
        )
        .route("/passages/{id}/picture", get(passage::picture))
        .route("/passages/{id}/slip", get(slip::page))
        .route("/passages/{id}/review", post(passage::review))
        .route("/people", get(people::find_page).post(people::find))
        .route(
            "/people/{id}",
            get(people::page).post(people::page_with_reason),
        )
        .route("/people/{id}/statement", get(people::statement))
        .route("/people/{id}/propose", post(people::propose))
        .route("/log", get(pages::log))
        .route("/log/alarms", get(alarms::page))
        .route("/gates", get(gates::page))
        .route("/gates/approve", post(gates::approve))
        .route("/consultations", get(quotas::page))
        .route("/consultations/raise", post(quotas::raise))
        .route("/approvals", get(approvals::list))
        .route(
            "/approvals/{request}",
            get(approvals::page).post(approvals::decide),
        )
        .route(
            "/break-glass",
            get(break_glass::page).post(break_glass::open),
        )
        .route("/break-glass/uses", get(break_glass::uses))
        .route("/break-glass/uses/{used}/end", post(break_glass::end))
        .route("/break-glass/uses/{used}/review", post(break_glass::review))
        .route("/release", get(release::page))
        .route("/release/{gate}", post(release::order))
        .route("/enrolments", get(enrolments::list).post(enrolments::open))
        .route(
            "/enrolments/{id}",
            get(enrolments::page).post(enrolments::decide),
        )
        .route("/enrolments/{id}/pictures/{at}", get(enrolments::picture))
        .route(
            "/enrolments/{id}/candidates/{subject}",
            get(enrolments::candidate),
        )
        .route(
            "/enrolment-orders/{id}",
            get(enrolments::batch).post(enrolments::decide_batch),
        )
        .route("/enrolment-orders/{id}/close", post(enrolments::close))
        .route("/account", get(account::page))
        .route("/account/confirm", post(account::confirm))
        .route("/account/confirm/ask", post(account::ask_again))
        .route("/account/confirm/key", post(account::confirm_by_key))
        .route("/account/password", post(account::password))
        .route("/account/keys/ask", post(account::ask_new_key))
        .route("/account/keys", post(account::add_key))
        .route("/account/keys/remove", post(account::remove_key))
        .route("/account/codes/new", post(account::new_codes))
        .route("/account/codes", post(account::confirm_codes))
        .route("/sign-in", get(second::sign_in_page).post(second::sign_in))
        .route("/sign-in/second", get(second::second_page))
        .route("/sign-in/code", post(second::by_code))
        .route("/sign-in/key/ask", post(second::ask_key))
        .route("/sign-in/key", post(second::key_answered))
        .route("/sign-out", post(pages::sign_out))
        .route("/setup/{secret}", get(pages::setup_page).post(pages::setup))
        .route("/assets/{name}", get(assets::serve))
        .fallback(pages::not_found)
        .layer(middleware::from_fn_with_state(state.clone(), access::check))
        .layer(middleware::from_fn(guard::same_origin))
        .layer(middleware::from_fn_with_state(
            state.clone(),
            guard::refusals,
        ))
        .layer(middleware::from_fn(guard::headers))
        .layer(axum::extract::DefaultBodyLimit::max(64 * 1024))
        .with_state(state)
}
