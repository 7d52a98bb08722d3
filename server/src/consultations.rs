//! Looking at a person's record or at a past passage needs a reason of a closed list, within the officer's wings and quota. Nothing is
//! shown before its entry stands in the log. An emergency opens everything at once and raises an alarm.

use sallyport_domain::{Act, ConsultReason, OfficerId, SubjectId, Timestamp};

use sallyport_transparency::Entry;

use crate::audit::{self, AuditError, By};
use crate::enrolments::ledger;
use crate::officers::{self, OfficerError, Session};
use crate::registry;
use crate::sealing::{self, Place};
use crate::state::AppState;
use crate::store::{StoreError, Write};

/// A raised quota lasts this long.
pub const RAISED_MS: i64 = 24 * 60 * 60 * 1_000;
/// What was opened with a reason stays open this long, for its pictures.
pub const OPEN_MS: i64 = 15 * 60 * 1_000;
/// Longest name of a wing.
const WING: usize = 40;

/// Why a record was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ConsultError {
    /// No reason of the list.
    #[error("Choose a reason.")]
    Reason,
    /// The reason needs a case number.
    #[error("Give the case number: this reason needs one.")]
    Case,
    /// The reason needs words.
    #[error("Say in a few words what the emergency is; supervisors are told.")]
    Words,
    /// The person lives outside the officer's wings.
    #[error(
        "This person does not belong to your wings. Ask an officer of their wing, or choose Emergency, which raises an alarm."
    )]
    Wing,
    /// Too many records in an hour or a day.
    #[error(
        "You have opened as many records as your quota allows. A supervisor can raise it under Consultations, or choose Emergency, which raises an alarm."
    )]
    Quota,
    /// One's own quota.
    #[error("Nobody raises their own quota; another supervisor can.")]
    Own,
    /// The name of a wing.
    #[error("A wing's name has 1 to 40 letters, digits or '-'.")]
    WingName,
    /// The officer may not.
    #[error(transparent)]
    Officer(#[from] OfficerError),
    /// Database or audit log.
    #[error(
        "The database or the audit log cannot be reached, so nothing is shown. Try again; if it lasts, call the administrator."
    )]
    Audit(#[from] AuditError),
}

impl From<StoreError> for ConsultError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// A reason that was given, complete.
#[derive(Clone)]
pub struct Given {
    reason: ConsultReason,
    case: String,
    words: String,
}

impl Given {
    /// From a form's fields.
    ///
    /// # Errors
    /// What is missing.
    pub fn parse(reason: &str, case: &str, words: &str) -> Result<Self, ConsultError> {
        let reason = ConsultReason::from_code(reason).ok_or(ConsultError::Reason)?;
        let case: String = case
            .trim()
            .chars()
            .filter(|c| c.is_alphanumeric() || "-/. ".contains(*c))
            .take(60)
            .collect();
        let words: String = words
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(500)
            .collect();
        if reason.needs_case() && !case.chars().any(char::is_alphanumeric) {
            return Err(ConsultError::Case);
        }
        if reason.needs_words() && words.chars().filter(|c| c.is_alphabetic()).count() < 5 {
            return Err(ConsultError::Words);
        }
        Ok(Self {
            reason,
            case,
            words,
        })
    }

    /// Does the person ask what is kept?
    #[must_use]
    pub fn is_own_request(&self) -> bool {
        self.reason == ConsultReason::OwnRequest
    }

    /// As it stands in the log.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", self.reason.code(), self.case)
            .trim_end()
            .to_owned()
    }
}

