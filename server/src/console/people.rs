//! A person's record, what is proposed about it, and what the person is told on request. There is no list of everybody and no search by
//! name: whoever looks knows the pseudonym, from a passage, a request or the log. Nothing is shown before its entry stands in the log.

use std::collections::BTreeMap;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use sallyport_domain::{Act, Due, Modality, Role, SubjectId, SubjectStatus};
use serde::Deserialize;

use super::guard::{Officer, check_csrf};
use super::pages::{Trouble, parsed};
use super::reason::{self, ReasonForm};
use super::view::{Page, date_and_time, html, role_words};
use crate::approvals::{self, ApprovalError};
use crate::audit;
use crate::consultations::{self, ConsultError};
use crate::demographics;
use crate::officers::{OfficerError, Session};
use crate::profiles;
use crate::proposals::{self, ProposalError, Wanted};
use crate::records::{self, LegalBasis, RecordError};
use crate::refusals;
use crate::registry::RegistryError;
use crate::reports;
use crate::retention::{self, Event, Item};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "people.html")]
struct FindPage {
    page: Page,
    problem: Option<&'static str>,
}

/// The question for a pseudonym.
pub(super) async fn find_page(
    State(state): State<AppState>,
    Officer(session): Officer,
) -> Response {
    find_again(&state, &session, None)
}

fn find_again(state: &AppState, session: &Session, problem: Option<&'static str>) -> Response {
    let page = FindPage {
        page: Page::new(state, Some(session), "people"),
        problem,
    };
    html(state, &page)
}

#[derive(Deserialize)]
pub(super) struct FindForm {
    csrf: String,
    #[serde(default)]
    person: String,
}

/// To the record of a pseudonym. Whether there is such a person is said only after a reason was given.
pub(super) async fn find(
    State(state): State<AppState>,
    Officer(session): Officer,
    Form(form): Form<FindForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    match form.person.trim().parse::<SubjectId>() {
        Ok(id) => Ok(Redirect::to(&format!("/people/{id}")).into_response()),
        Err(_) => {
            let problem = "This is no pseudonym. It has 36 characters: letters a to f, digits and hyphens, as in a passage's record or in the log.";
            let mut page = find_again(&state, &session, Some(problem));
            *page.status_mut() = StatusCode::BAD_REQUEST;
            Ok(page)
        }
    }
}

fn failed(state: &AppState, error: &dyn std::error::Error) -> Response {
    Trouble::server(state, error).into_response()
}

fn ask_reason(
    state: &AppState,
    session: &Session,
    id: SubjectId,
    problem: Option<&ConsultError>,
) -> Response {
    let because = "This is the record of a person.";
    reason::ask(state, session, format!("/people/{id}"), because, problem)
}

/// A look at what is open to this officer goes into the log before it is shown.
async fn looked(
    state: &AppState,
    session: &Session,
    id: SubjectId,
    what: &str,
    reason: &str,
) -> Result<(), Response> {
    let logged = async {
        let mut entry = audit::entry("consultation", state.clock.now())?;
        entry.actor = Some(session.officer.to_string());
        entry.subject = Some(id.to_string());
        entry.about = Some(id.to_string());
        entry.decision = Some(what.to_owned());
        entry.reason = Some(reason.to_owned());
        audit::record(state, entry).await
    };
    logged
        .await
        .map(drop)
        .map_err(|error| failed(state, &error))
}

/// The record while it is open to this officer, or the question for a reason.
pub(super) async fn page(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let id: SubjectId = parsed(&state, &id)?;
    let opened = consultations::opened(&state, &session, &id.to_string())
        .await
        .map_err(|error| failed(&state, &error))?;
    match opened {
        Some(opened) => {
            looked(&state, &session, id, "record", "of_open_record").await?;
            show(&state, &session, id, opened.is_own_request(), None).await
        }
        None => Ok(ask_reason(&state, &session, id, None)),
    }
}

/// The record, after a reason was given.
pub(super) async fn page_with_reason(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
    Form(form): Form<ReasonForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let id: SubjectId = parsed(&state, &id)?;
    let given = match form.given() {
        Ok(given) => given,
        Err(error) => return Ok(ask_reason(&state, &session, id, Some(&error))),
    };
    let there = state.store.subject(id).await;
    if there.map_err(|error| failed(&state, &error))?.is_none() {
        return Err(Trouble::not_found(&state).into_response());
    }
    let about = id.to_string();
    let opened = consultations::consult(&state, &session, &about, &[id], "record", &given).await;
    match opened {
        Ok(()) => show(&state, &session, id, given.is_own_request(), None).await,
        Err(error) => Ok(ask_reason(&state, &session, id, Some(&error))),
    }
}

