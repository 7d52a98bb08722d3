//! Break-glass: a sealed credential in the safe, for an emergency in which nobody can sign in. It works once, at the server's own machine,
//! for an hour, with a role of its own that finishes nothing that needs two people. Every officer is told at once, every act is logged,
//! and an auditor reviews it the next day.
//!
//! There is no table: which credential stands, who opened it, until when, and whether it was reviewed is read from the audit log alone.
//! Entries carry codes that only the server's key can make, so no hand in the database makes a credential, a session or a review. The
//! opening is in the log before the session exists; a log that takes no entry opens nothing.

mod credential;
mod ledger;
mod review;
mod uses;

use sallyport_domain::{OfficerId, Role, Timestamp};
use sallyport_transparency::Entry;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::audit::{self, AuditError};
use crate::clock::random;
use crate::enrolments::ledger as log;
use crate::officers::{self, Level, OfficerError, Session};
use crate::rights;
use crate::state::AppState;
use crate::store::{StoreError, Write};

pub use credential::{Credential, Mistyped, sheet};
pub(crate) use ledger::BreakGlass;
use ledger::{Due, Used};
pub use review::{Shown, Step, review, shown};
pub use uses::{Envelope, Use, envelope, outstanding, uses};

/// A session lasts this long at most, and nothing prolongs it.
pub const LIMIT_MS: i64 = 60 * 60 * 1_000;
/// The envelope is tried at least this often.
pub const DRILL_EVERY_MS: i64 = 180 * 24 * 60 * 60 * 1_000;
/// Longest name and reason, in characters.
pub const NAME: usize = 100;
/// See [`NAME`].
pub const REASON: usize = 500;

/// The clocks of two servers on one database differ by this much at most.
const SKEW_MS: i64 = 5_000;
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// What a drill with the right credential says in the log.
const RIGHT: &str = "right";
/// How a session's token begins; nobody else's does.
pub(crate) const TOKEN: &str = "emergency-";

/// Why nothing was opened, ended or reviewed.
#[derive(Debug, thiserror::Error)]
pub enum BreakGlassError {
    /// Cannot be any credential.
    #[error(transparent)]
    Mistyped(#[from] Mistyped),
    /// Not the one that stands, whatever it is, or too many attempts. One text for all.
    #[error(
        "This credential opens nothing, or there were too many attempts. Wait ten seconds and try again; is it the newest envelope?"
    )]
    Wrong,
    /// Who, and why?
    #[error("Give your name (up to 100 characters) and the reason (up to 500).")]
    Words,
    /// Not open.
    #[error("This emergency access is not open, so there is nothing to end.")]
    NotOpen,
    /// Before its end.
    #[error("It is still open. End it first; it is reviewed after that.")]
    StillOpen,
    /// Reviewed already, or never was.
    #[error("This emergency access was reviewed already, or never was.")]
    NothingToReview,
    /// A review in words.
    #[error("Say in words what you found: at least ten letters, up to 2,000 characters.")]
    Finding,
    /// By the same hand.
    #[error("Whoever opened it gave your name. Another auditor reviews it.")]
    Own,
    /// The officer may not, or not now.
    #[error(transparent)]
    Officer(#[from] OfficerError),
    /// Database or log: nothing was done.
    #[error(
        "The audit log or the database cannot be written, so nothing was opened, ended or reviewed. Try again; if it lasts, call the administrator."
    )]
    Audit(#[from] AuditError),
}

impl From<StoreError> for BreakGlassError {
    fn from(error: StoreError) -> Self {
        Self::Audit(error.into())
    }
}

/// When a use must be reviewed: the end of the next day at the site.
#[must_use]
pub fn review_due(opened: Timestamp, utc_offset_minutes: i32) -> Timestamp {
    let offset = i64::from(utc_offset_minutes) * 60 * 1_000_000;
    let day = (opened.as_micros() + offset).div_euclid(DAY_MICROS);
    Timestamp::from_micros((day + 2) * DAY_MICROS - offset)
}

fn credential_code(state: &AppState, credential: &Credential) -> String {
    let text = credential.text();
    state.keys.site.lookup("break_glass.credential", text)
}

fn session_code(
    state: &AppState,
    token: &str,
    sealed: u64,
    actor: OfficerId,
    at: Timestamp,
) -> String {
    let text = format!("{token}\0{sealed}\0{actor}\0{}", at.as_micros());
    state.keys.site.lookup("break_glass.session", &text)
}

/// Asks what the log says, after reading it to its end.
async fn ask<T>(
    state: &AppState,
    what: impl FnOnce(&BreakGlass) -> T + Send,
) -> Result<T, StoreError> {
    log::catch_up(state).await?;
    Ok(state.rights(|rights| what(rights.break_glass())))
}

/// Tells officers' open pages, where what they show has changed.
fn tell(state: &AppState) {
    let changes = state.rights(|rights| rights.break_glass().changes());
    if state
        .emergencies_told
        .swap(changes, std::sync::atomic::Ordering::SeqCst)
        != changes
    {
        state.announce_alarm();
    }
}