/// Opens what `about` names, with these people in it, for an officer: role, wings and quota are checked, and the entries stand in the
/// log when this returns. `what` says what is shown.
///
/// # Errors
/// Why it stays shut.
pub async fn consult(
    state: &AppState,
    session: &Session,
    about: &str,
    people: &[SubjectId],
    what: &str,
    given: &Given,
) -> Result<(), ConsultError> {
    session.must(Act::ConsultSubject)?;
    let now = state.clock.now();
    let breaks_glass = given.reason.breaks_glass();
    let outside = is_outside(state, session.officer, people).await?;
    if outside && !breaks_glass {
        return Err(ConsultError::Wing);
    }
    let entry = |kind: &str, subject: Option<&SubjectId>| {
        let mut entry = audit::entry(kind, now)?;
        entry.actor = Some(session.officer.to_string());
        entry.subject = subject.map(ToString::to_string);
        entry.about = Some(about.to_owned());
        entry.decision = Some(what.to_owned());
        entry.reason = Some(given.text());
        Ok::<_, AuditError>(entry)
    };
    let raised = state
        .store
        .quota_raised_until(session.officer)
        .await?
        .is_some_and(|until| now < until);
    let same_name = same_name(state, session, people).await;
    let words = (!given.words.is_empty()).then_some(given.words.as_bytes());
    let mut write = state.store.write().await?;
    // The first entry takes the log's turn, so that the count below is everybody's.
    let first = audit::append(
        state,
        &mut write,
        entry("consultation", people.first())?,
        words,
    )
    .await?;
    for other in people.iter().skip(1) {
        audit::append(state, &mut write, entry("consultation", Some(other))?, None).await?;
    }
    write
        .consultation_insert(first, session.officer, about, now)
        .await?;
    let opened = write.consultations_of(session.officer, now).await?;
    let rules = state.config.officers;
    let times = if raised { 2 } else { 1 };
    let beyond = opened.hour > u64::from(rules.consultations_per_hour) * times
        || opened.day > u64::from(rules.consultations_per_day) * times;
    if beyond && !breaks_glass {
        return Err(ConsultError::Quota);
    }
    if breaks_glass {
        audit::append(
            state,
            &mut write,
            entry("break_the_glass", people.first())?,
            words,
        )
        .await?;
    }
    if same_name {
        audit::append(
            state,
            &mut write,
            entry("same_name_lookup", people.first())?,
            None,
        )
        .await?;
    }
    write.commit().await?;
    state.logged_at(now);
    Ok(())
}

/// What an officer opened with a reason, and which.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The reason as it stands in the log.
    pub reason: String,
}

impl Opened {
    /// Did the person ask what is kept?
    #[must_use]
    pub fn is_own_request(&self) -> bool {
        self.reason.split(' ').next() == Some(ConsultReason::OwnRequest.code())
    }
}

/// What this officer opened with a reason in the last quarter of an hour. The log says so: a row that somebody wrote into the database
/// opens nothing.
///
/// # Errors
/// The database failed.
pub async fn opened(
    state: &AppState,
    session: &Session,
    about: &str,
) -> Result<Option<Opened>, ConsultError> {
    let Some(index) = state.store.consulted(session.officer, about).await? else {
        return Ok(None);
    };
    let now = state.clock.now();
    let officer = session.officer.to_string();
    let entry = ledger::entry_of(state, index, "consultation").await?;
    Ok(entry
        .filter(|entry| {
            let age = now.millis_since(Timestamp::from_micros(entry.time));
            entry.actor.as_ref() == Some(&officer)
                && entry.about.as_deref() == Some(about)
                && (0..=OPEN_MS).contains(&age)
        })
        .and_then(|entry| entry.reason)
        // A look at what was open already, or at what is gate duty, opens nothing.
        .filter(|reason| {
            let code = reason.split(' ').next().unwrap_or_default();
            ConsultReason::from_code(code).is_some()
        })
        .map(|reason| Opened { reason }))
}

/// Did this officer open it with a reason in the last quarter of an hour?
///
/// # Errors
/// The database failed.
pub async fn is_open(
    state: &AppState,
    session: &Session,
    about: &str,
) -> Result<bool, ConsultError> {
    Ok(opened(state, session, about).await?.is_some())
}