struct VisitsView {
    prisoner: String,
    from: String,
    until: String,
}

struct ReferenceView {
    what: &'static str,
    since: String,
    device: String,
    model: String,
    quality: String,
    photograph: bool,
}

struct KeptView {
    what: &'static str,
    until: String,
    source: String,
}

struct ChangeView {
    index: u64,
    at: String,
    what: String,
}

struct AskedView {
    request: u64,
    kind: &'static str,
    at: String,
    own: bool,
    declined: bool,
}

/// A choice of a form: its value and its words.
struct Choice {
    value: &'static str,
    words: &'static str,
}

#[derive(Template)]
#[template(path = "person.html")]
struct PersonPage {
    page: Page,
    problem: Option<String>,
    id: String,
    name: String,
    category: String,
    status: &'static str,
    verdict: &'static str,
    doors: String,
    basis: String,
    clause: String,
    custody: Option<String>,
    visits: Vec<VisitsView>,
    wing: Option<String>,
    group: bool,
    references: Vec<ReferenceView>,
    kept: Vec<KeptView>,
    holds: Vec<String>,
    merged_into: Option<(String, String)>,
    merged: Vec<String>,
    changes: Vec<ChangeView>,
    asked: Vec<AskedView>,
    own_request: bool,
    proposes: bool,
    decides: bool,
    statuses: Vec<Choice>,
    events: Vec<Choice>,
    today: String,
}

fn spaced(code: &str) -> String {
    code.replace('_', " ")
}

const fn modality_words(modality: Modality) -> &'static str {
    match modality {
        Modality::Face => "Face",
        Modality::IrisLeft => "Left iris",
        Modality::IrisRight => "Right iris",
    }
}

const fn status_words(status: SubjectStatus) -> &'static str {
    match status {
        SubjectStatus::Active => "Active",
        SubjectStatus::Suspended => "Suspended",
        SubjectStatus::Banned => "Banned",
        SubjectStatus::Released => "Released",
        SubjectStatus::Deceased => "Deceased",
    }
}

const fn status_choice(status: SubjectStatus) -> &'static str {
    match status {
        SubjectStatus::Active => "Active: doors open again by policy",
        SubjectStatus::Suspended => "Suspended: doors stay shut for now",
        SubjectStatus::Banned => "Banned: doors stay shut",
        SubjectStatus::Released => "Released: terms of deletion begin",
        SubjectStatus::Deceased => "Deceased",
    }
}

const fn event_words(event: Event) -> &'static str {
    match event {
        Event::Released => "Released from custody",
        Event::EmploymentEnded => "Employment or contract ended",
        Event::DeletionRequested => "The person asked for deletion",
        Event::LastVisit => "Last visit, which no gate saw",
    }
}

fn kept(state: &AppState, item: &Item) -> KeptView {
    KeptView {
        what: profiles::name(item.kind),
        until: match item.due {
            Due::At(at) => date_and_time(state, at),
            Due::Held => "A legal hold is lifted".to_owned(),
            Due::NotBegun => "The term has not begun".to_owned(),
        },
        source: item.source.clone(),
    }
}

fn short(model: &str) -> String {
    let start = model.get(..12);
    start.map_or_else(|| model.to_owned(), |start| format!("{start}…"))
}

/// Why a record is not shown.
fn not_shown(state: &AppState, session: &Session, error: &RecordError) -> Response {
    if let RecordError::Registry(RegistryError::Unknown) = error {
        return Trouble::not_found(state).into_response();
    }
    if let RecordError::Registry(RegistryError::NotInLog) = error {
        let page = Trouble::not_in_log(state, session).into_response();
        return refusals::marked(page, "not_in_log");
    }
    failed(state, error)
}

