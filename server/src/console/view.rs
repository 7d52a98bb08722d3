//! Page structs, and how domain values read to an officer.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use sallyport_domain::{Act, Role, SubjectId, Timestamp, Verdict};

use super::access::{self, Link};
use super::assets;
use super::pages::Trouble;
use crate::approvals;
use crate::break_glass;
use crate::officers::Session;
use crate::registry;
use crate::state::AppState;
use crate::store::passages::PassageRow;

/// What every page has.
pub(super) struct Page {
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    pub(super) keys: &'static str,
    /// Tells an open page of a new alarm, and the number of those that this page knows of.
    pub(super) watch: &'static str,
    pub(super) alarms_told: u64,
    pub(super) site: String,
    pub(super) officer: Option<String>,
    /// What the officer's role may open.
    pub(super) links: Vec<Link>,
    /// Where the officer's role begins.
    pub(super) home: &'static str,
    /// The role, in words.
    pub(super) role: &'static str,
    /// May the officer read the log's alarms?
    pub(super) reads_log: bool,
    pub(super) csrf: String,
    pub(super) current: &'static str,
    /// Alarms about the audit log.
    pub(super) alarms: u64,
    /// Gates whose doors are free for life safety now, and since when.
    pub(super) free: Vec<(String, String)>,
    /// Requests that wait for this officer's, or another supervisor's, decision.
    pub(super) approvals: usize,
    /// Emergency access that is open or not reviewed.
    pub(super) emergencies: Vec<Emergency>,
    /// May the officer end or review it?
    pub(super) sees_emergencies: bool,
    /// Has the officer an account of the own?
    pub(super) account: bool,
}

/// What every page says of an emergency access.
pub(super) struct Emergency {
    /// An alarm, rather than something that waits.
    pub(super) loud: bool,
    pub(super) what: String,
    pub(super) more: String,
}

/// What an officer is told; that a use waits for its review only whoever has to do with it.
fn emergencies(state: &AppState, sees: bool) -> Vec<Emergency> {
    let now = state.clock.now();
    let outstanding = break_glass::outstanding(state).into_iter();
    outstanding
        .filter_map(|used| {
            let opened = date_and_time(state, used.at);
            let (loud, what, more) = if let Some(until) = used.open_until {
                let (since, until) = (time_of_day(state, used.at), time_of_day(state, until));
                (
                    true,
                    "Emergency access is open at the server itself.".to_owned(),
                    format!(
                        "Since {since}, until {until} at the latest. Every act of it goes into the audit log."
                    ),
                )
            } else if used.is_late(now) {
                (
                    true,
                    format!("The emergency access of {opened} was not reviewed in time."),
                    "An auditor reviews it; this alarm stands until then.".to_owned(),
                )
            } else {
                let due = date_and_time(state, used.due);
                (
                    false,
                    format!("The emergency access of {opened} waits for an auditor's review."),
                    format!("It is due before {due}."),
                )
            };
            (loud || sees).then_some(Emergency { loud, what, more })
        })
        .collect()
}

impl Page {
    pub(super) fn new(state: &AppState, session: Option<&Session>, current: &'static str) -> Self {
        let may = |act| session.is_some_and(|session| session.is_whole() && session.role.may(act));
        let sees_emergencies = may(Act::DecideChange) || may(Act::ReviewBreakGlass);
        Self {
            style: assets::style(),
            script: assets::script(),
            keys: assets::keys(),
            watch: assets::alarms(),
            alarms_told: state.alarms_told(),
            site: state.config.site.to_string(),
            officer: session.map(|session| session.name.clone()),
            links: session.map_or_else(Vec::new, access::pages),
            home: session.map_or("/", access::home),
            role: session.map_or("", |session| role_words(session.role)),
            reads_log: may(Act::ReadLog),
            csrf: session
                .map(|session| session.csrf.clone())
                .unwrap_or_default(),
            current,
            alarms: state.watch.alarms(),
            free: state
                .releases()
                .into_iter()
                .filter(|release| release.ended_at.is_none())
                .map(|release| (release.gate, time_of_day(state, release.began_at)))
                .collect(),
            approvals: if may(Act::DecideChange) {
                approvals::how_many_wait(state)
            } else {
                0
            },
            emergencies: session.map_or_else(Vec::new, |_| emergencies(state, sees_emergencies)),
            sees_emergencies,
            account: session.is_some_and(|session| session.role.has_account()),
        }
    }
}