/// Lives one of these people in a wing that the officer has nothing to do with?
pub(crate) async fn is_outside(
    state: &AppState,
    officer: OfficerId,
    people: &[SubjectId],
) -> Result<bool, ConsultError> {
    let wings = state.store.officer_wings(officer).await?;
    if wings.is_empty() {
        return Ok(false);
    }
    for person in people {
        if let Some(wing) = wing(state, *person).await?
            && !wings.contains(&wing)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has one of these people a name of the officer's own? An alarm for whoever reads the log: it may be a relative, or a former one.
async fn same_name(state: &AppState, session: &Session, people: &[SubjectId]) -> bool {
    let words = |name: &str| -> Vec<String> {
        name.split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() >= 4)
            .map(str::to_lowercase)
            .collect()
    };
    let own = words(&session.name);
    for person in people {
        if let Ok(Some(name)) = registry::display_name(state, *person).await
            && words(&name).iter().any(|word| own.contains(word))
        {
            return true;
        }
    }
    false
}

fn place<'a>(state: &'a AppState, subject: &'a str) -> Place<'a> {
    Place {
        subject,
        ..Place::new(
            state.config.site.as_str(),
            "subject_wing",
            "wing_sealed",
            subject,
        )
    }
}

/// The wing in which a person lives.
///
/// # Errors
/// Database or sealing failed.
pub async fn wing(state: &AppState, subject: SubjectId) -> Result<Option<String>, ConsultError> {
    let Some(sealed) = state.store.subject_wing(subject).await? else {
        return Ok(None);
    };
    let row = subject.to_string();
    let bytes = sealing::open(&state.keys.site, 1, &place(state, &row), &sealed)
        .map_err(|_| OfficerError::Internal)?;
    let wing = String::from_utf8(bytes).map_err(|_| OfficerError::Internal)?;
    Ok(Some(wing))
}

fn checked(wing: &str) -> Result<String, ConsultError> {
    let wing = wing.trim().to_lowercase();
    let good = (1..=WING).contains(&wing.chars().count())
        && wing.chars().all(|c| c.is_alphanumeric() || c == '-');
    good.then_some(wing).ok_or(ConsultError::WingName)
}

/// Says in which wing a person lives; `None` in none, and then everybody who may consult may.
///
/// # Errors
/// The wing's name, no such person, or the database.
pub async fn set_wing(
    state: &AppState,
    subject: SubjectId,
    wing: Option<&str>,
    actor: &str,
) -> Result<(), ConsultError> {
    let row = subject.to_string();
    let sealed = match wing {
        Some(wing) => {
            let wing = checked(wing)?;
            let sealed = sealing::seal(&state.keys.site, 1, &place(state, &row), wing.as_bytes())
                .map_err(|_| OfficerError::Internal)?;
            Some(sealed)
        }
        None => None,
    };
    let mut write = state.store.write().await?;
    write.subject_wing_set(subject, sealed).await?;
    let mut entry = audit::entry("subject_wing", state.clock.now())?;
    entry.actor = Some(actor.to_owned());
    entry.subject = Some(row);
    entry.decision = Some(if wing.is_some() { "set" } else { "removed" }.to_owned());
    audit::append(state, &mut write, entry, None).await?;
    Ok(write.commit().await?)
}

/// Gives `into` the wing of `from` where it has none, in the transaction that makes one person of the two.
pub(crate) async fn keep_wing(
    state: &AppState,
    write: &mut Write<'_>,
    from: SubjectId,
    into: SubjectId,
    by: By<'_>,
) -> Result<(), ConsultError> {
    if wing(state, into).await?.is_some() {
        return Ok(());
    }
    if let Some(name) = wing(state, from).await? {
        let row = into.to_string();
        let sealed = sealing::seal(&state.keys.site, 1, &place(state, &row), name.as_bytes())
            .map_err(|_| OfficerError::Internal)?;
        write.subject_wing_set(into, Some(sealed)).await?;
        let entry = Entry {
            subject: Some(row),
            about: Some(from.to_string()),
            decision: Some("set".to_owned()),
            ..by.sign(audit::entry("subject_wing", state.clock.now())?)
        };
        audit::append(state, write, entry, None).await?;
    }
    Ok(())
}

/// Says which wings' people an officer needs to know; an empty list means all.
///
/// # Errors
/// A wing's name, no such account, or the database.
pub async fn set_officer_wings(
    state: &AppState,
    name: &str,
    wings: &[String],
    actor: &str,
) -> Result<Vec<String>, ConsultError> {
    let wings = wings
        .iter()
        .map(|wing| checked(wing))
        .collect::<Result<Vec<_>, _>>()?;
    let officer = officers::find(state, name).await?;
    let mut write = state.store.write().await?;
    write.officer_wings_set(officer.id, &wings).await?;
    let mut entry = audit::entry("officer_wings", state.clock.now())?;
    entry.actor = Some(actor.to_owned());
    entry.about = Some(officer.id.to_string());
    entry.reason = Some(if wings.is_empty() {
        "all".to_owned()
    } else {
        wings.join(" ")
    });
    audit::append(state, &mut write, entry, None).await?;
    write.commit().await?;
    Ok(wings)
}

/// What an officer opened lately, for supervisors.
#[derive(Debug, Clone)]
pub struct Use {
    /// Who.
    pub officer: OfficerId,
    /// Name as colleagues know it.
    pub name: String,
    /// Records of the last hour.
    pub hour: u64,
    /// Records of the last day.
    pub day: u64,
    /// The quota is doubled until then.
    pub raised_until: Option<Timestamp>,
}

/// Who opened records in the last day.
///
/// # Errors
/// The database failed.
pub async fn uses(state: &AppState) -> Result<Vec<Use>, ConsultError> {
    let now = state.clock.now();
    let mut uses = Vec::new();
    for (officer, opened) in state.store.consultations(now).await? {
        uses.push(Use {
            officer,
            name: officers::name(state, officer)
                .await?
                .unwrap_or_else(|| officer.to_string()),
            hour: opened.hour,
            day: opened.day,
            raised_until: state
                .store
                .quota_raised_until(officer)
                .await?
                .filter(|until| now < *until),
        });
    }
    Ok(uses)
}

/// Doubles an officer's quota for a day.
///
/// # Errors
/// One's own, a role that may not, not proved lately, no such account.
pub async fn raise_quota(
    state: &AppState,
    session: &Session,
    officer: OfficerId,
) -> Result<(), ConsultError> {
    let now = state.clock.now();
    session.must(Act::DecideChange)?;
    session.fresh(now)?;
    if officer == session.officer {
        return Err(ConsultError::Own);
    }
    if state.store.officer(officer).await?.is_none() {
        return Err(OfficerError::NoAccount.into());
    }
    let mut write = state.store.write().await?;
    write
        .quota_raise(officer, now.plus_millis(RAISED_MS))
        .await?;
    let mut entry = audit::entry("quota_raised", now)?;
    entry.actor = Some(session.officer.to_string());
    entry.about = Some(officer.to_string());
    audit::append(state, &mut write, entry, None).await?;
    Ok(write.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_of_the_list_and_complete() {
        let text =
            |reason, case, words| Given::parse(reason, case, words).map(|given| given.text());
        assert_eq!(
            text("incident", " 2026-17 ", "").unwrap(),
            "incident 2026-17"
        );
        assert_eq!(text("identity_check", "", "").unwrap(), "identity_check");
        assert_eq!(
            text("emergency", "", "fire in C wing").unwrap(),
            "emergency"
        );
        for (reason, case, words) in [
            ("", "2026-17", ""),
            ("curiosity", "2026-17", "please"),
            ("incident", "", "words are no case number"),
            ("incident", "<>", ""),
            ("incident", " - ", ""),
            ("emergency", "2026-17", ""),
            ("emergency", "", "!!!!!"),
        ] {
            assert!(
                Given::parse(reason, case, words).is_err(),
                "{reason} {case} {words}"
            );
        }
    }
}