/// The page, after its entry was written.
async fn show(
    state: &AppState,
    session: &Session,
    id: SubjectId,
    own_request: bool,
    problem: Option<String>,
) -> Result<Response, Response> {
    let view = records::view(state, id)
        .await
        .map_err(|error| not_shown(state, session, &error))?;
    let asked = approvals::about_person(state, session.officer, id)
        .await
        .map_err(|error| failed(state, &error))?;
    let record = &view.subject.record;
    let details = &record.details;
    let at = |moment| date_and_time(state, moment);
    let page = PersonPage {
        page: Page::new(state, Some(session), "people"),
        problem,
        id: id.to_string(),
        name: record.name.clone(),
        category: spaced(record.category.code()),
        status: status_words(record.status),
        verdict: if record.status == SubjectStatus::Active {
            "grant"
        } else {
            "refuse"
        },
        doors: at(record.effective_from),
        basis: details.basis.map_or_else(
            || "not recorded".to_owned(),
            |basis| spaced(LegalBasis::code(basis)),
        ),
        clause: view.clause.clone(),
        custody: details.custody.clone(),
        visits: details
            .visits
            .iter()
            .map(|visits| VisitsView {
                prisoner: visits.prisoner.to_string(),
                from: at(visits.from),
                until: at(visits.until),
            })
            .collect(),
        wing: view.wing.clone(),
        group: view.has_group,
        references: view
            .references
            .iter()
            .map(|reference| ReferenceView {
                what: modality_words(reference.modality),
                since: at(reference.since),
                device: reference
                    .device
                    .clone()
                    .unwrap_or_else(|| "not recorded".to_owned()),
                model: short(&reference.model),
                quality: reference
                    .quality
                    .map_or_else(|| "not recorded".to_owned(), |value| format!("{value:.0}")),
                photograph: reference.photograph,
            })
            .collect(),
        kept: view.items.iter().map(|item| kept(state, item)).collect(),
        holds: view.holds.clone(),
        merged_into: view
            .merged_into
            .map(|(into, when)| (into.to_string(), at(when))),
        merged: view.merged.iter().map(ToString::to_string).collect(),
        changes: view
            .changes
            .iter()
            .rev()
            .map(|change| ChangeView {
                index: change.log_index,
                at: at(change.at),
                what: spaced(
                    format!("{}: {}", change.kind, change.decision).trim_end_matches(": "),
                ),
            })
            .collect(),
        asked: asked
            .into_iter()
            .map(|(waiting, declined)| AskedView {
                request: waiting.request,
                kind: waiting.kind.words(),
                at: at(waiting.at),
                own: waiting.own,
                declined,
            })
            .collect(),
        own_request,
        proposes: session.must(Act::ProposeChange).is_ok(),
        decides: session.must(Act::DecideChange).is_ok(),
        statuses: SubjectStatus::ALL
            .into_iter()
            .filter(|status| *status != record.status)
            .map(|status| Choice {
                value: status.code(),
                words: status_choice(status),
            })
            .collect(),
        events: Event::ALL
            .into_iter()
            .map(|event| Choice {
                value: event.code(),
                words: event_words(event),
            })
            .collect(),
        today: at(state.clock.now())
            .get(..10)
            .unwrap_or_default()
            .to_owned(),
    };
    Ok(html(state, &page))
}

#[derive(Deserialize)]
pub(super) struct ProposalForm {
    csrf: String,
    #[serde(default)]
    what: String,
    #[serde(default)]
    which: String,
    #[serde(default)]
    day: String,
    #[serde(default)]
    words: String,
}