/// A role as officers call it.
pub(super) const fn role_words(role: Role) -> &'static str {
    match role {
        Role::GateOfficer => "Gate officer",
        Role::Enroller => "Enroller",
        Role::Supervisor => "Supervisor",
        Role::Auditor => "Auditor",
        Role::Administrator => "Administrator",
        Role::KeyCustodian => "Key custodian",
        Role::BreakGlass => "Emergency access",
    }
}

/// Renders a page.
pub(super) fn html(state: &AppState, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => Trouble::server(state, &error).into_response(),
    }
}

/// A passage in the list.
#[derive(Template)]
#[template(path = "row.html")]
pub(super) struct RowTemplate<'a> {
    pub(super) row: &'a Row,
}

/// A passage as officers see it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) verdict: &'static str,
    pub(super) word: &'static str,
    pub(super) sign: &'static str,
    pub(super) person: String,
    pub(super) why: &'static str,
    pub(super) gate: String,
    pub(super) direction: &'static str,
    pub(super) time: String,
    pub(super) picture: bool,
    pub(super) open: bool,
}

/// The word and sign of a verdict.
pub(super) const fn word(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Grant => ("Granted", "✓"),
        Verdict::Refuse => ("Refused", "✕"),
        Verdict::Refer => ("Referred", "?"),
    }
}

/// Is somebody waiting for an officer's answer?
pub(super) fn is_open(passage: &PassageRow) -> bool {
    passage.verdict == Verdict::Refer && passage.review.is_none()
}

/// Time of day at the site.
pub(super) fn time_of_day(state: &AppState, at: Timestamp) -> String {
    local(state, at).get(11..19).unwrap_or_default().to_owned()
}

/// Date and time at the site.
pub(super) fn date_and_time(state: &AppState, at: Timestamp) -> String {
    local(state, at)
        .get(..19)
        .unwrap_or_default()
        .replace('T', " ")
}

fn local(state: &AppState, at: Timestamp) -> String {
    at.plus_millis(i64::from(state.config.utc_offset_minutes) * 60_000)
        .to_rfc3339()
}

/// Display name of a person, or a plain statement that it cannot be read.
pub(super) async fn display_name(state: &AppState, subject: SubjectId) -> String {
    match registry::display_name(state, subject).await {
        Ok(Some(name)) => name,
        Ok(None) => "Person no longer in the registry".to_owned(),
        Err(error) => {
            tracing::warn!(subject = %subject, error = %error, "a display name could not be read");
            "Name cannot be read".to_owned()
        }
    }
}

/// While a passage is this fresh, looking at it is gate duty; later it needs a reason.
const FRESH_MS: i64 = 15 * 60 * 1_000;

/// Is looking at this passage still part of gate duty?
pub(super) fn is_fresh(state: &AppState, passage: &PassageRow) -> bool {
    state.clock.now().millis_since(passage.decided_at) <= FRESH_MS
}

/// How a passage reads in the list.
pub(super) async fn row(state: &AppState, passage: &PassageRow) -> Row {
    let verdict = passage
        .review
        .as_ref()
        .map_or(passage.verdict, |review| review.verdict);
    let (mut shown, sign) = word(verdict);
    let granted = verdict == Verdict::Grant;
    if passage.review.is_some() {
        shown = if granted {
            "Granted by officer"
        } else {
            "Refused by officer"
        };
    }
    let person = match passage.candidates.as_slice() {
        [] => "Not recognised".to_owned(),
        [one] => display_name(state, *one).await,
        [first, rest @ ..] => format!(
            "{} or {} more",
            display_name(state, *first).await,
            rest.len()
        ),
    };
    Row {
        id: passage.transaction.to_string(),
        verdict: verdict.code(),
        word: shown,
        sign,
        // A proposal is not a fact: say so unless the door was opened for this person.
        person: if passage.candidates.is_empty() || granted {
            person
        } else {
            format!("Perhaps {person}")
        },
        why: passage.reason.sentence(),
        gate: passage.gate.to_string(),
        direction: passage.direction.code(),
        time: time_of_day(state, passage.decided_at),
        picture: passage.has_picture && is_fresh(state, passage),
        open: is_open(passage),
    }
}
