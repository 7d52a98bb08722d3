//! The review of a use by an auditor: what was done is shown, and the auditor's words close it. Whoever opened it does not.

use sallyport_domain::{Act, OfficerId, Timestamp};
use sallyport_transparency::Entry;

use super::ledger::{Review, Used};
use super::{BreakGlassError, LIMIT_MS, SKEW_MS, Use, ask, detail, log, tell};
use crate::audit::{self, AuditError};
use crate::officers::Session;
use crate::rights;
use crate::state::AppState;

/// Longest finding, in characters.
const FINDING: usize = 2_000;
/// Fewest letters of one.
const LETTERS: usize = 10;
/// Entries read at once.
const PAGE: u32 = 1_024;
/// Acts that are shown; beyond them the log itself is read.
const STEPS: usize = 500;

fn code(state: &AppState, used: u64, by: &str) -> String {
    let text = format!("{used}\0{by}");
    state.keys.site.lookup("break_glass.review", &text)
}

/// The review of a use that a server wrote.
pub(super) fn genuine<'a>(state: &AppState, used: &'a Used) -> Option<&'a Review> {
    let mut reviews = used.reviews.iter();
    reviews.find(|review| rights::same(&review.content, &code(state, used.entry, &review.by)))
}

/// An act of a use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its entry.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
    /// Kind of the entry.
    pub kind: String,
    /// Which gate, person, passage or page it was about.
    pub about: String,
    /// What was decided, and the reason's code.
    pub decision: String,
}

/// A use with its words and acts, as an auditor or supervisor sees it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Times and review.
    pub used: Use,
    /// The name that was given.
    pub name: String,
    /// The reason that was given.
    pub reason: String,
    /// What was done, oldest first; of uses that are not reviewed.
    pub steps: Vec<Step>,
    /// There is more than is shown.
    pub more: bool,
    /// The review: by whom, when, in which words.
    pub review: Option<(String, Timestamp, String)>,
}

/// The newest uses with names, reasons and acts. The look is in the log before anything is shown.
///
/// # Errors
/// Nothing may be shown.
pub async fn shown(
    state: &AppState,
    session: &Session,
    most: usize,
) -> Result<Vec<Shown>, BreakGlassError> {
    let entry = Entry {
        actor: Some(session.officer.to_string()),
        about: Some("break_glass_uses".to_owned()),
        ..audit::entry("consultation", state.clock.now())?
    };
    audit::record(state, entry).await?;
    let now = state.clock.now();
    let uses: Vec<(Use, Option<Review>)> = ask(state, |glass| {
        let newest = glass.uses().take(most);
        newest
            .map(|used| (Use::new(state, used, now), genuine(state, used).cloned()))
            .collect()
    })
    .await?;
    let mut all = Vec::with_capacity(uses.len());
    for (used, review) in uses {
        let words = detail(state, used.entry).await?;
        let (steps, more) = match review {
            Some(_) => (Vec::new(), false),
            None => steps(state, &used).await?,
        };
        let review = match review {
            Some(review) => {
                let finding = audit::detail(state, review.entry).await?;
                let finding = finding.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                let by = match review.by.parse::<OfficerId>() {
                    Ok(id) => crate::officers::name(state, id).await?,
                    Err(_) => None,
                };
                let by = by.unwrap_or(review.by);
                Some((by, review.at, finding.unwrap_or_default()))
            }
            None => None,
        };
        all.push(Shown {
            used,
            name: words.name,
            reason: words.reason,
            steps,
            more,
            review,
        });
    }
    Ok(all)
}

/// What the log says was done under a use, and whether there is more of it.
async fn steps(state: &AppState, used: &Use) -> Result<(Vec<Step>, bool), AuditError> {
    let actor = used.actor.to_string();
    let last = used.at.plus_millis(LIMIT_MS + 2 * SKEW_MS).as_micros();
    let mut steps = Vec::new();
    let mut next = used.entry;
    loop {
        let rows = state.store.log_entries(next, PAGE).await?;
        let Some((newest, _)) = rows.last() else {
            return Ok((steps, false));
        };
        next = *newest + 1;
        for (index, bytes) in rows {
            let entry = Entry::from_bytes(&bytes).map_err(audit::refused)?;
            if entry.time > last {
                return Ok((steps, false));
            }
            if entry.actor.as_deref() != Some(&actor) {
                continue;
            }
            if steps.len() == STEPS {
                return Ok((steps, true));
            }
            let parts = |parts: [Option<String>; 3]| {
                let there: Vec<String> = parts.into_iter().flatten().collect();
                there.join(", ")
            };
            steps.push(Step {
                entry: index,
                at: Timestamp::from_micros(entry.time),
                kind: entry.kind,
                about: parts([entry.gate, entry.subject, entry.about]),
                decision: parts([entry.decision, entry.reason, None]),
            });
        }
    }
}

/// Words of a name, for comparison.
fn name_words(name: &str) -> Vec<String> {
    let words = name.split(|c: char| !c.is_alphanumeric());
    let mut words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.sort();
    words
}

/// An auditor closes the review of a use.
///
/// # Errors
/// See [`BreakGlassError`]; nothing was reviewed.
pub async fn review(
    state: &AppState,
    session: &Session,
    used: u64,
    finding: &str,
) -> Result<u64, BreakGlassError> {
    let now = state.clock.now();
    session.must(Act::ReviewBreakGlass)?;
    session.fresh(now)?;
    let finding = finding.trim();
    let letters = finding.chars().filter(|c| c.is_alphabetic()).count();
    let control = |c: char| c.is_control() && c != '\n' && c != '\r';
    if letters < LETTERS || finding.chars().count() > FINDING || finding.chars().any(control) {
        return Err(BreakGlassError::Finding);
    }
    // The writer's seat first: of two auditors, one closes it.
    let write = state.store.write().await?;
    let found = ask(state, |glass| {
        glass.used(used).map(|used| Use::new(state, used, now))
    });
    let found = found.await?.ok_or(BreakGlassError::NothingToReview)?;
    if found.reviewed.is_some() {
        return Err(BreakGlassError::NothingToReview);
    }
    if found.open_until.is_some() {
        return Err(BreakGlassError::StillOpen);
    }
    let opener = detail(state, used).await?.name;
    if name_words(&opener) == name_words(&session.name) {
        return Err(BreakGlassError::Own);
    }
    let by = session.officer.to_string();
    let late = if found.is_late(now) {
        "late"
    } else {
        "in_time"
    };
    let entry = Entry {
        content: Some(code(state, used, &by)),
        actor: Some(by),
        decision: Some(late.to_owned()),
        ..super::about("break_glass_reviewed", used, now)?
    };
    let index = audit::finish(state, write, entry, Some(finding.as_bytes())).await?;
    log::catch_up(state).await?;
    tell(state);
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_in_any_order_and_case() {
        for (one, other, same) in [
            ("Kim Doe", " doe, kim ", true),
            ("Kim", "Kim", true),
            ("Kim Doe", "Kim", false),
            ("Kim", "Tim", false),
        ] {
            assert_eq!(name_words(one) == name_words(other), same, "{one} {other}");
        }
    }
}