/// Makes a new credential, which ends the one of before; returns it and its entry. Ask `approvals` first.
///
/// # Errors
/// Nothing was made.
pub async fn prepare(state: &AppState, actor: &str) -> Result<(Credential, u64), AuditError> {
    let credential = Credential::generate().map_err(|_| AuditError::Random)?;
    let entry = Entry {
        actor: Some(actor.to_owned()),
        content: Some(credential_code(state, &credential)),
        ..audit::entry("break_glass_prepared", state.clock.now())?
    };
    let index = audit::record(state, entry).await?;
    log::catch_up(state).await?;
    Ok((credential, index))
}

/// The entry of the credential that stands, if this is it. Takes as long for a wrong one and for none.
fn standing(state: &AppState, credential: &Credential) -> Option<u64> {
    let code = credential_code(state, credential);
    let sealed = state.rights(|rights| rights.break_glass().sealed().cloned());
    let none = "0".repeat(code.len());
    let content = sealed.as_ref().map_or(&none, |sealed| &sealed.content);
    let right = rights::same(content, &code);
    sealed.filter(|_| right).map(|sealed| sealed.entry)
}

/// Tries whether this is the credential that stands, and opens nothing by it. The entry says which it was.
///
/// # Errors
/// Mistyped; database or log.
pub async fn drill(state: &AppState, typed: &str, actor: &str) -> Result<bool, BreakGlassError> {
    let credential = Credential::parse(typed)?;
    // Before the writer's seat is taken: a command's own process reads the whole log here.
    log::catch_up(state).await?;
    let write = state.store.write().await?;
    log::catch_up(state).await?;
    let sealed = standing(state, &credential);
    let entry = Entry {
        actor: Some(actor.to_owned()),
        about: sealed.map(|entry| entry.to_string()),
        decision: Some(sealed.map_or("wrong", |_| RIGHT).to_owned()),
        ..audit::entry("break_glass_drilled", state.clock.now())?
    };
    audit::finish(state, write, entry, None).await?;
    log::catch_up(state).await?;
    Ok(sealed.is_some())
}

/// Who opened it and why, in their own words: the sealed detail of the opening.
#[derive(Serialize, Deserialize)]
struct Detail {
    name: String,
    reason: String,
}

async fn detail(state: &AppState, entry: u64) -> Result<Detail, AuditError> {
    let bytes = audit::detail(state, entry).await?;
    let bytes = bytes.ok_or_else(|| audit::refused("an opening without its words"))?;
    serde_json::from_slice(&bytes).map_err(audit::refused)
}

/// One line of somebody's words, not empty.
fn words(text: &str, most: usize) -> Result<String, BreakGlassError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(BreakGlassError::Words);
    }
    Ok(text.to_owned())
}

/// Opens emergency access and returns the session's token. The caller has seen to it that somebody sits at the server's own machine.
///
/// # Errors
/// See [`BreakGlassError`]; nothing was opened, and what was wrong with the credential is not said.
pub async fn open(
    state: &AppState,
    typed: &str,
    name: &str,
    reason: &str,
) -> Result<Zeroizing<String>, BreakGlassError> {
    let detail = Detail {
        name: words(name, NAME)?,
        reason: words(reason, REASON)?,
    };
    let credential = Credential::parse(typed)?;
    let now = state.clock.now();
    if !state.guessing.sealed(now) {
        return Err(BreakGlassError::Wrong);
    }
    let detail = serde_json::to_vec(&detail).map_err(audit::refused)?;
    let token = Zeroizing::new(format!("{TOKEN}{}", hex::encode(unpredictable::<32>()?)));
    let actor = OfficerId::new(now, unpredictable()?);
    // The writer's seat first: of two who type the same credential at once, one opens it.
    let write = state.store.write().await?;
    log::catch_up(state).await?;
    let sealed = standing(state, &credential).ok_or(BreakGlassError::Wrong)?;
    let entry = Entry {
        actor: Some(actor.to_string()),
        about: Some(sealed.to_string()),
        decision: Some("grant".to_owned()),
        content: Some(session_code(state, &token, sealed, actor, now)),
        ..audit::entry("break_glass_opened", now)?
    };
    let index = audit::finish(state, write, entry, Some(&detail)).await?;
    tracing::error!(
        log.entry = index,
        "EMERGENCY ACCESS was opened with the sealed credential"
    );
    log::catch_up(state).await?;
    tell(state);
    Ok(token)
}

fn unpredictable<const N: usize>() -> Result<[u8; N], AuditError> {
    random().map_err(|_| AuditError::Random)
}

/// The session of an emergency token, if it is open.
///
/// # Errors
/// The database failed.
pub(crate) async fn session(
    state: &AppState,
    token: &str,
) -> Result<Option<Session>, OfficerError> {
    let now = state.clock.now();
    // Ended a moment ago at another server, or by a command?
    let open: Vec<Used> = ask(state, |glass| {
        let open = glass.uses().filter(|used| used.is_open(now));
        open.cloned().collect()
    })
    .await?;
    let Some(used) = open.into_iter().find(|used| {
        let code = session_code(state, token, used.sealed, used.actor, used.at);
        rights::same(&used.session, &code)
    }) else {
        return Ok(None);
    };
    Ok(Some(Session {
        officer: used.actor,
        name: detail(state, used.entry).await?.name,
        role: Role::BreakGlass,
        csrf: state.keys.site.lookup("break_glass.csrf", token),
        token_sha256: officers::sha256_hex(token),
        level: Level::Sealed,
        opened_at: used.at,
        fresh_at: used.at,
    }))
}