/// An officer proposes something about the person whose record is open.
pub(super) async fn propose(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
    Form(form): Form<ProposalForm>,
) -> Result<Response, Response> {
    check_csrf(&session, &form.csrf)?;
    let id: SubjectId = parsed(&state, &id)?;
    // Before anything else: what is wrong with the form is said on the record's page, which is shown only while it is open.
    let open = consultations::is_open(&state, &session, &id.to_string()).await;
    if !open.map_err(|error| failed(&state, &error))? {
        return Ok(ask_reason(
            &state,
            &session,
            id,
            Some(&ConsultError::Reason),
        ));
    }
    let proposed = async {
        let wanted = Wanted::parse(&state, &form.what, &form.which, &form.day)?;
        proposals::propose(&state, &session, id, wanted, &form.words).await
    };
    let error = match proposed.await {
        Ok(_) => return Ok(Redirect::to(&format!("/people/{id}")).into_response()),
        Err(error) => error,
    };
    let (status, code) = match &error {
        ProposalError::Unclear | ProposalError::Same => (StatusCode::BAD_REQUEST, "unclear"),
        ProposalError::NoWords => (StatusCode::BAD_REQUEST, "no_reason"),
        ProposalError::Approval(of) if matches!(**of, ApprovalError::Words) => {
            (StatusCode::BAD_REQUEST, "no_reason")
        }
        ProposalError::Retention(
            retention::RetentionError::NoHold
            | retention::RetentionError::Future
            | retention::RetentionError::NoReason,
        ) => (StatusCode::BAD_REQUEST, "unclear"),
        ProposalError::NotOpen => {
            return Ok(ask_reason(
                &state,
                &session,
                id,
                Some(&ConsultError::Reason),
            ));
        }
        ProposalError::NobodyDecides => (StatusCode::CONFLICT, "nobody_decides"),
        ProposalError::Declined(_) => (StatusCode::CONFLICT, "declined"),
        ProposalError::OtherNotOpen => (StatusCode::CONFLICT, "not_open"),
        ProposalError::Merge(_) => (StatusCode::CONFLICT, "no_merger"),
        ProposalError::Changed => (StatusCode::CONFLICT, "changed"),
        ProposalError::Registry(RegistryError::Held) => (StatusCode::CONFLICT, "legal_hold"),
        ProposalError::Registry(RegistryError::Merged(_) | RegistryError::Unknown) => {
            (StatusCode::CONFLICT, "no_merger")
        }
        ProposalError::Officer(OfficerError::Role(_)) => {
            let refused = Trouble::not_for_role(&state, Some(&session)).into_response();
            return Err(refusals::marked(refused, "not_for_role"));
        }
        ProposalError::Record(of) => return Err(not_shown(&state, &session, of)),
        ProposalError::Officer(_)
        | ProposalError::Approval(_)
        | ProposalError::Consult(_)
        | ProposalError::Retention(_)
        | ProposalError::Registry(_) => return Err(failed(&state, &error)),
    };
    looked(&state, &session, id, "record", "of_open_record").await?;
    let mut page = show(&state, &session, id, false, Some(error.to_string())).await?;
    *page.status_mut() = status;
    Ok(refusals::marked(page, code))
}

struct LookView {
    at: String,
    by: String,
    why: String,
}

#[derive(Template)]
#[template(path = "statement.html")]
struct StatementPage {
    page: Page,
    id: String,
    name: String,
    made: String,
    notice: Vec<String>,
    group: Option<String>,
    kept: Vec<KeptView>,
    looks: Vec<LookView>,
}

fn by_words(role: &str) -> String {
    Role::from_code(role).map_or_else(|| spaced(role), |role| role_words(role).to_owned())
}

/// Why somebody looked, in words for the person.
fn why_words(code: &str) -> String {
    match code {
        "of_open_record" => "looked again within a quarter of an hour".to_owned(),
        "enrolment_review" => "decision about your enrolment".to_owned(),
        "approval" => "decision about a change of your record".to_owned(),
        "review" => "decision about a passage".to_owned(),
        "own_request" => "you asked what is kept".to_owned(),
        other => spaced(other),
    }
}

/// What the person is told who asked what is kept: to be printed. Only of a record that was opened for that.
pub(super) async fn statement(
    State(state): State<AppState>,
    Officer(session): Officer,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let id: SubjectId = parsed(&state, &id)?;
    let opened = consultations::opened(&state, &session, &id.to_string())
        .await
        .map_err(|error| failed(&state, &error))?;
    let Some(opened) = opened.filter(consultations::Opened::is_own_request) else {
        return Ok(ask_reason(
            &state,
            &session,
            id,
            Some(&ConsultError::Reason),
        ));
    };
    looked(&state, &session, id, "statement", &opened.reason).await?;
    let view = records::view(&state, id)
        .await
        .map_err(|error| not_shown(&state, &session, &error))?;
    let looks = reports::looks(&state, id)
        .await
        .map_err(|error| failed(&state, &error))?;
    let group = demographics::group(&state, id)
        .await
        .map_err(|error| failed(&state, &error))?;
    let notice = profiles::notice(&state.profile(), view.subject.record.category);
    let mut kinds = BTreeMap::new();
    for item in &view.items {
        // Several references of one kind are one line.
        let line = kept(&state, item);
        kinds.insert((line.what, line.until.clone()), line);
    }
    let page = StatementPage {
        page: Page::new(&state, Some(&session), "people"),
        id: id.to_string(),
        name: view.subject.record.name.clone(),
        made: date_and_time(&state, state.clock.now()),
        notice: notice.lines().map(str::to_owned).collect(),
        group,
        kept: kinds.into_values().collect(),
        looks: looks
            .into_iter()
            .map(|look| LookView {
                at: date_and_time(&state, look.at),
                by: by_words(&look.by),
                why: why_words(&look.reason),
            })
            .collect(),
    };
    Ok(html(&state, &page))
}