/// The name that somebody gave who acts, or acted, under emergency access.
///
/// # Errors
/// The database failed.
pub(crate) async fn name(
    state: &AppState,
    actor: OfficerId,
) -> Result<Option<String>, OfficerError> {
    let entry = state.rights(|rights| {
        let mut uses = rights.break_glass().uses();
        uses.find(|used| used.actor == actor).map(|used| used.entry)
    });
    match entry {
        Some(entry) => {
            let name = detail(state, entry).await?.name;
            Ok(Some(format!("{name} (emergency access)")))
        }
        None => Ok(None),
    }
}

/// What ended a use, as the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Whoever opened it signed out.
    SignedOut,
    /// A supervisor, in the console.
    Supervisor,
    /// A command at the server.
    Command,
    /// The hour was over.
    Time,
}

impl End {
    const fn code(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Supervisor => "supervisor",
            Self::Command => "command",
            Self::Time => "time",
        }
    }
}

fn about(kind: &str, used: u64, now: Timestamp) -> Result<Entry, AuditError> {
    Ok(Entry {
        about: Some(used.to_string()),
        ..audit::entry(kind, now)?
    })
}

/// Ends a use at once.
///
/// # Errors
/// It is not open; database or log.
pub async fn end(state: &AppState, used: u64, by: &str, why: End) -> Result<u64, BreakGlassError> {
    let ended = end_open(state, used, by, why).await?;
    ended.ok_or(BreakGlassError::NotOpen)
}

async fn end_open(
    state: &AppState,
    used: u64,
    by: &str,
    why: End,
) -> Result<Option<u64>, AuditError> {
    let now = state.clock.now();
    let write = state.store.write().await?;
    let open = ask(state, |glass| {
        glass.used(used).is_some_and(|used| used.is_open(now))
    })
    .await?;
    if !open {
        return Ok(None);
    }
    let entry = Entry {
        actor: Some(by.to_owned()),
        reason: Some(why.code().to_owned()),
        ..about("break_glass_ended", used, now)?
    };
    let index = audit::finish(state, write, entry, None).await?;
    log::catch_up(state).await?;
    tell(state);
    Ok(Some(index))
}

/// Ends all that is open, by a command at the server; returns how many.
///
/// # Errors
/// Database or log.
pub async fn end_all(state: &AppState, by: &str) -> Result<usize, BreakGlassError> {
    let mut ended = 0;
    for used in uses(state).await? {
        if used.open_until.is_some() {
            end(state, used.entry, by, End::Command).await?;
            ended += 1;
        }
    }
    Ok(ended)
}

/// Whoever opened it signs out.
///
/// # Errors
/// Database or log.
pub(crate) async fn sign_out(state: &AppState, session: &Session) -> Result<(), AuditError> {
    let used = ask(state, |glass| {
        let mut uses = glass.uses();
        uses.find(|used| used.actor == session.officer)
            .map(|used| used.entry)
    });
    if let Some(used) = used.await? {
        let actor = session.officer.to_string();
        end_open(state, used, &actor, End::SignedOut).await?;
    }
    Ok(())
}

/// Writes what time has brought: the end of the hour, a review that is late, a drill that is due; and tells open pages of what another
/// server or a command wrote. Called every second; of several servers, one writes each.
///
/// # Errors
/// Database or log; it is tried again.
pub async fn look(state: &AppState) -> Result<(), AuditError> {
    let now = state.clock.now();
    let due = |state: &AppState| {
        let offset = state.config.utc_offset_minutes;
        let reviewed = |used: &Used| review::genuine(state, used).is_some();
        state.rights(|rights| rights.break_glass().due(now, offset, reviewed))
    };
    log::catch_up(state).await?;
    for one in due(state) {
        let write = state.store.write().await?;
        log::catch_up(state).await?;
        if due(state).contains(&one) {
            note(state, write, one, now).await?;
            log::catch_up(state).await?;
        }
    }
    tell(state);
    Ok(())
}

async fn note(
    state: &AppState,
    write: Write<'_>,
    due: Due,
    now: Timestamp,
) -> Result<(), AuditError> {
    let entry = match due {
        Due::Ended(used) => Entry {
            reason: Some(End::Time.code().to_owned()),
            ..about("break_glass_ended", used, now)?
        },
        Due::Unreviewed(used) => {
            tracing::error!(
                log.entry = used,
                "an emergency access was not reviewed in time"
            );
            about("break_glass_unreviewed", used, now)?
        }
        Due::Drill(sealed) => {
            tracing::warn!(
                "the sealed emergency credential was not tried for half a year: sallyport-server officer break-glass drill"
            );
            about("break_glass_drill_due", sealed, now)?
        }
    };
    audit::finish(state, write, entry, None).await.map(drop)
}
